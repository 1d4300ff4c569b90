"""What a simulated world did, counted block by block, so that a world of any size fits into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.block import FUNDS
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.generate import Plan
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import DISHONESTY, ENTERPRISE, TRADER
from fedcredit.simulator.records import Block, Portfolio, Records
from fedcredit.simulator.repayment import DEFAULT, LATE_1, LATE_2, LATE_3, MATURED, PREPAID, YEAR
from fedcredit.simulator.sightings import of_records, plugged_until
from fedcredit.simulator.telematics import drivers_of
from fedcredit.simulator.vehicles import FUELS

APPLICATION = (
    *("bureau", "no_hit", "utilisation", "enquiries", "lateness", "tenure", "age", "income", "pti", "ltv", "term"),
    *("trader", "enterprise", "commercial", "used", "nev"),
)
TELEMATICS = ("brake", "accelerate", "night", "speed", "km_cv", "km_day")
MONTHS = 60
"""On book."""


@dataclass(frozen=True, kw_only=True)
class Applications:
    """One row per application at one lender, without the copies of guaranteed contracts."""

    columns: Mapping[str, np.ndarray]
    features: np.ndarray
    """(n, len(APPLICATION))"""
    telematics: np.ndarray
    """(n, len(TELEMATICS)): what a box would say of every vehicle, covered or not."""

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    @classmethod
    def stack(cls, parts: Sequence[Applications]) -> Applications:
        """Return all rows."""
        return cls(
            columns={name: np.concatenate([part[name] for part in parts]) for name in parts[0].columns},
            features=np.concatenate([part.features for part in parts]),
            telematics=np.concatenate([part.telematics for part in parts]),
        )


@dataclass(kw_only=True)
class Tally:
    """Counts over all blocks."""

    applications: dict[str, list[Applications]]
    hazard: np.ndarray
    """(2, MONTHS + 1): defaults, and contracts alive at the beginning, by month on book; vintages with three years."""
    entries: np.ndarray
    """(2, months): contracts that became late, and current ones before, by month of the world."""
    rolls: np.ndarray
    """(4, 4): from current, 1, 2, 3 months late to current, stay, worse, closed."""
    claims: np.ndarray
    """(2, 2): claims and years, private use without and with NEV."""
    overlap: np.ndarray
    """(institutions, institutions): entities of the row that the column has too; the diagonal counts entities."""
    multiple: dict[str, np.ndarray]
    """(2,): borrowers of a lender, and those with a contract at another lender too."""
    guaranteed: np.ndarray
    """(2,): guaranteed contracts, and those on a bank's book."""
    insured: dict[str, np.ndarray]
    """(2,): financed vehicles of a lender, and those that a member insures."""
    financed: dict[str, np.ndarray]
    """(2,): policies of an insurer, and those on financed vehicles."""
    institutions: tuple[str, ...]


def tally(planned: Plan) -> Tally:
    """Return the counts of a world, drawn again block by block."""
    numbers = planned.world.numbers
    names = (*numbers.members, *numbers.insurers)
    counts = Tally(
        applications={name: [] for name in numbers.members},
        hazard=np.zeros((2, MONTHS + 1)),
        entries=np.zeros((2, numbers.calendar.months + 1)),
        rolls=np.zeros((4, 4)),
        claims=np.zeros((2, 2)),
        overlap=np.zeros((len(names), len(names))),
        multiple={name: np.zeros(2) for name in numbers.members if name not in FUNDS},
        guaranteed=np.zeros(2),
        insured={name: np.zeros(2) for name in numbers.members},
        financed={name: np.zeros(2) for name in numbers.insurers},
        institutions=names,
    )
    for number in range(len(planned.accepted)):
        block = planned.block(number)
        for name in numbers.members:
            own = _own(block, name)
            counts.applications[name].append(_applications(planned.seed, numbers, own))
            _count_months(counts, own)
        for portfolio in block.insurers.values():
            _count_claims(counts, portfolio)
        _count_overlap(counts, block, numbers)
    return counts


def _own(block: Block, member: str) -> Records:
    records = block.lenders[member]
    return records if member in FUNDS else records.take(~records.guaranteed)


