"""Reading an institution's own file: Parquet, or CSV in UTF-8 with a header line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from fedcredit.contract import Contract
from fedcredit.contract.columns import CategoryColumn
from fedcredit.data.columns import check_columns, needed_columns
from fedcredit.data.features import encode
from fedcredit.data.table import CreditTable
from fedcredit.errors import DataFileMissingError, DataFormatError, NoRowsError, WrongColumnTypeError


def read_table(path: Path, contract: Contract, *, modalities: Iterable[str]) -> CreditTable:
    """Return the table at ``path`` as features of the ``modalities``; see ``features.encode`` for what holds.

    ``.csv`` is read as CSV, every other name as Parquet. An empty CSV cell is missing; nothing else is.

    Raises:
        DataFileMissingError: there is no readable file.
        DataFormatError: it cannot be parsed, or two of its columns share a needed name.
        DataError: its content breaks the contract; column and row are named, a value never is.
    """
    names = tuple(modalities)
    return encode(read_frame(path, contract, modalities=names), contract, names, place=str(path))


def read_frame(path: Path, contract: Contract, *, modalities: Iterable[str]) -> pa.Table:
    """Return the needed columns at ``path`` in the types of the contract, without looking at their values further."""
    needed = needed_columns(contract, modalities)
    try:
        data = path.read_bytes()
    except OSError as error:
        hint = "Check the path of the data in node.toml, and that this user may read it."
        raise DataFileMissingError(path=str(path), hint=hint) from error
    if path.suffix.lower() == ".csv":
        return _read_csv(data, contract, needed, place=str(path))
    return _read_parquet(data, needed, place=str(path))


def _read_parquet(data: bytes, needed: tuple[str, ...], *, place: str) -> pa.Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        check_columns(file.schema_arrow.names, needed, place=place)
        frame = file.read(columns=list(needed))
        frame.validate(full=True)  # a text that is not UTF-8 would fail later, and quote itself
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        # The message may quote the file's bytes, so it is not chained.
        raise DataFormatError(path=place, format="Parquet") from None
    return frame


def _read_csv(data: bytes, contract: Contract, needed: tuple[str, ...], *, place: str) -> pa.Table:
    if not data.strip():
        raise NoRowsError(place=place)
    try:
        header = csv.open_csv(pa.BufferReader(data), convert_options=_as_text(())).schema.names
        check_columns(header, needed, place=place)
        frame = csv.read_csv(pa.BufferReader(data), convert_options=_as_text(needed))
    except (pa.ArrowException, OSError, UnicodeDecodeError):
        raise DataFormatError(path=place, format="CSV in UTF-8") from None
    types = _csv_types(contract)
    columns = {name: _converted(frame[name], types[name], name, place=place) for name in needed}
    return pa.table(columns)


def _as_text(names: tuple[str, ...]) -> csv.ConvertOptions:
    return csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=list(names) or None,
        strings_can_be_null=True,
        null_values=[""],
    )


def _csv_types(contract: Contract) -> dict[str, pa.DataType]:
    """Return the type of each column; a CSV has none of its own."""
    types = {contract.entity: pa.string(), contract.label.column: _code_type(contract.label.good)}
    for modality in contract.modalities:
        for column in modality.columns:
            kind = _code_type(column.values[0][0]) if isinstance(column, CategoryColumn) else pa.float64()
            types.update(dict.fromkeys(column.columns, kind))
    return types


def _code_type(code: int | str) -> pa.DataType:
    return pa.int64() if isinstance(code, int) else pa.string()


def _converted(column: Any, kind: pa.DataType, name: str, *, place: str) -> Any:
    cells = pc.utf8_trim_whitespace(column.combine_chunks())
    cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
    if _casts(cells, kind):
        return cells.cast(kind)
    spoken = "numbers" if pa.types.is_floating(kind) else "integer codes"
    row = _first_failure(cells, kind)
    raise WrongColumnTypeError(column=name, path=place, actual="text", expected=spoken, row=row)


def _casts(cells: Any, kind: pa.DataType) -> bool:
    try:
        cells.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _first_failure(cells: Any, kind: pa.DataType) -> int:
    """Return the 1-based row of the first cell that is no ``kind``, by halving."""
    low, high = 0, len(cells)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _casts(cells.slice(low, middle - low), kind) else (low, middle)
    return low + 1
