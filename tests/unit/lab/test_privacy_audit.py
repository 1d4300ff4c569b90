"""The statistics of the audits: right by hand where they can be, and wrong as rarely as they say."""

import math
from itertools import starmap

import numpy as np
import pytest
from scipy import stats

from fedcredit.lab.privacy_audit import AuditResult, Observation, one_run_audit, step_audit, two_round_audit


def seen(values: object, *, known: int = 0) -> Observation:
    released = np.asarray(values, dtype=np.int64)
    return Observation(
        released=released, known=np.full(released.size, known), directions=np.eye(released.size, dtype=np.float64)
    )


def test_a_score_is_what_the_known_sum_does_not_explain_along_the_canarys_direction() -> None:
    observation = Observation(
        released=np.array([13, 24, 5]), known=np.array([10, 20, 5]), directions=np.array([[0.6, 0.8, 0.0]])
    )
    assert observation.scores.tolist() == pytest.approx([0.6 * 3 + 0.8 * 4])


def test_perfect_separation_gives_the_bound_of_clopper_and_pearson_by_hand() -> None:
    # 50 of 50 found and 0 of 50 false alarms on the second half, at 5e-4 each: p^50 = 5e-4 and (1 - q)^50 = 5e-4.
    result = step_audit(inside=[seen([1000] * 100)], outside=[seen([0] * 100)], claimed_mu=1.0, error=1e-3)
    p = 5e-4 ** (1 / 50)
    assert result.mu_lower == pytest.approx(2 * stats.norm.ppf(p))
    assert result.scores == 200
    assert result.refutes_the_claim


def test_scores_that_do_not_tell_the_sides_apart_give_zero() -> None:
    same = [seen(np.arange(40))]
    assert step_audit(inside=same, outside=same, claimed_mu=1.0, error=1e-3).mu_lower == 0


def test_the_two_round_audit_cancels_what_both_rounds_have_in_common() -> None:
    noise = np.array([512, -77, 3, 1000] * 25)
    inside, outside = (((seen(noise), seen(noise + moved)),) for moved in (5, 0))
    assert two_round_audit(inside=inside, outside=outside, claimed_mu=1.0, error=1e-3).mu_lower > 2
    assert step_audit(inside=[inside[0][1]], outside=[outside[0][1]], claimed_mu=1.0, error=1e-3).mu_lower == 0


def test_without_noise_the_one_run_bound_is_infinite_and_so_is_its_epsilon() -> None:
    result = one_run_audit([[seen([7, 7, 7, 7])], [seen([7, 7, 7, 7])]], claimed_mu=1.0, error=1e-3)
    assert result.mu_lower == result.epsilon_lower(1e-5) == math.inf


def test_the_scores_of_a_training_are_added_over_its_rounds() -> None:
    # Rounds cancel to 7 for every canary, so again nothing deviates.
    rounds = [seen([1, 2, 3, 4]), seen([6, 5, 4, 3])]
    assert one_run_audit([rounds], claimed_mu=1.0, error=1e-3).mu_lower == math.inf


def test_canaries_that_lower_the_score_say_nothing() -> None:
    assert one_run_audit([[seen([-5, -6, -7, -8])]], claimed_mu=1.0, error=1e-3).mu_lower == 0


@pytest.mark.parametrize("size", [5, 200])
def test_the_one_run_bound_solves_the_noncentral_t_equation(size: int) -> None:
    scores = np.arange(3 * size, 4 * size)
    bound = one_run_audit([[seen(scores)]], claimed_mu=1.0, error=0.01).mu_lower
    statistic = math.sqrt(size) * scores.mean() / scores.std(ddof=1)
    # The second route: scipy's own distribution, which converges at these parameters.
    assert stats.nct.sf(statistic, size - 1, math.sqrt(size) * bound) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_a_bound_is_above_the_truth_as_rarely_as_it_says(mu: float) -> None:
    # 100 tight mechanisms each at an error of 0.1. More than 22 above the truth has a chance below 1e-4.
    generator = np.random.default_rng(5)

    def draw(effect: float) -> list[Observation]:
        return [seen(np.rint(1000 * (generator.normal(size=200) + effect)))]

    trainings = [one_run_audit([draw(mu)], claimed_mu=mu, error=0.1) for _ in range(100)]
    steps = [step_audit(inside=draw(mu), outside=draw(0.0), claimed_mu=mu, error=0.1) for _ in range(100)]
    too_high = [sum(result.refutes_the_claim for result in results) for results in (trainings, steps)]
    assert max(too_high) <= 22
    assert too_high[0] >= 1  # the t bound is exact, not merely safe


def test_a_handful_of_scores_is_no_audit() -> None:
    few = [seen([1, 2, 3])]
    for refused in (
        lambda: step_audit(inside=few, outside=[seen(range(9))], claimed_mu=1.0, error=1e-3),
        lambda: step_audit(inside=[seen(range(9))], outside=few, claimed_mu=1.0, error=1e-3),
        lambda: one_run_audit([few], claimed_mu=1.0, error=1e-3),
    ):
        with pytest.raises(ValueError, match="3 scores"):
            refused()


def test_a_bound_at_the_claim_does_not_refute_it() -> None:
    results = starmap(
        lambda claimed, lower: AuditResult(audit="step", claimed_mu=claimed, mu_lower=lower, scores=9, error=1e-3),
        [(1.0, 1.0), (1.0, 1.001)],
    )
    assert [result.refutes_the_claim for result in results] == [False, True]
