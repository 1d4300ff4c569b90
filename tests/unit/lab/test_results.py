"""From a finished study to ``result.json``: what it says about the model, the noise, the cost and the traffic."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from fedcredit.lab.inprocess import run_in_process
from fedcredit.lab.results import StudyEvaluation
from fedcredit.lab.settings import TREES_PER_ROUND
from fedcredit.lab.study import StudyOptions, build_study
from fedcredit.privacy.accounting import epsilon_for_mu
from fedcredit.report import write_report
from fedcredit.report.record import read_run

PORT = 9443


def finished(folder: Path, **changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {
        "dataset": "german",
        "model": "trees",
        "epsilon": 3.0,
        "rounds": 2,
        "seed": 1,
        "test_noise": False,
        "deadline_s": 60.0,
        **changes,
    }
    study = build_study(folder, StudyOptions(**options), relay_port=PORT)
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
    assert all(line["messages"] == 4 for line in result["traffic"]["institutions"])
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
    assert "an experiment on public data" in page


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
