"""Single cells: what a text is as a number, and on which day a moment lies."""

from __future__ import annotations

import datetime
import re

import numpy as np
import pyarrow as pa
import pytest

from fedcredit.checking import chunk_schema, sources
from fedcredit.checking.binding import Binding
from fedcredit.checking.cells import Cells, read_cells
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.mapping import ColumnSource, TableSource
from fedcredit.errors import DecimalMarkError, UndeclaredCodeError, WrongColumnTypeError

SHANGHAI = datetime.timezone(datetime.timedelta(hours=8))


def cells_of(array: pa.Array, place: str, *, column: dict[str, object] | None = None, **table: object) -> Cells:
    name, _, column_name = place.partition(".")
    source = TableSource.model_validate({"file": "x.csv", "columns": {}, **table})
    where = ColumnSource.model_validate({"column": "X", **(column or {})})
    binding = Binding(rule=canonical(1).table(name).column(column_name), source=where, date_format="%Y-%m-%d")
    return read_cells(pa.record_batch({"X": array}), binding, source, first_row=1)


def days(*texts: str) -> list[float]:
    return np.array(texts, dtype="datetime64[D]").astype(float).tolist()


@pytest.mark.parametrize(
    ("marks", "texts", "numbers"),
    [
        ({}, ["1234.5", "-.5", "+7.", "1e3"], [1234.5, -0.5, 7.0, 1000.0]),
        ({"thousands": ","}, ["1,234,567.25", "12,345", "999", "1234", "1,000."], [1234567.25, 12345, 999, 1234, 1000]),
        ({"decimal": ","}, ["1234,5", ",5", "7,"], [1234.5, 0.5, 7.0]),
        ({"decimal": ",", "thousands": "."}, ["1.234.567,25", "12.345", "0,073"], [1234567.25, 12345, 0.073]),
        ({"thousands": " "}, ["12 345.5", "1 000 000"], [12345.5, 1e6]),
        ({"thousands": "'"}, ["12'345.5", "1'000'000"], [12345.5, 1e6]),
    ],
    ids=str,
)
def test_a_number_is_read_with_the_marks_of_the_mapping(
    marks: dict[str, object], texts: list[str], numbers: list[float]
) -> None:
    cells = cells_of(pa.array(texts), "contract.amount", **marks)
    assert cells.problems == []
    assert cells.values.tolist() == pytest.approx(numbers)


GROUPED = {"decimal": ",", "thousands": "."}


@pytest.mark.parametrize(
    ("marks", "text", "among", "line"),
    [
        ({}, "12,5", "7", 'decimal = ","'),
        ({}, "0,073", "7", 'decimal = ","'),
        ({}, "1,234", "7", 'thousands = ","'),
        ({}, "1,234", "12,5", 'decimal = ","'),
        ({}, "1,234,567", "7", 'thousands = ","'),
        ({}, "1.234,5", "7", 'decimal = ","'),
        ({"decimal": ","}, "12.5", "7", 'decimal = "."'),
        ({"decimal": ","}, "1.234", "7,5", 'thousands = "."'),
        ({"decimal": ","}, "1.234", "12.5", 'decimal = "."'),
        ({"decimal": ","}, "1.234,5", "7,5", 'thousands = "."'),
        ({"decimal": ","}, "1,234.5", "7", 'decimal = "."'),
        ({"thousands": ","}, "12,5", "1,234", 'decimal = "," and thousands = ""'),
        ({"thousands": ","}, "0,073", "1,234", 'decimal = "," and thousands = ""'),
        (GROUPED, "12.5", "1.234", 'decimal = "." and thousands = ""'),
    ],
    ids=str,
)
def test_a_number_with_other_marks_is_no_number_and_the_right_line_is_told(
    marks: dict[str, object], text: str, among: str, line: str
) -> None:
    cells = cells_of(pa.array([among, text, None]), "contract.balloon_pct", column={"empty": -1}, **marks)
    assert np.isnan(cells.values[1])
    told = [problem for problem in cells.problems if problem.rows[1]]
    assert [(problem.kind, problem.fields["line"]) for problem in told] == [(DecimalMarkError, line)]


@pytest.mark.parametrize("text", ["1.2.3", "1,23,456", "12 345", "1,,2", ",", "."])
@pytest.mark.parametrize("marks", [{}, {"decimal": ","}, {"thousands": ","}, GROUPED], ids=str)
def test_what_is_no_number_under_any_marks_is_text(marks: dict[str, object], text: str) -> None:
    cells = cells_of(pa.array([text]), "contract.amount", **marks)
    assert np.isnan(cells.values).all()
    assert [problem.kind for problem in cells.problems] == [WrongColumnTypeError]


