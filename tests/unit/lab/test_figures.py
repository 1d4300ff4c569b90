"""The one form of an experiment's results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedcredit.errors import EvaluationInputError
from fedcredit.lab.figures import Figure, mean_over_seeds, median_of_runs, peak_memory, write_results

ROOT = Path(__file__).parents[3]


def test_a_mean_comes_with_the_interval_of_the_mean() -> None:
    figure = mean_over_seeds("demo.x.auc", [0.7, 0.8, 0.9], unit="auc", seeds=[1, 2, 3], data="real")
    # The standard deviation is 0.1, Student's quantile at two degrees 4.30265, the half width 4.30265 * 0.1 / sqrt(3).
    assert (figure.value, figure.low, figure.high) == pytest.approx((0.8, 0.55159, 1.04841), abs=1e-5)
    alone = mean_over_seeds("demo.x.auc", [0.7], unit="auc", seeds=[1], data="real")
    assert (alone.low, alone.value, alone.high) == (0.7, 0.7, 0.7)


def test_a_median_comes_with_the_range() -> None:
    figure = median_of_runs("bench.x", [3.0, 1.0, 2.0], unit="s", seeds=[7], data="synthetic-benchmark")
    assert (figure.value, figure.low, figure.high) == (2.0, 1.0, 3.0)


def test_an_id_that_is_not_lower_case_and_dotted_is_refused() -> None:
    with pytest.raises(EvaluationInputError):
        Figure(id="Demo AUC", value=1.0, low=1.0, high=1.0, unit="auc", seeds=[1], data="real")


def test_results_are_written_in_the_agreed_form(tmp_path: Path) -> None:
    figure = mean_over_seeds("demo.x.auc", [0.123456789], unit="auc", seeds=[1], data="real")
    write_results(tmp_path / "results.json", question="Why?", command="make it", figures=[figure])
    record = json.loads((tmp_path / "results.json").read_text())
    assert set(record) == {"schema_version", "question", "command", "figures"}
    assert record["figures"][0] == {
        "id": "demo.x.auc",
        "value": 0.12346,
        "low": 0.12346,
        "high": 0.12346,
        "unit": "auc",
        "seeds": [1],
        "data": "real",
    }


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/results.json")), ids=lambda path: path.parent.name)
def test_every_committed_result_keeps_the_form(path: Path) -> None:
    record = json.loads(path.read_text())
    assert record["schema_version"] == "1"
    identifiers = [figure["id"] for figure in record["figures"]]
    assert len(set(identifiers)) == len(identifiers)
    for figure in record["figures"]:
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9_-]+)+", figure["id"])
        assert figure["low"] <= figure["value"] <= figure["high"]
        assert figure["data"] in {"real", "real-segments", "simulated", "synthetic-benchmark"}
        assert figure["seeds"]


def test_the_peak_of_memory_is_that_of_this_process_alone() -> None:
    large = np.ones(64 << 20, dtype=np.uint8)
    code = "from fedcredit.lab.figures import peak_memory\nprint(peak_memory())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < peak_memory()
    assert peak_memory() > large.nbytes
