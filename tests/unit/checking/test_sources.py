from __future__ import annotations

import datetime
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.checking import guards, sources
from fedcredit.checking.findings import FindingBook
from fedcredit.checking.numbering import RowNumbers
from fedcredit.checking.spec import TableSpec
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.mapping import TableSource
from fedcredit.errors import DataFormatError, MissingColumnError, NoRowsError, SourceUnreadableError


def spec(path: Path | None, **source: object) -> TableSpec:
    where = {"file": str(path)} if path else {}
    options = TableSource.model_validate({**where, "columns": {}, **source})
    table = canonical(1).table("contract")
    return TableSpec(table=table, place="contract", path=path, source=options, mapped=True)


def read(wanted: TableSpec, *columns: str) -> tuple[list[int], dict[str, list[object]]]:
    reader = sources.open_table(wanted, FindingBook())
    batches = list(reader.batches(columns or reader.names))
    table = pa.Table.from_batches(batches)
    decoded = {
        name: [str(v) if v is not None else None for v in table[name].to_pylist()] for name in table.schema.names
    }
    return [batch.num_rows for batch in batches], decoded


def test_a_large_file_comes_in_chunks_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = 3 * sources.CHUNK_ROWS + 17
    path = tmp_path / "contract.parquet"
    pq.write_table(pa.table({"a": np.arange(rows), "b": np.arange(rows) % 7}), path)
    sizes, columns = read(spec(path), "a")
    assert max(sizes) <= sources.CHUNK_ROWS
    assert columns == {"a": [str(n) for n in range(rows)]}


def test_a_large_csv_file_comes_in_chunks_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = 400_000
    path = tmp_path / "contract.csv"
    path.write_text("a,b\n" + "\n".join(f"{n},abcdefghijkl" for n in range(rows)) + "\n")
    sizes, columns = read(spec(path), "a")
    assert len(sizes) > 1
    assert columns == {"a": [str(n) for n in range(rows)]}


def test_a_folder_of_parquet_files_is_one_table_in_the_order_of_names(tmp_path: Path) -> None:
    folder = tmp_path / "tel_5min"
    folder.mkdir()
    for name, value in (("b.parquet", 2), ("a.parquet", 1)):
        pq.write_table(pa.table({"a": [value]}), folder / name)
    assert read(spec(folder), "a")[1] == {"a": ["1", "2"]}


@pytest.mark.parametrize(
    ("columns", "lost", "without"),
    [(("a",), "b", "b.parquet"), (("a", "b", "c"), "c", "a.parquet")],
    ids=["a missing column", "an additional column"],
)
def test_a_part_with_other_columns_than_the_first_is_told(
    tmp_path: Path, columns: tuple[str, ...], lost: str, without: str
) -> None:
    folder = tmp_path / "tel_5min"
    folder.mkdir()
    for name, held in (("a.parquet", ("a", "b")), ("b.parquet", columns)):
        pq.write_table(pa.table({column: [1] for column in held}), folder / name)
    with pytest.raises(MissingColumnError, match=f'"{lost}"') as caught:
        sources.open_table(spec(folder), FindingBook())
    assert caught.value.code == "FC-5011"
    assert without in caught.value.fix("en")


def test_a_long_text_repeated_without_end_is_held_once(tmp_path: Path) -> None:
    path = tmp_path / "contract.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(200_000, dtype=np.int32)), pa.array(["x" * 40_000]))
    pq.write_table(pa.table({"a": text}), path)  # 8 GB if it were written out
    reader = sources.open_table(spec(path), FindingBook())
    first = next(iter(reader.batches(("a",))))
    assert pa.types.is_dictionary(first.schema.field("a").type)
    assert first.nbytes < 10_000_000


def test_quoted_cells_keep_separators_newlines_and_quotation_marks(tmp_path: Path) -> None:
    path = tmp_path / "contract.csv"
    path.write_text('a;b\n"1;2";"x""y"\n"line\nbreak";\n')
    assert read(spec(path, delimiter=";"))[1] == {"a": ["1;2", "line\nbreak"], "b": ['x"y', None]}


