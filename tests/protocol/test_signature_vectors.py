"""Stored signatures and a stored identity: what was signed once verifies in every later version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import sign, sign_lasting, verify, verify_lasting
from fedcredit.errors import BadSignatureError

VECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "signatures_s1.json").read_text(encoding="utf-8")
)
IDENTITY, BODY = bytes.fromhex(VECTOR["identity"]), bytes.fromhex(VECTOR["body"])
SIGNATURE, LASTING = bytes.fromhex(VECTOR["signature"]), bytes.fromhex(VECTOR["lasting"])
KEYS = IdentityKeys(**{name: bytes.fromhex(seed) for name, seed in VECTOR["seeds"].items()})


def test_the_stored_signatures_still_verify() -> None:
    identity = PublicIdentity.from_bytes(IDENTITY)
    verify(identity, tag=VECTOR["tag"], body=BODY, signature=SIGNATURE, signer="vector", what="vector")
    verify_lasting(identity, tag=VECTOR["tag"], body=BODY, signature=LASTING, signer="vector", what="vector")
    with pytest.raises(BadSignatureError):
        verify_lasting(identity, tag=VECTOR["tag"], body=BODY + b".", signature=LASTING, signer="v", what="v")


def test_the_seeds_still_give_the_stored_identity_and_signatures() -> None:
    assert KEYS.public.to_bytes() == IDENTITY
    assert sign(KEYS, tag=VECTOR["tag"], body=BODY) == SIGNATURE
    assert sign_lasting(KEYS, tag=VECTOR["tag"], body=BODY)[:64] == LASTING[:64]  # ML-DSA is hedged


def test_the_stored_signatures_verify_without_this_package() -> None:
    # The places of the keys in the encoding, and the signed bytes, written by hand.
    post_quantum = MLDSA65PublicKey.from_public_bytes(IDENTITY[-1952:])
    ed25519 = Ed25519PublicKey.from_public_bytes(IDENTITY[11:43])
    digest = b"\x66vector\x58\x20" + hashlib.sha256(b"a vector of suite S1").digest()
    ed25519.verify(SIGNATURE, b"\x84\x75fedcredit signature 1\x62S1" + digest)
    covered = b"\x84\x75fedcredit signature 1\x6aS1-lasting" + digest
    ed25519.verify(LASTING[:64], covered)
    post_quantum.verify(LASTING[64:], covered)
