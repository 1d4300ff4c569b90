"""Offline check of a run's record, with public keys only: everything that an independent validator can check.

    evidence_log      the hash chain, entry by entry
    evidence_opening  plan, roster and coordinator are those that the log was opened for
    evidence_asked    what was asked, and the transcript that is kept of it
    evidence_rounds   who was asked, who answered and cosigned, whose answers were added up
    evidence_attempts attempts without a sum, and blame
    evidence_manifests what the coordinator signed, and how the keys of an epoch were set up
    evidence_sums     the signed messages of a secure round, and the sum that follows from them
    evidence_votes    the members' votes on the model, and what follows from them
    evidence_models   the released models and figures that follow from the sums
    evidence_privacy  no release more than the plan pays for
    evidence_files    the other files say nothing else
    evidence_member   it is the log that a member has cosigned

Nobody is asked, nothing is changed, and of the keys only public halves are needed. The first entry that does not hold
ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcredit.audit.checkpoint_note import LogCheckpoint
from fedcredit.audit.log import EventKind
from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId
from fedcredit.rounds.drive import EVALUATION_FILE
from fedcredit.rounds.evidence_files import check_copies, check_transcripts, run_folder
from fedcredit.rounds.evidence_log import RUN_DATABASE, RunLog, is_digest, read_log
from fedcredit.rounds.evidence_models import Models, check_evaluation
from fedcredit.rounds.evidence_opening import Opening, read_opening
from fedcredit.rounds.evidence_privacy import MemberSpending
from fedcredit.rounds.evidence_rounds import Rounds
from fedcredit.rounds.voting import Verdict

_RELEASING = (Purpose.PREPARE, Purpose.TRAIN, Purpose.EVALUATE, Purpose.CLOSE)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was checked."""

    folder: Path
    log: RunLog
    opening: Opening
    released: int
    """Rounds released."""
    recomputed: int
    """Models computed again, the starting point included; with open aggregation only that."""
    epochs: int
    """Set-ups of keys, each signed for by its members."""
    sums: int
    """Sums opened again from their transcripts."""
    uploads: int
    agreements: int
    reveals: int
    """Of these sums: signed messages of each kind."""
    unrecorded: int
    """Transcripts beside them that the coordinator did not live to record."""
    attempts: int
    """Attempts that gave no sum, or left somebody out of one, whose record holds: what was asked, who had uploaded."""
    blames: int
    """Times that a member is blamed, each of which follows from what members signed."""
    unkept: int
    """Such attempts in a log of a version that kept no record of them: what they asked, and blamed, is its word."""
    cut_off: int
    """Attempts that have no end in the log, and of whose manifest nothing is kept: only members know what was asked."""
    evaluated: bool
    figures: int
    """Figures in evaluation.json that follow from the replayed counts."""
    copies: int
    """Lines of the readable copies that say what the log says."""
    cosignatures: int
    final_size: int
    """Entries of the log up to the last state that enough members have cosigned."""
    final_by: tuple[InstitutionId, ...]
    verdict: Verdict | None
    """What the members' votes make of the model; ``None`` while they have not cosigned the whole log up to the closing
    lines."""
    accepted: Mapping[Purpose, int]
    """Most accepted answers of one member, by purpose."""
    allowed: Mapping[Purpose, int]
    """The most that the plan pays for."""
    spent: Mapping[InstitutionId, MemberSpending]

    @property
    def closed(self) -> bool:
        """Return whether the members have cosigned the whole log up to the closing lines."""
        return self.verdict is not None

    @property
    def entries(self) -> int:
        """Return the length of the log."""
        return len(self.log)

    @property
    def checkpoint(self) -> LogCheckpoint:
        """Return what the whole log says about itself."""
        return self.log.checkpoint(self.entries, origin=self.opening.origin)

    @property
    def head(self) -> bytes:
        """Return the digest of the last entry."""
        return self.log.head


def verify_run(folder: Path) -> Evidence:
    """Check the run in ``folder``, or the only run below it.

    Raises:
        RunNotFoundError: there is no run.
        UsageError: there are several.
        AuditError: names the first entry that does not hold, and why.
        StateDirInUseError: the coordinator is running.
    """
    place = run_folder(folder)
    log = read_log(place / RUN_DATABASE)
    opening = read_opening(log, place)
    rounds = Rounds(log, opening, Models(opening, place), place)
    rounds.models.start(log.lines[0])
    for line in log.lines[1:]:
        rounds.follow(line)
    rounds.settle(log.lines[-1])
    figures = _figures(rounds, opening, log, place)
    unrecorded = check_transcripts(rounds, log, place)
    return _summary(rounds, opening, log, place, figures=figures, unrecorded=unrecorded)


def recorded_ledger_heads(folder: Path, institution: InstitutionId) -> tuple[bytes, ...]:
    """Return every head of an institution's privacy ledger that the log of the run in ``folder`` holds, in order.

    Empty if the institution never answered.

    Raises:
        RunNotFoundError: there is no run.
        UsageError: there are several.
        AuditError: the chain is broken, or a head is not one.
    """
    heads = []
    for line in read_log(run_folder(folder) / RUN_DATABASE).lines:
        if line.fields.get("institution") == institution and "ledger_head" in line.fields:
            head = line.fields["ledger_head"]
            line.require(is_digest(head), "names no head of a ledger")
            heads.append(line.octets("ledger_head"))
    return tuple(heads)


def _figures(rounds: Rounds, opening: Opening, log: RunLog, folder: Path) -> int:
    """Return how many figures of the evaluation follow from its replayed counts."""
    if rounds.evaluated is None:
        log.lines[-1].require(
            not (folder / EVALUATION_FILE).exists(), f"is the last one, and none is the evaluation of {EVALUATION_FILE}"
        )
        return 0
    line, asked = rounds.evaluated
    return check_evaluation(folder, line, opening, asked.total, asked.contributors)


def _summary(rounds: Rounds, opening: Opening, log: RunLog, folder: Path, *, figures: int, unrecorded: int) -> Evidence:
    sums = [asked.sum for asked in rounds.asked if asked.sum]
    final_size, final_by = rounds.final()
    releases = rounds.releases
    return Evidence(
        folder=folder,
        log=log,
        opening=opening,
        released=rounds.models.released,
        recomputed=rounds.models.recomputed,
        epochs=rounds.epochs,
        sums=len(sums),
        uploads=sum(len(item.members) for item in sums),
        agreements=sum(item.agreements for item in sums),
        reveals=sum(item.reveals for item in sums),
        unrecorded=unrecorded,
        attempts=sum(asked.recorded for asked in rounds.asked),
        blames=sum(len(asked.blamed | asked.conflicting) for asked in rounds.asked if not asked.unkept),
        unkept=sum(asked.unkept for asked in rounds.asked),
        cut_off=sum(not asked.over and not asked.shown for asked in rounds.asked),
        evaluated=rounds.evaluated is not None,
        figures=figures,
        copies=check_copies(log, folder),
        cosignatures=sum(line.kind is EventKind.ANSWER_ACCEPTED for line in log.lines),
        final_size=final_size,
        final_by=final_by,
        verdict=rounds.verdict,
        accepted={purpose: max(releases.count(name, purpose) for name in opening.identities) for purpose in _RELEASING},
        allowed={purpose: releases.allowed(purpose) for purpose in _RELEASING},
        spent=releases.spent(),
    )
