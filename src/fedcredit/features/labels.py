"""Which contracts are learnt from: observations with a label that is ripe, in the development sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.rules import MONTH_DAYS, day
from fedcredit.checking.spec import DataSpec
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.table import Head
from fedcredit.errors import ContradictionError
from fedcredit.features.names import OBSERVED
from fedcredit.features.reading import Chunk, Values, read_whole, require_once, table_of
from fedcredit.features.windows import Observations


@dataclass(frozen=True, kw_only=True)
class _LabelRule:
    kinds: tuple[str, ...]
    window_m: int | None
    """Months that every row must have; ``None`` where the event ends the window."""


_DEFAULTS: Final = ("def90", "comp", "cgi")
_RULES: Final[Mapping[str, _LabelRule]] = {
    "pd12_app": _LabelRule(kinds=_DEFAULTS, window_m=12),
    "pd12_beh": _LabelRule(kinds=_DEFAULTS, window_m=12),
    "fpd30": _LabelRule(kinds=("fpd",), window_m=None),
    "fraud": _LabelRule(kinds=("fraud",), window_m=None),
}
"""What makes a label one of its head. A label by another name would be learnt as if it were a default."""
_SLACK_DAYS: Final = 31
"""An event is dated at the end of its month."""
LATE: Final = "oot"
"""The split that stays for a test in time; so does whatever was observed on the consortium's day or later."""
LEFT_OUT: Final = {
    "no legal basis or consent withdrawn": "grounded",
    "not accepted": "accepted",
    "out of time": "early",
    "no label": "labelled",
    "indeterminate": "determinate",
    "censored": "whole",
    "another contract of the borrower": "chosen",
}
"""Why a row is not learnt from, in the order in which it is asked, and the column that says it is all right."""
THROUGH_THE_DOOR: Final = "ttd"
"""The split of applications that became no contract; whatever would have become of them is not known."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledRows:
    """Observations of one head with their labels."""

    observations: Observations
    labels: NDArray[np.int8]
    """(n,): 1 for bad."""
    left_out: Mapping[str, int]
    """Observations of this kind that are not learnt from, by reason; in the order in which they are looked at."""


def labelled_rows(spec: DataSpec, head: Head) -> LabelledRows:
    """Return the observations that are learnt from.

    Left out, in this order: who withdrew consent or has no legal basis; applications that became no contract; rows out
    of time, which stay for a test; without a label of this head; indeterminate ones (30 to 89 days late at worst);
    censored ones (weight below 1: paid off so early that nothing is known); all rows of a borrower but one. Training
    knows no weights, so a censored row cannot count a little. Of several rows of a borrower the one with the smallest
    SHA-256 of token, contract and day stays: neither labels, features nor other borrowers decide.

    Raises:
        DataError: a table no longer reads as it did when it was checked.
    """
    rows = _observed(spec, head)
    left: dict[str, int] = {}
    for reason, column in LEFT_OUT.items():
        keep = (_chosen(rows) if column == "chosen" else rows[column]).to_numpy(dtype=np.bool_)
        left[reason] = int((~keep).sum())
        rows = rows[keep]
    return LabelledRows(
        observations=Observations(
            contract=rows["contract_id"].to_numpy(dtype=object),
            entity=rows["entity_tok"].to_numpy(dtype=object),
            vehicle=rows["vin_tok"].to_numpy(dtype=object),
            day=rows["obs_date"].to_numpy(dtype=np.float64),
        ),
        labels=rows["y"].to_numpy(dtype=np.int8),
        left_out=left,
    )


def _chosen(rows: pd.DataFrame) -> pd.Series:
    """Return which rows are the one of their borrower."""
    several = rows["entity_tok"].duplicated(keep=False)
    marks = [
        hashlib.sha256(f"{who}/{contract}/{day:.0f}".encode()).digest()
        for who, contract, day in rows.loc[several, ["entity_tok", "contract_id", "obs_date"]].itertuples(index=False)
    ]
    order = pd.Series(marks, index=rows.index[several], dtype=object)
    first = order.groupby(rows.loc[several, "entity_tok"]).transform("min") == order
    chosen = ~several
    chosen[several] = first.astype(bool)
    return chosen


def _observed(spec: DataSpec, head: Head) -> pd.DataFrame:
    """Return the observations of the head's kind with everything that decides whether they are learnt from."""
    rules = canonical(spec.facts.schema_version)
    observation = rules.table("observation")
    kind = observation.column("obs_kind").values.index(OBSERVED[head])
    splits = observation.column("split").values
    target = rules.table("outcome").column("target").values.index(head)
    none = rules.table("entity").column("legal_basis").values.index("none")
    columns = ("contract_id", "entity_tok", "obs_date", "obs_kind", "split", "weight")
    seen = _rows(spec, "observation", columns, keep=lambda chunk: chunk["obs_kind"] == kind)
    outcomes = _rows(
        spec,
        "outcome",
        ("contract_id", "obs_date", "target", "kind", "y", "indeterminate", "window_m", "event_date"),
        key=("contract_id", "obs_date"),
        keep=lambda chunk: chunk["target"] == target,
    )
    contracts = _rows(spec, "contract", ("contract_id", "entity_tok", "vin_tok"), key=("contract_id",))
    rows = (
        seen.merge(contracts.rename(columns={"entity_tok": "borrower"}), on="contract_id", how="left")
        .merge(_grounds(spec, none=none), on="entity_tok", how="left")
        .merge(outcomes.drop(columns="target"), on=["contract_id", "obs_date"], how="left")
    )
    _require_same_borrower(spec, rows)
    return rows.assign(
        vin_tok=rows["vin_tok"].where(rows["vin_tok"].notna(), None),
        grounded=rows["grounded"].eq(True),
        accepted=rows["split"] != splits.index(THROUGH_THE_DOOR),
        early=(rows["split"] != splits.index(LATE)) & (rows["obs_date"] < day(spec.facts.oot_date)),
        labelled=_has_label(spec, rows, head),
        determinate=rows["indeterminate"] != 1,
        whole=rows["weight"] >= 1,
    )


