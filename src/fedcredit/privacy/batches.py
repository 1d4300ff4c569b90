"""Which borrowers take part in a sampled step: each on its own, with a public chance, from a cryptographic stream.

Sampling that nobody can predict is what makes a step cheaper (``renyi.sampled_gaussian_rdp``), so its randomness
protects borrowers like noise does and never comes from a seed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.streams import KeyStream
from fedcredit.privacy.release import FULL_BATCH


def poisson_batch(stream: KeyStream, *, sampled_per_million: int, records: int) -> NDArray[np.bool_] | None:
    """Return who is in the batch, shape (records,); ``None`` for everybody. The size is private and may be zero.

    A 64-bit word below ``sampled_per_million`` * 2**64 / 10**6, rounded down, is in: the chance is never above the
    stated one, and below it by less than 2**-64.
    """
    if sampled_per_million == FULL_BATCH:
        return None
    threshold = np.uint64((sampled_per_million << 64) // FULL_BATCH)
    return stream.words64(records) < threshold
