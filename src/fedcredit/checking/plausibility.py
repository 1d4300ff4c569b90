"""Is it likely? Units by the median, swapped columns, constants, mostly missing, few rows, survivors only."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np

from fedcredit.checking.findings import FindingBook
from fedcredit.checking.profile import ColumnProfile, TableProfile, present
from fedcredit.checking.rules import day
from fedcredit.contract.canonical import ColumnRule
from fedcredit.contract.canonical.manifest import FolderFacts
from fedcredit.contract.canonical.table import NOT_APPLICABLE
from fedcredit.contract.canonical.units import likely_unit
from fedcredit.errors import (
    ClippedValueError,
    ConstantColumnError,
    FewRowsError,
    NoRowsError,
    SparseColumnError,
    SurvivorshipError,
    SwappedColumnsError,
    UnitError,
    ValueRangeError,
)

LEAST_ROWS: Final = 30
CLIPPED_SHARE: Final = 0.01
"""Up to this share of rows outside the range are single errors that clipping cures; more is a wrong column."""
_SPARSE: Final = 0.5
_ENOUGH: Final = 20
_HOME_CURRENCY: Final = "CNY"
_ENDED: Final = {"pol": "end"}
"""Tables of which an extract must hold ended rows, with the column that says when."""
_STATUS_ACTIVE: Final = 0.0
_MATURE_DAYS: Final = 2 * 365.0


def judge(profile: TableProfile, facts: FolderFacts, book: FindingBook) -> None:
    """Add what a whole table makes unlikely; explained findings about single cells give way to it."""
    name, place = profile.table.name, profile.place
    if not profile.rows:
        book.add(NoRowsError, table=name, column="", count=1, row=None, place=place)
        return
    if profile.rows < LEAST_ROWS:
        where = {"table": name, "column": "", "path": place}
        book.add(FewRowsError, count=profile.rows, row=None, least=LEAST_ROWS, **where)
    _units(profile, facts, book)
    _swapped(profile, book)
    for column, counted in profile.columns.items():
        _range(profile, column, book)
        _constant(profile, column, counted, book)
        _sparse(profile, column, counted, book)
    _survivors(profile, facts, book)


def _units(profile: TableProfile, facts: FolderFacts, book: FindingBook) -> None:
    for name, counted in profile.columns.items():
        rule, found = counted.rule, profile.median(name)
        foreign = "CNY" in rule.unit and facts.currency != _HOME_CURRENCY
        if rule.expect is None or found is None or counted.constant_source or foreign:
            continue
        median, rows = found
        low, high = rule.expect
        if rows < _ENOUGH or low <= median <= high:
            continue
        likely = likely_unit(median, unit=rule.unit, low=low, high=high)
        if likely is None:
            continue
        where = {"table": profile.table.name, "column": name, "path": profile.place}
        figures = {"median": f"{median:,.3g}", "low": f"{low:,.6g}", "high": f"{high:,.6g}", "unit": rule.unit}
        book.add(UnitError, count=profile.rows, row=None, likely=likely, name=name, **figures, **where)
        book.drop(ValueRangeError, table=profile.table.name, column=name)


def _swapped(profile: TableProfile, book: FindingBook) -> None:
    """Two columns are swapped if most cells of each are outside its own range and inside that of the other."""
    table = profile.table.name
    suspects = [
        name
        for name, counted in profile.columns.items()
        if counted.rule.numeric and (book.has(ValueRangeError, table, name) or book.has(UnitError, table, name))
    ]
    for one, other in combinations(suspects, 2):
        first, second = profile.columns[one].rule, profile.columns[other].rule
        if _lies_in(profile, one, second) and _lies_in(profile, other, first):
            rows = book.count(ValueRangeError, table, one) or profile.rows
            spoken = profile.columns[other].spoken
            where = {"table": table, "column": one, "path": profile.place}
            book.add(SwappedColumnsError, count=rows, row=1, other=spoken, **where)
            for column in (one, other):
                book.drop(ValueRangeError, UnitError, table=table, column=column)


def _lies_in(profile: TableProfile, name: str, rule: ColumnRule) -> bool:
    values = present(profile.sample()[name], profile.columns[name].rule)
    own_low, own_high = profile.columns[name].rule.expect or profile.columns[name].rule.bounds
    low, high = rule.expect or rule.bounds
    inside = (values >= low) & (values <= high)
    outside = (values < own_low) | (values > own_high)
    return bool(len(values)) and float(np.mean(inside)) > _SPARSE and float(np.mean(outside)) > _SPARSE


def _range(profile: TableProfile, column: str, book: FindingBook) -> None:
    table = profile.table.name
    rule = profile.columns[column].rule
    count = book.count(ValueRangeError, table, column)
    if count and rule.type in ("integer", "number") and count <= CLIPPED_SHARE * profile.rows:
        book.replace(ValueRangeError, ClippedValueError, table=table, column=column)


def _constant(profile: TableProfile, column: str, counted: ColumnProfile, book: FindingBook) -> None:
    known = profile.rows - counted.missing
    keyed = column in profile.table.key or counted.rule.type in ("date", "month", "timestamp", "token", "id")
    if counted.constant_source or keyed or profile.rows < LEAST_ROWS or not known:
        return
    if counted.constant and known == profile.rows and counted.rule.heads:
        where = {"table": profile.table.name, "column": column, "path": profile.place}
        book.add(ConstantColumnError, count=profile.rows, row=None, **where)


def _sparse(profile: TableProfile, column: str, counted: ColumnProfile, book: FindingBook) -> None:
    lacking = counted.missing - counted.typed[NOT_APPLICABLE]  # what does not apply is not lacking
    share = lacking / profile.rows
    if counted.rule.minimum and counted.rule.missing != "required" and share > _SPARSE and not counted.constant_source:
        where = {"table": profile.table.name, "column": column, "path": profile.place}
        if not book.failed(profile.table.name, column):
            book.add(SparseColumnError, count=lacking, row=None, share=f"{share:.0%}", **where)


def _survivors(profile: TableProfile, facts: FolderFacts, book: FindingBook) -> None:
    if profile.rows < LEAST_ROWS:
        return
    snapshot = day(facts.snapshot_date)
    sample = profile.sample()
    name = profile.table.name
    survivors = False
    if name in _ENDED and _ENDED[name] in sample:
        ends = sample[_ENDED[name]]
        survivors = bool(np.isfinite(ends).any()) and float(np.nanmin(ends)) >= snapshot
    elif name == "contract" and {"status", "orig_date"} <= set(sample):
        old = sample["orig_date"] < snapshot - _MATURE_DAYS
        known = old & (sample["status"] >= 0)
        survivors = int(known.sum()) >= LEAST_ROWS and bool((sample["status"][known] == _STATUS_ACTIVE).all())
    if survivors:
        book.add(SurvivorshipError, table=name, column="", count=profile.rows, row=None, path=profile.place)
