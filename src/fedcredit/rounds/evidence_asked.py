"""What was asked and what is kept of it: the transcript of a round or of a set-up, held against the log's entries."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence_log import Line
from fedcredit.rounds.evidence_manifests import ExpectedManifest, check_setup
from fedcredit.rounds.evidence_models import Integers
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.evidence_sums import ReplayedSum, replay
from fedcredit.rounds.transcript import SetupRecord, Transcript, attempt_name, transcript_name


@dataclass(kw_only=True)
class AskedRound:
    """A round from the entry that opened it, as far as the log has told."""

    line: Line
    purpose: Purpose
    place: tuple[int, int, str]
    manifest: bytes
    cohort: tuple[InstitutionId, ...]
    signed: ExpectedManifest
    """What its manifest says."""
    lanes: int | None
    """How many numbers each masked answer has; ``None`` for open ones, whose sum nobody can open again."""
    answers: dict[InstitutionId, Line] = field(default_factory=dict)
    """In the order of their arrival; each has a cosignature that holds."""
    conflicting: set[str] = field(default_factory=set)
    """Members whose commitments the log says contradict those of others, so that they are not in the sum."""
    blamed: set[str] = field(default_factory=set)
    """Members whose shares the log calls wrong."""
    selected: tuple[InstitutionId, ...] = ()
    selection: bytes = b""
    sum: ReplayedSum | None = None
    ready: bool = False
    """Whether its set-up ended with an epoch."""
    over: bool = False
    shown: bool = False
    """Whether its signed manifest is kept, and holds."""
    recorded: bool = False
    """Whether an entry names the record of this attempt, and it holds."""
    unkept: bool = False
    """Whether it should have such a record, and its log is of a version that has none."""

    @property
    def contributors(self) -> tuple[InstitutionId, ...]:
        """Return whose answers count: the selection's members, or everybody who answered an open question."""
        return tuple(self.answers) if self.lanes is None else self.selected

    @property
    def total(self) -> Integers | None:
        """Return its sum, where that could be computed again."""
        return self.sum.total if self.sum else None

    @property
    def name(self) -> str:
        """Return the file name of its transcript."""
        number, attempt, purpose = self.place
        return transcript_name(round_number=number, purpose=purpose, attempt=attempt)

    @property
    def attempt_name(self) -> str:
        """Return the file name of the record of the attempt."""
        number, attempt, purpose = self.place
        return attempt_name(round_number=number, purpose=purpose, attempt=attempt)


def replayed_sum(line: Line, asked: AskedRound, opening: Opening, folder: Path, *, digest: bytes | None) -> ReplayedSum:
    """Return the sum that the round's transcript gives; its file has ``digest`` where an entry names one.

    Raises:
        AuditError: it is missing, another one, does not hold, or is of another cohort than was selected.
    """
    lanes, secure = asked.lanes, opening.plan.secure
    assert lanes is not None and secure is not None  # noqa: S101 - a cohort was selected
    data = kept_file(line, asked.name, folder)
    if digest is not None:
        line.require(hashlib.sha256(data).digest() == digest, f"names another transcript than {asked.name}")
    with line.naming(f"names a transcript that does not hold: {asked.name}"):
        transcript = Transcript.from_bytes(data)
        found = replay(transcript, asked.signed, opening, secure, asked.answers, lanes=lanes)
    same = (found.selection_digest, found.members) == (asked.selection, asked.selected)
    line.require(same, f"names a transcript of another cohort than was selected: {asked.name}")
    asked.shown = True
    return found


def recorded_setup(
    line: Line, asked: AskedRound, opening: Opening, folder: Path
) -> tuple[bytes, tuple[InstitutionId, ...]]:
    """Return the epoch and its members as the record of the set-up gives them.

    Raises:
        AuditError: it is missing, or does not hold.
    """
    data = kept_file(line, asked.name, folder)
    with line.naming(f"names a set-up whose record does not hold: {asked.name}"):
        found = check_setup(SetupRecord.from_bytes(data), asked.signed, opening)
    asked.shown = True
    return found


def kept_file(line: Line, name: str, folder: Path) -> bytes:
    """Return the content of a file of the folder of transcripts, which the entry names."""
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise line.error(f"names a transcript that is missing: {name}") from error
