"""Audited releases through everything that production has: sealed requests, admission, worker, ledger, sealed answers.

The coordinator's ``RoundEngine`` asks and adds up; where several institutions share the noise, it sees masked uploads
and opens their sum alone. Only the carrier is a function call, the databases are in memory, and the institutions'
randomness is an argument. Institutions take no weights but those that the coordinator's log names, so the auditor
writes its own into that log, as a malicious coordinator would; a run's first round is at the plan's own weights anyway.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.data.table import CreditTable
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.institution.worker import InstitutionWorker
from fedcredit.lab.audited_path import LEDGER_EPSILON, Build, Entropy, Scene, WhiteBox, entropy_of, joined
from fedcredit.lab.privacy_audit import Integers, Vector
from fedcredit.messages import Purpose, weights_to_bytes
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.privacy.noise_share import draw_noise
from fedcredit.rounds.containment import Containment
from fedcredit.rounds.engine import Resumed, RoundCall, RoundEngine
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.transport import LoopbackTransport

RUN: Final = "audit"


def _with_members(plan: RunPlan, roster: Roster) -> RunPlan:
    """Return the plan with the keys of ``roster``."""
    raw = plan.model_dump()
    for member in roster:
        raw["institutions"][member.institution]["identity"] = member.identity_digest
    return RunPlan.model_validate(raw)


class WorkerPath:
    """Runs of a scene through ``InstitutionWorker.handle``; ``folder`` takes the institutions' approvals.

    The scene's plan names ``contract``. Of all builds only those whose drawing and clipping are the product's own fit.

    Raises:
        ValueError: the build replaces what only ``ClientPath`` can replace.
    """

    def __init__(self, scene: Scene, build: Build, *, contract: Contract, folder: Path, entropy: Entropy) -> None:
        if build.clip_factor != 1 or any(build.draw_of(place) is not draw_noise for place in range(len(scene.honest))):
            raise ValueError("the worker draws and clips by itself")
        self._keys = {name: IdentityKeys.generate() for name in scene.honest}
        self._roster = Roster(
            tuple(
                Member(institution=name, kind=InstitutionType.BANK, public_identity=keys.public.to_bytes())
                for name, keys in sorted(self._keys.items())
            )
        )
        self.scene = replace(scene, plan=_with_members(scene.plan, self._roster))
        self._build = build
        self._contract = contract
        self._entropy = entropy
        self._white_box = WhiteBox(scene, build)
        self._coordinator = IdentityKeys.generate()
        self._approvals = {name: Approvals(folder / name) for name in scene.honest}
        for approvals in self._approvals.values():
            approvals.approve(self.scene.plan)

    def run(self, *, with_canaries: bool) -> WorkerRun:
        """Return a new run of new nodes: empty ledgers, no memory of other runs."""
        first, *others = self.scene.honest
        tables = {name: self.scene.tables[name] for name in others}
        tables[first] = self.scene.tables[first]
        if with_canaries:
            tables[first] = joined(tables[first], self.scene.canaries)
        log = AuditLog(Journal(Database.in_memory(), "audit"))
        workers = {name: self._worker(name, table) for name, table in tables.items()}
        return WorkerRun(self.scene, self._engine(workers, log), log)

    def known(self, weights: Vector, round_number: int) -> Integers:
        """Return the exact sum of everybody but the canaries, shape (lanes,)."""
        return self._white_box.known(weights, round_number)

    def directions(self, weights: Vector, round_number: int) -> Vector:
        """Return the canaries' own effects, (canaries, lanes)."""
        return self._white_box.directions(weights, round_number)

    def _worker(self, name: InstitutionId, table: CreditTable) -> InstitutionWorker:
        config = self._config(name)
        return assemble_worker(
            config=config,
            consortium=self.scene.plan.run.consortium,
            coordinator=self._coordinator.public.to_bytes(),
            holdings=Holdings(institution=name, contract=self._contract, table=table),
            keys=self._keys[name],
            approvals=self._approvals[name],
            state=NodeState.open(Database.in_memory(), config, clock=time.time),
            entropy=entropy_of(self._build, self._entropy),
            clock=time.time,
        )

    def _config(self, name: InstitutionId) -> NodeConfig:
        plan = self.scene.plan
        budget = {"epsilon": LEDGER_EPSILON, "delta": plan.privacy.delta, "holdout_epsilon": LEDGER_EPSILON}
        return NodeConfig.model_validate(
            {
                "schema_version": 1,
                "institution": name,
                "kind": str(InstitutionType.BANK),
                "data": {"path": "none", "contract": self._contract.name, "modalities": plan.modalities(name)},
                "budget": budget,
                "policy": {},
            }
        )

    def _engine(self, workers: Mapping[InstitutionId, InstitutionWorker], log: AuditLog) -> RoundEngine:
        return RoundEngine(
            plan=self.scene.plan,
            lanes={Purpose.TRAIN: self.scene.family.lanes},
            roster=self._roster,
            keys=self._coordinator,
            transport=LoopbackTransport({name: worker.handle for name, worker in workers.items()}),
            audit=log,
            heads=LedgerHeads(None),
            clock=time.time,
            keep=lambda _name, _transcript: None,
            resumed=Resumed(),
        )


class WorkerRun:
    """One run of a ``WorkerPath``."""

    def __init__(self, scene: Scene, engine: RoundEngine, log: AuditLog) -> None:
        self._scene = scene
        self._engine = engine
        self._log = log

    def release(self, weights: Vector, round_number: int) -> Integers:
        """Return the sum that the coordinator learns, shape (lanes,).

        Raises:
            QuorumError, RoundRefusedError, SumNotOpenedError: an institution did not answer, for example because the
                first round is at other weights than the plan begins with; nothing is audited then.
        """
        call = RoundCall(
            run=RUN,
            round=round_number,
            attempt=1,
            purpose=Purpose.TRAIN,
            weights=weights,
            release=self._released(weights, before=round_number),
            # Without a last sum: the widest bounds, which members accept in every round.
            contained=Containment(self._scene.plan, self._scene.family),
        )
        return self._engine.run(call).total

    def _released(self, weights: Vector, *, before: int) -> int:
        """Write into the log that ``weights`` are the model before a round; return the entry's index."""
        digest = hashlib.sha256(weights_to_bytes(weights)).digest()
        if before == 1:
            self._log.record(EventKind.RUN_OPENED, run=RUN, weights=digest)
        else:
            self._log.record(EventKind.ROUND_RELEASED, run=RUN, round=before - 1, weights=digest)
        return len(self._log) - 1
