"""The example configurations beside the couriers load, and say what their folders promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedcredit.config.node import NodeConfig
from fedcredit.contract import load_contract
from fedcredit.flower.bundle import bundled_files
from fedcredit.privacy.ledger import BudgetCap

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted(path.parent for path in (ROOT / "clients").glob("*/node.toml"))


def test_there_is_an_example_for_each_of_three_kinds() -> None:
    assert [folder.name for folder in EXAMPLES] == ["bank", "guarantee_fund", "insurer"]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_loads_with_modalities_of_its_contract_and_a_refusing_policy(folder: Path) -> None:
    config = NodeConfig.read(folder)
    known = {modality.name for modality in load_contract(config.data.contract).modalities}
    assert str(config.kind) == folder.name
    assert set(config.data.modalities) <= known
    assert (config.policy.allow_no_privacy, config.policy.allow_fixed_noise) == (False, False)
    for epsilon in (config.budget.epsilon, config.budget.holdout_epsilon):
        BudgetCap(epsilon=epsilon, delta=config.budget.delta)


def test_the_insurer_holds_no_repayments_and_the_bank_does() -> None:
    held = {folder.name: NodeConfig.read(folder).data.modalities for folder in EXAMPLES}
    assert "repayment" in held["bank"]
    assert "repayment" not in held["insurer"]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_an_example_explains_itself_and_stays_out_of_the_bundle(folder: Path) -> None:
    assert "**Policy.**" in (folder / "README.md").read_text(encoding="utf-8")
    assert not any(name.startswith(f"clients/{folder.name}/") for name in bundled_files(ROOT))
