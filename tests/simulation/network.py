"""The world of a simulation: one clock, one queue of what happens next, and a carrier that loses and spoils things."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from consortium import CONSORTIUM, COORDINATOR
from simulation.disks import PowerCutError
from simulation.draws import Draws
from simulation.faults import CHARGE, Fault, Kind, Strikes
from simulation.members import DEADLINE_S, SimulatedMember
from simulation.oracle import Before, Oracle, answer_context, answer_plaintext, opened_by

from fedcredit.crypto.sealing import SealContext, seal
from fedcredit.crypto.signatures import sign
from fedcredit.encoding import decode, encode
from fedcredit.envelope import ANSWER_TAG, OpenedRequest
from fedcredit.errors import DiskFullError
from fedcredit.messages import MAX_MESSAGE_BYTES, WIRE_VERSION, Signed, pad, unpad
from fedcredit.parties import COORDINATOR as COORDINATOR_NAME
from fedcredit.parties import InstitutionId
from fedcredit.transport import Deadline, Reply

START_S: Final = 1_000_000.0
WORK_S: Final = 0.6
SLOWDOWN: Final = 100
HOUR_S: Final = 3_600.0
_WIRE: Final = frozenset({Kind.FLIP, Kind.TRUNCATE, Kind.SKEW})

Action = Callable[[], Reply | None]


class World:
    """Time, and what happens in it."""

    def __init__(self, seed: int) -> None:
        self.now = START_S
        self.coordinator_skew_s = 0.0
        self.trace: list[str] = []
        self._draws = Draws(seed, "latency")
        self._queue: list[tuple[float, int, Action]] = []
        self._count = 0

    def coordinator_clock(self) -> float:
        """Return what the coordinator's clock shows."""
        return self.now + self.coordinator_skew_s

    def true_clock(self) -> float:
        """Return the time."""
        return self.now

    def note(self, *what: object) -> None:
        """Add a line to the trace; it holds nothing that hedged signatures or sealing change."""
        self.trace.append(f"{self.now - START_S:.3f} {' '.join(map(str, what))}")

    def latency_s(self) -> float:
        """Draw how long a message is on its way."""
        return self._draws.between(50, 500) / 1000

    def later(self, seconds: float, action: Action) -> None:
        """Let ``action`` happen; what happens at one moment happens in the order in which it was said."""
        self._count += 1
        heapq.heappush(self._queue, (self.now + seconds, self._count, action))

    def step(self, limit: float) -> tuple[bool, Reply | None]:
        """Do what happens next before ``limit``, or let the time pass until then; tell which, and what arrived."""
        if not self._queue or self._queue[0][0] >= limit:
            self.now = max(self.now, limit)
            return False, None
        when, _, action = heapq.heappop(self._queue)
        self.now = max(self.now, when)
        return True, action()


