"""Offline checks of a run's record."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from consortium import Consortium, plan_of

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.checkpoint import Checkpoint, CheckpointStore
from fedcredit.errors import AuditError, CheckpointError, RunNotFoundError
from fedcredit.rounds.evidence import verify_run
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal


def run_folder(folder: Path, *, plan_in_log: bytes | None = None) -> Path:
    plan = plan_of()
    (folder / "plan.toml").write_text(plan.to_toml())
    digest = CheckpointStore(folder / "checkpoints").save(
        Checkpoint(round=0, tensors={"weights": np.zeros(3)}, manifest_digest=bytes(32), parent=bytes(32))
    )
    with Database.open(folder / "run.db") as database:
        AuditLog(Journal(database, "audit")).record(
            EventKind.RUN_OPENED, run="r", plan=plan_in_log or plan.digest(), checkpoint=digest
        )
    return folder


def test_a_run_that_has_only_begun_verifies(tmp_path: Path) -> None:
    assert verify_run(run_folder(tmp_path)).released == 0


def test_an_empty_log_is_no_evidence(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    (folder / "run.db").write_bytes(b"")
    with pytest.raises(AuditError, match="empty"):
        verify_run(folder)
    assert (folder / "run.db").read_bytes() == b""


def test_a_log_without_a_beginning_is_no_evidence(tmp_path: Path) -> None:
    with Database.open(tmp_path / "run.db") as database:
        AuditLog(Journal(database, "audit")).record(EventKind.RUN_FINISHED, run="r")
    with pytest.raises(AuditError, match="does not begin"):
        verify_run(tmp_path)


def test_a_plan_that_was_exchanged_afterwards_is_found(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    plan = plan_of(**{"privacy/epsilon": 1.0})
    (folder / "plan.toml").write_text(plan.to_toml())
    with pytest.raises(AuditError, match=r"another plan than plan\.toml"):
        verify_run(folder)


def test_a_model_that_was_exchanged_is_found(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    path = CheckpointStore(folder / "checkpoints").path(0)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(CheckpointError):
        verify_run(folder)


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError):
        verify_run(tmp_path)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"contributors": ["bank-a", "bank-b", "fund-c", "nobody"]}, "contributors"),
        ({"contributors": ["bank-a"]}, "contributors"),
        ({"run": "another"}, "another run"),
    ],
)
def test_a_release_without_the_answers_behind_it_is_found(
    tmp_path: Path, fields: dict[str, object], problem: str
) -> None:
    consortium = Consortium.make(tmp_path)
    with Database.open(made(consortium) / "run.db") as database:
        run = consortium.run(database=database)
        next(run.rounds())
        (released,) = [event for event in run.audit.events() if event.kind is EventKind.ROUND_RELEASED]
        line = {**released.fields, "round": 2, "parent": released.fields["checkpoint"], **fields}
        run.audit.record(EventKind.ROUND_RELEASED, **line)
    with pytest.raises(AuditError, match=problem):
        verify_run(consortium.folder / "run")


def test_a_second_opening_is_found(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    with Database.open(made(consortium) / "run.db") as database:
        run = consortium.run(database=database)
        (opening,) = run.audit.events()
        run.audit.record(EventKind.RUN_OPENED, **opening.fields)
    with pytest.raises(AuditError, match="second time"):
        verify_run(consortium.folder / "run")


def made(consortium: Consortium) -> Path:
    folder = consortium.folder / "run"
    folder.mkdir()
    (folder / "plan.toml").write_text(consortium.plan.to_toml())
    return folder
