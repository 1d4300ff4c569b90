"""The coordinator's courier between a Grid of a few lines and a daemon of a few lines."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from flwr.app import Context, Error, Message, RecordDict

from fedcredit.daemon.address import COORDINATOR_SOCKET_VARIABLE
from fedcredit.daemon.courier_messages import REPORT_BYTES, CourierAnswer, CourierReply, CourierRequest, OutboxItem
from fedcredit.daemon.service import LocalService
from fedcredit.errors import CourierError, DaemonUnreachableError, MessageTooLargeError
from fedcredit.flower.coordinator_courier import Courier, run
from fedcredit.flower.envelope import MESSAGE_TYPE, unwrap, wrap

pytestmark = pytest.mark.usefixtures("instruction")
SUPERLINK = 1


class _Grid:
    """Keeps pushed messages and hands out the replies that a test makes from them."""

    def __init__(self) -> None:
        self.pushed: list[Message] = []
        self.replies: list[Message] = []
        self.refuse = False
        self.pulls = 0

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identifiers = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{len(self.pushed)}"
            self.pushed.append(message)
            identifiers.append("" if self.refuse else message.metadata.message_id)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self.pulls += 1
        wanted = set(message_ids)
        ready = [reply for reply in self.replies if reply.metadata.reply_to_message_id in wanted]
        self.replies = [reply for reply in self.replies if reply not in ready]
        return ready


class _Daemon:
    """Answers polls with what a test prepared, and keeps the polls."""

    def __init__(self, *answers: CourierAnswer) -> None:
        self._answers = list(answers)
        self.polls: list[CourierRequest] = []

    def __call__(self, request: bytes) -> bytes:
        self.polls.append(CourierRequest.from_bytes(request, limit=1 << 30))
        answer = self._answers.pop(0) if self._answers else CourierAnswer(done=False, outbox=())
        return answer.to_bytes()


def _item(identifier: str = "a-1", *, node: int = 11, payload: bytes = b"p", ttl_s: int = 30) -> OutboxItem:
    return OutboxItem(id=identifier, node=node, ttl_s=ttl_s, payload=payload)


def _outbox(*items: OutboxItem) -> CourierAnswer:
    return CourierAnswer(done=False, outbox=items)


def _reported(make: Callable[[Message], Message]) -> CourierReply:
    """Carry one item, let ``make`` turn it into Flower's reply, and return what the daemon hears."""
    grid, daemon = _Grid(), _Daemon(_outbox(_item()))
    courier = Courier(grid, daemon, session="7")
    courier.step()
    grid.replies.append(make(grid.pushed[0]))
    courier.step()
    (reply,) = daemon.polls[1].replies
    return reply


def test_an_item_becomes_a_message_to_its_node_with_its_lifetime() -> None:
    grid, daemon = _Grid(), _Daemon(_outbox(_item(node=2**63 + 5, payload=b"sealed", ttl_s=30)))
    assert not Courier(grid, daemon, session="7").step()
    (message,) = grid.pushed
    assert message.metadata.dst_node_id == 2**63 + 5
    assert message.metadata.message_type == MESSAGE_TYPE
    assert message.metadata.ttl == 30.0
    assert unwrap(message.content) == b"sealed"
    assert daemon.polls[0] == CourierRequest(session="7", replies=())


def test_a_reply_is_reported_once_with_its_items_id() -> None:
    grid, daemon = _Grid(), _Daemon(_outbox(_item("a-1"), _item("a-2", node=22)))
    courier = Courier(grid, daemon, session="7")
    courier.step()
    grid.replies.append(Message(wrap(b"second"), reply_to=grid.pushed[1]))
    courier.step()
    grid.replies.append(Message(wrap(b"first"), reply_to=grid.pushed[0]))
    courier.step()
    courier.step()
    assert [[(reply.id, reply.payload) for reply in poll.replies] for poll in daemon.polls] == [
        [],
        [("a-2", b"second")],
        [("a-1", b"first")],
        [],
    ]


def test_nothing_under_way_asks_the_grid_nothing() -> None:
    grid = _Grid()
    Courier(grid, _Daemon(), session="7").step()
    assert grid.pulls == 0


