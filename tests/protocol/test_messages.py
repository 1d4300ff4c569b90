from __future__ import annotations

import contextlib
import json
import runpy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cbor2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit import enrolment, messages
from fedcredit.enrolment import Invitation, JoinRequest
from fedcredit.errors import FedcreditError, MalformedMessageError
from fedcredit.messages import (
    LANE_LIMIT,
    LASTING_SIGNATURE_LENGTH,
    MAX_MESSAGE_BYTES,
    WEIGHT_LIMIT,
    WIRE_VERSION,
    CloseAnswer,
    CountsAnswer,
    LogProof,
    Manifest,
    Message,
    Purpose,
    Refusal,
    Request,
    RoundBody,
    Signed,
    Stage,
    TrainAnswer,
    answer_length,
    box_length,
    decode_answer,
    from_lanes,
    pad,
    padded_length,
    sorted_cohort,
    to_lanes,
    unpad,
    upload_length,
    weights_from_bytes,
    weights_to_bytes,
)
from fedcredit.parties import InstitutionType
from fedcredit.secagg import wire
from fedcredit.secagg.wire import (
    Accept,
    AcceptBody,
    EpochBoxes,
    EpochHello,
    EpochKey,
    KeysBody,
    Reveal,
    RevealBody,
    RootsBody,
    Selection,
    Upload,
)

FOLDER = Path(__file__).parent
VECTORS = json.loads((FOLDER / "vectors" / "messages.json").read_text(encoding="utf-8"))
SCRIPT = runpy.run_path(str(FOLDER / "make_message_vectors.py"))

