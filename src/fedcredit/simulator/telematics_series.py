"""The five-minute series of a vehicle: made when somebody asks, from the seed, the vehicle and the days.

200,000 vehicles with 8,640 readings a month do not fit on a disk. A series agrees with the vehicle's daily values: its
kilometres of a day are those of ``tel_daily``. The first readings of a window start at the vehicle's own anchor.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from fedcredit.simulator.columns import SENSOR_GAP
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import logistic
from fedcredit.simulator.seeds import child
from fedcredit.simulator.telematics import Drivers, draw_days

BINS = 288
"""Readings a day."""
HOUR = 12
"""Readings an hour."""
NEVER = -1
_SMOOTH = 6
_MOST_KM = 12.5
"""In five minutes: 150 km/h."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Twelve channels of (n, days * 288) readings; a reading without signal is -4 in all but ``mask``."""

    first: np.ndarray
    """First day of each window."""
    channels: dict[str, np.ndarray]


def five_minutes(
    seed: int, numbers: Section, drivers: Drivers, *, first: np.ndarray, days: int, abscond: np.ndarray
) -> Series:
    """Return the series of some vehicles.

    ``abscond`` holds, for each vehicle, the reading in which its driver begins to drive away for good, or ``NEVER``.
    """
    daily = draw_days(seed, numbers, drivers, first, days)
    normal, uniform = _noise(seed, drivers, first, days)
    hour = np.tile(np.arange(BINS) / HOUR, days)
    weekend = np.repeat((daily.day + 3) % 7 >= 5, BINS, axis=1)
    away = _away(numbers, abscond, hour.size)
    driving = _driving(numbers, drivers, normal[0], hour, weekend) | (
        away & (uniform[2] < numbers.telematics.abscond_drive)
    )
    km = _kilometres(driving, normal[1], daily.km, away, numbers)
    home = _distances(numbers, drivers, driving=driving, noise=normal[2], hour=hour, away=away, km=km)
    lost = uniform[0] < _loss(numbers, abscond, away)
    return Series(
        first=first,
        channels=_channels(drivers, driving=driving, km=km, home=home, lost=lost, normal=normal, uniform=uniform),
    )


