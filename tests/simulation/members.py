"""Simulated institutions: the real worker over a real database, and numbers from which a sum tells who is in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from consortium import CONSORTIUM, CONTRACT, COORDINATOR, INPUTS, keys_of, plan_of, table_of
from simulation.disks import SimulatedDatabase
from simulation.draws import Draws
from simulation.faults import Fault, Setting

from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.data.table import CreditTable
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.memory import RunMemory
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.institution.releases import Integers, NoisedSums, RunContext, Vector
from fedcredit.institution.worker import InstitutionWorker
from fedcredit.messages import Manifest, Purpose
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.training.families import ModelFamily, model_family

MOST: Final = 10
RETRIES: Final = 30
DEADLINE_S: Final = 60
NAMES: Final = tuple(InstitutionId(f"member-{letter}") for letter in "abcdefghij")
BITS_LANE: Final = 0
PLACE_LANES: Final = 1
ROUND_LANE: Final = PLACE_LANES + MOST
ENTITIES: Final = 8
IMAGES_KEPT: Final = 8


def round_mark(*, round_number: int, attempt: int, purpose: str) -> int:
    """Return what every contribution to one attempt carries, so that one to another attempt shows in the sum."""
    return 1 + list(Purpose).index(Purpose(purpose)) + 10 * attempt + 1_000 * round_number


def lanes_of(institution: InstitutionId, manifest: Manifest, count: int) -> Integers:
    """Return 2^place, a one-hot of the place, and the mark of the round."""
    place, lanes = NAMES.index(institution), np.zeros(count, dtype=np.int64)
    lanes[BITS_LANE] = 1 << place
    lanes[PLACE_LANES + place] = 1
    lanes[ROUND_LANE] = round_mark(round_number=manifest.round, attempt=manifest.attempt, purpose=manifest.purpose)
    return lanes


class OneHotSums:
    """The releases of one member: charged, computed and noised as always, then replaced by numbers that name it."""

    def __init__(self, *, institution: InstitutionId, ledger: PrivacyLedger, entropy: Callable[[int], bytes]) -> None:
        self._real = NoisedSums(institution=institution, ledger=ledger, entropy=entropy)
        self._institution = institution

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        """Return the numbers that name this member, as many as the real ones."""
        return lanes_of(self._institution, manifest, self._real.of(manifest, context, weights).size)


class Build(Protocol):
    """Makes the worker of a member over its opened state."""

    def __call__(self, state: NodeState, **parts: Any) -> InstitutionWorker:
        """Return it; the parts are those of ``assemble_worker``."""
        ...


def as_shipped(state: NodeState, **parts: Any) -> InstitutionWorker:
    """Return the product's own worker; only the numbers that it masks are made up."""
    return assemble_worker(state=state, make_sums=OneHotSums, **parts)


@dataclass(frozen=True)
class Consortium:
    """What is public and the same for every simulation of one size."""

    plan: RunPlan
    roster: Roster
    family: ModelFamily
    approvals: Approvals


@cache
def keys_for(place: int) -> IdentityKeys:
    """Return the long-lived keys of a member."""
    return keys_of(place + 10)


@cache
def _rows() -> CreditTable:
    return table_of("bank-b", rows=ENTITIES)


@cache
def _family() -> ModelFamily:
    return model_family(plan_for(Setting(members=3, threshold=2, quorum=2, rounds=1, seed=0)), INPUTS)


class WrittenPlan(RunPlan):
    """A plan that is written down once: a simulation opens many runs of it."""

    @cached_property
    def written(self) -> str:
        """Return its text."""
        return super().to_toml()

    @cached_property
    def named(self) -> bytes:
        """Return its digest."""
        return super().digest()

    def to_toml(self) -> str:
        return self.written

    def digest(self) -> bytes:
        return self.named


@cache
def _plan(members: int, threshold: int, quorum: int, rounds: int) -> RunPlan:
    plan = plan_of(
        institutions={
            name: {"kind": "bank", "expected_borrowers": 40, "modalities": ["application"]} for name in NAMES[:members]
        },
        aggregation={"kind": "secure", "threshold": threshold, "lane_bits": 32, "update_bound": "none"},
        rounds={"quorum": quorum, "retries": RETRIES, "deadline_s": float(DEADLINE_S)},
        **{"run/rounds": rounds},  # type: ignore[arg-type] # a place in the plan, not the parameter "names"
    )
    return WrittenPlan.model_validate(plan.model_dump())


