"""A study through Flower: a real SuperLink, SuperNodes and daemons, all separate processes on loopback, with TLS.

What runs are the commands that an operator types (``coord serve``, ``node run``), in the folders that the study made.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from fedcredit.checkpoint import CheckpointStore
from fedcredit.daemon.client import wait_ready
from fedcredit.daemon.control import ControlClient, error_from
from fedcredit.errors import DaemonUnreachableError, ProcessStartError
from fedcredit.flower.processes import ManagedProcess, console_script, free_port
from fedcredit.lab.study import OnRound, Study
from fedcredit.rounds.drive import ROUNDS_FILE, read_lines

READY_S: Final = 180.0
POLL_S: Final = 0.3
READY_FILE: Final = "ready"


def free_relay_port() -> int:
    """Return a port that is free now, for the relay's address in the invitations."""
    return free_port()


def run_through_flower(study: Study, *, on_round: OnRound) -> Path:
    """Run a study to its end and return the coordinator's run folder; no process is left behind."""
    with _interrupts() as pressed, running_consortium(study) as control:
        run_id = control.start(study.plan)
        folder = study.coordinator_folder / "runs" / run_id
        told = 0
        while True:
            if pressed.is_set():
                raise KeyboardInterrupt
            status = control.status()
            told = _tell_new_rounds(folder, told, on_round)
            if status.state == "failed":
                raise error_from(status.error or {})
            if status.state in {"finished", "rejected"}:
                _tell_new_rounds(folder, told, on_round)
                return folder
            time.sleep(POLL_S)


@contextmanager
def running_consortium(study: Study) -> Iterator[ControlClient]:
    """Start the coordinator and every institution as processes, and end them all in the end."""
    # Unix-domain socket paths are short (107 bytes), run folders may be long.
    with ExitStack() as stack:
        sockets = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fc-")))
        coordinator = _process(
            study, "coordinator", ["coord", "serve", str(study.coordinator_folder), "--sockets", str(sockets)]
        )
        stack.enter_context(coordinator)
        _await_socket(coordinator, sockets / "control.sock", study.folder / "logs" / "coordinator.log")
        nodes = {}
        for name in study.holdings:
            folder = study.node_folder(name)
            command = ["node", "run", str(folder), "--socket", str(sockets / f"{name}.sock")]
            nodes[name] = _process(study, name, [*command, "--ready-file", str(sockets / f"{name}.{READY_FILE}")])
            stack.enter_context(nodes[name])
        for name, process in nodes.items():
            process.wait_until((sockets / f"{name}.{READY_FILE}").exists, timeout_s=READY_S)
        try:
            yield ControlClient(sockets / "control.sock")
        finally:
            for process in (*nodes.values(), coordinator):
                process.ask_to_end()


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Remember a Ctrl-C: the exception of one that arrives inside a destructor or a callback is lost."""
    pressed = threading.Event()

    def remember(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)


def _process(study: Study, name: str, arguments: list[str]) -> ManagedProcess:
    logs = study.folder / "logs"
    logs.mkdir(exist_ok=True)
    command = [str(console_script("fedcredit")), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return ManagedProcess(name, command, environment=environment, log=logs / f"{name}.log")


def _await_socket(process: ManagedProcess, socket: Path, log: Path) -> None:
    process.wait_until(socket.exists, timeout_s=READY_S)
    try:
        wait_ready(socket, timeout_s=READY_S)
    except DaemonUnreachableError as error:
        raise ProcessStartError(process="the coordinator", seconds=READY_S, log=str(log)) from error


def _tell_new_rounds(folder: Path, told: int, on_round: OnRound) -> int:
    lines = read_lines(folder / ROUNDS_FILE)
    checkpoints = CheckpointStore(folder / "checkpoints")
    for line in lines[told:]:
        checkpoint = checkpoints.load(line["round"], digest=bytes.fromhex(line["checkpoint"]))
        on_round(line["round"], checkpoint.tensors["released"], len(line["contributors"]))
    return max(told, len(lines))
