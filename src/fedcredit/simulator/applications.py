"""Applications at one lender: who asks for what, and who is accepted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import (
    CREDIT,
    DISHONESTY,
    LIQUIDITY,
    TRADER,
    People,
    choose,
    correlation,
    logistic,
)
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.vehicles import FUELS, VehicleMix, Vehicles, draw_vehicles

FIRST_NEV = FUELS.index("PHEV")


@dataclass(frozen=True, kw_only=True)
class Terms(Rows):
    """What was asked for; one row per application."""

    month: np.ndarray
    """Of the payout, counted from the first of the calendar."""
    day: np.ndarray
    """Of the decision within the month, from 0."""
    amount: np.ndarray
    ltv: np.ndarray
    """Against the appraised value."""
    term: np.ndarray
    apr: np.ndarray
    payment: np.ndarray
    """CNY a month, level."""
    pti: np.ndarray
    no_hit: np.ndarray
    """The bureau does not know the person."""
    fraud: np.ndarray
    ring: np.ndarray
    """Number of the ring, or -1."""
    pledged: np.ndarray
    """1 where the vehicle is pledged again at another member, 2 where this is the second pledge, else 0."""
    accepted: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Book(Rows):
    """All applications at one lender."""

    member: str
    person: np.ndarray
    """Row in the pool."""
    people: People
    vehicles: Vehicles
    terms: Terms

    @property
    def business(self) -> np.ndarray:
        """Return who is a sole trader or an enterprise."""
        flags: np.ndarray = self.people.kind >= TRADER
        return flags


def draw_book(
    rng: np.random.Generator, numbers: Section, member: str, pool: People, accepted: int, *, customers: np.ndarray
) -> Book:
    """Return the applications at ``member``, of which exactly ``accepted`` are accepted.

    ``customers`` says who in the pool has applied at another lender before.
    """
    rules = numbers.members[member]
    asked = round(accepted * numbers.contracts.applications)
    wanted = np.diff(np.round(np.cumsum([0.0, *rules.mix]) * asked).astype(int))
    rows = choose(rng, pool, wanted, log_weight=_appeal(numbers, rules, pool) + np.log(rules.shared_appeal) * customers)
    people = pool.take(rows)
    month = rng.integers(0, numbers.calendar.lending_months, rows.size)
    mix = VehicleMix(used=rules.used, nev=rules.nev, commercial=rules.commercial)
    vehicles = draw_vehicles(rng, numbers, people, mix, month)
    terms = _terms(rng, numbers, rules, people, vehicles=vehicles, month=month)
    chosen = _select(rng, numbers, people, terms, accepted)
    return Book(member=member, person=rows, people=people, vehicles=vehicles, terms=terms.replaced(accepted=chosen))


def _appeal(numbers: Section, rules: Section, pool: People) -> np.ndarray:
    """Return log weights: a tilt that shifts the mean of the traits as asked, and the home region."""
    shift = np.zeros(5)
    shift[CREDIT], shift[LIQUIDITY] = rules.credit_shift, rules.liquidity_shift
    log_weight: np.ndarray = pool.traits @ np.linalg.solve(correlation(numbers), shift)
    if rules.home >= 0:
        regions, share = len(numbers.regions.codes), numbers.regions.home_share
        at_home, away = share * regions, (1 - share) * regions / (regions - 1)
        log_weight = log_weight + np.log(np.where(pool.region == rules.home, at_home, away))
    return log_weight


def _terms(
    rng: np.random.Generator,
    numbers: Section,
    rules: Section,
    people: People,
    *,
    vehicles: Vehicles,
    month: np.ndarray,
) -> Terms:
    c, form, count = numbers.contracts, numbers.application, len(people)
    lessor = rules.type == "lessor"
    cap = np.where(vehicles.fuel >= FIRST_NEV, c.cap_nev, c.cap_other)
    cap = np.where(vehicles.used, c.cap_used, cap)
    cap = np.where(vehicles.commercial, c.cap_commercial, cap)
    ltv = rng.beta(c.ltv_alpha, c.ltv_beta, count) + c.ltv_liquidity * people.traits[:, LIQUIDITY]
    ltv = np.clip(ltv, 0.15, cap)
    term = rng.choice(c.terms, count, p=c.term_shares)
    apr = c.apr_base + c.apr_lessor * lessor + c.apr_credit * people.traits[:, CREDIT]
    apr = np.clip(apr + c.apr_sd * rng.standard_normal(count), c.apr_low, c.apr_high)
    amount = ltv * vehicles.appraised
    payment = annuity(amount, apr, term)
    no_hit_odds = (form.no_hit_lessor if lessor else form.no_hit) + form.no_hit_trader * (people.kind == TRADER)
    fraud, ring = _fraud(rng, numbers, people)
    return Terms(
        month=month,
        day=rng.integers(0, 28, count),
        amount=amount,
        ltv=ltv,
        term=term,
        apr=apr,
        payment=payment,
        pti=np.clip(payment / people.income + 0.5 * people.other_debt, 0.02, 1.5),
        no_hit=people.luck[:, 0] < no_hit_odds,
        fraud=fraud,
        ring=ring,
        pledged=np.zeros(count, dtype=np.int8),
        accepted=np.zeros(count, dtype=bool),
    )


def _fraud(rng: np.random.Generator, numbers: Section, people: People) -> tuple[np.ndarray, np.ndarray]:
    f, count = numbers.fraud, len(people)
    alone = rng.random(count) < logistic(f.mean + f.dishonesty * people.traits[:, DISHONESTY])
    ring, place = np.full(count, -1), 0
    order = rng.permutation(count)
    # As many rings as their mean size allows, the fraction by lot: a small book mostly has none.
    rings = int(f.ring_share * count / (0.5 * (f.ring_low + f.ring_high)) + rng.random())
    for number, size in enumerate(rng.integers(f.ring_low, f.ring_high + 1, rings).tolist()):
        ring[order[place : place + size]] = number
        place += size
    return alone | (ring >= 0), ring


def annuity(amount: np.ndarray, apr: np.ndarray, term: np.ndarray) -> np.ndarray:
    """Return the level payment a month."""
    rate = apr / 12
    payment: np.ndarray = amount * rate / (1 - (1 + rate) ** -term)
    return payment


def scheduled_balance(amount: np.ndarray, apr: np.ndarray, term: np.ndarray, paid: np.ndarray) -> np.ndarray:
    """Return the balance after ``paid`` level payments."""
    rate = apr / 12
    grown = (1 + rate) ** term
    balance: np.ndarray = np.maximum(amount * (grown - (1 + rate) ** paid) / (grown - 1), 0.0)
    return balance


def _select(rng: np.random.Generator, numbers: Section, people: People, terms: Terms, accepted: int) -> np.ndarray:
    """Return who is accepted: the best by the legacy score, which sees what an officer would see."""
    s = numbers.selection
    score = s.bureau * (people.bureau - numbers.application.bureau_mean) + s.tenure * np.log(people.tenure)
    score += s.pti * terms.pti + s.ltv * (terms.ltv - 0.6) + s.no_hit * terms.no_hit
    score += s.noise * rng.standard_normal(len(people))
    chosen = np.zeros(len(people), dtype=bool)
    chosen[np.argpartition(score, -accepted)[-accepted:]] = True
    return chosen
