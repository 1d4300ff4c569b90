from __future__ import annotations

import math

import numpy as np
import pytest
from consortium import INPUTS, plan_of
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.aggregation.server_step import AveragingStep, BoostingStep, GradientStep, ServerState, server_step
from fedcredit.config.plan import BoostingTraining, GradientTraining
from fedcredit.errors import NotFiniteError
from fedcredit.messages import AVERAGING_GRID, LANE_LIMIT, WEIGHT_LIMIT
from fedcredit.model.layout import Block, ParameterLayout
from fedcredit.model.scorecard import Scorecard
from fedcredit.parties import InstitutionId

BANK, FUND = InstitutionId("bank"), InstitutionId("fund")
EXPECTED = {BANK: 100, FUND: 300}
MASKS = {BANK: np.array([True, True, False]), FUND: np.array([True, False, True])}
"""Entry 0 is shared, 1 belongs to the bank's modality, 2 to the fund's."""


def step(*, momentum: float = 0.0, average_from: float = 1.0, rounds: int = 4) -> GradientStep:
    training = GradientTraining(
        kind="dp-gradient", learning_rate=2.0, momentum=momentum, clip=0.5, grid=10, average_from=average_from
    )
    return GradientStep(training, rounds=rounds, expected=EXPECTED, masks=MASKS, input_scale=0.2)


def start(weights: list[float]) -> ServerState:
    return ServerState.initial(np.array(weights))


