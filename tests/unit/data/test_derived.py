from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedcredit.contract import Contract
from fedcredit.data import derived
from fedcredit.data.derived import DERIVATIONS, KERNELS, Kernel
from fedcredit.data.features import encode

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


# The mean of the two newer steps minus the oldest one.
RISE = Kernel(number=0, weights=(-2, 1, 1), half=2, bias=1.5, word=0)
KERNEL_FEATURES = sorted(name for name in DERIVATIONS if name.startswith("kernel_"))


def on_the_kernels_scale(*steps: float) -> np.ndarray:
    """One row whose steps are these numbers once the kernel has taken its signed logarithm."""
    numbers = np.array([steps], dtype=np.float64)
    return np.sign(numbers) * np.expm1(np.abs(numbers))


def test_a_kernel_slides_over_the_steps_on_a_signed_logarithmic_scale() -> None:
    row = on_the_kernels_scale(0, 1, 3, -1, 5)
    # (1 + 3)/2 - 0, (3 - 1)/2 - 1, (-1 + 5)/2 - 3
    np.testing.assert_allclose(RISE.responses(row), [[2, 0, -1]], atol=1e-12)
    np.testing.assert_allclose(RISE.largest(row), [2])
    np.testing.assert_allclose(RISE.share(row), [1 / 3])


def test_a_dilated_kernel_skips_steps_as_far_as_they_fit() -> None:
    wide = Kernel(number=0, weights=(-2, 1, 1), half=2, bias=1.5, word=5)
    assert [wide.dilation(steps) for steps in (1, 2, 3, 4, 5, 6, 7)] == [1, 1, 1, 1, 2, 2, 3]
    # (3 + 5)/2 - 0 over steps 1, 3, 5; (-1 + 2)/2 - 1 over steps 2, 4, 6
    np.testing.assert_allclose(wide.responses(on_the_kernels_scale(0, 1, 3, -1, 5, 2)), [[4, -0.5]], atol=1e-12)


def test_a_short_channel_begins_with_its_oldest_step() -> None:
    np.testing.assert_allclose(RISE.responses(on_the_kernels_scale(1, 4)), [[(1 + 4) / 2 - 1]])
    np.testing.assert_array_equal(RISE.responses(np.array([[7.0]])), [[0.0]])


def test_the_kernels_are_the_published_ones_and_a_name_never_changes_its_meaning() -> None:
    assert [(kernel.weights, kernel.half, kernel.bias) for kernel in map(Kernel.draw, range(1, KERNELS + 1))] == [
        ((204, -147, -57), 204, -0.306),
        ((-29, -35, 64), 64, -0.628),
        ((-25, 146, -121), 146, 0.995),
        ((-50, 184, -134), 184, 0.712),
        ((-52, 101, -49), 101, 0.876),
        ((-267, 174, 93), 267, 0.66),
        ((-77, -29, 106), 106, -0.279),
        ((-45, -123, 168), 168, -0.144),
    ]
    assert [Kernel.draw(number).dilation(24) for number in range(1, KERNELS + 1)] == [10, 6, 1, 7, 4, 1, 8, 3]


def test_a_kernel_comes_from_the_hash_of_its_label() -> None:
    stream = hashlib.shake_256(b"fedcredit sequence kernel 1/3").digest(40)
    words = [int(word) for word in np.frombuffer(stream, dtype="<u8")]
    drawn = np.array([word % 201 for word in words[:3]])
    kernel = Kernel.draw(3)
    np.testing.assert_array_equal(kernel.weights, 3 * drawn - drawn.sum())
    assert kernel.bias == (words[3] % 1999 - 999) / 1000
    assert kernel.word == words[4]


@pytest.mark.parametrize("number", range(1, KERNELS + 1))
def test_the_weights_of_a_kernel_are_centred_and_of_one_size(number: int) -> None:
    kernel = Kernel.draw(number)
    assert sum(kernel.weights) == 0
    assert sum(abs(weight) for weight in kernel.weights) == 2 * kernel.half > 0
    assert -1 < kernel.bias < 1


@pytest.mark.parametrize("name", KERNEL_FEATURES)
@pytest.mark.parametrize("level", [0.0, -2.0, 0.1, 1e6, -1e300])
def test_a_channel_that_does_not_move_responds_with_exactly_nothing(name: str, level: float) -> None:
    kernel = Kernel.draw(int(name.split("_")[1]))
    expected = 0.0 if name.endswith("max") else float(kernel.bias < 0)
    np.testing.assert_array_equal(DERIVATIONS[name].function(np.full((2, 6), level)), [expected, expected])


@given(hnp.arrays(np.float64, (3, 6), elements=st.floats(-1e12, 1e12)), st.integers(1, KERNELS))
def test_a_response_stays_within_the_range_of_the_channel(channel: np.ndarray, number: int) -> None:
    logarithms = np.sign(channel) * np.log1p(np.abs(channel))
    widest = logarithms.max(axis=1) - logarithms.min(axis=1)
    kernel = Kernel.draw(number)
    assert (np.abs(kernel.responses(channel)) <= widest[:, None] * (1 + 1e-12) + 1e-300).all()
    assert ((kernel.share(channel) >= 0) & (kernel.share(channel) <= 1)).all()


@pytest.mark.parametrize("number", range(1, KERNELS + 1))
def test_large_amounts_respond_alike_in_every_currency(number: int) -> None:
    amounts = np.array([[2e4, 5e4, 1e5, 8e4, 3e4, 9e4]])
    np.testing.assert_allclose(
        Kernel.draw(number).responses(amounts), Kernel.draw(number).responses(30 * amounts), atol=1e-4
    )


@pytest.mark.parametrize("name", KERNEL_FEATURES)
def test_a_missing_step_makes_a_kernel_feature_missing(name: str) -> None:
    features = DERIVATIONS[name].function(np.array([[1.0, 2.0, NAN, 0.0, 0.0, 0.0], [1.0] * 6]))
    np.testing.assert_array_equal(np.isnan(features), [True, False])


def test_a_contract_may_name_a_kernel_and_give_it_a_grid(
    contract: Callable[..., Contract], table: Callable[..., pa.Table]
) -> None:
    worst = "worst: {function: highest, inputs: [late], unit: days, missing: nullable, grid: [1, 30]}"
    kernel = "worst: {function: kernel_2_max, inputs: [late], unit: log ratio, missing: nullable, grid: [-0.01, 0.01]}"
    made = contract(old=worst, new=kernel)
    late = table().to_pydict()
    codes = encode(table(), made, ["repayment"], place="t").modalities["repayment"].codes[:, 0]
    for first, second, code in zip(late["late_1"], late["late_2"], codes.tolist(), strict=True):
        # Over two steps kernel 2 is the newer minus the older: its newest weight is 1, the others sum to -1.
        expected = 3 if first is None or second is None else 0 if second < first else 2 if second > first else 1
        assert code == expected


def test_there_are_two_features_of_each_kernel() -> None:
    assert len(KERNEL_FEATURES) == 2 * KERNELS


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
