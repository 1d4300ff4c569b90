"""Offline check of a run's record: the log chain, and every checkpoint against the line that released it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fedcredit.audit.log import AuditLog, Event, EventKind
from fedcredit.checkpoint import CheckpointStore
from fedcredit.config.plan import RunPlan
from fedcredit.encoding import DIGEST_LENGTH
from fedcredit.errors import AuditError, RunNotFoundError
from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What was checked."""

    entries: int
    released: int
    head: bytes


def verify_run(folder: Path) -> Evidence:
    """Check the run in ``folder``, or the only run of the demo folder ``folder``.

    Raises:
        RunNotFoundError: there is no run, or several.
        AuditError: the chain is broken, a round is out of order, or a parent does not match.
        CheckpointError: a released model is missing or not the one that the log names.
    """
    place = _run_folder(folder)
    with _verified_log(place) as log:
        released = _check_releases(log, place)
        return Evidence(entries=len(log), released=released, head=log.head)


def recorded_ledger_heads(folder: Path, institution: InstitutionId) -> tuple[bytes, ...]:
    """Return every head of an institution's privacy ledger that the log of the run in ``folder`` holds, in order.

    Empty if the institution never answered.

    Raises:
        RunNotFoundError: there is no run, or several.
        AuditError: the chain is broken, or a head is not one.
    """
    place, heads = _run_folder(folder), []
    with _verified_log(place) as log:
        for event in log.events():
            if event.fields.get("institution") == institution and "ledger_head" in event.fields:
                head = event.fields["ledger_head"]
                if not isinstance(head, bytes) or len(head) != DIGEST_LENGTH:
                    raise AuditError(path=str(place), index=event.index, problem="names no head of a ledger")
                heads.append(head)
    return tuple(heads)


@contextlib.contextmanager
def _verified_log(place: Path) -> Iterator[AuditLog]:
    if (place / "run.db").stat().st_size == 0:
        # Opening an empty file would make a new, valid log of it.
        raise AuditError(path=str(place), index=0, problem="is missing: the log is empty")
    with Database.open(place / "run.db") as database:
        log = AuditLog(Journal(database, "audit"))
        log.verify()
        yield log


def _check_releases(log: AuditLog, place: Path) -> int:
    """Return how many rounds were released; every release follows from the one before and from accepted answers."""
    plan = _check_opening(log, place)
    releases = _Releases(plan, CheckpointStore(place / "checkpoints"), place)
    for event in log.events():
        releases.follow(event)
    return releases.count


class _Releases:
    """Follows a run's log from release to release."""

    def __init__(self, plan: RunPlan, checkpoints: CheckpointStore, place: Path) -> None:
        self.count = 0
        self._plan = plan
        self._checkpoints = checkpoints
        self._place = place
        self._run: object = None
        self._parent = b""
        self._answered: dict[tuple[object, object], set[str]] = {}

    def follow(self, event: Event) -> None:
        """Take the next event.

        Raises:
            AuditError: it does not follow from those before.
            CheckpointError: a released model is missing or not the one that the event names.
        """
        fields = event.fields
        if event.kind is EventKind.RUN_OPENED:
            self._require(event, event.index == 0, "opens the run a second time")
            self._run, self._parent = fields["run"], cast(bytes, fields["checkpoint"])
            self._checkpoints.load(0, digest=self._parent)
            return
        self._require(event, fields.get("run", self._run) == self._run, "belongs to another run")
        if event.kind is EventKind.ANSWER_ACCEPTED:
            place = (fields.get("round"), fields.get("purpose"))
            self._answered.setdefault(place, set()).add(str(fields.get("institution")))
        elif event.kind is EventKind.PREPARED:
            self._release(event, place=(1, str(Purpose.PREPARE)))
        elif event.kind is EventKind.ROUND_RELEASED:
            self.count += 1
            self._release(event, place=(self.count, str(Purpose.TRAIN)))

    def _release(self, event: Event, *, place: tuple[int, str]) -> None:
        fields, answered = event.fields, self._answered.get(place, set())
        self._require(event, fields.get("round", 0) == self.count, "releases a round out of order")
        self._require(event, fields.get("parent") == self._parent, "names another parent model")
        contributors = cast(list[str], fields.get("contributors", []))
        self._require(
            event,
            set(contributors) <= answered & set(self._plan.institutions)
            and len(set(contributors)) >= self._plan.rounds.quorum,
            "names contributors whose answers the log does not hold, or too few",
        )
        digest = cast(bytes, fields["checkpoint"])
        prepared = event.kind is EventKind.PREPARED
        checkpoint = self._checkpoints.load(self.count, digest=digest, prepared=prepared)
        self._require(
            event, checkpoint.manifest_digest == fields.get("manifest"), "names another manifest than its model"
        )
        self._require(
            event, (checkpoint.round, checkpoint.parent) == (self.count, self._parent), "names another model's place"
        )
        self._parent = digest

    def _require(self, event: Event, holds: bool, problem: str) -> None:
        if not holds:
            raise AuditError(path=str(self._place), index=event.index, problem=problem)


def _check_opening(log: AuditLog, place: Path) -> RunPlan:
    """Return the plan that the run was opened for."""
    first = next(log.events(), None)
    if first is None or first.kind is not EventKind.RUN_OPENED:
        raise AuditError(path=str(place), index=0, problem="does not begin with the opening of a run")
    plan = RunPlan.read(place / "plan.toml")
    if first.fields.get("plan") != plan.digest():
        raise AuditError(path=str(place), index=0, problem="was opened for another plan than plan.toml")
    return plan


def _run_folder(folder: Path) -> Path:
    if (folder / "run.db").is_file():
        return folder
    runs = sorted(path.parent for path in (folder / "coordinator" / "runs").glob("*/run.db"))
    if len(runs) != 1:
        raise RunNotFoundError(place=str(folder))
    return runs[0]
