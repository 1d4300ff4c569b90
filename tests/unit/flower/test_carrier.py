"""The carrier's decisions, with the relay's commands and the clock in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from fedcredit.daemon.courier_messages import CourierAnswer, CourierReply, CourierRequest
from fedcredit.daemon.courier_transport import CourierTransport
from fedcredit.errors import RelayCommandError
from fedcredit.flower.carrier import CarrierPatience, FlowerCarrier
from fedcredit.flower.control import RunConfig
from fedcredit.parties import InstitutionId
from fedcredit.transport import Deadline, Reply

BANK = InstitutionId("bank")
WAIT_S = 20.0


class _Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class _Relay:
    """Runs that are begun, watched and stopped by hand."""

    def __init__(self) -> None:
        self.submitted: list[int] = []
        self.stopped: list[int] = []
        self.status: dict[int, str] = {}
        self.asked = 0
        self.refuse = False
        self.changed = threading.Condition()

    def submit_run(self, app_dir: Path, run_config: RunConfig) -> int:
        with self.changed:
            self.changed.notify_all()
            if self.refuse:
                self.submitted.append(0)
                raise RelayCommandError(action="run", log="log")
            self.submitted.append(len(self.submitted) + 1)
            self.status.setdefault(self.submitted[-1], "running")
            return self.submitted[-1]

    def run_status(self, run_id: int) -> str:
        with self.changed:
            self.asked += 1
            self.changed.notify_all()
            return self.status[run_id]

    def stop_run(self, run_id: int) -> None:
        with self.changed:
            self.stopped.append(run_id)
            self.status[run_id] = "finished:stopped"
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout=WAIT_S)


class _Bench:
    def __init__(self) -> None:
        self.clock = _Clock()
        self.relay = _Relay()
        self.transport = CourierTransport(
            nodes={BANK: 11}, incarnation="run", max_bytes=1 << 20, idle_hold_s=0.0, monotonic=self.clock
        )
        self.carrier = FlowerCarrier(
            control=self.relay,
            transport=self.transport,
            app_dir=Path("app"),
            run_config={},
            patience=CarrierPatience(silent_s=5, status_every_s=5, replace_after_s=30, failed_legs=3, backoff_s=0.001),
            tend=lambda: None,
            monotonic=self.clock,
            look_s=0.005,
        )
        self.replies: list[Reply] = []
        self.exchange = threading.Thread(target=self._exchange, daemon=True)

    def _exchange(self) -> None:
        self.replies.extend(self.transport.exchange({BANK: b"b"}, deadline=Deadline.after(WAIT_S)))

    def poll(self, run_id: int, *replies: CourierReply) -> CourierAnswer:
        request = CourierRequest(session=str(run_id), replies=replies)
        return CourierAnswer.from_bytes(self.transport.handle_courier(request.to_bytes()), limit=1 << 20)


def test_a_leg_begins_with_the_first_request_and_ends_with_the_carrier() -> None:
    bench = _Bench()
    with bench.carrier:
        assert bench.relay.submitted == []
        bench.exchange.start()
        bench.relay.wait(lambda: bench.relay.submitted == [1])
        (item,) = bench.poll(1).outbox
        bench.poll(1, CourierReply(id=item.id, payload=b"B", error=None))
        bench.exchange.join(WAIT_S)
        assert bench.replies == [Reply(institution=BANK, payload=b"B")]
        assert bench.relay.asked == 0  # a polling courier tells enough
        bench.relay.status[1] = "finished:completed"
    assert bench.poll(1).done
    assert bench.relay.stopped == []


def test_a_failed_leg_with_open_requests_is_followed_by_another() -> None:
    bench = _Bench()
    with bench.carrier:
        bench.exchange.start()
        bench.relay.wait(lambda: bench.relay.submitted == [1])
        bench.poll(1)
        bench.relay.status[1] = "finished:failed"
        bench.clock.at += 6
        bench.relay.wait(lambda: bench.relay.submitted == [1, 2])
        (item,) = bench.poll(2).outbox
        bench.poll(2, CourierReply(id=item.id, payload=b"B", error=None))
        bench.exchange.join(WAIT_S)
        assert bench.replies == [Reply(institution=BANK, payload=b"B")]
        bench.relay.status[2] = "finished:completed"


def test_a_leg_that_only_seems_to_run_is_stopped_and_replaced() -> None:
    bench = _Bench()
    with bench.carrier:
        bench.exchange.start()
        bench.relay.wait(lambda: bench.relay.submitted == [1])
        bench.clock.at += 6
        bench.relay.wait(lambda: bench.relay.asked == 1)
        assert bench.relay.submitted == [1]  # silent, but the relay says running: wait
        bench.clock.at += 25
        bench.relay.wait(lambda: bench.relay.submitted == [1, 2])
        assert bench.relay.stopped == [1]
        bench.transport.give_up("test-over")
        bench.relay.status[2] = "finished:completed"


def test_a_relay_that_refuses_is_given_up_after_a_few_tries() -> None:
    bench = _Bench()
    bench.relay.refuse = True
    with bench.carrier:
        bench.exchange.start()
        bench.exchange.join(WAIT_S)
    assert bench.replies == [Reply(institution=BANK, payload=None, carrier_error="carrier-failed")]
    assert bench.relay.submitted == [0, 0, 0]


def test_a_run_that_does_not_end_by_itself_is_stopped() -> None:
    bench = _Bench()
    bench.carrier.start()
    bench.exchange.start()
    bench.relay.wait(lambda: bench.relay.submitted == [1])
    bench.carrier.close(timeout_s=0)
    assert bench.relay.stopped == [1]
    bench.transport.give_up("test-over")
    bench.exchange.join(WAIT_S)
