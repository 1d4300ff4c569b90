"""Renyi costs against numeric divergences, dp_accounting, opacus, and privacy-loss distributions."""

import hashlib
import math
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import PRVAccountant, RDPAccountant
from scipy import special

from fedcredit.errors import PrivacyPlanError
from fedcredit.privacy.accounting import epsilon_for_mu, mu_for_epsilon
from fedcredit.privacy.renyi import (
    ORDERS,
    SampledSteps,
    discrete_gaussian_sum_rdp,
    epsilon_from_rdp,
    gaussian_rdp,
    pld_epsilon,
    sampled_gaussian_rdp,
    skellam_rdp,
)

ALPHA = np.array(ORDERS)
WHOLE = np.flatnonzero(np.round(ALPHA) == ALPHA)
DELTAS = (1e-5, 1e-6, 1e-8)


# --- the orders and the conversion ----------------------------------------------------------------------------------


def test_the_orders_never_change() -> None:
    # Costs may be stored; a changed grid would change what they mean.
    assert (len(ORDERS), ORDERS[0], ORDERS[-1]) == (134, 1.2, 2052.0)
    assert list(ORDERS) == sorted(set(ORDERS))
    text = ",".join(f"{order:.2f}" for order in ORDERS)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "d9d79367b6170e67"


def convert(alpha: np.ndarray, rdp: np.ndarray, delta: float) -> float:
    return float(np.min(rdp + np.log1p(-1 / alpha) - np.log(delta * alpha) / (alpha - 1)))


@pytest.mark.parametrize("delta", [1e-5, 1e-6, 1e-7, 1e-8])
def test_the_grid_of_orders_loses_less_than_a_fifth_of_a_percent(delta: float) -> None:
    dense = 1 + np.geomspace(1e-2, 1e4, 40_001)
    seen = []
    for rho in np.geomspace(1e-5, 3, 300):
        best = convert(dense, dense * rho, delta)
        if 0.1 <= best <= 10:
            seen.append(epsilon_from_rdp(gaussian_rdp(2 * rho), delta) / best)
    assert len(seen) > 50
    assert 1 - 1e-4 < min(seen) <= max(seen) < 1.002


@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 8.0])
def test_the_conversion_is_that_of_dp_accounting(epsilon: float, delta: float) -> None:
    mu = mu_for_epsilon(epsilon, delta)
    theirs = RdpAccountant(orders=ORDERS)
    theirs.compose(GaussianDpEvent(1 / mu))
    ours = epsilon_from_rdp(gaussian_rdp(mu * mu), delta)
    assert ours == pytest.approx(theirs.get_epsilon(delta), abs=2e-9)
    assert epsilon < ours < 1.17 * epsilon


def test_nothing_released_costs_nothing_and_everything_released_costs_infinitely_much() -> None:
    assert epsilon_from_rdp(np.zeros(len(ORDERS)), 1e-5) == 0.0
    assert epsilon_from_rdp(np.full(len(ORDERS), math.inf), 1e-5) == math.inf
    for cost in (gaussian_rdp(0.0), skellam_rdp(0, 64, 1), discrete_gaussian_sum_rdp(0, 8, 1, 1)):
        assert not cost.any()


def test_an_exact_fraction_costs_what_its_float_costs() -> None:
    assert gaussian_rdp(Fraction(1, 3)).tolist() == gaussian_rdp(1 / 3).tolist()
    assert gaussian_rdp(0.5)[WHOLE[0]] == pytest.approx(0.5, rel=1e-11)  # alpha mu^2 / 2 = 2 * .5 / 2


# --- Skellam --------------------------------------------------------------------------------------------------------


def skellam_log_masses(variance: int, reach: int) -> np.ndarray:
    """log P(X = k), k = 0 ... reach, from the ratios of the Bessel functions: the tails never underflow."""
    ratios, ratio = np.empty(reach), 0.5
    for k in range(reach + 20 * math.isqrt(variance) + 200, 0, -1):
        ratio = 1 / (2 * k / variance + ratio)
        if k <= reach:
            ratios[k - 1] = ratio
    return np.log(special.ive(0, variance)) + np.concatenate([[0.0], np.cumsum(np.log(ratios))])


