"""The chain of delinquency."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.applications import annuity, scheduled_balance
from fedcredit.simulator.parameters import load_world
from fedcredit.simulator.repayment import (
    CURRENT,
    DEFAULT,
    LATE_1,
    LATE_3,
    MATURED,
    PREPAID,
    UNSEEN,
    RiskPaths,
    expected_pd12,
)
from fedcredit.simulator.seeds import child

NUMBERS = load_world("missing_modality").numbers


def test_the_expected_default_rate_is_that_of_the_chain_by_hand() -> None:
    # Three misses and a default need four months; with 4 months of index 0 there is one path: C 1 2 3 D.
    sig = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    enter, rolls = sig(-4.7), [sig(-1.25), sig(0.05), sig(0.95)]
    by_hand = (1 - 0.0065) * enter * np.prod(rolls)
    assert np.isclose(expected_pd12(NUMBERS, np.zeros((4, 1)), 0.0, np.array([36]))[0], by_hand, rtol=1e-12)
    assert expected_pd12(NUMBERS, np.zeros((3, 1)), 0.0, np.array([36]))[0] == 0


def test_a_higher_index_and_a_higher_intercept_mean_more_defaults() -> None:
    term = np.full(3, 36)
    rising = expected_pd12(NUMBERS, np.tile([-1.0, 0.0, 1.0], (12, 1)), 0.0, term)
    assert (np.diff(rising) > 0).all()
    assert (expected_pd12(NUMBERS, np.zeros((12, 3)), 1.0, term) > rising[1]).all()


def test_states_move_one_step_at_a_time_and_ends_are_final(block) -> None:
    for records in block.lenders.values():
        states = records.histories.states.astype(int)
        before, after = states[:, :-1], states[:, 1:]
        late = (before >= LATE_1) & (before <= LATE_3) & (after != UNSEEN)
        assert set(np.unique(after[late] - before[late])) <= {
            1,
            0,
            -1,
            -2,
            -3,
            MATURED - LATE_1,
            MATURED - 2,
            MATURED - 3,
        }
        assert ((after[late] <= before[late] + 1) | (after[late] == MATURED)).all()
        for final in (DEFAULT, PREPAID, MATURED):
            ended = (before == final) & (after != UNSEEN)
            assert (after[ended] == final).all()
        assert (states[:, 0] == CURRENT).all()


def test_a_default_is_in_the_month_in_which_the_chain_falls(block) -> None:
    for records in block.lenders.values():
        states, month = records.histories.states, records.histories.default_month
        bad = np.flatnonzero(month)
        assert (states[bad, month[bad]] == DEFAULT).all()
        assert (states[bad, month[bad] - 1] != DEFAULT).all()
        assert not (states[month == 0] == DEFAULT).any()
        # nobody is 90 days late before the fourth instalment
        assert month[bad].min() >= 4


def test_what_happens_agrees_with_the_probability_of_it(block) -> None:
    expected = np.concatenate([records.histories.pd_path[:, -1] for records in block.lenders.values()])
    month = np.concatenate([records.histories.default_month for records in block.lenders.values()])
    bad = (month > 0) & (month <= 12)
    error = np.sqrt((expected * (1 - expected)).sum())
    assert abs(bad.sum() - expected.sum()) < 4 * error
    assert (np.diff(np.concatenate([r.histories.pd_path for r in block.lenders.values()]), axis=1) >= -1e-12).all()


def test_nothing_is_seen_after_the_end_of_the_calendar(block) -> None:
    records = block.lenders["B1"]
    seen = (records.histories.states != UNSEEN).sum(axis=1) - 1
    assert (seen <= NUMBERS.calendar.months - records.book.terms.month).all()


def test_the_index_of_a_month_does_not_depend_on_how_many_follow(planned, block) -> None:
    book = block.lenders["G2"].book
    short, long = (dict(RiskPaths(NUMBERS, planned.economy, book, child(1, "x"))(months)) for months in (3, 12))
    assert all(np.array_equal(short[month], long[month]) for month in short)


def test_level_payments_pay_a_loan_off() -> None:
    amount, apr, term = np.array([120_000.0]), np.array([0.06]), np.array([36])
    payment = annuity(amount, apr, term)
    balance = amount.copy()
    for month in range(1, 37):
        balance = balance * 1.005 - payment
        assert np.isclose(scheduled_balance(amount, apr, term, np.array([month]))[0], max(balance[0], 0), atol=1e-6)
    assert abs(balance[0]) < 1e-6
