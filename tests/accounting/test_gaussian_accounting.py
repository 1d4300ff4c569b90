"""Our epsilon against an independent formula at 50 digits, against opacus, and against dp_accounting's composition."""

import math
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import GaussianAccountant, PRVAccountant, RDPAccountant
from opacus.accountants.analysis import gdp

from fedcredit.errors import PrivacyPlanError
from fedcredit.privacy.accounting import (
    delta_for,
    epsilon_for_mu,
    epsilon_with_sampler,
    mu_for_epsilon,
    mu_within,
    root_up,
    tpr_ceiling,
)
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.noise import RoundedGaussian
from fedcredit.privacy.release import SAMPLER_DISTANCE_BITS, Mechanism, Release
from fedcredit.privacy.renyi import epsilon_from_rdp, gaussian_rdp

MUS = (0.05, 0.1422, 0.2681, 0.7191, 1.666, 4.0)
DELTAS = (1e-5, 1e-6, 1e-9)


def exact_delta(mu: float, epsilon: float) -> mpmath.mpf:
    """Balle and Wang 2018, equation 6, in mpmath: no code shared with dp_accounting or scipy."""
    mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
    return mpmath.ncdf(mu / 2 - epsilon / mu) - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)


def exact_epsilon(mu: float, delta: float) -> float:
    """Bisect ``exact_delta``, which falls in epsilon."""
    with mpmath.workdps(50):
        low, high = mpmath.mpf(0), mpmath.mpf(64)
        for _ in range(120):
            middle = (low + high) / 2
            low, high = (middle, high) if exact_delta(mu, middle) > delta else (low, middle)
        return float(high)


def release(*, sensitivity_squared: int, sigma: int, test_noise: bool = False) -> Release:
    return Release(
        release_id="r",
        partition="train",
        purpose="a sum",
        mechanism=Mechanism.ROUNDED_GAUSSIAN,
        unit="borrower",
        neighbours="add-or-remove-one",
        sensitivity_squared=sensitivity_squared,
        sigma=sigma,
        dimension=1,
        honest_shares=1,
        sampled_per_million=1_000_000,
        test_noise=test_noise,
    )


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("mu", MUS)
def test_epsilon_agrees_with_the_independent_formula_and_is_never_below_it(mu: float, delta: float) -> None:
    truth = exact_epsilon(mu, delta)
    assert truth <= epsilon_for_mu(mu, delta) <= truth + 1e-6


@settings(deadline=None)
@given(mu=st.floats(1e-6, 40.0), exponent=st.floats(-15.0, -2.0))
def test_epsilon_is_that_of_dp_accounting_whose_formula_it_shares(mu: float, exponent: float) -> None:
    with np.errstate(divide="ignore"):
        theirs = float(get_epsilon_gaussian(1 / mu, 10.0**exponent))
    # Both root finders stop at 1e-12; the margin on top is the same for all.
    assert epsilon_for_mu(mu, 10.0**exponent) - 1e-9 == pytest.approx(theirs, rel=1e-12, abs=1e-11)


@pytest.mark.parametrize("mu", [1e-3, 1e-4, 1 / 15_739, 1e-5, 1e-8, 1e-12])
def test_a_tiny_cost_is_still_above_the_independent_formula_and_warns_of_nothing(mu: float) -> None:
    truth = exact_epsilon(mu, 1e-5)
    assert truth <= epsilon_for_mu(mu, 1e-5) <= truth + 1e-6


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0, 3.0, 8.0])
@pytest.mark.parametrize("mu", MUS)
def test_delta_agrees_with_the_independent_formula(mu: float, epsilon: float) -> None:
    with mpmath.workdps(50):
        assert delta_for(mu, epsilon) == pytest.approx(float(exact_delta(mu, epsilon)), rel=1e-9, abs=1e-14)


@pytest.mark.parametrize(("epsilon", "mu"), [(0.5, 0.1422), (1.0, 0.2681), (3.0, 0.7191), (8.0, 1.6660)])
def test_calibration_gives_the_table_of_the_design_page(epsilon: float, mu: float) -> None:
    assert mu_for_epsilon(epsilon, 1e-5) == pytest.approx(mu, abs=5e-5)


@settings(max_examples=150, deadline=None)
@given(epsilon=st.floats(1e-3, 20), exponent=st.floats(-12, -3))
def test_calibration_never_gives_less_privacy_than_asked_and_wastes_nothing(epsilon: float, exponent: float) -> None:
    delta = 10.0**exponent
    mu = mu_for_epsilon(epsilon, delta)
    assert epsilon_for_mu(mu * (1 + 2.0**-50), delta) <= epsilon
    assert epsilon_for_mu(mu, delta) == pytest.approx(epsilon, abs=2e-8)


@pytest.mark.parametrize("mu", MUS)
def test_the_second_route_is_above_the_first_by_at_most_a_sixth(mu: float) -> None:
    for delta in DELTAS:
        assert 1.0 < epsilon_from_rdp(gaussian_rdp(mu * mu), delta) / epsilon_for_mu(mu, delta) < 1.17