def _shape(setting: Setting) -> tuple[int, int, int, int]:
    return setting.members, setting.threshold, setting.quorum, setting.rounds


def plan_for(setting: Setting) -> RunPlan:
    """Return the plan of a setting; whatever its seed."""
    return _plan(*_shape(setting))


@cache
def _approvals(members: int, threshold: int, quorum: int, rounds: int, folder: Path) -> Approvals:
    approvals = Approvals(folder / "approvals")
    approvals.approve(_plan(members, threshold, quorum, rounds))
    return approvals


def consortium_for(setting: Setting, folder: Path) -> Consortium:
    """Return the consortium of a setting; its approvals lie in ``folder``."""
    plan = plan_for(setting)
    members = tuple(
        Member(institution=name, kind=InstitutionType.BANK, public_identity=keys_for(place).public.to_bytes())
        for place, name in enumerate(NAMES[: setting.members])
    )
    return Consortium(plan, Roster(members), _family(), _approvals(*_shape(setting), folder))


class SimulatedMember:
    """One institution: a disk, and a process on it that starts, stops and starts again."""

    def __init__(
        self, place: int, consortium: Consortium, *, seed: int, clock: Callable[[], float], build: Build
    ) -> None:
        self.place = place
        self.name = NAMES[place]
        self.keys = keys_for(place)
        self.skew_s = 0.0
        self.stage = ""
        """What it is answering."""
        self.striking: list[Fault] = []
        """What goes wrong around the commit that it is in."""
        self.set_back = False
        """Whether its disk was ever an old one."""
        self.lost_heads: set[bytes] = set()
        """Heads of its ledger that an old disk has forgotten."""
        self._heads: set[bytes] = set()
        self._clock = clock
        self._consortium = consortium
        self._build = build
        self._draws = Draws(seed, f"entropy of {self.name}")
        self._images: list[bytes] = []
        self._boot(None)

    @property
    def running(self) -> bool:
        """Return whether there is a process."""
        return not self.database.dead

    @property
    def memory(self) -> RunMemory:
        """Return what its worker remembers."""
        return self.worker._memory

    def clock(self) -> float:
        """Return what its own clock shows."""
        return self._clock() + self.skew_s

    def handle(self, request: bytes) -> bytes:
        """Answer a request.

        Raises:
            PowerCutError: a fault has stopped the machine; the disk has what was durable.
        """
        self._images = [*self._images[1 - IMAGES_KEPT :], self.database.image()]
        try:
            return self.worker.handle(request)
        finally:
            if self.running:
                self._heads.add(self.state.ledger.head)

    def cut(self, *, back: int = 0) -> None:
        """Stop; the disk keeps what is durable, or is replaced by the one of ``back`` requests ago."""
        self.database.cut()
        self._image = self.database.image()
        if back and self._images:
            self._image = self._images[-min(back, len(self._images))]
            self.set_back = True

    def boot(self) -> None:
        """Start on the disk."""
        self._boot(self._image)
        if self.set_back:
            held = self._held_heads()
            self.lost_heads = (self.lost_heads | self._heads) - held

    def _held_heads(self) -> set[bytes]:
        rows = self.database.execute("SELECT digest FROM journal_entries WHERE journal = ?", ("privacy-ledger",))
        return {head for (head,) in rows if isinstance(head, bytes)}

    def _boot(self, image: bytes | None) -> None:
        self.database = SimulatedDatabase.of(image)
        self.state = NodeState.open(self.database, self._config(), clock=self.clock, entropy=self._draws.bytes)
        self._heads.add(self.state.ledger.head)
        self.worker = self._build(
            self.state,
            config=self._config(),
            consortium=CONSORTIUM,
            coordinator=COORDINATOR.public.to_bytes(),
            holdings=Holdings(institution=self.name, contract=CONTRACT, table=_rows()),
            keys=self.keys,
            approvals=self._consortium.approvals,
            entropy=self._draws.bytes,
            clock=self.clock,
        )

    def _config(self) -> NodeConfig:
        return _config(self.name)


@cache
def _config(name: InstitutionId) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "schema_version": 1,
            "institution": name,
            "kind": "bank",
            "data": {"path": "unused", "contract": CONTRACT.name, "modalities": ("application",)},
            "budget": {"epsilon": 20.0, "delta": 1e-5, "holdout_epsilon": 5.0},
            "policy": {},
        }
    )
