"""Costs add up exactly where they can, and never below the truth elsewhere.

The truth is another implementation: the Gaussian formula in mpmath, dp_accounting's privacy-loss distributions, opacus.
"""

import itertools
import math
from fractions import Fraction
from statistics import NormalDist

import mpmath
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import GaussianAccountant, RDPAccountant

from fedcredit.errors import PrivacyPlanError
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.renyi import ORDERS

FULL = 1_000_000


def release(**changes: object) -> Release:
    fields = {
        "release_id": "r",
        "partition": "train",
        "purpose": "a sum",
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "sensitivity_squared": 100**2,
        "sigma": 1000,
        "dimension": 300,
        "honest_shares": 1,
        "sampled_per_million": FULL,
        "test_noise": False,
    }
    return Release(**{**fields, **changes})  # type: ignore[arg-type]


def gdp_epsilon(mu: float, delta: float) -> float:
    """Invert Dong, Roth, Su 2022, corollary 2.13, at 40 digits; shares no code with ``accounting``."""
    with mpmath.workdps(40):
        mu, low, high = mpmath.mpf(mu), mpmath.mpf(0), mpmath.mpf(200)
        for _ in range(150):
            middle = (low + high) / 2
            here = mpmath.ncdf(mu / 2 - middle / mu) - mpmath.exp(middle) * mpmath.ncdf(-mu / 2 - middle / mu)
            low, high = (middle, high) if here > delta else (low, middle)
        return float(high)


def sampled(sigma: int = 1000, *, sensitivity: int = 1000, per_million: int = 50_000) -> Release:
    return release(sigma=sigma, sensitivity_squared=sensitivity**2, sampled_per_million=per_million)


# --- Gaussian releases ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-5, 1e-6, 1e-8])
@pytest.mark.parametrize("steps", [1, 12, 400])
@pytest.mark.parametrize("shares", [1, 3, 5])
def test_gaussian_releases_cost_what_an_independent_formula_says(steps: int, shares: int, delta: float) -> None:
    cost = Cost.of(release(honest_shares=shares)).times(steps)
    ours = cost.epsilon(delta)
    left = delta - (1 + math.exp(ours)) * float(cost.sampler_distance)
    assert left > 0.9 * delta
    truth = gdp_epsilon(0.1 * math.sqrt(steps / shares), left)
    assert truth <= ours <= truth + 1e-6


def test_the_exact_square_is_kept_and_the_root_is_rounded_up() -> None:
    cost = Cost.of(release(sensitivity_squared=3, sigma=10, honest_shares=7)).times(5)
    assert cost.mu_squared == Fraction(15, 700)
    assert cost.is_gaussian
    assert Fraction(cost.mu) ** 2 >= Fraction(15, 700)
    assert cost.mu == pytest.approx(math.sqrt(15 / 700), rel=1e-14)


@pytest.mark.parametrize("steps", [1, 40])
def test_dp_accounting_reads_the_same_epsilon_for_gaussian_releases(steps: int) -> None:
    accountant = PLDAccountant(value_discretization_interval=1e-5)
    accountant.compose(GaussianDpEvent(10.0), steps)
    # dp_accounting rounds its distribution upwards; at this interval by less than the bound.
    numeric, ours = accountant.get_epsilon(1e-5), Cost.of(release()).times(steps).epsilon(1e-5)
    assert ours <= numeric + 1e-6
    assert numeric == pytest.approx(ours, rel=1e-4)


def test_dp_accounting_agrees_to_a_millionth_where_it_is_exact() -> None:
    from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

    for steps in (1, 7, 300):
        ours = Cost.of(release(dimension=1)).times(steps).epsilon(1e-6)
        assert ours == pytest.approx(get_epsilon_gaussian(10 / math.sqrt(steps), 1e-6), abs=1e-6)


def test_opacus_agrees_to_a_millionth_where_it_is_exact() -> None:
    from opacus.accountants.analysis.gdp import eps_from_mu

    for steps in (1, 7, 300):
        ours = Cost.of(release(dimension=1)).times(steps).epsilon(1e-5)
        assert ours == pytest.approx(eps_from_mu(mu=0.1 * math.sqrt(steps), delta=1e-5), abs=1e-6)


@pytest.mark.parametrize("steps", [1, 40, 300])
def test_the_gaussian_accountant_of_opacus_is_ours_up_to_its_own_limit_theorem(steps: int) -> None:
    with pytest.warns(UserWarning, match="experimental"):
        accountant = GaussianAccountant()
    accountant.history = [(10.0, 1.0, steps)]
    ours = Cost.of(release()).times(steps).epsilon(1e-5)
    # Its mu^2 per step is exp(1/sigma^2) - 1 instead of 1/sigma^2: 0.5 % more at sigma 10, 0.25 % in mu.
    assert ours < accountant.get_epsilon(delta=1e-5) < 1.005 * ours


@pytest.mark.parametrize("delta", [1e-5, 1e-8])
@pytest.mark.parametrize("steps", [1, 12, 400])
def test_for_gaussian_releases_the_second_route_is_never_smaller(steps: int, delta: float) -> None:
    cost = Cost.of(release()).times(steps)
    assert cost.epsilon(delta) <= cost.renyi_epsilon(delta) < 1.25 * cost.epsilon(delta)


