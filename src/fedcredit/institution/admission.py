"""Whether an institution takes part in a round: approvals, membership, freshness. Nothing is computed before this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from fedcredit.config.node import PolicySection
from fedcredit.config.plan import RunPlan
from fedcredit.encoding import decode, encode
from fedcredit.envelope import OpenedRequest
from fedcredit.errors import (
    DeadlinePassedError,
    FixedNoiseRefusedError,
    MalformedMessageError,
    NotAMemberError,
    PlanNotApprovedError,
    PolicyError,
    PrivacyError,
    PrivacyOffRefusedError,
    ReplayError,
    SharedNoiseRefusedError,
    StoreCorruptError,
    WrongContextError,
)
from fedcredit.institution.holdings import split_name
from fedcredit.messages import Manifest, Purpose
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.store.database import Database
from fedcredit.store.files import make_directory, write_atomic
from fedcredit.store.records import Records

_ROUND_ORDER: Final = {Purpose.PREPARE: -1, Purpose.TRAIN: 0, Purpose.EVALUATE: 1}
_SPLIT_KEY: Final = "split"


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
        if not self._path(plan_digest).is_file():
            raise PlanNotApprovedError(digest=plan_digest.hex()[:16])

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}.toml"


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an institution keeps of a run after its first request."""

    plan: RunPlan
    plan_digest: bytes
    plan_text: bytes
    """The plan as it was received."""
    roster_digest: bytes


class RunMemory:
    """What the institution must not forget between messages: terms, the last round, the last answer, the split."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._records = Records(database, "run-memory")
        self._terms: dict[str, Terms] = {}

    def terms(self, run: str) -> Terms | None:
        """Return the terms of a run that was taken up."""
        if run not in self._terms:
            stored = self._records.get(f"terms/{run}")
            if stored is None:
                return None
            self._terms[run] = _terms_from(stored)
        return self._terms[run]

    def take_up(self, run: str, terms: Terms) -> None:
        """Store the terms of a run, once; the same run never gets other terms."""
        known = self.terms(run)
        if known is not None and (known.plan_digest, known.roster_digest) != (terms.plan_digest, terms.roster_digest):
            raise WrongContextError(what="run", field="plan or roster")
        if known is None:
            self._use_plan(run, terms.plan_digest)
            value = encode({"plan": terms.plan_text, "roster": terms.roster_digest})
            self._records.put(f"terms/{run}", value)
            self._terms[run] = terms

    def _use_plan(self, run: str, plan_digest: bytes) -> None:
        """Give a plan to one run only: an approval is for one training, not for as many as the coordinator likes."""
        key = f"plan/{plan_digest.hex()}"
        used = self._records.get(key)
        if used is not None and used != run.encode():
            raise PolicyError(reason="the plan was approved for one run, and another run has used it")
        self._records.put(key, run.encode())

    def answer_to(self, manifest_digest: bytes, *, run: str) -> bytes | None:
        """Return the stored answer if this manifest was the last one answered in its run."""
        stored = self._records.get(f"answer/{run}")
        if stored is None or stored[:32] != manifest_digest:
            return None
        return stored[32:]

    def require_new(self, manifest: Manifest) -> None:
        """Raise ``ReplayError`` unless this round and attempt come after everything answered in the run."""
        last = self._records.get(f"last/{manifest.run}")
        if last is not None and _order(manifest) <= tuple(_integers(last)):
            raise ReplayError(round=manifest.round, attempt=manifest.attempt, reason="this round and attempt are over")

    def remember_answer(self, manifest: Manifest, manifest_digest: bytes, answer: bytes) -> None:
        """Store an answer durably before it is sent; a repeated request gets the same bytes."""
        with self._database.transaction():
            self._records.put(f"answer/{manifest.run}", manifest_digest + answer)
            self._records.put(f"last/{manifest.run}", encode(list(_order(manifest))))

    def require_split(self, plan: RunPlan) -> None:
        """Keep one split for the life of the ledger: two splits would mix training and held-out borrowers."""
        name = split_name(plan)
        stored = self._records.get(_SPLIT_KEY)
        if stored is None:
            self._records.put(_SPLIT_KEY, name)
        elif stored != name:
            raise PolicyError(reason="the plan splits borrowers differently from earlier runs on this data set")


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
            PlanNotApprovedError, NotAMemberError, PolicyError, WrongContextError: the institution does not agree.
            PrivacyOffRefusedError, FixedNoiseRefusedError: the plan protects nobody and policy does not allow that.
        """
        manifest = opened.manifest
        if self.clock() > manifest.deadline:
            raise DeadlinePassedError(round=manifest.round)
        self.memory.require_new(manifest)
        if self.institution not in manifest.cohort:
            raise NotAMemberError(institution=self.institution)
        terms = self._terms(opened)
        _require_fitting(manifest, terms)
        self.approvals.require(terms.plan_digest)
        # Kept only now: a faulty first request must not use up the approval of a plan.
        self.memory.require_split(terms.plan)
        self.memory.take_up(manifest.run, terms)
        return terms

    def _terms(self, opened: OpenedRequest) -> Terms:
        known = self.memory.terms(opened.manifest.run)
        if not opened.request.plan:
            if known is None:
                raise WrongContextError(what="request", field="run, whose plan was never received")
            return known
        terms = _terms_of(opened.request.plan, opened.manifest.roster_digest)
        if terms.plan.run.consortium != opened.manifest.consortium:
            raise WrongContextError(what="run plan", field="consortium")
        self._require_agreeable(terms.plan)
        privacy_plan(terms.plan)  # a plan that cannot hold must not use up its approval
        self._require_membership(opened)
        return terms

    def _require_membership(self, opened: OpenedRequest) -> None:
        member = opened.roster.find(self.institution) if opened.roster else None
        if member is None or member.public_identity != self.own_identity:
            raise NotAMemberError(institution=self.institution)

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
    if plan.privacy.noise == "shared" and not policy.allow_bare_shares:
        return SharedNoiseRefusedError()
    return None


