"""``fedcredit demo --runtime flower`` from outside: the same bits as in process, a blind relay, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from wiretap import Wiretap

from fedcredit.aggregation.server_step import ServerState, server_step
from fedcredit.checkpoint import CheckpointStore
from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.node import holdings_of
from fedcredit.messages import to_lanes
from fedcredit.parties import InstitutionId
from fedcredit.privacy.noise import RoundedGaussian
from fedcredit.privacy.noise_share import streams_for
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import plan_family
from fedcredit.rounds.evidence import verify_run
from fedcredit.training.integer_sum import IntegerSum, SumBounds
from fedcredit.training.update_bound import ReleasedSum, charged, clamp, update_bounds

pytestmark = [pytest.mark.process]

FEDCREDIT = Path(sys.executable).with_name("fedcredit")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ROUNDS = 2
FINISH_S = 480


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A demo that ran to its end."""

    folder: Path
    envelope: Mapping[str, Any]
    tap: Wiretap
    pids: list[int]

    @property
    def run(self) -> Path:
        (run,) = (self.folder / "coordinator" / "runs").iterdir()
        return run

    @property
    def plan(self) -> RunPlan:
        return RunPlan.read(self.folder / "plan.toml")

    def tensors(self, number: int, *, prepared: bool = False) -> dict[str, npt.NDArray[np.float64]]:
        return safetensors.numpy.load_file(CheckpointStore(self.run / "checkpoints").path(number, prepared=prepared))


