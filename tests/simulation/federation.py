"""A whole federation in one thread: faults first, then none, and what came of it."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from consortium import COORDINATOR, RUN
from simulation.disks import PowerCutError, SimulatedDatabase
from simulation.faults import NOTES, Fault, Kind, Schedule, Strikes
from simulation.members import DEADLINE_S, Build, Consortium, SimulatedMember, as_shipped, consortium_for
from simulation.network import SLOWDOWN, WORK_S, SimulatedTransport, World
from simulation.oracle import Oracle

from fedcredit.audit.log import Event, EventKind, decode_leaf
from fedcredit.errors import (
    DiskFullError,
    QuorumError,
    RoundRefusedError,
    StorageError,
    SumNotOpenedError,
)
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun, RoundReport
from fedcredit.transport import Transport

FAULTY_ROUNDS: Final = 2
"""Faults end once so many rounds are released."""
FAULTY_EXCHANGES: Final = 24
"""Or once the coordinator has begun so many stages."""
FAULTY_STOPS: Final = 6
"""Or once it has stopped so often."""
RECOVERY_EXCHANGES: Final = 12
"""What is left of a spoilt attempt, a set-up, one more without those that are gone, and a round."""
RECOVERY_S: Final = 3 * DEADLINE_S
"""After the last fault, and once an attempt that it has spoilt is over, a round takes at most so long."""
RESTART_S: Final = 10
MOST_STOPS: Final = 20
_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a file system in memory, so that no fsync waits


class GivenUpError(BaseException):
    """The simulation stops here: an attempt without faults has failed."""


MakeRun = Callable[..., FederatedRun]
Wrap = Callable[["Federation", Transport], Transport]


@dataclass(frozen=True, kw_only=True)
class Product:
    """What is simulated: the product, or the product with one thing wrong in it."""

    worker: Build = as_shipped
    run: MakeRun = FederatedRun
    wrap: Wrap = lambda federation, transport: transport
    """A coordinator that does more than it should, as a carrier around the carrier."""


AS_SHIPPED: Final = Product()


@dataclass(frozen=True)
class Outcome:
    """What came of one schedule."""

    schedule: Schedule
    violations: tuple[str, ...]
    trace: tuple[str, ...]
    released: int
    attempts: int
    excused: bool
    """Whether the run did not end, and nothing could be demanded: too many members were lost for good, or blocked."""
    struck: Counter[tuple[Kind, str]]
    reached: Counter[str]
    blocked: bool
    """Whether that is because shares had left for a cohort of which a member is lost."""

    @property
    def trace_hash(self) -> str:
        """Return SHA-256 of the trace."""
        return hashlib.sha256("\n".join(self.trace).encode()).hexdigest()

    def __str__(self) -> str:
        """Return what one needs to run it again."""
        faults = "\n".join(f"  {fault!r}," for fault in self.schedule.faults)
        return "\n".join((*self.violations, f"{self.schedule.setting!r}", faults, self.trace_hash))


class DurableHeads(LedgerHeads):
    """The heads that survive the coordinator's machine: those that were saved before the power went."""

    def __init__(self, disk: CoordinatorDisk) -> None:
        super().__init__(None)
        self._disk = disk
        self._heads = dict(disk.heads)

    def save(self) -> None:
        """Keep them."""
        if self._disk.database.dead:
            raise PowerCutError
        self._disk.heads = dict(self._heads)
        super().save()


@dataclass
class CoordinatorDisk:
    """The coordinator's machine: its log and the heads it has seen; checkpoints are files in the run's folder."""

    database: SimulatedDatabase
    heads: dict[str, bytes] = field(default_factory=dict)
    image: bytes | None = None
    old: list[tuple[bytes, dict[str, bytes]]] = field(default_factory=list)


