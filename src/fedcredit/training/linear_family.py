"""Torch models behind the family interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import FedAvgTraining, GradientTraining, RunPlan
from fedcredit.data.table import CreditTable
from fedcredit.errors import ConfigValueError
from fedcredit.messages import LANE_LIMIT
from fedcredit.model.layout import ModelInputs, ParameterLayout
from fedcredit.model.linear_stack import LinearStack, probabilities
from fedcredit.model.logistic import LogisticRegression
from fedcredit.model.network import MultimodalNetwork
from fedcredit.parties import InstitutionId
from fedcredit.training.families import LocalComputation, NoPreparation, Scorer, expected_modalities
from fedcredit.training.integer_sum import SumBounds
from fedcredit.training.local_averaging import LocalAveraging
from fedcredit.training.network_gradient import NetworkGradient, network_bounds

INITIAL_SEED: Final = 1
"""Public seed of the starting point."""


class LinearStackFamily(NoPreparation):
    """The network or the plain logistic regression that a plan names."""

    def __init__(self, plan: RunPlan, inputs: ModelInputs) -> None:
        width = plan.model.width
        self._base_rate = plan.model.base_rate
        self._model: LinearStack = (
            LogisticRegression(inputs) if width is None else MultimodalNetwork(inputs, width=width)
        )

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the exchanged vector."""
        return self._model.layout

    @property
    def lanes(self) -> int:
        """One number per parameter."""
        return self._model.layout.size

    @property
    def input_scale(self) -> float:
        """Gradients are summed as they are."""
        return 1.0

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the public starting point."""
        return self._model.initial_weights(seed=INITIAL_SEED, base_rate=self._base_rate)

    def probabilities(self, weights: npt.NDArray[np.float64], table: CreditTable) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,)."""
        designed = self._designed(table)
        return probabilities(self._model, weights, {name: part.dense for name, part in designed.modalities.items()})

    def scorer(self, table: CreditTable) -> Scorer:
        """Return a function from weights to default probabilities of ``table``, designed once."""
        dense = {name: part.dense for name, part in self._designed(table).modalities.items()}
        return lambda weights: probabilities(self._model, weights, dense)

    def bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Return the bounds of the clipped gradient sum; averaging has none."""
        training = plan.training
        modalities = expected_modalities(plan, institution)
        if isinstance(training, GradientTraining):
            expected = plan.expected_borrowers()
            # With shared noise the widest bound of all is everybody's.
            public_borrowers = expected[institution] if plan.privacy.noise == "local" else max(expected.values())
            return network_bounds(self._model, modalities, grid=training.grid, public_borrowers=public_borrowers)
        return SumBounds(
            sensitivity_squared=None, reached=self._model.layout.trained_by(modalities), largest_entry=LANE_LIMIT
        )

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return clipped gradients or local epochs, as the plan says."""
        training = plan.training
        table = self._designed(table)
        expected = plan.expected_borrowers()
        if isinstance(training, GradientTraining):
            return NetworkGradient(self._model, table, clip=training.clip, grid=training.grid)
        if not isinstance(training, FedAvgTraining):
            raise ConfigValueError(path="plan", key="training.kind", problem="does not fit this model")
        return LocalAveraging(
            self._model,
            table,
            learning_rate=training.learning_rate,
            epochs=training.local_epochs,
            batch_size=training.batch_size,
            share=expected[institution] / sum(expected.values()),
            seed=f"{training.seed}/{institution}".encode(),
        )

    def _designed(self, table: CreditTable) -> CreditTable:
        """Return the table with the model's own inputs as dense part, made once and not in every round."""
        return replace(
            table,
            modalities={
                name: replace(part, dense=self._model.design(name, part.codes, part.dense))
                for name, part in table.modalities.items()
            },
        )
