"""What an institution writes down of payments: table rep_monthly."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.applications import scheduled_balance
from fedcredit.simulator.columns import NO_DATE, Coded, Columns
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.records import Records
from fedcredit.simulator.repayment import CURRENT, DEFAULT, LATE_1, LATE_3, MATURED, PREPAID

BUCKETS = ("0", "1-30", "31-60", "61-90", "90+")
_AFTER_DEFAULT = 3
"""Months for which a contract in default stays in the panel."""


def rep_monthly(rng: np.random.Generator, numbers: Section, records: Records) -> Columns:
    """Return the panel of all accepted contracts, month by month from the payout."""
    paid_out = records.take(records.book.terms.accepted)
    row, month = np.nonzero(_in_panel(paid_out))
    month = month + 1
    states, terms = paid_out.histories.states, paid_out.book.terms
    state, before = states[row, month], states[row, month - 1]
    default = paid_out.histories.default_month[row]
    since = np.where(state == DEFAULT, month - default, 0)
    day = rng.integers(1, 31, len(paid_out))[row]
    dpd = np.where(state <= LATE_3, np.where(state > 0, 30 * (state.astype(int) - 1) + day, 0), 0)
    dpd = np.where(state == DEFAULT, np.minimum(91 + 30 * since, 720), dpd)
    missed_now, missed_before = _missed(state, since), _missed(before, np.maximum(since - 1, 0) * (state == DEFAULT))
    due = np.where(month <= terms.term[row], terms.payment[row], 0.0)
    done = np.clip(np.minimum(month, terms.term[row]) - missed_now, 0, None)
    balance = scheduled_balance(terms.amount[row], terms.apr[row], terms.term[row], done)
    ended = (state == PREPAID) | (state == MATURED)
    balance = np.where(ended, 0.0, balance)
    paid = np.clip(due + (missed_before - missed_now) * terms.payment[row], 0, None)
    before_balance = scheduled_balance(terms.amount[row], terms.apr[row], terms.term[row], np.maximum(done - 1, 0))
    paid = np.where(state == PREPAID, before_balance, paid)
    technical = (rng.random(row.size) < numbers.chain.technical) & (state == CURRENT)
    cured = (before >= LATE_1) & (before <= LATE_3) & (state == CURRENT)
    within = np.where(cured, 30 * before.astype(int), np.where(technical, rng.integers(1, 6, row.size), 0))
    columns: Columns = {
        "contract_id": Coded(codes=row, words=paid_out.contract),
        "month": Calendar.of(numbers).start(terms.month[row] + month),
        "reported_at": np.full(row.size, NO_DATE),
        "sched_due": np.round(due, 2),
        "paid": np.round(paid, 2),
        "balance": np.round(balance, 2),
        "dpd_eom": dpd,
        "dpd_max_m": np.maximum(dpd, within),
        "bucket": Coded.of(np.where(state <= DEFAULT, state, 0), BUCKETS),
        "n_partial": (rng.random(row.size) < np.where(state > 0, 0.15, 0.01)).astype(int),
        "days_early": np.where(state == CURRENT, np.where(technical, -2, rng.integers(0, 6, row.size)), -1),
        "autopay_fail_n": np.where(ended, 0, missed_now.clip(0, 3) + technical),
        "restructured": paid_out.restructured(row, month).astype(int),
        "forbearance": ((state > 0) & (state <= LATE_3) & (rng.random(row.size) < 0.02)).astype(int),
        "contact_fail_n": rng.poisson(np.where(state <= DEFAULT, 0.6 * state, 0.0)),
        "promise_broken_n": rng.poisson(np.where(state <= DEFAULT, 0.25 * state, 0.0)),
    }
    return columns if records.kind != "guarantee_fund" else _as_reported(columns, records, numbers)


def _in_panel(records: Records) -> np.ndarray:
    """Return (n, months): whether the contract is in the panel at the end of that month on book."""
    states = records.histories.states[:, 1:]
    months = np.arange(1, states.shape[1] + 1)
    ended = (states == PREPAID) | (states == MATURED)
    first_end = np.where(ended.any(1), ended.argmax(1) + 1, states.shape[1] + 1)
    default = records.histories.default_month
    last = np.where(default > 0, default + _AFTER_DEFAULT, first_end)
    seen: np.ndarray = (months <= last[:, None]) & (states <= MATURED)
    return seen


def _missed(state: np.ndarray, since: np.ndarray) -> np.ndarray:
    """Return how many instalments are open."""
    missed: np.ndarray = np.where(state <= DEFAULT, state, 0).astype(int) + since
    return missed


def _as_reported(columns: Columns, records: Records, numbers: Section) -> Columns:
    """Return what a fund sees: the status that the bank reports, late, without payments and collections."""
    lag = int(numbers.members[records.institution].lag_days)
    month = columns["month"]
    calendar = Calendar.of(numbers)
    columns["reported_at"] = calendar.end(calendar.month(np.asarray(month))) + lag
    for name in (
        "paid",
        "n_partial",
        "days_early",
        "autopay_fail_n",
        "contact_fail_n",
        "promise_broken_n",
        "dpd_max_m",
    ):
        del columns[name]
    return columns
