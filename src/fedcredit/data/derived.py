"""Features made from one row: a contract names the function, here is what it means.

Every function is row-wise: what it gives for a borrower depends on that borrower's cells alone, so using it releases
nothing. A name's meaning never changes, because the contract's digest covers the name only; a new meaning gets a new
name. Arrays are float64 with NaN for a missing cell: (n, T) per channel, oldest step first, or (n,) per column.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]

_LARGEST: Final = 1e300


def same(column: Numbers) -> Numbers:
    """Return the column itself, to give it a second, coarser grid."""
    return column


def latest(channel: Numbers) -> Numbers:
    """Return the newest step."""
    return channel[:, -1]


def previous(channel: Numbers) -> Numbers:
    """Return the step before the newest."""
    return channel[:, -2]


def highest(channel: Numbers) -> Numbers:
    """Return the largest step; a row with a missing step is missing."""
    largest: Numbers = channel.max(axis=1)
    return largest


def mean(channel: Numbers) -> Numbers:
    """Return the mean over the steps; a row with a missing step is missing."""
    average: Numbers = channel.mean(axis=1)
    return average


def count_positive(channel: Numbers) -> Numbers:
    """Return how many steps are above zero; a row with a missing step is missing."""
    return _unless_missing(channel, (channel > 0).sum(axis=1))


def count_zero(channel: Numbers) -> Numbers:
    """Return how many steps are exactly zero; a row with a missing step is missing."""
    return _unless_missing(channel, (channel == 0).sum(axis=1))


def steps_since_positive(channel: Numbers) -> Numbers:
    """Return how many steps ago the channel was last above zero: 0 for the newest, T if it never was."""
    positive = channel[:, ::-1] > 0
    return _unless_missing(channel, np.where(positive.any(axis=1), positive.argmax(axis=1), channel.shape[1]))


def ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole, cell by cell, at most 1e300 either way; missing where the whole is not above zero."""
    with np.errstate(over="ignore"):  # a whole just above zero: the quotient is cut off below
        quotient: Numbers = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return np.clip(quotient, -_LARGEST, _LARGEST)


def latest_ratio(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole of the newest step; missing where that whole is not above zero."""
    return ratio(part[:, -1], whole[:, -1])


def ratio_change(part: Numbers, whole: Numbers) -> Numbers:
    """Return part / whole of the newest step minus that of the oldest."""
    return latest_ratio(part, whole) - ratio(part[:, 0], whole[:, 0])


def repaid_share(payment: Numbers, bill: Numbers) -> Numbers:
    """Return all payments but the oldest over all positive bills but the newest.

    A payment settles the bill of the step before it. Missing where nothing was owed.
    """
    owed = np.maximum(bill[:, :-1], 0.0).sum(axis=1)
    return ratio(payment[:, 1:].sum(axis=1), owed)


@dataclass(frozen=True)
class Derivation:
    """A function with the number of its inputs, what they are and what it gives."""

    function: Callable[..., Numbers]
    inputs: int
    kind: Literal["any", "sequence"]
    """``any`` takes columns or channels and keeps their shape; ``sequence`` makes one number of a channel's steps."""


DERIVATIONS: Final[Mapping[str, Derivation]] = MappingProxyType(
    {
        "same": Derivation(same, 1, "any"),
        "ratio": Derivation(ratio, 2, "any"),
        "latest": Derivation(latest, 1, "sequence"),
        "previous": Derivation(previous, 1, "sequence"),
        "highest": Derivation(highest, 1, "sequence"),
        "mean": Derivation(mean, 1, "sequence"),
        "count_positive": Derivation(count_positive, 1, "sequence"),
        "count_zero": Derivation(count_zero, 1, "sequence"),
        "steps_since_positive": Derivation(steps_since_positive, 1, "sequence"),
        "latest_ratio": Derivation(latest_ratio, 2, "sequence"),
        "ratio_change": Derivation(ratio_change, 2, "sequence"),
        "repaid_share": Derivation(repaid_share, 2, "sequence"),
    }
)


def _unless_missing(channel: Numbers, counted: NDArray[np.integer]) -> Numbers:
    return np.where(np.isnan(channel).any(axis=1), np.nan, counted.astype(np.float64))