class SimulatedTransport:
    """Implements ``transport.Transport`` over a world with faults."""

    def __init__(
        self,
        world: World,
        members: Sequence[SimulatedMember],
        strikes: Strikes,
        oracle: Oracle,
        *,
        stage: Callable[[], str],
        at_ask: Callable[[str], None],
        at_take: Callable[[str], None],
    ) -> None:
        self._world = world
        self._members = {member.name: member for member in members}
        self._strikes = strikes
        self._oracle = oracle
        self._stage = stage
        self._at_ask = at_ask
        self._at_take = at_take
        self._waiting: list[Reply] = []
        self._no_way_in: dict[InstitutionId, float] = {}
        self._no_way_out: dict[InstitutionId, float] = {}
        for member in members:
            self._watch(member)

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        """Deliver each request and yield what comes back, late answers to earlier requests included."""
        stage = self._stage()
        self._at_ask(stage)
        for name, request in requests.items():
            self._send(self._members[name], request, stage)
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            self._at_take(stage)
            yield reply
        while True:
            happened, arrived = self._world.step(self._world.now + deadline.remaining_s())
            if arrived is not None:
                self._at_take(stage)
                yield arrived
            if not happened:
                return

    def rest(self, seconds: float) -> None:
        """Let time pass while no coordinator runs; what arrives meanwhile waits for it."""
        until, happened = self._world.now + seconds, True
        while happened:
            happened, arrived = self._world.step(until)
            if arrived is not None:
                self._waiting.append(arrived)

    def cut_off(self, members: Sequence[InstitutionId], seconds: float, *, inward: bool, outward: bool) -> None:
        """Let nothing through to or from members for some time."""
        for name in members:
            if inward:
                self._no_way_in[name] = self._world.now + seconds
            if outward:
                self._no_way_out[name] = self._world.now + seconds

    def heal(self) -> None:
        """End every outage, partition and wrong clock; what is on its way still arrives."""
        self._no_way_in, self._no_way_out = {}, {}
        self._world.coordinator_skew_s = 0.0
        for member in self._members.values():
            member.skew_s = 0.0
            self._start(member)

    def ask_at_once(self, member: SimulatedMember, request: bytes, stage: str) -> tuple[bytes, OpenedRequest | None]:
        """Put a request of a coordinator that does what it should not to a member, and return its answer."""
        member.stage = stage
        before = Before.of(member, request)
        reply = member.handle(request)
        self._oracle.left(member, reply, before)
        return reply, before.opened

    # --- to a member -------------------------------------------------------------------------------------------------

    def _send(self, member: SimulatedMember, request: bytes, stage: str) -> None:
        faults = self._strikes.at(f"{stage}/request", member.place)
        self._cut_off_by(faults, member, inward=True)
        self._world.note("send", stage, member.name, *(fault.kind for fault in faults))
        if self._no_way_in.get(member.name, 0) > self._world.now:
            return
        spoiled = _spoilt(request, faults, lambda data: _skewed_request(data, member))
        for late_s in _copies(faults):
            self._world.later(self._world.latency_s() + late_s, lambda: self._arrive(member, spoiled, stage))

    def _arrive(self, member: SimulatedMember, request: bytes, stage: str) -> None:
        if not member.running:
            self._world.note("lost", stage, member.name)
            return
        slow = False
        for fault in self._strikes.at(f"{stage}/handle", member.place):
            self._world.note("handle", stage, member.name, fault.kind)
            if fault.kind in {Kind.CRASH, Kind.STALE}:
                self._stop(member, fault)
                return
            if fault.kind is Kind.CLOCK:
                self._set_clock(member, fault)
            slow |= fault.kind is Kind.SLOW
        self._world.later(WORK_S * SLOWDOWN if slow else WORK_S, lambda: self._handle(member, request, stage))

    def _handle(self, member: SimulatedMember, request: bytes, stage: str) -> None:
        if not member.running:
            self._world.note("lost", stage, member.name)
            return
        member.stage = stage
        before = Before.of(member, request)
        try:
            reply = member.handle(request)
        except PowerCutError:
            self._world.note("cut", stage, member.name)
            return
        self._oracle.left(member, reply, before)
        self._answer(member, reply, before.opened, stage)

    def _answer(self, member: SimulatedMember, reply: bytes, opened: OpenedRequest | None, stage: str) -> None:
        faults = self._strikes.at(f"{stage}/answer", member.place)
        self._cut_off_by(faults, member, inward=False)
        self._world.note("answer", stage, member.name, len(reply), *(fault.kind for fault in faults))
        if self._no_way_out.get(member.name, 0) > self._world.now:
            return
        spoiled = _spoilt(reply, faults, lambda data: _skewed_answer(data, opened, member))
        arrival = Reply(institution=member.name, payload=spoiled)
        for late_s in _copies(faults):
            self._world.later(self._world.latency_s() + late_s, lambda: arrival)

    # --- machines ----------------------------------------------------------------------------------------------------

    def _watch(self, member: SimulatedMember) -> None:
        member.database.watch(lambda held, durable: self._commit(member, held, durable=durable))

    def _commit(self, member: SimulatedMember, held: frozenset[str], *, durable: bool) -> None:
        point = self._point_of(member, held)
        if point is None:
            return
        if not durable:
            member.striking = self._strikes.at(point, member.place)
        for fault in member.striking:
            if fault.kind is Kind.FULL and not durable:
                self._world.note("full", point, member.name)
                raise DiskFullError(path=member.name)
            after = fault.kind is Kind.STALE or fault.amount % 2 == 1
            if fault.kind in {Kind.CRASH, Kind.STALE} and after == durable:
                self._stop(member, fault)
                raise PowerCutError

    def _point_of(self, member: SimulatedMember, held: frozenset[str]) -> str | None:
        if "privacy-ledger/privacy-charge" in held:
            return CHARGE
        return f"{member.stage}/store" if "audit/request-answered" in held else None

    def _stop(self, member: SimulatedMember, fault: Fault) -> None:
        member.cut(back=1 + fault.amount % 6 if fault.kind is Kind.STALE else 0)
        self._world.later(fault.lasting_s, lambda: self._start(member))

    def _start(self, member: SimulatedMember) -> None:
        if not member.running:
            member.boot()
            self._watch(member)
            self._world.note("start", member.name)

    def _set_clock(self, member: SimulatedMember, fault: Fault) -> None:
        member.skew_s = _skew_s(fault)

        def right() -> None:
            member.skew_s = 0.0

        self._world.later(fault.lasting_s, right)

    def set_coordinator_clock(self, fault: Fault) -> None:
        """Set the coordinator's clock an hour off for some time."""
        self._world.coordinator_skew_s = _skew_s(fault)

        def right() -> None:
            self._world.coordinator_skew_s = 0.0

        self._world.later(fault.lasting_s, right)

    def _cut_off_by(self, faults: Sequence[Fault], member: SimulatedMember, *, inward: bool) -> None:
        for fault in faults:
            if fault.kind is Kind.PARTITION:
                self.cut_off([member.name], fault.lasting_s, inward=True, outward=True)
            if fault.kind is Kind.ONE_WAY:
                self.cut_off([member.name], fault.lasting_s, inward=inward, outward=not inward)


