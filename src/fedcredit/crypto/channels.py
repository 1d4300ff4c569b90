"""Seals between one institution and the coordinator for the length of an epoch (AES-256-GCM, random 96-bit nonce).

Both sides contribute to the secret, each by a message that was sealed with HPKE (``sealing``), so a seal here is as
strong against quantum computers as that, and a hundred times cheaper. One key serves one direction. NIST SP 800-38D
allows 2^32 messages under random nonces; an epoch has fewer than 2^16.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from fedcredit.crypto.buffers import fresh_buffer
from fedcredit.crypto.derivation import derive
from fedcredit.crypto.sealing import MAX_SEALED, SUITE_S1, SealContext
from fedcredit.encoding import Buffer
from fedcredit.errors import CannotOpenError, MessageTooLargeError

CHANNEL_VERSION: Final = 2
"""First byte of a seal of this kind; HPKE seals have 1."""
TAG_LENGTH: Final = 8
NONCE_LENGTH: Final = 12
_START: Final = bytes([CHANNEL_VERSION, SUITE_S1])
_HEADER_LENGTH: Final = len(_START) + TAG_LENGTH + NONCE_LENGTH
CHANNEL_OVERHEAD: Final = _HEADER_LENGTH + 16
_IN_ONE_PIECE: Final = 1 << 16
"""Up to here, joining the parts costs less than sealing them one after the other."""


class _Direction:
    """The key of one direction, set up once for all its messages."""

    def __init__(self, key: bytes) -> None:
        self.key: Final = key
        self.cipher: Final = AESGCM(key)


class Channel:
    """The keys of one epoch between one institution and the coordinator; ``repr`` shows none."""

    def __init__(self, secret: bytes, *, entropy: Callable[[int], bytes]) -> None:
        self.tag: Final = derive(secret, label="channel tag", context=None)[:TAG_LENGTH]
        """Public: tells the recipient which channel a seal is of."""
        self._down = _Direction(derive(secret, label="channel to member", context=None))
        self._up = _Direction(derive(secret, label="channel to coordinator", context=None))
        self._entropy = entropy

    @staticmethod
    def secret(*, coordinator: bytes, member: bytes, setup: bytes, name: str) -> bytes:
        """Return the secret that follows from 32 random bytes of each side, for one set-up and one member."""
        return derive(coordinator + member, label="channel", context=[setup, name])

    def __repr__(self) -> str:
        return "Channel()"

    def seal_down(self, *parts: Buffer, context: SealContext) -> bytes:
        """Return a seal of the joined parts from the coordinator to the member; raises ``MessageTooLargeError``."""
        return self._seal(self._down, parts, context)

    def seal_up(self, *parts: Buffer, context: SealContext) -> bytes:
        """Return a seal of the joined parts from the member to the coordinator; raises ``MessageTooLargeError``."""
        return self._seal(self._up, parts, context)

    def open_down(self, data: bytes, *, context: SealContext) -> memoryview:
        """Return what the coordinator sealed in exactly this context; anything else raises ``CannotOpenError``."""
        return self._open(self._down, data, context)

    def open_up(self, data: bytes, *, context: SealContext) -> memoryview:
        """Return what the member sealed in exactly this context; anything else raises ``CannotOpenError``."""
        return self._open(self._up, data, context)

    def seal_up_into(self, room: memoryview, *parts: Buffer, context: SealContext) -> None:
        """Write what ``seal_up`` returns into ``room``, ``CHANNEL_OVERHEAD`` bytes longer than the parts."""
        self._seal_into(room, self._up, parts, context)

    def open_up_into(self, room: memoryview, data: bytes, *, context: SealContext) -> None:
        """Write what ``open_up`` returns into ``room``, ``CHANNEL_OVERHEAD`` bytes shorter than ``data``."""
        self._open_into(room, self._up, data, context)

    def _seal(self, key: _Direction, parts: Sequence[Buffer], context: SealContext) -> bytes:
        size = sum(map(len, parts)) + CHANNEL_OVERHEAD
        if size > MAX_SEALED:
            raise MessageTooLargeError(size=size, limit=MAX_SEALED)
        if size <= _IN_ONE_PIECE:
            nonce = self._nonce()
            return self._header(nonce) + key.cipher.encrypt(nonce, b"".join(parts), context.to_bytes())
        # A file in memory gives away the bytes that it holds; any other buffer would be copied once more.
        sealed = io.BytesIO(bytes(size))
        with sealed.getbuffer() as room:
            self._seal_into(room, key, parts, context)
        return sealed.getvalue()

    def _seal_into(self, room: memoryview, key: _Direction, parts: Sequence[Buffer], context: SealContext) -> None:
        if len(room) != sum(map(len, parts)) + CHANNEL_OVERHEAD:
            raise ValueError("the room for a seal has another length than the seal")
        nonce = self._nonce()
        room[:_HEADER_LENGTH] = self._header(nonce)
        encryptor = Cipher(AES256(key.key), GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(context.to_bytes())
        place = _HEADER_LENGTH
        for part in parts:
            place += encryptor.update_into(part, room[place:])
        encryptor.finalize()
        room[place:] = encryptor.tag

    def _nonce(self) -> bytes:
        nonce = self._entropy(NONCE_LENGTH)
        if len(nonce) != NONCE_LENGTH:
            raise ValueError(f"entropy gave {len(nonce)} bytes instead of {NONCE_LENGTH}")
        return nonce

    def _header(self, nonce: bytes) -> bytes:
        return _START + self.tag + nonce

    def _open(self, key: _Direction, data: bytes, context: SealContext) -> memoryview:
        room = fresh_buffer(max(0, len(data) - CHANNEL_OVERHEAD)).data
        self._open_into(room, key, data, context)
        return room.toreadonly()

    def _open_into(self, room: memoryview, key: _Direction, data: bytes, context: SealContext) -> None:
        if channel_tag(data) != self.tag:
            raise CannotOpenError(sender=context.sender)
        nonce = data[2 + TAG_LENGTH : _HEADER_LENGTH]
        try:
            key.cipher.decrypt_into(nonce, memoryview(data)[_HEADER_LENGTH:], context.to_bytes(), room)
        except InvalidTag as error:
            raise CannotOpenError(sender=context.sender) from error


def channel_tag(data: bytes) -> bytes | None:
    """Return the tag of the channel that sealed ``data``; ``None`` if it is no such seal, or is too long for one."""
    if not CHANNEL_OVERHEAD <= len(data) <= MAX_SEALED or data[:2] != _START:
        return None
    return data[2 : 2 + TAG_LENGTH]
