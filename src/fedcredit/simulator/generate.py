"""A whole simulated consortium on disk: one canonical data set per institution, and the oracle apart."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

import numpy as np
import tomlkit

from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.label_map import LABEL_MAP_FILE
from fedcredit.contract.canonical.manifest import MANIFEST_FILE, FileEntry, Manifest, digest_of
from fedcredit.errors import AlreadyExistsError
from fedcredit.simulator import oracle
from fedcredit.simulator.block import FUNDS, draw_block, draw_books, draw_pool
from fedcredit.simulator.columns import Columns
from fedcredit.simulator.dates import Calendar, iso
from fedcredit.simulator.economy import Economy, draw_economy
from fedcredit.simulator.institution import PICTURES, Desk, snapshot
from fedcredit.simulator.parameters import Section, World, load_world
from fedcredit.simulator.records import Block
from fedcredit.simulator.repayment import calibrate
from fedcredit.simulator.seeds import child
from fedcredit.simulator.writing import TableFile, canonical_schema, plain_schema
from fedcredit.store.files import make_directory, write_atomic

VERSION: Final = 1
"""Of the canonical data set that is written."""
SIMULATION_FILE: Final = "simulation.toml"
INSTITUTIONS: Final = "institutions"
ORACLE: Final = "oracle"
_FEWEST: Final = 40
"""Accepted contracts of the smallest member."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be drawn."""

    seed: int
    world: World
    economy: Economy
    intercepts: Mapping[str, float]
    accepted: tuple[Mapping[str, int], ...]
    """Per block: member -> accepted contracts."""
    policies: tuple[Mapping[str, int], ...]

    def block(self, number: int) -> Block:
        """Return one block; blocks do not depend on each other."""
        return draw_block(
            self.seed,
            number,
            self.world.numbers,
            self.economy,
            accepted=self.accepted[number],
            policies=self.policies[number],
            intercepts=self.intercepts,
        )


def plan(scenario: str, scale: str, seed: int) -> Plan:
    """Return the plan of a scenario pack's world; any other name raises ``UnknownScenarioError``."""
    return plan_of(load_world(scenario), scale, seed)


def plan_of(world: World, scale: str, seed: int) -> Plan:
    """Return the plan of a world: sizes, economy, and intercepts calibrated in the economy without the scenario."""
    numbers = world.numbers
    total = float(numbers.scale[scale])
    factor = total / float(numbers.scale.paper)
    accepted = {name: max(_FEWEST, round(factor * numbers.members[name].accepted)) for name in numbers.members}
    policies = {name: max(_FEWEST, round(factor * numbers.insurers[name].policies)) for name in numbers.insurers}
    blocks = max(1, round(total / float(numbers.scale.block)))
    return Plan(
        seed=seed,
        world=world,
        economy=draw_economy(seed, numbers),
        intercepts=_intercepts(seed, world),
        accepted=_shared(accepted, blocks),
        policies=_shared(policies, blocks),
    )