def test_gb18030_is_read_when_the_mapping_says_so(tmp_path: Path) -> None:
    path = tmp_path / "contract.csv"
    path.write_bytes("产品,金额\n新车,1\n".encode("gb18030"))
    assert read(spec(path, encoding="gb18030"))[1] == {"产品": ["新车"], "金额": ["1"]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("before", ["", "\n\n"], ids=["header first", "blank lines first"])
def test_rows_behind_blank_lines_are_read_and_counted_as_an_editor_counts_them(
    tmp_path: Path, end: str, before: str
) -> None:
    lines = ["a,b", "", "", "", "1,2", "", "3,4,5", '"x', "", 'y",6', "7,8", "", "9", "", "10,11", "", ""]
    path = tmp_path / "contract.csv"
    path.write_bytes((before + "\n".join(lines)).replace("\n", end).encode())
    book = FindingBook()
    reader = sources.open_table(spec(path), book)
    assert reader.names == ("a", "b")
    batches = list(reader.batches(("a",)))
    assert [cell.replace("\r", "") for batch in batches for cell in batch["a"].to_pylist()] == [
        "1",
        "x\n\ny",
        "7",
        "10",
    ]
    # Behind the header: three blank, 1, blank, torn, x to y is one row, 7, blank, torn, blank, 10.
    assert reader.numbers(1, 4).tolist() == [4, 7, 8, 12]
    assert reader.numbers(3, 2).tolist() == [8, 12]
    (torn,) = book.findings(())
    assert (torn.error.code, torn.row, torn.count) == ("FC-5042", 6, 2)


def test_blank_lines_that_end_a_block_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "contract.csv"
    path.write_text("a,b\n1,2\n\n3,4\n")
    for size in range(1, 12):
        monkeypatch.setattr(guards, "_BLOCK", size)
        assert sources.open_table(spec(path), FindingBook()).numbers(1, 2).tolist() == [1, 3]


@given(st.lists(st.sampled_from(["row", "blank", "torn"]), max_size=60))
def test_skipped_rows_keep_their_numbers(kinds: list[str]) -> None:
    places = {kind: [n for n, found in enumerate(kinds, 1) if found == kind] for kind in ("row", "blank", "torn")}
    numbers = RowNumbers(places["blank"])
    without_blank = [kind for kind in kinds if kind != "blank"]
    told = [numbers.skip(n) for n, kind in enumerate(without_blank, 1) if kind == "torn"]
    assert told == places["torn"]
    assert numbers.of(1, len(places["row"])).tolist() == places["row"]


@pytest.mark.parametrize("rest", ["", "\n\n\n\n\n", "\r\n  \r\n"], ids=["nothing", "blank lines", "blanks"])
def test_a_header_alone_has_no_rows(tmp_path: Path, rest: str) -> None:
    path = tmp_path / "contract.csv"
    path.write_bytes(f"a,b\n{rest}".encode())
    with pytest.raises(NoRowsError):
        sources.open_table(spec(path), FindingBook())


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = tmp_path / "risk.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE loans (no TEXT, amt REAL, opened TEXT)")
    rows = [(f"c{n}", None if n == 3 else n * 1.5, datetime.date(2024, 1, 1 + n % 20).isoformat()) for n in range(500)]
    connection.executemany("INSERT INTO loans VALUES (?, ?, ?)", rows)
    connection.commit()
    connection.close()
    return f"sqlite:///{path}"


def test_a_database_is_read_by_one_select_in_chunks(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK_ROWS", 100)
    sizes, columns = read(spec(None, url=database, query="SELECT no, amt FROM loans ORDER BY rowid"))
    assert sizes == [100] * 5
    assert columns["no"][:2] == ["c0", "c1"]
    assert columns["amt"][3] is None


def test_names_and_rows_are_those_of_one_moment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between them somebody turns the columns round, and while rows are read empties the table."""
    monkeypatch.setattr(sources, "CHUNK_ROWS", 100)
    other = sqlite3.connect(database.removeprefix("sqlite:///"))
    other.execute("PRAGMA journal_mode = WAL")
    reader = sources.open_table(spec(None, url=database, query="SELECT * FROM loans ORDER BY rowid"), FindingBook())
    other.executescript("CREATE TABLE n AS SELECT amt, no, opened FROM loans; DROP TABLE loans")
    other.executescript("ALTER TABLE n RENAME TO loans")
    batches = reader.batches(("no", "amt"))
    cells = next(batches)["no"].to_pylist()
    other.executescript("DELETE FROM loans")
    for batch in batches:
        cells += batch["no"].to_pylist()
    assert cells == [f"c{n}" for n in range(500)]
    other.executescript("DROP TABLE loans; VACUUM")  # nothing of the reader is left open
    other.close()


def test_a_query_whose_rows_nobody_reads_is_closed(database: str) -> None:
    reader = sources.open_table(spec(None, url=database, query="SELECT * FROM loans"), FindingBook())
    assert reader.names == ("no", "amt", "opened")
    reader.close()
    with sqlite3.connect(database.removeprefix("sqlite:///"), timeout=0) as other:
        other.execute("DROP TABLE loans")
    with pytest.raises(SourceUnreadableError):
        next(reader.batches(("no",)))


def test_the_address_may_stand_in_the_environment(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = spec(None, url="env:RISK_DB", query="SELECT no FROM loans LIMIT 1")
    with pytest.raises(SourceUnreadableError, match="RISK_DB is not in the environment"):
        read(wanted)
    monkeypatch.setenv("RISK_DB", database)
    assert read(wanted)[1] == {"no": ["c0"]}


def test_a_query_cannot_write(database: str, tmp_path: Path) -> None:
    wanted = spec(None, url=database, query="WITH gone AS (SELECT 1) DELETE FROM loans")
    with pytest.raises(SourceUnreadableError):
        read(wanted)
    assert sqlite3.connect(tmp_path / "risk.db").execute("SELECT count(*) FROM loans").fetchone() == (500,)


@pytest.mark.parametrize(
    ("url", "query", "said"),
    [
        ("sqlite:////nowhere/at/all.db", "SELECT 1", "OperationalError"),
        ("nosuchdialect://user:hunter2@host/db", "SELECT 1", "NoSuchModuleError"),
        ("oracle+oracledb://user:hunter2@host/db", "SELECT 1", "driver oracledb is not installed"),
        ("no address at all", "SELECT 1", "ArgumentError"),
    ],
)
def test_a_database_that_does_not_answer_is_told_without_its_password(url: str, query: str, said: str) -> None:
    with pytest.raises(SourceUnreadableError) as caught:
        read(spec(None, url=url, query=query))
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value) + caught.value.fix("en")


def test_a_text_that_is_not_utf_8_inside_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "contract.parquet"
    broken = pa.array([b"\xff\xfe"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"a": broken}), path)
    with pytest.raises(DataFormatError):
        read(spec(path))


def test_a_database_that_fails_half_way_is_told_and_quotes_nothing(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CHUNK_ROWS", 50)
    query = "SELECT CASE WHEN rowid = 400 THEN abs(-9223372036854775807 - 1) ELSE 1 END AS n FROM loans"
    with pytest.raises(SourceUnreadableError, match="OperationalError"):
        read(spec(None, url=database, query=query))
