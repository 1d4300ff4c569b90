"""The privacy plan of a run: one value that makes the releases *and* states what they cost; the two cannot disagree."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from fedcredit.errors import AccountantError, NoiseRangeError, PrivacyPlanError
from fedcredit.privacy.accounting import check_delta, check_epsilon, mu_within
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import (
    ADD_OR_REMOVE_ONE,
    BORROWER,
    FULL_BATCH,
    LARGEST_SIGMA,
    SAMPLER_DISTANCE_BITS,
    SMALLEST_SIGMA,
    Mechanism,
    Release,
)
from fedcredit.privacy.renyi import SampledSteps, pld_epsilon

TRAIN: Final = "train"
HOLDOUT: Final = "holdout"
GDP: Final = "gdp"
RDP: Final = "rdp"
LARGEST_OVERLAP: Final = 3
"""At how many institutions the same borrower is assumed to be, for the worst case that is reported (PRIVACY.md 7)."""
_SAMPLER_DISTANCE: Final = Fraction(1, 1 << -SAMPLER_DISTANCE_BITS)
"""Charged per number drawn."""
_LARGEST_STEPS: Final = 1_000_000
_SAMPLER_RESERVE: Final = 1 << 13
"""Numbers per release that the noise is calibrated for at least, so that releases of other sizes fit as well."""
_DISAGREEMENT: Final = 1e-6
_TYPICAL_SIGMA: Final = 2000
"""The deviation of the release that stands for all: large enough that rounding it up does not show."""


@dataclass(frozen=True, kw_only=True)
class PrivacyPlan:
    """What a run may cost a borrower, and how many releases share it. No field has a default.

    Training and hold-out borrowers are disjoint, so the claims for the two partitions stand side by side (parallel
    composition): a borrower pays ``epsilon`` or ``evaluation_epsilon``, never both. The preparation is computed from
    training borrowers and paid from ``epsilon``.

    Raises:
        PrivacyPlanError: a field is out of range, or an infinite epsilon and ``Mechanism.NONE`` do not come together.
        AccountantError: the accountant cannot account for the mechanism.
    """

    epsilon: float
    """Bound for the preparation and all ``steps`` training releases; ``math.inf`` with ``Mechanism.NONE`` only."""
    delta: float
    """One delta for each partition's whole life."""
    unit: str
    """Whose presence is protected: "borrower"."""
    steps: int
    """How many training releases share ``epsilon``; each gets the same part."""
    preparation_share: float
    """Part of the training budget for the preparation; 0 for none."""
    preparation_steps: int
    """How often the preparation may be asked; of no meaning without a share."""
    evaluation_epsilon: float
    """Bound for all ``evaluation_steps`` releases on the hold-out partition together."""
    evaluation_steps: int
    """One, and as many more as may have to be repeated."""
    vote_share: float
    """Part of the evaluation budget for counts that an institution votes on, private alone; 0 for none. They may be
    asked as often as the evaluation."""
    mechanism: Mechanism
    accountant: str
    """How training is calibrated: "gdp", exact, or "rdp", Renyi; "none" for ``Mechanism.NONE``."""
    honest_shares: int
    """How many institutions' shares carry the noise of a sum; 1 if every message is private alone."""
    sampled_per_million: int
    """Chance of a borrower to be in a training step; 1,000,000 for everybody."""
    test_noise: bool
    """Fixed, repeatable noise for tests: protects nobody and marks what is made from it."""

    def __post_init__(self) -> None:
        """Refuse a plan that contradicts itself."""
        if self.unit != BORROWER:
            raise PrivacyPlanError(problem=f'the unit must be "{BORROWER}"')
        for name in ("steps", "preparation_steps", "evaluation_steps"):
            steps = getattr(self, name)
            if type(steps) is not int or not 1 <= steps <= _LARGEST_STEPS:
                raise PrivacyPlanError(problem=f"{name} must be an integer from 1 to {_LARGEST_STEPS}")
        self._check_shares()
        check_delta(self.delta)
        if Mechanism.parse(self.mechanism) is Mechanism.NONE:
            if not (self.epsilon == self.evaluation_epsilon == math.inf):
                raise PrivacyPlanError(problem='mechanism "none" protects nobody: its epsilons are inf, nothing less')
            if self.test_noise:
                raise PrivacyPlanError(problem='mechanism "none" has no noise, so none that is fixed either')
        else:
            check_epsilon(self.epsilon)
            check_epsilon(self.evaluation_epsilon)
        self._check_accountant()

    def _check_shares(self) -> None:
        for name, largest in (("preparation_share", 0.5), ("vote_share", 0.5)):
            if not 0 <= getattr(self, name) <= largest:
                raise PrivacyPlanError(problem=f"{name} must be from 0 to {largest:g}")

    def training_release(self, *, release_id: str, sensitivity_squared: int, dimension: int) -> Release:
        """Return one of the ``steps`` training releases, with the smallest integer sigma (at least 8) that suffices.

        The preparation and ``steps`` releases made this way compose to at most (``epsilon``, ``delta``), the sampler's
        distance included.

        Raises:
            NoiseRangeError: the sigma needed is above 200,000.
            PrivacyPlanError: a field of the release is out of range.
        """
        blank = self._blank(
            release_id=release_id,
            partition=TRAIN,
            purpose="sum of clipped gradients of one training step",
            sensitivity_squared=sensitivity_squared,
            dimension=dimension,
        )
        blank = replace(blank, sampled_per_million=self.sampled_per_million)
        return self._calibrated(blank, epsilon=self.epsilon, steps=self.steps, set_aside=self._preparation_cost())

    def preparation_release(self, *, release_id: str, sensitivity_squared: int, dimension: int) -> Release:
        """Return the release before the first round; always a rounded Gaussian on all training borrowers.

        Raises:
            NoiseRangeError: the sigma needed is above 200,000.
            PrivacyPlanError: the plan has no budget for a preparation, or a field of the release is out of range.
        """
        if not self.preparation_share:
            raise PrivacyPlanError(problem="it has no budget for a preparation")
        if dimension > _SAMPLER_RESERVE:
            raise PrivacyPlanError(problem=f"a preparation has at most {_SAMPLER_RESERVE} numbers")
        blank = self._blank(
            release_id=release_id,
            partition=TRAIN,
            purpose="histogram of categories by outcome before the first round",
            sensitivity_squared=sensitivity_squared,
            dimension=dimension,
        )
        return _paid(blank, self._preparation_cost(), steps=self.preparation_steps)

    def evaluation_release(self, *, release_id: str, sensitivity_squared: int, dimension: int) -> Release:
        """Return one of the ``evaluation_steps`` releases on the hold-out partition.

        All of them together, and the counts for votes, stay within (``evaluation_epsilon``, ``delta``).

        Raises:
            NoiseRangeError: the sigma needed is above 200,000.
            PrivacyPlanError: a field of the release is out of range.
        """
        blank = self._blank(
            release_id=release_id,
            partition=HOLDOUT,
            purpose="counts of scores by outcome for the evaluation",
            sensitivity_squared=sensitivity_squared,
            dimension=dimension,
        )
        return self._calibrated(
            blank, epsilon=self.evaluation_epsilon, steps=self.evaluation_steps, set_aside=self._vote_cost()
        )

    def vote_release(self, *, release_id: str, sensitivity_squared: int, dimension: int) -> Release:
        """Return one of the releases that an institution votes on; a rounded Gaussian that is private alone.

        Raises:
            NoiseRangeError: the sigma needed is above 200,000.
            PrivacyPlanError: the plan has no budget for votes, or a field of the release is out of range.
        """
        if not self.vote_share:
            raise PrivacyPlanError(problem="it has no budget for votes")
        blank = self._blank(
            release_id=release_id,
            partition=HOLDOUT,
            purpose="counts of scores by outcome for the own vote",
            sensitivity_squared=sensitivity_squared,
            dimension=dimension,
        )
        return _paid(replace(blank, honest_shares=1), self._vote_cost(), steps=self.evaluation_steps)

    def training_cost(self, release: Release) -> Cost:
        """Return what a borrower pays for the whole training if every step is like ``release``.

        With shared noise it is the cost of the sums; give ``release.alone()`` for what a message costs if it is read
        alone. The preparation is counted at its full share, and the sampler as often as it draws.
        """
        prepared = self._preparation_cost()
        seen = replace(prepared, mu_squared=prepared.mu_squared * self.honest_shares / release.honest_shares)
        return Cost.of(release).times(self.steps) + seen

    def describe(self) -> PlanFacts:
        """Return the facts that a report states about this plan.

        Raises:
            AccountantError: two accountants disagree in the direction that cannot be.
        """
        protects = self.mechanism is not Mechanism.NONE and not self.test_noise
        if not protects:
            return self._facts(protects=False, epsilon=math.inf, second=math.inf, pld=None, alone=math.inf, ceiling=1.0)
        typical = self._typical_release()
        cost = self.training_cost(typical)
        epsilon, second = cost.epsilon(self.delta), cost.renyi_epsilon(self.delta)
        # Both routes are upper bounds of one truth; the exact one cannot be the larger.
        if cost.is_gaussian and second < epsilon - _DISAGREEMENT:
            raise AccountantError(
                accountant=self.accountant, problem=f"it says {epsilon:.6f}, Renyi accounting less: {second:.6f}"
            )
        if epsilon > self.epsilon + _DISAGREEMENT:
            raise AccountantError(
                accountant=self.accountant, problem=f"the noise gives {epsilon:.6f}, the plan says {self.epsilon:.6f}"
            )
        alone = self.training_cost(typical.alone()).epsilon(self.delta)
        ceiling = cost.tpr_ceiling(self.delta, fpr=0.01)
        pld = self._pld_epsilon(typical)
        return self._facts(protects=True, epsilon=self.epsilon, second=second, pld=pld, alone=alone, ceiling=ceiling)

    def epsilon_after(self, rounds: int) -> float:
        """Return what a borrower has paid after ``rounds`` steps, none of them repeated; inf if unprotected."""
        if self.mechanism is Mechanism.NONE or self.test_noise:
            return math.inf
        prepared = self._preparation_cost()
        once = replace(prepared, mu_squared=prepared.mu_squared / self.preparation_steps)
        return min(self.epsilon, (Cost.of(self._typical_release()).times(rounds) + once).epsilon(self.delta))

    def epsilon_of_overlap(self, release: Release, members: int) -> float:
        """Return the training epsilon of a borrower whom ``members`` institutions have trained on.

        Private messages add up; in a sum with shared noise the borrower counts ``members`` times, so the sensitivity
        grows by that factor. inf if nobody is protected.
        """
        if not release.protects:
            return math.inf
        if self.honest_shares == 1:
            # The others may have less noise to spare than this one: they count at the plan's full price.
            others = self.training_cost(self._typical_release()).times(members - 1)
            return (self.training_cost(release) + others).epsilon(self.delta)
        wider = replace(release, sensitivity_squared=members**2 * release.sensitivity_squared)
        prepared = self._preparation_cost()
        wide = replace(prepared, mu_squared=members**2 * prepared.mu_squared)
        return (Cost.of(wider).times(self.steps) + wide).epsilon(self.delta)

    def _pld_epsilon(self, typical: Release) -> float | None:
        if self.sampled_per_million == FULL_BATCH:
            return None
        mu = math.sqrt(typical.sensitivity_squared / typical.variance)
        rate = self.sampled_per_million / FULL_BATCH
        steps = SampledSteps(mu=mu, sampling_rate=rate, steps=self.steps)
        return pld_epsilon([steps], unsampled_mu=self._preparation_cost().mu, delta=self.delta)

    def _facts(
        self, *, protects: bool, epsilon: float, second: float, pld: float | None, alone: float, ceiling: float
    ) -> PlanFacts:
        return PlanFacts(
            unit=self.unit,
            neighbours=ADD_OR_REMOVE_ONE,
            mechanism=self.mechanism,
            accountant=self.accountant,
            test_noise=self.test_noise,
            protects=protects,
            epsilon=epsilon,
            delta=self.delta,
            steps=self.steps,
            preparations=self.preparation_steps if self.preparation_share else 0,
            honest_shares=self.honest_shares,
            sampling_rate=self.sampled_per_million / FULL_BATCH,
            epsilon_by_renyi=second,
            epsilon_by_pld=pld,
            epsilon_alone=alone,
            tpr_ceiling_at_fpr_1_percent=ceiling,
            evaluation_epsilon=self.evaluation_epsilon if protects else math.inf,
        )

    def _typical_release(self) -> Release:
        """Return a training release whose noise is neither so small nor so large that rounding sigma shows."""
        total = Fraction(mu_within(self.epsilon, self.delta, numbers=self._numbers(self.steps))) ** 2
        squared = max(1, math.ceil(_TYPICAL_SIGMA**2 * total * self.honest_shares / self.steps))
        while True:
            release = self.training_release(
                release_id="typical", sensitivity_squared=squared, dimension=_SAMPLER_RESERVE
            )
            if release.sigma >= _TYPICAL_SIGMA // 2:
                return release
            # A sampled step needs less noise than its share of mu^2 says.
            squared = math.ceil(squared * (_TYPICAL_SIGMA / release.sigma) ** 2)

    def _check_accountant(self) -> None:
        exact = self.mechanism is Mechanism.ROUNDED_GAUSSIAN and self.sampled_per_million == FULL_BATCH
        if self.mechanism is Mechanism.NONE:
            if self.accountant != "none":
                raise AccountantError(accountant=self.accountant, problem='mechanism "none" has nothing to account for')
        elif self.accountant not in {GDP, RDP}:
            raise AccountantError(accountant=str(self.accountant)[:40], problem="it is not known")
        elif self.accountant == GDP and not exact:
            raise AccountantError(
                accountant=GDP, problem=f"it is exact for {Mechanism.ROUNDED_GAUSSIAN} on full batches only"
            )

    def _blank(
        self, *, release_id: str, partition: str, purpose: str, sensitivity_squared: int, dimension: int
    ) -> Release:
        """Return the release with the smallest noise there is, or with none if the plan has none."""
        return Release(
            release_id=release_id,
            partition=partition,
            purpose=purpose,
            mechanism=self.mechanism,
            unit=self.unit,
            neighbours=ADD_OR_REMOVE_ONE,
            sensitivity_squared=sensitivity_squared,
            sigma=0 if self.mechanism is Mechanism.NONE else SMALLEST_SIGMA,
            dimension=dimension,
            honest_shares=self.honest_shares,
            sampled_per_million=FULL_BATCH,
            test_noise=self.test_noise,
        )

    def _calibrated(self, blank: Release, *, epsilon: float, steps: int, set_aside: Cost) -> Release:
        """Return ``blank`` with the noise at which ``steps`` such releases and what is set aside keep ``epsilon``."""
        if not blank.sigma:
            return blank
        if blank.is_gaussian and self.accountant == GDP:
            numbers = self._numbers(steps, blank.dimension) + int(set_aside.sampler_distance / _SAMPLER_DISTANCE)
            total = Fraction(mu_within(epsilon, self.delta, numbers=numbers)) ** 2
            return _with_sigma(blank, mu_squared=(total - set_aside.mu_squared) / steps)
        # Fixed test noise is calibrated like real noise, though it protects nobody.
        real = replace(blank, release_id="real", test_noise=False)
        sigma = _sigma_by_renyi(
            real,
            reserved=set_aside.mu_squared,
            distance=set_aside.sampler_distance,
            epsilon=epsilon,
            delta=self.delta,
            steps=steps,
        )
        return replace(blank, sigma=sigma)

    def _preparation_cost(self) -> Cost:
        """Return what is set aside for the preparation, its sampler included; training is calibrated beside it."""
        return self._set_aside(self.preparation_share, epsilon=self.epsilon, steps=self.preparation_steps)

    def _vote_cost(self) -> Cost:
        """Return what is set aside for the votes, their sampler included; the evaluation is calibrated beside it."""
        return self._set_aside(self.vote_share, epsilon=self.evaluation_epsilon, steps=self.evaluation_steps)

    def _set_aside(self, share: float, *, epsilon: float, steps: int) -> Cost:
        if not share or self.mechanism is Mechanism.NONE:
            return Cost.nothing()
        numbers = self._numbers(steps)
        total = Fraction(mu_within(epsilon, self.delta, numbers=numbers)) ** 2
        return Cost(
            mu_squared=Fraction(share) * total,
            renyi=None,
            sampler_distance=numbers * _SAMPLER_DISTANCE,
        )

    def _numbers(self, steps: int, dimension: int = 1) -> int:
        """Return how many numbers of noise ``steps`` releases are taken to draw, all honest shares together."""
        return steps * max(dimension, _SAMPLER_RESERVE) * self.honest_shares


