"""Integer noise laws: rounded Gaussian, Skellam and discrete Gaussian, all drawn through one alias table.

Each law is symmetric about zero and has an integer deviation ``sigma``, in grid units of the data:

* **rounded Gaussian**: round(N) for N normal, p(k) = Phi((k + 1/2)/sigma) - Phi((k - 1/2)/sigma). For an integer x,
  x + round(N) = round(x + N), a post-processing of the continuous Gaussian mechanism with the same sensitivity
  (docs/decisions/0003-rounded-gaussian-noise.md); so is a sum of such noises that several institutions share
  (docs/decisions/0010-shared-noise.md). The default.
* **Skellam**: the difference of two Poisson variables of mean sigma^2/2, p(k) = exp(-sigma^2) I_k(sigma^2). A sum of
  Skellams is a Skellam. Charged by Renyi privacy (``renyi``).
* **discrete Gaussian**: p(k) proportional to exp(-k^2 / 2 sigma^2). Charged by Renyi privacy (``renyi``).

Masses are integers over 2**200 with a proven error bound; no float takes part.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final

import numpy as np
from mpmath.libmp import pi_fixed
from numpy.typing import NDArray

from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import NoiseRangeError, UnknownMechanismError
from fedcredit.privacy.alias_table import FRACTION_BITS, AliasTable, Masses
from fedcredit.privacy.release import LARGEST_SIGMA, SMALLEST_SIGMA

_MASS_ERROR_BITS: Final = 150
"""Each mass of a Gaussian law is wrong by less than 2**-150; see ``_densities`` and ``_cell_masses``."""
_GUARD_BITS: Final = 40


class NoiseLaw(ABC):
    """Integer noise with mean zero and deviation ``sigma`` (an integer, on the grid of the data).

    Raises:
        NoiseRangeError: ``sigma`` is not an integer from 8 to 200,000.
    """

    __slots__ = ("_table", "sigma")

    name: ClassVar[str]
    """The law's name in plans and releases."""

    def __init__(self, sigma: int) -> None:
        if type(sigma) is not int or not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA:
            raise NoiseRangeError(
                problem=f"the deviation must be an integer from {SMALLEST_SIGMA} to {LARGEST_SIGMA}, got {sigma}"
            )
        self.sigma = sigma
        self._table = _table(self.name, sigma)

    @property
    def distance_bits(self) -> float:
        """log2 of a bound on the total-variation distance from the stated law, tails included; at most -66."""
        return self._table.distance_bits

    @property
    def thresholds(self) -> NDArray[np.uint64]:
        """See ``AliasTable.thresholds``; for tests, which read the realised law back."""
        return self._table.thresholds

    @property
    def aliases(self) -> NDArray[np.int64]:
        """See ``AliasTable.aliases``."""
        return self._table.aliases

    def sample(self, stream: KeyStream, size: int) -> NDArray[np.int64]:
        """Draw ``size`` independent values, shape (size,), int64; consumes 3 words of the stream per 2 values."""
        return self._table.sample(stream, size)

    @staticmethod
    @abstractmethod
    def masses(sigma: int) -> Masses:
        """Return the law in fixed point.

        Ten deviations suffice: what lies beyond weighs less than 2**-70, and every weight there would round to zero.
        """


class RoundedGaussian(NoiseLaw):
    """round(N), N normal with mean zero and deviation ``sigma``; its variance is sigma^2 + 1/12."""

    __slots__ = ()
    name = "rounded-gaussian"

    @staticmethod
    def masses(sigma: int) -> Masses:
        """Return the law in fixed point."""
        return _gaussian_masses(_cell_masses(sigma, reach=_reach(sigma)))


class DiscreteGaussian(NoiseLaw):
    """The integers k with probability proportional to exp(-k^2 / 2 sigma^2); its variance is sigma^2."""

    __slots__ = ()
    name = "discrete-gaussian"

    @staticmethod
    def masses(sigma: int) -> Masses:
        """Return the law in fixed point.

        The normaliser is that of the density: by Poisson summation the densities at all integers sum to 1 plus
        2 exp(-2 pi^2 sigma^2) + ..., which at sigma 8 is 1 + 2**-1821.
        """
        return _gaussian_masses(_densities(sigma, reach=_reach(sigma)))


