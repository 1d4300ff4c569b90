"""What an institution writes down of vehicles: tables veh, rv_weekly and con, and pictures of their condition."""

from __future__ import annotations

import numpy as np

from fedcredit.simulator.columns import NO_DATE, NOT_APPLICABLE, NOT_COLLECTED, Coded, Columns
from fedcredit.simulator.dates import Calendar, monday
from fedcredit.simulator.economy import Economy
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import PRUDENCE
from fedcredit.simulator.seeds import child
from fedcredit.simulator.sightings import Sightings
from fedcredit.simulator.vehicles import FUELS, USES, worth

WEEKS = 12
"""Of residual values before a day of observation."""
PANELS, EMBEDDING, CAMERAS = 13, 32, 3
SIDE = 64
_HYBRID, _RANGE, _BATTERY = FUELS.index("PHEV"), FUELS.index("EREV"), FUELS.index("BEV")
_METHODS = ("invoice", "guide", "desk", "inspection", "model")
_MONTH = 30.4375


def veh(rng: np.random.Generator, numbers: Section, seen: Sightings) -> Columns:
    """Return one row per vehicle, as it was on the day of the decision."""
    v, count = seen.vehicles, len(seen)
    electric = v.fuel >= _HYBRID
    size = np.select(
        [v.fuel == _BATTERY, v.fuel == _RANGE, v.fuel == _HYBRID],
        [rng.uniform(40, 95, count), rng.uniform(30, 45, count), rng.uniform(9, 25, count)],
        NOT_APPLICABLE,
    )
    age = v.age_m.astype(int)
    registered = np.where(v.used, seen.day - (v.age_m * _MONTH).astype(int), NO_DATE)
    health = np.clip(1 - 0.0017 * v.age_m - 4e-7 * v.km_year * v.age_m / 12 + 0.01 * rng.standard_normal(count), 0.5, 1)
    odometer = np.where(v.used, v.km_year * v.age_m / 12 * np.exp(0.05 * rng.standard_normal(count)), 12.0)
    method = np.where(v.used, rng.choice([2, 3, 4], count, p=[0.3, 0.5, 0.2]), 0)
    invoice = np.where(v.used, v.value * np.exp(0.06 * rng.standard_normal(count)), v.list_price)
    make, model = _codes(numbers, v.make, v.model)
    return {
        "vin_tok": v.token,
        "asof_date": seen.day,
        "make_code": make,
        "model_code": model,
        "fuel": Coded.of(v.fuel, FUELS),
        "use": Coded.of(v.use, USES),
        "new_used": Coded.of(v.used.astype(int), ("new", "used")),
        "model_year": Calendar.of(numbers).year(seen.day) - age // 12,
        "reg_date": registered,
        "invoice_price": np.round(invoice, 0),
        "guide_price": np.round(v.list_price * 1.06, -2),
        "odo_km": np.round(np.minimum(odometer, 1.4e6), 0),
        "battery_kwh": np.round(size, 1),
        "soh": np.where(electric, np.round(health, 4), NOT_APPLICABLE),
        "n_owners": np.where(v.used, 1 + rng.poisson(v.age_m / 60), 0),
        "appraised_v0": np.round(v.appraised, 0),
        "appraised_at": seen.day - 1,
        "appraisal_method": Coded.of(method, _METHODS),
    }


def _codes(numbers: Section, make: np.ndarray, model: np.ndarray) -> tuple[Coded, Coded]:
    v = numbers.vehicles
    makes = [f"MK{number:02d}" for number in range(v.makes)]
    models = [f"{name}-{number}" for name in makes for number in range(v.models_of_make)]
    return Coded.of(make, makes), Coded.of(make * v.models_of_make + model, models)


def value_at(numbers: Section, economy: Economy, seen: Sightings, day: np.ndarray) -> np.ndarray:
    """Return the true value in CNY on another day than that of the decision; no new damage is added."""
    v, calendar = seen.vehicles, Calendar.of(numbers)
    now, then = np.maximum(calendar.month(day), 0), np.maximum(calendar.month(seen.day), 0)
    moved = economy.log_index[v.price_class, now] - economy.log_index[v.price_class, then]
    moved = moved + economy.regional_index[seen.people.region, now] - economy.regional_index[seen.people.region, then]
    age = v.age_m + (day - seen.day) / _MONTH
    return worth(
        numbers,
        price_class=v.price_class,
        age_m=np.maximum(age, 0.0),
        list_price=v.list_price,
        km_year=v.km_year,
        condition=v.condition,
        damage=v.damage,
        index_change=moved,
    )


