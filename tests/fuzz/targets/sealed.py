"""Sealed bytes: as they arrive, and what a stranger or a dishonest party puts inside a good seal."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from fuzz.harness import chosen, one_of
from fuzz.keys import keys_of, roster_of
from fuzz.samples import sample

from fedcredit.crypto.sealing import SealContext, open_sealed, seal
from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG, open_answer, open_request, sign_manifest
from fedcredit.messages import Manifest, Refusal, Request, Signed, Stage, TrainAnswer, pad
from fedcredit.parties import COORDINATOR, institution_id

_BANK: Final = institution_id("bank-a")
_COORDINATOR, _MEMBER = keys_of(1), keys_of(2)
_ROSTER: Final = roster_of("bank-a", "bank-b")
_MANIFEST: Final[Manifest] = sample(
    Manifest, consortium="credit", purpose="train", roster_digest=hashlib.sha256(_ROSTER).digest()
)

_PLAIN: Final[Request] = sample(Request, stage=str(Stage.ANSWER))


def _context(message_type: str, sender: str, recipient: str, *, manifest: Manifest | None) -> SealContext:
    return SealContext(
        consortium="credit",
        run=manifest.run if manifest else "",
        round_number=manifest.round if manifest else 0,
        attempt=manifest.attempt if manifest else 0,
        message_type=message_type,
        sender=sender,
        recipient=recipient,
        manifest_digest=manifest.digest() if manifest else bytes(32),
    )


_ASKING: Final = _context("request", COORDINATOR, _BANK, manifest=None)
_ANSWERING: Final = _context(f"answer/train/{Stage.ANSWER}", _BANK, COORDINATOR, manifest=_MANIFEST)


def _open(data: bytes) -> None:
    open_sealed(data, keys=_MEMBER, context=_ASKING)


def _request(data: bytes) -> None:
    open_request(data, consortium="credit", institution=_BANK, keys=_MEMBER, coordinator=_COORDINATOR.public)


def _request_inside(data: bytes) -> None:
    _request(seal(data, recipient=_MEMBER.public, context=_ASKING))


def _request_signed(data: bytes) -> None:
    # Two bytes for the length of the manifest, the manifest, the roster: the signature is good, so that what a
    # dishonest coordinator says is reached.
    size = int.from_bytes(data[:2], "big")
    manifest, roster = data[2 : 2 + size], data[2 + size :]
    _request_inside(_asked(Manifest.from_bytes(manifest), roster=roster))


def _asked(manifest: Manifest, *, roster: bytes) -> bytes:
    signature = sign_manifest(manifest, _COORDINATOR)
    return replace(_PLAIN, manifest=manifest.to_bytes(), signature=signature, roster=roster).to_bytes()


def _answer(data: bytes) -> None:
    open_answer(
        data,
        TrainAnswer,
        manifest=_MANIFEST,
        manifest_digest=_MANIFEST.digest(),
        stage=Stage.ANSWER,
        institution=_BANK,
        identity=_MEMBER.public,
        keys=_COORDINATOR,
        request_digest=hashlib.sha256(b"request").digest(),
    )


def _answer_inside(data: bytes) -> None:
    _answer(seal(data, recipient=_COORDINATOR.public, context=_ANSWERING))


def _answer_signed(data: bytes) -> None:
    _answer_inside(_signed(data))


def _signed(body: bytes) -> bytes:
    signed = Signed(body=body, signature=sign(_MEMBER, tag=ANSWER_TAG, body=body)).to_bytes()
    return pad(signed, length=len(signed) + 16)


MUTATIONS = 1_000
TARGET = one_of(_open, _request, _request_inside, _request_signed, _answer, _answer_inside, _answer_signed)


def seeds() -> dict[str, bytes]:
    """Return one input that each of the seven accepts."""
    request, manifest = _asked(_MANIFEST, roster=_ROSTER), _MANIFEST.to_bytes()
    answer = sample(Refusal, manifest_digest=_MANIFEST.digest()).to_bytes()
    update = sample(TrainAnswer, manifest_digest=_MANIFEST.digest()).to_bytes()
    return {
        "seal": chosen(0, seal(b"plain", recipient=_MEMBER.public, context=_ASKING)),
        "request": chosen(1, seal(request, recipient=_MEMBER.public, context=_ASKING)),
        "request-inside": chosen(2, request),
        "request-signed": chosen(3, len(manifest).to_bytes(2, "big") + manifest + _ROSTER),
        "answer": chosen(4, seal(_signed(answer), recipient=_COORDINATOR.public, context=_ANSWERING)),
        "answer-inside": chosen(5, _signed(update)),
        "answer-signed": chosen(6, answer),
    }
