"""Sums of boosted trees: what one borrower can move, and that it does not matter who holds whom."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.aggregation.server_step import BoostingStep, ServerState
from fedcredit.config.plan import BoostingTraining
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.messages import COUNT_GRID
from fedcredit.model.layout import ModalityShape
from fedcredit.model.trees import BoostedTrees, largest_leaf_entry
from fedcredit.training.tree_sums import CategoryHistogram, TreeSums, histogram_bounds, tree_bounds

INPUTS = {
    "application": ModalityShape(kind="static", bins=(5, 7, 2), nominal=(False, True, True), dense=(1,)),
    "repayment": ModalityShape(kind="sequence", bins=(4, 6), nominal=(False, True), dense=(1, 1)),
    "telematics": ModalityShape(kind="static", bins=(3,), dense=(1,)),
}
HELD = (
    ("application",),
    ("repayment",),
    ("application", "repayment"),
    ("application", "telematics"),
    ("application", "repayment", "telematics"),
)
ROUNDS, PER_ROUND = 4, 10
MODEL = BoostedTrees(
    INPUTS,
    views=HELD,
    trees=ROUNDS * PER_ROUND,
    trees_per_round=PER_ROUND,
    depth=3,
    structure_seed=11,
    base_rate=0.3,
)


def training_of(*, clip: float = 0.8, grid: int = 100) -> BoostingTraining:
    return BoostingTraining(kind="dp-boosting", learning_rate=0.5, clip=clip, grid=grid, ridge=5.0, leaf_limit=2.0)


TRAINING = training_of()
STEP = BoostingStep(TRAINING, MODEL.layout, trees_per_round=PER_ROUND)


def table_of(rows: int, *, seed: int, held: tuple[str, ...] = HELD[2]) -> CreditTable:
    rng = np.random.default_rng(seed)
    codes = {
        name: np.stack([rng.integers(0, bins, size=rows) for bins in INPUTS[name].bins], axis=1).astype(np.int16)
        for name in held
    }
    risk = sum(part[:, 0] / INPUTS[name].bins[0] for name, part in codes.items()) / len(held)
    return CreditTable(
        entities=np.array([f"b{i}" for i in range(rows)], dtype=np.str_),
        labels=(risk + rng.normal(scale=0.4, size=rows) > 0.7).astype(np.int8),
        modalities={
            name: ModalityTable(codes=part, dense=np.zeros((rows, *INPUTS[name].dense), dtype=np.float32))
            for name, part in codes.items()
        },
        dropped=0,
    )


def tree_sum(
    table: CreditTable,
    weights: np.ndarray,
    *,
    round_number: int,
    training: BoostingTraining = TRAINING,
    batch: np.ndarray | None = None,
) -> np.ndarray:
    """The sum of a computation that knows nothing of earlier rounds."""
    computation = TreeSums(MODEL, table, training)
    return computation.integer_sum(weights, round_number=round_number, batch=batch).values


def counts(table: CreditTable) -> np.ndarray:
    histogram = CategoryHistogram(MODEL, table)
    return histogram.integer_sum(MODEL.initial_weights(), round_number=0, batch=None).values


def start(*, seed: int | None) -> np.ndarray:
    """The first weights: the contract's own bins, or groups from a noised histogram."""
    if seed is None:
        return MODEL.initial_weights()
    histogram = np.random.default_rng(seed).normal(30, 30, (MODEL.histogram_bins, 2))
    return MODEL.with_histogram(MODEL.initial_weights(), histogram)


def with_leaves(rounds: int, *, seed: int, scale: float = 1.0, groups: int | None = 0) -> np.ndarray:
    """Weights after some rounds, with leaves that any coordinator might send."""
    parts = {name: part.copy() for name, part in MODEL.layout.split(start(seed=groups)).items()}
    leaves = np.random.default_rng(seed).normal(scale=scale, size=parts["leaves"].shape)
    parts["leaves"][: rounds * PER_ROUND] = leaves[: rounds * PER_ROUND]
    return MODEL.layout.join(parts)


