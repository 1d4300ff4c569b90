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
    _check_opening(log, place)
    checkpoints = CheckpointStore(place / "checkpoints")
    released, parent = 0, b""
    for event in log.events():
        if event.kind is EventKind.RUN_OPENED:
            parent = cast(bytes, event.fields["checkpoint"])
            checkpoints.load(0, digest=parent)
        elif event.kind in {EventKind.PREPARED, EventKind.ROUND_RELEASED}:
            released += event.kind is EventKind.ROUND_RELEASED
            parent = _check_release(event, checkpoints, place, expected_round=released, parent=parent)
    return released


def _check_release(
    event: Event, checkpoints: CheckpointStore, place: Path, *, expected_round: int, parent: bytes
) -> bytes:
    """Return the digest of the model that an event releases; the preparation releases the one of round 0."""
    if event.fields.get("round", 0) != expected_round:
        raise AuditError(path=str(place), index=event.index, problem="releases a round out of order")
    if event.fields["parent"] != parent:
        raise AuditError(path=str(place), index=event.index, problem="names another parent model")
    digest = cast(bytes, event.fields["checkpoint"])
    prepared = event.kind is EventKind.PREPARED
    checkpoint = checkpoints.load(expected_round, digest=digest, prepared=prepared)
    if checkpoint.manifest_digest != event.fields["manifest"]:
        raise AuditError(path=str(place), index=event.index, problem="names another manifest than its model")
    return digest


def _check_opening(log: AuditLog, place: Path) -> None:
    first = next(log.events(), None)
    if first is None or first.kind is not EventKind.RUN_OPENED:
        raise AuditError(path=str(place), index=0, problem="does not begin with the opening of a run")
    if first.fields.get("plan") != RunPlan.read(place / "plan.toml").digest():
        raise AuditError(path=str(place), index=0, problem="was opened for another plan than plan.toml")


def _run_folder(folder: Path) -> Path:
    if (folder / "run.db").is_file():
        return folder
    runs = sorted(path.parent for path in (folder / "coordinator" / "runs").glob("*/run.db"))
    if len(runs) != 1:
        raise RunNotFoundError(place=str(folder))
    return runs[0]
