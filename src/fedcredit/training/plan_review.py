"""What a plan makes every institution release, and what that costs: computed from public values, before anybody agrees.

The coordinator checks a plan with it, and an institution previews one; both see the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fedcredit.config.plan import COMPLETE_UP_TO, RunPlan
from fedcredit.contract import Contract
from fedcredit.data.inputs import model_inputs
from fedcredit.errors import NoiseRangeError, PrivacyPlanError
from fedcredit.messages import COUNT_GRID, LANE_BYTES, LANE_LIMIT, SCORE_BINS, Purpose, answer_length, upload_length
from fedcredit.parties import InstitutionId
from fedcredit.privacy.plan import LARGEST_OVERLAP, PlanFacts, PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import advised_delta, privacy_plan
from fedcredit.training.families import ModelFamily, model_family
from fedcredit.training.update_bound import charged

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
    message_bytes: int
    """Length of each message's padded content, if nobody is missing; a refusal in its place is as long."""
    largest: float
    """Magnitude that none of its numbers exceeds if the institution has at most twice the borrowers that the plan says:
    a noise table ends, so this is no guess."""


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
    institutions = tuple(_review(plan, privacy, family, InstitutionId(name)) for name in plan.institutions)
    _require_room(plan, institutions)
    return PlanReview(facts=privacy.describe(), advised_delta=advised_delta(plan), institutions=institutions)


def _require_room(plan: RunPlan, institutions: Sequence[InstitutionReview]) -> None:
    """Refuse a plan whose numbers could leave their lanes: a message's own, and under masks the sum of all messages."""
    for purpose in Purpose:
        reached = [item.largest for own in institutions for item in own.releases if item.purpose is purpose]
        if plan.secure is None:
            largest, limit, bits = max(reached, default=0.0), LANE_LIMIT, 32
        else:
            bits = plan.secure.lane_bits
            largest, limit = sum(reached), 2 ** (bits - 1) - 1
        if largest > limit:
            raise NoiseRangeError(
                problem=f"a sum of this plan can reach {largest:.0f}, {bits}-bit numbers end at {limit}"
            )


def lane_limits(plan: RunPlan, contract: Contract, name: InstitutionId) -> dict[Purpose, float]:
    """Return the largest magnitude that one institution may send, by purpose.

    Under masks these add up to no more than the lanes hold, so that a sum never wraps. An institution that has nothing
    to release sends zeros. Without privacy nothing bounds one borrower's part, and every member gets an equal share of
    the room.
    """
    if plan.secure is None:
        return dict.fromkeys(Purpose, float(LANE_LIMIT))
    equal = float((2 ** (plan.secure.lane_bits - 1) - 1) // len(plan.institutions))
    privacy, family = privacy_plan(plan), model_family(plan, model_inputs(contract))
    releases = _releases(plan, privacy, family, name)
    if not all(item.release.protects for item in releases):
        return dict.fromkeys(Purpose, equal)
    own = {item.purpose: item.largest for item in releases}
    return {purpose: own.get(purpose, 0.0) for purpose in Purpose}


def _message_bytes(plan: RunPlan, family: ModelFamily, *, lanes: int) -> int:
    """Return the padded length of a message with so many lanes: that of the run's longest, or with its boxes."""
    if plan.secure is None:
        return answer_length(max(family.lanes, family.preparation_lanes, 2 * SCORE_BINS))
    return upload_length(lanes * _lane_bytes(plan), neighbours=_neighbours(plan))


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
    )


def _releases(plan: RunPlan, privacy: PrivacyPlan, family: ModelFamily, name: InstitutionId) -> list[PlannedRelease]:
    bounds = charged(plan, family.bounds(plan, name))
    if bounds.sensitivity_squared is None and privacy.mechanism is not Mechanism.NONE:
        raise PrivacyPlanError(problem="this training has no bound on what one borrower can change")
    borrowers, lane_bytes = plan.expected_borrowers()[name], _lane_bytes(plan)
    planned = _preparations(plan, privacy, family, name) if privacy.preparation_share else []
    training = privacy.training_release(
        release_id=f"{name}/train",
        sensitivity_squared=bounds.sensitivity_squared or 0,
        dimension=int(bounds.reached.sum()),
    )
    counts = privacy.evaluation_release(
        release_id=f"{name}/evaluate", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
    )
    planned += [
        PlannedRelease(
            purpose=Purpose.TRAIN,
            release=training,
            at_most=privacy.steps,
            lane_bytes=family.lanes * lane_bytes,
            message_bytes=_message_bytes(plan, family, lanes=family.lanes),
            largest=_largest(bounds.largest_entry, training, borrowers),
        ),
        PlannedRelease(
            purpose=Purpose.EVALUATE,
            release=counts,
            at_most=privacy.evaluation_steps,
            lane_bytes=2 * SCORE_BINS * lane_bytes,
            message_bytes=_message_bytes(plan, family, lanes=2 * SCORE_BINS),
            largest=_largest(COUNT_GRID, counts, borrowers),
        ),
    ]
    return planned + _votes(plan, privacy, family, name)


def _votes(plan: RunPlan, privacy: PrivacyPlan, family: ModelFamily, name: InstitutionId) -> list[PlannedRelease]:
    """Return the counts of an institution's own that it votes on; none where the vote follows from what it released.

    The counts stay where they are: what they decide leaves, and that is paid for.
    """
    if not privacy.vote_share:
        return []
    release = privacy.vote_release(
        release_id=f"{name}/close", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
    )
    return [
        PlannedRelease(
            purpose=Purpose.CLOSE,
            release=release,
            at_most=privacy.evaluation_steps,
            lane_bytes=0,
            message_bytes=answer_length(max(family.lanes, family.preparation_lanes, 2 * SCORE_BINS)),
            largest=0.0,
        )
    ]


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
    return [
        PlannedRelease(
            purpose=Purpose.PREPARE,
            release=release,
            at_most=privacy.preparation_steps,
            lane_bytes=family.preparation_lanes * _lane_bytes(plan),
            message_bytes=_message_bytes(plan, family, lanes=family.preparation_lanes),
            largest=_largest(bounds.largest_entry, release, plan.expected_borrowers()[name]),
        )
    ]


def _neighbours(plan: RunPlan) -> int:
    members = len(plan.institutions)
    return members - 1 if members <= COMPLETE_UP_TO else COMPLETE_UP_TO


def _lane_bytes(plan: RunPlan) -> int:
    return plan.secure.lane_bits // 8 if plan.secure else LANE_BYTES


def _largest(largest_entry: int, release: Release, borrowers: int) -> float:
    if not release.protects:
        # Without a bound on one borrower's part there is none on a sum; the institution's own check is left.
        return 0.0
    return 2 * borrowers * largest_entry + _REACH_IN_SIGMAS * release.sigma
