"""What was known of a contract on its day of observation: rows of a table, cut at that day, summed up.

A row counts if it was known on the day of observation: its own day (``asof`` or ``time`` of the table) plus the delay
that the canonical set gives the column (``available_at``), and never before the day on which the institution itself
says that it was reported. A window of d days takes the rows whose own day lies at most d days back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.spec import DataSpec
from fedcredit.contract.canonical import CanonicalTable, ColumnRule, canonical
from fedcredit.contract.canonical.months import month_end
from fedcredit.contract.canonical.table import TYPED_MISSING
from fedcredit.features.holders import Holders
from fedcredit.features.names import ENTITY, LINKS, THROUGH, VEHICLE, FeatureName
from fedcredit.features.reading import Chunk, Values, known, read_chunks, read_whole, require_once, table_of

Places = NDArray[np.int64]
_NOT_BEFORE: Final[Mapping[str, Callable[[ColumnRule], bool]]] = {
    "reported_at": lambda rule: True,
    "guide_vintage": lambda rule: True,
    "known_at": lambda rule: True,
    "bureau_date": lambda rule: rule.source == "credit bureau",
    "appraised_at": lambda rule: rule.name in ("appraised_v0", "appraisal_method"),
}
"""Columns of days before which cells are not used, whatever their row's own day, and which cells that is."""
_PAIRS: Final = 1 << 21
"""Rows with their observations that are in memory together."""
PRESENT: Final = "present"
NO_ROW: Final = "no row"
MISSING_WORDS: Final[Mapping[float, str]] = {float(code): en for code, (en, _) in TYPED_MISSING.items()}
EMPTY: Final = "empty"


@dataclass(frozen=True, kw_only=True, eq=False)
class Observations:
    """Contracts on their days of observation; arrays of one length n."""

    contract: Values
    entity: Values
    vehicle: Values
    """Token of the vehicle, ``None`` where there is none."""
    day: NDArray[np.float64]
    """Days since 1970-01-01."""

    def __len__(self) -> int:
        return len(self.day)

    def keys(self, link: str) -> Values:
        """Return the keys that rows are found by."""
        return {"contract_id": self.contract, "entity_tok": self.entity, "vin_tok": self.vehicle}[link]


def summarise(
    spec: DataSpec, table: str, names: Sequence[FeatureName], seen: Observations, *, holders: Callable[[], Holders]
) -> dict[str, Values]:
    """Return each feature of a table, shape (n,): float64 with NaN, or texts with ``None``; raises as ``read_chunks``.

    The whole table is never in memory; what is held is a few numbers per feature and observation. Without the table,
    or the one that its rows are found through, nothing is known, not even a count of 0; nor of an observation without
    a key, such as a contract without a vehicle. ``holders`` gives whose data a vehicle's rows are.
    """
    if any(table_of(spec, one) is None for one in (table, THROUGH.get(table, table))):
        return {name.text: _nothing(name, len(seen)) for name in names}
    rules = canonical(spec.facts.schema_version).table(table)
    timed = [column for column in (rules.asof, rules.time, *_NOT_BEFORE) if column and column in rules]
    columns = dict.fromkeys((LINKS[table], *timed, *(name.rule.name for name in names)))
    tallies = {_shared(name): _tally(name, len(seen)) for name in names}
    one_each = {_shared(name): name for name in names}
    finder = _Finder(spec, table, seen, holders() if LINKS[table] == VEHICLE else None)
    for chunk in read_chunks(spec, table, columns):
        own = _own_day(chunk, rules)
        usable = {key: _Usable.of(chunk, rules, name.rule, own) for key, name in one_each.items()}
        for rows, places in finder.pairs(chunk, own):
            for key, name in one_each.items():
                visible = usable[key].known_on[rows] <= seen.day[places]
                if name.days is not None:
                    visible &= own[rows] >= seen.day[places] - name.days
                taken = rows[visible]
                tallies[key].add(usable[key].cells[taken], places[visible], own[taken])
    return {name.text: tallies[_shared(name)].result(name, finder.keyed) for name in names}


@dataclass(frozen=True, eq=False)
class _Usable:
    """A column of a chunk: its cells within their range, and the day from which each may be used."""

    cells: Values
    known_on: NDArray[np.float64]

    @classmethod
    def of(cls, chunk: Chunk, rules: CanonicalTable, rule: ColumnRule, own: NDArray[np.float64]) -> Self:
        return cls(_within(chunk[rule.name], rule), _known_on(chunk, rules, rule, own))


