"""Which contracts are learnt from: observations with a label that is ripe, in the development sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.spec import DataSpec
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.table import Head
from fedcredit.features.names import OBSERVED
from fedcredit.features.reading import Values, read_whole
from fedcredit.features.windows import Observations

LATE: Final = "oot"
"""The split that stays for a test in time."""
REASONS: Final = {
    "no legal basis": "grounded",
    "not accepted": "accepted",
    "out of time": "early",
    "no label": "labelled",
    "indeterminate": "determinate",
    "censored": "whole",
}
"""Why a row is not learnt from, in the order in which it is asked, and the column that says it is all right."""
THROUGH_THE_DOOR: Final = "ttd"
"""The split of applications that became no contract; whatever would have become of them is not known."""


@dataclass(frozen=True, kw_only=True)
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
    censored ones (weight below 1: paid off so early that nothing is known). Training knows no weights, so a censored
    row cannot count a little.

    Raises:
        DataError: a table no longer reads as it did when it was checked.
    """
    rows = _observed(spec, head)
    left: dict[str, int] = {}
    for reason, column in REASONS.items():
        keep = rows[column].to_numpy(dtype=np.bool_)
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


def _observed(spec: DataSpec, head: Head) -> pd.DataFrame:
    """Return the observations of the head's kind with everything that decides whether they are learnt from."""
    rules = canonical(spec.facts.schema_version)
    seen = _frame(spec, "observation", ("contract_id", "entity_tok", "obs_date", "obs_kind", "split", "weight"))
    observation = rules.table("observation")
    kinds = observation.column("obs_kind").values
    splits = observation.column("split").values
    seen = seen[seen["obs_kind"] == kinds.index(OBSERVED[head])]
    contracts = _frame(spec, "contract", ("contract_id", "vin_tok"))
    entities = _frame(spec, "entity", ("entity_tok", "legal_basis", "withdrawn"))
    none = rules.table("entity").column("legal_basis").values.index("none")
    entities["grounded"] = (entities["withdrawn"] != 1) & (entities["legal_basis"] != none)
    outcomes = _frame(spec, "outcome", ("contract_id", "obs_date", "target", "y", "indeterminate"))
    target = rules.table("outcome").column("target").values.index(head)
    outcomes = outcomes[outcomes["target"] == target][["contract_id", "obs_date", "y", "indeterminate"]]
    rows = (
        seen.merge(contracts, on="contract_id", how="left", validate="many_to_one")
        .merge(entities[["entity_tok", "grounded"]], on="entity_tok", how="left", validate="many_to_one")
        .merge(outcomes, on=["contract_id", "obs_date"], how="left", validate="one_to_one")
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


def _frame(spec: DataSpec, table: str, columns: tuple[str, ...]) -> pd.DataFrame:
    whole: dict[str, Values] = read_whole(spec, table, columns)
    return pd.DataFrame(whole)
