"""From an export's cells to canonical numbers: marks, units, codes, dates, and typed codes for what is missing.

Numbers, flags, categories and dates become float64: NaN for an empty or broken cell, -1 to -4 for a typed code, the
position in ``values`` for a category, days since 1970-01-01 for dates, seconds for timestamps. Texts stay texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedcredit.checking.binding import Binding
from fedcredit.checking.findings import Mask
from fedcredit.checking.guards import LONGEST_CELL
from fedcredit.checking.marks import matches, number_pattern, other_marks
from fedcredit.checking.spill import is_empty
from fedcredit.contract.canonical.mapping import TableSource
from fedcredit.contract.canonical.table import NOT_COLLECTED, TIMES, TYPED_MISSING, ColumnRule
from fedcredit.errors import (
    DataError,
    DateFormatError,
    DecimalMarkError,
    EmptyWithoutReasonError,
    MixedDateError,
    NotFiniteCellError,
    UndeclaredCodeError,
    UnknownCodeError,
    WrongColumnTypeError,
    phrase,
)

UNKNOWN_CODE: Final = -9.0
_NOT_FINITE: Final = r"(?i)^[+-]?(nan|inf(inity)?|1\.#(inf|ind|qnan)|#n/a|#div/0!|#num!|#value!)$"
_FORMATS: Final = (
    *("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y年%m月%d日", "%Y-%m", "%Y%m"),
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%d-%b-%Y", "%d-%m-%Y", "%Y.%m.%d"),
)
_PUBLIC: Final = b"fedcredit public record\0"
Values = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Rows of a chunk that cannot be read as the contract says."""

    kind: type[DataError]
    rows: Mask
    fields: Mapping[str, Any]


@dataclass
class Cells:
    """One canonical column of a chunk."""

    values: Values
    problems: list[Problem] = field(default_factory=list)

    @property
    def faulty(self) -> Mask:
        """Return the rows that have a finding already."""
        rows = np.zeros(len(self.values), dtype=np.bool_)
        for problem in self.problems:
            rows |= problem.rows
        return rows

    def mark(self, kind: type[DataError], rows: Mask, **fields: Any) -> None:
        """Remember rows, unless there are none."""
        if rows.any():
            self.problems.append(Problem(kind=kind, rows=rows, fields=fields))


def read_cells(batch: pa.RecordBatch, binding: Binding, source: TableSource, *, first_row: int) -> Cells:
    """Return one canonical column of a batch of the export; a derived fold is left empty, see ``check``."""
    if binding.source.derived == "fold":
        return Cells(np.full(batch.num_rows, np.nan))
    if binding.source.derived:
        array = pa.array(np.arange(first_row, first_row + batch.num_rows))
    elif not binding.source.column:
        array = pa.array([str(binding.source.constant)] * batch.num_rows, pa.string())
    else:
        array = batch.column(binding.source.column)
    array = _trimmed(array, source)
    if not _is_plain(array.type):
        cells = Cells(_empty_cells(binding.rule, len(array)))
        _mark_type(cells, array, expected=phrase(en="plain cells", zh="普通单元格"))
        return cells
    meant = np.full(len(array), _typed(binding, source))
    if binding.source.codes:
        array, translated = _translated(array, binding.source.codes)
        meant |= translated
    cells = _READERS.get(binding.rule.type, _text)(array, binding, source)
    _require_meant(cells, binding, meant)
    _fill_empty(cells, binding)
    return cells


def _typed(binding: Binding, source: TableSource) -> bool:
    """Return whether -1 to -4 are codes for missing in this column; a constant says so itself."""
    if binding.source.constant is not None:
        return True
    return source.typed if binding.source.typed is None else binding.source.typed


def _require_meant(cells: Cells, binding: Binding, meant: Mask) -> None:
    """Find codes for missing that nobody declared: a real -1 must not become a reason."""
    if binding.rule.missing != "typed_missing" or meant.all():
        return
    text = cells.values.dtype == object
    codes = [str(code) if text else float(code) for code in TYPED_MISSING]
    loose = np.isin(cells.values, np.array(codes, dtype=cells.values.dtype)) & ~meant & ~cells.faulty
    cells.mark(UndeclaredCodeError, loose, name=binding.name)
    cells.values[loose] = None if text else np.nan


