"""Keeps a Flower run under way while the coordinator has requests open: a run is a carrier leg, no more.

The courier's polls tell that a leg lives, which costs nothing; the relay is asked only when they stop. A leg that is
over or silent while requests are open is followed by another, a few times with growing pauses; then the open requests
are answered with a carrier error, and the engine decides.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

from fedcredit.daemon.courier_transport import CourierTransport
from fedcredit.errors import FedcreditError
from fedcredit.flower.control import FINISHED, RunConfig

CARRIER_FAILED: Final = "carrier-failed"
LOOK_S: Final = 0.5
"""Time between two looks at the leg."""

_LOG: Final = logging.getLogger(__name__)


class Control(Protocol):
    """The relay commands that a carrier needs (``RelayControl``)."""

    def submit_run(self, app_dir: Path, run_config: RunConfig) -> int:
        """Submit a run and return its id."""
        ...

    def run_status(self, run_id: int) -> str:
        """Return the run's status."""
        ...

    def stop_run(self, run_id: int) -> None:
        """Stop a run."""
        ...


@dataclass(frozen=True, kw_only=True)
class CarrierPatience:
    """How long and how often a carrier tries; seconds."""

    silent_s: float
    """A courier that has not polled for this long is asked after."""
    status_every_s: float
    """Time between two questions to the relay about a silent leg."""
    replace_after_s: float
    """A leg that is silent for this long is stopped and replaced whatever the relay says."""
    failed_legs: int
    """After so many legs without a single reply in a row the open requests are given up."""
    backoff_s: float
    """Pause after the first failed leg; doubled after each further one."""


class FlowerCarrier:
    """Submits carrier legs for a ``CourierTransport`` whenever requests are open, until closed.

    ``tend`` is called on every look; an embedded relay revives its processes there.
    """

    def __init__(
        self,
        *,
        control: Control,
        transport: CourierTransport,
        app_dir: Path,
        run_config: RunConfig,
        patience: CarrierPatience,
        tend: Callable[[], None],
        monotonic: Callable[[], float] = time.monotonic,
        look_s: float = LOOK_S,
    ) -> None:
        self._control = control
        self._transport = transport
        self._app_dir = app_dir
        self._run_config = dict(run_config)
        self._patience = patience
        self._tend = tend
        self._monotonic = monotonic
        self._look_s = look_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flower-carrier", daemon=True)
        self._run_id: int | None = None
        self._begun_at = 0.0
        self._asked_at = 0.0
        self._accepted_before = 0
        self._failed = 0

    @property
    def run_id(self) -> int | None:
        """The Flower run of the current leg, if there is one."""
        return self._run_id

    def start(self) -> None:
        """Begin watching; the first leg is submitted with the first request."""
        self._thread.start()

    def close(self, *, timeout_s: float) -> None:
        """Let the courier end its run, and stop the run if that takes longer than ``timeout_s`` seconds."""
        self._closing.set()
        self._thread.join()
        self._transport.finish()
        if self._run_id is None:
            return
        end = self._monotonic() + timeout_s
        while self._monotonic() < end:
            if self._over(self._run_id):
                return
            time.sleep(self._look_s)
        self._stop_leg(self._run_id)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close(timeout_s=10.0)

    def _watch(self) -> None:
        while not self._closing.is_set():
            if self._transport.wait_for_requests(timeout_s=self._look_s):
                self._look()
                self._closing.wait(self._look_s)

    def _look(self) -> None:
        """See to it that a leg is under way, or count one more failure."""
        try:
            self._tend()
            if self._run_id is not None and self._leg_is_over(self._run_id):
                self._run_id = None
                if self._transport.contact().accepted == self._accepted_before:
                    self._count_failure()
                    return
                self._failed = 0
            if self._run_id is None:
                self._begin_leg()
        except (FedcreditError, OSError) as error:
            _LOG.warning("no carrier leg: %s", error.code if isinstance(error, FedcreditError) else "OSError")
            self._count_failure()

    def _begin_leg(self) -> None:
        self._accepted_before = self._transport.contact().accepted
        self._run_id = self._control.submit_run(self._app_dir, self._run_config)
        self._begun_at = self._asked_at = self._monotonic()

    def _count_failure(self) -> None:
        self._failed += 1
        if self._failed >= self._patience.failed_legs:
            self._failed = 0
            self._transport.give_up(CARRIER_FAILED)
            return
        self._closing.wait(self._patience.backoff_s * 2 ** (self._failed - 1))

    def _leg_is_over(self, run_id: int) -> bool:
        """Tell whether the current leg has ended or must be replaced; ask the relay only about a silent one."""
        now = self._monotonic()
        contact = self._transport.contact()
        silent_s = contact.silent_s if contact.session == str(run_id) else now - self._begun_at
        if silent_s < self._patience.silent_s or now - self._asked_at < self._patience.status_every_s:
            return False
        self._asked_at = now
        if self._over(run_id):
            return True
        if silent_s < self._patience.replace_after_s:
            return False
        self._stop_leg(run_id)
        return True

    def _over(self, run_id: int) -> bool:
        try:
            return self._control.run_status(run_id).startswith(FINISHED)
        except FedcreditError:
            return False  # unknown: only the leg's silence will replace it

    def _stop_leg(self, run_id: int) -> None:
        try:
            self._control.stop_run(run_id)
        except FedcreditError as error:
            _LOG.warning("the old carrier leg could not be stopped: %s", error.code)
