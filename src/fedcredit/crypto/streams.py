"""Keystreams for masks and noise: AES-256 in counter mode (NIST SP 800-38A), zero IV, a fresh key per stream.

The counter blocks are 0, 1, 2, ... From 2 on they are those of AES-256-GCM with twelve zero bytes as its IV (NIST SP
800-38D, section 7.1: its first data block has counter 2), so the library's GCM makes them: it encrypts zeros, and
nobody asks for its tag. OpenSSL computes GCM with wider instructions than CTR, so this is up to twice as fast. The
beginning comes from counter mode itself: the blocks 0 and 1 are not in GCM, and most streams are so short that setting
up a second cipher would take longer than all their bytes. The bytes are those of counter mode either way.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import AEADEncryptionContext, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR, GCM

KEY_LENGTH: Final = 32
STREAM_LIMIT: Final = 2**36
"""Most bytes of one stream: then GCM's counter of 32 bits would begin again."""
_BLOCK: Final = 16
_FROM_0: Final = CTR(builtins.bytes(_BLOCK))
_FROM_2: Final = GCM(builtins.bytes(12))
_BEGINNING: Final = 1 << 12
"""Bytes that come from counter mode; GCM makes the last of them again, from block 2 on, when a stream is longer."""
# Large enough that the cost of a call vanishes, small enough to stay in a core's cache with its output.
_ZEROS: Final = memoryview(builtins.bytes(1 << 18))
_MADE_TWICE: Final = builtins.bytes(_BEGINNING - 2 * _BLOCK)


class KeyStream:
    """The bytes that ``key`` stands for, read once from the start; the same key always gives the same bytes.

    The IV is zero: **two streams with one key are one stream**, so a key serves one purpose once.
    """

    def __init__(self, key: builtins.bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"a keystream key has {KEY_LENGTH} bytes, got {len(key)}")
        self._cipher = AES256(key)
        self._encryptor = Cipher(self._cipher, _FROM_0).encryptor()
        self._wide: AEADEncryptionContext | None = None
        self._left = _BEGINNING
        """Bytes of the beginning that nobody has read."""

    def __repr__(self) -> str:
        return "KeyStream()"

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """Return the next ``count`` bytes, shape ``(count,)``."""
        stream = np.empty(count, dtype=np.uint8)
        self.read_into(stream.data)
        return stream

    def read_into(self, buffer: memoryview) -> None:
        """Fill ``buffer``, a writable vector of single bytes, with the next ``len(buffer)`` bytes.

        Raises:
            ValueError: an item of ``buffer`` is not one byte; nothing was read. Or the stream is at ``STREAM_LIMIT``.
            TypeError: ``buffer`` is read-only; nothing was read.
        """
        if buffer.nbytes != len(buffer):
            raise ValueError("a keystream fills a vector of single bytes")
        begun = min(self._left, len(buffer))
        if begun:
            self._encryptor.update_into(_ZEROS[:begun], buffer[:begun])
            self._left -= begun
        if begun < len(buffer):
            self._go_on(buffer[begun:])

    def _go_on(self, buffer: memoryview) -> None:
        """Fill ``buffer`` with what comes after the beginning."""
        if self._wide is None:
            self._wide = Cipher(self._cipher, _FROM_2).encryptor()
            self._wide.update(_MADE_TWICE)
        for start in range(0, len(buffer), len(_ZEROS)):
            part = buffer[start : start + len(_ZEROS)]
            self._wide.update_into(_ZEROS[: len(part)], part)

    def words64(self, count: int) -> npt.NDArray[np.uint64]:
        """Return the next ``8 * count`` bytes as little-endian 64-bit words, shape ``(count,)``, dtype ``<u8``."""
        return self.bytes(8 * count).view("<u8")


def fresh_key(entropy: Callable[[int], bytes]) -> bytes:
    """Return a new key from ``entropy``, for example ``os.urandom``.

    Raises:
        ValueError: ``entropy`` gave another number of bytes than it was asked for.
    """
    key = entropy(KEY_LENGTH)
    if len(key) != KEY_LENGTH:
        raise ValueError(f"entropy gave {len(key)} bytes instead of {KEY_LENGTH}")
    return key