@dataclass(frozen=True, kw_only=True)
class PlanFacts:
    """What a report says about a plan; every field is a public number or name."""

    unit: str
    neighbours: str
    mechanism: Mechanism
    accountant: str
    test_noise: bool
    protects: bool
    epsilon: float
    """For preparation and training together, at ``delta``; infinite when nobody is protected."""
    delta: float
    steps: int
    preparations: int
    """How many preparation releases the plan pays for."""
    honest_shares: int
    """1: every message is private alone. More: the sum is, as long as so many honest institutions are in it."""
    sampling_rate: float
    epsilon_by_renyi: float
    """The same claim by the second route; never below the exact one by more than 1e-6."""
    epsilon_by_pld: float | None
    """Of a plan with sampled steps: by composing privacy-loss distributions, the tightest number for a plan that was
    fixed beforehand. The ledger charges more, because that is no filter."""
    epsilon_alone: float
    """If secure aggregation fails and one institution's message is read alone."""
    tpr_ceiling_at_fpr_1_percent: float
    """No membership test with 1 % false alarms finds a larger share of the members."""
    evaluation_epsilon: float
    """For all evaluation releases together, on other borrowers; the two do not add up."""


def _paid(blank: Release, cost: Cost, *, steps: int) -> Release:
    """Return a rounded Gaussian of which ``steps`` are paid with ``cost``; ``blank`` itself if there is no noise."""
    if not blank.sigma:
        return blank
    return _with_sigma(replace(blank, mechanism=Mechanism.ROUNDED_GAUSSIAN), mu_squared=cost.mu_squared / steps)


