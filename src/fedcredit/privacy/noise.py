"""The rounded Gaussian: integer noise whose privacy is exactly that of continuous Gaussian noise.

The law is p(k) = Phi((k + 1/2)/sigma) - Phi((k - 1/2)/sigma), that is round(N) for N normal with deviation ``sigma``.
For an integer x, x + round(N) = round(x + N): a post-processing of the continuous Gaussian mechanism with the same
sensitivity (docs/decisions/0003-rounded-gaussian-noise.md). The law is *not* closed under addition: it serves
messages that are private on their own, not noise that institutions share.

Sampling is one look-up in an alias table (Walker 1977; Vose 1991) with 64-bit integer thresholds. The table realises
a law of its own, ``w / 2**(m + 64)`` with integer weights w, exactly; ``distance_bits`` bounds how far that law is
from p. No value is rejected, so the number of key-stream words does not depend on what is drawn.
"""

from __future__ import annotations

import functools
import math
from typing import Final

import numpy as np
from mpmath.libmp import pi_fixed
from numpy.typing import NDArray

from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import NoiseRangeError
from fedcredit.privacy.release import LARGEST_SIGMA, SAMPLER_DISTANCE_BITS, SMALLEST_SIGMA

_FRACTION_BITS: Final = 200
"""Fractional bits of the fixed-point masses; see ``_cell_masses`` for the error they leave (below 2**-150)."""

_MASS_ERROR_BITS: Final = 150
_GUARD_BITS: Final = 40
_THRESHOLD_BITS: Final = 64
_CAPACITY: Final = 1 << _THRESHOLD_BITS
_CHUNK: Final = 1 << 15
_SIGN_SHIFT: Final = np.uint32(31)


