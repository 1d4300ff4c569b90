"""A tiny consortium in this process: real keys, seals and ledgers; only the carrier and the data are made up."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fedcredit.audit.log import Event
from fedcredit.audit.merkle import MerkleTree
from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract, load_contract
from fedcredit.crypto.channels import Channel
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.signatures import sign
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.encoding import encode
from fedcredit.envelope import OpenedAnswer, encode_roster, open_answer, seal_request, sign_manifest
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.institution.worker import InstitutionWorker
from fedcredit.messages import (
    NO_EPOCH,
    NO_HEAD,
    SCORE_BINS,
    LogProof,
    Manifest,
    Message,
    Purpose,
    Refusal,
    Request,
    RoundBody,
    Stage,
    answer_length,
    padded_length,
    weights_to_bytes,
)
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.privacy.ledger_entries import Charge
from fedcredit.rounds.containment import Containment
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import epoch_id
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import (
    ANSWERS,
    ROOT_BOX_LENGTH,
    Accept,
    AcceptBody,
    EpochHello,
    EpochKey,
    KeysBody,
    Reveal,
    RevealBody,
    RootsBody,
    Selection,
    Upload,
)
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


def modalities_of(name: str) -> tuple[str, ...]:
    """Return what an institution holds; a fifth or later one holds applications."""
    return MODALITIES.get(name, ("application",))


CONSORTIUM = "credit"
CONTRACT: Contract = load_contract("taiwan")
INPUTS = model_inputs(CONTRACT)
RUN = "run-1"


def keys_of(number: int) -> IdentityKeys:
    seed = bytes([number]) * 64
    return IdentityKeys(signing=seed[:32], signing_post_quantum=seed[:32], kem_classic=seed[:32], kem_post_quantum=seed)


@lru_cache
def identity_of(place: int) -> str:
    """Return how a plan names the keys of the member at ``place``: those that ``Consortium`` gives it."""
    return hashlib.sha256(keys_of(10 + place).public.to_bytes()).hexdigest()


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
    for modality in modalities_of(name):
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
        "schema_version": 3,
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
        "aggregation": {"kind": "open", "update_bound": "none"},
        "evaluation": {"vote_floor": "none", "vote_share": 0.0},
        "institutions": {
            name: {"kind": "bank", "expected_borrowers": 40, "modalities": list(modalities_of(name))} for name in names
        },
    }
    for place, value in changes.items():
        section, _, key = place.partition("/")
        if key:
            raw[section][key] = value
        else:
            # A copy: another change may go into it, and the section is often one that tests share.
            raw[section] = dict(value) if isinstance(value, dict) else value
    for place, (name, section) in enumerate(raw["institutions"].items()):
        raw["institutions"][name] = {"identity": identity_of(place), **section}
    return RunPlan.model_validate(raw)


BOUNDED: dict[str, Any] = {"aggregation/update_bound": "share"}
"""Every member shortens its sums. The other plans here bound nothing: their tests know every number of a sum."""
VOTED: dict[str, Any] = {"evaluation": {"vote_floor": 0.55, "vote_share": 0.0}}
"""Members vote; they have held-out borrowers enough from about 600 rows on."""

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
SECURE: dict[str, Any] = {
    "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "none"},
    "rounds/quorum": 3,
}
"""One of the four members may drop out."""
SHARED: dict[str, Any] = {
    "privacy/noise": "shared",
    "privacy/colluders": 1,
    "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "none"},
}
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
                "data": {"path": "unused", "contract": CONTRACT.name, "modalities": modalities_of(self.name)},
                "budget": dict(self.budget),
                "policy": dict(self.policy),
            }
        )

    @property
    def holdings(self) -> Holdings:
        return Holdings(institution=self.name, contract=self.contract, table=self.table)

    def open(self) -> None:
        database = Database.open(self.folder / "node.db") if self.on_disk else Database.in_memory()
        self.state = NodeState.open(database, self.config, clock=self.clock)
        self.assemble()

    def assemble(self) -> None:
        self.worker = assemble_worker(
            config=self.config,
            consortium=CONSORTIUM,
            coordinator=COORDINATOR.public.to_bytes(),
            holdings=self.holdings,
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
    logs: dict[str, HandLog] = field(default_factory=dict)
    """By run: the log that ``question`` shows."""
    epochs: dict[str, HandEpoch] = field(default_factory=dict)
    """By run: the epoch that ``question`` asks for uploads in."""
    setups: Counter[str] = field(default_factory=Counter)

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

    def log(self, run: str) -> HandLog:
        """Return the log that requests made by hand show in a run."""
        return self.logs.setdefault(run, HandLog())

    def epoch(self, run: str, *, plan: RunPlan | None = None, roster: Roster | None = None) -> HandEpoch | None:
        """Return the epoch of a run, set up if there is none; ``None`` while somebody refuses that."""
        if run not in self.epochs:
            made = HandSetup.of(self, run=run, plan=plan, roster=roster).carried_out()
            if made is None:
                return None
            self.epochs[run] = made
        return self.epochs[run]

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


@dataclass
class HandLog:
    """The coordinator's log of one run, as far as requests made by hand need it: the entries that released models."""

    leaves: list[bytes] = field(default_factory=list)
    tree: MerkleTree = field(default_factory=MerkleTree)

    def add(self, leaf: bytes) -> int:
        """Return the index of this entry, which is appended if the log has none like it."""
        if leaf not in self.leaves:
            self.leaves.append(leaf)
            self.tree.append(leaf)
        return self.leaves.index(leaf)

    def proofs(self) -> tuple[bytes, ...]:
        """Return that the log continues what it was at every earlier size."""
        size = self.tree.size
        return tuple(LogProof(size=old, path=self.tree.consistency(old, size)).to_bytes() for old in range(1, size))