def _shared(sizes: Mapping[str, int], blocks: int) -> tuple[Mapping[str, int], ...]:
    return tuple(
        {name: size // blocks + (number < size % blocks) for name, size in sizes.items()} for number in range(blocks)
    )


def _intercepts(seed: int, world: World) -> Mapping[str, float]:
    """Return each member's intercept, on a population of its own and at a size that no scale changes."""
    numbers, economy = world.numbers, draw_economy(seed, world.base)
    sizes = dict.fromkeys(numbers.members, int(numbers.scale.calibration))
    pool = draw_pool(child(seed, "calibration"), numbers, sizes)
    intercepts = {}
    for member, book in draw_books(seed, ("calibration",), numbers, pool, sizes).items():
        rng = child(seed, "calibration-risk", member)
        intercepts[member] = calibrate(numbers, economy, book, rng, others=_others(numbers, member))
    return intercepts


def _others(numbers: Section, member: str) -> float:
    """Return the defaults per own contract that the chain of own contracts need not make."""
    rules, fraud = numbers.members[member], numbers.fraud
    others = float(fraud.ring_share * fraud.ring_first_payment)
    for place, fund in enumerate(FUNDS):
        if rules.guaranteed[place] and fund in numbers.members:
            copies = rules.guaranteed[place] * numbers.members[fund].accepted / rules.accepted
            others += float(copies * (numbers.members[fund].pd12 - rules.pd12))
    return others


def generate(
    out: Path, *, scenario: str, scale: str, seed: int, tell: Callable[[int, int], None]
) -> Mapping[str, Mapping[str, int]]:
    """Write a world into the new folder ``out`` and return rows by institution and table.

    ``tell(done, blocks)`` is called after each block. The same arguments give the same bytes, with the same versions
    of numpy and pyarrow.

    Raises:
        AlreadyExistsError: ``out`` holds something.
        UnknownScenarioError: no pack has that name.
        DiskFullError, NotWritableError: the disk.
    """
    if out.exists() and any(out.iterdir()):
        raise AlreadyExistsError(path=str(out))
    planned = plan(scenario, scale, seed)
    make_directory(out)
    folders = _Folders(out, planned)
    for number in range(len(planned.accepted)):
        folders.write(planned.block(number))
        tell(number + 1, len(planned.accepted))
    rows = folders.close()
    _write_simulation(out, planned, scale, rows, folders.unripe)
    return rows


class _Folders:
    """The open files of all institutions."""

    def __init__(self, out: Path, planned: Plan) -> None:
        self._out, self._plan = out, planned
        self._set = canonical(VERSION)
        self._files: dict[tuple[str, str], list[TableFile]] = {}
        self._waiting: dict[tuple[str, int], list[Columns]] = {}
        self._ripened: set[tuple[str, int]] = set()

    def write(self, block: Block) -> None:
        numbers = self._plan.world.numbers
        for name in (*numbers.members, *numbers.insurers):
            records, portfolio = block.lenders.get(name), block.insurers.get(name)
            kind = numbers.members[name].type if name in numbers.members else "insurer"
            desk = Desk(self._plan.seed, block.number, numbers, self._plan.economy, institution=name, kind=kind)
            for table, columns in desk.tables(records, portfolio):
                for ready in self._ripe(name, columns) if table == "outcome" else [columns]:
                    if _length(ready):
                        self._file(name, table, block.number, ready).append(ready)
            if records is not None:
                self._file(ORACLE, name, 0, (truth := oracle.of_records(numbers, records))).append(truth)
            if portfolio is not None:
                truth = oracle.of_portfolio(portfolio)
                self._file(ORACLE, f"{name}_policies", 0, truth).append(truth)

    def _ripe(self, owner: str, columns: Columns) -> list[Columns]:
        """Return the outcomes to write now: a target waits until it has two different labels.

        Nothing can be learnt from a target of which an institution has one class only, and a check refuses it.
        """
        if not _length(columns):
            return []
        key = (owner, int(columns["target"].codes[0]))  # type: ignore[union-attr]
        parts = self._waiting.setdefault(key, [])
        parts.append(columns)
        labels = np.concatenate([np.asarray(part["y"]) for part in parts])
        if key not in self._ripened and (labels == labels[0]).all():
            return []
        self._ripened.add(key)
        self._waiting[key] = []
        return parts

    @property
    def unripe(self) -> Mapping[str, list[str]]:
        """Return the targets that were left out, by institution: in so small a world they have one class only."""
        targets, left = self._set.table("outcome").column("target").values, dict[str, list[str]]()
        for owner, target in sorted(self._waiting.keys() - self._ripened):
            left.setdefault(owner, []).append(targets[target])
        return left

    def _file(self, owner: str, table: str, block: int, columns: Columns) -> TableFile:
        files = self._files.setdefault((owner, table), [])
        parted = owner != ORACLE and not self._place(table).endswith(".parquet")
        if len(files) <= (block if parted else 0):
            folder = self._out / ORACLE if owner == ORACLE else self._out / INSTITUTIONS / owner
            path = f"{table}.parquet" if owner == ORACLE else self._place(table)
            path = f"{path}/part-{block:03d}.parquet" if parted else path
            known = owner != ORACLE and table != PICTURES
            schema = canonical_schema(self._set.table(table), columns) if known else plain_schema(columns)
            files.append(TableFile(folder / path, schema))
        return files[-1]

    def _place(self, table: str) -> str:
        return table if table == PICTURES else self._set.table(table).file

    def close(self) -> Mapping[str, Mapping[str, int]]:
        for files in self._files.values():
            for file in files:
                file.close()
        rows: dict[str, dict[str, int]] = {}
        for (owner, table), files in self._files.items():
            rows.setdefault(owner, {})[table] = sum(file.rows for file in files)
        for owner in rows:
            if owner != ORACLE:
                self._describe(owner)
        return rows

    def _describe(self, owner: str) -> None:
        numbers = self._plan.world.numbers
        folder = self._out / INSTITUTIONS / owner
        entries = {}
        for table in self._set.names:
            if files := self._files.get((owner, table)):
                place = self._place(table)
                digest = digest_of(folder / place)
                entries[table] = FileEntry(path=place, rows=sum(file.rows for file in files), sha256=digest)
        kind = numbers.members[owner].type if owner in numbers.members else "insurer"
        Manifest.model_validate(
            {
                "schema_version": VERSION,
                "institution_id": owner.lower(),
                "type": kind,
                "snapshot_date": date.fromisoformat(iso(snapshot(numbers))),
                "oot_date": date.fromisoformat(iso(int(Calendar.of(numbers).start(numbers.calendar.oot_month)))),
                "currency": "CNY",
                "data_owner": "simulated",
                "legal_basis": "synthetic",
                "token_method": "none-synthetic",
                "tables": entries,
            }
        ).write(folder / MANIFEST_FILE)
        write_atomic(folder / LABEL_MAP_FILE, tomlkit.dumps(_label_map(numbers, owner)).encode())


def _length(columns: Columns) -> int:
    return len(next(iter(columns.values())))


def _label_map(numbers: Section, owner: str) -> Mapping[str, object]:
    def rule(days: int, lag: int, known: str) -> Mapping[str, object]:
        return {"dpd_equiv": days, "lag_days": lag, "known_at": known}

    if owner in numbers.insurers:
        rules = numbers.insurers[owner]
        labels = {"claim": rule(0, int(rules.lag_days), "event"), "fraud": rule(0, 90, "month_end")}
        if rules.credit_policies:
            lag = int(rules.credit_lag_days)
            labels |= {"cgi": rule(80, lag, "month_end"), "ew30": rule(30, lag, "month_end")}
            labels |= {"fpd": rule(30, lag, "month_end"), "lgd": rule(80, 0, "event")}
        return {"schema_version": VERSION, "labels": labels}
    rules = numbers.members[owner]
    days, lag = int(rules.dpd_equiv), int(rules.lag_days)
    kind = "comp" if rules.type == "guarantee_fund" else "def90"
    labels = {kind: rule(days, lag, "month_end"), "ew30": rule(30, lag, "month_end"), "fpd": rule(30, lag, "month_end")}
    labels |= {"lgd": rule(days, 0, "event"), "fraud": rule(0, 90, "month_end")}
    if rules.type in ("lessor", "auto_finance"):
        labels["price"] = rule(0, 0, "event")
    return {"schema_version": VERSION, "labels": labels}


def _write_simulation(
    out: Path,
    planned: Plan,
    scale: str,
    rows: Mapping[str, Mapping[str, int]],
    unripe: Mapping[str, list[str]],
) -> None:
    numbers = planned.world.numbers
    content = {
        "statement": "SIMULATED. Every person, vehicle and institution here is made up.",
        "scenario": planned.world.scenario,
        "title": planned.world.title,
        "scale": scale,
        "seed": planned.seed,
        "numpy": np.__version__,
        "accepted": {name: sum(block[name] for block in planned.accepted) for name in numbers.members},
        "policies": {name: sum(block[name] for block in planned.policies) for name in numbers.insurers},
        "intercepts": {name: round(value, 6) for name, value in planned.intercepts.items()},
        "targets_of_one_class_left_out": dict(unripe),
        "rows": {owner: dict(tables) for owner, tables in rows.items()},
    }
    write_atomic(out / SIMULATION_FILE, tomlkit.dumps(content).encode())
