"""What a run was opened for: plan, members, coordinator, and what follows from the plan. Public values only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedcredit.audit.log import EventKind, log_origin
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import PublicIdentity
from fedcredit.envelope import decode_roster
from fedcredit.errors import AuditError
from fedcredit.messages import SCORE_BINS, Purpose
from fedcredit.parties import InstitutionId
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import plan_family
from fedcredit.rounds.evidence_log import Line, RunLog
from fedcredit.rounds.run import COORDINATOR_FILE, ROSTER_FILE
from fedcredit.rounds.transcript import RECORDS
from fedcredit.training.families import ModelFamily

PLAN_FILE: Final = "plan.toml"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What the first entry of a log binds, read from the files whose digests it names."""

    run: str
    plan: RunPlan
    plan_digest: bytes
    roster_digest: bytes
    identities: Mapping[InstitutionId, PublicIdentity]
    """The plan's institutions with the keys that the roster gives them."""
    coordinator: PublicIdentity
    family: ModelFamily
    privacy: PrivacyPlan
    records: int
    """Version of what the coordinator keeps beside this log (``transcript.RECORDS``); 1 for a log of before that says
    none."""

    @property
    def origin(self) -> str:
        """Return the name under which members cosign this log."""
        return log_origin(consortium=self.plan.run.consortium, run=self.run)

    @property
    def keeps_attempts(self) -> bool:
        """Return whether every attempt without a sum, and everybody left out of one, has a record."""
        return self.records >= RECORDS

    @property
    def final_at(self) -> int:
        """Return how many cosignatures make a state of the log final: the plan's threshold, or its quorum."""
        return self.plan.secure.threshold if self.plan.secure else self.plan.rounds.quorum

    def lanes(self, purpose: Purpose) -> int:
        """Return how many numbers a sum of this purpose has."""
        return {
            Purpose.PREPARE: self.family.preparation_lanes,
            Purpose.TRAIN: self.family.lanes,
            Purpose.EVALUATE: 2 * SCORE_BINS,
        }[purpose]


def read_opening(log: RunLog, folder: Path) -> Opening:
    """Return what the run in ``folder`` was opened for.

    Raises:
        AuditError: the log does not begin with it, or plan.toml, roster.cbor or coordinator.cbor is another file than
            the one that it names.
    """
    if not log.lines:
        raise AuditError(path=log.path, index=0, problem="is missing: the log is empty")
    line = log.lines[0]
    line.require(line.kind is EventKind.RUN_OPENED, "does not begin with the opening of a run")
    with line.naming("names a plan that plan.toml does not hold"):
        plan = RunPlan.read(folder / PLAN_FILE)
        privacy = privacy_plan(plan)
    line.require(line.octets("plan") == plan.digest(), "was opened for another plan than plan.toml")
    with line.naming("names a plan whose model cannot be made here"):
        family = plan_family(plan)
    line.require(line.octets("layout") == family.layout.digest(), "was opened for another layout of the model")
    roster_file = _named_file(line, "roster", folder / ROSTER_FILE)
    coordinator_file = _named_file(line, "coordinator", folder / COORDINATOR_FILE)
    with line.naming("names keys that are none"):
        roster = decode_roster(roster_file)
        coordinator = PublicIdentity.from_bytes(coordinator_file)
        identities = {member.institution: PublicIdentity.from_bytes(member.public_identity) for member in roster}
    with line.naming("names a roster without exactly the members and keys of the plan"):
        plan.require_members(roster)
    return Opening(
        run=line.text("run"),
        plan=plan,
        plan_digest=line.octets("plan"),
        roster_digest=line.octets("roster"),
        identities=identities,
        coordinator=coordinator,
        family=family,
        privacy=privacy,
        records=line.number("records") if "records" in line.fields else 1,
    )


def _named_file(line: Line, name: str, path: Path) -> bytes:
    """Return the content of ``path``, whose SHA-256 the entry names."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise line.error(f"names {path.name}, which cannot be read") from error
    line.require(hashlib.sha256(data).digest() == line.octets(name), f"was opened with another {path.name}")
    return data
