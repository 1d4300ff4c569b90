"""What the engine itself costs: federated averaging through it, against a bare sequential torch loop in the same run.

    python experiments/0100-benchmarks/run.py [--quick] [--only engine|noise|step]

``noise_rate.py`` and ``steps.py`` are the other sections, and say how they are measured.

Both sides train the same model (logistic regression, 300 inputs) on the same rows (200 a client, one epoch of batches
of 10). The engine signs, seals, opens, verifies, logs and stores every message; the bare loop does none of it. Pairs of
rounds alternate in one process, and the ratio of each pair counts, because machines are noisy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from noise_rate import noise_rates

from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract
from fedcredit.contract.loading import parse_contract
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.institution.admission import Approvals
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.lab.figures import Figure, median_of_runs, write_results
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.rounds.heads import HEADS_FILE, LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database
from fedcredit.training.families import model_family
from fedcredit.transport import LoopbackTransport

HERE = Path(__file__).parent
INPUTS, ROWS, BATCH, RATE = 300, 200, 10, 0.1
SEED = 7


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


def make_plan(contract: Contract, names: list[str], rounds: int) -> RunPlan:
    """Return a plan for plain federated averaging; without privacy, and it says so."""
    return RunPlan.model_validate(
        {
            "schema_version": 2,
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
            "training": {
                "kind": "fedavg",
                "learning_rate": RATE,
                "local_epochs": 1,
                "batch_size": BATCH,
                "seed": SEED,
            },
            "privacy": {
                "mechanism": "none",
                "accountant": "none",
                "noise": "local",
                "colluders": 0,
                "sampling": "full-batch",
                "sampling_rate": 1.0,
                "preparation_share": 0.0,
                "epsilon": float("inf"),
                "delta": 1e-5,
                "unit": "borrower",
                "neighbours": "add-or-remove-one",
                "evaluation_epsilon": float("inf"),
            },
            "rounds": {"quorum": len(names), "retries": 0, "deadline_s": 600.0},
            "institutions": {
                name: {"kind": "bank", "expected_borrowers": ROWS, "modalities": ["numbers"]} for name in names
            },
        }
    )


def consortium(clients: int, rounds: int, folder: Path) -> tuple[FederatedRun, list[CreditTable]]:
    """Return the run and the training tables of every client."""
    generator = np.random.default_rng(SEED)
    truth = generator.normal(size=INPUTS) / INPUTS**0.5
    contract = parse_contract(contract_text(), source="bench")
    names = [f"client-{i}" for i in range(clients)]
    plan = make_plan(contract, names, rounds)
    approvals = Approvals(folder / "approvals")
    approvals.approve(plan)
    coordinator = IdentityKeys.generate()
    handlers, members, trains = {}, [], []
    for name in names:
        keys = IdentityKeys.generate()
        holdings = Holdings(institution=InstitutionId(name), contract=contract, table=client_table(generator, truth))
        config = NodeConfig.model_validate(
            {
                "schema_version": 1,
                "institution": name,
                "kind": "bank",
                "data": {"path": "none", "contract": "bench", "modalities": ["numbers"]},
                "budget": {"epsilon": 1.0, "delta": 1e-5, "holdout_epsilon": 1.0},
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
        handlers[InstitutionId(name)] = worker.handle
        members.append(
            Member(institution=InstitutionId(name), kind=InstitutionType.BANK, public_identity=keys.public.to_bytes())
        )
        trains.append(holdings.split(plan).train)
    run = FederatedRun(
        plan=plan,
        run_id="bench",
        folder=folder,
        database=Database.open(folder / "run.db"),
        family=model_family(plan, model_inputs(contract)),
        roster=Roster(tuple(members)),
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
    with tempfile.TemporaryDirectory() as folder:
        run, trains = consortium(clients, pairs + 1, Path(folder))
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
        "import sys, tempfile; from pathlib import Path; sys.path.insert(0, sys.argv[1]);"
        "import run; folder = tempfile.mkdtemp(); run.consortium(10, 1, Path(folder))"
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(HERE)], check=True)
    return time.perf_counter() - begin


def engine_figures(*, quick: bool) -> list[Figure]:
    """Return what a round and a start of the engine cost."""
    figures = []
    for clients, pairs in ((10, 15), (100, 7), (1000, 3)):
        values = ratios(clients, 3 if quick else pairs)
        name = f"engine.round.vs-bare.n{clients}"
        figures.append(median_of_runs(name, values, unit="ratio", seeds=[SEED], data="synthetic-benchmark"))
        print(figures[-1], flush=True)
    times = [startup_seconds() for _ in range(2 if quick else 5)]
    figures.append(median_of_runs("engine.startup_s", times, unit="s", seeds=[SEED], data="synthetic-benchmark"))
    print(figures[-1])
    return figures


def noise_figures(*, quick: bool) -> list[Figure]:
    """Return how fast noise is drawn."""
    figures = list(noise_rates(3 if quick else 9))
    print(*figures, sep="\n", flush=True)
    return figures


def step_figures(*, quick: bool) -> list[Figure]:
    """Return what clipping per borrower costs."""
    import steps  # opacus, which it compares with, is slow to import

    figures = steps.figures(3 if quick else 15)
    print(*figures, sep="\n", flush=True)
    return figures


SECTIONS = {"engine": engine_figures, "noise": noise_figures, "step": step_figures}
"""By the first word of their ids."""


def measured_before(section: str) -> list[Figure]:
    """Return the figures of a section that is not measured this time."""
    lines = json.loads((HERE / "results.json").read_text(encoding="utf-8"))["figures"]
    return [Figure(**line) for line in lines if line["id"].split(".")[0] == section]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, nothing written")
    parser.add_argument("--only", choices=sorted(SECTIONS), help="measure one section, keep the figures of the others")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for section, measure in SECTIONS.items():
        if arguments.only in (None, section):
            figures += measure(quick=arguments.quick)
        else:
            figures += measured_before(section)
    if not arguments.quick:
        write_results(
            HERE / "results.json",
            question="What does the engine cost per round, noise per number, and clipping per borrower per step?",
            command="make bench",
            figures=figures,
        )


if __name__ == "__main__":
    main()
