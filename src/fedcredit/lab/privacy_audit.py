"""Empirical privacy audits: what an attacker measures at least, against what a plan claims at most.

A canary is a made-up borrower. The auditor sees what the coordinator sees and knows everything but the canary and the
noise: the white-box attacker of the proof. From the released integers it gets one **score** per canary, and from many
scores a lower bound on mu that is wrong with probability ``error`` at most. A bound above the claimed mu refutes the
claim; a bound below it proves nothing.

* ``step_audit`` (A): scores of the same step with and without canaries. A threshold is chosen on one half; on the other
  half Clopper-Pearson intervals bound the two error rates of the test, and mu >= Phi^-1(TPR) - Phi^-1(FPR), as no test
  beats the trade-off curve of mu-GDP (Dong, Roth, Su 2022, definition 6; Nasr et al. 2023, arXiv:2302.07956).
* ``one_run_audit`` (C): many canaries with disjoint directions in one training (Steinke, Nasr, Jagielski 2023,
  arXiv:2305.08846). Their scores are Gaussian, and mu is their mean over their deviation (Andrew et al. 2024,
  arXiv:2302.03098); both are estimated, so the bound is that of a noncentral t variable. Canaries of unequal effect
  widen the deviation, which lowers the bound.
* ``two_round_audit`` (D): the difference of two releases of one run, canaries moving the second one only. Fresh noise
  makes it noisier than one release; noise used again cancels in it, which no test of single releases can see.

Scores are exact functions of released integers, so a bound holds for the code that made them, not for a model of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from fedcredit.privacy.accounting import epsilon_for_mu

Integers = NDArray[np.int64]
Vector = NDArray[np.float64]

AUDIT_ERROR: Final = 1e-3
"""A correct mechanism that is as tight as its claim fails one audit in a thousand; at 5 % it would be one in twenty."""
THRESHOLDS: Final = 400
"""Most thresholds that are tried on the first half."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """One release as the auditor reads it."""

    released: Integers
    """(lanes,), what the coordinator learns."""
    known: Integers
    """(lanes,), the exact sum of everybody but the canaries."""
    directions: Vector
    """(canaries, lanes), unit vectors without a common lane, chosen before the release: the canaries' own effects."""

    @property
    def scores(self) -> Vector:
        """Return one number per canary, shape (canaries,): its effect, plus noise of the release's own deviation."""
        return self.directions @ self.unexplained

    @property
    def unexplained(self) -> Integers:
        """Return noise and, if they are in, canaries: what the others do not account for, shape (lanes,)."""
        return self.released - self.known


Pair = tuple[Observation, Observation]


@dataclass(frozen=True, kw_only=True)
class AuditResult:
    """What one audit found."""

    audit: str
    """"step", "one-run" or "two-round"."""
    claimed_mu: float
    mu_lower: float
    """A lower bound on the true mu; infinite if there is no noise at all."""
    scores: int
    """How many scores of canaries it rests on."""
    error: float
    """The chance that ``mu_lower`` is above the true mu."""

    @property
    def refutes_the_claim(self) -> bool:
        """Whether the bound lies above the claim."""
        return self.mu_lower > self.claimed_mu

    def epsilon_lower(self, delta: float) -> float:
        """Return the epsilon at ``delta`` that belongs to ``mu_lower`` (Balle, Wang 2018, equation 6)."""
        return epsilon_for_mu(self.mu_lower, delta)


def step_audit(
    *, inside: Iterable[Observation], outside: Iterable[Observation], claimed_mu: float, error: float
) -> AuditResult:
    """Return audit A of releases with the canaries (``inside``) and without (``outside``).

    ``claimed_mu`` is the claim for one release. Scores must be independent, which they are if no noise is used twice:
    releases that share noise are what ``two_round_audit`` is for.

    Raises:
        ValueError: a side has fewer than four scores.
    """
    return _threshold_audit(
        "step",
        _joined(observation.scores for observation in inside),
        _joined(observation.scores for observation in outside),
        claimed_mu=claimed_mu,
        error=error,
    )


def two_round_audit(*, inside: Iterable[Pair], outside: Iterable[Pair], claimed_mu: float, error: float) -> AuditResult:
    """Return audit D of pairs of releases; canaries move the second of each pair of ``inside`` and nothing else.

    ``claimed_mu`` is the claim for one release: the first one of a pair has the same law on both sides, so it tells
    nothing about the canaries and only the second is paid for. The directions are those of the second.

    Raises:
        ValueError: a side has fewer than four scores.
    """
    return _threshold_audit(
        "two-round",
        _joined(_difference(pair) for pair in inside),
        _joined(_difference(pair) for pair in outside),
        claimed_mu=claimed_mu,
        error=error,
    )


