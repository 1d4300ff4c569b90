from __future__ import annotations

import base64
import hashlib
import re

import pytest

from fedcredit.audit.checkpoint_note import (
    MAX_NAME_BYTES,
    MAX_NOTE_BYTES,
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    MAX_TEXT_BYTES,
    LogCheckpoint,
    NoteSignature,
    SignedNote,
    cosign_checkpoint,
    open_checkpoint,
    sign_checkpoint,
    verify_cosignature,
    verify_log_signature,
)
from fedcredit.audit.merkle import EMPTY_ROOT, MAX_LOG_SIZE
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.errors import BadSignatureError, CheckpointNoteError, WrongContextError

LOG = IdentityKeys.generate()
BANK = IdentityKeys.generate()
STRANGER = IdentityKeys.generate()
ORIGIN = "fedcredit.example/north/audit"
ROOT = hashlib.sha256(b"root").digest()
ROOT_TEXT = "SBNJTRN+FjG7owHVrKtue7eqdM4RhdRWVl71HXN2d7I="
CHECKPOINT = LogCheckpoint(ORIGIN, 42, ROOT)
TEXT = f"{ORIGIN}\n42\n{ROOT_TEXT}\n"
UNKNOWN = NoteSignature(name="elsewhere.example", key_id=b"\x01\x02\x03\x04", signature=b"\xff")
UNKNOWN_LINE = "\u2014 elsewhere.example AQIDBP8="


def note(*signatures: NoteSignature) -> bytes:
    return SignedNote(text=TEXT, signatures=signatures).to_bytes()


def refused(data: bytes | str, expected: str) -> None:
    with pytest.raises(CheckpointNoteError, match=re.escape(f"Not a usable log checkpoint: {expected}.")):
        SignedNote.from_bytes(data.encode() if isinstance(data, str) else data)


def text_refused(text: str, expected: str) -> None:
    with pytest.raises(CheckpointNoteError, match=re.escape(f"Not a usable log checkpoint: {expected}.")):
        LogCheckpoint.from_text(text)


# --- the text of a checkpoint --------------------------------------------------------------------------------


def test_a_checkpoint_is_three_lines() -> None:
    assert base64.b64decode(ROOT_TEXT) == ROOT
    assert CHECKPOINT.to_text() == TEXT
    assert LogCheckpoint.from_text(TEXT) == CHECKPOINT


@pytest.mark.parametrize("size", [1, 9, 10, 4_294_967_296, MAX_LOG_SIZE])
def test_a_size_comes_back(size: int) -> None:
    checkpoint = LogCheckpoint(ORIGIN, size, ROOT)
    assert checkpoint.to_text().split("\n")[1] == str(size)
    assert LogCheckpoint.from_text(checkpoint.to_text()) == checkpoint


def test_an_empty_log_has_size_zero_and_the_hash_of_nothing() -> None:
    checkpoint = LogCheckpoint(ORIGIN, 0, EMPTY_ROOT)
    assert checkpoint.to_text() == f"{ORIGIN}\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    assert LogCheckpoint.from_text(checkpoint.to_text()) == checkpoint
    with pytest.raises(CheckpointNoteError, match="an empty log has another root"):
        LogCheckpoint(ORIGIN, 0, ROOT)


@pytest.mark.parametrize(
    "size", ["042", "00", "-1", "+42", "4_2", " 42", "42 ", "", "0x2a", "4.0", "\uff14\uff12", "9" * 20]
)
def test_a_size_is_a_plain_decimal_number(size: str) -> None:
    text_refused(f"{ORIGIN}\n{size}\n{ROOT_TEXT}\n", "the size is not a plain decimal number")


def test_a_size_that_no_log_has_is_refused() -> None:
    text_refused(f"{ORIGIN}\n{MAX_LOG_SIZE + 1}\n{ROOT_TEXT}\n", "the size is out of range")
    with pytest.raises(CheckpointNoteError, match="the size is out of range"):
        LogCheckpoint(ORIGIN, -1, ROOT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        TEXT[:-1],
        TEXT + "\n",
        TEXT + "an extension line\n",
        f"{ORIGIN}\n42\n",
        "\n" + TEXT,
        TEXT.replace("\n", "\r\n")[:-2],
    ],
)
def test_a_checkpoint_has_exactly_three_lines(text: str) -> None:
    text_refused(text, "it does not have exactly three lines")