TEXT = st.text(alphabet=st.characters(codec="ascii"), min_size=1, max_size=41)
COUNT = st.integers(0, 2**53)
DIGEST = st.binary(min_size=32, max_size=32)
SIGNATURE = st.binary(min_size=64, max_size=64)
LASTING_SIGNATURE = SIGNATURE.map(lambda start: start.ljust(LASTING_SIGNATURE_LENGTH, b"s"))
BYTES = st.binary(max_size=40)
NAMES = st.lists(TEXT, max_size=4, unique=True).map(sorted_cohort)
DIGESTS = st.lists(DIGEST, max_size=4).map(tuple)
SIGNATURES = st.lists(SIGNATURE, max_size=3).map(tuple)
SEVERAL = st.lists(BYTES, max_size=3).map(tuple)
STRATEGIES: dict[type[Message], st.SearchStrategy[Message]] = {
    Manifest: st.builds(
        Manifest,
        consortium=TEXT,
        run=TEXT,
        round=COUNT,
        attempt=COUNT,
        purpose=st.sampled_from([str(purpose) for purpose in Purpose]),
        plan_digest=DIGEST,
        roster_digest=DIGEST,
        weights_digest=DIGEST,
        cohort=NAMES,
        ledger_heads=DIGESTS,
        quorum=COUNT,
        deadline=COUNT,
        epoch=DIGEST,
        step=COUNT,
        log_size=COUNT,
        log_root=DIGEST,
        release=COUNT,
        radii=st.lists(COUNT, max_size=6).map(tuple),
    ),
    Request: st.builds(
        Request,
        manifest=BYTES,
        signature=LASTING_SIGNATURE,
        stage=st.sampled_from([str(stage) for stage in Stage]),
        answer_length=st.integers(0, MAX_MESSAGE_BYTES),
        body=BYTES,
        plan=BYTES,
        roster=BYTES,
    ),
    LogProof: st.builds(LogProof, size=COUNT, path=DIGESTS),
    RoundBody: st.builds(
        RoundBody, weights=BYTES, release=BYTES, release_path=DIGESTS, log_proofs=SEVERAL, roots=SEVERAL
    ),
    TrainAnswer: st.builds(TrainAnswer, manifest_digest=DIGEST, ledger_head=DIGEST, cosignature=TEXT, lanes=BYTES),
    CountsAnswer: st.builds(CountsAnswer, manifest_digest=DIGEST, ledger_head=DIGEST, cosignature=TEXT, lanes=BYTES),
    CloseAnswer: st.builds(
        CloseAnswer,
        manifest_digest=DIGEST,
        ledger_head=DIGEST,
        cosignature=TEXT,
        vote=st.sampled_from(["yes", "no", "abstain", "none"]),
        reason=st.text(min_size=1, max_size=40),
    ),
    Refusal: st.builds(
        Refusal, manifest_digest=DIGEST, ledger_head=DIGEST, code=st.integers(0, 9999).map("FC-{:04}".format)
    ),
    Signed: st.builds(Signed, body=BYTES, signature=SIGNATURE),
    EpochKey: st.builds(
        EpochKey,
        setup=DIGEST,
        member=TEXT,
        key=DIGEST.map(lambda start: start.ljust(1216, b"k")),
        signature=LASTING_SIGNATURE,
    ),
    EpochHello: st.builds(EpochHello, manifest_digest=DIGEST, key=BYTES, channel=DIGEST),
    EpochBoxes: st.builds(EpochBoxes, epoch=DIGEST, bulk_digest=DIGEST),
    Upload: st.builds(
        Upload,
        manifest_digest=DIGEST,
        ledger_head=DIGEST,
        cosignature=TEXT,
        commitments=DIGESTS,
        bulk_digest=DIGEST,
    ),
    Selection: st.builds(Selection, manifest_digest=DIGEST, members=NAMES, uploads=DIGESTS, signatures=SIGNATURES),
    Accept: st.builds(Accept, manifest_digest=DIGEST, selection=DIGEST),
    Reveal: st.builds(Reveal, manifest_digest=DIGEST, selection=DIGEST, bulk_digest=DIGEST),
    KeysBody: st.builds(KeysBody, channel=DIGEST),
    RootsBody: st.builds(RootsBody, keys=SEVERAL),
    AcceptBody: st.builds(AcceptBody, selection=BYTES, signature=SIGNATURE),
    RevealBody: st.builds(RevealBody, selection=DIGEST, members=NAMES, signatures=SIGNATURES, boxes=SEVERAL),
    Invitation: st.builds(
        Invitation,
        consortium=st.from_regex(r"[a-z0-9][a-z0-9-]{0,40}", fullmatch=True),
        coordinator=BYTES,
        relay=TEXT,
        ca_certificate=BYTES,
        signature=st.binary(max_size=64),
    ),
    JoinRequest: st.builds(
        JoinRequest,
        consortium=TEXT,
        institution=TEXT,
        kind=st.sampled_from([str(kind) for kind in InstitutionType]),
        identity=BYTES,
        supernode_key=BYTES,
        schemas=st.lists(st.integers(0, 10_000), max_size=64).map(tuple),
        signature=st.binary(max_size=64),
    ),
}
ANY = st.one_of(*STRATEGIES.values())
BY_TAG = {kind.TAG: kind for kind in STRATEGIES}
ANSWERS = (TrainAnswer, CountsAnswer, CloseAnswer, EpochKey, EpochHello, EpochBoxes, Upload, Accept, Reveal, Refusal)
JUNK = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.binary(max_size=70)
    | st.text(max_size=8)
    | st.floats()
    | st.lists(st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)
)


def below(kind: type[Message]) -> Iterator[type[Message]]:
    for child in kind.__subclasses__():
        if "TAG" in child.__dict__:  # else it is what several have in common
            yield child
        yield from below(child)


def test_every_message_type_is_tested_here() -> None:
    ours = (messages.__name__, wire.__name__, enrolment.__name__)
    assert {kind for kind in below(Message) if kind.__module__.startswith(ours)} == set(STRATEGIES)
    assert set(BY_TAG) == set(VECTORS["golden"])


@given(ANY)
def test_what_was_encoded_decodes_to_an_equal_message(message: Message) -> None:
    assert type(message).from_bytes(message.to_bytes()) == message


