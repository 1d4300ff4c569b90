from __future__ import annotations

import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedcredit.crypto.notes import (
    COSIGNATURE_LENGTH,
    KEY_ID_LENGTH,
    MAX_TIME_S,
    NOTE_SIGNATURE_LENGTH,
    NoteKeyType,
    cosign_note,
    note_key_id,
    sign_note,
    verify_cosigned_note,
    verify_note,
)
from fedcredit.crypto.signatures import signed_bytes
from fedcredit.errors import BadSignatureError

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
TEXT = "log.example\n7\nroot\n"


def check(signature: bytes, *, public_key: bytes = PUBLIC, text: str = TEXT) -> None:
    verify_note(public_key, text=text, signature=signature, signer="log.example")


def check_cosigned(signature: bytes, *, public_key: bytes = PUBLIC, text: str = TEXT) -> int:
    return verify_cosigned_note(public_key, text=text, signature=signature, signer="bank-1")


def test_a_log_signs_the_text_and_nothing_else() -> None:
    signature = sign_note(KEY, text=TEXT)
    assert signature == KEY.sign(b"log.example\n7\nroot\n")
    assert len(signature) == NOTE_SIGNATURE_LENGTH
    check(signature)


def test_a_witness_signs_a_header_its_time_and_the_text() -> None:
    signature = cosign_note(KEY, text=TEXT, time_s=1_679_315_147)
    assert signature[:8] == bytes.fromhex("00000000641850cb")
    assert signature[8:] == KEY.sign(b"cosignature/v1\ntime 1679315147\nlog.example\n7\nroot\n")
    assert len(signature) == COSIGNATURE_LENGTH
    assert check_cosigned(signature) == 1_679_315_147


@pytest.mark.parametrize("time_s", [0, 1, MAX_TIME_S])
def test_the_time_of_a_cosignature_comes_back(time_s: int) -> None:
    assert check_cosigned(cosign_note(KEY, text=TEXT, time_s=time_s)) == time_s


@pytest.mark.parametrize("time_s", [-1, MAX_TIME_S + 1])
def test_a_time_that_the_format_cannot_carry_is_refused(time_s: int) -> None:
    assert MAX_TIME_S == 9_223_372_036_854_775_807
    with pytest.raises(ValueError, match="time of a cosignature"):
        cosign_note(KEY, text=TEXT, time_s=time_s)


def test_a_genuine_signature_over_an_impossible_time_is_refused() -> None:
    time_s = MAX_TIME_S + 1
    message = f"cosignature/v1\ntime {time_s}\n{TEXT}".encode()
    with pytest.raises(BadSignatureError):
        check_cosigned(time_s.to_bytes(8, "big") + KEY.sign(message))


def test_a_key_id_is_four_bytes_of_the_hash_over_name_kind_and_key() -> None:
    expected = hashlib.sha256(b"bank-1\n\x04" + PUBLIC).digest()[:4]
    assert note_key_id(name="bank-1", kind=NoteKeyType.COSIGNATURE_V1, public_key=PUBLIC) == expected
    assert len(expected) == KEY_ID_LENGTH
    assert note_key_id(name="bank-1", kind=NoteKeyType.NOTE, public_key=PUBLIC) != expected
    assert note_key_id(name="bank-2", kind=NoteKeyType.COSIGNATURE_V1, public_key=PUBLIC) != expected
    assert note_key_id(name="bank-1", kind=NoteKeyType.COSIGNATURE_V1, public_key=OTHER) != expected


def test_another_text_or_key_is_refused() -> None:
    with pytest.raises(BadSignatureError) as error:
        check(sign_note(KEY, text=TEXT), text="log.example\n8\nroot\n")
    assert error.value.fields == {"signer": "log.example", "what": "log checkpoint"}
    with pytest.raises(BadSignatureError):
        check(sign_note(KEY, text=TEXT), public_key=OTHER)
    with pytest.raises(BadSignatureError) as error:
        check_cosigned(cosign_note(KEY, text=TEXT, time_s=5), text="log.example\n8\nroot\n")
    assert error.value.fields == {"signer": "bank-1", "what": "log checkpoint"}
    with pytest.raises(BadSignatureError):
        check_cosigned(cosign_note(KEY, text=TEXT, time_s=5), public_key=OTHER)


def test_a_public_key_of_another_length_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        check(sign_note(KEY, text=TEXT), public_key=PUBLIC[:-1])


def test_every_flipped_bit_truncation_and_extension_is_refused() -> None:
    for signature, verify in (
        (sign_note(KEY, text=TEXT), check),
        (cosign_note(KEY, text=TEXT, time_s=5), check_cosigned),
    ):
        for place in range(8 * len(signature)):
            changed = bytearray(signature)
            changed[place // 8] ^= 1 << place % 8
            with pytest.raises(BadSignatureError):
                verify(bytes(changed))
        for length in range(len(signature)):
            with pytest.raises(BadSignatureError):
                verify(signature[:length])
        with pytest.raises(BadSignatureError):
            verify(signature + b"\x00")


def test_the_signature_of_a_log_never_stands_for_a_cosignature() -> None:
    time_s = (5).to_bytes(8, "big")
    with pytest.raises(BadSignatureError):
        check_cosigned(time_s + sign_note(KEY, text=TEXT))
    with pytest.raises(BadSignatureError):
        check(cosign_note(KEY, text=TEXT, time_s=5)[8:])
    with pytest.raises(ValueError, match="like a cosigned message"):
        sign_note(KEY, text=f"cosignature/v1\ntime 5\n{TEXT}")


def test_no_note_is_a_message_of_fedcredit() -> None:
    # The first byte of a signed message is the continuation of a character that never began.
    message = signed_bytes(tag="upload", body=b"body")
    with pytest.raises(UnicodeDecodeError, match="byte 0x84 in position 0: invalid start byte"):
        message.decode()


@pytest.mark.parametrize("text", ["", "log.example", "log\x00\n", "log\t\n", "log\r\n", "log\x1f\n"])
def test_what_is_no_note_text_is_not_signed(text: str) -> None:
    with pytest.raises(ValueError, match="the text of a note"):
        sign_note(KEY, text=text)
    with pytest.raises(ValueError, match="the text of a note"):
        cosign_note(KEY, text=text, time_s=5)
