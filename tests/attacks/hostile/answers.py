"""Bad answers to the coordinator: by name, the stage, the code under which they are refused, and how they are made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import cbor2
from attacks.hostile.bending import REMOVED, changed, flipped
from attacks.hostile.world import TARGET
from consortium import CONSORTIUM, COORDINATOR, Consortium, keys_of

from fedcredit.audit.checkpoint_note import LogCheckpoint, cosign_checkpoint
from fedcredit.audit.log import log_origin
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SealContext, seal
from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG, OpenedAnswer, OpenedRequest, open_answer, open_request, seal_unreadable
from fedcredit.messages import NO_HEAD, Refusal, Signed, Stage, pad
from fedcredit.parties import COORDINATOR as COORDINATOR_NAME
from fedcredit.parties import InstitutionId
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.epoch import EpochOffer
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import ANSWERS, ROOT_BOX_LENGTH, EpochBoxes, EpochKey
from fedcredit.transport import Deadline, Reply, Transport

STRANGER = keys_of(77)
TARGET_ID = InstitutionId(TARGET)


@dataclass(frozen=True, kw_only=True)
class Came:
    """A genuine answer on its way, with everything that its sender and the carrier know."""

    consortium: Consortium
    request: bytes
    reply: bytes
    opened: OpenedRequest
    read: OpenedAnswer
    others: Mapping[str, bytes]
    """What the other members answered in this stage, as far as it has come."""
    before: Mapping[Stage, bytes]
    """What the same member answered last in each stage."""

    @property
    def keys(self) -> IdentityKeys:
        return self.consortium.sites[TARGET].keys


Make = Callable[[Came], bytes]


@dataclass(frozen=True, kw_only=True)
class BadAnswer:
    stage: Stage
    code: str
    make: Make
    by: Literal["carrier", "member"]
    """A carrier's junk comes beside the genuine answer; what a member says stands alone."""
    sender: str = TARGET
    """In whose name it comes."""


@dataclass
class Meddling:
    """Carries everything; in the stage of ``bad`` it exchanges what the target answers, or adds to it."""

    consortium: Consortium
    inner: Transport
    bad: BadAnswer | None = None
    before: dict[Stage, bytes] = field(default_factory=dict)

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        others: dict[str, bytes] = {}
        for name in self._order(requests):
            (reply,) = self.inner.exchange({name: requests[name]}, deadline=deadline)
            if name != TARGET or reply.payload is None:
                others[name] = reply.payload or b""
                yield reply
                continue
            opened = self._opened(requests[name])
            came = self._came(requests[name], reply.payload, opened, others)
            # Before the reply is passed on: the last one of a stage ends the exchange.
            self.before[opened.stage] = reply.payload
            bad = self.bad if self.bad is not None and opened.stage is self.bad.stage else None
            if bad is not None:
                yield Reply(institution=InstitutionId(bad.sender), payload=bad.make(came))
            if bad is None or bad.by == "carrier":
                yield reply

    def _order(self, requests: Mapping[InstitutionId, bytes]) -> list[InstitutionId]:
        """Ask the target last, but for shares: three of them open the sum, and a fourth is not waited for."""
        asked = sorted(requests)
        if TARGET_ID in requests and self._opened(requests[TARGET_ID]).stage is not Stage.REVEAL:
            asked.sort(key=lambda name: name == TARGET)
        return asked

    def _opened(self, request: bytes) -> OpenedRequest:
        site = self.consortium.sites[TARGET]
        return open_request(
            request,
            consortium=CONSORTIUM,
            institution=site.name,
            keys=site.keys,
            coordinator=COORDINATOR.public,
            channels=site.state.memory.channel,
        )

    def _came(self, request: bytes, reply: bytes, opened: OpenedRequest, others: Mapping[str, bytes]) -> Came:
        site = self.consortium.sites[TARGET]
        read = open_answer(
            reply,
            *ANSWERS[opened.stage],
            manifest=opened.manifest,
            manifest_digest=opened.manifest_digest,
            stage=opened.stage,
            institution=site.name,
            identity=site.keys.public,
            keys=COORDINATOR,
            request_digest=hashlib.sha256(request).digest(),
            channel=opened.channel,
        )
        return Came(
            consortium=self.consortium,
            request=request,
            reply=reply,
            opened=opened,
            read=read,
            others=others,
            before=dict(self.before),
        )