@given(ANY, st.data())
def test_no_truncation_decodes(message: Message, data: st.DataObject) -> None:
    encoded = message.to_bytes()
    with pytest.raises(MalformedMessageError):
        type(message).from_bytes(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


@given(ANY, st.binary(min_size=1, max_size=4))
def test_no_extension_decodes(message: Message, more: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        type(message).from_bytes(message.to_bytes() + more)


@given(ANY, st.text(max_size=5), JUNK)
def test_no_unknown_field_decodes(message: Message, name: str, value: object) -> None:
    fields = cbor2.loads(message.to_bytes())
    if name in fields:
        name += "+"
    with pytest.raises(MalformedMessageError):
        type(message).from_bytes(cbor2.dumps({**fields, name: value}, canonical=True))


@given(ANY, JUNK)
def test_no_other_version_decodes(message: Message, version: object) -> None:
    if version == WIRE_VERSION and type(version) is int:
        version = WIRE_VERSION + 1
    changed = {**cbor2.loads(message.to_bytes()), "version": version}
    with pytest.raises(MalformedMessageError):
        type(message).from_bytes(cbor2.dumps(changed, canonical=True))


@given(ANY, st.sampled_from(sorted(STRATEGIES, key=lambda kind: kind.TAG)))
def test_no_message_stands_for_one_of_another_type(message: Message, other: type[Message]) -> None:
    if other is not type(message):
        with pytest.raises(MalformedMessageError):
            other.from_bytes(message.to_bytes())


@given(ANY, st.data())
def test_a_field_of_any_other_value_decodes_to_itself_or_is_refused(message: Message, data: st.DataObject) -> None:
    fields = cbor2.loads(message.to_bytes())
    name = data.draw(st.sampled_from(sorted(fields)))
    changed = cbor2.dumps({**fields, name: data.draw(JUNK)}, canonical=True)
    try:
        decoded = type(message).from_bytes(changed)
    except MalformedMessageError:
        return
    assert decoded.to_bytes() == changed


@given(ANY, st.data())
def test_a_flipped_bit_decodes_to_itself_or_is_refused(message: Message, data: st.DataObject) -> None:
    changed = bytearray(message.to_bytes())
    bit = data.draw(st.integers(0, 8 * len(changed) - 1))
    changed[bit // 8] ^= 1 << bit % 8
    try:
        decoded = type(message).from_bytes(bytes(changed))
    except MalformedMessageError:
        return
    assert decoded.to_bytes() == bytes(changed)
    assert decoded != message


@given(st.binary(max_size=80), st.sampled_from(sorted(STRATEGIES, key=lambda kind: kind.TAG)))
def test_only_our_own_errors_escape_from_arbitrary_bytes(data: bytes, kind: type[Message]) -> None:
    for decoder in (kind.from_bytes, lambda data: decode_answer(data, *ANSWERS)):
        with contextlib.suppress(FedcreditError):
            decoder(data)


@pytest.mark.parametrize("tag", sorted(VECTORS["golden"]))
def test_the_golden_bytes_decode_to_the_fields_they_were_made_from(tag: str) -> None:
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in SCRIPT["GOLDEN"][tag].items()}
    golden = bytes.fromhex(VECTORS["golden"][tag])
    message = BY_TAG[tag].from_bytes(golden)
    assert message == BY_TAG[tag](**fields)
    assert message.to_bytes() == golden


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["case"])
def test_a_bad_vector_never_decodes(vector: dict[str, str]) -> None:
    with pytest.raises(MalformedMessageError):
        BY_TAG[vector["type"]].from_bytes(bytes.fromhex(vector["bytes"]))
    with pytest.raises(MalformedMessageError):
        decode_answer(bytes.fromhex(vector["bytes"]), *ANSWERS)


LIMITS: list[tuple[str, str, int | list[int]]] = [
    ("request", "manifest", 16 * 2**20),
    ("request", "plan", 16 * 2**20),
    ("round-body", "release", 64 * 2**10),
    ("round-body", "log_proofs", [0] * 1000),
    ("round-body", "log_proofs", [64 * 2**10]),
    ("round-body", "roots", [8 * 2**10]),
    ("upload", "commitments", [32] * 1000),
    ("roots-body", "keys", [8 * 2**10]),
    ("reveal-body", "boxes", [2**20]),
]
"""Fields that take so many bytes, or so many strings of so many bytes, and no more."""


@pytest.mark.parametrize(("tag", "field", "size"), LIMITS, ids=str)
def test_a_field_takes_as_much_as_its_limit_and_no_more(tag: str, field: str, size: int | list[int]) -> None:
    def encoded(value: object) -> bytes:
        return cbor2.dumps({**cbor2.loads(bytes.fromhex(VECTORS["golden"][tag])), field: value}, canonical=True)

    most: object = bytes(size) if isinstance(size, int) else [bytes(each) for each in size]
    if isinstance(size, int):
        more: object = bytes(size + 1)
    else:
        more = [bytes(each) for each in ([*size, size[0]] if len(size) > 1 else [size[0] + 1])]
    BY_TAG[tag].from_bytes(encoded(most))
    with pytest.raises(MalformedMessageError):
        BY_TAG[tag].from_bytes(encoded(more))


def test_the_vectors_are_those_of_the_script_beside_them() -> None:
    assert SCRIPT["vectors"]() == VECTORS
    assert len(VECTORS["bad"]) >= 40


@given(st.one_of(*(STRATEGIES[kind] for kind in ANSWERS)))
def test_an_answer_decodes_to_the_type_that_its_bytes_say(answer: Message) -> None:
    assert decode_answer(answer.to_bytes(), *ANSWERS) == answer
    assert decode_answer(answer.to_bytes(), type(answer)) == answer


@given(ANY, st.sets(st.sampled_from(ANSWERS)))
def test_only_the_kinds_that_were_asked_for_decode_as_an_answer(message: Message, kinds: set[type[Message]]) -> None:
    if type(message) in kinds:
        assert decode_answer(message.to_bytes(), *kinds) == message
    else:
        with pytest.raises(MalformedMessageError):
            decode_answer(message.to_bytes(), *kinds)


@given(st.binary(max_size=50), st.binary(max_size=50), st.integers(0, 50))
def test_padding_is_undone_exactly(content: bytes, bulk: bytes, surplus: int) -> None:
    length = len(content) + len(bulk) + 16 + surplus
    padded = pad(content, bulk=bulk, length=length)
    assert len(padded) == length
    assert unpad(padded, what="answer") == (content, bulk)


def test_padding_refuses_what_does_not_fit() -> None:
    assert pad(b"abc", length=19) == b"\0" * 7 + b"\x03" + b"\0" * 8 + b"abc"
    assert pad(b"abc", bulk=b"de", length=22) == b"\0" * 7 + b"\x03" + b"\0" * 7 + b"\x02" + b"abcde\0"
    for length in (0, 15, 18):
        with pytest.raises(ValueError, match="do not fit"):
            pad(b"abc", length=length)
    with pytest.raises(ValueError, match="do not fit"):
        pad(b"abc", bulk=b"de", length=20)


NONE, ONE = b"\0" * 8, b"\0" * 7 + b"\x01"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        NONE,
        NONE + b"\0" * 7,
        ONE + NONE,
        NONE + ONE,
        ONE + ONE + b"a",
        ONE + NONE + b"a\x01",
        ONE + ONE + b"ab\x01",
        b"\xff" * 8 + NONE + b"a",
        NONE + b"\xff" * 8 + b"a",
        b"\xff" * 16,
        NONE + NONE + b"\0\x01",
    ],
    ids=[
        "nothing",
        "one length",
        "no second length",
        "shorter than it says",
        "less bulk than it says",
        "content without its bulk",
        "not zero",
        "not zero after the bulk",
        "absurd length",
        "absurd bulk",
        "absurd both",
        "hidden byte",
    ],
)
def test_padding_of_another_form_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedMessageError):
        unpad(data, what="answer")


