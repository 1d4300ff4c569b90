"""A tiny consortium in this process: real keys, seals and ledgers; only the carrier and the data are made up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedcredit.audit.log import Event
from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract, load_contract
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.envelope import encode_roster, open_answer, seal_request, sign_manifest
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.institution.worker import InstitutionWorker
from fedcredit.messages import NO_HEAD, Answer, Manifest, Refusal, Request, weights_to_bytes
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.privacy.ledger_entries import Charge
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database
from fedcredit.training.families import ModelFamily, model_family
from fedcredit.transport import Deadline, LoopbackTransport, Reply, Transport

NAMES = ("bank-a", "bank-b", "fund-c", "insurer-d")
MODALITIES = {
    "bank-a": ("application", "repayment"),
    "bank-b": ("application",),
    "fund-c": ("repayment",),
    "insurer-d": ("application", "repayment"),
}
CONSORTIUM = "credit"
CONTRACT: Contract = load_contract("taiwan")
INPUTS = model_inputs(CONTRACT)
RUN = "run-1"


def keys_of(number: int) -> IdentityKeys:
    seed = bytes([number]) * 64
    return IdentityKeys(signing=seed[:32], kem_classic=seed[:32], kem_post_quantum=seed)


COORDINATOR = keys_of(1)


@dataclass
class Clock:
    """A clock that moves only when told."""

    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def table_of(name: str, rows: int = 60) -> CreditTable:
    """Return borrowers whose first bin decides their risk."""
    rng = np.random.default_rng(list(name.encode()))
    modalities = {}
    risk = np.zeros(rows)
    for modality in MODALITIES[name]:
        shape = INPUTS[modality]
        codes = np.stack([rng.integers(0, bins, size=rows) for bins in shape.bins], axis=1).astype(np.int16)
        dense = rng.uniform(-1, 1, size=(rows, *shape.dense)).astype(np.float32)
        risk += codes[:, 0] / shape.bins[0] - 0.5
        modalities[modality] = ModalityTable(codes=codes, dense=dense)
    return CreditTable(
        entities=np.array([f"{name}-{i:04d}" for i in range(rows)], dtype=np.str_),
        labels=(risk + rng.normal(scale=0.3, size=rows) > 0).astype(np.int8),
        modalities=modalities,
        dropped=0,
    )


def plan_of(names: Sequence[str] = NAMES, **changes: Any) -> RunPlan:
    """Return a plan; ``changes`` go by "section/key", or by "section" for a whole one."""
    raw: dict[str, Any] = {
        "schema_version": 2,
        "run": {
            "name": "first",
            "consortium": CONSORTIUM,
            "contract": CONTRACT.name,
            "contract_digest": CONTRACT.digest().hex(),
            "rounds": 3,
            "holdout_fraction": 0.3,
            "holdout_salt": "salt",
        },
        "model": {"kind": "scorecard", "base_rate": 0.4},
        "training": {
            "kind": "dp-gradient",
            "learning_rate": 2.0,
            "momentum": 0.5,
            "clip": 1.0,
            "grid": 8,
            "average_from": 0.5,
        },
        "privacy": {
            "mechanism": "rounded-gaussian",
            "accountant": "gdp",
            "noise": "local",
            "colluders": 0,
            "sampling": "full-batch",
            "sampling_rate": 1.0,
            "preparation_share": 0.0,
            "epsilon": 4.0,
            "delta": 1e-5,
            "unit": "borrower",
            "neighbours": "add-or-remove-one",
            "evaluation_epsilon": 1.0,
            "test_noise": False,
        },
        "rounds": {"quorum": len(names), "retries": 2, "deadline_s": 60.0},
        "institutions": {
            name: {"kind": "bank", "expected_borrowers": 40, "modalities": list(MODALITIES[name])} for name in names
        },
    }
    for place, value in changes.items():
        section, _, key = place.partition("/")
        if key:
            raw[section][key] = value
        else:
            raw[section] = value
    return RunPlan.model_validate(raw)


NO_PRIVACY: dict[str, Any] = {
    "privacy/mechanism": "none",
    "privacy/accountant": "none",
    "privacy/epsilon": float("inf"),
    "privacy/evaluation_epsilon": float("inf"),
}

TREES: dict[str, Any] = {
    "model": {"kind": "trees", "depth": 3, "trees_per_round": 6, "structure_seed": 7, "base_rate": 0.4},
    "training": {
        "kind": "dp-boosting",
        "learning_rate": 0.3,
        "clip": 0.8,
        "grid": 100,
        "ridge": 20.0,
        "leaf_limit": 2.0,
    },
    "privacy/preparation_share": 0.05,
}
"""Boosted trees with a preparation; the members hold three combinations of modalities, fund-c none with a category."""
SHARED: dict[str, Any] = {"privacy/noise": "shared", "privacy/colluders": 1}
"""Noise that three of the four members carry together."""


def os_entropy(count: int) -> bytes:
    return os.urandom(count)


@dataclass
class Site:
    """One institution; ``reopen`` is what a restart of its daemon is."""

    name: InstitutionId
    folder: Path
    clock: Clock
    keys: IdentityKeys
    table: CreditTable
    budget: Mapping[str, float]
    policy: Mapping[str, bool]
    entropy: Callable[[int], bytes] = os_entropy
    contract: Contract = CONTRACT
    on_disk: bool = False
    state: NodeState = field(init=False)
    worker: InstitutionWorker = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.approvals = Approvals(self.folder / "approvals")
        self.open()

    @property
    def config(self) -> NodeConfig:
        return NodeConfig.model_validate(
            {
                "schema_version": 1,
                "institution": self.name,
                "kind": "bank",
                "data": {"path": "unused", "contract": CONTRACT.name, "modalities": MODALITIES[self.name]},
                "budget": dict(self.budget),
                "policy": dict(self.policy),
            }
        )

    def open(self) -> None:
        database = Database.open(self.folder / "node.db") if self.on_disk else Database.in_memory()
        self.state = NodeState.open(database, self.config, clock=self.clock)
        self.assemble()

    def assemble(self) -> None:
        self.worker = assemble_worker(
            config=self.config,
            consortium=CONSORTIUM,
            coordinator=COORDINATOR.public.to_bytes(),
            holdings=Holdings(institution=self.name, contract=self.contract, table=self.table),
            keys=self.keys,
            approvals=self.approvals,
            state=self.state,
            entropy=lambda count: self.entropy(count),
            clock=self.clock,
        )

    def reopen(self) -> None:
        self.state.database.close()
        self.open()

    def charged(self, partition: str = "train") -> int:
        return self.state.ledger.spent(partition).releases

    def epsilon(self, partition: str = "train") -> float:
        return self.state.ledger.spent(partition).epsilon

    def charges(self) -> list[Charge]:
        """Return every charge in the ledger, oldest first."""
        return [entry for entry in self.state.ledger.history() if isinstance(entry, Charge)]

    def events(self) -> list[Event]:
        return list(self.state.audit.events())


@dataclass
class Consortium:
    """Institutions that have all approved one plan, and a coordinator that runs it."""

    folder: Path
    plan: RunPlan
    sites: dict[str, Site]
    roster: Roster
    clock: Clock

    @classmethod
    def make(
        cls,
        folder: Path,
        plan: RunPlan | None = None,
        *,
        on_disk: bool = False,
        policy: Mapping[str, bool] | None = None,
        budget: Mapping[str, float] | None = None,
        rows: int = 60,
    ) -> Consortium:
        plan = plan or plan_of()
        clock = Clock()
        sites = {}
        for number, name in enumerate(plan.institutions, start=10):
            site = Site(
                name=InstitutionId(name),
                folder=folder / name,
                clock=clock,
                keys=keys_of(number),
                table=table_of(name, rows),
                budget=budget or {"epsilon": 20.0, "delta": 1e-5, "holdout_epsilon": 5.0},
                policy=policy or {},
                on_disk=on_disk,
            )
            site.approvals.approve(plan)
            sites[name] = site
        roster = Roster(
            tuple(
                Member(institution=site.name, kind=InstitutionType.BANK, public_identity=site.keys.public.to_bytes())
                for site in sites.values()
            )
        )
        return cls(folder=folder, plan=plan, sites=sites, roster=roster, clock=clock)

    @property
    def family(self) -> ModelFamily:
        return model_family(self.plan, INPUTS)

    def loopback(self) -> LoopbackTransport:
        return LoopbackTransport(
            {site.name: (lambda request, site=site: site.worker.handle(request)) for site in self.sites.values()}
        )

    def run(
        self, transport: Transport | None = None, *, database: Database | None = None, run_id: str = RUN, **changes: Any
    ) -> FederatedRun:
        return FederatedRun(
            plan=changes.get("plan", self.plan),
            run_id=run_id,
            folder=self.folder / "run",
            database=database or Database.in_memory(),
            family=self.family,
            roster=changes.get("roster", self.roster),
            keys=COORDINATOR,
            transport=transport or self.loopback(),
            heads=changes.get("heads", LedgerHeads(None)),
            clock=self.clock,
        )


@dataclass(frozen=True, kw_only=True)
class Question:
    """One sealed request and what is needed to read its answer."""

    site: Site
    manifest: Manifest
    sealed: bytes

    def ask(self) -> bytes:
        return self.site.worker.handle(self.sealed)

    def read(self, reply: bytes) -> Answer:
        return open_answer(
            reply,
            manifest=self.manifest,
            manifest_digest=self.manifest.digest(),
            institution=self.site.name,
            identity=self.site.keys.public,
            keys=COORDINATOR,
            request=self.sealed,
        )

    def answer(self) -> Answer:
        return self.read(self.ask())

    def code(self) -> str:
        """Ask, and return the code of the refusal; "" for an answer that is none."""
        answer = self.answer()
        return answer.code if isinstance(answer, Refusal) else ""


def question(
    consortium: Consortium,
    name: str,
    *,
    plan: RunPlan | None = None,
    roster: Roster | None = None,
    weights: np.ndarray | None = None,
    brief: bool = False,
    signer: IdentityKeys = COORDINATOR,
    heads: Mapping[str, bytes] | None = None,
    sent: Mapping[str, bytes] | None = None,
    **changes: Any,
) -> Question:
    """Return a well-formed training request of round 1; ``changes`` go to its manifest, ``sent`` past it.

    ``heads`` are the privacy ledgers' heads that the coordinator claims to have seen.
    """
    plan, roster = plan or consortium.plan, roster or consortium.roster
    vector = weights_to_bytes(consortium.family.initial_weights() if weights is None else weights)
    cohort = changes.get("cohort", tuple(sorted(consortium.sites)))
    content: dict[str, Any] = {
        "consortium": CONSORTIUM,
        "run": RUN,
        "round": 1,
        "attempt": 1,
        "purpose": "train",
        "plan_digest": plan.digest(),
        "roster_digest": roster.digest(),
        "weights_digest": hashlib.sha256(vector).digest(),
        "cohort": cohort,
        "ledger_heads": tuple((heads or {}).get(member, NO_HEAD) for member in cohort),
        "quorum": plan.rounds.quorum,
        "deadline": int(consortium.clock.now) + 60,
        **changes,
    }
    manifest = Manifest(**content)
    parts = {
        "weights": vector,
        "plan": b"" if brief else plan.to_toml().encode(),
        "roster": b"" if brief else encode_roster(roster),
        **(sent or {}),
    }
    request = Request(manifest=manifest.to_bytes(), signature=sign_manifest(manifest, signer), **parts)
    site = consortium.sites[name]
    sealed = seal_request(request, consortium=CONSORTIUM, to=site.name, identity=site.keys.public)
    return Question(site=site, manifest=manifest, sealed=sealed)


@dataclass
class Flaky:
    """Loses what ``lost`` says, by institution and the number of the exchange."""

    inner: Transport
    lost: Callable[[str, int], bool]
    lose_reply: bool = False
    exchanges: int = 0

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        self.exchanges += 1
        number = self.exchanges
        reached = {name: data for name, data in requests.items() if self.lose_reply or not self.lost(name, number)}
        for reply in self.inner.exchange(reached, deadline=deadline):
            if not (self.lose_reply and self.lost(reply.institution, number)):
                yield reply


@dataclass
class Recorder:
    """Carries everything and keeps a copy, as a relay could."""

    inner: Transport
    requests: list[Mapping[InstitutionId, bytes]] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        self.requests.append(dict(requests))
        for reply in self.inner.exchange(requests, deadline=deadline):
            self.replies.append(reply)
            yield reply
