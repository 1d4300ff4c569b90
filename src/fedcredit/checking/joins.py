"""What only two tables together give away: repeated keys, rows without a partner, leakage traps across tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedcredit.checking.findings import FindingBook, Mask, Rows
from fedcredit.checking.rules import MONTH_DAYS
from fedcredit.checking.spill import AT_ONCE, PARTS, Hashes, Spill, hashes_of, is_empty
from fedcredit.contract.canonical import CanonicalTable
from fedcredit.errors import (
    DataError,
    DisposalFeatureError,
    DuplicateKeyError,
    EarlyPrepaymentError,
    FoldError,
    ImmobilisedTelematicsError,
    LateMissingCodeError,
    LaterFeatureError,
    OrphanRowError,
    RestructuredGoodError,
    SeriesGapError,
)

FIRST_HALF_YEAR: Final = 183.0
Chunk = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """What is kept of a table for a join: its key column, further numbers and hashes, and which rows."""

    key: str
    fields: tuple[str, ...]
    hashed: tuple[str, ...] = ()
    rows: Callable[[Chunk], NDArray[np.bool_]] | None = None


_EVENTS: Final = (2.0, 3.0, 4.0)
"""Positions of reinstall, immobilise and remove among the values of tel_daily.device_event."""
_DEVELOPMENT: Final = (0.0, 1.0)
"""Positions of dev and oos among the values of observation.split."""
_PD_TARGETS: Final = (0.0, 1.0)
"""Positions of pd12_app and pd12_beh among the values of outcome.target."""
_KEPT: Final[Mapping[str, _Kept]] = {
    "contract": _Kept(key="contract_id", fields=("decision_date",), hashed=("vin_tok", "entity_tok")),
    "observation": _Kept(
        key="contract_id", fields=("obs_date", "split", "weight", "tel_until"), hashed=("entity_tok",)
    ),
    "outcome": _Kept(
        key="contract_id",
        fields=("obs_date", "target", "y", "window_m", "event_date", "prepaid_date", "repo_date"),
    ),
    "rep_monthly": _Kept(key="contract_id", fields=("month",), rows=lambda c: c["restructured"] == 1),
    "veh": _Kept(key="vin_tok", fields=("asof_date", "appraised_at")),
    "tel_daily": _Kept(key="vin_tok", fields=("day",), rows=lambda c: np.isin(c["device_event"], _EVENTS)),
    "entity": _Kept(key="entity_tok", fields=("withdrawn_at",), rows=lambda c: c["withdrawn"] == 1),
}


class Joins:
    """Keys and facts of all tables, spilled to disk, and the checks across them."""

    def __init__(self, folder: Path, book: FindingBook) -> None:
        self._folder, self._book = folder, book
        self._keys: dict[str, Spill] = {}
        self._references: dict[tuple[str, str], Spill] = {}
        self._facts: dict[str, Spill] = {}
        self._series: dict[str, Spill] = {}
        self._tables: dict[str, tuple[CanonicalTable, str]] = {}

    def add(self, table: CanonicalTable, place: str, chunk: Chunk, rows: Rows) -> Hashes:
        """Keep what a chunk contributes, under the numbers of its ``rows``, and return the hash of each row's key."""
        self._tables[table.name] = (table, place)
        keys, whole = keys_of(table, chunk)
        self._spill(self._keys, table.name, ()).add(keys[whole], rows[whole], {})
        for column, target in table.references.items():
            if column in chunk:
                self._add_reference(table.name, column, target, chunk[column], rows)
        self._add_facts(table.name, chunk, rows)
        if table.key[-1] == "month":
            month = np.floor(chunk["month"] / MONTH_DAYS + 0.5)
            spill = self._spill(self._series, table.name, ("month",), "series-")
            spill.add(hashes_of([chunk[table.key[0]]]), rows, {"month": month})
        return keys

    def forget(self, name: str) -> None:
        """Leave a table out of all comparisons: it could not be read whole, so what is missing in it says nothing."""
        for kept in (self._keys, self._facts, self._series):
            kept.pop(name, None)
        for place in [place for place in self._references if place[0] == name]:
            del self._references[place]

    def _add_reference(self, name: str, column: str, target: str, cells: NDArray[Any], rows: Rows) -> None:
        real = ~is_empty(cells)
        found, first, counts = np.unique(hashes_of([cells[real]]), return_index=True, return_counts=True)
        spill = self._references.get((name, column))
        if spill is None:
            spill = self._references[name, column] = Spill(self._folder, f"ref-{name}-{column}", ("count",))
        spill.add(found, rows[real][first], {"count": counts.astype(np.float64)})

    def _add_facts(self, name: str, chunk: Chunk, rows: Rows) -> None:
        kept = _KEPT.get(name)
        if kept is None or kept.key not in chunk:
            return
        spill = self._spill(self._facts, name, (*kept.fields, *(f"{column}#" for column in kept.hashed)), "facts-")
        values = {field: chunk.get(field, np.full(len(rows), np.nan)) for field in kept.fields}
        for column in kept.hashed:
            cells = chunk.get(column, np.full(len(rows), None, dtype=object))
            values[f"{column}#"] = np.where(is_empty(cells), np.uint64(0), hashes_of([cells]))
        keys = hashes_of([chunk[kept.key]])
        if kept.rows is not None:
            chosen = kept.rows(_with_defaults(chunk, ("restructured", "device_event", "withdrawn"), len(rows)))
            keys, rows = keys[chosen], rows[chosen]
            values = {field: column[chosen] for field, column in values.items()}
        spill.add(keys, rows, values)

    def _spill(self, spills: dict[str, Spill], name: str, fields: Iterable[str], prefix: str = "key-") -> Spill:
        if name not in spills:
            spills[name] = Spill(self._folder, f"{prefix}{name}", fields)
        return spills[name]

    def check(self) -> None:
        """Compare everything that was kept; findings go into the book."""
        by_vehicle = Spill(self._folder, "by-vehicle", ("decided", "tel_until", "repossessed"))
        by_entity = Spill(self._folder, "by-entity", ("defaulted", "split"))
        for part in self._steps():
            self._check_keys(part)
            self._check_series(part)
            self._check_contracts(part, by_vehicle, by_entity)
        for part in self._steps():
            self._check_vehicles(part, by_vehicle.part(part))
            self._check_entities(part, by_entity.part(part))

    def _steps(self) -> Iterable[range]:
        if sum(spill.rows for spill in (*self._keys.values(), *self._facts.values())) <= AT_ONCE:
            return [range(PARTS)]
        return [range(part, part + 1) for part in range(PARTS)]

    def _check_keys(self, part: range) -> None:
        held = {name: spill.part(part) for name, spill in self._keys.items()}
        for name, rows in held.items():
            again = rows.sort_values("row")[lambda frame: frame["key"].duplicated()]
            key = " + ".join(self._tables[name][0].key)
            self._add(DuplicateKeyError, name, "", again["row"], key=key)
        for (name, column), spill in self._references.items():
            target = self._tables[name][0].references[column]
            if target not in held or len(self._tables[target][0].key) != 1:
                continue
            alone = spill.part(part)[lambda frame, target=target: ~frame["key"].isin(held[target]["key"])]
            if len(alone):
                count = int(alone["count"].sum())
                first = int(alone["row"].min())
                where = {"table": name, "column": column, "path": self._tables[name][1]}
                self._book.add(OrphanRowError, count=count, row=first, other=target, **where)

    def _check_series(self, part: range) -> None:
        for name, spill in self._series.items():
            grouped = (
                spill.part(part)
                .groupby("key")
                .agg(low=("month", "min"), high=("month", "max"), months=("month", "nunique"), row=("row", "min"))
            )
            gaps = grouped[grouped["high"] - grouped["low"] + 1 > grouped["months"]]
            self._add(SeriesGapError, name, "month", gaps["row"])

    def _facts_of(self, name: str, part: range) -> pd.DataFrame | None:
        spill = self._facts.get(name)
        return spill.part(part) if spill is not None else None

    def _check_contracts(self, part: range, by_vehicle: Spill, by_entity: Spill) -> None:
        contract, seen = self._facts_of("contract", part), self._facts_of("observation", part)
        outcome, series = self._facts_of("outcome", part), self._facts_of("rep_monthly", part)
        if outcome is not None:
            goods = outcome[outcome["target"].isin(_PD_TARGETS) & (outcome["y"] == 0)]
            if series is not None:
                self._restructured(goods, series)
            if seen is not None:
                self._prepaid(goods, seen)
                self._without_observation(outcome, seen)
        if seen is not None:
            chosen = seen[seen["split"].isin(_DEVELOPMENT)]
            _send(by_entity, chosen, "entity_tok#", split=chosen["split"])
        if contract is not None:
            self._send_on(contract, seen, outcome, by_vehicle, by_entity)

    def _restructured(self, goods: pd.DataFrame, series: pd.DataFrame) -> None:
        both = goods.merge(series[["key", "month"]], on="key")
        ends = both["obs_date"] + both["window_m"] * MONTH_DAYS
        inside = both[(both["month"] > both["obs_date"] - 31) & (both["month"] <= ends)]
        self._add(RestructuredGoodError, "outcome", "y", inside["row"].drop_duplicates())

    def _prepaid(self, goods: pd.DataFrame, seen: pd.DataFrame) -> None:
        early = goods[goods["prepaid_date"] - goods["obs_date"] < FIRST_HALF_YEAR]
        both = early.merge(seen[["key", "obs_date", "weight"]], on=["key", "obs_date"])
        self._add(EarlyPrepaymentError, "outcome", "y", both[both["weight"] >= 1]["row"].drop_duplicates())

    def _without_observation(self, outcome: pd.DataFrame, seen: pd.DataFrame) -> None:
        both = outcome.merge(
            seen[["key", "obs_date"]].drop_duplicates(), on=["key", "obs_date"], how="left", indicator=True
        )
        self._add(
            OrphanRowError, "outcome", "obs_date", both[both["_merge"] == "left_only"]["row"], other="observation"
        )

    def _send_on(
        self,
        contract: pd.DataFrame,
        seen: pd.DataFrame | None,
        outcome: pd.DataFrame | None,
        by_vehicle: Spill,
        by_entity: Spill,
    ) -> None:
        held = contract[contract["vin_tok#"] != 0]
        _send(by_vehicle, held, "vin_tok#", decided=held["decision_date"])
        if seen is not None:
            both = seen[["key", "row", "tel_until"]].merge(held[["key", "vin_tok#"]], on="key")
            _send(by_vehicle, both, "vin_tok#", tel_until=both["tel_until"])
        if outcome is not None:
            both = outcome.merge(contract[["key", "vin_tok#", "entity_tok#"]], on="key")
            taken = both[both["repo_date"].notna() & (both["vin_tok#"] != 0)]
            _send(by_vehicle, taken, "vin_tok#", repossessed=taken["repo_date"])
            bad = both[(both["y"] > 0) & both["target"].isin(_PD_TARGETS) & both["event_date"].notna()]
            _send(by_entity, bad, "entity_tok#", defaulted=bad["event_date"])

    def _check_vehicles(self, part: range, sent: pd.DataFrame) -> None:
        grouped = sent.groupby("key", as_index=False).agg(
            decided=("decided", "max"), first=("decided", "min"), taken=("repossessed", "min")
        )
        veh, boxes = self._facts_of("veh", part), self._facts_of("tel_daily", part)
        if veh is not None:
            both = veh.merge(grouped, on="key")
            self._add(LaterFeatureError, "veh", "asof_date", both[both["asof_date"] > both["decided"]]["row"])
            sold = both[both["appraised_at"] >= both["taken"]]
            self._add(DisposalFeatureError, "veh", "appraised_at", sold["row"])
        ends = grouped[["key", "taken"]].rename(columns={"taken": "ends"}).dropna()
        if boxes is not None:
            both = boxes.merge(grouped[["key", "first"]], on="key")
            events = both[both["day"] > both["first"]][["key", "day"]].rename(columns={"day": "ends"})
            ends = pd.concat([ends, events]).groupby("key", as_index=False)["ends"].min()
        seen = sent[sent["tel_until"].notna()].merge(ends, on="key")
        late = seen[seen["tel_until"] >= seen["ends"]]
        self._add(ImmobilisedTelematicsError, "observation", "tel_until", late["row"].drop_duplicates())

    def _check_entities(self, part: range, sent: pd.DataFrame) -> None:
        splits = sent[sent["split"].notna()]
        several = splits.groupby("key")["split"].transform("nunique") > 1
        self._add(FoldError, "observation", "split", splits[several]["row"])
        entity = self._facts_of("entity", part)
        if entity is None:
            return
        both = entity.merge(sent.groupby("key", as_index=False)["defaulted"].min(), on="key")
        late = both[both["withdrawn_at"] > both["defaulted"]]
        self._add(LateMissingCodeError, "entity", "withdrawn_at", late["row"])

    def _add(self, kind: type[DataError], table: str, column: str, rows: pd.Series, **fields: Any) -> None:
        if len(rows):
            where = {"table": table, "column": column, "path": self._tables[table][1]}
            self._book.add(kind, count=len(rows), row=int(rows.min()), **where, **fields)


def keys_of(table: CanonicalTable, chunk: Chunk) -> tuple[Hashes, Mask]:
    """Return the hash of each row's key, and which rows have a whole one."""
    whole = ~np.logical_or.reduce([is_empty(chunk[name]) for name in table.key])
    return hashes_of(chunk[name] for name in table.key), whole


def _send(spill: Spill, frame: pd.DataFrame, key: str, **values: pd.Series) -> None:
    columns = {
        name: values[name].to_numpy() if name in values else np.full(len(frame), np.nan) for name in spill.fields
    }
    spill.add(frame[key].to_numpy().astype(np.uint64), frame["row"].to_numpy(), columns)


def _with_defaults(chunk: Chunk, names: Iterable[str], rows: int) -> Chunk:
    return {**{name: np.full(rows, np.nan) for name in names if name not in chunk}, **chunk}
