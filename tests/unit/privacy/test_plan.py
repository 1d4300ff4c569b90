"""The plan makes the releases and states what they cost; the two agree, on the safe side."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.errors import NoiseRangeError, PrivacyPlanError, UnknownMechanismError
from fedcredit.privacy.accounting import compose, epsilon_for_mu, epsilon_with_sampler, mu_for_epsilon
from fedcredit.privacy.plan import PrivacyPlan, smallest_sigma
from fedcredit.privacy.release import Mechanism


def plan(**changes: object) -> PrivacyPlan:
    fields = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "unit": "borrower",
        "steps": 30,
        "evaluation_epsilon": 0.5,
        "evaluation_steps": 1,
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "test_noise": False,
    }
    return PrivacyPlan(**{**fields, **changes})  # type: ignore[arg-type]


NO_PRIVACY = {"mechanism": Mechanism.NONE, "epsilon": math.inf, "evaluation_epsilon": math.inf}


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": math.inf},
        {"epsilon": math.nan},
        {"epsilon": 0.0},
        {"epsilon": 101.0},
        {"evaluation_epsilon": math.inf},
        {"evaluation_epsilon": 0.0},
        {"mechanism": Mechanism.NONE},
        {**NO_PRIVACY, "evaluation_epsilon": 1.0},
        {**NO_PRIVACY, "test_noise": True},
        {"delta": 0.0},
        {"delta": 0.1},
        {"delta": math.nan},
        {"steps": 0},
        {"steps": True},
        {"steps": 1_000_001},
        {"evaluation_steps": 0},
        {"evaluation_steps": True},
        {"evaluation_steps": 1.0},
        {"evaluation_steps": 1_000_001},
        {"unit": "row"},
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(PrivacyPlanError):
        plan(**changes)


def test_a_plan_with_an_unknown_mechanism_is_refused() -> None:
    with pytest.raises(UnknownMechanismError):
        plan(mechanism="laplace")


@settings(deadline=None, max_examples=60)
@given(
    epsilon=st.floats(0.05, 8),
    delta=st.sampled_from([1e-5, 1e-6, 1e-8]),
    steps=st.integers(1, 200),
    sensitivity=st.integers(1, 10**4),
)
def test_all_steps_together_cost_at_most_epsilon_and_a_smaller_sigma_would_not_do(
    epsilon: float, delta: float, steps: int, sensitivity: int
) -> None:
    private = plan(epsilon=epsilon, delta=delta, steps=steps)
    release = private.training_release(release_id="r/1/1/g", sensitivity_squared=sensitivity, dimension=320)
    spent = epsilon_with_sampler(compose([release] * steps), delta, distance=steps * release.sampler_distance)
    assert spent <= epsilon
    if release.sigma > 8:
        one_less = math.sqrt(Fraction(steps * sensitivity, (release.sigma - 1) ** 2))
        # The part of delta that pays for the sampler moves mu by less than one in a thousand here.
        assert one_less > mu_for_epsilon(epsilon, delta) * (1 - 1e-3)


def test_forty_steps_at_epsilon_one_take_the_sigma_of_the_design_page() -> None:
    # PRIVACY.md 7: epsilon 1 at delta 1e-5 is mu .2681 (four digits), so for sensitivity 1000
    # sigma = sqrt(40) * 1000 / .2681 = 23,590.
    release = plan(steps=40).training_release(release_id="r", sensitivity_squared=10**6, dimension=10)
    assert release.sigma == pytest.approx(23_590, rel=4e-4)
    assert (release.partition, release.mechanism, release.test_noise) == ("train", "rounded-gaussian", False)


def test_the_evaluation_is_one_release_on_the_hold_out_borrowers() -> None:
    release = plan().evaluation_release(release_id="r/eval", sensitivity_squared=10_000, dimension=40)
    assert release.partition == "holdout"
    assert compose([release]) == pytest.approx(mu_for_epsilon(0.5, 1e-5), rel=2e-3)
    assert epsilon_for_mu(compose([release]), 1e-5) <= 0.5


@settings(deadline=None, max_examples=30)
@given(epsilon=st.floats(0.05, 8), steps=st.integers(1, 30))
def test_all_evaluations_together_cost_at_most_their_epsilon(epsilon: float, steps: int) -> None:
    private = plan(evaluation_epsilon=epsilon, evaluation_steps=steps)
    release = private.evaluation_release(release_id="r/1/1/evaluate", sensitivity_squared=64**2, dimension=20)
    spent = epsilon_with_sampler(compose([release] * steps), 1e-5, distance=steps * release.sampler_distance)
    assert spent <= epsilon
    if release.sigma > 8:
        assert math.sqrt(Fraction(steps * 64**2, (release.sigma - 1) ** 2)) > mu_for_epsilon(epsilon, 1e-5) * (1 - 1e-3)


def test_noise_never_falls_below_the_smallest_deviation() -> None:
    assert smallest_sigma(mu=5.0, steps=1, sensitivity_squared=1) == 8


@pytest.mark.parametrize(("sensitivity_squared", "sigma"), [(100, 20), (101, 21), (99, 20), (81, 18)])
def test_the_smallest_sigma_is_exact_at_the_edge(sensitivity_squared: int, sigma: int) -> None:
    # steps 4, mu 1: sigma^2 >= 4 * sensitivity^2.
    assert smallest_sigma(mu=1.0, steps=4, sensitivity_squared=sensitivity_squared) == sigma


def test_noise_beyond_the_sampler_is_refused() -> None:
    with pytest.raises(NoiseRangeError, match="200000"):
        plan().training_release(release_id="r", sensitivity_squared=10**9, dimension=1)


def test_an_impossible_sensitivity_is_refused() -> None:
    with pytest.raises(PrivacyPlanError, match="sensitivity_squared"):
        plan().training_release(release_id="r", sensitivity_squared=0, dimension=1)


def test_more_numbers_than_the_sampler_can_serve_are_refused() -> None:
    with pytest.raises(PrivacyPlanError, match="too many"):
        plan(epsilon=40.0).training_release(release_id="r", sensitivity_squared=100, dimension=1)


def test_a_training_without_a_bound_is_released_without_noise_only() -> None:
    release = plan(**NO_PRIVACY).training_release(release_id="r", sensitivity_squared=0, dimension=3)
    assert (release.sensitivity_squared, release.protects) == (0, False)
    with pytest.raises(PrivacyPlanError, match="sensitivity_squared"):
        plan(test_noise=True).training_release(release_id="r", sensitivity_squared=0, dimension=3)


def test_without_privacy_the_release_says_so() -> None:
    release = plan(**NO_PRIVACY).training_release(release_id="r", sensitivity_squared=100, dimension=3)
    assert (release.mechanism, release.sigma, release.protects) == (Mechanism.NONE, 0, False)


def test_fixed_noise_has_the_same_size_and_marks_every_release() -> None:
    marked = plan(test_noise=True).training_release(release_id="r", sensitivity_squared=100, dimension=3)
    plain = plan().training_release(release_id="r", sensitivity_squared=100, dimension=3)
    assert marked.test_noise
    assert marked.sigma == plain.sigma


def test_the_facts_of_a_report_follow_from_the_plan() -> None:
    facts = plan().describe()
    assert facts.mu == pytest.approx(0.2681, abs=5e-5)  # PRIVACY.md 7
    assert 1.0 < facts.zcdp_epsilon < 1.12  # PRIVACY.md 7: RDP reads 8-14 % more
    assert facts.tpr_ceiling_at_fpr_1_percent == pytest.approx(0.0198, abs=5e-4)  # Phi(-2.3263 + .2681)
    assert (facts.unit, facts.neighbours, facts.steps) == ("borrower", "add-or-remove-one", 30)
    assert (facts.epsilon, facts.delta, facts.evaluation_epsilon) == (1.0, 1e-5, 0.5)
    assert facts.protects


@pytest.mark.parametrize("changes", [NO_PRIVACY, {"test_noise": True}])
def test_a_report_never_shows_a_finite_epsilon_for_a_plan_that_protects_nobody(changes: dict[str, object]) -> None:
    facts = plan(**changes).describe()
    assert facts.epsilon == facts.mu == facts.zcdp_epsilon == facts.evaluation_epsilon == math.inf
    assert facts.tpr_ceiling_at_fpr_1_percent == 1.0
    assert not facts.protects
