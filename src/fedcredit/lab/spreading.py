"""The same rows held by other institutions: for experiments that ask what the division of the rows changes."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pyarrow as pa

from fedcredit.data.datasets import Dataset, Part
from fedcredit.data.splits import holdout_mask
from fedcredit.errors import UsageError
from fedcredit.parties import InstitutionType, institution_id

MOST_INSTITUTIONS = 50


def spread(dataset: Dataset, institutions: int, *, seed: int) -> Dataset:
    """Return ``dataset`` divided at random, by borrower, into ``institutions`` banks that hold every modality.

    The same seed gives the same division. The rows stay real; the institutions are made up, and provenance says so.

    Raises:
        UsageError: ``institutions`` is not 2 to 50.
    """
    if not 2 <= institutions <= MOST_INSTITUTIONS:
        raise UsageError(
            problem=f"{institutions} institutions cannot share the rows", hint=f"Give 2 to {MOST_INSTITUTIONS}."
        )
    contract = dataset.contract
    whole = pa.concat_tables([part.complete for part in dataset.parts.values()])
    entities = np.asarray(whole[contract.entity].to_pylist(), dtype=np.str_)
    names = [f"bank-{number:02d}" for number in range(1, institutions + 1)]
    modalities = tuple(modality.name for modality in contract.modalities)
    parts, left = {}, np.ones(len(entities), dtype=bool)
    for number, name in enumerate(names):
        # Of those that are left, each of the remaining banks gets an equal part.
        remaining = institutions - number
        chosen = left.copy()
        if remaining > 1:
            chosen &= holdout_mask(entities, salt=f"spread-{seed}-{number}", fraction=1 / remaining)
        left &= ~chosen
        rows = whole.filter(pa.array(chosen))
        parts[name] = Part(
            institution=institution_id(name),
            kind=InstitutionType.BANK,
            modalities=modalities,
            table=rows,
            complete=rows,
            known_modalities=modalities,
        )
    return replace(dataset, provenance="real-segments", parts=MappingProxyType(parts))
