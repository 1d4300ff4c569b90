"""Looks at a file's bytes before anything parses them: archives, bombs, encodings, separators, endless lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from fedcredit.checking.findings import FindingBook
from fedcredit.checking.spec import DataSpec, TableSpec
from fedcredit.contract.canonical.manifest import digest_of, files_at
from fedcredit.errors import (
    ByteOrderMarkError,
    ChecksumError,
    CompressedFileError,
    DataFileMissingError,
    DataFormatError,
    DelimiterError,
    EncodingError,
    ExpandingFileError,
    HugeCellError,
    phrase,
)

LONGEST_LINE: Final = 1 << 20
LONGEST_CELL: Final = 1 << 16
"""Characters. The longest cell of the contract is a token of 64."""
MOST_GROWTH: Final = 200
"""Times that a column of a Parquet file may grow when it is unpacked, above ``SMALL``."""
SMALL: Final = 64 << 20
_BLOCK: Final = 1 << 20
_ARCHIVES: Final = (
    (b"PK\x03\x04", "zip; an Excel workbook is one too"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!", "rar"),
)
_MARKS: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_OTHERS: Final = ("utf-8", "gb18030", "cp1252")
_LINE_ENDS: Final = ("\n\n", "\n\r", "\r\r")
"""Two in a row: there is nothing between them."""
_SEPARATORS: Final = {
    ";": ("a semicolon", "分号"),
    "\t": ("a tab", "制表符"),
    "|": ("a stroke", "竖线"),
    ",": ("a comma", "逗号"),
}
"""In English and Chinese, in the order in which they are looked for."""


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """What the first look at a CSV file gives."""

    encoding: str
    blank_lines: bool
    """Whether there may be any; those inside quotation marks are among them."""


def fingerprints(spec: DataSpec) -> dict[str, str]:
    """Return the SHA-256 of every table that is a file or a folder, by the place that findings name."""
    return {
        table.place: digest_of(table.path) for table in spec.tables if table.path is not None and table.path.exists()
    }


def files_of(spec: TableSpec) -> tuple[Path, ...]:
    """Return the files of a table in the order of their names: one, or those of a folder.

    Raises:
        DataFileMissingError: there is none.
    """
    try:
        files = files_at(spec.path or Path())
    except OSError:
        files = ()
    if not files:
        hint = phrase(en="Check the path, and that this user may read it.", zh="请检查路径,以及该用户是否有权读取。")
        raise DataFileMissingError(path=spec.place, hint=hint)
    return files


def check_sum(spec: TableSpec) -> None:
    """Raise ``ChecksumError`` if a file is not the one that the manifest names, or ``DataFileMissingError``."""
    if spec.sha256 is None or spec.path is None:
        return
    files_of(spec)
    try:
        actual = digest_of(spec.path)
    except OSError:
        raise DataFileMissingError(path=spec.place, hint=_unreadable()) from None
    if actual != spec.sha256:
        raise ChecksumError(path=spec.place, actual=actual[:8], expected=spec.sha256[:8])


def _unreadable() -> str:
    return phrase(en="Check that this user may read the file.", zh="请检查该用户是否有权读取该文件。")


def check_archive(path: Path, place: str) -> None:
    """Raise ``CompressedFileError`` if the file is an archive: nobody knows what is in it."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError:
        raise DataFileMissingError(path=place, hint=_unreadable()) from None
    for magic, name in _ARCHIVES:
        if head.startswith(magic):
            raise CompressedFileError(path=place, format=name)


