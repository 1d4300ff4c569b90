from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from fedcredit.crypto.channels import CHANNEL_OVERHEAD, Channel
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SEAL_OVERHEAD, SealContext, seal
from fedcredit.crypto.signatures import sign, sign_lasting
from fedcredit.envelope import (
    ANSWER_TAG,
    MANIFEST_TAG,
    UNREADABLE_LENGTH,
    OpenedAnswer,
    OpenedRequest,
    encode_roster,
    open_answer,
    open_request,
    seal_answer,
    seal_request,
    seal_unreadable,
    sign_manifest,
    verified_manifest,
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
    NO_EPOCH,
    NO_HEAD,
    SCORE_BINS,
    CountsAnswer,
    Manifest,
    Message,
    Refusal,
    Request,
    RoundBody,
    Signed,
    Stage,
    TrainAnswer,
    answer_length,
    pad,
)
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.secagg.wire import Accept, Reveal, Upload


def keys(number: int) -> IdentityKeys:
    seed = bytes([number]) * 64
    return IdentityKeys(signing=seed[:32], signing_post_quantum=seed[:32], kem_classic=seed[:32], kem_post_quantum=seed)


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
    epoch=NO_EPOCH,
    step=0,
    log_size=7,
    log_root=hashlib.sha256(b"log").digest(),
    release=4,
    radii=(),
)
COSIGNATURE = "\u2014 bank c2lnbmF0dXJl"


def body_of(weights: bytes = WEIGHTS) -> bytes:
    return RoundBody(weights=weights, release=b"entry", release_path=(), log_proofs=(), roots=()).to_bytes()


def request_of(manifest: Manifest = MANIFEST, signer: IdentityKeys = COORDINATOR, **changes: Any) -> Request:
    content: dict[str, Any] = {
        "stage": "answer",
        "answer_length": LENGTH,
        "body": body_of(),
        "plan": b"plan",
        "roster": encode_roster(ROSTER),
        **changes,
    }
    return Request(manifest=manifest.to_bytes(), signature=sign_manifest(manifest, signer), **content)


def sealed(request: Request, to: InstitutionId = BANK_ID, owner: IdentityKeys = BANK) -> bytes:
    return seal_request(request, consortium="credit", to=to, identity=owner.public)


SEALED_REQUEST = sealed(request_of())


def opened(data: bytes, institution: InstitutionId = BANK_ID, owner: IdentityKeys = BANK) -> OpenedRequest:
    return open_request(data, consortium="credit", institution=institution, keys=owner, coordinator=COORDINATOR.public)


def answer_of(manifest: Manifest = MANIFEST, lanes: bytes = bytes(20)) -> TrainAnswer:
    return TrainAnswer(manifest_digest=manifest.digest(), ledger_head=NO_HEAD, cosignature=COSIGNATURE, lanes=lanes)


def answered(
    answer: Message,
    manifest: Manifest = MANIFEST,
    by: InstitutionId = BANK_ID,
    signer: IdentityKeys = BANK,
    bulk: bytes = b"",
    channel: Channel | None = None,
    **changes: Any,
) -> bytes:
    question = OpenedRequest(
        manifest=manifest,
        manifest_digest=manifest.digest(),
        request=request_of(manifest, **changes),
        roster=None,
        digest=bytes(32),
        channel=channel,
    )
    return seal_answer(
        answer, opened=question, institution=by, keys=signer, coordinator=COORDINATOR.public, bulk=(bulk,)
    )


def unreadable(answer: Message, by: InstitutionId = BANK_ID, signer: IdentityKeys = BANK) -> bytes:
    # The type says that only a refusal may be sealed like this; the opener must not rely on it.
    return seal_unreadable(
        cast(Refusal, answer), consortium="credit", institution=by, keys=signer, coordinator=COORDINATOR.public
    )


def read(
    data: bytes,
    manifest: Manifest = MANIFEST,
    institution: InstitutionId = BANK_ID,
    owner: IdentityKeys = BANK,
    stage: Stage = Stage.ANSWER,
    kinds: tuple[type[Message], ...] = (TrainAnswer, CountsAnswer),
    channel: Channel | None = None,
) -> OpenedAnswer:
    return open_answer(
        data,
        *kinds,
        manifest=manifest,
        manifest_digest=manifest.digest(),
        stage=stage,
        institution=institution,
        identity=owner.public,
        keys=COORDINATOR,
        request_digest=hashlib.sha256(SEALED_REQUEST).digest(),
        channel=channel,
    )