# --- how answers are bent --------------------------------------------------------------------------------------------


def said(
    came: Came,
    *,
    body: bytes | None = None,
    bulk: bytes | None = None,
    signer: IdentityKeys | None = None,
    tag: str = ANSWER_TAG,
    signature: bytes | None = None,
    frame: Callable[[bytes], bytes] = lambda padded: padded,
    **context: Any,
) -> bytes:
    """Return an answer with other content, signed and sealed as its sender does it."""
    content = came.read.signed.body if body is None else body
    signed = Signed(body=content, signature=signature or sign(signer or came.keys, tag=tag, body=content))
    parts = pad(
        signed.to_bytes(),
        bulk=came.read.bulk if bulk is None else bulk,
        length=came.opened.request.answer_length + 8192,
    )
    manifest = came.opened.manifest
    place: dict[str, Any] = {
        "consortium": CONSORTIUM,
        "run": manifest.run,
        "round_number": manifest.round,
        "attempt": manifest.attempt,
        "message_type": f"answer/{manifest.purpose}/{came.opened.stage}",
        "sender": TARGET,
        "recipient": COORDINATOR_NAME,
        "manifest_digest": came.opened.manifest_digest,
        **context,
    }
    if came.opened.channel is not None:
        return came.opened.channel.seal_up(frame(parts), context=SealContext(**place))
    return seal(frame(parts), recipient=COORDINATOR.public, context=SealContext(**place))


def fields(**changes: Any) -> Make:
    """Say something else in the named fields."""
    return lambda came: said(came, body=changed(came.read.signed.body, changes))


def with_bulk(change: Callable[[bytes], bytes], *, signed: bool = True) -> Make:
    """Send other bulk data, with the digest that it has, or with the one that was right."""

    def make(came: Came) -> bytes:
        bulk = change(bytes(came.read.bulk))
        digest = {"bulk_digest": hashlib.sha256(bulk).digest()} if signed else {}
        return said(came, body=changed(came.read.signed.body, digest), bulk=bulk)

    return make


def listed(came: Came, name: str) -> Sequence[bytes]:
    found: list[bytes] = cbor2.loads(came.read.signed.body)[name]
    return found


def cosigned(*, name: str = TARGET, root: bytes | None = None) -> Make:
    """Cosign the log with another root, or under another name and its key."""

    def make(came: Came) -> bytes:
        manifest = came.opened.manifest
        origin = log_origin(consortium=CONSORTIUM, run=manifest.run)
        checkpoint = LogCheckpoint(origin=origin, size=manifest.log_size, root=root or manifest.log_root)
        line = cosign_checkpoint(checkpoint, name=name, keys=came.consortium.sites[name].keys, time_s=1).to_line()
        return fields(cosignature=line)(came)

    return make


def unreadable(*, signer: str = TARGET, request: bytes | None = None) -> Make:
    """Say, by the long-lived key, that the request did not open."""

    def make(came: Came) -> bytes:
        refusal = Refusal(
            manifest_digest=hashlib.sha256(request or came.request).digest(), ledger_head=NO_HEAD, code="FC-3102"
        )
        return seal_unreadable(
            refusal,
            consortium=CONSORTIUM,
            institution=TARGET_ID,
            keys=came.consortium.sites[signer].keys,
            coordinator=COORDINATOR.public,
        )

    return make


def epoch_key(change: Callable[[EpochKey, Came], EpochKey]) -> Make:
    def make(came: Came) -> bytes:
        hello = cbor2.loads(came.read.signed.body)
        return fields(key=change(EpochKey.from_bytes(hello["key"]), came).to_bytes())(came)

    return make


def another_epoch_key(came: Came, *, member: str = TARGET, setup: bytes | None = None, by: str = TARGET) -> EpochKey:
    keys = came.consortium.sites[by].keys
    _, key = EpochOffer.make(setup=setup or came.opened.manifest_digest, member=member, keys=keys, entropy=os.urandom)
    return key


