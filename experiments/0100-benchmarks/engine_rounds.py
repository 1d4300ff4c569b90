"""What the engine itself costs: rounds through it against a bare sequential torch loop, and rounds with secure sums.

Both sides of ``engine.round.vs-bare`` train the same model (logistic regression, 300 inputs) on the same rows (200 a
client, one epoch of batches of 10). The engine signs, seals, opens, verifies, logs and stores every message; the bare
loop does none of it. Pairs of rounds alternate in one process, and the ratio of each pair counts, because machines are
noisy. ``engine.secure`` is the same model with privacy and secure aggregation, everybody in one process.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan, usual_threshold
from fedcredit.contract import Contract
from fedcredit.contract.loading import parse_contract
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.lab.figures import Figure, median_of_runs
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.rounds.heads import HEADS_FILE, LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database
from fedcredit.training.families import model_family
from fedcredit.transport import LoopbackTransport

HERE = Path(__file__).parent
INPUTS, ROWS, BATCH, RATE = 300, 200, 10, 0.1
SEED = 7
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder inside is private


@contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder for a run, in memory where there is such a place: how long a disk syncs is not the question."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


def contract_text() -> str:
    """Return a contract with 300 plain numbers."""
    columns = "\n".join(
        f"      x{i}: {{type: number, unit: none, min: -9, max: 9, missing: required, source: synthetic, "
        "available_at: application, dense: {scale: linear, low: -1, high: 1}}"
        for i in range(INPUTS)
    )
    return (
        "schema_version: 1\nname: bench\ntitle: bench\nlicence: none\nattribution: synthetic\nunit: borrower\n"
        "entity: borrower\nlabel: {column: default, good: 0, bad: 1}\nprotected: []\nmodalities:\n"
        f"  numbers:\n    kind: static\n    columns:\n{columns}\n    scorecard: []\n"
    )


def client_table(generator: np.random.Generator, truth: np.ndarray) -> CreditTable:
    """Return one client's rows."""
    inputs = generator.normal(size=(ROWS + 50, INPUTS)).astype(np.float32)
    labels = (generator.random(ROWS + 50) < 1 / (1 + np.exp(-inputs @ truth))).astype(np.int8)
    return CreditTable(
        entities=np.array([f"b{i}" for i in range(ROWS + 50)]),
        labels=labels,
        modalities={"numbers": ModalityTable(codes=np.zeros((ROWS + 50, 0), np.int16), dense=inputs)},
        dropped=0,
    )


def plan_with(
    contract: Contract, members: Roster, rounds: int, *, round_rules: dict[str, Any], **sections: dict[str, Any]
) -> RunPlan:
    """Return a plan for 300-input logistic regression; ``sections`` say how it is trained, protected and added up."""
    return RunPlan.model_validate(
        {
            "schema_version": 3,
            "run": {
                "name": "bench",
                "consortium": "bench",
                "contract": "bench",
                "contract_digest": contract.digest().hex(),
                "rounds": rounds,
                "holdout_fraction": 0.2,
                "holdout_salt": "bench",
            },
            "model": {"kind": "logistic", "base_rate": 0.5},
            "institutions": {
                member.institution: {
                    "kind": "bank",
                    "identity": member.identity_digest,
                    "expected_borrowers": ROWS,
                    "modalities": ["numbers"],
                }
                for member in members
            },
            "rounds": round_rules,
            "evaluation": {"vote_floor": "none", "vote_share": 0.0},
            **sections,
        }
    )


PRIVACY: dict[str, Any] = {
    "sampling": "full-batch",
    "sampling_rate": 1.0,
    "preparation_share": 0.0,
    "delta": 1e-5,
    "unit": "borrower",
    "neighbours": "add-or-remove-one",
}