def accepted(data: bytes, **changes: Any) -> Message:
    return read(data, **changes).answer


def test_a_request_opens_for_the_institution_it_was_sealed_to() -> None:
    request = open_request(
        SEALED_REQUEST, consortium="credit", institution=BANK_ID, keys=BANK, coordinator=COORDINATOR.public
    )
    assert request.manifest == MANIFEST
    assert request.manifest_digest == MANIFEST.digest()
    assert request.round_body().weights == WEIGHTS
    assert request.stage is Stage.ANSWER
    assert request.roster == ROSTER


def test_the_digest_of_a_request_covers_everything_in_it() -> None:
    requests = [
        request_of(),
        request_of(replace(MANIFEST, attempt=2)),
        request_of(stage="upload"),
        request_of(answer_length=LENGTH + 1),
        request_of(body=b""),
        request_of(plan=b""),
        request_of(roster=b""),
    ]
    digests = [opened(sealed(request)).digest for request in requests]
    assert digests == [hashlib.sha256(request.to_bytes()).digest() for request in requests]
    assert len(set(digests)) == len(requests)


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


@pytest.mark.parametrize("index", [0, 32, 63, 64, 1000, -1])
def test_a_manifest_needs_both_signatures_of_the_coordinator(index: int) -> None:
    signature = bytearray(sign_manifest(MANIFEST, COORDINATOR))
    signature[index] ^= 1
    with pytest.raises(BadSignatureError):
        opened(sealed(replace(request_of(), signature=bytes(signature))))
    ours, theirs = sign_manifest(MANIFEST, COORDINATOR), sign_manifest(MANIFEST, FUND)
    for half in (ours[:64] + theirs[64:], theirs[:64] + ours[64:]):
        with pytest.raises(BadSignatureError):
            verified_manifest(MANIFEST.to_bytes(), half, coordinator=COORDINATOR.public)


def test_a_signature_on_another_kind_of_object_serves_no_manifest() -> None:
    body = MANIFEST.to_bytes()
    assert verified_manifest(
        body, sign_lasting(COORDINATOR, tag=MANIFEST_TAG, body=body), coordinator=COORDINATOR.public
    )
    with pytest.raises(BadSignatureError):
        verified_manifest(
            body, sign_lasting(COORDINATOR, tag="fedcredit epoch key 1", body=body), coordinator=COORDINATOR.public
        )


def test_swapped_weights_are_noticed() -> None:
    request = opened(sealed(request_of(body=body_of(bytes(39) + b"\x01"))))
    with pytest.raises(WrongContextError, match="global weights"):
        request.round_body()


def test_junk_in_the_place_of_a_body_is_refused() -> None:
    for junk in (
        b"",
        b"\x01",
        b"\xff",
        body_of() + b"\0",
        Accept(manifest_digest=bytes(32), selection=bytes(32)).to_bytes(),
    ):
        with pytest.raises(MalformedMessageError):
            opened(sealed(request_of(body=junk))).round_body()


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
    {"ledger_heads": (bytes([1]) * 32, NO_HEAD)},
    {"epoch": bytes([1]) * 32},
    {"step": 1},
    {"log_size": 8},
    {"log_root": bytes(32)},
    {"release": 5},
]


@pytest.mark.parametrize("change", OTHER_PLACES, ids=lambda change: next(iter(change)))
def test_an_answer_opens_in_no_other_round(change: dict[str, object]) -> None:
    with pytest.raises(CannotOpenError):
        accepted(answered(answer_of()), manifest=replace(MANIFEST, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.ANSWER])
def test_an_answer_opens_in_no_other_stage(stage: Stage) -> None:
    with pytest.raises(CannotOpenError):
        accepted(answered(answer_of()), stage=stage)
    with pytest.raises(CannotOpenError):
        accepted(answered(answer_of(), stage=str(stage)))


UPLOAD = Upload(
    manifest_digest=MANIFEST.digest(),
    ledger_head=NO_HEAD,
    cosignature=COSIGNATURE,
    commitments=(bytes(32),),
    bulk_digest=hashlib.sha256(b"lanes and boxes").digest(),
)
SECURE_ANSWERS: list[tuple[Stage, Message, bytes]] = [
    (Stage.UPLOAD, UPLOAD, b"lanes and boxes"),
    (Stage.ACCEPT, Accept(manifest_digest=MANIFEST.digest(), selection=bytes(32)), b""),
    (Stage.REVEAL, Reveal(manifest_digest=MANIFEST.digest(), selection=bytes(32), bulk_digest=bytes(32)), b"shares"),
]