def with_signature(key: EpochKey, signature: bytes) -> EpochKey:
    return EpochKey(setup=key.setup, member=key.member, key=key.key, signature=signature)


def refusal(code: str) -> Make:
    def make(came: Came) -> bytes:
        right = Refusal(manifest_digest=came.opened.manifest_digest, ledger_head=NO_HEAD, code="FC-9999")
        return said(came, body=changed(right.to_bytes(), {"code": code}), bulk=b"")

    return make


# --- the tables ------------------------------------------------------------------------------------------------------

ON_THE_WAY: Mapping[str, tuple[Stage, str, Make]] = {
    "an empty answer": (Stage.UPLOAD, "FC-3101", lambda _: b""),
    "junk": (Stage.UPLOAD, "FC-3101", lambda came: b"\xff" * len(came.reply)),
    "the tag of the seal cut short": (Stage.UPLOAD, "FC-3102", lambda came: came.reply[:-1]),
    "a byte after the seal": (Stage.UPLOAD, "FC-3102", lambda came: came.reply + b"\0"),
    "a flipped bit in the tag of the seal": (Stage.UPLOAD, "FC-3102", lambda came: flipped(came.reply, -1)),
    "a flipped bit under the seal": (Stage.REVEAL, "FC-3102", lambda came: flipped(came.reply, 300)),
    "a flipped bit in the channel's name": (Stage.ACCEPT, "FC-3102", lambda came: flipped(came.reply, 4)),
    "a seal of suite 0": (Stage.UPLOAD, "FC-3101", lambda came: came.reply[:1] + b"\0" + came.reply[2:]),
    "another member's upload": (Stage.UPLOAD, "FC-3102", lambda came: came.others["bank-b"]),
    "another member's agreement": (Stage.ACCEPT, "FC-3102", lambda came: came.others["bank-b"]),
    "the upload of the round before": (Stage.UPLOAD, "FC-3102", lambda came: came.before[Stage.UPLOAD]),
    "the agreement of the round before": (Stage.ACCEPT, "FC-3102", lambda came: came.before[Stage.ACCEPT]),
    "the shares of the round before": (Stage.REVEAL, "FC-3102", lambda came: came.before[Stage.REVEAL]),
    "its upload for its agreement": (Stage.ACCEPT, "FC-3102", lambda came: came.before[Stage.UPLOAD]),
    "its agreement for its shares": (Stage.REVEAL, "FC-3102", lambda came: came.before[Stage.ACCEPT]),
    "the request reflected": (Stage.UPLOAD, "FC-3102", lambda came: came.request),
    "a refusal that another member signed": (Stage.UPLOAD, "FC-3103", unreadable(signer="bank-b")),
    "a refusal of another request": (Stage.UPLOAD, "FC-3102", unreadable(request=b"another")),
    "a key that was changed on the way": (Stage.KEYS, "FC-3102", lambda came: flipped(came.reply, -1)),
    "another member's key": (Stage.KEYS, "FC-3102", lambda came: came.others["bank-b"]),
    "another member's secrets": (Stage.ROOTS, "FC-3102", lambda came: came.others["bank-b"]),
}

