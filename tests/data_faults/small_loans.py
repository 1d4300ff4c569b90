"""A contract on canonical tables for tests, and the small bank of ``data_faults`` with more tables."""

from __future__ import annotations

import datetime
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from data_faults.world import Tables, tables, token, write

from fedcredit.checking.spec import DataSpec, read_spec
from fedcredit.contract import Contract
from fedcredit.contract.loading import parse_contract

HEAD = """schema_version: 1
name: small-loans
tables: 1
title: small
licence: none
attribution: made up
unit: borrower
entity: entity_tok
label: {column: outcome.pd12_app, good: 0, bad: 1}
protected: []
modalities:
"""


def number(name: str) -> str:
    return (
        f"      {name}: {{type: number, unit: any, min: -1000000000000, max: 1000000000000, missing: nullable, "
        "source: made up, available_at: application, dense: {scale: linear, low: 0, high: 1}}\n"
    )


def words(name: str, *values: str) -> str:
    listed = ", ".join(f'"{value}"' for value in values)
    return (
        f"      {name}: {{type: category, values: [{listed}], missing: unknown, source: made up, "
        "available_at: application, dense: one-hot}\n"
    )


def modality(name: str, *columns: str) -> str:
    return f"  {name}:\n    kind: static\n    columns:\n{''.join(columns)}    scorecard: []\n"


def contract_of(*modalities: str, head: str = HEAD) -> Contract:
    return parse_contract(head + "".join(modalities), source="small-loans.yaml")


def numbers(*names: str) -> Contract:
    return contract_of(modality("all", *map(number, names)))


def spec_of(folder: Path, made: Tables) -> DataSpec:
    return read_spec(write(folder, made))


def without_repeated_rows(spec: DataSpec, name: str) -> DataSpec:
    """Return the spec as if its manifest said of the table ``name``: repeated rows are left out."""
    tables = tuple(
        replace(one, source=one.source.model_copy(update={"repeated": "left_out"})) if one.table.name == name else one
        for one in spec.tables
    )
    return replace(spec, tables=tables)


def shifted(text: str, days: int) -> str:
    return (datetime.date.fromisoformat(text) + datetime.timedelta(days=days)).isoformat()


def rich(seed: int = 3, *, people: int = 30) -> Tables:
    """Return the bank's first ``people`` with rows of every further table around their days of decision."""
    rng = np.random.default_rng(seed)
    made = {name: table.copy() for name, table in tables().items()}
    for name in ("entity", "contract", "observation", "veh", "outcome"):
        made[name] = made[name].head(people)
    made["rep_monthly"] = made["rep_monthly"].head(3 * people)
    made["observation"]["split"] = "dev"
    days = made["contract"]["decision_date"].tolist()
    vins, people_tokens = made["contract"]["vin_tok"].tolist(), made["contract"]["entity_tok"].tolist()

    def around(count: int, low: int, high: int) -> tuple[list[int], list[str]]:
        owner = rng.integers(0, people, count).tolist()
        return owner, [shifted(days[place], int(rng.integers(low, high))) for place in owner]

    owner, when = around(20 * people, -120, 15)
    made["tel_daily"] = pd.DataFrame(
        {
            "vin_tok": [vins[place] for place in owner],
            "day": when,
            "device_event": "none",
            "km": np.where(rng.random(len(owner)) < 0.2, -4, (90 * rng.random(len(owner))).round(1)),
            "gap_share": rng.random(len(owner)).round(3),
        }
    ).drop_duplicates(["vin_tok", "day"])
    owner, when = around(10 * people, -400, 90)
    month = [text[:7] + "-01" for text in when]
    made["ent_monthly"] = pd.DataFrame(
        {
            "entity_tok": [people_tokens[place] for place in owner],
            "month": month,
            "reported_at": [shifted(text, int(rng.integers(31, 80))) for text in month],
            "revenue_vat": (1e5 * rng.random(len(owner))).round(0),
            "power_kwh": -1,
            "min_balance": (1e5 * (rng.random(len(owner)) - 0.5)).round(0),
        }
    ).drop_duplicates(["entity_tok", "month"])
    owner, when = around(3 * people, -60, 8)
    made["con"] = pd.DataFrame(
        {
            "vin_tok": [vins[place] for place in owner],
            "capture_date": when,
            "source": "orig",
            "interior_wear": rng.integers(0, 5, len(owner)),
        }
    ).drop_duplicates(["vin_tok", "capture_date"])
    owner, when = around(6 * people, -60, 12)
    made["rv_weekly"] = pd.DataFrame(
        {
            "vin_tok": [vins[place] for place in owner],
            "week": when,
            "rv_mid": (1e5 * rng.random(len(owner))).round(0),
            "rv_p10": 1.0,
            "rv_p90": 2e5,
            "guide_vintage": [shifted(text, int(rng.integers(0, 12))) for text in when],
        }
    ).drop_duplicates(["vin_tok", "week"])
    owner, when = around(2 * people, -700, 30)
    made["pol"] = pd.DataFrame(
        {
            "policy_id": [f"p{place:04d}" for place in range(len(owner))],
            "entity_tok": [people_tokens[place] for place in owner],
            "vin_tok": [vins[place] for place in owner],
            "start": when,
            "end": [shifted(text, 364) for text in when],
            "cover": "full",
            "premium": 2000.0,
            "ncd_coef": rng.choice([0.4, 0.7, 1.0, 1.3], len(owner)),
            "exposure_y": 1.0,
        }
    )
    claimed = rng.integers(0, len(owner), 3 * people)
    loss = [shifted(when[place], int(rng.integers(0, 365))) for place in claimed]
    report = [shifted(text, int(rng.integers(0, 30))) for text in loss]
    made["clm"] = pd.DataFrame(
        {
            "claim_id": [f"s{place:04d}" for place in range(len(loss))],
            "policy_id": [f"p{place:04d}" for place in claimed],
            "loss_date": loss,
            "report_date": report,
            "known_at": [shifted(text, int(rng.integers(0, 40))) for text in report],
            "kind": "own",
            "paid": (5000 * rng.random(len(loss))).round(2),
        }
    )
    return made


__all__ = ["HEAD", "contract_of", "modality", "number", "numbers", "rich", "shifted", "spec_of", "token", "words"]