def skellam_divergence(alpha: float, variance: int, shift: int) -> float:
    """The Renyi divergence between X + shift and X, summed term by term."""
    reach = int(alpha * shift) + 14 * math.isqrt(variance) + 40
    half = skellam_log_masses(variance, reach + shift)
    log_mass = np.concatenate([half[:0:-1], half])
    moved, here = log_mass[:-shift], log_mass[shift:]
    return float(special.logsumexp(alpha * moved + (1 - alpha) * here)) / (alpha - 1)


@pytest.mark.parametrize(("variance", "shift"), [(64, 1), (64, 3), (64, 8), (100, 20), (625, 5), (2_500, 50), (9, 2)])
def test_the_skellam_bound_dominates_the_numeric_divergence_at_every_order(variance: int, shift: int) -> None:
    bound = skellam_rdp(shift * shift, variance, 1)
    for i, alpha in enumerate(ORDERS):
        if alpha * shift > 12 * variance:
            break
        exact = skellam_divergence(alpha, variance, shift)
        assert exact <= bound[i] * (1 + 1e-9)
        if alpha >= 2 and shift <= variance / 8 and alpha * shift < variance:  # where the bound claims to be tight
            assert bound[i] < 1.25 * exact + 3 * shift / variance**2 + 0.1 * shift**2 / variance


def test_halved_skellam_noise_would_break_that_comparison() -> None:
    i = WHOLE[2]
    assert skellam_divergence(ORDERS[i], 625 // 4, 5) > 2 * skellam_rdp(25, 625, 1)[i]


def test_the_skellam_cost_is_the_theorem_written_out() -> None:
    # alpha 3, D2^2 = 4, dimension 2: D1 = min(4, sqrt 8); v = 64. 3*4/128 + min((5*4 + 6 D1)/16384, 3 D1/128).
    d1 = math.sqrt(8)
    expected = 12 / 128 + min((20 + 6 * d1) / 16_384, 3 * d1 / 128)
    assert skellam_rdp(4, 64, 2)[ORDERS.index(3.0)] == pytest.approx(expected, rel=1e-10)
    # At order 1,000 and above the other branch of the minimum is the smaller one: 3 D1 / 2v.
    high = ORDERS.index(2052.0)
    assert skellam_rdp(4, 64, 1)[high] == pytest.approx(2052 * 4 / 128 + 3 * 2 / 128, rel=1e-11)


def test_between_whole_orders_the_cost_lies_on_the_chord() -> None:
    i = ORDERS.index(2.0) + 1
    bound, alpha = skellam_rdp(25, 625, 1), ORDERS[i]
    assert 2 < alpha < 3
    chord = (3 - alpha) * bound[ORDERS.index(2.0)] + (alpha - 2) * 2 * bound[ORDERS.index(3.0)]
    assert bound[i] == pytest.approx(chord / (alpha - 1), rel=1e-9)
    assert bound[0] == pytest.approx(bound[ORDERS.index(2.0)], rel=1e-9)  # below 2: the cost at 2


@pytest.mark.parametrize("dimension", [10, 1_000, 100_000])
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 8.0])
def test_at_five_grid_steps_a_coordinate_skellam_costs_at_most_two_percent_more_than_gaussian_noise(
    epsilon: float, dimension: int
) -> None:
    # PROTOCOL.md section 5: clip times scale = 5 sqrt(dimension). Both by Renyi, so that only the noise differs.
    squared = 25 * dimension
    variance = round(squared / mu_for_epsilon(epsilon, 1e-5) ** 2)
    ratio = epsilon_from_rdp(skellam_rdp(squared, variance, dimension), 1e-5) / epsilon_from_rdp(
        gaussian_rdp(squared / variance), 1e-5
    )
    assert 1.0 <= ratio < (1.002 if epsilon <= 3 else 1.02)


