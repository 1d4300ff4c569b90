"""Rows by the hash of their key, on disk in parts: keys are compared and joined part by part, in bounded memory.

The parts lie in a folder of the check's own, mode 0700, which is deleted with it. Keys are 64-bit hashes: among ten
million keys two collide with a probability of about 3e-6, and would then be told as a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

PARTS: Final = 32
AT_ONCE: Final = 500_000
"""Rows that are compared in one go; more are taken part by part."""
Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


def hashes_of(columns: Iterable[NDArray[Any]]) -> Hashes:
    """Return one hash per row over the columns; the same cells give the same hash in every table."""
    total: Hashes | None = None
    for column in columns:
        if column.dtype == object:
            cells = np.where(is_empty(column), "", column).astype(object)
            hashed = pd.util.hash_array(cells, categorize=True)
        else:
            hashed = pd.util.hash_array(np.nan_to_num(column.astype(np.float64), nan=-7.0))
        total = (
            hashed if total is None else (total ^ (hashed + _MIX + (total << np.uint64(6)) + (total >> np.uint64(2))))
        )
    if total is None:
        raise ValueError("a key has at least one column")
    return total


def is_empty(cells: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which cells hold nothing: None or NaN."""
    return np.asarray(pd.isna(cells), dtype=np.bool_)


class Spill:
    """Rows of one kind: key, row number, and numbers by name. A name that ends in # holds a hash."""

    def __init__(self, folder: Path, name: str, fields: Iterable[str]) -> None:
        self._folder = folder / name
        self._folder.mkdir(mode=0o700)
        self.fields = tuple(fields)
        kinds = [(field, "<u8" if field.endswith("#") else "<f8") for field in self.fields]
        self._type = np.dtype([("key", "<u8"), ("row", "<i8"), *kinds])
        self.rows = 0

    def add(self, keys: Hashes, rows: Rows, values: Mapping[str, NDArray[Any]]) -> None:
        """Append rows; ``values`` has one array per field."""
        if not len(keys):
            return
        records = np.empty(len(keys), dtype=self._type)
        records["key"], records["row"] = keys, rows
        for field in self.fields:
            records[field] = values[field]
        parts = keys % np.uint64(PARTS)
        order = np.argsort(parts, kind="stable")
        records, parts = records[order], parts[order]
        edges = np.searchsorted(parts, np.arange(PARTS + 1, dtype=np.uint64))
        for part in range(PARTS):
            piece = records[edges[part] : edges[part + 1]]
            if len(piece):
                with (self._folder / str(part)).open("ab") as file:
                    piece.tofile(file)
        self.rows += len(keys)

    def part(self, numbers: range) -> pd.DataFrame:
        """Return these parts as one table: columns key, row and the fields. Equal keys are in equal parts everywhere."""
        paths = [self._folder / str(number) for number in numbers]
        records = [np.fromfile(path, dtype=self._type) for path in paths if path.exists()]
        joined = np.concatenate(records) if records else np.empty(0, dtype=self._type)
        return pd.DataFrame({name: joined[name] for name in self._type.names or ()})
