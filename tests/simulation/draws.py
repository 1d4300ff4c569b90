"""Everything that chance decides in a simulation, from one seed: AES-256-CTR as everywhere, so a seed is a trace."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

from fedcredit.crypto.streams import KeyStream

Item = TypeVar("Item")


class Draws:
    """A stream of draws; ``label`` says what for, so that more draws of one kind do not shift those of another."""

    def __init__(self, seed: int, label: str) -> None:
        self._stream = KeyStream(hashlib.sha256(f"fedcredit simulation 1/{seed}/{label}".encode()).digest())

    def bytes(self, count: int) -> bytes:
        """Return the next ``count`` bytes: the entropy of a simulated machine."""
        return self._stream.bytes(count).tobytes()

    def below(self, end: int) -> int:
        """Return an integer from 0 to ``end`` - 1; the bias of the remainder is below 2^-50 here."""
        return int.from_bytes(self.bytes(8), "little") % end

    def between(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + self.below(high - low + 1)

    def one_of(self, items: Sequence[Item]) -> Item:
        """Return one of ``items``."""
        return items[self.below(len(items))]
