"""Stress of the nation and its regions, and the prices of vehicles, month by month."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.parameters import Section
from fedcredit.simulator.seeds import child

ICE, PHEV, BEV, COMM = range(4)
"""Places of the price classes."""


@dataclass(frozen=True, kw_only=True)
class Economy:
    """Paths over the months of the calendar."""

    stress: np.ndarray
    """(regions, months); long-run variance one, apart from the script."""
    national: np.ndarray
    """(months,)"""
    log_index: np.ndarray
    """(classes, months); 0 before the first month."""
    regional_index: np.ndarray
    """(regions, months); log points about the national index."""


def draw_economy(seed: int, numbers: Section) -> Economy:
    """Return the economy of a seed. Two worlds of one seed share the shocks and differ in the script only."""
    rng = child(seed, "economy")
    economy, prices = numbers.economy, numbers.prices
    months, regions, classes = numbers.calendar.snapshot_month, len(numbers.regions.codes), len(prices.classes)
    national = _autoregression(rng, (1, months), economy.national_persistence)[0]
    regional = _autoregression(rng, (regions, months), economy.regional_persistence)
    start, length = economy.recession_start, economy.recession_months
    # The window's inner points: hanning(n) itself is zero at both ends.
    national[start : start + length] += economy.recession_height * np.hanning(length + 2)[1:-1]
    share = economy.national_share
    stress = np.sqrt(share) * national + np.sqrt(1 - share) * regional
    shocks = rng.standard_normal((classes, months)) * prices.sd[:, None]
    change = np.diff(national, prepend=national[0])
    steps = prices.drift[:, None] + shocks + prices.stress_beta[:, None] * change
    for month, jump in zip(prices.jump_months, (prices.first_jump, prices.second_jump), strict=True):
        steps[:, month] += jump
    local = _autoregression(rng, (regions, months), economy.regional_persistence) * prices.regional_sd
    return Economy(stress=stress, national=national, log_index=np.cumsum(steps, axis=1), regional_index=local)


def _autoregression(rng: np.random.Generator, shape: tuple[int, int], persistence: float) -> np.ndarray:
    noise = rng.standard_normal(shape)
    path = np.empty(shape)
    path[:, 0] = noise[:, 0]
    spread = np.sqrt(1 - persistence**2)
    for month in range(1, shape[1]):
        path[:, month] = persistence * path[:, month - 1] + spread * noise[:, month]
    return path