def rv_weekly(rng: np.random.Generator, numbers: Section, economy: Economy, seen: Sightings) -> Columns:
    """Return guide values of the weeks before each observation; each row was published in its own week."""
    p, calendar = numbers.prices, Calendar.of(numbers)
    observed = seen.later != NO_DATE
    repeated = [(seen, seen.day), (seen.take(observed), seen.later[observed])]
    owner = np.concatenate([np.repeat(np.arange(len(part)), WEEKS) for part, _ in repeated])
    owner[len(seen) * WEEKS :] = np.flatnonzero(observed)[owner[len(seen) * WEEKS :]]
    week = np.concatenate([(monday(day)[:, None] - 7 * np.arange(WEEKS, 0, -1)).ravel() for _, day in repeated])
    rows = seen.take(owner)
    middle = value_at(numbers, economy, rows, week) * np.exp(0.015 * rng.standard_normal(owner.size))
    month = np.maximum(calendar.month(week), 0)
    region, price_class = rows.people.region, rows.vehicles.price_class
    index = economy.log_index[price_class, month] + economy.regional_index[region, month]
    supply = p.supply_mean + p.supply_stress * economy.stress[region, month] + 4 * rng.standard_normal(owner.size)
    return {
        "vin_tok": Coded(codes=owner, words=seen.vehicles.token),
        "week": week,
        "rv_mid": np.round(middle, 0),
        "rv_p10": np.round(middle * np.exp(-p.guide_spread), 0),
        "rv_p90": np.round(middle * np.exp(p.guide_spread), 0),
        "market_index": np.round(100 * np.exp(index), 3),
        "days_supply": np.round(np.clip(supply, 8, 180), 1),
        "guide_vintage": week,
    }


def con(rng: np.random.Generator, numbers: Section, seen: Sightings, member: str) -> Columns:
    """Return one capture per vehicle, some days before the decision."""
    c, v, count = numbers.condition, seen.vehicles, len(seen)
    camera = rng.integers(0, CAMERAS, count)
    wear = np.clip(1.1 - 0.7 * v.condition + 0.012 * v.age_m, 0, 4)
    hurt = np.clip(c.damage * v.damage[:, None] * rng.gamma(0.7, 1.4, (count, PANELS)), 0, 4)
    panels = np.minimum(np.floor(hurt + rng.random((count, PANELS)) * 0.35 * (wear[:, None] > 1)), 4).astype(int)
    seen_panel = rng.random((count, PANELS)) > numbers.missing.random
    columns: Columns = {
        "vin_tok": v.token,
        "capture_date": seen.day - rng.integers(4, 21, count),
        "source": Coded.of(v.used.astype(int), ("orig", "inspection")),
        "camera_id": Coded.of(camera, [f"{member}-cam{number}" for number in range(CAMERAS)]),
        "interior_wear": np.minimum(np.round(wear + 0.4 * rng.standard_normal(count)).clip(0), 4).astype(int),
        "tyre_mm": np.round(np.clip(8 - 0.05 * v.age_m + 0.4 * v.condition + rng.standard_normal(count), 1.2, 9), 1),
        "frame_damage": (rng.random(count) < 0.008 + 0.6 * v.damage).astype(int),
        "encoder": Coded.of(np.zeros(count, dtype=int), ("sim-encoder-1",)),
    }
    for place in range(PANELS):
        columns[f"panel_sev_{place:02d}"] = np.where(seen_panel[:, place], panels[:, place], NOT_COLLECTED)
    vectors = _embed(rng, numbers, seen, camera, member)
    for place in range(EMBEDDING):
        columns[f"emb_{place:02d}"] = np.round(vectors[:, place], 4)
    return columns


def _embed(rng: np.random.Generator, numbers: Section, seen: Sightings, camera: np.ndarray, member: str) -> np.ndarray:
    """Return what the public encoder makes of a capture: the same weights everywhere, shifted by each camera."""
    c, count = numbers.condition, len(seen)
    weights = child(0, "encoder").standard_normal((3, EMBEDDING)) / np.sqrt(3)
    shift = c.camera_sd * child(0, "cameras", member).standard_normal((CAMERAS, EMBEDDING))
    signal = np.column_stack(
        [seen.vehicles.condition, c.damage * seen.vehicles.damage, c.prudence * seen.people.traits[:, PRUDENCE]]
    )
    vectors: np.ndarray = (
        c.signal * signal @ weights + shift[camera] + c.noise * rng.standard_normal((count, EMBEDDING))
    )
    return vectors


def pictures(rng: np.random.Generator, seen: Sightings) -> np.ndarray:
    """Return (n, 3, 64, 64) bytes: painted panels with scratches and dents, more of them on a damaged vehicle."""
    count = len(seen)
    paint = rng.uniform(60, 210, (count, 3, 1, 1))
    light = np.linspace(1.12, 0.85, SIDE)[None, None, :, None] * rng.uniform(0.85, 1.15, (count, 1, 1, 1))
    image = paint * light + rng.normal(0, 4, (count, 3, SIDE, SIDE))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    marks = rng.poisson(1 + 12 * seen.vehicles.damage + np.maximum(-seen.vehicles.condition, 0))
    for place in range(int(marks.max(initial=0))):
        here = np.flatnonzero(marks > place)
        y, x, slope, radius = rng.uniform([4, 4, -1.5, 2], [60, 60, 1.5, 7], (here.size, 4)).T[:, :, None, None]
        scratch = (np.abs((rows - y) - slope * (columns - x)) < 1.2) & (np.abs(columns - x) < 3 * radius)
        dent = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * radius**2))
        dark = np.where(rng.random((here.size, 1, 1)) < 0.5, 90.0 * scratch, 60.0 * dent)
        image[here] -= dark[:, None]
    return np.clip(np.round(image), 0, 255).astype(np.uint8)
