"""Training settings per data set and model, from the committed experiments and not from looking at a user's data.

``experiments/0001-demo`` and ``experiments/0002-privacy-utility`` say how they were found and how optimistic that makes
their figures.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from fedcredit.contract import VEHICLE_LOANS, Contract
from fedcredit.data.bins import is_nominal
from fedcredit.evaluation import ScoreCounts, noisy_auc_interval, score_edges
from fedcredit.messages import SCORE_BINS
from fedcredit.privacy.accounting import mu_for_epsilon


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a plan needs besides its parties and its privacy."""

    rounds: int
    model: Mapping[str, Any]
    training: Mapping[str, Any]
    preparation_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class PrivacyChoice:
    """What a person decides about privacy; the rest of a plan's [privacy] follows."""

    epsilon: float
    delta: float
    evaluation_epsilon: float
    mechanism: str
    noise: str
    """"local" or "shared"."""
    colluders: int
    sampling_rate: float
    test_noise: bool

    @property
    def off(self) -> bool:
        """Return whether nobody is protected."""
        return math.isinf(self.epsilon)


@dataclass(frozen=True, kw_only=True)
class Consortium:
    """What the settings depend on besides the privacy: how many institutions, how many borrowers, who must answer."""

    members: int
    borrowers: int
    quorum: int


@dataclass(frozen=True, kw_only=True)
class _Trees:
    rounds: int
    depth: int
    learning_rate: float
    ridge: float
    """Per 24,000 borrowers: the same signal in a larger crowd has its noise in larger sums."""


_TREES: Final[tuple[tuple[float, _Trees], ...]] = (
    (0.09, _Trees(rounds=20, depth=4, learning_rate=0.1, ridge=800)),
    (0.2, _Trees(rounds=20, depth=4, learning_rate=0.15, ridge=800)),
    (0.45, _Trees(rounds=30, depth=4, learning_rate=0.15, ridge=400)),
    (1.1, _Trees(rounds=30, depth=4, learning_rate=0.1, ridge=120)),
    (1.8, _Trees(rounds=30, depth=5, learning_rate=0.1, ridge=60)),
    (math.inf, _Trees(rounds=40, depth=5, learning_rate=0.1, ridge=5)),
)
"""By signal: the largest strength of signal that a row is for (``_signal``)."""
_REFERENCE_BORROWERS: Final = 24_000
TREES_PER_ROUND: Final = 20
STRUCTURE_SEED: Final = 1
_PREPARATION_SHARE: Final = 0.05
_FEW_CATEGORIES: Final = 2
"""So few features without an order are not worth a release of their own."""
_SCORECARD: Final[Mapping[str, tuple[int, float, float]]] = {"taiwan": (20, 30.0, 0.85), "sba": (40, 20.0, 0.9)}
"""Rounds, learning rate and momentum per contract."""
_STRONG_PRIVACY_ROUNDS: Final = 12
"""Below epsilon 2 fewer, less noisy steps win."""
_BASE_RATES: Final[Mapping[str, float]] = {VEHICLE_LOANS: 0.02}
"""Public guesses of how many borrowers default: where a model starts, and what sizes of tables can tell."""
_USUAL_BASE_RATE: Final = 0.2
"""The guess for a contract that is not listed."""
_CHANCE: Final = 0.5
_FEWEST: Final = 5
"""Below so many of one outcome an interval means nothing."""


def settings_for(contract: Contract, model: str, privacy: PrivacyChoice, consortium: Consortium) -> Settings:
    """Return the recommended settings; a contract without an experiment of its own gets those of ``taiwan``."""
    base_rate = _BASE_RATES.get(contract.name, _USUAL_BASE_RATE)
    if model == "trees":
        return _tree_settings(contract, privacy, consortium, base_rate=base_rate)
    if model == "network":
        return _gradient(
            rounds=30,
            model={"kind": "network", "width": 8, "base_rate": base_rate},
            learning_rate=1.0,
            momentum=0.85,
            clip=4.5,
            grid=2000,
        )
    rounds, learning_rate, momentum = _SCORECARD.get(contract.name, _SCORECARD["taiwan"])
    if privacy.epsilon < 2 and contract.name != "sba":
        rounds = _STRONG_PRIVACY_ROUNDS
    return _gradient(
        rounds=rounds,
        model={"kind": "scorecard", "base_rate": base_rate},
        learning_rate=learning_rate,
        momentum=momentum,
        clip=1.0,
        grid=64,
    )