def longest_cell(batch: pa.RecordBatch) -> int:
    """Return the row, from 0, of the first text longer than ``LONGEST_CELL`` characters, or -1."""
    first = -1
    for column in batch.columns:
        texts = column.dictionary if pa.types.is_dictionary(column.type) else column
        if not _is_text(texts.type) or (pc.max(pc.binary_length(texts)).as_py() or 0) <= LONGEST_CELL:
            continue
        lengths = pc.binary_length(texts)
        long = pc.greater(pc.take(lengths, column.indices) if texts is not column else lengths, LONGEST_CELL)
        row = int(np.argmax(_flags(long)))
        first = row if first < 0 else min(first, row)
    return first


def _trimmed(array: Any, source: TableSource) -> Any:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_null(array.type):
        return array.cast(pa.string())
    if not _is_text(array.type):
        return array
    array = pc.utf8_trim_whitespace(array.cast(pa.string()))
    return pc.if_else(pc.is_in(array, pa.array([*source.null, ""])), pa.scalar(None, pa.string()), array)


def _translated(array: Any, codes: Mapping[str, str]) -> tuple[Any, Mask]:
    """Return the cells with the institution's codes replaced by the contract's, and where that was done."""
    texts = _as_text(array)
    found = pc.index_in(texts, pa.array(list(codes)))
    ours = pc.coalesce(pc.take(pa.array(list(codes.values()), pa.string()), found), texts)
    return ours, _flags(pc.is_valid(found))


def _as_text(array: Any) -> Any:
    if pa.types.is_floating(array.type):  # exports write whole codes with empty cells as 1.0
        numbers = _floats(array)
        whole = np.isfinite(numbers) & (np.floor(numbers) == numbers) & (np.abs(numbers) < 2.0**53)
        if (whole | np.isnan(numbers)).all():
            array = pc.cast(pa.array(numbers, from_pandas=True), pa.int64())
    if pa.types.is_boolean(array.type):
        array = array.cast(pa.int8())
    return array.cast(pa.string())


def _number(array: Any, binding: Binding, source: TableSource) -> Cells:
    if _is_text(array.type):
        cells = _number_from_text(array, source)
    elif _is_number(array.type) or pa.types.is_boolean(array.type):
        kind = pa.int8() if pa.types.is_boolean(array.type) else array.type
        empty = _flags(pc.is_null(array))
        cells = Cells(_floats(array.cast(kind)))
        cells.mark(NotFiniteCellError, ~np.isfinite(cells.values) & ~empty)
    else:
        cells = Cells(np.full(len(array), np.nan))
        _mark_type(cells, array, expected=phrase(en="numbers", zh="数字"))
    cells.values[cells.faulty] = np.nan
    typed = np.isin(cells.values, list(TYPED_MISSING)) & (binding.rule.missing == "typed_missing")
    with np.errstate(over="ignore"):  # infinity is outside every range, and told as such
        cells.values = np.where(typed, cells.values, cells.values * binding.factor)
    # -0.0001 in 10,000 yuan is a loss of one yuan, and no reason for missing.
    became = np.isin(cells.values, list(TYPED_MISSING)) & ~typed & (binding.rule.missing == "typed_missing")
    cells.mark(UndeclaredCodeError, became, name=binding.name)
    cells.values[became] = np.nan
    if binding.rule.type != "number":
        broken = np.isfinite(cells.values) & (np.abs(cells.values - np.rint(cells.values)) > 1e-6)
        if binding.factor != 1.0:
            cells.values = np.rint(cells.values)
        else:
            actual, expected = phrase(en="fractions", zh="小数"), phrase(en="whole numbers", zh="整数")
            cells.mark(WrongColumnTypeError, broken, actual=actual, expected=expected)
    return cells


