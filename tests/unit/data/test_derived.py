from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcredit.data import derived
from fedcredit.data.derived import DERIVATIONS

NAN = np.nan
LATE = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [-2.0, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("latest", [0, 0, 3, 0]),
        ("previous", [0, 0, 1, -1]),
        ("highest", [0, 2, 3, 0]),
        ("mean", [0, 2 / 3, 4 / 3, -1]),
        ("count_positive", [0, 1, 2, 0]),
        ("count_zero", [3, 2, 1, 1]),
        ("steps_since_positive", [3, 2, 0, 3]),
    ],
)
def test_a_summary_of_a_channel_is_what_its_name_says(name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(DERIVATIONS[name].function(LATE), expected)


@pytest.mark.parametrize("name", ["highest", "mean", "count_positive", "count_zero", "steps_since_positive"])
def test_a_missing_step_makes_a_summary_missing(name: str) -> None:
    assert np.isnan(DERIVATIONS[name].function(np.array([[1.0, NAN, 0.0]]))).all()


def test_a_ratio_needs_a_whole_above_zero() -> None:
    part, whole = np.array([1.0, 1.0, 1.0, NAN]), np.array([4.0, 0.0, -2.0, 4.0])
    np.testing.assert_array_equal(derived.ratio(part, whole), [0.25, NAN, NAN, NAN])


def test_a_ratio_to_almost_nothing_stays_finite() -> None:
    part, whole = np.array([1.0, -1.0]), np.array([1e-310, 1e-310])
    np.testing.assert_array_equal(derived.ratio(part, whole), [1e300, -1e300])


def test_ratios_of_a_sequence_take_its_ends() -> None:
    bill, limit = np.array([[10.0, 99.0, 30.0]]), np.array([[100.0, 100.0, 60.0]])
    np.testing.assert_allclose(derived.latest_ratio(bill, limit), [0.5])
    np.testing.assert_allclose(derived.ratio_change(bill, limit), [0.4])


def test_a_payment_settles_the_bill_of_the_step_before() -> None:
    bill = np.array([[100.0, 100.0, 777.0], [0.0, -5.0, 50.0], [-50.0, 40.0, 0.0]])
    payment = np.array([[999.0, 60.0, 40.0], [1.0, 1.0, 1.0], [0.0, 0.0, 10.0]])
    np.testing.assert_allclose(derived.repaid_share(payment, bill), [0.5, NAN, 0.25])


CELLS = hnp.arrays(
    np.float64, (5, 4), elements=st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6), st.just(NAN))
)


@pytest.mark.parametrize("name", sorted(DERIVATIONS))
@given(first=CELLS, second=CELLS, order=st.permutations(range(5)))
def test_every_function_looks_at_one_row_only(
    name: str, first: np.ndarray, second: np.ndarray, order: list[int]
) -> None:
    derivation = DERIVATIONS[name]
    inputs = (first, second)[: derivation.inputs]
    whole = derivation.function(*inputs)
    np.testing.assert_array_equal(whole[order], derivation.function(*(cells[order] for cells in inputs)))
    alone = [derivation.function(*(cells[row : row + 1] for cells in inputs))[0] for row in range(5)]
    np.testing.assert_array_equal(whole, np.array(alone))
    assert whole.shape == (first.shape if derivation.kind == "any" else (5,))
