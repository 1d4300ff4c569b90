"""Who was in the training set? Online LiRA (Carlini et al. 2022) against models trained by the real client path.

Every model is trained on its own random half of the same borrowers, each borrower in or out by a fair coin of its
own: then the trade-off curve of the release bounds the attack, record by record, whatever the other borrowers are.
Each model in turn is the target and all others are its shadows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from attacks.client_path import AttackedInstitution, attacked_plan
from attacks.german import INPUTS, borrowers

from fedcredit.aggregation.server_step import ServerState, server_step
from fedcredit.parties import InstitutionId
from fedcredit.training.families import model_family

Scores = npt.NDArray[np.float64]
Members = npt.NDArray[np.bool_]
FALSE_POSITIVE_RATE = 0.01
TARGET = InstitutionId("bank")
_SMALLEST_SPREAD = 1e-9


@dataclass(frozen=True, kw_only=True)
class Training:
    """How the models that the attacker looks at are trained."""

    epsilon: float
    rounds: int
    models: int
    width: int
    learning_rate: float
    momentum: float
    clip: float
    grid: int
    every: int
    """Attack every so-manieth borrower only: fewer borrowers are remembered better, and train faster."""


@dataclass(frozen=True, kw_only=True)
class Shadows:
    """Trained models, seen from outside: what they say about every borrower, and who trained them."""

    confidence: Scores
    """(models, borrowers): log-odds that the model gives to the borrower's true outcome."""
    members: Members
    """(models, borrowers)."""
    ceiling: float
    """The true-positive rate at 1 % false positives that the ledger of the last model says nobody may exceed."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What an attack achieved."""

    rate: float
    """True-positive rate at 1 % false positives."""
    error: float
    """Its standard error, by the jackknife over models: pairs of one model are not independent."""


def shadows(training: Training, *, seed: str) -> Shadows:
    """Train the models; the attacker sees the last weights of each."""
    table = borrowers().take(np.arange(0, len(borrowers()), training.every))
    generator = np.random.default_rng(list(seed.encode()))
    members = generator.random((training.models, len(table))) < 0.5
    plan = attacked_plan(
        epsilon=training.epsilon,
        rounds=training.rounds,
        borrowers={TARGET: len(table) // 2},
        **{
            "model/kind": "network",
            "model/width": training.width,
            "model/base_rate": 0.3,
            "training/learning_rate": training.learning_rate,
            "training/momentum": training.momentum,
            "training/clip": training.clip,
            "training/grid": training.grid,
            "training/average_from": 1.0,
        },
    )
    family = model_family(plan, INPUTS)
    step = server_step(plan, family.layout, input_scale=family.input_scale)
    confidence, ceiling = [], 0.0
    for model, inside in enumerate(members):
        institution = AttackedInstitution.of(family, plan, TARGET, table.take(inside), seed=f"{seed}/{model}")
        state = ServerState.initial(family.initial_weights())
        for _ in range(training.rounds):
            state = step.apply(state, institution.answer(state.weights), [TARGET])
        ceiling = institution.tpr_ceiling(FALSE_POSITIVE_RATE)
        probability = np.clip(family.probabilities(state.weights, table), 1e-12, 1 - 1e-12)
        odds = np.log(probability / (1 - probability))
        confidence.append(np.where(table.labels == 1, odds, -odds))
    return Shadows(confidence=np.array(confidence), members=members, ceiling=ceiling)


def likelihood_ratios(seen: Shadows) -> Scores:
    """Return log p(confidence | in) - log p(confidence | out), shape (models, borrowers), from the other models."""
    ratios = np.zeros_like(seen.confidence)
    for target in range(len(seen.confidence)):
        others = np.arange(len(seen.confidence)) != target
        confidence, members = seen.confidence[others], seen.members[others]
        inside, spread_inside, models_inside = _moments(confidence, members)
        outside, spread_outside, models_outside = _moments(confidence, ~members)
        # One spread for both sides: with 20 models a side, two would add more noise than they tell.
        spread = (spread_inside + spread_outside) / np.maximum(models_inside + models_outside - 2, 1) + _SMALLEST_SPREAD
        distances = (seen.confidence[target] - outside) ** 2 - (seen.confidence[target] - inside) ** 2
        known = (models_inside > 1) & (models_outside > 1)
        ratios[target] = np.where(known, 0.5 * distances / spread, 0.0)
    return ratios


def _moments(confidence: Scores, side: Members) -> tuple[Scores, Scores, npt.NDArray[np.int64]]:
    """Return per borrower the mean, the sum of squared deviations and the number of models on one side."""
    models = side.sum(axis=0)
    mean = np.where(side, confidence, 0.0).sum(axis=0) / np.maximum(models, 1)
    return mean, np.where(side, (confidence - mean) ** 2, 0.0).sum(axis=0), models


def attacked(seen: Shadows) -> Found:
    """Return the share of members above the threshold that 1 % of the others exceed."""
    ratios, models = likelihood_ratios(seen), len(seen.members)
    left_out = [np.arange(models) != model for model in range(models)]
    rates = np.array([_rate(ratios[kept], seen.members[kept]) for kept in left_out])
    error = float(np.sqrt((models - 1) / models * np.sum((rates - rates.mean()) ** 2)))
    return Found(rate=_rate(ratios, seen.members), error=error)


def _rate(ratios: Scores, members: Members) -> float:
    threshold = np.quantile(ratios[~members], 1 - FALSE_POSITIVE_RATE)
    return float((ratios[members] > threshold).mean())
