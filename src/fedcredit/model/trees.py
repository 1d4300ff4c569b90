"""Boosted trees with public random splits: the default tabular ensemble.

Where a tree splits is a function of public values alone: a seed, the contract's bins, and the grouping of categories
that follows from one noised histogram. Only the values of the leaves are learned, from noised sums; so a tree costs as
much privacy as its leaves, whatever its depth (after Fletcher, Islam 2019, and Maddock et al. 2022, arXiv:2210.02910,
"totally random" trees).

    view        a combination of modalities that some institution holds; every tree belongs to one
    margin      log-odds of a record under a view: base rate + the trees of all views contained in it
    group       what a tree sees of a feature: its bin, or for a category the group that its bins were merged into

A record is scored under the largest view it holds. A tree of a view is fitted by everybody who holds the view, on that
view's own margin; so records with few modalities get a model of their own that the others help to train, and records
with more get that model plus the trees that know more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from fedcredit.model.layout import Block, ModelInputs, ParameterLayout
from fedcredit.model.scorecard import Codes, logit, sigmoid

View: TypeAlias = tuple[str, ...]
"""Names of modalities in the contract's order."""
Groups: TypeAlias = npt.NDArray[np.int64]
Columns: TypeAlias = Mapping[int, npt.NDArray[np.int16]]
Leaves: TypeAlias = npt.NDArray[np.uint8]

GROUPS_BLOCK: Final = "groups"
LEAVES_BLOCK: Final = "leaves"
LARGEST_GROUPS: Final = 20
"""Into how many groups the bins of a category are merged at most."""
_SMOOTHING: Final = 50.0
"""Records of the average outcome that are added to every bin of a histogram: rare bins count as average."""
_LABEL: Final = "fedcredit trees 1"


