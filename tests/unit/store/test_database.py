from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedcredit.errors import DiskFullError, NotWritableError, StateDirInUseError, StoreCorruptError
from fedcredit.store.database import APPLICATION_ID, Database
from fedcredit.store.journal import Journal
from fedcredit.store.records import Records

OPEN_ELSEWHERE = """
import sys
from pathlib import Path
from fedcredit.errors import StateDirInUseError
from fedcredit.store.database import Database
try:
    Database.open(Path(sys.argv[1])).close()
    print("opened")
except StateDirInUseError as error:
    print(error.code)
"""

DIE_WITHOUT_CLOSING = """
import os, sys
from pathlib import Path
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
database = Database.open(Path(sys.argv[1]))
journal = Journal(database, "ledger")
for number in range(20):
    journal.append("line", b"%d" % number)
with database.transaction():
    journal.append("line", b"never committed")
    os._exit(3)
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_python(program: str, path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False)


def test_the_database_waits_for_the_disk(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        assert database.execute("PRAGMA journal_mode") == [("wal",)]
        assert database.execute("PRAGMA synchronous") == [(2,)]  # FULL
        assert database.execute("PRAGMA application_id") == [(APPLICATION_ID,)]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path) as database:
        Records(database, "a").put("k", b"v")
        assert [mode(tmp_path / name) for name in ("state.db", "state.db-wal", "state.db-shm")] == [0o600] * 3
    path.chmod(0o644)
    with Database.open(path):
        assert mode(path) == 0o600


def test_a_second_opener_is_refused_until_the_first_closes(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path):
        with pytest.raises(StateDirInUseError) as caught:
            Database.open(path)
        assert caught.value.fields == {"path": str(tmp_path)}
        assert run_python(OPEN_ELSEWHERE, path).stdout.split() == ["FC-1301"]
    assert run_python(OPEN_ELSEWHERE, path).stdout.split() == ["opened"]


def test_a_failed_opening_gives_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is a text file, not a database\n" * 40)
    for _ in range(2):
        with pytest.raises(StoreCorruptError):
            Database.open(path)
    path.unlink()
    Database.open(path).close()


def test_closing_twice_is_harmless(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state.db")
    database.close()
    database.close()


def test_what_another_process_committed_before_it_died_is_there(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    assert run_python(DIE_WITHOUT_CLOSING, path).returncode == 3
    with Database.open(path) as database:
        journal = Journal(database, "ledger")
        journal.verify()
        assert [entry.body for entry in journal.entries()] == [b"%d" % number for number in range(20)]


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (a)")
    other.commit()
    other.close()
    path.chmod(0o644)
    before = path.read_bytes()
    with pytest.raises(StoreCorruptError) as caught:
        Database.open(path)
    assert "another program" in str(caught.value)
    assert path.read_bytes() == before
    assert mode(path) == 0o644


def test_a_later_schema_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path) as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(StoreCorruptError) as caught:
        Database.open(path)
    assert "version 7" in str(caught.value)


def test_a_page_overwritten_with_rubbish_is_reported_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path) as database:
        for number in range(200):
            Records(database, "a").put(f"key{number}", bytes(200))
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    with Database.open(path) as database, pytest.raises(StoreCorruptError):
        Records(database, "a").keys("")


def test_text_that_is_not_utf8_is_reported_as_damage() -> None:
    with Database.in_memory() as database:
        Records(database, "a").put("key", b"v")
        database.execute("UPDATE records SET key = CAST(x'ff' AS TEXT)")
        with pytest.raises(StoreCorruptError):
            Records(database, "a").keys("")


@pytest.mark.parametrize("place", ["missing/state.db", "folder"])
def test_a_place_that_cannot_hold_a_database_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritableError):
        Database.open(tmp_path / place)


def test_an_exception_undoes_every_write_of_the_transaction() -> None:
    with Database.in_memory() as database:
        records = Records(database, "a")
        with pytest.raises(KeyError), database.transaction():
            records.put("x", b"1")
            raise KeyError("stop")
        assert records.get("x") is None
        records.put("y", b"2")
        assert records.get("y") == b"2"


def test_an_inner_failure_undoes_only_the_inner_writes() -> None:
    with Database.in_memory() as database:
        records = Records(database, "a")
        with database.transaction():
            records.put("outer", b"1")
            with pytest.raises(KeyError), database.transaction():
                records.put("inner", b"2")
                with database.transaction():
                    records.put("innermost", b"3")
                raise KeyError("stop")
            records.put("later", b"4")
        assert records.keys("") == ["later", "outer"]


def test_an_outer_failure_undoes_finished_inner_transactions() -> None:
    with Database.in_memory() as database:
        records = Records(database, "a")
        with pytest.raises(KeyError), database.transaction():
            with database.transaction():
                records.put("inner", b"1")
            raise KeyError("stop")
        assert records.keys("") == []


def test_a_full_disk_leaves_what_was_committed(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        journal = Journal(database, "ledger")
        journal.append("line", b"kept")
        ((pages,),) = database.execute("PRAGMA page_count")
        database.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(DiskFullError):
            journal.append("line", bytes(100_000))
        assert [entry.body for entry in journal.entries()] == [b"kept"]
        journal.verify()
        database.execute("PRAGMA max_page_count = 100000")
        journal.append("line", bytes(100_000))
    with Database.open(tmp_path / "state.db") as database:
        assert len(Journal(database, "ledger")) == 2
        Journal(database, "ledger").verify()


def test_nothing_is_written_after_a_full_disk_ended_the_transaction(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        records = Records(database, "a")
        with pytest.raises(NotWritableError), database.transaction():
            records.put("first", b"1")
            # What SQLite does by itself on some failures: the whole transaction is gone while we are inside.
            database.execute("ROLLBACK")
            records.put("second", b"2")
        assert records.keys("") == []


def test_a_lock_held_by_another_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path) as database:
        database.execute("PRAGMA busy_timeout = 0")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StateDirInUseError):
            Records(database, "a").put("x", b"1")
        other.execute("ROLLBACK")
        other.close()


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(NotWritableError) as caught:
        Database.open(tmp_path / "state.db")
    assert caught.value.fields["problem"] == "No locks available"


def test_a_file_whose_mode_cannot_be_narrowed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(NotWritableError):
        Database.open(tmp_path / "state.db")


def test_a_database_that_turned_read_only_refuses_and_keeps_its_content(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        Records(database, "a").put("k", b"1")
        database.execute("PRAGMA query_only = ON")
        with pytest.raises(NotWritableError):
            Records(database, "a").put("k", b"2")
        assert Records(database, "a").get("k") == b"1"


def test_a_wrong_statement_is_a_bug_and_stays_one() -> None:
    with Database.in_memory() as database, pytest.raises(sqlite3.OperationalError):
        database.execute("SELECT nonsense FROM nowhere")


def test_threads_neither_lose_nor_mix_entries(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        journal = Journal(database, "ledger")
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for _ in range(10):
                    with database.transaction():
                        first = journal.append("pair", b"%d" % number)
                        second = journal.append("pair", b"%d" % number)
                        assert second.index == first.index + 1
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(journal) == 80
        journal.verify()


def test_a_file_system_without_write_ahead_logs_is_refused(tmp_path: Path) -> None:
    # SQLite answers journal_mode with the mode it really has; a memory database stands for such a file system.
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    with Database(sqlite3.connect(":memory:", isolation_level=None), place="x", lock=lock) as database:
        with pytest.raises(NotWritableError) as caught:
            database._prepare(new=True)
        assert "write-ahead log" in str(caught.value)
