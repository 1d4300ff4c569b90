"""One secure round: uploads, agreement on whose are added up, shares that open their sum (PROTOCOL.md 4.3).

After reading ``SecureRound.run`` you can retell it. What the coordinator holds here is masked until the last stage, and
then it learns one sum.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedcredit.audit.log import EventKind
from fedcredit.config.plan import SecureAggregation
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.signatures import sign
from fedcredit.encoding import Encodable
from fedcredit.envelope import OpenedAnswer
from fedcredit.errors import (
    MalformedMessageError,
    ReconstructionError,
    SmallCohortError,
    SumNotOpenedError,
    WrongContextError,
)
from fedcredit.messages import Manifest, Message, Request, RoundBody, Stage, padded_length, upload_length
from fedcredit.parties import InstitutionId
from fedcredit.rounds.epochs import Epoch, name_with_reason
from fedcredit.rounds.exchange import Exchange, Notes, Question, RequestsFor, RoundResult
from fedcredit.rounds.transcript import SignedUpload, Transcript
from fedcredit.secagg.aggregator import AggregatorRound, OpenedSum
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.wire import Accept, AcceptBody, Reveal, RevealBody, Upload, bulk_digest

OnReply = Callable[[RoundResult], None]


@dataclass(frozen=True, kw_only=True)
class SecureCall:
    """What a secure round needs beside its members."""

    manifest: Manifest
    signature: bytes
    body: RoundBody
    lanes: int
    epoch: Epoch
    aggregation: SecureAggregation
    colluders: int
    selected_before: Sequence[str]
    """Members of an earlier selection for this round, whose shares may have left; empty if there was none."""
    check: Callable[[InstitutionId, Upload], None]
    """Raises if the cosignature of an upload does not hold."""
    accept: Callable[[InstitutionId, Upload, bytes], None]
    """Records an upload all of whose parts hold."""
    keep: Callable[[], bytes]
    """Keeps what was asked and the uploads so far, and returns the digest of that record."""


class SecureRound:
    """One attempt."""

    def __init__(
        self,
        call: SecureCall,
        *,
        exchange: Exchange,
        notes: Notes,
        keys: IdentityKeys,
        request: Callable[[InstitutionId, Stage, Message, int], Request],
        result: RoundResult,
    ) -> None:
        self._call = call
        self._exchange = exchange
        self._notes = notes
        self._keys = keys
        self._request = request
        self._result = result
        self._sum = AggregatorRound(
            manifest_digest=result.manifest_digest,
            cohort=call.epoch.cohort,
            count=call.lanes,
            bits=call.aggregation.lane_bits,
            smallest=call.manifest.quorum,
            colluders=call.colluders,
        )
        self._uploads: dict[InstitutionId, SignedUpload] = {}
        self._accepts: dict[InstitutionId, bytes] = {}
        self._reveals: dict[InstitutionId, tuple[bytes, bytes, bytes]] = {}
        self._opened: OpenedSum | None = None
        self._selected: tuple[str, ...] = ()

    def run(self, *, on_reply: OnReply, enough: Callable[[RoundResult, float], None]) -> Transcript:
        """Collect, agree, open; the sum and its contributors are in the result.

        ``enough`` raises if the uploads do not make a quorum.

        Raises:
            SumNotOpenedError: too few members agreed, or revealed shares, in time.
            whatever ``enough`` raises.
        """
        waited = self._collect_uploads(on_reply)
        enough(self._result, waited)
        self._select()
        waited = self._collect_agreement(on_reply)
        self._require(len(self._accepts), "agree to the cohort", waited, self._accepts)
        waited = self._collect_shares(on_reply)
        self._require(len(self._reveals), "reveal their shares", waited, self._reveals)
        return self._finish(waited)

    @property
    def proven_liars(self) -> frozenset[InstitutionId]:
        """Return the members whose commitments contradict those of more others than may lie."""
        return frozenset(InstitutionId(name) for name in self._sum.liars)

    @property
    def selected(self) -> tuple[str, ...]:
        """Return the members of the selection for which shares were asked; empty if none were."""
        return self._selected

    # --- M1 ----------------------------------------------------------------------------------------------------------

    def _collect_uploads(self, on_reply: OnReply) -> float:
        call, cohort = self._call, self._call.epoch.cohort
        near = max(map(len, cohort.neighbours), default=0)
        length = upload_length(call.lanes * call.aggregation.lane_bits // 8, neighbours=near)

        def take(name: InstitutionId, opened: OpenedAnswer) -> None:
            upload, signed = opened.answer, opened.signed
            if not isinstance(upload, Upload):
                raise MalformedMessageError(what="answer", problem="it answers another question")
            digest = hashlib.sha256(signed.body).digest()
            call.check(name, upload)
            self._sum.take_upload(name, upload, digest=digest, signature=signed.signature, bulk=opened.bulk)
            call.accept(name, upload, digest)
            self._uploads[name] = SignedUpload(body=signed.body, signature=signed.signature, bulk=opened.bulk)
            self._result.uploads[name] = signed
            self._result.contributors.append(name)
            call.epoch.complete.add(name)

        complete = frozenset(call.epoch.complete)

        def request(name: InstitutionId) -> Request:
            body = call.body if name in complete else _with_roots(call.body, call.epoch.boxes[name])
            return self._request(name, Stage.UPLOAD, body, length)

        requests = RequestsFor(map(InstitutionId, cohort.names), request)
        return self._ask(Stage.UPLOAD, requests, Upload, take, on_reply)

    def _select(self) -> None:
        """Fix and sign whose uploads are added up. It is in the log before any member hears of it.

        What shows why somebody is left out is kept before the log says so.
        """
        try:
            selection = self._sum.select(before=self._call.selected_before)
        except SmallCohortError as error:
            self._blame_conflicting()
            raise SumNotOpenedError(
                round=self._call.manifest.round,
                received=len(self._uploads) - len(self._sum.conflicting),
                needed=self._call.manifest.quorum,
                step="send uploads that agree with each other",
                seconds=0.0,
                missing=", ".join(sorted(self._sum.conflicting)),
            ) from error
        everybody = len(selection.members) == len(self._uploads)
        kept: dict[str, Encodable] = {} if everybody else {"record": self._call.keep()}
        self._blame_conflicting()
        self._selection = selection.to_bytes()
        self._selection_signature = sign(self._keys, tag=SELECTION_TAG, body=self._selection)
        self._result.contributors = [InstitutionId(name) for name in selection.members]
        self._notes.add(
            EventKind.COHORT_SELECTED,
            self._call.manifest,
            selection=self._sum.selection_digest,
            contributors=list(selection.members),
            **kept,
        )
        self._notes.write()

    def _blame_conflicting(self) -> None:
        if self._sum.conflicting:
            self._call.keep()
        for name in sorted(self._sum.conflicting):
            self._blame(name, "commitments contradict those of others")

    # --- M2 ----------------------------------------------------------------------------------------------------------

    def _collect_agreement(self, on_reply: OnReply) -> float:
        digest = self._sum.selection_digest

        def take(name: InstitutionId, opened: OpenedAnswer) -> None:
            if not isinstance(opened.answer, Accept) or opened.answer.selection != digest:
                raise WrongContextError(what="agreement", field="selection")
            self._accepts[name] = opened.signed.signature

        body = AcceptBody(selection=self._selection, signature=self._selection_signature)
        requests = RequestsFor(
            self._result.contributors, lambda name: self._request(name, Stage.ACCEPT, body, padded_length(0))
        )
        return self._ask(Stage.ACCEPT, requests, Accept, take, on_reply)

    # --- M3 ----------------------------------------------------------------------------------------------------------

    def _collect_shares(self, on_reply: OnReply) -> float:
        digest, members = self._sum.selection_digest, sorted(self._accepts)
        self._selected = self._sum.selection.members

        def take(name: InstitutionId, opened: OpenedAnswer) -> None:
            reveal, bulk = opened.answer, bytes(opened.bulk)
            if not isinstance(reveal, Reveal) or reveal.selection != digest:
                raise WrongContextError(what="reveal", field="selection")
            if bulk_digest(bulk) != reveal.bulk_digest:
                raise MalformedMessageError(what="reveal", problem="its shares are not those that were signed")
            self._sum.take_reveal(name, bulk)
            self._reveals[name] = (opened.signed.body, opened.signed.signature, bulk)

        # No member needs more agreements than the threshold, and it verifies every one that it gets.
        shown = members[: self._call.aggregation.threshold]
        signatures = tuple(self._accepts[member] for member in shown)
        length = padded_length(max(self._sum.reveal_length(member) for member in members))

        def request(name: InstitutionId) -> Request:
            body = RevealBody(
                selection=digest, members=tuple(shown), signatures=signatures, boxes=self._sum.boxes_for(name)
            )
            return self._request(name, Stage.REVEAL, body, length)

        requests = RequestsFor(members, request)
        return self._ask(Stage.REVEAL, requests, Reveal, take, on_reply, settled=self._try_to_open)

    def _try_to_open(self) -> bool:
        """Open the sum once there are shares enough; wrong ones among them call for more."""
        if self._opened is None and self._sum.can_open():
            try:
                self._opened = self._sum.open()
            except ReconstructionError:
                return False
        return self._opened is not None

    def _finish(self, waited_s: float) -> Transcript:
        # The last reply ends the exchange before it is asked whether the matter is settled.
        if not self._try_to_open():
            self._require(0, "reveal shares that fit their commitments", waited_s, {})
        opened = self._opened
        assert opened is not None  # noqa: S101 - _require has raised
        self._result.total = opened.values
        return Transcript(
            manifest=self._call.manifest.to_bytes(),
            manifest_signature=self._call.signature,
            lanes=self._call.lanes,
            lane_bits=self._call.aggregation.lane_bits,
            threshold=self._call.aggregation.threshold,
            selection=self._selection,
            selection_signature=self._selection_signature,
            uploads={name: self._uploads[name] for name in self._result.contributors},
            accepts=dict(self._accepts),
            reveals=dict(self._reveals),
        )

    def blame_for_shares(self) -> None:
        """Record whose shares are wrong, once the transcript that shows it is kept."""
        for name in sorted(self._opened.wrong if self._opened else ()):
            self._blame(name, "a share does not fit its commitment: the holder's or the dealer's fault")

    # --- shared ------------------------------------------------------------------------------------------------------

    def _ask(
        self,
        stage: Stage,
        requests: Mapping[InstitutionId, Request],
        kind: type[Message],
        take: Callable[[InstitutionId, OpenedAnswer], None],
        on_reply: OnReply,
        *,
        settled: Callable[[], bool] = lambda: False,
    ) -> float:
        question = Question(
            manifest=self._call.manifest,
            manifest_digest=self._result.manifest_digest,
            stage=stage,
            requests=requests,
            kind=kind,
            take=take,
            channels=self._call.epoch.channels,
            settled=settled,
        )
        return self._exchange.ask(question, self._result, on_reply=on_reply)

    def _require(self, received: int, step: str, seconds: float, done: Mapping[InstitutionId, object]) -> None:
        needed = self._call.aggregation.threshold
        if received >= needed:
            return
        missing = [name for name in self._result.contributors if name not in done]
        raise SumNotOpenedError(
            round=self._call.manifest.round,
            received=received,
            needed=needed,
            step=step,
            seconds=seconds,
            missing=", ".join(name_with_reason(name, self._result) for name in missing),
        )

    def _blame(self, name: str, reason: str) -> None:
        fields: dict[str, Encodable] = {"institution": name, "reason": reason}
        self._notes.add(EventKind.MEMBER_BLAMED, self._call.manifest, **fields)


def _with_roots(body: RoundBody, roots: tuple[bytes, ...]) -> RoundBody:
    return RoundBody(
        weights=body.weights,
        release=body.release,
        release_path=body.release_path,
        log_proofs=body.log_proofs,
        roots=roots,
    )