@pytest.mark.parametrize("epsilon", [1.0, 3.0])
def test_the_numeric_loss_of_skellam_in_one_dimension_is_at_most_a_percent_above_the_gaussians(epsilon: float) -> None:
    # No Renyi: the hockey-stick divergence of the law itself at shift 5, that is f = 5 and d = 1.
    mu = mu_for_epsilon(epsilon, 1e-5)
    variance = round(25 / mu**2)
    half = skellam_log_masses(variance, 14 * math.isqrt(variance) + 60)
    mass = np.exp(np.concatenate([half[:0:-1], half]))
    low, high = 0.0, 3 * epsilon
    for _ in range(60):
        middle = (low + high) / 2
        above = np.maximum(mass[:-5] - math.exp(middle) * mass[5:], 0).sum() > 1e-5
        low, high = (middle, high) if above else (low, middle)
    exact = epsilon_for_mu(5 / math.sqrt(variance), 1e-5)
    assert exact * 0.95 < high < exact * 1.01  # below it where so few integers tell the two laws apart
    assert high < epsilon_from_rdp(skellam_rdp(25, variance, 1), 1e-5)


# --- discrete Gaussian ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [1, 2, 5])
def test_the_sum_of_discrete_gaussians_costs_a_gaussian_and_dominates_the_numeric_divergence(shares: int) -> None:
    k = np.arange(-1_200, 1_201)
    log_one = -(k**2) / (2 * 64.0)
    # The law of the sum: at sigma 8 it is the discrete Gaussian of the sum's variance to 2**-911 (the theorem's tau).
    log_sum = log_one / shares - special.logsumexp(log_one / shares)
    bound = discrete_gaussian_sum_rdp(9, 8, shares, 10)
    assert bound == pytest.approx(gaussian_rdp(Fraction(9, 64 * shares)), rel=1e-11)
    for i in range(0, 90, 10):
        alpha = ORDERS[i]
        exact = special.logsumexp(alpha * log_sum[:-3] + (1 - alpha) * log_sum[3:]) / (alpha - 1)
        assert exact <= bound[i] * (1 + 1e-9)


def test_shares_too_narrow_for_the_theorem_pay_for_it() -> None:
    one, two = discrete_gaussian_sum_rdp(1, 1, 1, 100), discrete_gaussian_sum_rdp(2, 1, 2, 100)
    # tau = 10 * 2 * exp(-pi^2) = 0.00103; mu = 1 + 10 tau.
    assert two / one == pytest.approx((1 + 200 * math.exp(-(math.pi**2))) ** 2, rel=1e-9)


# --- sampled steps --------------------------------------------------------------------------------------------------

SAMPLED = [(1 / 2.4, 0.05), (1.0, 0.01), (1 / 0.7, 0.01), (0.2, 0.2), (1 / 0.6, 0.001), (4.0, 0.3), (0.01, 0.9)]


@pytest.mark.parametrize(("mu", "rate"), SAMPLED)
def test_sampled_steps_cost_what_dp_accounting_says_at_whole_orders(mu: float, rate: float) -> None:
    orders = [ORDERS[i] for i in WHOLE if ORDERS[i] <= 600]
    theirs = RdpAccountant(orders=orders)
    theirs.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(1 / mu)))
    ours = sampled_gaussian_rdp(mu, rate)[WHOLE[: len(orders)]]
    # The other route is a binomial sum. Its rounding errors, 1e-12 of log A, are all that differs.
    assert ours == pytest.approx(theirs._rdp, rel=1e-7, abs=1e-11)


@pytest.mark.parametrize(("mu", "rate"), SAMPLED)
@pytest.mark.parametrize("order", [0, 20, 43, 60])
def test_sampled_steps_cost_what_an_integral_at_thirty_digits_says(mu: float, rate: float, order: int) -> None:
    # dp_accounting is up to five times too high at fractional orders (0.2, 0.2), so it is no reference there.
    alpha = mpmath.mpf(ORDERS[order])
    with mpmath.workdps(30):

        def integrand(t: mpmath.mpf) -> mpmath.mpf:
            ratio = 1 - mpmath.mpf(rate) + rate * mpmath.exp(mu * t - mpmath.mpf(mu) ** 2 / 2)
            return mpmath.npdf(t) * ratio**alpha

        moment = mpmath.quad(integrand, mpmath.linspace(-14, float(alpha) * mu + 14, 25))
        exact = float(mpmath.log(moment) / (alpha - 1))
    ours = float(sampled_gaussian_rdp(mu, rate)[order])
    assert exact <= ours <= exact * (1 + 1e-11) + 2e-12


