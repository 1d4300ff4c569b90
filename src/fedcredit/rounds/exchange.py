"""One stage of a round or a set-up: ask members, accept each one's answer once, note what was wrong with the others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.crypto.channels import Channel
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.encoding import Encodable
from fedcredit.envelope import OpenedAnswer, open_answer, seal_request
from fedcredit.errors import FedcreditError, UnknownSenderError
from fedcredit.messages import Manifest, Message, Refusal, Request, Signed, Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.transport import Clock, Deadline, Reply, Transport

Integers = npt.NDArray[np.int64]


@dataclass(kw_only=True)
class RoundResult:
    """What came of a round; while it runs, also which stage waits for whom."""

    manifest_digest: bytes
    total: Integers
    """Sum of the contributions."""
    contributors: list[InstitutionId] = field(default_factory=list)
    refusals: dict[InstitutionId, str] = field(default_factory=dict)
    """FC code per institution that refused."""
    unusable: dict[InstitutionId, str] = field(default_factory=dict)
    """Why nothing usable came from an institution that is not silent: the code of its answer, or the carrier's."""
    bytes_sent: dict[InstitutionId, int] = field(default_factory=dict)
    """Sealed bytes to each institution, over all stages."""
    bytes_received: dict[InstitutionId, int] = field(default_factory=dict)
    """Sealed bytes from each institution, over all stages."""
    messages: dict[InstitutionId, int] = field(default_factory=dict)
    """Usable messages from each institution, over all stages."""
    stage: Stage = Stage.ANSWER
    waiting: set[InstitutionId] = field(default_factory=set)
    """Who has been asked in this stage and has not settled it."""
    since: float = 0.0
    until: float = 0.0
    """Begin and deadline of this stage, in seconds since 1970."""
    log_size: int = 0
    """Entries of the log that the contributors have cosigned."""
    ballots: dict[InstitutionId, Signed] = field(default_factory=dict)
    """Of a closing: the signed answers, with their votes."""
    transcript: bytes | None = None
    """Digest of the signed messages of a secure round whose sum was opened, from which anybody can add up again."""
    uploads: dict[InstitutionId, Signed] = field(default_factory=dict)
    """Of a secure round: the signed uploads, without lanes and boxes."""
    record: bytes | None = None
    """Digest of what was kept of a round that failed, or that left somebody out; ``None`` if nothing was."""

    @property
    def opened(self) -> bool:
        """Return whether a masked sum was opened."""
        return self.transcript is not None

    def add_traffic(self, other: RoundResult) -> None:
        """Count the messages and bytes of a set-up that this round needed."""
        for mine, theirs in (
            (self.bytes_sent, other.bytes_sent),
            (self.bytes_received, other.bytes_received),
            (self.messages, other.messages),
        ):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count


@dataclass(frozen=True, kw_only=True)
class Question:
    """What one stage asks, and how an answer to it is taken."""

    manifest: Manifest
    manifest_digest: bytes
    stage: Stage
    requests: Mapping[InstitutionId, Request]
    kind: type[Message]
    """Type of a right answer."""
    take: Callable[[InstitutionId, OpenedAnswer], None]
    """Takes a right answer, or raises: then it is recorded as not accepted, and the sender may answer again."""
    channels: Mapping[InstitutionId, Channel] = field(default_factory=dict)
    """Of those whose requests are sealed with one."""
    settled: Callable[[], bool] = lambda: False
    """Whether nothing more is needed, though some have not answered."""


class Notes:
    """The events of a round until they are written: one flush of the disk serves all answers of a stage."""

    def __init__(self, audit: AuditLog, heads: LedgerHeads) -> None:
        self._audit = audit
        self._heads = heads
        self._notes: list[tuple[EventKind, dict[str, Encodable]]] = []

    def add(self, kind: EventKind, opened: Manifest, /, **fields: Encodable) -> None:
        """Keep an event of the round that the manifest ``opened`` opens."""
        place: dict[str, Encodable] = {
            "run": opened.run,
            "round": opened.round,
            "attempt": opened.attempt,
            "purpose": opened.purpose,
        }
        self._notes.append((kind, {**place, **fields}))

    def write(self) -> None:
        """Make the events so far durable. Until then a crash forgets them together with the open round."""
        # Heads first: after a crash in between they may be ahead of the log, never behind it.
        self._heads.save()
        notes, self._notes = self._notes, []
        if notes:
            self._audit.record_all(notes)


class RequestsFor(Mapping[InstitutionId, Request]):
    """The requests of one stage to certain members, each made when it is asked for: they differ, and can be large."""

    def __init__(self, names: Iterable[InstitutionId], make: Callable[[InstitutionId], Request]) -> None:
        self._names = {name: name for name in names}
        self._make = make

    def __getitem__(self, name: InstitutionId) -> Request:
        """Return the request to ``name``."""
        return self._make(self._names[name])

    def __iter__(self) -> Iterator[InstitutionId]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without making anything


KEPT_BYTES: Final = 64 * 1024 * 1024
"""Sealed bytes of one stage that are kept. What the set-up of an epoch sends to a thousand members is a hundred times
as much, and a transport that delivers one after the other needs one at a time."""


