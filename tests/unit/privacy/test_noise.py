"""The three noise laws against independent high-precision routes, and their tables read back weight by weight."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import NoiseRangeError, UnknownMechanismError
from fedcredit.privacy import noise
from fedcredit.privacy.noise import LAWS, DiscreteGaussian, NoiseLaw, RoundedGaussian, Skellam, noise_law

KEY = bytes(range(32))
CAPACITY = 1 << 64


def realised_weights(law: NoiseLaw) -> list[int]:
    """Read back from the two arrays what each magnitude weighs, over ``2**64 * columns``."""
    weights = [0] * law.thresholds.size
    for column, (threshold, alias) in enumerate(zip(law.thresholds.tolist(), law.aliases.tolist(), strict=True)):
        weights[column] += threshold
        weights[alias] += CAPACITY - threshold
    return weights


def rounded_gaussian_cell(k: int, sigma: int) -> mpmath.mpf:
    """P(round(N) = k), by the complementary error function at the caller's precision."""
    scale = sigma * mpmath.sqrt(2)
    low, high = (abs(k) - mpmath.mpf(1) / 2) / scale, (abs(k) + mpmath.mpf(1) / 2) / scale
    return (mpmath.erfc(low) - mpmath.erfc(high)) / 2


def skellam_cell(k: int, sigma: int) -> mpmath.mpf:
    """P(X - Y = k) for Poisson X and Y, summed over the pairs: no Bessel function takes part."""
    mean = mpmath.mpf(sigma * sigma) / 2
    term = mpmath.exp(-2 * mean) * mean ** abs(k) / mpmath.factorial(abs(k))
    total, j = mpmath.mpf(0), 0
    while j < mean or term > mpmath.ldexp(total, -mpmath.mp.prec):
        total += term
        j += 1
        term *= mean * mean / (j * (j + abs(k)))
    return total


def discrete_gaussian_cell(k: int, sigma: int) -> mpmath.mpf:
    """exp(-k^2 / 2 sigma^2), over the sum of that at all integers: Jacobi's theta function."""
    nome = mpmath.exp(-1 / mpmath.mpf(2 * sigma * sigma))
    return nome ** (k * k) / mpmath.jtheta(3, 0, nome)


CELLS: dict[str, Callable[[int, int], mpmath.mpf]] = {
    "rounded-gaussian": rounded_gaussian_cell,
    "skellam": skellam_cell,
    "discrete-gaussian": discrete_gaussian_cell,
}
EXCESS = {"rounded-gaussian": 1 / 12, "skellam": 0.0, "discrete-gaussian": 0.0}
"""What the variance exceeds sigma^2 by: Sheppard's twelfth for rounding, up to exp(-2 pi^2 sigma^2)."""
every_law = pytest.mark.parametrize("name", LAWS)


def test_the_laws_are_found_by_name() -> None:
    assert [type(noise_law(name, 8)) for name in ("rounded-gaussian", "skellam", "discrete-gaussian")] == [
        RoundedGaussian,
        Skellam,
        DiscreteGaussian,
    ]
    assert noise_law("skellam", 9).sigma == 9
    assert set(CELLS) == set(LAWS)


def test_a_law_that_does_not_exist_is_refused_and_the_others_are_named() -> None:
    with pytest.raises(UnknownMechanismError, match="laplace") as caught:
        noise_law("laplace", 8)
    assert caught.value.fields["known"] == "rounded-gaussian, skellam, discrete-gaussian"


@every_law
@pytest.mark.parametrize("sigma", [7, 0, -8, 200_001])
def test_a_deviation_outside_the_supported_range_is_refused(name: str, sigma: int) -> None:
    with pytest.raises(NoiseRangeError, match="from 8 to 200000"):
        noise_law(name, sigma)


@every_law
@pytest.mark.parametrize("sigma", [8.0, True, "8"])
def test_a_deviation_that_is_not_an_integer_is_refused(name: str, sigma: object) -> None:
    with pytest.raises(NoiseRangeError):
        noise_law(name, sigma)  # type: ignore[arg-type]


# --- the masses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sigma", "points"),
    [(8, range(101)), (9, range(111)), (2_000, range(0, 20_021, 997)), (200_000, (0, 1, 2, 1_999))],
)
def test_every_cell_mass_agrees_with_the_error_function_to_150_bits(sigma: int, points: range) -> None:
    masses = noise._cell_masses(sigma, reach=max(points))
    with mpmath.workprec(400):
        for k in points:
            assert abs(mpmath.ldexp(masses[k], -200) - rounded_gaussian_cell(k, sigma)) < mpmath.ldexp(1, -151)


@pytest.mark.parametrize(
    ("sigma", "points"),
    [(8, range(101)), (9, range(111)), (500, range(0, 5_021, 97)), (200_000, (0, 1, 2, 1_999))],
)
def test_every_density_is_the_discrete_gaussian_to_150_bits(sigma: int, points: range) -> None:
    densities = noise._densities(sigma, reach=max(points))
    with mpmath.workprec(400):
        # For large sigma the theta function converges too slowly to be an independent route: its transform does not.
        peak = discrete_gaussian_cell(0, sigma) if sigma < 1_000 else 1 / (sigma * mpmath.sqrt(2 * mpmath.pi))
        for k in points:
            exact = peak * mpmath.exp(-mpmath.mpf(k * k) / (2 * sigma * sigma))
            assert abs(mpmath.ldexp(densities[k], -200) - exact) < mpmath.ldexp(1, -151)


