"""What a check found: each finding is an error of the catalogue with its place, collected instead of raised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import DataError

Mask = NDArray[np.bool_]
Rows = NDArray[np.int64]
"""Numbers of rows, from 1, as a person counts them in the export."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One error or warning about one place."""

    error: DataError
    table: str
    column: str
    """Canonical name of the column; empty for a finding about the whole table."""
    count: int
    row: int | None
    """First row, counted from 1 without the header line; ``None`` where no row is meant."""

    @property
    def warning(self) -> bool:
        """Return whether a person may accept it by its code."""
        return type(self.error).acceptable


@dataclass
class _Mark:
    fields: Mapping[str, Any]
    count: int = 0
    row: int | None = None


@dataclass
class FindingBook:
    """Collects findings over the chunks of all tables; the same place is one finding with a count and a first row."""

    spoken: dict[tuple[str, str], str] = field(default_factory=dict)
    """What the operator calls a column of a table, where it is not the canonical name."""
    _marks: dict[tuple[type[DataError], str, str], _Mark] = field(default_factory=dict)

    def add(
        self, kind: type[DataError], /, *, table: str, column: str, count: int, row: int | None, **fields: Any
    ) -> None:
        """Add ``count`` cases of ``kind``, the first at ``row``; ``fields`` are those of the first case."""
        mark = self._marks.setdefault(
            (kind, table, column),
            _Mark(fields={"table": table, "column": self.spoken.get((table, column), column), **fields}),
        )
        mark.count += count
        if row is not None:
            mark.row = row if mark.row is None else min(mark.row, row)

    def add_rows(
        self, kind: type[DataError], mask: Mask, /, *, table: str, column: str, rows: Rows, **fields: Any
    ) -> None:
        """Add the rows of a chunk that ``mask`` marks; ``rows`` are the numbers of all of them."""
        count = int(mask.sum())
        if count:
            self.add(kind, table=table, column=column, count=count, row=int(rows[mask.argmax()]), **fields)

    def has(self, kind: type[DataError], table: str, column: str) -> bool:
        """Return whether that place has a finding of that kind."""
        return (kind, table, column) in self._marks

    def count(self, kind: type[DataError], table: str, column: str) -> int:
        """Return how many cases that place has."""
        mark = self._marks.get((kind, table, column))
        return mark.count if mark else 0

    def replace(self, old: type[DataError], new: type[DataError], *, table: str, column: str, **fields: Any) -> None:
        """Say the same cases of a place as another kind."""
        mark = self._marks.pop((old, table, column))
        moved = self._marks.setdefault((new, table, column), _Mark(fields={**mark.fields, **fields}))
        moved.count, moved.row = mark.count, mark.row

    def drop(self, *kinds: type[DataError], table: str, column: str) -> None:
        """Forget findings of a place that another one explains."""
        for kind in kinds:
            self._marks.pop((kind, table, column), None)

    def failed(self, table: str, column: str) -> bool:
        """Return whether a place has an error, warnings aside."""
        return any(not kind.acceptable and (t, c) == (table, column) for kind, t, c in self._marks)

    def findings(self, order: tuple[str, ...]) -> tuple[Finding, ...]:
        """Return all findings: errors before warnings, then by table in this ``order``, by code and column."""
        found = [
            Finding(error=_built(kind, mark), table=table, column=column, count=mark.count, row=mark.row)
            for (kind, table, column), mark in self._marks.items()
        ]
        places = {name: position for position, name in enumerate(order)}
        return tuple(sorted(found, key=lambda f: (f.warning, places.get(f.table, len(places)), f.error.code, f.column)))


def _built(kind: type[DataError], mark: _Mark) -> DataError:
    offered = {"count": f"{mark.count:,}", "row": "-" if mark.row is None else f"{mark.row:,}", **mark.fields}
    return kind(**{name: offered[name] for name in kind.field_names()})