def _grounds(spec: DataSpec, *, none: int) -> pd.DataFrame:
    """Return who may be learnt from. All rows of a person count, also those that are left out as repeated: a consent
    that is withdrawn on one of them is withdrawn. What is not said is no ground."""
    columns = ("entity_tok", "legal_basis", "withdrawn", "withdrawn_at")
    rows = pd.DataFrame(read_whole(spec, "entity", columns, repeated=True))
    rows["grounded"] = (
        (rows["withdrawn"] == 0)
        & rows["withdrawn_at"].isna()
        & rows["legal_basis"].notna()
        & (rows["legal_basis"] != none)
    )
    return rows.groupby("entity_tok", as_index=False)["grounded"].all()


def _has_label(spec: DataSpec, rows: pd.DataFrame, head: Head) -> pd.Series:
    """Return which rows have a label that is this one: of its kinds, its window, and its event within the window."""
    kinds = canonical(spec.facts.schema_version).table("outcome").column("kind").values
    rule = _RULES[head]
    fits = rows["y"].isin((0.0, 1.0)) & rows["obs_date"].notna()
    fits &= rows["kind"].isin([kinds.index(kind) for kind in rule.kinds])
    if rule.window_m is not None:
        ends = rows["obs_date"] + rule.window_m * MONTH_DAYS + _SLACK_DAYS
        fits &= (rows["window_m"] == rule.window_m) & ~((rows["y"] == 1) & (rows["event_date"] > ends))
    return fits


def _require_same_borrower(spec: DataSpec, rows: pd.DataFrame) -> None:
    """Raise unless every observation is of the borrower of its contract: else one borrower would have two rows."""
    other = (rows["borrower"].notna() & (rows["borrower"] != rows["entity_tok"])).to_numpy()
    table = table_of(spec, "observation")
    if table is not None and other.any():
        rule = "observation.entity_tok = contract.entity_tok"
        raise ContradictionError(
            path=table.place, rule=rule, count=f"{int(other.sum()):,}", row=f"{int(other.argmax()) + 1:,}"
        )


def _rows(
    spec: DataSpec,
    table: str,
    columns: tuple[str, ...],
    *,
    key: tuple[str, ...] = (),
    keep: Callable[[Chunk], Values] | None = None,
) -> pd.DataFrame:
    """Return rows of a table; what is joined by ``key`` must have it once."""
    whole = read_whole(spec, table, columns, keep=keep)
    if key:
        require_once(spec, table, whole, key)
    return pd.DataFrame(whole)
