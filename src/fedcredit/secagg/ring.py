"""The ring that masks live in: signed integers as unsigned lanes of 16 or 32 bits, modulo 2^bits, and their bytes.

A lane above the middle stands for a negative number (two's complement), so a sum of lanes, each addition wrapping, is
the sum of the numbers as long as that sum itself fits.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.buffers import fresh_buffer
from fedcredit.errors import MalformedMessageError, NoiseRangeError

Lanes: TypeAlias = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

_UNSIGNED: Final[dict[int, np.dtype[Any]]] = {16: np.dtype(np.uint16), 32: np.dtype(np.uint32)}
_BLOCK: Final = 1 << 14
"""Numbers that are checked and converted at a time; they stay in a core's cache."""
_SIGNED: Final[dict[int, np.dtype[Any]]] = {16: np.dtype(np.int16), 32: np.dtype(np.int32)}


def ring_limit(bits: int) -> int:
    """Return the largest magnitude of a number in lanes of ``bits``: 2^(bits-1) - 1.

    Raises:
        ValueError: ``bits`` is neither 16 nor 32.
    """
    _require_width(bits)
    return int(2 ** (bits - 1) - 1)


def to_ring(values: npt.NDArray[np.int64], *, bits: int) -> Lanes:
    """Return ``values``, shape (d,), as new lanes of ``bits``.

    Raises:
        NoiseRangeError: a magnitude exceeds ``ring_limit(bits)``; wrapped silently, it would falsify the sum.
        ValueError: ``bits`` is neither 16 nor 32.
        TypeError: ``values`` are not 64-bit integers.
    """
    limit = ring_limit(bits)
    if values.dtype != np.int64:
        raise TypeError(f"numbers for the ring are int64, got {values.dtype}")
    lanes: Lanes = fresh_buffer(values.size * bits // 8).view(_UNSIGNED[bits])
    # Block by block: each one is read three times, and comes from memory only once.
    for start in range(0, values.size, _BLOCK):
        part = values[start : start + _BLOCK]
        # The magnitude of -2^63 is not an int64, so both ends are compared.
        if part.min() < -limit or part.max() > limit:
            raise NoiseRangeError(problem=f"a number exceeds {limit}, the end of {bits}-bit lanes")
        lanes[start : start + _BLOCK] = part
    return lanes


def from_ring(lanes: Lanes, *, bits: int) -> npt.NDArray[np.int64]:
    """Return the numbers that ``lanes``, shape (d,), stand for, from -2^(bits-1) to 2^(bits-1) - 1.

    Raises:
        ValueError: ``bits`` is neither 16 nor 32.
        TypeError: the lanes do not have ``bits`` bits.
    """
    return signed_view(lanes, bits=bits).astype(np.int64)


def signed_view(lanes: Lanes, *, bits: int) -> npt.NDArray[Any]:
    """Return what ``from_ring`` does, as narrow as the lanes and in their memory; it raises what that raises."""
    _require_width(bits)
    if lanes.dtype != _UNSIGNED[bits]:
        raise TypeError(f"{bits}-bit lanes are {_UNSIGNED[bits]}, got {lanes.dtype}")
    return lanes.view(_SIGNED[bits])


def lanes_to_bytes(lanes: Lanes) -> memoryview:
    """Return the little-endian bytes of contiguous ``lanes``: a read-only view that follows later changes, no copy."""
    return lanes.astype(lanes.dtype.newbyteorder("<"), copy=False).view(np.uint8).data.toreadonly()


def lanes_from_bytes(data: bytes | memoryview, *, count: int, bits: int, what: str) -> Lanes:
    """Return exactly ``count`` lanes, a read-only view of ``data`` that copies nothing.

    Raises:
        MalformedMessageError: ``data`` is shorter or longer than that; ``what`` names it to the operator.
        ValueError: ``bits`` is neither 16 nor 32.
    """
    _require_width(bits)
    dtype = _UNSIGNED[bits]
    expected = count * dtype.itemsize
    size = memoryview(data).nbytes
    if size != expected:
        raise MalformedMessageError(what=what, problem=f"{expected} bytes of lanes are expected, it has {size}")
    lanes = np.frombuffer(data, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)
    lanes.flags.writeable = False
    return lanes


def _require_width(bits: int) -> None:
    if bits not in _UNSIGNED:
        raise ValueError(f"a lane has 16 or 32 bits, not {bits}")
