"""Offline check of a run's record: the log chain, and every checkpoint against the line that released it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.checkpoint import CheckpointStore
from fedcredit.config.plan import RunPlan
from fedcredit.errors import AuditError, RunNotFoundError
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
    if (place / "run.db").stat().st_size == 0:
        # Opening an empty file would make a new, valid log of it.
        raise AuditError(path=str(place), index=0, problem="is missing: the log is empty")
    with Database.open(place / "run.db") as database:
        log = AuditLog(Journal(database, "audit"))
        log.verify()
        released = _check_releases(log, place)
        return Evidence(entries=len(log), released=released, head=log.head)


def _check_releases(log: AuditLog, place: Path) -> int:
    _check_opening(log, place)
    checkpoints = CheckpointStore(place / "checkpoints")
    expected_round, parent = 1, b""
    for event in log.events():
        if event.kind is EventKind.RUN_OPENED:
            parent = cast(bytes, event.fields["checkpoint"])
            checkpoints.load(0, digest=parent)
        if event.kind is not EventKind.ROUND_RELEASED:
            continue
        if event.fields["round"] != expected_round:
            raise AuditError(path=str(place), index=event.index, problem="releases a round out of order")
        if event.fields["parent"] != parent:
            raise AuditError(path=str(place), index=event.index, problem="names another parent model")
        parent = cast(bytes, event.fields["checkpoint"])
        checkpoint = checkpoints.load(expected_round, digest=parent)
        if checkpoint.manifest_digest != event.fields["manifest"]:
            raise AuditError(path=str(place), index=event.index, problem="names another manifest than its model")
        expected_round += 1
    return expected_round - 1


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
