"""The result of local training: integers, and how much one borrower can have moved them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class IntegerSum:
    """A sum over borrowers on the integer grid, before noise. Sensitive: it never leaves as it is."""

    values: npt.NDArray[np.int64]
    """(layout.size,), zero where the institution trains nothing."""
    trained: npt.NDArray[np.bool_]
    """(layout.size,), which entries carry a sum and get noise."""

    def __repr__(self) -> str:
        return f"IntegerSum(size={self.values.size}, values hidden)"
