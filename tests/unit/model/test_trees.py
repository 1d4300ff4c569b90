"""Random trees: public structure, valid whatever a coordinator sends, leaves with an exactly known largest entry."""

from __future__ import annotations

import hashlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.messages import WEIGHT_LIMIT
from fedcredit.model.layout import ModalityShape
from fedcredit.model.scorecard import logit
from fedcredit.model.trees import LARGEST_GROUPS, BoostedTrees, largest_leaf_entry, leaf_values

INPUTS = {
    "application": ModalityShape(kind="static", bins=(5, 7, 2, 4), nominal=(False, True, True, False), dense=(1,)),
    "repayment": ModalityShape(kind="sequence", bins=(3, 6), nominal=(False, True), dense=(2, 1)),
    "telematics": ModalityShape(kind="static", bins=(4,), dense=(1,)),
}
VIEWS = [("application",), ("repayment", "application"), ("repayment",)]
OFFSETS = {("application", 0): 0, ("application", 1): 5, ("application", 2): 12, ("application", 3): 14}
OFFSETS |= {("repayment", 0): 18, ("repayment", 1): 21, ("telematics", 0): 27}
BINS = 31


def ensemble(
    *,
    seed: int = 7,
    depth: int = 3,
    trees: int = 12,
    trees_per_round: int = 6,
    views: list[tuple[str, ...]] = VIEWS,
) -> BoostedTrees:
    return BoostedTrees(
        INPUTS,
        views=views,
        trees=trees,
        trees_per_round=trees_per_round,
        depth=depth,
        structure_seed=seed,
        base_rate=0.2,
    )


MODEL = ensemble()


def codes_of(rows: int, *, seed: int, held: tuple[str, ...] = ("application", "repayment")) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: np.stack([rng.integers(0, bins, size=rows) for bins in INPUTS[name].bins], axis=1).astype(np.int16)
        for name in held
    }


def weights_of(model: BoostedTrees = MODEL, *, seed: int, merged: bool = True) -> np.ndarray:
    """Trained leaves, and groups as a preparation would make them."""
    rng = np.random.default_rng(seed)
    parts = {name: part.copy() for name, part in model.layout.split(model.initial_weights()).items()}
    parts["leaves"] = rng.normal(size=parts["leaves"].shape)
    weights = model.layout.join(parts)
    return model.with_histogram(weights, rng.uniform(-3, 400, (model.histogram_bins, 2))) if merged else weights


# --- the structure --------------------------------------------------------------------------------------------------


def slow_leaf(model_seed: int, tree: int, view: tuple[str, ...], depth: int, groups: list[int], record: dict) -> int:
    """One record in one tree, from the words of SHAKE-256: breadth first, right above the threshold."""
    counts = {
        (name, column): max(groups[OFFSETS[name, column] :][:bins]) + 1
        for name, shape in INPUTS.items()
        for column, bins in enumerate(shape.bins)
    }
    usable = [feature for feature, count in counts.items() if feature[0] in view and count > 1]
    nodes = 2**depth - 1
    data = hashlib.shake_256(f"fedcredit trees 1/{model_seed}/{tree}".encode()).digest(16 * nodes)
    words = [int.from_bytes(data[8 * place : 8 * place + 8], "little") for place in range(2 * nodes)]
    node = 0
    for _ in range(depth):
        if usable:
            feature = usable[words[node] % len(usable)]
            threshold = words[nodes + node] % (counts[feature] - 1)
            group = groups[OFFSETS[feature] + int(record[feature[0]][feature[1]])]
            node = 2 * node + 1 + (group > threshold)
        else:
            node = 2 * node + 1
    return node - nodes


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(("seed", "depth"), [(7, 1), (7, 3), (2**53, 5), (0, 8)])
def test_every_record_falls_into_the_leaf_that_a_walk_by_hand_finds(seed: int, depth: int, merged: bool) -> None:
    model = ensemble(seed=seed, depth=depth)
    groups = model.groups(weights_of(model, seed=1, merged=merged))
    codes = codes_of(40, seed=2)
    columns = model.columns(groups, codes)
    for tree in range(model.trees):
        view = model.view_of(tree % model.trees_per_round)
        leaves = model.leaf_of(tree, groups, columns)
        assert leaves.tolist() == [
            slow_leaf(seed, tree, view, depth, groups.tolist(), {name: part[row] for name, part in codes.items()})
            for row in range(40)
        ]


