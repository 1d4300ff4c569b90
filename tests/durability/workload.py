"""What an institution writes during a run, step by step, and what its store must say after each step.

The only module of this folder that knows the classes under test. ``STEPS`` are performed on the real ones;
``state_after`` says by plain folding, without them, what must be read back.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias

from consortium import CONTRACT, plan_of

from fedcredit.audit.log import EventKind
from fedcredit.audit.witness import WitnessState
from fedcredit.config.node import NodeConfig
from fedcredit.errors import ReplayError, StoreCorruptError
from fedcredit.institution.admission import Terms
from fedcredit.institution.node import NodeState
from fedcredit.messages import Manifest
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochRoots
from fedcredit.secagg.member import MemberRound
from fedcredit.store.database import Database
from fedcredit.store.records import Records

FILE: Final = "node.db"
RUNS: Final = ("run-1", "run-2")
ROUNDS: Final = 4
PLANS: Final = {run: plan_of(**{"run/name": run}) for run in RUNS}
CONFIG: Final = NodeConfig.model_validate(
    {
        "schema_version": 1,
        "institution": "bank-a",
        "kind": "bank",
        "data": {"path": "unused", "contract": CONTRACT.name, "modalities": ["application"]},
        "budget": {"epsilon": 20.0, "delta": 1e-5, "holdout_epsilon": 15.0},
    }
)
NOW: Final = 1_000_000.0
CAPS: Final = {"train": 20.0, "holdout": 15.0}
EPOCH: Final = hashlib.sha256(b"epoch").digest()
COHORT: Final = Cohort.of(["bank-a", "bank-b"], seed=EPOCH, threshold=2)
PARTITIONS: Final = {"train": "train", "evaluate": "holdout"}


@dataclass(frozen=True)
class Split:
    """The first plan fixes the split of the borrowers."""


@dataclass(frozen=True)
class TakeUp:
    run: str


@dataclass(frozen=True)
class Charge:
    manifest: Manifest


@dataclass(frozen=True)
class Reply:
    """The answer, its log line and all that it leaves behind, together: an upload of the training, with its masks."""

    manifest: Manifest
    sealed: bytes


@dataclass(frozen=True)
class Refuse:
    run: str
    digest: bytes


@dataclass(frozen=True)
class Amend:
    """A higher cap in the ledger; node.toml does not name it yet."""

    epsilon: float


Step: TypeAlias = Split | TakeUp | Charge | Reply | Refuse | Amend


@dataclass(frozen=True)
class State:
    """All that the promises are about, as read from an opened store."""

    charges: tuple[tuple[str, str, int], ...]
    """Run, partition, how many."""
    spent: tuple[tuple[str, int], ...]
    """Per partition, how many releases its spending is made of."""
    caps: tuple[tuple[str, float], ...]
    """What the ledger lets each partition spend."""
    events: tuple[tuple[str, bytes], ...]
    """Kind of each line of the audit log, and its manifest's and answer's digest."""
    answers: tuple[tuple[bytes, bytes], ...]
    """Manifest digest and stored answer, one for each run with an answer."""
    closed: tuple[tuple[str, int], ...]
    """For each run, how many of its manifests, in order, would be refused as a replay."""
    witnessed: tuple[tuple[str, int, bytes], ...]
    """Run, size and root of the coordinator's log that was cosigned last."""
    masks: tuple[tuple[str, int, tuple[bytes, ...]], ...]
    """Run, step and roots of the masks that the next upload would use."""
    uploads: tuple[tuple[str, bytes], ...]
    """Run and manifest of the upload whose shares could be revealed."""
    terms: tuple[str, ...]
    split: bool


def _manifest(run: str, number: int, purpose: str) -> Manifest:
    return Manifest(
        consortium="credit",
        run=run,
        round=number,
        attempt=1,
        purpose=purpose,
        plan_digest=PLANS[run].digest(),
        roster_digest=bytes(32),
        weights_digest=hashlib.sha256(f"{run}/{number}".encode()).digest(),
        cohort=("bank-a", "bank-b"),
        ledger_heads=(bytes(32), bytes(32)),
        quorum=2,
        deadline=1_000_000,
        epoch=EPOCH,
        step=number - 1,
        log_size=10 * number + (purpose == "evaluate"),
        log_root=hashlib.sha256(f"{run}/{number}/{purpose}".encode()).digest(),
        release=0,
        radii=(),
    )


