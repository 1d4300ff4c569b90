"""Exact figures from rows: by hand, against scikit-learn and against the direct sums of DeLong's paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from fedcredit.errors import EvaluationError, EvaluationInputError, LayoutMismatchError, NotFiniteError
from fedcredit.evaluation import rows

SCORES = np.array([0.1, 0.2, 0.2, 0.4, 0.7, 0.9])
LABELS = np.array([0, 0, 1, 0, 1, 1])
# A few values only, so that ties abound; both outcomes at least twice.
TIED_ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 1)), min_size=4, max_size=40
).filter(lambda drawn: 2 <= sum(label for *_, label in drawn) <= len(drawn) - 2)


def _columns(drawn: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    table = np.array(drawn)
    return table[:, 0] / 5.0, table[:, 1] / 5.0, table[:, 2]


def _direct_components(scores: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the AUC and DeLong's structural components by comparing every bad with every good."""
    bads, goods = scores[labels == 1], scores[labels == 0]
    wins = (bads[:, None] > goods[None, :]) + 0.5 * (bads[:, None] == goods[None, :])
    return float(wins.mean()), wins.mean(axis=1), wins.mean(axis=0)


def _two_normals(*, goods: int, bads: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    scores = np.concatenate((generator.normal(size=goods), generator.normal(1.0, 1.0, size=bads)))
    return scores, np.repeat([0, 1], [goods, bads])


def test_auc_of_a_small_case_is_as_by_hand() -> None:
    # Goods .1 .2 .4: the bad at .2 wins 1.5, those at .7 and .9 win 3 each, of 9 pairs.
    assert rows.auc(SCORES, LABELS) == pytest.approx(7.5 / 9)


def test_ks_of_a_small_case_is_as_by_hand() -> None:
    # At .4 all goods and one bad of three are below or equal.
    assert rows.ks(SCORES, LABELS) == pytest.approx(2 / 3)


def test_ks_of_a_score_that_ranks_backwards_is_a_distance_too() -> None:
    assert rows.ks(-SCORES, LABELS) == pytest.approx(2 / 3)


def test_ties_across_outcomes_open_no_distance() -> None:
    assert rows.ks([0.5] * 4, [0, 1, 0, 1]) == 0.0
    assert rows.auc([0.5] * 4, [0, 1, 0, 1]) == 0.5


@given(TIED_ROWS)
def test_auc_and_ks_agree_with_scikit_learn(drawn: list[tuple[int, int, int]]) -> None:
    scores, _, labels = _columns(drawn)
    false_alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert rows.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert rows.ks(scores, labels) == pytest.approx(np.abs(hits - false_alarms).max())
    assert rows.brier(scores, labels) == pytest.approx(brier_score_loss(labels, scores, pos_label=1))


@given(TIED_ROWS)
def test_the_fast_interval_is_the_direct_one(drawn: list[tuple[int, int, int]]) -> None:
    scores, _, labels = _columns(drawn)
    area, of_bads, of_goods = _direct_components(scores, labels)
    half = 1.959963985 * np.sqrt(np.var(of_bads, ddof=1) / of_bads.size + np.var(of_goods, ddof=1) / of_goods.size)
    interval = rows.delong_interval(scores, labels)
    assert interval.value == pytest.approx(area)
    assert interval.low == pytest.approx(max(0.0, area - half), abs=1e-7)
    assert interval.high == pytest.approx(min(1.0, area + half), abs=1e-7)


@given(TIED_ROWS)
def test_the_paired_interval_is_the_direct_one_with_its_covariances(drawn: list[tuple[int, int, int]]) -> None:
    first, second, labels = _columns(drawn)
    area_a, bads_a, goods_a = _direct_components(first, labels)
    area_b, bads_b, goods_b = _direct_components(second, labels)
    matrix = np.cov(bads_a, bads_b) / bads_a.size + np.cov(goods_a, goods_b) / goods_a.size
    variance = matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1]
    half = 1.959963985 * np.sqrt(max(variance, 0.0))
    interval = rows.delong_difference(first, second, labels)
    assert interval.value == pytest.approx(area_a - area_b, abs=1e-12)
    assert interval.low == pytest.approx(max(-1.0, area_a - area_b - half), abs=1e-6)
    assert interval.high == pytest.approx(min(1.0, area_a - area_b + half), abs=1e-6)