def test_the_structure_of_a_seed_never_changes() -> None:
    # Every party draws the same trees in every version, or their sums cannot be added.
    groups = MODEL.groups(MODEL.initial_weights())
    grid = list(itertools.product(range(5), range(7), range(2), range(4), range(3), range(6)))
    table = np.array(grid, dtype=np.int16)
    columns = MODEL.columns(groups, {"application": table[:, :4], "repayment": table[:, 4:]})
    leaves = b"".join(MODEL.leaf_of(tree, groups, columns).tobytes() for tree in range(MODEL.trees))
    assert hashlib.sha256(leaves).hexdigest()[:32] == "8488ba5686356b984ef6e5534f2ecb45"


def test_another_seed_or_tree_is_another_structure() -> None:
    groups, codes = MODEL.groups(MODEL.initial_weights()), codes_of(500, seed=3)
    columns = MODEL.columns(groups, codes)
    seen = {model.leaf_of(tree, groups, columns).tobytes() for model in (MODEL, ensemble(seed=8)) for tree in range(12)}
    assert len(seen) == 24


def test_all_leaves_of_deep_trees_have_a_number_of_their_own() -> None:
    model = ensemble(depth=8)
    groups = model.groups(model.initial_weights())
    columns = model.columns(groups, codes_of(20_000, seed=4))
    leaves = np.concatenate([model.leaf_of(tree, groups, columns) for tree in range(12)])
    assert leaves.dtype == np.uint8
    assert leaves.min() == 0
    assert leaves.max() == 255


def test_a_tree_sees_the_features_of_its_view_alone() -> None:
    groups = MODEL.groups(MODEL.initial_weights())
    codes = codes_of(300, seed=5)
    whole = MODEL.columns(groups, codes)
    for tree in range(12):
        view = MODEL.view_of(tree % 6)
        part = MODEL.columns(groups, {name: codes[name] for name in view})
        assert MODEL.leaf_of(tree, groups, part).tolist() == MODEL.leaf_of(tree, groups, whole).tolist()


# --- views and their shares of the trees ----------------------------------------------------------------------------


def test_views_are_distinct_and_ordered_small_ones_first_and_then_as_the_contract_has_them() -> None:
    model = ensemble(
        views=[
            ("telematics", "application"),
            ("repayment",),
            ("repayment", "application"),
            ("application", "repayment"),
            ("application",),
            ("repayment", "repayment"),
        ]
    )
    assert model.views == (
        ("application",),
        ("repayment",),
        ("application", "repayment"),
        ("application", "telematics"),
    )


def test_trees_are_shared_in_proportion_to_the_features_by_hand() -> None:
    # Features: application 4, repayment 2, both 6. One tree each, then the largest of features / trees, the first on
    # a tie: 4 2 6 -> both; 4 2 3 -> application; 2 2 3 -> both.
    assert [MODEL.view_of(place) for place in range(6)] == [
        ("application",),
        ("application",),
        ("repayment",),
        ("application", "repayment"),
        ("application", "repayment"),
        ("application", "repayment"),
    ]


def test_every_view_has_a_tree_and_too_few_trees_are_refused() -> None:
    model = ensemble(trees_per_round=3, trees=3)
    assert [model.view_of(place) for place in range(3)] == list(model.views)
    with pytest.raises(ValueError, match="2 trees a round are too few for 3"):
        ensemble(trees_per_round=2)


@pytest.mark.parametrize(
    ("held", "places"),
    [
        (("application",), [True, True, False, False, False, False]),
        (("repayment",), [False, False, True, False, False, False]),
        (("repayment", "application"), [True] * 6),
        (("telematics",), [False] * 6),
        ((), [False] * 6),
    ],
)
def test_a_record_falls_into_the_trees_whose_view_it_holds(held: tuple[str, ...], places: list[bool]) -> None:
    assert MODEL.held_positions(held).tolist() == places


