"""``lab simulate`` and ``lab describe`` as they are typed."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq


def test_a_world_is_written_described_and_noticed_when_touched(type_in, tmp_path: Path) -> None:
    world = type_in("lab simulate --seed 3 --out w --format json")
    assert world.code == 0, world.stderr
    assert set(world.data["rows"]) == {"B1", "B2", "B3", "A1", "L1", "G1", "G2", "I1", "I2", "oracle"}
    assert "Next: fedcredit lab describe w" in world.stderr
    assert "simulated" in world.stderr
    again = type_in("lab simulate --seed 3 --out w")
    again.refuses("FC-7004", 1, "w")

    described = type_in("lab describe w --format json")
    assert described.code == 0, described.stderr
    assert described.data["verdicts"]["outside"] == 0
    names = {fact["name"] for fact in described.data["facts"]}
    assert {"pd12", "lgd_mean", "telematics_lift", "multi_lending", "claims_a_year", "new_year_odds"} <= names
    page, picture = (tmp_path / path for path in described.data["files"])
    assert page.read_text("utf-8").count("SIMULATED") >= 2
    assert "<script" not in page.read_text("utf-8")
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    check = next(line for line in world.stderr.splitlines() if "check-data" in line).split("fedcredit ", 1)[1]
    checked = type_in(check.strip())
    assert checked.code == 0, checked.stderr

    path = tmp_path / "w" / "institutions" / "B2" / "contract.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)
    type_in("lab describe w").refuses("FC-5062", 3, "B2's contract is not what was written")


def test_a_dry_run_says_what_would_be_written_and_writes_nothing(type_in, tmp_path: Path) -> None:
    outcome = type_in("lab simulate --scenario iid --scale paper --out w --dry-run --format json")
    assert outcome.data["accepted"]["B1"] == 40_000
    assert "109,200" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_scenario_is_refused_with_the_list_of_all(type_in) -> None:
    type_in("lab simulate --scenario boom --out w").refuses("FC-5061", 3, "boom", "negative_control", "thin_file")


def test_a_folder_that_is_no_world_is_refused(type_in, tmp_path: Path) -> None:
    type_in("lab describe nothing").refuses("FC-1001", 2, "simulated world")
    (tmp_path / "simulation.toml").write_text('scenario = "iid"\n')
    type_in("lab describe .").refuses("FC-5062", 3, "simulation.toml lacks title")
