"""The dense form of a modality: numbers on [-1, 1] by public constants, categories as one-hot."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from fedcredit.contract import Modality
from fedcredit.contract.columns import CategoryColumn, Column, Derived, Scale

DensePart: TypeAlias = Column | Derived
Numbers: TypeAlias = NDArray[np.float64]


def dense_parts(modality: Modality) -> tuple[DensePart, ...]:
    """Return what a dense model sees of a modality, in order."""
    return tuple(part for part in (*modality.columns, *modality.derived) if part.dense is not None)


def dense_names(part: DensePart) -> tuple[str, ...]:
    """Return the names of the layers of a part: itself and its missing flag, or one per category."""
    if isinstance(part, CategoryColumn):
        names = tuple(f"{part.name}={code}" for code, _ in part.values)
    else:
        names = (part.name,)
    return names if part.missing == "required" else (*names, f"{part.name} missing")


def dense_layers(part: DensePart, numbers: Numbers) -> list[NDArray[np.float32]]:
    """Return the layers of a part, each of the shape of ``numbers``; a missing cell is 0, its flag is 1."""
    missing = np.isnan(numbers)
    if isinstance(part, CategoryColumn):
        layers = [(numbers == position).astype(np.float32) for position in range(len(part.values))]
    else:
        layers = [scaled(numbers, part.dense)] if part.dense is not None else []
    return layers if part.missing == "required" else [*layers, missing.astype(np.float32)]


def scaled(numbers: Numbers, scale: Scale) -> NDArray[np.float32]:
    """Return ``numbers`` clipped to the scale's range and mapped onto [-1, 1]; a missing one becomes 0."""
    ends = np.array([scale.low, scale.high])
    clipped = np.clip(numbers, *ends)
    if scale.scale == "log":
        ends, clipped = _signed_log(ends), _signed_log(clipped)
    mapped: NDArray[np.float32] = np.nan_to_num(2.0 * (clipped - ends[0]) / (ends[1] - ends[0]) - 1.0).astype(
        np.float32
    )
    return mapped


def _signed_log(numbers: Numbers) -> Numbers:
    logarithms: Numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    return logarithms
