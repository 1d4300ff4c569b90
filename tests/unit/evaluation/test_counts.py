"""Counts per score bin: exact sums, exact lanes, and nothing that is not a count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.errors import EvaluationInputError, LayoutMismatchError, NotFiniteError
from fedcredit.evaluation import ScoreCounts, count_scores, score_edges
from fedcredit.messages import SCORE_BINS

EDGES = np.array([0.0, 0.25, 0.5, 1.0])
SCORED_ROWS = st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(0, 1)), max_size=30)


def _counted(rows: list[tuple[float, int]]) -> ScoreCounts:
    return count_scores(np.array([score for score, _ in rows]), np.array([label for _, label in rows]), EDGES)


def test_a_score_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last() -> None:
    counts = count_scores([0.0, 0.25, 0.2499, 0.5, 1.0], [0, 1, 1, 0, 1], EDGES)
    assert counts.good.tolist() == [1, 0, 1]
    assert counts.bad.tolist() == [1, 1, 1]


@given(SCORED_ROWS, SCORED_ROWS)
def test_counts_of_all_rows_are_the_sum_of_the_members_counts(
    first: list[tuple[float, int]], second: list[tuple[float, int]]
) -> None:
    assert _counted(first + second) == _counted(first) + _counted(second)


@given(SCORED_ROWS, st.tuples(st.floats(0.0, 1.0), st.integers(0, 1)))
def test_one_row_more_changes_one_cell_by_one(rows: list[tuple[float, int]], extra: tuple[float, int]) -> None:
    change = _counted([*rows, extra]).to_lanes() - _counted(rows).to_lanes()
    assert sorted(change.tolist()) == [0, 0, 0, 0, 0, 1]


@given(st.lists(st.integers(-(2**53), 2**53), min_size=6, max_size=6))
def test_lanes_are_goods_then_bads_and_come_back_unchanged(lanes: list[int]) -> None:
    counts = ScoreCounts.from_lanes(np.array(lanes, dtype=np.int64), edges=EDGES)
    assert counts.good.tolist() + counts.bad.tolist() == lanes
    assert counts.to_lanes().dtype == np.int64
    assert counts.to_lanes().tolist() == lanes


def test_equal_tables_are_equal_and_share_a_hash() -> None:
    first, second = _counted([(0.1, 1)]), _counted([(0.2, 1)])
    assert first == second
    assert hash(first) == hash(second)
    assert first != _counted([(0.1, 0)])
    assert first != "a table"


def test_no_row_counts_as_zeros() -> None:
    assert count_scores([], [], EDGES).to_lanes().tolist() == [0] * 6


def test_a_table_with_another_number_of_bins_is_not_added() -> None:
    other = count_scores([0.1], [1], [0.0, 0.5, 1.0])
    with pytest.raises(LayoutMismatchError) as raised:
        _ = _counted([]) + other
    assert (raised.value.fields["actual"], raised.value.fields["expected"]) == (3, 4)


def test_a_table_with_one_edge_moved_is_not_added() -> None:
    other = count_scores([0.1], [1], [0.0, np.nextafter(0.25, 1.0), 0.5, 1.0])
    with pytest.raises(LayoutMismatchError) as raised:
        _ = _counted([]) + other
    assert (raised.value.fields["actual"], raised.value.fields["expected"]) == (3, 4)


def test_the_arrays_are_copies_and_cannot_be_written() -> None:
    good = np.array([1, 2, 3])
    counts = ScoreCounts(edges=EDGES, good=good, bad=good)
    good[0] = 99
    assert counts.good.tolist() == [1, 2, 3]
    for array in (counts.edges, counts.good, counts.bad):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_the_public_edges_are_symmetric_around_nothing_but_the_base_rate() -> None:
    edges = score_edges(0.2)
    assert edges.size == SCORE_BINS + 1
    assert (edges[0], edges[-1]) == (0.0, 1.0)
    logits = np.log(edges[1:-1] / (1.0 - edges[1:-1]))
    # logit(0.2) = ln(0.25) = -1.3863
    assert (logits[0], logits[-1]) == (pytest.approx(-3.3863, abs=1e-4), pytest.approx(0.3137, abs=1e-4))
    assert np.all(np.diff(edges) > 0)
    assert score_edges(0.5)[1:-1] == pytest.approx(1 / (1 + np.exp(-(logits + np.log(4)))))


@pytest.mark.parametrize("base_rate", [0.0, 1.0, -0.1, float("nan")])
def test_edges_around_an_impossible_base_rate_are_refused(base_rate: float) -> None:
    with pytest.raises(EvaluationInputError):
        score_edges(base_rate)


@pytest.mark.parametrize(
    "edges",
    [
        [0.0, 0.5, 0.5, 1.0],
        [0.0, 0.6, 0.5, 1.0],
        [0.1, 0.5, 1.0],
        [0.0, 0.5, 0.9],
        [0.0, float("nan"), 1.0],
        [0.0],
        [[0.0, 1.0]],
    ],
)
def test_edges_that_do_not_rise_from_zero_to_one_are_refused(edges: list[float]) -> None:
    with pytest.raises(EvaluationInputError):
        count_scores([0.5], [1], edges)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(NotFiniteError):
        count_scores([0.5, value], [0, 1], EDGES)


@pytest.mark.parametrize("value", [-1e-9, 1.0 + 1e-9])
def test_a_score_that_is_no_probability_is_refused_without_naming_it(value: float) -> None:
    with pytest.raises(EvaluationInputError) as raised:
        count_scores([0.5, value], [0, 1], EDGES)
    assert repr(value) not in str(raised.value)


@pytest.mark.parametrize("label", [2, -1, 0.5, float("nan")])
def test_a_label_other_than_zero_and_one_is_refused(label: float) -> None:
    with pytest.raises(EvaluationInputError):
        count_scores([0.5, 0.5], [0, label], EDGES)


def test_rows_without_a_label_each_are_refused() -> None:
    with pytest.raises(LayoutMismatchError):
        count_scores([0.5, 0.5], [0], EDGES)


def test_tables_are_vectors() -> None:
    with pytest.raises(EvaluationInputError):
        count_scores([[0.5]], [1], EDGES)
    with pytest.raises(EvaluationInputError):
        count_scores([0.5], [[1]], EDGES)


@pytest.mark.parametrize("length", [5, 7])
def test_a_lane_vector_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(LayoutMismatchError):
        ScoreCounts.from_lanes(np.zeros(length, dtype=np.int64), edges=EDGES)


@pytest.mark.parametrize("dtype", [np.float64, np.uint64, np.bool_])
def test_lanes_that_are_not_integers_are_refused(dtype: type) -> None:
    with pytest.raises(EvaluationInputError):
        ScoreCounts.from_lanes(np.zeros(6, dtype=dtype), edges=EDGES)


@pytest.mark.parametrize("count", [2**53 + 1, -(2**53) - 1, -(2**63)])
def test_a_count_without_an_exact_float_is_refused(count: int) -> None:
    with pytest.raises(EvaluationInputError):
        ScoreCounts.from_lanes(np.array([0, 0, 0, 0, 0, count]), edges=EDGES)


def test_a_sum_beyond_the_exact_range_raises_instead_of_wrapping() -> None:
    large = ScoreCounts.from_lanes(np.full(6, 2**53), edges=EDGES)
    with pytest.raises(EvaluationInputError):
        _ = large + large


def test_one_count_too_few_for_the_bins_is_refused() -> None:
    with pytest.raises(LayoutMismatchError):
        ScoreCounts(edges=EDGES, good=np.array([1, 2]), bad=np.array([1, 2, 3]))
