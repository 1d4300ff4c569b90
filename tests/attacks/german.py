"""The German borrowers that the attacks aim at: real, vendored, all distinct."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from fedcredit.contract import Contract, load_contract
from fedcredit.data.datasets import load_dataset
from fedcredit.data.features import encode, feature_spec
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable
from fedcredit.model.linear_stack import LinearStack

MODALITY = "application"
CONTRACT: Contract = load_contract("german")
INPUTS = model_inputs(CONTRACT)


@cache
def parts() -> dict[str, CreditTable]:
    """Return the borrowers of each institution; every purpose of a loan belongs to one institution."""
    return {
        name: encode(part.table, CONTRACT, [MODALITY], place=name)
        for name, part in load_dataset("german").parts.items()
    }


@cache
def borrowers() -> CreditTable:
    """Return all 1,000 borrowers with their one modality; nobody may change the arrays."""
    tables = list(parts().values())
    held = [table.modalities[MODALITY] for table in tables]
    return CreditTable(
        entities=np.concatenate([table.entities for table in tables]),
        labels=np.concatenate([table.labels for table in tables]),
        modalities={
            MODALITY: replace(
                held[0],
                codes=np.concatenate([part.codes for part in held]),
                dense=np.concatenate([part.dense for part in held]),
            )
        },
        dropped=0,
    )


def designed(model: LinearStack, table: CreditTable) -> CreditTable:
    """Return the table with the model's own inputs as dense part, as a model family makes it."""
    part = table.modalities[MODALITY]
    dense = model.design(MODALITY, part.codes, part.dense)
    return replace(table, modalities={MODALITY: replace(part, dense=dense)})


@cache
def category_columns() -> tuple[tuple[int, ...], ...]:
    """Return, per category, the dense columns of its one-hot code: exactly one of them is 1 in every record."""
    groups: dict[str, list[int]] = {}
    for column, name in enumerate(feature_spec(CONTRACT).modality(MODALITY).dense_names):
        category, is_one_hot, _ = name.partition("=")
        if is_one_hot:
            groups.setdefault(category, []).append(column)
    return tuple(tuple(columns) for columns in groups.values())
