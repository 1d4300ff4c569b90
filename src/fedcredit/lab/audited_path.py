"""What the privacy audits look at: releases made by fedcredit's own steps, sound or broken on purpose.

``ClientPath`` takes the steps of ``InstitutionWorker`` without seals and admission, so that thousands of releases fit
into seconds: reserve in the ledger, draw the noise share, clip and quantise and sum, lanes, sum of the institutions.
``audited_worker.WorkerPath`` takes them through the worker itself. A ``Build`` says what is broken: the functions that
draw and clip are arguments here, so no module of the product is changed for an audit.

Audited is the worst round that a plan pays for: as many institutions as the plan counts honest shares. Everybody else
is late, or colludes, so that the attacker takes that noise off again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from fedcredit.aggregation.server_step import ServerState, server_step
from fedcredit.config.plan import GradientTraining, RunPlan
from fedcredit.crypto.streams import KeyStream
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.lab.privacy_audit import Integers, Observation, Pair, Vector
from fedcredit.messages import from_lanes, to_lanes
from fedcredit.model.layout import ModelInputs
from fedcredit.parties import InstitutionId
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.ledger import PrivacyLedger, Reservation
from fedcredit.privacy.noise_share import draw_noise, streams_for
from fedcredit.privacy.plan import TRAIN
from fedcredit.privacy.release import Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.privacy.spending import BudgetCap
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.training.families import LocalComputation, ModelFamily, model_family
from fedcredit.training.integer_sum import IntegerSum
from fedcredit.training.update_bound import UpdateBound, charged, clamp, update_bounds

Draw = Callable[[Reservation, KeyStream], Integers]
Entropy = Callable[[int], bytes]
LEDGER_EPSILON: Final = 100.0
"""The cap of an audited ledger: it must not stop an audit, and the largest there is."""
WIDENING: Final = 3
"""So many clip bounds a canary's gradient has, and so much of it passes where clipping is broken."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """How the institutions' software was built."""

    name: str
    draw_of: Callable[[int], Draw]
    """Which function draws the noise share of the institution at this position, from 0."""
    clip_factor: int
    """How many times the plan's clip bound a borrower's gradient may have."""
    one_key: bool
    """Whether an institution's entropy gives the same bytes for ever."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A made-up consortium, the canaries, and the public points at which they move a sum and do not."""

    plan: RunPlan
    inputs: ModelInputs
    tables: Mapping[InstitutionId, CreditTable]
    """Training borrowers of every institution of the plan, canaries excluded, in the plan's order."""
    canaries: CreditTable
    """Training borrowers that the first institution has as well, or has not."""
    awake: Vector
    """(layout.size,): weights at which the canaries' gradients are as large as they get."""
    asleep: Vector | None
    """(layout.size,): weights at which they are zero; ``None`` if the first round of this model has no such weights."""

    @property
    def honest(self) -> tuple[InstitutionId, ...]:
        """Return the institutions whose noise the claim rests on."""
        return tuple(self.tables)[: self.plan.honest_shares]

    def release(self, release_id: str) -> Release:
        """Return one training release under the plan; with shared noise it is the same for every institution."""
        bounds = charged(self.plan, self.family.bounds(self.plan, self.honest[0]))
        return privacy_plan(self.plan).training_release(
            release_id=release_id,
            sensitivity_squared=bounds.sensitivity_squared or 0,
            dimension=int(bounds.reached.sum()),
        )

    @property
    def family(self) -> ModelFamily:
        """Return the model family of the plan."""
        return model_family(self.plan, self.inputs)

    @property
    def step_mu(self) -> float:
        """Return what the plan claims for one release."""
        return Cost.of(self.release("claimed")).mu

    @property
    def training_mu(self) -> float:
        """Return what the plan claims for all rounds together."""
        return Cost.of(self.release("claimed")).times(self.plan.run.rounds).mu


