"""What the report shows and the plausibility checks need: counts of everything, and a bounded sample of rows.

The sample keeps the rows whose key hashes below a threshold, and lowers it when the sample grows: it does not depend
on the order of the rows, and the samples of two tables with the same key hold the same contracts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.checking.binding import Binding
from fedcredit.checking.spill import Hashes, is_empty
from fedcredit.contract.canonical import CanonicalTable, ColumnRule
from fedcredit.contract.canonical.table import TIMES, TYPED_MISSING

SAMPLE_ROWS: Final = 50_000
_LARGEST: Final = 1e300
_TOP: Final = float(2**64)
Numbers = NDArray[np.float64]


@dataclass
class ColumnProfile:
    """Counts over all rows of one column."""

    rule: ColumnRule
    spoken: str
    constant_source: bool
    empty: int = 0
    typed: dict[int, int] = field(default_factory=lambda: dict.fromkeys(TYPED_MISSING, 0))
    low: float = float("inf")
    high: float = float("-inf")
    first_text: str | None = None
    one_text: bool = True
    codes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Of a category: rows per value."""

    @property
    def missing(self) -> int:
        """Return how many rows have no value, whatever the reason."""
        return self.empty + sum(self.typed.values())

    @property
    def constant(self) -> bool:
        """Return whether every row with a value has the same one."""
        return self.low == self.high if self.first_text is None else self.one_text

    def add(self, values: NDArray[Any]) -> None:
        """Count a chunk."""
        if values.dtype == object:
            self._add_texts(values)
            return
        empty = np.isnan(values)
        self.empty += int(empty.sum())
        present = ~empty
        if self.rule.missing == "typed_missing":
            for code in TYPED_MISSING:
                typed = values == code
                self.typed[code] += int(typed.sum())
                present &= ~typed
        real = values[present]
        if len(real):
            self.low, self.high = min(self.low, float(real.min())), max(self.high, float(real.max()))
        if self.rule.type == "category":
            counted = np.bincount(real.astype(np.int64), minlength=len(self.rule.values))
            self.codes = counted if not len(self.codes) else self.codes + counted

    def _add_texts(self, values: NDArray[Any]) -> None:
        empty = is_empty(values)
        self.empty += int(empty.sum())
        real = values[~empty]
        if self.rule.missing == "typed_missing":
            for code in TYPED_MISSING:
                typed = real == str(code)
                self.typed[code] += int(typed.sum())
                real = real[~typed]
        if len(real):
            self.first_text = self.first_text if self.first_text is not None else str(real[0])
            self.one_text = self.one_text and bool((real == self.first_text).all())


@dataclass
class TableProfile:
    """Counts over all rows of one table, and its sample."""

    table: CanonicalTable
    place: str
    rows: int = 0
    left_out: int = 0
    """Rows that count nowhere, because an earlier one has their key and the mapping says so."""
    columns: dict[str, ColumnProfile] = field(default_factory=dict)
    threshold: float = _TOP
    _keys: list[Hashes] = field(default_factory=list)
    _parts: list[dict[str, NDArray[Any]]] = field(default_factory=list)
    _held: int = 0

    def open(self, bindings: tuple[Binding, ...]) -> None:
        """Begin with these columns."""
        for binding in bindings:
            self.columns[binding.name] = ColumnProfile(
                rule=binding.rule, spoken=binding.spoken, constant_source=not binding.source.column
            )

    def add(self, keys: Hashes, values: Mapping[str, NDArray[Any]], links: Mapping[str, Hashes]) -> None:
        """Count a chunk and sample it; ``links`` are hashes of the columns that other tables are joined by."""
        self.rows += len(keys)
        for name, profile in self.columns.items():
            profile.add(values[name])
        kept = keys.astype(np.float64) < self.threshold
        # Sums and differences of the largest floats are not finite any more.
        sampled = {name: np.clip(c[kept], -_LARGEST, _LARGEST) for name, c in values.items() if c.dtype != object}
        self._parts.append({**sampled, **{f"{name}#": link[kept] for name, link in links.items()}})
        self._keys.append(keys[kept])
        self._held += int(kept.sum())
        while self._held > SAMPLE_ROWS:
            self._thin()

    def _thin(self) -> None:
        self.threshold /= 2
        for position, keys in enumerate(self._keys):
            kept = keys.astype(np.float64) < self.threshold
            self._keys[position] = keys[kept]
            self._parts[position] = {name: column[kept] for name, column in self._parts[position].items()}
        self._held = sum(map(len, self._keys))

    def sample(self) -> dict[str, NDArray[Any]]:
        """Return the sampled rows: numbers by column, hashes by ``column#``, and the hash of the key as ``#``."""
        if not self._parts:
            return {"#": np.zeros(0, dtype=np.uint64)}
        names = self._parts[0]
        joined = {name: np.concatenate([part[name] for part in self._parts]) for name in names}
        return {**joined, "#": np.concatenate(self._keys)}

    def median(self, name: str) -> tuple[float, int] | None:
        """Return the median of the values of a numeric column that are not missing, and how many it is of."""
        values = self.sample().get(name)
        if values is None:
            return None
        real = present(values, self.columns[name].rule)
        return (float(np.median(real)), len(real)) if len(real) else None

    @property
    def coverage(self) -> float:
        """Return the share of cells of the minimum set that have a value; 1 where the table has no such column."""
        asked = [rule.name for rule in self.table.accepted if rule.minimum]
        if not asked or not self.rows:
            return 1.0 if not asked else 0.0
        filled = sum(self.rows - self.columns[name].missing for name in asked if name in self.columns)
        return filled / (len(asked) * self.rows)


def present(values: Numbers, rule: ColumnRule) -> Numbers:
    """Return the values that are not missing."""
    real = np.isfinite(values)
    if rule.missing == "typed_missing":
        real &= ~np.isin(values, list(TYPED_MISSING))
    return values[real]


def is_feature_like(rule: ColumnRule) -> bool:
    """Return whether a column can be looked at alone: a number, a flag or a category, and no date."""
    return rule.type not in TIMES and (rule.numeric or rule.type == "category")