def test_a_score_does_not_differ_from_itself() -> None:
    interval = rows.delong_difference(SCORES, SCORES, LABELS)
    assert (interval.value, interval.low, interval.high) == (0.0, 0.0, 0.0)


def test_a_higher_level_gives_a_wider_interval() -> None:
    scores, labels = _two_normals(goods=500, bads=50, generator=np.random.default_rng(1))
    narrow, wide = rows.delong_interval(scores, labels, level=0.5), rows.delong_interval(scores, labels, level=0.95)
    # The quotient of the two normal quantiles, 0.674490 / 1.959964.
    assert (narrow.high - narrow.low) / (wide.high - wide.low) == pytest.approx(0.344134, rel=1e-5)


@pytest.mark.statistical
def test_the_delong_interval_covers_the_truth_as_often_as_it_says() -> None:
    """400 draws; coverage 0.95 falls outside 0.91 to 0.985 with probability below 1e-3. Half a width covers 0.67."""
    generator = np.random.default_rng(2)
    truth = 0.760250  # Phi(1 / sqrt 2)
    hits = 0
    for _ in range(400):
        interval = rows.delong_interval(*_two_normals(goods=900, bads=100, generator=generator))
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / 400 <= 0.985


@pytest.mark.statistical
def test_the_paired_interval_covers_no_difference_as_often_as_it_says() -> None:
    """400 draws of two equally good scores of correlation 0.8; the same bounds as for one score."""
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        labels = np.repeat([0, 1], [900, 100])
        shared = labels + np.sqrt(0.8) * generator.normal(size=1000)
        first = shared + np.sqrt(0.2) * generator.normal(size=1000)
        second = shared + np.sqrt(0.2) * generator.normal(size=1000)
        interval = rows.delong_difference(first, second, labels)
        hits += interval.low <= 0.0 <= interval.high
    assert 0.91 <= hits / 400 <= 0.985


@pytest.mark.statistical
def test_the_ks_interval_covers_the_truth_in_most_draws() -> None:
    """250 draws; a coverage of 0.91 falls below 0.85 with probability under 1e-3. Percentiles cover 0.82."""
    generator = np.random.default_rng(4)
    truth = 0.382925  # 2 Phi(1/2) - 1
    hits = 0
    for _ in range(250):
        scores, labels = _two_normals(goods=1500, bads=300, generator=generator)
        interval = rows.ks_interval(scores, labels, generator=generator, resamples=100)
        hits += interval.low <= truth <= interval.high
    assert hits / 250 >= 0.85


def test_the_ks_interval_holds_its_value_and_repeats_with_its_generator() -> None:
    scores, labels = _two_normals(goods=300, bads=40, generator=np.random.default_rng(5))
    first = rows.ks_interval(scores, labels, generator=np.random.default_rng(6))
    assert first == rows.ks_interval(scores, labels, generator=np.random.default_rng(6))
    assert first != rows.ks_interval(scores, labels, generator=np.random.default_rng(7))
    assert first.value == rows.ks(scores, labels)
    assert first.low < first.value < first.high


def test_perfect_separation_leaves_the_ks_nothing_to_vary() -> None:
    interval = rows.ks_interval([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], generator=np.random.default_rng(8))
    assert (interval.value, interval.low, interval.high) == (1.0, 1.0, 1.0)


def test_the_bootstrap_needs_two_resamples() -> None:
    with pytest.raises(EvaluationInputError):
        rows.ks_interval(SCORES, LABELS, generator=np.random.default_rng(9), resamples=1)


def test_brier_and_observed_over_expected_are_as_by_hand() -> None:
    assert rows.brier([0.1, 0.6, 1.0], [0, 1, 0]) == pytest.approx((0.01 + 0.16 + 1.0) / 3)
    assert rows.observed_expected([0.1, 0.6, 1.0], [0, 1, 0]) == pytest.approx(1 / 1.7)
    assert rows.observed_expected([0.1, 0.6], [0, 0]) == 0.0


def test_no_expected_default_has_no_ratio() -> None:
    with pytest.raises(EvaluationError):
        rows.observed_expected([0.0, 0.0], [0, 1])


