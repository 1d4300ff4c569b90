"""The check itself: every table once, chunk by chunk, then across tables; the result is a report, never an exception
for what the data hold."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from fedcredit.checking.binding import Binding, bind
from fedcredit.checking.canary import FeaturePower, feature_powers, sing
from fedcredit.checking.cells import lacking_cells, longest_cell, read_cells
from fedcredit.checking.chunk_schema import allowed_text, chunk_schema, failures
from fedcredit.checking.findings import Finding, FindingBook, Mask, Rows
from fedcredit.checking.guards import LONGEST_CELL, check_sum
from fedcredit.checking.joins import Joins, keys_of
from fedcredit.checking.personal import look_for_people
from fedcredit.checking.placeholders import placeholders
from fedcredit.checking.plausibility import judge
from fedcredit.checking.prepared import check_record
from fedcredit.checking.profile import TableProfile
from fedcredit.checking.repeats import Repeats
from fedcredit.checking.rules import RULES, day
from fedcredit.checking.sources import TableReader, open_table
from fedcredit.checking.spec import DataSpec, TableSpec
from fedcredit.checking.spill import hashes_of
from fedcredit.checking.token_probe import probe_tokens
from fedcredit.checking.vintages import Vintages
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.folds import folds_of
from fedcredit.contract.canonical.label_map import LabelKind, LabelRule
from fedcredit.contract.canonical.manifest import ALWAYS_HELD
from fedcredit.contract.canonical.table import TIMES
from fedcredit.errors import (
    DataError,
    DataRefusedError,
    EarlyLabelError,
    FutureDateError,
    HugeCellError,
    LabelKindError,
    MissingEntityError,
    MissingTableError,
    MissingValueError,
    OneClassError,
    PersonalValueError,
    PlaceholderDateError,
    RaggedRowError,
    RowCountError,
    UnacceptedWarningError,
    UnknownCodeError,
)

_LINKS: Final[tuple[str, ...]] = ("contract_id", "entity_tok", "vin_tok")
_HELD_TOO: Final = {"REP": "rep_monthly", "VEH": "veh", "ENT": "ent_monthly", "CLM": "pol"}
_MAY_LIE_AHEAD: Final = frozenset({("pol", "end")})
_PLACE: Final = frozenset({"table", "column", "count", "row"})


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What a check found. Stays at the institution."""

    spec: DataSpec
    profiles: dict[str, TableProfile]
    findings: tuple[Finding, ...]
    powers: tuple[FeaturePower, ...]
    vintages: Vintages

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Return what nobody can accept."""
        return tuple(finding for finding in self.findings if not finding.warning)

    def open_warnings(self, accepted: frozenset[str]) -> tuple[Finding, ...]:
        """Return the warnings whose code is not among the ``accepted`` ones."""
        return tuple(item for item in self.findings if item.warning and item.error.code not in accepted)

    def require_accepted(self, accepted: frozenset[str], *, command: str) -> None:
        """Raise unless there is no error and every warning is among the ``accepted`` ones; ``command`` checks again.

        Raises:
            DataRefusedError: there are errors.
            UnacceptedWarningError: nobody has accepted a warning.
        """
        if errors := self.errors:
            tables = ", ".join(dict.fromkeys(item.table for item in errors))
            raise DataRefusedError(errors=len(errors), tables=tables, codes=_codes(errors), command=command)
        if warnings := self.open_warnings(accepted):
            options = " ".join(f"--accept {code}" for code in dict.fromkeys(item.error.code for item in warnings))
            command = f"{command} {options}"
            raise UnacceptedWarningError(warnings=len(warnings), codes=_codes(warnings), command=command)


def _codes(findings: tuple[Finding, ...]) -> str:
    return ", ".join(sorted({item.error.code for item in findings}))


def check_data(spec: DataSpec, *, scratch: Path) -> DataReport:
    """Read every table of ``spec`` once and return what is wrong with it.

    At most a few chunks of a table are in memory. Keys and facts for the comparison of tables are spilled to a folder
    under ``scratch``, mode 0700, deleted at the end.
    """
    book = FindingBook()
    with tempfile.TemporaryDirectory(prefix="fedcredit-check-", dir=scratch) as folder:
        run = _Check(spec, book, Joins(Path(folder), book))
        for table in spec.tables:
            run.read(table)
        run.across()
    order = tuple(table.table.name for table in spec.tables)
    return DataReport(
        spec=spec,
        profiles=run.profiles,
        findings=book.findings(order),
        powers=run.powers,
        vintages=run.vintages,
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One chunk of a table."""

    spec: TableSpec
    batch: pa.RecordBatch
    first: int
    """Which of the rows that were read its first one is, from 1."""
    rows: Rows
    """What findings call its rows."""


