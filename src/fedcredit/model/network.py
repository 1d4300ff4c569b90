"""The network: one encoder per modality, masked fusion, one head for the probability of default.

    static    (n, p)      Linear → tanh
    sequence  (n, T, c)   Linear over windows of three steps (a convolution) → tanh → mean over time
    fusion                mean of the embeddings that are present → Linear → tanh → Linear → logit

Every layer is a Linear layer, with or without a time axis, so per-borrower gradient norms have a closed form. There
is no batch normalisation (it mixes borrowers) and no recurrence (slow per borrower). A record may hold any non-empty
subset of the modalities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.model.layout import Block, ModelInputs, ParameterLayout
from fedcredit.model.linear_stack import Dense, LinearStep
from fedcredit.model.scorecard import logit

WINDOW: Final = 3


class MultimodalNetwork:
    """A functional network: parameters come as one float64 vector, nothing is kept between calls."""

    def __init__(self, inputs: ModelInputs, *, width: int) -> None:
        self._inputs = dict(inputs)
        self._width = width
        blocks: list[Block] = []
        for name, shape in inputs.items():
            if shape.kind == "sequence" and shape.dense[0] < WINDOW:
                raise ValueError(f"a sequence needs at least {WINDOW} steps")
            fan_in = shape.dense[0] if shape.kind == "static" else WINDOW * shape.dense[1]
            blocks += _linear_blocks(f"{name}.encoder", fan_in, width, name)
        blocks += _linear_blocks("fusion", width, width, None)
        blocks += _linear_blocks("head", width, 1, None)
        self.layout: Final = ParameterLayout(tuple(blocks))

    def initial_weights(self, *, seed: int, base_rate: float) -> npt.NDArray[np.float64]:
        """Return the public starting point: Glorot-uniform weights from a public seed, the head's bias at the rate."""
        generator = np.random.default_rng(seed)
        parts = {}
        for block in self.layout.blocks:
            if len(block.shape) == 1:
                parts[block.name] = np.zeros(block.shape)
            else:
                bound = math.sqrt(6 / sum(block.shape))
                parts[block.name] = generator.uniform(-bound, bound, size=block.shape)
        parts["head.bias"][:] = logit(base_rate)
        return self.layout.join(parts)

    def forward(self, weights: torch.Tensor, dense: Dense) -> tuple[torch.Tensor, list[LinearStep]]:
        """Return logits of shape (n,) and the Linear steps in order.

        Args:
            weights: (layout.size,) float64.
            dense: the modalities these records hold; the same for all of them.
        """
        parameters = self._named(weights)
        steps: list[LinearStep] = []
        embeddings = [
            self._encode(name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)), parameters, steps)
            for name, values in dense.items()
        ]
        fused = torch.stack(embeddings).mean(dim=0)
        hidden = torch.tanh(_apply("fusion", fused, parameters, steps))
        return _apply("head", hidden, parameters, steps).squeeze(-1), steps

    def _named(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        places = self.layout.slices()
        return {block.name: weights[places[block.name]].reshape(block.shape) for block in self.layout.blocks}

    def _encode(
        self, name: str, values: torch.Tensor, parameters: Mapping[str, torch.Tensor], steps: list[LinearStep]
    ) -> torch.Tensor:
        layer = f"{name}.encoder"
        if self._inputs[name].kind == "static":
            return torch.tanh(_apply(layer, values, parameters, steps))
        windows = values.unfold(1, WINDOW, 1).flatten(2)
        return torch.tanh(_apply(layer, windows, parameters, steps)).mean(dim=1)


def _linear_blocks(name: str, fan_in: int, fan_out: int, modality: str | None) -> list[Block]:
    return [
        Block(name=f"{name}.weight", shape=(fan_out, fan_in), modality=modality),
        Block(name=f"{name}.bias", shape=(fan_out,), modality=modality),
    ]


def _apply(
    name: str, inputs: torch.Tensor, parameters: Mapping[str, torch.Tensor], steps: list[LinearStep]
) -> torch.Tensor:
    outputs = torch.nn.functional.linear(inputs, parameters[f"{name}.weight"], parameters[f"{name}.bias"])
    steps.append(LinearStep(weight=f"{name}.weight", bias=f"{name}.bias", inputs=inputs, outputs=outputs))
    return outputs
