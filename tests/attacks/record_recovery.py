"""Whole records from a summed first-layer gradient, by division and subtraction alone (QUALITY.md 5.1).

A rectified unit j sums ``r_i w_j (x_i, 1)`` over the records i that it is active for, r the residual and w its outgoing
weight. Divided by w every unit holds the sum of one *subset* of the same vectors ``r_i (x_i, 1)``; a subset of one
gives its record away as gradient / bias gradient. One-hot categories tell the attacker which quotients are records; a
record that is known is subtracted wherever it is active, which leaves more subsets of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from attacks.german import category_columns
from attacks.one_hidden_layer import OneHiddenLayer
from numpy.typing import NDArray

Vectors = NDArray[np.float64]
TOLERANCE = 1e-2
"""A record counts as recovered if every one of its features is this close."""
_LOOKS_ONE_HOT = 0.05
_NOTHING = 1e-9
_NUMBER_RANGE = 1.05


def subset_sums(weight_gradient: Vectors, bias_gradient: Vectors, outgoing: Vectors) -> Vectors:
    """Return per unit the sum of ``r_i (x_i, 1)`` over the records that activate it, shape (units, inputs + 1)."""
    return np.column_stack([weight_gradient, bias_gradient]) / outgoing[:, None]


def adjacent_differences(sums: Vectors) -> Vectors:
    """Return the sums of the bins between the thresholds of an imprint layer, whose units are nested."""
    return np.diff(sums, axis=0, append=0.0)


def imprint_weights(model: OneHiddenLayer, population: Vectors, *, seed: int) -> Vectors:
    """Return weights that sort records into bins (Fowl et al. 2022): every unit looks along one direction.

    The thresholds are the quantiles of the direction in half of the ``population`` (rows, inputs); the attacker knows
    how borrowers are distributed, not who they are. Outgoing signs alternate, so that no score saturates.
    """
    generator = np.random.default_rng(seed)
    parts = model.layout.split(np.zeros(model.layout.size))
    width, inputs = parts["hidden.weight"].shape
    direction = generator.normal(size=inputs) / np.sqrt(inputs)
    known = generator.choice(len(population), len(population) // 2, replace=False)
    parts["hidden.weight"][:] = direction
    parts["hidden.bias"][:] = -np.quantile(population[known] @ direction, np.arange(width) / width)
    parts["output.weight"][0] = (-1.0) ** np.arange(width)
    return model.layout.join(parts)


def quotients(sums: Vectors) -> Vectors:
    """Return a candidate record per sum that is not empty, shape (candidates, inputs)."""
    held = np.abs(sums[:, -1]) > _NOTHING
    return sums[held, :-1] / sums[held, -1:]


def peeled(sums: Vectors, active: Callable[[Vectors], NDArray[np.bool_]]) -> Vectors:
    """Return the records that look like records, taking each out of the sums it is part of until none is left.

    ``active`` says which sums a record (inputs,) is part of.
    """
    sums = sums.copy()
    found: list[Vectors] = []
    while True:
        candidate = next((row for row in sums if abs(row[-1]) > _NOTHING and looks_like_a_record(row)), None)
        if candidate is None or len(found) == len(sums):
            return np.array(found).reshape(-1, sums.shape[1] - 1)
        record = candidate[:-1] / candidate[-1]
        found.append(record)
        sums[active(record)] -= candidate


def looks_like_a_record(row: Vectors) -> bool:
    """Return whether a sum, divided by its last entry, has one 1 in every category and numbers in their range."""
    record = row[:-1] / row[-1]
    if np.abs(record).max() > _NUMBER_RANGE:
        return False
    for columns in category_columns():
        code = np.sort(record[list(columns)])
        if abs(code[-1] - 1) > _LOOKS_ONE_HOT or np.abs(code[:-1]).max() > _LOOKS_ONE_HOT:
            return False
    return True


def share_recovered(records: Vectors, candidates: Iterable[Vectors]) -> float:
    """Return the share of true ``records`` that some candidate meets within ``TOLERANCE`` in every feature."""
    everything = np.concatenate(list(candidates))
    if not len(everything):
        return 0.0
    furthest = np.abs(records[:, None, :] - everything[None, :, :]).max(axis=2)
    return float((furthest.min(axis=1) < TOLERANCE).mean())
