"""A small contract and a table that fits it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
import small_contract
from small_contract import CONTRACT_YAML

from fedcredit.contract import Contract
from fedcredit.contract.loading import parse_contract


@pytest.fixture
def contract() -> Callable[..., Contract]:
    def make(*, unit: str = "borrower", old: str = "", new: str = "") -> Contract:
        text = CONTRACT_YAML.replace("unit: borrower\n", f"unit: {unit}\n")
        return parse_contract(text.replace(old, new) if old else text, source="small.yaml")

    return make


@pytest.fixture
def columns() -> Callable[..., dict[str, Any]]:
    def make(**other: Any) -> dict[str, Any]:
        return small_contract.columns() | other

    return make


@pytest.fixture
def table(columns: Callable[..., dict[str, Any]]) -> Callable[..., pa.Table]:
    def make(**other: Any) -> pa.Table:
        return pa.table(columns(**other))

    return make