def _skew_s(fault: Fault) -> float:
    return HOUR_S if fault.amount % 2 else -HOUR_S


def _copies(faults: Sequence[Fault]) -> list[float]:
    """Return how late each copy of a message is; none if it is lost."""
    late: list[float] = [0.0]
    for fault in faults:
        if fault.kind is Kind.DROP:
            return []
        if fault.kind is Kind.DUPLICATE:
            late.append(late[0] + fault.lasting_s)
        if fault.kind is Kind.REORDER:
            late[0] += min(fault.lasting_s, DEADLINE_S // 2)
        if fault.kind is Kind.DELAY:
            late[0] += DEADLINE_S + fault.lasting_s
    return late


def _spoilt(data: bytes, faults: Sequence[Fault], skew: Callable[[bytes], bytes]) -> bytes:
    for fault in faults:
        if fault.kind is Kind.FLIP and data:
            place = fault.amount % (8 * len(data))
            data = b"".join((data[: place // 8], bytes([data[place // 8] ^ 1 << place % 8]), data[place // 8 + 1 :]))
        if fault.kind is Kind.TRUNCATE:
            data = data[: fault.amount % max(1, len(data))]
        if fault.kind is Kind.SKEW:
            data = skew(data)
    return data


def _newer(message: bytes) -> bytes:
    """Return the same message as the next version would write it."""
    value = decode(message, what="message", limit=MAX_MESSAGE_BYTES)
    assert isinstance(value, Mapping)
    return encode({**value, "version": WIRE_VERSION + 1})


def _skewed_request(request: bytes, member: SimulatedMember) -> bytes:
    """Return the request in the next version, sealed as it should be."""
    opened = opened_by(member, request)
    return request if opened is None else resealed(_newer(opened.request.to_bytes()), opened, member)


def resealed(plaintext: bytes, opened: OpenedRequest, member: SimulatedMember) -> bytes:
    """Return another request, sealed to the member in the way in which ``opened`` was."""
    context = SealContext(
        consortium=CONSORTIUM,
        run="",
        round_number=0,
        attempt=0,
        message_type="request",
        sender=COORDINATOR_NAME,
        recipient=member.name,
        manifest_digest=bytes(32),
    )
    if opened.channel is not None:
        return opened.channel.seal_down(plaintext, context=context)
    return seal(plaintext, recipient=member.keys.public, context=context)


def _skewed_answer(reply: bytes, opened: OpenedRequest | None, member: SimulatedMember) -> bytes:
    """Return the answer in the next version: signed and sealed as it should be, of a type that nobody here knows."""
    plaintext = answer_plaintext(reply, opened, member) if opened else None
    if opened is None or plaintext is None:
        return reply
    content, bulk = unpad(plaintext, what="answer")
    body = _newer(Signed.from_bytes(content).body)
    signed = Signed(body=body, signature=sign(member.keys, tag=ANSWER_TAG, body=body)).to_bytes()
    padded, context = pad(signed, bulk=bulk, length=len(plaintext)), answer_context(opened, member.name)
    if opened.channel is not None:
        return opened.channel.seal_up(padded, context=context)
    return seal(padded, recipient=COORDINATOR.public, context=context)