@pytest.mark.parametrize(("sigma", "every"), [(8, 1), (9, 1), (10, 7), (40, 61)])
def test_the_errors_of_the_skellam_masses_together_stay_within_their_bound(sigma: int, every: int) -> None:
    masses = Skellam.masses(sigma)
    assert masses.wrong_by < 1 << 200 - 100
    with mpmath.workprec(400):
        far = mpmath.mpf(0)
        for k in range(0, len(masses.magnitudes), every):
            exact = skellam_cell(k, sigma) * (2 if k else 1)
            far += abs(mpmath.ldexp(masses.magnitudes[k], -200) - exact)
        assert far <= mpmath.ldexp(masses.wrong_by, -200)


@pytest.mark.parametrize("sigma", [300, 2_000])
def test_a_large_skellam_agrees_with_the_bessel_functions_of_mpmath(sigma: int) -> None:
    masses = Skellam.masses(sigma)
    assert masses.wrong_by < 1 << 200 - 100
    with mpmath.workprec(300):
        for k in (0, 1, 2, sigma // 2, sigma):
            exact = mpmath.besseli(k, sigma * sigma) * mpmath.exp(-sigma * sigma) * (2 if k else 1)
            assert abs(mpmath.ldexp(masses.magnitudes[k], -200) - exact) < mpmath.ldexp(masses.wrong_by, -200)


@pytest.mark.parametrize("sigma", [8, 9, 10, 30, 1_000, 200_000])
def test_what_the_skellam_recurrence_leaves_out_weighs_less_than_two_to_the_minus_124(sigma: int) -> None:
    # The third part of the proof in ``Skellam.masses``: s h(K/s) >= s (x^2/2 - x^4/24) > 124 log 2 + log 2.
    with mpmath.workprec(200):
        square = mpmath.mpf(sigma * sigma)
        x = (14 * sigma + 20) / square
        exponent = square * (x * mpmath.asinh(x) - mpmath.sqrt(1 + x * x) + 1)
        series = square * (x**2 / 2 - x**4 / 24)
        assert exponent >= series > 125 * mpmath.log(2)


# --- the tables -----------------------------------------------------------------------------------------------------


@every_law
@pytest.mark.parametrize("sigma", [8, 11, 24])
def test_the_stated_distance_bounds_the_exact_distance_of_the_realised_law(name: str, sigma: int) -> None:
    law = noise_law(name, sigma)
    weights, cell = realised_weights(law), CELLS[name]
    with mpmath.workprec(400):
        total = mpmath.mpf(CAPACITY * len(weights))
        far, inside = mpmath.mpf(0), mpmath.mpf(0)
        for magnitude, weight in enumerate(weights):
            exact = cell(magnitude, sigma) * (2 if magnitude else 1)
            far += abs(weight / total - exact)
            inside += exact
        exact_bits = mpmath.log((far + 1 - inside) / 2, 2)
    assert exact_bits <= law.distance_bits <= exact_bits + 0.01
    assert law.distance_bits <= -64


@every_law
@settings(max_examples=20, deadline=None)
@given(sigma=st.integers(8, 700))
def test_the_table_holds_exactly_its_capacity_and_the_variance_is_the_stated_one(name: str, sigma: int) -> None:
    law = noise_law(name, sigma)
    weights = realised_weights(law)
    assert sum(weights) == CAPACITY * len(weights)
    assert law.distance_bits <= -66
    variance = sum(k * k * weight for k, weight in enumerate(weights)) / (CAPACITY * len(weights))
    assert variance == pytest.approx(sigma**2 + EXCESS[name], rel=1e-12)


@every_law
def test_no_magnitude_beyond_fourteen_deviations_and_a_bit_can_be_drawn(name: str) -> None:
    sigma = 2_000
    weights = realised_weights(noise_law(name, sigma))
    assert max(k for k, weight in enumerate(weights) if weight) <= 14 * sigma + 20


@every_law
@pytest.mark.slow
def test_the_widest_law_keeps_its_distance(name: str) -> None:
    assert noise_law(name, 200_000).distance_bits <= -66


@every_law
def test_noise_is_int64_and_never_a_float(name: str) -> None:
    values = noise_law(name, 8).sample(KeyStream(KEY), 1_000)
    assert values.dtype == np.int64
    assert values.shape == (1_000,)


def test_the_laws_are_three_and_not_one() -> None:
    weights = [realised_weights(noise_law(name, 8))[:40] for name in LAWS]
    assert all(left != right for i, left in enumerate(weights) for right in weights[:i])


def test_a_table_is_built_once_and_shared() -> None:
    assert noise_law("skellam", 77)._table is noise_law("skellam", 77)._table
    assert noise_law("skellam", 77)._table is not noise_law("discrete-gaussian", 77)._table


def test_fixed_noise_of_earlier_versions_is_drawn_bit_for_bit() -> None:
    # Pinned from version 0.1.0, whose sampler branched per value. Studies with test noise stay comparable.
    assert RoundedGaussian(500).sample(KeyStream(KEY), 6).tolist() == [977, 295, -796, 987, -892, 293]
