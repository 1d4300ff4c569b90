"""Checkpoints of the log as signed notes, and what a witness keeps of them."""

from __future__ import annotations

from fuzz.harness import chosen, one_of, same_bytes
from fuzz.keys import keys_of

from fedcredit.audit.checkpoint_note import (
    LogCheckpoint,
    SignedNote,
    cosign_checkpoint,
    open_checkpoint,
    sign_checkpoint,
    verify_cosignature,
)
from fedcredit.audit.witness import WitnessState

TOKENS = ("— ".encode(), b"\n\n", b"\n", b"= ", b"+", b"0", b"-1", b"9223372036854775807", b"\xc2\x85", b"\xe2\x80\xa8")
_ORIGIN = "fedcredit.example/north/audit"


def _signed(data: bytes) -> None:
    open_checkpoint(data, origin=_ORIGIN, identity=keys_of(1).public)


def _cosignature(data: bytes) -> None:
    note = SignedNote.from_bytes(data)
    checkpoint = LogCheckpoint.from_text(note.text)
    verify_cosignature(checkpoint, note.signatures[-1], name="bank-a", identity=keys_of(2).public)


TARGET = one_of(same_bytes(SignedNote.from_bytes), _signed, same_bytes(WitnessState.from_bytes), _cosignature)


def seeds() -> dict[str, bytes]:
    """Return a note with the signatures of a log and a witness, and a state."""
    checkpoint = LogCheckpoint(_ORIGIN, 42, bytes(range(32)))
    lines = (
        sign_checkpoint(checkpoint, keys=keys_of(1)),
        cosign_checkpoint(checkpoint, name="bank-a", keys=keys_of(2), time_s=1_772_366_400),
    )
    note = SignedNote(text=checkpoint.to_text(), signatures=lines).to_bytes()
    state = WitnessState(42, bytes(range(32)))
    return {
        "note": chosen(0, note),
        "checkpoint": chosen(1, note),
        "state": chosen(2, state.to_bytes()),
        "cosignature": chosen(3, note),
    }
