"""Boxes: daily values and five-minute readings."""

from __future__ import annotations

import numpy as np
import pytest

from fedcredit.simulator.columns import NO_DATE, SENSOR_GAP
from fedcredit.simulator.parameters import load_world
from fedcredit.simulator.sightings import of_records
from fedcredit.simulator.telematics import draw_days, drivers_of, tel_daily
from fedcredit.simulator.telematics_series import BINS, NEVER, five_minutes

NUMBERS = load_world("missing_modality").numbers
SEED = 11


@pytest.fixture(scope="module")
def seen(block):
    records = block.lenders["L1"].take(np.arange(60))
    return of_records(np.random.default_rng(1), NUMBERS, records, np.full(60, NO_DATE))


@pytest.fixture(scope="module")
def drivers(seen):
    return drivers_of(SEED, NUMBERS, seen)


def _series(drivers, seen, rows, **changes):
    rows = np.asarray(rows)
    asked = {"first": seen.day[rows] - 7, "days": 7, "abscond": np.full(rows.size, NEVER)} | changes
    return five_minutes(SEED, NUMBERS, drivers.take(rows), **asked).channels


def test_a_window_of_one_vehicle_is_the_same_alone_and_among_others(seen, drivers) -> None:
    together = draw_days(SEED, NUMBERS, drivers, seen.day - 90, 90)
    alone = draw_days(SEED, NUMBERS, drivers.take(np.array([17])), seen.day[[17]] - 30, 30)
    assert np.array_equal(alone.km[0], together.km[17, 60:])
    many, one = _series(drivers, seen, range(5)), _series(drivers, seen, [3])
    for name, values in one.items():
        assert np.array_equal(values[0], many[name][3]), name


def test_a_days_readings_add_up_to_its_kilometres(seen, drivers) -> None:
    rows = np.arange(60)
    series = five_minutes(
        SEED, NUMBERS, drivers, first=seen.day - 7, days=7, abscond=np.full(rows.size, NEVER)
    ).channels
    daily = draw_days(SEED, NUMBERS, drivers, seen.day - 7, 7).km
    heard = np.where(series["mask"] > 0, series["d_km"], 0).reshape(60, 7, BINS).sum(axis=2)
    # At most what was driven; a reading without signal is lost, and 150 km/h is the limit.
    assert (heard <= daily + 0.05).all()
    fastest = series["d_km"].reshape(60, 7, BINS).max(axis=2)
    quiet = (series["mask"].reshape(60, 7, BINS) > 0).all(axis=2) & (fastest < 12.4) & (heard > 0)
    assert quiet.sum() > 50
    assert np.allclose(heard[quiet], daily[quiet], atol=0.05)


def test_a_lost_reading_is_a_typed_gap_in_every_channel_but_the_mask(seen, drivers) -> None:
    series = _series(drivers, seen, range(40))
    lost = series["mask"] == 0
    assert 0.0005 < lost.mean() < 0.005
    for name, values in series.items():
        if name != "mask":
            assert (values[lost] == SENSOR_GAP).all(), name
            assert (values[~lost] >= 0).all(), name


def test_who_absconds_drives_away_and_soon_loses_the_signal(seen, drivers) -> None:
    rows, start = np.arange(40), 3 * BINS
    calm = _series(drivers, seen, rows)
    gone = _series(drivers, seen, rows, abscond=np.full(40, start))
    for name in calm:
        assert np.array_equal(calm[name][:, :start], gone[name][:, :start]), name
    after = slice(start + 24, start + 72)
    assert (gone["mask"][:, after] == 0).mean() > 0.2
    heard = np.where(gone["mask"] > 0, gone["dist_home_km"], np.nan)[:, start : start + 72]
    assert np.nanmax(heard, axis=1).min() > 100
    assert np.where(calm["mask"] > 0, calm["dist_home_km"], 0).max() < 100


def test_the_prudent_brake_less_and_the_control_shows_no_link(seen) -> None:
    prudence = seen.people.traits[:, 1]
    control = load_world("negative_control").numbers
    braking = {name: drivers_of(SEED, numbers, seen).brake for name, numbers in (("w", NUMBERS), ("c", control))}
    assert np.corrcoef(prudence, braking["w"])[0, 1] < -0.5
    assert abs(np.corrcoef(prudence, braking["c"])[0, 1]) < 0.45  # 3.5 standard errors of 60 vehicles


def test_a_window_ends_the_day_before_the_observation_and_gaps_are_typed(seen) -> None:
    [part] = tel_daily(SEED, NUMBERS, seen)
    day = np.asarray(part["day"]).reshape(60, 90)
    assert np.array_equal(day[:, -1], seen.day - 1)
    assert np.array_equal(day[:, 0], seen.day - 90)
    gap = np.asarray(part["gap_share"]) == 1.0
    km = np.asarray(part["km"])
    assert gap.any()
    assert (km[gap] == SENSOR_GAP).all()
    assert (km[~gap] >= 0).all()
