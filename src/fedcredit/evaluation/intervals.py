"""Intervals around figures: the types, the normal quantile and the Wilson interval of a rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

from fedcredit.errors import EvaluationInputError


@dataclass(frozen=True)
class Interval:
    """A figure with the ends of its confidence interval, all in the unit of the figure."""

    value: float
    low: float
    high: float


class CalibrationBin(NamedTuple):
    """Rows of similar score: what was predicted, what was seen, and the Wilson interval of what was seen."""

    mean_predicted: float
    observed: float
    n: int
    low: float
    high: float


def normal_quantile(level: float) -> float:
    """Return z such that a standard normal lies within ±z with probability ``level``.

    Raises:
        EvaluationInputError: ``level`` does not lie strictly between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise EvaluationInputError(what="the interval", problem="its level is not between 0 and 1")
    return NormalDist().inv_cdf(0.5 + level / 2.0)


def wald(value: float, *, variance: float, level: float, lowest: float, highest: float) -> Interval:
    """Return ``value`` ± z·√variance, cut to the range that the figure can take."""
    half = normal_quantile(level) * math.sqrt(variance)
    return Interval(value=value, low=max(lowest, value - half), high=min(highest, value + half))


def wilson(events: int, n: int, *, level: float) -> Interval:
    """Return the rate ``events / n`` with its score interval (Wilson 1927); ``n`` is at least 1.

    The interval lies in [0, 1] and has positive width for 0 events too, where a Wald interval has none.
    """
    z2 = normal_quantile(level) ** 2
    rate = events / n
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2) / (1 + z2 / n) * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return Interval(value=rate, low=max(0.0, min(rate, centre - half)), high=min(1.0, max(rate, centre + half)))
