"""What an institution writes down of enterprises: tables ent_monthly, eqp and eqp_series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.columns import NOT_APPLICABLE, NOT_COLLECTED, SENSOR_GAP, Coded, Columns
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import CONSUMER, CREDIT, ENTERPRISE, People
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.seeds import tokens
from fedcredit.simulator.sightings import Sightings

REPORTED = 10
"""Days after a month's end until its figures are known."""
ZONES = 8
_EQUIPMENT = ("roller_kiln", "tunnel_kiln", "shuttle_kiln", "press", "spray_dryer", "glaze_line", "truck_body", "other")
_OVENS = 3
"""Kinds of equipment before this place are kilns."""
_FUELS = ("NG", "coal_gas", "LPG", "elec", "other")
_HOUR_S = 3_600


@dataclass(frozen=True, kw_only=True)
class Businesses(Rows):
    """One row per trader or enterprise whose operations an institution sees."""

    people: People
    first: np.ndarray
    """Month of the world of the first decision."""
    last: np.ndarray
    """Month of the last observation."""
    day: np.ndarray
    """Of the first decision."""


def businesses_of(numbers: Section, seen: Sightings, covered: np.ndarray) -> Businesses:
    """Return the businesses among the covered customers, each once, from first to last observation."""
    calendar = Calendar.of(numbers)
    rows = seen.take(covered & (seen.people.kind != CONSUMER))
    _, first, place = np.unique(rows.people.token, return_index=True, return_inverse=True)
    start, end = np.full(first.size, np.iinfo(np.int64).max), np.zeros(first.size, dtype=np.int64)
    np.minimum.at(start, place, rows.day)
    np.maximum.at(end, place, np.maximum(rows.day, rows.later))
    order = np.argsort(first)
    return Businesses(
        people=rows.people.take(first[order]),
        first=calendar.month(start[order]),
        last=calendar.month(end[order]),
        day=start[order],
    )


def ent_monthly(rng: np.random.Generator, numbers: Section, businesses: Businesses) -> Columns:
    """Return the months before each business's first decision, and on to its last observation."""
    e, count = numbers.enterprise, len(businesses)
    health, enterprise = businesses.people.health, businesses.people.kind == ENTERPRISE
    length = businesses.last - businesses.first + e.months
    row = np.repeat(np.arange(count), length)
    place = np.arange(row.size) - np.repeat(np.cumsum(length) - length, length)
    month = businesses.first[row] - e.months + place
    level = e.revenue_mean + e.revenue_enterprise * enterprise + e.revenue_health * health
    level = level + e.revenue_noise * rng.standard_normal(count)
    growth = e.growth_mean + e.growth_health * health + e.growth_noise * rng.standard_normal(count)
    power = e.power_level + e.power_health * health + e.power_noise * rng.standard_normal(count)
    wobble = e.month_noise * rng.standard_normal((6, row.size))
    years = (place - (e.months - 1)) / 12
    revenue = np.exp(level[row] + growth[row] * years + wobble[0] - 0.25 * (month % 12 == 1))
    staff = np.maximum(1, np.round(np.exp(0.45 * (level - 10) + 0.1 * health)))[row]
    weak = np.maximum(-health, 0)[row]
    inflow = revenue * np.exp(0.08 + 0.5 * wobble[1])
    arrears = (rng.random(row.size) < 0.01 + 0.05 * weak) * revenue * rng.random(row.size) * 0.3
    columns = {
        "revenue_vat": np.round(revenue, 0),
        "n_invoices": np.maximum(1, np.round(revenue / 9_000 * np.exp(wobble[2]))).astype(int),
        "top1_cust_share": np.round(np.clip(0.3 - 0.05 * health[row] + 0.4 * wobble[3], 0.02, 0.98), 4),
        "tax_paid": np.round(revenue * 0.028, 0),
        "tax_arrears": np.round(arrears, 0),
        "power_kwh": np.round(revenue * np.exp(power[row] + wobble[4]), 0),
        "gas_m3": np.where(enterprise[row], np.round(revenue * 0.05 * np.exp(wobble[5]), 0), NOT_APPLICABLE),
        "headcount_si": staff.astype(int),
        "wages": np.round(staff * 5_600 * np.exp(0.3 * wobble[5]), 0),
        "acct_in": np.round(inflow, 0),
        "acct_out": np.round(inflow * np.exp(-0.02 - 0.03 * health[row] + 0.4 * wobble[4]), 0),
        "min_balance": np.round(revenue * (0.12 + 0.06 * health[row] + 0.3 * wobble[1]), 0),
        "ar_days": np.round(np.clip(62 - 9 * health[row] + 60 * wobble[2], 3, 400), 1),
        "inv_days": np.round(np.clip(48 - 6 * health[row] + 50 * wobble[3], 1, 400), 1),
        "order_backlog": np.round(revenue * np.clip(1.3 + 0.3 * health[row] + wobble[0], 0.05, None), 0),
        "litigation_n": rng.poisson(0.006 + 0.02 * weak),
        "admin_penalty_n": rng.poisson(0.004 + 0.006 * weak),
        "owner_unsec_debt": np.round(np.exp(11.2 - 0.3 * businesses.people.traits[:, CREDIT])[row], 0),
    }
    kept = rng.random((len(columns), row.size)) >= numbers.missing.random
    known: Columns = {
        name: column if name == "min_balance" else np.where(keep, column, NOT_COLLECTED)
        for (name, column), keep in zip(columns.items(), kept, strict=True)
    }
    calendar = Calendar.of(numbers)
    return known | {
        "entity_tok": Coded(codes=row, words=businesses.people.token),
        "month": calendar.start(month),
        "reported_at": calendar.end(month) + REPORTED,
    }


