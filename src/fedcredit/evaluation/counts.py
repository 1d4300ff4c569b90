"""Score-bin × outcome counts: the one table that members add up, and from which every pooled figure follows.

Adding or removing one entity with one row changes one cell by 1. The coordinator adds the members' tables, until secure
aggregation does; noise for privacy is integer and may make a cell negative, which ``ScoreCounts`` keeps as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.errors import EvaluationInputError, LayoutMismatchError
from fedcredit.evaluation.observations import Counts, Floats, bad_flags, probabilities

LOGIT_OFFSETS: Final = (-2.0, -1.4, -0.9, -0.5, -0.2, 0.1, 0.5, 1.0, 1.7)
"""The inner edges of the score bins, as distances from the logit of the base rate."""
LARGEST_COUNT: Final = 2**53
"""Beyond it a count has no exact float64, so no figure could be computed from it faithfully."""


def score_edges(base_rate: float) -> Floats:
    """Return the eleven public edges of ten score bins around the public base rate of default.

    The edges depend on no data, so publishing them costs no privacy. There are few of them, because a released count
    carries noise and an empty bin carries nothing else; they lie where credit scores of a population with that base
    rate crowd: offsets of the logit from -2 to 1.7.

    Raises:
        EvaluationInputError: the base rate is not strictly between 0 and 1.
    """
    if not 0.0 < base_rate < 1.0:
        raise EvaluationInputError(what="the base rate", problem="it is not strictly between 0 and 1")
    logits = math.log(base_rate / (1.0 - base_rate)) + np.array(LOGIT_OFFSETS)
    return np.concatenate(([0.0], 1.0 / (1.0 + np.exp(-logits)), [1.0]))


@dataclass(frozen=True, eq=False)
class ScoreCounts:
    """Goods and bads per score bin.

    Bin i holds the scores in [edges[i], edges[i + 1]); the last bin holds 1 too. The arrays are copies and read-only.

    Raises:
        EvaluationInputError: the edges do not rise strictly from 0 to 1, or a count is beyond ±2**53.
        LayoutMismatchError: ``good`` or ``bad`` does not have one count per bin.
    """

    edges: Floats
    """Bin edges as probabilities, shape (bins + 1,)."""
    good: Counts
    """Rows without default per bin, shape (bins,); negative only after noise."""
    bad: Counts
    """Rows with default per bin, shape (bins,); negative only after noise."""

    def __post_init__(self) -> None:
        edges = _checked_edges(self.edges)
        object.__setattr__(self, "edges", edges)
        for name in ("good", "bad"):
            object.__setattr__(self, name, _checked_counts(getattr(self, name), what=f"the {name} counts", edges=edges))

    @property
    def bins(self) -> int:
        """Return the number of bins."""
        return self.good.size

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ScoreCounts):
            return NotImplemented
        return np.array_equal(self.edges, other.edges) and np.array_equal(self.to_lanes(), other.to_lanes())

    def __hash__(self) -> int:
        return hash(self.to_lanes().tobytes())

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        """Return the counts of both sets of rows together.

        Raises:
            LayoutMismatchError: the edges are not the same to the last bit.
        """
        if self.bins != other.bins:
            raise LayoutMismatchError(what="the bin grid", actual=other.edges.size, expected=self.edges.size)
        if not np.array_equal(self.edges, other.edges):
            shared = int(np.isin(other.edges, self.edges).sum())
            raise LayoutMismatchError(what="the bin grid in common", actual=shared, expected=self.edges.size)
        return ScoreCounts(edges=self.edges, good=self.good + other.good, bad=self.bad + other.bad)

    def to_lanes(self) -> Counts:
        """Return one int64 vector of 2·bins numbers: the goods, then the bads."""
        return np.concatenate((self.good, self.bad))

    @classmethod
    def from_lanes(cls, lanes: npt.ArrayLike, *, edges: npt.ArrayLike) -> ScoreCounts:
        """Rebuild the counts from ``to_lanes``; anything but 2·bins integers raises.

        Raises:
            LayoutMismatchError: the number of lanes does not fit ``edges``.
            EvaluationInputError: the lanes are not integers, or ``edges`` are not bin edges.
        """
        grid = _checked_edges(edges)
        bins = grid.size - 1
        vector = np.asarray(lanes)
        if vector.shape != (2 * bins,):
            raise LayoutMismatchError(what="the lane vector", actual=vector.size, expected=2 * bins)
        return cls(edges=grid, good=vector[:bins], bad=vector[bins:])


def count_scores(scores: npt.ArrayLike, labels: npt.ArrayLike, edges: npt.ArrayLike) -> ScoreCounts:
    """Count the rows of one member; no row at all gives a table of zeros, which is safe to add.

    Args:
        scores: predicted probabilities of default, shape (n,).
        labels: 1 for a default and 0 for none, shape (n,).
        edges: bin edges from 0 to 1, shape (bins + 1,).

    Raises:
        NotFiniteError: a score is NaN or infinite.
        EvaluationInputError: a score lies outside [0, 1], a label is neither 0 nor 1, or the edges are no bin edges.
        LayoutMismatchError: there is not one label per score.
    """
    grid = _checked_edges(edges)
    values = probabilities(scores)
    is_bad = bad_flags(labels, rows=values.size)
    place = np.searchsorted(grid[1:-1], values, side="right")
    bins = grid.size - 1
    return ScoreCounts(
        edges=grid,
        good=np.bincount(place[~is_bad], minlength=bins).astype(np.int64),
        bad=np.bincount(place[is_bad], minlength=bins).astype(np.int64),
    )


def _checked_edges(edges: npt.ArrayLike) -> Floats:
    grid = np.array(edges, dtype=np.float64)
    rises = grid.ndim == 1 and grid.size >= 2 and grid[0] == 0.0 and grid[-1] == 1.0 and bool((np.diff(grid) > 0).all())
    if not rises:
        raise EvaluationInputError(what="the bin grid", problem="its edges do not rise strictly from 0 to 1")
    grid.setflags(write=False)
    return grid


def _checked_counts(counts: npt.ArrayLike, *, what: str, edges: Floats) -> Counts:
    given = np.asarray(counts)
    if given.shape != (edges.size - 1,):
        raise LayoutMismatchError(what=what, actual=given.size, expected=edges.size - 1)
    if not np.can_cast(given.dtype, np.int64, casting="safe") or given.dtype == np.bool_:
        raise EvaluationInputError(what=what, problem="they are not 64-bit integers")
    if ((given > LARGEST_COUNT) | (given < -LARGEST_COUNT)).any():
        raise EvaluationInputError(what=what, problem="one is too large to be exact")
    whole = given.astype(np.int64)
    whole.setflags(write=False)
    return whole
