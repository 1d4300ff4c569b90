"""The heads of the institutions' privacy ledgers that a coordinator's log holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.errors import AuditError, RunNotFoundError
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence import recorded_ledger_heads
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

BANK = InstitutionId("bank-a")
ONE, TWO, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))


def log_of(folder: Path, *heads: tuple[EventKind, str, object]) -> Path:
    with Database.open(folder / "run.db") as database:
        log = AuditLog(Journal(database, "audit"))
        log.record(EventKind.RUN_OPENED, run="r")
        for kind, institution, head in heads:
            log.record(kind, institution=institution, ledger_head=head)  # type: ignore[arg-type]
        log.record(EventKind.INSTITUTION_REFUSED, institution=BANK, code="FC-2301")  # as fedcredit 0.1 wrote it
    return folder


def test_the_heads_of_one_institution_come_in_order_from_answers_and_refusals(tmp_path: Path) -> None:
    log_of(
        tmp_path,
        (EventKind.ANSWER_ACCEPTED, BANK, ONE),
        (EventKind.ANSWER_ACCEPTED, "bank-b", OTHER),
        (EventKind.INSTITUTION_REFUSED, BANK, TWO),
    )
    assert recorded_ledger_heads(tmp_path, BANK) == (ONE, TWO)
    assert recorded_ledger_heads(tmp_path, InstitutionId("fund-c")) == ()


@pytest.mark.parametrize("head", ["ab", b"short", 7])
def test_what_is_no_head_is_no_evidence(tmp_path: Path, head: object) -> None:
    log_of(tmp_path, (EventKind.ANSWER_ACCEPTED, BANK, head))
    with pytest.raises(AuditError, match="entry 1 names no head of a ledger"):
        recorded_ledger_heads(tmp_path, BANK)


def test_a_changed_log_is_no_evidence_of_heads(tmp_path: Path) -> None:
    log_of(tmp_path, (EventKind.ANSWER_ACCEPTED, BANK, ONE))
    with Database.open(tmp_path / "run.db") as database:
        database.execute("UPDATE journal_entries SET body = x'a0' WHERE position = 1")
    with pytest.raises(AuditError):
        recorded_ledger_heads(tmp_path, BANK)
    (tmp_path / "run.db").write_bytes(b"")
    with pytest.raises(AuditError, match="empty"):
        recorded_ledger_heads(tmp_path, BANK)
    with pytest.raises(RunNotFoundError):
        recorded_ledger_heads(tmp_path / "nowhere", BANK)
