"""The rounded-Gaussian table against an independent high-precision route, and the sampler against plain integers."""

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import NoiseRangeError
from fedcredit.privacy import noise
from fedcredit.privacy.noise import RoundedGaussian

KEY = bytes(range(32))
CAPACITY = 1 << 64


def realised_weights(law: RoundedGaussian) -> list[int]:
    """Read back from the two arrays what each magnitude weighs, over ``2**64 * columns``."""
    weights = [0] * law.thresholds.size
    for column, (threshold, alias) in enumerate(zip(law.thresholds.tolist(), law.aliases.tolist(), strict=True)):
        weights[column] += threshold
        weights[alias] += CAPACITY - threshold
    return weights


def cell(k: int, sigma: int) -> mpmath.mpf:
    """P(round(N) = k), by the complementary error function at the caller's precision."""
    scale = sigma * mpmath.sqrt(2)
    low, high = (abs(k) - mpmath.mpf(1) / 2) / scale, (abs(k) + mpmath.mpf(1) / 2) / scale
    return (mpmath.erfc(low) - mpmath.erfc(high)) / 2


@pytest.mark.parametrize("sigma", [7, 0, -8, 200_001])
def test_a_deviation_outside_the_supported_range_is_refused(sigma: int) -> None:
    with pytest.raises(NoiseRangeError, match="from 8 to 200000"):
        RoundedGaussian(sigma)


@pytest.mark.parametrize("sigma", [8.0, True, "8"])
def test_a_deviation_that_is_not_an_integer_is_refused(sigma: object) -> None:
    with pytest.raises(NoiseRangeError):
        RoundedGaussian(sigma)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sigma", "points"),
    [(8, range(101)), (9, range(111)), (2_000, range(0, 20_021, 997)), (200_000, (0, 1, 2, 1_999))],
)
def test_every_cell_mass_agrees_with_the_error_function_to_150_bits(sigma: int, points: range) -> None:
    masses = noise._cell_masses(sigma, reach=max(points))
    with mpmath.workprec(400):
        for k in points:
            assert abs(mpmath.ldexp(masses[k], -200) - cell(k, sigma)) < mpmath.ldexp(1, -151)


@pytest.mark.parametrize("sigma", [8, 11, 40])
def test_the_stated_distance_bounds_the_exact_distance_of_the_realised_law(sigma: int) -> None:
    law = RoundedGaussian(sigma)
    weights = realised_weights(law)
    with mpmath.workprec(400):
        total = mpmath.mpf(CAPACITY * len(weights))
        far = mpmath.mpf(0)
        for magnitude, weight in enumerate(weights):
            far += abs(weight / total - cell(magnitude, sigma) * (2 if magnitude else 1))
        far += mpmath.erfc((len(weights) - mpmath.mpf(1) / 2) / (sigma * mpmath.sqrt(2)))
        exact_bits = mpmath.log(far / 2, 2)
    assert exact_bits <= law.distance_bits <= exact_bits + 0.01
    assert law.distance_bits <= -64


@settings(max_examples=40, deadline=None)
@given(sigma=st.integers(8, 700))
def test_the_table_holds_exactly_its_capacity_and_the_variance_is_sigma_squared_plus_a_twelfth(sigma: int) -> None:
    weights = realised_weights(RoundedGaussian(sigma))
    assert sum(weights) == CAPACITY * len(weights)
    variance = sum(k * k * weight for k, weight in enumerate(weights)) / (CAPACITY * len(weights))
    # Sheppard: rounding adds 1/12, up to terms of exp(-2 pi^2 sigma^2), which vanish.
    assert variance == pytest.approx(sigma**2 + 1 / 12, rel=1e-12)


def test_no_magnitude_beyond_fourteen_deviations_and_a_bit_can_be_drawn() -> None:
    sigma = 2_000
    weights = realised_weights(RoundedGaussian(sigma))
    assert max(k for k, weight in enumerate(weights) if weight) <= 14 * sigma + 20


def test_a_table_too_far_from_its_law_is_refused() -> None:
    masses = noise._magnitude_masses(8)
    weights = noise._weights(masses, column_bits=7)
    weights[3] += 1 << 12
    weights[4] -= 1 << 12
    with pytest.raises(NoiseRangeError, match=r"2\*\*-59"):
        noise._distance_bits(weights, masses, column_bits=7)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 32_768, 32_769, 70_001])
def test_samples_follow_the_table_word_by_word(size: int) -> None:
    law = RoundedGaussian(500)
    thresholds, aliases = law.thresholds.tolist(), law.aliases.tolist()
    stream, expected = KeyStream(KEY), []
    for count in [min(32_768, size - start) for start in range(0, size, 32_768)]:
        keep = stream.words64(count).tolist()
        pairs = stream.words64((count + 1) // 2).tolist()
        for i in range(count):
            half = (pairs[i // 2] >> (32 * (i % 2))) & 0xFFFFFFFF
            column = half % len(thresholds)
            magnitude = column if keep[i] < thresholds[column] else aliases[column]
            expected.append(-magnitude if half >> 31 else magnitude)
    assert law.sample(KeyStream(KEY), size).tolist() == expected


def test_a_word_below_the_threshold_keeps_the_column_and_the_threshold_itself_does_not() -> None:
    law = RoundedGaussian(8)
    column = int(np.flatnonzero(law.thresholds)[0])
    threshold = int(law.thresholds[column])

    class Words:
        def words64(self, count: int) -> np.ndarray:
            assert count == 3
            return np.array([threshold - 1, threshold, column | column << 32], dtype="<u8")

    assert law.sample(Words(), 2).tolist() == [column, law.aliases[column]]  # type: ignore[arg-type]


def test_noise_is_int64_and_never_a_float() -> None:
    values = RoundedGaussian(8).sample(KeyStream(KEY), 1_000)
    assert values.dtype == np.int64
    assert values.shape == (1_000,)


def test_how_much_of_the_stream_is_used_does_not_depend_on_what_is_drawn() -> None:
    narrow, wide, reference = KeyStream(KEY), KeyStream(KEY), KeyStream(KEY)
    RoundedGaussian(8).sample(narrow, 101)
    RoundedGaussian(3_000).sample(wide, 101)
    reference.words64(101 + 51)
    assert narrow.words64(1) == wide.words64(1) == reference.words64(1)


def test_the_cached_table_cannot_be_changed() -> None:
    law = RoundedGaussian(8)
    with pytest.raises(ValueError, match="read-only"):
        law.thresholds[0] = 0
    with pytest.raises(ValueError, match="read-only"):
        law.aliases[0] = 0
