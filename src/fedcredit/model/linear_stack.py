"""What all torch models have in common: they are stacks of Linear layers that tell what each layer saw."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.model.layout import ParameterLayout

Dense: TypeAlias = Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.float64]]
"""Per modality held: what the model's ``design`` returned."""
NUMBERS_AT_ONCE: Final = 2**21
"""Numbers that the layers of a model may make before some are added up: 16 MiB, and a few times that in passing.

Larger slices leave the processor's caches and make the system hand out fresh pages; smaller ones repeat the calls.
"""


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

    @property
    def additive(self) -> bool:
        """Whether a logit is the sum of all steps' outputs, each (n, 1): then its derivative by each of them is 1."""
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


def borrowers_at_once(model: LinearStack, dense: Dense) -> int:
    """Return how many borrowers to take at a time, at least one, so that memory does not grow with their number.

    It follows from the shapes of the layers alone, never from what the records hold or how many there are.
    """
    with torch.no_grad():
        _, steps = model.forward(
            torch.zeros(model.layout.size, dtype=torch.float64), {name: part[:0] for name, part in dense.items()}
        )
    return max(1, NUMBERS_AT_ONCE // sum(_numbers(step) for step in steps))


def _numbers(step: LinearStep) -> int:
    """Return the numbers that a layer makes per borrower: outputs, with a time axis also windows and a gradient."""
    outputs = math.prod(step.outputs.shape[1:])
    if step.inputs.dim() == 2:  # the record itself, or outputs that are counted already
        return outputs
    return outputs + math.prod(step.inputs.shape[1:]) + step.outputs.shape[-1] * step.inputs.shape[-1]


def probabilities(model: LinearStack, weights: npt.NDArray[np.float64], dense: Dense) -> npt.NDArray[np.float64]:
    """Return default probabilities, shape (n,)."""
    vector = torch.from_numpy(np.array(weights, dtype=np.float64))
    rows = len(next(iter(dense.values())))
    at_once = borrowers_at_once(model, dense)
    result = np.empty(rows)
    with torch.no_grad():
        for first in range(0, rows, at_once):
            here = slice(first, first + at_once)
            logits, _ = model.forward(vector, {name: part[here] for name, part in dense.items()})
            result[here] = torch.sigmoid(logits).numpy()
    return result