def _roots(run: str, step: int) -> tuple[bytes, ...]:
    return (hashlib.sha256(f"root of {run}/{step}".encode()).digest(),)


def _upload(manifest: Manifest) -> MemberRound:
    return MemberRound(
        manifest_digest=manifest.digest(),
        round_number=manifest.round,
        attempt=manifest.attempt,
        epoch=EPOCH,
        cohort=COHORT,
        place=0,
        box_keys=(hashlib.sha256(b"box").digest(),),
        own_shares=bytes(66),
        upload=bytes(32),
        selection=b"",
        revealed=False,
    )


def _sealed(manifest: Manifest) -> bytes:
    """Return something as long as a small answer and as unlike every other: part of two answers is no answer."""
    return hashlib.shake_256(manifest.digest()).digest(3000 if manifest.purpose == "train" else 700)


def _steps() -> tuple[Step, ...]:
    steps: list[Step] = [Split()]
    for run in RUNS:
        steps.append(TakeUp(run))
        for number in range(1, ROUNDS + 1):
            for purpose in ("train", "evaluate"):
                manifest = _manifest(run, number, purpose)
                steps += [Charge(manifest), Reply(manifest, _sealed(manifest))]
        steps += [Refuse(run, hashlib.sha256(f"{run}/{number}".encode()).digest()) for number in range(2)]
    return (*steps, Amend(25.0))


STEPS: Final = _steps()
MANIFESTS: Final = {step.manifest.digest(): step.manifest for step in STEPS if isinstance(step, Reply)}
IN_ORDER: Final = {run: [manifest for manifest in MANIFESTS.values() if manifest.run == run] for run in RUNS}


def release_of(manifest: Manifest) -> Release:
    return Release(
        release_id=f"{manifest.run}/{manifest.round}/{manifest.attempt}/{manifest.purpose}",
        partition=PARTITIONS[manifest.purpose],
        purpose="a noised sum",
        mechanism=Mechanism.ROUNDED_GAUSSIAN,
        unit="borrower",
        neighbours="add-or-remove-one",
        sensitivity_squared=100,
        sigma=100,
        dimension=50,
        honest_shares=1,
        sampled_per_million=1_000_000,
        test_noise=False,
    )


class Institution:
    """The durable state of one institution, opened as its node opens it."""

    def __init__(self, folder: Path) -> None:
        self.database = Database.open(folder / FILE)
        try:
            state = NodeState.open(self.database, CONFIG, clock=lambda: NOW)
        except BaseException:
            self.database.close()
            raise
        self.ledger, self.audit, self.memory = state.ledger, state.audit, state.memory

    def perform(self, step: Step) -> None:
        """Do the step as the worker does; durable on return. One that was done before is not done again."""
        match step:
            case Split():
                self.memory.require_split(PLANS[RUNS[0]])
            case TakeUp(run):
                self.memory.take_up(run, _terms(run))
            case Charge(manifest):
                self.ledger.reserve(release_of(manifest), plan_digest=manifest.plan_digest)
            case Reply(manifest, sealed):
                self._reply(manifest, sealed)
            case Refuse(run, digest):
                self.audit.record(EventKind.REQUEST_REFUSED, run=run, code="FC-3001", manifest=digest)
            case Amend(epsilon):
                self.ledger.amend("train", epsilon=epsilon, approvers=("R. Roe", "J. Doe"), reason="a second run")

    def together(self) -> AbstractContextManager[None]:
        """Return the context in which an answer and its log line become durable."""
        return self.audit.together()

    def _reply(self, manifest: Manifest, sealed: bytes) -> None:
        digest = manifest.digest()
        if self.memory.answer_to(digest, run=manifest.run) is not None:
            return
        self.memory.require_new(manifest)
        try:
            with self.together():
                self._leave_behind(manifest)
                self.memory.remember_answer(manifest.run, digest, sealed)
                self.audit.record(
                    EventKind.REQUEST_ANSWERED,
                    run=manifest.run,
                    round=manifest.round,
                    attempt=manifest.attempt,
                    purpose=manifest.purpose,
                    manifest=digest,
                    answer=hashlib.sha256(sealed).digest(),
                )
        except BaseException:
            self.memory.forget()
            raise

    def _leave_behind(self, manifest: Manifest) -> None:
        run, step = manifest.run, manifest.step + 1
        self.memory.remember_place(manifest)
        if manifest.purpose == "train":
            self.memory.keep_epoch(run, EpochRoots(EPOCH, COHORT, 0, step, _roots(run, step)))
            self.memory.keep_round(run, _upload(manifest))
        self.memory.keep_witnessed(run, WitnessState(manifest.log_size, manifest.log_root))

    def state(self) -> State:
        """Read everything back through the classes under test.

        Raises:
            FedcreditError: something is damaged.
        """
        ((verdict, *_), *_) = self.database.execute("PRAGMA integrity_check")
        if verdict != "ok":
            raise StoreCorruptError(path=self.database.place, problem="its pages contradict each other")
        return State(
            charges=tuple(
                (run, partition, self.ledger.charges(run=run, partition=partition))
                for run in RUNS
                for partition in CAPS
                if self.ledger.charges(run=run, partition=partition)
            ),
            spent=tuple((partition, self.ledger.spent(partition).releases) for partition in CAPS),
            caps=tuple((partition, self.ledger.recorded_caps[partition].epsilon) for partition in CAPS),
            events=tuple(
                (str(event.kind), b"".join(_octets(event.fields.get(name)) for name in ("manifest", "answer")))
                for event in self.audit.events()
            ),
            answers=tuple(
                (digest, answer)
                for digest, manifest in MANIFESTS.items()
                if (answer := self.memory.answer_to(digest, run=manifest.run)) is not None
            ),
            closed=tuple((run, bisect_left(IN_ORDER[run], True, key=self._is_open)) for run in RUNS),
            witnessed=tuple((run, seen.size, seen.root) for run in RUNS if (seen := self.memory.witnessed(run)).size),
            masks=tuple(
                (run, kept.step, kept.roots) for run in RUNS if isinstance(kept := self.memory.epoch(run), EpochRoots)
            ),
            uploads=tuple(
                (run, kept.manifest_digest) for run in RUNS if (kept := self.memory.member_round(run)) is not None
            ),
            terms=tuple(run for run in RUNS if self.memory.terms(run) == _terms(run)),
            split=Records(self.database, "run-memory").get("split") is not None,
        )

    def _is_open(self, manifest: Manifest) -> bool:
        try:
            self.memory.require_new(manifest)
        except ReplayError:
            return False
        return True

    def close(self) -> None:
        self.database.close()