@pytest.mark.parametrize(
    ("place", "array"),
    [
        ("contract.income_m", pa.array(["5000", "-1", "-4", "7000"])),
        ("contract.income_m", pa.array([5000.0, -1.0, -4.0, 7000.0])),
        ("contract.bureau_hit", pa.array([1, -2, -3, 0])),
        ("contract.housing", pa.array(["rent", "-1", "-4", "owner"])),
        ("entity.industry2", pa.array(["C30", "-1", "-4", "F52"])),
    ],
    ids=["texts", "numbers", "flags", "categories", "codes of letters"],
)
def test_minus_one_is_a_reason_for_missing_only_where_the_mapping_says_so(place: str, array: pa.Array) -> None:
    loose = cells_of(array, place)
    assert [(problem.kind, problem.rows.tolist()) for problem in loose.problems] == [
        (UndeclaredCodeError, [False, True, True, False])
    ]
    assert [value is None or value != value for value in loose.values] == [False, True, True, False]
    for said in ({"column": {"typed": True}}, {"typed": True}):
        declared = cells_of(array, place, **said)
        assert declared.problems == []
        assert [float(value) for value in declared.values[1:3]] == [float(str(cell)) for cell in array[1:3]]
    withdrawn = cells_of(array, place, column={"typed": False}, typed=True)
    assert [problem.kind for problem in withdrawn.problems] == [UndeclaredCodeError]


def test_what_the_mapping_itself_makes_a_reason_is_one() -> None:
    empty = cells_of(pa.array(["5000", None]), "contract.income_m", column={"empty": -3})
    assert (empty.values.tolist(), empty.problems) == ([5000.0, -3.0], [])
    source = {"codes": {"R": "rent", "9": "-2"}}
    coded = cells_of(pa.array(["R", "9", "-1"]), "contract.housing", column=source)
    assert coded.values[1] == -2
    assert [(p.kind, p.rows.tolist()) for p in coded.problems] == [(UndeclaredCodeError, [False, False, True])]
    constant = cells_of(pa.array(["x"]), "contract.income_m", column={"column": "", "constant": -1})
    assert (constant.values.tolist(), constant.problems) == ([-1.0], [])


def test_an_amount_that_becomes_minus_one_in_the_contracts_unit_is_no_reason() -> None:
    cells = cells_of(pa.array([-0.0001, -1.0, 2.5]), "contract.income_m", column={"unit": "k CNY/month", "typed": True})
    assert cells_of(pa.array([-0.001]), "contract.income_m", column={"unit": "k CNY/month", "typed": True}).problems
    assert (cells.values.tolist(), cells.problems) == ([-0.1, -1.0, 2500.0], [])


def test_where_codes_are_not_allowed_minus_one_stays_a_number() -> None:
    cells = cells_of(pa.array(["-1"]), "ent_monthly.min_balance")
    assert (cells.values.tolist(), cells.problems) == ([-1.0], [])


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "+08:00"])
def test_a_moment_in_a_zone_keeps_the_day_on_which_it_was_written(zone: str) -> None:
    """Half past midnight in Shanghai is the day before in Greenwich; for a moment it is the moment that counts."""
    moment = datetime.datetime(2024, 1, 1, 0, 30, tzinfo=SHANGHAI)
    array = pa.array([moment, None]).cast(pa.timestamp("us", tz=zone))
    found = cells_of(array, "contract.orig_date")
    assert found.problems == []
    assert found.values[:1].tolist() == days("2024-01-01")
    assert np.isnan(found.values[1])
    month = cells_of(array, "rep_monthly.month").values[:1].tolist()
    assert month == days("2024-01-01")
    assert cells_of(array, "tel_5min.ts").values[0] == moment.timestamp()


def test_a_zone_that_nobody_knows_is_told_and_gives_no_day() -> None:
    array = (
        pa.array([0, None], pa.int64()).cast(pa.timestamp("us", tz="UTC")).cast(pa.timestamp("us", tz="Mars/Olympus"))
    )
    found = cells_of(array, "contract.orig_date")
    assert [(problem.kind, problem.rows.tolist()) for problem in found.problems] == [
        (WrongColumnTypeError, [True, False])
    ]
    assert np.isnan(found.values).all()


def test_a_zoned_moment_of_a_database_is_the_moment_that_it_was() -> None:
    assert chunk_schema.TOKEN  # its import brings pandera, which tells Arrow to forget zones
    moment = datetime.datetime(2024, 1, 1, 0, 30, tzinfo=SHANGHAI)
    array = sources._array([moment, None])
    assert array[0].as_py() == moment
    assert cells_of(array, "contract.orig_date").values[:1].tolist() == days("2024-01-01")


@pytest.mark.parametrize(
    ("array", "place"),
    [
        (pa.array(["12,5", "1,234"]), "contract.amount"),
        (pa.array(["1,234,567"]), "contract.amount"),
        (pa.array(["a lot"]), "contract.amount"),
        (pa.array([1.5]), "contract.term_m"),
        (pa.array([datetime.date(2026, 1, 1)]), "contract.contract_id"),
        (pa.array([0], pa.timestamp("us", tz="Nowhere/Nowhere")), "contract.orig_date"),
    ],
    ids=str,
)
def test_a_finding_in_chinese_has_no_english_phrase_in_it(
    array: pa.Array, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "zh")
    problems = cells_of(array, place).problems
    assert problems
    for problem in problems:
        # The line to write in the mapping, and Arrow's name of a type, are the same in any language.
        said = [problem.fields.get(name, "") for name in ("mark", "expected")]
        assert any(said)
        assert not re.search("[A-Za-z]", "".join(said))
