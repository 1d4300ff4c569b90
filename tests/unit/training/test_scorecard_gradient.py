from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.errors import NotFiniteError
from fedcredit.model.layout import ModalityShape
from fedcredit.model.scorecard import Scorecard
from fedcredit.training.scorecard_gradient import ScorecardGradient, scorecard_bounds

BINS = {"application": (2, 3, 4), "repayment": (3, 2)}
INPUTS = {name: ModalityShape(kind="static", bins=bins, dense=(1,)) for name, bins in BINS.items()}
MODEL = Scorecard(INPUTS)
GRID = 64


def table_of(rows: int, *, seed: int, held: tuple[str, ...] = ("application", "repayment")) -> CreditTable:
    rng = np.random.default_rng(seed)
    return CreditTable(
        entities=np.array([f"b{i}" for i in range(rows)], dtype=np.str_),
        labels=rng.integers(0, 2, size=rows).astype(np.int8),
        modalities={
            name: ModalityTable(
                codes=np.stack([rng.integers(0, bins, size=rows) for bins in BINS[name]], axis=1).astype(np.int16),
                dense=np.zeros((rows, 1), dtype=np.float32),
            )
            for name in held
        },
        dropped=0,
    )


def gradient(
    table: CreditTable,
    weights: np.ndarray,
    *,
    clip: float = 1.0,
    grid: int = GRID,
    batch: np.ndarray | None = None,
) -> np.ndarray:
    computation = ScorecardGradient(MODEL, table, clip=clip, grid=grid)
    return computation.integer_sum(weights, round_number=1, batch=batch).values


def weights_of(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(scale=2, size=MODEL.layout.size)


def one_by_one(table: CreditTable, weights: np.ndarray, *, clip: float, grid: int) -> list[int]:
    """Sum every borrower's gradient in Python integers."""
    offsets = {"application": (2, (2, 4, 7)), "repayment": (11, (12, 15))}
    total = [0] * MODEL.layout.size
    for i in range(len(table)):
        active = [0]
        for name, part in table.modalities.items():
            present, starts = offsets[name]
            active += [present - 1 if name == "application" else present]
            active += [start + int(code) for start, code in zip(starts, part.codes[i], strict=True)]
        score = sum(weights[place] for place in active) / math.sqrt(MODEL.active)
        residual = 1 / (1 + math.exp(-score)) - int(table.labels[i])
        step = round(max(-1.0, min(1.0, residual / clip)) * grid)
        for place in active:
            total[place] += step
    return total


@pytest.mark.parametrize("clip", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("held", [("application",), ("repayment",), ("application", "repayment")], ids=str)
def test_the_sum_is_that_of_one_borrower_after_the_other(held: tuple[str, ...], clip: float) -> None:
    table, weights = table_of(40, seed=1, held=held), weights_of(2)
    assert gradient(table, weights, clip=clip).tolist() == one_by_one(table, weights, clip=clip, grid=GRID)


def test_without_clipping_it_is_the_gradient_that_autograd_finds() -> None:
    table, weights = table_of(50, seed=3), weights_of(4)
    active = MODEL.active_parameters({name: part.codes for name, part in table.modalities.items()})
    vector = torch.tensor(weights, requires_grad=True)
    logits = vector[torch.from_numpy(active)].sum(1) / math.sqrt(MODEL.active)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, torch.from_numpy(table.labels.astype(np.float64)), reduction="sum"
    )
    loss.backward()
    assert vector.grad is not None
    grid = 10**6
    ours = gradient(table, weights, grid=grid) / grid / math.sqrt(MODEL.active)
    # Rounding adds at most half a step per borrower.
    np.testing.assert_allclose(ours, vector.grad.numpy(), atol=len(table) * 0.5 / grid)


TABLES = st.builds(
    table_of,
    st.integers(1, 12),
    seed=st.integers(0, 2**32),
    held=st.sampled_from([("application",), ("repayment",), ("application", "repayment")]),
)


@settings(deadline=None)
@given(TABLES, st.integers(0, 2**32), st.sampled_from([1.0, 0.2, 1e-9]), st.sampled_from([2, 64, 999]), st.data())
def test_no_borrower_changes_the_sum_by_more_than_the_stated_sensitivity(
    table: CreditTable, seed: int, clip: float, grid: int, data: st.DataObject
) -> None:
    weights = weights_of(seed) * data.draw(st.sampled_from([0.0, 1.0, 100.0, 2.0**18]))
    bounds = scorecard_bounds(MODEL, tuple(table.modalities), grid=grid)
    everyone = gradient(table, weights, clip=clip, grid=grid)
    gone = data.draw(st.integers(0, len(table) - 1))
    others = table.take(np.arange(len(table)) != gone)
    change = everyone - gradient(others, weights, clip=clip, grid=grid)
    assert bounds.sensitivity_squared is not None
    assert int((change**2).sum()) <= bounds.sensitivity_squared
    assert int(np.abs(change).max()) <= bounds.largest_entry
    assert not change[~bounds.reached].any()


def test_the_stated_sensitivity_is_reached_so_it_cannot_be_lowered() -> None:
    table = table_of(1, seed=5)
    weights = np.where(table.labels[0] == 0, 1.0, -1.0) * np.full(MODEL.layout.size, 1000.0)
    bounds = scorecard_bounds(MODEL, ("application", "repayment"), grid=GRID)
    assert int((gradient(table, weights) ** 2).sum()) == bounds.sensitivity_squared == GRID**2 * MODEL.active
    assert bounds.largest_entry == GRID


def test_the_bounds_count_the_parameters_of_the_modalities_that_are_held() -> None:
    # Intercept, presence and one bin of each of two features; 1 + 1 + 5 numbers can move.
    bounds = scorecard_bounds(MODEL, ("repayment",), grid=GRID)
    assert bounds.sensitivity_squared == GRID**2 * (1 + 1 + 2)
    assert int(bounds.reached.sum()) == 1 + 1 + 5


@settings(deadline=None)
@given(TABLES, st.integers(0, 2**32), st.data())
def test_the_sum_does_not_depend_on_order_or_on_who_holds_whom(
    table: CreditTable, seed: int, data: st.DataObject
) -> None:
    weights = weights_of(seed)
    whole = gradient(table, weights)
    order = np.array(data.draw(st.permutations(range(len(table)))))
    assert gradient(table.take(order), weights).tolist() == whole.tolist()
    owner = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(table), max_size=len(table))))
    parts = [gradient(table.take(owner == number), weights) for number in range(3)]
    assert sum(parts).tolist() == whole.tolist()


