from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.crypto import signatures
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.signatures import (
    LASTING_SIGNATURE_LENGTH,
    SIGNATURE_LENGTH,
    VerifiedSignatures,
    sign,
    sign_lasting,
    verify,
    verify_digest,
    verify_lasting,
)
from fedcredit.errors import BadSignatureError

ALICE = IdentityKeys.generate()
BOB = IdentityKeys.generate()
DIGEST = hashlib.sha256(b"body").digest()


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> VerifiedSignatures:
    """Start each test with nothing remembered, so that none passes by what another one verified."""
    empty = VerifiedSignatures(limit=4)
    monkeypatch.setattr(signatures, "_VERIFIED", empty)
    return empty


def check(signature: bytes, *, keys: IdentityKeys = ALICE, tag: str = "upload", body: bytes = b"body") -> None:
    verify(keys.public, tag=tag, body=body, signature=signature, signer="bank-1", what="upload")


def check_digest(signature: bytes, *, tag: str = "upload", digest: bytes = DIGEST) -> None:
    verify_digest(ALICE.public, tag=tag, digest=digest, signature=signature, signer="bank-1", what="upload")


def check_lasting(signature: bytes, *, keys: IdentityKeys = ALICE, tag: str = "upload", body: bytes = b"body") -> None:
    verify_lasting(keys.public, tag=tag, body=body, signature=signature, signer="bank-1", what="upload")


def test_a_signature_verifies_under_its_own_key_tag_and_body() -> None:
    signature = sign(ALICE, tag="upload", body=b"body")
    assert len(signature) == SIGNATURE_LENGTH == 64
    check(signature)


def test_the_signed_bytes_are_what_the_protocol_says() -> None:
    seed = bytes(range(32))
    keys = IdentityKeys(signing=seed, signing_post_quantum=seed, kem_classic=seed, kem_post_quantum=bytes(64))
    covered = b"\x84\x75fedcredit signature 1\x62S1\x66upload\x58\x20" + DIGEST
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


def test_who_holds_only_the_digest_verifies_the_same_signature() -> None:
    signature = sign(ALICE, tag="upload", body=b"body")
    check_digest(signature)
    for changes in ({"tag": "reveal"}, {"digest": bytes(32)}, {"digest": DIGEST[:-1]}, {"digest": b"body"}):
        with pytest.raises(BadSignatureError) as caught:
            check_digest(signature, **changes)  # type: ignore[arg-type]
        assert caught.value.fields == {"signer": "bank-1", "what": "upload"}


def test_a_lasting_signature_verifies_under_its_own_keys_tag_and_body() -> None:
    signature = sign_lasting(ALICE, tag="upload", body=b"body")
    assert len(signature) == LASTING_SIGNATURE_LENGTH == 3373
    check_lasting(signature)
    with pytest.raises(BadSignatureError) as caught:
        check_lasting(signature, tag="reveal")
    assert caught.value.fields == {"signer": "bank-1", "what": "upload"}
    with pytest.raises(BadSignatureError):
        check_lasting(signature, body=b"body ")
    with pytest.raises(BadSignatureError):
        check_lasting(signature, keys=BOB)


def test_both_halves_sign_the_bytes_that_the_protocol_says() -> None:
    covered = b"\x84\x75fedcredit signature 1\x6aS1-lasting\x66upload\x58\x20" + DIGEST
    signature = sign_lasting(ALICE, tag="upload", body=b"body")
    assert signature[:64] == ALICE.signing_key.sign(covered)
    ALICE.public.post_quantum_signing_key().verify(signature[64:], covered)
    check_lasting(ALICE.signing_key.sign(covered) + ALICE.post_quantum_signing_key.sign(covered))


def test_each_half_of_a_lasting_signature_is_needed() -> None:
    alice, bob = (sign_lasting(keys, tag="upload", body=b"body") for keys in (ALICE, BOB))
    for forged in (alice[:64] + bob[64:], bob[:64] + alice[64:], bytes(64) + alice[64:], alice[:64] + bytes(3309)):
        with pytest.raises(BadSignatureError):
            check_lasting(forged)


@pytest.mark.parametrize("name", ["signing", "signing_post_quantum"])
def test_each_key_of_a_lasting_signature_is_checked(name: str) -> None:
    signature = sign_lasting(ALICE, tag="upload", body=b"body")
    mixed = replace(ALICE.public, **{name: getattr(BOB.public, name)})
    with pytest.raises(BadSignatureError):
        verify_lasting(mixed, tag="upload", body=b"body", signature=signature, signer="bank-1", what="upload")


