from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.encoding import encode
from fedcredit.errors import AuditError
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.store.records import Records


def opened(path: Path) -> tuple[Database, AuditLog]:
    database = Database.open(path)
    return database, AuditLog(Journal(database, "audit"))


def filled(path: Path) -> None:
    database, log = opened(path)
    log.record(EventKind.RUN_OPENED, run="run-1", plan=bytes(32))
    log.record(EventKind.ROUND_OPENED, run="run-1", round=1, cohort=["bank-a", "bank-b"])
    log.record(EventKind.ROUND_ABORTED, run="run-1", round=1)
    database.close()


def test_events_come_back_in_order_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path / "run.db")
    database, log = opened(tmp_path / "run.db")
    log.verify()
    events = list(log.events())
    assert [event.kind for event in events] == [EventKind.RUN_OPENED, EventKind.ROUND_OPENED, EventKind.ROUND_ABORTED]
    assert [event.index for event in events] == [0, 1, 2]
    assert events[1].fields == {"run": "run-1", "round": 1, "cohort": ["bank-a", "bank-b"]}
    assert (len(log), log.head) == (3, events[-1].digest)
    database.close()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE journal_entries SET body = x'a0' WHERE position = 1",
        "UPDATE journal_entries SET kind = 'run-finished' WHERE position = 2",
        "DELETE FROM journal_entries WHERE position = 1",
        "DELETE FROM journal_entries WHERE position = 2",
        "UPDATE journal_heads SET length = 2",
        "UPDATE journal_entries SET position = position + 10 WHERE position = 2",
    ],
)
def test_a_changed_or_removed_event_does_not_verify(tmp_path: Path, damage: str) -> None:
    filled(tmp_path / "run.db")
    database, log = opened(tmp_path / "run.db")
    database.execute(damage)
    with pytest.raises(AuditError):
        log.verify()
    database.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [("gossip", encode({})), ("run-opened", b"\xff"), ("run-opened", encode([1])), ("run-opened", encode({}) + b"\0")],
    ids=["unknown kind", "not CBOR", "not a map", "trailing byte"],
)
def test_an_entry_that_is_no_event_does_not_verify_although_its_chain_holds(kind: str, body: bytes) -> None:
    database = Database.in_memory()
    journal = Journal(database, "audit")
    journal.append(kind, body)
    journal.verify()
    with pytest.raises(AuditError):
        AuditLog(journal).verify()


def test_the_export_has_one_json_line_per_event(tmp_path: Path) -> None:
    database = Database.in_memory()
    log = AuditLog(Journal(database, "audit"))
    log.export(tmp_path / "audit.jsonl")
    assert (tmp_path / "audit.jsonl").read_bytes() == b""
    log.record(EventKind.ROUND_RELEASED, run="run-1", round=1, checkpoint=b"\x01\xff")
    log.record(EventKind.RUN_FINISHED, run="run-1")
    log.export(tmp_path / "audit.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["event"] for line in lines] == ["round-released", "run-finished"]
    assert lines[0]["checkpoint"] == "01ff"
    assert lines[1]["digest"] == log.head.hex()


def test_several_events_are_recorded_in_order_or_not_at_all() -> None:
    log = AuditLog(Journal(Database.in_memory(), "audit"))
    log.record_all([(EventKind.ROUND_OPENED, {"round": 1}), (EventKind.ROUND_ABORTED, {"round": 1})])
    assert [event.kind for event in log.events()] == [EventKind.ROUND_OPENED, EventKind.ROUND_ABORTED]
    head = log.head
    with pytest.raises(TypeError):
        log.record_all([(EventKind.ROUND_OPENED, {"round": 2}), (EventKind.EVALUATED, {"auc": 0.8})])  # type: ignore[dict-item]
    assert (len(log), log.head) == (2, head)
    log.record_all([])
    log.verify()


def test_events_and_other_writes_become_durable_together(tmp_path: Path) -> None:
    database, log = opened(tmp_path / "run.db")
    records = Records(database, "memory")

    def answered() -> None:
        records.put("answer", b"bytes")
        log.record(EventKind.REQUEST_ANSWERED, run="run-1")

    with pytest.raises(ZeroDivisionError), log.together():
        answered()
        _ = 1 // 0
    assert (len(log), records.get("answer")) == (0, None)
    with log.together():
        answered()
    assert (len(log), records.get("answer")) == (1, b"bytes")
    log.verify()
    database.close()


def test_a_float_cannot_be_recorded() -> None:
    log = AuditLog(Journal(Database.in_memory(), "audit"))
    with pytest.raises(TypeError):
        log.record(EventKind.EVALUATED, auc=0.8)  # type: ignore[arg-type]
    assert len(log) == 0
