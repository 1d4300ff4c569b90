"""The data contract, a YAML file."""

from __future__ import annotations

from fuzz.harness import from_file
from small_contract import CONTRACT_YAML

from fedcredit.contract.loading import load_contract

_WORDS = (
    b"[ ] { } : - , & * ! !! | > % @ ` ? ~ &a *a <<: !!int !!float !!bool !!binary !!timestamp !!set !!omap !!null"
    b' !!str --- ... 2001-99-99 0x_ 1:60 .inf .nan 0o 1e999 null yes "\\x \xef\xbb\xbf \xc2\x85 type: values: missing:'
    b" grid: derived: dense: crosses:"
)
TOKENS = tuple(_WORDS.split(b" "))
MUTATIONS = 1_000
_LEAST = """schema_version: 1
name: n
title: t
licence: l
attribution: a
unit: borrower
entity: who
label: {column: outcome, good: 0, bad: 1}
protected: []
modalities:
  form:
    kind: static
    columns:
      x: {type: number, unit: EUR, min: 0, max: 9, missing: required, source: s, available_at: application, grid: [5]}
    scorecard: [x]
"""
TARGET = from_file("contract.yaml", load_contract)


def seeds() -> dict[str, bytes]:
    """Return one contract with every kind of part, and the least one."""
    return {"small": CONTRACT_YAML.encode(), "least": _LEAST.encode()}
