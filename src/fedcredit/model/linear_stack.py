"""What all torch models have in common: they are stacks of Linear layers that tell what each layer saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.model.layout import ParameterLayout

Dense: TypeAlias = Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.float64]]
"""Per modality held: what the model's ``design`` returned."""


@dataclass(frozen=True, kw_only=True)
class LinearStep:
    """What a Linear layer saw and made: enough for exact per-borrower gradients."""

    weight: str
    """Block of the layer's weights."""
    bias: str | None
    """Block of its bias, if it has one."""
    inputs: torch.Tensor
    """(n, in) or (n, T, in)."""
    outputs: torch.Tensor
    """(n, out) or (n, T, out), before the activation; part of the autograd graph."""


class LinearStack(Protocol):
    """A functional model: parameters come as one float64 vector, nothing is kept between calls."""

    @property
    def layout(self) -> ParameterLayout:
        """The layout of its parameter vector."""
        ...

    def initial_weights(self, *, seed: int, base_rate: float) -> npt.NDArray[np.float64]:
        """Return the public starting point."""
        ...

    def design(
        self, modality: str, codes: npt.NDArray[np.int16], dense: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return what ``forward`` takes of one modality, from its bins (n, F) and dense numbers (n, ...)."""
        ...

    def forward(self, weights: torch.Tensor, dense: Dense) -> tuple[torch.Tensor, list[LinearStep]]:
        """Return logits of shape (n,) and the Linear steps in order."""
        ...


def probabilities(model: LinearStack, weights: npt.NDArray[np.float64], dense: Dense) -> npt.NDArray[np.float64]:
    """Return default probabilities, shape (n,)."""
    with torch.no_grad():
        logits, _ = model.forward(torch.from_numpy(np.array(weights, dtype=np.float64)), dense)
        result: npt.NDArray[np.float64] = torch.sigmoid(logits).numpy()
        return result
