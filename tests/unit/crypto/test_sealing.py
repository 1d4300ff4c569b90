from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import MAX_SEALED, SEAL_OVERHEAD, SealContext, open_sealed, seal
from fedcredit.errors import CannotOpenError, MalformedMessageError, MessageTooLargeError

ALICE = IdentityKeys.generate()
BOB = IdentityKeys.generate()
CONTEXT = SealContext(
    consortium="credit",
    run="run-1",
    round_number=3,
    attempt=1,
    message_type="upload",
    sender="bank-1",
    recipient="coordinator",
    manifest_digest=bytes(32),
)
SEALED = seal(b"the update", recipient=ALICE.public, context=CONTEXT)


def test_the_recipient_opens_what_was_sealed_in_its_context() -> None:
    assert open_sealed(SEALED, keys=ALICE, context=CONTEXT) == b"the update"


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 100_000])
def test_a_seal_adds_the_same_bytes_to_every_length(length: int) -> None:
    plaintext = bytes(length)
    sealed = seal(plaintext, recipient=ALICE.public, context=CONTEXT)
    assert len(sealed) == length + SEAL_OVERHEAD == length + 2 + 1088 + 32 + 16
    assert open_sealed(sealed, keys=ALICE, context=CONTEXT) == plaintext


def test_sealing_twice_gives_different_bytes_in_every_part() -> None:
    other = seal(b"the update", recipient=ALICE.public, context=CONTEXT)
    assert other[:2] == SEALED[:2] == b"\x01\x01"
    assert other[2:1090] != SEALED[2:1090]
    assert other[1090:1122] != SEALED[1090:1122]
    assert other[1122:] != SEALED[1122:]


def test_the_plaintext_is_not_in_the_seal() -> None:
    assert b"update" not in SEALED


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(CannotOpenError) as caught:
        open_sealed(SEALED, keys=BOB, context=CONTEXT)
    assert caught.value.fields == {"sender": "bank-1"}


def test_half_of_the_key_does_not_open_it() -> None:
    # Somebody who broke X25519 but not ML-KEM, and the other way round.
    signing = {"signing": bytes(32), "signing_post_quantum": bytes(32)}
    seeds = signing | {"kem_classic": b"\x07" * 32, "kem_post_quantum": b"\x08" * 64}
    keys = IdentityKeys(**seeds)
    sealed = seal(b"x", recipient=keys.public, context=CONTEXT)
    for name in ("kem_classic", "kem_post_quantum"):
        half = IdentityKeys(**(seeds | {name: bytes(len(seeds[name]))}))
        with pytest.raises(CannotOpenError):
            open_sealed(sealed, keys=half, context=CONTEXT)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("consortium", "other"),
        ("run", "run-2"),
        ("round_number", 4),
        ("attempt", 2),
        ("message_type", "reveal"),
        ("sender", "bank-2"),
        ("recipient", "bank-1"),
        ("manifest_digest", b"\x01" + bytes(31)),
    ],
)
def test_a_changed_context_field_does_not_open_it(field: str, value: str | int | bytes) -> None:
    with pytest.raises(CannotOpenError):
        open_sealed(SEALED, keys=ALICE, context=dataclasses.replace(CONTEXT, **{field: value}))


def test_every_field_of_the_context_is_bound() -> None:
    tested = {"consortium", "run", "round_number", "attempt", "message_type", "sender", "recipient", "manifest_digest"}
    assert {field.name for field in dataclasses.fields(SealContext)} == tested


def test_text_moved_from_one_field_to_the_next_is_another_context() -> None:
    moved = dataclasses.replace(CONTEXT, consortium="creditr", run="un-1")
    assert moved.to_bytes() != CONTEXT.to_bytes()


def test_the_context_names_protocol_version_and_suite() -> None:
    assert CONTEXT.to_bytes() == (
        b"\x8b\x6efedcredit seal\x01\x01\x66credit\x65run-1\x03\x01\x66upload\x66bank-1\x6bcoordinator\x58\x20"
        + bytes(32)
    )


@pytest.mark.parametrize(("place", "named"), [(0, "version"), (1, "suite")])
@pytest.mark.parametrize("value", [0, 2, 255])
def test_another_version_or_suite_is_refused_before_decryption(place: int, named: str, value: int) -> None:
    changed = bytearray(SEALED)
    changed[place] = value
    with pytest.raises(MalformedMessageError) as caught:
        open_sealed(bytes(changed), keys=ALICE, context=CONTEXT)
    assert named in str(caught.value.fields["problem"])


def test_every_truncation_is_refused() -> None:
    for length in range(len(SEALED)):
        expected = MalformedMessageError if length < SEAL_OVERHEAD else CannotOpenError
        with pytest.raises(expected):
            open_sealed(SEALED[:length], keys=ALICE, context=CONTEXT)


def test_a_low_order_point_in_the_seal_is_refused() -> None:
    changed = SEALED[:1090] + bytes(32) + SEALED[1122:]
    with pytest.raises(CannotOpenError):
        open_sealed(changed, keys=ALICE, context=CONTEXT)


def test_a_message_beyond_the_cipher_limit_is_refused_unread() -> None:
    # Zero pages are not touched, so this costs no memory.
    huge = memoryview(np.zeros(MAX_SEALED + 1, dtype=np.uint8))
    with pytest.raises(MessageTooLargeError):
        seal(huge[: MAX_SEALED - SEAL_OVERHEAD + 1], recipient=ALICE.public, context=CONTEXT)  # type: ignore[arg-type]
    with pytest.raises(MessageTooLargeError):
        open_sealed(huge, keys=ALICE, context=CONTEXT)  # type: ignore[arg-type]


def test_two_halves_of_two_seals_do_not_open_together() -> None:
    other = seal(b"the update", recipient=ALICE.public, context=CONTEXT)
    with pytest.raises(CannotOpenError):
        open_sealed(SEALED[:1122] + other[1122:], keys=ALICE, context=CONTEXT)