def test_a_root_is_canonical_base64_of_32_bytes() -> None:
    for root, expected in (
        (ROOT_TEXT[:-1], "the root is not base64"),
        ("!" + ROOT_TEXT[1:], "the root is not base64"),
        ("\u00e9" + ROOT_TEXT[1:], "the root is not base64"),
        (ROOT_TEXT.replace("+", "-"), "the root is not base64"),
        # The last two bits before the padding carry nothing.
        (ROOT_TEXT.replace("I=", "J="), "the root is not canonical base64"),
        (base64.b64encode(ROOT[:31]).decode(), "the root is not a SHA-256 hash"),
        (base64.b64encode(ROOT + b"\0").decode(), "the root is not a SHA-256 hash"),
        ("", "the root is not a SHA-256 hash"),
    ):
        text_refused(f"{ORIGIN}\n42\n{root}\n", expected)


@pytest.mark.parametrize("origin", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\tb", "a\x00b"])
def test_an_origin_without_content_or_with_a_space_or_plus_is_refused(origin: str) -> None:
    with pytest.raises(CheckpointNoteError, match="the origin is empty or has a space, a plus or a control character"):
        LogCheckpoint(origin, 42, ROOT)


def test_an_origin_has_a_limit_in_bytes() -> None:
    LogCheckpoint("\u00e9" * (MAX_NAME_BYTES // 2), 42, ROOT)
    with pytest.raises(CheckpointNoteError, match="the origin is too long"):
        LogCheckpoint("\u00e9" * (MAX_NAME_BYTES // 2 + 1), 42, ROOT)


def test_an_origin_without_utf8_is_refused() -> None:
    with pytest.raises(CheckpointNoteError, match="the origin is not UTF-8"):
        LogCheckpoint("log\ud800", 42, ROOT)


# --- the note ------------------------------------------------------------------------------------------------


def test_a_note_is_the_text_an_empty_line_and_the_signature_lines() -> None:
    other = NoteSignature(name="b", key_id=bytes(4), signature=b"x")
    data = note(UNKNOWN, other)
    assert data.decode() == f"{TEXT}\n{UNKNOWN_LINE}\n\u2014 b AAAAAHg=\n"
    assert SignedNote.from_bytes(data) == SignedNote(text=TEXT, signatures=(UNKNOWN, other))


def test_a_signature_line_comes_back() -> None:
    assert UNKNOWN.to_line() == UNKNOWN_LINE
    assert NoteSignature.from_line(UNKNOWN_LINE) == UNKNOWN


def test_the_last_empty_line_ends_the_text() -> None:
    # The example of C2SP signed-note has an empty line in its poem.
    for text in ("one\n\ntwo\n", "one\n\n", "\n", "\u2014 a line of dialogue\n"):
        data = f"{text}\n{UNKNOWN_LINE}\n".encode()
        assert SignedNote.from_bytes(data) == SignedNote(text=text, signatures=(UNKNOWN,))
        assert SignedNote.from_bytes(data).to_bytes() == data


def test_what_is_not_a_note_is_refused() -> None:
    shape = "it is not a text, an empty line and signature lines"
    for data, expected in (
        ("", shape),
        (TEXT, shape),
        (f"{TEXT}{UNKNOWN_LINE}\n", shape),
        (f"\n{UNKNOWN_LINE}\n", shape),
        (f"{TEXT}\n{UNKNOWN_LINE}", shape),
        (f"{TEXT}\n{UNKNOWN_LINE}\ntrailing", shape),
        (f"{TEXT}\n", "it does not have 1 to 200 signatures"),
        (f"{TEXT}\n{UNKNOWN_LINE}\n\n", "it does not have 1 to 200 signatures"),
        (f"{TEXT}\n{UNKNOWN_LINE}\ntrailing\n", "a signature line does not begin with a dash and a space"),
        (f"{TEXT}\n- elsewhere.example AQIDBP8=\n", "a signature line does not begin with a dash and a space"),
        (f"{TEXT}\n\u2014  elsewhere.example AQIDBP8=\n", "a signature is not base64"),
        (f"{TEXT}\n{UNKNOWN_LINE} \n", "a signature is not base64"),
        (f"{TEXT}\n{UNKNOWN_LINE} more\n", "a signature is not base64"),
        (f"{TEXT}\n\u2014 elsewhere.example AQIDBP9=\n", "a signature is not canonical base64"),
        (f"{TEXT}\n\u2014 elsewhere.example\n", "a key id does not have four bytes"),
        (f"{TEXT}\n\u2014 elsewhere.example AQID\n", "a key id does not have four bytes"),
        (f"{TEXT}\n\u2014 elsewhere.example AQIDBA==\n", "a signature is empty or too long"),
        (f"{TEXT}\n\u2014 else+where AQIDBP8=\n", "a key name is empty or has a space, a plus or a control character"),
        (f"{TEXT}\n\u2014 {'n' * (MAX_NAME_BYTES + 1)} AQIDBP8=\n", "a key name is too long"),
        (f"log\x00\n\n{UNKNOWN_LINE}\n", "it has a control character"),
        (f"log\r\n\n{UNKNOWN_LINE}\n", "it has a control character"),
        (f"{TEXT}\n{UNKNOWN_LINE}\n".encode() + b"\xff", "it is not UTF-8"),
        (f"{TEXT}\n{UNKNOWN_LINE}\n".encode("utf-16"), "it is not UTF-8"),
    ):
        refused(data, expected)


def test_a_note_that_is_made_in_memory_obeys_the_same_rules() -> None:
    for text, expected in (
        ("no newline", "its text does not end with a newline"),
        ("a\tb\n", "it has a control character"),
        ("x" * MAX_TEXT_BYTES + "\n", "its text is too long"),
        ("\ud800\n", "its text is not UTF-8"),
    ):
        with pytest.raises(CheckpointNoteError, match=expected):
            SignedNote(text=text, signatures=(UNKNOWN,))
    with pytest.raises(CheckpointNoteError, match="1 to 200 signatures"):
        SignedNote(text=TEXT, signatures=())


def test_two_hundred_of_the_longest_lines_fit_and_one_more_does_not() -> None:
    longest = NoteSignature(name="n" * MAX_NAME_BYTES, key_id=bytes(4), signature=bytes(MAX_SIGNATURE_BYTES))
    text = "x" * (MAX_TEXT_BYTES - 1) + "\n"
    largest = SignedNote(text=text, signatures=(longest,) * MAX_SIGNATURES)
    data = largest.to_bytes()
    assert len(data) == MAX_NOTE_BYTES
    assert SignedNote.from_bytes(data) == largest
    refused(data + b"\n", "it is too long")
    with pytest.raises(CheckpointNoteError, match="1 to 200 signatures"):
        SignedNote(text=TEXT, signatures=(UNKNOWN,) * (MAX_SIGNATURES + 1))
    refused(f"{TEXT}\n" + f"{UNKNOWN_LINE}\n" * (MAX_SIGNATURES + 1), "it does not have 1 to 200 signatures")


def test_a_signature_has_a_limit() -> None:
    with pytest.raises(CheckpointNoteError, match="empty or too long"):
        NoteSignature(name="a", key_id=bytes(4), signature=bytes(MAX_SIGNATURE_BYTES + 1))
    # Nothing of this length is decoded at all.
    with pytest.raises(CheckpointNoteError, match="empty or too long"):
        NoteSignature.from_line("\u2014 a " + "!" * 10_000)


# --- signing and verifying -----------------------------------------------------------------------------------


def test_a_log_signs_under_its_origin() -> None:
    line = sign_checkpoint(CHECKPOINT, keys=LOG)
    public = LOG.public.signing
    assert line.name == ORIGIN
    assert line.key_id == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public).digest()[:4]
    assert line.signature == LOG.signing_key.sign(TEXT.encode())
    verify_log_signature(CHECKPOINT, [line], identity=LOG.public)


def test_an_institution_cosigns_under_its_name_and_time() -> None:
    line = cosign_checkpoint(CHECKPOINT, name="bank-1", keys=BANK, time_s=1_790_000_000)
    public = BANK.public.signing
    assert line.name == "bank-1"
    assert line.key_id == hashlib.sha256(b"bank-1\n\x04" + public).digest()[:4]
    message = f"cosignature/v1\ntime 1790000000\n{TEXT}".encode()
    assert line.signature == (1_790_000_000).to_bytes(8, "big") + BANK.signing_key.sign(message)
    assert verify_cosignature(CHECKPOINT, line, name="bank-1", identity=BANK.public) == 1_790_000_000


def test_an_opened_checkpoint_comes_with_all_its_lines() -> None:
    lines = (
        UNKNOWN,
        sign_checkpoint(CHECKPOINT, keys=LOG),
        cosign_checkpoint(CHECKPOINT, name="bank-1", keys=BANK, time_s=5),
    )
    assert open_checkpoint(note(*lines), origin=ORIGIN, identity=LOG.public) == (CHECKPOINT, lines)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    with pytest.raises(WrongContextError) as error:
        open_checkpoint(note(sign_checkpoint(CHECKPOINT, keys=LOG)), origin="another.example", identity=LOG.public)
    assert error.value.fields == {"what": "log checkpoint", "field": "origin"}


def test_lines_of_unknown_keys_are_kept_and_never_count() -> None:
    genuine = sign_checkpoint(CHECKPOINT, keys=LOG)
    same_name = NoteSignature(name=ORIGIN, key_id=b"none", signature=genuine.signature)
    same_key_id = NoteSignature(name="elsewhere.example", key_id=genuine.key_id, signature=genuine.signature)
    verify_log_signature(CHECKPOINT, [same_name, same_key_id, genuine], identity=LOG.public)
    for lines in ([], [UNKNOWN], [same_name, same_key_id], [sign_checkpoint(CHECKPOINT, keys=STRANGER)]):
        with pytest.raises(CheckpointNoteError, match="the log did not sign it with its registered key"):
            verify_log_signature(CHECKPOINT, lines, identity=LOG.public)


def test_a_cosignature_of_the_logs_own_key_is_no_signature_of_the_log() -> None:
    line = cosign_checkpoint(CHECKPOINT, name=ORIGIN, keys=LOG, time_s=5)
    with pytest.raises(CheckpointNoteError, match="the log did not sign it"):
        verify_log_signature(CHECKPOINT, [line], identity=LOG.public)


def test_one_bad_line_of_the_log_refuses_the_note() -> None:
    genuine = sign_checkpoint(CHECKPOINT, keys=LOG)
    elsewhere = sign_checkpoint(LogCheckpoint(ORIGIN, 43, ROOT), keys=LOG)
    for lines in ([elsewhere], [genuine, elsewhere], [elsewhere, genuine]):
        with pytest.raises(BadSignatureError) as error:
            verify_log_signature(CHECKPOINT, lines, identity=LOG.public)
        assert error.value.fields == {"signer": ORIGIN, "what": "log checkpoint"}


@pytest.mark.parametrize(
    "other",
    [
        LogCheckpoint("another.example", 42, ROOT),
        LogCheckpoint(ORIGIN, 41, ROOT),
        LogCheckpoint(ORIGIN, 42, EMPTY_ROOT),
    ],
)
def test_a_cosignature_covers_origin_size_and_root(other: LogCheckpoint) -> None:
    line = cosign_checkpoint(CHECKPOINT, name="bank-1", keys=BANK, time_s=5)
    with pytest.raises(BadSignatureError):
        verify_cosignature(other, line, name="bank-1", identity=BANK.public)


def test_a_cosignature_of_another_name_or_key_is_refused() -> None:
    line = cosign_checkpoint(CHECKPOINT, name="bank-1", keys=BANK, time_s=5)
    with pytest.raises(BadSignatureError) as error:
        verify_cosignature(CHECKPOINT, line, name="bank-2", identity=BANK.public)
    assert error.value.fields == {"signer": "bank-2", "what": "log checkpoint"}
    with pytest.raises(BadSignatureError):
        verify_cosignature(CHECKPOINT, line, name="bank-1", identity=STRANGER.public)
    with pytest.raises(BadSignatureError):
        signed = sign_checkpoint(LogCheckpoint("bank-1", 42, ROOT), keys=BANK)
        verify_cosignature(LogCheckpoint("bank-1", 42, ROOT), signed, name="bank-1", identity=BANK.public)