BY_A_MEMBER: Mapping[str, tuple[Stage, str, Make]] = {
    "sealed for another run": (Stage.UPLOAD, "FC-3102", lambda it: said(it, run="another")),
    "sealed for another round": (
        Stage.UPLOAD,
        "FC-3102",
        lambda it: said(it, round_number=it.opened.manifest.round + 1),
    ),
    "sealed for another attempt": (Stage.UPLOAD, "FC-3102", lambda it: said(it, attempt=9)),
    "sealed for another purpose": (Stage.UPLOAD, "FC-3102", lambda it: said(it, message_type="answer/evaluate/upload")),
    "sealed for another manifest": (Stage.UPLOAD, "FC-3102", lambda it: said(it, manifest_digest=bytes(32))),
    "sealed for another consortium": (Stage.UPLOAD, "FC-3102", lambda it: said(it, consortium="another")),
    "sealed in another member's name": (Stage.UPLOAD, "FC-3102", lambda it: said(it, sender="bank-b")),
    "an upload that a stranger signed": (Stage.UPLOAD, "FC-3103", lambda it: said(it, signer=STRANGER)),
    "an upload that another member signed": (
        Stage.UPLOAD,
        "FC-3103",
        lambda it: said(it, signer=it.consortium.sites["bank-b"].keys),
    ),
    "an unsigned upload": (Stage.UPLOAD, "FC-3103", lambda it: said(it, signature=bytes(64))),
    "an upload signed as a selection": (Stage.UPLOAD, "FC-3103", lambda it: said(it, tag=SELECTION_TAG)),
    "an upload under the signature of another": (
        Stage.UPLOAD,
        "FC-3103",
        lambda it: said(
            it, body=changed(it.read.signed.body, {"ledger_head": bytes(32)}), signature=it.read.signed.signature
        ),
    ),
    "a signature cut short": (Stage.UPLOAD, "FC-3101", lambda it: said(it, signature=it.read.signed.signature[:63])),
    "padding that is not zero": (
        Stage.UPLOAD,
        "FC-3101",
        lambda it: said(it, frame=lambda padded: padded[:-1] + b"\1"),
    ),
    "a length beyond the answer": (
        Stage.UPLOAD,
        "FC-3101",
        lambda it: said(it, frame=lambda padded: b"\x7f" * 8 + padded[8:]),
    ),
    "an upload of the version before": (Stage.UPLOAD, "FC-3101", fields(version=2)),
    "an upload with one field more": (Stage.UPLOAD, "FC-3101", fields(examples=600)),
    "an upload without a commitment": (Stage.UPLOAD, "FC-3101", fields(commitments=REMOVED)),
    "a message of another type": (Stage.UPLOAD, "FC-3101", fields(type="train-answer")),
    "a ledger head of 31 bytes": (Stage.UPLOAD, "FC-3101", fields(ledger_head=bytes(31))),
    "an upload for another manifest": (Stage.UPLOAD, "FC-3106", fields(manifest_digest=bytes(32))),
    "a refusal without a code": (Stage.UPLOAD, "FC-3101", refusal("no")),
    "no cosignature": (Stage.UPLOAD, "FC-3101", fields(cosignature="")),
    "a cosignature that is none": (Stage.UPLOAD, "FC-3305", fields(cosignature="none")),
    "a cosignature of another log": (Stage.UPLOAD, "FC-3103", cosigned(root=b"\1" * 32)),
    "another member's cosignature": (Stage.UPLOAD, "FC-3103", cosigned(name="bank-b")),
    "a lane too few": (Stage.UPLOAD, "FC-3101", with_bulk(lambda bulk: bulk[4:])),
    "a lane too many": (Stage.UPLOAD, "FC-3101", with_bulk(lambda bulk: bulk[:4] + bulk)),
    "a box too few": (Stage.UPLOAD, "FC-3101", with_bulk(lambda bulk: bulk[: -4 * SHARE_LENGTH - 28])),
    "a box too many": (Stage.UPLOAD, "FC-3101", with_bulk(lambda bulk: bulk + bulk[-4 * SHARE_LENGTH - 28 :])),
    "no lanes and no boxes": (Stage.UPLOAD, "FC-3101", with_bulk(lambda _: b"")),
    "lanes that were not signed": (Stage.UPLOAD, "FC-3101", with_bulk(lambda bulk: flipped(bulk, 0), signed=False)),
    "a commitment too few": (
        Stage.UPLOAD,
        "FC-3101",
        lambda it: fields(commitments=listed(it, "commitments")[1:])(it),
    ),
    "two hundred commitments": (Stage.UPLOAD, "FC-3101", fields(commitments=[bytes(32)] * 200)),
    "a commitment of 31 bytes": (
        Stage.UPLOAD,
        "FC-3101",
        lambda it: fields(commitments=[bytes(31), *listed(it, "commitments")[1:]])(it),
    ),
    "an agreement to another selection": (Stage.ACCEPT, "FC-3106", fields(selection=bytes(32))),
    "an agreement to another manifest": (Stage.ACCEPT, "FC-3106", fields(manifest_digest=bytes(32))),
    "an agreement that a stranger signed": (Stage.ACCEPT, "FC-3103", lambda it: said(it, signer=STRANGER)),
    "an agreement of the version before": (Stage.ACCEPT, "FC-3101", fields(version=2)),
    "shares for an agreement": (
        Stage.ACCEPT,
        "FC-3101",
        fields(type="reveal", bulk_digest=bytes(32)),
    ),
    "shares of another selection": (Stage.REVEAL, "FC-3106", fields(selection=bytes(32))),
    "shares for another manifest": (Stage.REVEAL, "FC-3106", fields(manifest_digest=bytes(32))),
    "shares that a stranger signed": (Stage.REVEAL, "FC-3103", lambda it: said(it, signer=STRANGER)),
    "a share too few": (Stage.REVEAL, "FC-3101", with_bulk(lambda shares: shares[SHARE_LENGTH:])),
    "a share too many": (Stage.REVEAL, "FC-3101", with_bulk(lambda shares: shares + shares[:SHARE_LENGTH])),
    "half a share": (Stage.REVEAL, "FC-3101", with_bulk(lambda shares: shares[:-16])),
    "shares that were not signed": (
        Stage.REVEAL,
        "FC-3101",
        with_bulk(lambda shares: flipped(shares, 9), signed=False),
    ),
    "an agreement for shares": (Stage.REVEAL, "FC-3101", fields(type="accept", bulk_digest=REMOVED)),
    "a key in another member's name": (
        Stage.KEYS,
        "FC-3106",
        epoch_key(lambda _, it: another_epoch_key(it, member="bank-b")),
    ),
    "a key of another set-up": (Stage.KEYS, "FC-3106", epoch_key(lambda _, it: another_epoch_key(it, setup=bytes(32)))),
    "a key that another member signed": (
        Stage.KEYS,
        "FC-3103",
        epoch_key(lambda _, it: another_epoch_key(it, by="bank-b")),
    ),
    "a key signed with the classic key only": (
        Stage.KEYS,
        "FC-3103",
        epoch_key(lambda key, _: with_signature(key, key.signature[:64] + bytes(3309))),
    ),
    "a key signed with the post-quantum key only": (
        Stage.KEYS,
        "FC-3103",
        epoch_key(lambda key, _: with_signature(key, bytes(64) + key.signature[64:])),
    ),
    "a key that is none": (Stage.KEYS, "FC-3101", fields(key=b"none")),
    "half of a channel's half": (Stage.KEYS, "FC-3101", fields(channel=bytes(16))),
    "secrets for a key": (
        Stage.KEYS,
        "FC-3101",
        lambda it: said(it, body=EpochBoxes(epoch=bytes(32), bulk_digest=bytes(32)).to_bytes()),
    ),
    "secrets for another epoch": (Stage.ROOTS, "FC-3106", fields(epoch=bytes(32))),
    "a secret too few": (Stage.ROOTS, "FC-3101", with_bulk(lambda boxes: boxes[ROOT_BOX_LENGTH:])),
    "a secret too many": (Stage.ROOTS, "FC-3101", with_bulk(lambda boxes: boxes + boxes[:ROOT_BOX_LENGTH])),
    "secrets that were not signed": (Stage.ROOTS, "FC-3101", with_bulk(lambda boxes: flipped(boxes, 9), signed=False)),
}

BAD_ANSWERS: Mapping[str, BadAnswer] = {
    **{
        f"on the way: {name}": BadAnswer(stage=stage, code=code, make=make, by="carrier")
        for name, (stage, code, make) in ON_THE_WAY.items()
    },
    "on the way: an answer of nobody who was asked": BadAnswer(
        stage=Stage.UPLOAD, code="FC-3104", make=lambda came: came.reply, by="carrier", sender="stranger"
    ),
    **{
        f"by a member: {name}": BadAnswer(stage=stage, code=code, make=make, by="member")
        for name, (stage, code, make) in BY_A_MEMBER.items()
    },
}
