from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.signatures import SIGNATURE_LENGTH, sign, verify
from fedcredit.errors import BadSignatureError

ALICE = IdentityKeys.generate()
BOB = IdentityKeys.generate()


def check(signature: bytes, *, keys: IdentityKeys = ALICE, tag: str = "upload", body: bytes = b"body") -> None:
    verify(keys.public, tag=tag, body=body, signature=signature, signer="bank-1", what="upload")


def test_a_signature_verifies_under_its_own_key_tag_and_body() -> None:
    signature = sign(ALICE, tag="upload", body=b"body")
    assert len(signature) == SIGNATURE_LENGTH == 64
    check(signature)


def test_the_signed_bytes_are_what_the_protocol_says() -> None:
    seed = bytes(range(32))
    keys = IdentityKeys(signing=seed, kem_classic=seed, kem_post_quantum=bytes(64))
    covered = b"\x84\x75fedcredit signature 1\x62S1\x66upload\x58\x20" + hashlib.sha256(b"body").digest()
    assert sign(keys, tag="upload", body=b"body") == Ed25519PrivateKey.from_private_bytes(seed).sign(covered)


def test_a_signature_under_another_tag_is_refused() -> None:
    with pytest.raises(BadSignatureError) as caught:
        check(sign(ALICE, tag="upload", body=b"body"), tag="reveal")
    assert caught.value.fields == {"signer": "bank-1", "what": "upload"}


def test_another_body_or_key_is_refused() -> None:
    signature = sign(ALICE, tag="upload", body=b"body")
    with pytest.raises(BadSignatureError):
        check(signature, body=b"body ")
    with pytest.raises(BadSignatureError):
        check(signature, keys=BOB)


def test_a_signature_on_the_raw_body_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        check(ALICE.signing_key.sign(b"body"))


def test_every_truncation_and_extension_is_refused() -> None:
    signature = sign(ALICE, tag="upload", body=b"body")
    for length in range(64):
        with pytest.raises(BadSignatureError):
            check(signature[:length])
    with pytest.raises(BadSignatureError):
        check(signature + b"\x00")


def test_a_signature_with_the_group_order_added_is_refused() -> None:
    # RFC 8032 section 5.1.7: S must be below the order, or one signature would have several forms.
    signature = sign(ALICE, tag="upload", body=b"body")
    order = 2**252 + 27742317777372353535851937790883648493
    scalar = int.from_bytes(signature[32:], "little") + order
    with pytest.raises(BadSignatureError):
        check(signature[:32] + scalar.to_bytes(32, "little"))