@settings(deadline=None, max_examples=60)
@given(sensitivity=st.integers(1, 10**6), sigma=st.integers(8, 200_000), steps=st.integers(1, 300))
def test_the_second_route_is_never_smaller_for_any_gaussian_release(sensitivity: int, sigma: int, steps: int) -> None:
    cost = Cost.of(release(sensitivity_squared=sensitivity, sigma=sigma)).times(steps)
    assert cost.renyi_epsilon(1e-5) >= cost.epsilon(1e-5) - 1e-9


# --- sampled releases, and mixtures ---------------------------------------------------------------------------------


def true_epsilon(parts: list[tuple[Release, int]], delta: float) -> float:
    """Compose privacy-loss distributions, which is right for a sequence that was fixed beforehand."""
    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for one, times in parts:
        event = GaussianDpEvent(math.sqrt(one.variance / one.sensitivity_squared))
        rate = one.sampled_per_million / FULL
        accountant.compose(PoissonSampledDpEvent(rate, event) if rate < 1 else event, times)
    return float(accountant.get_epsilon(delta))


MIXTURES = [
    [(sampled(2400), 400)],
    [(sampled(1000, per_million=10_000), 2000)],
    [(release(), 1), (sampled(2400), 400)],
    [(release(sigma=300), 3), (sampled(1200), 100), (sampled(1000, per_million=10_000), 500)],
    [(release(sigma=100), 1), (sampled(2400), 100)],
    [(release(sigma=6000, honest_shares=4), 30), (sampled(3000, per_million=200_000), 30)],
    [(sampled(900, per_million=1000), 3000), (release(sigma=1000, sensitivity_squared=250_000), 1)],
]


@pytest.mark.parametrize("mixture", MIXTURES, ids=lambda mixture: "+".join(str(times) for _, times in mixture))
def test_a_mixture_costs_at_least_the_truth_and_at_most_fifteen_percent_more(
    mixture: list[tuple[Release, int]],
) -> None:
    total = Cost.nothing()
    for one, times in mixture:
        total = total + Cost.of(one).times(times)
    truth = true_epsilon(mixture, 1e-5)
    assert truth < total.epsilon(1e-5) < 1.15 * truth
    assert not total.is_gaussian
    assert math.isnan(total.mu)


@pytest.mark.parametrize(
    ("deviation", "rate", "steps"), [(2.4, 50_000, 400), (1.2, 50_000, 400), (1.0, 10_000, 2000), (3.0, 250_000, 20)]
)
def test_opacus_prices_sampled_steps_at_the_same_renyi_divergence(deviation: float, rate: int, steps: int) -> None:
    accountant = RDPAccountant()
    accountant.history = [(deviation, rate / FULL, steps)]
    cost = Cost.of(sampled(round(1000 * deviation), per_million=rate)).times(steps)
    # Only whole orders are exact in opacus; its conversion is the same as ours (Canonne, Kamath, Steinke 2020).
    whole = [order for order in ORDERS if order == round(order)]
    opacus = accountant.get_epsilon(delta=1e-5, alphas=whole)
    assert cost.renyi is not None
    at_whole_orders = Cost(
        mu_squared=Fraction(0),
        renyi=np.where([order in whole for order in ORDERS], cost.renyi, 1e9),
        sampler_distance=Fraction(0),
    )
    assert at_whole_orders.epsilon(1e-5) == pytest.approx(opacus, abs=1e-6)
    assert cost.epsilon(1e-5) <= opacus + 1e-6


def test_opacus_adds_up_sampled_and_full_steps_to_the_same_epsilon() -> None:
    accountant = RDPAccountant()
    accountant.history = [(2.4, 0.05, 400), (10.0, 1.0, 3)]
    cost = Cost.of(sampled(2400)).times(400) + Cost.of(release()).times(3)
    whole = [order for order in ORDERS if order == round(order)]
    opacus = accountant.get_epsilon(delta=1e-5, alphas=whole)
    assert cost.epsilon(1e-5) == pytest.approx(opacus, rel=3e-3)
    assert cost.epsilon(1e-5) <= opacus + 1e-6


# --- algebra --------------------------------------------------------------------------------------------------------

MANY = [
    release(),
    release(mechanism=Mechanism.SKELLAM, sigma=400),
    release(mechanism=Mechanism.DISCRETE_GAUSSIAN, sigma=500, honest_shares=3),
    sampled(),
    release(sigma=123, honest_shares=5),
]


def same(one: Cost, other: Cost) -> bool:
    if (one.renyi is None) != (other.renyi is None):
        return False
    close = one.renyi is None or other.renyi is None or np.allclose(one.renyi, other.renyi, rtol=1e-12, atol=0)
    return bool(close) and one.mu_squared == other.mu_squared and one.sampler_distance == other.sampler_distance


def test_the_order_of_releases_does_not_matter() -> None:
    expected = Cost.total(MANY)
    for order in itertools.permutations(MANY):
        assert same(Cost.total(order), expected)
    assert Cost.total(reversed(MANY)).epsilon(1e-5) == pytest.approx(expected.epsilon(1e-5), rel=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(MANY), max_size=8), st.integers(0, 8))
