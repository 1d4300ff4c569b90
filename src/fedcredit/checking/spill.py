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

from fedcredit.checking.findings import Rows

PARTS: Final = 32
AT_ONCE: Final = 500_000
"""Rows that are compared in one go; more are taken part by part."""
HELD_AT_MOST: Final = 1 << 17
"""Rows of one kind that wait in memory before they are written."""
Hashes = NDArray[np.uint64]
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
        self.fields = tuple(fields)
        kinds = [(field, "<u8" if field.endswith("#") else "<f8") for field in self.fields]
        self._type = np.dtype([("key", "<u8"), ("row", "<i8"), *kinds])
        self._waiting: list[NDArray[Any]] = []
        self._held = 0
        self.rows = 0

    def add(self, keys: Hashes, rows: Rows, values: Mapping[str, NDArray[Any]]) -> None:
        """Append rows; ``values`` has one array per field."""
        records = np.empty(len(keys), dtype=self._type)
        records["key"], records["row"] = keys, rows
        for field in self.fields:
            records[field] = values[field]
        self._waiting.append(records)
        self._held += len(records)
        self.rows += len(records)
        if self._held > HELD_AT_MOST:
            self._put_down()

    def _put_down(self) -> None:
        records = np.concatenate(self._waiting)
        self._waiting, self._held = [], 0
        parts = records["key"] % np.uint64(PARTS)
        order = np.argsort(parts, kind="stable")
        edges = np.searchsorted(parts[order], np.arange(PARTS + 1, dtype=np.uint64))
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for part in range(PARTS):
            with (self._folder / str(part)).open("ab") as file:
                records[order[edges[part] : edges[part + 1]]].tofile(file)

    def part(self, numbers: range) -> pd.DataFrame:
        """Return these parts as one table: key, row and the fields. Equal keys are in equal parts everywhere."""
        paths = [self._folder / str(number) for number in numbers]
        records = [np.fromfile(path, dtype=self._type) for path in paths if path.exists()]
        for waiting in self._waiting:
            parts = waiting["key"] % np.uint64(PARTS)
            records.append(waiting[(parts >= numbers.start) & (parts < numbers.stop)])
        joined = np.concatenate(records) if records else np.empty(0, dtype=self._type)
        return pd.DataFrame({name: joined[name] for name in self._type.names or ()})