# --- opacus ---------------------------------------------------------------------------------------------------------

GRID = ((20, 60.0), (40, 149.2), (40, 55.6), (100, 24.0))


@pytest.mark.parametrize("mu", MUS)
def test_opacus_converts_mu_to_the_same_epsilon(mu: float) -> None:
    assert epsilon_for_mu(mu, 1e-5) == pytest.approx(gdp.eps_from_mu(mu=mu, delta=1e-5), abs=1e-6)


@pytest.mark.parametrize(("steps", "noise_multiplier"), GRID)
def test_opacus_clt_accountant_agrees_where_nothing_is_subsampled(steps: int, noise_multiplier: float) -> None:
    with pytest.warns(UserWarning, match="experimental"):
        accountant = GaussianAccountant()
    accountant.history = [(noise_multiplier, 1.0, steps)]
    ours = epsilon_for_mu(math.sqrt(steps) / noise_multiplier, 1e-5)
    # Its mu is sqrt(exp(1/sigma^2) - 1) per step: above ours by about 1/(4 sigma^2), relatively.
    assert ours - 1e-6 <= accountant.get_epsilon(delta=1e-5) <= ours * (1 + 1 / noise_multiplier**2)


@pytest.mark.parametrize(("steps", "noise_multiplier"), GRID)
def test_opacus_rdp_is_an_upper_bound_within_a_sixth(steps: int, noise_multiplier: float) -> None:
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, 1.0, steps)]
    ours = epsilon_for_mu(math.sqrt(steps) / noise_multiplier, 1e-5)
    alphas = np.geomspace(1.01, 500, 400)
    assert ours < accountant.get_epsilon(delta=1e-5, alphas=alphas) < ours * 1.17


# Both warnings come from inside opacus: PRV asks its RDP at tiny deltas, where the fixed list of orders ends (which
# only widens the range that PRV works on), and takes the logarithm of 1 - q = 0.
@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha", "ignore:divide by zero encountered in log")
@pytest.mark.parametrize(("steps", "noise_multiplier"), GRID)
def test_opacus_prv_agrees_up_to_its_own_error(steps: int, noise_multiplier: float) -> None:
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, 1.0, steps)]
    ours = epsilon_for_mu(math.sqrt(steps) / noise_multiplier, 1e-5)
    # PRIVACY.md 6.7: PRV adds its eps_error of .01 on top.
    assert ours - 1e-3 < accountant.get_epsilon(delta=1e-5) < ours + 0.021


# --- composition ----------------------------------------------------------------------------------------------------


def test_releases_add_up_as_squares() -> None:
    releases = [release(sensitivity_squared=9, sigma=10), release(sensitivity_squared=16, sigma=10)]
    assert Cost.total(releases).mu == pytest.approx(0.5, rel=1e-14)
    assert Cost.total([]).mu == 0.0


def test_forty_distinct_releases_cost_what_a_privacy_loss_distribution_says() -> None:
    from dp_accounting import GaussianDpEvent
    from dp_accounting.pld import PLDAccountant

    releases = [release(sensitivity_squared=100, sigma=200 + 7 * k) for k in range(40)]
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for one in releases:
        accountant.compose(GaussianDpEvent(one.sigma / 10))
    ours = epsilon_for_mu(Cost.total(releases).mu, 1e-5)
    assert ours == pytest.approx(accountant.get_epsilon(1e-5), rel=2e-3)
    assert ours <= accountant.get_epsilon(1e-5) + 1e-6


def test_no_number_bounds_what_one_unprotected_release_costs() -> None:
    releases = [release(sensitivity_squared=1, sigma=10), release(sensitivity_squared=1, sigma=10, test_noise=True)]
    with pytest.raises(PrivacyPlanError, match="unbounded"):
        Cost.total(releases)
    assert epsilon_for_mu(math.inf, 1e-5) == math.inf
    assert delta_for(math.inf, 3.0) == 1.0


def test_nothing_released_costs_nothing() -> None:
    assert epsilon_for_mu(0.0, 1e-5) == delta_for(0.0, 0.0) == 0.0
    assert epsilon_with_sampler(0.0, 1e-5, distance=Fraction(0)) == 0.0


@given(st.fractions(min_value=Fraction(1, 10**12), max_value=10**6))
def test_the_root_of_a_sum_of_squares_is_rounded_up(total: Fraction) -> None:
    root = root_up(total)
    assert Fraction(root) ** 2 >= total
    assert Fraction(root) ** 2 <= total * (1 + Fraction(1, 2**48))


# --- the sampler's distance -----------------------------------------------------------------------------------------


