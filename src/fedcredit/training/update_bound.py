"""How large an institution's sum may be in a round: a public ball around zero, so that one member cannot carry the sum.

The institution shortens its own integer sum before noise and masks (``clamp``); the coordinator checks the released sum
(``require_in_range``). The radius follows the last released sum: an honest member's part of it is about its share, plus
what sampling its borrowers makes, so there is no room for ten times an honest sum. Norm bounds are what holds under
secure aggregation (Shejwalkar et al. 2022, arXiv:2108.10241); a bound per number alone was measured and does not
(tests/attacks/test_poisoning.py has the figures).

**Privacy.** ``clamp`` keeps neighbouring sums within ``bounded(bounds).sensitivity_squared`` of each other at *every*
radius, so a radius may come from anybody who has seen releases only, the coordinator included. Proof: cutting numbers
off at a limit moves no two vectors apart, nor does the projection onto a ball (it is convex); a product of such maps
over disjoint blocks does not either. Truncation towards zero then adds less than 1 to the distance in any number:
between numbers of one sign it is a difference of two remainders in [0, 1), between numbers of two signs it only
shortens. So the integer vectors differ by less than ``Δ + √d`` in L2 norm over d numbers. Everything is integer
arithmetic: nothing is owed to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import BoostingTraining, RunPlan
from fedcredit.errors import PrivacyPlanError, UpdateOutOfRangeError, WrongContextError
from fedcredit.parties import InstitutionId
from fedcredit.training.integer_sum import IntegerSum, SumBounds

SHARE_FACTOR: Final = 2.5
"""A member's sum may be so many times its public share of the last sum: its borrowers are unlike the others', and there
may be twice as many as expected."""
SAMPLING_DEVIATION: Final = 0.5
"""Standard deviation of the residual at the most uncertain default rate: what n borrowers add by chance is √n times
that, each of them at the largest norm."""
FIRST_STEP: Final = 1 / 8
"""The mean gradient is never more than so much of the largest norm of one borrower, before there is a last sum as well.
At the start everybody has the base rate: even features that tell the defaults perfectly reach about 1/4."""
CURVATURE_STEP: Final = 1 / 4
"""The same for curvatures, which do not fade and are at most a quarter of a residual's bound."""
NOISE_DEVIATIONS: Final = 2.0
"""How far above its expectation the estimate of the last sum's norm is taken, where noise makes it uncertain."""
LARGEST_PART: Final = 3
"""One number is at most such a part of the radius: a backdoor puts everything into the one bin that triggers it."""
WHOLE: Final = 1 << 20
"""The radii of a round are a part of the first round's, in steps of one over this."""
_TAIL: Final = 9.0
"""Standard deviations that honest noise stays within: beyond lie 10⁻¹⁸ of normal draws."""

Integers = npt.NDArray[np.int64]
Bounds: TypeAlias = "dict[InstitutionId, UpdateBound]"


@dataclass(frozen=True, kw_only=True)
class LaneBlock:
    """Numbers of a sum that one ball bounds."""

    name: str
    lanes: slice
    signed: bool
    """Whether a borrower can add a negative number."""


@dataclass(frozen=True, kw_only=True)
class UpdateBound:
    """What one institution's sum may be in one round; public."""

    blocks: tuple[LaneBlock, ...]
    radii: tuple[int, ...]
    """Largest L2 norm per block, in grid steps."""


@dataclass(frozen=True, kw_only=True)
class ReleasedSum:
    """The noised sum of an earlier round, as everybody in the run may know it."""

    total: Integers
    """(lanes,)."""
    deviations: Mapping[InstitutionId, float]
    """Per contributor: the standard deviation of the noise that it added to every number it reaches; 0 for none."""


def lane_blocks(plan: RunPlan) -> tuple[LaneBlock, ...]:
    """Return the blocks of a training sum: gradients, and beside them the curvatures of trees."""
    if isinstance(plan.training, BoostingTraining):
        # One ball around both would leave room for gradients where curvatures, which are larger, stay small.
        return (
            LaneBlock(name="gradient", lanes=slice(0, None, 2), signed=True),
            LaneBlock(name="curvature", lanes=slice(1, None, 2), signed=False),
        )
    return (LaneBlock(name="gradient", lanes=slice(None), signed=True),)


def charged(plan: RunPlan, bounds: SumBounds) -> SumBounds:
    """Return the bounds that the noise of a training sum is made for: after ``clamp`` where the plan bounds updates."""
    return bounded(bounds) if plan.bounds_updates else bounds


def bounded(bounds: SumBounds) -> SumBounds:
    """Return the bounds of a sum after ``clamp``: the sensitivity that its noise must be made for.

    Raises:
        PrivacyPlanError: one borrower's change has no bound.
    """
    squared, lanes = _sensitivity_squared(bounds), int(bounds.reached.sum())
    # (Δ + √d)² = Δ² + d + 2 √(Δ² d); a squared norm of integers is an integer.
    return replace(bounds, sensitivity_squared=squared + lanes + math.isqrt(4 * squared * lanes))