class Federation:
    """One simulation."""

    def __init__(self, schedule: Schedule, *, folder: Path, product: Product = AS_SHIPPED) -> None:
        setting = schedule.setting
        self.schedule = schedule
        self.product = product
        self.consortium: Consortium = consortium_for(setting, _approvals_folder())
        self.world = World(setting.seed)
        self.oracle = Oracle(setting.members)
        self.strikes = Strikes(schedule.faults)
        self.members = [
            SimulatedMember(
                place, self.consortium, seed=setting.seed, clock=self.world.true_clock, build=product.worker
            )
            for place in range(setting.members)
        ]
        self._folder = folder
        self.stage = ""
        """Of the requests that the coordinator sends."""
        self._exchanges = 0
        self._stops = 0
        self._released = 0
        self._weights = [self.consortium.family.initial_weights()]
        self._healed: float | None = None
        self._spoilt_until = 0.0
        self._aborts_after = 0
        self._exchanges_after = 0
        self._last: RoundResult | None = None
        self._coordinator_was_set_back = False
        self._striking: list[Fault] = []
        self._goes_back = any(fault.kind is Kind.STALE for fault in schedule.faults)
        self._disk = CoordinatorDisk(SimulatedDatabase.of(None))
        self.network = SimulatedTransport(
            self.world,
            self.members,
            self.strikes,
            self.oracle,
            stage=lambda: self.stage,
            at_ask=self._at_ask,
            at_take=self._at_take,
        )
        self.transport = product.wrap(self, self.network)
        self.run_ = self._open()

    # --- the coordinator's machine -----------------------------------------------------------------------------------

    def _open(self) -> FederatedRun:
        disk = self._disk
        disk.database = SimulatedDatabase.of(disk.image)
        run = self.product.run(
            plan=self.consortium.plan,
            run_id=RUN,
            folder=self._folder,
            database=disk.database,
            family=self.consortium.family,
            roster=self.consortium.roster,
            keys=COORDINATOR,
            transport=self.transport,
            heads=DurableHeads(disk),
            clock=self.world.coordinator_clock,
        )
        disk.database.watch(self._commit)
        return run

    def _stop(self, *, back: int = 0) -> None:
        disk = self._disk
        disk.database.cut()
        disk.image = disk.database.image()
        if back and disk.old:
            disk.image, disk.heads = disk.old[-min(back, len(disk.old))]
            self._coordinator_was_set_back = True

    def _restarted(self) -> Iterator[RoundReport]:
        cut = self._disk.database.dead
        if not cut:
            self._stop()
        self._stops += 1
        self._spoilt_until = self.world.now
        self.network.rest(RESTART_S)
        if self._stops >= FAULTY_STOPS:
            self._heal()
        self.run_ = self._open()
        self._require_same_model(cut=cut)
        return self.run_.rounds(on_reply=self._on_reply)

    # --- faults ------------------------------------------------------------------------------------------------------

    def _at_ask(self, stage: str) -> None:
        self._exchanges += 1
        self._exchanges_after += self._healed is not None
        if self._aborts_after > 1 or self._exchanges_after > RECOVERY_EXCHANGES:
            raise GivenUpError
        if self._released >= FAULTY_ROUNDS or self._exchanges > FAULTY_EXCHANGES:
            self._heal()
        if self._goes_back:
            self._disk.old.append((self._disk.database.image(), dict(self._disk.heads)))
        for fault in self.strikes.at(f"{stage}/ask"):
            self.world.note("ask", stage, fault.kind)
            self._strike_machine(fault)

    def _strike_machine(self, fault: Fault) -> None:
        """Let a fault strike the coordinator, or everybody's network, before it sends anything."""
        if fault.kind is Kind.PARTITION:
            names = [member.name for member in self.members]
            self.network.cut_off(names, fault.lasting_s, inward=True, outward=True)
        if fault.kind is Kind.SLOW:
            self.network.rest(WORK_S * SLOWDOWN)
        if fault.kind is Kind.CLOCK:
            self.network.set_coordinator_clock(fault)
        if fault.kind in {Kind.CRASH, Kind.STALE}:
            self._stop(back=1 + fault.amount % 6 if fault.kind is Kind.STALE else 0)
            raise PowerCutError

    def _at_take(self, stage: str) -> None:
        for fault in self.strikes.at(f"{stage}/take"):
            self.world.note("take", stage, fault.kind)
            self._stop()
            raise PowerCutError

    def _commit(self, held: frozenset[str], durable: bool) -> None:
        if durable and "audit/round-aborted" in held:
            self._aborted()
        for kind in NOTES:
            if f"audit/{kind}" in held:
                self._strike_write(f"note/{kind}", durable=durable)

    def _strike_write(self, point: str, *, durable: bool) -> None:
        if not durable:
            self._striking = self.strikes.at(point)
        for fault in self._striking:
            if fault.kind is Kind.FULL and not durable:
                self.world.note("full", point)
                raise DiskFullError(path="coordinator")
            if fault.kind is Kind.CRASH and (fault.amount % 2 == 1) == durable:
                self.world.note("cut", point, durable)
                self._stop()
                raise PowerCutError

    def _heal(self) -> None:
        if self._healed is None:
            self.world.note("healed")
            self._healed = self.world.now
            self.strikes.on = False
            self.network.heal()

    def _aborted(self) -> None:
        self._spoilt_until = self.world.now
        self._aborts_after += self._healed is not None

    # --- the run -----------------------------------------------------------------------------------------------------

    def play(self) -> Outcome:
        """Run until the plan's rounds are released, or nothing more can be expected."""
        reports = self.run_.rounds(on_reply=self._on_reply)
        while self._released < self.schedule.setting.rounds and self._stops < MOST_STOPS:
            try:
                self._release(next(reports))
            except PowerCutError:
                reports = self._restarted()
            except (QuorumError, RoundRefusedError, SumNotOpenedError, StorageError) as error:
                self.world.note("stopped", error.code)
                self._require_same_model(cut=False)
                reports = self._restarted()
            except (GivenUpError, StopIteration):
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
                self.oracle.wrong(f"the coordinator met {type(error).__name__}: {error}")
                self._judge_last()
                break
        if self._released < self.schedule.setting.rounds and not self._excused():
            self.oracle.wrong(f"only {self._released} rounds, though nothing goes wrong any more: {self._reasons()}")
        self._finish()
        return self._outcome()

    def _on_reply(self, result: RoundResult) -> None:
        self.stage, self._last = str(result.stage), result

    def _judge_last(self) -> None:
        """Judge the last sum; what becomes of it may have failed because of what it is."""
        result, announced = self._last, self._announced()
        if result is not None and announced and result.total.any():
            self.oracle.sum_came_out(result.manifest_digest, result.contributors, result.total, announced=announced)

    def _announced(self) -> list[str]:
        """Return whom the log named last as those whose numbers are added up."""
        audit = self.run_.audit
        for index in reversed(range(len(audit))):
            kind, fields = decode_leaf(audit.leaf(index))
            if kind is EventKind.COHORT_SELECTED:
                return [str(name) for name in cast(list[str], fields["contributors"])]
        return []

    def _release(self, report: RoundReport) -> None:
        self._released = report.round
        self._weights = [*self._weights[: report.round], report.state.weights]
        self.world.note("released", report.round, sorted(report.result.contributors), _first(report.result.total))
        self._last = report.result
        self._judge_last()
        if self._healed is not None:
            self._require_in_time()

    def _require_in_time(self) -> None:
        self._exchanges_after = self._aborts_after = 0
        since = max(self._healed or 0.0, self._spoilt_until)
        if self.world.now - since > RECOVERY_S:
            self.oracle.wrong(f"a round without faults took {self.world.now - since:.0f} s")
        self._spoilt_until = self.world.now

    def _reasons(self) -> str:
        return "; ".join(line for line in self.world.trace[-40:] if "stopped" in line)

    def _excused(self) -> bool:
        enough = self.schedule.setting.members - len(self._lost()) >= self.schedule.setting.quorum
        return self._coordinator_was_set_back or not enough or self._blocked()

    def _lost(self) -> set[str]:
        """Return who refuses for good: members that were set back, or charged while their clock was ahead."""
        return {member.name for member in self.members if member.set_back or self._ahead(member)}

    def _blocked(self) -> bool:
        """Tell whether shares have left for a cohort of the next round that will never be complete again."""
        return any(self._lost() & cohort for cohort in self.oracle.opened_for(self._released + 1))

    def _ahead(self, member: SimulatedMember) -> bool:
        last = max((entry.time or 0 for entry in member.state.ledger.history()), default=0)
        return last > member.clock() + 300

    def _require_same_model(self, *, cut: bool) -> None:
        """The model is that of the last release: of the last one that was told, or of the next if power went then."""
        state = self.run_.state
        if self._coordinator_was_set_back:
            self._released = state.round
        elif state.round == self._released + 1 and cut:
            self._released += 1
            self._weights.append(state.weights)
        elif state.round != self._released:
            self.oracle.wrong(f"round {self._released} was released, the coordinator is at {state.round}")
        elif not np.array_equal(state.weights, self._weights[state.round]):
            self.oracle.wrong("the model changed without a release")

    def _finish(self) -> None:
        self._heal()
        for member in self.members:
            for event in member.state.audit.events():
                if event.kind in {EventKind.REQUEST_REFUSED, EventKind.REQUEST_ANSWERED}:
                    self.world.note(
                        member.name, event.kind, event.fields.get("stage", ""), event.fields.get("code", "")
                    )
        for event in self._events():
            self.world.note(event.kind, *(_plain(event.fields.get(name)) for name in _TRACED))

    def _events(self) -> list[Event]:
        return list(self.run_.audit.events())

    def _outcome(self) -> Outcome:
        return Outcome(
            schedule=self.schedule,
            violations=tuple(dict.fromkeys(self.oracle.violations)),
            trace=tuple(self.world.trace),
            released=self._released,
            attempts=sum(e.kind is EventKind.ROUND_OPENED and e.fields["round"] != 0 for e in self._events()),
            excused=self._released < self.schedule.setting.rounds,
            struck=self.strikes.struck,
            reached=self.strikes.reached,
            blocked=self._released < self.schedule.setting.rounds and self._blocked(),
        )


_TRACED: Final = ("round", "attempt", "purpose", "stage", "institution", "code", "contributors", "cohort", "missing")


def _plain(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _first(total: np.ndarray) -> list[int]:
    return [int(value) for value in total[:10]]


@cache
def _approvals_folder() -> Path:
    """Return one folder for all simulations of this process: an approval is a file, and never changes."""
    folder = tempfile.mkdtemp(dir=_memory())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _memory() -> Path | None:
    return _MEMORY if _MEMORY.is_dir() else None


def play(schedule: Schedule, *, product: Product = AS_SHIPPED) -> Outcome:
    """Return what comes of a schedule."""
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        return Federation(schedule, folder=Path(folder) / "run", product=product).play()