def _processes_of(folder: Path) -> list[int]:
    """Return the ids of the processes whose command line or environment names ``folder``; this one does not count."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        if place.name != str(os.getpid()) and os.fsencode(folder) in _read(place / "cmdline") + _read(
            place / "environ"
        ):
            found.append(int(place.name))
    return found


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it ended in between
        return b""


def _demo(folder: Path, *options: str) -> list[str]:
    command = [str(FEDCREDIT), "demo", "--data", "german", "--test-noise", "--out", str(folder), "--format", "json"]
    return [*command, *options]


def _finished(folder: Path, *options: str) -> Finished:
    relays = [folder / "coordinator" / "relay", *(folder / "institutions" / name / "relay" for name in INSTITUTIONS)]
    with Wiretap(*relays) as tap:
        done = subprocess.run(
            _demo(folder, "--rounds", str(ROUNDS), *options),
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=FINISH_S,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return Finished(folder=folder, envelope=json.loads(done.stdout), tap=tap, pids=_processes_of(folder))


INSTITUTIONS = ("auto-lender-a", "retail-bank-b", "guarantee-fund-c", "bank-d")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fedcredit-process-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def through_flower(place: Path) -> Finished:
    return _finished(place / "flower", "--runtime", "flower")


@pytest.fixture(scope="module")
def in_process(place: Path) -> Finished:
    return _finished(place / "inprocess", "--runtime", "inprocess")


def test_with_fixed_noise_both_runtimes_end_with_the_same_bits(through_flower: Finished, in_process: Finished) -> None:
    assert through_flower.envelope["data"]["runtime"] == "flower"
    assert in_process.envelope["data"]["runtime"] == "inprocess"
    assert through_flower.run.name != in_process.run.name
    for number, prepared in [(0, True), *((number, False) for number in range(ROUNDS + 1))]:
        ours, theirs = (run.tensors(number, prepared=prepared) for run in (through_flower, in_process))
        assert set(ours) == {"weights", "velocity", "average", "averaged", "released", "total"}
        assert {name: tensor.tobytes() for name, tensor in ours.items()} == {
            name: tensor.tobytes() for name, tensor in theirs.items()
        }
    assert through_flower.tensors(ROUNDS)["weights"].tobytes() != through_flower.tensors(0)["weights"].tobytes()
    figures = [run.envelope["data"]["federated_evaluation"]["auc"] for run in (through_flower, in_process)]
    assert figures[0] == figures[1]


def test_a_secure_round_takes_three_messages_through_flower(through_flower: Finished) -> None:
    asked = [row["messages"] for row in through_flower.envelope["data"]["traffic"]["institutions"]]
    # Two set the keys up and one closes the run; the preparation and the evaluation are rounds as well. Whoever's
    # shares are not needed is not asked for them.
    assert max(asked) <= 2 + 3 * (ROUNDS + 2) + 1


def test_the_command_ends_every_process_it_started(through_flower: Finished) -> None:
    logs = sorted(path.name for path in (through_flower.folder / "logs").iterdir())
    assert logs == sorted(f"{name}.log" for name in ("coordinator", *INSTITUTIONS))  # five daemons there were
    assert through_flower.pids == []


def test_the_run_through_flower_leaves_evidence_that_verifies(through_flower: Finished) -> None:
    evidence = verify_run(through_flower.folder)
    assert evidence.released == ROUNDS
    assert evidence.head.hex() == through_flower.envelope["data"]["audit"]["head"]


def test_the_tap_had_the_relay_s_database_its_write_ahead_log_and_every_log(through_flower: Finished) -> None:
    wanted = {"relay.db", "relay.db-wal", "superlink.log", "superexec.log", "commands.log", "supernode.log"}
    assert wanted <= through_flower.tap.names
    assert through_flower.tap.holds(b"query.envelope")  # the type of our messages, in the clear as it must be
    assert through_flower.tap.holds(b"guarantee-fund-c")  # the name under which a transport key is enrolled


def test_the_relay_never_held_plan_configuration_or_cells(through_flower: Finished) -> None:
    folder, tap = through_flower.folder, through_flower.tap
    assert "demo-german" in (folder / "plan.toml").read_text()
    assert "allow_fixed_noise" in (folder / "institutions" / "bank-d" / "node.toml").read_text()
    for marker in (b"demo-german", b"expected_borrowers", b"holdout_salt", b"allow_fixed_noise", b"data.parquet"):
        assert not tap.holds(marker), marker
    for name, holdings in _holdings(folder).items():
        tokens = [str(token).encode() for token in holdings.table.entities]
        assert len(tokens) > 50, name
        assert not any(tap.holds(token) for token in tokens[:25]), name


def test_the_relay_never_held_sixteen_bytes_of_a_model_an_answer_or_a_key(through_flower: Finished) -> None:
    secrets = [
        *_weights(through_flower),
        *_answers(through_flower),
        *(_key_bytes(through_flower.folder)),
    ]
    assert len(secrets) == 2 * ROUNDS + len(INSTITUTIONS) * (1 + ROUNDS) + 2 * len(INSTITUTIONS) + 1
    assert not through_flower.tap.shares_a_window(*secrets)


def _weights(run: Finished) -> list[bytes]:
    """Return what was sent to everybody: the model before every round but the first, and the one that was evaluated.

    Before the first round the model is small whole numbers and zeros, which may occur anywhere.
    """
    sent = [run.tensors(number) for number in range(1, ROUNDS + 1)]
    return [tensor.astype("<f8").tobytes() for each in sent for tensor in (each["weights"], each["released"])]


def _answers(run: Finished) -> list[bytes]:
    """Return the lanes of every answer before the evaluation, computed again; their sums lead from model to model."""
    plan = run.plan
    family, privacy = plan_family(plan), privacy_plan(plan)
    step = server_step(plan, family.layout, input_scale=family.input_scale)
    trains = {name: held.split(plan).train for name, held in _holdings(run.folder).items()}
    weights = family.initial_weights()
    histograms = [
        _noised(
            family.preparation(train).integer_sum(weights, round_number=0, batch=None),
            family.preparation_bounds(plan, name),
            privacy.preparation_release,
            place=f"{name}/1/prepare/noise",
        )
        for name, train in trains.items()
    ]
    answers = [to_lanes(values) for values in histograms]
    state = ServerState.initial(family.prepared(weights, np.sum(histograms, axis=0)))
    assert state.weights.tobytes() == run.tensors(0, prepared=True)["weights"].tobytes()
    computations = {name: family.computation(plan, name, train) for name, train in trains.items()}
    bounds, last = {name: family.bounds(plan, name) for name in trains}, None
    for number in range(1, ROUNDS + 1):
        limits = update_bounds(plan, trains, bounds=bounds, previous=last)
        sums = [
            _noised(
                clamp(computation.integer_sum(state.weights, round_number=number, batch=None), limits[name]),
                charged(plan, bounds[name]),
                privacy.training_release,
                place=f"{name}/{number}/train/noise",
            )
            for name, computation in computations.items()
        ]
        answers += [to_lanes(values) for values in sums]
        total = np.sum(sums, axis=0)
        last = ReleasedSum(total=total, deviations=_deviations(privacy, plan, bounds))
        state = step.apply(state, total, list(computations))
        assert state.weights.tobytes() == run.tensors(number)["weights"].tobytes()
    return answers


def _deviations(
    privacy: PrivacyPlan, plan: RunPlan, bounds: Mapping[InstitutionId, SumBounds]
) -> dict[InstitutionId, float]:
    found = {}
    for name, own in bounds.items():
        made = charged(plan, own)
        release = privacy.training_release(
            release_id="search", sensitivity_squared=made.sensitivity_squared or 0, dimension=int(made.reached.sum())
        )
        found[name] = float(release.sigma)
    return found


def _noised(
    total: IntegerSum, bounds: SumBounds, planned: Callable[..., Release], *, place: str
) -> npt.NDArray[np.int64]:
    release = planned(
        release_id="search",
        sensitivity_squared=bounds.sensitivity_squared or 0,
        dimension=int(bounds.reached.sum()),
    )
    stream = streams_for(release, test_place=place, entropy=os.urandom)
    values = total.values.copy()
    values[bounds.reached] += RoundedGaussian(release.sigma).sample(stream, release.dimension)
    return values


def _holdings(folder: Path) -> dict[InstitutionId, Holdings]:
    places = {InstitutionId(name): folder / "institutions" / name for name in INSTITUTIONS}
    return {name: holdings_of(place, NodeConfig.read(place)) for name, place in places.items()}


def _key_bytes(folder: Path) -> list[bytes]:
    keys = [(folder / "coordinator" / "keys" / "identity.key").read_bytes()]
    for name in INSTITUTIONS:
        place = folder / "institutions" / name / "keys"
        transport: Any = load_ssh_private_key((place / "supernode").read_bytes(), password=None)
        keys += [
            (place / "identity.key").read_bytes(),
            transport.private_numbers().private_value.to_bytes(48, "big"),
        ]
    return keys


def test_ctrl_c_in_the_middle_of_training_leaves_no_process_behind(place: Path) -> None:
    folder = place / "interrupted"
    errors = place / "interrupted.txt"
    with errors.open("wb") as stderr:
        demo = subprocess.Popen(
            _demo(folder, "--rounds", "300", "--runtime", "flower"),
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        _await(lambda: list((folder / "coordinator" / "runs").glob("*/rounds.jsonl")), demo, seconds=200)
        assert len(_processes_of(folder)) > 8  # the demo, five daemons, a relay with its SuperExec, four SuperNodes
        os.kill(demo.pid, signal.SIGINT)
        output, _ = demo.communicate(timeout=60)
    finally:
        demo.kill()
        demo.wait()
    assert demo.returncode == 130
    assert output == b""
    assert b"Stopped." in errors.read_bytes()
    assert b"Traceback" not in errors.read_bytes()
    assert _processes_of(folder) == []


def _await(ready: Any, process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """Poll until something outside this process is so; a process that ended first fails the test."""
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, "it ended too soon"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
