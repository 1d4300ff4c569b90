"""Keys from keys (HKDF-SHA-256, RFC 5869) and commitments to seeds (SHA-256); each is bound to one label and place."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcredit.encoding import Encodable, digest, encode

DERIVATION_DOMAIN: Final = "fedcredit derive 1"
COMMITMENT_DOMAIN: Final = "fedcredit commit 1"
SEED_LENGTH: Final = 32
"""Length of a seed, and the least length of a key that others are derived from, in bytes."""
MAX_DERIVED: Final = 255 * 32
"""Most bytes of one derivation (RFC 5869 section 2.3)."""


def derive(key: bytes, *, label: str, context: Encodable, length: int = 32) -> bytes:
    """Return ``length`` bytes that only a holder of ``key`` can compute, and that say nothing about ``key``.

    HKDF-SHA-256 without a salt; ``info = encode([DERIVATION_DOMAIN, label, context])``. Another label or context gives
    independent bytes; a shorter length gives a **prefix** of the longer one, so a (label, context) has one length.

    Raises:
        ValueError: ``key`` has fewer than ``SEED_LENGTH`` bytes, or ``length`` is not from 1 to ``MAX_DERIVED``.
        TypeError: ``context`` has no canonical encoding.
    """
    if len(key) < SEED_LENGTH:
        raise ValueError(f"a key to derive from has at least {SEED_LENGTH} bytes, got {len(key)}")
    if not 0 < length <= MAX_DERIVED:
        raise ValueError(f"a derived key has 1 to {MAX_DERIVED} bytes, not {length}")
    info = encode([DERIVATION_DOMAIN, label, context])
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(key)


def commitment(seed: bytes, *, context: bytes) -> bytes:
    """Return ``SHA-256(encode([COMMITMENT_DOMAIN, context, seed]))``, the commitment to ``seed`` in ``context``.

    It binds to one seed. It hides the seed only because a seed is 32 random bytes: never commit to what can be guessed.

    Raises:
        ValueError: ``seed`` does not have ``SEED_LENGTH`` bytes.
    """
    if len(seed) != SEED_LENGTH:
        raise ValueError(f"a seed has {SEED_LENGTH} bytes, got {len(seed)}")
    return digest([COMMITMENT_DOMAIN, context, seed])