def one_run_audit(trainings: Iterable[Iterable[Observation]], *, claimed_mu: float, error: float) -> AuditResult:
    """Return audit C of whole trainings, every canary being in every round of each.

    ``claimed_mu`` is the claim for one training. The score of a canary is the sum of its scores over the rounds; its
    directions must be the same in all of them. The scores of all trainings are pooled: their noise is independent, so
    five trainings more than halve the error of one.

    Raises:
        ValueError: there are fewer than four scores.
    """
    scores = _joined(_summed_scores(training) for training in trainings)
    _require_scores(scores)
    bound = _standardised_mean(scores, error=error)
    return AuditResult(audit="one-run", claimed_mu=claimed_mu, mu_lower=bound, scores=scores.size, error=error)


def _difference(pair: Pair) -> Vector:
    first, second = pair
    return second.directions @ (second.unexplained - first.unexplained)


def _summed_scores(training: Iterable[Observation]) -> Vector:
    first, *later = training
    total: Integers = np.sum([first.unexplained, *(seen.unexplained for seen in later)], axis=0)
    return first.directions @ total


def _joined(scores: Iterable[Vector]) -> Vector:
    return np.concatenate([np.zeros(0), *scores])


def _require_scores(scores: Vector) -> None:
    if scores.size < 4:
        raise ValueError(f"an audit of {scores.size} scores says nothing")


def _threshold_audit(name: str, inside: Vector, outside: Vector, *, claimed_mu: float, error: float) -> AuditResult:
    _require_scores(inside)
    _require_scores(outside)
    chosen_in, judged_in = np.split(inside, [inside.size // 2])
    chosen_out, judged_out = np.split(outside, [outside.size // 2])
    thresholds = np.quantile(np.concatenate([chosen_in, chosen_out]), np.linspace(0, 1, THRESHOLDS))
    best = thresholds[int(np.argmax(_mu_from_rates(chosen_in, chosen_out, thresholds, error=error)))]
    bound = float(_mu_from_rates(judged_in, judged_out, np.array([best]), error=error)[0])
    return AuditResult(
        audit=name,
        claimed_mu=claimed_mu,
        mu_lower=max(0.0, bound),
        scores=inside.size + outside.size,
        error=error,
    )


def _mu_from_rates(inside: Vector, outside: Vector, thresholds: Vector, *, error: float) -> Vector:
    """Return a lower bound on mu per threshold, wrong with probability ``error`` at most, for one of them.

    Clopper and Pearson 1934: half of the error for the rate of canaries found, half for the rate of false alarms.
    """
    found = inside.size - np.searchsorted(np.sort(inside), thresholds, side="right")
    alarms = outside.size - np.searchsorted(np.sort(outside), thresholds, side="right")
    tpr = np.zeros(thresholds.size)
    tpr[found > 0] = stats.beta.ppf(error / 2, found[found > 0], inside.size - found[found > 0] + 1)
    fpr = np.ones(thresholds.size)
    quiet = alarms < outside.size
    fpr[quiet] = stats.beta.ppf(1 - error / 2, alarms[quiet] + 1, outside.size - alarms[quiet])
    bounds: Vector = stats.norm.ppf(tpr) - stats.norm.ppf(fpr)
    return bounds


def _standardised_mean(scores: Vector, *, error: float) -> float:
    """Return the largest mu at which so large a t statistic is rarer than ``error``; inf without any deviation.

    For N Gaussian scores of mean mu and deviation 1, root(N) mean/deviation has the noncentral t law with N - 1 degrees
    of freedom and noncentrality root(N) mu (Johnson, Kotz, Balakrishnan 1995, chapter 31).
    """
    root = math.sqrt(scores.size)
    mean, deviation = float(scores.mean()), float(scores.std(ddof=1))
    if mean <= 0:
        return 0.0
    if deviation <= mean * 1e-9:
        return math.inf
    statistic = root * mean / deviation

    def surplus(mu: float) -> float:
        return _noncentral_t_tail(statistic, freedom=scores.size - 1, noncentrality=root * mu) - error

    return 0.0 if surplus(0.0) >= 0 else float(optimize.brentq(surplus, 0.0, mean / deviation, xtol=1e-6))


def _noncentral_t_tail(statistic: float, *, freedom: int, noncentrality: float) -> float:
    """Return P((Z + noncentrality) / S > statistic), with S^2 a chi-square over its ``freedom``.

    The mean of Phi(noncentrality - statistic S) over S, by the trapezoid rule; scipy's series does not converge for the
    large parameters of an audit that finds a fault.
    """
    reach = 9 / math.sqrt(2 * freedom)
    values = np.linspace(max(0.0, 1 - reach), 1 + reach, 4001)
    densities = stats.chi.pdf(values * math.sqrt(freedom), freedom) * math.sqrt(freedom)
    return float(np.trapezoid(densities * stats.norm.cdf(noncentrality - statistic * values), values))
