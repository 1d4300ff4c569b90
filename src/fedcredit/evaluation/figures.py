"""Figures of a score from its bin counts: post-processing of one table, pooled or local.

Three conventions hold throughout. A negative cell, which only noise can make, counts as 0; where many true cells are
empty this pulls a noisy figure slightly towards no separation. Rows of one bin are tied, so AUC gives them one half.
A bin stands for the score at its centre, the midpoint of its edges, so Brier, ECE and O/E carry the error of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedcredit.errors import EvaluationInputError
from fedcredit.evaluation.counts import ScoreCounts
from fedcredit.evaluation.intervals import CalibrationBin, Interval, wald, wilson
from fedcredit.evaluation.observations import Counts, Floats, require_both


class CumulativeShares(NamedTuple):
    """Shares of goods and of bads that score below each edge, shape (bins + 1,), both from 0 to 1."""

    good: Floats
    bad: Floats


@dataclass(frozen=True, kw_only=True)
class Figures:
    """The figures that an evaluation may release together: they all follow from one table."""

    auc: float
    ks: float
    gini: float
    brier: float
    observed_expected: float

    @classmethod
    def from_counts(cls, counts: ScoreCounts) -> Figures:
        """Compute all figures.

        Raises:
            EvaluationError: one outcome is absent after negative cells were set to 0.
        """
        return cls(
            auc=auc(counts),
            ks=ks(counts),
            gini=gini(counts),
            brier=brier(counts),
            observed_expected=observed_expected(counts),
        )


def auc(counts: ScoreCounts) -> float:
    """Return the chance that a random bad scores above a random good, ties as one half (Mann and Whitney 1947).

    Raises:
        EvaluationError: one outcome is absent.
    """
    return _placements(counts, figure="AUC", least=1).auc


def gini(counts: ScoreCounts) -> float:
    """Return 2·AUC − 1, the accuracy ratio, from −1 to 1.

    Raises:
        EvaluationError: one outcome is absent.
    """
    return 2.0 * _placements(counts, figure="Gini", least=1).auc - 1.0


def ks(counts: ScoreCounts) -> float:
    """Return the largest distance between the cumulative shares of goods and bads at an edge, from 0 to 1.

    The distance inside a bin is not seen, so the figure is at most the exact one.

    Raises:
        EvaluationError: one outcome is absent.
    """
    shares = cumulative_shares(counts)
    return float(np.abs(shares.good - shares.bad).max())


def cumulative_shares(counts: ScoreCounts) -> CumulativeShares:
    """Return the curves behind the ROC (1 − good against 1 − bad) and the KS plot, at ``counts.edges``.

    Raises:
        EvaluationError: one outcome is absent.
    """
    good, bad = _both(counts, figure="KS", least=1)
    return CumulativeShares(good=_shares(good), bad=_shares(bad))


def brier(counts: ScoreCounts) -> float:
    """Return the mean squared distance between bin centre and outcome, from 0 to 1; lower is better (Brier 1950).

    Raises:
        EvaluationError: one outcome is absent.
    """
    good, bad = _both(counts, figure="the Brier score", least=1)
    centres = _centres(counts)
    return float((good @ centres**2 + bad @ (1.0 - centres) ** 2) / (good.sum() + bad.sum()))


def observed_expected(counts: ScoreCounts) -> float:
    """Return observed over expected defaults; above 1 the score promises too few.

    Raises:
        EvaluationError: one outcome is absent.
    """
    good, bad = _both(counts, figure="O/E", least=1)
    return float(bad.sum() / ((good + bad) @ _centres(counts)))


def expected_calibration_error(counts: ScoreCounts) -> float:
    """Return the mean distance between bin centre and observed rate, weighted by rows (Naeini et al. 2015).

    At a default rate of 1 % a small value says little; read it beside the rate.

    Raises:
        EvaluationError: one outcome is absent.
    """
    good, bad = _both(counts, figure="ECE", least=1)
    return float(np.abs(bad - (good + bad) * _centres(counts)).sum() / (good.sum() + bad.sum()))


def calibration_table(counts: ScoreCounts) -> list[CalibrationBin]:
    """Return the non-empty bins in order of score, with 95 % Wilson intervals that do not know of noise.

    Raises:
        EvaluationError: one outcome is absent.
    """
    good, bad = _both(counts, figure="the calibration table", least=1)
    table: list[CalibrationBin] = []
    for centre, goods, bads in zip(_centres(counts).tolist(), good.tolist(), bad.tolist(), strict=True):
        if goods + bads > 0:
            rate = wilson(bads, goods + bads, level=0.95)
            table.append(
                CalibrationBin(mean_predicted=centre, observed=rate.value, n=goods + bads, low=rate.low, high=rate.high)
            )
    return table


def auc_interval(counts: ScoreCounts) -> Interval:
    """Return the AUC with its 95 % interval (DeLong et al. 1988, rows of one bin tied).

    Sampling error only: for counts that carry noise use ``noisy_auc_interval``. Perfect separation gives no width.

    Raises:
        EvaluationError: an outcome has fewer than 2 rows.
    """
    return noisy_auc_interval(counts, noise_deviation=0.0)


def noisy_auc_interval(counts: ScoreCounts, *, noise_deviation: float) -> Interval:
    """Return the AUC with its 95 % interval from sampling and from independent noise in every cell.

    The variance of the noise enters to first order; the pull that negative cells cause is not in it. Measured over 400
    draws of 1,200 to 20,000 rows with a deviation of 2.8 or 5.7 it covered the binned truth in 0.94 to 0.98 of them;
    ``auc_interval`` on the same tables covered it in 0.55 to 0.92.

    Args:
        counts: the released table.
        noise_deviation: standard deviation of the noise in one cell, in rows; public, from the privacy plan.

    Raises:
        EvaluationError: an outcome has fewer than 2 rows.
        EvaluationInputError: the deviation is negative or not finite.
    """
    if not (np.isfinite(noise_deviation) and noise_deviation >= 0.0):
        raise EvaluationInputError(what="the noise deviation", problem="it is negative or not finite")
    placed = _placements(counts, figure="the AUC interval", least=2)
    bads, goods = int(placed.bad.sum()), int(placed.good.sum())
    of_bads, of_goods = (placed.good_below - placed.auc) ** 2, (placed.bad_above - placed.auc) ** 2
    sampling = placed.bad @ of_bads / (bads - 1) / bads + placed.good @ of_goods / (goods - 1) / goods
    # One row more in cell i moves the AUC by (placement of the cell − AUC) / rows of that outcome.
    noise = noise_deviation**2 * (of_bads.sum() / bads**2 + of_goods.sum() / goods**2)
    return wald(placed.auc, variance=float(sampling + noise), level=0.95, lowest=0.0, highest=1.0)


class _Placements(NamedTuple):
    """Per bin: the counts, the share of goods below a bad there and the share of bads above a good there."""

    good: Counts
    bad: Counts
    good_below: Floats
    bad_above: Floats
    auc: float


def _placements(counts: ScoreCounts, *, figure: str, least: int) -> _Placements:
    good, bad = _both(counts, figure=figure, least=least)
    good_curve, bad_curve = _shares(good), _shares(bad)
    good_below = (good_curve[:-1] + good_curve[1:]) / 2.0
    bad_above = 1.0 - (bad_curve[:-1] + bad_curve[1:]) / 2.0
    area = float(bad @ good_below / bad.sum())
    return _Placements(good=good, bad=bad, good_below=good_below, bad_above=bad_above, auc=area)


def _both(counts: ScoreCounts, *, figure: str, least: int) -> tuple[Counts, Counts]:
    good, bad = np.maximum(counts.good, 0), np.maximum(counts.bad, 0)
    require_both(good=int(good.sum()), bad=int(bad.sum()), least=least, figure=figure)
    return good, bad


def _shares(cells: Counts) -> Floats:
    running = np.concatenate(([0], np.cumsum(cells)))
    return np.asarray(running / running[-1], dtype=np.float64)


def _centres(counts: ScoreCounts) -> Floats:
    return (counts.edges[:-1] + counts.edges[1:]) / 2.0
