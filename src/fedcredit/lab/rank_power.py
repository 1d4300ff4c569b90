"""How well what institutions see ranks risk, in a simulated world where the true probability of default is known.

Logistic regression pooled over the lenders, with an intercept each, fitted on early vintages and scored on late ones.
Labels are soft: each contract counts as bad with its true probability and as good with the rest. That is the figure to
which a test with ever more contracts of the same kind converges, without the noise of 100 defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcredit.lab.world_tally import Applications


@dataclass(frozen=True, kw_only=True)
class RankPower:
    """Areas under the curve on out-of-time contracts, by lender."""

    application: Mapping[str, float]
    with_telematics: Mapping[str, float]
    oracle: Mapping[str, float]
    bads: Mapping[str, float]
    """Expected defaults among the scored contracts."""

    def lift(self, member: str) -> float:
        """Return what telematics adds at a lender."""
        return self.with_telematics[member] - self.application[member]

    def mean_lift(self) -> float:
        """Return the lift over all lenders, weighted by expected defaults."""
        total = sum(self.bads.values())
        return sum(self.lift(member) * bads for member, bads in self.bads.items()) / total


def rank_power(parts: Mapping[str, Sequence[Applications]], *, cut: int) -> RankPower:
    """Return the areas; contracts paid out from month ``cut`` on are scored, earlier ones are learnt from."""
    books = {name: Applications.stack(list(pieces)) for name, pieces in parts.items()}
    books = {name: _accepted(book) for name, book in books.items()}
    lender = np.concatenate([np.full(book["pd"].size, place) for place, book in enumerate(books.values())])
    pool = Applications.stack(list(books.values()))
    late = pool["month"] >= cut
    intercepts = (lender[:, None] == np.arange(1, len(books))).astype(np.float32)
    narrow = np.column_stack([pool.features, intercepts])
    wide = np.column_stack([narrow, pool.telematics])
    application, with_telematics = _fit(narrow, pool["pd"], late), _fit(wide, pool["pd"], late)
    found: dict[str, dict[str, float]] = {"application": {}, "with_telematics": {}, "oracle": {}, "bads": {}}
    for place, name in enumerate(books):
        rows = late & (lender == place)
        found["application"][name] = soft_auc(application[rows], pool["pd"][rows])
        found["with_telematics"][name] = soft_auc(with_telematics[rows], pool["pd"][rows])
        found["oracle"][name] = soft_auc(pool["static_risk"][rows], pool["pd"][rows])
        found["bads"][name] = float(pool["pd"][rows].sum())
    return RankPower(**found)


def soft_auc(score: np.ndarray, probability: np.ndarray) -> float:
    """Return how probably a bad scores above a good if row i is bad with ``probability[i]``; ties count half."""
    order = np.argsort(score, kind="stable")
    values, bad = score[order], probability[order]
    good = 1.0 - bad
    starts = np.flatnonzero(np.diff(values, prepend=np.nan) != 0)
    bads, goods = np.add.reduceat(bad, starts), np.add.reduceat(good, starts)
    own = np.add.reduceat(bad * good, starts)
    # A contract is not compared with itself.
    wins = bads * (np.cumsum(goods) - goods) + 0.5 * (bads * goods - own)
    return float(wins.sum() / (bad.sum() * good.sum() - own.sum()))


def _accepted(book: Applications) -> Applications:
    rows = book["accepted"]
    return Applications(
        columns={name: column[rows] for name, column in book.columns.items()},
        features=book.features[rows],
        telematics=book.telematics[rows],
    )


def _fit(features: np.ndarray, probability: np.ndarray, late: np.ndarray) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    early = features[~late]
    centre, spread = early.mean(axis=0), early.std(axis=0)
    scaled = (features - centre) / np.where(spread > 0, spread, 1.0)
    bad = probability[~late]
    model = LogisticRegression(C=10.0, max_iter=200)
    model.fit(
        np.concatenate([scaled[~late], scaled[~late]]),
        np.repeat([1, 0], bad.size),
        sample_weight=np.concatenate([bad, 1 - bad]),
    )
    score: np.ndarray = model.decision_function(scaled)
    return score
