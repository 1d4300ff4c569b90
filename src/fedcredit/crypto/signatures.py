"""Signatures with one fixed tag per message type, so that none can stand for another.

Two kinds. What lives for a round carries Ed25519 (RFC 8032): ``sign``, ``verify``. What somebody may want to check in
many years carries Ed25519 and ML-DSA-65 (FIPS 204) side by side: ``sign_lasting``, ``verify_lasting``. The kind is part
of what is signed, so half of a lasting signature is worth nothing as a short-lived one, and the other way round.

**A signature that verified is not computed again in the same process.** Whether it verifies is a function of the public
keys, the signed bytes and the signature, and of nothing else: no clock, no revocation, no state. So an answer that was
computed once holds for ever. Kept is one SHA-256 over exactly those three: taking another triple for one that verified
needs two inputs with the same digest, and with those the signatures fall as well, because they sign the SHA-256 of the
body. Only success is kept; what failed is computed, and fails, every time. Who may sign what is not decided here.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from threading import Lock
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.encoding import encode
from fedcredit.errors import BadSignatureError

SIGNATURE_DOMAIN: Final = "fedcredit signature 1"
SIGNATURE_SUITE: Final = "S1"
LASTING_SUITE: Final = "S1-lasting"
SIGNATURE_LENGTH: Final = 64
POST_QUANTUM_LENGTH: Final = 3_309
LASTING_SIGNATURE_LENGTH: Final = SIGNATURE_LENGTH + POST_QUANTUM_LENGTH
_DIGEST_LENGTH: Final = 32
REMEMBERED: Final = 8_192
"""Most verified signatures that a process keeps in mind; about 2 MB."""


class VerifiedSignatures:
    """Digests of what verified: the ``limit`` used last, for all threads of a process."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._digests: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._digests)

    def holds(self, digest: bytes) -> bool:
        """Return whether ``digest`` was added and is not forgotten; then it counts as just used."""
        with self._lock:
            if digest not in self._digests:
                return False
            self._digests.move_to_end(digest)
            return True

    def add(self, digest: bytes) -> None:
        """Remember ``digest`` and forget the one not used for the longest time, if there are too many."""
        with self._lock:
            self._digests[digest] = None
            if len(self._digests) > self._limit:
                self._digests.popitem(last=False)


_VERIFIED: Final = VerifiedSignatures(limit=REMEMBERED)


def signed_bytes(*, tag: str, body: bytes) -> bytes:
    """Return what a signature covers: ``encode([SIGNATURE_DOMAIN, SIGNATURE_SUITE, tag, SHA-256(body)])``."""
    return _covered(SIGNATURE_SUITE, tag, hashlib.sha256(body).digest())


def lasting_signed_bytes(*, tag: str, body: bytes) -> bytes:
    """Return what both halves of a lasting signature cover: as ``signed_bytes``, with ``LASTING_SUITE``."""
    return _covered(LASTING_SUITE, tag, hashlib.sha256(body).digest())


def sign(keys: IdentityKeys, *, tag: str, body: bytes) -> bytes:
    """Return the 64-byte signature of ``keys`` on ``body`` as a message of type ``tag``."""
    return keys.signing_key.sign(signed_bytes(tag=tag, body=body))


def verify(identity: PublicIdentity, *, tag: str, body: bytes, signature: bytes, signer: str, what: str) -> None:
    """Return only if ``identity`` signed ``body`` under ``tag``; ``signer`` and ``what`` are for the message.

    Raises:
        BadSignatureError: anything else, a signature of the wrong length included.
    """
    digest = hashlib.sha256(body).digest()
    verify_digest(identity, tag=tag, digest=digest, signature=signature, signer=signer, what=what)


def verify_digest(
    identity: PublicIdentity, *, tag: str, digest: bytes, signature: bytes, signer: str, what: str
) -> None:
    """Do as ``verify`` for somebody who holds only ``digest``, the SHA-256 of the body.

    Raises:
        BadSignatureError: ``identity`` did not sign a body of this digest under ``tag``.
    """
    covered = _covered(SIGNATURE_SUITE, tag, digest)

    def check() -> None:
        Ed25519PublicKey.from_public_bytes(identity.signing).verify(signature, covered)

    try:
        _require(check, covered=covered, keys=identity.signing, signature=signature)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(signer=signer, what=what) from error


def has_verified(identity: PublicIdentity, *, tag: str, digest: bytes, signature: bytes) -> bool:
    """Return whether ``verify_digest`` succeeded with these in this process, and it remembers that."""
    covered = _covered(SIGNATURE_SUITE, tag, digest)
    return _VERIFIED.holds(_triple(covered=covered, keys=identity.signing, signature=signature))


def sign_lasting(keys: IdentityKeys, *, tag: str, body: bytes) -> bytes:
    """Return the 3,373-byte signature of ``keys`` on ``body``: 64 bytes of Ed25519, then 3,309 of ML-DSA-65.

    The second half is hedged (FIPS 204, section 3.4): it differs each time, and stays safe if the randomness fails.
    """
    covered = lasting_signed_bytes(tag=tag, body=body)
    return keys.signing_key.sign(covered) + keys.post_quantum_signing_key.sign(covered)


def verify_lasting(
    identity: PublicIdentity, *, tag: str, body: bytes, signature: bytes, signer: str, what: str
) -> None:
    """Return only if ``identity`` signed ``body`` under ``tag`` with both keys.

    Raises:
        BadSignatureError: anything else: one half wrong or missing, a short-lived signature, another length.
    """
    covered = lasting_signed_bytes(tag=tag, body=body)

    def check() -> None:
        # The cheap half first; ML-DSA refuses every second half that has not exactly its length.
        Ed25519PublicKey.from_public_bytes(identity.signing).verify(signature[:SIGNATURE_LENGTH], covered)
        identity.post_quantum_signing_key().verify(signature[SIGNATURE_LENGTH:], covered)

    try:
        _require(check, covered=covered, keys=identity.signing + identity.signing_post_quantum, signature=signature)
    except (InvalidSignature, ValueError) as error:
        raise BadSignatureError(signer=signer, what=what) from error


def _covered(suite: str, tag: str, digest: bytes) -> bytes:
    if len(digest) != _DIGEST_LENGTH:  # somebody's invention, which nobody has signed
        return encode([SIGNATURE_DOMAIN, suite, tag, digest])
    return _before_digest(suite, tag) + digest


@lru_cache(maxsize=64)
def _before_digest(suite: str, tag: str) -> bytes:
    """Return the encoding of what a signature covers up to the digest: that comes last, and has one length."""
    return encode([SIGNATURE_DOMAIN, suite, tag, bytes(_DIGEST_LENGTH)])[:-_DIGEST_LENGTH]


def _require(check: Callable[[], None], *, covered: bytes, keys: bytes, signature: bytes) -> None:
    digest = _triple(covered=covered, keys=keys, signature=signature)
    if _VERIFIED.holds(digest):
        return
    check()
    _VERIFIED.add(digest)


def _triple(*, covered: bytes, keys: bytes, signature: bytes) -> bytes:
    # One digest, one meaning: ``covered`` is one CBOR value, so it ends where it says, and the suite inside it fixes
    # the length of the keys that follow.
    return hashlib.sha256(covered + keys + signature).digest()
