"""Months of days: days are whole numbers since 1970-01-01, in float64, NaN where there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def month_end(days: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the last day of the month of each day; NaN where there is none."""
    there = np.isfinite(days)
    months = np.where(there, days, 0.0).astype(np.int64).astype("datetime64[D]").astype("datetime64[M]")
    last = (months + 1).astype("datetime64[D]").astype(np.int64) - 1
    return np.where(there, last.astype(np.float64), np.nan)
