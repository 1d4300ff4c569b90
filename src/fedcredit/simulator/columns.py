"""Columns on their way to a file: plain arrays, or codes into a list of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fedcredit.contract.canonical.table import NOT_APPLICABLE, NOT_COLLECTED, REFUSED, SENSOR_GAP

__all__ = ["NOT_APPLICABLE", "NOT_COLLECTED", "NO_DATE", "REFUSED", "SENSOR_GAP", "Coded", "Columns"]

NO_DATE = np.iinfo(np.int64).min
"""An empty date, every other date being a day number; and an empty cell among codes."""
_TYPED = ("-4", "-3", "-2", "-1")


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Words by their place in a list; -1 to -4 is the typed missing value itself, ``NO_DATE`` an empty cell."""

    codes: np.ndarray
    words: np.ndarray
    """Fixed-width bytes."""

    @classmethod
    def of(cls, codes: np.ndarray, words: Sequence[str]) -> Coded:
        """Return codes into words that people wrote."""
        return cls(codes=np.asarray(codes), words=np.array([word.encode() for word in words]))

    def __len__(self) -> int:
        return int(self.codes.size)

    def take(self, rows: np.ndarray) -> Coded:
        """Return the rows."""
        return Coded(codes=self.codes[rows], words=self.words)

    def dictionary(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (places, empty, words); the typed codes are words too, where there are any."""
        empty = self.codes == NO_DATE
        places = np.where(empty, 0, self.codes)
        if not places.size or places.min() >= 0:
            return places, empty, self.words
        return places + len(_TYPED), empty, np.concatenate([np.array([word.encode() for word in _TYPED]), self.words])


Column: TypeAlias = "np.ndarray | Coded"
Columns: TypeAlias = dict[str, Column]