class BoostedTrees:
    """The ensemble: structure from public values, leaves from the parameter vector.

    Parameters are one vector of two blocks: ``groups`` (one whole number per bin of each feature) and ``leaves``
    (trees, 2**depth). Trees not yet trained have leaves of zero.
    """

    def __init__(
        self,
        inputs: ModelInputs,
        *,
        views: Iterable[Iterable[str]],
        trees: int,
        trees_per_round: int,
        depth: int,
        structure_seed: int,
        base_rate: float,
    ) -> None:
        self._features = [
            (name, column, count, bool(shape.nominal) and shape.nominal[column])
            for name, shape in inputs.items()
            for column, count in enumerate(shape.bins)
        ]
        self._first = np.concatenate([[0], np.cumsum([count for _, _, count, _ in self._features])]).astype(np.int64)
        self._seed = structure_seed
        self._base = logit(base_rate)
        self.depth: Final = depth
        self.leaves: Final[int] = 2**depth
        self.trees: Final = trees
        self.trees_per_round: Final = trees_per_round
        self.views: Final = _ordered_views(views, inputs)
        self._pattern = _shares(
            [sum(len(inputs[name].bins) for name in view) for view in self.views], total=trees_per_round
        )
        self.layout: Final = ParameterLayout(
            (
                Block(name=GROUPS_BLOCK, shape=(int(self._first[-1]),), modality=None),
                Block(name=LEAVES_BLOCK, shape=(trees, self.leaves), modality=None),
            )
        )

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the public starting point: every bin a group of its own, no leaf trained."""
        groups = [np.arange(count, dtype=np.float64) for _, _, count, _ in self._features]
        return self.layout.join(
            {GROUPS_BLOCK: np.concatenate(groups), LEAVES_BLOCK: np.zeros((self.trees, self.leaves))}
        )

    def groups(self, weights: npt.NDArray[np.float64]) -> Groups:
        """Return the group of every bin, shape (Σ bins,); whatever the vector holds becomes a valid group."""
        values = np.clip(np.rint(self.layout.split(weights)[GROUPS_BLOCK]), 0, self._largest_groups()).astype(np.int64)
        values.setflags(write=False)
        return values

    def leaf_table(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the values of all leaves, shape (trees, leaves)."""
        return self.layout.split(weights)[LEAVES_BLOCK]

    def view_of(self, round_position: int) -> View:
        """Return the view of the tree at this position within its round."""
        return self.views[self._pattern[round_position]]

    def held_positions(self, modalities: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return which trees of a round records with these modalities fall into, shape (trees_per_round,)."""
        held = set(modalities)
        return np.array([held.issuperset(self.view_of(place)) for place in range(self.trees_per_round)])

    def columns(self, groups: Groups, codes: Codes) -> Columns:
        """Return what trees see of records: the group of every held feature, shape (n,), by the feature's number."""
        return {
            feature: groups[self._first[feature] : self._first[feature + 1]][codes[name][:, column]].astype(np.int16)
            for feature, (name, column, _, _) in enumerate(self._features)
            if name in codes
        }

    def leaf_of(self, tree: int, groups: Groups, columns: Columns) -> Leaves:
        """Return the leaf that each record falls into, shape (n,); the records hold the tree's view."""
        features, thresholds = self._structure(tree, groups)
        records = len(next(iter(columns.values())))
        # Every split of the tree at once, then a walk of look-ups: three times quicker than masks per node.
        right = np.empty((len(features), records), dtype=np.bool_)
        for place, (feature, threshold) in enumerate(zip(features.tolist(), thresholds.tolist(), strict=True)):
            np.greater(columns[feature], threshold, out=right[place])
        steps, own = right.view(np.int8).reshape(-1), np.arange(records)
        node = 1 + right[0].astype(np.intp)
        for _ in range(self.depth - 1):
            node = 2 * node + 1 + steps.take(node * records + own)
        leaf: Leaves = (node - (self.leaves - 1)).astype(np.uint8)
        return leaf

    @property
    def base(self) -> float:
        """Return the log-odds of everybody before the first tree."""
        return self._base

    def probabilities(self, weights: npt.NDArray[np.float64], codes: Codes) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,), under everything that the records hold."""
        return TreeMargins(self, codes).probabilities(weights)

    def histogram_places(self, modalities: Iterable[str]) -> list[tuple[str, int, slice]]:
        """Return (modality, column, bins) of the features whose order is learned from the preparation.

        The bins are a slice into the histogram's rows, shape (``histogram_bins``, 2). Two bins need no order.
        """
        held, start, places = set(modalities), 0, []
        for name, column, count, nominal in self._features:
            if nominal and count > 2:
                if name in held:
                    places.append((name, column, slice(start, start + count)))
                start += count
        return places

    @property
    def histogram_bins(self) -> int:
        """Return the number of bins of the preparation's histogram."""
        return sum(count for _, _, count, nominal in self._features if nominal and count > 2)

    def with_histogram(
        self, weights: npt.NDArray[np.float64], histogram: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """Return ``weights`` with the groups that follow from a noised histogram (``histogram_bins``, 2): good, bad.

        Bins are sorted by their smoothed default rate and merged into at most 20 groups of about equal weight, so a
        rare category disappears in a group. A function of released numbers: it costs nothing.
        """
        parts = {name: part.copy() for name, part in self.layout.split(weights).items()}
        start = 0
        for feature, (_, _, count, nominal) in enumerate(self._features):
            if nominal and count > 2:
                place = slice(int(self._first[feature]), int(self._first[feature + 1]))
                parts[GROUPS_BLOCK][place] = _merged(histogram[start : start + count])
                start += count
        return self.layout.join(parts)

    def _largest_groups(self) -> npt.NDArray[np.int64]:
        counts = np.array([count for _, _, count, _ in self._features])
        return np.repeat(counts - 1, counts)

    def _structure(self, tree: int, groups: Groups) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return feature and threshold of every inner node, shape (2**depth - 1,); right is above the threshold."""
        counts = np.maximum.reduceat(groups, self._first[:-1]) + 1
        view = self.view_of(tree % self.trees_per_round)
        usable = [f for f, (name, *_) in enumerate(self._features) if name in view and counts[f] > 1]
        nodes = self.leaves - 1
        if not usable:
            first = next(f for f, (name, *_) in enumerate(self._features) if name in view)
            return np.full(nodes, first), np.full(nodes, counts.max())
        # 64-bit words of a hash, not a library's generator: every party and every version draws the same trees.
        seed = f"{_LABEL}/{self._seed}/{tree}".encode()
        words = np.frombuffer(hashlib.shake_256(seed).digest(16 * nodes), dtype="<u8").reshape(2, nodes)
        features = np.array(usable)[(words[0] % np.uint64(len(usable))).astype(np.int64)]
        return features, (words[1] % (counts[features] - 1).astype(np.uint64)).astype(np.int64)


@dataclass(frozen=True)
class _Margin:
    """The log-odds of all records under one view, and the leaf values that they were added up from."""

    values: npt.NDArray[np.float64]
    total: npt.NDArray[np.float64]


class TreeMargins:
    """What a growing ensemble says of the same records, round after round: only new trees are looked up.

    The result is a function of the weights that were used last, to the last bit: trees are added in their order, and
    anything but a longer version of the weights before begins anew.
    """

    def __init__(self, model: BoostedTrees, codes: Codes) -> None:
        self._model = model
        self._codes = codes
        self._records = len(next(iter(codes.values())))
        self._groups: Groups = np.zeros(0, dtype=np.int64)
        self._columns: Columns = {}
        self._leaves: dict[int, Leaves] = {}
        self._margins: dict[View, _Margin] = {}

    def use(self, weights: npt.NDArray[np.float64]) -> None:
        """Take the groups of ``weights``; other groups than before begin anew."""
        groups = self._model.groups(weights)
        if not np.array_equal(groups, self._groups):
            self._groups, self._columns = groups, self._model.columns(groups, self._codes)
            self._leaves, self._margins = {}, {}

    def margin(self, trained: npt.NDArray[np.float64], view: View) -> npt.NDArray[np.float64]:
        """Return the log-odds of all records under ``view``, shape (n,), from the leaf values of the trained trees."""
        known = self._margins.get(view)
        if known is None or not np.array_equal(known.values, trained[: len(known.values)]):
            known = _Margin(trained[:0], np.full(self._records, self._model.base))
        total = known.total.copy()
        for tree in range(len(known.values), len(trained)):
            if set(self._model.view_of(tree % self._model.trees_per_round)) <= set(view):
                total += trained[tree][self.leaves_of(tree)]
        self._margins[view] = _Margin(trained.copy(), total)
        return total

    def leaves_of(self, tree: int) -> Leaves:
        """Return the leaf of every record in a tree, shape (n,), and remember it until ``forget``."""
        if tree not in self._leaves:
            self._leaves[tree] = self._model.leaf_of(tree, self._groups, self._columns)
        return self._leaves[tree]

    def forget(self, before: int) -> None:
        """Drop the leaves of the trees before this one: they are in the margins."""
        self._leaves = {tree: leaves for tree, leaves in self._leaves.items() if tree >= before}

    def probabilities(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,), under everything that the records hold."""
        self.use(weights)
        values = self._model.leaf_table(weights)
        grown = np.flatnonzero(values.any(axis=1))
        trained = values[: int(grown[-1]) + 1] if grown.size else values[:0]
        chance = sigmoid(self.margin(trained, tuple(self._codes)))
        self.forget(len(trained))
        return chance


def _ordered_views(views: Iterable[Iterable[str]], inputs: ModelInputs) -> tuple[View, ...]:
    order = list(inputs)
    distinct = {tuple(sorted(set(view), key=order.index)) for view in views}
    return tuple(sorted(distinct, key=lambda view: (len(view), [order.index(name) for name in view])))


def _shares(sizes: list[int], *, total: int) -> list[int]:
    """Return the view of each of ``total`` trees: in proportion to the features, at least one tree for each view."""
    if total < len(sizes):
        raise ValueError(f"{total} trees a round are too few for {len(sizes)} combinations of modalities")
    counts = [1] * len(sizes)
    for _ in range(total - len(sizes)):
        behind = max(range(len(sizes)), key=lambda view: (sizes[view] / counts[view], -view))
        counts[behind] += 1
    return [view for view, count in enumerate(counts) for _ in range(count)]


def _merged(histogram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the group of each bin from its noised good and bad counts, shape (bins, 2)."""
    counts = np.maximum(histogram, 0.0)
    total = counts.sum()
    if not total > 0:
        return np.zeros(len(counts))
    average = counts[:, 1].sum() / total
    weight = counts.sum(axis=1)
    rate = (counts[:, 1] + _SMOOTHING * average) / (weight + _SMOOTHING)
    order = np.argsort(rate, kind="stable")
    middle = (np.cumsum(weight[order]) - weight[order] / 2) / total
    cells = np.minimum(np.floor(middle * LARGEST_GROUPS), LARGEST_GROUPS - 1)
    groups = np.empty(len(counts))
    groups[order] = np.unique(cells, return_inverse=True)[1]
    return groups


def leaf_values(
    sums: npt.NDArray[np.float64], *, ridge: float, limit: float, learning_rate: float
) -> npt.NDArray[np.float64]:
    """Return the values of leaves from noised sums of gradients and curvatures, shape (..., 2), both in natural units.

    A Newton step with ``ridge`` added to the curvature (Chen, Guestrin 2016, equation 5); a curvature that noise has
    made negative counts as zero.
    """
    gradient, curvature = sums[..., 0], np.maximum(sums[..., 1], 0.0)
    return learning_rate * np.clip(-gradient / (curvature + ridge), -limit, limit)


def largest_leaf_entry(*, clip: float, grid: int) -> int:
    """Return the largest squared norm, in grid steps, of one record's (gradient, curvature) in a leaf.

    A record with residual r = p - y contributes round(clip(r) * grid) and round(|r| (1 - |r|) * grid). For each value j
    of the first, the residuals that round to it are an interval, on which the curvature has its largest value at the
    point nearest 1/2; the last interval reaches to 1, where the residual is clipped.
    """
    top, largest = round(clip * grid), 0
    for j in range(top + 1):
        low, high = max(0.0, (j - 0.5) / grid), 1.0 if j == top else min(1.0, (j + 0.5) / grid)
        nearest = min(max(0.5, low), high)
        # The slack is far above the error of the float products that are rounded, and far below one grid step.
        curvature = math.floor(nearest * (1 - nearest) * grid + 0.5 + 1e-6)
        largest = max(largest, j * j + curvature * curvature)
    return largest
