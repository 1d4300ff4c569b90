"""Figures from counts: by hand, and against the exact figures of the same rows."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from fedcredit.errors import EvaluationError, EvaluationInputError
from fedcredit.evaluation import (
    Figures,
    ScoreCounts,
    auc_interval,
    count_scores,
    figures,
    noisy_auc_interval,
    rows,
    score_edges,
)

EDGES = np.array([0.0, 0.2, 0.6, 1.0])  # centres 0.1, 0.4, 0.8
# 10 goods, 5 bads. Pairs won by the bads: 1 in bin 0: 6/2 = 3; 1 in bin 1: 6 + 3/2 = 7.5; 3 in bin 2: 3 * 9.5 = 28.5.
TABLE = ScoreCounts(edges=EDGES, good=np.array([6, 3, 1]), bad=np.array([1, 1, 3]))
CELLS = st.lists(st.integers(0, 20), min_size=6, max_size=6).filter(lambda c: sum(c[:3]) > 1 and sum(c[3:]) > 1)


def _expanded(counts: ScoreCounts) -> tuple[np.ndarray, np.ndarray]:
    """Return one row per counted row, its score the centre of its bin."""
    centres = (counts.edges[:-1] + counts.edges[1:]) / 2
    scores = np.concatenate((np.repeat(centres, counts.good), np.repeat(centres, counts.bad)))
    return scores, np.repeat([0, 1], [counts.good.sum(), counts.bad.sum()])


def _credit_rows(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = 1.0 / (1.0 + np.exp(3.0 - generator.normal(size=n)))
    return scores, (generator.random(n) < scores).astype(np.int64)


def test_every_figure_of_a_small_table_is_as_by_hand() -> None:
    released = Figures.from_counts(TABLE)
    assert released.auc == pytest.approx(39 / 50)
    assert released.gini == pytest.approx(2 * 39 / 50 - 1)
    assert released.ks == pytest.approx(0.5)  # 9/10 of the goods and 2/5 of the bads below 0.6
    # 6 * .01 + 3 * .16 + 1 * .64 + 1 * .81 + 1 * .36 + 3 * .04 over 15 rows
    assert released.brier == pytest.approx(2.47 / 15)
    assert released.observed_expected == pytest.approx(5 / (7 * 0.1 + 4 * 0.4 + 4 * 0.8))


def test_the_calibration_error_of_a_small_table_is_as_by_hand() -> None:
    assert figures.expected_calibration_error(TABLE) == pytest.approx((abs(1 - 0.7) + abs(1 - 1.6) + abs(3 - 3.2)) / 15)


def test_the_curves_start_at_zero_and_end_at_one() -> None:
    shares = figures.cumulative_shares(TABLE)
    assert shares.good == pytest.approx([0, 0.6, 0.9, 1])
    assert shares.bad == pytest.approx([0, 0.2, 0.4, 1])


def test_the_calibration_table_leaves_empty_bins_out() -> None:
    counts = ScoreCounts(edges=EDGES, good=np.array([9, 0, 1]), bad=np.array([1, 0, 0]))
    first, last = figures.calibration_table(counts)
    assert (first.mean_predicted, first.observed, first.n) == (pytest.approx(0.1), pytest.approx(0.1), 10)
    # Wilson 95 % for 1 of 10, as tabled: 0.0179 to 0.4042.
    assert (first.low, first.high) == (pytest.approx(0.0179, abs=5e-5), pytest.approx(0.4042, abs=5e-5))
    assert (last.mean_predicted, last.observed, last.n, last.low) == (pytest.approx(0.8), 0.0, 1, 0.0)


@given(CELLS)
def test_figures_of_a_table_are_the_exact_figures_of_rows_at_the_centres(cells: list[int]) -> None:
    counts = ScoreCounts.from_lanes(np.array(cells), edges=EDGES)
    scores, labels = _expanded(counts)
    released = Figures.from_counts(counts)
    assert released.auc == pytest.approx(roc_auc_score(labels, scores))
    assert released.ks == pytest.approx(rows.ks(scores, labels))
    assert released.brier == pytest.approx(rows.brier(scores, labels))
    assert released.observed_expected == pytest.approx(rows.observed_expected(scores, labels))


@given(CELLS)
def test_the_interval_of_a_table_is_the_delong_interval_of_its_tied_rows(cells: list[int]) -> None:
    counts = ScoreCounts.from_lanes(np.array(cells), edges=EDGES)
    binned, exact = auc_interval(counts), rows.delong_interval(*_expanded(counts))
    assert (binned.value, binned.low, binned.high) == pytest.approx((exact.value, exact.low, exact.high), abs=1e-7)


def test_binned_figures_are_close_to_exact() -> None:
    scores, labels = _credit_rows(20_000, seed=11)
    released = Figures.from_counts(count_scores(scores, labels, score_edges(float(labels.mean()))))
    assert released.auc == pytest.approx(rows.auc(scores, labels), abs=0.012)
    assert released.ks == pytest.approx(rows.ks(scores, labels), abs=0.03)
    assert released.ks <= rows.ks(scores, labels)
    assert released.brier == pytest.approx(rows.brier(scores, labels), abs=0.004)
    assert released.observed_expected == pytest.approx(rows.observed_expected(scores, labels), rel=0.1)


def test_a_negative_cell_counts_as_nothing() -> None:
    noisy = ScoreCounts(edges=EDGES, good=np.array([6, 3, -4]), bad=np.array([-7, 1, 3]))
    clipped = ScoreCounts(edges=EDGES, good=np.array([6, 3, 0]), bad=np.array([0, 1, 3]))
    assert Figures.from_counts(noisy) == Figures.from_counts(clipped)
    assert figures.calibration_table(noisy) == figures.calibration_table(clipped)
    assert noisy.good[2] == -4


@pytest.mark.parametrize(("good", "bad"), [([5, 1, 0], [0, 0, 0]), ([0, 0, 0], [0, 2, 1]), ([5, 1, 0], [-3, 0, -1])])
def test_a_table_of_one_outcome_has_no_figures(good: list[int], bad: list[int]) -> None:
    counts = ScoreCounts(edges=EDGES, good=np.array(good), bad=np.array(bad))
    for figure in (
        Figures.from_counts,
        figures.auc,
        figures.gini,
        figures.ks,
        figures.brier,
        figures.observed_expected,
        figures.expected_calibration_error,
        figures.calibration_table,
        figures.cumulative_shares,
        auc_interval,
    ):
        with pytest.raises(EvaluationError) as raised:
            figure(counts)
        assert raised.value.code == "FC-6003"


def test_one_bad_gives_an_auc_but_no_interval() -> None:
    counts = ScoreCounts(edges=EDGES, good=np.array([3, 1, 0]), bad=np.array([0, 1, 0]))
    assert figures.auc(counts) == pytest.approx(3.5 / 4)
    with pytest.raises(EvaluationError):
        auc_interval(counts)


def test_the_part_of_the_noise_in_the_interval_is_the_derivative_by_each_cell() -> None:
    counts = ScoreCounts(edges=EDGES, good=1000 * TABLE.good, bad=1000 * TABLE.bad)
    slopes = []
    for cell in range(6):
        step = np.zeros(6, dtype=np.int64)
        step[cell] = 1
        up = ScoreCounts.from_lanes(counts.to_lanes() + step, edges=EDGES)
        down = ScoreCounts.from_lanes(counts.to_lanes() - step, edges=EDGES)
        slopes.append((figures.auc(up) - figures.auc(down)) / 2)
    plain, noisy = auc_interval(counts), noisy_auc_interval(counts, noise_deviation=40.0)
    added = ((noisy.high - noisy.low) ** 2 - (plain.high - plain.low) ** 2) / (2 * 1.959963985) ** 2
    assert added == pytest.approx(40.0**2 * math.fsum(slope**2 for slope in slopes), rel=1e-4)
    assert noisy.value == plain.value


@pytest.mark.parametrize("deviation", [-1.0, float("nan"), float("inf")])
def test_a_noise_deviation_that_is_none_is_refused(deviation: float) -> None:
    with pytest.raises(EvaluationInputError):
        noisy_auc_interval(TABLE, noise_deviation=deviation)


@pytest.mark.statistical
def test_the_noisy_interval_covers_what_the_plain_one_misses() -> None:
    """300 draws; a true coverage of 0.95 falls below 0.90 with probability under 1e-3. Forgotten noise gives 0.79."""
    generator = np.random.default_rng(29)
    scores, labels = _credit_rows(200_000, seed=30)
    edges = np.concatenate(([0.0], np.quantile(scores, np.arange(1, 10) / 10), [1.0]))
    truth = figures.auc(count_scores(scores, labels, edges))
    covered = np.zeros(2)
    for _ in range(300):
        sample = generator.integers(scores.size, size=6_000)
        lanes = count_scores(scores[sample], labels[sample], edges).to_lanes()
        noise = np.rint(generator.normal(scale=5.7, size=lanes.size)).astype(np.int64)
        counts = ScoreCounts.from_lanes(lanes + noise, edges=edges)
        noisy, plain = noisy_auc_interval(counts, noise_deviation=5.7), auc_interval(counts)
        covered += [noisy.low <= truth <= noisy.high, plain.low <= truth <= plain.high]
    assert covered[0] / 300 >= 0.90
    assert covered[1] / 300 < 0.88
