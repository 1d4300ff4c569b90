"""The coordinator's courier: envelopes between the coordinator daemon's socket and Flower's Grid.

It holds no key and no state worth keeping. When anything goes wrong it raises, so that the Flower run shows failed and
the daemon submits the next one.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from flwr.app import Context, Message
from flwr.serverapp import Grid

from fedcredit.daemon.address import COORDINATOR_SOCKET_VARIABLE
from fedcredit.daemon.client import LocalClient, wait_ready
from fedcredit.daemon.courier_messages import REPORT_BYTES, CourierAnswer, CourierReply, CourierRequest, OutboxItem
from fedcredit.errors import CourierError, FedcreditError, MessageTooLargeError
from fedcredit.flower.envelope import MESSAGE_TYPE, unwrap, wrap

SOCKET_KEY: Final = "coordinator-socket"
POLL_S: Final = 0.2
READY_S: Final = 10.0
ASK_S: Final = 30.0
ANSWER_LIMIT: Final = 1 << 30

Ask = Callable[[bytes], bytes]


def run(grid: Grid, context: Context, *, environ: Mapping[str, str] = os.environ, ready_s: float = READY_S) -> None:
    """Carry envelopes until the daemon says that it is done.

    Raises:
        CourierError: the daemon is not there, goes away or talks nonsense. The text is constant, as it goes to the
            relay; what the Grid raises passes unchanged.
    """
    socket_path = Path(environ.get(COORDINATOR_SOCKET_VARIABLE) or str(context.run_config.get(SOCKET_KEY, "")))
    try:
        wait_ready(socket_path, timeout_s=ready_s)
        with LocalClient(socket_path) as daemon:
            courier = Courier(
                grid, lambda request: daemon.exchange(request, timeout_s=ASK_S), session=str(context.run_id)
            )
            while not courier.step():
                if not courier.busy:
                    time.sleep(POLL_S)
    except FedcreditError:
        raise CourierError from None


class Courier:
    """One session of carrying: ``step`` until it says that the daemon is done."""

    def __init__(self, grid: Grid, ask: Ask, *, session: str) -> None:
        self._grid = grid
        self._ask = ask
        self._session = session
        self._under_way: dict[str, OutboxItem] = {}
        self._report: deque[CourierReply] = deque()
        self.busy = False
        """Whether the next step should follow without a pause."""

    def step(self) -> bool:
        """Pull what Flower has, report it, push what the daemon gives; tell whether the daemon is done."""
        self._pull()
        replies = self._next_report()
        try:
            answer = self._poll(replies)
        except MessageTooLargeError:
            # One institution's oversized reply must not end the leg of all.
            largest = max(replies, key=lambda reply: len(reply.payload or b""))
            refused = replace(largest, payload=None, error="reply-too-large")
            answer = self._poll([refused if reply is largest else reply for reply in replies])
        for item in answer.outbox:
            self._push(item)
        self.busy = bool(answer.outbox or self._report)
        return answer.done

    def _poll(self, replies: list[CourierReply]) -> CourierAnswer:
        poll = CourierRequest(session=self._session, replies=tuple(replies))
        return CourierAnswer.from_bytes(self._ask(poll.to_bytes()), limit=ANSWER_LIMIT)

    def _push(self, item: OutboxItem) -> None:
        # One message at a time: Flower answers a batch that is too large with nothing at all.
        message = Message(wrap(item.payload), item.node, MESSAGE_TYPE, ttl=float(item.ttl_s))
        pushed = [identifier for identifier in self._grid.push_messages([message]) if identifier]
        if pushed:
            self._under_way[pushed[0]] = item
        else:
            self._report.append(CourierReply(id=item.id, payload=None, error="flower-push-refused"))

    def _pull(self) -> None:
        for message in self._grid.pull_messages(list(self._under_way)) if self._under_way else ():
            item = self._under_way.pop(message.metadata.reply_to_message_id, None)
            if item is not None:
                self._report.append(_as_reply(message, item))

    def _next_report(self) -> list[CourierReply]:
        taken: list[CourierReply] = []
        while self._report and sum(len(reply.payload or b"") for reply in taken) < REPORT_BYTES:
            taken.append(self._report.popleft())
        return taken


def _as_reply(message: Message, item: OutboxItem) -> CourierReply:
    """Translate a Flower reply; a SuperLink's own error has source node 1, an app's error text is not looked at."""
    if message.has_error():
        return CourierReply(id=item.id, payload=None, error=f"flower-{int(message.error.code)}")
    if message.metadata.src_node_id != item.node:
        return CourierReply(id=item.id, payload=None, error="flower-wrong-sender")
    try:
        return CourierReply(id=item.id, payload=unwrap(message.content), error=None)
    except FedcreditError:
        return CourierReply(id=item.id, payload=None, error="flower-malformed")