class Run(Protocol):
    """One run of a consortium, with ledgers of its own."""

    def release(self, weights: Vector, round_number: int) -> Integers:
        """Return what the coordinator learns in this round, shape (lanes,); rounds come in order."""
        ...


class AuditedPath(Protocol):
    """Makes runs, with the canaries or without, and knows what a white-box attacker knows."""

    scene: Scene

    def run(self, *, with_canaries: bool) -> Run:
        """Return a new run."""
        ...

    def known(self, weights: Vector, round_number: int) -> Integers:
        """Return the exact sum of everybody but the canaries, shape (lanes,)."""
        ...

    def directions(self, weights: Vector, round_number: int) -> Vector:
        """Return the canaries' own effects, scaled to length 1 and without common lanes, (canaries, lanes)."""
        ...


class WhiteBox:
    """The computations of a scene as a build has them, with nothing added."""

    def __init__(self, scene: Scene, build: Build) -> None:
        first = scene.honest[0]
        plan = with_wider_clip(scene.plan, build.clip_factor)
        family = model_family(plan, scene.inputs)
        self._others = {name: family.computation(plan, name, scene.tables[name]) for name in scene.honest}
        self._first = first
        self._joined = family.computation(plan, first, joined(scene.tables[first], scene.canaries))
        self._canaries = family.computation(plan, first, scene.canaries)
        self._count = len(scene.canaries)
        self._known: dict[tuple[int, bytes], Integers] = {}
        self._directions: dict[tuple[int, bytes], Vector] = {}

    def computations(self, *, with_canaries: bool) -> Mapping[InstitutionId, LocalComputation]:
        """Return what each honest institution computes."""
        return {**self._others, self._first: self._joined} if with_canaries else dict(self._others)

    def known(self, weights: Vector, round_number: int) -> Integers:
        """Return the exact sum of everybody but the canaries, shape (lanes,)."""
        place = (round_number, weights.tobytes())
        if place not in self._known:
            sums = [_sum_of(computation, weights, round_number) for computation in self._others.values()]
            self._known[place] = np.sum(sums, axis=0, dtype=np.int64)
        return self._known[place]

    def directions(self, weights: Vector, round_number: int) -> Vector:
        """Return the canaries' effects on lanes that no other canary moves, each scaled to length 1."""
        place = (round_number, weights.tobytes())
        if place not in self._directions:
            alone = np.stack([self._effect(weights, round_number, one) for one in range(self._count)])
            own = np.where((alone != 0).sum(axis=0) == 1, alone, 0).astype(np.float64)
            lengths = np.linalg.norm(own, axis=1)
            self._directions[place] = own[lengths > 0] / lengths[lengths > 0, np.newaxis]
        return self._directions[place]

    def _effect(self, weights: Vector, round_number: int, one: int) -> Integers:
        batch = np.arange(self._count) == one
        return self._canaries.integer_sum(weights, round_number=round_number, batch=batch).values


class ClientPath:
    """Runs of a scene by the client's steps; ``entropy`` stands for every institution's operating system."""

    def __init__(self, scene: Scene, build: Build, *, entropy: Entropy) -> None:
        self.scene = scene
        self._build = build
        self._entropy = entropy
        self._white_box = WhiteBox(scene, build)
        self._release = scene.release("audit/0/1/train")
        self._plan_digest = scene.plan.digest()
        family = scene.family
        bounds = {name: family.bounds(scene.plan, name) for name in scene.honest}
        self._reached = {name: own.reached for name, own in bounds.items()}
        # The widest there are: a coordinator that attacks leaves the canaries all the room that members accept.
        self._limits = update_bounds(scene.plan, scene.honest, bounds=bounds, previous=None)

    def run(self, *, with_canaries: bool) -> ClientRun:
        """Return a new run: new ledgers, new keys, and a new entropy even where it gives the same bytes for ever."""
        computations = self._white_box.computations(with_canaries=with_canaries)
        clients = [
            _Client(
                name,
                computations[name],
                reached=self._reached[name],
                limit=self._limits[name],
                delta=self.scene.plan.privacy.delta,
                draw=self._build.draw_of(position),
                entropy=entropy_of(self._build, self._entropy),
            )
            for position, name in enumerate(self.scene.honest)
        ]
        return ClientRun(clients, self._release, plan_digest=self._plan_digest)

    def known(self, weights: Vector, round_number: int) -> Integers:
        """Return the exact sum of everybody but the canaries, shape (lanes,)."""
        return self._white_box.known(weights, round_number)

    def directions(self, weights: Vector, round_number: int) -> Vector:
        """Return the canaries' own effects, (canaries, lanes)."""
        return self._white_box.directions(weights, round_number)


