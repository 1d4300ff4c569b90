"""From a plan to a model family and to what one institution computes for it. torch is imported only when needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import BoostingTraining, GradientTraining, RunPlan
from fedcredit.data.table import CreditTable
from fedcredit.errors import ConfigValueError
from fedcredit.messages import COUNT_GRID
from fedcredit.model.layout import ModelInputs, ParameterLayout
from fedcredit.model.scorecard import Scorecard
from fedcredit.model.trees import BoostedTrees, TreeMargins
from fedcredit.parties import InstitutionId
from fedcredit.training.integer_sum import IntegerSum, SumBounds
from fedcredit.training.scorecard_gradient import ScorecardGradient, scorecard_bounds
from fedcredit.training.tree_sums import CategoryHistogram, TreeSums, histogram_bounds, tree_bounds

Scorer: TypeAlias = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""From weights to default probabilities, shape (n,)."""


class LocalComputation(Protocol):
    """What an institution computes on its own borrowers in one round."""

    def integer_sum(
        self, weights: npt.NDArray[np.float64], *, round_number: int, batch: npt.NDArray[np.bool_] | None
    ) -> IntegerSum:
        """Return the sum at the given global weights, over all borrowers or those that ``batch`` (n,) picks."""
        ...


class ModelFamily(Protocol):
    """A model as both sides of a round need it. All but the tables is public."""

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the weights that institutions receive."""
        ...

    @property
    def lanes(self) -> int:
        """How many numbers a training answer has."""
        ...

    @property
    def preparation_lanes(self) -> int:
        """How many numbers the answer before the first round has; 0 if the family has no use for one."""
        ...

    @property
    def input_scale(self) -> float:
        """What one unit of a summed gradient entry is worth: the size of an active input."""
        ...

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the public starting point."""
        ...

    def prepared(self, weights: npt.NDArray[np.float64], total: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the starting point that follows from the noised sum of the preparation."""
        ...

    def probabilities(self, weights: npt.NDArray[np.float64], table: CreditTable) -> npt.NDArray[np.float64]:
        """Return default probabilities of the records of a table, shape (n,)."""
        ...

    def scorer(self, table: CreditTable) -> Scorer:
        """Return the same for one table and many versions of the weights; it may remember what does not change."""
        ...

    def bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Return what is public about a training sum of ``institution`` under ``plan``."""
        ...

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return what ``institution`` computes in a training round under ``plan``."""
        ...

    def preparation_bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Return what is public about the preparation's sum of ``institution``."""
        ...

    def preparation(self, table: CreditTable) -> LocalComputation:
        """Return what an institution computes before the first round."""
        ...


def model_family(plan: RunPlan, inputs: ModelInputs) -> ModelFamily:
    """Return the family that the plan names, for the public inputs of its contract.

    Raises:
        ConfigValueError: the plan's training does not fit its model, or it names a modality that the contract lacks.
    """
    for name, section in plan.institutions.items():
        strange = sorted(set(section.modalities) - set(inputs))
        if strange:
            known = ", ".join(inputs)
            raise ConfigValueError(
                path="plan",
                key=f"institutions.{name}.modalities",
                problem=f'has "{strange[0]}", the contract has {known}',
            )
    if plan.model.kind == "scorecard":
        return ScorecardFamily(inputs, base_rate=plan.model.base_rate)
    if plan.model.kind == "trees":
        return TreeFamily(plan, inputs)
    # torch costs seconds at import; only the families that need it pay.
    from fedcredit.training.linear_family import LinearStackFamily

    return LinearStackFamily(plan, inputs)


def expected_modalities(plan: RunPlan, institution: InstitutionId) -> tuple[str, ...]:
    """Return the modalities that bound an institution's sum.

    With shared noise every institution bounds its sum, and adds its share, as if it held everything that anybody holds:
    the noise of a number must not depend on who can move it.
    """
    if plan.privacy.noise == "local":
        return plan.modalities(institution)
    everything = {name for section in plan.institutions.values() for name in section.modalities}
    return tuple(sorted(everything))


class NoPreparation:
    """The part of a family that starts from public values alone."""

    @property
    def preparation_lanes(self) -> int:
        """No number is released before the first round."""
        return 0

    def prepared(self, weights: npt.NDArray[np.float64], total: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Refuse: nothing was prepared."""
        raise _no_preparation()

    def preparation_bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Refuse: nothing is to be prepared."""
        raise _no_preparation()

    def preparation(self, table: CreditTable) -> LocalComputation:
        """Refuse: nothing is to be prepared."""
        raise _no_preparation()


def _no_preparation() -> ConfigValueError:
    return ConfigValueError(path="plan", key="privacy.preparation_share", problem="must be 0 for this model")


class ScorecardFamily(NoPreparation):
    """The scorecard behind the family interface."""

    def __init__(self, inputs: ModelInputs, *, base_rate: float) -> None:
        self._model = Scorecard(inputs)
        self._base_rate = base_rate

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
        """An active input is 1/√K."""
        return float(self._model.active**-0.5)

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the base rate for everybody."""
        return self._model.initial_weights(base_rate=self._base_rate)

    def probabilities(self, weights: npt.NDArray[np.float64], table: CreditTable) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,)."""
        return self._model.probabilities(weights, {name: part.codes for name, part in table.modalities.items()})

    def scorer(self, table: CreditTable) -> Scorer:
        """Return a function from weights to default probabilities of ``table``."""
        return lambda weights: self.probabilities(weights, table)

    def bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Return the exact integer bounds."""
        return scorecard_bounds(self._model, expected_modalities(plan, institution), grid=_training(plan).grid)

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return the integer gradient; the scorecard has no other training."""
        training = _training(plan)
        return ScorecardGradient(self._model, table, clip=training.clip, grid=training.grid)


def _training(plan: RunPlan) -> GradientTraining:
    training = plan.training
    if not isinstance(training, GradientTraining):
        raise ConfigValueError(path="plan", key="training.kind", problem='must be "dp-gradient" for the scorecard')
    if training.clip > 1:
        raise ConfigValueError(path="plan", key="training.clip", problem="is at most 1 for the scorecard's residual")
    return training


class TreeFamily:
    """Boosted trees behind the family interface. The plan's institutions decide the views, so they are public."""

    def __init__(self, plan: RunPlan, inputs: ModelInputs) -> None:
        model, training = plan.model, plan.training
        if model.depth is None or model.trees_per_round is None or model.structure_seed is None:
            raise ConfigValueError(path="plan", key="model", problem='lacks a key of kind "trees"')
        if not isinstance(training, BoostingTraining):
            raise ConfigValueError(path="plan", key="training.kind", problem='must be "dp-boosting" for trees')
        self._training = training
        views = {frozenset(section.modalities) for section in plan.institutions.values()}
        if model.trees_per_round < len(views):
            raise ConfigValueError(
                path="plan",
                key="model.trees_per_round",
                problem=f"is below the {len(views)} combinations of modalities",
            )
        self._model = BoostedTrees(
            inputs,
            views=views,
            trees=plan.trees,
            trees_per_round=model.trees_per_round,
            depth=model.depth,
            structure_seed=model.structure_seed,
            base_rate=model.base_rate,
        )
        if plan.privacy.preparation_share and not self._model.histogram_bins:
            raise _no_preparation()

    @property
    def layout(self) -> ParameterLayout:
        """The layout of the weights: groups of bins, then leaves."""
        return self._model.layout

    @property
    def lanes(self) -> int:
        """Gradient and curvature of every leaf of a round's trees."""
        return self._model.trees_per_round * self._model.leaves * 2

    @property
    def preparation_lanes(self) -> int:
        """Good and bad per bin of every category."""
        return 2 * self._model.histogram_bins

    @property
    def input_scale(self) -> float:
        """Sums are in units of the residual."""
        return 1.0

    def initial_weights(self) -> npt.NDArray[np.float64]:
        """Return the base rate for everybody and the contract's own bins."""
        return self._model.initial_weights()

    def prepared(self, weights: npt.NDArray[np.float64], total: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the starting point with categories sorted and merged by their noised default rates."""
        return self._model.with_histogram(weights, total.reshape(-1, 2) / COUNT_GRID)

    def probabilities(self, weights: npt.NDArray[np.float64], table: CreditTable) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,)."""
        return self._model.probabilities(weights, {name: part.codes for name, part in table.modalities.items()})

    def scorer(self, table: CreditTable) -> Scorer:
        """Return a function that looks up new trees only."""
        return TreeMargins(self._model, {name: part.codes for name, part in table.modalities.items()}).probabilities

    def bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Return the exact integer bounds."""
        return tree_bounds(self._model, self._training, expected_modalities(plan, institution))

    def computation(self, plan: RunPlan, institution: InstitutionId, table: CreditTable) -> LocalComputation:
        """Return the sums per leaf."""
        return TreeSums(self._model, table, self._training)

    def preparation_bounds(self, plan: RunPlan, institution: InstitutionId) -> SumBounds:
        """Return the bounds of the histogram."""
        return histogram_bounds(self._model, expected_modalities(plan, institution))

    def preparation(self, table: CreditTable) -> LocalComputation:
        """Return the histogram of categories by outcome."""
        return CategoryHistogram(self._model, table)
