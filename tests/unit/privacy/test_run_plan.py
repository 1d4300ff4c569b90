"""What a run plan says about epsilon holds for every release that institutions answer, retries included."""

import math
from typing import Any

import pytest
from consortium import NO_PRIVACY, SHARED, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import AccountantError, DeltaTooLargeError
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import Mechanism
from fedcredit.privacy.run_plan import advised_delta, privacy_plan

TREES: dict[str, Any] = {
    "model": {"kind": "trees", "depth": 3, "trees_per_round": 6, "structure_seed": 7, "base_rate": 0.3},
    "training": {
        "kind": "dp-boosting",
        "learning_rate": 0.1,
        "clip": 0.8,
        "grid": 64,
        "ridge": 50.0,
        "leaf_limit": 2.0,
    },
}
SAMPLED: dict[str, Any] = {
    "privacy/accountant": "rdp",
    "privacy/sampling": "poisson",
    "privacy/sampling_rate": 0.25,
}


def test_every_round_and_every_retry_is_one_release() -> None:
    private = privacy_plan(plan_of(**{"run/rounds": 7, "rounds/retries": 4}))
    assert (private.steps, private.preparation_steps, private.evaluation_steps) == (11, 5, 5)
    assert (private.epsilon, private.evaluation_epsilon, private.delta) == (4.0, 1.0, 1e-5)
    assert (private.mechanism, private.accountant, private.test_noise) == (Mechanism.ROUNDED_GAUSSIAN, "gdp", False)
    assert (private.honest_shares, private.sampled_per_million, private.preparation_share) == (1, 1_000_000, 0.0)
    assert privacy_plan(plan_of(**{"privacy/test_noise": True})).test_noise
    off = privacy_plan(plan_of(**NO_PRIVACY))
    assert (off.mechanism, off.epsilon, off.evaluation_epsilon) == (Mechanism.NONE, math.inf, math.inf)


def test_what_the_plan_decides_about_noise_and_batches_is_taken_over() -> None:
    shared = privacy_plan(plan_of(**SHARED, **TREES, **{"privacy/preparation_share": 0.2}))
    assert (shared.honest_shares, shared.preparation_share) == (3, 0.2)
    sampled = privacy_plan(plan_of(**SAMPLED))
    assert (sampled.sampled_per_million, sampled.accountant) == (250_000, "rdp")


@pytest.mark.parametrize(
    "changes",
    [
        {"privacy/mechanism": "skellam"},
        {"privacy/mechanism": "discrete-gaussian"},
        {**SAMPLED, "privacy/accountant": "gdp"},
        {"privacy/accountant": "none"},
    ],
)
def test_a_plan_whose_accountant_does_not_fit_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(AccountantError):
        privacy_plan(plan_of(**changes))


@settings(deadline=None, max_examples=40)
@given(
    rounds=st.integers(1, 40),
    retries=st.integers(0, 10),
    epsilon=st.floats(0.1, 8),
    evaluation_epsilon=st.floats(0.1, 4),
    sensitivity=st.integers(1, 5_000),
    kind=st.sampled_from([{}, TREES, {**TREES, **SHARED}, SHARED]),
)
def test_all_releases_that_a_run_may_make_compose_to_at_most_the_stated_epsilon(
    rounds: int, retries: int, epsilon: float, evaluation_epsilon: float, sensitivity: int, kind: dict[str, Any]
) -> None:
    plan = plan_of(
        **kind,
        **{
            "run/rounds": rounds,
            "rounds/retries": retries,
            "privacy/epsilon": epsilon,
            "privacy/evaluation_epsilon": evaluation_epsilon,
            "privacy/preparation_share": 0.2 if "model" in kind else 0.0,
        },
    )
    private = privacy_plan(plan)
    training = [
        private.training_release(release_id=f"run/{number}/1/train", sensitivity_squared=sensitivity, dimension=151)
        for number in range(rounds + retries)
    ]
    if "model" in kind:
        training += [
            private.preparation_release(release_id=f"run/1/{number}/prepare", sensitivity_squared=4096, dimension=60)
            for number in range(1 + retries)
        ]
    counting = [
        private.evaluation_release(release_id=f"run/1/{number}/evaluate", sensitivity_squared=64**2, dimension=20)
        for number in range(1 + retries)
    ]
    assert Cost.total(training).epsilon(plan.privacy.delta) <= epsilon
    assert Cost.total(counting).epsilon(plan.privacy.delta) <= evaluation_epsilon


@pytest.mark.parametrize("retries", [1, 5])
def test_retries_are_paid_for_with_more_noise_and_not_with_more_epsilon(retries: int) -> None:
    def noise(plan_retries: int) -> tuple[int, int]:
        private = privacy_plan(plan_of(**{"rounds/retries": plan_retries}))
        training = private.training_release(release_id="r/1/1/train", sensitivity_squared=10**6, dimension=1)
        counting = private.evaluation_release(release_id="r/1/1/evaluate", sensitivity_squared=10**6, dimension=1)
        return training.sigma, counting.sigma

    without, with_retries = noise(0), noise(retries)
    assert with_retries[0] / without[0] == pytest.approx(math.sqrt((3 + retries) / 3), rel=2e-3)
    assert with_retries[1] / without[1] == pytest.approx(math.sqrt(1 + retries), rel=2e-3)


def sizes(*borrowers: int) -> dict[str, Any]:
    return {
        f"bank-{number}": {"kind": "bank", "expected_borrowers": count, "modalities": ["application"]}
        for number, count in enumerate(borrowers)
    }


def test_a_delta_above_one_over_n_of_the_largest_institution_is_refused() -> None:
    # 1 / 2000 = 5e-4; the smaller bank alone could live with it.
    changes = {"institutions": sizes(100, 2000), "rounds/quorum": 2}
    assert privacy_plan(plan_of(**changes, **{"privacy/delta": 5e-4})).delta == 5e-4
    with pytest.raises(DeltaTooLargeError) as caught:
        privacy_plan(plan_of(**changes, **{"privacy/delta": 5.000001e-4}))
    assert caught.value.fields == {
        "delta": 5.000001e-4,
        "largest": 1 / 2000,
        "institution": "bank-1",
        "advised": pytest.approx(5e-5),
    }


def test_the_delta_rule_holds_for_plans_without_privacy_too() -> None:
    with pytest.raises(DeltaTooLargeError):
        privacy_plan(plan_of(**NO_PRIVACY, **{"institutions": sizes(200_000), "rounds/quorum": 1}))


def test_the_advice_is_a_tenth_of_one_over_n() -> None:
    assert advised_delta(plan_of(**{"institutions": sizes(86_853, 10), "rounds/quorum": 1})) == pytest.approx(
        1.15e-6, rel=2e-3
    )
