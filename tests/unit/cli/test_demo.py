"""``fedcredit demo`` on the smallest real data set: its envelope, its folder, and what it says when privacy is off."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

ROW_KEYS = {
    "institution",
    "n",
    *(
        f"{model}_{figure}{bound}"
        for model in ("alone", "federated", "pooled")
        for figure in ("auc", "ks")
        for bound in ("", "_low", "_high")
    ),
}
INSTITUTIONS = ["auto-lender-a", "retail-bank-b", "guarantee-fund-c", "bank-d"]


@pytest.fixture
def shown(type_in):
    return type_in("demo --data german --rounds 2 --out run --format json")


def test_it_prints_one_envelope_and_leaves_a_whole_run_folder(shown, tmp_path: Path, type_in) -> None:
    assert shown.code == 0
    assert shown.stdout.count("\n") == 1
    data = shown.data
    assert [row["institution"] for row in data["rows"]] == INSTITUTIONS
    for row in data["rows"]:
        assert row.keys() >= ROW_KEYS
        assert all(row[f"{name}_low"] <= row[name] <= row[f"{name}_high"] for name in ("alone_auc", "federated_auc"))
    assert sum(row["n"] for row in data["rows"]) + data["summary"]["test_n"] == 1000
    privacy = data["privacy"]
    assert (privacy["unit"], privacy["mechanism"], privacy["steps"]) == (
        "borrower",
        "rounded-gaussian",
        3,
    )  # two rounds, one retry
    assert privacy["epsilon"] <= 3
    # A histogram for the order of categories, and one retry of it; noise that each message carries alone.
    assert (privacy["preparations"], privacy["noise"], privacy["honest_shares"]) == (2, "local", 1)
    assert privacy["epsilon"] == privacy["epsilon_alone"]
    settings = data["model_settings"]
    assert (data["model"], settings["trees"]) == ("trees", 2 * settings["trees_per_round"])
    assert privacy["delta"] == 1e-5
    assert privacy["protects"] is True
    assert all(0 < spent["epsilon"] <= spent["cap"] for spent in privacy["spent"])
    for line in data["traffic"]["institutions"]:
        # Two to set up an epoch, upload and agreement in four rounds, one cosignature at the end; shares where needed.
        assert 2 + 2 * 4 + 1 <= line["messages"] <= 2 + 3 * 4 + 1
        assert line["bytes_up"] > 0
        assert line["bytes_down"] > 0
    # Each of the four sums opens once three members of four have revealed their shares.
    assert sum(line["messages"] for line in data["traffic"]["institutions"]) == 4 * (2 + 2 * 4 + 1) + 3 * 4
    types = ["epoch-hello", "epoch-boxes", "upload", "accept", "reveal", "close-answer", "refusal"]
    assert data["traffic"]["message_types"] == types
    assert (data["schema_version"], data["aggregation"], data["threshold"]) == ("3", "secure", 3)
    assert data["wall_s"] > 0
    assert data["run_dir"] == str(tmp_path / "run")
    assert data["protected"] is True

    _check_folder(tmp_path / "run", rounds=2)
    assert "NOT PRIVATE" not in shown.stderr
    assert "Next: fedcredit audit verify run/coordinator/runs/" in shown.stderr
    assert type_in("audit verify run --format json").data["released"] == 2

    before = _content(tmp_path / "run")
    type_in("demo --data german --rounds 2 --out run").refuses("FC-7004", 1, str(tmp_path / "run"))
    assert _content(tmp_path / "run") == before


def _check_folder(folder: Path, *, rounds: int) -> None:
    for name in ("plan.toml", "metrics.jsonl", "result.json", "report.html"):
        assert (folder / name).stat().st_size > 100, name
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, rounds + 1))
    (run,) = (folder / "coordinator" / "runs").iterdir()
    assert {path.name for path in run.iterdir()} >= {"plan.toml", "run.db", "audit.jsonl", "evaluation.json"}
    checkpoints = {path.name for path in (run / "checkpoints").iterdir()}
    prepared = {"round-00000-prepared.safetensors"}
    assert checkpoints == prepared | {f"round-{number:05d}.safetensors" for number in range(rounds + 1)}
    for name in INSTITUTIONS:
        assert (folder / "institutions" / name / "state" / "node.db").stat().st_size > 0


def _content(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_epsilon_inf_is_said_aloud_recorded_and_marks_every_output(type_in, tmp_path: Path) -> None:
    outcome = type_in("demo --data german --rounds 2 --epsilon inf --out run --format json")
    assert outcome.code == 0
    assert "WITHOUT differential privacy" in outcome.stderr
    assert "NOT PRIVATE" in outcome.stderr
    data = outcome.data
    assert data["protected"] is False
    assert (data["privacy"]["mechanism"], data["privacy"]["epsilon"]) == ("none", "inf")
    assert data["privacy"]["protects"] is False
    assert all(spent["epsilon"] == "inf" for spent in data["privacy"]["spent"])

    plan = tomllib.loads((tmp_path / "run" / "plan.toml").read_text())
    assert plan["privacy"]["mechanism"] == "none"
    assert plan["privacy"]["epsilon"] == float("inf")
    stored = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (stored["protected"], stored["privacy"]["epsilon"]) == (False, "inf")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epsilon"] for line in lines] == ["inf", "inf"]
    assert "not private" in (tmp_path / "run" / "report.html").read_text().lower()


def test_the_coordinator_reads_each_message_only_if_that_is_asked_for(type_in, tmp_path: Path) -> None:
    outcome = type_in("demo --data german --rounds 1 --aggregation open --out run --format json")
    assert (outcome.data["aggregation"], outcome.data["threshold"]) == ("open", 1)
    assert outcome.data["traffic"]["message_types"] == ["train-answer", "counts-answer", "close-answer", "refusal"]
    assert all(line["messages"] == 4 for line in outcome.data["traffic"]["institutions"])
    assert tomllib.loads((tmp_path / "run" / "plan.toml").read_text())["aggregation"] == {
        "kind": "open",
        "update_bound": "share",
    }
    assert "OPEN aggregation" in outcome.stderr
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "not only the sum" in page


def test_fixed_noise_is_said_aloud_and_counts_as_no_protection(type_in) -> None:
    outcome = type_in("demo --data german --rounds 1 --test-noise --out run --format json")
    assert "protects NOBODY" in outcome.stderr
    assert "NOT PRIVATE" in outcome.stderr
    assert outcome.data["protected"] is False


@pytest.mark.parametrize(
    ("options", "code", "exit_code"),
    [
        ("--epsilon 0", "FC-1006", 2),
        ("--epsilon -1", "FC-1006", 2),
        ("--epsilon nan", "FC-1006", 2),
        ("--epsilon 1e-9", "FC-4001", 4),
        ("--seed -1", "FC-1006", 2),
        ("--rounds 10001", "FC-1006", 2),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(
    type_in, tmp_path: Path, options: str, code: str, exit_code: int
) -> None:
    type_in(f"demo --data german --out run {options}").refuses(code, exit_code)
    assert list(tmp_path.iterdir()) == []


def test_without_a_name_every_demo_gets_a_folder_of_its_own(type_in, tmp_path: Path) -> None:
    (tmp_path / "fedcredit-demo").mkdir()
    outcome = type_in("demo --data german --rounds 1 --format json")
    assert outcome.data["run_dir"] == str(tmp_path / "fedcredit-demo-2")


def test_a_simulated_consortium_has_all_five_types_and_says_what_it_is(type_in, tmp_path: Path) -> None:
    shown = type_in("demo --data simulated --rounds 1 --out run --format json")
    assert shown.code == 0
    data = shown.data
    assert {row["kind"] for row in data["rows"]} == {"bank", "auto_finance", "guarantee_fund", "insurer", "lessor"}
    held = {row["institution"]: set(row["modalities"]) for row in data["rows"]}
    assert "application" not in held["i2"]
    assert held["b1"] - held["a1"] == {"operations"}
    assert held["l1"] - held["b1"] == {"equipment", "policy"}
    assert (data["provenance"], data["model"], data["privacy"]["noise"]) == ("simulated", "scorecard", "shared")
    # One borrower may be at several institutions, and then the losses add up.
    assert data["shared_borrowers"] > 100
    assert data["most_institutions"] >= 2
    for part in (
        "SIMULATED data: every person, vehicle and institution is made up",
        "i1 is left out: no label of this kind",
        "defaults among the test records: figures from so few are no result",
        "epsilon is per institution, and their losses add up",
    ):
        assert part in shown.stderr
    page = (tmp_path / "run" / "report.html").read_text()
    assert "nobody and nothing in it is real" in page
    assert "their losses add up" in page
    assert "did not take part: i1 (no label of this kind)" in page
    assert "Next: fedcredit audit verify" in shown.stderr
    assert "demo --data simulated --scale ci --runtime flower" in shown.stderr
    assert "Every test record carries every modality" not in page
    node = tmp_path / "run" / "institutions" / "g2"
    assert (node / "data" / "manifest.toml").exists()
    left = {home.name for home in (tmp_path / "run" / "world" / "institutions").iterdir()}
    assert left == {"I1"}, "every other institution has its tables itself"
    # The node opens on its own tables as any operator's would.
    assert type_in("node check-data run/institutions/g2").code == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ("--data german --scale ci", "--scale goes with --data simulated only"),
        ("--scale paper", "--scale goes with --data simulated only"),
        ("--break drop --data simulated", "--data simulated does not go with --break"),
        ("--break drop --noise shared", "--noise does not go with --break"),
    ],
)
def test_options_that_do_not_go_together_are_refused(type_in, options: str, part: str) -> None:
    type_in(f"demo {options}").refuses("FC-1006", 2, part)
