"""What releases cost in Renyi privacy: for noise that has no exact Gaussian price, and for Poisson-sampled steps.

A cost is an array over ``ORDERS``: an upper bound on the Renyi divergence of each order between the outputs on any two
neighbouring data sets, in both directions. Costs of an adaptive sequence add up order by order (Mironov 2017), also
under a filter that stops before a total is exceeded (Feldman, Zrnic 2021); ``epsilon_from_rdp`` converts the sum.

Every array is an upper bound up to float error, and ``_ROUNDING`` is above that. Where the literature gives whole
orders only, the orders between follow from convexity (``_between_whole_orders``).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import PrivacyPlanError
from fedcredit.privacy.accounting import check_delta

_ROUNDING: Final = 1e-12
"""Added, absolutely and relatively, to what floats compute; their error is below 1e-13 of either."""
_MARGIN: Final = 1e-9
"""Added to every epsilon, as in ``accounting``."""


def _orders() -> tuple[float, ...]:
    grown = [1 + 0.2 * 1.08**step for step in range(121)]
    rounded = {round(order, 2) if order < 14 else float(round(order)) for order in grown}
    return tuple(sorted(rounded | {float(order) for order in range(2, 15)}))


ORDERS: Final[tuple[float, ...]] = _orders()
"""The orders of every cost, ascending, 1.2 to about 2,000: all whole orders to 14, and steps of 8 % in order - 1.

