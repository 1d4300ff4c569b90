"""The rules of single cells as a pandera schema, made from the contract, and its failures as findings.

pandera quotes the failing cells in its own errors; only the row numbers are taken from them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from fedcredit.checking.binding import Binding
from fedcredit.checking.findings import Mask
from fedcredit.contract.canonical.table import TYPED_MISSING, ColumnRule
from fedcredit.errors import DataError, MissingValueError, TokenFormatError, UnknownCodeError, ValueRangeError

# pandera sets it for Spark; with it Arrow would take the hour of a zoned moment from a database for one in Greenwich.
os.environ.pop("PYARROW_IGNORE_TIMEZONE", None)

TOKEN: Final = r"[0-9a-f]{64}"  # noqa: S105 - a pattern
_CODES: Final = frozenset(map(float, TYPED_MISSING))
_KINDS: Final[Mapping[str, type[DataError]]] = {
    "not_nullable": MissingValueError,
    "cell in_range": ValueRangeError,
    "cell token": TokenFormatError,
    "cell pattern": UnknownCodeError,
    "cell length": ValueRangeError,
}
LONGEST_ID: Final = 128


def chunk_schema(bindings: tuple[Binding, ...]) -> pa.DataFrameSchema:
    """Return the schema of a chunk: one column per binding, in float64 or text."""
    columns = {
        binding.name: pa.Column(
            checks=_checks(binding.rule), nullable=binding.rule.missing != "required", required=True, coerce=False
        )
        for binding in bindings
    }
    return pa.DataFrameSchema(columns, strict=False)


def failures(schema: pa.DataFrameSchema, frame: pd.DataFrame) -> list[tuple[str, type[DataError], Mask]]:
    """Return the column, the kind of finding and the rows of every rule that the chunk breaks."""
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as error:
        cases = error.failure_cases
    else:
        return []
    found = []
    for (column, check), group in cases.groupby(["column", "check"], sort=False):
        rows = np.zeros(len(frame), dtype=np.bool_)
        rows[group["index"].to_numpy(dtype=np.int64)] = True
        found.append((str(column), _KINDS[str(check)], rows))
    return found


def allowed_text(rule: ColumnRule) -> str:
    """Return what a finding says is allowed."""
    if rule.numeric:
        low, high = rule.bounds
        return f"{low:,.10g} to {high:,.10g} {rule.unit}".strip()
    if rule.type == "category":
        return ", ".join(rule.values)
    return rule.pattern or f"1 to {LONGEST_ID} characters"


def _checks(rule: ColumnRule) -> list[pa.Check]:
    if rule.type == "token":
        return [pa.Check(lambda cells: cells.astype("str").str.fullmatch(TOKEN), name="cell token", error="cell token")]
    if rule.type == "text" and rule.pattern:
        pattern = rule.pattern
        return [
            pa.Check(
                lambda cells: cells.astype("str").str.fullmatch(pattern), name="cell pattern", error="cell pattern"
            )
        ]
    if rule.type in ("id", "text"):
        return [pa.Check(_short, name="cell length", error="cell length")]
    if not rule.numeric:
        return []
    low, high = rule.bounds
    typed = rule.missing == "typed_missing"

    def _fits(cells: Any) -> Any:
        inside = (cells >= low) & (cells <= high)
        return inside | cells.isin(_CODES) if typed else inside

    return [pa.Check(_fits, name="cell in_range", error="cell in_range")]


def _short(cells: Any) -> Any:
    lengths = cells.astype("str").str.len()
    return (lengths > 0) & (lengths <= LONGEST_ID)