def _number_from_text(array: Any, source: TableSource) -> Cells:
    fits, plain = matches(array, number_pattern(source)), array
    if source.thousands:
        plain = pc.replace_substring(plain, source.thousands, "")
    if source.decimal == ",":
        plain = pc.replace_substring(plain, ",", ".")
    values = _floats(pc.if_else(pa.array(fits), plain, pa.scalar(None, pa.string())).cast(pa.float64()))
    cells = Cells(values)
    rest = ~fits & _flags(pc.is_valid(array))
    if rest.any():
        _explain(cells, array, rest, source)
    return cells


def _explain(cells: Cells, array: Any, rest: Mask, source: TableSource) -> None:
    odd = rest & matches(array, _NOT_FINITE)
    cells.mark(NotFiniteCellError, odd)
    rest = rest & ~odd
    for rows, mark, line in other_marks(array, rest, source):
        cells.mark(DecimalMarkError, rows, mark=mark, line=line)
        rest = rest & ~rows
    actual, expected = phrase(en="text", zh="文本"), phrase(en="numbers", zh="数字")
    cells.mark(WrongColumnTypeError, rest, actual=actual, expected=expected)


def _category(array: Any, binding: Binding, _: TableSource) -> Cells:
    texts = _as_text(array)
    typed = tuple(map(str, TYPED_MISSING)) if binding.rule.missing == "typed_missing" else ()
    found = _floats(pc.index_in(texts, pa.array([*binding.rule.values, *typed])).cast(pa.float64()))
    listed = len(binding.rule.values)
    # Typed codes stand behind the values, in the order -1, -2, -3, -4.
    values = np.where(found >= listed, -(found - listed) - 1, found)
    unknown = np.isnan(values) & _flags(pc.is_valid(texts))
    values[unknown] = UNKNOWN_CODE
    cells = Cells(values)
    allowed = ", ".join(binding.rule.values)
    cells.mark(UnknownCodeError, unknown, allowed=allowed, example=binding.rule.values[0])
    cells.values[unknown] = np.nan
    return cells


def _date(array: Any, binding: Binding, _: TableSource) -> Cells:
    if pa.types.is_timestamp(array.type) and array.type.tz and binding.rule.type != "timestamp":
        try:
            array = pc.local_timestamp(array)  # the day where it was written, not in Greenwich
        except pa.ArrowInvalid:
            cells = Cells(np.full(len(array), np.nan))
            actual = phrase(en="moments of a time zone that this machine does not know", zh="本机不认识的时区的时刻")
            _mark_type(cells, array, expected=phrase(en="dates", zh="日期"), actual=actual)
            return cells
    if pa.types.is_date(array.type) or pa.types.is_timestamp(array.type):
        return Cells(_days(pc.cast(array, pa.timestamp("s"), safe=False).to_pandas(), binding))
    if not (_is_text(array.type) or _is_number(array.type)):
        cells = Cells(np.full(len(array), np.nan))
        _mark_type(cells, array, expected=phrase(en="dates", zh="日期"))
        return cells
    texts = _as_text(array)
    wanted = binding.date_format
    parsed = _parsed(texts, wanted, binding)
    bad = np.isnan(parsed) & _flags(pc.is_valid(texts))
    if bad.any() and binding.rule.type == "month" and not np.isfinite(parsed).any():
        parsed = _parsed(texts, "%Y-%m", binding)
        bad = np.isnan(parsed) & _flags(pc.is_valid(texts))
    cells = Cells(parsed)
    if bad.any():
        _explain_dates(cells, texts, bad, binding)
    return cells


def _explain_dates(cells: Cells, texts: Any, bad: Mask, binding: Binding) -> None:
    rest = pc.filter(texts, pa.array(bad))
    fits = {name: int(np.isfinite(_parsed(rest, name, binding)).sum()) for name in _FORMATS}
    best = max(fits, key=lambda name: fits[name])
    others = sum(1 for number in fits.values() if number)
    mixed = fits[best] and (np.isfinite(cells.values).any() or fits[best] < int(bad.sum()))
    if mixed:
        formats = 2 if np.isfinite(cells.values).any() else max(2, others)
        cells.mark(MixedDateError, bad, formats=formats, format=binding.date_format)
    else:
        likely = best if fits[best] else binding.date_format
        cells.mark(DateFormatError, bad, format=binding.date_format, likely=likely, name=binding.name)