def plain_plan(contract: Contract, members: Roster, rounds: int) -> RunPlan:
    """Return a plan for plain federated averaging; without privacy, and it says so."""
    return plan_with(
        contract,
        members,
        rounds,
        training={"kind": "fedavg", "learning_rate": RATE, "local_epochs": 1, "batch_size": BATCH, "seed": SEED},
        privacy={
            **PRIVACY,
            "mechanism": "none",
            "accountant": "none",
            "noise": "local",
            "colluders": 0,
            "epsilon": float("inf"),
            "evaluation_epsilon": float("inf"),
        },
        round_rules={"quorum": len(members), "retries": 0, "deadline_s": 3600.0},
        aggregation={"kind": "open", "update_bound": "none"},
    )


def secure_plan(contract: Contract, members: Roster, rounds: int) -> RunPlan:
    """Return a plan for private gradient steps whose noise all members carry together, behind secure sums."""
    threshold = usual_threshold(len(members))
    return plan_with(
        contract,
        members,
        rounds,
        training={
            "kind": "dp-gradient",
            "learning_rate": 1.0,
            "momentum": 0.5,
            "clip": 1.0,
            "grid": 100,
            "average_from": 0.5,
        },
        privacy={
            **PRIVACY,
            "mechanism": "rounded-gaussian",
            "accountant": "gdp",
            "noise": "shared",
            "colluders": 2,
            "epsilon": 3.0,
            "evaluation_epsilon": 1.0,
        },
        round_rules={"quorum": threshold, "retries": 0, "deadline_s": 3600.0},
        aggregation={"kind": "secure", "threshold": threshold, "lane_bits": 32, "update_bound": "share"},
    )


def consortium(
    clients: int, rounds: int, folder: Path, plan_for: Callable[[Contract, Roster, int], RunPlan]
) -> tuple[FederatedRun, list[CreditTable]]:
    """Return the run and the training tables of every client."""
    generator = np.random.default_rng(SEED)
    truth = generator.normal(size=INPUTS) / INPUTS**0.5
    contract = parse_contract(contract_text(), source="bench")
    identities = {InstitutionId(f"client-{i}"): IdentityKeys.generate() for i in range(clients)}
    roster = Roster(
        tuple(
            Member(institution=name, kind=InstitutionType.BANK, public_identity=keys.public.to_bytes())
            for name, keys in identities.items()
        )
    )
    plan = plan_for(contract, roster, rounds)
    approvals = Approvals(folder / "approvals")
    approvals.approve(plan)
    coordinator = IdentityKeys.generate()
    handlers, trains = {}, []
    for name, keys in identities.items():
        holdings = Holdings(institution=name, contract=contract, table=client_table(generator, truth))
        config = NodeConfig.model_validate(
            {
                "schema_version": 1,
                "institution": name,
                "kind": "bank",
                "data": {"path": "none", "contract": "bench", "modalities": ["numbers"]},
                "budget": {"epsilon": 8.0, "delta": 1e-5, "holdout_epsilon": 8.0},
                "policy": {"allow_no_privacy": True},
            }
        )
        worker = assemble_worker(
            config=config,
            consortium="bench",
            coordinator=coordinator.public.to_bytes(),
            holdings=holdings,
            keys=keys,
            approvals=approvals,
            state=NodeState.open(Database.in_memory(), config),
            entropy=os.urandom,
            clock=time.time,
        )
        handlers[name] = worker.handle
        trains.append(holdings.split(plan).train)
    run = FederatedRun(
        plan=plan,
        run_id="bench",
        folder=folder,
        database=Database.open(folder / "run.db"),
        family=model_family(plan, model_inputs(contract)),
        roster=roster,
        keys=coordinator,
        transport=LoopbackTransport(handlers),
        heads=LedgerHeads(folder / HEADS_FILE),
        clock=time.time,
    )
    return run, trains


