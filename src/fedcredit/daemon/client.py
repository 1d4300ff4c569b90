"""The client side of a local service, kept thin: a courier process that carries one message starts with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Self, cast

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from fedcredit.daemon._generated import local_pb2_grpc
from fedcredit.daemon.address import LIMIT_KEY, unix_target
from fedcredit.daemon.chunks import chunked
from fedcredit.errors import DaemonUnreachableError, FedcreditError, InternalError, MessageTooLargeError

_START: Final = "fedcredit node run, or fedcredit coord serve"
_ASK_AGAIN_S: Final = 0.05
_OPTIONS: Final = (
    # A daemon that comes up is found within a fifth of a second, not after gRPC's usual seconds.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    # gRPC's name misleads: so long may one connection take to be greeted. A busy daemon is not an absent one; nobody at
    # the socket is still found at once.
    ("grpc.min_reconnect_backoff_ms", 20_000),
    ("grpc.enable_http_proxy", 0),
)


class LocalClient:
    """A connection to one local service; cheap to make, and safe to share between threads."""

    def __init__(self, socket_path: Path) -> None:
        self._socket_path = socket_path
        self._channel = grpc.insecure_channel(unix_target(socket_path), options=list(_OPTIONS))
        stub = local_pb2_grpc.LocalStub(self._channel)  # type: ignore[no-untyped-call]
        self._exchange = stub.Exchange

    def exchange(self, request: bytes, *, timeout_s: float) -> bytes:
        """Send ``request`` and return the reply; the whole call takes at most ``timeout_s`` seconds.

        Raises:
            DaemonUnreachableError: nobody serves the socket, or no reply came in time.
            MessageTooLargeError: the service refuses a request of this size.
            InternalError: the daemon failed on the request; its log says more.
        """
        if timeout_s <= 0:  # gRPC would take 0 for "no limit"
            raise DaemonUnreachableError(socket=self._socket_path, command=_START)
        try:
            stream = self._exchange(chunked(request), timeout=timeout_s)
            return b"".join(chunk.data for chunk in stream)
        except grpc.RpcError as error:
            raise _translated(error, socket_path=self._socket_path, size=len(request)) from None

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def exchange(socket_path: Path, request: bytes, *, timeout_s: float) -> bytes:
    """Send one request to the daemon at ``socket_path`` and return its reply; see ``LocalClient.exchange``."""
    with LocalClient(socket_path) as client:
        return client.exchange(request, timeout_s=timeout_s)


def wait_ready(socket_path: Path, *, timeout_s: float) -> None:
    """Return as soon as the daemon at ``socket_path`` reports SERVING.

    Raises:
        DaemonUnreachableError: it did not within ``timeout_s`` seconds.
    """
    wait_serving(unix_target(socket_path), timeout_s=timeout_s)


def wait_serving(target: str, *, timeout_s: float) -> None:
    """Return as soon as the gRPC health service at ``target`` (``unix:...`` or ``host:port``) reports SERVING.

    Raises:
        DaemonUnreachableError: it did not within ``timeout_s`` seconds.
    """
    end = time.monotonic() + timeout_s
    with grpc.insecure_channel(target, options=list(_OPTIONS)) as channel:
        # Check, not Watch: Flower's health service knows no other.
        check = health_pb2_grpc.HealthStub(channel).Check
        while (left_s := end - time.monotonic()) > 0:
            try:
                state = check(health_pb2.HealthCheckRequest(), timeout=left_s, wait_for_ready=True)
            except grpc.RpcError:
                break
            if state.status == health_pb2.HealthCheckResponse.SERVING:
                return
            time.sleep(_ASK_AGAIN_S)
    raise DaemonUnreachableError(socket=target.removeprefix("unix:"), command=_START)


def _translated(error: grpc.RpcError, *, socket_path: Path, size: int) -> FedcreditError:
    call = cast(grpc.Call, error)
    trailing = {key: value for key, value in call.trailing_metadata() or ()}
    if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and LIMIT_KEY in trailing:
        return MessageTooLargeError(size=size, limit=int(trailing[LIMIT_KEY]))
    if call.code() is grpc.StatusCode.INTERNAL:
        return InternalError(kind="the daemon failed on a request")
    return DaemonUnreachableError(socket=socket_path, command=_START)
