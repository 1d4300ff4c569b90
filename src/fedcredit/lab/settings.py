"""Training settings per data set and model, found by the committed experiments and not by looking at a user's data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a plan needs besides its parties and its privacy."""

    rounds: int
    model: Mapping[str, Any]
    training: Mapping[str, Any]


def settings_for(dataset: str, model: str, *, epsilon: float) -> Settings:
    """Return the recommended settings; less noise allows more and longer steps."""
    if model == "network":
        return _gradient(rounds=30, model={"kind": "network", "width": 16}, learning_rate=1.0, clip=0.5, grid=2000)
    weak = epsilon < 2
    rounds, learning_rate = (15, 20.0) if weak else (20, 30.0)
    if math.isinf(epsilon):
        rounds, learning_rate = 40, 40.0
    return _gradient(rounds=rounds, model={"kind": "scorecard"}, learning_rate=learning_rate, clip=1.0, grid=64)


def _gradient(*, rounds: int, model: Mapping[str, Any], learning_rate: float, clip: float, grid: int) -> Settings:
    return Settings(
        rounds=rounds,
        model=model,
        training={
            "kind": "dp-gradient",
            "learning_rate": learning_rate,
            "momentum": 0.7,
            "clip": clip,
            "grid": grid,
            "average_from": 0.5,
        },
    )
