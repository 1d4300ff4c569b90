"""Which contracts are learnt from: observations with a label that is ripe, in the development sample."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.spec import DataSpec
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.table import Head
from fedcredit.features.names import OBSERVED
from fedcredit.features.reading import Chunk, Values, read_whole, require_once
from fedcredit.features.windows import Observations

LATE: Final = "oot"
"""The split that stays for a test in time."""
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
        ("contract_id", "obs_date", "target", "y", "indeterminate"),
        key=("contract_id", "obs_date"),
        keep=lambda chunk: chunk["target"] == target,
    )
    contracts = _rows(spec, "contract", ("contract_id", "vin_tok"), key=("contract_id",))
    entities = _rows(spec, "entity", ("entity_tok", "legal_basis", "withdrawn"), key=("entity_tok",))
    entities["grounded"] = (entities["withdrawn"] != 1) & (entities["legal_basis"] != none)
    rows = (
        seen.merge(contracts, on="contract_id", how="left")
        .merge(entities[["entity_tok", "grounded"]], on="entity_tok", how="left")
        .merge(outcomes.drop(columns="target"), on=["contract_id", "obs_date"], how="left")
    )
    return rows.assign(
        vin_tok=rows["vin_tok"].where(rows["vin_tok"].notna(), None),
        grounded=rows["grounded"].eq(True),
        accepted=rows["split"] != splits.index(THROUGH_THE_DOOR),
        early=rows["split"] != splits.index(LATE),
        labelled=rows["y"].notna(),
        determinate=rows["indeterminate"] != 1,
        whole=rows["weight"] >= 1,
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
