"""Do Skellam and the discrete Gaussian have the law they are charged as? Seeded; false-alarm rates over fresh keys."""

import hashlib
import math

import numpy as np
import pytest
from scipy import stats

from fedcredit.crypto.streams import KeyStream
from fedcredit.privacy.noise import LAWS, noise_law

pytestmark = pytest.mark.statistical

ONE_IN_A_MILLION = 1e-6


def drawn(name: str, sigma: int, size: int, *, seed: str) -> np.ndarray:
    return noise_law(name, sigma).sample(KeyStream(hashlib.sha256(seed.encode()).digest()), size)


def skellam_mass(k: np.ndarray, sigma: int) -> np.ndarray:
    return stats.skellam.pmf(k, sigma**2 / 2, sigma**2 / 2)


def discrete_gaussian_mass(k: np.ndarray, sigma: int) -> np.ndarray:
    return stats.norm.pdf(k, scale=sigma)  # its normaliser is 1 to 2**-1821 from sigma 8 on


MASS = {"skellam": skellam_mass, "discrete-gaussian": discrete_gaussian_mass}


def p_value(name: str, values: np.ndarray, sigma: int) -> float:
    """Pearson's chi-square over the cells |k| <= 3 sigma and the rest."""
    reach = 3 * sigma
    inside = MASS[name](np.arange(-reach, reach + 1), sigma)
    expected = values.size * np.concatenate([inside, [1 - inside.sum()]])
    counts = np.bincount(np.where(np.abs(values) <= reach, values + reach, 2 * reach + 1), minlength=expected.size)
    return float(stats.chisquare(counts, expected).pvalue)


@pytest.mark.parametrize("name", MASS)
@pytest.mark.parametrize("sigma", [8, 25])
def test_every_value_is_as_frequent_as_the_law_says(name: str, sigma: int) -> None:
    # A million draws; false alarms 1e-6. Catches: a damaged column, a doubled or missing zero, a lost sign.
    assert p_value(name, drawn(name, sigma, 1_000_000, seed=f"{name} {sigma}"), sigma) > ONE_IN_A_MILLION


def test_the_frequencies_tell_the_laws_apart() -> None:
    # At sigma 8 Skellam's fourth moment is sigma^2 = 64 above a Gaussian's 3 sigma^4: visible in 4 million draws.
    values = drawn("skellam", 8, 4_000_000, seed="apart")
    assert p_value("skellam", values, 8) > ONE_IN_A_MILLION
    assert p_value("discrete-gaussian", values, 8) < ONE_IN_A_MILLION


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("sigma", [8, 700, 20_000])
def test_the_scale_is_the_claimed_one(name: str, sigma: int) -> None:
    # A chi-square test of 10,000 draws at 1e-6 accepts 0.966 to 1.035 of the claimed deviation. Catches halved noise.
    values = drawn(name, sigma, 10_000, seed=f"scale {name} {sigma}")
    statistic = float(np.sum(values.astype(np.float64) ** 2)) / (sigma**2 + (name == "rounded-gaussian") / 12)
    low, high = stats.chi2.ppf([ONE_IN_A_MILLION / 2, 1 - ONE_IN_A_MILLION / 2], df=values.size)
    assert low < statistic < high


@pytest.mark.parametrize("name", LAWS)
def test_a_sum_of_five_shares_has_five_times_the_variance(name: str) -> None:
    # False alarms 1e-6. Catches: one institution's noise only, or one key at all of them (25 times the variance).
    size, sigma = 40_000, 100
    total = sum(drawn(name, sigma, size, seed=f"share {i}") for i in range(5))
    ratio = float(np.mean(total.astype(np.float64) ** 2)) / (5 * sigma**2)
    assert abs(ratio - 1) < 4.9 * math.sqrt(2 / size)
