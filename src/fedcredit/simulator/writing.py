"""From columns to Parquet files whose bytes are the same for the same columns."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedcredit.contract.canonical import CanonicalTable, ColumnRule
from fedcredit.simulator.columns import NO_DATE, Coded, Column, Columns
from fedcredit.store.files import make_directory, storage_error

_DATES: Final = ("date", "month")


class TableFile:
    """One Parquet file that grows part by part; the columns are those of a schema, in its order."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows, self._schema = path, 0, schema
        make_directory(path.parent)
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        try:
            # Nothing of this machine or this moment goes into the file: no Arrow schema, no file names, no times.
            self._writer = pq.ParquetWriter(
                path, schema, compression="zstd", use_dictionary=texts, store_schema=False, version="2.6"
            )
        except OSError as error:
            raise storage_error(path, error) from error

    def append(self, columns: Columns) -> None:
        """Write some rows; a missing or an unknown column raises ``KeyError``, a bug of the caller."""
        if set(columns) != set(self._schema.names):
            raise KeyError(sorted(set(columns) ^ set(self._schema.names)))
        arrays = [_array(columns[field.name], field.type) for field in self._schema]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        try:
            if table.num_rows:
                self._writer.write_table(table)
        except OSError as error:
            raise storage_error(self.path, error) from error
        self.rows += table.num_rows

    def close(self) -> None:
        """Finish the file."""
        try:
            self._writer.close()
        except OSError as error:
            raise storage_error(self.path, error) from error


def canonical_schema(table: CanonicalTable, columns: Columns) -> pa.Schema:
    """Return the Arrow types of a canonical table, for the columns that an institution has.

    A column that the table does not know, or a required one that is not there, raises ``KeyError``: a bug.
    """
    known = [column for column in table.accepted if column.name in columns or column.missing == "required"]
    if lost := {column.name for column in known} ^ set(columns):
        raise KeyError(f"{table.name}: {sorted(lost)}")
    return pa.schema([(column.name, _type(column)) for column in known])


def plain_schema(columns: Columns) -> pa.Schema:
    """Return the Arrow types of columns that no contract describes: texts, integers and numbers."""
    return pa.schema([(name, _plain(column)) for name, column in columns.items()])


def _type(column: ColumnRule) -> pa.DataType:
    if column.is_text or column.type == "category":
        return pa.string()
    if column.type in _DATES:
        return pa.date32()
    if column.type == "timestamp":
        return pa.timestamp("ms", tz="UTC")
    return pa.float64() if column.type == "number" else pa.int32()


def _plain(column: Column) -> pa.DataType:
    if isinstance(column, Coded) or column.dtype.kind == "S":
        return pa.string()
    if column.dtype == object:
        return pa.binary()
    return pa.float64() if column.dtype.kind == "f" else pa.int32()


def _array(column: Column, kind: pa.DataType) -> pa.Array:
    if isinstance(column, Coded):
        places, empty, words = column.dictionary()
        indices = pa.array(places.astype(np.int32), mask=empty if empty.any() else None)
        return pa.DictionaryArray.from_arrays(indices, _strings(words)).cast(pa.string())
    if column.dtype.kind == "S":
        return _strings(column)
    if column.dtype == object:
        return pa.array(column.tolist(), type=kind)
    return _numbers(column, kind)


def _numbers(column: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(column.astype(np.int64) * 1_000).cast(kind)
    if pa.types.is_floating(kind):
        numbers = column.astype(np.float64)
        missing = np.isnan(numbers)
        return pa.array(numbers, mask=missing if missing.any() else None)
    empty = column == NO_DATE
    whole = pa.array(np.where(empty, 0, column).astype(np.int32), mask=empty if empty.any() else None)
    return whole.cast(kind)


def _strings(words: np.ndarray) -> pa.Array:
    """Return texts of one or several widths; numpy pads the shorter ones with zero bytes."""
    width, count = words.dtype.itemsize, words.size
    lengths = np.char.str_len(words)
    if count and (lengths == width).all():
        offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
        return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(words)))
    return pa.array([word.decode() for word in words.tolist()], type=pa.string())
