"""What an institution adds up for boosted trees: residuals and curvatures per leaf, and categories by outcome.

A borrower falls into one leaf of each tree and adds two rounded numbers there, so its integer vector has an exactly
known largest norm, with no floating-point argument beyond the rounding itself (``model.trees.largest_leaf_entry``).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import BoostingTraining
from fedcredit.data.table import CreditTable
from fedcredit.messages import COUNT_GRID
from fedcredit.model.scorecard import sigmoid
from fedcredit.model.trees import BoostedTrees, TreeMargins, largest_leaf_entry
from fedcredit.training.integer_sum import IntegerSum, SumBounds


class TreeSums:
    """Sums of one institution's borrowers in the leaves of a round's trees.

    Args:
        model: the ensemble of the plan.
        table: one record per borrower.
        training: clip and grid.
    """

    def __init__(self, model: BoostedTrees, table: CreditTable, training: BoostingTraining) -> None:
        self._model = model
        self._labels = table.labels.astype(np.float64)
        self._training = training
        self._held = model.held_positions(table.modalities)
        self._margins = TreeMargins(model, {name: part.codes for name, part in table.modalities.items()})

    def integer_sum(
        self, weights: npt.NDArray[np.float64], *, round_number: int, batch: npt.NDArray[np.bool_] | None
    ) -> IntegerSum:
        """Return (trees_per_round, leaves, 2) sums of rounded residuals and curvatures, flat.

        ``batch`` picks the borrowers of a sampled step, shape (n,).
        """
        self._margins.use(weights)
        first = (round_number - 1) * self._model.trees_per_round
        trained = self._model.leaf_table(weights)[:first]
        places = np.flatnonzero(self._held).tolist()
        entries = {
            view: self._entries(self._margins.margin(trained, view), batch)
            for view in {self._model.view_of(place) for place in places}
        }
        self._margins.forget(first)
        total = np.zeros((self._held.size, self._model.leaves, 2), dtype=np.int64)
        for place in places:
            leaves = self._margins.leaves_of(first + place)
            for lane, values in enumerate(entries[self._model.view_of(place)]):
                # bincount adds in float64, which is exact for integers below 2^53.
                total[place, :, lane] = np.bincount(leaves, weights=values, minlength=self._model.leaves)
        return IntegerSum(values=total.reshape(-1))

    def _entries(
        self, margin: npt.NDArray[np.float64], batch: npt.NDArray[np.bool_] | None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        # |residual| (1 - |residual|) is p (1 - p), and makes both numbers functions of the residual alone.
        residuals = sigmoid(margin) - self._labels
        size = np.abs(residuals)
        grid, clip = self._training.grid, self._training.clip
        steps = np.rint(np.clip(residuals, -clip, clip) * grid)
        curvatures = np.rint(size * (1 - size) * grid)
        if batch is not None:
            steps, curvatures = steps * batch, curvatures * batch
        return steps, curvatures


class CategoryHistogram:
    """Borrowers per bin of every category, by outcome: the preparation's sum, (bins, 2) flat, times the count grid."""

    def __init__(self, model: BoostedTrees, table: CreditTable) -> None:
        self._model = model
        self._table = table

    def integer_sum(
        self, weights: npt.NDArray[np.float64], *, round_number: int, batch: npt.NDArray[np.bool_] | None
    ) -> IntegerSum:
        """Return the counts; they do not depend on the weights, and nobody is sampled."""
        total = np.zeros((self._model.histogram_bins, 2), dtype=np.int64)
        for name, column, place in self._model.histogram_places(self._table.modalities):
            codes = self._table.modalities[name].codes[:, column]
            for outcome in (0, 1):
                total[place, outcome] = np.bincount(
                    codes[self._table.labels == outcome], minlength=place.stop - place.start
                )
        return IntegerSum(values=total.reshape(-1) * COUNT_GRID)


def tree_bounds(model: BoostedTrees, training: BoostingTraining, modalities: tuple[str, ...]) -> SumBounds:
    """Return the bounds of ``TreeSums`` for records with these modalities."""
    held = model.held_positions(modalities)
    return SumBounds(
        sensitivity_squared=int(held.sum()) * largest_leaf_entry(clip=training.clip, grid=training.grid),
        reached=np.repeat(held, 2 * model.leaves),
        # A curvature is at most a quarter; with a small clip it is the larger of the two.
        largest_entry=max(round(training.clip * training.grid), math.ceil(training.grid / 4)),
    )


def histogram_bounds(model: BoostedTrees, modalities: tuple[str, ...]) -> SumBounds:
    """Return the bounds of ``CategoryHistogram``: a borrower counts once in one bin of each category."""
    reached = np.zeros((model.histogram_bins, 2), dtype=bool)
    places = model.histogram_places(modalities)
    for _, _, place in places:
        reached[place] = True
    return SumBounds(
        sensitivity_squared=len(places) * COUNT_GRID**2, reached=reached.reshape(-1), largest_entry=COUNT_GRID
    )