@dataclass
class HandEpoch:
    """An epoch that was set up by hand, as the coordinator knows it."""

    epoch: bytes
    cohort: Cohort
    boxes: Mapping[str, tuple[bytes, ...]]
    """For each member: the boxes from its neighbours, in order."""
    channels: Mapping[str, Channel | None]
    steps: dict[tuple[int, str, int], int] = field(default_factory=dict)
    """The step of every round, purpose and attempt that was asked for."""

    def step_of(self, content: Mapping[str, Any]) -> int:
        place = (content["round"], content["purpose"], content["attempt"])
        return self.steps.setdefault(place, len(self.steps))


@dataclass(frozen=True, kw_only=True)
class Question:
    """One sealed request and what is needed to read its answer."""

    site: Site
    manifest: Manifest
    sealed: bytes
    stage: Stage = Stage.ANSWER
    channel: Channel | None = None
    """What it is sealed with; ``None`` for the site's long-lived key."""

    def ask(self) -> bytes:
        return self.site.worker.handle(self.sealed)

    def open(self, reply: bytes) -> OpenedAnswer:
        return open_answer(
            reply,
            *ANSWERS[self.stage],
            manifest=self.manifest,
            manifest_digest=self.manifest.digest(),
            stage=self.stage,
            institution=self.site.name,
            identity=self.site.keys.public,
            keys=COORDINATOR,
            request_digest=hashlib.sha256(self.sealed).digest(),
            channel=self.channel,
        )

    def read(self, reply: bytes) -> Message:
        return self.open(reply).answer

    def answer(self) -> Message:
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
    sent: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Question:
    """Return a well-formed request, of round 1's training; ``changes`` go to its manifest, ``sent`` past it.

    ``heads`` are the privacy ledgers' heads that the coordinator claims to have seen. Requests of one run follow one
    log, which gets an entry when a request needs another model. A plan with secure aggregation gets an epoch with the
    first request of a run, if all members agree to it, and is asked for an upload.
    """
    plan, roster = plan or consortium.plan, roster or consortium.roster
    vector = weights_to_bytes(consortium.family.initial_weights() if weights is None else weights)
    manifest = manifest_of(consortium, plan=plan, roster=roster, weights=vector, heads=heads, **changes)
    sent = sent or {}
    purpose = Purpose(manifest.purpose)
    body: Message = KeysBody(channel=_half(name))
    if purpose is not Purpose.SETUP:
        body = round_body(consortium, manifest, name, plan=plan, weights=vector, sent=sent)
    stage = first_stage(purpose, plan)
    return request_for(
        consortium,
        name,
        manifest,
        stage=stage,
        body=body,
        length=length_of(consortium, stage, plan=plan),
        plan=plan,
        roster=roster,
        brief=brief,
        signer=signer,
        sent={key: value for key, value in sent.items() if key not in BODY},
    )