def eqp(rng: np.random.Generator, numbers: Section, businesses: Businesses, *, kilns: bool) -> Columns:
    """Return one visit per piece of equipment, some weeks before the owner's first decision."""
    q, enterprises = numbers.equipment, businesses.take(businesses.people.kind == ENTERPRISE)
    owner = np.repeat(np.arange(len(enterprises)), rng.integers(1, 4, len(enterprises)))
    count, health = owner.size, enterprises.people.health[owner]
    kind = rng.choice(8, count, p=_KIND_SHARES if kilns else _OTHER_SHARES)
    kiln = kind < _OVENS
    size = np.exp(rng.normal(9.2, 0.5, count))
    stability = q.stability_health * health + q.stability_noise * rng.standard_normal(count)
    energy = q.energy_mean + q.energy_health * health + q.energy_noise * rng.standard_normal(count)
    visited = enterprises.day[owner] - rng.integers(8, 40, count)
    run = np.clip(610 + 45 * health + 60 * rng.standard_normal(count), 0, 720)
    made = Calendar.of(numbers).year(visited) - rng.integers(1, 16, count)

    def of_kilns(values: np.ndarray) -> np.ndarray:
        return np.where(kiln, values, NOT_APPLICABLE)

    return {
        "eqp_id": tokens(rng, count, 16),
        "entity_tok": Coded(codes=owner, words=enterprises.people.token),
        "asof_date": visited,
        "eq_type": Coded.of(kind, _EQUIPMENT),
        "make_year": made,
        "orig_price": np.round(np.where(kiln, size * 420, size * 60), -2),
        "rated_m2_day": of_kilns(np.round(np.clip(size, 500, 40_000), 0)),
        "length_m": of_kilns(np.round(np.clip(60 + size / 60, 40, 400), 0)),
        "fuel": Coded.of(np.where(kiln, rng.choice(4, count, p=[0.7, 0.15, 0.1, 0.05]), NOT_APPLICABLE), _FUELS),
        "max_temp": of_kilns(np.round(rng.normal(1_180, 40, count), 0)),
        "last_overhaul": visited - rng.integers(30, 1_200, count),
        "refractory_wear": of_kilns(np.round(rng.beta(2.2, 3.5, count), 3)),
        "run_h_30d": np.round(run, 0),
        "n_stops_30d": rng.poisson(q.stop_rate * np.exp(-0.3 * health)),
        "temp_sd": of_kilns(np.round(np.clip(9 * np.exp(-0.45 * stability), 0.5, 40), 2)),
        "energy_kgce_m2": of_kilns(np.round(np.clip(energy, 1, 12), 3)),
        "output_m2_30d": of_kilns(np.round(np.clip(size, 500, 40_000) * run / 24, 0)),
        "defect_rate": of_kilns(np.round(np.clip(0.06 - 0.012 * stability, 0.002, 0.3), 4)),
        "register_no": Coded(codes=np.arange(count), words=tokens(rng, count, 20)) if count else tokens(rng, 0, 20),
        "lien_rank": 1 + (rng.random(count) < 0.08).astype(int),
    }


_KIND_SHARES = (0.38, 0.12, 0.10, 0.16, 0.12, 0.08, 0.02, 0.02)
_OTHER_SHARES = (0.03, 0.01, 0.01, 0.20, 0.03, 0.02, 0.50, 0.20)


def eqp_series(rng: np.random.Generator, numbers: Section, equipment: Columns) -> Columns:
    """Return hourly readings of some kilns, for the hours before their visit."""
    q = numbers.equipment
    kind, sd = equipment["eq_type"], np.asarray(equipment["temp_sd"])
    kilns = np.flatnonzero(kind.codes < _OVENS)[: q.series_units]  # type: ignore[union-attr]
    hours, count = int(q.series_hours), kilns.size
    visited = np.asarray(equipment["asof_date"])[kilns]
    stamp = (visited[:, None] * 24 - hours + np.arange(hours)) * _HOUR_S
    running = rng.random((count, hours)) > 0.015
    peak = np.asarray(equipment["max_temp"])[kilns, None, None] * np.linspace(0.55, 1.0, ZONES)
    drift = sd[kilns, None, None] * rng.standard_normal((count, hours, ZONES))
    temperature = np.where(running[..., None], peak + drift, 0.6 * peak)
    output = np.asarray(equipment["rated_m2_day"])[kilns, None] / 24 * running
    energy = np.asarray(equipment["energy_kgce_m2"])[kilns, None]
    heard = rng.random((count, hours)) > 0.01
    columns: Columns = {
        "eqp_id": Coded(codes=np.repeat(np.arange(count), hours), words=np.asarray(equipment["eqp_id"])[kilns]),
        "ts": stamp.ravel(),
        "gas_flow": _heard(heard, np.round(output * energy * 0.8, 1)),
        "power_kw": _heard(heard, np.round(output * 0.55 + 40, 1)),
        "mask": heard.astype(int).ravel(),
    }
    for zone in range(ZONES):
        columns[f"zone_temp_{zone:02d}"] = _heard(heard, np.round(temperature[..., zone], 1))
    return columns


def _heard(heard: np.ndarray, values: np.ndarray) -> np.ndarray:
    cells: np.ndarray = np.where(heard, values, SENSOR_GAP).ravel()
    return cells


def last_known(numbers: Section, day: np.ndarray) -> np.ndarray:
    """Return the last day that the monthly figures known on each day tell about."""
    calendar = Calendar.of(numbers)
    month = calendar.month(day)
    known = calendar.end(month - 1) + REPORTED <= day
    return np.where(known, calendar.end(month - 1), calendar.end(month - 2))
