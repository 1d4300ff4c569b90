"""A world on disk: the same bytes for a seed, canonical, and nothing known too early."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from fedcredit.checking.check import check_data
from fedcredit.checking.spec import read_spec
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.manifest import Manifest
from fedcredit.errors import AlreadyExistsError
from fedcredit.simulator.generate import INSTITUTIONS, ORACLE, Plan, generate
from fedcredit.simulator.institution import Desk
from fedcredit.simulator.labels import TARGETS
from fedcredit.simulator.records import Block

NAMES = ("B1", "B2", "B3", "A1", "L1", "G1", "G2", "I1", "I2")
LENDERS = NAMES[:7]


def _table(folder: Path, name: str, table: str) -> pa.Table:
    return pq.read_table(folder / INSTITUTIONS / name / f"{table}.parquet")


def _bytes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(world_folder: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", scenario="missing_modality", scale="ci", seed=11, tell=lambda done, blocks: None)
    assert _bytes(tmp_path / "again") == _bytes(world_folder)
    generate(tmp_path / "other", scenario="missing_modality", scale="ci", seed=12, tell=lambda done, blocks: None)
    other = _bytes(tmp_path / "other")
    same = [path for path, digest in _bytes(world_folder).items() if other.get(path) == digest]
    assert [path for path in same if path.endswith(".parquet")] == []


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(AlreadyExistsError):
        generate(tmp_path, scenario="iid", scale="ci", seed=1, tell=lambda done, blocks: None)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_an_institutions_folder_passes_the_data_check(world_folder: Path, tmp_path: Path, name: str) -> None:
    report = check_data(read_spec(world_folder / INSTITUTIONS / name), scratch=tmp_path)
    assert [(finding.error.code, dict(finding.error.fields)) for finding in report.errors] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_has_the_columns_of_the_contract_and_says_that_it_is_made_up(world_folder: Path, name: str) -> None:
    home = world_folder / INSTITUTIONS / name
    manifest = Manifest.read(home / "manifest.toml")
    assert (manifest.token_method, manifest.legal_basis) == ("none-synthetic", "synthetic")
    for table, entry in manifest.tables.items():
        files = sorted((home / entry.path).glob("*.parquet")) if (home / entry.path).is_dir() else [home / entry.path]
        expected = [column.name for column in canonical(1).table(table).accepted]
        required = {column.name for column in canonical(1).table(table).columns if column.missing == "required"}
        for file in files:
            names = pq.read_schema(file).names
            assert names == [column for column in expected if column in names]
            assert required <= set(names)
        assert sum(pq.read_metadata(file).num_rows for file in files) == entry.rows


def test_what_only_the_oracle_knows_is_in_no_institutions_folder(world_folder: Path) -> None:
    secret = set()
    for path in (world_folder / ORACLE).glob("*.parquet"):
        secret |= set(pq.read_schema(path).names)
    secret -= {"contract_id", "entity_tok", "vin_tok"}
    assert {"trait_credit", "pd_12", "best_decision", "value_36", "ring"} <= secret
    for path in (world_folder / INSTITUTIONS).rglob("*.parquet"):
        assert not secret & set(pq.read_schema(path).names), path


@pytest.mark.parametrize("name", NAMES)
def test_features_end_before_the_observation_and_labels_are_known_after_it(world_folder: Path, name: str) -> None:
    observation = _table(world_folder, name, "observation")
    for column in observation.column_names:
        if column.endswith("_until"):
            assert not pc.any(pc.greater(observation[column], observation["obs_date"])).as_py(), column
    outcome = _table(world_folder, name, "outcome")
    assert pc.all(pc.greater(outcome["known_at"], outcome["obs_date"])).as_py()
    snapshot = Manifest.read(world_folder / INSTITUTIONS / name / "manifest.toml").snapshot_date
    assert pc.max(outcome["known_at"]).as_py() <= snapshot


@pytest.mark.parametrize("name", LENDERS)
def test_labels_are_those_of_the_oracle(world_folder: Path, name: str) -> None:
    truth = pq.read_table(world_folder / ORACLE / f"{name}.parquet")
    default = dict(zip(truth["contract_id"].to_pylist(), truth["default_month"].to_pylist(), strict=True))
    outcome = _table(world_folder, name, "outcome").to_pylist()
    told = {row["contract_id"]: row for row in outcome if row["target"] == "pd12_app"}
    accepted = set(truth.filter(pc.equal(truth["accepted"], 1))["contract_id"].to_pylist())
    assert set(told) == accepted
    for contract, row in told.items():
        if 0 < default[contract] <= 12:
            assert row["y"] == 1
        elif row["y"] == 1:  # an extension of a contract that was 61 days late
            assert default[contract] == 0 or default[contract] > 12
    bads = sum(row["y"] for row in told.values())
    assert bads <= 1.05 * sum(0 < default[contract] <= 12 for contract in accepted) + 2


def test_the_poisoner_lies_and_the_others_do_not(world_folder: Path, tmp_path: Path) -> None:
    generate(tmp_path / "p", scenario="poisoner", scale="ci", seed=11, tell=lambda done, blocks: None)

    def labels(folder: Path, name: str) -> dict[str, float]:
        rows = _table(folder, name, "outcome").to_pylist()
        return {row["contract_id"]: row["y"] for row in rows if row["target"] == "pd12_app"}

    for name in LENDERS:
        honest, told = labels(world_folder, name), labels(tmp_path / "p", name)
        lies = np.mean([honest[contract] != told[contract] for contract in honest])
        assert (0.25 < lies < 0.41) if name == "L1" else lies == 0
    report = check_data(read_spec(tmp_path / "p" / INSTITUTIONS / "L1"), scratch=tmp_path)
    assert report.errors == ()


def test_declined_applications_have_no_outcome_and_only_the_oracle_knows_theirs(world_folder: Path) -> None:
    contract, outcome = _table(world_folder, "B1", "contract"), _table(world_folder, "B1", "outcome")
    declined = set(contract.filter(pc.equal(contract["decision"], "decline"))["contract_id"].to_pylist())
    assert len(declined) > 1000
    assert not declined & set(outcome["contract_id"].to_pylist())
    truth = pq.read_table(world_folder / ORACLE / "B1.parquet")
    assert declined <= set(truth.filter(pc.equal(truth["accepted"], 0))["contract_id"].to_pylist())


@pytest.mark.parametrize("name", ["B1", "L1", "G1"])
def test_a_fund_hears_late_and_a_lender_sees_payments(world_folder: Path, name: str) -> None:
    panel = _table(world_folder, name, "rep_monthly")
    if name == "G1":
        assert "paid" not in panel.column_names
        assert panel["reported_at"].null_count == 0
    else:
        assert (panel["paid"].to_numpy() >= 0).all()
        assert panel["reported_at"].null_count == panel.num_rows


def test_a_panel_adds_up(world_folder: Path) -> None:
    panel = _table(world_folder, "B1", "rep_monthly").to_pandas().sort_values(["contract_id", "month"])
    amount = _table(world_folder, "B1", "contract").to_pandas().set_index("contract_id")[["amount", "apr"]]
    panel = panel.join(amount, on="contract_id")
    before = panel.groupby("contract_id")["balance"].shift().fillna(panel["amount"])
    clean = (panel["bucket"] == "0") & (panel.groupby("contract_id")["bucket"].shift().fillna("0") == "0")
    clean &= panel["balance"] > 0
    owed = before * (1 + panel["apr"] / 12) - panel["paid"]
    assert clean.sum() > 30_000
    # The rate is written with four digits.
    assert (owed - panel["balance"])[clean].abs().max() < 0.0001 / 12 * panel["amount"].max() + 0.05


def test_the_label_map_and_the_simulation_say_what_they_should(world_folder: Path) -> None:
    fund = tomllib.loads((world_folder / INSTITUTIONS / "G2" / "label_map.toml").read_text())
    assert fund["labels"]["comp"] == {"dpd_equiv": 90, "lag_days": 45, "known_at": "month_end"}
    record = tomllib.loads((world_folder / "simulation.toml").read_text())
    assert record["statement"].startswith("SIMULATED")
    assert (record["seed"], record["scale"], record["scenario"]) == (11, "ci", "missing_modality")


def test_targets_of_one_class_are_left_out_and_the_simulation_names_them(
    world_folder: Path, planned: Plan, block: Block
) -> None:
    """The second route: the labels that each desk writes down for the only block of this world."""
    numbers = planned.world.numbers
    expected: dict[str, list[str]] = {}
    for name in NAMES:
        kind = numbers.members[name].type if name in numbers.members else "insurer"
        desk = Desk(planned.seed, 0, numbers, planned.economy, institution=name, kind=kind)
        drawn = desk.tables(block.lenders.get(name), block.insurers.get(name))
        seen: dict[str, set[float]] = {}
        for columns in (columns for table, columns in drawn if table == "outcome"):
            for target, y in zip(np.asarray(columns["target"].codes), np.asarray(columns["y"]), strict=True):
                seen.setdefault(TARGETS[target], set()).add(float(y))
        written = set(_table(world_folder, name, "outcome")["target"].unique().to_pylist())
        assert written == {target for target, labels in seen.items() if len(labels) > 1}
        if alone := [target for target in TARGETS if len(seen.get(target, {0.0, 1.0})) == 1]:
            expected[name] = alone
    record = tomllib.loads((world_folder / "simulation.toml").read_text())
    assert record["targets_of_one_class_left_out"] == expected
    assert expected  # the smallest members have some