def bare_round(model: torch.nn.Linear, data: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Train a copy of the model on every client in turn and average: what anybody would write in ten minutes."""
    start = [parameter.detach().clone() for parameter in model.parameters()]
    total = [torch.zeros_like(parameter) for parameter in start]
    for inputs, labels in data:
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), start, strict=True):
                parameter.copy_(value)
        optimiser = torch.optim.SGD(model.parameters(), lr=RATE)
        order = torch.randperm(len(labels))
        for first in range(0, len(order), BATCH):
            rows = order[first : first + BATCH]
            optimiser.zero_grad()
            logits = model(inputs[rows]).squeeze(-1)
            torch.nn.functional.binary_cross_entropy_with_logits(logits, labels[rows]).backward()
            optimiser.step()
        with torch.no_grad():
            for sums, parameter in zip(total, model.parameters(), strict=True):
                sums += parameter
    with torch.no_grad():
        for parameter, sums in zip(model.parameters(), total, strict=True):
            parameter.copy_(sums / len(data))


def ratios(clients: int, pairs: int) -> list[float]:
    """Return the ratio engine / bare of each pair of rounds, after one pair that does not count."""
    with run_folder() as folder:
        run, trains = consortium(clients, pairs + 1, folder, plain_plan)
        data = [
            (
                torch.from_numpy(table.modalities["numbers"].dense.astype(np.float64)),
                torch.from_numpy(table.labels.astype(np.float64)),
            )
            for table in trains
        ]
        model = torch.nn.Linear(INPUTS, 1, dtype=torch.float64)
        rounds = run.rounds()
        found = []
        for _ in range(pairs + 1):
            begin = time.perf_counter()
            next(rounds)
            middle = time.perf_counter()
            bare_round(model, data)
            end = time.perf_counter()
            found.append((middle - begin) / (end - middle))
        return found[1:]


def startup_seconds() -> float:
    """Return the seconds from a fresh interpreter to a consortium of ten that is ready to train."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import engine_rounds as engine;"
        "context = engine.run_folder(); engine.consortium(10, 1, context.__enter__(), engine.plain_plan);"
        "context.__exit__(None, None, None)"
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(HERE)], check=True)
    return time.perf_counter() - begin


def secure_seconds(clients: int, rounds: int) -> list[float]:
    """Return the elapsed seconds of each round with secure aggregation; the first one sets the epoch up as well."""
    with run_folder() as folder:
        # Without the tables that a bare loop would train on: a thousand of them are 240 MB.
        run = consortium(clients, rounds, folder, secure_plan)[0]
        found, begin = [], time.perf_counter()
        for _ in run.rounds():
            found.append(time.perf_counter() - begin)
            begin = time.perf_counter()
        return found


def secure_figures(*, quick: bool) -> Iterator[Figure]:
    """Yield rounds per second of ten institutions."""
    runs = [secure_seconds(10, 6 if quick else 21)[1:] for _ in range(2 if quick else 5)]
    rates = [len(seconds) / sum(seconds) for seconds in runs]
    yield _figure("engine.secure.rounds-per-s.n10", rates, unit="rounds per second")


def thousand(*, quick: bool) -> Iterator[Figure]:
    """Yield what rounds of a thousand institutions in one process take; ``quick`` takes a hundred and names them so."""
    clients = 100 if quick else 1000
    _say_where()
    yield _figure(f"engine.round.vs-bare.n{clients}", ratios(clients, 3), unit="ratio")
    first, *later = secure_seconds(clients, 3)
    yield _figure(f"engine.secure.round_s.n{clients}", later, unit="s")
    yield _figure(f"engine.secure.setup_s.n{clients}", [first - statistics.median(later)], unit="s")


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield what a round and a start of the engine cost."""
    _say_where()
    for clients, pairs in ((10, 3),) if quick else ((10, 15), (100, 7)):
        yield _figure(f"engine.round.vs-bare.n{clients}", ratios(clients, pairs), unit="ratio")
    yield _figure("engine.startup_s", [startup_seconds() for _ in range(1 if quick else 5)], unit="s")
    yield from secure_figures(quick=quick)


def _say_where() -> None:
    print(f"run folders are in {MEMORY}" if MEMORY.is_dir() else "run folders are on disk, and rounds wait for it")


def _figure(name: str, values: list[float], *, unit: str) -> Figure:
    return median_of_runs(name, values, unit=unit, seeds=[SEED], data="synthetic-benchmark")
