"""What a telematics box says of a vehicle, day by day: table tel_daily.

Noise comes from the seed, the vehicle and the day, so that any window of any vehicle can be drawn alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.columns import NO_DATE, NOT_APPLICABLE, SENSOR_GAP, Coded, Columns
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import LIQUIDITY, PRUDENCE, logistic
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.seeds import child
from fedcredit.simulator.sightings import Sightings, plugged_until
from fedcredit.simulator.vehicles import FUELS

_BLOCK = 128
"""Days whose noise is drawn together."""
_NORMALS, _UNIFORMS = 9, 6
_AT_ONCE = 2_000
"""Vehicles whose windows are in memory together."""
_FIRST_ELECTRIC = FUELS.index("PHEV")


@dataclass(frozen=True, kw_only=True)
class Drivers(Rows):
    """How each vehicle is driven; constant over its life."""

    token: np.ndarray
    commercial: np.ndarray
    electric: np.ndarray
    km_day: np.ndarray
    km_cv: np.ndarray
    brake: np.ndarray
    """Log of harsh brakes in 100 km."""
    accelerate: np.ndarray
    night: np.ndarray
    """Log odds of driving at night."""
    speed: np.ndarray
    """Log per cent above the limit."""
    gap: np.ndarray
    tamper: np.ndarray
    """Alarms of tampering a day."""
    miss: np.ndarray
    """Day of the first missed payment, or ``NO_DATE``."""


def drivers_of(seed: int, numbers: Section, seen: Sightings) -> Drivers:
    """Return the drivers of vehicles; each one's noise depends on the seed and its token only."""
    t, v = numbers.telematics, numbers.vehicles
    noise = np.stack([child(seed, "driver", token.decode()).standard_normal(7) for token in seen.vehicles.token])
    prudence, commercial = seen.people.traits[:, PRUDENCE], seen.vehicles.commercial
    centre = np.where(commercial, v.log_km_year_commercial, v.log_km_year)
    usage = t.km_usage * (np.log(seen.vehicles.km_year) - centre)
    own = (1 - t.km_usage) * v.km_sd * noise[:, 6]
    return Drivers(
        token=seen.vehicles.token,
        commercial=commercial,
        electric=seen.vehicles.fuel >= _FIRST_ELECTRIC,
        km_day=np.exp(centre + usage + own) / 365,
        km_cv=np.exp(t.km_cv_mean + t.km_cv_liquidity * seen.people.traits[:, LIQUIDITY] + t.km_cv_noise * noise[:, 4]),
        brake=t.brake_mean + t.brake_prudence * prudence + t.brake_noise * noise[:, 0],
        accelerate=t.accelerate_mean + t.accelerate_prudence * prudence + t.accelerate_noise * noise[:, 1],
        night=t.night_mean
        + t.night_prudence * prudence
        + t.night_commercial * commercial
        + t.night_noise * noise[:, 2],
        speed=t.speed_mean + t.speed_prudence * prudence + t.speed_noise * noise[:, 3],
        gap=t.gap_mean * np.exp(0.6 * noise[:, 5]),
        tamper=0.002 * np.exp(t.tamper_fraud * seen.fraud),
        miss=seen.miss,
    )


@dataclass(frozen=True, kw_only=True)
class Days:
    """Windows of daily values, one row per vehicle; arrays are (n, days)."""

    day: np.ndarray
    km: np.ndarray
    distress: np.ndarray
    """The driver is 60 to 20 days before a first missed payment."""
    normal: np.ndarray
    uniform: np.ndarray


def draw_days(seed: int, numbers: Section, drivers: Drivers, first: np.ndarray, days: int) -> Days:
    """Return ``days`` days from ``first`` on, for each vehicle."""
    t = numbers.telematics
    day = first[:, None] + np.arange(days)
    normal, uniform = _noise(seed, drivers, first, days)
    ahead = drivers.miss[:, None] - day
    distress = (drivers.miss[:, None] != NO_DATE) & (ahead <= t.distress_far) & (ahead >= t.distress_near)
    weekend = (day + 3) % 7 >= 5
    rest = np.where(drivers.commercial, 0.06, 0.10)[:, None]
    cv = drivers.km_cv[:, None]
    km = drivers.km_day[:, None] * np.exp(cv * normal[..., 0] - cv**2 / 2)
    km = km * np.where(weekend & ~drivers.commercial[:, None], 0.85, 1.06)
    # Between -15 and -35 % for most drivers in distress.
    km = km * np.where(distress, np.clip(1 + t.distress_km * (1 + 0.2 * normal[..., 8]), 0.2, 1.0), 1.0)
    km = np.where(uniform[..., 0] < rest, 0.0, np.minimum(km, 1_800.0))
    return Days(day=day, km=km, distress=distress, normal=normal, uniform=uniform)


