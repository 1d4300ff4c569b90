"""Per-borrower clipped gradients of the scorecard, summed exactly in integers.

The gradient of one borrower is residual × (1 at each active parameter). The residual is clipped and rounded to the
integer grid, so every borrower's gradient is an integer vector with at most ``active`` entries of at most ``grid``:
the squared L2 sensitivity ``grid² · active`` holds exactly, per borrower, with no floating-point argument.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedcredit.data.table import CreditTable
from fedcredit.errors import NotFiniteError
from fedcredit.model.scorecard import Scorecard, sigmoid
from fedcredit.training.integer_sum import IntegerSum, SumBounds


class ScorecardGradient:
    """The gradient of one institution's borrowers, or of a sampled batch of them, on the integer grid.

    Args:
        model: the scorecard of the plan.
        table: one record per borrower.
        clip: bound of the residual, in probability units; 1 bounds without bias.
        grid: integer steps per clip bound.
    """

    def __init__(self, model: Scorecard, table: CreditTable, *, clip: float, grid: int) -> None:
        self._model = model
        self._labels = table.labels.astype(np.float64)
        self._active = model.active_parameters({name: part.codes for name, part in table.modalities.items()})
        self._clip = clip
        self._grid = grid

    def integer_sum(
        self, weights: npt.NDArray[np.float64], *, round_number: int, batch: npt.NDArray[np.bool_] | None
    ) -> IntegerSum:
        """Return the summed gradient at ``weights`` (layout.size,); ``batch`` (n,) picks a sampled step's borrowers."""
        residuals = sigmoid(self._model.logits(weights, self._active)) - self._labels
        if not np.isfinite(residuals).all():
            raise NotFiniteError(what="the residuals of this round")
        steps = np.rint(np.clip(residuals / self._clip, -1, 1) * self._grid)
        if batch is not None:
            steps = steps * batch
        # bincount adds in float64, which is exact for integers below 2^53.
        total = np.bincount(
            self._active.reshape(-1),
            weights=np.repeat(steps, self._active.shape[1]),
            minlength=self._model.layout.size,
        )
        return IntegerSum(values=total.astype(np.int64))


def scorecard_bounds(model: Scorecard, modalities: tuple[str, ...], *, grid: int) -> SumBounds:
    """Return the bounds of ``ScorecardGradient``: one entry of at most ``grid`` per active parameter."""
    return SumBounds(
        sensitivity_squared=grid**2 * model.active_of(modalities),
        reached=model.layout.trained_by(modalities),
        largest_entry=grid,
    )