def state_after(count: int) -> State:
    """Return what the store must say once the first ``count`` steps are done, computed without it."""
    charges: dict[tuple[str, str], int] = {}
    spent = dict.fromkeys(CAPS, 0)
    caps = dict(CAPS)
    events: list[tuple[str, bytes]] = []
    answers: dict[str, tuple[bytes, bytes]] = {}
    closed = dict.fromkeys(RUNS, 0)
    witnessed: dict[str, tuple[int, bytes]] = {}
    masks: dict[str, tuple[int, tuple[bytes, ...]]] = {}
    uploads: dict[str, bytes] = {}
    for step in STEPS[:count]:
        match step:
            case Charge(manifest):
                partition = PARTITIONS[manifest.purpose]
                charges[manifest.run, partition] = charges.get((manifest.run, partition), 0) + 1
                spent[partition] += 1
            case Reply(manifest, sealed):
                answers[manifest.run] = (manifest.digest(), sealed)
                closed[manifest.run] += 1
                witnessed[manifest.run] = (manifest.log_size, manifest.log_root)
                if manifest.purpose == "train":
                    masks[manifest.run] = (manifest.round, _roots(manifest.run, manifest.round))
                    uploads[manifest.run] = manifest.digest()
                events.append(("request-answered", manifest.digest() + hashlib.sha256(sealed).digest()))
            case Refuse(_, digest):
                events.append(("request-refused", digest))
            case Amend(epsilon):
                caps["train"] = epsilon
    return State(
        charges=tuple((*key, number) for key, number in charges.items()),
        spent=tuple(spent.items()),
        caps=tuple(caps.items()),
        events=tuple(events),
        answers=tuple(answers.values()),
        closed=tuple(closed.items()),
        witnessed=tuple((run, *seen) for run, seen in witnessed.items()),
        masks=tuple((run, *kept) for run, kept in masks.items()),
        uploads=tuple(uploads.items()),
        terms=tuple(step.run for step in STEPS[:count] if isinstance(step, TakeUp)),
        split=count > 0,
    )


@cache
def _terms(run: str) -> Terms:
    plan = PLANS[run]
    return Terms(
        plan=plan,
        plan_digest=plan.digest(),
        plan_text=plan.to_toml().encode(),
        roster_text=b"roster",
        roster_digest=bytes(32),
    )


def _octets(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""
