"""A whole run: rounds in order, a checkpoint and a log line after each, resume from the last line that has one."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np

from fedcredit.aggregation.server_step import ServerState, ServerStep, server_step
from fedcredit.audit.log import AuditLog, Event, EventKind
from fedcredit.checkpoint import Checkpoint, CheckpointStore
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.envelope import encode_roster
from fedcredit.errors import (
    CheckpointError,
    NothingTrainedError,
    QuorumError,
    RunMismatchError,
    SumNotOpenedError,
    UpdateOutOfRangeError,
)
from fedcredit.evaluation import ScoreCounts, score_edges
from fedcredit.evaluation.vote import Outcome
from fedcredit.messages import COUNT_GRID, SCORE_BINS, CloseAnswer, Purpose, Stage, weights_to_bytes
from fedcredit.parties import InstitutionId, Roster
from fedcredit.rounds.containment import NO_SUM, Containment, Integers, kept_total
from fedcredit.rounds.engine import Resumed, RoundCall, RoundEngine
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.transcript import RECORDS, TRANSCRIPTS
from fedcredit.rounds.voting import Verdict, ballots_from_bytes, ballots_to_bytes
from fedcredit.store.database import Database
from fedcredit.store.files import make_directory, write_atomic
from fedcredit.store.journal import Journal
from fedcredit.training.families import ModelFamily
from fedcredit.transport import Clock, Transport

ZERO_DIGEST: Final = bytes(32)
ROSTER_FILE: Final = "roster.cbor"
COORDINATOR_FILE: Final = "coordinator.cbor"
RELEASES: Final = frozenset({EventKind.RUN_OPENED, EventKind.PREPARED, EventKind.ROUND_RELEASED})
"""Events that name a model which the next round may start from."""


@dataclass(frozen=True, kw_only=True)
class RoundReport:
    """What is public after a released round."""

    round: int
    rounds: int
    state: ServerState
    result: RoundResult
    checkpoint: bytes
    """Digest of the checkpoint that holds the released model."""


class FederatedRun:
    """One run of one plan, kept in a folder: ``plan.toml``, ``run.db`` (audit log), ``checkpoints/``, ``transcripts/``.

    Opening a folder that holds a run of the same plan resumes it after its last released round; a run of another plan
    is refused. What the log says was released exists: the checkpoint is written first, then the line.
    """

    def __init__(
        self,
        *,
        plan: RunPlan,
        run_id: str,
        folder: Path,
        database: Database,
        family: ModelFamily,
        roster: Roster,
        keys: IdentityKeys,
        transport: Transport,
        heads: LedgerHeads,
        clock: Clock,
    ) -> None:
        self.plan: Final = plan
        self.audit: Final = AuditLog(Journal(database, "audit"))
        self.folder: Final = folder
        self._family = family
        self._checkpoints = CheckpointStore(folder / "checkpoints")
        self._step: ServerStep = server_step(plan, family.layout, input_scale=family.input_scale)
        self._attempts: Counter[tuple[int, Purpose]] = Counter()
        self._state = ServerState.initial(family.initial_weights())
        self._contained = Containment(plan, family)
        self._parent = ZERO_DIGEST
        self._finished = False
        self._verdict: Verdict | None = None
        self._prepared = False
        self.run_id = run_id
        self._release_index = 0
        self._resumed = Resumed()
        self._open_or_resume(roster, keys)
        self._engine = RoundEngine(
            plan=plan,
            lanes={
                Purpose.PREPARE: family.preparation_lanes,
                Purpose.TRAIN: family.lanes,
                Purpose.EVALUATE: 2 * SCORE_BINS,
            },
            roster=roster,
            keys=keys,
            transport=transport,
            audit=self.audit,
            heads=heads,
            clock=clock,
            keep=self._keep_transcript,
            resumed=self._resumed,
        )

    @property
    def state(self) -> ServerState:
        """Return the state after the last released round."""
        return self._state

    @property
    def verdict(self) -> Verdict | None:
        """Return what the members have said to the model; ``None`` until the run is closed."""
        return self._verdict

    def rounds(self, *, on_reply: Callable[[RoundResult], None] = lambda _: None) -> Iterator[RoundReport]:
        """Run the rounds that are left, yielding after each release.

        Raises:
            QuorumError: a round failed and the run's retries are used up; it can be resumed later.
            UpdateOutOfRangeError: the sum was out of range as often; the model is the one before.
            RoundRefusedError: institutions refused; that is not retried.
        """
        total = self.plan.run.rounds
        self.prepare(on_reply=on_reply)
        while self._state.round < total:
            number = self._state.round + 1
            result = self._attempt(number, Purpose.TRAIN, on_reply)
            state = self._step.apply(self._state, result.total, result.contributors)
            self._release(state, result)
            yield RoundReport(round=number, rounds=total, state=state, result=result, checkpoint=self._parent)

    def prepare(self, *, on_reply: Callable[[RoundResult], None] = lambda _: None) -> RoundResult | None:
        """Ask for the histogram before the first round, and start from what follows from it.

        Returns ``None`` if the plan has no preparation, or the run has had it. ``rounds`` begins with it.

        Raises:
            QuorumError, RoundRefusedError: as ``rounds``.
        """
        if self._prepared or not self.plan.privacy.preparation_share:
            return None
        result = self._attempt(1, Purpose.PREPARE, on_reply)
        state = ServerState.initial(self._family.prepared(self._state.weights, result.total))
        digest = self._save(state, manifest=result.manifest_digest, prepared=True)
        self.audit.record(
            EventKind.PREPARED,
            run=self.run_id,
            manifest=result.manifest_digest,
            contributors=list(result.contributors),
            checkpoint=digest,
            parent=self._parent,
            **_model_digests(state),
        )
        self._release_index = len(self.audit) - 1
        self._state, self._parent, self._prepared = state, digest, True
        return result

    def evaluate(self, *, on_reply: Callable[[RoundResult], None] = lambda _: None) -> tuple[ScoreCounts, RoundResult]:
        """Ask for score counts of the released model on held-out borrowers and return their noised sum."""
        if self._state.round < self.plan.run.rounds:
            raise NothingTrainedError(reason=f"only {self._state.round} of {self.plan.run.rounds} rounds are done")
        result = self._attempt(self.plan.run.rounds, Purpose.EVALUATE, on_reply)
        lanes = np.rint(result.total / COUNT_GRID).astype(np.int64)
        counts = ScoreCounts.from_lanes(lanes, edges=score_edges(self.plan.model.base_rate))
        self.audit.record(
            EventKind.EVALUATED,
            run=self.run_id,
            manifest=result.manifest_digest,
            contributors=list(result.contributors),
        )
        return counts, result

    def close(self, *, on_reply: Callable[[RoundResult], None] = lambda _: None) -> RoundResult | None:
        """Show everybody the whole log, the evaluation included, and take their cosignatures and votes on the model.

        Returns ``None`` if that is done; the votes are counted once.

        Raises:
            QuorumError, RoundRefusedError: as ``rounds``.
        """
        if self._verdict is not None:
            return None
        result = self._attempt(self.plan.run.rounds, Purpose.CLOSE, on_reply)
        verdict = _counted(self.plan, ballots_to_bytes(result.ballots))
        self.audit.record(
            EventKind.CLOSED,
            run=self.run_id,
            manifest=result.manifest_digest,
            contributors=list(result.contributors),
            log_size=result.log_size,
            weights=_model_digests(self._state)["released"],
            ballots=ballots_to_bytes(result.ballots),
            **verdict.record(),
        )
        self._verdict = verdict
        return result

    def finish(self) -> Verdict:
        """Record the end, and return how it ended: with a model, or with a candidate that the members kept back.

        A run that trained nothing, or was not closed, has no end.

        Raises:
            NothingTrainedError: there is no end to record.
        """
        if self._state.round < self.plan.run.rounds:
            raise NothingTrainedError(reason=f"only {self._state.round} of {self.plan.run.rounds} rounds are done")
        if self._verdict is None:
            raise NothingTrainedError(reason="its members have not been asked for their votes")
        if not self._finished:
            rejected = self._verdict.outcome is Outcome.NOT_RELEASED
            kind = EventKind.MODEL_REJECTED if rejected else EventKind.RUN_FINISHED
            self.audit.record(kind, run=self.run_id, checkpoint=self._parent)
            self._finished = True
        return self._verdict

    def _attempt(self, number: int, purpose: Purpose, on_reply: Callable[[RoundResult], None]) -> RoundResult:
        """Run one round, again with a new attempt while the plan's privacy pays for it."""
        first = purpose in {Purpose.PREPARE, Purpose.TRAIN}
        weights = self._state.weights if first else self._state.released()
        while True:
            attempt = self._attempts[number, purpose] + 1
            self._attempts[number, purpose] = attempt
            call = RoundCall(
                run=self.run_id,
                round=number,
                attempt=attempt,
                purpose=purpose,
                weights=weights,
                release=self._release_index,
                contained=self._contained if purpose is Purpose.TRAIN else None,
            )
            try:
                return self._engine.run(call, on_reply=on_reply)
            except (QuorumError, SumNotOpenedError, UpdateOutOfRangeError):
                if self._retries_used(purpose) >= self.plan.rounds.retries:
                    raise

    def _retries_used(self, purpose: Purpose) -> int:
        """Return how many attempts failed so far; an attempt that a crash cut short counts as failed."""
        opened = sum(count for (_, kind), count in self._attempts.items() if kind is purpose)
        return opened - (self._state.round if purpose is Purpose.TRAIN else 0) - 1

    def _keep_transcript(self, name: str, transcript: bytes) -> None:
        """Write the evidence of a round, of a failed attempt, or of a set-up of keys, before the log tells of it."""
        if not (self.folder / TRANSCRIPTS).is_dir():
            make_directory(self.folder / TRANSCRIPTS)
        write_atomic(self.folder / TRANSCRIPTS / name, transcript)

    def _release(self, state: ServerState, result: RoundResult) -> None:
        digest = self._save(state, manifest=result.manifest_digest, total=result.total)
        self.audit.record(
            EventKind.ROUND_RELEASED,
            run=self.run_id,
            round=state.round,
            manifest=result.manifest_digest,
            contributors=list(result.contributors),
            checkpoint=digest,
            parent=self._parent,
            **_model_digests(state),
        )
        self._release_index = len(self.audit) - 1
        self._state, self._parent = state, digest
        self._contained.follow(result.total, result.contributors)

    def _save(self, state: ServerState, *, manifest: bytes, prepared: bool = False, total: Integers = NO_SUM) -> bytes:
        return self._checkpoints.save(
            Checkpoint(
                round=state.round,
                tensors={
                    "weights": state.weights,
                    "velocity": state.velocity,
                    "average": state.average,
                    "averaged": np.array([float(state.averaged)]),
                    "released": state.released(),
                    # The next round's bounds follow from it, also after a restart.
                    "total": total.astype(np.float64),
                },
                manifest_digest=manifest,
                parent=self._parent,
            ),
            prepared=prepared,
        )

    def _open_or_resume(self, roster: Roster, keys: IdentityKeys) -> None:
        events = list(self.audit.events())
        if not events:
            make_directory(self.folder)
            # What a validator needs to check signatures without asking anybody.
            write_atomic(self.folder / ROSTER_FILE, encode_roster(roster))
            write_atomic(self.folder / COORDINATOR_FILE, keys.public.to_bytes())
            self._parent = self._save(self._state, manifest=ZERO_DIGEST)
            self.audit.record(
                EventKind.RUN_OPENED,
                run=self.run_id,
                plan=self.plan.digest(),
                roster=roster.digest(),
                layout=self._family.layout.digest(),
                coordinator=hashlib.sha256(keys.public.to_bytes()).digest(),
                records=RECORDS,
                checkpoint=self._parent,
                **_model_digests(self._state),
            )
            return
        self.audit.verify()
        opened = events[0]
        if opened.fields.get("plan") != self.plan.digest() or opened.fields.get("roster") != roster.digest():
            raise RunMismatchError(path=str(self.folder))
        self.run_id = str(opened.fields["run"])
        self._resume(events)

    def _resume(self, events: list[Event]) -> None:
        opened = [event for event in events if event.kind is EventKind.ROUND_OPENED]
        self._resumed = Resumed(
            setups=sum(event.fields["purpose"] == Purpose.SETUP for event in opened),
            shown=tuple(event.index for event in opened if event.fields["purpose"] != Purpose.SETUP),
            selected=_selected(events),
        )
        for event in events:
            if event.kind is EventKind.ROUND_OPENED:
                place = (cast(int, event.fields["round"]), Purpose(cast(str, event.fields["purpose"])))
                self._attempts[place] = max(self._attempts[place], cast(int, event.fields["attempt"]))
            self._finished |= event.kind in {EventKind.RUN_FINISHED, EventKind.MODEL_REJECTED}
            if event.kind is EventKind.CLOSED:
                self._verdict = _counted(self.plan, cast(bytes, event.fields["ballots"]))
            self._prepared |= event.kind is EventKind.PREPARED
        last = next(event for event in reversed(events) if "checkpoint" in event.fields)
        self._release_index = max(
            event.index for event in events if "weights" in event.fields and event.kind in RELEASES
        )
        released = [event for event in events if event.kind is EventKind.ROUND_RELEASED]
        number = cast(int, released[-1].fields["round"]) if released else 0
        self._parent = cast(bytes, last.fields["checkpoint"])
        checkpoint = self._checkpoints.load(number, digest=self._parent, prepared=last.kind is EventKind.PREPARED)
        tensors = checkpoint.tensors
        size = self._family.layout.size
        if any(tensors[name].shape != (size,) for name in ("weights", "velocity", "average")):
            raise CheckpointError(path=str(self.folder), problem="has another layout than the plan")
        if released:
            self._contained.follow(
                kept_total(checkpoint, lanes=self._family.lanes),
                [InstitutionId(name) for name in cast(list[str], released[-1].fields["contributors"])],
            )
        averaged = float(tensors["averaged"][0])
        if not math.isfinite(averaged):
            raise CheckpointError(path=str(self.folder), problem="holds a non-finite count")
        self._state = ServerState(
            round=checkpoint.round,
            weights=tensors["weights"],
            velocity=tensors["velocity"],
            average=tensors["average"],
            averaged=int(averaged),
        )