@settings(max_examples=50, deadline=None)
@given(mu=st.floats(1e-3, 20), rate=st.floats(1e-5, 1))
def test_sampling_never_costs_more_than_using_every_row_and_higher_orders_cost_more(mu: float, rate: float) -> None:
    cost = sampled_gaussian_rdp(mu, rate)
    assert np.all(cost <= gaussian_rdp(mu * mu) * (1 + 1e-11) + 1e-11)
    assert np.all(np.diff(cost) >= -1e-12 * cost[1:] - 1e-14)
    assert np.all(cost <= sampled_gaussian_rdp(mu, min(1.0, rate * 1.5)) * (1 + 1e-11) + 1e-11)


def test_without_sampling_or_without_rows_the_cost_is_the_obvious_one() -> None:
    assert sampled_gaussian_rdp(0.7, 1.0).tolist() == gaussian_rdp(0.7 * 0.7).tolist()
    assert not sampled_gaussian_rdp(0.7, 0.0).any()
    assert not sampled_gaussian_rdp(0.0, 0.5).any()
    assert np.all(np.isinf(sampled_gaussian_rdp(math.inf, 0.5)))


def test_a_cached_cost_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        sampled_gaussian_rdp(1.0, 0.1)[0] = 0


# PRIVACY.md section 7: (rate, steps, deviations) -> epsilon at 1e-5 by PLD and by RDP.
TABLE = [
    (0.05, 400, 2.4, 1.777, 1.946),
    (0.05, 400, 1.2, 4.799, 5.289),
    (0.01, 2_000, 1.0, 2.585, 2.867),
    (0.01, 2_000, 0.7, 6.209, 7.067),
]


@pytest.mark.parametrize(("rate", "steps", "deviation", "by_pld", "by_rdp"), TABLE)
def test_the_table_of_the_design_page_is_met(
    rate: float, steps: int, deviation: float, by_pld: float, by_rdp: float
) -> None:
    ours = epsilon_from_rdp(steps * sampled_gaussian_rdp(1 / deviation, rate), 1e-5)
    numeric = pld_epsilon(
        [SampledSteps(mu=1 / deviation, sampling_rate=rate, steps=steps)], unsampled_mu=0.0, delta=1e-5
    )
    assert ours == pytest.approx(by_rdp, rel=2e-3)
    assert numeric == pytest.approx(by_pld, abs=2e-3)


@pytest.mark.filterwarnings("ignore:Optimal order is the largest alpha", "ignore:divide by zero encountered in log")
@pytest.mark.parametrize(("rate", "steps", "deviation"), [row[:3] for row in TABLE])
def test_opacus_agrees_by_renyi_and_is_below_by_its_numeric_accountant(
    rate: float, steps: int, deviation: float
) -> None:
    ours = epsilon_from_rdp(steps * sampled_gaussian_rdp(1 / deviation, rate), 1e-5)
    renyi, numeric = RDPAccountant(), PRVAccountant()
    renyi.history = numeric.history = [(deviation, rate, steps)]
    # Opacus converts at its best order of those it is given; at fractional ones it is too high, as dp_accounting is.
    assert ours <= renyi.get_epsilon(delta=1e-5, alphas=list(ORDERS)) + 1e-8
    assert ours == pytest.approx(renyi.get_epsilon(delta=1e-5, alphas=list(ORDERS)), rel=1e-2)
    assert numeric.get_epsilon(delta=1e-5) < ours < 1.2 * numeric.get_epsilon(delta=1e-5)


