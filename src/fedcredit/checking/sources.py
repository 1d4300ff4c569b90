"""Tables as a stream of Arrow batches: Parquet, CSV or one SELECT; never more than a chunk in memory."""

from __future__ import annotations

import csv as lines
import os
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from fedcredit.checking.findings import FindingBook, Rows
from fedcredit.checking.guards import LONGEST_CELL, check_archive, check_parquet, check_text, files_of
from fedcredit.checking.numbering import RowNumbers
from fedcredit.checking.spec import TableSpec
from fedcredit.errors import (
    DataFormatError,
    HugeCellError,
    MissingColumnError,
    NoRowsError,
    RaggedRowError,
    SourceUnreadableError,
    phrase,
)

CHUNK_ROWS: Final = 1 << 16
TEXT_SUFFIXES: Final = (".csv", ".txt", ".tsv")
"""Of files that are read as CSV; all others are Parquet."""
_CSV_BLOCK: Final = 4 << 20
_ENVIRONMENT: Final = "env:"


class TableReader(Protocol):
    """A table that can be read once, in order."""

    names: tuple[str, ...]
    """Its columns, as the export has them."""

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns in chunks of at most about ``CHUNK_ROWS`` rows."""
        ...

    def numbers(self, first: int, count: int) -> Rows:
        """Return what a person who opens the export calls the rows that came as ``first`` and following, from 1."""
        ...

    def close(self) -> None:
        """Give back files or connection; a reader whose rows were all read has done so."""
        ...


def open_table(spec: TableSpec, book: FindingBook) -> TableReader:
    """Return a reader of the table, after a look at its bytes.

    Raises:
        DataError: the source cannot be read; see ``guards``.
    """
    if spec.path is None:
        return _Query(spec)
    files = files_of(spec)
    for path in files:
        check_archive(path, spec.place)
    if files[0].suffix.lower() in TEXT_SUFFIXES:
        return _Text(spec, book)
    return _Parquet(spec)


@dataclass
class _Parquet:
    spec: TableSpec

    def __post_init__(self) -> None:
        self.files = [check_parquet(path, self.spec.place) for path in files_of(self.spec)]
        self.names: tuple[str, ...] = tuple(self.files[0].schema_arrow.names)
        for path, file in zip(files_of(self.spec), self.files, strict=True):
            # A column of one part only would be seen by no rule.
            if other := sorted({*file.schema_arrow.names} ^ {*self.names}):
                without = path if other[0] in self.names else files_of(self.spec)[0]
                hint = phrase(
                    en=f"Export all parts of the folder with the same columns; {without.name} is without it.",
                    zh=f"请按相同的列导出文件夹的所有部分;{without.name} 缺少该列。",
                )
                raise MissingColumnError(path=self.spec.place, column=other[0], hint=hint)

    def numbers(self, first: int, count: int) -> Rows:
        """Return the numbers that the rows came with."""
        return np.arange(first, first + count, dtype=np.int64)

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns; texts stay dictionaries, so a long text repeated a million times is held once."""
        for path, file in zip(files_of(self.spec), self.files, strict=True):
            texts = [field.name for field in file.schema_arrow if _is_text(field.type) and field.name in columns]
            try:
                # Which columns stay dictionaries is said when a file is opened.
                again = pq.ParquetFile(path, read_dictionary=texts, pre_buffer=False) if texts else nullcontext(file)
                with again as opened:
                    for batch in opened.iter_batches(CHUNK_ROWS, columns=list(columns)):
                        batch.validate(full=True)
                        yield _without_views(batch)
            except (pa.ArrowException, OSError, UnicodeDecodeError):
                # The message may quote the file's bytes, so it is not chained.
                raise DataFormatError(path=self.spec.place, format="Parquet") from None

    def close(self) -> None:
        """Close the files."""
        for file in self.files:
            file.close()


