"""Notes that others made, and every way to bend one of ours."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.audit.checkpoint_note import (
    LogCheckpoint,
    NoteSignature,
    SignedNote,
    cosign_checkpoint,
    open_checkpoint,
    sign_checkpoint,
    verify_cosignature,
)
from fedcredit.audit.merkle import MAX_LOG_SIZE
from fedcredit.audit.witness import FIRST_SIGHT, WitnessState, advance, require_final
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.notes import NoteKeyType, cosign_note, note_key_id, sign_note
from fedcredit.errors import (
    CheckpointNoteError,
    LogForkError,
    LogRolledBackError,
    NotFinalError,
    SecurityError,
)
from fedcredit.parties import InstitutionId

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "vectors" / "checkpoint_notes.json").read_text(encoding="utf-8")
)
KEYS = IdentityKeys.generate()
UNHURRIED = settings(deadline=None)  # a busy machine is no finding


def identity(signing: bytes) -> PublicIdentity:
    return dataclasses.replace(KEYS.public, signing=signing)


def registered(vkey: str) -> tuple[str, PublicIdentity]:
    """Read a verifier key of C2SP signed-note: ``name+key id+base64(kind || key)``."""
    name, key_id, encoded = vkey.split("+", 2)
    kind, key = base64.b64decode(encoded)[0], base64.b64decode(encoded)[1:]
    assert note_key_id(name=name, kind=NoteKeyType(kind), public_key=key).hex() == key_id
    return name, identity(key)


# --- vectors -------------------------------------------------------------------------------------------------


def test_our_note_is_the_golden_one_byte_for_byte() -> None:
    golden = VECTORS["golden"]
    key, origin = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(golden["seed"])), golden["origin"]
    public = key.public_key().public_bytes_raw()
    assert public.hex() == golden["public_key"]
    checkpoint = LogCheckpoint(origin, golden["size"], bytes.fromhex(golden["root"]))
    text, witness, time_s = checkpoint.to_text(), golden["witness"], golden["time_s"]
    signed = NoteSignature(
        name=origin,
        key_id=note_key_id(name=origin, kind=NoteKeyType.NOTE, public_key=public),
        signature=sign_note(key, text=text),
    )
    cosigned = NoteSignature(
        name=witness,
        key_id=note_key_id(name=witness, kind=NoteKeyType.COSIGNATURE_V1, public_key=public),
        signature=cosign_note(key, text=text, time_s=time_s),
    )
    data = SignedNote(text=text, signatures=(signed, cosigned)).to_bytes()
    assert data.decode() == golden["note"]
    assert open_checkpoint(data, origin=origin, identity=identity(public)) == (checkpoint, (signed, cosigned))
    assert verify_cosignature(checkpoint, cosigned, name=witness, identity=identity(public)) == time_s


def test_a_head_of_a_public_log_opens_and_its_public_witnesses_verify() -> None:
    vector = VECTORS["certificate_transparency"]
    origin, log = registered(vector["log"])
    checkpoint, lines = open_checkpoint(vector["note"].encode(), origin=origin, identity=log)
    assert checkpoint.size == 1_432_088_532
    assert SignedNote(text=checkpoint.to_text(), signatures=lines).to_bytes() == vector["note"].encode()
    witnesses = {InstitutionId(name): key for name, key in map(registered, vector["witnesses"])}
    assert require_final(checkpoint, lines, witnesses, threshold=3) == tuple(sorted(witnesses))
    times = {
        verify_cosignature(checkpoint, line, name=line.name, identity=witnesses[InstitutionId(line.name)])
        for line in lines
        if line.name in witnesses
    }
    assert times == {vector["time_s"]}
    larger = LogCheckpoint(origin, checkpoint.size + 1, checkpoint.root)
    with pytest.raises(NotFinalError):
        require_final(larger, lines, witnesses, threshold=1)


def test_the_steps_of_another_witness_are_accepted_and_its_forks_refused() -> None:
    vector = VECTORS["sigsum"]
    log = identity(bytes.fromhex(vector["public_key"]))

    def opened(note: str) -> LogCheckpoint:
        return open_checkpoint(note.encode(), origin=vector["origin"], identity=log)[0]

    first = advance(FIRST_SIGHT, opened(vector["first"]), ())
    assert first == WitnessState(1, b"\x2a\x00" + bytes(30))
    three, five = (
        (opened(step["note"]), [base64.b64decode(item) for item in step["proof"]]) for step in vector["later"]
    )
    assert advance(first, *three).size == 3
    ahead = advance(first, *five)
    assert ahead.size == 5
    with pytest.raises(LogRolledBackError):
        advance(ahead, *three)
    with pytest.raises(LogForkError):
        advance(first, three[0], five[1])


# --- mutations -----------------------------------------------------------------------------------------------

ORIGIN = "fedcredit.example/north/audit"
BANKS = [InstitutionId("bank-1"), InstitutionId("bank-2")]
BANK_KEYS = {name: IdentityKeys.generate() for name in BANKS}
MEMBERS = {name: keys.public for name, keys in BANK_KEYS.items()}
CHECKPOINT = LogCheckpoint(ORIGIN, 42, hashlib.sha256(b"root").digest())
LINES = (
    sign_checkpoint(CHECKPOINT, keys=KEYS),
    *(cosign_checkpoint(CHECKPOINT, name=name, keys=BANK_KEYS[name], time_s=1_790_000_000) for name in BANKS),
    NoteSignature(name="elsewhere.example", key_id=b"\x01\x02\x03\x04", signature=bytes(72)),
)
NOTE = SignedNote(text=CHECKPOINT.to_text(), signatures=LINES).to_bytes()


def refused(data: bytes) -> bool:
    """Tell whether a changed note is refused; if it is not, only a line that did not count may have changed."""
    try:
        checkpoint, lines = open_checkpoint(data, origin=ORIGIN, identity=KEYS.public)
    except SecurityError:
        return True
    assert checkpoint == CHECKPOINT
    assert LINES[0] in lines
    intact = tuple(name for name, line in zip(BANKS, LINES[1:3], strict=True) if line in lines)
    if len(intact) == 2:
        assert require_final(checkpoint, lines, MEMBERS, threshold=2) == intact
    else:
        with pytest.raises(NotFinalError):
            require_final(checkpoint, lines, MEMBERS, threshold=2)
    return False


def test_every_flipped_bit_of_a_note_is_refused_or_makes_its_line_unknown() -> None:
    assert not refused(NOTE)
    counted_until = NOTE.index(LINES[1].to_line().encode())
    survived = set()
    for place in range(len(NOTE)):
        for bit in range(8):
            changed = bytearray(NOTE)
            changed[place] ^= 1 << bit
            if not refused(bytes(changed)):
                survived.add(place)
    # What the log said and signed never survives; a cosignature that was changed only stops to count.
    assert min(survived) >= counted_until
    tail = NOTE.index(LINES[3].to_line().encode())
    assert any(place < tail for place in survived)
    assert any(place >= tail for place in survived)


def test_every_truncation_of_a_note_is_refused_or_loses_whole_lines() -> None:
    ends = [NOTE.index(line.to_line().encode()) for line in LINES[1:]]
    assert [length for length in range(len(NOTE)) if not refused(NOTE[:length])] == ends


@given(st.integers(0, len(NOTE)), st.binary(min_size=1, max_size=3))
@UNHURRIED
def test_inserted_bytes_never_change_what_was_signed(place: int, inserted: bytes) -> None:
    assert refused(NOTE[:place] + inserted + NOTE[place:]) or place > NOTE.index(LINES[1].to_line().encode())


@given(st.binary(max_size=200))
@UNHURRIED
def test_bytes_of_any_kind_are_a_note_that_comes_back_or_refused(data: bytes) -> None:
    for candidate in (data, CHECKPOINT.to_text().encode() + b"\n" + data, NOTE + data):
        try:
            note = SignedNote.from_bytes(candidate)
        except CheckpointNoteError:
            continue
        assert note.to_bytes() == candidate


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Z", "Cc"], exclude_characters="+"), min_size=1, max_size=40
)
SIGNATURES = st.builds(
    NoteSignature, name=NAMES, key_id=st.binary(min_size=4, max_size=4), signature=st.binary(min_size=1, max_size=90)
)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"], include_characters="\n"), max_size=80)


@given(TEXTS, st.lists(SIGNATURES, min_size=1, max_size=5))
@UNHURRIED
def test_every_note_comes_back(text: str, signatures: list[NoteSignature]) -> None:
    note = SignedNote(text=text + "\n", signatures=tuple(signatures))
    assert SignedNote.from_bytes(note.to_bytes()) == note


@given(NAMES, st.integers(1, MAX_LOG_SIZE), st.binary(min_size=32, max_size=32))
@UNHURRIED
def test_every_checkpoint_comes_back(origin: str, size: int, root: bytes) -> None:
    checkpoint = LogCheckpoint(origin, size, root)
    assert LogCheckpoint.from_text(checkpoint.to_text()) == checkpoint


@given(st.text(max_size=80))
@UNHURRIED
def test_a_text_is_a_checkpoint_that_comes_back_or_refused(tail: str) -> None:
    for text in (tail, f"{ORIGIN}\n{tail}", f"{ORIGIN}\n{tail}\n{base64.b64encode(CHECKPOINT.root).decode()}\n"):
        try:
            checkpoint = LogCheckpoint.from_text(text)
        except CheckpointNoteError:
            continue
        assert checkpoint.to_text() == text
