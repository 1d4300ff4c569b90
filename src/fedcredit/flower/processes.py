"""Child processes that leave nothing behind: an own group each, ended by id, and a leash that outlives a killed parent.

Standard library only, and no ``preexec_fn``: this process runs gRPC threads, and Python code between fork and exec
would deadlock with them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Self

from fedcredit.errors import ConfigFileMissingError, ProcessStartError

_LEASH: Final = Path(__file__).with_name("leash.py")
_POLL_S: Final = 0.05
_INHERITED: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "TMPDIR", "TZ")

SUPEREXEC_POLL_S: Final = "0.2"


def console_script(name: str) -> Path:
    """Return the script ``name`` beside this Python, so that no environment need be activated.

    Raises:
        ConfigFileMissingError: it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.is_file():
        raise ConfigFileMissingError(what=f"command {name}", path=path, command="pip install fedcredit")
    return path


def carrier_environment(flwr_home: Path, *, inherited: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the whole environment of a Flower process whose private folder is ``flwr_home``.

    Nothing phones home, nothing is installed at run time, polls are short. Of ``inherited`` only names that say where
    things are pass on: a proxy would see local traffic, and a secret has no business where bundled code runs.
    """
    environment = {name: inherited[name] for name in _INHERITED if name in inherited}
    # Flower starts its own commands by bare name.
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)])
    environment.update(
        FLWR_HOME=str(flwr_home.absolute()),
        FLWR_TELEMETRY_ENABLED="0",
        FLWR_DISABLE_UPDATE_CHECK="1",
        FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION="1",
        FLWR_SUPEREXEC_TASK_POLL_INTERVAL=SUPEREXEC_POLL_S,
        OMP_NUM_THREADS="1",
        PYTHONUNBUFFERED="1",
    )
    return environment


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ManagedProcess:
    """One command in its own process group, its output appended to ``log`` (mode 0600).

    The group ends with ``stop``, with the command, or with this process, kill -9 included (see ``leash``).
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._leash: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    @property
    def group(self) -> int | None:
        """The process group's id while the process is started."""
        return self._leash.pid if self._leash is not None else None

    def start(self) -> Self:
        """Start the command and return at once; see ``wait_until`` for readiness."""
        with self._lock, _append(self.log) as output:
            if self._leash is not None:
                raise RuntimeError(f"{self.name} is started already")
            self._leash = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LEASH), *self._command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def alive(self) -> bool:
        """Tell whether the command runs."""
        return self._leash is not None and not _ended(self._leash.pid)

    def revive(self) -> None:
        """Start the command again if it ended by itself; one that was never started or was stopped stays so."""
        if self._leash is not None and not self.alive():
            self.stop()
            self.start()

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Poll ``ready`` until it holds.

        Raises:
            ProcessStartError: the command ended, or ``timeout_s`` seconds passed, before it did.
        """
        begun = time.monotonic()
        while not ready():
            waited = time.monotonic() - begun
            if not self.alive() or waited > timeout_s:
                raise ProcessStartError(process=self.name, seconds=waited, log=self.log)
            time.sleep(_POLL_S)

    def ask_to_end(self) -> None:
        """Send SIGTERM to the group and return at once, so that several end side by side; ``stop`` waits."""
        with self._lock:
            if self._leash is not None:
                _signal_group(self._leash.pid, signal.SIGTERM)

    def stop(self, *, grace_s: float = 5.0) -> None:
        """End the whole group: SIGTERM, and SIGKILL after ``grace_s`` seconds. Doing it again does nothing."""
        with self._lock:
            if self._leash is None:
                return
            leash, self._leash = self._leash, None
            _signal_group(leash.pid, signal.SIGTERM)
            end = time.monotonic() + grace_s
            while not _ended(leash.pid) and time.monotonic() < end:
                time.sleep(_POLL_S)
            # The leader is not reaped yet, so the number still belongs to this group and to no other.
            _signal_group(leash.pid, signal.SIGKILL)
            leash.wait()
            if leash.stdin is not None:
                leash.stdin.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _ended(pid: int) -> bool:
    """Tell whether our child ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def _append(log: Path) -> IO[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")
