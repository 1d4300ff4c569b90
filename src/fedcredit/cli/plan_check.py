"""What a plan costs and what there is to warn of: the figures behind ``plan check``, ``node preview`` and approval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from fedcredit.cli.texts import tr
from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract, shipped_contract
from fedcredit.crypto.channels import CHANNEL_OVERHEAD
from fedcredit.crypto.sealing import SEAL_OVERHEAD
from fedcredit.errors import LargeEpsilonError, WrongContextError
from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.plan_review import InstitutionReview, PlannedRelease, PlanReview, review_plan

WARN_ABOVE: Final = 4.0
REFUSE_ABOVE: Final = 8.0
"""Policy on a plan's epsilon (PRIVACY.md section 1)."""
FALSE_ALARMS: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Epsilon:
    """One privacy loss, seen twice; the two are always shown together when noise is shared."""

    claimed: float
    """Against whoever sees what the plan means to show: the message with local noise, the sum with shared noise."""
    alone: float
    """If secure aggregation fails and one institution's message is read without the others."""


@dataclass(frozen=True, kw_only=True)
class InstitutionCosts:
    """What the plan costs a borrower of one institution."""

    training: Epsilon
    evaluation: Epsilon
    overlap: Mapping[int, Epsilon]
    """Of a training borrower whom 2, 3, ... institutions know."""
    tpr_ceiling: Epsilon
    """Largest share of training borrowers that any membership test with 1 % false alarms finds."""


@dataclass(frozen=True, kw_only=True)
class CheckedPlan:
    """A plan that can keep its claim, with what it means for everybody."""

    plan: RunPlan
    review: PlanReview
    costs: tuple[InstitutionCosts, ...]
    """In the order of ``review.institutions``."""

    @property
    def shared(self) -> bool:
        """Return whether only the sum of all messages is protected as claimed."""
        return self.plan.privacy.noise == "shared"


def check_plan(plan: RunPlan, contract: Contract) -> CheckedPlan:
    """Return the figures of a plan on ``contract``.

    Raises:
        WrongContextError: the plan is for another contract, or for another version of it.
        DeltaTooLargeError, AccountantError, PrivacyPlanError, NoiseRangeError: it cannot keep its claim.
        ConfigValueError: its parts do not fit each other or the contract.
    """
    if (plan.run.contract, plan.run.contract_digest) != (contract.name, contract.digest().hex()):
        raise WrongContextError(what="run plan", field="data contract")
    review = review_plan(plan, contract)
    return CheckedPlan(plan=plan, review=review, costs=tuple(_costs(plan, own) for own in review.institutions))


def check_offer(plan: RunPlan, *, allow_large_epsilon: bool) -> CheckedPlan:
    """Return the figures of a plan that a coordinator may offer.

    Raises:
        LargeEpsilonError: an epsilon is above 8, infinity included, and nobody has said that this is meant.
        ConfigFileMissingError: the contract is not a shipped one; and what ``check_plan`` raises.
    """
    checked = check_plan(plan, shipped_contract(plan.run.contract))
    largest = _largest_epsilon(plan)
    if largest > REFUSE_ABOVE and not allow_large_epsilon:
        raise LargeEpsilonError(epsilon=largest, limit=REFUSE_ABOVE)
    return checked


def warnings_of(checked: CheckedPlan, *, at: InstitutionId | None = None) -> list[tuple[str, str]]:
    """Return what a plan may do and had better not, as a name for programs and a sentence for people.

    ``at`` names the one institution that reads it: then its size counts.
    """
    plan, found = checked.plan, []
    epsilon = _largest_epsilon(plan)
    if not checked.review.facts.protects:
        found.append(("nobody", tr("this plan protects NOBODY")))
    elif epsilon > WARN_ABOVE:
        found.append(("epsilon", tr("epsilon {epsilon:g} is above {limit:g}", epsilon=epsilon, limit=WARN_ABOVE)))
    sizes = plan.expected_borrowers()
    largest = at or max(sizes, key=lambda name: sizes[name])
    advised = 1 / (10 * sizes[largest])
    if checked.review.facts.protects and plan.privacy.delta > advised:
        text = tr(
            "delta {delta:g} is above 1/(10 n) = {advised:.1e} of {institution}",
            delta=plan.privacy.delta,
            advised=advised,
            institution=largest,
        )
        found.append(("delta", text))
    if plan.secure is None:
        found.append(("open", tr("open aggregation: the coordinator reads the noised message of every institution")))
    if not plan.bounds_updates:
        found.append(("unbounded", tr("no bound on updates: one institution can carry the sum")))
    if plan.vote_floor is None:
        found.append(("unvoted", tr("nobody votes on the model before it is released")))
    return found


def warning_values(checked: CheckedPlan, *, at: InstitutionId | None = None) -> list[dict[str, str]]:
    """Return the warnings as data for programs; ``at`` as in ``warnings_of``."""
    return [{"about": about, "message": text} for about, text in warnings_of(checked, at=at)]


