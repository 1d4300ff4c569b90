from __future__ import annotations

import math

import numpy as np
import pytest
from consortium import INPUTS, NO_PRIVACY, TREES, plan_of
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.errors import PrivacyPlanError, UpdateOutOfRangeError, WrongContextError
from fedcredit.parties import InstitutionId
from fedcredit.training.families import model_family
from fedcredit.training.integer_sum import IntegerSum, SumBounds
from fedcredit.training.update_bound import (
    LaneBlock,
    ReleasedSum,
    UpdateBound,
    alike,
    bound_of,
    bounded,
    clamp,
    lane_blocks,
    require_alike,
    require_in_range,
)

GRADIENT = LaneBlock(name="gradient", lanes=slice(None), signed=True)
PAIR = (
    LaneBlock(name="gradient", lanes=slice(0, None, 2), signed=True),
    LaneBlock(name="curvature", lanes=slice(1, None, 2), signed=False),
)
A, B = InstitutionId("bank-a"), InstitutionId("bank-b")
BOTH = {
    "institutions": {name: {"kind": "bank", "expected_borrowers": 400, "modalities": ["repayment"]} for name in (A, B)}
}


def ball(radius: int) -> UpdateBound:
    return UpdateBound(blocks=(GRADIENT,), radii=(radius,))


def clamped(values: list[int], bound: UpdateBound) -> list[int]:
    result: list[int] = clamp(IntegerSum(values=np.array(values, dtype=np.int64)), bound).values.tolist()
    return result


def bounds_of(lanes: int, *, sensitivity_squared: int | None = 64) -> SumBounds:
    return SumBounds(sensitivity_squared=sensitivity_squared, reached=np.ones(lanes, dtype=bool), largest_entry=8)


def two_banks(**changes: object) -> dict[InstitutionId, SumBounds]:
    return dict.fromkeys((A, B), bounds_of(4))


def test_a_sum_inside_its_bound_keeps_its_numbers() -> None:
    assert clamped([3, -4, 0, 1], ball(15)) == [3, -4, 0, 1]


def test_a_long_sum_is_scaled_onto_the_ball_and_truncated_towards_zero() -> None:
    # Norm 100 · √(4 · 25) = 1000; 300 of it are left, and no number is above its third.
    assert clamped([50, -50, 50, -50] * 25, ball(300)) == [30, -30, 30, -30] * 25
    assert clamped([51, -51, 51, -51] * 25, ball(299)) == [29, -29, 29, -29] * 25


def test_one_number_gets_a_third_of_the_radius_at_most() -> None:
    assert clamped([10**15, 1, -(10**15), 0], ball(30)) == [10, 1, -10, 0]


def test_numbers_without_sign_are_never_negative() -> None:
    assert clamped([-5, -5, 5, 5], UpdateBound(blocks=PAIR, radii=(30, 30))) == [-5, 0, 5, 5]


def test_each_block_has_its_own_ball() -> None:
    assert clamped([90, 2, -90, 3], UpdateBound(blocks=PAIR, radii=(30, 9))) == [10, 2, -10, 3]


def test_nothing_passes_a_radius_of_zero() -> None:
    assert clamped([5, -5, 0, 1], ball(0)) == [0, 0, 0, 0]


def test_the_sum_that_was_given_stays_as_it_was() -> None:
    total = IntegerSum(values=np.full(4, 100, dtype=np.int64))
    clamp(total, ball(3))
    assert total.values.tolist() == [100] * 4


