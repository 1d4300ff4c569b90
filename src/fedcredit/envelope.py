"""Requests and answers as sealed, signed bytes: the one place where messages and cryptography meet.

A request is sealed to one institution; its manifest carries the coordinator's signatures, and every other part is bound
to the manifest by a digest. An answer is signed by the institution, padded, and sealed to the coordinator's pinned key
in the context of exactly this round and stage, so it opens nowhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fedcredit.crypto.channels import Channel, channel_tag
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.sealing import SealContext, open_sealed, seal
from fedcredit.crypto.signatures import sign, sign_lasting, verify, verify_lasting
from fedcredit.encoding import Buffer, decode, encode
from fedcredit.errors import CannotOpenError, MalformedMessageError, WrongContextError
from fedcredit.messages import (
    MAX_MESSAGE_BYTES,
    Manifest,
    Message,
    Refusal,
    Request,
    RoundBody,
    Signed,
    Stage,
    decode_answer,
    frame,
    unpad,
)
from fedcredit.parties import COORDINATOR, InstitutionId, Roster

MANIFEST_TAG: Final = "fedcredit manifest 2"
ANSWER_TAG: Final = "fedcredit answer 1"
_SMALL_BODY: Final = 256 * 1024
"""Longest body that is kept decoded: a large model would stay in memory for nothing."""
UNREADABLE_LENGTH: Final = 1024
"""Plaintext length of an answer to a request that did not open, whose plan is therefore unknown."""


@dataclass(frozen=True, kw_only=True)
class OpenedRequest:
    """A request whose signatures and digests hold."""

    manifest: Manifest
    manifest_digest: bytes
    request: Request
    roster: Roster | None
    digest: bytes
    """Of everything in the request: the same request is answered with the same bytes."""
    channel: Channel | None
    """What it was sealed with, and its answer will be; ``None`` for the recipient's long-lived key."""

    @property
    def stage(self) -> Stage:
        """Return what is asked for."""
        return Stage(self.request.stage)

    def round_body(self) -> RoundBody:
        """Return the first stage's content, whose weights are those of the manifest.

        Raises:
            WrongContextError: the weights are others.
            MalformedMessageError: it does not decode.
        """
        body = _decode_round_body(self.request.body)
        if hashlib.sha256(body.weights).digest() != self.manifest.weights_digest:
            raise WrongContextError(what="request", field="global weights")
        return body


@dataclass(frozen=True, kw_only=True)
class OpenedAnswer:
    """An answer whose signature holds; the bulk data beside it is bound by a digest that its type names."""

    answer: Message
    bulk: memoryview
    signed: Signed


def sign_manifest(manifest: Manifest, keys: IdentityKeys) -> bytes:
    """Return the coordinator's signatures; they serve all institutions and stages of the round."""
    return sign_lasting(keys, tag=MANIFEST_TAG, body=manifest.to_bytes())


def seal_request(
    request: Request,
    *,
    consortium: str,
    to: InstitutionId,
    identity: PublicIdentity,
    channel: Channel | None = None,
) -> bytes:
    """Return the bytes for one institution. Run and round stay inside: the relay learns sizes and times only.

    They are sealed to the institution's long-lived key, or with the channel that an epoch's set-up has made.
    """
    context = _request_context(consortium, to)
    if channel is not None:
        return channel.seal_down(request.to_bytes(), context=context)
    return seal(request.to_bytes(), recipient=identity, context=context)


def open_request(
    data: bytes,
    *,
    consortium: str,
    institution: InstitutionId,
    keys: IdentityKeys,
    coordinator: PublicIdentity,
    channels: Callable[[bytes], Channel | None] = lambda _: None,
) -> OpenedRequest:
    """Open and verify a request; ``channels`` finds one by its tag.

    Raises:
        CannotOpenError: it is not sealed to this institution in this consortium.
        BadSignatureError: its manifest is not signed by the pinned coordinator.
        WrongContextError: the roster is not the one that the manifest names, or the consortium is another.
        MalformedMessageError: any part does not decode.
    """
    context, tag, channel = _request_context(consortium, institution), channel_tag(data), None
    if tag is None:
        plaintext = open_sealed(data, keys=keys, context=context)
    else:
        channel = channels(tag)
        if channel is None:
            raise CannotOpenError(sender=COORDINATOR)
        plaintext = bytes(channel.open_down(data, context=context))
    request = Request.from_bytes(plaintext)
    manifest, manifest_digest = _verified(request.manifest, request.signature, coordinator)
    if manifest.consortium != consortium:
        raise WrongContextError(what="round manifest", field="consortium")
    roster = None
    if request.roster:
        roster = decode_roster(request.roster)
        if roster.digest() != manifest.roster_digest:
            raise WrongContextError(what="request", field="roster")
    return OpenedRequest(
        manifest=manifest,
        manifest_digest=manifest_digest,
        request=request,
        roster=roster,
        digest=hashlib.sha256(plaintext).digest(),
        channel=channel,
    )


def verified_manifest(data: bytes, signature: bytes, *, coordinator: PublicIdentity) -> Manifest:
    """Return the manifest that the coordinator signed with both of its long-lived keys.

    Raises:
        BadSignatureError: it did not sign these bytes.
        MalformedMessageError: they do not decode.
    """
    return _verified(data, signature, coordinator)[0]


@lru_cache(maxsize=8)
def _verified(data: bytes, signature: bytes, coordinator: PublicIdentity) -> tuple[Manifest, bytes]:
    """Return a manifest and its digest; in one process all institutions of a round get the same bytes.

    What is kept is exactly what was verified, by exactly this key; what failed raises, and is computed every time.
    """
    verify_lasting(
        coordinator, tag=MANIFEST_TAG, body=data, signature=signature, signer=COORDINATOR, what="round manifest"
    )
    return Manifest.from_bytes(data), hashlib.sha256(data).digest()


