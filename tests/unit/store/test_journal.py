from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fedcredit.errors import StoreCorruptError
from fedcredit.store.database import Database
from fedcredit.store.journal import EMPTY_HEAD, Entry, Journal, chain_digest


def filled(database: Database, name: str = "ledger") -> Journal:
    journal = Journal(database, name)
    for number in range(5):
        journal.append("line", b"body %d" % number)
    return journal


def problem_of(journal: Journal) -> str:
    with pytest.raises(StoreCorruptError) as caught:
        journal.verify()
    return str(caught.value.fields["problem"])


def test_an_empty_journal_has_the_zero_head() -> None:
    with Database.in_memory() as database:
        journal = Journal(database, "ledger")
        assert len(journal) == 0
        assert journal.head == bytes(32) == EMPTY_HEAD
        assert list(journal.entries()) == []
        journal.verify()


def test_the_chain_is_what_the_docstring_says() -> None:
    # CBOR by hand: array(6), text(19) tag, text(3) name, bytes(32) previous, index, text(1) kind, bytes(2) body.
    def by_hand(previous: bytes, index: bytes, kind: bytes, body: bytes) -> bytes:
        return hashlib.sha256(
            b"\x86\x73fedcredit-journal-1\x63log\x58\x20" + previous + index + b"\x61" + kind + b"\x42" + body
        ).digest()

    with Database.in_memory() as database:
        journal = Journal(database, "log")
        first = journal.append("a", b"\x01\x02")
        second = journal.append("b", b"\xff\xfe")
        assert first.digest == by_hand(bytes(32), b"\x00", b"a", b"\x01\x02")
        assert second.digest == by_hand(first.digest, b"\x01", b"b", b"\xff\xfe")
        assert journal.head == second.digest


def test_a_reopened_journal_has_every_entry_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path) as database:
        head = filled(database).head
    with Database.open(path) as database:
        journal = Journal(database, "ledger")
        journal.verify()
        assert journal.head == head
        assert [(e.index, e.kind, e.body) for e in journal.entries(start=3)] == [
            (3, "line", b"body 3"),
            (4, "line", b"body 4"),
        ]
        assert journal.append("line", b"") == Entry(index=5, kind="line", body=b"", digest=journal.head)
        journal.verify()


def test_journals_in_one_database_do_not_touch_each_other() -> None:
    with Database.in_memory() as database:
        first, second = filled(database, "first"), Journal(database, "second")
        assert len(second) == 0
        second.append("line", b"body 0")
        assert second.head != next(first.entries()).digest
        first.verify()
        second.verify()


def test_appends_inside_one_transaction_stand_or_fall_together() -> None:
    with Database.in_memory() as database:
        first, second = filled(database, "first"), Journal(database, "second")
        before = first.head
        with pytest.raises(KeyError), database.transaction():
            first.append("line", b"x")
            second.append("line", b"y")
            raise KeyError("stop")
        assert (len(first), first.head, len(second)) == (5, before, 0)
        first.verify()


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize(
    "change",
    [
        "body = x'00'",
        "body = CAST(body || x'00' AS BLOB)",
        "kind = 'other'",
        "kind = kind || ' '",
        "digest = zeroblob(32)",
    ],
)
def test_a_changed_entry_is_found_at_its_index(index: int, change: str) -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute(f"UPDATE journal_entries SET {change} WHERE position = ?", (index,))  # noqa: S608
        assert f"entry {index} " in problem_of(journal)


@pytest.mark.parametrize("index", range(5))
def test_a_deleted_entry_is_found_at_its_index_even_the_last(index: int) -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute("DELETE FROM journal_entries WHERE position = ?", (index,))
        assert problem_of(journal) == f'entry {index} of the journal "ledger" is missing'


def test_two_exchanged_entries_are_found() -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        for old, new in ((1, 99), (2, 1), (99, 2)):
            database.execute("UPDATE journal_entries SET position = ? WHERE position = ?", (new, old))
        assert "entry 1 " in problem_of(journal)


@pytest.mark.parametrize("index", [2, 4])
def test_an_entry_rewritten_with_a_fitting_digest_is_found_after_it(index: int) -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        previous = list(journal.entries())[index - 1].digest
        forged = chain_digest(journal="ledger", previous=previous, index=index, kind="line", body=b"forged")
        database.execute(
            "UPDATE journal_entries SET body = ?, digest = ? WHERE position = ?", (b"forged", forged, index)
        )
        # The next entry no longer fits; behind the last one only the head is left to tell.
        assert ("entry 3 " if index == 2 else "entry 4 ") in problem_of(journal)


def test_a_head_that_was_put_back_is_found() -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute(
            "UPDATE journal_heads SET length = 4, digest = (SELECT digest FROM journal_entries WHERE position = 3)"
        )
        assert "entry 4 " in problem_of(journal)
        with pytest.raises(StoreCorruptError) as caught:
            journal.append("line", b"in the place of entry 4")
        assert "entry 4 " in str(caught.value)


def test_a_changed_head_is_found() -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute("UPDATE journal_heads SET digest = zeroblob(32)")
        assert "recorded head" in problem_of(journal)


def test_an_entry_before_the_first_is_found() -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute("INSERT INTO journal_entries VALUES ('ledger', -1, 'line', x'', zeroblob(32))")
        assert "entry -1 " in problem_of(journal)


def test_a_journal_copied_under_another_name_does_not_verify() -> None:
    with Database.in_memory() as database:
        filled(database)
        database.execute("UPDATE journal_entries SET journal = 'copy'")
        database.execute("UPDATE journal_heads SET journal = 'copy'")
        assert "entry 0 " in problem_of(Journal(database, "copy"))


def test_reading_over_a_gap_raises_instead_of_skipping() -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute("DELETE FROM journal_entries WHERE position = 1")
        with pytest.raises(StoreCorruptError):
            list(journal.entries())


@pytest.mark.parametrize(
    ("table", "change"), [("journal_entries", "body = 'text'"), ("journal_heads", "length = 'text'")]
)
def test_a_cell_of_another_type_is_damage(table: str, change: str) -> None:
    with Database.in_memory() as database:
        journal = filled(database)
        database.execute(f"CREATE TABLE loose AS SELECT * FROM {table}")  # noqa: S608
        database.execute(f"DROP TABLE {table}")
        database.execute(f"ALTER TABLE loose RENAME TO {table}")
        database.execute(f"UPDATE {table} SET {change}")  # noqa: S608
        assert "wrong type" in problem_of(journal)