@pytest.mark.parametrize("key", ["label", "first feature", "last feature", "one each"])
def test_the_sum_is_bit_equal_for_partitions_that_are_far_from_alike(key: str) -> None:
    table, weights = table_of(5_000, seed=14), weights_of(15)
    owner = {
        "label": table.labels,
        "first feature": table.modalities["application"].codes[:, 0],
        "last feature": table.modalities["repayment"].codes[:, 1],
        "one each": np.minimum(np.arange(len(table)), 40),
    }[key]
    parts = [gradient(table.take(owner == number), weights) for number in np.unique(owner)]
    assert np.sum(parts, axis=0).tolist() == gradient(table, weights).tolist()


def test_a_batch_is_the_sum_over_those_who_are_in_it() -> None:
    table, weights = table_of(60, seed=16), weights_of(17)
    batch = np.random.default_rng(18).random(60) < 0.4
    assert gradient(table, weights, batch=batch).tolist() == gradient(table.take(batch), weights).tolist()
    assert not gradient(table, weights, batch=np.zeros(60, dtype=bool)).any()
    assert gradient(table, weights, batch=np.ones(60, dtype=bool)).tolist() == gradient(table, weights).tolist()


def test_no_borrower_gives_zeros() -> None:
    assert gradient(table_of(3, seed=6).take(np.arange(0)), weights_of(7)).tolist() == [0] * MODEL.layout.size


def test_what_an_institution_does_not_hold_stays_zero() -> None:
    table = table_of(30, seed=8, held=("repayment",))
    values = gradient(table, weights_of(9))
    reached = scorecard_bounds(MODEL, ("repayment",), grid=GRID).reached
    places = MODEL.layout.slices()
    for name in ("application.present", "application.bins"):
        assert not values[places[name]].any()
        assert not reached[places[name]].any()
    assert values[places["repayment.present"]] == values[places["intercept"]]


def test_a_number_that_is_not_finite_raises_instead_of_counting() -> None:
    weights = weights_of(10)
    weights[0] = np.nan
    with pytest.raises(NotFiniteError):
        gradient(table_of(3, seed=11), weights)


def test_the_values_do_not_show_in_a_traceback() -> None:
    computation = ScorecardGradient(MODEL, table_of(3, seed=12), clip=1.0, grid=GRID)
    result = computation.integer_sum(weights_of(13), round_number=1, batch=None)
    assert repr(result) == f"IntegerSum(size={MODEL.layout.size}, values hidden)"
