"""Tokens of people, enterprises and vehicles: HMAC-SHA-256 (RFC 2104) under a key that only members hold.

A plain hash of an identity number is no protection: all eighteen-digit numbers of a province can be tried within
hours. The key comes from contributions of the members themselves (HKDF-SHA-256, RFC 5869): as long as one of them is
random and the exchange stays among members, the coordinator cannot compute a single token. A member can: whoever holds
the key can try numbers against another's tokens. An oblivious function (RFC 9497) would close that; see decision 0018.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcredit.errors import KeyFileError
from fedcredit.store.files import write_new

KEY_BYTES: Final = 32
LEAST_CONTRIBUTIONS: Final = 2
_LABEL: Final = b"fedcredit token 1\0"
_INFO: Final = b"fedcredit token key 1"
_KEY_HEAD: Final = "fedcredit token key 1"
_CONTRIBUTION_HEAD: Final = "fedcredit token contribution 1"
_FINGERPRINT_LABEL: Final = b"fedcredit token key fingerprint 1\0"


class IdentifierKind(StrEnum):
    """What a token stands for; the same number of another kind gives another token."""

    PERSON = "person"
    ENTERPRISE = "enterprise"
    VEHICLE = "vehicle"


class TokenKey:
    """The consortium's token key, as one member holds it."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError("a token key has 32 bytes")
        self._key = key

    def token(self, kind: IdentifierKind, identifier: str) -> str:
        """Return the token of a normalised identifier: 64 hexadecimal digits."""
        return hmac.new(self._key, _LABEL + kind.encode() + b"\0" + identifier.encode(), hashlib.sha256).hexdigest()

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits to compare by voice; they tell nothing about the key."""
        digest = hmac.new(self._key, _FINGERPRINT_LABEL, hashlib.sha256).hexdigest()[:16].upper()
        return "-".join(digest[place : place + 4] for place in range(0, 16, 4))

    @classmethod
    def combine(cls, contributions: Iterable[bytes]) -> Self:
        """Return the key that all contributions make together, in whatever order they come.

        Raises:
            ValueError: fewer than two different contributions, or one of another length.
        """
        parts = sorted(set(contributions))
        if len(parts) < LEAST_CONTRIBUTIONS or any(len(part) != KEY_BYTES for part in parts):
            raise ValueError("a key needs at least two different contributions of 32 bytes")
        return cls(HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_INFO).derive(b"".join(parts)))

    def save(self, path: Path) -> None:
        """Write the key with mode 0600; an existing file is never overwritten.

        Raises:
            AlreadyExistsError, DiskFullError, NotWritableError: nothing was written.
        """
        write_new(path, f"{_KEY_HEAD}\n{self._key.hex()}\n".encode(), mode=0o600)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a key file.

        Raises:
            KeyFileError: it is missing, malformed or readable by others.
        """
        return cls(_read(path, _KEY_HEAD))


def make_contribution(path: Path) -> None:
    """Write 32 bytes of the system's randomness with mode 0600, for the other members and for nobody else.

    Raises:
        AlreadyExistsError, DiskFullError, NotWritableError: nothing was written.
    """
    write_new(path, f"{_CONTRIBUTION_HEAD}\n{os.urandom(KEY_BYTES).hex()}\n".encode(), mode=0o600)


def read_contribution(path: Path) -> bytes:
    """Read a member's contribution.

    Raises:
        KeyFileError: it is missing, malformed or readable by others.
    """
    return _read(path, _CONTRIBUTION_HEAD)


def _read(path: Path, head: str) -> bytes:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        text = path.read_text("ascii")
    except (OSError, UnicodeDecodeError):
        raise KeyFileError(path=str(path), problem="cannot be read") from None
    if mode & 0o077:
        raise KeyFileError(path=str(path), problem="can be read by others (mode must be 0600)")
    lines = text.splitlines()
    if len(lines) != 2 or lines[0] != head or len(lines[1]) != 2 * KEY_BYTES:
        raise KeyFileError(path=str(path), problem=f"is no {head}")
    try:
        return bytes.fromhex(lines[1])
    except ValueError:
        raise KeyFileError(path=str(path), problem=f"is no {head}") from None
