"""What Gaussian releases cost, exactly.

A release of L2 sensitivity s with Gaussian noise of deviation sigma is mu-GDP with mu = s / sigma (Dong, Roth, Su
2022), and so is the rounded Gaussian, a post-processing of it. Sequences add up as mu^2, also when each release is
chosen after seeing the earlier ones (Koskela, Tobaben, Honkela 2022); that would not hold for subsampled releases,
which ``renyi`` prices. (epsilon, delta) follows from mu by Balle and Wang 2018, equation 6.

Everything returned is rounded to the safe side: a cost is never below the true one by more than float error allows,
because ``_MARGIN`` is far above it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from statistics import NormalDist
from typing import Final

from fedcredit.errors import PrivacyPlanError
from fedcredit.privacy.release import SAMPLER_DISTANCE_BITS

SMALLEST_DELTA: Final = 1e-15
LARGEST_DELTA: Final = 1e-2
SMALLEST_EPSILON: Final = 1e-6
LARGEST_EPSILON: Final = 100.0

_MARGIN: Final = 1e-9
"""Added to every epsilon; the root finders stop at 1e-12."""
_TOLERANCE: Final = 1e-12
_LARGEST_EXPONENT: Final = 700.0


@functools.lru_cache(maxsize=4096)
def epsilon_for_mu(mu: float, delta: float) -> float:
    """Return the epsilon at which mu-GDP gives (epsilon, delta), rounded up by 1e-9; 0 for mu 0, inf for mu inf.

    Raises:
        PrivacyPlanError: ``mu`` is negative or NaN, or ``delta`` lies outside its range.
    """
    _check_mu(mu)
    check_delta(delta)
    if mu in {0.0, math.inf}:
        return mu
    # scipy takes a while to import: only a process that accounts pays for it.
    from scipy.optimize import brentq

    def above(epsilon: float) -> float:
        return _log_delta(mu, epsilon) - wanted

    wanted, low, high = math.log(delta), 0.0, 1.0
    if above(low) <= 0:
        return _MARGIN  # even epsilon 0 has no larger delta
    while above(high) > 0:
        low, high = high, 10 * high
    return float(brentq(above, low, high, xtol=_TOLERANCE)) + _MARGIN


def _log_delta(mu: float, epsilon: float) -> float:
    """Return the logarithm of the delta at which mu-GDP gives (epsilon, delta): Balle and Wang 2018, equation 6.

    delta is Phi(mu / 2 - epsilon / mu) - e^epsilon Phi(-mu / 2 - epsilon / mu); in logarithms nothing underflows.
    """
    from scipy.special import log_ndtr

    half, far = mu / 2, epsilon / mu
    first, second = float(log_ndtr(half - far)), epsilon + float(log_ndtr(-half - far))
    # Where both are nearly equal their difference is lost in rounding: delta is 0 as far as anybody can tell.
    return first + math.log1p(-math.exp(second - first)) if second < first else -math.inf


@functools.lru_cache(maxsize=256)
def mu_for_epsilon(epsilon: float, delta: float) -> float:
    """Return the mu that may be spent under (epsilon, delta): ``epsilon_for_mu`` of it is at most ``epsilon``.

    It is smaller than the exact value by about 4e-9 in epsilon, so that a sum of squares rounded up still fits.

    Raises:
        PrivacyPlanError: ``epsilon`` lies outside 1e-6 to 100, or ``delta`` outside its range.
    """
    check_epsilon(epsilon)
    check_delta(delta)
    from dp_accounting.gaussian_mechanism import get_sigma_gaussian

    return 1.0 / float(get_sigma_gaussian(epsilon - 4 * _MARGIN, delta, tol=1e-13))


def delta_for(mu: float, epsilon: float) -> float:
    """Return the delta at which mu-GDP gives (epsilon, delta); exact to about 1e-15.

    Raises:
        PrivacyPlanError: ``mu`` or ``epsilon`` is negative or NaN.
    """
    _check_mu(mu)
    if not epsilon >= 0:
        raise PrivacyPlanError(problem="epsilon must not be negative")
    if mu == 0 or math.isinf(epsilon):
        return 0.0
    if math.isinf(mu):
        return 1.0
    from dp_accounting.pld.privacy_loss_mechanism import GaussianPrivacyLoss

    return float(GaussianPrivacyLoss(1.0 / mu).get_delta_for_epsilon(epsilon))


@functools.lru_cache(maxsize=4096)
def epsilon_with_sampler(mu: float, delta: float, *, distance: Fraction) -> float:
    """Return the epsilon of mu-GDP at ``delta`` when all noise drawn is within total-variation ``distance`` of its law.

    Raises:
        PrivacyPlanError: as ``epsilon_for_mu``.
    """
    return with_sampler(lambda left: epsilon_for_mu(mu, left), delta, distance=distance)


def with_sampler(epsilon_at: Callable[[float], float], delta: float, *, distance: Fraction) -> float:
    """Return epsilon at ``delta`` when all noise drawn is within total-variation ``distance`` of its law.

    ``epsilon_at`` maps a delta to the epsilon of the exact law. Two laws within eta of (epsilon, d)-indistinguishable
    ones are (epsilon, d + (1 + e^epsilon) eta)-indistinguishable, so the epsilon returned is one for which
    d(epsilon) + (1 + e^epsilon) * distance <= ``delta``. inf if none is.

    Raises:
        PrivacyPlanError: ``delta`` lies outside its range.
    """
    check_delta(delta)
    epsilon, eta = epsilon_at(delta), float(distance)
    if epsilon == 0:
        return 0.0
    # Each pass takes from delta what the sampler costs at the epsilon found last, and settles when that one holds.
    while epsilon < _LARGEST_EXPONENT:
        left = delta - (1 + math.exp(epsilon + _MARGIN)) * eta
        if left < SMALLEST_DELTA:
            return math.inf
        following = epsilon_at(left)
        if following <= epsilon + _MARGIN:
            return following
        epsilon = following
    return math.inf


def mu_within(epsilon: float, delta: float, *, numbers: int) -> float:
    """Return the mu that may be spent under (epsilon, delta) if at most ``numbers`` rounded Gaussians are drawn.

    Raises:
        PrivacyPlanError: as ``mu_for_epsilon``, or so many numbers that the sampler alone would use up ``delta``.
    """
    check_epsilon(epsilon)
    left = delta - (1 + math.exp(epsilon)) * math.ldexp(numbers, SAMPLER_DISTANCE_BITS)
    if left < delta / 2:
        raise PrivacyPlanError(
            problem=f"{numbers} numbers are too many for the noise sampler at epsilon {epsilon:g}, delta {delta:g}"
        )
    return mu_for_epsilon(epsilon, left)


def root_up(mu_squared: Fraction) -> float:
    """Return a float at least the square root of ``mu_squared`` and within 2**-50 of it, relatively."""
    if mu_squared == 0:
        return 0.0
    return math.sqrt(float(mu_squared)) * (1 + 2.0**-51)


def tpr_ceiling(mu: float, fpr: float) -> float:
    """Return the highest true-positive rate of any membership test with false-positive rate ``fpr``.

    Phi(Phi^-1(fpr) + mu), the trade-off curve of mu-GDP (Dong, Roth, Su 2022, definition 6); 1 for mu inf.

    Raises:
        PrivacyPlanError: ``fpr`` is not strictly between 0 and 1, or ``mu`` is negative or NaN.
    """
    _check_mu(mu)
    if not 0 < fpr < 1:
        raise PrivacyPlanError(problem="a false-positive rate lies strictly between 0 and 1")
    standard = NormalDist()
    return 1.0 if math.isinf(mu) else standard.cdf(standard.inv_cdf(fpr) + mu)


def check_epsilon(epsilon: float) -> None:
    """Return if ``epsilon`` can be accounted for.

    Raises:
        PrivacyPlanError: it is NaN, infinite, below 1e-6 or above 100.
    """
    if not SMALLEST_EPSILON <= epsilon <= LARGEST_EPSILON:
        raise PrivacyPlanError(problem=f"epsilon must be from {SMALLEST_EPSILON:g} to {LARGEST_EPSILON:g}")


def check_delta(delta: float) -> None:
    """Return if ``delta`` can be accounted for.

    Raises:
        PrivacyPlanError: it is NaN, below 1e-15 or above 0.01.
    """
    if not SMALLEST_DELTA <= delta <= LARGEST_DELTA:
        raise PrivacyPlanError(problem=f"delta must be from {SMALLEST_DELTA:g} to {LARGEST_DELTA:g}")


def _check_mu(mu: float) -> None:
    if not mu >= 0:
        raise PrivacyPlanError(problem="mu must not be negative")