def one_by_one(table: CreditTable, weights: np.ndarray, *, round_number: int, clip: float, grid: int) -> list[int]:
    """Every borrower's entries, by the model's public parts and Python integers."""
    groups, leaves = MODEL.groups(weights), MODEL.leaf_table(weights)
    total = np.zeros((PER_ROUND, MODEL.leaves, 2), dtype=object)
    for row in range(len(table)):
        columns = MODEL.columns(groups, {name: part.codes[row : row + 1] for name, part in table.modalities.items()})
        for place in np.flatnonzero(MODEL.held_positions(table.modalities)).tolist():
            view = set(MODEL.view_of(place))
            margin = MODEL.base
            for tree in range((round_number - 1) * PER_ROUND):
                if set(MODEL.view_of(tree % PER_ROUND)) <= view:
                    margin += float(leaves[tree, MODEL.leaf_of(tree, groups, columns)[0]])
            residual = 0.5 * (1 + float(np.tanh(0.5 * margin))) - int(table.labels[row])
            leaf = int(MODEL.leaf_of((round_number - 1) * PER_ROUND + place, groups, columns)[0])
            total[place, leaf, 0] += round(max(-clip, min(clip, residual)) * grid)
            total[place, leaf, 1] += round(abs(residual) * (1 - abs(residual)) * grid)
    return [int(value) for value in total.reshape(-1)]


@pytest.mark.parametrize("held", HELD, ids=" ".join)
@pytest.mark.parametrize("round_number", [1, 3])
def test_the_sum_is_that_of_one_borrower_after_the_other(held: tuple[str, ...], round_number: int) -> None:
    table, weights = table_of(25, seed=1, held=held), with_leaves(round_number - 1, seed=2)
    ours = tree_sum(table, weights, round_number=round_number)
    assert ours.tolist() == one_by_one(table, weights, round_number=round_number, clip=0.8, grid=100)


# --- sensitivity ----------------------------------------------------------------------------------------------------

TABLES = st.builds(table_of, st.integers(1, 12), seed=st.integers(0, 2**32), held=st.sampled_from(HELD))


@settings(deadline=None)
@given(
    table=TABLES,
    seed=st.integers(0, 2**32),
    scale=st.sampled_from([0.0, 0.05, 1.0, 2.0**20]),
    round_number=st.integers(1, ROUNDS),
    clip=st.sampled_from([1.0, 0.8, 0.3, 0.01]),
    grid=st.sampled_from([2, 10, 100, 9_999]),
    data=st.data(),
)
def test_no_borrower_changes_the_sum_by_more_than_the_stated_sensitivity(
    table: CreditTable, seed: int, scale: float, round_number: int, clip: float, grid: int, data: st.DataObject
) -> None:
    training = training_of(clip=clip, grid=grid)
    # What an institution receives is at most WEIGHT_LIMIT; a hostile coordinator may choose it otherwise as it likes.
    weights = np.clip(with_leaves(round_number - 1, seed=seed, scale=scale), -(2.0**20), 2.0**20)
    bounds = tree_bounds(MODEL, training, tuple(table.modalities))
    gone = data.draw(st.integers(0, len(table) - 1))
    others = table.take(np.arange(len(table)) != gone)
    everyone = tree_sum(table, weights, round_number=round_number, training=training)
    change = everyone - tree_sum(others, weights, round_number=round_number, training=training)
    assert bounds.sensitivity_squared is not None
    assert int((change**2).sum()) <= bounds.sensitivity_squared
    assert int(np.abs(change).max()) <= bounds.largest_entry
    assert not everyone[~bounds.reached].any()


