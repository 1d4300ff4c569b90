"""Seals between one institution and the coordinator for the length of an epoch (AES-256-GCM, random 96-bit nonce).

Both sides contribute to the secret, each by a message that was sealed with HPKE (``sealing``), so a seal here is as
strong against quantum computers as that, and a hundred times cheaper. One key serves one direction. NIST SP 800-38D
allows 2^32 messages under random nonces; an epoch has fewer than 2^16.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedcredit.crypto.derivation import derive
from fedcredit.crypto.sealing import MAX_SEALED, SUITE_S1, SealContext
from fedcredit.errors import CannotOpenError, MessageTooLargeError

CHANNEL_VERSION: Final = 2
"""First byte of a seal of this kind; HPKE seals have 1."""
TAG_LENGTH: Final = 8
NONCE_LENGTH: Final = 12
_HEADER_LENGTH: Final = 2 + TAG_LENGTH + NONCE_LENGTH
CHANNEL_OVERHEAD: Final = _HEADER_LENGTH + 16


class Channel:
    """The keys of one epoch between one institution and the coordinator; ``repr`` shows none."""

    def __init__(self, secret: bytes, *, entropy: Callable[[int], bytes]) -> None:
        self.tag: Final = derive(secret, label="channel tag", context=None)[:TAG_LENGTH]
        """Public: tells the recipient which channel a seal is of."""
        self._down = AESGCM(derive(secret, label="channel to member", context=None))
        self._up = AESGCM(derive(secret, label="channel to coordinator", context=None))
        self._entropy = entropy

    @staticmethod
    def secret(*, coordinator: bytes, member: bytes, setup: bytes, name: str) -> bytes:
        """Return the secret that follows from 32 random bytes of each side, for one set-up and one member."""
        return derive(coordinator + member, label="channel", context=[setup, name])

    def __repr__(self) -> str:
        return "Channel()"

    def seal_down(self, plaintext: bytes, *, context: SealContext) -> bytes:
        """Return a seal from the coordinator to the member; raises ``MessageTooLargeError``."""
        return self._seal(self._down, plaintext, context)

    def seal_up(self, plaintext: bytes, *, context: SealContext) -> bytes:
        """Return a seal from the member to the coordinator; raises ``MessageTooLargeError``."""
        return self._seal(self._up, plaintext, context)

    def open_down(self, data: bytes, *, context: SealContext) -> bytes:
        """Return what the coordinator sealed in exactly this context; anything else raises ``CannotOpenError``."""
        return self._open(self._down, data, context)

    def open_up(self, data: bytes, *, context: SealContext) -> bytes:
        """Return what the member sealed in exactly this context; anything else raises ``CannotOpenError``."""
        return self._open(self._up, data, context)

    def _seal(self, key: AESGCM, plaintext: bytes, context: SealContext) -> bytes:
        size = len(plaintext) + CHANNEL_OVERHEAD
        if size > MAX_SEALED:
            raise MessageTooLargeError(size=size, limit=MAX_SEALED)
        nonce = self._entropy(NONCE_LENGTH)
        if len(nonce) != NONCE_LENGTH:
            raise ValueError(f"entropy gave {len(nonce)} bytes instead of {NONCE_LENGTH}")
        sealed = bytearray(size)
        sealed[:_HEADER_LENGTH] = bytes([CHANNEL_VERSION, SUITE_S1]) + self.tag + nonce
        key.encrypt_into(nonce, plaintext, context.to_bytes(), memoryview(sealed)[_HEADER_LENGTH:])
        return bytes(sealed)

    def _open(self, key: AESGCM, data: bytes, context: SealContext) -> bytes:
        if channel_tag(data) != self.tag:
            raise CannotOpenError(sender=context.sender)
        nonce = data[2 + TAG_LENGTH : _HEADER_LENGTH]
        try:
            return key.decrypt(nonce, memoryview(data)[_HEADER_LENGTH:], context.to_bytes())
        except InvalidTag as error:
            raise CannotOpenError(sender=context.sender) from error


def channel_tag(data: bytes) -> bytes | None:
    """Return the tag of the channel that sealed ``data``; ``None`` if it is no such seal, or is too long for one."""
    if not CHANNEL_OVERHEAD <= len(data) <= MAX_SEALED or data[:2] != bytes([CHANNEL_VERSION, SUITE_S1]):
        return None
    return data[2 : 2 + TAG_LENGTH]
