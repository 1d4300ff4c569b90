"""The service side: one handler behind a Unix-domain socket, with a size limit and a guard around every failure."""

from __future__ import annotations

import logging
import socket
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NoReturn, Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fedcredit.daemon._generated import local_pb2, local_pb2_grpc
from fedcredit.daemon.address import CHUNK_BYTES, FAILED_TEXT, LIMIT_KEY, TOO_LARGE_TEXT, unix_target
from fedcredit.daemon.chunks import chunked, gather
from fedcredit.errors import MessageTooLargeError, NotWritableError, StateDirInUseError

Handler = Callable[[bytes], bytes]

_LOG: Final = logging.getLogger(__name__)
_FRAME_ROOM: Final = 64
_WAITING_CALLS: Final = 16
_PROBE_S: Final = 1.0
READ_S: Final = 60.0
"""A request must have arrived whole within this time, in seconds."""


class _Servicer(local_pb2_grpc.LocalServicer):
    """Reads, asks the handler, answers; what goes wrong leaves as one of two constant texts."""

    def __init__(self, handler: Handler, *, max_bytes: int) -> None:
        self._handler = handler
        self._max_bytes = max_bytes

    def Exchange(  # noqa: N802 - the name in local.proto
        self, request_iterator: Iterable[local_pb2.Chunk], context: grpc.ServicerContext
    ) -> Iterator[local_pb2.Chunk]:
        """Answer one request."""
        # A client that opens a stream and sends nothing would hold a worker for ever.
        watchdog = threading.Timer(READ_S, context.cancel)
        watchdog.daemon = True
        watchdog.start()
        try:
            request = gather(request_iterator, limit=self._max_bytes)
        except MessageTooLargeError:
            context.set_trailing_metadata(((LIMIT_KEY, str(self._max_bytes)),))
            _refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, TOO_LARGE_TEXT)
        finally:
            watchdog.cancel()
        try:
            reply = self._handler(request)
        except Exception as error:  # noqa: BLE001 - a handler's text must not cross, whatever it raised
            # The type only: a message or a traceback may hold what must stay in the handler's own process.
            _LOG.error("the handler of a local service raised %s", type(error).__name__)
            _refuse(context, grpc.StatusCode.INTERNAL, FAILED_TEXT)
        yield from chunked(reply)


def _refuse(context: grpc.ServicerContext, code: grpc.StatusCode, text: str) -> NoReturn:
    context.abort(code, text)
    raise AssertionError("abort raises")


class LocalService:
    """Serves ``handler`` on a Unix-domain socket until stopped; the directory's mode decides who may connect.

    At most ``workers`` requests run at a time; a request of more than ``max_bytes`` is refused while it is read. The
    directory is created with ``directory_mode`` if it is missing and left as it is otherwise; the socket is open to
    the group exactly if ``directory_mode`` is. Health (grpc.health.v1) answers SERVING from start to stop.
    """

    def __init__(
        self, socket_path: Path, handler: Handler, *, max_bytes: int, workers: int, directory_mode: int = 0o700
    ) -> None:
        self.socket_path = socket_path.absolute()
        self._handler = handler
        self._max_bytes = max_bytes
        self._workers = workers
        self._directory_mode = directory_mode
        self._health: health.HealthServicer | None = None
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Bind the socket and serve.

        Raises:
            SocketPathError: the path is too long.
            StateDirInUseError: another process answers on the socket.
            NotWritableError: the path is taken by something else than a socket, or cannot be bound.
        """
        target = unix_target(self.socket_path)
        try:
            _make_directory(self.socket_path.parent, mode=self._directory_mode)
            _remove_stale(self.socket_path)
        except OSError as error:
            raise NotWritableError(path=self.socket_path, problem=error.strerror or "no reason given") from error
        server = grpc.server(
            ThreadPoolExecutor(max_workers=self._workers + 1, thread_name_prefix="local-service"),
            options=[
                ("grpc.max_receive_message_length", CHUNK_BYTES + _FRAME_ROOM),
                ("grpc.max_send_message_length", CHUNK_BYTES + _FRAME_ROOM),
            ],
            maximum_concurrent_rpcs=self._workers + _WAITING_CALLS,
        )
        servicer = _Servicer(self._handler, max_bytes=self._max_bytes)
        local_pb2_grpc.add_LocalServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        try:
            server.add_insecure_port(target)
        except RuntimeError as error:
            raise NotWritableError(path=self.socket_path, problem="the socket cannot be bound") from error
        self.socket_path.chmod(0o660 if self._directory_mode & 0o070 else 0o600)
        server.start()
        self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._server = server

    def stop(self, *, grace_s: float = 5.0) -> None:
        """Refuse new requests, let running ones end for ``grace_s`` seconds, and remove the socket."""
        if self._server is None:
            return
        if self._health is not None:
            self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._server = None
        self.socket_path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _make_directory(directory: Path, *, mode: int) -> None:
    if not directory.exists():
        directory.mkdir(parents=True, mode=mode)
        directory.chmod(mode)  # mkdir is subject to the umask


def _remove_stale(path: Path) -> None:
    """Remove a socket that nobody serves; gRPC itself would take over a living one."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotWritableError(path=path, problem="it is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
    raise StateDirInUseError(path=path)
