"""What only the simulator knows. It is kept apart and given to no institution."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.columns import Columns
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import People
from fedcredit.simulator.records import Portfolio, Records
from fedcredit.simulator.repayment import VALUE_MONTHS, YEAR

TRAITS = ("credit", "prudence", "liquidity", "usage", "dishonesty")
_LIFE = 2.9
"""Defaults in three years over those in one, for the oracle's profit."""
_MEAN_BALANCE = 0.54
"""Of the amount, over the life of a level-payment loan."""


def of_records(numbers: Section, records: Records) -> Columns:
    """Return one row per application: latent traits, true risk, rejects' outcomes, true values, the best decision."""
    book, histories, found = records.book, records.histories, records.recoveries
    calendar, terms = Calendar.of(numbers), book.terms
    miss = calendar.start(terms.month + histories.first_miss) + terms.day
    profit = expected_profit(numbers, records)
    columns = _who(records.contract, book.people, book.vehicles.token) | {
        "accepted": terms.accepted.astype(int),
        "guaranteed": records.guaranteed.astype(int),
        "payout_month": terms.month,
        "static_risk": histories.static_risk,
        "fraud": terms.fraud.astype(int),
        "ring": terms.ring,
        "pledged": terms.pledged.astype(int),
        "default_month": histories.default_month,
        "first_miss_day": np.where(histories.first_miss > 0, miss, -1),
        "loss": found.loss,
        "exposure": found.exposure,
        "cured": found.cured.astype(int),
        "expected_profit": np.round(profit, 2),
        "best_decision": (profit > 0).astype(int),
    }
    for month in range(YEAR):
        columns[f"pd_{month + 1:02d}"] = histories.pd_path[:, month]
    for place, month in enumerate(VALUE_MONTHS):
        columns[f"value_{month:02d}"] = histories.values[:, place]
    return columns


def of_portfolio(portfolio: Portfolio) -> Columns:
    """Return one row per motor policy."""
    return _who(portfolio.contract, portfolio.people, portfolio.vehicles.token) | {
        "financed": portfolio.financed.astype(int),
        "claim_rate": portfolio.vehicles.claim_rate,
        "value_00": portfolio.vehicles.value,
    }


def expected_profit(numbers: Section, records: Records) -> np.ndarray:
    """Return CNY that an application earns in expectation, by its true 12-month probability of default."""
    c, terms = numbers.contracts, records.book.terms
    years = terms.term / YEAR
    income = (terms.apr - c.funding_rate) * _MEAN_BALANCE * years - c.running_cost
    life = 1 - (1 - records.histories.pd_path[:, -1]) ** (1 + (_LIFE - 1) * np.clip((years - 1) / 2, 0, 1))
    profit: np.ndarray = terms.amount * (income - life * c.expected_loss * 0.8)
    return profit


def _who(contract: np.ndarray, people: People, vin: np.ndarray) -> Columns:
    columns: Columns = {"contract_id": contract, "entity_tok": people.token, "vin_tok": vin}
    for place, name in enumerate(TRAITS):
        columns[f"trait_{name}"] = people.traits[:, place]
    columns["health"] = people.health
    return columns
