"""What one partition may spend, and what it has spent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from fedcredit.errors import AccountantError
from fedcredit.privacy.accounting import check_delta, check_epsilon
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import Release


@dataclass(frozen=True, kw_only=True)
class BudgetCap:
    """The most that an institution lets one partition spend in its whole life.

    Raises:
        PrivacyPlanError: epsilon outside 1e-6 to 100, or delta outside 1e-15 to 0.01.
    """

    epsilon: float
    delta: float
    """Fixed when the ledger is opened first: what was spent is only comparable at one delta."""

    def __post_init__(self) -> None:
        """Refuse a cap that cannot be accounted for."""
        check_epsilon(self.epsilon)
        check_delta(self.delta)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spending:
    """What some releases of one partition have cost: all of them, or those of one run."""

    cost: Cost
    """Of the releases that protect, as they claim to: a shared noise counts with all its honest shares."""
    alone: Cost
    """Of the same releases if secure aggregation fails and each message is read with its own share of noise only."""
    delta: float
    releases: int
    unprotected: int
    """How many of the releases had no noise, or noise that anyone can repeat."""

    @classmethod
    def none(cls, delta: float) -> Spending:
        """Return what no release has cost."""
        return cls(cost=Cost.nothing(), alone=Cost.nothing(), delta=delta, releases=0, unprotected=0)

    @property
    def epsilon(self) -> float:
        """The epsilon at ``delta``, sampler included, rounded up; infinite after an unprotected release."""
        return math.inf if self.unprotected else self.cost.epsilon(self.delta)

    @property
    def epsilon_alone(self) -> float:
        """The same if secure aggregation fails; equal to ``epsilon`` if no noise was shared."""
        return math.inf if self.unprotected else self.alone.epsilon(self.delta)

    @property
    def shared(self) -> bool:
        """Whether some noise was shared, so that the two epsilons differ and must be told together."""
        return self.epsilon_alone != self.epsilon

    def tpr_ceiling(self, *, fpr: float) -> float:
        """Return the largest share of members that any membership test with false-positive rate ``fpr`` finds.

        1 after an unprotected release.
        """
        return 1.0 if self.unprotected else self.cost.tpr_ceiling(self.delta, fpr=fpr)

    def tpr_ceiling_alone(self, *, fpr: float) -> float:
        """Return the same if secure aggregation fails."""
        return 1.0 if self.unprotected else self.alone.tpr_ceiling(self.delta, fpr=fpr)

    def require_one_price(self, release: Release) -> None:
        """Return if ``release`` is priced as what is spent, or everything is priced by Renyi already.

        Two tight prices side by side are no filter: whoever sees results could choose the cheaper one.

        Raises:
            AccountantError: what is spent is priced exactly, as Gaussian, and ``release`` is not Gaussian.
        """
        exact = self.cost.is_gaussian and self.cost.mu_squared
        if exact and release.protects and not release.is_gaussian:
            raise AccountantError(
                accountant="rdp", problem=f"what {release.partition} has spent so far is priced exactly, as Gaussian"
            )

    def after(self, release: Release) -> Spending:
        """Return the spending once ``release`` is charged as well."""
        if not release.protects:
            return replace(self, releases=self.releases + 1, unprotected=self.unprotected + 1)
        return replace(
            self,
            releases=self.releases + 1,
            cost=self.cost + Cost.of(release),
            alone=self.alone + Cost.of(release.alone()),
        )