_Read: TypeAlias = tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]
"""Columns of a chunk, and the rows of each that have a finding already."""


class _Check:
    def __init__(self, spec: DataSpec, book: FindingBook, joins: Joins) -> None:
        self.spec, self.book, self.joins = spec, book, joins
        self.profiles: dict[str, TableProfile] = {}
        self.vintages = Vintages()
        self.powers: tuple[FeaturePower, ...] = ()

    def read(self, spec: TableSpec) -> None:
        """Read one table; an error that stops the reading is a finding about the table."""
        profile = self.profiles[spec.table.name] = TableProfile(spec.table, spec.place)
        try:
            check_sum(spec)
            self._read(spec, profile)
        except DataError as error:
            row = error.fields.get("row")
            fields = {name: value for name, value in error.fields.items() if name not in _PLACE}
            number = row if isinstance(row, int) else None
            self.book.add(type(error), table=spec.table.name, column="", count=1, row=number, **fields)
            self.joins.forget(spec.table.name)
            return
        if self.book.has(RaggedRowError, spec.table.name, ""):
            self.joins.forget(spec.table.name)
        elif spec.rows is not None and spec.rows != profile.rows:
            figures = {"actual": f"{profile.rows:,}", "expected": f"{spec.rows:,}"}
            where = {"table": spec.table.name, "column": "", "path": spec.place}
            self.book.add(RowCountError, count=1, row=None, **figures, **where)
        judge(profile, self.spec.facts, self.book)

    def _read(self, spec: TableSpec, profile: TableProfile) -> None:
        with closing(open_table(spec, self.book)) as reader:
            bindings = bind(spec, reader.names, self.spec.facts, self.book)
            profile.open(bindings)
            if bindings:
                self._read_rows(spec, profile, reader, bindings)

    def _read_rows(
        self, spec: TableSpec, profile: TableProfile, reader: TableReader, bindings: tuple[Binding, ...]
    ) -> None:
        columns = tuple(dict.fromkeys(binding.source.column for binding in bindings if binding.source.column))
        keyed = {binding.name for binding in bindings} >= set(spec.table.key)
        repeats = Repeats() if keyed and spec.source.repeated == "left_out" else None
        schema = chunk_schema(bindings)
        first = 1
        for batch in reader.batches(columns or reader.names[:1]):  # constants and row numbers alone need the rows too
            if batch.num_rows:
                rows = reader.numbers(first, batch.num_rows)
                part = _Part(spec=spec, batch=batch, first=first, rows=rows)
                chunk = self._with_absent(spec, self._chunk(part, bindings, schema))
                chunk, rows = _kept(spec, chunk, rows, repeats)
                profile.left_out += batch.num_rows - len(rows)
                self._after_cells(spec, profile, chunk, rows, keyed=keyed)
                first += batch.num_rows

    def _chunk(self, part: _Part, bindings: tuple[Binding, ...], schema: Any) -> dict[str, NDArray[Any]]:
        spec, batch, rows = part.spec, part.batch, part.rows
        long = longest_cell(batch)
        if long >= 0:
            raise HugeCellError(path=spec.place, limit=f"{LONGEST_CELL:,}", row=int(rows[long]))
        names = {binding.source.column: binding.name for binding in bindings}
        table = spec.table.name
        look_for_people(batch, table=table, place=spec.place, rows=rows, names=names, book=self.book)
        chunk: dict[str, NDArray[Any]] = {}
        faulty: dict[str, NDArray[np.bool_]] = {}
        for binding in bindings:
            cells = read_cells(batch, binding, spec.source, first_row=part.first)
            for problem in cells.problems:
                self._add(spec, binding, problem.kind, problem.rows, rows, **problem.fields)
            chunk[binding.name], faulty[binding.name] = cells.values, cells.faulty
            if binding.source.derived == "fold" and "entity_tok" in chunk:  # the token stands before it
                chunk[binding.name] = folds_of(chunk["entity_tok"])
        self._cell_rules(spec, bindings, schema, (chunk, faulty), rows)
        for binding in bindings:
            if binding.rule.type in TIMES:
                self._dates(spec, binding, chunk[binding.name], rows)
        return chunk

    def _cell_rules(self, spec: TableSpec, bindings: tuple[Binding, ...], schema: Any, read: _Read, rows: Rows) -> None:
        chunk, faulty = read
        by_name = {binding.name: binding for binding in bindings}
        for column, kind, broken in failures(schema, pd.DataFrame(chunk)):
            broken &= ~faulty[column]
            self._broken_rule(spec, by_name[column], kind, broken, rows)
            if chunk[column].dtype == object:
                chunk[column] = chunk[column].copy()
                chunk[column][broken] = None

    def _broken_rule(self, spec: TableSpec, binding: Binding, kind: type[DataError], broken: Mask, rows: Rows) -> None:
        if self.book.has(PersonalValueError, spec.table.name, binding.name):
            return
        if kind is MissingValueError and binding.name == "entity_tok":
            kind = MissingEntityError
        fields: dict[str, Any] = {"allowed": allowed_text(binding.rule)}
        if kind is UnknownCodeError:
            fields["example"] = binding.rule.pattern
        self._add(spec, binding, kind, broken, rows, **fields)

    def _dates(self, spec: TableSpec, binding: Binding, values: NDArray[Any], rows: Rows) -> None:
        """Find dates that are no days of anything, and make them empty."""
        scale = 86_400.0 if binding.rule.type == "timestamp" else 1.0
        snapshot = day(self.spec.facts.snapshot_date)
        odd = placeholders(values, binding)
        ahead = ~odd & (np.floor(values / scale) > snapshot)
        self._add(spec, binding, PlaceholderDateError, odd, rows)
        if (spec.table.name, binding.name) not in _MAY_LIE_AHEAD:
            shown = self.spec.facts.snapshot_date.isoformat()
            self._add(spec, binding, FutureDateError, ahead, rows, snapshot=shown)
        values[odd] = np.nan

    def _add(
        self, spec: TableSpec, binding: Binding, kind: type[DataError], mask: Mask, rows: Rows, **fields: Any
    ) -> None:
        where = {"table": spec.table.name, "column": binding.name, "path": spec.place}
        self.book.add_rows(kind, mask, rows=rows, **where, **{"name": binding.name, **fields})

    def _after_cells(
        self, spec: TableSpec, profile: TableProfile, chunk: dict[str, NDArray[Any]], rows: Rows, *, keyed: bool
    ) -> None:
        if not len(rows):
            return
        table = spec.table.name
        for rule in RULES:
            if rule.table == table and set(rule.needs) <= profile.columns.keys():
                where = {"table": table, "column": rule.column, "path": spec.place}
                self.book.add_rows(rule.kind, rule.broken(chunk, self.spec.facts), rows=rows, **where, **rule.fields)
        if table == "outcome":
            self._labels(spec, chunk, rows)
        if not profile.rows and "entity_tok" in chunk:
            probe_tokens(spec, chunk, rows, self.book)
        keys = self.joins.add(spec.table, spec.place, chunk, rows) if keyed else rows.astype(np.uint64)
        links = {name: hashes_of([chunk[name]]) for name in _LINKS if name in chunk}
        own = hashes_of([chunk[spec.table.key[0]]]) if keyed else keys
        profile.add(own, chunk, links)

    def _with_absent(self, spec: TableSpec, chunk: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Add the columns of the minimum set that the institution says it lacks: not collected, and counted as such."""
        lacking, rows = {}, len(next(iter(chunk.values())))
        for name in spec.source.absent:
            rule = spec.table.column(name)
            if rule.missing == "typed_missing":
                lacking[name] = lacking_cells(rule, rows)
        return {**chunk, **{name: cells for name, cells in lacking.items() if name not in chunk}}

    def _labels(self, spec: TableSpec, chunk: dict[str, NDArray[Any]], rows: Rows) -> None:
        if not {"kind", "target", "y", "obs_date"} <= set(chunk):
            return
        kinds = spec.table.column("kind").values
        known = self.spec.label_map.labels if self.spec.label_map else {}
        unknown = [position for position, name in enumerate(kinds) if name not in known]
        where = {"table": "outcome", "column": "kind", "path": spec.place}
        unmapped = np.isin(chunk["kind"], unknown)
        self.book.add_rows(LabelKindError, unmapped, rows=rows, map=self.spec.label_map_place, **where)
        if {"event_date", "known_at"} <= set(chunk):
            early = _early(chunk, kinds, known)
            self.book.add_rows(
                EarlyLabelError, early, rows=rows, map=self.spec.label_map_place, **where | {"column": "known_at"}
            )
        self.vintages.add(chunk, spec.table.column("target").values)

    def across(self) -> None:
        """Compare the tables with each other."""
        self.joins.check()
        self._absent_tables()
        for target, (rows, bads) in self.vintages.totals().items():
            if rows and bads in (0, rows):
                place = f"{self.profiles['outcome'].place} ({target})"
                where = {"table": "outcome", "column": "y"}
                self.book.add(OneClassError, count=rows, row=None, rows=f"{rows:,}", place=place, **where)
        self.powers = feature_powers(self.profiles, self.spec.facts)
        sing(self.powers, self.profiles, self.book)
        if self.spec.features is not None:
            check_record(self.spec.features, self.spec.features_place, self.spec.facts, self.book)

    def _absent_tables(self) -> None:
        there = {table.table.name for table in self.spec.tables}
        kind = self.spec.facts.type
        rules = canonical(self.spec.facts.schema_version)
        held = [table for code, table in _HELD_TOO.items() if rules.modality(code).held_by[kind] == "full"]
        referred = [target for one in self.spec.tables for target in one.table.references.values()]
        for table in dict.fromkeys((*ALWAYS_HELD, *held, *referred)):
            if table not in there and table not in self.spec.facts.lacking:
                self.book.add(MissingTableError, table=table, column="", count=1, row=None, kind=str(kind))


def _kept(
    spec: TableSpec, chunk: dict[str, NDArray[Any]], rows: Rows, repeats: Repeats | None
) -> tuple[dict[str, NDArray[Any]], Rows]:
    """Return the rows of a chunk that count: all, or the first of each key. A row without a key has its own finding."""
    if repeats is None:
        return chunk, rows
    keys, whole = keys_of(spec.table, chunk)
    kept = ~whole
    kept[whole] = repeats.first(keys[whole])
    return {name: cells[kept] for name, cells in chunk.items()}, rows[kept]


def _early(chunk: dict[str, NDArray[Any]], kinds: tuple[str, ...], known: Mapping[LabelKind, LabelRule]) -> Mask:
    """Return the labels that are known before the label map says that they can be.

    What is known before its event contradicts it, and is told as that.
    """
    early = np.zeros(len(chunk["kind"]), dtype=np.bool_)
    for name, rule in known.items():
        early |= (chunk["kind"] == kinds.index(name)) & (chunk["known_at"] < rule.first_known(chunk["event_date"]))
    return early & (chunk["known_at"] >= chunk["event_date"])
