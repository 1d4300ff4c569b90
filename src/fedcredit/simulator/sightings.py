"""Which vehicles an institution has data about, and for which days of observation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.columns import NO_DATE
from fedcredit.simulator.dates import Calendar
from fedcredit.simulator.parameters import Section
from fedcredit.simulator.people import DISHONESTY, People, logistic
from fedcredit.simulator.records import Portfolio, Records
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.vehicles import Vehicles


@dataclass(frozen=True, kw_only=True)
class Sightings(Rows):
    """One row per vehicle of an institution, each once."""

    people: People
    vehicles: Vehicles
    day: np.ndarray
    """Of the decision, or of the policy's start."""
    later: np.ndarray
    """Day of the observation during the contract, or ``NO_DATE``."""
    live: np.ndarray
    """The contract exists: not declined."""
    fraud: np.ndarray
    miss: np.ndarray
    """Day of the first missed payment, or ``NO_DATE``."""
    luck: np.ndarray
    """(n, 8) uniform: which modalities the institution holds of the vehicle."""

    def covered(self, place: int, share: float) -> np.ndarray:
        """Return which vehicles a modality of that share covers; ``place`` names the modality's own luck."""
        flags: np.ndarray = self.live & (self.luck[:, place] < share)
        return flags


def of_records(rng: np.random.Generator, numbers: Section, records: Records, later: np.ndarray) -> Sightings:
    """Return the vehicles behind loans and guarantees; ``later`` as in ``Sightings``."""
    calendar, terms = Calendar.of(numbers), records.book.terms
    first = records.histories.first_miss
    # An instalment is due on the payout's day of the month.
    miss = calendar.start(terms.month + first) + terms.day
    return _once(
        Sightings(
            people=records.book.people,
            vehicles=records.book.vehicles,
            day=records.decision,
            later=later,
            live=terms.accepted,
            fraud=terms.fraud,
            miss=np.where(first > 0, miss, NO_DATE),
            luck=rng.random((len(records), 8)),
        )
    )


def of_portfolio(rng: np.random.Generator, portfolio: Portfolio) -> Sightings:
    """Return the insured vehicles."""
    count = len(portfolio)
    nothing = np.full(count, NO_DATE)
    return _once(
        Sightings(
            people=portfolio.people,
            vehicles=portfolio.vehicles,
            day=portfolio.start - 1,
            later=nothing,
            live=np.ones(count, dtype=bool),
            fraud=np.zeros(count, dtype=bool),
            miss=nothing,
            luck=rng.random((count, 8)),
        )
    )


def together(parts: list[Sightings]) -> Sightings:
    """Return the vehicles of several books of one institution, each once; the first book's wins."""
    return _once(Sightings.stack(parts))


def plugged_until(numbers: Section, seen: Sightings, window: int) -> np.ndarray:
    """Return after how many days of its window each vehicle's box is unplugged; ``window`` where it never is."""
    t = numbers.telematics
    odds = logistic(t.unplugged_mean + t.unplugged_dishonesty * seen.people.traits[:, DISHONESTY])
    days = np.floor(seen.luck[:, 6] / np.maximum(odds, 1e-9) * window)
    return np.where(seen.luck[:, 6] < odds, days, window).astype(int)


def _once(seen: Sightings) -> Sightings:
    _, first = np.unique(seen.vehicles.token, return_index=True)
    return seen.take(np.sort(first))
