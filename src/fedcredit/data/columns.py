"""Checked columns: from an Arrow table to float64 arrays, or to an error that names column, row and rule.

Rows are counted from 1, without a header line. No error holds a cell value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedcredit.contract import Contract, Modality
from fedcredit.contract.columns import CategoryColumn, Channel, Column, NumberColumn
from fedcredit.errors import (
    DataFormatError,
    MissingColumnError,
    MissingEntityError,
    MissingValueError,
    ValueRangeError,
    WrongColumnTypeError,
)

Numbers = NDArray[np.float64]
_LISTED_AT_MOST = 12


def needed_columns(contract: Contract, modalities: Iterable[str]) -> tuple[str, ...]:
    """Return every column that encoding the ``modalities`` reads, each once: entity and label first."""
    names = [contract.entity, contract.label.column]
    for name in modalities:
        names += contract.modality(name).table_columns()
    return tuple(dict.fromkeys(names))


def check_columns(present: Iterable[str], needed: Iterable[str], *, place: str) -> None:
    """Raise unless every needed column is there, once.

    Raises:
        MissingColumnError: one is not; the hint names the nearest that is there and not needed itself.
        DataFormatError: one stands twice, so nobody can tell which is meant.
    """
    names, wanted = list(present), list(needed)
    spare = [name for name in names if name not in wanted]
    for column in wanted:
        if column not in names:
            near = difflib.get_close_matches(column, spare, n=1, cutoff=0.6)
            hint = f'The nearest column is "{near[0]}": rename it.' if near else "Add it to the export."
            raise MissingColumnError(path=place, column=column, hint=hint)
        if names.count(column) > 1:
            raise DataFormatError(path=place, format="a table whose column names differ")


def read_modality(frame: pa.Table, modality: Modality, *, place: str) -> dict[str, Numbers]:
    """Return each column (n,) or channel (n, T) of a modality; a missing cell is NaN, a category its position.

    Raises:
        WrongColumnTypeError, MissingValueError, ValueRangeError: the first column that breaks the contract.
    """
    return {column.name: _read(frame, column, place=place) for column in modality.columns}


def read_labels(frame: pa.Table, contract: Contract, *, place: str) -> NDArray[np.int8]:
    """Return 1 for bad and 0 for good; an empty or any other label raises as for ``read_modality``."""
    label = contract.label
    codes = _codes(frame, label.column, (label.good, label.bad), missing="required", place=place)
    return codes.astype(np.int8)


def read_entities(frame: pa.Table, contract: Contract, *, place: str) -> NDArray[np.str_]:
    """Return the token of each row's borrower as text.

    Raises:
        WrongColumnTypeError: tokens are neither texts nor integers.
        MissingEntityError: a row names no borrower.
    """
    column = _cells(frame, contract.entity)
    if not (_is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_null(column.type)):
        _wrong_type(column, contract.entity, "text or integers", place)
    column = pc.utf8_trim_whitespace(column.cast(pa.string()))
    empty = _flags(pc.fill_null(pc.equal(column, ""), True))
    if empty.any():
        raise MissingEntityError(column=contract.entity, path=place, count=int(empty.sum()), row=_first(empty))
    return np.asarray(column.to_pylist(), dtype=np.str_)


def _read(frame: pa.Table, column: Column, *, place: str) -> Numbers:
    if isinstance(column, CategoryColumn):
        listed = tuple(code for code, _ in column.values)
        return _codes(frame, column.name, listed, missing=column.missing, place=place)
    if isinstance(column, Channel):
        read = {name: _numbers(frame, name, column, place=place) for name in dict.fromkeys(column.columns)}
        return np.stack([read[name] for name in column.columns], axis=1)
    return _numbers(frame, column.name, column, place=place)


def _numbers(frame: pa.Table, name: str, rule: NumberColumn | Channel, *, place: str) -> Numbers:
    column = _cells(frame, name)
    if not (_is_number(column.type) or pa.types.is_null(column.type)):
        _wrong_type(column, name, "numbers", place)
    numbers: Numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    missing = np.isnan(numbers)
    if rule.missing == "required":
        _none_missing(missing, name, place)
    outside = ~missing & ~((numbers >= rule.min) & (numbers <= rule.max))
    _none_outside(outside, name, f"{rule.min:,.10g} to {rule.max:,.10g} {rule.unit}", place)
    return numbers


def _codes(frame: pa.Table, name: str, listed: tuple[int | str, ...], *, missing: str, place: str) -> Numbers:
    column = _cells(frame, name)
    whole = isinstance(listed[0], int)
    if whole and (pa.types.is_floating(column.type) or pa.types.is_uint64(column.type)):
        column = _whole(column, name, place)
    fits = pa.types.is_integer(column.type) if whole else _is_text(column.type)
    if not (fits or pa.types.is_null(column.type)):
        _wrong_type(column, name, "integer codes" if whole else "text codes", place)
    kind = pa.int64() if whole else pa.string()
    column = column.cast(kind)
    found = pc.index_in(column, value_set=pa.array(listed, kind))
    empty = _flags(pc.is_null(column))
    if missing == "required":
        _none_missing(empty, name, place)
    if missing != "unknown":
        allowed = ", ".join(map(str, listed)) if len(listed) <= _LISTED_AT_MOST else f"the {len(listed)} listed codes"
        _none_outside(~empty & _flags(pc.is_null(found)), name, allowed, place)
    numbers: Numbers = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers


def _whole(column: Any, name: str, place: str) -> Any:
    # Exports write integers with empty cells as floats; such codes are whole numbers all the same.
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    broken = ~np.isnan(numbers) & ~((np.abs(numbers) < 2.0**53) & (np.floor(numbers) == numbers))
    if broken.any():
        raise WrongColumnTypeError(
            column=name, path=place, actual="fractions or huge numbers", expected="integer codes", row=_first(broken)
        )
    return pc.cast(pa.array(numbers, pa.float64(), from_pandas=True), pa.int64())


def _cells(frame: pa.Table, name: str) -> Any:
    column = frame[name].combine_chunks()
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _wrong_type(column: Any, name: str, expected: str, place: str) -> None:
    row = _first(_flags(pc.is_valid(column)))
    raise WrongColumnTypeError(column=name, path=place, actual=_spoken(column.type), expected=expected, row=row)


def _spoken(kind: pa.DataType) -> str:
    if _is_text(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "true/false values"
    return "numbers" if _is_number(kind) else str(kind)


def _none_missing(missing: NDArray[np.bool_], name: str, place: str) -> None:
    if missing.any():
        raise MissingValueError(column=name, path=place, count=int(missing.sum()), row=_first(missing))


def _none_outside(outside: NDArray[np.bool_], name: str, allowed: str, place: str) -> None:
    if outside.any():
        raise ValueRangeError(column=name, path=place, count=int(outside.sum()), allowed=allowed, row=_first(outside))


def none_missing(values: Mapping[str, Numbers], required: Iterable[str], *, place: str) -> None:
    """Raise ``MissingValueError`` if a required derived feature has no value in some row."""
    for name in required:
        missing = np.isnan(values[name]).reshape(len(values[name]), -1)
        _none_missing(np.logical_or.reduce(missing, axis=1), name, place)


def _flags(column: Any) -> NDArray[np.bool_]:
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _first(flags: NDArray[np.bool_]) -> int:
    return int(flags.argmax()) + 1