def _applications(seed: int, numbers: Section, records: Records) -> Applications:
    book, histories, found = records.book, records.histories, records.recoveries
    people, terms, vehicles = book.people, book.terms, book.vehicles
    rng = np.random.default_rng([seed, 1])
    seen = of_records(rng, numbers, records, np.zeros(len(records), dtype=np.int64))
    known = ~terms.no_hit
    first_year = histories.states[:, 1 : YEAR + 1]
    closed = histories.states == PREPAID
    features = [
        *(people.bureau * known, terms.no_hit, people.utilisation * known, people.enquiries[:, 2] * known),
        *(people.lateness * known, np.log(people.tenure), people.age, np.log(people.income), terms.pti, terms.ltv),
        *(terms.term, people.kind == TRADER, people.kind == ENTERPRISE, vehicles.commercial, vehicles.used),
        vehicles.fuel >= FUELS.index("PHEV"),
    ]
    # No vehicle is on one lender's book twice, so the sightings keep every row and their order.
    drivers = drivers_of(seed, numbers, seen)
    signals = [drivers.brake, drivers.accelerate, drivers.night, drivers.speed]
    telematics = np.column_stack([*signals, np.log(drivers.km_cv), np.log(drivers.km_day)])
    return Applications(
        columns={
            "accepted": terms.accepted,
            "month": terms.month,
            "default_month": histories.default_month,
            "pd": histories.pd_path[:, -1],
            "ever_30": np.any((first_year >= LATE_2) & (first_year <= DEFAULT), axis=1),
            "prepaid": np.where(closed.any(axis=1), closed.argmax(axis=1), 0),
            "months_seen": np.minimum(terms.term, numbers.calendar.months - terms.month),
            "loss": found.loss,
            "static_risk": histories.static_risk,
            "unplugged": plugged_until(numbers, seen, 90) < 90,
            "dishonesty": people.traits[:, DISHONESTY],
        },
        features=np.column_stack(features).astype(np.float32),
        telematics=telematics.astype(np.float32),
    )


def _count_months(counts: Tally, records: Records) -> None:
    accepted = records.take(records.book.terms.accepted)
    states, start = accepted.histories.states, accepted.book.terms.month
    vintage = start <= 36
    for month in range(1, states.shape[1]):
        before, after = states[:, month - 1], states[:, month]
        seen = after <= MATURED
        alive = (before < DEFAULT) & seen
        counts.hazard[0, month] += (alive & vintage & (after == DEFAULT)).sum()
        counts.hazard[1, month] += (alive & vintage).sum()
        now, current = start + month, (before == 0) & seen
        counts.entries[0] += np.bincount(now[current & (after == LATE_1)], minlength=counts.entries.shape[1])[
            : counts.entries.shape[1]
        ]
        counts.entries[1] += np.bincount(now[current], minlength=counts.entries.shape[1])[: counts.entries.shape[1]]
        for state in range(LATE_3 + 1):
            here = (before == state) & seen
            cured = here & (after == 0)
            stays = here & (after == state)
            worse = here & (after == state + 1)
            counts.rolls[state] += [
                cured.sum(),
                stays.sum() * (state > 0),
                worse.sum(),
                (here & (after > DEFAULT)).sum(),
            ]


def _count_claims(counts: Tally, portfolio: Portfolio) -> None:
    private = ~portfolio.vehicles.commercial
    nev = portfolio.vehicles.fuel >= FUELS.index("PHEV")
    for place, electric in enumerate((False, True)):
        chosen = private & (nev == electric)
        counts.claims[0, place] += portfolio.claims[chosen].sum()
        counts.claims[1, place] += portfolio.exposure[chosen].sum()


def _count_overlap(counts: Tally, block: Block, numbers: Section) -> None:
    customers: dict[str, np.ndarray] = {}
    vehicles: dict[str, np.ndarray] = {}
    for name in counts.institutions:
        held, cars = [], []
        if name in block.lenders:
            accepted = block.lenders[name].take(block.lenders[name].book.terms.accepted)
            held.append(accepted.book.person)
            cars.append(accepted.book.vehicles.token)
        if name in block.insurers:
            held.append(block.insurers[name].person)
            cars.append(block.insurers[name].vehicles.token)
        customers[name], vehicles[name] = np.unique(np.concatenate(held)), np.unique(np.concatenate(cars))
    for row, one in enumerate(counts.institutions):
        for column, other in enumerate(counts.institutions):
            counts.overlap[row, column] += np.isin(customers[one], customers[other]).sum()
    _count_lending(counts, block, numbers, vehicles)


def _count_lending(counts: Tally, block: Block, numbers: Section, vehicles: Mapping[str, np.ndarray]) -> None:
    borrowers = {name: np.unique(_accepted(_own(block, name)).book.person) for name in counts.multiple}
    for name, persons in borrowers.items():
        elsewhere = np.concatenate([others for other, others in borrowers.items() if other != name])
        counts.multiple[name] += [persons.size, np.isin(persons, elsewhere).sum()]
    insured = np.concatenate([block.insurers[name].vehicles.token for name in block.insurers])
    on_banks = np.concatenate([vehicles[name] for name in numbers.members if numbers.members[name].type == "bank"])
    for name in numbers.members:
        counts.insured[name] += [vehicles[name].size, np.isin(vehicles[name], insured).sum()]
        if name in FUNDS:
            counts.guaranteed += [vehicles[name].size, np.isin(vehicles[name], on_banks).sum()]
    for name, portfolio in block.insurers.items():
        counts.financed[name] += [len(portfolio), portfolio.financed.sum()]


def _accepted(records: Records) -> Records:
    return records.take(records.book.terms.accepted)


def new_year_months(numbers: Section) -> np.ndarray:
    """Return which months of the world are January or February."""
    months = (Calendar.of(numbers).first + np.arange(numbers.calendar.months + 1)).astype("datetime64[M]").astype(int)
    flags: np.ndarray = months % YEAR < 2
    return flags