def test_grouping_does_not_matter(releases: list[Release], cut: int) -> None:
    assert same(Cost.total(releases[:cut]) + Cost.total(releases[cut:]), Cost.total(releases))


@pytest.mark.parametrize("one", MANY, ids=lambda one: f"{one.mechanism}-{one.honest_shares}-{one.sampled_per_million}")
def test_n_times_is_n_additions(one: Release) -> None:
    cost = Cost.of(one)
    assert same(cost.times(6), cost + cost + cost + cost + cost + cost)
    assert same(cost.times(1), cost)
    assert cost.times(0).epsilon(1e-5) == 0.0


def test_nothing_costs_nothing_and_adds_nothing() -> None:
    assert Cost.nothing().epsilon(1e-5) == Cost.nothing().renyi_epsilon(1e-5) == Cost.nothing().mu == 0.0
    for one in MANY:
        assert same(Cost.of(one) + Cost.nothing(), Cost.of(one))
        assert same(Cost.nothing() + Cost.of(one), Cost.of(one))


def test_what_a_release_is_called_does_not_change_what_it_costs() -> None:
    one = release(mechanism=Mechanism.SKELLAM)
    other = release(mechanism=Mechanism.SKELLAM, release_id="x", partition="holdout", purpose="another")
    assert same(Cost.of(one), Cost.of(other))


def test_more_of_anything_costs_more() -> None:
    for one in MANY:
        grown = [Cost.of(one).times(count).epsilon(1e-6) for count in (1, 2, 5, 20)]
        assert grown == sorted(set(grown))


@pytest.mark.parametrize("mechanism", [Mechanism.ROUNDED_GAUSSIAN, Mechanism.SKELLAM, Mechanism.DISCRETE_GAUSSIAN])
def test_a_message_read_alone_costs_more_than_the_sum(mechanism: Mechanism) -> None:
    shared = release(mechanism=mechanism, honest_shares=4)
    assert Cost.of(shared.alone()).epsilon(1e-5) > 1.9 * Cost.of(shared).epsilon(1e-5)


@pytest.mark.parametrize("mechanism", [Mechanism.SKELLAM, Mechanism.DISCRETE_GAUSSIAN])
def test_noise_without_an_exact_price_is_priced_above_the_gaussian_of_its_variance(mechanism: Mechanism) -> None:
    gaussian, other = Cost.of(release()), Cost.of(release(mechanism=mechanism))
    assert other.renyi_epsilon(1e-5) >= gaussian.renyi_epsilon(1e-5)
    assert other.renyi_epsilon(1e-5) < 1.02 * gaussian.renyi_epsilon(1e-5)


@pytest.mark.parametrize("changes", [{"mechanism": Mechanism.NONE, "sigma": 0}, {"test_noise": True}])
def test_no_number_bounds_a_release_that_protects_nobody(changes: dict[str, object]) -> None:
    with pytest.raises(PrivacyPlanError, match="unbounded"):
        Cost.of(release(**changes))
    with pytest.raises(PrivacyPlanError, match="unbounded"):
        Cost.total([release(), release(**changes)])


@pytest.mark.parametrize("delta", [0.0, 1e-16, 0.02, math.nan])
def test_a_delta_outside_its_range_is_refused(delta: float) -> None:
    for cost in (Cost.of(release()), Cost.of(sampled())):
        with pytest.raises(PrivacyPlanError, match="delta"):
            cost.epsilon(delta)


# --- the sampler, and what a membership test can do -----------------------------------------------------------------


@pytest.mark.parametrize("one", [release(), sampled()], ids=["gaussian", "sampled"])
def test_the_samplers_distance_is_paid_for_inside_delta(one: Release) -> None:
    clean = Cost.of(one)
    worse = Cost(mu_squared=clean.mu_squared, renyi=clean.renyi, sampler_distance=Fraction(1, 10**6))
    hopeless = Cost(mu_squared=clean.mu_squared, renyi=clean.renyi, sampler_distance=Fraction(1, 10**5))
    assert clean.epsilon(1e-5) < worse.epsilon(1e-5) < math.inf
    assert hopeless.epsilon(1e-5) == math.inf


def test_the_ceiling_of_membership_tests_is_the_trade_off_curve_for_gaussian_noise() -> None:
    cost = Cost.of(release()).times(9)
    normal = NormalDist()
    assert cost.tpr_ceiling(1e-5, fpr=0.01) == pytest.approx(normal.cdf(normal.inv_cdf(0.01) + 0.3), rel=1e-9)


def test_the_ceiling_follows_from_epsilon_for_other_noise() -> None:
    cost = Cost.of(sampled()).times(50)
    epsilon = cost.epsilon(1e-5)
    assert cost.tpr_ceiling(1e-5, fpr=0.01) == pytest.approx(math.exp(epsilon) * 0.01 + 1e-5)
    assert Cost.of(sampled(10)).times(10_000).tpr_ceiling(1e-5, fpr=0.01) == 1.0