def _tree_settings(contract: Contract, privacy: PrivacyChoice, consortium: Consortium, *, base_rate: float) -> Settings:
    signal = _signal(privacy, consortium)
    chosen = next(row for limit, row in _TREES if signal < limit or math.isinf(limit))
    exact = privacy.off or privacy.mechanism == "rounded-gaussian"
    nominal = sum(is_nominal(part, name) for part in contract.modalities for name in part.scorecard)
    return Settings(
        rounds=chosen.rounds,
        preparation_share=_PREPARATION_SHARE if nominal > _FEW_CATEGORIES and exact else 0.0,
        model={
            "kind": "trees",
            "depth": chosen.depth,
            "trees_per_round": TREES_PER_ROUND,
            "structure_seed": STRUCTURE_SEED,
            "base_rate": base_rate,
        },
        training={
            "kind": "dp-boosting",
            "learning_rate": chosen.learning_rate,
            "clip": 0.8,
            "grid": 100,
            "ridge": max(1.0, round(chosen.ridge * consortium.borrowers / _REFERENCE_BORROWERS)),
            "leaf_limit": 2.0,
        },
    )


def _signal(privacy: PrivacyChoice, consortium: Consortium) -> float:
    """Return how much stronger the borrowers' sum is than its noise: mu of the whole training per 24,000 borrowers.

    With local noise the sum carries one full noise per member; with shared noise, as many shares as members where the
    claim rests on quorum - colluders of them.
    """
    if privacy.off:
        return math.inf
    mu = mu_for_epsilon(privacy.epsilon, privacy.delta)
    honest = 1 if privacy.noise == "local" else max(1, consortium.quorum - privacy.colluders)
    return mu * consortium.borrowers / _REFERENCE_BORROWERS / math.sqrt(consortium.members / honest)


