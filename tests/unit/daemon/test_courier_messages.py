"""What courier and daemon say to each other, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.daemon.courier_messages import CourierAnswer, CourierReply, CourierRequest, OutboxItem
from fedcredit.encoding import decode, encode
from fedcredit.errors import MalformedMessageError, MessageTooLargeError

WORDS = st.from_regex(r"[A-Za-z0-9_-]{1,80}", fullmatch=True)
REPLIES = st.one_of(
    st.builds(CourierReply, id=WORDS, payload=st.binary(max_size=40), error=st.none()),
    st.builds(CourierReply, id=WORDS, payload=st.none(), error=WORDS),
)
REQUESTS = st.builds(CourierRequest, session=WORDS, replies=st.lists(REPLIES, max_size=3).map(tuple))
ITEMS = st.builds(
    OutboxItem,
    id=WORDS,
    node=st.integers(1, 2**64 - 1),
    ttl_s=st.integers(1, 10**6),
    payload=st.binary(max_size=40),
)
ANSWERS = st.builds(CourierAnswer, done=st.booleans(), outbox=st.lists(ITEMS, max_size=3).map(tuple))
LIMIT = 10_000


@given(REQUESTS)
def test_a_request_decodes_to_itself(request_: CourierRequest) -> None:
    assert CourierRequest.from_bytes(request_.to_bytes(), limit=LIMIT) == request_


@given(ANSWERS)
def test_an_answer_decodes_to_itself(answer: CourierAnswer) -> None:
    assert CourierAnswer.from_bytes(answer.to_bytes(), limit=LIMIT) == answer


@given(REQUESTS, st.data())
def test_a_shortened_or_lengthened_request_is_refused(request_: CourierRequest, data: st.DataObject) -> None:
    encoded = request_.to_bytes()
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + b"\x00"):
        with pytest.raises(MalformedMessageError):
            CourierRequest.from_bytes(wrong, limit=LIMIT)


def test_a_message_above_the_limit_is_not_read() -> None:
    with pytest.raises(MessageTooLargeError):
        CourierRequest.from_bytes(bytes(11), limit=10)


GOOD_REQUEST = {"version": 1, "session": "7", "replies": [{"id": "a-1", "payload": b"x", "error": None}]}
GOOD_ANSWER = {"version": 1, "done": False, "outbox": [{"id": "a-1", "node": 5, "ttl_s": 60, "payload": b"x"}]}


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"version": True},
        {"session": ""},
        {"session": "a/b"},
        {"session": 7},
        {"replies": {}},
        {"more": 1},
        {"replies": [{"id": "a-1", "payload": b"x", "error": "flower-5"}]},
        {"replies": [{"id": "a-1", "payload": None, "error": None}]},
        {"replies": [{"id": "a-1", "payload": None, "error": "could not convert: ACME SA"}]},
        {"replies": [{"id": "a-1", "payload": "text", "error": None}]},
        {"replies": [{"id": "a-1", "payload": b"x"}]},
    ],
)
def test_a_request_that_is_not_exactly_one_is_refused(change: dict[str, object]) -> None:
    assert CourierRequest.from_bytes(encode(GOOD_REQUEST), limit=LIMIT).session == "7"
    with pytest.raises(MalformedMessageError):
        CourierRequest.from_bytes(encode({**GOOD_REQUEST, **change}), limit=LIMIT)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"done": 1},
        {"outbox": None},
        {"more": 1},
        {"outbox": [{"id": "a-1", "node": 0, "ttl_s": 60, "payload": b"x"}]},
        {"outbox": [{"id": "a-1", "node": 2**64, "ttl_s": 60, "payload": b"x"}]},
        {"outbox": [{"id": "a-1", "node": 5, "ttl_s": True, "payload": b"x"}]},
        {"outbox": [{"id": "a-1", "node": 5, "ttl_s": 60, "payload": None}]},
    ],
)
def test_an_answer_that_is_not_exactly_one_is_refused(change: dict[str, object]) -> None:
    assert CourierAnswer.from_bytes(encode(GOOD_ANSWER), limit=LIMIT).outbox[0].node == 5
    with pytest.raises(MalformedMessageError):
        CourierAnswer.from_bytes(encode({**GOOD_ANSWER, **change}), limit=LIMIT)


def test_the_encoding_is_canonical_cbor() -> None:
    # By hand: a3 (map of 3), keys by length then bytes: "session" 67.., "replies" and "version" of equal length.
    encoded = CourierRequest(session="7", replies=()).to_bytes()
    assert encoded == b"\xa3\x67replies\x80\x67session\x617\x67version\x01"
    assert decode(encoded, what="test", limit=LIMIT) == {"version": 1, "session": "7", "replies": []}
