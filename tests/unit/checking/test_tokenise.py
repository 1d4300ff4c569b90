from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedcredit.checking.tokenise import TokenColumn, tokenise
from fedcredit.contract.identifiers import national_id_check
from fedcredit.crypto.tokens import IdentifierKind, TokenKey
from fedcredit.errors import (
    AlreadyExistsError,
    IdentifierError,
    MissingColumnError,
    NoRowsError,
    RaggedRowError,
    UsageError,
)

KEY = TokenKey(b"k" * 32)


def number(n: int) -> str:
    digits = f"11010129990101{n:03d}"
    return digits + national_id_check(digits)


COLUMN = TokenColumn(column="ID", kind=IdentifierKind.PERSON, name="entity_tok")
CSV = {"delimiter": ",", "encoding": "utf-8"}


def test_identifiers_become_tokens_and_everything_else_stays(tmp_path: Path) -> None:
    source, target = tmp_path / "plain.csv", tmp_path / "tokens.csv"
    source.write_text(f"LOAN,ID,AMT\n007,{number(1)},12.50\n008,,9\n009,{number(1).lower()} ,1e3\n")
    assert tokenise(source, target, [COLUMN], KEY, **CSV) == 3
    token = KEY.token(IdentifierKind.PERSON, number(1))
    lines = target.read_text().replace('"', "").splitlines()
    assert lines == ["LOAN,entity_tok,AMT", f"007,{token},12.50", "008,,9", f"009,{token},1e3"]
    assert target.stat().st_mode & 0o777 == 0o600


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    source, target = tmp_path / "plain.parquet", tmp_path / "tokens.parquet"
    pq.write_table(pa.table({"ID": [number(1), None], "AMT": [1.5, None]}), source)
    tokenise(source, target, [COLUMN], KEY, **CSV)
    table = pq.read_table(target)
    assert table.schema.field("AMT").type == pa.float64()
    assert table.column("entity_tok").to_pylist() == [KEY.token(IdentifierKind.PERSON, number(1)), None]


def test_one_broken_number_stops_the_file_and_is_not_quoted(tmp_path: Path) -> None:
    source, target = tmp_path / "plain.csv", tmp_path / "tokens.csv"
    wrong = number(2)[:-1] + ("1" if number(2)[-1] != "1" else "2")
    source.write_text(f"ID\n{number(1)}\n{wrong}\n{number(3)}\n")
    with pytest.raises(IdentifierError, match="row 2") as caught:
        tokenise(source, target, [COLUMN], KEY, **CSV)
    assert wrong not in str(caught.value)
    assert not target.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["plain.csv"]


def test_the_row_of_a_broken_number_is_that_of_the_file(tmp_path: Path) -> None:
    source = tmp_path / "plain.csv"
    source.write_text(f"ID\n\n\n{number(1)}\n\n{number(2)[:-1]}\n")
    with pytest.raises(IdentifierError, match="row 5"):
        tokenise(source, tmp_path / "tokens.csv", [COLUMN], KEY, **CSV)


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    source = tmp_path / "plain.csv"
    source.write_text("LOAN,AMT\n1,2\n")
    with pytest.raises(MissingColumnError, match='"ID"'):
        tokenise(source, tmp_path / "tokens.csv", [COLUMN], KEY, **CSV)


def test_an_existing_file_is_left_as_it_is(tmp_path: Path) -> None:
    source, target = tmp_path / "plain.csv", tmp_path / "tokens.csv"
    source.write_text(f"ID\n{number(1)}\n")
    target.write_text("mine")
    with pytest.raises(AlreadyExistsError):
        tokenise(source, target, [COLUMN], KEY, **CSV)
    assert target.read_text() == "mine"


@pytest.mark.parametrize("line", ["008,{},9,more", "008,{}"], ids=["a cell too many", "a cell too few"])
def test_a_torn_line_stops_the_file_and_nothing_is_written(tmp_path: Path, line: str) -> None:
    source, target = tmp_path / "plain.csv", tmp_path / "tokens.csv"
    source.write_text(f"LOAN,ID,AMT\n007,{number(1)},12.50\n{line.format(number(2))}\n009,{number(3)},1\n")
    with pytest.raises(RaggedRowError) as caught:
        tokenise(source, target, [COLUMN], KEY, **CSV)
    assert (caught.value.code, caught.value.fields["row"]) == ("FC-5042", "2")
    assert number(2) not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.csv"]


@pytest.mark.parametrize("name", ["tokens.csv", "tokens.txt", "tokens.TSV", "tokens.parquet"])
def test_what_was_written_reads_as_what_its_name_says(tmp_path: Path, name: str) -> None:
    source = tmp_path / "plain.csv"
    source.write_text(f"LOAN;ID\n007;{number(1)}\n")
    tokenise(source, tmp_path / name, [COLUMN], KEY, delimiter=";", encoding="utf-8")
    token = KEY.token(IdentifierKind.PERSON, number(1))
    if name.endswith(".parquet"):
        assert pq.read_table(tmp_path / name).to_pylist() == [{"LOAN": "007", "entity_tok": token}]
    else:
        assert (tmp_path / name).read_text().replace('"', "") == f"LOAN;entity_tok\n007;{token}\n"


@pytest.mark.parametrize("name", ["tokens.xlsx", "tokens.dat", "tokens", "tokens.csv.gz"])
def test_a_name_that_says_no_format_is_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / "plain.csv"
    source.write_text(f"ID\n{number(1)}\n")
    with pytest.raises(UsageError, match=name) as caught:
        tokenise(source, tmp_path / name, [COLUMN], KEY, **CSV)
    assert ".parquet" in caught.value.fix("en")
    assert [path.name for path in tmp_path.iterdir()] == ["plain.csv"]


def test_a_file_without_rows_is_told_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "plain.parquet"
    pq.write_table(pa.table({"ID": pa.array([], pa.string())}), source)
    with pytest.raises(NoRowsError):
        tokenise(source, tmp_path / "tokens.parquet", [COLUMN], KEY, **CSV)
    assert [path.name for path in tmp_path.iterdir()] == ["plain.parquet"]
