"""What an institution decides as a witness of the coordinator's log, and when a checkpoint is final.

A witness remembers one head per log: the last that it cosigned. From that alone it finds a log that was cut off, and a
log that shows different histories to different members. A checkpoint is final with ``threshold`` cosignatures of n, so
two conflicting final ones need ``2 * threshold - n`` institutions that signed both (PROTOCOL.md section 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from fedcredit.audit.checkpoint_note import MAX_SIGNATURES, LogCheckpoint, NoteSignature, verify_cosignature
from fedcredit.audit.merkle import EMPTY_ROOT, MAX_LOG_SIZE, verify_consistency
from fedcredit.crypto.keys import PublicIdentity
from fedcredit.encoding import DIGEST_LENGTH, decode, encode
from fedcredit.errors import (
    BadSignatureError,
    CheckpointNoteError,
    LogForkError,
    LogProofError,
    LogRolledBackError,
    MalformedMessageError,
    NotFinalError,
)
from fedcredit.parties import InstitutionId

_STATE_FORMAT: Final = "fedcredit witness state 1"
_STATE_LIMIT: Final = 128


@dataclass(frozen=True)
class WitnessState:
    """The head of one log that this witness cosigned last; there is one state per log.

    Raises:
        MalformedMessageError: the size or the root is none that a log can have.
    """

    size: int
    root: bytes

    def __post_init__(self) -> None:
        if not 0 <= self.size <= MAX_LOG_SIZE or len(self.root) != DIGEST_LENGTH:
            raise _malformed("a field is out of range")
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise _malformed("an empty log has another root")

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode({"format": _STATE_FORMAT, "size": self.size, "root": self.root})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode exactly one state.

        Raises:
            MalformedMessageError: not the canonical encoding of a state of this version.
            MessageTooLargeError: longer than any state.
        """
        value = decode(data, what="witness state", limit=_STATE_LIMIT)
        if not isinstance(value, Mapping) or set(value) != {"format", "size", "root"}:
            raise _malformed("its fields are not the expected ones")
        if value["format"] != _STATE_FORMAT:
            raise _malformed("its version is unknown")
        size, root = value["size"], value["root"]
        # True == 1 in Python, but it is another encoding.
        if not isinstance(size, int) or isinstance(size, bool) or not isinstance(root, bytes):
            raise _malformed("a field has the wrong type")
        return cls(size, root)


FIRST_SIGHT: Final = WitnessState(0, EMPTY_ROOT)
"""Nothing was cosigned yet: any first head is accepted, and from then on it binds."""


def advance(state: WitnessState, checkpoint: LogCheckpoint, proof: Sequence[bytes]) -> WitnessState:
    """Return the state after cosigning ``checkpoint``, which continues what ``state`` stands for.

    ``proof`` leads from ``state.size`` to ``checkpoint.size``; it is empty for an equal size and at first sight. Store
    the result before the cosignature leaves: the other order forgets, after a crash, what was signed.

    Raises:
        LogRolledBackError: the log is shorter than before.
        LogForkError: the same size has another root, or the proof does not show that the log only grew.
        LogProofError: there is a proof where nothing is to be proven.
    """
    if checkpoint.size < state.size:
        raise LogRolledBackError(size=checkpoint.size, known_size=state.size)
    if checkpoint.size == state.size and checkpoint.root != state.root:
        raise _fork(state, checkpoint)
    try:
        verify_consistency(
            old_size=state.size,
            old_root=state.root,
            new_size=checkpoint.size,
            new_root=checkpoint.root,
            proof=proof,
        )
    except LogProofError as error:
        if state.size in (0, checkpoint.size):
            raise
        raise _fork(state, checkpoint) from error
    return WitnessState(checkpoint.size, checkpoint.root)


def require_final(
    checkpoint: LogCheckpoint,
    cosignatures: Iterable[NoteSignature],
    identities: Mapping[InstitutionId, PublicIdentity],
    *,
    threshold: int,
) -> tuple[InstitutionId, ...]:
    """Return the institutions that cosigned ``checkpoint``, in the order of their names, if they are enough.

    ``identities`` are the members of the roster. A line of an unknown name or key, and one that does not verify, does
    not count; an institution counts once, and two names with one signing key count once.

    Raises:
        NotFinalError: fewer than ``threshold`` different members cosigned it.
        CheckpointNoteError: more lines than a note can have.
        ValueError: ``threshold`` is not between 1 and the number of members.
    """
    if not 1 <= threshold <= len(identities):
        raise ValueError("the threshold is not between 1 and the number of members")
    # By key, not by name: a cosignature does not name its witness, so one key under two names says one thing twice.
    signers: dict[bytes, InstitutionId] = {}
    for count, line in enumerate(cosignatures, start=1):
        if count > MAX_SIGNATURES:
            raise CheckpointNoteError(problem=f"it has more than {MAX_SIGNATURES} signatures")
        name = InstitutionId(line.name)
        if name not in identities or identities[name].signing in signers:
            continue
        try:
            verify_cosignature(checkpoint, line, name=name, identity=identities[name])
        except BadSignatureError:
            continue
        signers[identities[name].signing] = name
    if len(signers) < threshold:
        missing = ", ".join(sorted(identities.keys() - signers.values()))
        raise NotFinalError(size=checkpoint.size, valid=len(signers), needed=threshold, missing=missing)
    return tuple(sorted(signers.values()))


def _fork(state: WitnessState, checkpoint: LogCheckpoint) -> LogForkError:
    return LogForkError(
        size=checkpoint.size, root=checkpoint.root.hex(), known_size=state.size, known_root=state.root.hex()
    )


def _malformed(problem: str) -> MalformedMessageError:
    return MalformedMessageError(what="witness state", problem=problem)
