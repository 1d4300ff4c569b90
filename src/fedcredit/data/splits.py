"""Who is held out: a keyed hash of the borrower decides, so every institution decides the same."""

from __future__ import annotations

import hmac

import numpy as np
from numpy.typing import NDArray


def holdout_mask(entities: NDArray[np.str_], *, salt: str, fraction: float) -> NDArray[np.bool_]:
    """Return which rows belong to the held-out part, about ``fraction`` of the borrowers.

    All rows of a borrower fall on one side, at every institution that uses the same ``salt``, whatever other rows
    there are: HMAC-SHA-256 (RFC 2104) of the token under the salt, its first 8 bytes read as a fraction of 2**64.
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError("fraction must lie between 0 and 1")
    limit = int(fraction * 2**64)
    key = salt.encode()
    below = (
        int.from_bytes(hmac.digest(key, str(token).encode(), "sha256")[:8], "big") < limit
        for token in entities.tolist()
    )
    return np.fromiter(below, dtype=np.bool_, count=len(entities))
