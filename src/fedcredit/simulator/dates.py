"""The calendar: months of the world and days since 1970, as integers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np

from fedcredit.simulator.parameters import Section

DECISION_LEAD = 3
"""Days from the decision to the payout."""


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """Turns months of the world into days. A day is the number of days since 1970-01-01."""

    first: np.datetime64

    @classmethod
    def of(cls, numbers: Section) -> Calendar:
        """Return the calendar of a world."""
        return cls(first=np.datetime64(numbers.calendar.first_month, "M"))

    def start(self, month: np.ndarray | int) -> np.ndarray:
        """Return the first day of each month."""
        days: np.ndarray = (self.first + np.asarray(month)).astype("datetime64[D]").astype(np.int64)
        return days

    def end(self, month: np.ndarray | int) -> np.ndarray:
        """Return the last day of each month."""
        return self.start(np.asarray(month) + 1) - 1

    def month(self, day: np.ndarray) -> np.ndarray:
        """Return the month of the world in which each day lies."""
        months = np.asarray(day).astype("datetime64[D]").astype("datetime64[M]") - self.first
        return months.astype(np.int64)

    def year(self, day: np.ndarray) -> np.ndarray:
        """Return the year of our reckoning."""
        years: np.ndarray = np.asarray(day).astype("datetime64[D]").astype("datetime64[Y]").astype(np.int64) + 1970
        return years


def iso(day: int) -> str:
    """Return a day as ISO 8601."""
    return date.fromordinal(day + date(1970, 1, 1).toordinal()).isoformat()


def monday(day: np.ndarray) -> np.ndarray:
    """Return the Monday on or before each day; 1970-01-01 was a Thursday."""
    result: np.ndarray = day - (day + 3) % 7
    return result
