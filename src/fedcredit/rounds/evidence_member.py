"""A run's log beside what one member kept of it: the head that it cosigned last, and its own log of requests.

This is what finds a log whose end was cut off, or that was written anew for the reader: the rest of the evidence is in
the hands of whoever wrote the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from fedcredit.audit.log import EventKind
from fedcredit.audit.witness import WitnessState
from fedcredit.errors import LogForkError, LogRolledBackError
from fedcredit.messages import Purpose, Stage, radii_digest
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence_log import Line, RunLog

_ANSWERING: Final = frozenset({Stage.ANSWER, Stage.UPLOAD, Stage.CLOSE})
"""Stages whose answers the coordinator's log takes up."""


@dataclass(frozen=True, kw_only=True)
class MemberRecord:
    """What a member holds."""

    institution: InstitutionId
    witnessed: WitnessState
    """The head of the run's log that it cosigned last."""
    log: RunLog
    """Its own log, of all runs."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What was compared with one member."""

    institution: InstitutionId
    cosigned: int
    """Entries of the run's log that it has cosigned; 0 if it never did."""
    answered: int
    """Requests that it says it answered, all of them of rounds in the run's log."""
    unstated: int
    """Of these: requests for training whose radii its log does not say, because an older version wrote it."""
    accepted: int
    """Answers that the run's log takes from it, all of them in its own log."""
    unused: int
    """Times that it gave shares and the log has no sum of them: the coordinator failed there, or threw a sum away."""
    unheard: bool
    """Whether the log lacks the last answer that it gave to a closing, vote included: lost on the way, or left out."""


def compare(log: RunLog, run: str, record: MemberRecord) -> Compared:
    """Return if the run's log is the one that the member has seen.

    Raises:
        LogRolledBackError: it has fewer entries than the member cosigned.
        LogForkError: its first entries are others than the member cosigned.
        AuditError: a request or an answer is in one of the two logs only.
    """
    _require_head(log, record.witnessed)
    asked = {_place(line): line for line in log.lines if line.kind is EventKind.ROUND_OPENED}
    answered = unstated = 0
    for line in record.log.lines:
        if line.fields.get("run") != run:
            continue
        if line.kind is EventKind.REQUEST_ANSWERED:
            line.require(_place(line) in asked, "answers a request that the run's log does not have")
            answered += 1
            stated = _states_radii(line, asked[_place(line)])
            if stated:
                _require_radii(line, asked[_place(line)])
            unstated += not stated and line.fields.get("purpose") == Purpose.TRAIN
        else:
            known = {manifest for manifest, *_ in asked}
            line.require(line.fields.get("manifest") in known, "refuses a request that the run's log does not have")
    opened = {_place(line)[1:] for line in log.lines if line.kind is EventKind.SUM_OPENED}
    taken = {_place(line)[1:] for line in _answers_of(log, record.institution)}
    closings = _places(record, run, Stage.CLOSE)
    return Compared(
        institution=record.institution,
        cosigned=record.witnessed.size,
        answered=answered,
        unstated=unstated,
        accepted=_require_given(log, run, record),
        unused=len({*_places(record, run, Stage.REVEAL)} - opened),
        unheard=bool(closings) and closings[-1] not in taken,
    )


def _places(record: MemberRecord, run: str, stage: Stage) -> list[tuple[object, ...]]:
    """Return round, attempt and purpose of the requests of a stage that the member answered, in their order."""
    return [
        _place(line)[1:]
        for line in record.log.lines
        if line.kind is EventKind.REQUEST_ANSWERED
        and line.fields.get("run") == run
        and line.fields.get("stage") == stage
    ]


def _require_head(log: RunLog, witnessed: WitnessState) -> None:
    if witnessed.size > len(log):
        raise LogRolledBackError(size=len(log), known_size=witnessed.size)
    root = log.tree.root(witnessed.size)
    if root != witnessed.root:
        raise LogForkError(
            size=witnessed.size, root=root.hex(), known_size=witnessed.size, known_root=witnessed.root.hex()
        )


def _require_given(log: RunLog, run: str, record: MemberRecord) -> int:
    """Return how many answers of the member the run's log takes; the member gave every one of them."""
    given = {
        _place(line)
        for line in record.log.lines
        if line.kind is EventKind.REQUEST_ANSWERED
        and line.fields.get("run") == run
        and line.fields.get("stage") in _ANSWERING
    }
    manifests = {_place(line)[1:]: _place(line)[0] for line in log.lines if line.kind is EventKind.ROUND_OPENED}
    taken = list(_answers_of(log, record.institution))
    for line in taken:
        place = _place(line)[1:]
        line.require((manifests.get(place), *place) in given, f"takes an answer that {record.institution} did not give")
    return len(taken)


def _answers_of(log: RunLog, institution: InstitutionId) -> Iterable[Line]:
    for line in log.lines:
        if line.kind is EventKind.ANSWER_ACCEPTED and line.fields.get("institution") == institution:
            yield line


def _states_radii(line: Line, opened: Line) -> bool:
    """Return whether both logs say which radii the manifest had; those of an older version do not."""
    return "radii" in line.fields and "radii" in opened.fields


def _require_radii(line: Line, opened: Line) -> None:
    """Return if the member answered a manifest with the radii that the run's log says."""
    stated = opened.fields["radii"]
    same = isinstance(stated, list) and line.fields["radii"] == radii_digest(stated)
    line.require(same, "answers a request with other radii than the run's log says")


def _place(line: Line) -> tuple[object, object, object, object]:
    """Return the manifest, round, attempt and purpose that an entry names."""
    return tuple(line.fields.get(name) for name in ("manifest", "round", "attempt", "purpose"))  # type: ignore[return-value]
