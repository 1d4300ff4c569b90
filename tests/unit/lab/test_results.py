"""From a finished study to ``result.json``: what it says about the model, the noise, the cost and the traffic."""

from __future__ import annotations

import json
import math
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from consortium import Recorder

from fedcredit.institution.node import Node
from fedcredit.lab.inprocess import run_in_process
from fedcredit.lab.results import StudyEvaluation
from fedcredit.lab.settings import TREES_PER_ROUND
from fedcredit.lab.study import StudyOptions, build_study
from fedcredit.privacy.accounting import epsilon_for_mu
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.report import write_report
from fedcredit.report.record import read_run
from fedcredit.rounds.coordinator import Coordinator
from fedcredit.rounds.drive import drive
from fedcredit.transport import LoopbackTransport

PORT = 9443


def options(**changes: Any) -> StudyOptions:
    usual: dict[str, Any] = {
        "dataset": "german",
        "model": "trees",
        "epsilon": 3.0,
        "rounds": 2,
        "seed": 1,
        "test_noise": False,
        "deadline_s": 60.0,
    }
    return StudyOptions(**{**usual, **changes})


def finished(folder: Path, **changes: Any) -> dict[str, Any]:
    study = build_study(folder, options(**changes), relay_port=PORT)
    evaluation = StudyEvaluation(study)
    run = run_in_process(
        study, on_round=lambda number, weights, count: evaluation.round_figures(number, weights, institutions=count)
    )
    evaluation.finish(run, runtime="inprocess", started=time.monotonic())
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_trees_with_local_noise_state_one_cost_and_count_the_preparation(tmp_path: Path) -> None:
    result = finished(tmp_path / "run")
    privacy = result["privacy"]
    assert (privacy["noise"], privacy["honest_shares"], privacy["accountant"]) == ("local", 1, "gdp")
    assert (privacy["preparations"], privacy["steps"], privacy["sampling_rate"]) == (2, 3, 1.0)
    assert privacy["epsilon"] == privacy["epsilon_alone"] == 3.0
    assert privacy["evaluation_epsilon"] == privacy["evaluation_epsilon_alone"] == 1.0
    assert 3.0 < privacy["epsilon_by_renyi"] < 3.5
    for spent in privacy["spent"]:
        assert spent["epsilon"] == spent["epsilon_alone"] <= spent["cap"]
        assert spent["holdout_epsilon"] == spent["holdout_epsilon_alone"]
        assert spent["releases"] == 4  # preparation, two rounds, evaluation
    # Two to set up an epoch, upload and agreement four times, one at the end; shares as long as they are needed.
    assert all(11 <= line["messages"] <= 15 for line in result["traffic"]["institutions"])
    assert (result["schema_version"], result["aggregation"], result["threshold"]) == ("3", "secure", 3)
    settings = result["model_settings"]
    assert (settings["kind"], settings["trees"]) == ("trees", 2 * settings["trees_per_round"])
    assert "width" not in settings


def test_shared_noise_states_both_costs_everywhere(tmp_path: Path) -> None:
    result = finished(tmp_path / "run", noise="shared", colluders=1)
    privacy = result["privacy"]
    assert (privacy["noise"], privacy["honest_shares"], privacy["epsilon"]) == ("shared", 3, 3.0)
    # By hand: three steps at 95 % of mu squared and the preparation at 5 %; alone, three times all of it.
    assert privacy["epsilon_alone"] == pytest.approx(epsilon_for_mu(3**0.5 * _mu(3.0), 1e-5), rel=0.01)
    assert privacy["evaluation_epsilon_alone"] == pytest.approx(epsilon_for_mu(3**0.5 * _mu(1.0), 1e-5), rel=0.02)
    for spent in privacy["spent"]:
        assert spent["epsilon"] < spent["epsilon_alone"]
        assert spent["holdout_epsilon"] < spent["holdout_epsilon_alone"]
    page = write_report(tmp_path / "run").read_text("utf-8")
    assert "Neither figure may be quoted without the other." in page
    assert "would hold for a message read alone." in page


@pytest.mark.parametrize(
    ("aggregation", "types", "threshold"),
    [
        ("open", ["train-answer", "counts-answer", "close-answer", "refusal"], 1),
        ("secure", ["epoch-hello", "epoch-boxes", "upload", "accept", "reveal", "close-answer", "refusal"], 3),
    ],
)
def test_every_type_of_message_that_left_is_named_and_every_byte_counted(
    tmp_path: Path, aggregation: str, types: list[str], threshold: int
) -> None:
    study = build_study(tmp_path / "run", options(model="scorecard", aggregation=aggregation), relay_port=PORT)
    with ExitStack() as stack:
        nodes = {name: stack.enter_context(closing(Node.open(study.node_folder(name)))) for name in study.holdings}
        recorder = Recorder(LoopbackTransport({name: node.worker.handle for name, node in nodes.items()}))
        opened = Coordinator(study.coordinator_folder).open_run(None, study.plan, recorder)
        drive(stack.enter_context(opened), privacy_plan(study.plan))
    result = StudyEvaluation(study).finish(opened.folder, runtime="inprocess", started=time.monotonic())
    assert (result["aggregation"], result["threshold"]) == (aggregation, threshold)
    assert result["traffic"]["message_types"] == types
    for line in result["traffic"]["institutions"]:
        name = line["institution"]
        sent = [len(reply.payload or b"") for reply in recorder.replies if reply.institution == name]
        received = [len(requests[name]) for requests in recorder.requests if name in requests]
        assert (line["messages"], line["bytes_up"], line["bytes_down"]) == (len(sent), sum(sent), sum(received))


def _mu(epsilon: float) -> float:
    """By bisection, not by the library's own inverse."""
    low, high = 0.01, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if epsilon_for_mu(middle, 1e-5) < epsilon else (low, middle)
    return low


@pytest.mark.parametrize("model", ["scorecard", "trees"])
def test_no_privacy_is_written_as_infinite_in_every_figure(tmp_path: Path, model: str) -> None:
    result = finished(tmp_path / "run", model=model, epsilon=math.inf)
    privacy = result["privacy"]
    figures = ("epsilon", "epsilon_alone", "epsilon_by_renyi", "evaluation_epsilon", "evaluation_epsilon_alone")
    assert {privacy[name] for name in figures} == {"inf"}
    assert (privacy["accountant"], privacy["mechanism"], result["protected"]) == ("none", "none", False)
    assert result["model_settings"]["trees"] == (2 * TREES_PER_ROUND if model == "trees" else 0)
    stored, _ = read_run(tmp_path / "run")
    assert not stored.private
