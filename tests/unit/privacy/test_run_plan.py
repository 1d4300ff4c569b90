"""What a run plan says about epsilon holds for every release that institutions answer, retries included."""

import math

import pytest
from consortium import NO_PRIVACY, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.privacy.accounting import compose, epsilon_with_sampler
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import privacy_plan


def spent(releases: list[Release], delta: float) -> float:
    distance = sum((release.sampler_distance for release in releases), start=releases[0].sampler_distance * 0)
    return epsilon_with_sampler(compose(releases), delta, distance=distance)


def test_every_round_and_every_retry_is_one_release() -> None:
    private = privacy_plan(plan_of(**{"run/rounds": 7, "rounds/retries": 4}))
    assert (private.steps, private.evaluation_steps) == (11, 5)
    assert (private.epsilon, private.evaluation_epsilon, private.delta) == (4.0, 1.0, 1e-5)
    assert (private.mechanism, private.test_noise) == (Mechanism.ROUNDED_GAUSSIAN, False)
    assert privacy_plan(plan_of(**{"privacy/test_noise": True})).test_noise
    off = privacy_plan(plan_of(**NO_PRIVACY))
    assert (off.mechanism, off.epsilon, off.evaluation_epsilon) == (Mechanism.NONE, math.inf, math.inf)


@settings(deadline=None, max_examples=40)
@given(
    rounds=st.integers(1, 40),
    retries=st.integers(0, 10),
    epsilon=st.floats(0.1, 8),
    evaluation_epsilon=st.floats(0.1, 4),
    sensitivity=st.integers(1, 5_000),
)
def test_all_releases_that_a_run_may_make_compose_to_at_most_the_stated_epsilon(
    rounds: int, retries: int, epsilon: float, evaluation_epsilon: float, sensitivity: int
) -> None:
    plan = plan_of(
        **{
            "run/rounds": rounds,
            "rounds/retries": retries,
            "privacy/epsilon": epsilon,
            "privacy/evaluation_epsilon": evaluation_epsilon,
        }
    )
    private = privacy_plan(plan)
    training = [
        private.training_release(release_id=f"run/{number}/1/train", sensitivity_squared=sensitivity, dimension=151)
        for number in range(rounds + retries)
    ]
    counting = [
        private.evaluation_release(release_id=f"run/1/{number}/evaluate", sensitivity_squared=64**2, dimension=20)
        for number in range(1 + retries)
    ]
    assert spent(training, plan.privacy.delta) <= epsilon
    assert spent(counting, plan.privacy.delta) <= evaluation_epsilon


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
