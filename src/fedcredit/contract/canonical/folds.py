"""The fold of an entity: the same at every institution that knows it, because its token gives it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

FOLDS: Final = 10
_LETTERS: Final = 8
_PLACES: Final = 16 ** np.arange(_LETTERS - 1, -1, -1, dtype=np.int64)


def folds_of(tokens: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``int(token[:8], 16) % 10`` for each token, texts or bytes; NaN for what is no token."""
    words = tokens if tokens.dtype.kind == "S" else np.array([_bytes(token) for token in tokens], dtype=f"S{_LETTERS}")
    letters = np.ascontiguousarray(words.astype(f"S{_LETTERS}")).view(np.uint8).reshape(-1, _LETTERS).astype(np.int64)
    digit = (letters >= ord("0")) & (letters <= ord("9"))
    letter = (letters >= ord("a")) & (letters <= ord("f"))
    values = np.where(letter, letters - ord("a") + 10, letters - ord("0"))
    return np.where((digit | letter).all(axis=1), (values @ _PLACES) % FOLDS, np.nan)


def _bytes(token: object) -> bytes:
    return token[:_LETTERS].encode("ascii", "replace") if isinstance(token, str) else b""
