"""Columnar tables in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fedcredit.simulator.rows import Rows


@dataclass(frozen=True, kw_only=True)
class Inner(Rows):
    x: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Outer(Rows):
    name: str
    inner: Inner
    y: np.ndarray


def _outer(name: str, *values: int) -> Outer:
    return Outer(name=name, inner=Inner(x=np.array(values)), y=10 * np.array(values))


def test_rows_are_taken_through_all_levels_in_the_order_given() -> None:
    taken = _outer("a", 1, 2, 3).take(np.array([2, 0]))
    assert (taken.name, taken.inner.x.tolist(), taken.y.tolist()) == ("a", [3, 1], [30, 10])
    assert len(taken) == 2
    assert _outer("a", 1, 2, 3).take(np.array([False, True, False])).y.tolist() == [20]


def test_tables_are_stacked_and_what_belongs_to_the_whole_comes_from_the_first() -> None:
    both = Outer.stack([_outer("a", 1), _outer("b", 2, 3)])
    assert (both.name, both.inner.x.tolist(), both.y.tolist()) == ("a", [1, 2, 3], [10, 20, 30])


def test_rows_are_replaced_in_a_copy() -> None:
    before = _outer("a", 1, 2, 3)
    after = before.with_rows(np.array([1]), _outer("b", 9))
    assert (after.inner.x.tolist(), after.y.tolist(), after.name) == ([1, 9, 3], [10, 90, 30], "a")
    assert before.y.tolist() == [10, 20, 30]


def test_a_table_without_columns_has_no_length() -> None:
    with pytest.raises(TypeError, match="no columns"):
        len(Rows.stack([_Empty()]))


@dataclass(frozen=True, kw_only=True)
class _Empty(Rows):
    name: str = "x"
