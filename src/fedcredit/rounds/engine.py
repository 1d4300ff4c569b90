"""One round: sign the manifest, ask everyone, accept each answer once, add up, or stop with the model unchanged.

After reading ``RoundEngine.run`` you can retell the coordinator's side of a round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.encoding import Encodable
from fedcredit.envelope import encode_roster, open_answer, seal_request, sign_manifest
from fedcredit.errors import (
    FedcreditError,
    MalformedMessageError,
    QuorumError,
    RoundRefusedError,
    UnknownSenderError,
)
from fedcredit.messages import (
    Answer,
    CountsAnswer,
    Manifest,
    Purpose,
    Refusal,
    Request,
    TrainAnswer,
    from_lanes,
    sorted_cohort,
    weights_to_bytes,
)
from fedcredit.parties import InstitutionId, Roster
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.transport import Clock, Deadline, Reply, Transport

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RoundCall:
    """What a round is asked to do."""

    run: str
    round: int
    attempt: int
    purpose: Purpose
    weights: npt.NDArray[np.float64]


@dataclass(kw_only=True)
class RoundResult:
    """What came of a round."""

    manifest_digest: bytes
    total: Integers
    """Sum of the accepted vectors."""
    contributors: list[InstitutionId] = field(default_factory=list)
    refusals: dict[InstitutionId, str] = field(default_factory=dict)
    """FC code per institution that refused."""
    unusable: dict[InstitutionId, str] = field(default_factory=dict)
    """Why nothing usable came from an institution that is not silent: the code of its answer, or the carrier's."""
    bytes_sent: dict[InstitutionId, int] = field(default_factory=dict)
    """Sealed bytes to each institution."""
    bytes_received: dict[InstitutionId, int] = field(default_factory=dict)
    """Sealed bytes from each institution."""

    def heard(self) -> int:
        """Return how many institutions have settled the matter, either way."""
        return len(self.contributors) + len(self.refusals)