@dataclass
class _Text:
    spec: TableSpec
    book: FindingBook

    def __post_init__(self) -> None:
        self.path = files_of(self.spec)[0]
        if not self.path.stat().st_size:
            raise NoRowsError(place=self.spec.place)
        seen = check_text(self.path, self.spec, self.book)
        self.encoding = seen.encoding
        self.names: tuple[str, ...] = self._header()
        # Only a file that may have blank lines is read once more to find them.
        self._numbers = RowNumbers(self._blank_rows() if seen.blank_lines else ())

    def numbers(self, first: int, count: int) -> Rows:
        """Return the numbers of the rows in the file; blank and torn lines count."""
        return self._numbers.of(first, count)

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns as texts; a line with another number of cells is a finding and left out."""
        convert = csv.ConvertOptions(
            include_columns=list(columns),
            column_types=dict.fromkeys(columns, pa.string()),
            null_values=list(self.spec.source.null),
            strings_can_be_null=True,
        )
        try:
            with csv.open_csv(self.path, *self._options(), convert_options=convert) as reader:
                yield from reader
        except pa.ArrowInvalid as error:
            # The message may quote a line, so it is not chained.
            if "straddling" in str(error) or "too large" in str(error):
                raise HugeCellError(path=self.spec.place, limit=f"{_CSV_BLOCK:,}", row=1) from None
            raise DataFormatError(path=self.spec.place, format="CSV") from None
        except (OSError, UnicodeDecodeError):
            raise DataFormatError(path=self.spec.place, format="CSV") from None

    def close(self) -> None:
        """Do nothing: the file is open while it is read."""

    def _options(self) -> tuple[csv.ReadOptions, csv.ParseOptions]:
        encoding = "utf8" if self.encoding == "utf-8-sig" else self.encoding  # Arrow skips the mark of UTF-8 by itself
        read = csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK, encoding=encoding)
        parse = csv.ParseOptions(
            delimiter=self.spec.source.delimiter, newlines_in_values=True, invalid_row_handler=self._ragged
        )
        return read, parse

    def _ragged(self, row: Any) -> str:
        number = self._numbers.skip(max(1, (row.number or 2) - 1))  # Arrow counts the header line, and no blank one
        place = {"table": self.spec.table.name, "column": "", "path": self.spec.place}
        self.book.add(RaggedRowError, count=1, row=number, **place)
        return "skip"

    def _header(self) -> tuple[str, ...]:
        rows = self._rows()  # not Arrow's: it refuses a file that is a header line only
        header = next((row for row in rows if row), [])
        if not any(len(row) > 1 or "".join(row).strip() for row in rows):
            raise NoRowsError(place=self.spec.place)
        return tuple(name.strip() for name in header)

    def _rows(self) -> Iterator[list[str]]:
        """Yield the cells of each line as the standard library reads it: none of a blank one."""
        number = 0
        with self.path.open("r", encoding=self.encoding, newline="") as file:
            try:
                for row in lines.reader(file, delimiter=self.spec.source.delimiter):
                    number += 1
                    yield row
            except lines.Error:
                # A field longer than the library takes: longer than any cell may be.
                raise HugeCellError(path=self.spec.place, limit=f"{LONGEST_CELL:,}", row=max(1, number)) from None

    def _blank_rows(self) -> Iterator[int]:
        rows = self._rows()
        next(row for row in rows if row)
        return (number for number, row in enumerate(rows, 1) if not row)


class _Query:
    """One SELECT, sent once: names and rows are of one cursor, so a table that changes meanwhile cannot tear them."""

    def __init__(self, spec: TableSpec) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        self._spec, self._held = spec, ExitStack()
        try:
            self._result = self._sent(_address(spec))
            self.names: tuple[str, ...] = tuple(self._result.keys())
        except (SQLAlchemyError, ImportError, OSError) as error:
            self.close()
            # The message may hold the address with its password, or a cell: only its kind is told.
            raise SourceUnreadableError(table=spec.table.name, problem=_spoken(error)) from None

    def _sent(self, url: str) -> Any:
        """Return the result of the SELECT, in a transaction that cannot write; the server keeps the cursor."""
        from sqlalchemy import create_engine, text

        engine = create_engine(url)
        self._held.callback(engine.dispose)
        connection = engine.connect().execution_options(stream_results=True, yield_per=CHUNK_ROWS)
        self._held.callback(connection.close)  # rolls back
        if statement := _READ_ONLY.get(engine.dialect.name):
            connection.exec_driver_sql(statement)
        result = connection.execute(text(self._spec.source.query))
        self._held.callback(result.close)
        return result

    def numbers(self, first: int, count: int) -> Rows:
        """Return the numbers that the rows came with."""
        return np.arange(first, first + count, dtype=np.int64)

    def batches(self, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yield the named columns; a second time there is nothing left to read, which is an error."""
        from sqlalchemy.exc import SQLAlchemyError

        positions = [self.names.index(name) for name in columns]
        try:
            while rows := self._result.fetchmany(CHUNK_ROWS):
                arrays = [_array([row[position] for row in rows]) for position in positions]
                yield pa.RecordBatch.from_arrays(arrays, names=list(columns))
        except SQLAlchemyError as error:
            raise SourceUnreadableError(table=self._spec.table.name, problem=_spoken(error)) from None
        finally:
            self.close()

    def close(self) -> None:
        """End the transaction and the connection."""
        self._held.close()


def _address(spec: TableSpec) -> str:
    url = spec.source.url
    if not url.startswith(_ENVIRONMENT):
        return url
    name = url.removeprefix(_ENVIRONMENT)
    if name not in os.environ:
        raise SourceUnreadableError(table=spec.table.name, problem=f"{name} is not in the environment")
    return os.environ[name]


_READ_ONLY: Final = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
    "oracle": "SET TRANSACTION READ ONLY",
}
"""Per dialect; elsewhere the user's rights decide, and the mapping takes one SELECT only."""


def _spoken(error: Exception) -> str:
    if isinstance(error, ImportError):
        return f"the driver {error.name or 'of this database'} is not installed"
    return type(error).__name__


def _array(cells: list[Any]) -> pa.Array:
    try:
        return pa.array(cells)
    except (pa.ArrowException, TypeError):
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with string views as strings: few functions of Arrow take them."""
    arrays = [array.cast(pa.string()) if pa.types.is_string_view(array.type) else array for array in batch.columns]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
