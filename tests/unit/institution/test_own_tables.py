from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from data_faults import world

from fedcredit.config.node import NodeConfig
from fedcredit.contract import load_contract
from fedcredit.errors import TableChangedError
from fedcredit.features.build import training_rows
from fedcredit.institution import own_tables
from fedcredit.institution.own_tables import own_holdings

CONTRACT = load_contract("vehicle-loans")


@pytest.fixture
def node(tmp_path: Path) -> tuple[Path, NodeConfig]:
    world.write(tmp_path / "data", world.tables())
    (tmp_path / "state").mkdir()
    config = NodeConfig.model_validate(
        {
            "schema_version": 1,
            "institution": "bank-a",
            "kind": "bank",
            "data": {"path": "data", "contract": "vehicle-loans", "modalities": ["terms", "vehicle"]},
            "budget": {"epsilon": 3.0, "delta": 1e-5, "holdout_epsilon": 1.0},
        }
    )
    return tmp_path, config


def test_what_is_held_is_one_row_per_borrower_of_before_the_consortiums_day(node: tuple[Path, NodeConfig]) -> None:
    folder, config = node
    held = own_holdings(folder, config, CONTRACT, scratch=folder / "state")
    late = int((world.tables()["observation"]["split"] == "oot").sum())
    assert (len(held.table), held.out_of_time) == (world.ROWS - late, world.OOT)
    assert held.table.dropped == 0


def test_a_table_that_changes_between_its_check_and_its_features_is_not_trained_on(
    node: tuple[Path, NodeConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, config = node

    def late(*arguments: object, **options: object) -> object:
        path = folder / "data" / "outcome.csv"
        text = path.read_text()
        path.write_text(text.replace(",1,0,12", ",0,0,12", 1))
        manifest = folder / "data" / "manifest.toml"
        old, new = (hashlib.sha256(one.encode()).hexdigest() for one in (text, path.read_text()))
        manifest.write_text(manifest.read_text().replace(old, new))
        return training_rows(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(own_tables, "training_rows", late)
    with pytest.raises(TableChangedError) as caught:
        own_holdings(folder, config, CONTRACT, scratch=folder / "state")
    assert "outcome.csv changed" in str(caught.value.describe())
