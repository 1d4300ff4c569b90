"""The theorem of docs/decisions/0010-shared-noise.md, in numbers: what institutions' rounded Gaussians sum to."""

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest

from fedcredit.privacy.accounting import epsilon_for_mu
from fedcredit.privacy.noise import RoundedGaussian

BITS = 600
"""Fixed-point bits of the masses here; each is rounded once, far below every bound that is tested."""
SHARES = [(8, 8), (11, 11), (8, 11), (8, 8, 8), (8, 8, 11), (8,) * 5, (11,) * 5]


def masses(sigma: int, *, reach: int) -> list[int]:
    """The rounded Gaussian at -reach ... reach over 2**600, by the error function; no code shared with ``noise``."""
    with mpmath.workprec(BITS + 100):
        scale = sigma * mpmath.sqrt(2)
        edges = [mpmath.erfc((k - mpmath.mpf(1) / 2) / scale) / 2 for k in range(reach + 2)]
        half = [int(mpmath.ldexp(left - right, BITS)) for left, right in itertools.pairwise(edges)]
    return [*reversed(half[1:]), *half]


@functools.cache
def convolved(sigmas: tuple[int, ...]) -> list[int]:
    """The law of the sum of the shares, exactly, over 2**600, at -R ... R; 27 deviations a share leave out 2**-527."""
    law = [1 << BITS]
    for sigma in sigmas:
        share = masses(sigma, reach=27 * sigma)
        product = np.convolve(np.array(law, dtype=object), np.array(share, dtype=object))
        law = [value >> BITS for value in product]
    return law


def sampled_density(sigmas: tuple[int, ...], k: int) -> mpmath.mpf:
    """Density at k of N(0, S^2) plus one uniform on [-1/2, 1/2] per share.

    A uniform integrates over a unit interval, so this is the H-fold central difference of the H-fold integral J_H of
    the normal density; J_0 is the density, J_1 its distribution function, and (n - 1) J_n = x J_(n-1) + S^2 J_(n-2).
    """
    count, square = len(sigmas), mpmath.mpf(sum(sigma * sigma for sigma in sigmas))

    def integral(x: mpmath.mpf) -> mpmath.mpf:
        below, here = mpmath.npdf(x, 0, mpmath.sqrt(square)), mpmath.ncdf(x, 0, mpmath.sqrt(square))
        for n in range(2, count + 1):
            below, here = here, (x * here + square * below) / (n - 1)
        return here

    return mpmath.fsum(
        (-1) ** j * math.comb(count, j) * integral(k + mpmath.mpf(count) / 2 - j) for j in range(count + 1)
    )


def largest_difference(sigmas: tuple[int, ...], *, points: int) -> mpmath.mpf:
    """max |q(k) - G(k)| over ``points`` integers from 0 to eight deviations of the sum."""
    law = convolved(sigmas)
    middle = len(law) // 2
    furthest = int(8 * math.sqrt(sum(sigma * sigma for sigma in sigmas)))
    with mpmath.workprec(900):
        return max(
            abs(mpmath.ldexp(law[middle + k], -BITS) - sampled_density(sigmas, k))
            for k in np.unique(np.linspace(0, furthest, points).astype(int)).tolist()
        )


@pytest.mark.parametrize("sigmas", SHARES, ids=str)
def test_the_sum_of_shares_is_the_sampled_density_of_a_gaussian_and_uniforms(sigmas: tuple[int, ...]) -> None:
    # Step 3 of the proof: |q(k) - G(k)| <= 2 (H + 1) exp(-pi^2 sigma^2 / 2), 2**-453 at H = 2 and sigma 8.
    with mpmath.workprec(200):
        bound = 2 * (len(sigmas) + 1) * mpmath.exp(-(mpmath.pi**2) * min(sigmas) ** 2 / 2)
        allowed = bound + mpmath.ldexp(1, -500)  # beside sigma 11 the test's own tails are what is left
    assert largest_difference(sigmas, points=25) <= allowed < mpmath.ldexp(1, -450)


@pytest.mark.parametrize(("sigmas", "least"), [((1, 1), 1e-6), ((1, 1, 1), 1e-9)])
def test_deviations_below_the_supported_ones_would_show_a_difference(sigmas: tuple[int, ...], least: float) -> None:
    # exp(-pi^2) = 5e-5 for two shares of deviation 1: the comparison above is able to fail.
    assert least < largest_difference(sigmas, points=8) < 1e-3