# --- weights from anybody -------------------------------------------------------------------------------------------


def test_the_starting_point_is_the_base_rate_and_every_bin_its_own_group() -> None:
    weights = MODEL.initial_weights()
    assert MODEL.groups(weights).tolist() == [
        *range(5),
        *range(7),
        *range(2),
        *range(4),
        *range(3),
        *range(6),
        *range(4),
    ]
    assert not MODEL.leaf_table(weights).any()
    probabilities = MODEL.probabilities(weights, codes_of(5, seed=6))
    assert probabilities == pytest.approx(np.full(5, 0.2))
    assert MODEL.base == logit(0.2)


HOSTILE = st.lists(
    st.floats(-WEIGHT_LIMIT, WEIGHT_LIMIT) | st.sampled_from([-WEIGHT_LIMIT, WEIGHT_LIMIT, -0.5, 0.5, 1e-300, 3.0]),
    min_size=BINS,
    max_size=BINS,
)


@given(HOSTILE, st.floats(-WEIGHT_LIMIT, WEIGHT_LIMIT))
def test_whatever_the_vector_holds_becomes_valid_groups_and_finite_probabilities(
    values: list[float], leaf: float
) -> None:
    # The codec lets pass what is finite and at most WEIGHT_LIMIT (messages.weights_from_bytes); nothing else arrives.
    weights = np.concatenate([np.array(values), np.full(12 * 8, leaf)])
    groups = MODEL.groups(weights)
    assert groups.shape == (BINS,)
    for (name, column), start in OFFSETS.items():
        own = groups[start : start + INPUTS[name].bins[column]]
        assert own.min() >= 0
        assert own.max() < INPUTS[name].bins[column]
    codes = codes_of(30, seed=7)
    columns = MODEL.columns(groups, codes)
    for tree in range(MODEL.trees):
        assert MODEL.leaf_of(tree, groups, columns).max() < 8
    probabilities = MODEL.probabilities(weights, codes)
    assert np.isfinite(probabilities).all()
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


def test_if_every_feature_is_one_group_all_records_fall_into_the_first_leaf() -> None:
    weights = weights_of(seed=8)
    weights[:BINS] = 0
    groups = MODEL.groups(weights)
    columns = MODEL.columns(groups, codes_of(20, seed=9))
    for tree in range(MODEL.trees):
        assert not MODEL.leaf_of(tree, groups, columns).any()


def test_groups_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        MODEL.groups(MODEL.initial_weights())[0] = 1


@pytest.mark.parametrize("held", [("application",), ("repayment",), ("application", "repayment")], ids=str)
def test_the_log_odds_are_the_base_and_one_leaf_of_every_tree_that_the_record_has(held: tuple[str, ...]) -> None:
    weights, codes = weights_of(seed=10), codes_of(25, seed=11, held=held)
    groups = MODEL.groups(weights).tolist()
    expected = []
    for row in range(25):
        record, total = {name: part[row] for name, part in codes.items()}, math.log(0.2 / 0.8)
        for tree in range(12):
            view = MODEL.view_of(tree % 6)
            if set(view) <= set(held):
                total += MODEL.leaf_table(weights)[tree, slow_leaf(7, tree, view, 3, groups, record)]
        expected.append(1 / (1 + math.exp(-total)))
    np.testing.assert_allclose(MODEL.probabilities(weights, codes), expected, rtol=1e-12)


def test_the_order_in_which_modalities_are_given_does_not_matter() -> None:
    weights, codes = weights_of(seed=12), codes_of(25, seed=13)
    turned = dict(reversed(codes.items()))
    assert MODEL.probabilities(weights, turned).tobytes() == MODEL.probabilities(weights, codes).tobytes()


