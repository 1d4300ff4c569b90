"""The result of local training: integers, and how much one borrower can have moved them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.buffers import fresh_buffer

_BLOCK: Final = 1 << 14
"""Numbers that are rounded at a time; they stay in a core's cache."""


@dataclass(frozen=True, kw_only=True)
class SumBounds:
    """What is public about an institution's sum before anything is computed."""

    sensitivity_squared: int | None
    """Largest squared L2 change when one borrower is added or removed; ``None`` if there is no such bound."""
    reached: npt.NDArray[np.bool_]
    """(lanes,), which numbers the institution's borrowers can move."""
    largest_entry: int
    """Largest magnitude that one borrower adds to one number."""


@dataclass(frozen=True, kw_only=True)
class IntegerSum:
    """A sum over borrowers on the integer grid, before noise. Sensitive: it never leaves as it is."""

    values: npt.NDArray[np.int64]
    """(lanes,), zero where the institution's borrowers move nothing."""

    def __repr__(self) -> str:
        return f"IntegerSum(size={self.values.size}, values hidden)"


def on_grid(values: npt.NDArray[np.floating[Any]], *, steps: float) -> npt.NDArray[np.int64]:
    """Return ``values``, shape (d,), in grid steps, ``steps`` to the unit: the nearest whole number, halves to even."""
    whole = fresh_buffer(8 * values.size).view(np.int64)
    room = np.empty(min(values.size, _BLOCK), dtype=values.dtype)
    for start in range(0, values.size, _BLOCK):
        part = values[start : start + _BLOCK]
        scaled = np.multiply(part, steps, out=room[: part.size])
        whole[start : start + _BLOCK] = np.rint(scaled, out=scaled)
    return whole
