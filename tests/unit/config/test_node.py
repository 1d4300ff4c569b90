from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedcredit.config.federation import FederationConfig
from fedcredit.config.node import NodeConfig, write_budget
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


FLAGS = ("allow_no_privacy", "allow_fixed_noise")


def test_a_node_refuses_weaker_plans_unless_it_says_otherwise(tmp_path: Path) -> None:
    assert node(tmp_path, NODE).policy.model_dump() == dict.fromkeys(FLAGS, False)
    for flag in FLAGS:
        policy = node(tmp_path, f"{NODE}[policy]\n{flag} = true\n").policy
        assert policy.model_dump() == {**dict.fromkeys(FLAGS, False), flag: True}


@pytest.mark.parametrize(
    "section",
    ["[budget] # ours\nepsilon = 4 # agreed\n", "[budget]\nepsilon=4\n", "budget.epsilon = 4 # at most\n"],
    ids=["comments", "no spaces", "dotted"],
)
def test_one_key_of_the_budget_is_rewritten_and_nothing_else(tmp_path: Path, section: str) -> None:
    dotted = "budget." if section.startswith("budget.") else ""
    rest = f"{dotted}delta = 1e-5\n# of the held-out\n{dotted}holdout_epsilon = 0.5\n"
    head, _, _ = NODE.partition("[data]")
    parts = [section + rest, "[data]" + NODE.partition("[data]")[2].partition("[budget]")[0]]
    text = head + "".join(parts if dotted else reversed(parts))
    node(tmp_path, text)
    write_budget(tmp_path, key="epsilon", value=4.25)
    assert (tmp_path / "node.toml").read_text() == text.replace("epsilon = 4", "epsilon = 4.25").replace("=4", "=4.25")
    assert stat.S_IMODE((tmp_path / "node.toml").stat().st_mode) == 0o600
    assert NodeConfig.read(tmp_path).budget.epsilon == 4.25


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


def test_a_permission_that_exists_no_more_is_named_and_not_passed_over(tmp_path: Path) -> None:
    # Shared noise always has a secure sum now; an operator who once allowed bare shares must hear of it.
    with pytest.raises(UnknownKeyError, match="allow_bare_shares"):
        node(tmp_path, NODE + "[policy]\nallow_bare_shares = true\n")


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
