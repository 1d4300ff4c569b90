"""Memory for what is long: lanes, and what a seal opens to."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

_LARGE_PAGE: Final = 1 << 21
"""Of x86-64 and of most ARM systems. Where pages have another size, nothing is gained and nothing lost."""


def fresh_buffer(size: int) -> npt.NDArray[np.uint8]:
    """Return ``size`` bytes that nobody has written, shape (size,); what is in them is arbitrary.

    A long one begins where a large page does. numpy asks Linux for large pages, and these come by the megabyte:
    touching 4 MB of ordinary pages for the first time costs as much as encrypting them.
    """
    if size < _LARGE_PAGE:
        return np.empty(size, dtype=np.uint8)
    # Up to two large pages more than asked for: addresses only, unless the memory was used before.
    room = np.empty((size // _LARGE_PAGE + 3) * _LARGE_PAGE, dtype=np.uint8)
    start = -room.ctypes.data % _LARGE_PAGE
    return room[start : start + size]