class Skellam(NoiseLaw):
    """The difference of two independent Poisson variables of mean sigma^2/2; its variance is sigma^2."""

    __slots__ = ()
    name = "skellam"

    @staticmethod
    def masses(sigma: int) -> Masses:
        """Return the law in fixed point, from the recurrence of the Bessel functions I_k(s), s = sigma^2.

        I_(k-1) = I_(k+1) + (2k/s) I_k, run downwards from K = 14 sigma + 20 with y_(K+1) = y_K = U, then scaled to
        sum to 1 (Miller's algorithm; DLMF 3.6, 10.29.1). Why the error is at most what is returned:

        * Flooring. All coefficients are positive, so y_(k-1) >= y_(k+1) >= ... >= U, and a unit lost at step j is
          worth at most y_k/y_j <= y_k/U at step k. Together less than K/U of the total.
        * The start. y_k I_(k+1) - y_(k+1) I_k only changes sign from step to step, so its size is
          U (I_K - I_(K+1)) < U I_K. Hence q_k = y_k/I_k moves by less than U I_K / (I_k I_(k+1)) per step, and as I_k
          falls in k, |y_k - q_0 I_k| < k U I_K/I_k <= k U. Over -K ... K that sums to less than 2 K^2 U.
        * The tail beyond K, which the total leaves out: P(|X| > K) <= 2 exp(-s h(K/s)) by Chernoff with
          h(x) = x asinh x - sqrt(1 + x^2) + 1 >= x^2/2 - x^4/24 (h'' = (1 + x^2)^(-1/2) >= 1 - x^2/2). The exponent
          is smallest at sigma 8: 87, so less than 2**-124.

        Each of the three counts at most twice, once for a mass and once for the total it is divided by.
        """
        square, reach, start = sigma * sigma, _reach(sigma), 14 * sigma + 20
        above = here = 1 << _BESSEL_UNIT_BITS
        outside = 0
        values = []
        for k in range(start, -1, -1):
            if k > reach:
                outside += here
            else:
                values.append(here)
            above, here = here, above + 2 * k * here // square
        values.reverse()
        total = values[0] + 2 * (sum(values) - values[0] + outside)
        relative = (2 * start * start << _BESSEL_UNIT_BITS + FRACTION_BITS) // total
        relative += (start << FRACTION_BITS - _BESSEL_UNIT_BITS) + (1 << FRACTION_BITS - 124)
        magnitudes = [(value << FRACTION_BITS + 1) // total for value in values]
        magnitudes[0] = (values[0] << FRACTION_BITS) // total
        return Masses(magnitudes=magnitudes, wrong_by=2 * relative + len(magnitudes))


_BESSEL_UNIT_BITS: Final = 128

LAWS: Final[Mapping[str, type[NoiseLaw]]] = MappingProxyType(
    {law.name: law for law in (RoundedGaussian, Skellam, DiscreteGaussian)}
)
"""Every noise law by its name in plans and releases."""


def noise_law(mechanism_name: str, sigma: int) -> NoiseLaw:
    """Return the law of that name.

    Raises:
        UnknownMechanismError: there is no such law.
        NoiseRangeError: ``sigma`` is not an integer from 8 to 200,000.
    """
    if mechanism_name not in LAWS:
        raise UnknownMechanismError(mechanism=mechanism_name[:40], known=", ".join(LAWS))
    return LAWS[mechanism_name](sigma)


@functools.lru_cache(maxsize=8)
def _table(mechanism_name: str, sigma: int) -> AliasTable:
    return AliasTable(LAWS[mechanism_name].masses(sigma))


def _reach(sigma: int) -> int:
    return 10 * sigma + 20


def _gaussian_masses(cells: list[int]) -> Masses:
    return Masses(
        magnitudes=[cells[0], *(2 * mass for mass in cells[1:])],
        wrong_by=len(cells) << (FRACTION_BITS - _MASS_ERROR_BITS),
    )


def _densities(sigma: int, *, reach: int) -> list[int]:
    """Return D(0) ... D(reach), D(k) = exp(-k^2 / 2 sigma^2) / (sigma sqrt(2 pi)), each wrong by less than 2**-157.

    The ratio D(k+1)/D(k) gathers an error of at most 2 units of 2**-200 per step, so D at most k^2 + 2k + 2: with
    k <= 2,000,020 below 2**42 units.
    """
    bits = FRACTION_BITS
    square = sigma * sigma
    density = math.isqrt((1 << (3 * bits)) // (2 * pi_fixed(bits) * square))
    ratio = _exp_of_minus(1, 2 * square)
    decay = _exp_of_minus(1, square)
    densities = []
    for _ in range(reach + 1):
        densities.append(density)
        density = (density * ratio) >> bits
        ratio = (ratio * decay) >> bits
    return densities


def _cell_masses(sigma: int, *, reach: int) -> list[int]:
    """Return p(0) ... p(reach) of the rounded Gaussian as integers over 2**200, each wrong by less than 2**-151.

    p(k) = D(k) * S(k) with the density D(k) and the cell's shape S(k) = integral over [-1/2, 1/2] of
    exp(-k t / sigma^2) exp(-t^2 / 2 sigma^2) dt, a power series in y = (k / 2 sigma^2)^2 with positive coefficients
    (``_shape_series``). Its Horner sum adds at most 2 units per term to the error of D; with D, S <= 1.2 the product
    stays below 2**43 units, 2**-157.
    """
    bits = FRACTION_BITS
    square = sigma * sigma
    step = (1 << (2 * bits)) // (4 * square * square)
    highest, *lower = reversed(_shape_series(sigma, reach=reach))
    masses = []
    for k, density in enumerate(_densities(sigma, reach=reach)):
        y = (k * k * step) >> bits
        shape = highest
        for coefficient in lower:
            shape = coefficient + ((shape * y) >> bits)
        masses.append((density * shape) >> bits)
    return masses


def _shape_series(sigma: int, *, reach: int) -> list[int]:
    """Return the coefficients a_i over 2**200 of S(k) = sum_i a_i y^i, lowest first.

    a_i = 4^i M_i / (2i)! with the even moments M_i = integral over [-1/2, 1/2] of t^(2i) exp(-t^2 / 2 sigma^2) dt. The
    series stops where the next term is below 2**-200 at the largest y (a_i <= 1/(2i + 1)! and y < 0.62).
    """
    largest_y = (reach / (2 * sigma * sigma)) ** 2
    coefficients: list[int] = []
    term = 1.0
    while term >= 2.0**-FRACTION_BITS:
        i = len(coefficients)
        coefficients.append((_quartered_moment(sigma, i) << FRACTION_BITS) // (math.factorial(2 * i) << _WIDE))
        term = largest_y ** (i + 1) / math.factorial(2 * i + 3)
    return coefficients


_WIDE: Final = FRACTION_BITS + _GUARD_BITS


def _quartered_moment(sigma: int, i: int) -> int:
    """Return 4^i M_i over 2**240: the sum over j of (-1 / 8 sigma^2)^j / (j! (2i + 2j + 1))."""
    total, power, j = 0, 1 << _WIDE, 0
    while power:
        total += power // (2 * i + 2 * j + 1) if j % 2 == 0 else -(power // (2 * i + 2 * j + 1))
        j += 1
        power //= 8 * sigma * sigma * j
    return total


def _exp_of_minus(numerator: int, denominator: int) -> int:
    """Return exp(-numerator/denominator) over 2**200, wrong by less than one unit; the argument is below 1."""
    total, power, n = 0, 1 << _WIDE, 0
    while power:
        total += power if n % 2 == 0 else -power
        n += 1
        power = power * numerator // (denominator * n)
    return total >> _GUARD_BITS
