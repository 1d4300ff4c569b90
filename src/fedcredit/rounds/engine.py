"""One round: sign the manifest, ask everyone, accept each answer once, add up, or stop with the model unchanged.

After reading ``RoundEngine.run`` you can retell the coordinator's side of a round; ``secure`` has the stages of a sum
that only opens as a whole, ``epochs`` what comes before the first of them.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.envelope import OpenedAnswer, encode_roster, sign_manifest
from fedcredit.errors import (
    CannotOpenError,
    EpochError,
    MalformedMessageError,
    QuorumError,
    RoundRefusedError,
    SumNotOpenedError,
    UpdateOutOfRangeError,
)
from fedcredit.messages import (
    NO_EPOCH,
    CloseAnswer,
    CountsAnswer,
    Manifest,
    Message,
    Purpose,
    Request,
    Stage,
    TrainAnswer,
    answer_length,
    from_lanes,
    sorted_cohort,
    weights_to_bytes,
)
from fedcredit.parties import InstitutionId, Roster
from fedcredit.rounds.containment import Containment
from fedcredit.rounds.epochs import Epoch, Epochs, name_with_reason
from fedcredit.rounds.exchange import EncodedOnce, Exchange, Notes, Question, RoundResult, answer_digest
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.secure import SecureCall, SecureRound
from fedcredit.rounds.shown_log import ShownLog
from fedcredit.rounds.transcript import Keep, keep_attempt, transcript_name
from fedcredit.rounds.voting import reason_of
from fedcredit.secagg.wire import Upload
from fedcredit.transport import Clock, Deadline, Transport

Integers = npt.NDArray[np.int64]
OnReply = Callable[[RoundResult], None]
_MENDED_BY_A_SET_UP: Final = {EpochError.code, CannotOpenError.code}
"""What a member says that has lost an epoch's keys, or its channel."""
CosignedAnswer = TrainAnswer | CountsAnswer | CloseAnswer | Upload