class SealedRequests(Mapping[InstitutionId, bytes]):
    """The requests of one stage, each sealed when a transport first asks for it, and counted in ``result``.

    A transport that asks again gets the same bytes, or, when more than ``kept_bytes`` were sealed before, a new seal of
    the same request: the recipient answers it with the same bytes either way.
    """

    def __init__(
        self,
        question: Question,
        identities: Mapping[InstitutionId, PublicIdentity],
        result: RoundResult,
        *,
        kept_bytes: int,
    ) -> None:
        self._question = question
        self._identities = identities
        self._result = result
        self._kept: dict[InstitutionId, bytes] = {}
        self._room = kept_bytes
        self._digests: dict[InstitutionId, bytes] = {}

    def __getitem__(self, name: InstitutionId) -> bytes:
        """Return the sealed request to ``name``."""
        known = self._kept.get(name)
        if known is not None:
            return known
        data = seal_request(
            self._question.requests[name],
            consortium=self._question.manifest.consortium,
            to=name,
            identity=self._identities[name],
            channel=self._question.channels.get(name),
        )
        if name not in self._digests:
            self._result.bytes_sent[name] = self._result.bytes_sent.get(name, 0) + len(data)
        self._digests[name] = hashlib.sha256(data).digest()
        if len(data) <= self._room:
            self._kept[name] = data
            self._room -= len(data)
        return data

    def __iter__(self) -> Iterator[InstitutionId]:
        return iter(self._question.requests)

    def __contains__(self, name: object) -> bool:
        return name in self._question.requests  # without sealing anything

    def __len__(self) -> int:
        return len(self._question.requests)

    def digest_of(self, name: InstitutionId) -> bytes:
        """Return SHA-256 of what was sealed last, or is sealed now: an answer may come to what was never delivered."""
        if name not in self._digests:
            self.__getitem__(name)
        return self._digests[name]


class Exchange:
    """Asks questions over a transport."""

    def __init__(
        self,
        *,
        identities: Mapping[InstitutionId, PublicIdentity],
        keys: IdentityKeys,
        transport: Transport,
        notes: Notes,
        clock: Clock,
        seconds: float,
    ) -> None:
        self.identities: Final = dict(identities)
        self._keys = keys
        self._transport = transport
        self._notes = notes
        self._clock = clock
        self._seconds = seconds

    def ask(self, question: Question, result: RoundResult, *, on_reply: Callable[[RoundResult], None]) -> float:
        """Ask until everybody asked has settled the matter, ``question.settled`` says so, or the time is over.

        Returns how long it took, in seconds.
        """
        deadline = Deadline.after(self._seconds, clock=self._clock)
        sealed = SealedRequests(question, self.identities, result, kept_bytes=KEPT_BYTES)
        result.stage, result.waiting = question.stage, set(sealed)
        result.since, result.until = self._clock(), deadline.at
        on_reply(result)
        for reply in self._transport.exchange(sealed, deadline=deadline):
            if deadline.passed():
                break
            self._take(reply, question, sealed, result)
            on_reply(result)
            if not result.waiting or question.settled():
                break
        return self._seconds - deadline.remaining_s()

    def _take(self, reply: Reply, question: Question, sealed: SealedRequests, result: RoundResult) -> None:
        """Accept a reply once, or record why not; a bad reply changes nothing and ends nothing."""
        name = reply.institution
        if reply.payload is None:
            if name in result.waiting:
                result.unusable[name] = f"carrier: {reply.carrier_error}"
            return
        try:
            if name not in sealed:
                raise UnknownSenderError(sender=name)
            if name not in result.waiting:
                return
            opened = self._open(name, reply.payload, question, sealed.digest_of(name))
            if not isinstance(opened.answer, Refusal):
                question.take(name, opened)
        except FedcreditError as error:
            result.unusable[name] = f"answer not accepted: {error.code}"
            self._notes.add(EventKind.ANSWER_REFUSED, question.manifest, institution=name, code=error.code)
            return
        result.unusable.pop(name, None)
        result.waiting.discard(name)
        result.bytes_received[name] = result.bytes_received.get(name, 0) + len(reply.payload)
        result.messages[name] = result.messages.get(name, 0) + 1
        if isinstance(opened.answer, Refusal):
            self._note_refusal(name, opened.answer, question, result)

    def _note_refusal(self, name: InstitutionId, refusal: Refusal, question: Question, result: RoundResult) -> None:
        result.refusals[name] = refusal.code
        self._notes.add(
            EventKind.INSTITUTION_REFUSED,
            question.manifest,
            institution=name,
            stage=str(question.stage),
            code=refusal.code,
            ledger_head=refusal.ledger_head,
        )

    def _open(self, name: InstitutionId, payload: bytes, question: Question, request_digest: bytes) -> OpenedAnswer:
        return open_answer(
            payload,
            question.kind,
            manifest=question.manifest,
            manifest_digest=question.manifest_digest,
            stage=question.stage,
            institution=name,
            identity=self.identities[name],
            keys=self._keys,
            request_digest=request_digest,
            channel=question.channels.get(name),
        )


def answer_digest(opened: OpenedAnswer) -> bytes:
    """Return SHA-256 of the signed message: what the log says of an answer."""
    return hashlib.sha256(opened.signed.body).digest()


class EncodedOnce:
    """Encodes the body that all members of a stage get once, not once for each."""

    def __init__(self) -> None:
        self._last: tuple[Message, bytes] | None = None

    def __call__(self, body: Message) -> bytes:
        """Return the encoding of ``body``."""
        if self._last is None or self._last[0] is not body:
            self._last = (body, body.to_bytes())
        return self._last[1]