def test_the_stated_sensitivity_is_reached_so_it_cannot_be_lowered() -> None:
    # A margin with p = .795 for a good borrower: gradient 80 and curvature 16 on the grid, in every tree of the round.
    table = table_of(1, seed=3)
    table.labels[:] = 0
    weights = MODEL.initial_weights()
    target = np.log(0.795 / 0.205) - MODEL.base
    views = {MODEL.view_of(place) for place in range(PER_ROUND)}
    bounds = tree_bounds(MODEL, TRAINING, HELD[2])
    held = MODEL.held_positions(HELD[2])
    parts = {name: part.copy() for name, part in MODEL.layout.split(weights).items()}
    # In round 2 only one tree of each one-modality view has spoken, and the pair's trees have what is missing.
    spoken: dict[tuple[str, ...], float] = {}
    for view in sorted(views, key=len):
        below = sum(value for other, value in spoken.items() if set(other) < set(view))
        place = next(place for place in range(PER_ROUND) if MODEL.view_of(place) == view)
        parts["leaves"][place] = target - below
        spoken[view] = target - below
    values = tree_sum(table, MODEL.layout.join(parts), round_number=2).reshape(PER_ROUND, -1)
    assert (values**2).sum(axis=1)[held].tolist() == [80**2 + 16**2] * int(held.sum())
    assert int((values**2).sum()) == bounds.sensitivity_squared


@pytest.mark.parametrize("held", HELD, ids=" ".join)
def test_the_bounds_count_the_trees_that_a_borrower_falls_into(held: tuple[str, ...]) -> None:
    bounds = tree_bounds(MODEL, TRAINING, held)
    trees = sum(set(MODEL.view_of(place)) <= set(held) for place in range(PER_ROUND))
    assert bounds.sensitivity_squared == trees * largest_leaf_entry(clip=0.8, grid=100)
    assert bounds.reached.shape == (PER_ROUND * 8 * 2,)
    assert int(bounds.reached.sum()) == trees * 8 * 2
    assert bounds.largest_entry == 80


def test_with_a_small_clip_the_curvature_is_the_largest_entry() -> None:
    # A quarter of 102 is 25.5; the gradient ends at 10.
    assert tree_bounds(MODEL, training_of(clip=0.1, grid=102), HELD[2]).largest_entry == 26


@settings(deadline=None)
@given(TABLES, st.data())
def test_one_borrower_counts_once_per_category_in_the_histogram(table: CreditTable, data: st.DataObject) -> None:
    bounds = histogram_bounds(MODEL, tuple(table.modalities))
    gone = data.draw(st.integers(0, len(table) - 1))
    everyone = counts(table)
    change = everyone - counts(table.take(np.arange(len(table)) != gone))
    assert int((change**2).sum()) == bounds.sensitivity_squared
    assert sorted(set(change.tolist()) - {0}) in ([COUNT_GRID], [])
    assert not everyone[~bounds.reached].any()
    assert bounds.largest_entry == COUNT_GRID


def test_the_histogram_by_hand() -> None:
    table = table_of(4, seed=4, held=("application",))
    table.modalities["application"].codes[:, 1] = [6, 2, 6, 6]
    table.labels[:] = [1, 0, 0, 1]
    expected = np.zeros((MODEL.histogram_bins, 2), dtype=np.int64)
    expected[2] = [1, 0]
    expected[6] = [1, 2]
    assert counts(table).tolist() == (expected * COUNT_GRID).reshape(-1).tolist()


def test_an_institution_without_categories_reaches_nothing_in_the_histogram() -> None:
    inputs = {**INPUTS, "repayment": ModalityShape(kind="sequence", bins=(4, 6), dense=(1, 1))}
    model = BoostedTrees(inputs, views=HELD, trees=10, trees_per_round=10, depth=1, structure_seed=1, base_rate=0.3)
    bounds = histogram_bounds(model, ("repayment",))
    assert (bounds.sensitivity_squared, bounds.reached.size) == (0, 2 * 7)
    assert not bounds.reached.any()


# --- who holds whom -------------------------------------------------------------------------------------------------


