"""Ed25519 signatures (RFC 8032) with one fixed tag per message type, so that none can stand for another."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.encoding import encode
from fedcredit.errors import BadSignatureError

SIGNATURE_DOMAIN: Final = "fedcredit signature 1"
SIGNATURE_SUITE: Final = "S1"
SIGNATURE_LENGTH: Final = 64


def signed_bytes(*, tag: str, body: bytes) -> bytes:
    """Return what a signature covers: ``encode([SIGNATURE_DOMAIN, SIGNATURE_SUITE, tag, SHA-256(body)])``."""
    return encode([SIGNATURE_DOMAIN, SIGNATURE_SUITE, tag, hashlib.sha256(body).digest()])


def sign(keys: IdentityKeys, *, tag: str, body: bytes) -> bytes:
    """Return the 64-byte signature of ``keys`` on ``body`` as a message of type ``tag``."""
    return keys.signing_key.sign(signed_bytes(tag=tag, body=body))


def verify(identity: PublicIdentity, *, tag: str, body: bytes, signature: bytes, signer: str, what: str) -> None:
    """Return only if ``identity`` signed ``body`` under ``tag``; ``signer`` and ``what`` are for the message.

    Raises:
        BadSignatureError: anything else, a signature of the wrong length included.
    """
    try:
        Ed25519PublicKey.from_public_bytes(identity.signing).verify(signature, signed_bytes(tag=tag, body=body))
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(signer=signer, what=what) from error
