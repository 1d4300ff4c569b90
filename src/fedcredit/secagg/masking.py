"""Masks: keystreams added to and subtracted from lanes (PROTOCOL.md 4.3), one core's cache at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from fedcredit.crypto.streams import KeyStream
from fedcredit.secagg.ring import Lanes

BLOCK_BYTES: Final = 1 << 18
"""Lanes and keystream that are worked on at a time. Both stay in the second-level cache (P3); at 32 KiB the calls cost
a third more, and a whole vector would leave the cache once per mask."""
_MASKABLE: Final = (np.dtype(np.uint16), np.dtype(np.uint32))


def add_masks(lanes: Lanes, *, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
    """Add the masks of the 32-byte keys ``plus`` to ``lanes``, shape (d,), and subtract those of ``minus``, in place.

    The mask of a key is the beginning of its keystream, read as little-endian lanes; arithmetic wraps modulo 2^bits.
    The call with ``plus`` and ``minus`` exchanged undoes it. Beside ``lanes`` it needs ``BLOCK_BYTES`` of memory.

    Raises:
        ValueError: a key comes twice (its masks would cancel or double), or does not have 32 bytes; or ``lanes`` is
            not a contiguous writable vector. Nothing was changed.
        TypeError: ``lanes`` are neither uint16 nor uint32. Nothing was changed.
    """
    _require_maskable(lanes)
    masks, step = _Masks(lanes, plus=plus, minus=minus), BLOCK_BYTES // lanes.itemsize
    for start in range(0, lanes.size, step):
        masks.add_to(lanes[start : start + step])


def masked_sum(
    vectors: Sequence[Lanes], *, plus: Sequence[bytes], minus: Sequence[bytes]
) -> Iterator[tuple[slice, Lanes]]:
    """Yield the sum of at least one vector, each of shape (d,), and of these masks, as ``add_masks`` adds them.

    It comes block by block, each with its place in the vectors, and is in the cache; the next block overwrites it.

    Raises:
        ValueError, TypeError: as ``add_masks``; or the vectors differ in length.
    """
    first, *others = vectors
    if any(lanes.shape != first.shape for lanes in others):
        raise ValueError("the vectors of a sum have one length")
    step = BLOCK_BYTES // first.itemsize
    block: Lanes = np.empty(min(step, first.size), dtype=first.dtype)
    _require_maskable(block)
    masks = _Masks(first, plus=plus, minus=minus)
    for start in range(0, first.size, step):
        place = slice(start, start + step)
        part = block[: first[place].size]
        summed = first[place]
        for lanes in others:
            summed = np.add(summed, lanes[place], out=part)
        if summed is not part:
            part[:] = summed
        masks.add_to(part)
        yield place, part


class _Masks:
    """Keystreams that are added to one block of lanes after the other."""

    def __init__(self, lanes: Lanes, *, plus: Sequence[bytes], minus: Sequence[bytes]) -> None:
        if len({*plus, *minus}) != len(plus) + len(minus):
            raise ValueError("a mask key comes twice")
        self._masks = [(np.add, KeyStream(key)) for key in plus] + [(np.subtract, KeyStream(key)) for key in minus]
        self._room = np.empty(min(BLOCK_BYTES, lanes.nbytes), dtype=np.uint8)

    def add_to(self, part: Lanes) -> None:
        """Add the next part of every keystream to the next at most ``BLOCK_BYTES`` of lanes."""
        room = self._room[: part.nbytes]
        mask, buffer = room.view(part.dtype.newbyteorder("<")), room.data
        for combine, keystream in self._masks:
            keystream.read_into(buffer)
            combine(part, mask, out=part)


def _require_maskable(lanes: Lanes) -> None:
    if lanes.dtype not in _MASKABLE:
        raise TypeError(f"lanes are uint16 or uint32, got {lanes.dtype}")
    if lanes.ndim != 1 or not lanes.flags.c_contiguous or not lanes.flags.writeable:
        raise ValueError("lanes are one contiguous writable vector")
