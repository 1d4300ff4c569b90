"""Dates that stand for no date: what programs write where nobody knew one."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.checking.binding import Binding
from fedcredit.checking.findings import Mask

_PLACEHOLDERS: Final = tuple(
    float(np.datetime64(text, "D").astype(np.int64))
    for text in ("1899-12-30", "1899-12-31", "1900-01-01", "1970-01-01", "2099-12-31", "9999-12-31", "2999-12-31")
)


def placeholders(values: NDArray[Any], binding: Binding) -> Mask:
    """Return which days (or seconds, of a timestamp) of a column are no days of anything; they count as empty."""
    scale = 86_400.0 if binding.rule.type == "timestamp" else 1.0
    found: Mask = np.isin(np.floor(values / scale), _PLACEHOLDERS) & (binding.date_format != "%Y")
    return found