def test_a_release_beside_the_sampled_steps_adds_up_in_both_accountants() -> None:
    steps = SampledSteps(mu=1 / 2.4, sampling_rate=0.05, steps=400)
    alone = pld_epsilon([steps], unsampled_mu=0.0, delta=1e-5)
    together = pld_epsilon([steps], unsampled_mu=0.2681, delta=1e-5)
    by_renyi = epsilon_from_rdp(400 * sampled_gaussian_rdp(1 / 2.4, 0.05) + gaussian_rdp(0.2681**2), 1e-5)
    assert alone + 0.02 < together < by_renyi < 1.15 * together
    assert together < alone + 1.0


def test_without_sampled_steps_the_numeric_accountant_gives_the_exact_gaussian_epsilon() -> None:
    numeric = pld_epsilon([], unsampled_mu=0.7191, delta=1e-5)
    assert epsilon_for_mu(0.7191, 1e-5) - 1e-6 <= numeric <= epsilon_for_mu(0.7191, 1e-5) * 1.001


# --- edges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (gaussian_rdp, (-1.0,)),
        (gaussian_rdp, (math.nan,)),
        (skellam_rdp, (-1, 64, 1)),
        (skellam_rdp, (1, 0, 1)),
        (skellam_rdp, (1, 64, 0)),
        (discrete_gaussian_sum_rdp, (-1, 8, 1, 1)),
        (discrete_gaussian_sum_rdp, (1, 0, 1, 1)),
        (discrete_gaussian_sum_rdp, (1, 8, 0, 1)),
        (discrete_gaussian_sum_rdp, (1, 8, 1, 0)),
        (sampled_gaussian_rdp, (-1.0, 0.5)),
        (sampled_gaussian_rdp, (math.nan, 0.5)),
        (sampled_gaussian_rdp, (1.0, 1.5)),
        (sampled_gaussian_rdp, (1.0, math.nan)),
        (epsilon_from_rdp, (np.zeros(3), 1e-5)),
        (epsilon_from_rdp, (np.full(len(ORDERS), math.nan), 1e-5)),
        (epsilon_from_rdp, (np.full(len(ORDERS), -1.0), 1e-5)),
        (epsilon_from_rdp, (np.zeros(len(ORDERS)), 0.0)),
    ],
)
def test_a_question_without_an_answer_is_refused(function: object, arguments: tuple[object, ...]) -> None:
    with pytest.raises(PrivacyPlanError):
        function(*arguments)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("sampled", "unsampled_mu", "delta"),
    [
        ([], 0.0, 1e-5),
        ([], -1.0, 1e-5),
        ([], 1.0, 0.0),
        ([SampledSteps(mu=0.0, sampling_rate=0.1, steps=1)], 0.0, 1e-5),
        ([SampledSteps(mu=1.0, sampling_rate=0.0, steps=1)], 0.0, 1e-5),
        ([SampledSteps(mu=1.0, sampling_rate=0.1, steps=0)], 0.0, 1e-5),
    ],
)
def test_a_numeric_composition_of_nothing_is_refused(
    sampled: list[SampledSteps], unsampled_mu: float, delta: float
) -> None:
    with pytest.raises(PrivacyPlanError):
        pld_epsilon(sampled, unsampled_mu=unsampled_mu, delta=delta)


def test_renyi_costs_need_neither_scipy_nor_dp_accounting() -> None:
    code = (
        "import sys; from fedcredit.privacy import renyi;"
        "renyi.epsilon_from_rdp(renyi.sampled_gaussian_rdp(1.0, 0.1) + renyi.skellam_rdp(1, 64, 1), 1e-5);"
        "sys.exit(sum(name in sys.modules for name in ('scipy', 'dp_accounting')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("mu", "rate"), [(math.sqrt(2) / 2000, 20e-6), (1e-4, 1e-6), (1e-3, 1e-5)])
def test_a_sampled_step_is_free_at_no_order(mu: float, rate: float) -> None:
    # A cost of exactly zero at one order would make every step of the ledger free.
    assert (sampled_gaussian_rdp(mu, rate) > 0).all()
    assert epsilon_from_rdp(11_000 * sampled_gaussian_rdp(mu, rate), 1e-15) > 0
