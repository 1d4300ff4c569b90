"""The processes of an embedded relay: SuperLink, SuperExec and SuperNodes, all on 127.0.0.1.

For the demo, for tests, and for a coordinator that hosts the relay itself (``fedcredit coord serve``). Commands and
their reasons: FLOWER.md sections 2, 5 and 6.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from fedcredit.daemon.address import COORDINATOR_SOCKET_VARIABLE
from fedcredit.daemon.client import wait_serving
from fedcredit.errors import DaemonUnreachableError, ProcessStartError
from fedcredit.flower.control import RelayControl
from fedcredit.flower.processes import ManagedProcess, carrier_environment, console_script, free_port
from fedcredit.store.files import write_atomic

HOST: Final = "127.0.0.1"
DATABASE: Final = "relay.db"
_PORT_ATTEMPTS: Final = 3
_PROBE_S: Final = 1.0
_CONNECTED: Final = b"SuperNode ID: "
OPENSSL_SETTINGS: Final = b"""openssl_conf = process
[process]
ssl_conf = tls
[tls]
system_default = everywhere
[everywhere]
Protocol = -TLSv1.2
"""
"""Flower has no option for it: the relay takes TLS 1.3 only. ``MinProtocol`` would not do, Python sets its own."""


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files of the relay's certificate; its alternative names hold 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path


class Relay:
    """A SuperLink with TLS, node authentication and a database, in process isolation.

    It stores and forwards sealed bytes and is trusted with nothing. ``directory`` holds its database, its SuperExec
    secret (mode 0600) and its logs; started again there, it still knows its nodes and runs.
    """

    def __init__(self, *, directory: Path, tls: TlsFiles, port: int | None = None) -> None:
        self._directory = directory.absolute()
        self._fixed_port = port
        self._tls = tls
        self._process: ManagedProcess | None = None
        self._port = 0
        self._control: RelayControl | None = None

    @property
    def address(self) -> str:
        """``host:port`` of the relay once it is started."""
        return f"{HOST}:{self._port}"

    @property
    def ca(self) -> Path:
        """The certificate by which everybody knows the relay."""
        return self._tls.ca.absolute()

    @property
    def secret_file(self) -> Path:
        """The secret that a SuperExec needs to be given the ServerApp."""
        return self._directory / "superexec.secret"

    @property
    def control(self) -> RelayControl:
        """Commands to the started relay."""
        if self._control is None:
            raise RuntimeError("the relay is not started")
        return self._control

    @property
    def process(self) -> ManagedProcess:
        """The SuperLink's process once it is started."""
        if self._process is None:
            raise RuntimeError("the relay is not started")
        return self._process

    def start(self, *, timeout_s: float) -> None:
        """Start the SuperLink, on a port from the system unless one is given, and return when it answers.

        Raises:
            ProcessStartError: it ended or did not answer within ``timeout_s`` seconds.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write_secret(self.secret_file)
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            self._port = self._fixed_port or free_port()
            try:
                self._launch(timeout_s=timeout_s)
                break
            except ProcessStartError:
                # Somebody may have taken the port in between; anything else fails again and is reported.
                if attempt == _PORT_ATTEMPTS:
                    raise
        self._control = RelayControl(
            address=self.address,
            ca=self.ca,
            flwr_home=self._directory / "control",
            log=self._directory / "commands.log",
        )

    def revive(self, *, timeout_s: float) -> None:
        """Start the SuperLink again on its old port if it died; runs survive a gap of less than 60 s.

        Raises:
            ProcessStartError: it does not come up.
        """
        if not self.process.alive():
            self.process.stop()
            self._launch(timeout_s=timeout_s)

    def stop(self) -> None:
        """End the SuperLink."""
        if self._process is not None:
            self._process.stop()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __enter__(self) -> Self:
        return self

    def _launch(self, *, timeout_s: float) -> None:
        command = [
            str(console_script("flower-superlink")),
            *("--ssl-ca-certfile", str(self._tls.ca.absolute())),
            *("--ssl-certfile", str(self._tls.certificate.absolute())),
            *("--ssl-keyfile", str(self._tls.key.absolute())),
            "--enable-supernode-auth",
            *("--host", HOST, "--port", str(self._port)),
            *("--database", str(self._directory / DATABASE)),
            *("--isolation", "process"),
            *("--superexec-auth-secret-file", str(self.secret_file)),
            "--disable-runtime-dependency-installation",
        ]
        settings = self._directory / "openssl.cnf"
        write_atomic(settings, OPENSSL_SETTINGS)
        environment = carrier_environment(self._directory / "superlink-home")
        environment["OPENSSL_CONF"] = str(settings)
        log = self._directory / "superlink.log"
        process = ManagedProcess("the relay", command, environment=environment, log=log)
        process.start()
        try:
            process.wait_until(self._answers, timeout_s=timeout_s)
        except ProcessStartError:
            process.stop()
            raise
        self._process = process

    def _answers(self) -> bool:
        context = ssl.create_default_context(cafile=str(self.ca))
        connection = http.client.HTTPSConnection(HOST, self._port, timeout=_PROBE_S, context=context)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        return False


def start_superexec(
    *, address: str, ca: Path, secret_file: Path, directory: Path, coordinator_socket: Path, timeout_s: float
) -> ManagedProcess:
    """Start the SuperExec that runs the server courier against ``coordinator_socket``; return when it serves.

    Raises:
        ProcessStartError: it ended or did not serve within ``timeout_s`` seconds.
    """
    health = f"{HOST}:{free_port()}"
    command = [
        str(console_script("flower-superexec")),
        *("--root-certificates", str(ca.absolute())),
        *("--runtime-api-address", address),
        *("--superexec-auth-secret-file", str(secret_file.absolute())),
        *("--health-server-address", health),
    ]
    environment = carrier_environment(directory / "superexec-home")
    environment[COORDINATOR_SOCKET_VARIABLE] = str(coordinator_socket.absolute())
    process = ManagedProcess("the SuperExec", command, environment=environment, log=directory / "superexec.log")
    process.start()
    try:
        process.wait_until(lambda: _serves(health), timeout_s=timeout_s)
    except ProcessStartError:
        process.stop()
        raise
    return process


class SuperNode:
    """The stock SuperNode of one institution with its courier; the key is a transport key and opens no envelope."""

    def __init__(
        self, *, name: str, address: str, ca: Path, private_key: Path, node_socket: Path, directory: Path
    ) -> None:
        self._name = name
        self._address = address
        self._ca = ca
        self._private_key = private_key
        self._node_socket = node_socket
        self._directory = directory.absolute()
        self._log = self._directory / "supernode.log"
        self._read_from = 0
        self.process = ManagedProcess(
            f"the SuperNode of {name}",
            self._command(),
            environment=carrier_environment(self._directory / "supernode-home"),
            log=self._log,
        )

    def start(self) -> Self:
        """Start it and return at once, so that several can start side by side."""
        with contextlib.suppress(FileNotFoundError):
            self._read_from = self._log.stat().st_size
        self.process.start()
        return self

    def wait_ready(self, *, timeout_s: float) -> None:
        """Return when the relay has taken the SuperNode in.

        Raises:
            ProcessStartError: it ended (its key is not enrolled, or was active a minute ago), or it took too long.
        """
        try:
            self.process.wait_until(self._connected, timeout_s=timeout_s)
        except ProcessStartError:
            self.process.stop()
            raise

    def stop(self) -> None:
        """End it with its courier."""
        self.process.stop()

    def _connected(self) -> bool:
        # Its health service answers before it has spoken to the relay; this line comes after.
        with self._log.open("rb") as log:
            log.seek(self._read_from)
            return _CONNECTED in log.read()

    def _command(self) -> list[str]:
        return [
            str(console_script("flower-supernode")),
            *("--root-certificates", str(self._ca.absolute())),
            *("--superlink", self._address),
            *("--auth-supernode-private-key", str(self._private_key.absolute())),
            *("--host", HOST, "--port", str(free_port())),
            *("--node-config", f'socket="{self._node_socket.absolute()}"'),
        ]


def _serves(target: str) -> bool:
    with contextlib.suppress(DaemonUnreachableError):
        wait_serving(target, timeout_s=_PROBE_S)
        return True
    return False


def _write_secret(path: Path) -> None:
    """Write 32 random bytes for nobody else to read; a secret that is there stays."""
    with contextlib.suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(32))