def _within(cells: Values, rule: ColumnRule) -> Values:
    """Return cells clipped to the legal range: what lies outside passed the check because a person accepted that."""
    if rule.type not in ("number", "integer"):
        return cells
    there = known(cells, typed=rule.missing == "typed_missing")
    return np.where(there, np.clip(cells, *rule.bounds), cells)


def _nothing(name: FeatureName, count: int) -> Values:
    if name.summary == "reason":
        return np.full(count, NO_ROW, dtype=object)
    return np.full(count, None, dtype=object) if name.is_words else np.full(count, np.nan)


class _Finder:
    """Finds the observations that each row of a table belongs to."""

    def __init__(self, spec: DataSpec, table: str, seen: Observations, holders: Holders | None) -> None:
        self._link = LINKS[table]
        self._owner: pd.Series | None = None
        keys = seen.keys(LINKS[THROUGH.get(table, table)])
        if table in THROUGH:
            self._owner = _owners(spec, THROUGH[table], self._link)
        codes, unique = pd.factorize(keys)
        self._index = pd.Index(unique)
        self._count = np.bincount(codes[codes >= 0], minlength=len(unique))
        self._start = np.cumsum(self._count) - self._count
        self._places = np.argsort(codes, kind="stable")[int((codes < 0).sum()) :]
        self.keyed: NDArray[np.bool_] = codes >= 0
        """Which observations have a key."""
        self._entity = seen.entity
        self._holders = holders

    def pairs(self, chunk: Chunk, own: NDArray[np.float64]) -> Iterator[tuple[Places, Places]]:
        """Yield pairs (rows of the chunk, places of their observations), about ``_PAIRS`` at once.

        A row may belong to several observations, or to none. A row of a vehicle belongs to observations of the
        borrower who held it on the row's own day: what another borrower drove is another borrower's data.
        """
        keys = chunk[self._link]
        if self._owner is not None:
            keys = pd.Series(keys, dtype=object).map(self._owner).to_numpy(dtype=object)
        found = self._index.get_indexer(pd.Index(keys, dtype=object))
        hit = np.flatnonzero(found >= 0)
        many = self._count[found[hit]]
        holder = self._holders.on(keys[hit], own[hit]) if self._holders else None
        free = pd.isna(holder) if holder is not None else None
        blocks = (np.cumsum(many) - 1) // _PAIRS
        for block in np.unique(blocks):
            some = np.flatnonzero(blocks == block)
            times = many[some]
            step = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
            places = self._places[np.repeat(self._start[found[hit[some]]], times) + step]
            rows = np.repeat(hit[some], times)
            if holder is not None and free is not None:
                its = np.repeat(free[some], times) | (np.repeat(holder[some], times) == self._entity[places])
                rows, places = rows[its], places[its]
            yield rows, places


def _owners(spec: DataSpec, table: str, key: str) -> pd.Series:
    """Return the entity of each row of the table that a key is found through."""
    rows = read_whole(spec, table, (key, ENTITY))
    require_once(spec, table, rows, (key,))
    return pd.Series(rows[ENTITY], index=rows[key], dtype=object)


def _own_day(chunk: Chunk, rules: CanonicalTable) -> NDArray[np.float64]:
    column = rules.asof or rules.time
    if column is None:  # master data, without a day of their own
        return np.full(len(next(iter(chunk.values()))), -np.inf)
    day: NDArray[np.float64] = chunk[column]
    return day


