"""Requests and answers as sealed, signed bytes: the one place where messages and cryptography meet.

A request is sealed to one institution; its manifest carries the coordinator's signature, and every other part is bound
to the manifest by a digest. An answer is signed by the institution, padded, and sealed to the coordinator's pinned key
in the context of exactly this round, so it opens nowhere else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.sealing import SealContext, open_sealed, seal
from fedcredit.crypto.signatures import sign, verify
from fedcredit.encoding import decode, encode
from fedcredit.errors import CannotOpenError, WrongContextError
from fedcredit.messages import MAX_MESSAGE_BYTES, Answer, Manifest, Refusal, Request, Signed, decode_answer, pad, unpad
from fedcredit.parties import COORDINATOR, InstitutionId, Roster

MANIFEST_TAG: Final = "fedcredit manifest 1"
ANSWER_TAG: Final = "fedcredit answer 1"
UNREADABLE_LENGTH: Final = 1024
"""Plaintext length of an answer to a request that did not open, whose plan is therefore unknown."""


@dataclass(frozen=True, kw_only=True)
class OpenedRequest:
    """A request whose signature and digests hold."""

    manifest: Manifest
    manifest_digest: bytes
    request: Request
    roster: Roster | None


def sign_manifest(manifest: Manifest, keys: IdentityKeys) -> bytes:
    """Return the coordinator's signature; one signature serves all institutions of the round."""
    return sign(keys, tag=MANIFEST_TAG, body=manifest.to_bytes())


def seal_request(request: Request, *, consortium: str, to: InstitutionId, identity: PublicIdentity) -> bytes:
    """Return the bytes for one institution. Run and round stay inside: the relay learns sizes and times only."""
    return seal(request.to_bytes(), recipient=identity, context=_request_context(consortium, to))


def open_request(
    data: bytes, *, consortium: str, institution: InstitutionId, keys: IdentityKeys, coordinator: PublicIdentity
) -> OpenedRequest:
    """Open and verify a request.

    Raises:
        CannotOpenError: it is not sealed to this institution in this consortium.
        BadSignatureError: its manifest is not signed by the pinned coordinator.
        WrongContextError: weights, plan or roster are not the ones that the manifest names.
        MalformedMessageError: any part does not decode.
    """
    plaintext = open_sealed(data, keys=keys, context=_request_context(consortium, institution))
    request = Request.from_bytes(plaintext)
    verify(
        coordinator,
        tag=MANIFEST_TAG,
        body=request.manifest,
        signature=request.signature,
        signer=COORDINATOR,
        what="round manifest",
    )
    manifest = _decode_manifest(request.manifest)
    if manifest.consortium != consortium:
        raise WrongContextError(what="round manifest", field="consortium")
    if hashlib.sha256(request.weights).digest() != manifest.weights_digest:
        raise WrongContextError(what="request", field="global weights")
    roster = None
    if request.roster:
        roster = decode_roster(request.roster)
        if roster.digest() != manifest.roster_digest:
            raise WrongContextError(what="request", field="roster")
    return OpenedRequest(
        manifest=manifest,
        manifest_digest=hashlib.sha256(request.manifest).digest(),
        request=request,
        roster=roster,
    )


def encode_roster(roster: Roster) -> bytes:
    """Return the roster as it travels in a request."""
    return encode(roster.to_value())


@lru_cache(maxsize=8)
def _decode_manifest(data: bytes) -> Manifest:
    """Decode a manifest; in one process all institutions of a round get the same bytes."""
    return Manifest.from_bytes(data)


@lru_cache(maxsize=8)
def decode_roster(data: bytes) -> Roster:
    """Decode a roster; the same bytes come in every first request of a run."""
    return Roster.from_value(decode(data, what="roster", limit=MAX_MESSAGE_BYTES))


def seal_answer(
    answer: Answer,
    *,
    manifest: Manifest,
    institution: InstitutionId,
    keys: IdentityKeys,
    coordinator: PublicIdentity,
    length: int,
) -> bytes:
    """Return one institution's answer for one round, padded to the run's ``length``."""
    context = _answer_context(manifest, answer.manifest_digest, institution)
    return _seal_signed(answer, context, keys=keys, coordinator=coordinator, length=length)


def open_answer(
    data: bytes,
    *,
    manifest: Manifest,
    manifest_digest: bytes,
    institution: InstitutionId,
    identity: PublicIdentity,
    keys: IdentityKeys,
    request: bytes,
) -> Answer:
    """Open the answer of ``institution`` to this round, or its refusal of a request that it could not open.

    Raises:
        CannotOpenError: it is for another round, another run or another key, or was changed.
        BadSignatureError: it is not signed with the key that the roster gives the institution.
        WrongContextError: it names another manifest inside.
    """
    unreadable = hashlib.sha256(request).digest()
    try:
        plaintext = open_sealed(data, keys=keys, context=_answer_context(manifest, manifest_digest, institution))
        expected = manifest_digest
    except CannotOpenError:
        context = _unreadable_context(manifest.consortium, unreadable, institution)
        plaintext = open_sealed(data, keys=keys, context=context)
        expected = unreadable
    signed = Signed.from_bytes(unpad(plaintext, what="answer"))
    verify(identity, tag=ANSWER_TAG, body=signed.body, signature=signed.signature, signer=institution, what="answer")
    answer = decode_answer(signed.body)
    if expected == unreadable and not isinstance(answer, Refusal):
        raise WrongContextError(what="answer", field="type")
    if answer.manifest_digest != expected:
        raise WrongContextError(what="answer", field="manifest digest")
    return answer


def seal_unreadable(
    answer: Answer, *, consortium: str, institution: InstitutionId, keys: IdentityKeys, coordinator: PublicIdentity
) -> bytes:
    """Return the refusal of a request that did not open; ``answer.manifest_digest`` is SHA-256 of its bytes."""
    context = _unreadable_context(consortium, answer.manifest_digest, institution)
    return _seal_signed(answer, context, keys=keys, coordinator=coordinator, length=UNREADABLE_LENGTH)


def _seal_signed(
    answer: Answer, context: SealContext, *, keys: IdentityKeys, coordinator: PublicIdentity, length: int
) -> bytes:
    body = answer.to_bytes()
    signed = Signed(body=body, signature=sign(keys, tag=ANSWER_TAG, body=body)).to_bytes()
    return seal(pad(signed, length=length), recipient=coordinator, context=context)


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


def _answer_context(manifest: Manifest, manifest_digest: bytes, sender: InstitutionId) -> SealContext:
    return SealContext(
        consortium=manifest.consortium,
        run=manifest.run,
        round_number=manifest.round,
        attempt=manifest.attempt,
        message_type=f"answer/{manifest.purpose}",
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