def bound_of(
    plan: RunPlan,
    institution: InstitutionId,
    *,
    bounds: Mapping[InstitutionId, SumBounds],
    previous: ReleasedSum | None,
) -> UpdateBound:
    """Return the bound of ``institution`` after ``previous``, the last released training sum; ``None`` before any.

    Per block, with n its public number of borrowers in a step and Δ the largest norm of one of them, the radius is
    ``√((5/2 ‖e‖)² + n Δ²/4)``, and at most ``n Δ/8`` (``n Δ/4`` for curvatures). ``e`` is its share of the last sum:
    per number n over the borrowers of all contributors who reach it; what noise makes of ‖e‖² is taken off.

    Args:
        plan: for the public numbers of borrowers and the rate at which a step samples them.
        institution: whose bound.
        bounds: ``ModelFamily.bounds`` of every institution of the plan.
        previous: post-processing of releases, so it costs nothing.

    Raises:
        PrivacyPlanError: one borrower's change has no bound (federated averaging).
    """
    return update_bounds(plan, [institution], bounds=bounds, previous=previous)[institution]


def update_bounds(
    plan: RunPlan,
    names: Iterable[InstitutionId],
    *,
    bounds: Mapping[InstitutionId, SumBounds],
    previous: ReleasedSum | None,
) -> dict[InstitutionId, UpdateBound]:
    """Return ``bound_of`` each of ``names``.

    Raises:
        PrivacyPlanError: one borrower's change has no bound (federated averaging).
    """
    borrowers = {name: count * plan.privacy.sampling_rate for name, count in plan.expected_borrowers().items()}
    known = None if previous is None else _Known.of(previous, bounds, borrowers)
    blocks = lane_blocks(plan)
    return {
        name: UpdateBound(blocks=blocks, radii=_radii(blocks, bounds[name], borrowers[name], known)) for name in names
    }


def _radii(blocks: tuple[LaneBlock, ...], mine: SumBounds, expected: float, known: _Known | None) -> tuple[int, ...]:
    largest = math.sqrt(_sensitivity_squared(mine))
    by_chance = SAMPLING_DEVIATION**2 * expected * largest**2
    radii = []
    for block in blocks:
        limit = expected * largest * (FIRST_STEP if block.signed else CURVATURE_STEP)
        if known is not None:
            limit = min(limit, math.sqrt(SHARE_FACTOR**2 * known.squared_part(block, mine, expected) + by_chance))
        radii.append(math.floor(limit))
    return tuple(radii)


def alike(wanted: Mapping[InstitutionId, UpdateBound], first: Mapping[InstitutionId, UpdateBound]) -> Bounds:
    """Return bounds that leave everybody at least what is ``wanted``: one part of the ``first`` round's, for all alike.

    A manifest may not choose among members: one whose others had no room would make a sum of a single update.
    """
    blocks = next(iter(first.values())).blocks
    parts = [
        max((_parts(wanted[name].radii[place], bound.radii[place])[0] for name, bound in first.items()), default=0)
        for place in range(len(blocks))
    ]
    return {
        name: UpdateBound(
            blocks=blocks, radii=tuple(_part_of(most, part) for most, part in zip(bound.radii, parts, strict=True))
        )
        for name, bound in first.items()
    }


def require_alike(bounds: Mapping[InstitutionId, UpdateBound], first: Mapping[InstitutionId, UpdateBound]) -> None:
    """Return if ``bounds`` are one part of the ``first`` round's in every block, the same for every member.

    Raises:
        WrongContextError: some member has another part than the others, or more than all.
    """
    for place in range(len(next(iter(bounds.values())).blocks)):
        ranges = [_parts(bound.radii[place], first[name].radii[place]) for name, bound in bounds.items()]
        least, most = max(low for low, _ in ranges), min(high for _, high in ranges)
        if least > min(most, WHOLE):
            raise WrongContextError(what="round manifest", field="radii")


def _part_of(radius: int, part: int) -> int:
    return radius * part // WHOLE