def manifest_of(
    consortium: Consortium,
    *,
    plan: RunPlan | None = None,
    roster: Roster | None = None,
    weights: bytes | None = None,
    heads: Mapping[str, bytes] | None = None,
    **changes: Any,
) -> Manifest:
    """Return the manifest of round 1's training, or of what ``changes`` say; only the last model is evaluated."""
    plan, roster = plan or consortium.plan, roster or consortium.roster
    vector = weights_to_bytes(consortium.family.initial_weights()) if weights is None else weights
    cohort = changes.get("cohort", tuple(sorted(consortium.sites)))
    number = plan.run.rounds if changes.get("purpose") in {"evaluate", "close"} else 1
    place = {"run": RUN, "round": number, "attempt": 1, "purpose": "train", **changes}
    log = consortium.log(place["run"])
    leaf = released_leaf(place["run"], vector, plan=plan, purpose=place["purpose"], round=place["round"])
    release = 0 if place["purpose"] == "setup" else log.add(leaf)
    hidden = plan.secure is not None and place["purpose"] in HIDDEN
    epoch = consortium.epoch(place["run"], plan=plan, roster=roster) if hidden else None
    return Manifest(
        **{
            "consortium": CONSORTIUM,
            "run": place["run"],
            "round": place["round"],
            "attempt": place["attempt"],
            "purpose": place["purpose"],
            "plan_digest": plan.digest(),
            "roster_digest": roster.digest(),
            "weights_digest": hashlib.sha256(vector).digest(),
            "cohort": cohort,
            "ledger_heads": tuple((heads or {}).get(member, NO_HEAD) for member in cohort),
            "quorum": plan.rounds.quorum,
            "deadline": int(consortium.clock.now) + 60,
            "epoch": epoch.epoch if epoch else NOBODYS_EPOCH if hidden else NO_EPOCH,
            "step": epoch.step_of(place) if epoch else 0,
            "log_size": log.tree.size,
            "log_root": log.tree.root(),
            "release": release,
            "radii": radii_of(plan, cohort) if place["purpose"] == "train" else (),
            **changes,
        }
    )