COSIGNATURE = "\u2014 " + "n" * 63 + " " + "A" * 120 + "\n"
"""As long as that of the longest name: 76 bytes in base64 make 104 letters."""


@given(st.integers(0, 3000))
def test_every_answer_of_a_run_fits_into_the_one_length(lanes: int) -> None:
    length = answer_length(lanes)
    assert length % 1024 == 0
    longest = max(lanes, 2 * messages.SCORE_BINS)
    place = {"manifest_digest": bytes(32), "ledger_head": bytes(32)}
    for answer in (
        TrainAnswer(**place, cosignature=COSIGNATURE, lanes=bytes(4 * lanes)),
        CountsAnswer(**place, cosignature=COSIGNATURE, lanes=bytes(8 * messages.SCORE_BINS)),
        CloseAnswer(**place, cosignature=COSIGNATURE, vote="yes", reason="better-than-chance"),
        Refusal(**place, code="FC-4101"),
    ):
        signed = Signed(body=answer.to_bytes(), signature=bytes(64)).to_bytes()
        assert len(pad(signed, length=length)) == length
        assert len(signed) <= 4 * longest + 768


@given(ANY)
def test_a_message_is_encoded_once_and_a_changed_copy_anew(message: Message) -> None:
    encoded = message.to_bytes()
    assert message.to_bytes() is encoded
    assert replace(message).to_bytes() == encoded  # type: ignore[type-var]
    if isinstance(message, Manifest):
        assert replace(message, round=message.round // 2 + 1, step=7, attempt=3).to_bytes() != encoded or (
            (message.round, message.step, message.attempt) in {(1, 7, 3), (2, 7, 3)}
        )


