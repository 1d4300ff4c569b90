"""One row per borrower where the borrower is the unit of privacy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def one_observation_per_entity(
    entities: NDArray[np.str_], contents: Sequence[NDArray[np.float64]]
) -> NDArray[np.int64]:
    """Return the positions of the rows to keep, in order: exactly one for each entity.

    Of several rows the one with the smallest SHA-256 of token and content stays. The choice depends on that
    borrower's rows alone, and not on labels: adding or removing another borrower changes nothing here.
    ``contents`` are arrays of n rows, (n,) or (n, T). Rows of equal content are alike; the first stays.
    """
    _, inverse, counts = np.unique(entities, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    if not len(repeated):
        return np.arange(len(entities))
    rows = np.hstack([content[repeated].reshape(len(repeated), -1) for content in contents]) + 0.0
    rows[np.isnan(rows)] = np.nan
    best: dict[int, tuple[bytes, int]] = {}
    for position, row in zip(repeated.tolist(), rows, strict=True):
        mark = hashlib.sha256(str(entities[position]).encode() + b"\0" + row.astype("<f8").tobytes()).digest()
        entity = int(inverse[position])
        best[entity] = min(best.get(entity, (mark, position)), (mark, position))
    keep = counts[inverse] == 1
    keep[[position for _, position in best.values()]] = True
    return np.flatnonzero(keep)