class ClientRun:
    """One run of a ``ClientPath``."""

    def __init__(self, clients: Iterable[_Client], release: Release, *, plan_digest: bytes) -> None:
        self._clients = tuple(clients)
        self._release = release
        self._plan_digest = plan_digest

    def release(self, weights: Vector, round_number: int) -> Integers:
        """Return the sum of the institutions' noised lanes, shape (lanes,)."""
        release = replace(self._release, release_id=f"audit/{round_number}/1/train")
        answers = [
            client.answer(release, weights, round_number, plan_digest=self._plan_digest) for client in self._clients
        ]
        total: Integers = np.sum(answers, axis=0, dtype=np.int64)
        return total


class _Client:
    """One institution of a ``ClientRun``."""

    def __init__(
        self,
        name: InstitutionId,
        computation: LocalComputation,
        *,
        reached: NDArray[np.bool_],
        limit: UpdateBound,
        delta: float,
        draw: Draw,
        entropy: Entropy,
    ) -> None:
        self._computation = computation
        self._reached = reached
        self._limit = limit
        self._draw = draw
        self._entropy = entropy
        self._ledger = PrivacyLedger(
            Journal(Database.in_memory(), "privacy-ledger"),
            place="audited ledger",
            owner=name,
            caps={TRAIN: BudgetCap(epsilon=LEDGER_EPSILON, delta=delta)},
            allow_no_privacy=False,
            allow_fixed_noise=False,
            clock=lambda: 0.0,
            entropy=os.urandom,
        )

    def answer(self, release: Release, weights: Vector, round_number: int, *, plan_digest: bytes) -> Integers:
        reservation = self._ledger.reserve(release, plan_digest=plan_digest)
        noise = self._draw(reservation, streams_for(release, test_place="unused", entropy=self._entropy))
        total = IntegerSum(values=_sum_of(self._computation, weights, round_number))
        released = clamp(total, self._limit).values
        released[self._reached] += noise
        return from_lanes(to_lanes(released), what="answer", count=released.size)


# --- broken on purpose ----------------------------------------------------------------------------------------------


def halved(reservation: Reservation, stream: KeyStream) -> Integers:
    """Draw noise of half the reserved deviation."""
    return np.rint(draw_noise(reservation, stream) / 2).astype(np.int64)


def silent(reservation: Reservation, stream: KeyStream) -> Integers:
    """Use the reservation up and add nothing; ``stream`` stays unread."""
    return np.zeros(reservation.use().dimension, dtype=np.int64)


CORRECT: Final = Build(name="correct", draw_of=lambda _: draw_noise, clip_factor=1, one_key=False)
MUTANTS: Final = (
    Build(name="sigma halved", draw_of=lambda _: halved, clip_factor=1, one_key=False),
    Build(
        name="one share only",
        draw_of=lambda position: silent if position else draw_noise,
        clip_factor=1,
        one_key=False,
    ),
    Build(name="no clipping", draw_of=lambda _: draw_noise, clip_factor=WIDENING, one_key=False),
    Build(name="no noise", draw_of=lambda _: silent, clip_factor=1, one_key=False),
    Build(name="same noise every round", draw_of=lambda _: draw_noise, clip_factor=1, one_key=True),
)
"""The faults that the audits must find (PRIVACY.md, section 10)."""


