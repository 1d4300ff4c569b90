from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SEAL_OVERHEAD, SealContext, seal
from fedcredit.crypto.signatures import sign
from fedcredit.envelope import (
    ANSWER_TAG,
    UNREADABLE_LENGTH,
    encode_roster,
    open_answer,
    open_request,
    seal_answer,
    seal_request,
    seal_unreadable,
    sign_manifest,
)
from fedcredit.errors import (
    BadSignatureError,
    CannotOpenError,
    FedcreditError,
    MalformedMessageError,
    SecurityError,
    WrongContextError,
)
from fedcredit.messages import (
    NO_HEAD,
    SCORE_BINS,
    Answer,
    CountsAnswer,
    Manifest,
    Refusal,
    Request,
    Signed,
    TrainAnswer,
    answer_length,
    pad,
)
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster


def keys(number: int) -> IdentityKeys:
    seed = bytes([number]) * 64
    return IdentityKeys(signing=seed[:32], kem_classic=seed[:32], kem_post_quantum=seed)


COORDINATOR, BANK, FUND = keys(1), keys(2), keys(3)
BANK_ID, FUND_ID = InstitutionId("bank"), InstitutionId("fund")
ROSTER = Roster(
    tuple(
        Member(institution=name, kind=InstitutionType.BANK, public_identity=owner.public.to_bytes())
        for name, owner in ((BANK_ID, BANK), (FUND_ID, FUND))
    )
)
WEIGHTS = bytes(8 * 5)
LENGTH = answer_length(5)
MANIFEST = Manifest(
    consortium="credit",
    run="run-1",
    round=2,
    attempt=1,
    purpose="train",
    plan_digest=hashlib.sha256(b"plan").digest(),
    roster_digest=ROSTER.digest(),
    weights_digest=hashlib.sha256(WEIGHTS).digest(),
    cohort=("bank", "fund"),
    ledger_heads=(NO_HEAD, NO_HEAD),
    quorum=2,
    deadline=1000,
)


def request_of(manifest: Manifest = MANIFEST, signer: IdentityKeys = COORDINATOR, **changes: bytes) -> Request:
    content = {"weights": WEIGHTS, "plan": b"plan", "roster": encode_roster(ROSTER), **changes}
    return Request(manifest=manifest.to_bytes(), signature=sign_manifest(manifest, signer), **content)


def sealed(request: Request, to: InstitutionId = BANK_ID, owner: IdentityKeys = BANK) -> bytes:
    return seal_request(request, consortium="credit", to=to, identity=owner.public)


SEALED_REQUEST = sealed(request_of())


def opened(data: bytes, institution: InstitutionId = BANK_ID, owner: IdentityKeys = BANK) -> object:
    return open_request(data, consortium="credit", institution=institution, keys=owner, coordinator=COORDINATOR.public)


def answer_of(manifest: Manifest = MANIFEST, lanes: bytes = bytes(20)) -> TrainAnswer:
    return TrainAnswer(manifest_digest=manifest.digest(), ledger_head=NO_HEAD, lanes=lanes)


def answered(
    answer: Answer, manifest: Manifest = MANIFEST, by: InstitutionId = BANK_ID, signer: IdentityKeys = BANK
) -> bytes:
    return seal_answer(
        answer, manifest=manifest, institution=by, keys=signer, coordinator=COORDINATOR.public, length=LENGTH
    )


def unreadable(answer: Answer, by: InstitutionId = BANK_ID, signer: IdentityKeys = BANK) -> bytes:
    return seal_unreadable(answer, consortium="credit", institution=by, keys=signer, coordinator=COORDINATOR.public)


def accepted(
    data: bytes, manifest: Manifest = MANIFEST, institution: InstitutionId = BANK_ID, owner: IdentityKeys = BANK
) -> Answer:
    return open_answer(
        data,
        manifest=manifest,
        manifest_digest=manifest.digest(),
        institution=institution,
        identity=owner.public,
        keys=COORDINATOR,
        request=SEALED_REQUEST,
    )


