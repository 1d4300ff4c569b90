"""One block of the world: a pool of persons, every institution's book, and who is on several of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedcredit.simulator.applications import FIRST_NEV, Book, annuity, draw_book
from fedcredit.simulator.dates import DECISION_LEAD, Calendar
from fedcredit.simulator.economy import Economy
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import People, draw_people
from fedcredit.simulator.records import Block, Label, Portfolio, Records
from fedcredit.simulator.recovery import recover
from fedcredit.simulator.repayment import simulate
from fedcredit.simulator.seeds import child, tokens
from fedcredit.simulator.vehicles import VehicleMix, Vehicles, claim_rates, draw_vehicles

_LABELS = {"bank": "def90", "auto_finance": "def90", "lessor": "def90", "guarantee_fund": "comp"}
FUNDS = ("G1", "G2")
"""In the order of a bank's ``guaranteed``."""


def draw_pool(rng: np.random.Generator, numbers: Section, accepted: Mapping[str, int]) -> People:
    """Return a pool in which the members' books of these sizes overlap as the world says."""
    wanted = sum(np.asarray(numbers.members[member].mix) * count for member, count in accepted.items())
    kinds = np.ceil(wanted * numbers.traits.pool_ratio).astype(int) + 50
    return draw_people(rng, numbers, np.repeat(np.arange(kinds.size), kinds))


def draw_books(
    seed: int, names: tuple[str | int, ...], numbers: Section, pool: People, accepted: Mapping[str, int]
) -> dict[str, Book]:
    """Return every lender's applications, in the order of the members; ``names`` lead to their random numbers."""
    books: dict[str, Book] = {}
    customers = np.zeros(len(pool), dtype=bool)
    for member, count in accepted.items():
        rng = child(seed, *names, member)
        books[member] = draw_book(rng, numbers, member, pool, count, customers=customers)
        customers[books[member].person] = True
    return books


def draw_block(
    seed: int,
    number: int,
    numbers: Section,
    economy: Economy,
    *,
    accepted: Mapping[str, int],
    policies: Mapping[str, int],
    intercepts: Mapping[str, float],
) -> Block:
    """Return block ``number``; ``accepted`` and ``policies`` are the members' sizes in it."""
    pool = draw_pool(child(seed, "pool", number), numbers, accepted)
    books = draw_books(seed, ("book", number), numbers, pool, accepted)
    _pledge_twice(child(seed, "pledge", number), numbers, books)
    own = {
        member: _records(seed, number, numbers, economy, book=book, intercept=intercepts[member])
        for member, book in books.items()
    }
    lenders = _with_guaranteed(child(seed, "guaranteed", number), numbers, own)
    insurers, financed = {}, _financed(own)
    for insurer, count in policies.items():
        rng = child(seed, "insurer", number, insurer)
        insurers[insurer] = _portfolio(rng, numbers, insurer, pool=pool, financed=financed, count=count)
        share = numbers.insurers[insurer].credit_policies / numbers.insurers[insurer].policies
        if credit := round(share * count):
            lenders[insurer] = _credit_insurance(rng, numbers, insurer, own, credit)
    return Block(number=number, pool=len(pool), lenders=lenders, insurers=insurers)


def _records(seed: int, number: int, numbers: Section, economy: Economy, *, book: Book, intercept: float) -> Records:
    rules = numbers.members[book.member]
    histories = simulate(numbers, economy, book, intercept, child(seed, "repayment", number, book.member))
    calendar = Calendar.of(numbers)
    luck = child(seed, "luck", number, book.member).random((2, len(book)))
    return Records(
        institution=book.member,
        kind=rules.type,
        label=Label(kind=_LABELS[rules.type], dpd_equiv=rules.dpd_equiv, lag_days=rules.lag_days),
        contract=tokens(child(seed, "contract", number, book.member), len(book), 16),
        decision=calendar.start(book.terms.month) + book.terms.day - DECISION_LEAD,
        guaranteed=np.full(len(book), rules.type == "guarantee_fund"),
        luck=luck[0],
        restructures=luck[1] < numbers.chain.restructure,
        book=book,
        histories=histories,
        recoveries=recover(child(seed, "recovery", number, book.member), numbers, book, histories),
    )