Public and fixed: costs that are stored stay comparable. For epsilon 0.1 to 10 and delta 1e-5 to 1e-8 the best of them
is within 0.2 % of the best of all orders.
"""
_ALPHA: Final[NDArray[np.float64]] = np.array(ORDERS)
_LARGEST_WHOLE: Final = math.ceil(ORDERS[-1])
_LARGEST_SAMPLED_MU: Final = 16.0
"""Above it sampling is not priced in: the step is charged as if every row were used."""


def gaussian_rdp(mu_squared: float | Fraction) -> NDArray[np.float64]:
    """Return the cost of a Gaussian mechanism with (sensitivity / sigma)^2 = ``mu_squared``: alpha mu^2 / 2.

    It also prices rounded Gaussian noise, alone or shared, and any sequence of such releases by the sum of mu^2.

    Raises:
        PrivacyPlanError: ``mu_squared`` is negative or NaN.
    """
    _require(mu_squared >= 0, "mu must not be negative")
    return _rounded_up(_ALPHA * (float(mu_squared) / 2))


def skellam_rdp(sensitivity_squared: int, variance: int, dimension: int) -> NDArray[np.float64]:
    """Return the cost of integers plus Skellam noise of ``variance`` in all, per number.

    Agarwal, Kairouz, Liu 2021, "The Skellam mechanism", theorem 3.5 and corollary 3.6. For whole orders alpha > 1, an
    integer-valued function of L2 sensitivity D2 and L1 sensitivity D1, and variance v (both Poissons have mean v/2):

        alpha D2^2 / 2v + min( ((2 alpha - 1) D2^2 + 6 D1) / 4v^2, 3 D1 / 2v )

    An integer vector has D1 <= min(D2^2, sqrt(dimension) D2): |x| <= x^2 for whole x, and Cauchy's inequality. A sum of
    independent Skellams has the sum of their variances.

    Raises:
        PrivacyPlanError: ``sensitivity_squared`` is negative, or ``variance`` or ``dimension`` is not positive.
    """
    _require(sensitivity_squared >= 0, "a squared sensitivity must not be negative")
    _require(variance >= 1 and dimension >= 1, "variance and dimension must be positive")
    l1 = min(float(sensitivity_squared), math.sqrt(dimension * sensitivity_squared))
    alpha = np.arange(2.0, _LARGEST_WHOLE + 1)
    near = ((2 * alpha - 1) * sensitivity_squared + 6 * l1) / (4.0 * variance * variance)
    far = 3 * l1 / (2.0 * variance)
    return _rounded_up(_between_whole_orders(alpha * sensitivity_squared / (2.0 * variance) + np.minimum(near, far)))


def discrete_gaussian_sum_rdp(sensitivity_squared: int, sigma: int, shares: int, dimension: int) -> NDArray[np.float64]:
    """Return the cost of integers plus the sum of ``shares`` independent discrete Gaussians of deviation ``sigma``.

    Kairouz, Liu, Steinke 2021, "The distributed discrete Gaussian mechanism", theorem 1, the third of its bounds, for
    every order: (alpha / 2) (D2 / (sigma sqrt(shares)) + tau sqrt(dimension))^2 with
    tau = 10 * sum over k = 1 ... shares - 1 of exp(-2 pi^2 sigma^2 k / (k + 1)). The smallest exponent is
    pi^2 sigma^2, so tau < 10 * shares * exp(-pi^2 sigma^2), which is used here. One share has tau = 0 (Canonne,
    Kamath, Steinke 2020, theorem 4).

    Raises:
        PrivacyPlanError: ``sensitivity_squared`` is negative, or another argument is not positive.
    """
    _require(sensitivity_squared >= 0, "a squared sensitivity must not be negative")
    _require(min(sigma, shares, dimension) >= 1, "sigma, shares and dimension must be positive")
    tau = 10.0 * shares * math.exp(-(math.pi**2) * min(sigma, 8) ** 2) if shares > 1 else 0.0
    mu = math.sqrt(sensitivity_squared / (shares * sigma * sigma)) + tau * math.sqrt(dimension)
    return _rounded_up(_ALPHA * (mu * mu / 2))


@functools.lru_cache(maxsize=256)
def _sampled(mu: float, sampling_rate: float) -> NDArray[np.float64]:
    exact = np.array([_log_moment(alpha, mu, sampling_rate) / (alpha - 1) for alpha in ORDERS])
    # Never zero: float error may hide a tiny cost at one order, and a step that costs something is never free.
    costs: NDArray[np.float64] = np.maximum(exact, 0.0) * (1 + _ROUNDING) + _ROUNDING
    costs.flags.writeable = False
    return costs


def sampled_gaussian_rdp(mu: float, sampling_rate: float) -> NDArray[np.float64]:
    """Return the cost of one step: each row joins with probability ``sampling_rate``, then Gaussian noise is added.

    ``mu`` is sensitivity / deviation of the noise, and a neighbour has one row more or one row less. Mironov, Talwar,
    Zhang 2019, "Renyi differential privacy of the sampled Gaussian mechanism", theorems 4 and 5: the cost is
    log(A) / (alpha - 1) with A = E[((1 - q) + q exp(mu t - mu^2 / 2))^alpha], t standard normal. The array is
    read-only.

    Raises:
        PrivacyPlanError: ``mu`` is negative or NaN, or the rate is not from 0 to 1.
    """
    _require(mu >= 0, "mu must not be negative")
    _require(0 <= sampling_rate <= 1, "a sampling rate lies between 0 and 1")
    if mu == 0 or sampling_rate == 0:
        return np.zeros_like(_ALPHA)
    if sampling_rate == 1 or mu > _LARGEST_SAMPLED_MU:
        return _rounded_up(_ALPHA * (mu * mu / 2))
    return _sampled(mu, sampling_rate)


def _log_moment(alpha: float, mu: float, rate: float) -> float:
    """Return log of A = E[((1 - q) + q exp(mu t - mu^2 / 2))^alpha], t standard normal, by the trapezoidal rule.

    The integrand f is positive on the line, and analytic up to |Im t| < pi / mu, where the bracket first vanishes. On
    the line Im t = y it is at most exp(y^2 / 2) f(Re t), because a positive combination of exponentials is largest
    where their phases agree. So the rule with step h is wrong by at most 2 exp(y^2 / 2) / (exp(2 pi y / h) - 1) of A
    (Trefethen, Weideman 2014, theorem 5.1); h is chosen to make that 1e-18. Outside -12 ... alpha mu + 12 the integrand
    falls faster than a normal density: d/dt log f = -t + alpha mu w with w between 0 and 1.
    """
    y = min(3.0, 0.99 * math.pi / mu)
    step = 2 * math.pi * y / (y * y / 2 + 42.0)
    t = np.arange(-12.0, alpha * mu + 12.0 + step, step)
    exponents = alpha * np.logaddexp(math.log1p(-rate), math.log(rate) + mu * t - mu * mu / 2) - t * t / 2
    highest = float(exponents.max())
    return highest + math.log(float(np.exp(exponents - highest).sum()) * step / math.sqrt(2 * math.pi))


def epsilon_from_rdp(rdp: NDArray[np.float64], delta: float) -> float:
    """Return the smallest epsilon that a cost over ``ORDERS`` proves at ``delta``; 0 for no cost, inf if there is none.

    Canonne, Kamath, Steinke 2020, proposition 12 (for every order): rdp + log(1 - 1/alpha) - log(delta alpha) /
    (alpha - 1).

    Raises:
        PrivacyPlanError: ``rdp`` is not one number per order, has a negative or a NaN, or ``delta`` is out of range.
    """
    check_delta(delta)
    _require(rdp.shape == _ALPHA.shape and bool(np.all(rdp >= 0)), "a cost is one number per order, none negative")
    if not rdp.all():
        return 0.0  # at any order, divergence 0 means equal laws
    epsilons = rdp + np.log1p(-1 / _ALPHA) - np.log(delta * _ALPHA) / (_ALPHA - 1)
    return max(0.0, float(epsilons.min())) + _MARGIN


@dataclass(frozen=True, kw_only=True, slots=True)
class SampledSteps:
    """``steps`` equal steps of the Poisson-sampled Gaussian mechanism."""

    mu: float
    sampling_rate: float
    steps: int


def pld_epsilon(sampled: Sequence[SampledSteps], *, unsampled_mu: float, delta: float) -> float:
    """Return the epsilon of all ``sampled`` steps and one unsampled Gaussian release of ``unsampled_mu`` together.

    By composing privacy-loss distributions (dp_accounting, pessimistic rounding), under adding or removing a row. It is
    the tightest number there is, for reports: **not a filter**, because it holds for a plan that was fixed beforehand.

    Raises:
        PrivacyPlanError: an argument is out of range, or nothing is released.
    """
    check_delta(delta)
    _require(unsampled_mu >= 0, "mu must not be negative")
    _require(bool(sampled) or unsampled_mu > 0, "nothing is released")
    from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=1e-4)
    for part in sampled:
        _require(part.mu > 0 and 0 < part.sampling_rate <= 1 and part.steps > 0, "a sampled step must cost something")
        accountant.compose(PoissonSampledDpEvent(part.sampling_rate, GaussianDpEvent(1 / part.mu)), part.steps)
    if unsampled_mu > 0:
        accountant.compose(GaussianDpEvent(1 / unsampled_mu))
    return float(accountant.get_epsilon(delta)) + _MARGIN


def _between_whole_orders(at_whole_orders: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return bounds at ``ORDERS`` from bounds at the whole orders 2, 3, ...

    (alpha - 1) D_alpha is convex in alpha and 0 at alpha = 1 (van Erven, Harremoes 2014, corollary 2), so it lies below
    the chords between bounds.
    """
    whole = np.arange(1.0, at_whole_orders.size + 2)
    scaled = np.concatenate([[0.0], (whole[1:] - 1) * at_whole_orders])
    chords: NDArray[np.float64] = np.interp(_ALPHA, whole, scaled)
    return chords / (_ALPHA - 1)


def _rounded_up(costs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(costs > 0, np.maximum(costs, 0) * (1 + _ROUNDING) + _ROUNDING, 0.0)


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise PrivacyPlanError(problem=problem)
