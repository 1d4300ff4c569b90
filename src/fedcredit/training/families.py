"""From a plan to a model family and to what one institution computes for it. torch is imported only when needed."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import GradientTraining, RunPlan
from fedcredit.data.table import CreditTable
from fedcredit.errors import ConfigValueError
from fedcredit.model.layout import ModelInputs, ParameterLayout
from fedcredit.model.scorecard import Scorecard
from fedcredit.parties import InstitutionId
from fedcredit.training.integer_sum import IntegerSum
from fedcredit.training.scorecard_gradient import ScorecardGradient


class LocalComputation(Protocol):
    """What an institution computes on its own borrowers in one round. The bounds are public and known before."""

    @property
    def sensitivity_squared(self) -> int | None:
        """Largest squared L2 change of the sum when one borrower is added or removed; ``None`` without such a bound."""
        ...

    @property
    def dimension(self) -> int:
        """How many numbers of the vector carry a sum and get noise."""
        ...

    def integer_sum(self, weights: npt.NDArray[np.float64]) -> IntegerSum:
        """Return the sum at the given global weights."""
        ...


class ModelFamily(Protocol):
    """A model as both sides of a round need it."""

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the exchanged vector."""
        ...

    @property
    def input_scale(self) -> float:
        """What one unit of a summed gradient entry is worth: the size of an active input."""
        ...

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the public starting point."""
        ...

    def probabilities(self, weights: npt.NDArray[np.float64], table: CreditTable) -> npt.NDArray[np.float64]:
        """Return default probabilities of the records of a table, shape (n,)."""
        ...

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return what ``institution`` computes under ``plan``."""
        ...


def model_family(plan: RunPlan, inputs: ModelInputs) -> ModelFamily:
    """Return the family that the plan names, for the public inputs of its contract."""
    if plan.model.kind == "scorecard":
        return ScorecardFamily(inputs, base_rate=plan.model.base_rate)
    # torch costs seconds at import; only the families that need it pay.
    from fedcredit.training.linear_family import LinearStackFamily

    return LinearStackFamily(plan, inputs)


class ScorecardFamily:
    """The scorecard behind the family interface."""

    def __init__(self, inputs: ModelInputs, *, base_rate: float) -> None:
        self._model = Scorecard(inputs)
        self._base_rate = base_rate

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the exchanged vector."""
        return self._model.layout

    @property
    def input_scale(self) -> float:
        """An active input is 1/√K."""
        return float(self._model.active**-0.5)

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the base rate for everybody."""
        return self._model.initial_weights(base_rate=self._base_rate)

    def probabilities(self, weights: npt.NDArray[np.float64], table: CreditTable) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,)."""
        return self._model.probabilities(weights, {name: part.codes for name, part in table.modalities.items()})

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return the integer gradient; the scorecard has no other training."""
        training = plan.training
        if not isinstance(training, GradientTraining):
            raise ConfigValueError(path="plan", key="training.kind", problem='must be "dp-gradient" for the scorecard')
        if training.clip > 1:
            raise ConfigValueError(
                path="plan", key="training.clip", problem="is at most 1 for the scorecard's residual"
            )
        return ScorecardGradient(self._model, table, clip=training.clip, grid=training.grid)
