"""Exact figures from rows. They stay inside the institution: what leaves it is a table of counts, never these.

A higher score means more risk and a label of 1 is a default. Ranking figures take any finite score; Brier, calibration
and O/E need probabilities.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fedcredit.errors import EvaluationError, EvaluationInputError
from fedcredit.evaluation.intervals import CalibrationBin, Interval, normal_quantile, wald, wilson
from fedcredit.evaluation.observations import (
    Counts,
    Flags,
    Floats,
    bad_flags,
    finite_scores,
    probabilities,
    require_both,
    require_rows,
)


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the chance that a random bad scores above a random good, ties as one half; O(n log n) by midranks.

    Raises:
        EvaluationError: one outcome is absent.
        NotFiniteError: a score is NaN or infinite.
        LayoutMismatchError: there is not one label per score.
        EvaluationInputError: a label is neither 0 nor 1.
    """
    values, bad = _ranked_rows(scores, labels, least=1, figure="AUC")
    bads = int(bad.sum())
    rank_sum = float(_midranks(values)[bad].sum())
    return (rank_sum - bads * (bads + 1) / 2.0) / (bads * (values.size - bads))


def delong_interval(scores: npt.ArrayLike, labels: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """Return the AUC with its interval (DeLong et al. 1988, by the midranks of Sun and Xu 2014), cut to [0, 1].

    Perfect separation gives no width; few bads give an interval that is somewhat too short.

    Raises:
        EvaluationError: an outcome has fewer than 2 rows.
        NotFiniteError, LayoutMismatchError, EvaluationInputError: as for ``auc``; also a level outside (0, 1).
    """
    values, bad = _ranked_rows(scores, labels, least=2, figure="the AUC interval")
    parts = _components(values, bad)
    return wald(parts.auc, variance=_variance(parts), level=level, lowest=0.0, highest=1.0)


def delong_difference(
    scores_a: npt.ArrayLike, scores_b: npt.ArrayLike, labels: npt.ArrayLike, *, level: float = 0.95
) -> Interval:
    """Return AUC(a) − AUC(b) on the same rows with its paired interval (DeLong et al. 1988), cut to [−1, 1].

    The pairing counts: two similar scores are compared far more sharply than two separate intervals would.

    Raises:
        EvaluationError: an outcome has fewer than 2 rows.
        NotFiniteError, LayoutMismatchError, EvaluationInputError: as for ``delong_interval``, for either score.
    """
    values_a, bad = _ranked_rows(scores_a, labels, least=2, figure="the AUC difference")
    values_b, _ = _ranked_rows(scores_b, labels, least=2, figure="the AUC difference")
    first, second = _components(values_a, bad), _components(values_b, bad)
    # The variance of a difference of means is that of the mean of the paired differences.
    paired = _Components(
        auc=first.auc - second.auc,
        of_bads=first.of_bads - second.of_bads,
        of_goods=first.of_goods - second.of_goods,
    )
    return wald(paired.auc, variance=_variance(paired), level=level, lowest=-1.0, highest=1.0)


def ks(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the largest distance between the score distributions of goods and bads, from 0 to 1, exactly.

    Raises:
        EvaluationError: one outcome is absent.
        NotFiniteError, LayoutMismatchError, EvaluationInputError: as for ``auc``.
    """
    values, bad = _ranked_rows(scores, labels, least=1, figure="KS")
    levels, distinct = _levels(values)
    return _distance(levels[~bad], levels[bad], distinct=distinct)


def ks_interval(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    generator: np.random.Generator,
    resamples: int = 200,
    level: float = 0.95,
) -> Interval:
    """Return KS with a bias-corrected normal bootstrap interval, goods and bads resampled apart; no binning.

    KS is a maximum, so it lies above its true value and a resample lies above it again. Percentiles would count that
    bias twice; here the interval is centred at 2·KS − mean of the resamples and reaches z of their deviations, cut to
    [0, 1]. On two normals one deviation apart a 95 % interval covered the truth in 0.89 of 250 draws with 60 bads
    and in 0.91 with 300 (percentiles: 0.78 and 0.82).

    Raises:
        EvaluationError: an outcome has fewer than 2 rows.
        EvaluationInputError: fewer than 2 resamples, or as for ``delong_interval``.
        NotFiniteError, LayoutMismatchError: as for ``auc``.
    """
    if resamples < 2:
        raise EvaluationInputError(what="the bootstrap", problem="it has fewer than 2 resamples")
    z = normal_quantile(level)
    values, bad = _ranked_rows(scores, labels, least=2, figure="the KS interval")
    levels, distinct = _levels(values)
    good_levels, bad_levels = levels[~bad], levels[bad]
    value = _distance(good_levels, bad_levels, distinct=distinct)
    draws = np.empty(resamples)
    for i in range(resamples):
        goods = good_levels[generator.integers(good_levels.size, size=good_levels.size)]
        bads = bad_levels[generator.integers(bad_levels.size, size=bad_levels.size)]
        draws[i] = _distance(goods, bads, distinct=distinct)
    centre, half = 2.0 * value - float(draws.mean()), z * float(draws.std(ddof=1))
    # The interval always holds its own value, also where the correction exceeds the spread.
    return Interval(value=value, low=max(0.0, min(value, centre - half)), high=min(1.0, max(value, centre + half)))


def brier(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the mean squared distance between score and outcome, from 0 to 1; lower is better (Brier 1950).

    Raises:
        EvaluationError: there is no row.
        NotFiniteError, LayoutMismatchError: as for ``auc``.
        EvaluationInputError: a score lies outside [0, 1] or a label is neither 0 nor 1.
    """
    values, bad = _probability_rows(scores, labels, figure="the Brier score")
    return float(((values - bad) ** 2).mean())


def observed_expected(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return observed over expected defaults; above 1 the score promises too few, 0 means that none was seen.

    Raises:
        EvaluationError: there is no row, or every score is 0.
        NotFiniteError, LayoutMismatchError, EvaluationInputError: as for ``brier``.
    """
    values, bad = _probability_rows(scores, labels, figure="O/E")
    expected = float(values.sum())
    if expected == 0.0:
        raise EvaluationError(figure="O/E", problem="no default is expected")
    return float(bad.sum()) / expected


def calibration_deciles(scores: npt.ArrayLike, labels: npt.ArrayLike) -> list[CalibrationBin]:
    """Return tenths of the rows in order of score, each with its 95 % Wilson interval.

    Equal scores stay together, so the table does not depend on the order of rows; with ties or with fewer than ten
    rows it has fewer than ten lines, and none is empty.

    Raises:
        EvaluationError: there is no row.
        NotFiniteError, LayoutMismatchError, EvaluationInputError: as for ``brier``.
    """
    values, bad = _probability_rows(scores, labels, figure="the calibration table")
    tenth = ((_midranks(values) - 0.5) * 10.0 / values.size).astype(np.int64)
    rows = np.bincount(tenth, minlength=10)
    predicted = np.bincount(tenth, weights=values, minlength=10)
    bads = np.bincount(tenth[bad], minlength=10)
    table: list[CalibrationBin] = []
    for i in np.flatnonzero(rows).tolist():
        n = int(rows[i])
        rate = wilson(int(bads[i]), n, level=0.95)
        table.append(
            CalibrationBin(
                mean_predicted=float(predicted[i]) / n, observed=rate.value, n=n, low=rate.low, high=rate.high
            )
        )
    return table


class _Components(NamedTuple):
    """An AUC and its structural components: per bad the share of goods below, per good the share of bads above."""

    auc: float
    of_bads: Floats
    of_goods: Floats


def _components(values: Floats, bad: Flags) -> _Components:
    ranks = _midranks(values)
    bads, goods = int(bad.sum()), int((~bad).sum())
    of_bads = (ranks[bad] - _midranks(values[bad])) / goods
    of_goods = 1.0 - (ranks[~bad] - _midranks(values[~bad])) / bads
    return _Components(auc=float(of_bads.mean()), of_bads=of_bads, of_goods=of_goods)


def _variance(parts: _Components) -> float:
    bads, goods = parts.of_bads, parts.of_goods
    return float(bads.var(ddof=1) / bads.size + goods.var(ddof=1) / goods.size)


def _midranks(values: Floats) -> Floats:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    _, place, sizes = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(sizes)
    return np.asarray((last - (sizes - 1) / 2.0)[place], dtype=np.float64)


def _levels(values: Floats) -> tuple[Counts, int]:
    """Return for each row the place of its score among the distinct scores, and how many are distinct."""
    distinct, place = np.unique(values, return_inverse=True)
    return place.astype(np.int64), distinct.size


def _distance(good_levels: Counts, bad_levels: Counts, *, distinct: int) -> float:
    goods = np.cumsum(np.bincount(good_levels, minlength=distinct))
    bads = np.cumsum(np.bincount(bad_levels, minlength=distinct))
    return float(np.abs(goods / good_levels.size - bads / bad_levels.size).max())


def _ranked_rows(scores: npt.ArrayLike, labels: npt.ArrayLike, *, least: int, figure: str) -> tuple[Floats, Flags]:
    values = finite_scores(scores)
    bad = bad_flags(labels, rows=values.size)
    require_both(good=int((~bad).sum()), bad=int(bad.sum()), least=least, figure=figure)
    return values, bad


def _probability_rows(scores: npt.ArrayLike, labels: npt.ArrayLike, *, figure: str) -> tuple[Floats, Flags]:
    values = probabilities(scores)
    bad = bad_flags(labels, rows=values.size)
    require_rows(values.size, figure=figure)
    return values, bad
