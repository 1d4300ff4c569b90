from __future__ import annotations

from pathlib import Path

import pytest

from fedcredit.config.federation import FederationConfig
from fedcredit.config.node import NodeConfig
from fedcredit.errors import (
    ConfigFileMissingError,
    ConfigSyntaxError,
    ConfigValueError,
    FedcreditError,
    MissingKeyError,
    UnknownKeyError,
)

NODE = """
schema_version = 1
institution = "bank-a"
kind = "bank"
[data]
path = "data.parquet"
contract = "german"
modalities = ["application"]
[budget]
epsilon = 4
delta = 1e-5
holdout_epsilon = 0.5
"""
FEDERATION = """
schema_version = 1
consortium = "credit"
[relay]
host = "relay.example"
port = 9092

[holdout]
salt = "0123456789abcdef"
fraction = 0.25
"""


def node(folder: Path, text: str) -> NodeConfig:
    (folder / "node.toml").write_text(text, encoding="utf-8")
    return NodeConfig.read(folder)


def test_a_node_refuses_unprotected_plans_unless_it_says_otherwise(tmp_path: Path) -> None:
    config = node(tmp_path, NODE)
    assert (config.policy.allow_no_privacy, config.policy.allow_fixed_noise) == (False, False)
    config = node(tmp_path, NODE + "[policy]\nallow_no_privacy = true\n")
    assert (config.policy.allow_no_privacy, config.policy.allow_fixed_noise) == (True, False)


def test_a_node_reads_its_own_decisions(tmp_path: Path) -> None:
    config = node(tmp_path, NODE)
    assert config.name == "bank-a"
    assert config.data.modalities == ("application",)
    assert (config.budget.epsilon, config.budget.delta, config.budget.holdout_epsilon) == (4.0, 1e-5, 0.5)


@pytest.mark.parametrize(
    "key", ["institution", "kind", "path", "contract", "modalities", "epsilon", "delta", "holdout_epsilon"]
)
def test_no_decision_of_a_node_has_a_default(tmp_path: Path, key: str) -> None:
    lines = [line for line in NODE.splitlines() if not line.startswith(f"{key} ")]
    assert len(lines) == len(NODE.splitlines()) - 1
    with pytest.raises(MissingKeyError, match=key):
        node(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("bank-a", "coordinator", ConfigValueError),
        ("bank-a", "../bank", ConfigValueError),
        ('kind = "bank"', 'kind = "church"', ConfigValueError),
        ("epsilon = 4", "epsilon = inf", ConfigValueError),
        ("epsilon = 4", "epsilon = 0", ConfigValueError),
        ("delta = 1e-5", "delta = 0.01", ConfigValueError),
        ('["application"]', "[]", ConfigValueError),
        ("[budget]", "[budgets]", UnknownKeyError),
        ("holdout_epsilon", "holdout_epsilom", UnknownKeyError),
        ("schema_version = 1", "schema_version = 9", ConfigValueError),
        ("[data]", "[data", ConfigSyntaxError),
    ],
)
def test_a_wrong_node_file_is_refused(tmp_path: Path, old: str, new: str, error: type[FedcreditError]) -> None:
    with pytest.raises(error, match=r"node\.toml|institution name"):
        node(tmp_path, NODE.replace(old, new))


def test_a_policy_is_true_or_false_and_spelt_right(tmp_path: Path) -> None:
    with pytest.raises(ConfigValueError):
        node(tmp_path, NODE + "[policy]\nallow_no_privacy = 1\n")
    with pytest.raises(UnknownKeyError) as caught:
        node(tmp_path, NODE + "[policy]\nallow_no_privcy = true\n")
    assert caught.value.fields["hint"] == 'Did you mean "allow_no_privacy"?'


def test_a_missing_file_tells_which_command_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileMissingError) as caught:
        NodeConfig.read(tmp_path)
    assert caught.value.fix("en").endswith(f"fedcredit node init {tmp_path}")
    with pytest.raises(ConfigFileMissingError) as caught:
        FederationConfig.read(tmp_path)
    assert caught.value.fix("en").endswith(f"fedcredit coord init {tmp_path}")


def test_a_coordinator_reads_its_relay(tmp_path: Path) -> None:
    (tmp_path / "federation.toml").write_text(FEDERATION, encoding="utf-8")
    config = FederationConfig.read(tmp_path)
    assert (config.consortium, config.relay.host, config.relay.port) == ("credit", "relay.example", 9092)
    assert (config.holdout.salt, config.holdout.fraction) == ("0123456789abcdef", 0.25)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("9092", "0"),
        ("9092", "65536"),
        ("9092", '"9092"'),
        ("credit", "Credit"),
        ("relay.example", ""),
        ("0123456789abcdef", ""),
        ("0123456789abcdef", "x" * 65),
        ("0.25", "0.0"),
        ("0.25", "1.0"),
        ("0.25", "nan"),
    ],
)
def test_a_wrong_coordinator_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    (tmp_path / "federation.toml").write_text(FEDERATION.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigValueError):
        FederationConfig.read(tmp_path)


@pytest.mark.parametrize(
    "line", ['salt = "0123456789abcdef"', "fraction = 0.25", "port = 9092", 'consortium = "credit"']
)
def test_no_decision_of_a_coordinator_has_a_default(tmp_path: Path, line: str) -> None:
    assert line in FEDERATION
    (tmp_path / "federation.toml").write_text(FEDERATION.replace(line, ""), encoding="utf-8")
    with pytest.raises(MissingKeyError):
        FederationConfig.read(tmp_path)