def test_deciles_hold_a_tenth_of_the_rows_each() -> None:
    scores = np.arange(50) / 50
    labels = (np.arange(50) >= 45).astype(int)
    table = rows.calibration_deciles(scores, labels)
    assert [line.n for line in table] == [5] * 10
    assert [line.mean_predicted for line in table] == pytest.approx([(5 * i + 2) / 50 for i in range(10)])
    assert [line.observed for line in table] == [0.0] * 9 + [1.0]
    # Wilson 95 % for 0 of 5: the upper end is z² / (n + z²) = 3.841459 / 8.841459.
    assert (table[0].low, table[0].high) == (0.0, pytest.approx(0.434482, abs=1e-6))
    assert (table[9].low, table[9].high) == (pytest.approx(0.565518, abs=1e-6), 1.0)


@given(TIED_ROWS, st.integers(0, 2**32))
def test_deciles_count_every_row_once_whatever_the_order(drawn: list[tuple[int, int, int]], seed: int) -> None:
    scores, _, labels = _columns(drawn)
    order = np.random.default_rng(seed).permutation(len(drawn))
    table = rows.calibration_deciles(scores, labels)
    shuffled = rows.calibration_deciles(scores[order], labels[order])
    assert np.array(table) == pytest.approx(np.array(shuffled))
    assert sum(line.n for line in table) == len(drawn)
    assert sum(line.n * line.observed for line in table) == pytest.approx(labels.sum())
    assert sum(line.n * line.mean_predicted for line in table) == pytest.approx(scores.sum())
    assert all(0.0 <= line.low <= line.observed <= line.high <= 1.0 for line in table)


def test_equal_scores_make_one_line() -> None:
    (line,) = rows.calibration_deciles([0.3] * 25, [1] * 5 + [0] * 20)
    assert (line.n, line.observed, line.mean_predicted) == (25, 0.2, pytest.approx(0.3))


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_one_outcome_has_no_ranking_figure(labels: list[int]) -> None:
    scores, generator = [0.1, 0.2, 0.3], np.random.default_rng(10)
    for figure in (
        lambda: rows.auc(scores, labels),
        lambda: rows.ks(scores, labels),
        lambda: rows.delong_interval(scores, labels),
        lambda: rows.delong_difference(scores, scores, labels),
        lambda: rows.ks_interval(scores, labels, generator=generator),
    ):
        with pytest.raises(EvaluationError) as raised:
            figure()
        assert raised.value.code == "FC-6003"


def test_one_bad_has_no_interval() -> None:
    with pytest.raises(EvaluationError):
        rows.delong_interval([0.1, 0.2, 0.3], [0, 0, 1])


def test_no_row_has_no_figure() -> None:
    for figure in (rows.auc, rows.ks, rows.brier, rows.observed_expected, rows.calibration_deciles):
        with pytest.raises(EvaluationError):
            figure([], [])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_score_that_is_not_finite_has_no_figure(value: float) -> None:
    scores, labels = [0.1, 0.2, 0.3, value], [0, 1, 0, 1]
    for figure in (rows.auc, rows.ks, rows.delong_interval, rows.brier, rows.observed_expected):
        with pytest.raises(NotFiniteError):
            figure(scores, labels)
    with pytest.raises(NotFiniteError):
        rows.calibration_deciles(scores, labels)
    with pytest.raises(NotFiniteError):
        rows.delong_difference([0.1, 0.2, 0.3, 0.4], scores, labels)


def test_any_finite_score_ranks_but_only_a_probability_is_calibrated() -> None:
    scores, labels = [-2.0, 1.0, 3.0, 7.0], [0, 1, 0, 1]
    assert rows.auc(scores, labels) == 0.75
    for figure in (rows.brier, rows.observed_expected, rows.calibration_deciles):
        with pytest.raises(EvaluationInputError):
            figure(scores, labels)


def test_a_second_score_of_another_length_is_not_compared() -> None:
    with pytest.raises(LayoutMismatchError):
        rows.delong_difference(SCORES, SCORES[:-1], LABELS)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_a_level_outside_zero_and_one_is_refused(level: float) -> None:
    with pytest.raises(EvaluationInputError):
        rows.delong_interval(SCORES, LABELS, level=level)
