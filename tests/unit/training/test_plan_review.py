"""What a plan makes everybody release, by hand, and plans that cannot keep their own claim."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from consortium import (
    CONTRACT,
    INPUTS,
    MODALITIES,
    NAMES,
    NO_PRIVACY,
    RUN,
    SECURE,
    SHARED,
    Consortium,
    Recorder,
    plan_of,
)

from fedcredit.crypto.channels import CHANNEL_OVERHEAD
from fedcredit.crypto.sealing import SEAL_OVERHEAD
from fedcredit.errors import AccountantError, ConfigValueError, DeltaTooLargeError, NoiseRangeError, PrivacyPlanError
from fedcredit.messages import COUNT_GRID, LANE_LIMIT, Purpose, answer_length
from fedcredit.model.trees import largest_leaf_entry
from fedcredit.parties import InstitutionId
from fedcredit.privacy.accounting import mu_for_epsilon
from fedcredit.privacy.cost import Cost
from fedcredit.training.plan_review import InstitutionReview, PlannedRelease, lane_limits, review_plan

TREES: dict[str, Any] = {
    "model": {"kind": "trees", "depth": 3, "trees_per_round": 6, "structure_seed": 7, "base_rate": 0.4},
    "training": {
        "kind": "dp-boosting",
        "learning_rate": 0.1,
        "clip": 0.8,
        "grid": 64,
        "ridge": 50.0,
        "leaf_limit": 2.0,
    },
    "privacy/preparation_share": 0.1,
}
FEATURES = {name: len(INPUTS[name].bins) for name in INPUTS}


def reviewed(name: str, **changes: Any) -> InstitutionReview:
    review = review_plan(plan_of(**changes), CONTRACT)
    assert [one.institution for one in review.institutions] == list(NAMES)
    return next(one for one in review.institutions if one.institution == name)


def planned(review: InstitutionReview, purpose: Purpose) -> PlannedRelease:
    return next(item for item in review.releases if item.purpose is purpose)


def sized(borrowers: int) -> dict[str, Any]:
    return {
        name: {"kind": "bank", "expected_borrowers": borrowers, "modalities": list(MODALITIES[name])} for name in NAMES
    }


def test_a_small_plan_by_hand() -> None:
    # 3 rounds and 2 retries at epsilon 4: five training sums and three evaluations.
    bank = reviewed("bank-b")
    assert [item.purpose for item in bank.releases] == [Purpose.TRAIN, Purpose.EVALUATE]
    training, counts = (planned(bank, purpose) for purpose in (Purpose.TRAIN, Purpose.EVALUATE))
    active = 2 + FEATURES["application"]
    assert training.release.sensitivity_squared == 8**2 * active
    assert training.release.dimension == 2 + sum(INPUTS["application"].bins)
    mu = mu_for_epsilon(4.0, 1e-5)
    assert training.release.sigma == pytest.approx(8 * math.sqrt(active * 5) / mu, abs=1.0)
    assert (training.at_most, counts.at_most) == (5, 3)
    assert counts.release.sensitivity_squared == COUNT_GRID**2
    assert counts.release.sigma == math.ceil(COUNT_GRID * math.sqrt(3) / mu_for_epsilon(1.0, 1e-5))
    parameters = 1 + sum(1 + sum(INPUTS[name].bins) for name in INPUTS)
    assert (training.lane_bytes, counts.lane_bytes) == (4 * parameters, 4 * 20)
    assert training.message_bytes == counts.message_bytes == answer_length(parameters)
    assert bank.evaluation_epsilon == 1.0


def test_the_stated_epsilon_is_that_of_the_releases_together() -> None:
    for name in NAMES:
        bank = reviewed(name)
        release = planned(bank, Purpose.TRAIN).release
        assert bank.epsilon == Cost.of(release).times(5).epsilon(1e-5)
        assert 3.9 < bank.epsilon <= 4.0
        assert bank.epsilon_alone == bank.epsilon


def test_the_advice_for_delta_is_a_tenth_of_one_over_n() -> None:
    review = review_plan(plan_of(institutions=sized(2_000)), CONTRACT)
    assert review.advised_delta == pytest.approx(1 / 20_000)
    assert review.facts.epsilon == 4.0


def test_a_preparation_is_one_more_release_paid_from_the_same_epsilon() -> None:
    bank = reviewed("bank-a", **TREES)
    assert [item.purpose for item in bank.releases] == [Purpose.PREPARE, Purpose.TRAIN, Purpose.EVALUATE]
    prepared, training = planned(bank, Purpose.PREPARE), planned(bank, Purpose.TRAIN)
    assert (prepared.at_most, prepared.lane_bytes) == (3, 4 * 14)
    assert (prepared.release.sensitivity_squared, prepared.release.dimension) == (COUNT_GRID**2, 14)
    assert training.release.sensitivity_squared == 6 * largest_leaf_entry(clip=0.8, grid=64)
    assert training.lane_bytes == 4 * 6 * 8 * 2
    together = Cost.of(prepared.release).times(3) + Cost.of(training.release).times(5)
    assert 3.9 < together.epsilon(1e-5) <= bank.epsilon <= 4.0


def test_an_institution_that_holds_no_category_has_nothing_to_release_beforehand() -> None:
    # The repayment has numbers only: zeros that anybody can foretell are no release.
    fund = reviewed("fund-c", **TREES)
    assert [item.purpose for item in fund.releases] == [Purpose.TRAIN, Purpose.EVALUATE]
    # With shared noise it adds its share to everybody's numbers.
    shared = reviewed("fund-c", **TREES, **SHARED)
    assert planned(shared, Purpose.PREPARE).release.dimension == 14


@pytest.mark.parametrize("changes", [{}, TREES], ids=["scorecard", "trees"])
def test_institutions_charge_what_the_review_says_and_nothing_else(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan = plan_of(**changes)
    consortium = Consortium.make(tmp_path, plan)
    run = consortium.run()
    assert len(list(run.rounds())) == 3
    for one in review_plan(plan, CONTRACT).institutions:
        site = consortium.sites[one.institution]
        expected = {item.purpose: item.release for item in one.releases if item.purpose is not Purpose.EVALUATE}
        # None of it was repeated: three rounds, and the preparation where there is something to count.
        charged = {purpose: site.state.ledger.charges(run=RUN, partition="train", kind=purpose) for purpose in Purpose}
        prepared = int(Purpose.PREPARE in expected)
        assert charged == {**dict.fromkeys(Purpose, 0), Purpose.PREPARE: prepared, Purpose.TRAIN: 3}
        times = {Purpose.PREPARE: 1, Purpose.TRAIN: 3}
        cost = Cost.total(release for purpose, release in expected.items() for _ in range(times[purpose]))
        assert site.epsilon("train") == cost.epsilon(1e-5)


def test_with_shared_noise_a_message_alone_says_much_more_and_overlaps_grow_faster() -> None:
    bank = reviewed("bank-b", **SHARED, **{"privacy/epsilon": 1.0})
    assert planned(bank, Purpose.TRAIN).release.honest_shares == 3
    assert bank.epsilon == pytest.approx(1.0, rel=2e-2)
    assert bank.epsilon_alone == pytest.approx(1.83, rel=2e-2)  # PRIVACY.md 1
    assert sorted(bank.epsilon_by_overlap) == [2, 3]
    assert bank.epsilon_by_overlap[2] == pytest.approx(2.15, rel=2e-2)  # PRIVACY.md 7
    assert bank.epsilon_by_overlap[3] == pytest.approx(3.41, rel=2e-2)
    local = reviewed("bank-b", **{"privacy/epsilon": 1.0})
    assert local.epsilon_by_overlap[2] < 1.6


def test_overlaps_are_reported_up_to_the_number_of_members() -> None:
    two = review_plan(plan_of(("bank-a", "bank-b")), CONTRACT)
    assert [sorted(one.epsilon_by_overlap) for one in two.institutions] == [[2], [2]]
    alone = review_plan(plan_of(("bank-a",)), CONTRACT)
    assert alone.institutions[0].epsilon_by_overlap == {}


def test_without_privacy_every_number_is_infinite() -> None:
    bank = reviewed("bank-a", **NO_PRIVACY)
    assert bank.epsilon == bank.epsilon_alone == bank.epsilon_by_overlap[2] == bank.evaluation_epsilon == math.inf
    marked = reviewed("bank-a", **{"privacy/test_noise": True})
    assert marked.epsilon == marked.epsilon_alone == marked.epsilon_by_overlap[3] == math.inf


# --- plans that cannot keep their claim -----------------------------------------------------------------------------


def test_numbers_that_could_leave_thirty_two_bits_are_refused() -> None:
    # Twice the borrowers with an entry of 1000 each, and 14 deviations of noise, against 2^31 - 1.
    changes = {"training/grid": 1000, "privacy/delta": 1e-8}
    sigma = planned(reviewed("bank-a", **changes), Purpose.TRAIN).release.sigma
    fits = (LANE_LIMIT - 14 * sigma) // 2000
    review_plan(plan_of(**changes, institutions=sized(fits)), CONTRACT)
    with pytest.raises(NoiseRangeError, match="32-bit") as caught:
        review_plan(plan_of(**changes, institutions=sized(fits + 1)), CONTRACT)
    assert caught.value.code == "FC-4004"


def test_counts_of_the_evaluation_that_could_leave_thirty_two_bits_are_refused() -> None:
    # With a grid of 2 the gradients of twenty million borrowers fit, 64 steps per counted one do not.
    changes = {"training/grid": 2, "privacy/delta": 1e-8, "institutions": sized(20_000_000)}
    with pytest.raises(NoiseRangeError, match="32-bit"):
        review_plan(plan_of(**changes), CONTRACT)


def test_a_histogram_that_could_leave_thirty_two_bits_is_refused() -> None:
    tiny = {**TREES["training"], "grid": 2}
    changes = {**TREES, "training": tiny, "privacy/delta": 1e-8, "institutions": sized(20_000_000)}
    with pytest.raises(NoiseRangeError, match="32-bit"):
        review_plan(plan_of(**changes), CONTRACT)


def narrow(**changes: Any) -> dict[str, Any]:
    return {
        **SECURE,
        "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 16, "update_bound": "none"},
        **changes,
    }


@pytest.mark.parametrize("bits", [16, 32])
def test_under_masks_all_members_numbers_together_have_to_fit(bits: int) -> None:
    # Counts of twice the borrowers in steps of 64 and 14 deviations of noise, four times, against half of 2^bits.
    secure = {
        **SECURE,
        "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": bits, "update_bound": "none"},
        "training/grid": 2,
    }
    if bits == 32:
        secure["privacy/delta"] = 1e-8
    else:
        secure["privacy/evaluation_epsilon"] = 4.0
    sigma = planned(reviewed("bank-a", **secure), Purpose.EVALUATE).release.sigma
    fits = int(((2 ** (bits - 1) - 1) / 4 - 14 * sigma) // (2 * COUNT_GRID))
    assert fits > 40
    review_plan(plan_of(**secure, institutions=sized(fits)), CONTRACT)
    with pytest.raises(NoiseRangeError, match=f"{bits}-bit numbers end at {2 ** (bits - 1) - 1}") as caught:
        review_plan(plan_of(**secure, institutions=sized(fits + 1)), CONTRACT)
    assert caught.value.code == "FC-4004"
    # The same members one by one fit: it is their sum that does not.
    opened = {key: value for key, value in secure.items() if key != "aggregation"}
    review_plan(plan_of(**opened, institutions=sized(fits + 1)), CONTRACT)


@pytest.mark.parametrize("changes", [SECURE, narrow(**{"privacy/evaluation_epsilon": 4.0}), {**TREES, **SHARED}])
def test_what_members_may_send_adds_up_to_what_the_lanes_hold(changes: dict[str, Any]) -> None:
    plan = plan_of(**changes)
    assert plan.secure is not None
    limits = [lane_limits(plan, CONTRACT, InstitutionId(name)) for name in NAMES]
    released = {Purpose.TRAIN, Purpose.EVALUATE, *([Purpose.PREPARE] if plan.privacy.preparation_share else [])}
    for purpose in Purpose:
        together = sum(limit[purpose] for limit in limits)
        assert (together > 0) is (purpose in released)
        assert together <= 2 ** (plan.secure.lane_bits - 1) - 1
    for one, own in zip(review_plan(plan, CONTRACT).institutions, limits, strict=True):
        assert {item.purpose: item.largest for item in one.releases}.items() <= own.items()


def test_a_member_with_nothing_to_count_has_no_part_in_the_room_either() -> None:
    plan = plan_of(**TREES, **SECURE)
    assert lane_limits(plan, CONTRACT, InstitutionId("fund-c"))[Purpose.PREPARE] == 0.0
    assert lane_limits(plan, CONTRACT, InstitutionId("bank-a"))[Purpose.PREPARE] > 0.0


@pytest.mark.parametrize("changes", [NO_PRIVACY, {"privacy/test_noise": True}], ids=["none", "repeatable noise"])
def test_without_a_bound_every_member_gets_an_equal_part_of_the_room(changes: dict[str, Any]) -> None:
    limits = [lane_limits(plan_of(**SECURE, **changes), CONTRACT, InstitutionId(name)) for name in NAMES]
    assert limits == [dict.fromkeys(Purpose, float((2**31 - 1) // 4))] * 4


def test_without_masks_a_message_has_its_lanes_for_itself() -> None:
    assert lane_limits(plan_of(), CONTRACT, InstitutionId("bank-a")) == dict.fromkeys(Purpose, float(LANE_LIMIT))


@pytest.mark.parametrize("changes", [{}, SECURE, {**TREES, **SECURE}], ids=["open", "secure", "secure trees"])
def test_messages_leave_with_the_stated_length(tmp_path: Path, changes: dict[str, Any]) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**changes))
    recorder = Recorder(consortium.loopback())
    run = consortium.run(recorder)
    assert len(list(run.rounds())) == 3
    run.evaluate()
    overhead = CHANNEL_OVERHEAD if consortium.plan.secure else SEAL_OVERHEAD
    for one in review_plan(consortium.plan, CONTRACT).institutions:
        lengths = Counter(
            len(reply.payload or b"") for reply in recorder.replies if reply.institution == one.institution
        )
        for item in one.releases:
            assert lengths[item.message_bytes + overhead] >= {Purpose.TRAIN: 3}.get(item.purpose, 1), item.purpose


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"privacy/delta": 0.0009, "institutions": sized(2_000)}, DeltaTooLargeError),
        ({"privacy/mechanism": "skellam"}, AccountantError),
        ({"training/grid": 1_000_000}, NoiseRangeError),
        ({"training/clip": 2.0}, ConfigValueError),
        ({"privacy/epsilon": 1e-7}, PrivacyPlanError),
        ({"privacy/epsilon": 200.0}, PrivacyPlanError),
    ],
)
def test_a_plan_that_cannot_hold_is_refused_before_anybody_agrees(changes: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        review_plan(plan_of(**changes), CONTRACT)


def test_training_without_a_bound_is_reviewed_without_privacy_only() -> None:
    averaging = {
        "aggregation/update_bound": "none",
        "model": {"kind": "logistic", "base_rate": 0.4},
        "training": {"kind": "fedavg", "learning_rate": 0.1, "local_epochs": 1, "batch_size": 8, "seed": 1},
    }
    assert reviewed("bank-a", **averaging, **NO_PRIVACY).epsilon == math.inf
