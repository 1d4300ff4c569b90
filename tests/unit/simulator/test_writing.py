"""Columns become Parquet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedcredit.contract.canonical import canonical
from fedcredit.errors import NotWritableError
from fedcredit.simulator.columns import NO_DATE, Coded
from fedcredit.simulator.writing import TableFile, canonical_schema

SCHEMA = pa.schema(
    [("id", pa.string()), ("kind", pa.string()), ("day", pa.date32()), ("n", pa.int32()), ("x", pa.float64())]
)


def _columns() -> dict:
    return {
        "id": np.array([b"aa", b"bb", b"cc"]),
        "kind": Coded.of(np.array([1, -2, NO_DATE]), ("one", "another")),
        "day": np.array([0, NO_DATE, 18_000]),
        "n": np.array([1, -1, 3]),
        "x": np.array([0.5, np.nan, -4.0]),
    }


def _written(path: Path, *parts: dict) -> Path:
    file = TableFile(path, SCHEMA)
    for part in parts:
        file.append(part)
    file.close()
    return path


def test_words_typed_codes_empty_cells_and_dates_arrive_as_they_should(tmp_path: Path) -> None:
    rows = pq.read_table(_written(tmp_path / "t.parquet", _columns())).to_pylist()
    assert [row["kind"] for row in rows] == ["another", "-2", None]
    assert [row["id"] for row in rows] == ["aa", "bb", "cc"]
    assert [None if row["day"] is None else row["day"].isoformat() for row in rows] == [
        "1970-01-01",
        None,
        "2019-04-14",
    ]
    assert [row["x"] for row in rows] == [0.5, None, -4.0]
    assert [row["n"] for row in rows] == [1, -1, 3]


def test_equal_columns_give_equal_bytes_and_parts_are_appended(tmp_path: Path) -> None:
    one, other = (_written(tmp_path / name, _columns(), _columns()) for name in ("a.parquet", "b.parquet"))
    assert one.read_bytes() == other.read_bytes()
    assert pq.read_metadata(one).num_rows == 6


@pytest.mark.parametrize("change", [{"x": None}, {"extra": np.zeros(3)}])
def test_a_missing_and_an_unknown_column_are_bugs(tmp_path: Path, change: dict) -> None:
    columns = {name: value for name, value in (_columns() | change).items() if value is not None}
    with pytest.raises(KeyError):
        TableFile(tmp_path / "t.parquet", SCHEMA).append(columns)


def test_optional_columns_may_be_absent_and_required_ones_not() -> None:
    table = canonical(1).table("clm")
    required = {column.name: np.zeros(1) for column in table.accepted if column.missing == "required"}
    assert canonical_schema(table, required).names == list(required)
    for wrong in ({"claim_id": np.zeros(1)}, required | {"nonsense": np.zeros(1)}):
        with pytest.raises(KeyError):
            canonical_schema(table, wrong)


def test_a_place_that_cannot_be_written_ends_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").mkdir()
    with pytest.raises(NotWritableError):
        TableFile(tmp_path / "t.parquet", SCHEMA)
