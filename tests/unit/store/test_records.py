from __future__ import annotations

from pathlib import Path

import pytest

from fedcredit.errors import StoreCorruptError
from fedcredit.store.database import Database
from fedcredit.store.records import Records


def test_a_record_outlives_the_process(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        Records(database, "roots").put("pair", b"\x00\xff")
    with Database.open(tmp_path / "state.db") as database:
        assert Records(database, "roots").get("pair") == b"\x00\xff"


def test_the_last_value_counts_and_delete_removes_it() -> None:
    with Database.in_memory() as database:
        records = Records(database, "a")
        records.put("k", b"1")
        records.put("k", b"")
        assert records.get("k") == b""
        records.delete("k")
        records.delete("k")
        assert records.get("k") is None


def test_collections_do_not_see_each_other() -> None:
    with Database.in_memory() as database:
        first, second = Records(database, "first"), Records(database, "second")
        first.put("k", b"1")
        second.put("k", b"2")
        first.delete("k")
        assert first.keys("") == []
        assert second.get("k") == b"2"


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("", ["%", "*", "A/1", "a/1", "a/2", "a_2", "运行/1"]),
        ("a/", ["a/1", "a/2"]),
        ("a_", ["a_2"]),
        ("%", ["%"]),
        ("*", ["*"]),
        ("运行", ["运行/1"]),
        ("nothing", []),
    ],
)
def test_a_prefix_is_text_and_never_a_pattern(prefix: str, expected: list[str]) -> None:
    with Database.in_memory() as database:
        records = Records(database, "a")
        for key in ("a/2", "a/1", "a_2", "A/1", "%", "*", "运行/1"):
            records.put(key, b"v")
        assert records.keys(prefix) == expected


def test_a_value_of_another_type_is_damage() -> None:
    with Database.in_memory() as database:
        database.execute("DROP TABLE records")
        database.execute("CREATE TABLE records (collection, key, value)")
        database.execute("INSERT INTO records VALUES ('a', 'k', 'text')")
        with pytest.raises(StoreCorruptError):
            Records(database, "a").get("k")
