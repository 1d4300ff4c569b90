"""Identifiers to tokens inside the institution: every check digit is verified first, and one bad row stops the file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from fedcredit.checking.findings import FindingBook
from fedcredit.checking.sources import TEXT_SUFFIXES, TableReader, open_table
from fedcredit.checking.spec import TableSpec
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.mapping import TableSource
from fedcredit.contract.canonical.versions import SPOKEN
from fedcredit.contract.identifiers import is_national_id, is_uscc, is_vin, normalised
from fedcredit.crypto.tokens import IdentifierKind, TokenKey
from fedcredit.errors import (
    AlreadyExistsError,
    IdentifierError,
    MissingColumnError,
    NoRowsError,
    UsageError,
    phrase,
)

_PARQUET: Final = ".parquet"
_CHECKS: Final = {
    IdentifierKind.PERSON: (is_national_id, "18-digit identity number", "18 位身份证号"),
    IdentifierKind.ENTERPRISE: (is_uscc, "credit code (USCC)", "统一社会信用代码"),
    IdentifierKind.VEHICLE: (is_vin, "vehicle identification number", "车辆识别代号"),
}


@dataclass(frozen=True, kw_only=True)
class TokenColumn:
    """One column of identifiers and what it becomes."""

    column: str
    kind: IdentifierKind
    name: str
    """Of the column of tokens: a name on the deny-list would be refused later."""


def tokenise(
    source: Path, target: Path, columns: Sequence[TokenColumn], key: TokenKey, *, delimiter: str, encoding: str
) -> int:
    """Write ``target`` with the columns of ``source`` replaced by tokens; return the number of rows.

    Both are CSV (``TEXT_SUFFIXES``) or Parquet by their suffix, and need not be the same; a CSV file comes out in
    UTF-8 with the same ``delimiter``. The file is read twice, in chunks: once to verify every identifier, once to
    write. Empty cells stay empty. ``target`` appears whole or not at all.

    Raises:
        AlreadyExistsError: there is something at ``target``.
        UsageError: the suffix of ``target`` is that of neither format.
        NoRowsError: the file has no rows; nothing is written.
        MissingColumnError: the file lacks a column.
        IdentifierError: identifiers are broken; column, count and first row are named, nothing is written.
        RaggedRowError: a line has another number of cells than the header; nothing is written.
        DataError: the file cannot be read.
    """
    if target.exists():
        raise AlreadyExistsError(path=str(target))
    if target.suffix.lower() not in (*TEXT_SUFFIXES, _PARQUET):
        hint = f"Call it {', '.join(TEXT_SUFFIXES)} for CSV, or {_PARQUET} for Parquet"
        raise UsageError(problem=f"The name {target.name} does not say which format to write", hint=hint)
    wanted, book = {item.column: item for item in columns}, FindingBook()
    _verify(_open(source, delimiter, encoding, book), wanted, str(source))
    for finding in book.findings(()):
        if not finding.warning:  # a line that the reader leaves out would be missing from the target
            raise finding.error
    with tempfile.TemporaryDirectory(prefix=".fedcredit-tokens-", dir=target.parent) as folder:
        waiting = Path(folder) / target.name
        rows = _write(_tokenised(_open(source, delimiter, encoding, book), wanted, key), waiting, delimiter)
        if not rows:
            raise NoRowsError(place=str(source))
        waiting.chmod(0o600)
        waiting.rename(target)
    return rows


def _open(path: Path, delimiter: str, encoding: str, book: FindingBook) -> TableReader:
    spec = TableSpec(
        table=canonical(SPOKEN[-1]).table("entity"),
        place=str(path),
        path=path,
        source=TableSource(file=str(path), columns={}, delimiter=delimiter, encoding=encoding),
        mapped=False,
    )
    return open_table(spec, book)


def _verify(reader: TableReader, columns: Mapping[str, TokenColumn], place: str) -> None:
    for column in columns:
        if column not in reader.names:
            hint = f"The columns are: {', '.join(reader.names)}"
            raise MissingColumnError(path=place, column=column, hint=hint)
    counts, firsts, row = dict.fromkeys(columns, 0), dict.fromkeys(columns, 0), 1
    for batch in reader.batches(tuple(columns)):
        for column, item in columns.items():
            check = _CHECKS[item.kind][0]
            bad = np.array([cell is not None and not check(cell) for cell in _cells(batch, column)], dtype=np.bool_)
            if bad.any():
                firsts[column] = firsts[column] or int(reader.numbers(row, batch.num_rows)[bad.argmax()])
                counts[column] += int(bad.sum())
        row += batch.num_rows
    for column, item in columns.items():
        if counts[column]:
            what = phrase(en=_CHECKS[item.kind][1], zh=_CHECKS[item.kind][2])
            figures = {"count": f"{counts[column]:,}", "row": f"{firsts[column]:,}"}
            raise IdentifierError(column=column, path=place, what=what, **figures)


def _write(batches: Iterator[pa.RecordBatch], path: Path, delimiter: str) -> int:
    rows = 0
    writer: Any = None
    try:
        for batch in batches:
            if writer is None:
                options = csv.WriteOptions(delimiter=delimiter, quoting_style="needed")
                text = path.suffix.lower() in TEXT_SUFFIXES
                writer = csv.CSVWriter(path, batch.schema, write_options=options) if text else None
                writer = writer or pq.ParquetWriter(path, batch.schema)
            writer.write_batch(batch)
            rows += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return rows


def _tokenised(reader: TableReader, columns: Mapping[str, TokenColumn], key: TokenKey) -> Iterator[pa.RecordBatch]:
    for batch in reader.batches(reader.names):
        arrays = []
        for name, array in zip(batch.schema.names, batch.columns, strict=True):
            if name in columns:
                kind = columns[name].kind
                made = [None if c is None else key.token(kind, normalised(c)) for c in _cells(batch, name)]
                arrays.append(pa.array(made, pa.string()))
            else:
                arrays.append(array.dictionary_decode() if pa.types.is_dictionary(array.type) else array)
        names = [columns[name].name if name in columns else name for name in batch.schema.names]
        yield pa.RecordBatch.from_arrays(arrays, names=names)


def _cells(batch: pa.RecordBatch, column: str) -> list[str | None]:
    array = batch.column(column)
    array = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    return [cell if cell else None for cell in array.cast(pa.string()).to_pylist()]