def radii_of(plan: RunPlan, cohort: Sequence[str]) -> tuple[int, ...]:
    """Return the widest radii that members accept: those of the first round."""
    known = [name for name in cohort if name in plan.institutions]
    radii = Containment(plan, model_family(plan, INPUTS)).radii(known)
    return radii + (0,) * (len(radii) // max(1, len(known)) * (len(cohort) - len(known)))


def round_body(
    consortium: Consortium,
    manifest: Manifest,
    name: str,
    *,
    plan: RunPlan | None = None,
    weights: bytes | None = None,
    sent: Mapping[str, Any] | None = None,
) -> RoundBody:
    """Return what a round's first stage needs; ``sent`` goes past it."""
    plan, log = plan or consortium.plan, consortium.log(manifest.run)
    vector = weights_to_bytes(consortium.family.initial_weights()) if weights is None else weights
    leaf = released_leaf(manifest.run, vector, plan=plan, purpose=manifest.purpose, round=manifest.round)
    epoch = consortium.epochs.get(manifest.run)
    return RoundBody(
        **{
            "weights": vector,
            "release": leaf,
            "release_path": log.tree.inclusion(log.leaves.index(leaf), size=log.tree.size),
            "log_proofs": log.proofs(),
            "roots": epoch.boxes.get(name, ()) if epoch and manifest.purpose in HIDDEN else (),
            **{key: value for key, value in (sent or {}).items() if key in BODY},
        }
    )


def request_for(
    consortium: Consortium,
    name: str,
    manifest: Manifest,
    *,
    stage: Stage,
    body: Message,
    length: int,
    plan: RunPlan | None = None,
    roster: Roster | None = None,
    brief: bool = False,
    signer: IdentityKeys = COORDINATOR,
    channel: Channel | None = None,
    sent: Mapping[str, Any] | None = None,
) -> Question:
    """Return one request of any stage; ``sent`` takes the place of its fields.

    It is sealed with ``channel``, or with that of the run's epoch outside set-ups.
    """
    plan, roster, site = plan or consortium.plan, roster or consortium.roster, consortium.sites[name]
    parts: dict[str, Any] = {
        "stage": str(stage),
        "answer_length": length,
        "plan": b"" if brief else plan.to_toml().encode(),
        "roster": b"" if brief else encode_roster(roster),
        "body": body.to_bytes(),
        **(sent or {}),
    }
    request = Request(manifest=manifest.to_bytes(), signature=signed_once(manifest, signer), **parts)
    epoch = consortium.epochs.get(manifest.run)
    if channel is None and epoch is not None and manifest.purpose != "setup":
        channel = epoch.channels[name]
    sealed = seal_request(request, consortium=CONSORTIUM, to=site.name, identity=site.keys.public, channel=channel)
    return Question(site=site, manifest=manifest, sealed=sealed, stage=Stage(parts["stage"]), channel=channel)


@lru_cache(maxsize=64)
def signed_once(manifest: Manifest, signer: IdentityKeys) -> bytes:
    """Sign a manifest, once: signatures are randomised, and a repeated request has the same bytes."""
    return sign_manifest(manifest, signer)


HIDDEN = frozenset({"prepare", "train", "evaluate"})
"""Purposes whose answers secure aggregation hides."""
NOBODYS_EPOCH = bytes([9]) * 32
"""In the manifest of a plan that no epoch could be set up for."""


def first_stage(purpose: Purpose, plan: RunPlan) -> Stage:
    """Return the stage that a manifest begins with."""
    only = {Purpose.SETUP: Stage.KEYS, Purpose.CLOSE: Stage.CLOSE}
    return only.get(purpose, Stage.UPLOAD if plan.secure else Stage.ANSWER)


def length_of(consortium: Consortium, stage: Stage, *, plan: RunPlan | None = None) -> int:
    """Return a plaintext length into which every answer of the stage fits."""
    secure = (plan or consortium.plan).secure
    lanes, near = max(consortium.family.lanes, consortium.family.preparation_lanes), len(consortium.sites) - 1
    upload = lanes * (secure.lane_bits if secure else 32) // 8 + near * (34 + near * 40 + 200)
    sizes = {
        Stage.KEYS: padded_length(6 * 1024),
        Stage.ROOTS: padded_length(ROOT_BOX_LENGTH * near),
        Stage.UPLOAD: padded_length(upload),
        Stage.ACCEPT: padded_length(0),
        Stage.REVEAL: padded_length(SHARE_LENGTH * (near + 1) ** 2),
    }
    return sizes.get(stage, answer_length(lanes))


@dataclass(kw_only=True)
class HandSetup:
    """The coordinator's side of one set-up of an epoch, a message at a time."""

    consortium: Consortium
    manifest: Manifest
    plan: RunPlan
    roster: Roster
    received: dict[str, EpochKey] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        consortium: Consortium,
        *,
        run: str = RUN,
        plan: RunPlan | None = None,
        roster: Roster | None = None,
        **changes: Any,
    ) -> HandSetup:
        plan, roster = plan or consortium.plan, roster or consortium.roster
        consortium.setups[run] += 1
        place = {"run": run, "round": 0, "attempt": consortium.setups[run], "purpose": "setup"}
        fields = {"weights_digest": bytes(32), "release": 0}
        manifest = manifest_of(consortium, plan=plan, roster=roster, **{**place, **fields, **changes})
        return cls(consortium=consortium, manifest=manifest, plan=plan, roster=roster)

    def keys(self, name: str, **sent: Any) -> Question:
        return self._request(name, Stage.KEYS, KeysBody(channel=_half(name)), **sent)

    def take_key(self, name: str, answer: Message) -> None:
        assert isinstance(answer, EpochHello), answer
        self.received[name] = EpochKey.from_bytes(answer.key)
        secret = Channel.secret(coordinator=_half(name), member=answer.channel, setup=self.manifest.digest(), name=name)
        self.channels[name] = Channel(secret, entropy=os_entropy)

    @property
    def in_order(self) -> list[EpochKey]:
        return [self.received[name] for name in sorted(self.received)]

    def roots(self, name: str, *, keys: Sequence[EpochKey] | None = None, **sent: Any) -> Question:
        chosen = self.in_order if keys is None else keys
        return self._request(name, Stage.ROOTS, RootsBody(keys=tuple(key.to_bytes() for key in chosen)), **sent)

    def _request(self, name: str, stage: Stage, body: Message, /, **sent: Any) -> Question:
        return request_for(
            self.consortium,
            name,
            self.manifest,
            stage=stage,
            body=body,
            length=length_of(self.consortium, stage, plan=self.plan),
            plan=self.plan,
            roster=self.roster,
            **_options(sent),
        )

    def carried_out(self) -> HandEpoch | None:
        """Ask everybody for everything; ``None`` if somebody refuses."""
        for name in self.manifest.cohort:
            answer = self.keys(name).answer()
            if not isinstance(answer, EpochHello):
                return None
            self.take_key(name, answer)
        replies = {}
        for name in self.manifest.cohort:
            asked = self.roots(name)
            replies[name] = asked.open(asked.ask())
            if isinstance(replies[name].answer, Refusal):
                return None
        return self.finished({name: bytes(reply.bulk) for name, reply in replies.items()})

    def finished(self, bulks: Mapping[str, bytes]) -> HandEpoch:
        """Return the epoch once everybody's boxes are there."""
        assert self.plan.secure is not None
        epoch = epoch_id(self.manifest.digest(), self.in_order)
        cohort = Cohort.of(list(self.received), seed=epoch, threshold=self.plan.secure.threshold)
        boxes = {
            name: [bulk[i : i + ROOT_BOX_LENGTH] for i in range(0, len(bulk), ROOT_BOX_LENGTH)]
            for name, bulk in bulks.items()
        }
        return HandEpoch(
            epoch=epoch,
            cohort=cohort,
            channels=self.channels,
            boxes={
                name: tuple(
                    boxes[cohort.names[other]][cohort.neighbours[other].index(place)]
                    for other in cohort.neighbours[place]
                )
                for place, name in enumerate(cohort.names)
            },
        )