def test_a_request_opens_for_the_institution_it_was_sealed_to() -> None:
    request = open_request(
        SEALED_REQUEST, consortium="credit", institution=BANK_ID, keys=BANK, coordinator=COORDINATOR.public
    )
    assert request.manifest == MANIFEST
    assert request.manifest_digest == MANIFEST.digest()
    assert request.request.weights == WEIGHTS
    assert request.roster == ROSTER


def test_a_brief_request_carries_neither_plan_nor_roster() -> None:
    request = open_request(
        sealed(request_of(plan=b"", roster=b"")),
        consortium="credit",
        institution=BANK_ID,
        keys=BANK,
        coordinator=COORDINATOR.public,
    )
    assert request.roster is None


def test_a_request_opens_with_no_other_key_and_under_no_other_name() -> None:
    with pytest.raises(CannotOpenError):
        opened(SEALED_REQUEST, owner=FUND)
    with pytest.raises(CannotOpenError):
        opened(SEALED_REQUEST, institution=FUND_ID)
    with pytest.raises(CannotOpenError):
        open_request(SEALED_REQUEST, consortium="other", institution=BANK_ID, keys=BANK, coordinator=COORDINATOR.public)


def test_a_manifest_that_somebody_else_signed_is_refused() -> None:
    with pytest.raises(BadSignatureError):
        opened(sealed(request_of(signer=FUND)))


def test_a_signature_serves_its_own_manifest_only() -> None:
    other = replace(MANIFEST, round=3)
    with pytest.raises(BadSignatureError):
        opened(sealed(replace(request_of(), manifest=other.to_bytes())))


def test_a_manifest_of_another_consortium_is_refused_although_the_coordinator_signed_it() -> None:
    with pytest.raises(WrongContextError, match="consortium"):
        opened(sealed(request_of(replace(MANIFEST, consortium="other"))))


def test_swapped_weights_are_noticed() -> None:
    with pytest.raises(WrongContextError, match="global weights"):
        opened(sealed(request_of(weights=bytes(39) + b"\x01")))


def test_a_swapped_roster_is_noticed() -> None:
    fewer = Roster(ROSTER.members[:1])
    with pytest.raises(WrongContextError, match="roster"):
        opened(sealed(request_of(roster=encode_roster(fewer))))


def test_junk_in_the_place_of_a_roster_is_refused() -> None:
    for junk in (b"\x01", b"\xff", b"\x81\xa1\x64kind\x80"):
        with pytest.raises(MalformedMessageError):
            opened(sealed(request_of(roster=junk)))


def test_an_answer_opens_in_its_round() -> None:
    assert accepted(answered(answer_of())) == answer_of()


OTHER_PLACES: list[dict[str, object]] = [
    {"run": "run-2"},
    {"round": 3},
    {"attempt": 2},
    {"purpose": "evaluate"},
    {"consortium": "other"},
    {"weights_digest": bytes(32)},
    {"plan_digest": bytes(32)},
    {"roster_digest": bytes(32)},
    {"cohort": ("bank",)},
    {"quorum": 1},
    {"deadline": 1001},
]


@pytest.mark.parametrize("change", OTHER_PLACES, ids=lambda change: next(iter(change)))
def test_an_answer_opens_in_no_other_round(change: dict[str, object]) -> None:
    with pytest.raises(CannotOpenError):
        accepted(answered(answer_of()), manifest=replace(MANIFEST, **change))  # type: ignore[arg-type]


def test_an_answer_opens_for_no_other_sender() -> None:
    with pytest.raises(CannotOpenError):
        accepted(answered(answer_of()), institution=FUND_ID, owner=FUND)


