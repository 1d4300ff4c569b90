"""The chain of a log: whatever was changed, taken out or added, the first bad entry is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from consortium import SECURE, Consortium, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_runs import copied, driven

from fedcredit.audit.log import EventKind
from fedcredit.encoding import encode
from fedcredit.errors import AuditError, CannotOpenError
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import JOURNAL, Line, read_lines, read_log
from fedcredit.store.database import Database
from fedcredit.store.journal import EMPTY_HEAD, Entry, Journal


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(Consortium.make(tmp_path_factory.mktemp("run"), plan_of(**SECURE, **{"run/rounds": 1})))


@pytest.fixture(scope="module")
def entries(folder: Path) -> list[Entry]:
    with Database.open(folder / "run.db") as database:
        return list(Journal(database, JOURNAL).entries())


@pytest.fixture
def database(entries: list[Entry]) -> Iterator[Database]:
    """Return the log in memory, to be damaged."""
    with Database.in_memory() as made:
        for entry in entries:
            Journal(made, JOURNAL).append(entry.kind, entry.body)
        yield made


def first_bad(database: Database) -> int:
    with pytest.raises(AuditError) as caught:
        list(read_lines(database, place="run.db"))
    index = caught.value.fields["index"]
    assert isinstance(index, int)
    return index


def test_an_honest_log_is_read_as_it_was_written(database: Database, entries: list[Entry], folder: Path) -> None:
    lines = [line for line, _ in read_lines(database, place="run.db")]
    assert [(line.index, line.kind, line.digest) for line in lines] == [
        (entry.index, EventKind(entry.kind), entry.digest) for entry in entries
    ]
    log = read_log(folder / "run.db")
    assert (len(log), log.head, log.tree.size) == (len(entries), entries[-1].digest, len(entries))


def flipped(data: bytes, place: int, bit: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def damage(database: Database, index: int, column: str, value: Any) -> None:
    database.execute(f"UPDATE journal_entries SET {column} = ? WHERE position = ?", (value, index))  # noqa: S608


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_a_leaf_is_found_at_its_entry(entries: list[Entry], data: st.DataObject) -> None:
    entry = data.draw(st.sampled_from(entries))
    place, bit = data.draw(st.integers(0, len(entry.body) - 1)), data.draw(st.integers(0, 7))
    with Database.in_memory() as made:
        for other in entries:
            Journal(made, JOURNAL).append(other.kind, other.body)
        damage(made, entry.index, "body", flipped(entry.body, place, bit))
        assert first_bad(made) == entry.index


@pytest.mark.slow
def test_a_flip_of_any_byte_of_any_leaf_is_found_at_its_entry(database: Database, entries: list[Entry]) -> None:
    for entry in entries:
        for place in range(len(entry.body)):
            damage(database, entry.index, "body", flipped(entry.body, place, place % 8))
            assert first_bad(database) == entry.index
        damage(database, entry.index, "body", entry.body)
    list(read_lines(database, place="run.db"))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kind", "round-released"),
        ("kind", "nothing"),
        ("kind", "cafe\u0301"),
        ("digest", bytes(32)),
        ("body", b""),
    ],
    ids=["kind", "unknown kind", "kind that is no text of ours", "digest", "body"],
)
def test_an_entry_that_was_exchanged_is_named(database: Database, column: str, value: object) -> None:
    damage(database, 5, column, value)
    assert first_bad(database) == 5


def test_entries_that_are_missing_or_too_many_are_named(database: Database, entries: list[Entry]) -> None:
    end, last = len(entries), entries[-1]
    database.execute(
        "INSERT INTO journal_entries VALUES (?, ?, ?, ?, ?)", (JOURNAL, end, last.kind, last.body, last.digest)
    )
    assert first_bad(database) == end - 1
    database.execute("DELETE FROM journal_entries WHERE position = ?", (end,))
    database.execute("DELETE FROM journal_entries WHERE position = 7")
    assert first_bad(database) == 7


def test_an_end_that_was_cut_off_is_found_while_the_head_is_the_old_one(
    database: Database, entries: list[Entry]
) -> None:
    database.execute("UPDATE journal_heads SET length = length - 2")
    assert first_bad(database) == len(entries) - 3
    database.execute("UPDATE journal_heads SET digest = x'00'")
    assert first_bad(database) == len(entries) - 3
    database.execute("UPDATE journal_heads SET length = 0")
    assert first_bad(database) == 0


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("nothing", encode({})),
        ("closed", b"\xff"),
        ("closed", encode([])),
        ("closed", encode({}) + b"\x00"),
    ],
    ids=["kind", "no encoding", "no fields", "a byte more"],
)
def test_an_entry_in_the_chain_that_is_no_event_is_named(database: Database, kind: str, body: bytes) -> None:
    entry = Journal(database, JOURNAL).append(kind, body)
    assert first_bad(database) == entry.index


def test_a_file_that_is_no_database_is_no_evidence(folder: Path, tmp_path: Path) -> None:
    run = copied(folder, tmp_path / "run")
    (run / "run.db").write_bytes(b"no database" * 1000)
    with pytest.raises(AuditError, match="entry 0 cannot be read"):
        verify_run(run)
    with pytest.raises(AuditError, match="there is no log"):
        read_log(run / "nowhere.db")


def test_a_log_without_entries_has_the_head_of_nothing(tmp_path: Path) -> None:
    with Database.open(tmp_path / "run.db"):
        pass
    log = read_log(tmp_path / "run.db")
    assert (log.lines, log.head, log.tree.size) == ((), EMPTY_HEAD, 0)


@pytest.mark.parametrize("place", range(0, 4096, 256))
def test_a_flip_in_the_database_is_found_or_changes_nothing(folder: Path, tmp_path: Path, place: int) -> None:
    run = copied(folder, tmp_path / "run")
    data = (run / "run.db").read_bytes()
    honest = read_log(run / "run.db")
    (run / "run.db").write_bytes(flipped(data, place * len(data) // 4096, 3))
    for name in ("run.db-wal", "run.db-shm"):
        (run / name).unlink(missing_ok=True)
    try:
        found = read_log(run / "run.db")
    except AuditError as error:
        assert error.exit_code == 5
    else:
        assert found.lines == honest.lines


# --- fields ----------------------------------------------------------------------------------------------------------


def line_of(**fields: Any) -> Line:
    return Line("run.db", 7, EventKind.CLOSED, fields, bytes(32))


@pytest.mark.parametrize(
    ("reader", "value"),
    [
        ("octets", "text"),
        ("octets", None),
        ("text", b"bytes"),
        ("number", True),
        ("number", -1),
        ("number", "1"),
        ("names", "bank-a"),
        ("names", ["bank-a", "bank-a"]),
        ("names", ["bank-a", 7]),
    ],
)
def test_a_field_of_another_type_is_no_evidence(reader: str, value: object) -> None:
    with pytest.raises(AuditError, match="entry 7 has"):
        getattr(line_of(place=value), reader)("place")
    with pytest.raises(AuditError, match="entry 7 has no other"):
        getattr(line_of(place=value), reader)("other")


def test_fields_of_the_right_type_are_handed_out() -> None:
    line = line_of(octets=b"a", text="b", number=3, names=["bank-a", "bank-b"])
    found = (line.octets("octets"), line.text("text"), line.number("number"), line.names("names"))
    assert found == (b"a", "b", 3, ("bank-a", "bank-b"))


def test_an_error_inside_is_told_with_its_code_at_the_entry() -> None:
    with (
        pytest.raises(AuditError, match=r"entry 7 names a thing \(FC-3102: A sealed message from bank-a .*context\)"),
        line_of().naming("names a thing"),
    ):
        raise CannotOpenError(sender="bank-a")
    inner = AuditError(path="other", index=3, problem="is another")
    with pytest.raises(AuditError) as caught, line_of().naming("names a thing"):
        raise inner
    assert caught.value is inner