def _noise(seed: int, drivers: Drivers, first: np.ndarray, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (4, n, readings) normals and (3, n, readings) uniforms."""
    normal = np.empty((4, len(drivers), days * BINS))
    uniform = np.empty((3, len(drivers), days * BINS))
    for row, (token, start) in enumerate(zip(drivers.token, first.tolist(), strict=True)):
        name = token.decode()
        for place in range(days):
            rng, at = child(seed, "bins", name, start + place), slice(place * BINS, (place + 1) * BINS)
            normal[:, row, at] = rng.standard_normal((4, BINS))
            uniform[:, row, at] = rng.random((3, BINS))
    return normal, uniform


def _driving(
    numbers: Section, drivers: Drivers, noise: np.ndarray, hour: np.ndarray, weekend: np.ndarray
) -> np.ndarray:
    """Return when the vehicle drives: smooth noise below the quantile of the hour's probability."""
    t = numbers.telematics
    peak = ((hour >= 7) & (hour < 9)) | ((hour >= 17) & (hour < 19))
    day = (hour >= 9) & (hour < 22)
    working = np.where((hour >= 6) & (hour < 21), t.commercial_day, t.commercial_night)
    private = np.where(peak, t.private_peak, np.where(day, t.private_day, t.private_night))
    leisure = np.where(peak | day, t.private_day, t.private_night)
    odds = np.where(drivers.commercial[:, None], working, np.where(weekend, leisure, private))
    odds = odds * _busy(numbers, drivers, odds)[:, None]
    levels, place = np.unique(odds, return_inverse=True)
    quantile = NormalDist().inv_cdf
    threshold = np.array([quantile(float(level)) for level in levels])[place].reshape(odds.shape)
    total = np.cumsum(noise, axis=1)
    lagged = np.zeros_like(total)
    lagged[:, _SMOOTH:] = total[:, :-_SMOOTH]
    width = np.minimum(np.arange(1, noise.shape[1] + 1), _SMOOTH)
    drives: np.ndarray = (total - lagged) / np.sqrt(width) < threshold
    return drives


def _busy(numbers: Section, drivers: Drivers, odds: np.ndarray) -> np.ndarray:
    """Return which part of the usual time each vehicle is driven, so that its daily kilometres take a usual speed."""
    t = numbers.telematics
    usual = np.where(drivers.commercial, t.km_bin_commercial, t.km_bin_private)
    share: np.ndarray = np.clip(drivers.km_day / (odds.mean(axis=1) * BINS * usual), 0.05, 1.0)
    return share


def _kilometres(
    driving: np.ndarray, noise: np.ndarray, daily: np.ndarray, away: np.ndarray, numbers: Section
) -> np.ndarray:
    """Return kilometres a reading; a day's ordinary driving sums up to its daily value, unless that is too fast."""
    weight = np.where(driving & ~away, np.exp(0.35 * noise), 0.0)
    by_day = weight.reshape(*daily.shape, BINS)
    total = by_day.sum(axis=2, keepdims=True)
    share = np.divide(by_day, total, out=np.zeros_like(by_day), where=total > 0)
    ordinary = np.minimum(share * daily[..., None], _MOST_KM).reshape(driving.shape)
    km: np.ndarray = np.where(away & driving, numbers.telematics.abscond_km, ordinary)
    return km


def _distances(
    numbers: Section,
    drivers: Drivers,
    *,
    driving: np.ndarray,
    noise: np.ndarray,
    hour: np.ndarray,
    away: np.ndarray,
    km: np.ndarray,
) -> np.ndarray:
    """Return the distance to the anchor: a pulled walk while driving, drawn home at night, outward when absconding."""
    t = numbers.telematics
    night = (hour >= 23) | (hour < 5)
    keep = np.where(drivers.commercial, t.return_commercial, t.return_private)
    # One reading: x -> factor * x + push; parked by day the vehicle stays where it is.
    factor = np.where(driving, 1 - t.home_pull, 1.0) * np.where(night, keep[:, None], 1.0)
    push = np.where(driving & (km > 0), t.home_sd * noise, 0.0)
    fleeing = away & driving
    factor, push = np.where(away, 1.0, factor), np.where(fleeing, km, np.where(away, 0.0, push))
    path = np.empty((driving.shape[1], driving.shape[0]))
    place = np.zeros(driving.shape[0])
    for step, (by, add, flight) in enumerate(zip(factor.T, push.T, fleeing.T, strict=True)):
        place = by * place + np.where(flight, np.copysign(add, place), add)
        path[step] = place
    distance: np.ndarray = np.abs(path.T)
    return distance


def _away(numbers: Section, abscond: np.ndarray, readings: int) -> np.ndarray:
    since = np.arange(readings)[None, :] - abscond[:, None]
    within: np.ndarray = (abscond[:, None] != NEVER) & (since >= 0) & (since < numbers.telematics.abscond_hours * HOUR)
    return within


def _loss(numbers: Section, abscond: np.ndarray, away: np.ndarray) -> np.ndarray:
    t = numbers.telematics
    since = np.arange(away.shape[1])[None, :] - abscond[:, None]
    fleeing = np.where(since < 2 * HOUR, t.abscond_loss_early, t.abscond_loss_late)
    odds: np.ndarray = np.where(away, fleeing, t.loss_per_bin)
    return odds


def _channels(
    drivers: Drivers,
    *,
    driving: np.ndarray,
    km: np.ndarray,
    home: np.ndarray,
    lost: np.ndarray,
    normal: np.ndarray,
    uniform: np.ndarray,
) -> dict[str, np.ndarray]:
    moved, electric = km > 0, drivers.electric[:, None]
    mean = km * HOUR
    harsh = km / 100
    used = np.cumsum(km, axis=1) / 380
    power = np.where(electric, 0.25 * mean, 900 + 22 * mean)
    moving = np.abs(np.diff(home, axis=1, prepend=home[:, :1])) > 2.4
    values = {
        "speed_mean": np.round(mean, 1),
        "speed_max": np.round(np.minimum(mean * (1.15 + 0.3 * uniform[1]), 190), 1),
        "d_km": np.round(km, 4),
        "ign": driving.astype(float),
        "n_hb": (uniform[1] < harsh * np.exp(drivers.brake)[:, None]).astype(float),
        "n_ha": (uniform[2] < harsh * np.exp(drivers.accelerate)[:, None]).astype(float),
        "fuel_or_soc": np.round(0.12 + 0.85 * (1 - (used + 0.3 * logistic(normal[0, :, :1])) % 1), 4),
        "volt": np.round(np.where(driving, 13.9, 12.5) + 0.12 * normal[3], 2),
        "rpm_or_power": np.where(driving, np.round(np.maximum(power + 3 * normal[1], 0), 0), 0.0),
        "dist_home_km": np.round(home, 2),
        "cell_change": (moved & moving).astype(float),
    }
    channels = {name: np.where(lost, SENSOR_GAP, column) for name, column in values.items()}
    return channels | {"mask": (~lost).astype(float)}
