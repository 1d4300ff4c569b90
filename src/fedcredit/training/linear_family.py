"""Torch models behind the family interface."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import GradientTraining, RunPlan
from fedcredit.data.table import CreditTable
from fedcredit.model.layout import ModelInputs, ParameterLayout
from fedcredit.model.linear_stack import LinearStack, probabilities
from fedcredit.model.logistic import LogisticRegression
from fedcredit.model.network import MultimodalNetwork
from fedcredit.parties import InstitutionId
from fedcredit.training.families import LocalComputation
from fedcredit.training.local_averaging import LocalAveraging
from fedcredit.training.network_gradient import NetworkGradient

INITIAL_SEED: Final = 1
"""Public seed of the starting point."""


class LinearStackFamily:
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

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return clipped gradients or local epochs, as the plan says."""
        training = plan.training
        table = self._designed(table)
        expected = plan.expected_borrowers()
        if isinstance(training, GradientTraining):
            return NetworkGradient(
                self._model,
                table,
                clip=training.clip,
                grid=training.grid,
                public_borrowers=expected[institution],
            )
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
