from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from fedcredit.contract import Contract
from fedcredit.data.tables import read_table
from fedcredit.errors import (
    DataError,
    DataFileMissingError,
    DataFormatError,
    MissingColumnError,
    MissingEntityError,
    MissingValueError,
    NoRowsError,
    ValueRangeError,
    WrongColumnTypeError,
)

BOTH = ("application", "repayment")
MakeContract = Callable[..., Contract]
MakeColumns = Callable[..., dict[str, Any]]


def write(frame: pa.Table, folder: Path, *, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    csv.write_csv(frame, path) if kind == "csv" else pq.write_table(frame, path)
    return path


def raised(path: Path, contract: Contract) -> DataError:
    with pytest.raises(DataError) as caught:
        read_table(path, contract, modalities=BOTH)
    return caught.value


@pytest.fixture(params=["csv", "parquet"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_csv_and_parquet_of_the_same_rows_read_the_same(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path
) -> None:
    frame = pa.table(columns(who=["a", "b", "a"]))
    one, other = (
        read_table(write(frame, tmp_path, kind=kind), contract(), modalities=BOTH) for kind in ("csv", "parquet")
    )
    assert one.entities.tolist() == other.entities.tolist()
    assert (one.labels.tolist(), one.dropped) == (other.labels.tolist(), 1)
    for name in BOTH:
        np.testing.assert_array_equal(one.modalities[name].codes, other.modalities[name].codes)
        np.testing.assert_array_equal(one.modalities[name].dense, other.modalities[name].dense)


@pytest.mark.parametrize(
    ("change", "error", "fields"),
    [
        ({"amount": [5, None, None]}, MissingValueError, {"column": "amount", "count": 2, "row": 2}),
        ({"outcome": ["paid", "lost", None]}, MissingValueError, {"column": "outcome", "count": 1, "row": 3}),
        ({"who": ["a", "b", None]}, MissingEntityError, {"column": "who", "count": 1, "row": 3}),
        ({"who": ["a", "  ", ""]}, MissingEntityError, {"column": "who", "count": 2, "row": 2}),
        (
            {"amount": [5, 101, -1]},
            ValueRangeError,
            {"column": "amount", "count": 2, "row": 2, "allowed": "0 to 100 EUR"},
        ),
        (
            {"late_2": [0, 0, 100]},
            ValueRangeError,
            {"column": "late_2", "count": 1, "row": 3, "allowed": "0 to 99 days"},
        ),
        (
            {"income": [1.0, 2.0, float("inf")]},
            ValueRangeError,
            {"column": "income", "count": 1, "row": 3, "allowed": "0 to 999 EUR"},
        ),
        ({"use": [1, 3, 3]}, ValueRangeError, {"column": "use", "count": 2, "row": 2, "allowed": "1, 2"}),
        (
            {"outcome": ["paid", "lost", "Lost"]},
            ValueRangeError,
            {"column": "outcome", "count": 1, "row": 3, "allowed": "paid, lost"},
        ),
    ],
)
def test_a_cell_that_breaks_the_contract_is_named_by_column_and_row(
    contract: MakeContract,
    columns: MakeColumns,
    tmp_path: Path,
    kind: str,
    change: dict[str, Any],
    error: type[DataError],
    fields: dict[str, Any],
) -> None:
    path = write(pa.table(columns(**change)), tmp_path, kind=kind)
    caught = raised(path, contract())
    assert type(caught) is error
    assert caught.fields == {"path": str(path), **fields}


@pytest.mark.parametrize(
    ("change", "column", "row"),
    [
        ({"amount": ["5", "10", "many-secret"]}, "amount", 3),
        ({"late_1": ["secret", "1", "2"]}, "late_1", 1),
        ({"use": ["1", "secret", "2"]}, "use", 2),
        ({"use": ["1", "2", "1.5"]}, "use", 3),
    ],
)
def test_text_among_numbers_of_a_csv_is_named_by_its_row_and_never_quoted(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, change: dict[str, Any], column: str, row: int
) -> None:
    caught = raised(write(pa.table(columns(**change)), tmp_path, kind="csv"), contract())
    assert isinstance(caught, WrongColumnTypeError)
    assert (caught.fields["column"], caught.fields["row"], caught.fields["actual"]) == (column, row, "text")
    assert "secret" not in str(caught) + repr(caught.__cause__) + repr(caught.__context__)


@pytest.mark.parametrize(
    ("change", "column", "actual", "row"),
    [
        ({"amount": ["5", "6", "7"]}, "amount", "text", 1),
        ({"late_1": [None, True, False]}, "late_1", "true/false values", 2),
        ({"use": ["1", "2", "1"]}, "use", "text", 1),
        ({"use": [1.0, 2.0, 1.5]}, "use", "fractions or huge numbers", 3),
        ({"use": pa.array([1, 2**64 - 1, 2], pa.uint64())}, "use", "fractions or huge numbers", 2),
        ({"place": [1, 2, 3]}, "place", "numbers", 1),
        ({"outcome": [0, 1, 0]}, "outcome", "numbers", 1),
        ({"who": [1.5, 2.5, 3.5]}, "who", "numbers", 1),
    ],
)
def test_a_parquet_column_of_another_type_is_refused(
    contract: MakeContract,
    columns: MakeColumns,
    tmp_path: Path,
    change: dict[str, Any],
    column: str,
    actual: str,
    row: int,
) -> None:
    caught = raised(write(pa.table(columns(**change)), tmp_path, kind="parquet"), contract())
    assert isinstance(caught, WrongColumnTypeError)
    assert (caught.fields["column"], caught.fields["actual"], caught.fields["row"]) == (column, actual, row)


@pytest.mark.parametrize(
    "change",
    [
        {"use": [1.0, 2.0, None]},
        {"place": pa.array(["north", "moon", None]).dictionary_encode()},
        {"place": pa.array(["north", "moon", None], pa.large_string())},
        {"amount": pa.array([5, 10, 99], pa.decimal128(5, 2))},
        {"amount": pa.array([5, 10, 99], pa.uint8())},
    ],
)
def test_the_types_that_exports_use_for_the_same_cells_read_the_same(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, change: dict[str, Any]
) -> None:
    plain = read_table(write(pa.table(columns()), tmp_path, kind="parquet"), contract(), modalities=BOTH)
    other = read_table(write(pa.table(columns(**change)), tmp_path, kind="parquet"), contract(), modalities=BOTH)
    for name in BOTH:
        np.testing.assert_array_equal(plain.modalities[name].codes, other.modalities[name].codes)


def test_a_column_without_any_value_is_missing_everywhere(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, kind: str
) -> None:
    path = write(pa.table(columns(income=[None] * 3, use=[None] * 3)), tmp_path, kind=kind)
    codes = read_table(path, contract(), modalities=BOTH).modalities["application"].codes
    assert codes[:, 1].tolist() == codes[:, 2].tolist() == [2, 2, 2]


def test_integer_tokens_are_borrowers_too(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, kind: str
) -> None:
    path = write(pa.table(columns(who=[7, 8, 9])), tmp_path, kind=kind)
    assert read_table(path, contract(), modalities=BOTH).entities.tolist() == ["7", "8", "9"]


def test_a_missing_column_is_named_with_the_nearest_that_is_there(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, kind: str
) -> None:
    cells = columns()
    cells["Late_1"] = cells.pop("late_1")
    caught = raised(write(pa.table(cells), tmp_path, kind=kind), contract())
    assert isinstance(caught, MissingColumnError)
    assert caught.fields["column"] == "late_1"
    assert caught.fix("en") == 'The nearest column is "Late_1": rename it.'


def test_a_missing_column_like_no_other_is_asked_for(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, kind: str
) -> None:
    cells = columns()
    del cells["income"]
    caught = raised(write(pa.table(cells), tmp_path, kind=kind), contract())
    assert (caught.fields["column"], caught.fix("en")) == ("income", "Add it to the export.")


def test_two_columns_of_one_needed_name_are_refused(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, kind: str
) -> None:
    cells = columns()
    frame = pa.Table.from_arrays([pa.array(v) for v in [*cells.values(), [1, 1, 1]]], names=[*cells, "amount"])
    assert isinstance(raised(write(frame, tmp_path, kind=kind), contract()), DataFormatError)


def test_a_file_that_is_not_there_is_named(contract: MakeContract, tmp_path: Path) -> None:
    caught = raised(tmp_path / "nowhere.parquet", contract())
    assert isinstance(caught, DataFileMissingError)
    assert str(caught.fields["path"]).endswith("nowhere.parquet")
    assert isinstance(raised(tmp_path, contract()), DataFileMissingError)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.parquet", b"who,outcome\n"),
        ("rows.parquet", b""),
        ("rows.csv", b"who,outcome,amount\na,paid\n"),
        ("rows.csv", b"\xff\xfe\xff,x\n1,2\n"),
    ],
)
def test_bytes_that_are_no_table_are_refused(contract: MakeContract, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert isinstance(raised(tmp_path / name, contract()), DataFormatError | MissingColumnError)


def test_a_truncated_parquet_file_is_refused(contract: MakeContract, columns: MakeColumns, tmp_path: Path) -> None:
    path = write(pa.table(columns()), tmp_path, kind="parquet")
    path.write_bytes(path.read_bytes()[:-20])
    assert isinstance(raised(path, contract()), DataFormatError)


def test_parquet_text_that_is_not_utf8_is_refused_and_not_quoted(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path
) -> None:
    broken = pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xffsecret", b"c"], pa.binary()).buffers())
    caught = raised(write(pa.table(columns(who=broken)), tmp_path, kind="parquet"), contract())
    assert isinstance(caught, DataFormatError)
    assert "secret" not in str(caught) + repr(caught.__cause__)


def test_a_parquet_column_whose_name_is_not_utf8_is_refused_and_not_quoted(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path
) -> None:
    path = write(pa.table(columns(secret=[1, 2, 3])), tmp_path, kind="parquet")
    path.write_bytes(path.read_bytes().replace(b"secret", b"\xffecret"))
    caught = raised(path, contract())
    assert isinstance(caught, DataFormatError)
    assert caught.__cause__ is None
    assert "ecret" not in str(caught)


def test_a_short_csv_line_is_refused_and_not_quoted(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path
) -> None:
    path = write(pa.table(columns()), tmp_path, kind="csv")
    path.write_text(path.read_text("utf-8") + "secret-name,paid\n", "utf-8")
    caught = raised(path, contract())
    assert isinstance(caught, DataFormatError)
    assert caught.__cause__ is None
    assert "secret" not in str(caught)


@pytest.mark.parametrize("content", ["", "\n\n", "HEADER"])
def test_a_csv_without_rows_is_named(
    contract: MakeContract, columns: MakeColumns, tmp_path: Path, content: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(",".join(columns()) + "\n" if content == "HEADER" else content, "utf-8")
    assert isinstance(raised(path, contract()), NoRowsError)


def test_columns_nobody_asked_for_are_not_parsed(contract: MakeContract, columns: MakeColumns, tmp_path: Path) -> None:
    path = write(pa.table(columns(age=["x", "y", "z"], note=["p", "q", "r"])), tmp_path, kind="csv")
    assert len(read_table(path, contract(), modalities=BOTH)) == 3
