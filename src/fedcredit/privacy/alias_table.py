"""One integer alias table for every noise law: exact weights, a computed distance, one look-up per number drawn.

A symmetric law on the integers is given by the masses of its magnitudes (``Masses``). The table realises a law of its
own, ``w / 2**(m + 64)`` with integer weights w, exactly (Walker 1977; Vose 1991): 2**m columns of capacity 2**64, each
shared by at most two magnitudes. ``distance_bits`` bounds how far that law is from the true one. No value is rejected,
so the number of key-stream words does not depend on what is drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.buffers import fresh_buffer
from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import NoiseRangeError
from fedcredit.privacy.release import SAMPLER_DISTANCE_BITS

FRACTION_BITS: Final = 200
"""Fractional bits of fixed-point masses."""

_THRESHOLD_BITS: Final = 64
_CAPACITY: Final = 1 << _THRESHOLD_BITS
_CHUNK: Final = 1 << 15
"""Numbers drawn at a time. It fixes the order in which the words of a stream are used: equal keys, equal noise."""
_SIGN_SHIFT: Final = 31


@dataclass(frozen=True, slots=True)
class Masses:
    """The masses P(|X| = k), k = 0, 1, ..., of a law that is symmetric about zero, in fixed point."""

    magnitudes: list[int]
    """Over 2**200; what is missing to 2**200 lies beyond the last magnitude."""
    wrong_by: int
    """Bound on the sum of the absolute errors of ``magnitudes``, over 2**200."""


class AliasTable:
    """A law on the integers that can be drawn from fast and whose distance from ``masses`` is computed, not assumed.

    Raises:
        NoiseRangeError: it is further from ``masses`` than the accountant charges for, 2**-66.
    """

    __slots__ = ("_column_mask", "_moves", "distance_bits", "thresholds")

    def __init__(self, masses: Masses) -> None:
        column_bits = (len(masses.magnitudes) - 1).bit_length()
        weights = _weights(masses, column_bits=column_bits)
        self.distance_bits: float = _distance_bits(weights, masses, column_bits=column_bits)
        """log2 of a bound on the total-variation distance from the true law, tails included; at most -66."""
        self.thresholds: NDArray[np.uint64]
        """Per column: a 64-bit word below it keeps the column's own magnitude. Read-only, shape (2**m,)."""
        self._moves: NDArray[np.int32]
        self.thresholds, self._moves = _alias_columns(weights, column_bits=column_bits)
        self.thresholds.flags.writeable = False
        self._moves.flags.writeable = False
        self._column_mask = np.uint32(self.thresholds.size - 1)

    @property
    def aliases(self) -> NDArray[np.int64]:
        """Per column: the magnitude drawn otherwise, shape (2**m,); a full column is its own alias."""
        aliases = np.arange(self._moves.size, dtype=np.int64) + self._moves
        aliases.flags.writeable = False
        return aliases

    def sample(self, stream: KeyStream, size: int) -> NDArray[np.int64]:
        """Draw ``size`` independent values, shape (size,), int64; consumes 3 words of the stream per 2 values.

        The threshold takes a 64-bit word; column and sign share a 32-bit half of another.
        """
        values = fresh_buffer(8 * size).view(np.int64)
        scratch = _Scratch(min(size, _CHUNK))
        for start in range(0, size, _CHUNK):
            part = values[start : start + _CHUNK]
            words = scratch.words[: part.size + (part.size + 1) // 2]
            stream.read_into(words.view(np.uint8).data)
            self._fill(part, words, scratch)
        return values

    def _fill(self, part: NDArray[np.int64], words: NDArray[np.uint64], scratch: _Scratch) -> None:
        """Turn words into values without a branch per value: ``where=`` would mispredict every second one."""
        count = part.size
        halves = words[count:].astype("<u8", copy=False).view("<u4")[:count]
        columns, indices = scratch.columns[:count], scratch.indices[:count]
        np.bitwise_and(halves, self._column_mask, out=columns)
        indices[:] = columns
        # "clip" never clips, because the mask keeps every index inside; it spares numpy a copy for its error case.
        thresholds = self.thresholds.take(indices, out=scratch.thresholds[:count], mode="clip")
        moved = np.greater_equal(words[:count], thresholds, out=scratch.moved[:count])
        magnitudes = self._moves.take(indices, out=scratch.magnitudes[:count], mode="clip")
        magnitudes *= moved
        magnitudes += columns.view(np.int32)
        signs = np.right_shift(halves.view("<i4"), _SIGN_SHIFT, out=columns.view(np.int32))
        magnitudes ^= signs
        np.subtract(magnitudes, signs, out=part)


class _Scratch:
    """Arrays that one call of ``sample`` uses again for each chunk, so that they stay in the cache."""

    __slots__ = ("columns", "indices", "magnitudes", "moved", "thresholds", "words")

    def __init__(self, size: int) -> None:
        self.words = np.empty(size + (size + 1) // 2, dtype="<u8")
        self.columns = np.empty(size, dtype=np.uint32)
        self.indices = np.empty(size, dtype=np.intp)
        self.thresholds = np.empty(size, dtype=np.uint64)
        self.moved = np.empty(size, dtype=np.bool_)
        self.magnitudes = np.empty(size, dtype=np.int32)


def _weights(masses: Masses, *, column_bits: int) -> list[int]:
    """Round the masses to integers over 2**(m + 64) that sum to exactly 2**(m + 64).

    The few units that rounding leaves over go to the magnitude 0, a heavy cell; ``_distance_bits`` counts them.
    """
    drop = FRACTION_BITS - column_bits - _THRESHOLD_BITS
    half = 1 << (drop - 1)
    weights = [(mass + half) >> drop for mass in masses.magnitudes]
    weights[0] += (_CAPACITY << column_bits) - sum(weights)
    return weights


def _distance_bits(weights: list[int], masses: Masses, *, column_bits: int) -> float:
    """Return log2 of a bound on the total-variation distance between ``weights`` and the law of ``masses``.

    Exact in integers: half the sum of |weight - mass|, plus half of the mass outside the table, plus what the masses
    themselves may be wrong by.

    Raises:
        NoiseRangeError: the bound exceeds the distance that the accountant charges for.
    """
    scale = FRACTION_BITS - column_bits - _THRESHOLD_BITS
    inside = sum(abs((weight << scale) - mass) for weight, mass in zip(weights, masses.magnitudes, strict=True))
    outside = abs((1 << FRACTION_BITS) - sum(masses.magnitudes))
    units = max(1, inside + outside + 2 * masses.wrong_by)
    bits = math.nextafter(math.log2(units) - 1 - FRACTION_BITS, math.inf)
    if bits > SAMPLER_DISTANCE_BITS:
        raise NoiseRangeError(problem=f"the noise table is 2**{bits:.1f} from its law, allowed is 2**-66")
    return bits


def _alias_columns(weights: list[int], *, column_bits: int) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Split the weights into 2**m columns of capacity exactly 2**64, each holding at most two magnitudes (Vose 1991).

    Returns the thresholds and, per column, alias minus column. In integers nothing is lost: the weights sum to the
    capacity of all columns, so every column ends exactly full.
    """
    columns = 1 << column_bits
    left = weights + [0] * (columns - len(weights))
    thresholds = [0] * columns
    moves = [0] * columns
    small = [c for c, weight in enumerate(left) if weight < _CAPACITY]
    large = [c for c, weight in enumerate(left) if weight >= _CAPACITY]
    while small:
        column, donor = small.pop(), large[-1]
        thresholds[column] = left[column]
        moves[column] = donor - column
        left[donor] -= _CAPACITY - left[column]
        if left[donor] < _CAPACITY:
            small.append(large.pop())
    return np.array(thresholds, dtype=np.uint64), np.array(moves, dtype=np.int32)