def _options(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return what goes to ``request_for`` itself, and the fields of the request apart from it."""
    ours = {"brief", "signer", "channel"}
    fields = {key: value for key, value in sent.items() if key not in ours}
    return {**{key: value for key, value in sent.items() if key in ours}, "sent": fields}


def _half(name: str) -> bytes:
    """Return the coordinator's contribution to a member's channel."""
    return hashlib.sha256(name.encode()).digest()


@dataclass(kw_only=True)
class HandRound:
    """The coordinator's side of one secure round, a message at a time; every message can be bent."""

    consortium: Consortium
    manifest: Manifest
    weights: bytes
    sum: AggregatorRound
    signatures: dict[str, bytes] = field(default_factory=dict)
    """Of those who have agreed."""

    @classmethod
    def of(cls, consortium: Consortium, *, weights: np.ndarray | None = None, **changes: Any) -> HandRound:
        vector = weights_to_bytes(consortium.family.initial_weights() if weights is None else weights)
        manifest = manifest_of(consortium, weights=vector, **changes)
        secure, epoch = consortium.plan.secure, consortium.epochs[manifest.run]
        assert secure is not None
        lanes = {"prepare": consortium.family.preparation_lanes, "evaluate": 2 * SCORE_BINS}
        return cls(
            consortium=consortium,
            manifest=manifest,
            weights=vector,
            sum=AggregatorRound(
                manifest_digest=manifest.digest(),
                cohort=epoch.cohort,
                count=lanes.get(manifest.purpose, consortium.family.lanes),
                bits=secure.lane_bits,
                smallest=manifest.quorum,
                colluders=consortium.plan.privacy.colluders,
            ),
        )

    # --- M1 ----------------------------------------------------------------------------------------------------------

    def upload(self, name: str, **sent: Any) -> Question:
        body = round_body(self.consortium, self.manifest, name, weights=self.weights, sent=sent)
        return self._request(name, Stage.UPLOAD, body, **{key: value for key, value in sent.items() if key not in BODY})

    def take_upload(self, asked: Question, reply: bytes) -> Upload:
        opened = asked.open(reply)
        assert isinstance(opened.answer, Upload), opened.answer
        self.sum.take_upload(
            asked.site.name,
            opened.answer,
            digest=hashlib.sha256(opened.signed.body).digest(),
            signature=opened.signed.signature,
            bulk=opened.bulk,
        )
        return opened.answer

    def uploaded(self, *names: str) -> HandRound:
        """Ask these members, or all, for their uploads and take them."""
        for name in names or self.manifest.cohort:
            asked = self.upload(name)
            self.take_upload(asked, asked.ask())
        return self

    # --- M2 ----------------------------------------------------------------------------------------------------------

    def selection(self, *names: str) -> Selection:
        """Return the selection of these members, whose uploads were taken; signed by nobody, bound by no rule."""
        places = self.sum.cohort.places
        chosen = sorted(names) if names else [n for n in self.sum.cohort.names if places[n] in self.sum.contributions]
        contributions = [self.sum.contributions[places[name]] for name in chosen]
        return Selection(
            manifest_digest=self.manifest.digest(),
            members=tuple(chosen),
            uploads=tuple(item.digest for item in contributions),
            signatures=tuple(item.signature for item in contributions),
        )

    def accept(
        self, name: str, selection: Selection | None = None, *, selector: IdentityKeys = COORDINATOR, **sent: Any
    ) -> Question:
        body = (self.selection() if selection is None else selection).to_bytes()
        signature = sign(selector, tag=SELECTION_TAG, body=body)
        return self._request(name, Stage.ACCEPT, AcceptBody(selection=body, signature=signature), **sent)

    def take_accept(self, asked: Question, reply: bytes) -> None:
        opened = asked.open(reply)
        assert isinstance(opened.answer, Accept), opened.answer
        self.signatures[asked.site.name] = opened.signed.signature

    def agreed(self, *names: str) -> HandRound:
        """Fix the selection of all uploads, and have its members, or only ``names``, agree to it."""
        for name in names or self.sum.select().members:
            asked = self.accept(name, self.sum.select())
            self.take_accept(asked, asked.ask())
        return self

    # --- M3 ----------------------------------------------------------------------------------------------------------

    def reveal(self, name: str, *, body: Mapping[str, Any] | None = None, **sent: Any) -> Question:
        """Return the request for shares; ``body`` takes the place of its body's fields."""
        members = tuple(sorted(self.signatures))
        content: dict[str, Any] = {
            "selection": self.sum.selection_digest,
            "members": members,
            "signatures": tuple(self.signatures[member] for member in members),
            "boxes": self.sum.boxes_for(name),
            **(body or {}),
        }
        return self._request(name, Stage.REVEAL, RevealBody(**content), **sent)

    def take_reveal(self, asked: Question, reply: bytes) -> None:
        opened = asked.open(reply)
        assert isinstance(opened.answer, Reveal), opened.answer
        assert hashlib.sha256(opened.bulk).digest() == opened.answer.bulk_digest
        self.sum.take_reveal(asked.site.name, bytes(opened.bulk))

    def revealed(self, *names: str) -> HandRound:
        """Ask those who have agreed, or only ``names``, for their shares and take them."""
        for name in names or sorted(self.signatures):
            asked = self.reveal(name)
            self.take_reveal(asked, asked.ask())
        return self

    def _request(self, name: str, stage: Stage, body: Message, /, **sent: Any) -> Question:
        length = length_of(self.consortium, stage)
        return request_for(
            self.consortium, name, self.manifest, stage=stage, body=body, length=length, **_options(sent)
        )


BODY = ("weights", "release", "release_path", "log_proofs", "roots")


def released_leaf(run: str, weights: bytes, *, plan: RunPlan, **changes: Any) -> bytes:
    """Return the log's entry that released ``weights`` for the round that ``changes`` name."""
    purpose, number = changes.get("purpose", "train"), changes.get("round", 1)
    before = number if purpose in {"evaluate", "close"} else number - 1
    kind = "round-released"
    if not before:
        kind = "prepared" if plan.privacy.preparation_share and purpose != "prepare" else "run-opened"
    digest = hashlib.sha256(weights).digest()
    fields: dict[str, Any] = {"run": run, "weights": digest, "released": digest}
    return encode([kind, encode({**fields, "round": before} if before else fields)])


def released_log(run: str, weights: bytes, *, plan: RunPlan, **changes: Any) -> MerkleTree:
    """Return a log of that one entry."""
    tree = MerkleTree()
    tree.append(released_leaf(run, weights, plan=plan, **changes))
    return tree


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
