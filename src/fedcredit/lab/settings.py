"""Training settings per data set and model, from the committed experiments and not from looking at a user's data.

``experiments/0001-demo`` says how they were found and how optimistic that makes the figures of the demo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fedcredit.contract import Contract


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a plan needs besides its parties and its privacy."""

    rounds: int
    model: Mapping[str, Any]
    training: Mapping[str, Any]


_SCORECARD: Final[Mapping[str, tuple[int, float, float]]] = {"taiwan": (20, 30.0, 0.85), "sba": (40, 20.0, 0.9)}
"""Rounds, learning rate and momentum per contract."""
_STRONG_PRIVACY_ROUNDS: Final = 12
"""Below epsilon 2 fewer, less noisy steps win."""
_BASE_RATE: Final = 0.2


def settings_for(contract: str, model: str, *, epsilon: float) -> Settings:
    """Return the recommended settings; a contract without an experiment of its own gets those of ``taiwan``."""
    if model == "network":
        return _gradient(
            rounds=30,
            model={"kind": "network", "width": 8, "base_rate": _BASE_RATE},
            learning_rate=1.0,
            momentum=0.85,
            clip=4.5,
            grid=2000,
        )
    rounds, learning_rate, momentum = _SCORECARD.get(contract, _SCORECARD["taiwan"])
    if epsilon < 2 and contract != "sba":
        rounds = _STRONG_PRIVACY_ROUNDS
    return _gradient(
        rounds=rounds,
        model={"kind": "scorecard", "base_rate": _BASE_RATE},
        learning_rate=learning_rate,
        momentum=momentum,
        clip=1.0,
        grid=64,
    )


def plan_values(
    settings: Settings,
    *,
    name: str,
    consortium: str,
    contract: Contract,
    rounds: int | None,
    holdout: tuple[str, float],
    epsilon: float,
    delta: float,
    evaluation_epsilon: float,
    test_noise: bool,
    quorum: int,
    retries: int,
    deadline_s: float,
    institutions: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the values of a run plan before validation; ``holdout`` is the split's public key and fraction."""
    salt, fraction = holdout
    return {
        "schema_version": 1,
        "run": {
            "name": name,
            "consortium": consortium,
            "contract": contract.name,
            "contract_digest": contract.digest().hex(),
            "rounds": rounds or settings.rounds,
            "holdout_fraction": fraction,
            "holdout_salt": salt,
        },
        "model": settings.model,
        "training": settings.training,
        "privacy": {
            "mechanism": "none" if math.isinf(epsilon) else "rounded-gaussian",
            "epsilon": epsilon,
            "delta": delta,
            "unit": "borrower",
            "neighbours": "add-or-remove-one",
            "evaluation_epsilon": evaluation_epsilon,
            "test_noise": test_noise,
        },
        "rounds": {"quorum": quorum, "retries": retries, "deadline_s": deadline_s},
        "institutions": institutions,
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
