"""From a run plan to the privacy plan that it states; both sides of a round derive the same value."""

from __future__ import annotations

from fedcredit.config.plan import RunPlan
from fedcredit.errors import DeltaTooLargeError
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Mechanism


def privacy_plan(plan: RunPlan) -> PrivacyPlan:
    """Return the privacy plan that a run plan states; every round and every retry is one step.

    Raises:
        DeltaTooLargeError: delta is above 1/n of an institution's public size.
        PrivacyPlanError, AccountantError: the plan contradicts itself.
    """
    _check_delta_rule(plan)
    return PrivacyPlan(
        epsilon=plan.privacy.epsilon,
        delta=plan.privacy.delta,
        unit=plan.privacy.unit,
        steps=plan.run.rounds + plan.rounds.retries,
        preparation_share=plan.privacy.preparation_share,
        preparation_steps=1 + plan.rounds.retries,
        evaluation_epsilon=plan.privacy.evaluation_epsilon,
        evaluation_steps=1 + plan.rounds.retries,
        vote_share=plan.evaluation.vote_share,
        mechanism=Mechanism.parse(plan.privacy.mechanism),
        accountant=plan.privacy.accountant,
        honest_shares=plan.honest_shares,
        sampled_per_million=plan.privacy.sampled_per_million,
        test_noise=plan.privacy.test_noise,
    )


def advised_delta(plan: RunPlan) -> float:
    """Return 1/(10 n) for the largest institution of a plan: the most that delta should be (PRIVACY.md, section 1)."""
    return 1 / (10 * max(plan.expected_borrowers().values()))


def _check_delta_rule(plan: RunPlan) -> None:
    name, largest = max(plan.expected_borrowers().items(), key=lambda item: item[1])
    if plan.privacy.delta > 1 / largest:
        raise DeltaTooLargeError(
            delta=plan.privacy.delta, largest=1 / largest, institution=name, advised=advised_delta(plan)
        )
