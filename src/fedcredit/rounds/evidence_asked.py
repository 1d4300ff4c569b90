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
from fedcredit.rounds.evidence_sums import ExpectedRound, ReplayedSum, replay
from fedcredit.rounds.transcript import SetupRecord, Transcript, transcript_name


@dataclass(kw_only=True)
class AskedRound:
    """A round from the entry that opened it, as far as the log has told."""

    line: Line
    purpose: Purpose
    place: tuple[int, int, str]
    manifest: bytes
    cohort: tuple[InstitutionId, ...]
    expected: ExpectedRound | None
    """What its manifest says; ``None`` where no manifest is kept."""
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

    @property
    def contributors(self) -> tuple[InstitutionId, ...]:
        """Return whose answers count: the selection's members, or everybody who answered an open question."""
        return self.selected if self.expected else tuple(self.answers)

    @property
    def total(self) -> Integers | None:
        """Return its sum, where that could be computed again."""
        return self.sum.total if self.sum else None

    @property
    def name(self) -> str:
        """Return the file name of its transcript."""
        number, attempt, purpose = self.place
        return transcript_name(round_number=number, purpose=purpose, attempt=attempt)


def replayed_sum(line: Line, asked: AskedRound, opening: Opening, folder: Path, *, digest: bytes | None) -> ReplayedSum:
    """Return the sum that the round's transcript gives; its file has ``digest`` where an entry names one.

    Raises:
        AuditError: it is missing, another one, does not hold, or is of another cohort than was selected.
    """
    expected, secure = asked.expected, opening.plan.secure
    assert expected is not None and secure is not None  # noqa: S101 - a cohort was selected
    data = _kept(line, asked, folder)
    if digest is not None:
        line.require(hashlib.sha256(data).digest() == digest, f"names another transcript than {asked.name}")
    with line.naming(f"names a transcript that does not hold: {asked.name}"):
        found = replay(Transcript.from_bytes(data), expected, opening, secure, asked.answers)
    same = (found.selection_digest, found.members) == (asked.selection, asked.selected)
    line.require(same, f"names a transcript of another cohort than was selected: {asked.name}")
    return found


def recorded_setup(
    line: Line, asked: AskedRound, manifest: ExpectedManifest, opening: Opening, folder: Path
) -> tuple[bytes, tuple[InstitutionId, ...]]:
    """Return the epoch and its members as the record of the set-up gives them.

    Raises:
        AuditError: it is missing, or does not hold.
    """
    data = _kept(line, asked, folder)
    with line.naming(f"names a set-up whose record does not hold: {asked.name}"):
        return check_setup(SetupRecord.from_bytes(data), manifest, opening)


def _kept(line: Line, asked: AskedRound, folder: Path) -> bytes:
    try:
        return (folder / asked.name).read_bytes()
    except OSError as error:
        raise line.error(f"names a transcript that is missing: {asked.name}") from error
