"""What releases cost together, by the tightest accounting that is valid for a budget.

Gaussian releases add up exactly as mu^2, also when later ones are chosen after seeing earlier ones (``accounting``).
Everything else adds up in Renyi differential privacy on a fixed grid of orders (``renyi``), which is a valid filter too
(Feldman, Zrnic 2021); a Gaussian release beside it is counted there as well. Composing numeric privacy-loss
distributions would be tighter but is no filter, so no budget rests on it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import PrivacyPlanError
from fedcredit.privacy.accounting import epsilon_with_sampler, root_up, tpr_ceiling, with_sampler
from fedcredit.privacy.release import FULL_BATCH, Mechanism, Release
from fedcredit.privacy.renyi import (
    discrete_gaussian_sum_rdp,
    epsilon_from_rdp,
    gaussian_rdp,
    sampled_gaussian_rdp,
    skellam_rdp,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """The cost of any number of releases that protect; costs add up, in any order."""

    mu_squared: Fraction
    """Exact sum of sensitivity^2 / variance over the Gaussian releases."""
    renyi: NDArray[np.float64] | None
    """Renyi divergence of all other releases at each of ``ORDERS``; ``None`` if there are none."""
    sampler_distance: Fraction
    """Sum of the noise's distances from its stated laws; part of what delta pays for."""

    @classmethod
    def nothing(cls) -> Self:
        """Return the cost of no release."""
        return cls(mu_squared=Fraction(0), renyi=None, sampler_distance=Fraction(0))

    @classmethod
    def of(cls, release: Release) -> Self:
        """Return the cost of one release.

        Raises:
            PrivacyPlanError: it protects nobody, so no number bounds its cost.
        """
        if not release.protects:
            raise PrivacyPlanError(problem=f"{release.release_id} has no protecting noise, so its cost is unbounded")
        mu_squared = Fraction(release.sensitivity_squared, release.variance)
        if release.is_gaussian:
            return cls(mu_squared=mu_squared, renyi=None, sampler_distance=release.sampler_distance)
        return cls(
            mu_squared=Fraction(0),
            # What a release is called does not change what it costs.
            renyi=_renyi(replace(release, release_id="any", partition="any", purpose="any")),
            sampler_distance=release.sampler_distance,
        )

    @classmethod
    def total(cls, releases: Iterable[Release]) -> Self:
        """Return the cost of all of them together."""
        cost = cls.nothing()
        for release in releases:
            cost = cost + cls.of(release)
        return cost

    @property
    def is_gaussian(self) -> bool:
        """Whether the exact accounting of Gaussian releases applies to all of it."""
        return self.renyi is None

    @property
    def mu(self) -> float:
        """The Gaussian-differential-privacy parameter, rounded up; NaN if part of it is not Gaussian."""
        return root_up(self.mu_squared) if self.is_gaussian else math.nan

    def __add__(self, other: Self) -> Self:
        parts = [part.renyi for part in (self, other) if part.renyi is not None]
        return type(self)(
            mu_squared=self.mu_squared + other.mu_squared,
            renyi=np.sum(parts, axis=0) if parts else None,
            sampler_distance=self.sampler_distance + other.sampler_distance,
        )

    def times(self, count: int) -> Self:
        """Return the cost of ``count`` such costs."""
        return type(self)(
            mu_squared=count * self.mu_squared,
            renyi=None if self.renyi is None else count * self.renyi,
            sampler_distance=count * self.sampler_distance,
        )

    def epsilon(self, delta: float) -> float:
        """Return the epsilon at ``delta``, sampler included, rounded up.

        Raises:
            PrivacyPlanError: ``delta`` lies outside its range.
        """
        if self.renyi is None:
            return epsilon_with_sampler(root_up(self.mu_squared), delta, distance=self.sampler_distance)
        return self.renyi_epsilon(delta)

    def renyi_epsilon(self, delta: float) -> float:
        """Return the epsilon by the second route, Renyi for everything; for Gaussian releases it is never smaller."""
        curve = gaussian_rdp(float(self.mu_squared)) + (0.0 if self.renyi is None else self.renyi)
        return with_sampler(lambda left: epsilon_from_rdp(curve, left), delta, distance=self.sampler_distance)

    def tpr_ceiling(self, delta: float, *, fpr: float) -> float:
        """Return a bound on the true-positive rate of any membership test with false-positive rate ``fpr``.

        Exact for Gaussian releases; otherwise e^epsilon fpr + delta at the smallest epsilon for ``delta``.
        """
        if self.is_gaussian:
            return tpr_ceiling(self.mu, fpr)
        return min(1.0, math.exp(min(50.0, self.epsilon(delta))) * fpr + delta)


@functools.lru_cache(maxsize=512)
def _renyi(release: Release) -> NDArray[np.float64]:
    if release.mechanism is Mechanism.SKELLAM:
        curve = skellam_rdp(release.sensitivity_squared, release.variance, release.dimension)
    elif release.mechanism is Mechanism.DISCRETE_GAUSSIAN:
        curve = discrete_gaussian_sum_rdp(
            release.sensitivity_squared, release.sigma, release.honest_shares, release.dimension
        )
    else:
        mu = root_up(Fraction(release.sensitivity_squared, release.variance))
        curve = sampled_gaussian_rdp(mu, release.sampled_per_million / FULL_BATCH)
    curve.setflags(write=False)
    return curve
