"""The coordinator's daemon: keys, journal and round engine stay here; a relay and a courier carry.

Two local sockets: ``courier.sock`` for the ServerApp that Flower runs, ``control.sock`` for the operator's commands.
When a Flower run dies, the daemon submits another and goes on; when the daemon dies, ``run resume`` goes on from the
last released round.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from fedcredit.config.plan import RunPlan
from fedcredit.daemon.control import Controller, Status
from fedcredit.daemon.courier_messages import MESSAGE_ROOM, CourierAnswer
from fedcredit.daemon.courier_transport import CourierTransport
from fedcredit.daemon.service import LocalService
from fedcredit.errors import (
    FedcreditError,
    InternalError,
    ModelNotReleasedError,
    RelayCommandError,
    RunBusyError,
    UsageError,
)
from fedcredit.flower.app_folder import app_folder
from fedcredit.flower.carrier import CarrierPatience, FlowerCarrier
from fedcredit.flower.processes import ManagedProcess
from fedcredit.flower.relay import DATABASE, Relay, TlsFiles, start_superexec
from fedcredit.messages import MAX_MESSAGE_BYTES
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import AUTHORITY, SERVER_CERTIFICATE, SERVER_KEY, Coordinator, new_run_id
from fedcredit.rounds.drive import drive
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.run import RoundReport
from fedcredit.rounds.voting import Verdict
from fedcredit.store.files import make_directory, write_atomic

LOG: Final = logging.getLogger("fedcredit.coordinator")
START_S: Final = 90.0
IDLE_HOLD_S: Final = 0.2
CONTROL_BYTES: Final = 16 * 1024 * 1024
PATIENCE: Final = CarrierPatience(silent_s=10.0, status_every_s=5.0, replace_after_s=90.0, failed_legs=3, backoff_s=2.0)


class CoordinatorDaemon:
    """Serves one coordinator folder until left."""

    def __init__(self, folder: Path, *, sockets: Path, passphrase: bytes | None) -> None:
        self._coordinator = Coordinator(folder, passphrase=passphrase)
        self._folder = folder.absolute()
        self._sockets = sockets
        self._relay = Relay(
            directory=self._folder / "relay",
            tls=TlsFiles(ca=folder / AUTHORITY, certificate=folder / SERVER_CERTIFICATE, key=folder / SERVER_KEY),
            port=self._coordinator.config.relay.port,
        )
        self._superexec: ManagedProcess | None = None
        self._transport: CourierTransport | None = None
        self._thread: threading.Thread | None = None
        self._launching = threading.Lock()
        self._status = Status.idle()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the relay, enrol the approved members' transport keys, then open the sockets."""
        make_directory(self._folder / "relay", mode=0o700)
        with ExitStack() as starting:
            courier = LocalService(
                self._sockets / "courier.sock", self._courier, max_bytes=MAX_MESSAGE_BYTES + MESSAGE_ROOM, workers=2
            )
            starting.enter_context(courier)
            returning = (self._folder / "relay" / DATABASE).exists()
            self._relay.start(timeout_s=START_S)
            starting.callback(self._relay.stop)
            if returning:
                self._end_old_legs()
            self._start_superexec(courier.socket_path)
            starting.callback(self._stop_superexec)
            self._node_ids()
            controller = Controller(start=self.start_run, resume=self.resume_run, status=lambda: self._status)
            control = LocalService(
                self._sockets / "control.sock", controller.handle, max_bytes=CONTROL_BYTES, workers=2
            )
            starting.enter_context(control)
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything that was started; an unfinished run can be resumed."""
        self._stack.close()

    def start_run(self, plan: RunPlan) -> str:
        """Start a run of a plan in the background and return its id."""
        run_id = new_run_id(plan)
        self._launch(run_id, plan)
        return run_id

    def resume_run(self, run_id: str) -> str:
        """Go on with a run after its last released round."""
        plan = RunPlan.read(self._coordinator.run_folder(run_id) / "plan.toml")
        self._launch(run_id, plan)
        return run_id

    def _launch(self, run_id: str, plan: RunPlan) -> None:
        # Two commands may come at once; one run at a time is allowed.
        with self._launching:
            if self._thread is not None and self._thread.is_alive():
                raise RunBusyError(run=self._status.run)
            roster = self._coordinator.roster(plan)
            nodes = self._node_ids()
            absent = [name for name in plan.institutions if name not in nodes]
            if absent:
                raise UsageError(
                    problem=f"no transport key is enrolled for {', '.join(absent)}",
                    hint="The relay refused their key; the coordinator's log has the code.",
                )
            self._status = Status(
                run=run_id, state="running", round=0, rounds=plan.run.rounds, institutions=len(roster)
            )
            self._thread = threading.Thread(target=self._execute, args=(run_id, plan, nodes), name="run", daemon=True)
            self._thread.start()

    def _execute(self, run_id: str, plan: RunPlan, nodes: Mapping[InstitutionId, int]) -> None:
        try:
            self._drive(run_id, plan, nodes).require_released()
            self._status = self._status.finished()
        except ModelNotReleasedError as error:
            LOG.warning("%s %s", error.code, error)
            self._status = self._status.rejected(error)
        except FedcreditError as error:
            LOG.warning("%s %s", error.code, error)
            self._status = self._status.failed(error)
        except Exception as error:  # noqa: BLE001 - the guard of the run's thread
            LOG.error("internal error of type %s in run %s", type(error).__name__, run_id)
            self._status = self._status.failed(InternalError(kind=type(error).__name__))

    def _drive(self, run_id: str, plan: RunPlan, nodes: Mapping[InstitutionId, int]) -> Verdict:
        transport = CourierTransport(
            nodes=nodes,
            incarnation=secrets.token_hex(8),
            max_bytes=MAX_MESSAGE_BYTES + MESSAGE_ROOM,
            idle_hold_s=IDLE_HOLD_S,
            monotonic=time.monotonic,
        )
        self._transport = transport
        carrier = FlowerCarrier(
            control=self._relay.control,
            transport=transport,
            app_dir=app_folder(),
            run_config={},
            patience=PATIENCE,
            tend=self._tend,
        )
        with carrier, self._coordinator.open_run(run_id, plan, transport) as opened:
            self._status = self._status.at_round(opened.run.state.round)
            return drive(opened, privacy_plan(plan), on_round=self._on_round, on_reply=self._on_reply)

    def _on_round(self, report: RoundReport) -> None:
        LOG.info("round %d of %d released", report.round, report.rounds)
        self._status = self._status.at_round(report.round)

    def _on_reply(self, result: RoundResult) -> None:
        self._status = self._status.in_stage(
            str(result.stage), sorted(result.waiting), since=result.since, until=result.until
        )

    def _courier(self, request: bytes) -> bytes:
        transport = self._transport
        if transport is None:
            return CourierAnswer(done=True, outbox=()).to_bytes()
        return transport.handle_courier(request)

    def _tend(self) -> None:
        """Bring the embedded relay and its SuperExec back if they died."""
        self._relay.revive(timeout_s=START_S)
        if self._superexec is not None and not self._superexec.alive():
            self._stop_superexec()
            self._start_superexec(self._sockets / "courier.sock")

    def _end_old_legs(self) -> None:
        """Stop the carrier legs of a daemon that died.

        To the relay they run for another minute, and a SuperNode that had begun to fetch one of their messages would
        wait for the rest of it that long, deaf to the next leg.
        """
        try:
            for run_id in self._relay.control.open_runs():
                self._relay.control.stop_run(run_id)
        except RelayCommandError as error:
            LOG.warning("an old carrier leg could not be stopped: %s", error.code)

    def _start_superexec(self, courier: Path) -> None:
        self._superexec = start_superexec(
            address=self._relay.address,
            ca=self._relay.ca,
            secret_file=self._relay.secret_file,
            directory=self._folder / "relay",
            coordinator_socket=courier,
            timeout_s=START_S,
        )

    def _stop_superexec(self) -> None:
        if self._superexec is not None:
            self._superexec.stop()

    def _node_ids(self) -> dict[InstitutionId, int]:
        """Return the relay's node id of every approved member, enrolling transport keys that are new."""
        nodes: dict[InstitutionId, int] = {}
        for request in self._coordinator.members():
            name = InstitutionId(request.institution)
            path = self._folder / "members" / f"{name}.node"
            if not path.exists():
                key = self._coordinator.supernode_key_path(name)
                try:
                    node = self._relay.control.register_supernode(key, name=name)
                except RelayCommandError as error:
                    # One member's unusable key must not stop the others; plans that need it are refused by name.
                    LOG.warning("%s the transport key of %s is not enrolled at the relay", error.code, name)
                    continue
                write_atomic(path, str(node).encode())
            nodes[name] = int(path.read_text())
        return nodes


def serve_until(stop: threading.Event, daemon: CoordinatorDaemon, *, ready: Callable[[], Any]) -> None:
    """Serve until ``stop`` is set; ``ready`` is called once the sockets are open."""
    with daemon:
        ready()
        stop.wait()
