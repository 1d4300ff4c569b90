from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedcredit.audit.log import AuditLog, EventKind, decode_leaf, leaf_of, log_origin
from fedcredit.audit.merkle import EMPTY_ROOT, MerkleTree, verify_consistency, verify_inclusion
from fedcredit.encoding import encode
from fedcredit.errors import AuditError, LogProofError, MalformedMessageError
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


# --- the tree over the log ------------------------------------------------------------------------------------------


def test_the_tree_has_one_leaf_per_event_its_kind_and_its_fields_and_not_its_place() -> None:
    log = AuditLog(Journal(Database.in_memory(), "audit"))
    assert (log.tree().size, log.tree().root()) == (0, EMPTY_ROOT)
    log.record(EventKind.RUN_OPENED, run="run-1", plan=bytes(32))
    log.record(EventKind.ROUND_OPENED, run="run-1", round=1)
    log.record(EventKind.ROUND_OPENED, run="run-1", round=1)
    leaves = [
        encode(["run-opened", encode({"run": "run-1", "plan": bytes(32)})]),
        encode(["round-opened", encode({"run": "run-1", "round": 1})]),
    ]
    by_hand = MerkleTree()
    for leaf in (*leaves, leaves[1]):
        by_hand.append(leaf)
    assert (log.tree().size, log.tree().root()) == (3, by_hand.root())
    assert [log.leaf(index) for index in range(3)] == [*leaves, leaves[1]]
    entries = log._journal.entries()
    assert [leaf_of(entry) for entry in entries] == [*leaves, leaves[1]]


def test_the_tree_grows_with_the_log_and_what_it_showed_stays_provable(tmp_path: Path) -> None:
    filled(tmp_path / "run.db")
    database, log = opened(tmp_path / "run.db")
    size, root = log.tree().size, log.tree().root()
    log.record_all([(EventKind.ROUND_OPENED, {"round": number}) for number in range(4)])
    tree = log.tree()
    assert (size, tree.size) == (3, 7)
    verify_consistency(old_size=3, old_root=root, new_size=7, new_root=tree.root(), proof=tree.consistency(3, 7))
    verify_inclusion(log.leaf(1), index=1, size=7, root=tree.root(), proof=tree.inclusion(1, size=7))
    with pytest.raises(LogProofError):
        verify_inclusion(log.leaf(2), index=1, size=7, root=tree.root(), proof=tree.inclusion(1, size=7))
    database.close()
    # After a restart it is the same tree.
    database, again = opened(tmp_path / "run.db")
    assert (again.tree().size, again.tree().root()) == (7, tree.root())
    database.close()


def test_what_was_undone_is_in_no_tree(tmp_path: Path) -> None:
    filled(tmp_path / "run.db")
    database, log = opened(tmp_path / "run.db")
    root = log.tree().root()
    with pytest.raises(ZeroDivisionError), log.together():
        log.record(EventKind.RUN_FINISHED, run="run-1")
        _ = 1 // 0
    assert (log.tree().size, log.tree().root()) == (3, root)
    database.close()


def test_a_leaf_says_its_event() -> None:
    log = AuditLog(Journal(Database.in_memory(), "audit"))
    for kind in EventKind:
        log.record(kind, run="run-1", weights=bytes(32))
    assert [decode_leaf(log.leaf(index)) for index in range(len(log))] == [
        (kind, {"run": "run-1", "weights": bytes(32)}) for kind in EventKind
    ]


@pytest.mark.parametrize(
    "leaf",
    [
        b"",
        b"\xff",
        encode({}),
        encode(["run-opened"]),
        encode(["gossip", encode({})]),
        encode(["run-opened", encode([1])]),
        encode(["run-opened", {}]),
        encode(["run-opened", encode({}) + b"\0"]),
        encode(["run-opened", encode({}), 1]),
        encode(["run-opened", encode({})]) + b"\0",
    ],
    ids=[
        "nothing",
        "not CBOR",
        "a map",
        "no fields",
        "unknown kind",
        "fields that are a list",
        "fields that are not encoded",
        "a byte after the fields",
        "a third part",
        "a byte after the leaf",
    ],
)
def test_what_is_no_leaf_of_ours_does_not_decode(leaf: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        decode_leaf(leaf)


def test_the_origin_names_one_run_of_one_consortium() -> None:
    assert log_origin(consortium="credit", run="run-1") == "fedcredit/credit/run-1"
    assert len({log_origin(consortium=c, run=r) for c in ("a", "b") for r in ("x", "y")}) == 4