def _known_on(chunk: Chunk, rules: CanonicalTable, rule: ColumnRule, own: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the day from which each row may be used, NaN (and so never) where its own day is empty."""
    day = own
    if rule.available_at == "monthly" and rules.time is not None and rules.column(rules.time).type == "month":
        day = month_end(own)
    elif rule.available_at.startswith("event+"):
        day = own + float(rule.available_at.removeprefix("event+"))
    for column, meant in _NOT_BEFORE.items():
        if column in chunk and column in rules and meant(rule):
            day = np.where(np.isnan(chunk[column]), day, np.maximum(day, chunk[column]))
    return day


class _Tally(ABC):
    """Collects the visible rows of one column and window over chunks."""

    def __init__(self, rule: ColumnRule, count: int) -> None:
        self.count = count
        self.typed: Final = rule.missing == "typed_missing"

    @abstractmethod
    def add(self, cells: Values, places: Places, own: NDArray[np.float64]) -> None:
        """Take rows in: their cells, their observations and their own days."""

    @abstractmethod
    def result(self, name: FeatureName, keyed: NDArray[np.bool_]) -> Values:
        """Return a feature of these rows; ``keyed`` says which observations could have rows at all."""


class _Newest(_Tally):
    """The newest row; of two of one day the one with the larger cell, whatever their order. It may be missing."""

    def __init__(self, rule: ColumnRule, count: int) -> None:
        super().__init__(rule, count)
        self._day = np.full(count, np.nan)
        self._texts: Final = rule.is_text
        self._cells: Values = np.full(count, None, dtype=object) if self._texts else np.full(count, np.nan)

    def add(self, cells: Values, places: Places, own: NDArray[np.float64]) -> None:
        order = np.lexsort((self._ranks(cells), own, places))
        last = order[np.flatnonzero(np.diff(places[order], append=-1) != 0)]
        place = places[last]
        old = self._ranks(np.concatenate([self._cells[place], cells[last]]))
        larger = old[len(place) :] > old[: len(place)]
        newer = np.isnan(self._day[place]) | (own[last] > self._day[place])
        newer |= (own[last] == self._day[place]) & larger
        self._day[place[newer]] = own[last][newer]
        self._cells[place[newer]] = cells[last][newer]

    def _ranks(self, cells: Values) -> Values:
        """Return numbers in the order of the cells; an empty one comes first."""
        if self._texts:
            ranks: Values = pd.factorize(cells, sort=True)[0]
            return ranks
        return np.where(np.isnan(cells), -np.inf, cells)

    def result(self, name: FeatureName, keyed: NDArray[np.bool_]) -> Values:
        there = known(self._cells, typed=self.typed)
        if name.summary == "reason":
            rows = ~np.isnan(self._day)
            return _texts(_reason(*each) for each in zip(self._cells, there, rows, strict=True))
        if not name.is_words:
            return np.where(there, self._cells, np.nan)
        values = name.rule.values
        words = self._cells if self._texts else [values[int(cell)] for cell in np.where(there, self._cells, 0)]
        return _texts(word if one else None for word, one in zip(words, there, strict=True))


def _texts(cells: Iterable[str | None]) -> Values:
    return np.array(list(cells), dtype=object)


def _reason(cell: object, there: bool, row: bool) -> str:
    if not row:
        return NO_ROW
    if there:
        return PRESENT
    try:
        return MISSING_WORDS.get(float(str(cell)), EMPTY)
    except ValueError:
        return EMPTY


class _Moments(_Tally):
    """Sums over all rows that hold a value."""

    def __init__(self, rule: ColumnRule, count: int) -> None:
        super().__init__(rule, count)
        self._rows, self._sum, self._squares = np.zeros(count), np.zeros(count), np.zeros(count)

    def add(self, cells: Values, places: Places, own: NDArray[np.float64]) -> None:
        there = known(cells, typed=self.typed)
        cells, places = cells[there], places[there]
        np.add.at(self._rows, places, 1.0)
        np.add.at(self._sum, places, cells)
        np.add.at(self._squares, places, cells**2)

    def result(self, name: FeatureName, keyed: NDArray[np.bool_]) -> Values:
        if name.summary == "count":
            return np.where(keyed, self._rows, np.nan)
        some = np.where(self._rows > 0, self._rows, np.nan)
        mean = self._sum / some
        if name.summary == "sd":
            return np.where(self._rows > 1, np.sqrt(np.maximum(self._squares / some - mean**2, 0.0)), np.nan)
        return mean if name.summary == "mean" else np.where(self._rows > 0, self._sum, np.nan)


class _Extreme(_Tally):
    """The smallest or largest value; ``sign`` 1 for the largest."""

    def __init__(self, rule: ColumnRule, count: int, *, sign: int) -> None:
        super().__init__(rule, count)
        self._sign = sign
        self._most = np.full(count, -np.inf)

    def add(self, cells: Values, places: Places, own: NDArray[np.float64]) -> None:
        there = known(cells, typed=self.typed)
        np.maximum.at(self._most, places[there], self._sign * cells[there])

    def result(self, name: FeatureName, keyed: NDArray[np.bool_]) -> Values:
        return np.where(np.isfinite(self._most), self._sign * self._most, np.nan)


def _shared(name: FeatureName) -> tuple[str, int | None, str]:
    """Return what features have in common that are read off one tally."""
    kinds = {"latest": "newest", "reason": "newest", "min": "smallest", "max": "largest"}
    return name.rule.name, name.days, kinds.get(name.summary, "moments")


def _tally(name: FeatureName, count: int) -> _Tally:
    if name.summary in ("latest", "reason"):
        return _Newest(name.rule, count)
    if name.summary in ("min", "max"):
        return _Extreme(name.rule, count, sign=1 if name.summary == "max" else -1)
    return _Moments(name.rule, count)