def plan_values(
    settings: Settings,
    *,
    name: str,
    consortium: str,
    contract: Contract,
    rounds: int | None,
    holdout: tuple[str, float],
    out_of_time: datetime.date | None,
    privacy: PrivacyChoice,
    quorum: int,
    retries: int,
    deadline_s: float,
    aggregation: Mapping[str, Any],
    institutions: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the values of a run plan before validation; ``holdout`` is the split's public key and fraction.

    ``out_of_time`` is the first day that nobody trains on, for a contract on canonical tables.
    """
    salt, fraction = holdout
    return {
        "schema_version": 3,
        "run": {
            "name": name,
            "consortium": consortium,
            "contract": contract.name,
            "contract_digest": contract.digest().hex(),
            "rounds": rounds or settings.rounds,
            "holdout_fraction": fraction,
            "holdout_salt": salt,
            "out_of_time": out_of_time,
        },
        "model": settings.model,
        "training": settings.training,
        "privacy": _privacy_values(privacy, settings),
        "rounds": {"quorum": quorum, "retries": retries, "deadline_s": deadline_s},
        "aggregation": aggregation,
        "evaluation": evaluation_values(
            privacy,
            quorum=quorum,
            retries=retries,
            holdout=fraction,
            borrowers=[section["expected_borrowers"] for section in institutions.values()],
            base_rate=settings.model["base_rate"],
        ),
        "institutions": institutions,
    }


def aggregation_values(kind: str, *, threshold: int) -> dict[str, Any]:
    """Return a plan's [aggregation]: "secure" with 32-bit numbers, or "open"."""
    if kind != "secure":
        return {"kind": "open", "update_bound": "share"}
    return {"kind": "secure", "threshold": threshold, "lane_bits": 32, "update_bound": "share"}


VOTE_FLOOR: Final = 0.55
"""Above chance, so that a model that ranks by chance gets a no from whoever has borrowers enough; and low, because a
sound model ranks the borrowers of a member that holds a weak part of its inputs little better than chance."""
_VOTE_SHARE: Final = 0.5
"""With shared noise, votes and evaluation count equally."""
_USUAL = np.arange(SCORE_BINS)
"""Defaults that rise, and others that fall, from score bin to score bin in a straight line: an AUC of about 0.7."""


def evaluation_values(
    privacy: PrivacyChoice, *, quorum: int, retries: int, holdout: float, borrowers: Collection[int], base_rate: float
) -> dict[str, Any]:
    """Return a plan's [evaluation]: votes with the floor 0.55 where members can tell, and otherwise that nobody votes.

    ``borrowers`` are the public sizes of the training parts. Twice as many members as colluders and one more must be
    able to tell: so many that colluders alone decide nothing. Members who cannot tell abstain, and a model that nobody
    can judge would never be released.
    """
    share = _VOTE_SHARE if privacy.noise == "shared" and not privacy.off else 0.0
    deviation = 0.0
    if not privacy.off:
        paid = (1 + retries) / (share or 1.0)
        deviation = math.sqrt(paid) / mu_for_epsilon(privacy.evaluation_epsilon, privacy.delta)
    held_out = [count * holdout / (1 - holdout) for count in borrowers]
    telling = sum(_can_tell(rows, base_rate=base_rate, deviation=deviation) for rows in held_out)
    if min(telling, quorum) <= 2 * privacy.colluders:
        return {"vote_floor": "none", "vote_share": 0.0}
    return {"vote_floor": VOTE_FLOOR, "vote_share": share}


def _can_tell(rows: float, *, base_rate: float, deviation: float) -> bool:
    """Return whether the vote on a usual model is a yes in 39 of 40 tables of so many held-out borrowers."""
    bad = np.rint(rows * base_rate * (_USUAL + 1) / (_USUAL + 1).sum()).astype(np.int64)
    good = np.rint(rows * (1 - base_rate) * (SCORE_BINS - _USUAL) / (SCORE_BINS - _USUAL).sum()).astype(np.int64)
    if min(bad.sum(), good.sum()) < _FEWEST:
        return False
    interval = noisy_auc_interval(
        ScoreCounts(edges=score_edges(base_rate), good=good, bad=bad), noise_deviation=deviation
    )
    # A yes has chance below its interval; and so that it is one nearly always, by the interval's half width again.
    return interval.low - (interval.value - interval.low) > _CHANCE


def _privacy_values(privacy: PrivacyChoice, settings: Settings) -> dict[str, Any]:
    full_batch = privacy.sampling_rate == 1
    exact = privacy.mechanism == "rounded-gaussian" and full_batch
    return {
        "mechanism": "none" if privacy.off else privacy.mechanism,
        "accountant": "none" if privacy.off else "gdp" if exact else "rdp",
        "noise": "local" if privacy.off else privacy.noise,
        "colluders": privacy.colluders,
        "sampling": "full-batch" if full_batch else "poisson",
        "sampling_rate": float(privacy.sampling_rate),
        "preparation_share": settings.preparation_share,
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "evaluation_epsilon": privacy.evaluation_epsilon,
        "test_noise": privacy.test_noise,
    }


def _gradient(
    *, rounds: int, model: Mapping[str, Any], learning_rate: float, momentum: float, clip: float, grid: int
) -> Settings:
    return Settings(
        rounds=rounds,
        model=model,
        training={
            "kind": "dp-gradient",
            "learning_rate": learning_rate,
            "momentum": momentum,
            "clip": clip,
            "grid": grid,
            "average_from": 0.5,
        },
    )