def sealed_bytes(plan: RunPlan, item: PlannedRelease) -> int:
    """Return the length of each message of one kind as it leaves."""
    masked = plan.secure is not None and item.purpose is not Purpose.CLOSE
    return item.message_bytes + (CHANNEL_OVERHEAD if masked else SEAL_OVERHEAD)


def bytes_at_most(plan: RunPlan, own: InstitutionReview) -> int:
    """Return the bytes of all noised messages of an institution, repetitions included."""
    return sum(item.at_most * sealed_bytes(plan, item) for item in own.releases)


def messages_at_most(own: InstitutionReview) -> int:
    """Return how many noised messages leave, repetitions included."""
    return sum(item.at_most for item in own.releases)


def release_of(own: InstitutionReview, purpose: Purpose) -> PlannedRelease:
    """Return the one kind of release with this purpose."""
    return next(item for item in own.releases if item.purpose is purpose)


def plan_values(checked: CheckedPlan) -> dict[str, Any]:
    """Return the figures as data for programs."""
    plan, privacy = checked.plan, checked.plan.privacy
    return {
        "plan": plan.run.name,
        "digest": plan.digest().hex(),
        "contract": plan.run.contract,
        "model": plan.model.model_dump(exclude_none=True),
        "training": plan.training.model_dump(),
        "rounds": plan.run.rounds,
        "quorum": plan.rounds.quorum,
        "retries": plan.rounds.retries,
        "aggregation": plan.aggregation.model_dump(),
        "evaluation": plan.evaluation.model_dump(),
        "privacy": {
            **asdict(checked.review.facts),
            "noise": privacy.noise,
            "colluders": privacy.colluders,
            "sampling": privacy.sampling,
            "advised_delta": checked.review.advised_delta,
        },
        "institutions": [
            {
                "institution": own.institution,
                "modalities": list(plan.modalities(own.institution)),
                "expected_borrowers": plan.expected_borrowers()[own.institution],
                "messages_at_most": messages_at_most(own),
                "bytes_at_most": bytes_at_most(plan, own),
                "releases": [release_values(plan, item) for item in own.releases],
                **asdict(costs),
            }
            for own, costs in zip(checked.review.institutions, checked.costs, strict=True)
        ],
        "warnings": warning_values(checked),
    }


def release_values(plan: RunPlan, item: PlannedRelease) -> dict[str, Any]:
    """Return one kind of message as data for programs."""
    release, each = item.release, sealed_bytes(plan, item)
    return {
        "purpose": str(item.purpose),
        "at_most": item.at_most,
        "numbers": release.dimension,
        "noise_deviation": release.sigma,
        "sensitivity": math.sqrt(release.sensitivity_squared),
        "mechanism": str(release.mechanism),
        "bytes_each": each,
        "bytes_at_most": item.at_most * each,
    }


def _costs(plan: RunPlan, own: InstitutionReview) -> InstitutionCosts:
    training = release_of(own, Purpose.TRAIN).release
    return InstitutionCosts(
        training=Epsilon(claimed=own.epsilon, alone=own.epsilon_alone),
        evaluation=_evaluation(plan, own),
        overlap={
            members: Epsilon(claimed=epsilon, alone=_overlap_alone(plan, training, members))
            for members, epsilon in own.epsilon_by_overlap.items()
        },
        tpr_ceiling=Epsilon(claimed=_ceiling(plan, training), alone=_ceiling(plan, training.alone())),
    )


def _evaluation(plan: RunPlan, own: InstitutionReview) -> Epsilon:
    held_out = [item for item in own.releases if item.purpose in {Purpose.EVALUATE, Purpose.CLOSE}]
    if not all(item.release.protects for item in held_out):
        return Epsilon(claimed=math.inf, alone=math.inf)
    claimed = alone = Cost.nothing()
    for item in held_out:
        claimed += Cost.of(item.release).times(item.at_most)
        alone += Cost.of(item.release.alone()).times(item.at_most)
    return Epsilon(claimed=claimed.epsilon(plan.privacy.delta), alone=alone.epsilon(plan.privacy.delta))


def _overlap_alone(plan: RunPlan, training: Release, members: int) -> float:
    """Return the epsilon of a borrower at ``members`` institutions if each of their messages is read alone."""
    if not training.protects:
        return math.inf
    return privacy_plan(plan).training_cost(training.alone()).times(members).epsilon(plan.privacy.delta)


def _ceiling(plan: RunPlan, training: Release) -> float:
    if not training.protects:
        return 1.0
    return privacy_plan(plan).training_cost(training).tpr_ceiling(plan.privacy.delta, fpr=FALSE_ALARMS)


def _largest_epsilon(plan: RunPlan) -> float:
    return max(plan.privacy.epsilon, plan.privacy.evaluation_epsilon)