def _with_sigma(blank: Release, *, mu_squared: Fraction) -> Release:
    """Return a Gaussian release with the smallest sigma of at least 8 that costs at most ``mu_squared``, exactly."""
    if mu_squared <= 0:
        raise PrivacyPlanError(problem="the preparation and the noise sampler leave no budget for training")
    needed = max(1, math.ceil(blank.sensitivity_squared / (mu_squared * blank.honest_shares)))
    return replace(blank, sigma=_in_range(max(SMALLEST_SIGMA, math.isqrt(needed - 1) + 1)))


@functools.lru_cache(maxsize=64)
def _sigma_by_renyi(
    blank: Release, *, reserved: Fraction, distance: Fraction, epsilon: float, delta: float, steps: int
) -> int:
    """Return the smallest sigma at which ``steps`` such releases, and ``reserved`` mu^2, keep ``epsilon``."""
    kept = Cost(mu_squared=reserved, renyi=None, sampler_distance=distance)

    def holds(sigma: int) -> bool:
        cost = kept + Cost.of(replace(blank, sigma=sigma)).times(steps)
        return cost.renyi_epsilon(delta) <= epsilon

    return _smallest(holds)


def _smallest(holds: Callable[[int], bool]) -> int:
    """Return the smallest sigma in range for which ``holds``, which is monotone.

    Raises:
        NoiseRangeError: it holds for none.
    """
    low, high = SMALLEST_SIGMA - 1, SMALLEST_SIGMA
    while not holds(high):
        if high == LARGEST_SIGMA:
            _in_range(high + 1)
        low, high = high, min(2 * high, LARGEST_SIGMA)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _in_range(sigma: int) -> int:
    if sigma > LARGEST_SIGMA:
        raise NoiseRangeError(problem=f"the plan needs noise of deviation {sigma}, the largest is {LARGEST_SIGMA}")
    return sigma
