"""The server's side of learning: a pure function from (state, sum) to the next state.

Everything here is post-processing of what the institutions released, so it costs no privacy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import BoostingTraining, GradientTraining, RunPlan
from fedcredit.errors import NotFiniteError
from fedcredit.messages import AVERAGING_GRID, WEIGHT_LIMIT
from fedcredit.model.layout import ParameterLayout
from fedcredit.model.trees import LEAVES_BLOCK, leaf_values
from fedcredit.parties import InstitutionId

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """All that the server carries from round to round; small, serialisable, and public."""

    round: int
    """Rounds completed."""
    weights: Vector
    velocity: Vector
    average: Vector
    """Mean of the averaged iterates so far."""
    averaged: int
    """How many iterates are in the mean."""

    @classmethod
    def initial(cls, weights: Vector) -> Self:
        """Return the state before the first round."""
        return cls(
            round=0, weights=weights, velocity=np.zeros_like(weights), average=np.zeros_like(weights), averaged=0
        )

    def released(self) -> Vector:
        """Return the model to publish: the mean of the averaged iterates once there are any."""
        return self.average if self.averaged else self.weights


class ServerStep(Protocol):
    """One way to use a sum."""

    def apply(
        self, state: ServerState, total: npt.NDArray[np.int64], contributors: Iterable[InstitutionId]
    ) -> ServerState:
        """Return the next state from the integer sum over ``contributors``."""
        ...


def server_step(plan: RunPlan, layout: ParameterLayout, *, input_scale: float) -> ServerStep:
    """Return the step that the plan's training needs."""
    expected: dict[InstitutionId, float] = {name: float(count) for name, count in plan.expected_borrowers().items()}
    masks = {name: layout.trained_by(plan.modalities(name)) for name in expected}
    if isinstance(plan.training, GradientTraining):
        sampled = {name: count * plan.privacy.sampling_rate for name, count in expected.items()}
        return GradientStep(
            plan.training, rounds=plan.run.rounds, expected=sampled, masks=masks, input_scale=input_scale
        )
    if isinstance(plan.training, BoostingTraining):
        return BoostingStep(plan.training, layout, trees_per_round=plan.trees // plan.run.rounds)
    return AveragingStep(expected=expected, masks=masks)


class GradientStep:
    """Gradient descent with Nesterov momentum (Sutskever et al. 2013, in the variables of the look-ahead point).

    Each block is divided by the public number of borrowers behind it; a block that nobody trained stays as it is.
    """

    def __init__(
        self,
        training: GradientTraining,
        *,
        rounds: int,
        expected: Mapping[InstitutionId, float],
        masks: Mapping[InstitutionId, npt.NDArray[np.bool_]],
        input_scale: float,
    ) -> None:
        self._training = training
        self._expected = dict(expected)
        self._masks = dict(masks)
        self._unit = training.clip / training.grid * input_scale
        self._average_after = math.floor(training.average_from * rounds)

    def apply(
        self, state: ServerState, total: npt.NDArray[np.int64], contributors: Iterable[InstitutionId]
    ) -> ServerState:
        """Return the state after one step; a block without contributors stays as it is."""
        borrowers = np.zeros(total.size)
        for name in contributors:
            borrowers += self._masks[name] * self._expected[name]
        reached = borrowers > 0
        gradient = np.divide(total * self._unit, borrowers, out=np.zeros(total.size), where=reached)
        step = self._training.learning_rate * gradient
        moved = self._training.momentum * state.velocity - step
        velocity = np.where(reached, moved, state.velocity)
        weights = np.where(reached, state.weights + self._training.momentum * moved - step, state.weights)
        _require_usable(weights)
        averaging = state.round + 1 > self._average_after
        averaged = state.averaged + averaging
        average = state.average + (weights - state.average) / averaged if averaging else state.average
        return ServerState(
            round=state.round + 1, weights=weights, velocity=velocity, average=average, averaged=averaged
        )


class BoostingStep:
    """Adds a round's trees: their leaves from the noised sums of residuals and curvatures."""

    def __init__(self, training: BoostingTraining, layout: ParameterLayout, *, trees_per_round: int) -> None:
        self._training = training
        self._leaves = layout.slices()[LEAVES_BLOCK]
        self._width = next(block.shape[1] for block in layout.blocks if block.name == LEAVES_BLOCK)
        self._trees_per_round = trees_per_round

    def apply(
        self, state: ServerState, total: npt.NDArray[np.int64], contributors: Iterable[InstitutionId]
    ) -> ServerState:
        """Return the state with the next trees; the sums carry their own scale, so nothing is divided by people."""
        sums = total.reshape(self._trees_per_round, self._width, 2) / self._training.grid
        values = leaf_values(
            sums,
            ridge=self._training.ridge,
            limit=self._training.leaf_limit,
            learning_rate=self._training.learning_rate,
        )
        weights = state.weights.copy()
        first = self._leaves.start + state.round * values.size
        weights[first : first + values.size] = values.reshape(-1)
        _require_usable(weights)
        return ServerState(
            round=state.round + 1, weights=weights, velocity=state.velocity, average=state.average, averaged=0
        )


class AveragingStep:
    """Federated averaging: institutions weight their own change by their public share; the sum is added."""

    def __init__(
        self, *, expected: Mapping[InstitutionId, float], masks: Mapping[InstitutionId, npt.NDArray[np.bool_]]
    ) -> None:
        self._expected = dict(expected)
        self._masks = dict(masks)

    def apply(
        self, state: ServerState, total: npt.NDArray[np.int64], contributors: Iterable[InstitutionId]
    ) -> ServerState:
        """Return the state after averaging; shares of absent institutions are made up by those present."""
        everyone = float(sum(self._expected.values()))
        present = np.zeros(total.size)
        for name in contributors:
            present += self._masks[name] * (self._expected[name] / everyone)
        change = np.divide(total / AVERAGING_GRID, present, out=np.zeros(total.size), where=present > 0)
        weights = state.weights + change
        _require_usable(weights)
        return ServerState(
            round=state.round + 1, weights=weights, velocity=state.velocity, average=state.average, averaged=0
        )


def _require_usable(weights: Vector) -> None:
    """Refuse a model that institutions would refuse to open; NaN fails the comparison as well."""
    if not (np.abs(weights) <= WEIGHT_LIMIT).all():
        raise NotFiniteError(what="the next model")
