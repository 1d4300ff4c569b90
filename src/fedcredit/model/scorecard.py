"""The scorecard: logistic regression on one-hot bins, the model a regulator reads.

Every record has one active bin per feature of the modalities it holds, one presence parameter per modality and the
intercept. The logit is ``Σ active weights / √K`` with ``K`` the active parameters of a complete record, so the input
of a complete record has norm 1 and one borrower's gradient has a norm of at most its residual.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.model.layout import Block, ModelInputs, ParameterLayout

Codes = Mapping[str, npt.NDArray[np.int16]]
"""Per modality held: bin codes of shape (n, features)."""

INTERCEPT: Final = "intercept"


class Scorecard:
    """Maps bin codes to default probabilities for a given parameter vector."""

    def __init__(self, inputs: ModelInputs) -> None:
        blocks = [Block(name=INTERCEPT, shape=(1,), modality=None)]
        for name, shape in inputs.items():
            blocks.append(Block(name=f"{name}.present", shape=(1,), modality=name))
            blocks.append(Block(name=f"{name}.bins", shape=(sum(shape.bins),), modality=name))
        self.layout: Final = ParameterLayout(tuple(blocks))
        self.active: Final = 1 + sum(1 + len(shape.bins) for shape in inputs.values())
        """Active parameters of a complete record (K)."""
        self._inputs = dict(inputs)
        places = self.layout.slices()
        self._present = {name: places[f"{name}.present"].start for name in inputs}
        self._offsets = {
            name: places[f"{name}.bins"].start + np.concatenate([[0], np.cumsum(shape.bins)[:-1]]).astype(np.int64)
            for name, shape in inputs.items()
        }

    def initial_weights(self, *, base_rate: float) -> npt.NDArray[np.float64]:
        """Return the public starting point: everybody has the base rate."""
        weights = np.zeros(self.layout.size)
        weights[0] = logit(base_rate) * math.sqrt(self.active)
        return weights

    def active_of(self, modalities: tuple[str, ...]) -> int:
        """Return the active parameters of a record that holds ``modalities``."""
        return 1 + sum(1 + len(self._inputs[name].bins) for name in modalities)

    def active_parameters(self, codes: Codes) -> npt.NDArray[np.int64]:
        """Return the indices of the active parameters, shape (n, active of the held modalities)."""
        rows = len(next(iter(codes.values())))
        columns = [np.zeros((rows, 1), dtype=np.int64)]
        for name, values in codes.items():
            columns.append(np.full((rows, 1), self._present[name], dtype=np.int64))
            columns.append(values.astype(np.int64) + self._offsets[name])
        return np.concatenate(columns, axis=1)

    def logits(self, weights: npt.NDArray[np.float64], active: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the log-odds of default, shape (n,), for ``active_parameters``."""
        total: npt.NDArray[np.float64] = weights[active].sum(axis=1)
        return total / math.sqrt(self.active)

    def probabilities(self, weights: npt.NDArray[np.float64], codes: Codes) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,)."""
        return sigmoid(self.logits(weights, self.active_parameters(codes)))


def logit(probability: float) -> float:
    """Return the log-odds of a probability strictly between 0 and 1."""
    return math.log(probability / (1 - probability))


def sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * logits))
