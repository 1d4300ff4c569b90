"""Keys from keys (HKDF-SHA-256, RFC 5869) and commitments to seeds (SHA-256); each is bound to one label and place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcredit.encoding import Encodable, encode

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
    return derive_each([key], label=label, context=context, length=length)[0]


def derive_each(keys: Sequence[bytes], *, label: str, context: Encodable, length: int = 32) -> list[bytes]:
    """Return what ``derive`` gives for each of ``keys``; it raises what that raises."""
    if not 0 < length <= MAX_DERIVED:
        raise ValueError(f"a derived key has 1 to {MAX_DERIVED} bytes, not {length}")
    for key in keys:
        if len(key) < SEED_LENGTH:
            raise ValueError(f"a key to derive from has at least {SEED_LENGTH} bytes, got {len(key)}")
    info, digest = encode([DERIVATION_DOMAIN, label, context]), SHA256()
    return [HKDF(algorithm=digest, length=length, salt=None, info=info).derive(key) for key in keys]


def commitment(seed: bytes, *, context: bytes) -> bytes:
    """Return ``SHA-256(encode([COMMITMENT_DOMAIN, context, seed]))``, the commitment to ``seed`` in ``context``.

    It binds to one seed. It hides the seed only because a seed is 32 random bytes: never commit to what can be guessed.

    Raises:
        ValueError: ``seed`` does not have ``SEED_LENGTH`` bytes.
    """
    if len(seed) != SEED_LENGTH:
        raise ValueError(f"a seed has {SEED_LENGTH} bytes, got {len(seed)}")
    return hashlib.sha256(_before_seed(context) + seed).digest()


@lru_cache(maxsize=8)
def _before_seed(context: bytes) -> bytes:
    """Return the encoding of a commitment's content up to the seed: that comes last, and has one length."""
    return encode([COMMITMENT_DOMAIN, context, bytes(SEED_LENGTH)])[:-SEED_LENGTH]
