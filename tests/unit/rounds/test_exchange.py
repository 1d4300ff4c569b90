"""The requests of one stage: made and sealed one by one, counted once, kept up to a size."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
import pytest
from consortium import COORDINATOR, keys_of

from fedcredit.envelope import open_request, sign_manifest
from fedcredit.messages import NO_EPOCH, NO_HEAD, Manifest, Request, Signed, Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.exchange import Question, RequestsFor, RoundResult, SealedRequests

NAMES: Final = (InstitutionId("bank-a"), InstitutionId("bank-b"))
MANIFEST: Final = Manifest(
    consortium="credit",
    run="run-1",
    round=1,
    attempt=1,
    purpose="train",
    plan_digest=bytes(32),
    roster_digest=bytes(32),
    weights_digest=bytes(32),
    cohort=NAMES,
    ledger_heads=(NO_HEAD, NO_HEAD),
    quorum=2,
    deadline=1000,
    epoch=NO_EPOCH,
    step=0,
    log_size=0,
    log_root=hashlib.sha256(b"").digest(),
    release=0,
    radii=(),
)
SIGNATURE: Final = sign_manifest(MANIFEST, COORDINATOR)


class Stationery:
    """Makes requests, and remembers for whom."""

    def __init__(self) -> None:
        self.made: list[InstitutionId] = []

    def __call__(self, name: InstitutionId) -> Request:
        self.made.append(name)
        return Request(
            manifest=MANIFEST.to_bytes(),
            signature=SIGNATURE,
            stage="answer",
            answer_length=1024,
            body=f"for {name}".encode(),
            plan=b"",
            roster=b"",
        )


KEYS: Final = {name: keys_of(number) for number, name in enumerate(NAMES, start=1)}


def sealed_by(stationery: Stationery, *, kept_bytes: int = 1 << 20) -> tuple[SealedRequests, RoundResult]:
    result = RoundResult(manifest_digest=MANIFEST.digest(), total=np.zeros(0, dtype=np.int64))
    question = Question(
        manifest=MANIFEST,
        manifest_digest=MANIFEST.digest(),
        stage=Stage.ANSWER,
        requests=RequestsFor(NAMES, stationery),
        kind=Signed,
        take=lambda name, opened: None,
    )
    return SealedRequests(
        question, {name: keys.public for name, keys in KEYS.items()}, result, kept_bytes=kept_bytes
    ), result


def body_in(data: bytes, name: InstitutionId) -> bytes:
    return open_request(
        data, consortium="credit", institution=name, keys=KEYS[name], coordinator=COORDINATOR.public
    ).request.body


def test_nothing_is_made_or_sealed_before_a_transport_asks() -> None:
    stationery = Stationery()
    sealed, result = sealed_by(stationery)
    assert list(sealed) == list(NAMES)
    assert len(sealed) == 2
    assert NAMES[0] in sealed
    assert "a-stranger" not in sealed
    assert not stationery.made
    assert not result.bytes_sent


def test_each_member_gets_its_own_request_and_it_is_counted_once() -> None:
    stationery = Stationery()
    sealed, result = sealed_by(stationery)
    first = dict(sealed.items())
    assert [body_in(first[name], name) for name in NAMES] == [b"for bank-a", b"for bank-b"]
    assert dict(sealed.items()) == first
    assert stationery.made == list(NAMES)
    assert result.bytes_sent == {name: len(data) for name, data in first.items()}
    assert sealed.digest_of(NAMES[1]) == hashlib.sha256(first[NAMES[1]]).digest()


def test_what_is_too_much_to_keep_is_sealed_again_for_the_same_request() -> None:
    sealed, result = sealed_by(Stationery(), kept_bytes=0)
    name = NAMES[0]
    first, second = sealed[name], sealed[name]
    assert first != second
    assert body_in(first, name) == body_in(second, name) == b"for bank-a"
    assert result.bytes_sent == {name: len(first)}
    assert sealed.digest_of(name) == hashlib.sha256(second).digest()


def test_an_answer_to_what_was_never_delivered_meets_the_digest_of_a_request_all_the_same() -> None:
    sealed, _ = sealed_by(Stationery())
    digest = sealed.digest_of(NAMES[0])
    assert digest == hashlib.sha256(sealed[NAMES[0]]).digest()


def test_a_request_to_somebody_who_is_not_asked_does_not_exist() -> None:
    with pytest.raises(KeyError):
        RequestsFor(NAMES, Stationery())[InstitutionId("a-stranger")]
