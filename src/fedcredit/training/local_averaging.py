"""Local epochs for federated averaging (McMahan et al. 2017, arXiv:1602.05629), without differential privacy only.

Several local steps have no per-borrower bound, so a plan with noise cannot choose this; the plan check refuses it.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.data.table import CreditTable
from fedcredit.errors import NoiseRangeError, NotFiniteError
from fedcredit.messages import AVERAGING_GRID, LANE_LIMIT
from fedcredit.model.linear_stack import LinearStack
from fedcredit.training.integer_sum import IntegerSum


class LocalAveraging:
    """Trains a copy of the model for some epochs and returns its change, weighted by the public share of borrowers."""

    def __init__(
        self,
        model: LinearStack,
        table: CreditTable,
        *,
        learning_rate: float,
        epochs: int,
        batch_size: int,
        share: float,
        seed: bytes,
    ) -> None:
        self._model = model
        # Once, instead of in every batch.
        self._dense = {name: part.dense.astype(np.float64) for name, part in table.modalities.items()}
        self._targets = torch.from_numpy(table.labels.astype(np.float64))
        self._learning_rate = learning_rate
        self._epochs = epochs
        self._batch_size = batch_size
        self._share = share
        self._seed = seed

    def integer_sum(
        self, weights: npt.NDArray[np.float64], *, round_number: int, batch: npt.NDArray[np.bool_] | None
    ) -> IntegerSum:
        """Return the weighted change of the weights after the local epochs; it has no sensitivity bound.

        It makes its own batches: ``batch`` is for training with differential privacy, which this cannot be.
        """
        # The order of batches depends on public values only: the plan's seed, the institution and the weights.
        generator = np.random.default_rng(list(hashlib.sha256(self._seed + weights.tobytes()).digest()))
        vector = torch.from_numpy(np.array(weights, dtype=np.float64)).requires_grad_()
        for _ in range(self._epochs):
            self._epoch(vector, generator.permutation(len(self._targets)))
        change = (vector.detach().numpy() - weights) * self._share
        if not np.isfinite(change).all():
            raise NotFiniteError(what="the locally trained model")
        steps = np.rint(change * AVERAGING_GRID)
        if np.abs(steps).max(initial=0) > LANE_LIMIT:
            raise NoiseRangeError(problem="the local change exceeds 32-bit lanes")
        return IntegerSum(values=steps.astype(np.int64))

    def _epoch(self, vector: torch.Tensor, order: npt.NDArray[np.int64]) -> None:
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            logits, _ = self._model.forward(vector, {name: values[rows] for name, values in self._dense.items()})
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, self._targets[rows])
            (gradient,) = torch.autograd.grad(loss, vector)
            with torch.no_grad():
                vector -= self._learning_rate * gradient
