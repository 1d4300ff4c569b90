"""Tensors ↔ one vector, in named blocks that belong to a modality or to everybody.

An institution trains only the blocks it has data for, and the aggregation divides each block by the borrowers behind
it; both read which block belongs to whom from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fedcredit.encoding import digest


@dataclass(frozen=True, kw_only=True)
class ModalityShape:
    """The public shape of one modality's inputs."""

    kind: Literal["static", "sequence"]
    bins: tuple[int, ...]
    """Bins of each scorecard feature."""
    nominal: tuple[bool, ...] = ()
    """Per scorecard feature: its bins have no order of their own (categories and crosses); empty if all have one."""
    dense: tuple[int, ...]
    """Shape of one record for the network: ``(features,)`` or ``(steps, channels)``."""


ModelInputs = Mapping[str, ModalityShape]


@dataclass(frozen=True, kw_only=True)
class Block:
    """A named, contiguous part of the parameter vector."""

    name: str
    shape: tuple[int, ...]
    modality: str | None
    """The modality whose data train it; ``None`` for blocks that every institution trains."""

    @property
    def size(self) -> int:
        """Return the number of parameters."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class ParameterLayout:
    """The order of all blocks. Names are unique; exchanged vectors are checked against its size and digest."""

    blocks: tuple[Block, ...]

    def __post_init__(self) -> None:
        if len({block.name for block in self.blocks}) != len(self.blocks):
            raise ValueError("block names must be unique")

    @property
    def size(self) -> int:
        """Return the length of the parameter vector."""
        return sum(block.size for block in self.blocks)

    def slices(self) -> dict[str, slice]:
        """Return where each block lies in the vector."""
        places: dict[str, slice] = {}
        start = 0
        for block in self.blocks:
            places[block.name] = slice(start, start + block.size)
            start += block.size
        return places

    def trained_by(self, modalities: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return a mask of shape (size,): which parameters an institution with these modalities trains."""
        held = set(modalities)
        parts = [np.full(block.size, block.modality is None or block.modality in held) for block in self.blocks]
        return np.concatenate(parts)

    def split(self, vector: npt.NDArray[np.float64]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the blocks of a vector by name, each in its own shape (views)."""
        places = self.slices()
        return {block.name: vector[places[block.name]].reshape(block.shape) for block in self.blocks}

    def join(self, parts: Mapping[str, npt.NDArray[np.float64]]) -> npt.NDArray[np.float64]:
        """Return the vector of the named blocks; a missing or misshapen block raises ``ValueError``."""
        for block in self.blocks:
            if parts[block.name].shape != block.shape:
                raise ValueError(f"block {block.name} has shape {parts[block.name].shape}, expected {block.shape}")
        return np.concatenate([parts[block.name].reshape(-1) for block in self.blocks]).astype(np.float64)

    def digest(self) -> bytes:
        """Return SHA-256 over names, shapes and modalities in order."""
        return digest([[block.name, list(block.shape), block.modality] for block in self.blocks])
