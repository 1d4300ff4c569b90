"""The local service and its thin client over real sockets."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.daemon._generated import local_pb2_grpc
from fedcredit.daemon._generated.local_pb2 import Chunk
from fedcredit.daemon.address import CHUNK_BYTES, unix_target
from fedcredit.daemon.chunks import chunked, gather
from fedcredit.daemon.client import LocalClient, exchange, wait_ready
from fedcredit.daemon.service import LocalService
from fedcredit.errors import (
    DaemonUnreachableError,
    InternalError,
    MessageTooLargeError,
    NotWritableError,
    SocketPathError,
    StateDirInUseError,
)

LIMIT = 4 << 20


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fc-") as folder:  # pytest's own folders are too long for a socket
        yield Path(folder)


def _reversed(request: bytes) -> bytes:
    return request[::-1]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, LIMIT])
def test_a_message_of_any_size_up_to_the_limit_comes_back(place: Path, size: int) -> None:
    request = os.urandom(size)
    with LocalService(place / "s", _reversed, max_bytes=LIMIT, workers=1) as service:
        assert exchange(service.socket_path, request, timeout_s=10) == request[::-1]


def test_a_message_above_the_limit_is_refused_before_the_handler_sees_it(place: Path) -> None:
    seen: list[bytes] = []
    with LocalService(place / "s", lambda r: seen.append(r) or b"", max_bytes=10, workers=1) as service:
        with pytest.raises(MessageTooLargeError) as caught:
            exchange(service.socket_path, bytes(11), timeout_s=10)
        assert exchange(service.socket_path, bytes(10), timeout_s=10) == b""
    assert caught.value.fields == {"size": 11, "limit": 10}
    assert [len(request) for request in seen] == [10]


def test_reading_stops_at_the_limit() -> None:
    taken = 0

    def endless() -> Iterator[Chunk]:
        nonlocal taken
        while True:
            taken += 1
            yield Chunk(data=bytes(4))

    with pytest.raises(MessageTooLargeError):
        gather(endless(), limit=10)
    assert taken == 3


@given(st.binary(max_size=50))
def test_chunks_join_to_the_message(data: bytes) -> None:
    assert gather(chunked(data), limit=50) == data


def test_what_a_handler_raises_never_crosses(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: bytes) -> bytes:
        raise ValueError("could not convert 'ACME SA'")

    with LocalService(place / "s", fails, max_bytes=LIMIT, workers=1) as service:
        with pytest.raises(InternalError) as caught:
            exchange(service.socket_path, b"x", timeout_s=10)
        with grpc.insecure_channel(unix_target(service.socket_path)) as channel:
            stub = local_pb2_grpc.LocalStub(channel)
            with pytest.raises(grpc.RpcError) as raw:
                list(stub.Exchange(iter([Chunk(data=b"x")]), timeout=10))
    assert raw.value.details() == "the daemon failed on this request"
    assert "ACME" not in str(caught.value)
    assert "ACME" not in caplog.text
    assert "ValueError" in caplog.text


def test_nobody_at_the_socket_is_an_error_with_a_way_out(place: Path) -> None:
    with pytest.raises(DaemonUnreachableError, match="No fedcredit daemon answers"):
        exchange(place / "s", b"x", timeout_s=2)
    with pytest.raises(DaemonUnreachableError):
        wait_ready(place / "s", timeout_s=0.2)


def test_a_silent_daemon_costs_no_more_than_the_time_given(place: Path) -> None:
    release = threading.Event()

    def waits(_: bytes) -> bytes:
        release.wait(10)
        return b""

    with LocalService(place / "s", waits, max_bytes=LIMIT, workers=1) as service:
        for timeout_s in (0.2, 0.0, -1.0):
            with pytest.raises(DaemonUnreachableError):
                exchange(service.socket_path, b"x", timeout_s=timeout_s)
        release.set()


def test_a_daemon_that_is_slow_to_greet_is_waited_for(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:  # it takes connections and says nothing, as a busy daemon does
        mute.bind(str(place / "s"))
        mute.listen()
        begun = time.monotonic()
        with pytest.raises(DaemonUnreachableError):
            exchange(place / "s", b"x", timeout_s=0.5)
        assert time.monotonic() - begun >= 0.45  # not after a tenth of a second


def test_a_client_finds_a_daemon_that_comes_up_later(place: Path) -> None:
    service = LocalService(place / "s", _reversed, max_bytes=LIMIT, workers=1)
    found = threading.Thread(target=wait_ready, args=(place / "s",), kwargs={"timeout_s": 10})
    found.start()
    with service:
        found.join(10)
        assert not found.is_alive()


def test_one_client_serves_many_exchanges(place: Path) -> None:
    with (
        LocalService(place / "s", _reversed, max_bytes=LIMIT, workers=2) as service,
        LocalClient(service.socket_path) as client,
    ):
        assert [client.exchange(text, timeout_s=5) for text in (b"ab", b"cd")] == [b"ba", b"dc"]


def test_a_path_with_blanks_and_signs_works(place: Path) -> None:
    with LocalService(place / "a b%20ü" / "s", _reversed, max_bytes=LIMIT, workers=1) as service:
        assert exchange(service.socket_path, b"ab", timeout_s=5) == b"ba"


def test_a_socket_path_of_108_bytes_is_refused_and_107_are_not() -> None:
    longest = Path("/" + "a" * 106)
    assert unix_target(longest) == "unix:" + str(longest)
    with pytest.raises(SocketPathError) as caught:
        unix_target(Path("/" + "a" * 107))
    assert caught.value.fields["length"] == 108


@pytest.mark.parametrize(("directory_mode", "socket_mode"), [(0o700, 0o600), (0o750, 0o660)])
def test_the_directory_decides_who_may_connect(place: Path, directory_mode: int, socket_mode: int) -> None:
    path = place / "run" / "s"
    with LocalService(path, _reversed, max_bytes=LIMIT, workers=1, directory_mode=directory_mode):
        assert path.parent.stat().st_mode & 0o777 == directory_mode
        assert path.stat().st_mode & 0o777 == socket_mode


def test_a_stale_socket_is_replaced_and_removed_at_the_end(place: Path) -> None:
    path = place / "s"
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    with LocalService(path, _reversed, max_bytes=LIMIT, workers=1):
        assert exchange(path, b"ab", timeout_s=5) == b"ba"
    assert not path.exists()


def test_a_living_daemon_is_not_pushed_aside(place: Path) -> None:
    with LocalService(place / "s", _reversed, max_bytes=LIMIT, workers=1):
        with pytest.raises(StateDirInUseError):
            LocalService(place / "s", _reversed, max_bytes=LIMIT, workers=1).start()
        assert exchange(place / "s", b"ab", timeout_s=5) == b"ba"


def test_a_file_in_the_way_is_left_alone(place: Path) -> None:
    (place / "s").write_text("ledger")
    with pytest.raises(NotWritableError):
        LocalService(place / "s", _reversed, max_bytes=LIMIT, workers=1).start()
    with pytest.raises(NotWritableError):
        LocalService(place / "s" / "t", _reversed, max_bytes=LIMIT, workers=1).start()
    assert (place / "s").read_text() == "ledger"


def test_the_client_brings_nothing_of_ours_but_errors() -> None:
    code = "import sys, json, fedcredit.daemon.client; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    modules = set(json.loads(done.stdout))
    ours = {name for name in modules if name.split(".")[0] == "fedcredit"}
    outside = {name for name in ours if not name.startswith("fedcredit.daemon")}
    assert outside == {"fedcredit", "fedcredit.errors"}
    assert not modules & {"torch", "numpy", "flwr", "cryptography", "sqlite3", "pyarrow"}
