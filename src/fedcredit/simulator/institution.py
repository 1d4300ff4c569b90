"""Everything that one institution writes down in one block, table by table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from fedcredit.simulator.columns import NO_DATE, Coded, Columns
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.economy import Economy
from fedcredit.simulator.graph import insurer_edges, lender_edges
from fedcredit.simulator.labels import (
    claim_outcomes,
    later_days,
    observations,
    observe,
    outcomes,
    policy_observations,
    price_outcome,
)
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import ENTERPRISE, People
from fedcredit.simulator.records import Portfolio, Records
from fedcredit.simulator.seeds import child
from fedcredit.simulator.sightings import Sightings, of_portfolio, of_records, together
from fedcredit.simulator.telematics import drivers_of, tel_daily
from fedcredit.simulator.telematics_series import BINS, NEVER, five_minutes
from fedcredit.simulator.view_contracts import contract_table, entity_table, policy_contracts
from fedcredit.simulator.view_insurance import clm, draw_claims, insurer_policies, policy_copies
from fedcredit.simulator.view_operations import businesses_of, ent_monthly, eqp, eqp_series
from fedcredit.simulator.view_repayment import rep_monthly
from fedcredit.simulator.view_vehicles import con, pictures, rv_weekly, value_at, veh

PICTURES = "con_img"
"""A folder beside the canonical tables: small pictures of some vehicles."""
_HORIZONS = (1, 13, 26, 52)
_SOLD = 0.3
_PRICE_NOISE = 0.08
_TEL, _CON, _EQP, _ENT, _CLM, _VEH = range(6)
_BIN_S = 300
_DAY_S = 86_400


class Desk:
    """Writes one institution's tables of one block; ``numbers`` and ``economy`` are those of the world."""

    def __init__(
        self, seed: int, block: int, numbers: Section, economy: Economy, *, institution: str, kind: str
    ) -> None:
        self._seed, self._block, self._numbers, self._economy = seed, block, numbers, economy
        self._institution, self._kind = institution, kind
        self._coverage = numbers.coverage[kind]

    def _rng(self, table: str) -> np.random.Generator:
        return child(self._seed, "desk", self._block, self._institution, table)

    def tables(self, records: Records | None, portfolio: Portfolio | None) -> Iterator[tuple[str, Columns]]:
        """Yield (table, rows); a table may come in several parts."""
        people, days, seen = [], [], []
        if records is not None:
            observed = observe(self._rng("observe"), self._numbers, records)
            yield from self._lending(records)
            yield "observation", observations(self._numbers, records, observed)
            for part in outcomes(self._rng("outcome"), self._numbers, records, observed, flip=self._flip()):
                yield "outcome", part
            later = later_days(records, observed)
            seen.append(of_records(self._rng("luck"), self._numbers, records, later))
            people.append(records.book.people)
            days.append(records.decision)
        if portfolio is not None:
            yield from self._insuring(portfolio)
            seen.append(of_portfolio(self._rng("luck-policies"), portfolio))
            people.append(portfolio.people)
            days.append(portfolio.start - 1)
        yield "entity", self._entities(People.stack(people), np.concatenate(days))
        yield from self._vehicles(together(seen))

    def _flip(self) -> float:
        poisoning = self._numbers.poisoning
        return float(poisoning.flip_share) if poisoning.member == self._institution else 0.0

    def _entities(self, people: People, day: np.ndarray) -> Columns:
        _, first, place = np.unique(people.token, return_index=True, return_inverse=True)
        earliest = np.full(first.size, np.iinfo(np.int64).max)
        np.minimum.at(earliest, place, day)
        order = np.argsort(first)
        return entity_table(self._rng("entity"), self._numbers, people.take(first[order]), earliest[order])

    def _lending(self, records: Records) -> Iterator[tuple[str, Columns]]:
        yield "contract", contract_table(self._rng("contract"), self._numbers, records)
        if self._coverage.rep:
            yield "rep_monthly", rep_monthly(self._rng("rep"), self._numbers, records)
        yield "edge", lender_edges(self._rng("edge"), records)
        if self._kind in ("lessor", "auto_finance"):
            yield from self._sales(records)

    def _sales(self, records: Records) -> Iterator[tuple[str, Columns]]:
        rng, accepted = self._rng("sales"), np.flatnonzero(records.book.terms.accepted)
        sold = accepted[rng.random(accepted.size) < _SOLD]
        which = rng.integers(0, len(_HORIZONS), sold.size)
        for place, weeks in enumerate(_HORIZONS):
            rows = sold[which == place]
            some = records.take(rows)
            seen = of_records(rng, self._numbers, some, np.full(rows.size, NO_DATE))
            true = value_at(self._numbers, self._economy, seen, seen.day + 7 * weeks)
            noise = np.exp(_PRICE_NOISE * rng.standard_normal(true.size))
            yield "outcome", price_outcome(records, rows, weeks, np.round(true * noise, 0))

    def _insuring(self, portfolio: Portfolio) -> Iterator[tuple[str, Columns]]:
        claims = draw_claims(self._rng("claims"), self._numbers, portfolio)
        policies = insurer_policies(self._rng("pol"), self._numbers, portfolio)
        yield "contract", policy_contracts(self._rng("policies"), self._numbers, portfolio)
        yield "pol", policies
        yield "clm", clm(self._rng("clm"), self._numbers, portfolio, policies=policies, claims=claims)
        yield "edge", insurer_edges(self._rng("edge-claims"), portfolio, claims)
        yield "observation", policy_observations(self._numbers, portfolio)
        for part in claim_outcomes(self._numbers, portfolio, claims):
            yield "outcome", part

    def _vehicles(self, seen: Sightings) -> Iterator[tuple[str, Columns]]:
        everything, seen = seen, seen.take(seen.luck[:, _VEH] < self._coverage.veh)
        yield "veh", veh(self._rng("veh"), self._numbers, seen)
        if self._kind != "insurer":
            yield "rv_weekly", rv_weekly(self._rng("rv"), self._numbers, self._economy, seen.take(seen.live))
        for part in tel_daily(self._seed, self._numbers, seen.take(seen.covered(_TEL, self._coverage.tel))):
            yield "tel_daily", part
        yield from self._series(seen.take(seen.covered(_TEL, self._coverage.tel)))
        captured = seen.take(seen.covered(_CON, self._coverage.con))
        captures = con(self._rng("con"), self._numbers, captured, self._institution)
        yield "con", captures
        yield from self._pictures(captured, captures)
        yield from self._operations(everything)
        if self._kind != "insurer" and self._coverage.clm:
            insured = seen.take(seen.covered(_CLM, self._coverage.clm))
            yield "pol", policy_copies(self._rng("copies"), self._numbers, insured)

    def _pictures(self, captured: Sightings, captures: Columns) -> Iterator[tuple[str, Columns]]:
        some = np.arange(min(len(captured), int(self._numbers.condition.images)))
        images = np.empty(some.size, dtype=object)
        images[:] = [image.tobytes() for image in pictures(self._rng("pictures"), captured.take(some))]
        source = captures["source"]
        yield (
            PICTURES,
            {
                "vin_tok": captured.vehicles.token[some],
                "capture_date": np.asarray(captures["capture_date"])[some],
                "source": source.take(some) if isinstance(source, Coded) else source[some],
                "pixels": images,
            },
        )

    def _operations(self, seen: Sightings) -> Iterator[tuple[str, Columns]]:
        if self._coverage.ent:
            businesses = businesses_of(self._numbers, seen, seen.covered(_ENT, self._coverage.ent))
            yield "ent_monthly", ent_monthly(self._rng("ent"), self._numbers, businesses)
        if self._coverage.eqp:
            enterprises = seen.people.kind == ENTERPRISE
            owners = businesses_of(self._numbers, seen, seen.covered(_EQP, self._coverage.eqp) & enterprises)
            kilns = self._kind == "guarantee_fund"
            equipment = eqp(self._rng("eqp"), self._numbers, owners, kilns=kilns)
            yield "eqp", equipment
            yield "eqp_series", eqp_series(self._rng("eqp-series"), self._numbers, equipment)

    def _series(self, seen: Sightings) -> Iterator[tuple[str, Columns]]:
        t = self._numbers.telematics
        some = seen.take(np.arange(min(len(seen), int(t.series_vehicles))))
        if not len(some):
            return
        days = int(t.series_days)
        drivers, first = drivers_of(self._seed, self._numbers, some), some.day - days
        nobody = np.full(len(some), NEVER)
        series = five_minutes(self._seed, self._numbers, drivers, first=first, days=days, abscond=nobody)
        stamp = first[:, None] * _DAY_S + np.arange(days * BINS) * _BIN_S
        columns: Columns = {name: values.ravel() for name, values in series.channels.items()}
        columns["vin_tok"] = Coded(codes=np.repeat(np.arange(len(some)), days * BINS), words=some.vehicles.token)
        columns["ts"] = stamp.ravel() - 8 * 3_600  # readings are by the clock of UTC+8
        yield "tel_5min", columns


def snapshot(numbers: Section) -> int:
    """Return the day on which every institution's tables were taken."""
    return int(Calendar.of(numbers).end(numbers.calendar.snapshot_month - 1))
