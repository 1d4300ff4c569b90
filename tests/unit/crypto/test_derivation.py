from __future__ import annotations

import hashlib
import hmac

import pytest

from fedcredit.crypto.derivation import MAX_DERIVED, commitment, derive
from fedcredit.encoding import encode

KEY = bytes(range(32))
PLACE = bytes(range(32, 64))


def hkdf_by_hand(key: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869 sections 2.2 and 2.3, no salt: a salt of 32 zero bytes."""
    extracted = hmac.digest(bytes(32), key, "sha256")
    block = out = b""
    for counter in range(1, -(-length // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([counter]), "sha256")
        out += block
    return out[:length]


@pytest.mark.parametrize("length", [1, 16, 32, 33, 64, MAX_DERIVED])
@pytest.mark.parametrize("key", [KEY, KEY + PLACE])
def test_a_derived_key_is_hkdf_by_the_text_of_the_rfc(key: bytes, length: int) -> None:
    info = b"\x83" + b"\x72fedcredit derive 1" + b"\x64mask" + b"\x82\x42\x01\x02\x03"
    assert derive(key, label="mask", context=[b"\x01\x02", 3], length=length) == hkdf_by_hand(key, info, length)


def test_a_derived_key_has_32_bytes_unless_told() -> None:
    assert len(derive(KEY, label="mask", context=None)) == 32


def test_another_key_label_or_context_gives_another_key() -> None:
    derived = {
        derive(KEY, label="mask", context=["a", "b"]),
        derive(KEY[::-1], label="mask", context=["a", "b"]),
        derive(KEY, label="box", context=["a", "b"]),
        derive(KEY, label="mask", context=["b", "a"]),
        derive(KEY, label="mask", context=["ab"]),
        derive(KEY, label="mask", context="ab"),
        derive(KEY, label="mask", context=b"ab"),
    }
    assert len(derived) == 7


@pytest.mark.parametrize("length", [0, 16, 31])
def test_a_key_too_short_to_be_one_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        derive(bytes(length), label="mask", context=None)


@pytest.mark.parametrize("length", [-1, 0, MAX_DERIVED + 1])
def test_a_length_that_hkdf_cannot_give_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="1 to 8160 bytes"):
        derive(KEY, label="mask", context=None, length=length)


def test_a_context_without_an_encoding_is_refused() -> None:
    with pytest.raises(TypeError, match="no canonical encoding"):
        derive(KEY, label="mask", context=[0.5])  # type: ignore[list-item]


def test_a_commitment_is_the_hash_of_domain_place_and_seed() -> None:
    by_hand = b"\x83" + b"\x72fedcredit commit 1" + b"\x58\x20" + PLACE + b"\x58\x20" + KEY
    assert encode(["fedcredit commit 1", PLACE, KEY]) == by_hand
    assert commitment(KEY, context=PLACE) == hashlib.sha256(by_hand).digest()


def test_a_commitment_binds_to_seed_and_place() -> None:
    made = {commitment(KEY, context=PLACE), commitment(PLACE, context=KEY), commitment(KEY, context=PLACE + b"\x00")}
    assert len(made) == 3


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_of_another_length_is_not_committed_to(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        commitment(bytes(length), context=PLACE)
