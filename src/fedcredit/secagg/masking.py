"""Masks: keystreams added to and subtracted from lanes (PROTOCOL.md 4.3), one core's cache at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from fedcredit.crypto.streams import KeyStream
from fedcredit.secagg.ring import Lanes

BLOCK_BYTES: Final = 1 << 18
"""Lanes and keystream that are worked on at a time. Both stay in the second-level cache (P3: at most 1.2 times the
keystreams alone); at 32 KiB the calls cost a third more, and a whole vector would leave the cache once per mask."""
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
    if len({*plus, *minus}) != len(plus) + len(minus):
        raise ValueError("a mask key comes twice")
    masks = [(np.add, KeyStream(key)) for key in plus] + [(np.subtract, KeyStream(key)) for key in minus]
    stream = np.empty(min(BLOCK_BYTES, lanes.nbytes), dtype=np.uint8)
    step = BLOCK_BYTES // lanes.itemsize
    for start in range(0, lanes.size, step):
        part = lanes[start : start + step]
        room = stream[: part.nbytes]
        mask = room.view(lanes.dtype.newbyteorder("<"))
        for combine, keystream in masks:
            keystream.read_into(room.data)
            combine(part, mask, out=part)


def _require_maskable(lanes: Lanes) -> None:
    if lanes.dtype not in _MASKABLE:
        raise TypeError(f"lanes are uint16 or uint32, got {lanes.dtype}")
    if lanes.ndim != 1 or not lanes.flags.c_contiguous or not lanes.flags.writeable:
        raise ValueError("lanes are one contiguous writable vector")
