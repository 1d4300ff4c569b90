"""Does the drawn noise have the law it is charged as? Seeded; each test states its false-alarm rate over fresh keys."""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from fedcredit.crypto.streams import KeyStream
from fedcredit.privacy.noise import RoundedGaussian

pytestmark = pytest.mark.statistical

ONE_IN_A_MILLION = 1e-6


def drawn(sigma: int, size: int, *, seed: str) -> np.ndarray:
    return RoundedGaussian(sigma).sample(KeyStream(hashlib.sha256(seed.encode()).digest()), size)


def scale_is_accepted(values: np.ndarray, *, claimed: float) -> bool:
    """Chi-square test of the scale at a false-alarm rate of 1e-6; Sheppard's 1/12 is the rounding."""
    statistic = float(np.sum(values.astype(np.float64) ** 2)) / (claimed**2 + 1 / 12)
    low, high = stats.chi2.ppf([ONE_IN_A_MILLION / 2, 1 - ONE_IN_A_MILLION / 2], df=values.size)
    return low < statistic < high


@pytest.mark.parametrize("sigma", [8, 33, 700, 2_000, 20_000])
def test_the_scale_is_the_claimed_one(sigma: int) -> None:
    # 10,000 draws accept 0.966 to 1.035 of the claimed deviation (STYLE.md 2). Catches: halved noise, a wrong grid.
    values = drawn(sigma, 10_000, seed=f"scale {sigma}")
    assert scale_is_accepted(values, claimed=sigma)


@pytest.mark.parametrize("claimed", [1.04, 0.96, 2.0, math.sqrt(5)])
def test_the_scale_test_finds_noise_that_is_off_by_four_percent_or_more(claimed: float) -> None:
    # sqrt(5): only one of five institutions adds its share. Misses with probability below 2 % at 4 %; seeded.
    assert not scale_is_accepted(drawn(2_000, 40_000, seed="power"), claimed=claimed * 2_000)


def test_every_value_is_as_frequent_as_the_law_says() -> None:
    # Pearson's chi-square over the cells |k| <= 4 sigma and two tails, a million draws; false alarms 1e-6.
    # Catches: a damaged alias column, a doubled or missing zero, a lost sign.
    sigma, size = 25, 1_000_000
    values = drawn(sigma, size, seed="frequencies")
    reach = 4 * sigma
    edges = (np.arange(-reach, reach + 2) - 0.5) / sigma
    expected = size * np.diff(np.concatenate([[0.0], stats.norm.cdf(edges), [1.0]]))
    counts = np.bincount(np.clip(values, -reach - 1, reach + 1) + reach + 1, minlength=expected.size)
    assert stats.chisquare(counts, expected).pvalue > ONE_IN_A_MILLION


def test_the_moments_are_those_of_a_normal_law() -> None:
    # Mean, skewness, excess kurtosis and sign balance of a million draws within five standard errors: 2.3e-6 together.
    size = 1_000_000
    scores = drawn(2_000, size, seed="moments") / math.sqrt(2_000**2 + 1 / 12)
    assert abs(scores.mean()) * math.sqrt(size) < 5
    assert abs((scores**3).mean()) * math.sqrt(size / 15) < 5
    assert abs((scores**4).mean() - 3) * math.sqrt(size / 96) < 5
    assert abs(np.sign(scores).mean()) * math.sqrt(size) < 5


def correlation_in_standard_errors(left: np.ndarray, right: np.ndarray) -> float:
    return abs(float(np.corrcoef(left, right)[0, 1])) * math.sqrt(left.size)


def test_releases_have_independent_noise() -> None:
    # Two rounds of one stream, two streams, and neighbouring numbers: 3 x 5.7e-7 false alarms.
    # Catches: the same noise every round (correlation 1), a key used twice, halves of a word used twice.
    size, law = 200_000, RoundedGaussian(500)
    stream = KeyStream(hashlib.sha256(b"rounds").digest())
    first, second = law.sample(stream, size), law.sample(stream, size)
    other = drawn(500, size, seed="another institution")
    assert correlation_in_standard_errors(first, second) < 5
    assert correlation_in_standard_errors(first, other) < 5
    assert correlation_in_standard_errors(first[:-1], first[1:]) < 5


def test_the_independence_test_finds_one_key_used_for_two_rounds() -> None:
    assert correlation_in_standard_errors(drawn(500, 1_000, seed="same"), drawn(500, 1_000, seed="same")) > 30


def test_size_and_sign_are_independent() -> None:
    # They share a 32-bit half word with the column. False alarms 5.7e-7.
    values = drawn(500, 200_000, seed="sign")
    values = values[values != 0]
    assert correlation_in_standard_errors(np.sign(values), np.abs(values)) < 5