def with_wider_clip(plan: RunPlan, factor: int) -> RunPlan:
    """Return ``plan`` with a clip bound of ``factor`` times its own, at the same grid step."""
    training = plan.training
    if isinstance(training, GradientTraining):
        # Its grid counts steps per clip bound.
        return plan.model_copy(
            update={
                "training": training.model_copy(update={"clip": training.clip * factor, "grid": training.grid * factor})
            }
        )
    if training.kind == "dp-boosting":
        return plan.model_copy(
            update={"training": training.model_copy(update={"clip": min(1.0, training.clip * factor)})}
        )
    raise ValueError("local averaging has no clip bound")


def entropy_of(build: Build, entropy: Entropy) -> Entropy:
    """Return the entropy that an institution of this build has."""
    if not build.one_key:
        return entropy
    drawn: dict[int, bytes] = {}

    def repeating(count: int) -> bytes:
        if count not in drawn:
            drawn[count] = entropy(count)
        return drawn[count]

    return repeating


# --- what the audits read -------------------------------------------------------------------------------------------


def steps(path: AuditedPath, *, runs: int, with_canaries: bool) -> Iterator[Observation]:
    """Yield every round of ``runs`` runs in which the canaries are awake."""
    for _ in range(runs):
        run = path.run(with_canaries=with_canaries)
        for round_number in range(1, path.scene.plan.run.rounds + 1):
            yield _observed(path, run, path.scene.awake, round_number)


def pairs(path: AuditedPath, *, runs: int, with_canaries: bool) -> Iterator[Pair]:
    """Yield rounds two by two, the one in which the coordinator's weights let the canaries sleep first.

    It is the later of the two: a run's first round is at the plan's own weights, where the canaries are awake.

    Raises:
        ValueError: the scene has no weights at which the canaries sleep.
    """
    if path.scene.asleep is None:
        raise ValueError("the canaries of this scene never sleep")
    for _ in range(runs):
        run = path.run(with_canaries=with_canaries)
        for round_number in range(1, path.scene.plan.run.rounds, 2):
            awake = _observed(path, run, path.scene.awake, round_number)
            yield _observed(path, run, path.scene.asleep, round_number + 1), awake


def trainings(path: AuditedPath, *, seeds: int) -> Iterator[Iterator[Observation]]:
    """Yield whole trainings with the canaries: each round at the weights that the server made of the rounds before."""
    for _ in range(seeds):
        yield _training(path)


def _training(path: AuditedPath) -> Iterator[Observation]:
    scene, family = path.scene, path.scene.family
    step = server_step(scene.plan, family.layout, input_scale=family.input_scale)
    run = path.run(with_canaries=True)
    directions = path.directions(scene.awake, 1)
    state = ServerState.initial(scene.awake)
    for round_number in range(1, scene.plan.run.rounds + 1):
        known = path.known(state.weights, round_number)
        released = run.release(state.weights, round_number)
        yield Observation(released=released, known=known, directions=directions)
        state = step.apply(state, released, scene.honest)


def _observed(path: AuditedPath, run: Run, weights: Vector, round_number: int) -> Observation:
    return Observation(
        released=run.release(weights, round_number),
        known=path.known(weights, round_number),
        directions=path.directions(weights, round_number),
    )


def joined(table: CreditTable, more: CreditTable) -> CreditTable:
    """Return the rows of both tables, which hold the same modalities."""
    return CreditTable(
        entities=np.concatenate([table.entities, more.entities]),
        labels=np.concatenate([table.labels, more.labels]),
        modalities={
            name: ModalityTable(
                codes=np.concatenate([part.codes, more.modalities[name].codes]),
                dense=np.concatenate([part.dense, more.modalities[name].dense]),
            )
            for name, part in table.modalities.items()
        },
        dropped=table.dropped + more.dropped,
    )


def _sum_of(computation: LocalComputation, weights: Vector, round_number: int) -> NDArray[np.int64]:
    return computation.integer_sum(weights, round_number=round_number, batch=None).values