@given(
    values=st.lists(st.integers(-(2**40), 2**40), min_size=12, max_size=12),
    radius=st.integers(0, 2**34),
)
def test_no_block_is_ever_longer_than_its_radius(values: list[int], radius: int) -> None:
    result = clamped(values, UpdateBound(blocks=PAIR, radii=(radius, radius // 2)))
    assert sum(value * value for value in result[0::2]) <= radius**2
    assert sum(value * value for value in result[1::2]) <= (radius // 2) ** 2
    assert min(result[1::2]) >= 0


@given(
    values=st.lists(st.integers(-60, 60), min_size=16, max_size=16),
    change=st.lists(st.integers(-4, 4), min_size=16, max_size=16),
    radii=st.tuples(st.integers(0, 90), st.integers(0, 90)),
)
def test_neighbouring_sums_stay_within_the_sensitivity_that_is_charged(
    values: list[int], change: list[int], radii: tuple[int, int]
) -> None:
    bound = UpdateBound(blocks=PAIR, radii=radii)
    moved = [value + step for value, step in zip(values, change, strict=True)]
    before = sum(step * step for step in change)
    after = sum((a - b) ** 2 for a, b in zip(clamped(values, bound), clamped(moved, bound), strict=True))
    assert after <= (bounded(bounds_of(16, sensitivity_squared=before)).sensitivity_squared or 0)


def test_projection_with_truncation_can_cost_more_than_the_sum_alone() -> None:
    """So the widening is needed: one grid step in one number moves every other."""
    assert clamped([4] * 30, ball(22)) == [4] * 30
    assert clamped([5] + [4] * 29, ball(22)) == [4] + [3] * 29


def test_the_sensitivity_of_a_bounded_sum_is_that_of_the_sum_plus_the_root_of_its_length() -> None:
    assert bounded(bounds_of(16, sensitivity_squared=81)).sensitivity_squared == (9 + 4) ** 2
    assert bounded(bounds_of(2, sensitivity_squared=50)).sensitivity_squared == 50 + 2 + 20
    assert bounded(bounds_of(3, sensitivity_squared=0)).sensitivity_squared == 3


def test_numbers_that_nobody_moves_cost_nothing() -> None:
    bounds = SumBounds(sensitivity_squared=81, reached=np.arange(64) < 16, largest_entry=9)
    assert bounded(bounds).sensitivity_squared == (9 + 4) ** 2


def test_a_training_without_a_bound_per_borrower_has_none_per_institution() -> None:
    with pytest.raises(PrivacyPlanError):
        bounded(bounds_of(4, sensitivity_squared=None))
    with pytest.raises(PrivacyPlanError):
        bound_of(
            plan_of((), **BOTH, **{"rounds/quorum": 2}),
            A,
            bounds={A: bounds_of(4, sensitivity_squared=None)},
            previous=None,
        )


def test_before_the_first_sum_the_bound_is_an_eighth_of_what_the_expected_borrowers_could_do() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    assert bound_of(plan, A, bounds=two_banks(), previous=None).radii == (400 * 8 // 8,)


def test_after_a_sum_the_bound_is_a_multiple_of_its_share_and_what_sampling_adds() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    previous = ReleasedSum(total=np.array([30, -40, 0, 0]), deviations={A: 0.0, B: 0.0})
    # 2.5 times half of a sum of norm 50; √400 borrowers of norm 8, half of that.
    assert bound_of(plan, A, bounds=two_banks(), previous=previous).radii == (math.floor(math.hypot(62.5, 80)),)


def test_the_noise_in_the_last_sum_makes_room_for_its_uncertainty_alone() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    previous = ReleasedSum(total=np.array([30, -40, 0, 0]), deviations={A: 15.0, B: 20.0})
    # 4 numbers of variance 15² + 20² make the whole of 50²; two deviations of the share's part, √8 · 25²/4, are left.
    uncertain = 2 * math.sqrt(8) * 625 / 4
    expected = math.floor(math.sqrt(2.5**2 * uncertain + 80**2))
    assert bound_of(plan, A, bounds=two_banks(), previous=previous).radii == (expected,)


def test_a_last_sum_smaller_than_its_noise_leaves_what_sampling_adds() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    previous = ReleasedSum(total=np.zeros(100, dtype=np.int64), deviations={A: 15.0, B: 20.0})
    bounds = dict.fromkeys((A, B), bounds_of(100))
    assert bound_of(plan, A, bounds=bounds, previous=previous).radii == (80,)


def test_a_share_is_counted_among_those_who_contributed() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    alone = ReleasedSum(total=np.array([30, -40, 0, 0]), deviations={A: 0.0})
    assert bound_of(plan, A, bounds=two_banks(), previous=alone).radii == (math.floor(math.hypot(125, 80)),)


def test_numbers_that_others_alone_reach_make_no_room() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    narrow = SumBounds(sensitivity_squared=64, reached=np.array([True, False, False, False]), largest_entry=8)
    previous = ReleasedSum(total=np.array([30, -40, 0, 0]), deviations={A: 0.0, B: 0.0})
    bounds = {A: narrow, B: bounds_of(4)}
    assert bound_of(plan, A, bounds=bounds, previous=previous).radii == (math.floor(math.hypot(37.5, 80)),)


def test_no_sum_however_large_lifts_the_bound_above_the_first_one() -> None:
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2})
    huge = ReleasedSum(total=np.full(4, 2**31 - 1), deviations={A: 0.0, B: 0.0})
    assert bound_of(plan, A, bounds=two_banks(), previous=huge).radii == (400,)


def test_a_sampled_step_has_the_bound_of_those_it_samples() -> None:
    sampled = {"privacy/sampling": "poisson", "privacy/sampling_rate": 0.5, "privacy/accountant": "rdp"}
    plan = plan_of((), **BOTH, **{"rounds/quorum": 2}, **sampled)
    assert bound_of(plan, A, bounds=two_banks(), previous=None).radii == (200,)


def test_trees_have_gradients_and_curvatures_in_turn() -> None:
    plan = plan_of(**NO_PRIVACY, **{**TREES, "privacy/preparation_share": 0.0})
    family = model_family(plan, INPUTS)
    bounds = {InstitutionId(name): family.bounds(plan, InstitutionId(name)) for name in plan.institutions}
    gradient, curvature = bound_of(plan, A, bounds=bounds, previous=None).radii
    assert lane_blocks(plan) == PAIR
    assert curvature in (2 * gradient, 2 * gradient + 1)


NO_NOISE = [0.0, 0.0]


def test_what_honest_members_can_send_is_in_range() -> None:
    require_in_range(np.array([10, 10, -10, 10]), round_number=1, limits=[ball(15), ball(16)], deviations=NO_NOISE)


def test_a_sum_beyond_all_bounds_together_is_refused() -> None:
    # Squared norms 1200 and 1236; 35² is 1225.
    limits = [ball(17), ball(18)]
    require_in_range(np.array([10] * 12), round_number=7, limits=limits, deviations=NO_NOISE)
    with pytest.raises(UpdateOutOfRangeError) as refused:
        require_in_range(np.array([10] * 12 + [6]), round_number=7, limits=limits, deviations=NO_NOISE)
    assert refused.value.fields == {"round": 7, "numbers": "gradient"}


@pytest.mark.parametrize("number", [11, -11])
def test_one_number_beyond_a_third_of_all_bounds_is_refused(number: int) -> None:
    with pytest.raises(UpdateOutOfRangeError, match="gradient"):
        require_in_range(np.array([number, 0, 0]), round_number=1, limits=[ball(15), ball(15)], deviations=NO_NOISE)


def test_a_sum_of_numbers_without_sign_below_zero_is_refused() -> None:
    limits = [UpdateBound(blocks=PAIR, radii=(10, 10))] * 2
    with pytest.raises(UpdateOutOfRangeError, match="curvature"):
        require_in_range(np.array([0, -1, 0, 0]), round_number=1, limits=limits, deviations=NO_NOISE)


def test_honest_noise_is_in_range_and_ten_times_as_much_is_not() -> None:
    limits, rng = [UpdateBound(blocks=PAIR, radii=(0, 0))] * 3, np.random.default_rng(5)
    noise = np.rint(rng.normal(size=(3, 2000)) * 500).astype(np.int64)
    require_in_range(noise.sum(axis=0), round_number=1, limits=limits, deviations=[500.0] * 3)
    with pytest.raises(UpdateOutOfRangeError):
        require_in_range(10 * noise.sum(axis=0), round_number=1, limits=limits, deviations=[500.0] * 3)


# --- one part for all ------------------------------------------------------------------------------------------------


def pair_of(*radii: tuple[int, int]) -> dict[InstitutionId, UpdateBound]:
    return {name: UpdateBound(blocks=PAIR, radii=radii[place]) for place, name in enumerate((A, B))}


FIRST = pair_of((1000, 80), (4000, 320))


def test_everybody_gets_the_part_of_who_needs_most() -> None:
    # A wants a quarter of its first radius and B an eighth: both get a quarter. Blocks are independent.
    assert alike(pair_of((250, 8), (500, 160)), FIRST) == pair_of((250, 40), (1000, 160))
    assert alike(FIRST, FIRST) == FIRST
    assert alike(pair_of((0, 0), (0, 0)), FIRST) == pair_of((0, 0), (0, 0))


@given(
    first=st.lists(st.integers(0, 10**9), min_size=4, max_size=4),
    shares=st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_what_everybody_gets_is_enough_for_each_and_is_taken_by_all(first: list[int], shares: list[float]) -> None:
    most = pair_of((first[0], first[1]), (first[2], first[3]))
    wanted = [int(radius * share) for radius, share in zip(first, shares, strict=True)]
    given_ = alike(pair_of((wanted[0], wanted[1]), (wanted[2], wanted[3])), most)
    flat = [radius for name in (A, B) for radius in given_[name].radii]
    assert all(low <= radius <= high for low, radius, high in zip(wanted, flat, first, strict=True))
    require_alike(given_, most)
    for name in (A, B):  # some members may be away
        require_alike({name: given_[name]}, most)


@pytest.mark.parametrize(
    "bent",
    [
        ((1000, 80), (0, 0)),  # B has no room: the sum is A's update
        ((0, 80), (4000, 320)),
        ((500, 80), (1000, 320)),
        ((1000, 80), (3999, 320)),
        ((1001, 80), (4004, 320)),
        ((1000, 40), (4000, 320)),
    ],
    ids=["others without room", "one without room", "half and quarter", "one step less", "more than all", "one block"],
)
def test_parts_that_differ_between_members_are_refused(bent: tuple[tuple[int, int], tuple[int, int]]) -> None:
    with pytest.raises(WrongContextError, match="radii"):
        require_alike(pair_of(*bent), FIRST)


def test_a_member_without_any_room_in_the_first_round_has_none_later() -> None:
    first = pair_of((0, 80), (4000, 320))
    require_alike(pair_of((0, 40), (2000, 160)), first)
    with pytest.raises(WrongContextError, match="radii"):
        require_alike(pair_of((1, 40), (2000, 160)), first)
