"""The coordinator's transport, with a courier played by hand."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest

from fedcredit.daemon.courier_messages import REPORT_BYTES, CourierAnswer, CourierReply, CourierRequest, OutboxItem
from fedcredit.daemon.courier_transport import CourierTransport
from fedcredit.errors import MalformedMessageError
from fedcredit.parties import InstitutionId
from fedcredit.transport import Deadline, Reply

BANK, INSURER, STRANGER = InstitutionId("bank"), InstitutionId("insurer"), InstitutionId("stranger")
MAX_BYTES = 1 << 20


class _Now:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class _Bench:
    """A transport, and threads in which exchanges run."""

    def __init__(self, *, incarnation: str = "run") -> None:
        self.now = _Now()
        self.transport = CourierTransport(
            nodes={BANK: 11, INSURER: 22},
            incarnation=incarnation,
            max_bytes=MAX_BYTES,
            idle_hold_s=0.0,
            monotonic=self.now,
        )

    def begin(self, requests: Mapping[InstitutionId, bytes], *, seconds: float = 60.0) -> _Exchange:
        begun = _Exchange(self.transport, requests, Deadline(at=self.now.at + seconds, clock=self.now))
        begun.thread.start()
        known = {institution for institution in requests if institution is not STRANGER}
        while self.transport.open_requests() < len(known) and begun.thread.is_alive():
            begun.thread.join(0.001)
        return begun

    def poll(self, session: str, *replies: CourierReply) -> CourierAnswer:
        request = CourierRequest(session=session, replies=replies).to_bytes()
        return CourierAnswer.from_bytes(self.transport.handle_courier(request), limit=1 << 30)


class _Exchange:
    def __init__(
        self, transport: CourierTransport, requests: Mapping[InstitutionId, bytes], deadline: Deadline
    ) -> None:
        self.replies: list[Reply] = []
        self.thread = threading.Thread(
            target=lambda: self.replies.extend(transport.exchange(requests, deadline=deadline)), daemon=True
        )

    def result(self) -> list[Reply]:
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.replies


def _good(item: OutboxItem, payload: bytes) -> CourierReply:
    return CourierReply(id=item.id, payload=payload, error=None)


def test_requests_go_out_once_and_replies_come_back() -> None:
    bench = _Bench()
    exchange = bench.begin({BANK: b"b", INSURER: b"i"}, seconds=60)
    first = bench.poll("1")
    assert [(item.node, item.payload, item.ttl_s) for item in first.outbox] == [(11, b"b", 60), (22, b"i", 60)]
    assert not first.done
    assert bench.poll("1").outbox == ()  # carried already in this session
    bench.poll("1", _good(first.outbox[1], b"I"))
    bench.poll("1", CourierReply(id=first.outbox[0].id, payload=None, error="flower-5"))
    assert exchange.result() == [
        Reply(institution=INSURER, payload=b"I"),
        Reply(institution=BANK, payload=None, carrier_error="flower-5"),
    ]
    assert bench.transport.open_requests() == 0


def test_a_new_session_carries_what_is_still_open_and_the_old_one_is_ended() -> None:
    bench = _Bench()
    exchange = bench.begin({BANK: b"b", INSURER: b"i"})
    old = bench.poll("1").outbox
    bench.poll("1", _good(old[0], b"B"))
    again = bench.poll("2")
    assert again.outbox == (old[1],)
    assert bench.poll("1") == CourierAnswer(done=True, outbox=())  # a leg that came back from the dead
    assert not bench.poll("2").done
    bench.poll("1", _good(old[1], b"I"))  # what it brings still counts
    assert {reply.institution: reply.payload for reply in exchange.result()} == {BANK: b"B", INSURER: b"I"}


def test_a_second_reply_and_an_unknown_id_are_dropped() -> None:
    bench = _Bench()
    exchange = bench.begin({BANK: b"b", INSURER: b"i"})
    bank, insurer = bench.poll("1").outbox
    bench.poll("1", _good(bank, b"1"), _good(bank, b"2"), CourierReply(id="other-1", payload=b"3", error=None))
    bench.poll("1", _good(bank, b"4"), _good(insurer, b"I"))
    assert [reply.payload for reply in exchange.result()] == [b"1", b"I"]
    assert bench.transport.contact().accepted == 2


def test_another_incarnation_never_takes_an_old_reply() -> None:
    before, after = _Bench(incarnation="a"), _Bench(incarnation="b")
    before.begin({BANK: b"b"})
    exchange = after.begin({BANK: b"b"})
    stale = before.poll("1").outbox[0]
    after.poll("1", _good(stale, b"stale"))
    assert after.transport.open_requests() == 1
    after.poll("1", _good(after.poll("2").outbox[0], b"fresh"))
    assert [reply.payload for reply in exchange.result()] == [b"fresh"]
    before.transport.give_up("test-over")


def test_the_deadline_ends_an_exchange_and_a_late_reply_is_dropped() -> None:
    bench = _Bench()
    exchange = bench.begin({BANK: b"b", INSURER: b"i"}, seconds=5)
    bank, insurer = bench.poll("1").outbox
    bench.poll("1", _good(bank, b"B"))
    bench.now.at += 5
    assert [reply.institution for reply in exchange.result()] == [BANK]
    bench.poll("1", _good(insurer, b"late"))
    assert bench.transport.contact().accepted == 1


def test_the_lifetime_of_a_message_is_what_is_left_of_the_deadline() -> None:
    bench = _Bench()
    exchange = bench.begin({BANK: b"b"}, seconds=60)
    bench.now.at += 49.5
    assert [item.ttl_s for item in bench.poll("1").outbox] == [11]
    bench.now.at += 10.5
    assert exchange.result() == []


def test_an_unknown_institution_is_answered_with_a_carrier_error() -> None:
    bench = _Bench()
    exchange = bench.begin({STRANGER: b"s"})
    assert exchange.result() == [Reply(institution=STRANGER, payload=None, carrier_error="no such institution")]


def test_finish_ends_the_session_unless_a_new_exchange_begins() -> None:
    bench = _Bench()
    bench.poll("1")
    bench.transport.finish()
    exchange = bench.begin({BANK: b"b"})
    answer = bench.poll("1")
    assert not answer.done
    bench.poll("1", _good(answer.outbox[0], b"B"))
    assert len(exchange.result()) == 1
    bench.transport.finish()
    assert bench.poll("1") == CourierAnswer(done=True, outbox=())


def test_giving_up_answers_every_open_request() -> None:
    bench = _Bench()
    exchange = bench.begin({BANK: b"b", INSURER: b"i"})
    bench.transport.give_up("carrier-failed")
    assert [reply.carrier_error for reply in exchange.result()] == ["carrier-failed"] * 2


def test_an_idle_poll_is_held_until_there_is_work() -> None:
    transport = CourierTransport(
        nodes={BANK: 11}, incarnation="run", max_bytes=MAX_BYTES, idle_hold_s=30.0, monotonic=_Now()
    )
    answers: list[CourierAnswer] = []
    request = CourierRequest(session="1", replies=()).to_bytes()
    poll = threading.Thread(
        target=lambda: answers.append(CourierAnswer.from_bytes(transport.handle_courier(request), limit=1 << 20))
    )
    poll.start()
    exchange = _Exchange(transport, {BANK: b"b"}, Deadline.after(30))
    exchange.thread.start()
    poll.join(10)
    assert [item.payload for item in answers[0].outbox] == [b"b"]
    transport.give_up("test-over")
    exchange.result()


def test_large_requests_go_out_in_several_answers() -> None:
    bench = _Bench()
    large = bytes(REPORT_BYTES)
    exchange = bench.begin({BANK: large, INSURER: large})
    assert [len(bench.poll("1").outbox) for _ in range(3)] == [1, 1, 0]
    bench.transport.give_up("test-over")
    exchange.result()


def test_contact_tells_session_and_silence() -> None:
    bench = _Bench()
    assert bench.transport.contact().session is None
    assert bench.transport.contact().silent_s == float("inf")
    bench.poll("1")
    bench.now.at += 7
    assert (bench.transport.contact().session, bench.transport.contact().silent_s) == ("1", 7.0)


def test_a_poll_that_is_none_raises() -> None:
    with pytest.raises(MalformedMessageError):
        _Bench().transport.handle_courier(b"\xff")
