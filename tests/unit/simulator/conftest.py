"""One small world for all tests of the simulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedcredit.simulator.generate import Plan, generate, plan
from fedcredit.simulator.records import Block

SEED = 11


@pytest.fixture(scope="session")
def planned() -> Plan:
    return plan("missing_modality", "ci", SEED)


@pytest.fixture(scope="session")
def block(planned: Plan) -> Block:
    return planned.block(0)


@pytest.fixture(scope="session")
def world_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "w"
    generate(folder, scenario="missing_modality", scale="ci", seed=SEED, tell=lambda done, blocks: None)
    return folder