def _parsed(texts: Any, form: str, binding: Binding) -> Values:
    series = pd.Series(texts.to_pandas(), dtype="str")
    if binding.rule.type == "timestamp":
        return _days(pd.to_datetime(series, format="ISO8601", errors="coerce", utc=True), binding)
    return _days(pd.to_datetime(series, format=form, errors="coerce", exact=True), binding)


def _days(times: Any, binding: Binding) -> Values:
    seconds = pd.Series(times)
    seconds = seconds.dt.tz_localize(None) if seconds.dt.tz is not None else seconds
    empty = seconds.isna().to_numpy()
    numbers: Values = seconds.to_numpy().astype("datetime64[s]").astype(np.int64).astype(np.float64)
    numbers[empty] = np.nan
    if binding.rule.type == "timestamp":
        return numbers
    days: Values = np.floor(numbers / 86_400)
    if binding.rule.type == "month":
        first = days.copy()
        first[~empty] = (
            days[~empty]
            .astype(np.int64)
            .astype("datetime64[D]")
            .astype("datetime64[M]")
            .astype("datetime64[D]")
            .astype(np.int64)
        )
        return first
    return days


def _text(array: Any, binding: Binding, _: TableSource) -> Cells:
    if not (_is_text(array.type) or pa.types.is_integer(array.type)):
        texts = _as_text(array) if _is_number(array.type) else None
        cells = Cells(np.full(len(array), None, dtype=object))
        if texts is None:
            _mark_type(cells, array, expected=phrase(en="text or whole numbers", zh="文本或整数"))
            return cells
        array = texts
    values = np.asarray(array.cast(pa.string()).to_numpy(zero_copy_only=False), dtype=object)
    if binding.source.public:
        values = np.array([None if cell is None else _public_token(cell) for cell in values], dtype=object)
    return Cells(values)


def _mark_type(cells: Cells, array: Any, *, expected: str, actual: str = "") -> None:
    """Mark every cell that holds something: the whole column is of another type."""
    rows = _flags(pc.is_valid(array))
    cells.mark(WrongColumnTypeError, rows, actual=actual or _family(array.type), expected=expected)


def _public_token(number: str) -> str:
    return hashlib.sha256(_PUBLIC + number.encode()).hexdigest()


def _fill_empty(cells: Cells, binding: Binding) -> None:
    text = cells.values.dtype == object
    empty = is_empty(cells.values) & ~cells.faulty
    if binding.source.empty is not None:
        cells.values[empty] = str(binding.source.empty) if text else float(binding.source.empty or 0)
    elif binding.rule.missing == "typed_missing":
        cells.mark(EmptyWithoutReasonError, empty, name=binding.name)


def lacking_cells(rule: ColumnRule, rows: int) -> Values:
    """Return a column that the institution lacks: not collected where the contract has a code for it, else empty."""
    if rule.missing != "typed_missing":
        return _empty_cells(rule, rows)
    return np.full(rows, str(NOT_COLLECTED), dtype=object) if rule.is_text else np.full(rows, float(NOT_COLLECTED))


def _empty_cells(rule: ColumnRule, rows: int) -> Values:
    return np.full(rows, None, dtype=object) if rule.is_text else np.full(rows, np.nan)


def _floats(array: Any) -> Values:
    return np.array(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)


def _flags(array: Any) -> Mask:
    return np.array(array.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _is_plain(kind: pa.DataType) -> bool:
    moments = pa.types.is_date(kind) or pa.types.is_timestamp(kind) or pa.types.is_boolean(kind)
    return bool(moments or _is_number(kind) or _is_text(kind))


def _family(kind: pa.DataType) -> str:
    """Return what a type is called, without the names of its fields."""
    return str(kind).split("<", 1)[0].split("[", 1)[0]


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


_READERS: Final = {
    **dict.fromkeys(("number", "integer", "flag"), _number),
    "category": _category,
    **dict.fromkeys(TIMES, _date),
}