def test_the_sum_is_not_one_rounded_gaussian_of_the_sums_deviation() -> None:
    # As 0003 says: the second uniform shows. It moves the mass at zero by 2**-16, not by 2**-450.
    two = convolved((8, 8))
    scale = 2 * mpmath.sqrt(128 * 2)
    with mpmath.workprec(200):
        rounded_once = mpmath.erf(1 / scale)
        assert abs(mpmath.ldexp(two[len(two) // 2], -BITS) - rounded_once) > mpmath.ldexp(1, -20)


# --- what an attacker gains -----------------------------------------------------------------------------------------


def hockey_stick(law: list[int], *, shift: int, epsilon: mpmath.mpf) -> mpmath.mpf:
    """sup over sets A of P(shift + noise in A) - e^epsilon P(noise in A); ``law`` over 2**600, symmetric."""
    factor = int(mpmath.ldexp(mpmath.exp(epsilon), 200))
    padding = [0] * shift
    pairs = zip(padding + law, law + padding, strict=True)
    return mpmath.ldexp(sum(max(0, (moved << 200) - factor * here) for moved, here in pairs), -BITS - 200)


def gaussian_delta(mu: mpmath.mpf, epsilon: mpmath.mpf) -> mpmath.mpf:
    """Balle and Wang 2018, equation 6."""
    return mpmath.ncdf(mu / 2 - epsilon / mu) - mpmath.exp(epsilon) * mpmath.ncdf(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize("sigmas", SHARES, ids=str)
def test_the_shared_noise_is_never_easier_to_distinguish_than_the_gaussian_of_the_same_deviation(
    sigmas: tuple[int, ...],
) -> None:
    law = convolved(sigmas)
    with mpmath.workprec(400):
        deviation = mpmath.sqrt(sum(sigma * sigma for sigma in sigmas))
        for shift, epsilon in itertools.product((1, 4, 9, 20, 60), (0, 0.1, 0.5, 1, 3, 8)):
            exact = gaussian_delta(shift / deviation, mpmath.mpf(epsilon))
            shared = hockey_stick(law, shift=shift, epsilon=mpmath.mpf(epsilon))
            assert shared <= exact * (1 + mpmath.mpf("1e-12")) + mpmath.ldexp(1, -400)
            if exact > 1e-9:  # nor is much given away: rounding and the uniforms cost an attacker little
                assert shared > 0.85 * exact


def test_one_missing_share_would_break_that_comparison() -> None:
    with mpmath.workprec(400):
        claimed = gaussian_delta(9 / mpmath.sqrt(5 * 64), mpmath.mpf(1) / 2)
        assert hockey_stick(convolved((8,) * 4), shift=9, epsilon=mpmath.mpf(1) / 2) > 1.1 * claimed


def test_more_shares_than_are_counted_only_help() -> None:
    with mpmath.workprec(400):
        counted = [hockey_stick(convolved((8,) * n), shift=9, epsilon=mpmath.mpf(1) / 2) for n in (1, 2, 3)]
    assert counted == sorted(counted, reverse=True)


def test_the_tables_that_are_drawn_from_sum_to_the_same_law() -> None:
    # Total variation of the sum is at most the sum of the tables' distances: two shares, 2**-66 at most.
    table = RoundedGaussian(8)
    weights = [0] * table.thresholds.size
    for column, (threshold, alias) in enumerate(zip(table.thresholds.tolist(), table.aliases.tolist(), strict=True)):
        weights[column] += threshold
        weights[alias] += (1 << 64) - threshold
    one = [*reversed(weights[1:]), 2 * weights[0], *weights[1:]]  # over 2 * 2**64 * columns
    drawn = np.convolve(np.array(one, dtype=object), np.array(one, dtype=object)).tolist()
    exact = convolved((8, 8))
    middle, reach = len(exact) // 2, len(drawn) // 2
    shift = BITS - 2 * ((1 << 65) * len(weights)).bit_length() + 2
    inside = sum(abs((value << shift) - exact[middle + k - reach]) for k, value in enumerate(drawn))
    outside = (1 << BITS) - sum(exact[middle - reach : middle + reach + 1])
    assert math.log2(inside + outside) - 1 - BITS <= table.distance_bits + 1


@pytest.mark.parametrize("sharing", [1, 3, 5, 8])
def test_if_the_secure_sum_fails_one_share_alone_still_costs_the_root_of_the_shares_more(sharing: int) -> None:
    # PRIVACY.md section 1: the share is itself a rounded Gaussian, so the fallback is exact as well.
    mu = 0.2681
    printed = {1: 1.0, 3: 1.83, 5: 2.44, 8: 3.19}
    assert epsilon_for_mu(mu * math.sqrt(sharing), 1e-5) == pytest.approx(printed[sharing], abs=0.006)