@pytest.mark.parametrize(("stage", "answer", "bulk"), SECURE_ANSWERS, ids=lambda part: str(part)[:6])
def test_what_travels_beside_an_answer_comes_back_with_it(stage: Stage, answer: Message, bulk: bytes) -> None:
    result = read(answered(answer, bulk=bulk, stage=str(stage)), stage=stage, kinds=(type(answer),))
    assert (result.answer, result.bulk) == (answer, bulk)
    assert result.signed.body == answer.to_bytes()
    assert result.signed.signature == sign(BANK, tag=ANSWER_TAG, body=answer.to_bytes())


@pytest.mark.parametrize(("stage", "answer", "bulk"), SECURE_ANSWERS, ids=lambda part: str(part)[:6])
def test_an_answer_to_another_question_is_refused(stage: Stage, answer: Message, bulk: bytes) -> None:
    data = answered(answer, bulk=bulk, stage=str(stage))
    for kinds in ((), (TrainAnswer, CountsAnswer)):
        with pytest.raises(MalformedMessageError, match="another question"):
            accepted(data, stage=stage, kinds=kinds)


def test_an_answer_of_an_earlier_stage_in_a_new_seal_is_refused() -> None:
    # Signed by the member, for this very round: only its type tells that it answers another question.
    data = answered(UPLOAD, stage="accept")
    with pytest.raises(MalformedMessageError, match="another question"):
        accepted(data, stage=Stage.ACCEPT, kinds=(Accept,))


def test_an_answer_of_another_manifest_inside_is_refused_in_every_stage() -> None:
    other = replace(MANIFEST, attempt=2).digest()
    for stage, answer, bulk in SECURE_ANSWERS:
        moved = replace(answer, manifest_digest=other)  # type: ignore[type-var]
        with pytest.raises(WrongContextError, match="manifest digest"):
            accepted(answered(moved, bulk=bulk, stage=str(stage)), stage=stage, kinds=(type(answer),))


@pytest.mark.parametrize("length", [0, 15, 100, 500])
def test_an_answer_is_never_cut_to_the_length_that_was_asked_for(length: int) -> None:
    with pytest.raises(MalformedMessageError, match="length"):
        answered(answer_of(lanes=bytes(400)), answer_length=length)


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
        message_type="answer/train/answer",
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
        lambda: TrainAnswer(
            manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, cosignature=COSIGNATURE, lanes=bytes(20)
        ),
        lambda: CountsAnswer(
            manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, cosignature=COSIGNATURE, lanes=bytes(160)
        ),
        lambda: replace(UPLOAD, manifest_digest=REQUEST_DIGEST),
    ],
)
def test_an_institution_that_could_not_read_the_question_cannot_answer_it(make: Callable[[], Message]) -> None:
    answer = make()
    with pytest.raises(MalformedMessageError, match="another question"):
        accepted(unreadable(answer), kinds=(type(answer),))


def test_all_answers_of_a_run_have_one_length() -> None:
    digest = MANIFEST.digest()
    evaluation = replace(MANIFEST, purpose="evaluate")
    lengths = {
        len(answered(answer_of())),
        len(answered(answer_of(lanes=b"\xff" * 20))),
        len(
            answered(
                CountsAnswer(
                    manifest_digest=evaluation.digest(),
                    ledger_head=NO_HEAD,
                    cosignature=COSIGNATURE,
                    lanes=bytes(8 * SCORE_BINS),
                ),
                evaluation,
            )
        ),
        len(answered(Refusal(manifest_digest=digest, ledger_head=NO_HEAD, code="FC-4101"))),
        *(len(answered(answer, bulk=bulk, stage=str(stage))) for stage, answer, bulk in SECURE_ANSWERS),
    }
    assert lengths == {LENGTH + SEAL_OVERHEAD}


def test_the_run_and_the_round_are_not_visible_outside_the_seal() -> None:
    for data in (SEALED_REQUEST, answered(answer_of())):
        assert b"run-1" not in data
        assert MANIFEST.digest() not in data


# --- the channel of an epoch -----------------------------------------------------------------------------------------