def check_parquet(path: Path, place: str) -> pq.ParquetFile:
    """Return the open file if it is Parquet, and no column of it grows beyond measure.

    Raises:
        DataFormatError: it is not Parquet.
        ExpandingFileError: a column chunk would grow more than ``MOST_GROWTH`` times.
    """
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
        sizes = [
            (chunk.total_compressed_size, chunk.total_uncompressed_size)
            for group in range(file.metadata.num_row_groups)
            for chunk in (file.metadata.row_group(group).column(i) for i in range(file.metadata.num_columns))
        ]
    except (pa.ArrowException, OSError, ValueError):
        raise DataFormatError(path=place, format="Parquet") from None
    for packed, unpacked in sizes:
        if unpacked > SMALL and unpacked > MOST_GROWTH * packed:
            growth = {"packed": f"{packed / 1e6:,.1f}", "unpacked": f"{unpacked / 1e6:,.0f}"}
            raise ExpandingFileError(path=place, limit=MOST_GROWTH, **growth)
    return file


def check_text(path: Path, spec: TableSpec, book: FindingBook) -> TextFile:
    """Return how a CSV file is encoded, after reading all of it once in blocks.

    Raises:
        EncodingError: its bytes do not decode; the row and a likely encoding are named.
        HugeCellError: a line has more than ``LONGEST_LINE`` bytes.
        DelimiterError: the header line is separated by another character.
    """
    with path.open("rb") as file:
        head = file.read(4)
    encoding = spec.source.encoding
    for mark, name in _MARKS:
        if head.startswith(mark) and not (name == "utf-16" and encoding.lower().startswith("utf-16")):
            if name == "utf-16":
                raise EncodingError(path=spec.place, encoding=encoding, row=1, table=spec.table.name, likely=name)
            book.add(ByteOrderMarkError, table=spec.table.name, column="", count=1, row=None, path=spec.place)
            encoding = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    blank = _decode_all(path, encoding, spec)
    _check_header(path, encoding, spec)
    return TextFile(encoding=encoding, blank_lines=blank)


def _decode_all(path: Path, encoding: str, spec: TableSpec) -> bool:
    """Raise unless everything decodes; return whether two line ends follow each other anywhere."""
    decoder = codecs.getincrementaldecoder(encoding)()
    lines, since, blank, end = 0, 0, False, "\n"  # as if a line ended before the first
    for block in _blocks(path):
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError as error:
            row = max(1, lines + block[: error.start].count(b"\n"))
            likely = _likely_encoding(path, encoding)
            place = {"path": spec.place, "table": spec.table.name}
            raise EncodingError(encoding=spec.source.encoding, row=row, likely=likely, **place) from None
        blank = blank or any(pair in text or pair == end + text[:1] for pair in _LINE_ENDS)
        end = text[-1:] or end
        longest, since = _longest_line(text, since)
        if longest > LONGEST_LINE:
            raise HugeCellError(path=spec.place, limit=f"{LONGEST_LINE:,}", row=lines + 1)
        lines += text.count("\n")
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        likely = _likely_encoding(path, encoding)
        place = {"path": spec.place, "table": spec.table.name}
        raise EncodingError(encoding=spec.source.encoding, row=max(1, lines), likely=likely, **place) from None
    return blank


def _longest_line(text: str, since: int) -> tuple[int, int]:
    """Return the longest line that ends or grows in this block, and how long the last one is by now."""
    pieces = text.split("\n")
    pieces_lengths = [since + len(pieces[0]), *map(len, pieces[1:])]
    return max(pieces_lengths), pieces_lengths[-1]


def _likely_encoding(path: Path, tried: str) -> str:
    for name in _OTHERS:
        if name == tried:
            continue
        decoder = codecs.getincrementaldecoder(name)()
        try:
            for block in _blocks(path):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return name
    return "latin-1"


def _check_header(path: Path, encoding: str, spec: TableSpec) -> None:
    with path.open("r", encoding=encoding, newline="") as file:
        header = next((line for line in file if line.strip()), "")
    given = spec.source.delimiter
    if given in header:
        return
    for mark, (en, zh) in _SEPARATORS.items():
        if mark != given and mark in header:
            line = 'delimiter = "\\t"' if mark == "\t" else f'delimiter = "{mark}"'
            raise DelimiterError(path=spec.place, mark=phrase(en=en, zh=zh), table=spec.table.name, line=line)


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            yield block
