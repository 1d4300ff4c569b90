"""What the answers in a log have cost each member's borrowers, and that the plan allowed every one of them.

The log is a lower bound: an answer that was charged and then lost is in the member's own ledger only
(``audit verify NODE --ledger privacy``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcredit.messages import COUNT_GRID, SCORE_BINS, Purpose
from fedcredit.parties import InstitutionId
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.release import Release
from fedcredit.privacy.spending import Spending
from fedcredit.rounds.evidence_log import Line
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.training.update_bound import charged


@dataclass(frozen=True, kw_only=True)
class MemberSpending:
    """What one member's accepted answers have cost."""

    train: Spending
    """Training borrowers: preparation and training."""
    holdout: Spending


@dataclass
class Releases:
    """The releases of a run, counted by member and purpose; every attempt counts once."""

    opening: Opening
    _taken: dict[tuple[InstitutionId, Purpose], set[tuple[int, int]]] = field(default_factory=dict)

    def allowed(self, purpose: Purpose) -> int:
        """Return how many releases of one member the plan pays for."""
        privacy = self.opening.privacy
        return {
            Purpose.PREPARE: privacy.preparation_steps if privacy.preparation_share else 0,
            Purpose.TRAIN: privacy.steps,
            Purpose.EVALUATE: privacy.evaluation_steps,
            Purpose.CLOSE: privacy.evaluation_steps if privacy.vote_share else 0,
        }[purpose]

    def take(self, line: Line, name: InstitutionId, purpose: Purpose) -> None:
        """Count an accepted answer. One to the closing counts where members vote on counts of their own.

        Raises:
            AuditError: it is one more than the plan pays for.
        """
        if purpose is Purpose.CLOSE and not self.opening.privacy.vote_share:
            return
        taken = self._taken.setdefault((name, purpose), set())
        taken.add((line.number("round"), line.number("attempt")))
        allowed = self.allowed(purpose)
        line.require(len(taken) <= allowed, f"takes more of {name} than the {allowed} releases that the plan pays for")

    def count(self, name: InstitutionId, purpose: Purpose) -> int:
        """Return how many releases of a member were accepted."""
        return len(self._taken.get((name, purpose), ()))

    def spent(self) -> Mapping[InstitutionId, MemberSpending]:
        """Return what they have cost, by member."""
        return {name: self._spent_by(name) for name in self.opening.identities}

    def _spent_by(self, name: InstitutionId) -> MemberSpending:
        plan, family, privacy = self.opening.plan, self.opening.family, self.opening.privacy
        bounds = charged(plan, family.bounds(plan, name))
        training = privacy.training_release(
            release_id="verified",
            sensitivity_squared=bounds.sensitivity_squared or 0,
            dimension=int(bounds.reached.sum()),
        )
        parts = [(training, self.count(name, Purpose.TRAIN))]
        if self.count(name, Purpose.PREPARE):
            histogram = family.preparation_bounds(plan, name)
            if histogram.reached.any():
                # Otherwise its answer was zeros that anybody could foretell, and it was charged nothing.
                preparation = privacy.preparation_release(
                    release_id="verified",
                    sensitivity_squared=histogram.sensitivity_squared or 0,
                    dimension=int(histogram.reached.sum()),
                )
                parts.append((preparation, self.count(name, Purpose.PREPARE)))
        evaluation = privacy.evaluation_release(
            release_id="verified", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
        )
        held_out = [(evaluation, self.count(name, Purpose.EVALUATE))]
        if self.count(name, Purpose.CLOSE):
            vote = privacy.vote_release(
                release_id="verified", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
            )
            # However often the closing was asked, a member makes its counts once.
            held_out.append((vote, 1))
        return MemberSpending(train=_spending(parts, privacy.delta), holdout=_spending(held_out, privacy.delta))


def _spending(parts: list[tuple[Release, int]], delta: float) -> Spending:
    """Return what so many releases of each kind cost together."""
    cost = alone = Cost.nothing()
    for release, count in parts:
        if release.protects and count:
            cost += Cost.of(release).times(count)
            alone += Cost.of(release.alone()).times(count)
    return Spending(
        cost=cost,
        alone=alone,
        delta=delta,
        releases=sum(count for _, count in parts),
        unprotected=sum(count for release, count in parts if not release.protects),
    )