CHANNEL, OTHER_CHANNEL = (
    Channel(
        Channel.secret(coordinator=bytes([half]) * 32, member=bytes(32), setup=bytes(32), name="bank"),
        entropy=os.urandom,
    )
    for half in (1, 2)
)
BY_CHANNEL = seal_request(request_of(), consortium="credit", to=BANK_ID, identity=BANK.public, channel=CHANNEL)


def known(*channels: Channel) -> Callable[[bytes], Channel | None]:
    return {channel.tag: channel for channel in channels}.get


def opened_by_channel(
    data: bytes, channels: Callable[[bytes], Channel | None], institution: InstitutionId = BANK_ID
) -> OpenedRequest:
    return open_request(
        data,
        consortium="credit",
        institution=institution,
        keys=BANK,
        coordinator=COORDINATOR.public,
        channels=channels,
    )


def test_a_request_by_channel_opens_and_is_answered_by_the_same_channel() -> None:
    request = opened_by_channel(BY_CHANNEL, known(OTHER_CHANNEL, CHANNEL))
    assert request.channel is CHANNEL
    assert request.manifest == MANIFEST
    # What was asked does not depend on how it was sealed.
    by_key = opened(sealed(request.request))
    assert (by_key.digest, by_key.channel) == (request.digest, None)
    data = seal_answer(answer_of(), opened=request, institution=BANK_ID, keys=BANK, coordinator=COORDINATOR.public)
    assert len(data) == LENGTH + CHANNEL_OVERHEAD
    assert accepted(data, channel=CHANNEL) == answer_of()


def test_a_request_by_channel_opens_with_no_other_channel_and_under_no_other_name() -> None:
    for channels in (known(), known(OTHER_CHANNEL), lambda _: OTHER_CHANNEL):
        with pytest.raises(CannotOpenError):
            opened_by_channel(BY_CHANNEL, channels)
    with pytest.raises(CannotOpenError):
        opened_by_channel(BY_CHANNEL, known(CHANNEL), institution=FUND_ID)
    for index in (-1, 5, len(BY_CHANNEL) // 2):
        flipped = bytearray(BY_CHANNEL)
        flipped[index] ^= 1
        with pytest.raises(SecurityError):
            opened_by_channel(bytes(flipped), known(CHANNEL))


def test_a_channel_does_not_stand_for_the_signatures() -> None:
    forged = seal_request(
        request_of(signer=FUND), consortium="credit", to=BANK_ID, identity=BANK.public, channel=CHANNEL
    )
    with pytest.raises(BadSignatureError):
        opened_by_channel(forged, known(CHANNEL))
    with pytest.raises(BadSignatureError):
        accepted(answered(answer_of(), signer=FUND, channel=CHANNEL), channel=CHANNEL)


@pytest.mark.parametrize("change", OTHER_PLACES, ids=lambda change: next(iter(change)))
def test_an_answer_by_channel_opens_in_no_other_round(change: dict[str, object]) -> None:
    data = answered(answer_of(), channel=CHANNEL)
    assert accepted(data, channel=CHANNEL) == answer_of()
    with pytest.raises(CannotOpenError):
        accepted(data, channel=CHANNEL, manifest=replace(MANIFEST, **change))  # type: ignore[arg-type]


def test_an_answer_opens_only_by_the_way_that_the_question_took() -> None:
    by_channel, by_key = answered(answer_of(), channel=CHANNEL), answered(answer_of())
    for data, channel in ((by_channel, OTHER_CHANNEL), (by_key, CHANNEL)):
        with pytest.raises(CannotOpenError):
            accepted(data, channel=channel)
    with pytest.raises(MalformedMessageError):
        accepted(by_channel)
    with pytest.raises(CannotOpenError):
        accepted(by_channel, channel=CHANNEL, stage=Stage.UPLOAD)


def test_a_request_by_channel_does_not_come_back_as_an_answer() -> None:
    with pytest.raises(CannotOpenError):
        accepted(BY_CHANNEL, channel=CHANNEL)


def test_whoever_has_lost_the_channel_says_so_by_the_long_lived_key() -> None:
    refusal = Refusal(manifest_digest=REQUEST_DIGEST, ledger_head=NO_HEAD, code="FC-3102")
    assert accepted(unreadable(refusal), channel=CHANNEL) == refusal


def test_the_run_and_the_round_are_not_visible_outside_a_channel() -> None:
    for data in (BY_CHANNEL, answered(answer_of(), channel=CHANNEL)):
        assert b"run-1" not in data
        assert MANIFEST.digest() not in data