@dataclass(frozen=True, kw_only=True)
class RoundCall:
    """What a round is asked to do."""

    run: str
    round: int
    attempt: int
    purpose: Purpose
    weights: npt.NDArray[np.float64]
    release: int
    """Index of the log's entry that released the weights."""
    contained: Containment | None
    """Bounds what each member may add, and refuses a sum beyond that; ``None`` for everything but training."""


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What a log says of the rounds before: empty for a new run."""

    setups: int = 0
    """Set-ups of epochs that were begun."""
    shown: tuple[int, ...] = ()
    """Sizes of the log that manifests have named."""
    selected: Mapping[tuple[int, Purpose], tuple[str, ...]] = field(default_factory=dict)
    """Members of the last selection of a round whose sum may have been opened in part."""


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
        keep: Keep,
        resumed: Resumed,
    ) -> None:
        self._plan = plan
        self._plan_digest = plan.digest()
        self._plan_bytes = plan.to_toml().encode()
        self._lanes = dict(lanes)
        self._roster_digest = roster.digest()
        self._roster_bytes = encode_roster(roster)
        identities = {
            member.institution: PublicIdentity.from_bytes(member.public_identity)
            for member in roster
            if member.institution in plan.institutions
        }
        self._keys = keys
        self._heads = heads
        self._clock = clock
        self._keep_transcript = keep
        self._notes = Notes(audit, heads)
        self._exchange = Exchange(
            identities=identities,
            keys=keys,
            transport=transport,
            notes=self._notes,
            clock=clock,
            seconds=plan.rounds.deadline_s,
        )
        self._acquainted: set[InstitutionId] = set()
        """Institutions that have answered in this run, so they hold plan and roster."""
        self._log = ShownLog(audit, identities=identities, shown=resumed.shown)
        self._selected = dict(resumed.selected)
        self._liars: set[InstitutionId] = set()
        """Members whose commitments contradicted those of more others than may lie; they are asked no more."""
        self._epochs = Epochs(
            exchange=self._exchange,
            notes=self._notes,
            threshold=plan.secure.threshold if plan.secure else 0,
            begun=resumed.setups,
            keep=keep,
        )

    def run(self, call: RoundCall, *, on_reply: OnReply = lambda _: None) -> RoundResult:
        """Run one round and return its sum.

        Raises:
            QuorumError: too few answers before the deadline.
            SumNotOpenedError: too few members agreed whose answers to add up, or revealed the shares that open them.
            UpdateOutOfRangeError: its contributors cannot have made this sum if each of them bounded its part.
            RoundRefusedError: so many institutions refused that the quorum cannot be met.
        """
        secure = self._plan.secure is not None and call.purpose is not Purpose.CLOSE
        epoch, setup = self._ready_epoch(call.run, on_reply) if secure else (None, None)
        manifest = self._manifest(call, epoch)
        result = RoundResult(
            manifest_digest=manifest.digest(),
            total=np.zeros(self._lanes.get(call.purpose, 0), dtype=np.int64),
            log_size=manifest.log_size,
        )
        if setup is not None:
            result.add_traffic(setup)
        self._notes.add(
            EventKind.ROUND_OPENED,
            manifest,
            manifest=result.manifest_digest,
            cohort=list(manifest.cohort),
            weights=manifest.weights_digest,
            radii=list(manifest.radii),
        )
        self._notes.write()
        signature = sign_manifest(manifest, self._keys)
        try:
            if epoch is None:
                self._open_round(call, manifest, signature, result, on_reply=on_reply)
            else:
                self._secure_round(call, manifest, signature, result, epoch=epoch, on_reply=on_reply)
            if call.contained is not None:
                call.contained.require(result.total, result.contributors, round_number=call.round)
        except (QuorumError, RoundRefusedError, SumNotOpenedError, UpdateOutOfRangeError) as error:
            # Whoever is back, or has lost its keys, is in the next epoch.
            self._epochs.drop()
            self._notes.add(
                EventKind.ROUND_ABORTED,
                manifest,
                stage=str(result.stage),
                code=error.code,
                missing=sorted(result.waiting),
                refused=sorted(result.refusals),
                # The transcript of a sum that was opened has the manifest.
                **({} if result.opened else {"record": self._keep_record(manifest, signature, result)}),
            )
            raise
        finally:
            self._notes.write()
        return result

    # --- manifests and requests --------------------------------------------------------------------------------------

    def _manifest(self, call: RoundCall, epoch: Epoch | None) -> Manifest:
        cohort = epoch.cohort.names if epoch else sorted_cohort(list(self._exchange.identities))
        return self._fill(
            call.run,
            cohort,
            round=call.round,
            attempt=call.attempt,
            purpose=str(call.purpose),
            weights_digest=hashlib.sha256(weights_to_bytes(call.weights)).digest(),
            epoch=epoch.epoch if epoch else NO_EPOCH,
            step=epoch.step if epoch else 0,
            release=call.release,
            radii=call.contained.radii(cohort) if call.contained else (),
        )

    def _fill(self, run: str, cohort: Iterable[str], **fields: Any) -> Manifest:
        names, (log_size, log_root) = sorted_cohort(list(cohort)), self._log.head()
        deadline = Deadline.after(self._plan.rounds.deadline_s, clock=self._clock)
        return Manifest(
            consortium=self._plan.run.consortium,
            run=run,
            plan_digest=self._plan_digest,
            roster_digest=self._roster_digest,
            cohort=names,
            ledger_heads=tuple(self._heads.of(InstitutionId(name)) for name in names),
            quorum=self._plan.rounds.quorum,
            deadline=int(deadline.at) + 1,
            log_size=log_size,
            log_root=log_root,
            **fields,
        )

    def _requests_for(self, manifest: Manifest, signature: bytes) -> Callable[..., Request]:
        encoded, encode_body = manifest.to_bytes(), EncodedOnce()

        def request(name: InstitutionId | None, stage: Stage, body: Message, length: int) -> Request:
            known = name in self._acquainted
            return Request(
                manifest=encoded,
                signature=signature,
                stage=str(stage),
                answer_length=length,
                body=encode_body(body),
                plan=b"" if known else self._plan_bytes,
                roster=b"" if known else self._roster_bytes,
            )

        return request

    # --- the two kinds of round --------------------------------------------------------------------------------------

    def _open_round(
        self, call: RoundCall, manifest: Manifest, signature: bytes, result: RoundResult, *, on_reply: OnReply
    ) -> None:
        kinds = {Purpose.TRAIN: TrainAnswer, Purpose.CLOSE: CloseAnswer}
        kind: type[Message] = kinds.get(call.purpose, CountsAnswer)
        count = self._lanes.get(call.purpose, 0)

        def take(name: InstitutionId, opened: OpenedAnswer) -> None:
            answer = opened.answer
            if not isinstance(answer, TrainAnswer | CountsAnswer | CloseAnswer):
                raise MalformedMessageError(what="answer", problem="it answers another question")
            lanes = None if isinstance(answer, CloseAnswer) else from_lanes(answer.lanes, what="answer", count=count)
            if isinstance(answer, CloseAnswer):
                reason_of(self._plan, answer)
            self._log.require_cosigned(manifest, name, answer.cosignature)
            self._accept(manifest, name, answer, answer_digest(opened))
            if isinstance(answer, CloseAnswer):
                result.ballots[name] = opened.signed
            if lanes is not None:
                result.total += lanes
            result.contributors.append(name)

        request = self._requests_for(manifest, signature)
        stage = Stage.CLOSE if call.purpose is Purpose.CLOSE else Stage.ANSWER
        body, length = (
            self._log.body(manifest, release=call.release, weights=weights_to_bytes(call.weights)),
            answer_length(max(self._lanes.values(), default=0)),
        )
        question = Question(
            manifest=manifest,
            manifest_digest=result.manifest_digest,
            stage=stage,
            requests={
                InstitutionId(name): request(InstitutionId(name), stage, body, length) for name in manifest.cohort
            },
            kind=kind,
            take=take,
        )
        waited = self._exchange.ask(question, result, on_reply=on_reply)
        self._forget_refusing(result)
        self._require_quorum(manifest, result, waited)

    def _secure_round(
        self,
        call: RoundCall,
        manifest: Manifest,
        signature: bytes,
        result: RoundResult,
        *,
        epoch: Epoch,
        on_reply: OnReply,
    ) -> None:
        secure = self._plan.secure
        assert secure is not None  # noqa: S101 - the caller has an epoch
        epoch.step += 1

        def check(name: InstitutionId, upload: Upload) -> None:
            self._log.require_cosigned(manifest, name, upload.cosignature)

        def accept(name: InstitutionId, upload: Upload, digest: bytes) -> None:
            self._accept(manifest, name, upload, digest)

        def enough(uploads: RoundResult, waited: float) -> None:
            epoch.lost |= {name for name, code in uploads.refusals.items() if code in _MENDED_BY_A_SET_UP}
            self._forget_refusing(uploads)
            self._require_quorum(manifest, uploads, waited)

        place = (call.round, call.purpose)
        secured = SecureRound(
            SecureCall(
                manifest=manifest,
                signature=signature,
                body=self._log.body(manifest, release=call.release, weights=weights_to_bytes(call.weights)),
                lanes=self._lanes[call.purpose],
                epoch=epoch,
                aggregation=secure,
                colluders=self._plan.privacy.colluders,
                selected_before=self._selected.get(place, ()),
                check=check,
                accept=accept,
                keep=functools.partial(self._keep_record, manifest, signature, result),
            ),
            exchange=self._exchange,
            notes=self._notes,
            keys=self._keys,
            request=self._requests_for(manifest, signature),
            result=result,
        )
        try:
            transcript = secured.run(on_reply=on_reply, enough=enough)
        finally:
            self._liars |= secured.proven_liars
            if secured.selected:
                self._selected = {place: secured.selected}
        evidence = transcript.to_bytes()
        result.transcript = hashlib.sha256(evidence).digest()
        name = transcript_name(round_number=call.round, purpose=str(call.purpose), attempt=call.attempt)
        self._keep_transcript(name, evidence)
        secured.blame_for_shares()
        self._notes.add(
            EventKind.SUM_OPENED,
            manifest,
            transcript=result.transcript,
            total=hashlib.sha256(result.total.astype("<i8").tobytes()).digest(),
        )

    def _keep_record(self, manifest: Manifest, signature: bytes, result: RoundResult) -> bytes:
        """Keep what was asked and who has uploaded, once, and return the digest of that record."""
        if result.record is None:
            keep, uploads = self._keep_transcript, result.uploads
            result.record = keep_attempt(manifest, signature=signature, uploads=uploads, keep=keep)
        return result.record

    def _ready_epoch(self, run: str, on_reply: OnReply) -> tuple[Epoch, RoundResult | None]:
        """Return the epoch to use, and the traffic of its set-up if it is a new one."""

        def setup_manifest(cohort: Sequence[str], attempt: int) -> Manifest:
            return self._fill(
                run,
                cohort,
                round=0,
                attempt=attempt,
                purpose=str(Purpose.SETUP),
                weights_digest=bytes(32),
                epoch=NO_EPOCH,
                step=0,
                release=0,
                radii=(),
            )

        def sign(manifest: Manifest) -> bytes:
            return sign_manifest(manifest, self._keys)

        def setup_requests(manifest: Manifest, signature: bytes) -> Callable[[Stage, Message, int], Request]:
            return functools.partial(self._requests_for(manifest, signature), None)

        try:
            self._epochs.leave_out(self._liars)
            epoch, traffic = self._epochs.ready(setup_manifest, sign, setup_requests, on_reply=on_reply)
        except QuorumError:
            if self._epochs.failed is not None:
                manifest, result = self._epochs.failed
                self._forget_refusing(result)
                self._require_willing(manifest, result)
            raise
        if traffic is not None:
            self._acquainted |= set(map(InstitutionId, epoch.cohort.names))
        return epoch, traffic

    # --- answers -----------------------------------------------------------------------------------------------------

    def _accept(self, manifest: Manifest, name: InstitutionId, answer: CosignedAnswer, digest: bytes) -> None:
        """Note an answer whose parts all hold; from here on it counts."""
        self._log.stands_at(name, manifest.log_size)
        # Not from a refusal: a ledger that was set back would put its own old head in the place of the lost one.
        self._heads.saw(name, answer.ledger_head)
        self._acquainted.add(name)
        self._notes.add(
            EventKind.ANSWER_ACCEPTED,
            manifest,
            institution=name,
            answer=digest,
            ledger_head=answer.ledger_head,
            log_size=manifest.log_size,
            cosignature=answer.cosignature,
        )

    def _forget_refusing(self, result: RoundResult) -> None:
        """A refusing institution may not have kept the plan; it gets plan and roster again."""
        self._acquainted -= set(result.refusals)

    def _require_quorum(self, manifest: Manifest, result: RoundResult, waited_s: float) -> None:
        needed = manifest.quorum
        if len(result.contributors) >= needed:
            return
        self._require_willing(manifest, result)
        missing = sorted(result.waiting)
        refusals = _listed(result)
        raise QuorumError(
            round=manifest.round,
            received=len(result.contributors),
            needed=needed,
            seconds=waited_s,
            missing=", ".join(name_with_reason(name, result) for name in missing)
            + (f"; refused: {refusals}" if refusals else ""),
        )

    def _require_willing(self, manifest: Manifest, result: RoundResult) -> None:
        """Stop for good if so many refuse that waiting does not help; a lost epoch is mended by the next set-up."""
        firm = [code for code in result.refusals.values() if code not in _MENDED_BY_A_SET_UP]
        if len(self._exchange.identities) - len(firm) < manifest.quorum:
            raise RoundRefusedError(round=manifest.round, refusals=_listed(result))


def _listed(result: RoundResult) -> str:
    return ", ".join(f"{name} ({code})" for name, code in sorted(result.refusals.items()))
