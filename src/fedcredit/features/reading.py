"""Cells of canonical tables, chunk by chunk, read exactly as the check reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.binding import Binding, bind
from fedcredit.checking.cells import Cells, lacking_cells, read_cells
from fedcredit.checking.findings import FindingBook, Rows
from fedcredit.checking.joins import keys_of
from fedcredit.checking.placeholders import placeholders
from fedcredit.checking.repeats import Repeats
from fedcredit.checking.sources import open_table
from fedcredit.checking.spec import DataSpec, TableSpec
from fedcredit.contract.canonical.table import TIMES, TYPED_MISSING
from fedcredit.errors import DuplicateKeyError

Values: TypeAlias = NDArray[Any]
Chunk: TypeAlias = Mapping[str, Values]
"""Columns of some rows. Numbers, flags, categories (their position) and dates (days since 1970-01-01) are float64."""
_MISSING: Final = tuple(float(code) for code in TYPED_MISSING)


def table_of(spec: DataSpec, name: str) -> TableSpec | None:
    """Return where a table comes from, or ``None`` if the institution has none."""
    return next((table for table in spec.tables if table.table.name == name), None)


def columns_of(spec: DataSpec, name: str) -> frozenset[str]:
    """Return the canonical columns that the institution has of a table; none without the table."""
    table = table_of(spec, name)
    if table is None:
        return frozenset()
    with closing(open_table(table, FindingBook())) as reader:
        return frozenset(item.name for item in bind(table, reader.names, spec.facts, FindingBook()))


def read_chunks(spec: DataSpec, name: str, columns: Iterable[str], *, repeated: bool = False) -> Iterator[Chunk]:
    """Yield the ``columns`` of a table; one that the institution lacks is not collected in every row.

    Rows that the check left out as repeated come with ``repeated`` only.

    The table must have passed its check: cells are read here without the rules of the contract.

    Raises:
        DataError: it cannot be read, or a cell no longer reads as it did when it was checked.
    """
    table = table_of(spec, name)
    if table is None:
        return
    book, asked = FindingBook(), tuple(dict.fromkeys(columns))
    repeats = Repeats() if table.source.repeated == "left_out" and not repeated else None
    needed = {*asked, *table.table.key} if repeats else {*asked}
    with closing(open_table(table, book)) as reader:
        bindings = [item for item in bind(table, reader.names, spec.facts, FindingBook()) if item.name in needed]
        there = tuple(dict.fromkeys(item.source.column for item in bindings if item.source.column))
        first = 1
        for batch in reader.batches(there or reader.names[:1]):
            cells = {item.name: read_cells(batch, item, table.source, first_row=first) for item in bindings}
            _require_readable(table, cells, reader.numbers(first, batch.num_rows))
            chunk = {item.name: _without_placeholders(cells[item.name].values, item) for item in bindings}
            chunk |= {
                column: lacking_cells(table.table.column(column), batch.num_rows) for column in needed - set(chunk)
            }
            kept = repeats.first(keys_of(table.table, chunk)[0]) if repeats else np.ones(batch.num_rows, dtype=np.bool_)
            yield {column: chunk[column][kept] for column in asked}
            first += batch.num_rows
    _refuse(book, name)


def _without_placeholders(values: Values, binding: Binding) -> Values:
    if binding.rule.type not in TIMES:
        return values
    return np.where(placeholders(values, binding), np.nan, values)


def _require_readable(table: TableSpec, cells: Mapping[str, Cells], rows: Rows) -> None:
    book = FindingBook()
    for column, read in cells.items():
        for problem in read.problems:
            where = {"table": table.table.name, "column": column, "path": table.place}
            book.add_rows(problem.kind, problem.rows, rows=rows, **where, **{"name": column, **problem.fields})
    _refuse(book, table.table.name)


def read_whole(
    spec: DataSpec,
    name: str,
    columns: Iterable[str],
    *,
    keep: Callable[[Chunk], Values] | None = None,
    repeated: bool = False,
) -> dict[str, Values]:
    """Return whole columns of a table, empty ones if the institution has no such table; raises as ``read_chunks``.

    ``keep`` says which rows of a chunk are wanted; the others are forgotten before the next chunk is read.
    """
    asked = tuple(dict.fromkeys(columns))
    chunks: list[Chunk] = []
    for chunk in read_chunks(spec, name, asked, repeated=repeated):
        kept = keep(chunk) if keep else slice(None)
        chunks.append({column: chunk[column][kept] for column in asked})
    if not chunks:
        return {column: np.zeros(0, dtype=object) for column in asked}
    return {column: np.concatenate([chunk[column] for chunk in chunks]) for column in asked}


def require_once(spec: DataSpec, name: str, rows: Mapping[str, Values], key: Sequence[str]) -> None:
    """Raise ``DuplicateKeyError`` if a key stands twice: it did not when the table was checked. No key is quoted."""
    again = pd.DataFrame({column: rows[column] for column in key}).duplicated().to_numpy()
    table = table_of(spec, name)
    if table is not None and again.any():
        where = {"path": table.place, "count": f"{int(again.sum()):,}", "row": f"{int(again.argmax()) + 1:,}"}
        raise DuplicateKeyError(key=" + ".join(key), **where)


def known(values: Values, *, typed: bool) -> NDArray[np.bool_]:
    """Return which cells of a column hold a value: neither empty nor, in a ``typed`` column, a reason."""
    if values.dtype == object:
        reasons = {str(int(code)) for code in _MISSING}
        return np.array([cell is not None and not (typed and cell in reasons) for cell in values], dtype=np.bool_)
    there = ~np.isnan(values)
    return there & ~np.isin(values, _MISSING) if typed else there


def _refuse(book: FindingBook, table: str) -> None:
    for finding in book.findings((table,)):
        if not finding.warning:
            raise finding.error