def test_a_perfect_sampler_adds_nothing_to_epsilon() -> None:
    assert epsilon_with_sampler(0.5, 1e-5, distance=Fraction(0)) == pytest.approx(epsilon_for_mu(0.5, 1e-5), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(mu=st.floats(0.05, 2), exponent=st.integers(-60, -20))
def test_the_sampler_is_paid_for_inside_delta(mu: float, exponent: int) -> None:
    distance = Fraction(1, 2**-exponent)
    epsilon = epsilon_with_sampler(mu, 1e-5, distance=distance)
    assert epsilon >= epsilon_for_mu(mu, 1e-5)
    if math.isfinite(epsilon):
        with mpmath.workdps(50):
            assert exact_delta(mu, epsilon) + (1 + mpmath.exp(epsilon)) * float(distance) <= mpmath.mpf(1e-5)


@pytest.mark.parametrize(("mu", "distance"), [(0.5, Fraction(1, 10**5)), (0.5, Fraction(1, 2)), (45.0, Fraction(0))])
def test_a_sampler_that_uses_up_delta_makes_epsilon_infinite(mu: float, distance: Fraction) -> None:
    assert epsilon_with_sampler(mu, 1e-5, distance=distance) == math.inf


def test_a_realistic_run_pays_less_than_a_millionth_for_the_sampler() -> None:
    distance = Fraction(320 * 30, 2**64)
    assert epsilon_with_sampler(0.2681, 1e-5, distance=distance) < epsilon_for_mu(0.2681, 1e-5) + 1e-6


def test_calibration_with_the_sampler_stays_within_epsilon() -> None:
    numbers = 10**9
    mu = mu_within(3.0, 1e-6, numbers=numbers)
    assert mu < mu_for_epsilon(3.0, 1e-6)
    assert epsilon_with_sampler(mu, 1e-6, distance=Fraction(numbers, 2**-SAMPLER_DISTANCE_BITS)) <= 3.0
    with pytest.raises(PrivacyPlanError, match="too many"):
        mu_within(3.0, 1e-6, numbers=10**13)


# --- the proof, in numbers ------------------------------------------------------------------------------------------


def hockey_stick(sigma: int, *, shift: int, epsilon: float) -> float:
    """delta of the integer mechanism in one dimension, from the table that is really drawn from."""
    law = RoundedGaussian(sigma)
    weights = [0] * law.thresholds.size
    for column, (threshold, alias) in enumerate(zip(law.thresholds.tolist(), law.aliases.tolist(), strict=True)):
        weights[column] += threshold
        weights[alias] += 2**64 - threshold
    half = np.array([Fraction(w, 2**65 * len(weights)) for w in weights[1:]], dtype=np.float64)
    law_at_zero = np.concatenate([half[::-1], [weights[0] / (2**64 * len(weights))], half])
    padding = np.zeros(shift)
    here, shifted = np.concatenate([law_at_zero, padding]), np.concatenate([padding, law_at_zero])
    return float(np.maximum(shifted - math.exp(epsilon) * here, 0).sum())


@pytest.mark.parametrize(("sigma", "shift"), [(8, 1), (8, 4), (8, 8), (20, 9), (100, 27), (100, 150)])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.5, 1.0, 3.0])
def test_the_integer_mechanism_is_never_easier_to_distinguish_than_the_gaussian(
    sigma: int, shift: int, epsilon: float
) -> None:
    integer, gaussian = hockey_stick(sigma, shift=shift, epsilon=epsilon), delta_for(shift / sigma, epsilon)
    allowed = gaussian + (1 + math.exp(epsilon)) * 2.0**-64
    assert integer <= allowed * (1 + 1e-9) + 1e-17
    if gaussian > 1e-9:
        assert integer > 0.85 * gaussian  # the comparison is not vacuous: rounding costs the attacker little


def test_halved_noise_would_break_that_comparison() -> None:
    assert hockey_stick(50, shift=27, epsilon=0.5) > 2 * delta_for(27 / 100, 0.5)


# --- edges ----------------------------------------------------------------------------------------------------------


def test_the_ceiling_of_membership_tests_follows_the_trade_off_curve() -> None:
    assert tpr_ceiling(0.0, 0.01) == pytest.approx(0.01, rel=1e-12)
    assert tpr_ceiling(1.0, 0.5) == pytest.approx(0.8413447460685429, rel=1e-12)  # Phi(1)
    assert tpr_ceiling(math.inf, 0.01) == 1.0


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (epsilon_for_mu, (-1.0, 1e-5)),
        (epsilon_for_mu, (math.nan, 1e-5)),
        (epsilon_for_mu, (1.0, 0.0)),
        (epsilon_for_mu, (1.0, 0.5)),
        (mu_for_epsilon, (0.0, 1e-5)),
        (mu_for_epsilon, (math.inf, 1e-5)),
        (mu_for_epsilon, (1.0, math.nan)),
        (delta_for, (1.0, -1.0)),
        (delta_for, (1.0, math.nan)),
        (tpr_ceiling, (1.0, 0.0)),
        (tpr_ceiling, (1.0, 1.0)),
    ],
)
def test_a_question_without_an_answer_is_refused(function: object, arguments: tuple[float, float]) -> None:
    with pytest.raises(PrivacyPlanError):
        function(*arguments)  # type: ignore[operator]


def test_importing_the_ledger_and_the_plan_does_not_load_scipy() -> None:
    code = (
        "import sys, fedcredit.privacy.plan, fedcredit.privacy.ledger, fedcredit.privacy.noise_share;"
        "sys.exit(sum(name in sys.modules for name in ('scipy', 'dp_accounting')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
