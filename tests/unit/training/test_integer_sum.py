from __future__ import annotations

import numpy as np
import pytest

from fedcredit.training.integer_sum import IntegerSum, on_grid


@pytest.mark.parametrize("size", [0, 1, 16_383, 16_384, 16_385, 300_001])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_numbers_become_the_nearest_whole_steps_whatever_their_number(size: int, kind: type[np.floating]) -> None:
    values = np.random.default_rng(size).normal(size=size).astype(kind)
    before = values.copy()
    whole = on_grid(values, steps=1000.0)
    assert whole.dtype == np.int64
    assert whole.tolist() == np.rint(before * kind(1000)).astype(np.int64).tolist()
    assert values.tolist() == before.tolist()


def test_halves_go_to_the_even_neighbour() -> None:
    assert on_grid(np.array([0.25, 0.75, -0.25, -0.75, 1.25]), steps=2.0).tolist() == [0, 2, 0, -2, 2]


def test_a_sum_does_not_show_its_numbers() -> None:
    assert "1234" not in repr(IntegerSum(values=np.array([1234])))
