"""How contracts are paid: a monthly risk index drives a chain of delinquency states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.applications import Book, scheduled_balance
from fedcredit.simulator.economy import BEV, Economy
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import CREDIT, LIQUIDITY, PRUDENCE, logistic
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.vehicles import index_change, worth

CURRENT, LATE_1, LATE_2, LATE_3, DEFAULT, PREPAID, MATURED, UNSEEN = range(8)
"""States at a month's end: current; 1-30, 31-60, 61-90 days late; default; closed early; closed; after the calendar."""
YEAR = 12


VALUE_MONTHS = (0, 12, 24, 36)
"""Months on book whose true value of the vehicle is kept."""


@dataclass(frozen=True, kw_only=True)
class Histories(Rows):
    """What became of each contract."""

    states: np.ndarray
    """(n, months + 1) of the states above; column m is the end of month m on book, column 0 the payout."""
    default_month: np.ndarray
    """Month on book of the default, or 0."""
    first_miss: np.ndarray
    """Month on book of the first missed payment, or 0."""
    value_at_default: np.ndarray
    """CNY; 0 without a default."""
    values: np.ndarray
    """(n, 4): CNY in ``VALUE_MONTHS``."""
    pd_path: np.ndarray
    """(n, 12): probability of default within 1 to 12 months, given the contract's own path of risk."""
    static_risk: np.ndarray
    """The part of the index that is known on the day of the decision to somebody who sees the traits."""