def test_a_member_cannot_answer_in_the_name_of_another() -> None:
    # HPKE base mode lets everybody seal in the bank's context; only the signature tells who wrote it.
    forged = answered(answer_of(), by=BANK_ID, signer=FUND)
    with pytest.raises(BadSignatureError):
        accepted(forged)


def test_an_old_signed_answer_in_a_new_seal_is_refused() -> None:
    # Whoever can open the coordinator's mail can take out a signed answer and seal it again for a later round.
    body = answer_of(replace(MANIFEST, round=1)).to_bytes()
    signed = Signed(body=body, signature=sign(BANK, tag=ANSWER_TAG, body=body)).to_bytes()
    context = SealContext(
        consortium=MANIFEST.consortium,
        run=MANIFEST.run,
        round_number=MANIFEST.round,
        attempt=MANIFEST.attempt,
        message_type="answer/train",
        sender="bank",
        recipient="coordinator",
        manifest_digest=MANIFEST.digest(),
    )
    with pytest.raises(WrongContextError, match="manifest digest"):
        accepted(seal(pad(signed, length=LENGTH), recipient=COORDINATOR.public, context=context))


def test_no_flipped_bit_is_accepted() -> None:
    data = answered(answer_of())
    for place in (0, 1, 2, 1000, 1125, SEAL_OVERHEAD, len(data) // 2, len(data) - 17, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(FedcreditError):
            accepted(bytes(changed))


@pytest.mark.parametrize("cut", [0, 1, 100, SEAL_OVERHEAD - 1, SEAL_OVERHEAD, -1])
def test_no_shortened_answer_is_accepted(cut: int) -> None:
    with pytest.raises(SecurityError):
        accepted(answered(answer_of())[:cut])


def test_a_request_does_not_come_back_as_an_answer() -> None:
    with pytest.raises(CannotOpenError):
        accepted(SEALED_REQUEST)


REQUEST_DIGEST = hashlib.sha256(SEALED_REQUEST).digest()


def test_the_refusal_of_a_request_that_did_not_open_is_read() -> None:
    refusal = Refusal(manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, code="FC-3102")
    data = unreadable(refusal)
    assert len(data) == UNREADABLE_LENGTH + SEAL_OVERHEAD
    assert accepted(data) == refusal


def test_the_refusal_of_another_request_is_not_read() -> None:
    with pytest.raises(CannotOpenError):
        accepted(
            unreadable(Refusal(manifest_digest=hashlib.sha256(b"other").digest(), ledger_head=NO_HEAD, code="FC-3102"))
        )


def test_nobody_refuses_in_the_name_of_another() -> None:
    with pytest.raises(BadSignatureError):
        accepted(unreadable(Refusal(manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, code="FC-3102"), signer=FUND))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TrainAnswer(manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, lanes=bytes(20)),
        lambda: CountsAnswer(manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, lanes=bytes(160)),
    ],
)
def test_an_institution_that_could_not_read_the_question_cannot_answer_it(make: Callable[[], Answer]) -> None:
    with pytest.raises(WrongContextError, match="type"):
        accepted(unreadable(make()))


def test_all_answers_of_a_run_have_one_length() -> None:
    digest = MANIFEST.digest()
    evaluation = replace(MANIFEST, purpose="evaluate")
    lengths = {
        len(answered(answer_of())),
        len(answered(answer_of(lanes=b"\xff" * 20))),
        len(
            answered(
                CountsAnswer(manifest_digest=evaluation.digest(), ledger_head=NO_HEAD, lanes=bytes(8 * SCORE_BINS)),
                evaluation,
            )
        ),
        len(answered(Refusal(manifest_digest=digest, ledger_head=NO_HEAD, code="FC-4101"))),
    }
    assert lengths == {LENGTH + SEAL_OVERHEAD}


def test_the_run_and_the_round_are_not_visible_outside_the_seal() -> None:
    for data in (SEALED_REQUEST, answered(answer_of())):
        assert b"run-1" not in data
        assert MANIFEST.digest() not in data
