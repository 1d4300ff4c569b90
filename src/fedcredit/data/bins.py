"""The scorecard form of a modality: which bins a feature has, and which one each row falls into."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedcredit.contract import Modality
from fedcredit.contract.columns import CategoryColumn, Derived, NumberColumn
from fedcredit.contract.schema import Cross

Numbers: TypeAlias = NDArray[np.float64]

MISSING_LABEL: Final = "missing"
"""Text of the last bin of a feature that may be missing."""


def bin_unit(modality: Modality, name: str) -> str:
    """Return the unit of a feature's edges; empty for a category or a cross."""
    feature = modality.binned(name)
    return feature.unit if isinstance(feature, NumberColumn | Derived) else ""


def is_nominal(modality: Modality, name: str) -> bool:
    """Return whether a feature's bins have no order of their own: a category or a cross."""
    return isinstance(modality.binned(name), CategoryColumn | Cross)


def bin_labels(modality: Modality, name: str) -> tuple[str, ...]:
    """Return the text of each bin of a scorecard feature, in the order of the codes."""
    feature = modality.binned(name)
    if isinstance(feature, Cross):
        left, right = (bin_labels(modality, part) for part in feature.of)
        return tuple(f"{one} | {other}" for one in left for other in right)
    if isinstance(feature, CategoryColumn):
        texts = tuple(text for _, text in feature.values)
    else:
        edges = [f"{edge:,.10g}" for edge in feature.grid]
        between = [f"{low} to < {high}" for low, high in itertools.pairwise(edges)]
        texts = (f"< {edges[0]}", *between, f">= {edges[-1]}")
    return texts if feature.missing == "required" else (*texts, MISSING_LABEL)


def bin_codes(modality: Modality, name: str, values: Mapping[str, Numbers]) -> NDArray[np.int16]:
    """Return the bin (n,) of a scorecard feature; edge e_i belongs to the bin above it, a missing cell to the last."""
    feature = modality.binned(name)
    if isinstance(feature, Cross):
        left, right = (bin_codes(modality, part, values) for part in feature.of)
        return left * np.int16(len(bin_labels(modality, feature.of[1]))) + right
    numbers = values[name]
    missing = np.isnan(numbers)
    if isinstance(feature, CategoryColumn):
        return np.where(missing, len(feature.values), np.nan_to_num(numbers)).astype(np.int16)
    return np.where(missing, len(feature.grid) + 1, np.digitize(numbers, feature.grid)).astype(np.int16)
