"""What is lost on a contract in default, and when that is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.applications import Book, scheduled_balance
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import CREDIT, logistic
from fedcredit.simulator.repayment import Histories
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.vehicles import dishonest


@dataclass(frozen=True, kw_only=True)
class Recoveries(Rows):
    """One row per contract; zeros where nothing defaulted."""

    exposure: np.ndarray
    """CNY at default: balance and the payments missed."""
    loss: np.ndarray
    """Share of the exposure; the simulated truth, 0 to 1.05."""
    cured: np.ndarray
    seized: np.ndarray
    """The vehicle was found and sold."""
    days: np.ndarray
    """From the default to the end of the workout."""
    sale_price: np.ndarray
    """CNY; 0 where nothing was sold."""


def recover(rng: np.random.Generator, numbers: Section, book: Book, histories: Histories) -> Recoveries:
    """Return the recoveries of every contract that defaulted."""
    bad = histories.default_month > 0
    found = _recover(rng, numbers, book.take(bad), histories.take(bad))
    spread = {}
    for name, value in vars(found).items():
        column = np.zeros(len(book), dtype=value.dtype)
        column[bad] = value
        spread[name] = column
    return Recoveries(**spread)


def _recover(rng: np.random.Generator, numbers: Section, book: Book, histories: Histories) -> Recoveries:
    r, terms, count = numbers.recovery, book.terms, len(book)
    paid = np.maximum(np.minimum(histories.default_month, terms.term) - r.arrears, 0)
    exposure = np.maximum(scheduled_balance(terms.amount, terms.apr, terms.term, paid), terms.payment)
    odds = r.seize + r.seize_fraud * terms.fraud + r.seize_dishonest * dishonest(book.people)
    seized = rng.random(count) < logistic(odds + r.seize_used * book.vehicles.used)
    seized &= terms.pledged != 2  # the first lender holds the title
    median = np.where(book.vehicles.commercial, r.days_commercial, r.days_median)
    days = np.round(median * np.exp(r.days_sd * rng.standard_normal(count)))
    sale = histories.value_at_default * (1 - _haircut(rng, numbers, book, days))
    searched = r.cash_share * exposure * rng.beta(1, 3, count)
    cash = r.cash * exposure * rng.beta(1, 3, count)
    discount = (1 + terms.apr / 12) ** (-days / 30.4)
    proceeds = np.where(seized, sale - r.cost * exposure, searched) + cash
    loss = np.clip(1 - proceeds * discount / exposure, 0, r.most)
    cured = (rng.random(count) < r.cure) & ~terms.fraud
    searched_for = np.round(rng.uniform(120, 30.4 * r.workout_months, count))
    return Recoveries(
        exposure=exposure,
        loss=np.where(cured, r.cure_cost, loss),
        cured=cured,
        seized=seized & ~cured,
        days=np.where(cured, 60, np.where(seized, days + 30, searched_for)),
        sale_price=np.where(seized & ~cured, sale, 0.0),
    )


def _haircut(rng: np.random.Generator, numbers: Section, book: Book, days: np.ndarray) -> np.ndarray:
    r = numbers.recovery
    weak = np.maximum(-book.people.traits[:, CREDIT], 0)
    haircut = rng.beta(r.haircut_alpha, r.haircut_beta, len(book)) + r.haircut_commercial * book.vehicles.commercial
    result: np.ndarray = np.clip(haircut + r.haircut_day * days + r.haircut_weak * weak, 0, 0.95)
    return result