class RoundedGaussian:
    """Integer noise round(N), N normal with mean zero and deviation ``sigma`` (an integer, on the grid of the data).

    Raises:
        NoiseRangeError: ``sigma`` is not an integer from 8 to 200,000.
    """

    __slots__ = ("_column_mask", "aliases", "distance_bits", "sigma", "thresholds")

    def __init__(self, sigma: int) -> None:
        if type(sigma) is not int or not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA:
            raise NoiseRangeError(
                problem=f"the deviation must be an integer from {SMALLEST_SIGMA} to {LARGEST_SIGMA}, got {sigma}"
            )
        self.sigma = sigma
        self.thresholds: NDArray[np.uint64]
        """Per column: a 64-bit word below it keeps the column's own magnitude. Read-only, shape (2**m,)."""
        self.aliases: NDArray[np.int64]
        """Per column: the magnitude drawn otherwise; a full column is its own alias. Read-only, shape (2**m,)."""
        self.distance_bits: float
        """log2 of a bound on the total-variation distance from the rounded Gaussian, tails included; at most -64."""
        self.thresholds, self.aliases, self.distance_bits = _table(sigma)
        self._column_mask = np.uint32(self.thresholds.size - 1)

    def sample(self, stream: KeyStream, size: int) -> NDArray[np.int64]:
        """Draw ``size`` independent values, shape (size,), int64; consumes 3 words of the stream per 2 values.

        The threshold takes a 64-bit word; column and sign share a 32-bit half of another.
        """
        values = np.empty(size, dtype=np.int64)
        for start in range(0, size, _CHUNK):
            part = values[start : start + _CHUNK]
            words = stream.words64(part.size + (part.size + 1) // 2)
            halves = words[part.size :].astype("<u8", copy=False).view("<u4")[: part.size]
            columns = (halves & self._column_mask).astype(np.intp)
            moved = words[: part.size] >= self.thresholds.take(columns)
            np.copyto(part, columns)
            np.copyto(part, self.aliases.take(columns), where=moved)
            np.negative(part, out=part, where=(halves >> _SIGN_SHIFT).astype(np.bool_))
        return values


@functools.lru_cache(maxsize=8)
def _table(sigma: int) -> tuple[NDArray[np.uint64], NDArray[np.int64], float]:
    masses = _magnitude_masses(sigma)
    column_bits = (len(masses) - 1).bit_length()
    weights = _weights(masses, column_bits=column_bits)
    distance = _distance_bits(weights, masses, column_bits=column_bits)
    thresholds, aliases = _alias_columns(weights, column_bits=column_bits)
    thresholds.flags.writeable = False
    aliases.flags.writeable = False
    return thresholds, aliases, distance


def _magnitude_masses(sigma: int) -> list[int]:
    """Return P(|round(N)| = k) for k = 0, 1, ... as integers over 2**200.

    Ten deviations suffice: what lies beyond weighs less than 2**-75, and every weight there would round to zero.
    """
    cells = _cell_masses(sigma, reach=10 * sigma + 20)
    return [cells[0], *(2 * mass for mass in cells[1:])]


def _cell_masses(sigma: int, *, reach: int) -> list[int]:
    """Return p(0) ... p(reach) of the rounded Gaussian as integers over 2**200, each wrong by less than 2**-151.

    p(k) = D(k) * S(k) with the density D(k) = exp(-k^2 / 2 sigma^2) / (sigma sqrt(2 pi)) and the cell's shape
    S(k) = integral over [-1/2, 1/2] of exp(-k t / sigma^2) exp(-t^2 / 2 sigma^2) dt, a power series in
    y = (k / 2 sigma^2)^2 with positive coefficients (``_shape_series``).

    Errors, in units of 2**-200: the ratio D(k+1)/D(k) gathers at most 2 per step, so D at most k^2 + 2k + 2; the
    Horner sum at most 2 per term. With k <= 2,000,020 and D, S <= 1.2 this stays below 2**43 units, 2**-157.
    """
    bits = _FRACTION_BITS
    square = sigma * sigma
    density = math.isqrt((1 << (3 * bits)) // (2 * pi_fixed(bits) * square))
    ratio = _exp_of_minus(1, 2 * square)
    decay = _exp_of_minus(1, square)
    step = (1 << (2 * bits)) // (4 * square * square)
    highest, *lower = reversed(_shape_series(sigma, reach=reach))
    masses = []
    for k in range(reach + 1):
        y = (k * k * step) >> bits
        shape = highest
        for coefficient in lower:
            shape = coefficient + ((shape * y) >> bits)
        masses.append((density * shape) >> bits)
        density = (density * ratio) >> bits
        ratio = (ratio * decay) >> bits
    return masses


def _shape_series(sigma: int, *, reach: int) -> list[int]:
    """Return the coefficients a_i over 2**200 of S(k) = sum_i a_i y^i, lowest first.

    a_i = 4^i M_i / (2i)! with the even moments M_i = integral over [-1/2, 1/2] of t^(2i) exp(-t^2 / 2 sigma^2) dt. The
    series stops where the next term is below 2**-200 at the largest y (a_i <= 1/(2i + 1)! and y < 0.62).
    """
    largest_y = (reach / (2 * sigma * sigma)) ** 2
    coefficients: list[int] = []
    term = 1.0
    while term >= 2.0**-_FRACTION_BITS:
        i = len(coefficients)
        coefficients.append((_quartered_moment(sigma, i) << _FRACTION_BITS) // (math.factorial(2 * i) << _WIDE))
        term = largest_y ** (i + 1) / math.factorial(2 * i + 3)
    return coefficients


_WIDE: Final = _FRACTION_BITS + _GUARD_BITS


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


def _weights(masses: list[int], *, column_bits: int) -> list[int]:
    """Round the masses to integers over 2**(m + 64) that sum to exactly 2**(m + 64).

    The few units that rounding leaves over go to the magnitude 0, the heaviest cell; ``_distance_bits`` counts them.
    """
    drop = _FRACTION_BITS - column_bits - _THRESHOLD_BITS
    half = 1 << (drop - 1)
    weights = [(mass + half) >> drop for mass in masses]
    weights[0] += (_CAPACITY << column_bits) - sum(weights)
    return weights


def _distance_bits(weights: list[int], masses: list[int], *, column_bits: int) -> float:
    """Return log2 of a bound on the total-variation distance between ``weights`` and the rounded Gaussian.

    Exact in integers: half the sum of |weight - mass|, plus half of the mass outside the table, plus what the masses
    themselves may be wrong by.

    Raises:
        NoiseRangeError: the bound exceeds the distance that the accountant charges for.
    """
    scale = _FRACTION_BITS - column_bits - _THRESHOLD_BITS
    inside = sum(abs((weight << scale) - mass) for weight, mass in zip(weights, masses, strict=True))
    outside = abs((1 << _FRACTION_BITS) - sum(masses))
    masses_wrong_by = len(masses) << (_FRACTION_BITS - _MASS_ERROR_BITS)
    bits = math.nextafter(math.log2(inside + outside + 2 * masses_wrong_by) - 1 - _FRACTION_BITS, math.inf)
    if bits > SAMPLER_DISTANCE_BITS:
        raise NoiseRangeError(problem=f"the noise table is 2**{bits:.1f} from its law, allowed is 2**-64")
    return bits


def _alias_columns(weights: list[int], *, column_bits: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Split the weights into 2**m columns of capacity exactly 2**64, each holding at most two magnitudes (Vose 1991).

    In integers nothing is lost: the weights sum to the capacity of all columns, so every column ends exactly full.
    """
    columns = 1 << column_bits
    left = weights + [0] * (columns - len(weights))
    thresholds = [0] * columns
    aliases = list(range(columns))
    small = [c for c, weight in enumerate(left) if weight < _CAPACITY]
    large = [c for c, weight in enumerate(left) if weight >= _CAPACITY]
    while small:
        column, donor = small.pop(), large[-1]
        thresholds[column] = left[column]
        aliases[column] = donor
        left[donor] -= _CAPACITY - left[column]
        if left[donor] < _CAPACITY:
            small.append(large.pop())
    return np.array(thresholds, dtype=np.uint64), np.array(aliases, dtype=np.int64)