def _require_fitting(manifest: Manifest, terms: Terms) -> None:
    """Return if a manifest is one of the plan's: same plan and roster, enough members, a round that the plan has."""
    if manifest.quorum != terms.plan.rounds.quorum or not set(manifest.cohort) <= set(terms.plan.institutions):
        raise WrongContextError(what="round manifest", field="quorum or cohort")
    if (terms.plan_digest, terms.roster_digest) != (manifest.plan_digest, manifest.roster_digest):
        raise WrongContextError(what="round manifest", field="plan or roster")
    if len(manifest.cohort) < manifest.quorum:
        raise WrongContextError(what="round manifest", field="cohort, which is below the quorum")
    if len(manifest.ledger_heads) != len(manifest.cohort):
        raise WrongContextError(what="round manifest", field="ledger heads")
    if not 1 <= manifest.round <= terms.plan.run.rounds:
        raise PolicyError(reason="the plan has no such round")
    if manifest.purpose == Purpose.PREPARE and (manifest.round != 1 or not terms.plan.privacy.preparation_share):
        raise PolicyError(reason="the plan has no such preparation")


@lru_cache(maxsize=8)
def _terms_of(plan_text: bytes, roster_digest: bytes) -> Terms:
    """Return the terms that a plan's text states; in one process all institutions of a run get the same bytes."""
    try:
        text = plan_text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedMessageError(what="run plan", problem="it is not UTF-8") from error
    plan = RunPlan.from_toml(text, source="the plan received")
    return Terms(plan=plan, plan_digest=plan.digest(), plan_text=plan_text, roster_digest=roster_digest)


def _terms_from(stored: bytes) -> Terms:
    value = decode(stored, what="stored terms", limit=64 * 1024 * 1024)
    if not isinstance(value, dict):
        raise StoreCorruptError(path="run memory", problem="the terms of a run do not decode")
    plan_text, roster_digest = value.get("plan"), value.get("roster")
    if not isinstance(plan_text, bytes) or not isinstance(roster_digest, bytes):
        raise StoreCorruptError(path="run memory", problem="the terms of a run do not decode")
    return _terms_of(plan_text, roster_digest)


def _order(manifest: Manifest) -> tuple[int, int, int]:
    return (manifest.round, _ROUND_ORDER[Purpose(manifest.purpose)], manifest.attempt)


def _integers(data: bytes) -> list[int]:
    value = decode(data, what="stored round", limit=256)
    if not isinstance(value, list) or not all(isinstance(item, int) for item in value):
        raise StoreCorruptError(path="run memory", problem="the last round does not decode")
    return value