def owners(table: CreditTable) -> dict[str, np.ndarray]:
    """Partitions of 3,000 borrowers among institutions, most of them far from alike."""
    rng = np.random.default_rng(5)
    return {
        "at random": rng.integers(0, 5, len(table)),
        "by outcome": table.labels.astype(np.int64),
        "by risk": table.modalities["application"].codes[:, 0].astype(np.int64),
        "by category": table.modalities["application"].codes[:, 1].astype(np.int64),
        "by place in the file": np.arange(len(table)) // 701,
        "one giant": np.minimum(np.arange(len(table)), 30),
    }


POOLED = table_of(3000, seed=6)
PARTITIONS = owners(POOLED)


@pytest.mark.parametrize("name", PARTITIONS)
@pytest.mark.parametrize("round_number", [1, 4])
def test_the_sum_is_bit_equal_for_every_partition(name: str, round_number: int) -> None:
    weights, owner = with_leaves(round_number - 1, seed=7), PARTITIONS[name]
    parts = [tree_sum(POOLED.take(owner == one), weights, round_number=round_number) for one in np.unique(owner)]
    assert np.sum(parts, axis=0).tolist() == tree_sum(POOLED, weights, round_number=round_number).tolist()


@pytest.mark.parametrize("name", PARTITIONS)
def test_the_histogram_is_bit_equal_for_every_partition(name: str) -> None:
    owner = PARTITIONS[name]
    parts = [counts(POOLED.take(owner == one)) for one in np.unique(owner)]
    assert np.sum(parts, axis=0).tolist() == counts(POOLED).tolist()


@settings(deadline=None)
@given(TABLES, st.integers(1, ROUNDS), st.data())
def test_order_and_partition_never_matter(table: CreditTable, round_number: int, data: st.DataObject) -> None:
    weights = with_leaves(round_number - 1, seed=8)
    whole = tree_sum(table, weights, round_number=round_number)
    order = np.array(data.draw(st.permutations(range(len(table)))))
    assert tree_sum(table.take(order), weights, round_number=round_number).tolist() == whole.tolist()
    owner = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(table), max_size=len(table))))
    parts = [tree_sum(table.take(owner == one), weights, round_number=round_number) for one in range(3)]
    assert np.sum(parts, axis=0).tolist() == whole.tolist()
    assert np.sum([counts(table.take(owner == one)) for one in range(3)], axis=0).tolist() == counts(table).tolist()


def trained(institutions: list[CreditTable]) -> bytes:
    """The preparation and all rounds, without noise; each institution keeps its computation from round to round."""
    weights = MODEL.with_histogram(
        MODEL.initial_weights(),
        np.sum([counts(table) for table in institutions], axis=0).reshape(-1, 2) / COUNT_GRID,
    )
    computations = [TreeSums(MODEL, table, TRAINING) for table in institutions]
    state = ServerState.initial(weights)
    for number in range(1, ROUNDS + 1):
        sums = [one.integer_sum(state.weights, round_number=number, batch=None).values for one in computations]
        state = STEP.apply(state, np.sum(sums, axis=0), [])
    return state.released().tobytes()


@pytest.mark.parametrize("name", ["by outcome", "by risk", "one giant"])
def test_a_whole_training_without_noise_is_bit_equal_to_the_centralised_one(name: str) -> None:
    owner = PARTITIONS[name]
    assert trained([POOLED.take(owner == one) for one in np.unique(owner)]) == trained([POOLED])


def test_a_whole_training_is_bit_equal_when_institutions_hold_different_modalities() -> None:
    mixed = [table_of(400, seed=seed, held=held) for seed, held in enumerate(HELD)]
    halves = [table.take(np.arange(400) % 2 == half) for table in mixed for half in (0, 1)]
    assert trained(halves) == trained(mixed)


# --- rounds ---------------------------------------------------------------------------------------------------------


def weights_of_rounds(*, groups: int | None) -> list[np.ndarray]:
    return [with_leaves(rounds, seed=9, groups=groups) for rounds in range(ROUNDS)]


