"""Vehicles and what they are worth over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.economy import BEV, COMM, ICE, PHEV, Economy
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import CONSUMER, DISHONESTY, LIQUIDITY, PRUDENCE, USAGE, People
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.seeds import tokens

FUELS = ("ICE", "HEV", "PHEV", "EREV", "BEV")
USES = ("private", "ride_hailing", "freight", "taxi", "other")


@dataclass(frozen=True, kw_only=True)
class Vehicles(Rows):
    """One row per vehicle, as it is on the day of the decision."""

    token: np.ndarray
    fuel: np.ndarray
    """Place in ``FUELS``."""
    price_class: np.ndarray
    """ICE, PHEV, BEV or COMM."""
    commercial: np.ndarray
    use: np.ndarray
    """Place in ``USES``."""
    used: np.ndarray
    age_m: np.ndarray
    """Months since the first registration; 0 for a new one."""
    list_price: np.ndarray
    km_year: np.ndarray
    condition: np.ndarray
    """Better above 0; within -3 and 3."""
    damage: np.ndarray
    """Share of value lost to earlier accidents."""
    past_claims: np.ndarray
    claim_rate: np.ndarray
    """Expected claims a year."""
    make: np.ndarray
    model: np.ndarray
    value: np.ndarray
    """CNY on the day of the decision."""
    appraised: np.ndarray
    """``value`` as the appraiser saw it."""


@dataclass(frozen=True, kw_only=True)
class VehicleMix:
    """Shares of a member's book; ``nev`` is the mean over the calendar."""

    used: float
    nev: float
    commercial: float


def draw_vehicles(
    rng: np.random.Generator, numbers: Section, people: People, mix: VehicleMix, month: np.ndarray
) -> Vehicles:
    """Return one vehicle per person, bought in ``month``."""
    count, v = len(people), numbers.vehicles
    commercial_odds = np.where(people.kind == CONSUMER, 0.5 * mix.commercial, min(1.0, 2.0 * mix.commercial))
    commercial = rng.random(count) < commercial_odds
    time = month / (numbers.calendar.lending_months - 1) * 2 - 1
    nev = rng.random(count) < np.clip(mix.nev * (1 + v.nev_growth * time), 0, 1)
    fuel = _fuels(rng, numbers, nev)
    used = rng.random(count) < mix.used
    price_class = np.where(commercial, COMM, np.array([ICE, ICE, PHEV, PHEV, BEV])[fuel])
    base = np.where(commercial, v.log_price_commercial, v.log_price)
    log_price = base + v.price_liquidity * people.traits[:, LIQUIDITY] + v.price_sd * rng.standard_normal(count)
    log_km = np.where(commercial, v.log_km_year_commercial, v.log_km_year)
    log_km = log_km + v.km_usage * people.traits[:, USAGE] + v.km_sd * rng.standard_normal(count)
    condition = v.condition_prudence * people.traits[:, PRUDENCE] + rng.standard_normal(count)
    age = np.where(used, np.maximum(1.0, rng.gamma(v.used_age_shape, v.used_age_scale, count)), 0.0)
    rate = claim_rates(numbers, people, commercial=commercial, nev=nev)
    claims = rng.poisson(rate * np.minimum(age / 12, 6))
    condition = np.clip(condition, -3, 3)
    damage = np.clip(v.claims_damage * claims + v.wear_damage * np.maximum(-condition, 0), 0, v.most_damage)
    damage = np.where(used, damage, 0.0)
    known = {
        "price_class": price_class, "age_m": age, "list_price": np.exp(log_price), "km_year": np.exp(log_km),
        "condition": condition, "damage": damage,
    }  # fmt: skip
    value = worth(numbers, **known, index_change=np.zeros(count))
    spread = np.where(used, v.appraisal_sd_used, v.appraisal_sd_new)
    return Vehicles(
        **known,
        token=tokens(rng, count),
        fuel=fuel,
        commercial=commercial,
        use=_uses(rng, commercial),
        used=used,
        past_claims=claims,
        claim_rate=rate,
        make=rng.integers(0, v.makes, count),
        model=rng.integers(0, v.models_of_make, count),
        value=value,
        appraised=value * np.exp(spread * rng.standard_normal(count)),
    )


def _fuels(rng: np.random.Generator, numbers: Section, nev: np.ndarray) -> np.ndarray:
    v, draw = numbers.vehicles, rng.random(nev.size)
    electric = np.where(draw < v.phev_share * v.erev_share, 3, np.where(draw < v.phev_share, 2, 4))
    return np.where(nev, electric, (draw < v.hev_share).astype(int))


def _uses(rng: np.random.Generator, commercial: np.ndarray) -> np.ndarray:
    draw = rng.random(commercial.size)
    working = np.where(draw < 0.72, 2, np.where(draw < 0.90, 4, 3))
    return np.where(commercial, working, np.where(draw < 0.05, 1, 0))


def claim_rates(numbers: Section, people: People, *, commercial: np.ndarray, nev: np.ndarray) -> np.ndarray:
    """Return the expected claims a year of each person's vehicle."""
    c = numbers.claims
    slope = c.prudence * people.traits[:, PRUDENCE] + c.usage * people.traits[:, USAGE]
    rate: np.ndarray = c.rate * np.exp(slope + c.young * (people.age < 26) + c.nev * nev + c.commercial * commercial)
    return rate


def worth(
    numbers: Section,
    *,
    price_class: np.ndarray,
    age_m: np.ndarray,
    list_price: np.ndarray,
    km_year: np.ndarray,
    condition: np.ndarray,
    damage: np.ndarray,
    index_change: np.ndarray,
) -> np.ndarray:
    """Return values in CNY at an age; ``index_change`` in log points since the list price was set."""
    v = numbers.vehicles
    log_value = -v.first_drop[price_class] * (age_m > 0) - v.depreciation[price_class] * age_m + index_change
    log_value -= v.km_price * np.clip((km_year - 15_000) / 10_000, -1, 4) * age_m / 12
    value: np.ndarray = list_price * np.exp(log_value - v.damage_price * damage + v.condition_price * condition)
    return value


def index_change(
    economy: Economy, vehicles: Vehicles, region: np.ndarray, start: np.ndarray, now: np.ndarray
) -> np.ndarray:
    """Return how the price index of class and region moved from month ``start`` to month ``now``, in log points."""
    national = economy.log_index[vehicles.price_class, now] - economy.log_index[vehicles.price_class, start]
    change: np.ndarray = national + economy.regional_index[region, now] - economy.regional_index[region, start]
    return change


def dishonest(people: People) -> np.ndarray:
    """Return who is more than a standard deviation dishonest."""
    flags: np.ndarray = people.traits[:, DISHONESTY] > 1
    return flags
