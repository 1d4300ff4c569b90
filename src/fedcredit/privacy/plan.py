"""The privacy plan of a run: one value that makes the releases *and* states what they cost; the two cannot disagree."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from fedcredit.errors import NoiseRangeError, PrivacyPlanError
from fedcredit.privacy.accounting import (
    check_delta,
    check_epsilon,
    mu_within,
    tpr_ceiling,
    zcdp_epsilon,
)
from fedcredit.privacy.release import (
    ADD_OR_REMOVE_ONE,
    BORROWER,
    LARGEST_SIGMA,
    SMALLEST_SIGMA,
    Mechanism,
    Release,
)

TRAIN: Final = "train"
HOLDOUT: Final = "holdout"
_LARGEST_STEPS: Final = 1_000_000
_SAMPLER_RESERVE: Final = 1 << 13
"""Numbers per release that the noise is calibrated for at least, so that releases of other sizes fit as well."""


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What a report says about a plan; every field is a public number or name."""

    unit: str
    neighbours: str
    mechanism: Mechanism
    test_noise: bool
    protects: bool
    epsilon: float
    """For the whole training, at ``delta``; infinite when nobody is protected."""
    delta: float
    steps: int
    mu: float
    """The same claim as Gaussian differential privacy."""
    zcdp_epsilon: float
    """The same claim by the second route (rho-zCDP with rho = mu^2/2); never below ``epsilon`` by more than 1e-6."""
    tpr_ceiling_at_fpr_1_percent: float
    """No membership test with 1 % false alarms finds a larger share of the members."""
    evaluation_epsilon: float
    """For all evaluation releases together, on other borrowers; the two do not add up."""


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What a run may cost a borrower, and how many releases share it. No field has a default.

    Training and hold-out borrowers are disjoint, so the claims for the two partitions stand side by side (parallel
    composition): a borrower pays ``epsilon`` or ``evaluation_epsilon``, never both.

    Raises:
        PrivacyPlanError: a field is out of range, or an infinite epsilon and ``Mechanism.NONE`` do not come together.
    """

    epsilon: float
    """Bound for all ``steps`` training releases together; ``math.inf`` with ``Mechanism.NONE`` only."""
    delta: float
    """One delta for each partition's whole life."""
    unit: str
    """Whose presence is protected: "borrower"."""
    steps: int
    """How many training releases share ``epsilon``; each gets the same mu^2."""
    evaluation_epsilon: float
    """Bound for all ``evaluation_steps`` releases on the hold-out partition together."""
    evaluation_steps: int
    """One, and as many more as may have to be repeated."""
    mechanism: Mechanism
    test_noise: bool
    """Fixed, repeatable noise for tests: protects nobody and marks what is made from it."""

    def __post_init__(self) -> None:
        """Refuse a plan that contradicts itself."""
        if self.unit != BORROWER:
            raise PrivacyPlanError(problem=f'the unit must be "{BORROWER}"')
        for name, steps in (("steps", self.steps), ("evaluation_steps", self.evaluation_steps)):
            if type(steps) is not int or not 1 <= steps <= _LARGEST_STEPS:
                raise PrivacyPlanError(problem=f"{name} must be an integer from 1 to {_LARGEST_STEPS}")
        check_delta(self.delta)
        if Mechanism.parse(self.mechanism) is Mechanism.NONE:
            if not (self.epsilon == self.evaluation_epsilon == math.inf):
                raise PrivacyPlanError(problem='mechanism "none" protects nobody: its epsilons are inf, nothing less')
            if self.test_noise:
                raise PrivacyPlanError(problem='mechanism "none" has no noise, so none that is fixed either')
        else:
            check_epsilon(self.epsilon)
            check_epsilon(self.evaluation_epsilon)

    def training_release(self, *, release_id: str, sensitivity_squared: int, dimension: int) -> Release:
        """Return one of the ``steps`` training releases, with the smallest integer sigma (at least 8) that suffices.

        ``steps`` releases made this way compose to at most (``epsilon``, ``delta``), the sampler's distance included.

        Raises:
            NoiseRangeError: the sigma needed is above 200,000.
            PrivacyPlanError: a field of the release is out of range.
        """
        return self._release(
            release_id=release_id,
            partition=TRAIN,
            purpose="sum of clipped gradients of one training step",
            sensitivity_squared=sensitivity_squared,
            dimension=dimension,
            epsilon=self.epsilon,
            steps=self.steps,
        )

    def evaluation_release(self, *, release_id: str, sensitivity_squared: int, dimension: int) -> Release:
        """Return one of the ``evaluation_steps`` releases on the hold-out partition.

        All of them together stay within (``evaluation_epsilon``, ``delta``).

        Raises:
            NoiseRangeError: the sigma needed is above 200,000.
            PrivacyPlanError: a field of the release is out of range.
        """
        return self._release(
            release_id=release_id,
            partition=HOLDOUT,
            purpose="counts of scores by outcome for the evaluation",
            sensitivity_squared=sensitivity_squared,
            dimension=dimension,
            epsilon=self.evaluation_epsilon,
            steps=self.evaluation_steps,
        )

    def describe(self) -> PlanFacts:
        """Return the facts that a report states about this plan."""
        protects = self.mechanism is not Mechanism.NONE and not self.test_noise
        mu = self._mu(self.epsilon, steps=self.steps, dimension=1) if protects else math.inf
        return PlanFacts(
            unit=self.unit,
            neighbours=ADD_OR_REMOVE_ONE,
            mechanism=self.mechanism,
            test_noise=self.test_noise,
            protects=protects,
            epsilon=self.epsilon if protects else math.inf,
            delta=self.delta,
            steps=self.steps,
            mu=mu,
            zcdp_epsilon=zcdp_epsilon(mu, self.delta),
            tpr_ceiling_at_fpr_1_percent=tpr_ceiling(mu, 0.01),
            evaluation_epsilon=self.evaluation_epsilon if protects else math.inf,
        )

    def _mu(self, epsilon: float, *, steps: int, dimension: int) -> float:
        return mu_within(epsilon, self.delta, numbers=steps * max(dimension, _SAMPLER_RESERVE))

    def _release(
        self,
        *,
        release_id: str,
        partition: str,
        purpose: str,
        sensitivity_squared: int,
        dimension: int,
        epsilon: float,
        steps: int,
    ) -> Release:
        sigma = 0
        if self.mechanism is not Mechanism.NONE:
            mu = self._mu(epsilon, steps=steps, dimension=dimension)
            sigma = smallest_sigma(mu=mu, steps=steps, sensitivity_squared=sensitivity_squared)
        return Release(
            release_id=release_id,
            partition=partition,
            purpose=purpose,
            mechanism=self.mechanism,
            unit=self.unit,
            neighbours=ADD_OR_REMOVE_ONE,
            sensitivity_squared=sensitivity_squared,
            sigma=sigma,
            dimension=dimension,
            test_noise=self.test_noise,
        )


def smallest_sigma(*, mu: float, steps: int, sensitivity_squared: int) -> int:
    """Return the smallest integer sigma of at least 8 with ``steps * sensitivity_squared / sigma^2 <= mu^2``, exactly.

    Raises:
        NoiseRangeError: it is above 200,000.
    """
    needed = max(1, math.ceil(steps * sensitivity_squared / Fraction(mu) ** 2))
    sigma = max(SMALLEST_SIGMA, math.isqrt(needed - 1) + 1)
    if sigma > LARGEST_SIGMA:
        raise NoiseRangeError(problem=f"the plan needs noise of deviation {sigma}, the largest is {LARGEST_SIGMA}")
    return sigma
