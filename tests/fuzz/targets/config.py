"""The TOML files: the plan, which comes from the coordinator, and the two configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fuzz.harness import NotTheSameError, chosen, from_file, one_of

from fedcredit.config.federation import FEDERATION_FILE, FederationConfig
from fedcredit.config.node import NODE_FILE, NodeConfig
from fedcredit.config.plan import SCHEMA_VERSION, RunPlan

_WORDS = (
    b"[ ] [[ ]] { } = . , \" ' # \n \"\"\" ''' \\u0041 \\U0010FFFF \xc3\xa9 e\xcc\x81 inf nan -0.0 1e400 0x7f 1_0 true"
    b" -1 0 1979-05-27T07:32:00Z 07:32:00 9999999999 [run] [model] [training] [privacy] [rounds] [aggregation]"
    b" [institutions.bank-a] [institutions] kind = schema_version modalities"
)
TOKENS = tuple(_WORDS.split(b" "))


def _plan(path: Path) -> None:
    plan = RunPlan.read(path)
    again = RunPlan.from_toml(plan.to_toml(), source="again")
    if again.digest() != plan.digest():
        raise NotTheSameError


TARGET = one_of(
    from_file("plan.toml", _plan),
    from_file(NODE_FILE, lambda path: NodeConfig.read(path.parent)),
    from_file(FEDERATION_FILE, lambda path: FederationConfig.read(path.parent)),
)

_NODE = """schema_version = 1
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
[policy]
allow_no_privacy = false
"""
_FEDERATION = """schema_version = 1
consortium = "credit"
[relay]
host = "relay.example"
port = 9092
[holdout]
salt = "0123456789abcdef"
fraction = 0.25
"""


def seeds() -> dict[str, bytes]:
    """Return a plan of every family and the two configurations."""
    from consortium import NO_PRIVACY, SHARED, TREES, plan_of  # it loads torch

    network = {"kind": "network", "width": 4, "base_rate": 0.4}
    fedavg = {"kind": "fedavg", "learning_rate": 0.1, "local_epochs": 1, "batch_size": 8, "seed": 1}
    bare: dict[str, Any] = {"schema_version": SCHEMA_VERSION, "aggregation": {"kind": "open", "update_bound": "share"}}
    secure: dict[str, Any] = {
        **bare,
        "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 32, "update_bound": "share"},
    }
    plans = {
        "plan": plan_of(**bare),
        "plan-trees": plan_of(**{**TREES, **bare}),
        "plan-shared": plan_of(**{**SHARED, **secure}),
        "plan-fedavg": plan_of(
            **{**NO_PRIVACY, **bare, "aggregation/update_bound": "none", "model": network, "training": fedavg}
        ),
    }
    return {name: chosen(0, plan.to_toml().encode()) for name, plan in plans.items()} | {
        "node": chosen(1, _NODE.encode()),
        "federation": chosen(2, _FEDERATION.encode()),
    }


def hostile() -> dict[str, bytes]:
    """Return keys of thousands of parts: a decoder that walks from the root for each part takes quadratic time."""
    return {"dotted-key": chosen(0, b"a." * 16_000 + b"a = 1")}
