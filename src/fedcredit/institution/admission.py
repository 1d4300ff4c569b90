"""Whether an institution takes part in a round: approvals, membership, freshness. Nothing is computed before this."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fedcredit.config.node import PolicySection
from fedcredit.config.plan import RunPlan
from fedcredit.envelope import OpenedRequest
from fedcredit.errors import (
    DeadlinePassedError,
    FixedNoiseRefusedError,
    NotAMemberError,
    PlanNotApprovedError,
    PolicyError,
    PrivacyError,
    PrivacyOffRefusedError,
    WrongContextError,
)
from fedcredit.institution.memory import RunMemory, Terms, terms_of
from fedcredit.messages import NO_EPOCH, Manifest, Purpose, Stage
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.store.files import make_directory, write_atomic
from fedcredit.training.update_bound import lane_blocks

_STAGES = {
    Purpose.SETUP: (Stage.KEYS, Stage.ROOTS),
    Purpose.CLOSE: (Stage.CLOSE,),
}
_OPEN = (Stage.ANSWER,)
_SECURE = (Stage.UPLOAD, Stage.ACCEPT, Stage.REVEAL)


class Approvals:
    """The plans that the operator has approved: one file per plan, named by its digest."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def approve(self, plan: RunPlan) -> Path:
        """Record the approval of exactly this plan."""
        make_directory(self._folder)
        path = self._path(plan.digest())
        write_atomic(path, plan.to_toml().encode())
        return path

    def require(self, plan_digest: bytes) -> None:
        """Raise ``PlanNotApprovedError`` unless exactly the plan of this digest was approved."""
        # Asked in every stage of every round; without a Path it takes half the time.
        if not os.path.isfile(f"{self._folder}/{plan_digest.hex()}.toml"):
            raise PlanNotApprovedError(digest=plan_digest.hex()[:16])

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.toml"


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The checks before a round."""

    institution: InstitutionId
    own_identity: bytes
    contract_name: str
    contract_digest: str
    approvals: Approvals
    policy: PolicySection
    memory: RunMemory
    clock: Callable[[], float]

    def admit(self, opened: OpenedRequest) -> Terms:
        """Return the terms under which this request is answered.

        Raises:
            DeadlinePassedError, ReplayError: it is too late or not new.
            RosterMismatchError: the other members are not those that the plan names.
            PlanNotApprovedError, NotAMemberError, PolicyError, WrongContextError: the institution does not agree.
            PrivacyOffRefusedError, FixedNoiseRefusedError: the plan protects nobody and policy does not allow that.
        """
        manifest = opened.manifest
        self.memory.require_new(manifest)
        if self.institution not in manifest.cohort:
            raise NotAMemberError(institution=self.institution)
        terms = self._terms(opened)
        _require_fitting(manifest, terms)
        self._require_in_time(opened, terms)
        self.approvals.require(terms.plan_digest)
        # Kept only now: a faulty first request must not use up the approval of a plan.
        self.memory.require_split(terms.plan)
        self.memory.take_up(manifest.run, terms)
        return terms

    def readmit(self, opened: OpenedRequest) -> Terms:
        """Return the terms of a later stage of a manifest that was admitted; its state says which that was.

        Raises:
            WrongContextError: the run was never taken up, or the manifest is not one of its plan.
            DeadlinePassedError: it is too late.
            PlanNotApprovedError: the approval has been withdrawn.
        """
        terms = self.memory.terms(opened.manifest.run)
        if terms is None:
            raise WrongContextError(what="request", field="run, whose plan was never received")
        _require_fitting(opened.manifest, terms)
        self._require_in_time(opened, terms)
        self.approvals.require(terms.plan_digest)
        return terms

    def _require_in_time(self, opened: OpenedRequest, terms: Terms) -> None:
        """Each stage after the first has the plan's time again."""
        stages = _stages(opened.manifest, terms.plan)
        if opened.stage not in stages:
            raise WrongContextError(what="request", field="stage")
        later = stages.index(opened.stage)
        if self.clock() > opened.manifest.deadline + later * terms.plan.rounds.deadline_s:
            raise DeadlinePassedError(round=opened.manifest.round)

    def _terms(self, opened: OpenedRequest) -> Terms:
        known = self.memory.terms(opened.manifest.run)
        if not opened.request.plan:
            if known is None:
                raise WrongContextError(what="request", field="run, whose plan was never received")
            return known
        terms = terms_of(opened.request.plan, opened.request.roster, opened.manifest.roster_digest)
        if terms.plan.run.consortium != opened.manifest.consortium:
            raise WrongContextError(what="run plan", field="consortium")
        self._require_agreeable(terms.plan)
        privacy_plan(terms.plan)  # a plan that cannot hold must not use up its approval
        self._require_membership(opened, terms.plan)
        return terms

    def _require_membership(self, opened: OpenedRequest, plan: RunPlan) -> None:
        member = opened.roster.find(self.institution) if opened.roster else None
        if opened.roster is None or member is None or member.public_identity != self.own_identity:
            raise NotAMemberError(institution=self.institution)
        plan.require_members(opened.roster)

    def _require_agreeable(self, plan: RunPlan) -> None:
        if (plan.run.contract, plan.run.contract_digest) != (self.contract_name, self.contract_digest):
            raise WrongContextError(what="run plan", field="data contract")
        if self.institution not in plan.institutions:
            raise NotAMemberError(institution=self.institution)
        refusal = policy_refusal(plan, self.policy)
        if refusal is not None:
            raise refusal


