"""From a run plan to the privacy plan that it states; both sides of a round derive the same value."""

from __future__ import annotations

from fedcredit.config.plan import RunPlan
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Mechanism


def privacy_plan(plan: RunPlan) -> PrivacyPlan:
    """Return the privacy plan that a run plan states; every round and every retry is one step."""
    return PrivacyPlan(
        epsilon=plan.privacy.epsilon,
        delta=plan.privacy.delta,
        unit=plan.privacy.unit,
        steps=plan.run.rounds + plan.rounds.retries,
        evaluation_epsilon=plan.privacy.evaluation_epsilon,
        evaluation_steps=1 + plan.rounds.retries,
        mechanism=Mechanism.parse(plan.privacy.mechanism),
        test_noise=plan.privacy.test_noise,
    )