def _pledge_twice(rng: np.random.Generator, numbers: Section, books: dict[str, Book]) -> None:
    """Copy some vehicles, with their owners, to a second member that lends on them at about the same time."""
    places = [(member, int(row)) for member, book in books.items() for row in np.flatnonzero(book.terms.accepted)]
    count = min(round(numbers.fraud.double_pledge * len(places)), len(places) // 2)
    if not count:
        return
    # Neighbours in time; about a quarter of them are at one member, and some are drawn to spare.
    drawn = [places[i] for i in rng.choice(len(places), min(4 * count, len(places) // 2 * 2), replace=False)]
    drawn.sort(key=lambda place: int(books[place[0]].terms.month[place[1]]))
    apart = [(one, two) for one, two in zip(drawn[::2], drawn[1::2], strict=True) if one[0] != two[0]]
    pairs = [apart[i] for i in rng.permutation(len(apart))[:count]]
    before = dict(books)
    for member in books:
        mine = [(one, two[1]) for one, two in pairs if two[0] == member]
        books[member] = _second_pledges(books[member], mine, before)
        first = [one[1] for one, _ in pairs if one[0] == member]
        pledged = books[member].terms.pledged.copy()
        pledged[first] = 1
        books[member] = books[member].replaced(terms=books[member].terms.replaced(pledged=pledged))


def _second_pledges(book: Book, pairs: list[tuple[tuple[str, int], int]], books: Mapping[str, Book]) -> Book:
    if not pairs:
        return book
    rows = np.array([row for _, row in pairs])
    origins = [books[member].take(np.array([source])) for (member, source), _ in pairs]
    vehicles = Vehicles.stack([origin.vehicles for origin in origins])
    terms = book.terms.take(rows)
    amount = terms.ltv * vehicles.appraised
    terms = terms.replaced(
        pledged=np.full(rows.size, 2, dtype=np.int8), amount=amount, payment=annuity(amount, terms.apr, terms.term)
    )
    person = book.person.copy()
    person[rows] = np.concatenate([origin.person for origin in origins])
    return book.replaced(
        person=person,
        people=book.people.with_rows(rows, People.stack([origin.people for origin in origins])),
        vehicles=book.vehicles.with_rows(rows, vehicles),
        terms=book.terms.with_rows(rows, terms),
    )


def _with_guaranteed(rng: np.random.Generator, numbers: Section, own: Mapping[str, Records]) -> dict[str, Records]:
    """Return the records with every guaranteed loan copied to the bank that paid it out."""
    parts = {member: [records] for member, records in own.items()}
    for place, fund in enumerate(FUNDS):
        if fund not in own:
            continue
        rows = rng.permutation(np.flatnonzero(own[fund].book.terms.accepted))
        banks = [member for member in own if numbers.members[member].guaranteed[place] > 0]
        ends = np.round(np.cumsum([numbers.members[bank].guaranteed[place] for bank in banks]) * rows.size).astype(int)
        for bank, chosen in zip(banks, np.split(rows, ends[:-1]), strict=True):
            copies = own[fund].take(chosen)
            parts[bank].append(copies.replaced(contract=tokens(rng, chosen.size, 16)))
    return {member: Records.stack(records) for member, records in parts.items()}


def _financed(own: Mapping[str, Records]) -> Records:
    """Return the accepted contracts of all lenders, without second pledges."""
    records = Records.stack(list(own.values()))
    return records.take(records.book.terms.accepted & (records.book.terms.pledged != 2))


def _credit_insurance(
    rng: np.random.Generator, numbers: Section, insurer: str, own: Mapping[str, Records], count: int
) -> Records:
    candidates = Records.stack([records for records in own.values() if records.kind in ("bank", "auto_finance")])
    accepted = np.flatnonzero(candidates.book.terms.accepted)
    chosen = candidates.take(rng.choice(accepted, min(count, accepted.size), replace=False))
    return chosen.replaced(
        institution=insurer,
        kind="insurer",
        label=Label(kind="cgi", dpd_equiv=80, lag_days=int(numbers.insurers[insurer].credit_lag_days)),
        contract=tokens(rng, len(chosen), 16),
    )


def _portfolio(
    rng: np.random.Generator, numbers: Section, insurer: str, *, pool: People, financed: Records, count: int
) -> Portfolio:
    rules, calendar = numbers.insurers[insurer], Calendar.of(numbers)
    cover = min(round(rules.financed_share * count), len(financed))
    loans = financed.take(rng.choice(len(financed), cover, replace=False))
    others = rng.choice(len(pool), count - cover, replace=False)
    people, month = pool.take(others), rng.integers(12, numbers.calendar.lending_months, count - cover)
    mix = VehicleMix(used=rules.used, nev=rules.nev, commercial=rules.commercial)
    vehicles = Vehicles.stack([loans.book.vehicles, draw_vehicles(rng, numbers, people, mix, month)])
    people = People.stack([loans.book.people, people])
    start = np.concatenate([loans.decision + DECISION_LEAD, calendar.start(month) + rng.integers(0, 28, month.size)])
    renewed = (rng.random(count) < rules.renewed_share) & (vehicles.age_m > 12)
    exposure = np.where(rng.random(count) < rules.lapse_share, rng.uniform(0.1, 0.9, count), 1.0)
    rate = claim_rates(numbers, people, commercial=vehicles.commercial, nev=vehicles.fuel >= FIRST_NEV)
    return Portfolio(
        institution=insurer,
        contract=tokens(rng, count, 16),
        start=start,
        exposure=np.round(exposure, 3),
        financed=np.arange(count) < cover,
        person=np.concatenate([loans.book.person, others]),
        people=people,
        vehicles=vehicles,
        renewed=renewed,
        claims=rng.poisson(rate * exposure),
        earlier=rng.poisson(rate) * renewed,
    )
