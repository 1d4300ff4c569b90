"""A small, faultless data folder of one institution, written by code; the faults are made by changing it."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.manifest import FileEntry, Manifest
from fedcredit.parties import InstitutionType

ROWS = 240
SNAPSHOT = datetime.date(2026, 6, 30)
OOT = datetime.date(2024, 7, 1)
LABEL_MAP = """schema_version = 1
[labels.def90]
dpd_equiv = 90
lag_days = 0
known_at = "event"
"""
Tables = dict[str, pd.DataFrame]


def token(kind: str, number: int) -> str:
    """Return a token that no plain hash of a row number or a local identifier gives."""
    return hashlib.sha256(f"a key that only this test knows/{kind}/{number}".encode()).hexdigest()


def day(number: float) -> str:
    return (datetime.date(2022, 1, 1) + datetime.timedelta(days=int(number))).isoformat()


def tables() -> Tables:
    """Return the tables of a bank: entities, contracts, observations, months, vehicles, weeks, boxes, outcomes."""
    rng = np.random.default_rng(7)
    number = np.arange(ROWS)
    decided = np.sort(rng.integers(0, 1200, ROWS))
    bad = rng.random(ROWS) < 0.25
    score = np.clip(640 - 40 * bad + 60 * rng.standard_normal(ROWS), 320, 880).round(0)
    tokens = [token("person", n) for n in number]
    vins = [token("vehicle", n) for n in number]
    ids = [f"c{n:05d}" for n in number]
    entity = pd.DataFrame(
        {
            "entity_tok": tokens,
            "ent_type": np.where(number % 3 == 0, "sole_trader", "consumer"),
            "region2": np.where(number % 2 == 0, "44", "36"),
            "legal_basis": "contract",
            "withdrawn": 0,
        }
    )
    amount = (30_000 + 150_000 * rng.random(ROWS)).round(2)
    contract = pd.DataFrame(
        {
            "contract_id": ids,
            "entity_tok": tokens,
            "vin_tok": vins,
            "product": np.where(number % 4 == 0, "used_car", "new_car"),
            "orig_date": [day(d + 3) for d in decided],
            "decision_date": [day(d) for d in decided],
            "decision": "approve",
            "status": np.where(number % 5 == 0, "closed", "active"),
            "amount": amount,
            "term_m": rng.choice([24, 36, 48], ROWS),
            "apr": (0.04 + 0.06 * rng.random(ROWS)).round(4),
            "ltv0": (0.5 + 0.3 * rng.random(ROWS)).round(3),
            "age_y": rng.integers(22, 60, ROWS),
            "income_m": (5_000 + 9_000 * rng.random(ROWS)).round(0),
            "emp_tenure_m": rng.integers(6, 200, ROWS),
            "bureau_date": [day(d) for d in decided],
            "bureau_hit": rng.choice([0, 1, 1, 1], ROWS),
            "bureau_score": score,
            "n_enq_1m": rng.integers(0, 5, ROWS),
            "n_open": rng.integers(0, 6, ROWS),
            "max_dpd_24m": rng.choice([0, 0, 0, 30, 60], ROWS),
        }
    )
    late = np.array([day(d) >= OOT.isoformat() for d in decided])
    observation = pd.DataFrame(
        {
            "contract_id": ids,
            "entity_tok": tokens,
            "obs_date": contract["decision_date"],
            "obs_kind": "application",
            "split": np.where(late, "oot", np.where(number % 4 == 0, "oos", "dev")),
            "fold": [int(t[:8], 16) % 10 for t in tokens],
            "weight": 1.0,
            "rep_until": "",
            "tel_until": "",
        }
    )
    months = [f"{2022 + (d // 365):d}-{m:02d}-01" for d in decided for m in (1, 2, 3)]
    rep = pd.DataFrame(
        {
            "contract_id": np.repeat(ids, 3),
            "month": months,
            "sched_due": rng.choice([3000.0, 3200.0, 2800.0], 3 * ROWS),
            "paid": rng.choice([3000.0, 2500.0, 3100.0], 3 * ROWS),
            "balance": rng.integers(10_000, 90_000, 3 * ROWS).astype(float),
            "dpd_eom": rng.choice([0, 0, 0, 5, 31], 3 * ROWS),
            "bucket": rng.choice(["0", "1-30"], 3 * ROWS),
            "restructured": np.repeat(bad & (number % 7 == 0), 3).astype(int),
        }
    )
    veh = pd.DataFrame(
        {
            "vin_tok": vins,
            "asof_date": contract["decision_date"],
            "make_code": np.where(number % 6 == 0, "make-1", "make-2"),
            "fuel": np.where(number % 3 == 0, "BEV", "ICE"),
            "use": np.where(number % 3 == 0, "freight", "private"),
            "new_used": np.where(number % 4 == 0, "used", "new"),
            "invoice_price": (60_000 + 200_000 * rng.random(ROWS)).round(0),
            "odo_km": rng.integers(0, 90_000, ROWS).astype(float),
            "appraised_v0": (50_000 + 150_000 * rng.random(ROWS)).round(0),
            "appraised_at": contract["decision_date"],
            "appraisal_method": np.where(number % 2 == 0, "invoice", "desk"),
        }
    )
    rv = pd.DataFrame(
        {
            "vin_tok": vins,
            "week": contract["decision_date"],
            "rv_mid": veh["appraised_v0"],
            "rv_p10": veh["appraised_v0"] * 0.9,
            "rv_p90": veh["appraised_v0"] * 1.1,
            "guide_vintage": contract["decision_date"],
        }
    )
    tel = pd.DataFrame(
        {
            "vin_tok": vins,
            "day": [day(d + 10) for d in decided],
            "device_event": "none",
            "km": (20 + 60 * rng.random(ROWS)).round(1),
            "gap_share": rng.random(ROWS).round(3),
        }
    )
    outcome = pd.DataFrame(
        {
            "contract_id": ids,
            "obs_date": contract["decision_date"],
            "target": "pd12_app",
            "kind": "def90",
            "y": bad.astype(int),
            "indeterminate": 0,
            "window_m": 12,
            "known_at": [day(d + 200) if b else day(d + 370) for d, b in zip(decided, bad, strict=True)],
            "event_date": [day(d + 200) if b else "" for d, b in zip(decided, bad, strict=True)],
            "prepaid_date": "",
            "repo_date": "",
        }
    )
    return {
        "entity": entity,
        "contract": contract,
        "observation": observation,
        "rep_monthly": rep,
        "veh": veh,
        "rv_weekly": rv,
        "tel_daily": tel,
        "outcome": outcome,
    }


def csv_bytes(frame: pd.DataFrame) -> bytes:
    return frame.to_csv(index=False, lineterminator="\n").encode()


def write(
    folder: Path,
    made: Tables,
    *,
    kind: InstitutionType = InstitutionType.BANK,
    raw: Mapping[str, bytes] | None = None,
    names: Mapping[str, str] | None = None,
    facts: Mapping[str, object] | None = None,
    mapped: Mapping[str, str] | None = None,
) -> Path:
    """Write a folder with its manifest; ``raw`` replaces the bytes of a table, ``names`` the name of its file.

    With ``mapped`` it gets a mapping instead of a manifest: lines that stand under the tables named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = {}
    for table in (name for name in canonical(1).names if name in made or name in (raw or {})):
        data = (raw or {}).get(table)
        data = csv_bytes(made[table]) if data is None else data
        name = (names or {}).get(table, f"{table}.csv")
        (folder / name).write_bytes(data)
        rows = len(made[table]) if table in made else 0
        entries[table] = FileEntry(path=name, rows=rows, sha256=hashlib.sha256(data).hexdigest())
    content: dict[str, object] = {
        "schema_version": 1,
        "institution_id": "bank-a",
        "type": kind,
        "snapshot_date": SNAPSHOT,
        "oot_date": OOT,
        "currency": "CNY",
        "data_owner": "risk department",
        "legal_basis": "contract",
        "token_method": "hmac-sha256",
        "tables": entries,
        **(facts or {}),
    }
    if mapped is None:
        Manifest.model_validate(content).write(folder / "manifest.toml")
    else:
        (folder / "mapping.toml").write_text(_mapping(content, entries, made, mapped))
    (folder / "label_map.toml").write_text(LABEL_MAP)
    return folder


def _mapping(
    facts: Mapping[str, object], entries: Mapping[str, FileEntry], made: Tables, more: Mapping[str, str]
) -> str:
    """Return a mapping in which every column has its canonical name; ``more`` are lines for tables and columns."""
    top = {**facts, "snapshot_date": SNAPSHOT, "label_map": "label_map.toml"}
    lines = [f"{name} = {_toml(value)}" for name, value in top.items() if name != "tables"]
    for table, entry in entries.items():
        lines += [f"[tables.{table}]", f'file = "{entry.path}"', *filter(None, [more.get(table)])]
        lines += [f"[tables.{table}.columns]"]
        known = [column for column in made[table].columns if column in canonical(1).table(table)]
        lines += [more.get(f"{table}.{column}", f'{column} = "{column}"') for column in known]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    return str(value) if isinstance(value, int | datetime.date) else f'"{value}"'