def encode_roster(roster: Roster) -> bytes:
    """Return the roster as it travels in a request."""
    return encode(roster.to_value())


def _decode_round_body(data: bytes) -> RoundBody:
    return _decode_small_round_body(data) if len(data) <= _SMALL_BODY else RoundBody.from_bytes(data)


@lru_cache(maxsize=4)
def _decode_small_round_body(data: bytes) -> RoundBody:
    """Decode what a round begins with; in one process all institutions that know the epoch's keys get the same."""
    return RoundBody.from_bytes(data)


@lru_cache(maxsize=8)
def decode_roster(data: bytes) -> Roster:
    """Decode a roster; the same bytes come in every first request of a run."""
    return Roster.from_value(decode(data, what="roster", limit=MAX_MESSAGE_BYTES))


def seal_answer(
    answer: Message,
    *,
    opened: OpenedRequest,
    institution: InstitutionId,
    keys: IdentityKeys,
    coordinator: PublicIdentity,
    bulk: Sequence[Buffer] = (),
) -> bytes:
    """Return one institution's answer to one request, padded to the length that all answers of the stage have.

    The parts of ``bulk`` are sealed one after the other, and copied nowhere else in a channel.

    Raises:
        MalformedMessageError: the coordinator asks for a length into which the answer does not fit.
    """
    context = _answer_context(opened.manifest, opened.manifest_digest, opened.stage, institution)
    framed = _framed(answer, keys=keys, length=opened.request.answer_length, bulk=bulk)
    if opened.channel is not None:
        return opened.channel.seal_up(*framed, context=context)
    return seal(b"".join(framed), recipient=coordinator, context=context)


def open_answer(
    data: bytes,
    *kinds: type[Message],
    manifest: Manifest,
    manifest_digest: bytes,
    stage: Stage,
    institution: InstitutionId,
    identity: PublicIdentity,
    keys: IdentityKeys,
    request_digest: bytes,
    channel: Channel | None = None,
) -> OpenedAnswer:
    """Open the answer of ``institution`` in this stage, one of ``kinds`` or a ``Refusal``.

    ``request_digest`` is SHA-256 of the sealed request: who could not open that names it so.

    Raises:
        CannotOpenError: it is for another stage, round, run or key, or was changed.
        BadSignatureError: it is not signed with the key that the roster gives the institution.
        WrongContextError: a refusal names another manifest inside.
        MalformedMessageError: it answers another question.
    """
    try:
        context = _answer_context(manifest, manifest_digest, stage, institution)
        plaintext: Buffer = (
            open_sealed(data, keys=keys, context=context) if channel is None else channel.open_up(data, context=context)
        )
        expected, allowed = manifest_digest, kinds
    except CannotOpenError:
        if channel_tag(data) is not None:
            raise  # whoever could not open the request answers with the long-lived key
        context = _unreadable_context(manifest.consortium, request_digest, institution)
        plaintext = open_sealed(data, keys=keys, context=context)
        expected, allowed = request_digest, ()
    content, bulk = unpad(plaintext, what="answer")
    signed = Signed.from_bytes(content)
    verify(identity, tag=ANSWER_TAG, body=signed.body, signature=signed.signature, signer=institution, what="answer")
    answer = decode_answer(signed.body, *allowed, Refusal)
    if getattr(answer, "manifest_digest", expected) != expected:
        raise WrongContextError(what="answer", field="manifest digest")
    return OpenedAnswer(answer=answer, bulk=bulk, signed=signed)


def seal_unreadable(
    answer: Refusal, *, consortium: str, institution: InstitutionId, keys: IdentityKeys, coordinator: PublicIdentity
) -> bytes:
    """Return the refusal of a request that did not open; ``answer.manifest_digest`` is SHA-256 of its bytes."""
    context = _unreadable_context(consortium, answer.manifest_digest, institution)
    framed = _framed(answer, keys=keys, length=UNREADABLE_LENGTH, bulk=())
    return seal(b"".join(framed), recipient=coordinator, context=context)


def _framed(answer: Message, *, keys: IdentityKeys, length: int, bulk: Sequence[Buffer]) -> tuple[Buffer, ...]:
    body = answer.to_bytes()
    signed = Signed(body=body, signature=sign(keys, tag=ANSWER_TAG, body=body)).to_bytes()
    try:
        return frame(signed, bulk=bulk, length=length)
    except ValueError as error:
        raise MalformedMessageError(what="request", problem="no answer has the length that it asks for") from error


def _request_context(consortium: str, to: InstitutionId) -> SealContext:
    return SealContext(
        consortium=consortium,
        run="",
        round_number=0,
        attempt=0,
        message_type="request",
        sender=COORDINATOR,
        recipient=to,
        manifest_digest=bytes(32),
    )


def _answer_context(manifest: Manifest, manifest_digest: bytes, stage: Stage, sender: InstitutionId) -> SealContext:
    return SealContext(
        consortium=manifest.consortium,
        run=manifest.run,
        round_number=manifest.round,
        attempt=manifest.attempt,
        message_type=f"answer/{manifest.purpose}/{stage}",
        sender=sender,
        recipient=COORDINATOR,
        manifest_digest=manifest_digest,
    )


def _unreadable_context(consortium: str, request_digest: bytes, sender: InstitutionId) -> SealContext:
    return SealContext(
        consortium=consortium,
        run="",
        round_number=0,
        attempt=0,
        message_type="answer/unreadable",
        sender=sender,
        recipient=COORDINATOR,
        manifest_digest=request_digest,
    )
