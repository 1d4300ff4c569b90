"""What a coordinator keeps beside its log, read by whoever verifies a run."""

from __future__ import annotations

from fuzz.harness import chosen, one_of, same_bytes

from fedcredit.messages import Signed
from fedcredit.parties import InstitutionId
from fedcredit.rounds.transcript import AttemptRecord, SetupRecord, SignedUpload, Transcript

TARGET = one_of(*(same_bytes(kind.from_bytes) for kind in (Transcript, SetupRecord, AttemptRecord)))


def seeds() -> dict[str, bytes]:
    """Return one record of each kind; nothing in them is signed."""
    name, asked = InstitutionId("bank-a"), {"manifest": b"manifest", "manifest_signature": b"signature"}
    transcript = Transcript(
        **asked,
        lanes=2,
        lane_bits=32,
        threshold=3,
        selection=b"selection",
        selection_signature=bytes(64),
        uploads={name: SignedUpload(body=b"upload", signature=bytes(64), bulk=bytes(8))},
        accepts={name: bytes(64)},
        reveals={name: (b"reveal", bytes(64), bytes(33))},
    )
    attempt = AttemptRecord(**asked, uploads={name: Signed(body=b"upload", signature=bytes(64))})
    return {
        "transcript": chosen(0, transcript.to_bytes()),
        "set-up": chosen(1, SetupRecord(**asked, keys=(b"key", b"other key")).to_bytes()),
        "attempt": chosen(2, attempt.to_bytes()),
    }