def test_records_of_fewer_modalities_are_scored_by_their_own_trees() -> None:
    weights, codes = weights_of(seed=14), codes_of(40, seed=15)
    alone = {"application": codes["application"]}
    assert (MODEL.probabilities(weights, alone) != MODEL.probabilities(weights, codes)).any()


# --- the preparation ------------------------------------------------------------------------------------------------


def test_the_histogram_has_a_row_for_each_bin_of_categories_with_more_than_two() -> None:
    assert MODEL.histogram_bins == 7 + 6
    assert MODEL.histogram_places(["application", "repayment"]) == [
        ("application", 1, slice(0, 7)),
        ("repayment", 1, slice(7, 13)),
    ]
    assert MODEL.histogram_places(["repayment"]) == [("repayment", 1, slice(7, 13))]
    assert MODEL.histogram_places(["telematics"]) == []


def merged(good: list[float], bad: list[float]) -> list[int]:
    """Groups of the seven categories of the application, from noised counts."""
    histogram = np.zeros((MODEL.histogram_bins, 2))
    histogram[:7] = np.stack([good, bad], axis=1)
    return MODEL.groups(MODEL.with_histogram(MODEL.initial_weights(), histogram))[5:12].tolist()


def test_categories_are_sorted_by_their_default_rate() -> None:
    assert merged([900, 500, 700, 100, 800, 600, 300], [100, 500, 300, 900, 200, 400, 700]) == [0, 4, 2, 6, 1, 3, 5]


def test_rare_categories_count_as_average() -> None:
    # One bad record of one is no default rate of 100 %: with 50 average records it sorts between .2 and .4.
    groups = merged([800, 0, 600, 500, 300, 200, 100], [200, 1, 400, 500, 700, 800, 900])
    assert groups[0] < groups[1] < groups[4]


def test_only_the_groups_of_categories_change() -> None:
    weights = weights_of(seed=16, merged=False)
    after = MODEL.with_histogram(weights, np.random.default_rng(17).uniform(0, 100, (13, 2)))
    kept = np.ones(weights.size, dtype=bool)
    kept[5:12] = kept[21:27] = False
    assert after[kept].tolist() == weights[kept].tolist()


def test_without_a_single_record_all_categories_are_one_group() -> None:
    assert merged([0] * 7, [0] * 7) == [0] * 7
    assert merged([-5, -1, -3, 0, -2, -7, -1], [-2] * 7) == [0] * 7


def test_negative_noised_counts_are_no_records() -> None:
    noised = merged([100, -40, 80, -1, 60, 10, 5], [20, -3, 30, 50, -9, 90, 95])
    assert noised == merged([100, 0, 80, 0, 60, 10, 5], [20, 0, 30, 50, 0, 90, 95])


WIDE = {"application": ModalityShape(kind="static", bins=(41,), nominal=(True,), dense=(1,))}
WIDE_MODEL = BoostedTrees(
    WIDE, views=[("application",)], trees=1, trees_per_round=1, depth=1, structure_seed=1, base_rate=0.2
)


def wide_groups(histogram: np.ndarray) -> list[int]:
    return WIDE_MODEL.groups(WIDE_MODEL.with_histogram(WIDE_MODEL.initial_weights(), histogram)).tolist()


def test_among_many_categories_a_rare_one_disappears_in_a_group() -> None:
    # Forty categories of 2.5 % each, two to a group of 5 %; wherever the rare one sorts, it has company.
    for rare_bad in (0, 1, 2, 3):
        bad = np.append(np.linspace(5, 95, 40), rare_bad)
        good = np.append(100 - np.linspace(5, 95, 40), 3 - rare_bad)
        groups = wide_groups(np.stack([good, bad], axis=1))
        assert max(groups) == LARGEST_GROUPS - 1
        assert groups.count(groups[40]) >= 2
        assert all(1 <= groups.count(group) <= 3 for group in groups)