def sums(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def test_every_block_is_divided_by_the_borrowers_behind_it() -> None:
    # One integer is worth clip / grid * input_scale = 0.5 / 10 * 0.2 = 0.01.
    after = step().apply(start([1.0, 1.0, 1.0]), sums(4000, 1000, -6000), [BANK, FUND])
    # shared 40 / 400, the bank's 10 / 100, the fund's -60 / 300; learning rate 2.
    np.testing.assert_allclose(after.weights, [1 - 0.2, 1 - 0.2, 1 + 0.4], rtol=1e-15)
    assert after.round == 1


def test_an_institution_that_is_absent_is_not_counted_among_the_borrowers() -> None:
    after = step().apply(start([0.0, 0.0, 5.0]), sums(1000, 1000, 0), [BANK])
    np.testing.assert_allclose(after.weights, [-0.2, -0.2, 5.0], rtol=1e-15)


def test_two_rounds_of_momentum_by_hand() -> None:
    # Nesterov in the variables of the look-ahead point: v' = m v - s and w' = w + m v' - s with the step s.
    momentum = 0.5
    first = step(momentum=momentum).apply(start([0.0, 0.0, 0.0]), sums(4000, 0, 0), [BANK, FUND])
    assert first.velocity[0] == pytest.approx(-0.2)
    assert first.weights[0] == pytest.approx(0.5 * -0.2 - 0.2)
    second = step(momentum=momentum).apply(first, sums(-2000, 0, 0), [BANK, FUND])
    assert second.velocity[0] == pytest.approx(0.5 * -0.2 + 0.1)
    assert second.weights[0] == pytest.approx(-0.3 + 0.5 * 0.0 + 0.1)


def test_momentum_is_that_of_the_textbook_at_the_point_before_the_look_ahead() -> None:
    # Sutskever 2013: v' = m v - s(w + m v), w' = w + v'. Ours keeps x = w + m v.
    rng = np.random.default_rng(1)
    momentum, textbook, velocity = 0.9, 0.0, 0.0
    server, state = step(momentum=momentum), start([0.0, 0.0, 0.0])
    for _ in range(6):
        total = int(rng.integers(-5000, 5000))
        assert state.weights[0] == pytest.approx(textbook + momentum * velocity)
        velocity = momentum * velocity - 2.0 * total * 0.01 / 400
        textbook += velocity
        state = server.apply(state, sums(total, 0, 0), [BANK, FUND])
        assert state.velocity[0] == pytest.approx(velocity)


def test_a_block_that_nobody_trained_stays_as_it_is_in_spite_of_momentum() -> None:
    moving = step(momentum=0.9).apply(start([0.0, 0.0, 0.0]), sums(4000, 1000, 3000), [BANK, FUND])
    assert moving.velocity.all()
    after = step(momentum=0.9).apply(moving, sums(1000, 1000, 0), [BANK])
    assert after.weights[2] == moving.weights[2]
    assert after.velocity[2] == moving.velocity[2]
    assert after.weights[0] != moving.weights[0]


def test_the_released_model_is_the_mean_of_the_iterates_after_the_given_share() -> None:
    server, state, path = step(average_from=0.5), start([0.0, 0.0, 0.0]), []
    for total in (4000, 2000, -1000, 3000):
        state = server.apply(state, sums(total, 0, 0), [BANK, FUND])
        path.append(state.weights[0])
    assert state.averaged == 2
    assert state.released()[0] == pytest.approx((path[2] + path[3]) / 2)
    assert state.weights[0] == pytest.approx(path[3])


@pytest.mark.parametrize(("average_from", "averaged"), [(0.0, 4), (0.25, 3), (0.5, 2), (0.74, 2), (0.75, 1), (1.0, 0)])
def test_the_share_says_how_many_iterates_are_averaged(average_from: float, averaged: int) -> None:
    server, state = step(average_from=average_from), start([1.0, 1.0, 1.0])
    for _ in range(4):
        state = server.apply(state, sums(40, 10, 30), [BANK, FUND])
    assert state.averaged == averaged
    if not averaged:
        assert state.released().tolist() == state.weights.tolist()


def test_a_state_is_not_changed_by_the_step_from_it() -> None:
    state = start([1.0, 2.0, 3.0])
    step(momentum=0.5, average_from=0.0).apply(state, sums(400, 100, 300), [BANK, FUND])
    assert (state.weights.tolist(), state.velocity.tolist(), state.round) == ([1.0, 2.0, 3.0], [0.0] * 3, 0)


def test_a_model_that_is_not_finite_is_never_the_next_one() -> None:
    with pytest.raises(NotFiniteError), np.errstate(over="ignore"):
        step().apply(start([math.inf, 0.0, 0.0]), sums(0, 0, 0), [BANK, FUND])
    with pytest.raises(NotFiniteError), np.errstate(over="ignore"):
        averaging().apply(start([math.nan, 0.0, 0.0]), sums(0, 0, 0), [BANK, FUND])


@pytest.mark.parametrize("sign", [1, -1])
def test_a_model_that_institutions_would_not_open_is_never_the_next_one(sign: int) -> None:
    # One integer moves a shared weight by 2 * 0.01 / 400; at the limit is allowed, beyond it is not.
    edge = sign * WEIGHT_LIMIT
    assert step().apply(start([edge, 0.0, 0.0]), sums(0, 0, 0), [BANK, FUND]).weights[0] == edge
    with pytest.raises(NotFiniteError):
        step().apply(start([edge, 0.0, 0.0]), sums(-sign, 0, 0), [BANK, FUND])
    assert averaging().apply(start([0.0, edge, 0.0]), sums(0, 0, 0), [BANK, FUND]).weights[1] == edge
    with pytest.raises(NotFiniteError):
        averaging().apply(start([0.0, edge, 0.0]), sums(0, sign, 0), [BANK, FUND])


def averaging() -> AveragingStep:
    return AveragingStep(expected=EXPECTED, masks=MASKS)


def changes(*values: float) -> np.ndarray:
    return np.array([round(value * AVERAGING_GRID) for value in values], dtype=np.int64)


def test_averaging_adds_the_weighted_mean_of_the_changes() -> None:
    # The bank moved its entries by 1, weighted 1/4; the fund by 3, weighted 3/4.
    after = averaging().apply(start([10.0, 10.0, 10.0]), changes(0.25 + 2.25, 0.25, 2.25), [BANK, FUND])
    assert after.weights.tolist() == [10.0 + 2.5, 11.0, 13.0]
    assert after.released().tolist() == after.weights.tolist()


def test_averaging_makes_up_for_an_institution_that_is_absent() -> None:
    after = averaging().apply(start([10.0, 10.0, 10.0]), changes(2.25, 0.0, 2.25), [FUND])
    assert after.weights.tolist() == [13.0, 10.0, 13.0]


# --- the step that a plan needs -------------------------------------------------------------------------------------


def test_a_sampled_step_is_divided_by_the_expected_batch_and_never_by_the_real_one() -> None:
    layout = Scorecard(INPUTS).layout
    total = np.full(layout.size, 1000, dtype=np.int64)
    names = [InstitutionId("bank-a"), InstitutionId("bank-b")]
    moved = []
    for changes in ({}, {"privacy/accountant": "rdp", "privacy/sampling": "poisson", "privacy/sampling_rate": 0.25}):
        server = server_step(plan_of(names, **changes), layout, input_scale=0.2)
        moved.append(server.apply(ServerState.initial(np.zeros(layout.size)), total, names).weights)
    np.testing.assert_allclose(moved[1], 4 * moved[0], rtol=1e-12)
    assert (moved[0] < 0).all()


TREES = {"kind": "trees", "depth": 2, "trees_per_round": 3, "structure_seed": 7, "base_rate": 0.3}
BOOSTING = {
    "kind": "dp-boosting",
    "learning_rate": 0.5,
    "clip": 0.8,
    "grid": 10,
    "ridge": 20.0,
    "leaf_limit": 2.0,
}
FOREST = ParameterLayout(
    (Block(name="groups", shape=(5,), modality=None), Block(name="leaves", shape=(9, 4), modality=None))
)
"""Three rounds of three trees with four leaves each."""


def boosting(**changes: float) -> BoostingStep:
    return BoostingStep(BoostingTraining.model_validate({**BOOSTING, **changes}), FOREST, trees_per_round=3)


def forest() -> ServerState:
    return start([float(value) for value in range(5)] + [0.0] * 36)


def leaf_sums(*pairs: tuple[int, int]) -> np.ndarray:
    """Sums of a round: the given leaves first, the others empty."""
    filled = [*pairs, *[(0, 0)] * (12 - len(pairs))]
    return np.array(filled, dtype=np.int64).reshape(-1)


def test_leaves_are_newton_steps_by_hand() -> None:
    # On a grid of 10: G = -60, H = 10 -> 60 / (10 + 20) = 2; G = 30, H = 40 -> -30 / 60; G = 5, H = -100 -> -5 / 20.
    total = leaf_sums((-600, 100), (300, 400), (50, -1000))
    after = boosting().apply(forest(), total, [BANK])
    assert after.round == 1
    assert after.weights[:5].tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(after.weights[5:9], [0.5 * 2, 0.5 * -0.5, 0.5 * -0.25, 0.0], rtol=1e-15)
    assert not after.weights[9:].any()
    assert after.released().tolist() == after.weights.tolist()


def test_who_contributed_does_not_change_what_a_sum_means() -> None:
    total = leaf_sums((-600, 100), (300, 400))
    both, one = (boosting().apply(forest(), total, names).weights for names in ([BANK, FUND], [BANK]))
    assert both.tolist() == one.tolist()


def test_each_round_fills_the_trees_of_that_round_and_leaves_the_others() -> None:
    state = forest()
    for number, gradient in enumerate((-100, -200, -300)):
        before = state.weights.copy()
        state = boosting().apply(state, leaf_sums(*[(gradient, 0)] * 12), [BANK])
        own = slice(5 + 12 * number, 5 + 12 * (number + 1))
        np.testing.assert_allclose(state.weights[own], 0.5 * -gradient / 10 / 20)
        before[own] = state.weights[own]
        assert state.weights.tolist() == before.tolist()
    assert state.round == 3


def test_a_round_beyond_the_last_tree_and_a_sum_of_another_size_are_refused() -> None:
    finished = ServerState(round=3, weights=forest().weights, velocity=np.zeros(41), average=np.zeros(41), averaged=0)
    with pytest.raises(ValueError, match="broadcast"):
        boosting().apply(finished, leaf_sums((1, 1)), [BANK])
    for size in (23, 25, 48):
        with pytest.raises(ValueError, match="reshape"):
            boosting().apply(forest(), np.zeros(size, dtype=np.int64), [BANK])


def test_a_round_in_the_wrong_order_changes_the_model_so_evidence_would_show_it() -> None:
    first, second = leaf_sums((-100, 10)), leaf_sums((300, 50))
    right = boosting().apply(boosting().apply(forest(), first, [BANK]), second, [BANK])
    wrong = boosting().apply(boosting().apply(forest(), second, [BANK]), first, [BANK])
    assert right.weights.tolist() != wrong.weights.tolist()


@given(
    st.lists(st.integers(-LANE_LIMIT, LANE_LIMIT), min_size=24, max_size=24),
    st.sampled_from([1e-6, 1.0, 1e6]),
    st.sampled_from([0.01, 2.0, 1000.0]),
)
def test_no_noise_however_large_makes_an_unusable_model(noise: list[int], ridge: float, limit: float) -> None:
    after = boosting(ridge=ridge, leaf_limit=limit).apply(forest(), np.array(noise, dtype=np.int64), [BANK])
    assert np.abs(after.weights[5:]).max() <= 0.5 * limit * (1 + 1e-15)


def test_leaves_beyond_what_institutions_open_are_never_the_next_model() -> None:
    limit = 2 * WEIGHT_LIMIT
    at_the_edge = boosting(leaf_limit=limit).apply(forest(), leaf_sums((-LANE_LIMIT, 0)), [BANK])
    assert at_the_edge.weights[5] == WEIGHT_LIMIT
    with pytest.raises(NotFiniteError):
        boosting(leaf_limit=1.1 * limit, learning_rate=1.0).apply(forest(), leaf_sums((-LANE_LIMIT, 0)), [BANK])


def test_a_plan_of_trees_is_boosted() -> None:
    plan = plan_of(model=TREES, training=BOOSTING)
    layout = ParameterLayout(
        (Block(name="groups", shape=(2,), modality=None), Block(name="leaves", shape=(9, 4), modality=None))
    )
    server = server_step(plan, layout, input_scale=1.0)
    after = server.apply(ServerState.initial(np.zeros(38)), leaf_sums((-600, 100)), [InstitutionId("bank-a")])
    assert after.weights[2] == pytest.approx(1.0)
