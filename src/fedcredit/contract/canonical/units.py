"""Units that a column may be given in, and what one of them is in the unit of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_MONEY: Final = {"CNY": 1.0, "fen": 0.01, "k CNY": 1e3, "10k CNY": 1e4, "M CNY": 1e6, "100M CNY": 1e8}
_DIMENSIONS: Final[tuple[Mapping[str, float], ...]] = (
    _MONEY,
    {**{f"{unit}/month": size for unit, size in _MONEY.items()}, "CNY/year": 1 / 12, "10k CNY/year": 1e4 / 12},
    {"decimal": 1.0, "%": 0.01, "permille": 1e-3, "bp": 1e-4},
    {"kWh": 1.0, "Wh": 1e-3, "MWh": 1e3, "10k kWh": 1e4, "GWh": 1e6},
    {"km": 1.0, "m": 1e-3, "mile": 1.609344, "10k km": 1e4},
    {"months": 1.0, "years": 12.0, "days": 12 / 365.25, "quarters": 3.0},
    {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25},
    {"years": 1.0, "months": 1 / 12, "days": 1 / 365.25},
    {"minutes": 1.0, "seconds": 1 / 60, "hours": 60.0},
    {"hours": 1.0, "minutes": 1 / 60, "seconds": 1 / 3600, "days": 24.0},
    {"km/h": 1.0, "m/s": 3.6, "mile/h": 1.609344},
    {"m3": 1.0, "k m3": 1e3, "10k m3": 1e4, "litres": 1e-3},
    {"litres": 1.0, "ml": 1e-3, "gallon": 3.785411784},
    {"m2": 1.0, "k m2": 1e3, "10k m2": 1e4},
    {"m2/day": 1.0, "10k m2/day": 1e4, "m2/hour": 24.0},
    {"kgce/m2": 1.0, "gce/m2": 1e-3, "tce/m2": 1e3},
    {"kW": 1.0, "W": 1e-3, "MW": 1e3},
    {"m": 1.0, "cm": 0.01, "mm": 1e-3},
    {"mm": 1.0, "cm": 10.0, "1/32 inch": 25.4 / 32},
)
"""Per dimension the size of each unit, in the first one, which is that of the contract. Temperatures are degC only."""


def units_for(unit: str) -> Mapping[str, float]:
    """Return each unit that a column of this contract unit may be given in, with its size; at least itself."""
    return next((sizes for sizes in _DIMENSIONS if next(iter(sizes)) == unit), {unit: 1.0})


def likely_unit(median: float, *, unit: str, low: float, high: float) -> str | None:
    """Return the unit in which a ``median`` would lie within [low, high], and that differs from ``unit``.

    Of several the one that puts it nearest to the middle of the range on a logarithmic scale; none if none does.
    """
    middle = (max(low, high / 1e4) * high) ** 0.5
    fits = {
        name: abs_log_ratio(median * size, middle)
        for name, size in units_for(unit).items()
        if name != unit and low <= median * size <= high and median > 0
    }
    return min(fits, key=lambda name: fits[name]) if fits else None


def abs_log_ratio(one: float, other: float) -> float:
    """Return how many times larger the larger of two positive numbers is."""
    return max(one, other) / min(one, other)
