"""The institution's courier against a real local service."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from fedcredit.daemon.service import LocalService
from fedcredit.errors import CourierError
from fedcredit.flower.envelope import unwrap, wrap
from fedcredit.flower.node_courier import carry

Build = Callable[..., Message]
CONSTANT = "The courier could not pass the envelope on."


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fc-") as folder:
        yield Path(folder)


def _context(**node_config: object) -> Context:
    return Context(run_id=7, node_id=11, node_config=node_config, state=RecordDict(), run_config={"socket": "/never"})


def _carry(message: Message, context: Context, **options: Any) -> Message:
    """Carry without a watchdog that would end the test run itself a minute later."""
    return carry(message, context, **{"hard_exit": lambda _: None, **options})


def test_the_daemons_reply_goes_back_to_the_sender(place: Path, instruction: Build) -> None:
    message = instruction(wrap(b"abc"))
    with LocalService(place / "s", lambda request: request[::-1], max_bytes=100, workers=1):
        reply = _carry(message, _context(socket=str(place / "s")))
    assert unwrap(reply.content) == b"cba"
    assert reply.metadata.dst_node_id == 1
    assert reply.metadata.src_node_id == 11


@pytest.mark.parametrize("node_config", [{}, {"socket": 5}, {"socket": "/nowhere/s"}, {"socket": "/" + "a" * 200}])
def test_without_a_reachable_socket_only_a_constant_text_leaves(
    instruction: Build, node_config: dict[str, object]
) -> None:
    with pytest.raises(CourierError) as caught:
        _carry(instruction(wrap(b"abc"), ttl=4.0), _context(**node_config))
    assert str(caught.value) == CONSTANT
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_failing_daemon_leaves_only_a_constant_text(place: Path, instruction: Build) -> None:
    def fails(_: bytes) -> bytes:
        raise ValueError("ACME SA")

    with (
        LocalService(place / "s", fails, max_bytes=100, workers=1),
        pytest.raises(CourierError, match=f"^{CONSTANT}$"),
    ):
        _carry(instruction(wrap(b"abc")), _context(socket=str(place / "s")))


def test_what_is_no_envelope_never_reaches_the_daemon(place: Path, instruction: Build) -> None:
    seen: list[bytes] = []
    with (
        LocalService(place / "s", lambda request: seen.append(request) or b"", max_bytes=100, workers=1),
        pytest.raises(CourierError),
    ):
        _carry(instruction(RecordDict()), _context(socket=str(place / "s")))
    assert seen == []


def test_a_message_whose_time_is_over_never_reaches_the_daemon(place: Path, instruction: Build) -> None:
    seen: list[bytes] = []
    message = instruction(wrap(b"abc"), ttl=60.0)
    too_late = message.metadata.created_at + 59.0
    with (
        LocalService(place / "s", lambda request: seen.append(request) or b"", max_bytes=100, workers=1),
        pytest.raises(CourierError),
    ):
        _carry(message, _context(socket=str(place / "s")), clock=lambda: too_late)
    assert seen == []


def test_a_courier_that_hangs_ends_its_own_process(instruction: Build) -> None:
    message = instruction(wrap(b"abc"), ttl=60.0)
    ended = threading.Event()
    # As seen from the clock given, the lifetime was over a second before the call.
    over = message.metadata.created_at + 60.0 + 1.0
    with pytest.raises(CourierError):
        _carry(
            message,
            _context(socket="/nowhere/s"),
            clock=lambda: over,
            hard_exit=lambda _: ended.set(),
            grace_s=0.01,
        )
    assert ended.wait(5)