def _counted(plan: RunPlan, ballots: bytes) -> Verdict:
    """Return what the signed answers of a closing entry make of the model; their signatures were checked on arrival."""
    answers = {name: CloseAnswer.from_bytes(signed.body) for name, signed in ballots_from_bytes(ballots).items()}
    return Verdict.of(plan, answers)


def _model_digests(state: ServerState) -> dict[str, bytes]:
    """Return what the log says of a model: institutions take no other weights (``institution.lineage``)."""
    return {
        "weights": hashlib.sha256(weights_to_bytes(state.weights)).digest(),
        "released": hashlib.sha256(weights_to_bytes(state.released())).digest(),
    }


def _selected(events: list[Event]) -> dict[tuple[int, Purpose], tuple[str, ...]]:
    """Return the last selection of each round for which shares may have been asked: not if agreement failed before."""
    found: dict[tuple[int, Purpose], tuple[str, ...]] = {}
    before: dict[tuple[int, Purpose], tuple[str, ...]] = {}
    for event in events:
        if event.kind not in {EventKind.COHORT_SELECTED, EventKind.ROUND_ABORTED}:
            continue
        place = (cast(int, event.fields["round"]), Purpose(cast(str, event.fields["purpose"])))
        if event.kind is EventKind.COHORT_SELECTED:
            before[place] = found.get(place, ())
            found[place] = tuple(cast(list[str], event.fields["contributors"]))
        elif event.fields["stage"] == Stage.ACCEPT:
            found[place] = before.get(place, ())
    return found