def test_the_boxes_and_the_length_of_an_upload_are_those_of_the_protocol() -> None:
    # A nonce of 12 bytes, a tag of 16, and 33 bytes for each share; n = 5: four neighbours.
    assert [box_length(near) for near in (1, 4, 9)] == [2 * 33 + 28, 5 * 33 + 28, 10 * 33 + 28]
    assert upload_length(4000, neighbours=4) == padded_length(4000 + 4 * 193 + 5 * 34) == 6144


@given(st.integers(0, 100), st.integers(0, 5000))
def test_every_answer_of_a_secure_stage_fits_into_its_length(near: int, lanes: int) -> None:
    digests, context = {"manifest_digest": bytes(32)}, {"selection": bytes(32)}
    upload = Upload(
        **digests,
        ledger_head=bytes(32),
        cosignature=COSIGNATURE,
        commitments=(bytes(32),) * (1 + near),
        bulk_digest=bytes(32),
    )
    key = EpochKey(setup=bytes(32), member="n" * 63, key=bytes(1216), signature=bytes(LASTING_SIGNATURE_LENGTH))
    bulk = 33 * (1 + near) ** 2
    for answer, beside, length in (
        (upload, lanes + near * box_length(near), upload_length(lanes, neighbours=near)),
        (Accept(**digests, **context), 0, padded_length(0)),
        (Reveal(**digests, **context, bulk_digest=bytes(32)), bulk, padded_length(bulk)),
        (EpochBoxes(epoch=bytes(32), bulk_digest=bytes(32)), bulk, padded_length(bulk)),
        (EpochHello(**digests, key=key.to_bytes(), channel=bytes(32)), 0, padded_length(6 * 1024)),
    ):
        for sent, size in ((answer, beside), (Refusal(**digests, ledger_head=bytes(32), code="FC-4101"), 0)):
            signed = Signed(body=sent.to_bytes(), signature=bytes(64)).to_bytes()
            assert len(pad(signed, bulk=bytes(size), length=length)) == length
        assert length % 1024 == 0


@given(st.lists(st.integers(-LANE_LIMIT, LANE_LIMIT), max_size=20))
def test_lanes_carry_integers_exactly(values: list[int]) -> None:
    data = to_lanes(np.array(values, dtype=np.int64))
    assert data == b"".join(value.to_bytes(4, "little", signed=True) for value in values)
    assert from_lanes(data, what="answer", count=len(values)).tolist() == values


@pytest.mark.parametrize("value", [LANE_LIMIT + 1, -LANE_LIMIT - 1, 2**62, -(2**63), 2**63 - 1])
def test_a_number_that_does_not_fit_into_a_lane_is_never_cut(value: int) -> None:
    with pytest.raises(OverflowError):
        to_lanes(np.array([0, value], dtype=np.int64))


@pytest.mark.parametrize("size", [0, 1, 11, 13, 16])
def test_a_vector_of_another_length_is_refused(size: int) -> None:
    with pytest.raises(MalformedMessageError):
        from_lanes(bytes(size), what="answer", count=3)
    with pytest.raises(MalformedMessageError):
        weights_from_bytes(bytes(size), count=3)


@given(st.lists(st.floats(-WEIGHT_LIMIT, WEIGHT_LIMIT), max_size=10))
def test_weights_carry_every_bit(values: list[float]) -> None:
    weights = np.array(values, dtype=np.float64)
    assert weights_from_bytes(weights_to_bytes(weights), count=len(values)).tobytes() == weights.tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1.0e308, -1.0e308, np.nextafter(WEIGHT_LIMIT, np.inf)])
def test_a_weight_that_could_make_an_institution_overflow_is_refused(bad: float) -> None:
    # An institution that refuses because *its* numbers overflowed tells something about a borrower, without noise.
    with pytest.raises(MalformedMessageError):
        weights_from_bytes(weights_to_bytes(np.array([0.0, bad])), count=2)