@pytest.mark.parametrize("held", HELD, ids=" ".join)
@pytest.mark.parametrize("groups", [None, 3])
def test_margins_that_are_carried_on_are_bit_equal_to_fresh_ones(held: tuple[str, ...], groups: int | None) -> None:
    table = table_of(500, seed=10, held=held)
    computation = TreeSums(MODEL, table, TRAINING)
    for number, weights in enumerate(weights_of_rounds(groups=groups), start=1):
        carried = computation.integer_sum(weights, round_number=number, batch=None).values
        assert carried.tolist() == tree_sum(table, weights, round_number=number).tolist()


def test_any_order_of_rounds_and_any_change_of_weights_gives_the_sum_of_the_weights_at_hand() -> None:
    # A repeated attempt, a round that is asked again, another grouping, leaves changed behind our back.
    table = table_of(300, seed=11)
    computation = TreeSums(MODEL, table, TRAINING)
    plain, grouped = weights_of_rounds(groups=None), weights_of_rounds(groups=4)
    changed = with_leaves(3, seed=12, groups=4)
    asked = [
        (4, grouped[3]),
        (4, grouped[3]),
        (2, grouped[1]),
        (4, changed),
        (1, plain[0]),
        (3, plain[2]),
        (4, grouped[3]),
    ]
    for number, weights in asked:
        ours = computation.integer_sum(weights, round_number=number, batch=None).values
        assert ours.tolist() == tree_sum(table, weights, round_number=number).tolist()


def test_the_residuals_are_those_of_the_model_that_is_released() -> None:
    # The margin of the largest view, bit for bit, is what ``probabilities`` returns after the same rounds.
    table, weights = table_of(200, seed=13), with_leaves(3, seed=14)
    codes = {name: part.codes for name, part in table.modalities.items()}
    residuals = MODEL.probabilities(weights, codes) - table.labels
    steps = np.rint(np.clip(residuals, -0.8, 0.8) * 100)
    largest = [place for place in range(PER_ROUND) if MODEL.view_of(place) == HELD[2]]
    values = tree_sum(table, weights, round_number=4).reshape(PER_ROUND, 8, 2)
    for place in largest:
        assert int(values[place, :, 0].sum()) == int(steps.sum())


def test_what_later_rounds_hold_does_not_matter() -> None:
    table = table_of(100, seed=15)
    assert (
        tree_sum(table, with_leaves(4, seed=16), round_number=2).tolist()
        == tree_sum(table, with_leaves(1, seed=16), round_number=2).tolist()
    )


# --- batches --------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(TABLES, st.integers(1, ROUNDS), st.data())
def test_a_batch_is_the_sum_over_those_who_are_in_it(
    table: CreditTable, round_number: int, data: st.DataObject
) -> None:
    weights = with_leaves(round_number - 1, seed=17)
    batch = np.array(data.draw(st.lists(st.booleans(), min_size=len(table), max_size=len(table))))
    ours = tree_sum(table, weights, round_number=round_number, batch=batch)
    assert ours.tolist() == tree_sum(table.take(batch), weights, round_number=round_number).tolist()


def test_a_batch_leaves_no_trace_in_later_rounds() -> None:
    table, weights = table_of(80, seed=18), weights_of_rounds(groups=1)
    computation = TreeSums(MODEL, table, TRAINING)
    half = np.arange(80) % 2 == 0
    assert not computation.integer_sum(weights[0], round_number=1, batch=np.zeros(80, dtype=bool)).values.any()
    computation.integer_sum(weights[1], round_number=2, batch=half)
    ours = computation.integer_sum(weights[2], round_number=3, batch=None).values
    assert ours.tolist() == tree_sum(table, weights[2], round_number=3).tolist()


def test_nobody_gives_zeros() -> None:
    nobody = POOLED.take(np.arange(0))
    assert not tree_sum(nobody, with_leaves(2, seed=19), round_number=3).any()
    assert not counts(nobody).any()


def test_the_values_do_not_show_in_a_traceback() -> None:
    result = TreeSums(MODEL, POOLED, TRAINING).integer_sum(MODEL.initial_weights(), round_number=1, batch=None)
    assert repr(result) == f"IntegerSum(size={PER_ROUND * 8 * 2}, values hidden)"
