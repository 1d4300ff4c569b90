"""Plain logistic regression on the dense inputs: the smallest model of the engine, used for comparisons."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.model.layout import Block, ModelInputs, ParameterLayout
from fedcredit.model.linear_stack import Dense, LinearStep
from fedcredit.model.scorecard import logit


class LogisticRegression:
    """One weight per dense input and one bias; absent modalities contribute nothing."""

    additive: Final = True

    def __init__(self, inputs: ModelInputs) -> None:
        blocks = [
            Block(name=f"{name}.weight", shape=(1, math.prod(shape.dense)), modality=name)
            for name, shape in inputs.items()
        ]
        self.layout: Final = ParameterLayout((*blocks, Block(name="bias", shape=(1,), modality=None)))
        self._places = self.layout.slices()

    def initial_weights(self, *, seed: int, base_rate: float) -> npt.NDArray[np.float64]:
        """Return the public starting point: the base rate for all, whatever the seed (the loss is convex)."""
        weights = np.zeros(self.layout.size)
        weights[self._places["bias"]] = logit(base_rate)
        return weights

    def design(
        self, modality: str, codes: npt.NDArray[np.int16], dense: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the dense numbers as they are."""
        return dense

    def forward(self, weights: torch.Tensor, dense: Dense) -> tuple[torch.Tensor, list[LinearStep]]:
        """Return logits of shape (n,) and the Linear steps; the bias is a step whose input is 1."""
        rows = len(next(iter(dense.values())))
        steps: list[LinearStep] = []
        total = torch.zeros(rows, 1, dtype=torch.float64)
        for name, values in dense.items():
            flat = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)).flatten(1)
            outputs = flat @ weights[self._places[f"{name}.weight"]].unsqueeze(1)
            steps.append(LinearStep(weight=f"{name}.weight", bias=None, inputs=flat, outputs=outputs))
            total = total + outputs
        bias = weights[self._places["bias"]].expand(rows, 1)
        ones = torch.ones(rows, 1, dtype=torch.float64)
        steps.append(LinearStep(weight="bias", bias=None, inputs=ones, outputs=bias))
        return (total + bias).squeeze(-1), steps
