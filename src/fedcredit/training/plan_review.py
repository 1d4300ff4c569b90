"""What a plan makes every institution release, and what that costs: computed from public values, before anybody agrees.

The coordinator checks a plan with it, and an institution previews one; both see the same numbers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract
from fedcredit.data.inputs import model_inputs
from fedcredit.errors import NoiseRangeError, PrivacyPlanError
from fedcredit.messages import COUNT_GRID, LANE_BYTES, LANE_LIMIT, SCORE_BINS, Purpose, answer_length
from fedcredit.parties import InstitutionId
from fedcredit.privacy.plan import LARGEST_OVERLAP, PlanFacts, PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import advised_delta, privacy_plan
from fedcredit.training.families import ModelFamily, model_family

_REACH_IN_SIGMAS = 14
"""No noise table reaches further (``privacy.noise``)."""


@dataclass(frozen=True, kw_only=True)
class PlannedRelease:
    """One kind of message of one institution."""

    purpose: Purpose
    release: Release
    at_most: int
    """How often it leaves, repetitions that the plan pays for included."""
    lane_bytes: int
    """Bytes of numbers in one message."""


@dataclass(frozen=True, kw_only=True)
class InstitutionReview:
    """What a plan means for one institution."""

    institution: InstitutionId
    releases: tuple[PlannedRelease, ...]
    epsilon: float
    """Of a training borrower against whoever sees the sum; with local noise, whoever sees the message."""
    epsilon_alone: float
    """The same if secure aggregation fails and the message is read alone."""
    epsilon_by_overlap: dict[int, float]
    """For a borrower whom 2, 3, ... institutions have trained on."""
    evaluation_epsilon: float
    message_bytes: int
    """Length of every sealed answer's content."""


@dataclass(frozen=True, kw_only=True)
class PlanReview:
    """What a plan means for everybody."""

    facts: PlanFacts
    advised_delta: float
    """1/(10 n) of the largest institution: the most that delta should be."""
    institutions: tuple[InstitutionReview, ...]


def review_plan(plan: RunPlan, contract: Contract) -> PlanReview:
    """Return the review of a plan that can keep its own claim.

    Raises:
        DeltaTooLargeError, AccountantError, PrivacyPlanError, NoiseRangeError: it cannot.
        ConfigValueError: its parts do not fit each other or the contract.
    """
    privacy = privacy_plan(plan)
    family = model_family(plan, model_inputs(contract))
    return PlanReview(
        facts=privacy.describe(),
        advised_delta=advised_delta(plan),
        institutions=tuple(_review(plan, privacy, family, InstitutionId(name)) for name in plan.institutions),
    )


def _review(plan: RunPlan, privacy: PrivacyPlan, family: ModelFamily, name: InstitutionId) -> InstitutionReview:
    releases = tuple(_releases(plan, privacy, family, name))
    training = next(item.release for item in releases if item.purpose is Purpose.TRAIN)
    protects = training.protects
    return InstitutionReview(
        institution=name,
        releases=releases,
        epsilon=privacy.training_cost(training).epsilon(privacy.delta) if protects else math.inf,
        epsilon_alone=privacy.training_cost(training.alone()).epsilon(privacy.delta) if protects else math.inf,
        epsilon_by_overlap={
            members: privacy.epsilon_of_overlap(training, members)
            for members in range(2, min(LARGEST_OVERLAP, len(plan.institutions)) + 1)
        },
        evaluation_epsilon=privacy.evaluation_epsilon,
        message_bytes=answer_length(max(family.lanes, family.preparation_lanes)),
    )


def _releases(plan: RunPlan, privacy: PrivacyPlan, family: ModelFamily, name: InstitutionId) -> list[PlannedRelease]:
    bounds = family.bounds(plan, name)
    if bounds.sensitivity_squared is None and privacy.mechanism is not Mechanism.NONE:
        raise PrivacyPlanError(problem="this training has no bound on what one borrower can change")
    borrowers = plan.expected_borrowers()[name]
    planned = _preparations(plan, privacy, family, name) if privacy.preparation_share else []
    training = privacy.training_release(
        release_id=f"{name}/train",
        sensitivity_squared=bounds.sensitivity_squared or 0,
        dimension=int(bounds.reached.sum()),
    )
    if training.protects:
        _require_room(bounds.largest_entry, training, borrowers)
    counts = privacy.evaluation_release(
        release_id=f"{name}/evaluate", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
    )
    _require_room(COUNT_GRID, counts, borrowers)
    planned += [
        PlannedRelease(
            purpose=Purpose.TRAIN, release=training, at_most=privacy.steps, lane_bytes=family.lanes * LANE_BYTES
        ),
        PlannedRelease(
            purpose=Purpose.EVALUATE,
            release=counts,
            at_most=privacy.evaluation_steps,
            lane_bytes=2 * SCORE_BINS * LANE_BYTES,
        ),
    ]
    return planned


def _preparations(
    plan: RunPlan, privacy: PrivacyPlan, family: ModelFamily, name: InstitutionId
) -> list[PlannedRelease]:
    """Return the release before the first round; none for an institution that has nothing to count in it."""
    bounds = family.preparation_bounds(plan, name)
    if not bounds.reached.any():
        return []
    release = privacy.preparation_release(
        release_id=f"{name}/prepare",
        sensitivity_squared=bounds.sensitivity_squared or 0,
        dimension=int(bounds.reached.sum()),
    )
    _require_room(bounds.largest_entry, release, plan.expected_borrowers()[name])
    return [
        PlannedRelease(
            purpose=Purpose.PREPARE,
            release=release,
            at_most=privacy.preparation_steps,
            lane_bytes=family.preparation_lanes * LANE_BYTES,
        )
    ]


def _require_room(largest_entry: int, release: Release, borrowers: int) -> None:
    """Refuse numbers that could leave 32 bits; an institution may have twice the borrowers that the plan says."""
    largest = 2 * borrowers * largest_entry + _REACH_IN_SIGMAS * release.sigma
    if largest > LANE_LIMIT:
        raise NoiseRangeError(problem=f"a sum of this plan can reach {largest}, 32-bit numbers end at {LANE_LIMIT}")
