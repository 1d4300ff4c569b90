"""Single cells: what a text is as a number, and on which day a moment lies."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest

from fedcredit.checking.binding import Binding
from fedcredit.checking.cells import Cells, read_cells
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.mapping import ColumnSource, TableSource
from fedcredit.errors import DecimalMarkError, WrongColumnTypeError

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