def _noise(seed: int, drivers: Drivers, first: np.ndarray, days: int) -> tuple[np.ndarray, np.ndarray]:
    normal = np.empty((len(drivers), days, _NORMALS))
    uniform = np.empty((len(drivers), days, _UNIFORMS))
    for row, (token, start) in enumerate(zip(drivers.token, first.tolist(), strict=True)):
        place = 0
        while place < days:
            block, offset = divmod(start + place, _BLOCK)
            length = min(_BLOCK - offset, days - place)
            rng = child(seed, "days", token.decode(), block)
            normal[row, place : place + length] = rng.standard_normal((_BLOCK, _NORMALS))[offset : offset + length]
            uniform[row, place : place + length] = rng.random((_BLOCK, _UNIFORMS))[offset : offset + length]
            place += length
    return normal, uniform


def tel_daily(seed: int, numbers: Section, seen: Sightings) -> list[Columns]:
    """Return the windows before each application and before each observation during a contract, in parts."""
    t, parts = numbers.telematics, []
    observed = seen.later != NO_DATE
    for rows, last, days in (
        (seen, seen.day - 1, t.window_days),
        (seen.take(observed), seen.later[observed] - 1, t.behaviour_days),
    ):
        for start in range(0, len(rows), _AT_ONCE):
            some = np.arange(start, min(start + _AT_ONCE, len(rows)))
            parts.append(_window(seed, numbers, rows.take(some), last[some] - days + 1, days))
    return parts


def _window(seed: int, numbers: Section, seen: Sightings, first: np.ndarray, days: int) -> Columns:
    drivers = drivers_of(seed, numbers, seen)
    window = draw_days(seed, numbers, drivers, first, days)
    place = np.arange(days)[None, :]
    silent = (window.uniform[..., 1] < 0.01) | (place >= plugged_until(numbers, seen, days)[:, None])
    columns = _signals(numbers, drivers, window)
    shape = window.km.shape
    flat: Columns = {}
    for name, values in columns.items():
        flat[name] = np.where(silent, SENSOR_GAP, np.broadcast_to(values, shape)).ravel()
    gap = np.clip(drivers.gap[:, None] * np.exp(0.8 * window.normal[..., 6]), 0, 0.9)
    event = np.where((place == 0) & (first[:, None] == window.day), 1, 0)
    return flat | {
        "vin_tok": Coded(codes=np.repeat(np.arange(len(seen)), days), words=seen.vehicles.token),
        "day": window.day.ravel(),
        "device_event": Coded.of(event.ravel(), ("none", "install")),
        "gap_share": np.where(silent, 1.0, np.round(gap, 4)).ravel(),
    }


def _signals(numbers: Section, drivers: Drivers, window: Days) -> dict[str, np.ndarray]:
    t, km, e, u = numbers.telematics, window.km, window.normal, window.uniform
    moved, electric = km > 0, drivers.electric[:, None]
    minutes = np.minimum(km / np.where(drivers.commercial, 48.0, 33.0)[:, None] * 60 * np.exp(0.15 * e[..., 1]), 1_300)
    off = np.clip(
        0.02 + 0.05 * drivers.commercial[:, None] + 0.03 * e[..., 7] + t.distress_region * window.distress, 0, 1
    )
    brake = np.exp(drivers.brake[:, None] + 0.25 * e[..., 3])
    accelerate = np.exp(drivers.accelerate[:, None] + 0.25 * e[..., 4])
    night = logistic(drivers.night[:, None] + 0.4 * e[..., 2])
    speeding = np.exp(drivers.speed[:, None] + 0.3 * e[..., 5]) / 100
    trips = 1 + np.floor(km / 14 * (0.6 + 0.8 * u[..., 2]))
    stop = np.clip(24 - minutes / 60, 0, 24) * (0.35 + 0.5 * u[..., 3])

    def driven(values: np.ndarray) -> np.ndarray:
        return np.where(moved, values, NOT_APPLICABLE)

    return {
        "km": np.round(km, 1),
        "drive_min": np.round(minutes, 0),
        "night_share": driven(np.round(night, 4)),
        "harsh_brake_100km": driven(np.round(np.minimum(brake, 400), 3)),
        "harsh_acc_100km": driven(np.round(np.minimum(accelerate, 400), 3)),
        "overspeed_share": driven(np.round(np.clip(speeding, 0, 1), 5)),
        "n_trips": np.where(moved, np.minimum(trips, 120), 0),
        "radius_gyr_km": np.round(0.6 * km**0.8, 2),
        "off_region_share": driven(np.round(off, 4)),
        "home_stay_share": np.round(np.clip(0.62 - minutes / 2_400 + 0.06 * e[..., 7], 0, 1), 4),
        "max_stop_h": np.round(stop, 2),
        "signal_lost_n": np.floor(np.log(np.maximum(u[..., 4], 1e-12)) / np.log(0.25)),
        "tamper_n": (u[..., 5] < drivers.tamper[:, None]).astype(float),
        "charge_n": np.where(electric, np.floor(km / 120 + u[..., 2]), NOT_APPLICABLE),
        "refuel_l": np.where(electric, NOT_APPLICABLE, np.where(u[..., 3] < km / 500, 42.0, 0.0)),
        "soc_min": np.where(electric, np.round(np.clip(0.9 - km / 420 - 0.3 * u[..., 2], 0.05, 1), 3), NOT_APPLICABLE),
        "dtc_n": (u[..., 3] > 0.985).astype(float),
        "idle_share": np.round(np.clip(0.12 + 0.05 * e[..., 7], 0, 0.8), 4),
    }