class RoundEngine:
    """Runs single rounds of one run. It holds no model: the caller decides what to do with a sum."""

    def __init__(
        self,
        *,
        plan: RunPlan,
        lanes: Mapping[Purpose, int],
        roster: Roster,
        keys: IdentityKeys,
        transport: Transport,
        audit: AuditLog,
        heads: LedgerHeads,
        clock: Clock,
    ) -> None:
        self._plan = plan
        self._plan_digest = plan.digest()
        self._plan_bytes = plan.to_toml().encode()
        self._lanes = dict(lanes)
        self._roster_digest = roster.digest()
        self._roster_bytes = encode_roster(roster)
        self._identities = {
            member.institution: PublicIdentity.from_bytes(member.public_identity)
            for member in roster
            if member.institution in plan.institutions
        }
        self._keys = keys
        self._transport = transport
        self._audit = audit
        self._heads = heads
        self._clock = clock
        self._acquainted: set[InstitutionId] = set()
        """Institutions that have answered in this run, so they hold plan and roster."""
        self._notes: list[tuple[EventKind, dict[str, Encodable]]] = []

    def run(self, call: RoundCall, *, on_reply: Callable[[RoundResult], None] = lambda _: None) -> RoundResult:
        """Run one round and return its sum.

        Raises:
            QuorumError: too few answers before the deadline.
            RoundRefusedError: so many institutions refused that the quorum cannot be met.
        """
        deadline = Deadline.after(self._plan.rounds.deadline_s, clock=self._clock)
        manifest = self._manifest(call, deadline)
        manifest_digest = manifest.digest()
        self._note(EventKind.ROUND_OPENED, call, manifest=manifest_digest, cohort=list(manifest.cohort))
        self._write_notes()
        requests = self._requests(manifest, call)
        result = RoundResult(manifest_digest=manifest_digest, total=np.zeros(self._lanes[call.purpose], dtype=np.int64))
        result.bytes_sent = {name: len(request) for name, request in requests.items()}
        try:
            for reply in self._transport.exchange(requests, deadline=deadline):
                if deadline.passed():
                    break
                self._take(reply, call, manifest, requests, result)
                on_reply(result)
                if result.heard() == len(requests):
                    break
            self._require_quorum(call, result, waited_s=self._plan.rounds.deadline_s - deadline.remaining_s())
        finally:
            self._write_notes()
        return result

    def _manifest(self, call: RoundCall, deadline: Deadline) -> Manifest:
        cohort = sorted_cohort(list(self._identities))
        return Manifest(
            consortium=self._plan.run.consortium,
            run=call.run,
            round=call.round,
            attempt=call.attempt,
            purpose=str(call.purpose),
            plan_digest=self._plan_digest,
            roster_digest=self._roster_digest,
            weights_digest=hashlib.sha256(weights_to_bytes(call.weights)).digest(),
            cohort=cohort,
            ledger_heads=tuple(self._heads.of(InstitutionId(name)) for name in cohort),
            quorum=self._plan.rounds.quorum,
            deadline=int(deadline.at) + 1,
        )

    def _requests(self, manifest: Manifest, call: RoundCall) -> Mapping[InstitutionId, bytes]:
        encoded, signature = manifest.to_bytes(), sign_manifest(manifest, self._keys)
        weights = weights_to_bytes(call.weights)
        brief = Request(manifest=encoded, signature=signature, weights=weights, plan=b"", roster=b"")
        full = Request(
            manifest=encoded,
            signature=signature,
            weights=weights,
            plan=self._plan_bytes,
            roster=self._roster_bytes,
        )
        return {
            name: seal_request(
                brief if name in self._acquainted else full,
                consortium=manifest.consortium,
                to=name,
                identity=identity,
            )
            for name, identity in self._identities.items()
        }

    def _take(
        self,
        reply: Reply,
        call: RoundCall,
        manifest: Manifest,
        requests: Mapping[InstitutionId, bytes],
        result: RoundResult,
    ) -> None:
        """Accept a reply once, or record why not; a bad reply changes nothing and ends nothing."""
        name = reply.institution
        if name in result.contributors or name in result.refusals:
            return
        if reply.payload is None:
            result.unusable[name] = f"carrier: {reply.carrier_error}"
            return
        try:
            answer = self._open(reply.institution, reply.payload, manifest, result.manifest_digest, requests)
            lanes = _lanes_of(answer, call.purpose, self._lanes[call.purpose])
        except FedcreditError as error:
            result.unusable[name] = f"answer not accepted: {error.code}"
            self._note(EventKind.ANSWER_REFUSED, call, institution=name, code=error.code)
            return
        result.unusable.pop(name, None)
        result.bytes_received[name] = len(reply.payload)
        if isinstance(answer, Refusal):
            # A refusing institution may not have kept the plan; it gets plan and roster again.
            self._acquainted.discard(name)
            result.refusals[name] = answer.code
            self._note(
                EventKind.INSTITUTION_REFUSED,
                call,
                institution=name,
                code=answer.code,
                ledger_head=answer.ledger_head,
            )
            return
        # Not from a refusal: a ledger that was set back would put its own old head in the place of the lost one.
        self._heads.saw(name, answer.ledger_head)
        result.total += lanes
        result.contributors.append(name)
        self._acquainted.add(name)
        digest = hashlib.sha256(reply.payload).digest()
        self._note(EventKind.ANSWER_ACCEPTED, call, institution=name, answer=digest, ledger_head=answer.ledger_head)

    def _open(
        self,
        name: InstitutionId,
        payload: bytes,
        manifest: Manifest,
        manifest_digest: bytes,
        requests: Mapping[InstitutionId, bytes],
    ) -> Answer:
        identity = self._identities.get(name)
        if identity is None:
            raise UnknownSenderError(sender=name)
        return open_answer(
            payload,
            manifest=manifest,
            manifest_digest=manifest_digest,
            institution=name,
            identity=identity,
            keys=self._keys,
            request=requests[name],
        )

    def _require_quorum(self, call: RoundCall, result: RoundResult, *, waited_s: float) -> None:
        needed = self._plan.rounds.quorum
        if len(result.contributors) >= needed:
            return
        missing = sorted(set(self._identities) - set(result.contributors) - set(result.refusals))
        refusals = ", ".join(f"{name} ({code})" for name, code in sorted(result.refusals.items()))
        self._note(EventKind.ROUND_ABORTED, call, missing=missing, refused=sorted(result.refusals))
        if len(self._identities) - len(result.refusals) < needed:
            raise RoundRefusedError(round=call.round, refusals=refusals)
        raise QuorumError(
            round=call.round,
            received=len(result.contributors),
            needed=needed,
            seconds=waited_s,
            missing=", ".join(_with_reason(name, result.unusable) for name in missing)
            + (f"; refused: {refusals}" if refusals else ""),
        )

    def _note(self, kind: EventKind, call: RoundCall, **fields: Encodable) -> None:
        """Keep an event of this round until ``_write_notes``: one flush of the disk serves all answers of a round."""
        place: dict[str, Encodable] = {
            "run": call.run,
            "round": call.round,
            "attempt": call.attempt,
            "purpose": str(call.purpose),
        }
        self._notes.append((kind, {**place, **fields}))

    def _write_notes(self) -> None:
        """Make the events so far durable. Until then a crash forgets them together with the open round."""
        # Heads first: after a crash in between they may be ahead of the log, never behind it.
        self._heads.save()
        notes, self._notes = self._notes, []
        self._audit.record_all(notes)


def _with_reason(name: InstitutionId, reasons: Mapping[InstitutionId, str]) -> str:
    return f"{name} ({reasons[name]})" if name in reasons else name


def _lanes_of(answer: Answer, purpose: Purpose, count: int) -> Integers:
    """Return the vector of an answer to this question; a refusal adds nothing."""
    if isinstance(answer, Refusal):
        return np.zeros(count, dtype=np.int64)
    expected = TrainAnswer if purpose is Purpose.TRAIN else CountsAnswer
    if not isinstance(answer, expected):
        raise MalformedMessageError(what="answer", problem="it answers another question")
    return from_lanes(answer.lanes, what="answer", count=count)
