"""An aggregator that lies about what follows from the sums, and recomputes every digest that is its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import COORDINATOR, RUN, SECURE, TREES, Consortium, plan_of
from kept_runs import change, copied, driven, opened_run, places, read, trained

from fedcredit.aggregation.server_step import ServerState, server_step
from fedcredit.audit.log import EventKind
from fedcredit.checkpoint import Checkpoint, CheckpointStore
from fedcredit.errors import AuditError
from fedcredit.messages import weights_to_bytes
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import read_log
from fedcredit.rounds.evidence_models import Models
from fedcredit.rounds.evidence_opening import read_opening
from fedcredit.rounds.evidence_rounds import Rounds
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium.make(tmp_path_factory.mktemp("secure"), plan_of(**SECURE))


@pytest.fixture(scope="module")
def kept(consortium: Consortium) -> Path:
    return trained(consortium)


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    return copied(kept, tmp_path / "run")


def refused(folder: Path, problem: str) -> int:
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    index = caught.value.fields["index"]
    assert isinstance(index, int)
    return index


class LyingRun(FederatedRun):
    """A coordinator whose released models are a little off in one coordinate; members train on what it sends them."""

    def _release(self, state: ServerState, result: RoundResult) -> None:
        weights = state.weights.copy()
        weights[3] += 2.0**-40
        super()._release(replace(state, weights=weights), result)


def test_a_model_that_is_off_by_one_coordinate_is_found_though_all_members_signed_on(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.toml").write_text(consortium.plan.to_toml())
    with Database.open(tmp_path / "run" / "run.db") as database:
        lying = LyingRun(
            plan=consortium.plan,
            run_id=RUN,
            folder=tmp_path / "run",
            database=database,
            family=consortium.family,
            roster=consortium.roster,
            keys=COORDINATOR,
            transport=consortium.loopback(),
            heads=LedgerHeads(None),
            clock=consortium.clock,
        )
        for _ in lying.rounds():
            pass
        lying.evaluate()
        lying.close()
        lying.finish()
    assert all(site.charged() == 3 for site in consortium.sites.values())
    index = refused(tmp_path / "run", "weights do not follow from the sum and the model before")
    assert index == places(read(tmp_path / "run"), EventKind.ROUND_RELEASED)[0]


def released(folder: Path, consortium: Consortium, number: int) -> tuple[ServerState, Checkpoint]:
    """Return the state after a released round."""
    log = read(folder)
    fields = log[places(log, EventKind.ROUND_RELEASED)[number - 1]][1]
    checkpoint = CheckpointStore(folder / "checkpoints").load(number, digest=fields["checkpoint"])
    tensors = checkpoint.tensors
    state = ServerState(
        round=number,
        weights=tensors["weights"],
        velocity=tensors["velocity"],
        average=tensors["average"],
        averaged=int(tensors["averaged"][0]),
    )
    return state, checkpoint


def release_again(folder: Path, state: ServerState, checkpoint: Checkpoint, **tensors: np.ndarray) -> int:
    """Put another model and its digests in the place of the last one; return the index of its entry."""
    names = {"weights": state.weights, "velocity": state.velocity, "average": state.average}
    averaged = np.array([float(state.averaged)])
    total = checkpoint.tensors["total"]
    content = {**names, "averaged": averaged, "released": state.released(), "total": total, **tensors}
    digest = CheckpointStore(folder / "checkpoints").save(replace(checkpoint, tensors=content))
    index = places(read(folder), EventKind.ROUND_RELEASED)[-1]
    fields: dict[str, Any] = {
        "checkpoint": digest,
        "weights": hashlib.sha256(weights_to_bytes(content["weights"])).digest(),
        "released": hashlib.sha256(weights_to_bytes(content["released"])).digest(),
    }
    change(folder, index, fields)
    return index


def test_a_sum_that_is_off_by_one_and_the_model_that_follows_from_it_are_found(
    run: Path, consortium: Consortium
) -> None:
    log = read(run)
    opened = places(log, EventKind.SUM_OPENED)[-1]
    evidence = verify_run(run)
    honest = _total_of(run)
    lie = honest.copy()
    lie[0] += 1
    before, _ = released(run, consortium, 2)
    _, checkpoint = released(run, consortium, 3)
    family = consortium.family
    step = server_step(consortium.plan, family.layout, input_scale=family.input_scale)
    contributors = log[places(log, EventKind.ROUND_RELEASED)[-1]][1]["contributors"]
    # The attacker's tools are right: with the true sum they give the true model.
    release_again(run, step.apply(before, honest, contributors), checkpoint)
    assert verify_run(run).head == evidence.head
    release_again(run, step.apply(before, lie, contributors), checkpoint)
    change(run, opened, {"total": hashlib.sha256(lie.astype("<i8").tobytes()).digest()})
    assert refused(run, "another sum than its signed messages give") == opened


def _total_of(folder: Path) -> np.ndarray:
    """Return the last sum, as the coordinator knows it."""
    log = read_log(folder / "run.db")
    opening = read_opening(log, folder)
    rounds = Rounds(log, opening, Models(opening, folder), folder)
    rounds.models.start(log.lines[0])
    for line in log.lines[1:]:
        rounds.follow(line)
    total = rounds.asked[-1].total
    assert total is not None
    return total


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "weights": lambda tensor: tensor + np.eye(1, tensor.size, 3)[0] * 2.0**-40,
    "velocity": lambda tensor: -tensor,
    "average": lambda tensor: np.nextafter(tensor, 1.0),
    "averaged": lambda tensor: tensor + 1.0,
    "released": lambda tensor: tensor * 1.0000001,
}


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_changed_part_of_a_model_is_found_though_its_digests_fit(
    run: Path, consortium: Consortium, name: str
) -> None:
    state, checkpoint = released(run, consortium, 3)
    index = release_again(run, state, checkpoint, **{name: CHANGES[name](checkpoint.tensors[name])})
    assert refused(run, f"whose {name} do not follow") == index


def test_models_of_another_shape_or_with_more_parts_are_found(run: Path, consortium: Consortium) -> None:
    state, checkpoint = released(run, consortium, 3)
    index = release_again(run, state, checkpoint, more=np.zeros(1))
    assert refused(run, "other parts than a model has") == index
    release_again(run, state, checkpoint, average=state.average[:-1])
    assert refused(run, "whose average do not follow") == index
    release_again(run, state, checkpoint, weights=state.weights.astype(np.float32))
    assert refused(run, "whose weights do not follow") == index


def test_digests_of_other_weights_than_the_models_are_found(run: Path) -> None:
    index = places(read(run), EventKind.ROUND_RELEASED)[-1]
    for name in ("weights", "released"):
        forged = copied(run, run.parent / name)
        change(forged, index, {name: bytes(32)})
        assert refused(forged, f"names other {name} than its model has") == index


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"parent": bytes(32)}, "another parent"),
        ({"round": 7}, "out of order"),
        ({"manifest": bytes(32)}, "another manifest"),
        ({"contributors": ["bank-a", "bank-b", "fund-c"]}, "other contributors"),
        ({"contributors": ["bank-a"]}, "answers the log does not hold, or too few"),
        ({"contributors": ["bank-a", "bank-b", "fund-c", "nobody"]}, "answers the log does not hold, or too few"),
    ],
)
def test_a_release_that_does_not_fit_its_place_is_found(run: Path, fields: dict[str, Any], problem: str) -> None:
    index = places(read(run), EventKind.ROUND_RELEASED)[-1]
    change(run, index, fields)
    assert refused(run, problem) == index


@pytest.mark.parametrize(
    ("fields", "problem"),
    [({"parent": bytes(32)}, "another model's place"), ({"manifest_digest": bytes(32)}, "another manifest")],
)
def test_a_checkpoint_that_names_another_place_is_found(
    run: Path, consortium: Consortium, fields: dict[str, Any], problem: str
) -> None:
    state, checkpoint = released(run, consortium, 3)
    index = release_again(run, state, replace(checkpoint, **fields))
    assert refused(run, problem) == index


# --- with a preparation ----------------------------------------------------------------------------------------------


def test_a_start_that_does_not_follow_from_the_histogram_is_found(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES, **SECURE))
    with opened_run(consortium) as opened:
        opened.run.prepare()
    folder = tmp_path / "run"
    assert verify_run(folder).recomputed == 2
    (folder / "audit.jsonl").unlink()
    log = read(folder)
    (index,) = places(log, EventKind.PREPARED)
    store = CheckpointStore(folder / "checkpoints")
    start = store.load(0, digest=log[0][1]["checkpoint"])
    honest = store.load(0, digest=log[index][1]["checkpoint"], prepared=True)
    forged = replace(honest, tensors=start.tensors)
    weights = hashlib.sha256(weights_to_bytes(start.tensors["weights"])).digest()
    digest = store.save(forged, prepared=True)
    change(folder, index, {"checkpoint": digest, "weights": weights, "released": weights})
    assert refused(folder, "weights do not follow") == index
    store.save(honest, prepared=True)
    change(folder, index, {**log[index][1], "round": 1})
    assert refused(folder, "out of order") == index


# --- with open aggregation -------------------------------------------------------------------------------------------


def test_of_an_open_run_the_parts_of_a_model_must_fit_each_other(tmp_path: Path) -> None:
    folder = driven(Consortium.make(tmp_path, plan_of()))
    log = read(folder)
    index = places(log, EventKind.ROUND_RELEASED)[-1]
    store = CheckpointStore(folder / "checkpoints")
    checkpoint = store.load(3, digest=log[index][1]["checkpoint"])
    for name, tensor, problem in (
        ("released", checkpoint.tensors["released"] + 1.0, "whose released do not follow"),
        ("velocity", checkpoint.tensors["velocity"][:-1], "FC-7005"),
        ("velocity", np.full_like(checkpoint.tensors["velocity"], np.inf), "FC-7005"),
    ):
        digest = store.save(replace(checkpoint, tensors={**checkpoint.tensors, name: tensor}))
        change(folder, index, {"checkpoint": digest})
        with np.errstate(invalid="ignore"):
            assert refused(folder, problem) == index