def _parts(radius: int, most: int) -> tuple[int, int]:
    """Return the smallest and the largest part of ``most`` that is ``radius``, in parts of ``WHOLE``."""
    if not most:
        return (0, WHOLE) if not radius else (WHOLE + 1, WHOLE + 1)
    return -(-radius * WHOLE // most), ((radius + 1) * WHOLE - 1) // most


def clamp(total: IntegerSum, bound: UpdateBound) -> IntegerSum:
    """Return the sum inside its bound; one that lies inside already comes back with the same numbers.

    First every number is cut off at a third of its block's radius, and at 0 where a block has no sign. Where the block
    is longer than its radius then, all its numbers are scaled alike and truncated towards zero. The norm of a block of
    the result is at most its radius, exactly.
    """
    values = total.values.copy()
    for block, radius in zip(bound.blocks, bound.radii, strict=True):
        widest = radius // LARGEST_PART
        part = np.clip(values[block.lanes], -widest if block.signed else 0, widest)
        values[block.lanes] = _shortened(part, radius)
    return IntegerSum(values=values)


def require_in_range(
    total: Integers, *, round_number: int, limits: Collection[UpdateBound], deviations: Iterable[float]
) -> None:
    """Refuse a sum that its contributors cannot have made if each of them ran ``clamp`` and drew its own noise.

    It is no bound on one liar: everything that the others leave free is room for it, so it finds a sum that is far
    off, and not who did it. By chance it refuses an honest sum less often than once in 10¹² rounds.

    Args:
        total: (lanes,), the released sum.
        round_number: for the error.
        limits: the bounds of the contributors in this round.
        deviations: of the contributors' noise.

    Raises:
        UpdateOutOfRangeError: the norm of a block, or one of its numbers, is out of range.
    """
    noise = math.sqrt(math.fsum(value**2 for value in deviations))
    rounding = len(limits) / 2 if noise else 0.0
    for place, block in enumerate(next(iter(limits)).blocks):
        part, radii = total[block.lanes], [bound.radii[place] for bound in limits]
        one = math.ceil(noise * _TAIL + rounding)
        highest = sum(radius // LARGEST_PART for radius in radii)
        lowest = -highest if block.signed else 0
        # The norm of d normal draws exceeds √d + t with a chance of exp(-t²/2) at most (Gaussian concentration).
        drawn = noise * (math.sqrt(part.size) + _TAIL) + rounding * math.sqrt(part.size)
        too_wide = bool(((part > highest + one) | (part < lowest - one)).any())
        if too_wide or _squared_norm(part) > (sum(radii) + math.ceil(drawn)) ** 2:
            raise UpdateOutOfRangeError(round=round_number, numbers=block.name)


def _sensitivity_squared(bounds: SumBounds) -> int:
    if bounds.sensitivity_squared is None:
        raise PrivacyPlanError(problem="this training has no bound on what one borrower can change")
    return bounds.sensitivity_squared


@dataclass(frozen=True, kw_only=True)
class _Known:
    """The last sum, as far as it is the same for every institution."""

    total: Integers
    borrowers: npt.NDArray[np.float64]
    """(lanes,), how many borrowers of its contributors reach each number."""
    noise: npt.NDArray[np.float64]
    """(lanes,), variance of the noise in each number."""

    @classmethod
    def of(
        cls,
        previous: ReleasedSum,
        bounds: Mapping[InstitutionId, SumBounds],
        borrowers: Mapping[InstitutionId, float],
    ) -> Self:
        reaching, noise = np.zeros(previous.total.size), np.zeros(previous.total.size)
        for name, deviation in previous.deviations.items():
            reaching += borrowers[name] * bounds[name].reached
            noise += deviation**2 * bounds[name].reached
        return cls(total=previous.total, borrowers=reaching, noise=noise)

    def squared_part(self, block: LaneBlock, mine: SumBounds, expected: float) -> float:
        """Return ‖e‖² of a block without the part that noise is expected to have in it, at the upper end of what it is.

        The squared norm of the noise scatters by ``√(2 Σ σ⁴)``; two such deviations are left in, so that where noise is
        nearly all there is, honest members are not cut down to what it happened to hide.
        """
        share = np.zeros_like(self.borrowers)
        np.divide(expected * mine.reached, self.borrowers, out=share, where=self.borrowers > 0)
        squares = (share**2 * (self.total.astype(np.float64) ** 2 - self.noise))[block.lanes]
        scatter = 2 * ((share**2 * self.noise)[block.lanes]) ** 2
        return max(0.0, math.fsum(squares.tolist()) + NOISE_DEVIATIONS * math.sqrt(math.fsum(scatter.tolist())))


def _squared_norm(part: Integers) -> int:
    """Return the squared norm, exactly: in 64 bits where no sum of so many squares can leave them."""
    largest = max(-int(part.min(initial=0)), int(part.max(initial=0)))
    if largest * largest * part.size < 2**63:
        return int(part @ part)
    return sum(value * value for value in part.tolist())


def _shortened(part: Integers, radius: int) -> Integers:
    squared = _squared_norm(part)
    if squared <= radius * radius:
        return part
    # floor(|x| R / √S) = isqrt(floor(x² R² / S)): exact.
    scaled = [math.isqrt(value * value * radius * radius // squared) for value in part.tolist()]
    return np.sign(part) * np.array(scaled, dtype=np.int64)
