"""The result of local training: integers, and how much one borrower can have moved them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


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
