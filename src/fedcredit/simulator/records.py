"""What one institution has on its books in one block of the world, before anything is written down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.applications import Book
from fedcredit.simulator.people import People
from fedcredit.simulator.recovery import Recoveries
from fedcredit.simulator.repayment import CURRENT, LATE_3, Histories
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.vehicles import Vehicles


@dataclass(frozen=True, kw_only=True)
class Label:
    """What an institution means by its default label: ``label_map.toml``."""

    kind: str
    """def90, comp or cgi."""
    dpd_equiv: int
    lag_days: int
    """From the end of the event's month to the day on which the institution knows."""


@dataclass(frozen=True, kw_only=True)
class Records(Rows):
    """Loans or guarantees of one institution, declined applications among them."""

    institution: str
    kind: str
    """Type of the institution."""
    label: Label
    contract: np.ndarray
    """Tokens of 16 characters."""
    decision: np.ndarray
    """Day."""
    guaranteed: np.ndarray
    """A fund bears a share of the loss."""
    luck: np.ndarray
    """Uniform: decides by contract what a rule leaves open."""
    restructures: np.ndarray
    """The contract's cures from 61 days late and more are extensions."""
    book: Book
    histories: Histories
    recoveries: Recoveries

    def restructured(self, row: np.ndarray, month: np.ndarray) -> np.ndarray:
        """Return whether each contract was extended in a month on book, from 1 on."""
        states = self.histories.states
        flags: np.ndarray = (
            self.restructures[row] & (states[row, month - 1] == LATE_3) & (states[row, month] == CURRENT)
        )
        return flags


@dataclass(frozen=True, kw_only=True)
class Portfolio(Rows):
    """Motor policies of one insurer: one row per policy of the year that is modelled."""

    institution: str
    contract: np.ndarray
    start: np.ndarray
    """Day."""
    exposure: np.ndarray
    """Years; below 1 where the policy lapsed."""
    financed: np.ndarray
    """The vehicle is financed by a member."""
    person: np.ndarray
    people: People
    vehicles: Vehicles
    renewed: np.ndarray
    """There is a policy of the year before."""
    claims: np.ndarray
    """Number in the year."""
    earlier: np.ndarray
    """Number in the year before; 0 where not renewed."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """All institutions in one block: a complete small consortium with its own pool of persons."""

    number: int
    pool: int
    """Persons in the pool."""
    lenders: dict[str, Records]
    """Banks, auto-finance company, lessor and guarantee funds; and an insurer's credit-guarantee insurance."""
    insurers: dict[str, Portfolio]