def test_no_length_but_its_own_makes_a_lasting_signature() -> None:
    signature = sign_lasting(ALICE, tag="upload", body=b"body")
    for length in (0, 1, 63, 64, 65, 3308, 3309, 3310, 3372):
        with pytest.raises(BadSignatureError):
            check_lasting(signature[:length])
    for longer in (signature + b"\x00", b"\x00" + signature, signature + signature):
        with pytest.raises(BadSignatureError):
            check_lasting(longer)


def test_neither_kind_of_signature_counts_as_the_other() -> None:
    short, lasting = sign(ALICE, tag="upload", body=b"body"), sign_lasting(ALICE, tag="upload", body=b"body")
    for given in (lasting, lasting[:64], lasting[64:]):
        with pytest.raises(BadSignatureError):
            check(given)
    for given in (short, short + lasting[64:]):
        with pytest.raises(BadSignatureError):
            check_lasting(given)


@pytest.mark.parametrize(("make", "require"), [(sign, check), (sign_lasting, check_lasting)], ids=["short", "lasting"])
def test_what_verified_once_is_not_computed_again(
    make: Callable[..., bytes],
    require: Callable[[bytes], None],
    monkeypatch: pytest.MonkeyPatch,
    remembered: VerifiedSignatures,
) -> None:
    signature = make(ALICE, tag="upload", body=b"body")
    require(signature)
    require(signature)
    assert len(remembered) == 1
    monkeypatch.setattr(signatures, "Ed25519PublicKey", None)
    require(signature)
    with pytest.raises(AttributeError):  # another one would be computed
        require(make(ALICE, tag="upload", body=b"other"))


def test_the_digest_and_the_body_share_what_verified(remembered: VerifiedSignatures) -> None:
    signature = sign(ALICE, tag="upload", body=b"body")
    check(signature)
    check_digest(signature)
    assert len(remembered) == 1


def test_a_wrong_signature_is_never_remembered(remembered: VerifiedSignatures) -> None:
    right = sign_lasting(ALICE, tag="upload", body=b"body")
    wrong = right[:-1] + bytes([right[-1] ^ 1])
    for _ in range(3):
        with pytest.raises(BadSignatureError):
            check_lasting(wrong)
        with pytest.raises(BadSignatureError):
            check(right[:64])
    assert len(remembered) == 0


def test_after_success_everything_that_decides_still_decides() -> None:
    short, lasting = sign(ALICE, tag="upload", body=b"body"), sign_lasting(ALICE, tag="upload", body=b"body")
    check(short)
    check_lasting(lasting)
    for require, signature in ((check, short), (check_lasting, lasting)):
        for changes in ({"keys": BOB}, {"tag": "reveal"}, {"body": b"other"}):
            with pytest.raises(BadSignatureError):
                require(signature, **changes)
        with pytest.raises(BadSignatureError):
            require(signature[:-1] + bytes([signature[-1] ^ 1]))
    test_neither_kind_of_signature_counts_as_the_other()


def test_the_signature_not_used_for_the_longest_time_is_forgotten_first() -> None:
    memory = VerifiedSignatures(limit=2)
    for digest in (b"a", b"b"):
        memory.add(digest)
    assert memory.holds(b"a")  # used: now b is the oldest
    memory.add(b"c")
    assert [memory.holds(digest) for digest in (b"a", b"b", b"c")] == [True, False, True]
    memory.add(b"a")
    assert len(memory) == 2


def test_a_process_remembers_eight_thousand_signatures_and_no_more() -> None:
    memory = VerifiedSignatures(limit=signatures.REMEMBERED)
    for number in range(10_000):
        memory.add(number.to_bytes(32, "big"))
    assert len(memory) == 8192
    assert not memory.holds((1807).to_bytes(32, "big"))
    assert memory.holds((1808).to_bytes(32, "big"))


def test_threads_may_share_what_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    # More threads than places, so that entries vanish between the question and the use.
    monkeypatch.setattr(signatures, "_VERIFIED", VerifiedSignatures(limit=1))
    made = [sign(ALICE, tag="upload", body=bytes([number])) for number in range(4)]
    failures: list[Exception] = []

    def work(start: int) -> None:
        try:
            for step in range(60):
                number = (start + step) % 4
                check(made[number], body=bytes([number]))
                with pytest.raises(BadSignatureError):
                    check(made[number], body=bytes([number + 1]))
        except Exception as error:  # noqa: BLE001 - a thread cannot raise into the test
            failures.append(error)

    threads = [Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
