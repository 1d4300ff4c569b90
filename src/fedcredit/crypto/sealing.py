"""Seal bytes to one recipient and one place in the protocol (HPKE base mode, RFC 9180).

KEM ``MLKEM768_X25519``, KDF ``HKDF_SHA512``, AEAD ``AES_256_GCM``. The hybrid KEM is an IETF draft: a changed draft is
a new suite byte, never a silent change (PROTOCOL.md 2.1); ``tests/protocol/vectors/sealed_s1.json`` pins today's.

Base mode does **not** authenticate the sender: everybody who knows the public key can seal, whatever
``SealContext.sender`` says. Callers sign inside the seal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.encoding import encode
from fedcredit.errors import CannotOpenError, MalformedMessageError, MessageTooLargeError

SEAL_VERSION: Final = 1
SUITE_S1: Final = 1
PROTOCOL_VERSION: Final = 1
SEAL_DOMAIN: Final = "fedcredit seal"

_HEADER: Final = bytes([SEAL_VERSION, SUITE_S1])
_ENCAPSULATED_LENGTH: Final = 1088 + 32
_TAG_LENGTH: Final = 16
SEAL_OVERHEAD: Final = len(_HEADER) + _ENCAPSULATED_LENGTH + _TAG_LENGTH
"""Bytes that a seal adds to its plaintext, whatever that is: 1,138."""
MAX_SEALED: Final = 2**31 - 1
"""Longest sealed message in bytes; one AES-GCM call takes no more (PROTOCOL.md 2.2)."""

_SUITE: Final = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA512, AEAD.AES_256_GCM)


@dataclass(frozen=True, kw_only=True)
class SealContext:
    """The one place in the protocol where a sealed message means something; both sides build it from what they know."""

    consortium: str
    run: str
    round_number: int
    attempt: int
    message_type: str
    sender: str
    recipient: str
    manifest_digest: bytes

    def to_bytes(self) -> bytes:
        """Return the canonical encoding, protocol version and suite included; it is the HPKE ``info``."""
        return _encoded(self)


@lru_cache(maxsize=2048)
def _encoded(context: SealContext) -> bytes:
    """Encode a context once: that of requests to a member never changes, and in one process both sides build one."""
    return encode(
        [
            SEAL_DOMAIN,
            PROTOCOL_VERSION,
            SUITE_S1,
            context.consortium,
            context.run,
            context.round_number,
            context.attempt,
            context.message_type,
            context.sender,
            context.recipient,
            context.manifest_digest,
        ]
    )


def seal(plaintext: bytes, *, recipient: PublicIdentity, context: SealContext) -> bytes:
    """Return ``plaintext`` so that only ``recipient`` opens it, only in ``context``; ``SEAL_OVERHEAD`` bytes longer.

    Each call draws a new key, so a message sealed twice gives different bytes. The sender is not authenticated.

    Raises:
        MessageTooLargeError: the result would exceed ``MAX_SEALED``.
    """
    if len(plaintext) > MAX_SEALED - SEAL_OVERHEAD:
        raise MessageTooLargeError(size=len(plaintext) + SEAL_OVERHEAD, limit=MAX_SEALED)
    return _HEADER + _SUITE.encrypt(plaintext, recipient.kem_public_key(), info=context.to_bytes())


def open_sealed(data: bytes, *, keys: IdentityKeys, context: SealContext) -> bytes:
    """Return the plaintext that was sealed to ``keys`` in exactly this ``context``. The sender is not authenticated.

    Raises:
        MalformedMessageError: too short for a seal, or of another version or suite.
        CannotOpenError: another recipient, another context, or a changed byte; which one cannot be told.
        MessageTooLargeError: longer than ``MAX_SEALED``.
    """
    if len(data) > MAX_SEALED:
        raise MessageTooLargeError(size=len(data), limit=MAX_SEALED)
    if len(data) < SEAL_OVERHEAD:
        problem = f"it has {len(data)} bytes, the shortest has {SEAL_OVERHEAD}"
        raise MalformedMessageError(what="sealed message", problem=problem)
    if data[0] != SEAL_VERSION:
        raise MalformedMessageError(what="sealed message", problem=f"its version is {data[0]}, not {SEAL_VERSION}")
    if data[1] != SUITE_S1:
        raise MalformedMessageError(what="sealed message", problem=f"its suite is {data[1]}, not {SUITE_S1}")
    try:
        # A view: slicing bytes would copy the whole message.
        return _SUITE.decrypt(memoryview(data)[len(_HEADER) :], keys.kem_key, info=context.to_bytes())
    except (InvalidTag, ValueError) as error:
        raise CannotOpenError(sender=context.sender) from error
