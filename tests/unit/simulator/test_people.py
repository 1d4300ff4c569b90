"""The pool and how an institution draws from it."""

from __future__ import annotations

import numpy as np
import pytest

from fedcredit.simulator.parameters import load_world
from fedcredit.simulator.people import CREDIT, LIQUIDITY, PRUDENCE, choose, correlation, draw_people, logistic
from fedcredit.simulator.seeds import child

NUMBERS = load_world("missing_modality").numbers


def _pool(count: int = 60_000):
    return draw_people(child(1, "pool"), NUMBERS, np.repeat([0, 1, 2], [count // 2, count // 3, count // 6]))


def test_traits_have_the_correlations_of_the_world() -> None:
    found = np.corrcoef(_pool().traits.T)
    assert np.abs(found - correlation(NUMBERS)).max() < 0.02
    assert correlation(NUMBERS)[CREDIT, PRUDENCE] == 0.30


def test_a_negative_control_has_uncorrelated_traits() -> None:
    assert np.array_equal(correlation(load_world("negative_control").numbers), np.eye(5))


def test_health_has_unit_variance() -> None:
    assert abs(_pool().health.std() - 1) < 0.02


def test_counts_of_enquiries_grow_with_the_window() -> None:
    enquiries = _pool().enquiries
    assert (enquiries[:, 0] <= enquiries[:, 1]).all()
    assert (enquiries[:, 1] <= enquiries[:, 2]).all()


def test_a_draw_has_the_kinds_asked_for_and_nobody_twice() -> None:
    pool = _pool()
    rows = choose(child(2, "x"), pool, np.array([500, 0, 70]), log_weight=np.zeros(len(pool)))
    assert np.unique(rows).size == 570
    assert np.bincount(pool.kind[rows], minlength=3).tolist() == [500, 0, 70]


def test_an_exponential_tilt_shifts_the_mean_of_a_trait_as_asked() -> None:
    pool, shift = _pool(), np.zeros(5)
    shift[CREDIT], shift[LIQUIDITY] = -0.45, -0.35
    tilt = pool.traits @ np.linalg.solve(correlation(NUMBERS), shift)
    rows = choose(child(2, "x"), pool, np.array([1500, 0, 0]), log_weight=tilt)
    means = pool.traits[rows].mean(axis=0)
    assert abs(means[CREDIT] + 0.45) < 0.09
    assert abs(means[LIQUIDITY] + 0.35) < 0.09


def test_a_pool_that_is_too_small_is_refused() -> None:
    pool = _pool(600)
    with pytest.raises(ValueError, match="300 of kind 0, 301 are wanted"):
        choose(child(2, "x"), pool, np.array([301, 0, 0]), log_weight=np.zeros(len(pool)))


def test_the_logistic_function_is_right_and_never_overflows() -> None:
    values = logistic(np.array([0.0, np.log(3), -800.0, 800.0]))
    assert np.allclose(values, [0.5, 0.75, 0.0, 1.0])