class RiskPaths:
    """The risk index of each contract, month by month; it does not depend on what the contract did before."""

    def __init__(self, numbers: Section, economy: Economy, book: Book, rng: np.random.Generator) -> None:
        self._numbers, self._economy, self._book, self._rng = numbers, economy, book, rng
        r, people, terms = numbers.risk, book.people, book.terms
        traits = people.traits
        static = r.credit * traits[:, CREDIT] + r.liquidity * traits[:, LIQUIDITY] + r.prudence * traits[:, PRUDENCE]
        static = static + r.pti * (terms.pti - r.pti_centre) + r.commercial * book.vehicles.commercial
        own_health = people.health - numbers.traits.health_liquidity * traits[:, LIQUIDITY]
        self.static: np.ndarray = static + r.health * own_health * book.business
        self._exposed = np.where(book.vehicles.commercial | book.business, r.stress_business, 1.0) * r.stress
        self._damage = book.vehicles.damage.copy()
        self.value: np.ndarray = book.vehicles.value

    def __call__(self, months: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (month on book, index); ``value`` holds the vehicles' worth of that month. Runs once."""
        numbers, book, rng = self._numbers, self._book, self._rng
        r, terms, count = numbers.risk, book.terms, len(book)
        shock = r.shock_sd * rng.standard_normal(count)
        last = self._economy.stress.shape[1] - 1
        for month in range(1, months + 1):
            now = np.minimum(terms.month + month, last)
            self._age(month, now)
            shock = r.shock_persistence * shock
            shock += r.shock_sd * np.sqrt(1 - r.shock_persistence**2) * rng.standard_normal(count)
            index = self.static + shock + self._exposed * self._economy.stress[book.people.region, now]
            index += self._equity(month, now) + self._season(month)
            index += r.new_year * (now % YEAR < 2)
            index += terms.fraud * (r.fraud_early if month <= 4 else r.fraud_late)
            yield month, index

    def _age(self, month: int, now: np.ndarray) -> None:
        v, vehicles = self._numbers.vehicles, self._book.vehicles
        hit = self._rng.random(len(vehicles)) < v.damage_rate * vehicles.claim_rate / YEAR
        rows = np.flatnonzero(hit)
        self._damage[rows] += self._rng.beta(v.damage_alpha, v.damage_beta, rows.size)
        start = self._book.terms.month
        self.value = worth(
            self._numbers,
            price_class=vehicles.price_class,
            age_m=vehicles.age_m + month,
            list_price=vehicles.list_price,
            km_year=vehicles.km_year,
            condition=vehicles.condition,
            damage=self._damage,
            index_change=index_change(self._economy, vehicles, self._book.people.region, start, now),
        )

    def _equity(self, month: int, now: np.ndarray) -> np.ndarray:
        r, terms = self._numbers.risk, self._book.terms
        balance = scheduled_balance(terms.amount, terms.apr, terms.term, np.minimum(month, terms.term))
        above = np.clip(balance / self.value - r.equity_centre, r.equity_low, r.equity_high)
        drifted = (self._book.vehicles.price_class == BEV) & (now >= r.bev_drift_month)
        pressure: np.ndarray = r.equity * above * np.where(drifted, r.bev_drift, 1.0)
        return pressure

    def _season(self, month: int) -> float:
        r = self._numbers.risk
        return float(max(-((np.log(month) - np.log(r.season_peak)) ** 2) / (2 * r.season_sd**2), r.season_floor))


@dataclass(frozen=True, kw_only=True)
class _Moves:
    """Probabilities of the chain for one month; arrays of one length."""

    enter: np.ndarray
    roll_1: np.ndarray
    roll_2: np.ndarray
    roll_3: np.ndarray
    prepay: float


def _moves(numbers: Section, index: np.ndarray, intercept: float, month: int) -> _Moves:
    c = numbers.chain
    return _Moves(
        enter=logistic(intercept + c.enter + c.enter_slope * index),
        roll_1=logistic(c.roll_1 + c.roll_1_slope * index),
        roll_2=logistic(c.roll_2 + c.roll_2_slope * index),
        roll_3=logistic(c.roll_3 + c.roll_3_slope * index),
        prepay=c.prepay + c.prepay_later * (month > YEAR),
    )


def _forward(numbers: Section, mass: np.ndarray, moves: _Moves) -> np.ndarray:
    """Return the (5, n) distribution over C, 1, 2, 3, D after one month; early closing takes its mass away."""
    c = numbers.chain
    current, one, two, three, default = mass
    rest_1, rest_2, rest_3 = 1 - moves.roll_1, 1 - moves.roll_2, 1 - moves.roll_3
    cured = one * rest_1 * c.cure_1 + two * rest_2 * c.cure_2 + three * rest_3 * c.cure_3
    return np.stack(
        [
            current * (1 - moves.prepay) * (1 - moves.enter) + cured,
            current * (1 - moves.prepay) * moves.enter + one * rest_1 * (1 - c.cure_1),
            one * moves.roll_1 + two * rest_2 * (1 - c.cure_2),
            two * moves.roll_2 + three * rest_3 * (1 - c.cure_3),
            three * moves.roll_3 + default,
        ]
    )


def expected_pd12(numbers: Section, paths: np.ndarray, intercept: float, term: np.ndarray) -> np.ndarray:
    """Return each contract's probability of default within 12 months; ``paths`` is (12, n)."""
    mass = np.zeros((5, term.size))
    mass[CURRENT] = 1.0
    for month, index in enumerate(paths, start=1):
        ahead = _forward(numbers, mass, _moves(numbers, index, intercept, month))
        mass = np.where(month <= term, ahead, mass)
    probability: np.ndarray = mass[DEFAULT]
    return probability


def calibrate(numbers: Section, economy: Economy, book: Book, rng: np.random.Generator, *, others: float) -> float:
    """Return the intercept at which the accepted contracts of ``book`` default as the member's ``pd12`` says.

    ``others`` is what the target must leave to defaults that the chain does not make: rings that never pay, and
    guaranteed contracts on the same book that are worse than the target.
    """
    accepted = book.take(np.flatnonzero(book.terms.accepted))
    paths = np.stack([index for _, index in RiskPaths(numbers, economy, accepted, rng)(YEAR)])
    target, term = float(numbers.members[book.member].pd12) - others, accepted.terms.term
    low, high = -6.0, 6.0
    guess = 0.0
    for _ in range(12):
        reached = float(expected_pd12(numbers, paths, guess, term).mean())
        low, high = (guess, high) if reached < target else (low, guess)
        # The chain's total slope in the intercept is near one, so this secant step almost always lands at once.
        step = guess + np.log(target / reached) * 0.8
        if abs(reached / target - 1) < 1e-3:
            break
        guess = float(step) if low < step < high else (low + high) / 2
    return guess


class _Tape:
    """Writes down what the chain does, month by month."""

    def __init__(self, count: int, months: int) -> None:
        self.states = np.full((count, months + 1), UNSEEN, dtype=np.uint8)
        self.states[:, 0] = CURRENT
        self.default_month = np.zeros(count, dtype=np.int64)
        self.first_miss = np.zeros(count, dtype=np.int64)
        self.value_at_default = np.zeros(count)
        self.values = np.zeros((count, len(VALUE_MONTHS)))
        self.pd_path = np.zeros((count, YEAR))

    def write(self, month: int, after: np.ndarray, value: np.ndarray) -> None:
        before = self.states[:, month - 1]
        fallen = (after == DEFAULT) & (before != DEFAULT)
        self.default_month[fallen] = month
        self.value_at_default[fallen] = value[fallen]
        missed = (after == LATE_1) & (self.first_miss == 0)
        self.first_miss[missed] = month
        self.states[:, month] = after
        if month in VALUE_MONTHS:
            self.values[:, VALUE_MONTHS.index(month)] = value


def simulate(numbers: Section, economy: Economy, book: Book, intercept: float, rng: np.random.Generator) -> Histories:
    """Return what became of every application, had it been accepted."""
    terms, count, months = book.terms, len(book), int(numbers.contracts.terms.max())
    tape, paths = _Tape(count, months), RiskPaths(numbers, economy, book, rng)
    tape.values[:, 0] = book.vehicles.value
    mass = np.zeros((5, count))
    mass[CURRENT] = 1.0
    refuser = (terms.ring >= 0) & (rng.random(count) < numbers.fraud.ring_first_payment)
    for month, index in paths(months):
        moves = _moves(numbers, index, intercept, month)
        before = tape.states[:, month - 1]
        after = _step(rng, numbers, before, moves)
        after[refuser & (month <= DEFAULT) & (before < DEFAULT)] = month
        after[(before < DEFAULT) & (month >= terms.term) & (after == CURRENT)] = MATURED
        after[month > numbers.calendar.months - terms.month] = UNSEEN
        tape.write(month, after, paths.value)
        if month <= YEAR:
            mass = np.where(month <= terms.term, _forward(numbers, mass, moves), mass)
            tape.pd_path[:, month - 1] = np.where(refuser & (month >= DEFAULT), 1.0, mass[DEFAULT])
    return Histories(
        states=tape.states,
        default_month=tape.default_month,
        first_miss=tape.first_miss,
        value_at_default=tape.value_at_default,
        values=tape.values,
        pd_path=tape.pd_path,
        static_risk=paths.static,
    )


def _step(rng: np.random.Generator, numbers: Section, before: np.ndarray, moves: _Moves) -> np.ndarray:
    c, draw = numbers.chain, rng.random(before.size)
    after = before.copy()
    after[(before == CURRENT) & (draw < moves.prepay)] = PREPAID
    staying = (before == CURRENT) & (draw >= moves.prepay)
    after[staying & ((draw - moves.prepay) < (1 - moves.prepay) * moves.enter)] = LATE_1
    for state, roll, cure in (
        (LATE_1, moves.roll_1, c.cure_1),
        (LATE_2, moves.roll_2, c.cure_2),
        (LATE_3, moves.roll_3, c.cure_3),
    ):
        here = before == state
        after[here & (draw < roll)] = state + 1
        after[here & (draw >= roll) & (draw < roll + (1 - roll) * cure)] = CURRENT
    return after
