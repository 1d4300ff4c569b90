"""Keystreams for masks and noise: AES-256 in counter mode (NIST SP 800-38A), zero IV, a fresh key per stream."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

KEY_LENGTH: Final = 32
_BLOCK: Final = 16
# Large enough that the cost of a call vanishes, small enough to stay in a core's cache with its output.
_ZEROS: Final = builtins.bytes(1 << 18)


class KeyStream:
    """The bytes that ``key`` stands for, read once from the start; the same key always gives the same bytes.

    The IV is zero: **two streams with one key are one stream**, so a key serves one purpose once.
    """

    def __init__(self, key: builtins.bytes) -> None:
        self._start(key, iv=builtins.bytes(_BLOCK))

    @classmethod
    def _from_iv(cls, key: builtins.bytes, *, iv: builtins.bytes) -> Self:
        """Begin at another counter block; only the published vectors need this."""
        stream = cls.__new__(cls)
        stream._start(key, iv=iv)
        return stream

    def _start(self, key: builtins.bytes, *, iv: builtins.bytes) -> None:
        if len(key) != KEY_LENGTH:
            raise ValueError(f"a keystream key has {KEY_LENGTH} bytes, got {len(key)}")
        self._encryptor = Cipher(AES256(key), CTR(iv)).encryptor()

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
            ValueError: an item of ``buffer`` is not one byte; nothing was read.
            TypeError: ``buffer`` is read-only; nothing was read.
        """
        if buffer.nbytes != len(buffer):
            raise ValueError("a keystream fills a vector of single bytes")
        zeros = memoryview(_ZEROS)
        for start in range(0, len(buffer), len(zeros)):
            part = buffer[start : start + len(zeros)]
            self._encryptor.update_into(zeros[: len(part)], part)

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