@given(
    st.lists(
        st.tuples(st.floats(-500, 5000), st.floats(-500, 5000)),
        min_size=41,
        max_size=41,
    )
)
def test_groups_are_whole_few_without_gaps_and_rise_with_the_smoothed_rate(counts: list[tuple[float, float]]) -> None:
    histogram = np.array(counts)
    groups = wide_groups(histogram)
    assert sorted(set(groups)) == list(range(len(set(groups))))
    assert len(set(groups)) <= LARGEST_GROUPS
    seen = np.maximum(histogram, 0)
    if seen.sum() > 0:
        average = seen[:, 1].sum() / seen.sum()
        rates = (seen[:, 1] + 50 * average) / (seen.sum(axis=1) + 50)
        ordered = [group for _, group in sorted(zip(rates.tolist(), groups, strict=True))]
        assert ordered == sorted(ordered)


# --- leaves ---------------------------------------------------------------------------------------------------------


def test_leaf_values_by_hand() -> None:
    sums = np.array([[-30.0, 10.0], [30.0, -500.0], [1000.0, 1.0], [-1000.0, 1.0], [0.0, 0.0]])
    # -G / (H + 20); negative curvature counts as zero; at most 2 in size before the learning rate.
    expected = [0.1 * 30 / 30, -0.1 * 30 / 20, -0.2, 0.2, 0.0]
    np.testing.assert_allclose(leaf_values(sums, ridge=20.0, limit=2.0, learning_rate=0.1), expected, rtol=1e-15)


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12), st.floats(1e-3, 1e6))
def test_no_sum_makes_a_leaf_larger_than_its_limit(gradient: float, curvature: float, ridge: float) -> None:
    value = leaf_values(np.array([gradient, curvature]), ridge=ridge, limit=2.0, learning_rate=0.1)
    assert abs(float(value)) <= 0.2 * (1 + 1e-15)


CLIPS_AND_GRIDS = [
    (0.8, 100),
    (0.8, 64),
    (1.0, 64),
    (0.3, 12),
    (0.05, 7),
    (1.0, 2),
    (0.01, 10_000),
    (0.55, 10),
    (0.65, 10),
]


def entries(residuals: np.ndarray, *, clip: float, grid: int) -> np.ndarray:
    """Squared norms of rounded (gradient, curvature), as ``training.tree_sums`` makes them."""
    steps = np.rint(np.clip(residuals, -clip, clip) * grid)
    curvatures = np.rint(np.abs(residuals) * (1 - np.abs(residuals)) * grid)
    return steps**2 + curvatures**2


@pytest.mark.parametrize(("clip", "grid"), CLIPS_AND_GRIDS)
def test_the_largest_entry_is_that_of_all_residuals_tried_one_by_one(clip: float, grid: int) -> None:
    residuals = np.linspace(-1, 1, 2_000_001)
    assert int(entries(residuals, clip=clip, grid=grid).max()) == largest_leaf_entry(clip=clip, grid=grid)


def test_a_curvature_on_the_edge_counts_as_rounded_up() -> None:
    # A quarter of 10 is 2.5, which rounds to 2; the bound does not rely on how ties are rounded.
    assert largest_leaf_entry(clip=0.3, grid=10) == 3**2 + 3**2
    assert int(entries(np.array([0.5]), clip=0.3, grid=10).max()) == 3**2 + 2**2


def test_the_largest_entry_of_the_default_by_hand() -> None:
    # clip .8, grid 100: at r = .795 the gradient rounds to 80 and the curvature .162975 * 100 to 16.
    assert largest_leaf_entry(clip=0.8, grid=100) == 80**2 + 16**2


@given(
    st.floats(-1, 1),
    st.floats(0.01, 1),
    st.integers(2, 10_000),
    st.sampled_from([0.0, 0.5, -0.5, 1e-15, -1e-15]),
)
def test_no_residual_has_a_larger_entry(residual: float, clip: float, grid: int, offset: float) -> None:
    # The residual itself, and its neighbours at the edges where rounding turns over.
    edge = (math.floor(residual * grid) + offset) / grid
    tried = np.clip(np.array([residual, edge, -edge, clip, -clip, 0.5, -0.5, 1.0, -1.0]), -1, 1)
    assert entries(tried, clip=clip, grid=grid).max() <= largest_leaf_entry(clip=clip, grid=grid)