@pytest.mark.parametrize("code", [2, 3, 5, 8])
def test_a_flower_error_becomes_its_code_and_its_text_is_left_behind(code: int) -> None:
    reply = _reported(lambda m: Message(Error(code=code, reason="ACME SA"), reply_to=m))
    assert reply == CourierReply(id="a-1", payload=None, error=f"flower-{code}")


def test_an_error_made_by_the_superlink_itself_is_attributed_to_the_item() -> None:
    def from_superlink(message: Message) -> Message:
        reply = Message(Error(code=5), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = SUPERLINK
        return reply

    assert _reported(from_superlink).error == "flower-5"


def test_a_reply_of_another_node_is_none() -> None:
    def from_other(message: Message) -> Message:
        reply = Message(wrap(b"x"), reply_to=message)
        reply.metadata.__dict__["_src_node_id"] = 99
        return reply

    assert _reported(from_other).error == "flower-wrong-sender"


def test_a_reply_that_is_no_envelope_is_an_error() -> None:
    assert _reported(lambda m: Message(RecordDict(), reply_to=m)).error == "flower-malformed"


def test_a_refused_push_is_reported_at_once() -> None:
    grid, daemon = _Grid(), _Daemon(_outbox(_item()))
    grid.refuse = True
    courier = Courier(grid, daemon, session="7")
    courier.step()
    assert courier.busy
    courier.step()
    assert daemon.polls[1].replies == (CourierReply(id="a-1", payload=None, error="flower-push-refused"),)


def test_large_replies_are_reported_over_several_polls() -> None:
    large = bytes(REPORT_BYTES - 1)  # one leaves room for another, two do not
    grid, daemon = _Grid(), _Daemon(_outbox(*(_item(f"a-{n}") for n in range(3))))
    courier = Courier(grid, daemon, session="7")
    courier.step()
    grid.replies.extend(Message(wrap(large), reply_to=message) for message in grid.pushed)
    courier.step()
    assert courier.busy
    courier.step()
    assert [len(poll.replies) for poll in daemon.polls] == [0, 2, 1]
    assert not courier.busy


def test_an_oversized_reply_costs_its_sender_and_nobody_else() -> None:
    daemon = _Daemon(_outbox(_item("a-1"), _item("a-2", node=22)))

    def narrow(request: bytes) -> bytes:
        if len(request) > 1000:
            raise MessageTooLargeError(size=len(request), limit=1000)
        return daemon(request)

    grid = _Grid()
    courier = Courier(grid, narrow, session="7")
    courier.step()
    grid.replies.append(Message(wrap(b"small"), reply_to=grid.pushed[0]))
    grid.replies.append(Message(wrap(bytes(2000)), reply_to=grid.pushed[1]))
    courier.step()
    assert daemon.polls[1].replies == (
        CourierReply(id="a-1", payload=b"small", error=None),
        CourierReply(id="a-2", payload=None, error="reply-too-large"),
    )


def test_done_is_passed_on() -> None:
    assert Courier(_Grid(), _Daemon(CourierAnswer(done=True, outbox=())), session="7").step()


def test_a_daemon_that_goes_away_ends_the_run() -> None:
    def gone(_: bytes) -> bytes:
        raise DaemonUnreachableError(socket="s", command="c")

    with pytest.raises(DaemonUnreachableError):
        Courier(_Grid(), gone, session="7").step()


def _context(**run_config: str) -> Context:
    return Context(run_id=7, node_id=1, node_config={}, state=RecordDict(), run_config=dict(run_config))


def test_a_run_polls_the_socket_of_its_environment_until_done() -> None:
    grid, daemon = _Grid(), _Daemon(_outbox(_item()), CourierAnswer(done=True, outbox=()))
    with tempfile.TemporaryDirectory(prefix="fc-") as place:
        socket = Path(place) / "s"
        with LocalService(socket, daemon, max_bytes=1000, workers=1):
            run(grid, _context(), environ={COORDINATOR_SOCKET_VARIABLE: str(socket)})
    assert [poll.session for poll in daemon.polls] == ["7", "7"]
    assert len(grid.pushed) == 1


def test_a_run_without_a_daemon_fails_with_a_constant_text() -> None:
    with pytest.raises(CourierError, match=r"^The courier could not pass the envelope on\.$") as caught:
        run(_Grid(), _context(**{"coordinator-socket": "/nowhere/secret/place"}), environ={}, ready_s=0.1)
    assert caught.value.__suppress_context__
