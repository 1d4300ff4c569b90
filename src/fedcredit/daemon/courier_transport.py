"""A ``Transport`` for the coordinator daemon: requests wait in an outbox until the server courier fetches them.

A Flower run is only a carrier leg. Every leg is a *session* of the courier; a request that is still open is handed out
once to each session, so it survives the death of a leg. Delivery is at least once: the institution answers the same
request with the same stored bytes, and a second reply to an item finds it closed and is dropped.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from fedcredit.daemon.courier_messages import REPORT_BYTES, CourierAnswer, CourierReply, CourierRequest, OutboxItem
from fedcredit.parties import InstitutionId
from fedcredit.transport import Deadline, Reply

NO_SUCH_INSTITUTION: Final = "no such institution"
_CLOCK_CHECK_S: Final = 1.0


@dataclass(kw_only=True, eq=False)
class _Open:
    """A request without a reply."""

    institution: InstitutionId
    node: int
    payload: bytes
    deadline: Deadline
    replies: deque[Reply]
    handed_to: set[str] = field(default_factory=set)


@dataclass(frozen=True, kw_only=True)
class Contact:
    """What the daemon knows about its courier."""

    session: str | None
    """The newest session, or ``None`` before the first poll."""
    silent_s: float
    """Seconds since that session's last poll; infinite before the first."""
    accepted: int
    """Replies accepted since the start, failures included."""


class CourierTransport:
    """Carries requests by way of the polling server courier; may be used by several threads at once.

    Args:
        nodes: the Flower node id of each institution, from enrolment.
        incarnation: a word that no earlier transport of this coordinator used; it makes item ids unique, so a courier
            that outlived the last daemon cannot answer for this one.
        max_bytes: the largest poll that is read, the same as for the ``LocalService`` in front: the largest reply of
            an institution and ``MESSAGE_ROOM``.
        idle_hold_s: how long a poll of a courier that carries nothing is held back for work to come, in seconds.
        monotonic: seconds on a clock that never jumps.
    """

    def __init__(
        self,
        *,
        nodes: Mapping[InstitutionId, int],
        incarnation: str,
        max_bytes: int,
        idle_hold_s: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._nodes = dict(nodes)
        self._incarnation = incarnation
        self._max_bytes = max_bytes
        self._idle_hold_s = idle_hold_s
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._items: dict[str, _Open] = {}
        self._made = 0
        self._accepted = 0
        self._sessions: list[str] = []
        self._last_poll = -math.inf
        self._finishing = False

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        """Put each request in the outbox and yield replies as the courier reports them; see ``Transport``."""
        arrived: deque[Reply] = deque()
        mine = self._open(requests, deadline=deadline, arrived=arrived)
        try:
            while (reply := self._next(mine, deadline=deadline, arrived=arrived)) is not None:
                yield reply
        finally:
            with self._changed:
                for identifier in mine:
                    self._items.pop(identifier, None)

    def handle_courier(self, request: bytes) -> bytes:
        """Answer one poll of the server courier (the handler of the coordinator's ``LocalService``).

        Raises:
            MessageTooLargeError: the poll exceeds ``max_bytes``.
            MalformedMessageError: it is not a poll.
        """
        poll = CourierRequest.from_bytes(request, limit=self._max_bytes)
        with self._changed:
            if poll.session not in self._sessions:
                self._sessions.append(poll.session)
            for reply in poll.replies:
                self._accept(reply)
            if self._superseded(poll.session):
                return CourierAnswer(done=True, outbox=()).to_bytes()
            self._last_poll = self._monotonic()
            if not any(poll.session in item.handed_to for item in self._items.values()):
                self._changed.wait_for(lambda: self._has_news(poll.session), timeout=self._idle_hold_s)
            if self._finishing or self._superseded(poll.session):
                return CourierAnswer(done=True, outbox=()).to_bytes()
            return CourierAnswer(done=False, outbox=tuple(self._hand_out(poll.session))).to_bytes()

    def finish(self) -> None:
        """Let the next poll end the courier's session; a later ``exchange`` takes that back and needs a new session."""
        with self._changed:
            self._finishing = True
            self._changed.notify_all()

    def give_up(self, code: str) -> None:
        """Answer every open request with the carrier error ``code``: no leg carries them any more."""
        with self._changed:
            for identifier in list(self._items):
                self._accept(CourierReply(id=identifier, payload=None, error=code))

    def open_requests(self) -> int:
        """Return how many requests wait for a reply."""
        with self._changed:
            return len(self._items)

    def wait_for_requests(self, *, timeout_s: float) -> bool:
        """Wait until a request is open, at most ``timeout_s`` seconds; tell whether one is."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._items), timeout=timeout_s)

    def contact(self) -> Contact:
        """Return what is known about the courier."""
        with self._changed:
            return Contact(
                session=self._sessions[-1] if self._sessions else None,
                silent_s=self._monotonic() - self._last_poll,
                accepted=self._accepted,
            )

    def _open(
        self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline, arrived: deque[Reply]
    ) -> frozenset[str]:
        opened = {}
        sealed = list(requests.items())  # sealing takes its time, and a poll must not wait for it
        with self._changed:
            for institution, payload in sealed:
                node = self._nodes.get(institution)
                if node is None:
                    arrived.append(Reply(institution=institution, payload=None, carrier_error=NO_SUCH_INSTITUTION))
                    continue
                self._made += 1
                opened[f"{self._incarnation}-{self._made}"] = _Open(
                    institution=institution, node=node, payload=payload, deadline=deadline, replies=arrived
                )
            self._items.update(opened)
            if opened:
                self._finishing = False
                self._changed.notify_all()
        return frozenset(opened)

    def _next(self, mine: frozenset[str], *, deadline: Deadline, arrived: deque[Reply]) -> Reply | None:
        with self._changed:
            while not arrived and not deadline.passed() and not mine.isdisjoint(self._items):
                # Never wait the whole time at once: the deadline is on a clock that may be set.
                self._changed.wait(min(deadline.remaining_s(), _CLOCK_CHECK_S))
            return arrived.popleft() if arrived else None

    def _accept(self, reply: CourierReply) -> None:
        item = self._items.pop(reply.id, None)
        if item is None:  # answered before, past its deadline, or never ours
            return
        self._accepted += 1
        item.replies.append(Reply(institution=item.institution, payload=reply.payload, carrier_error=reply.error))
        self._changed.notify_all()

    def _superseded(self, session: str) -> bool:
        return self._sessions[-1] != session

    def _has_news(self, session: str) -> bool:
        return self._finishing or self._superseded(session) or bool(self._items)

    def _hand_out(self, session: str) -> Iterator[OutboxItem]:
        room = REPORT_BYTES
        for identifier, item in self._items.items():
            if session in item.handed_to or item.deadline.passed():
                continue
            room -= len(item.payload)
            item.handed_to.add(session)
            ttl_s = max(1, math.ceil(item.deadline.remaining_s()))
            yield OutboxItem(id=identifier, node=item.node, ttl_s=ttl_s, payload=item.payload)
            if room <= 0:
                return
