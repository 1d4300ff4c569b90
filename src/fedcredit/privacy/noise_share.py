"""The one place where noise for a release is drawn: it takes a ``Reservation``, which only the ledger makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.streams import KeyStream, fresh_key
from fedcredit.encoding import digest
from fedcredit.privacy.ledger import Reservation
from fedcredit.privacy.noise import noise_law
from fedcredit.privacy.release import Mechanism, Release

TEST_NOISE_LABEL: Final = "fedcredit fixed test noise 2: protects nobody"


def draw_noise(reservation: Reservation, stream: KeyStream) -> NDArray[np.int64]:
    """Return the noise of the reserved release, shape (``dimension``,), int64; zeros for ``Mechanism.NONE``.

    A reservation is good for one draw: a second vector for the same charge could be averaged with the first.

    Raises:
        NotReservedError: its noise was drawn before, or it is ``repeated``, so that it may have been.
        NoiseRangeError: never for a release that exists; see ``NoiseLaw``.
    """
    release = reservation.use()
    if release.mechanism is Mechanism.NONE:
        return np.zeros(release.dimension, dtype=np.int64)
    return noise_law(release.mechanism.value, release.sigma).sample(stream, release.dimension)


def streams_for(release: Release, *, test_place: str, entropy: Callable[[int], bytes]) -> KeyStream:
    """Return the key stream for the noise of ``release``: a fresh key of 32 bytes from ``entropy``, or the test key.

    The test key is SHA-256 over a public label and ``test_place``, which says where in a run the release stands
    (institution, round, purpose) and not in which run or attempt: equal studies then end with equal bits. It is used
    if and only if ``release.test_noise``, and the ledger counts such a release as unprotected.
    """
    if release.test_noise:
        return KeyStream(digest([TEST_NOISE_LABEL, test_place]))
    return KeyStream(fresh_key(entropy))