def policy_refusal(plan: RunPlan, policy: PolicySection) -> PrivacyError | None:
    """Return the error with which an institution of this policy would refuse every request of the plan."""
    if plan.privacy.mechanism == "none" and not policy.allow_no_privacy:
        return PrivacyOffRefusedError()
    if plan.privacy.test_noise and not policy.allow_fixed_noise:
        return FixedNoiseRefusedError()
    return None


def _stages(manifest: Manifest, plan: RunPlan) -> tuple[Stage, ...]:
    """Return the exchanges that a manifest has, in order."""
    return _STAGES.get(Purpose(manifest.purpose), _SECURE if plan.secure else _OPEN)


def _require_fitting(manifest: Manifest, terms: Terms) -> None:
    """Return if a manifest is one of the plan's: same plan and roster, enough members, a round that the plan has."""
    plan = terms.plan
    if manifest.quorum != plan.rounds.quorum or not set(manifest.cohort) <= set(plan.institutions):
        raise WrongContextError(what="round manifest", field="quorum or cohort")
    if (terms.plan_digest, terms.roster_digest) != (manifest.plan_digest, manifest.roster_digest):
        raise WrongContextError(what="round manifest", field="plan or roster")
    if len(manifest.cohort) < manifest.quorum:
        raise WrongContextError(what="round manifest", field="cohort, which is below the quorum")
    if len(manifest.ledger_heads) != len(manifest.cohort):
        raise WrongContextError(what="round manifest", field="ledger heads")
    bounded = plan.bounds_updates and manifest.purpose == Purpose.TRAIN
    if len(manifest.radii) != (len(manifest.cohort) * len(lane_blocks(plan)) if bounded else 0):
        raise WrongContextError(what="round manifest", field="radii")
    masked = plan.secure is not None and manifest.purpose not in {Purpose.SETUP, Purpose.CLOSE}
    if masked == (manifest.epoch == NO_EPOCH):
        raise WrongContextError(what="round manifest", field="epoch")
    _require_round_of_plan(manifest, plan)


def _require_round_of_plan(manifest: Manifest, plan: RunPlan) -> None:
    if manifest.purpose == Purpose.SETUP:
        if manifest.round or plan.secure is None:
            raise PolicyError(reason="the plan has no such set-up")
        return
    if not 1 <= manifest.round <= plan.run.rounds:
        raise PolicyError(reason="the plan has no such round")
    if manifest.purpose == Purpose.PREPARE and (manifest.round != 1 or not plan.privacy.preparation_share):
        raise PolicyError(reason="the plan has no such preparation")
    last = manifest.purpose in {Purpose.EVALUATE, Purpose.CLOSE}
    if last and manifest.round != plan.run.rounds:
        raise PolicyError(reason="the plan evaluates the last model only")
