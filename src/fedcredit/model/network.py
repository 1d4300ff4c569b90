"""The network: encoders per modality, masked fusion, one head for the probability of default, and points beside them.

    record    (n, p)      one-hot bins, for a static modality also its dense numbers
    encoder               record → Linear → tanh
    sequence  (n, T, c)   Linear over windows of three steps (a convolution) → tanh → mean over time
    fusion                mean of the embeddings that are present → Linear → tanh → Linear
    points                record → Linear, one number per modality, as in a scorecard
    logit                 fusion + Σ points of the modalities that are present

The points make the network at least a scorecard, which little noise disturbs; the encoders add what it cannot see.
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
BINS_NORM: Final = 4.0
"""L2 norm of the one-hot bins of a complete record, whatever the contract: learning rates and clips carry over.

Larger than 1, the input of a bias, because one learning rate serves both and rare bins need the larger steps.
"""


class MultimodalNetwork:
    """A functional network: parameters come as one float64 vector, nothing is kept between calls."""

    additive: Final = False

    def __init__(self, inputs: ModelInputs, *, width: int) -> None:
        self._inputs = dict(inputs)
        features = sum(len(shape.bins) for shape in inputs.values())
        self._active = BINS_NORM / math.sqrt(max(1, features))
        blocks: list[Block] = []
        for name, shape in inputs.items():
            record = sum(shape.bins) + (shape.dense[0] if shape.kind == "static" else 0)
            blocks += _linear_blocks(f"{name}.encoder", record, width, name)
            if shape.kind == "sequence":
                if shape.dense[0] < WINDOW:
                    raise ValueError(f"a sequence needs at least {WINDOW} steps")
                blocks += _linear_blocks(f"{name}.sequence", WINDOW * shape.dense[1], width, name)
            blocks += _linear_blocks(f"{name}.points", record, 1, name)
        blocks += _linear_blocks("fusion", width, width, None)
        blocks += _linear_blocks("head", width, 1, None)
        self.layout: Final = ParameterLayout(tuple(blocks))

    def initial_weights(self, *, seed: int, base_rate: float) -> npt.NDArray[np.float64]:
        """Return the public starting point: Glorot-uniform weights from a public seed, no points, the base rate."""
        generator = np.random.default_rng(seed)
        parts = {}
        for block in self.layout.blocks:
            if len(block.shape) == 1 or block.name.endswith(".points.weight"):
                parts[block.name] = np.zeros(block.shape)
            else:
                bound = math.sqrt(6 / sum(block.shape))
                parts[block.name] = generator.uniform(-bound, bound, size=block.shape)
        parts["head.bias"][:] = logit(base_rate)
        return self.layout.join(parts)

    def design(
        self, modality: str, codes: npt.NDArray[np.int16], dense: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the one-hot bins, then the dense numbers step by step, shape (n, bins + numbers)."""
        bins = self._inputs[modality].bins
        first = np.concatenate([[0], np.cumsum(bins)]).astype(np.int64)
        one_hot = np.zeros((len(codes), sum(bins)), dtype=np.float32)
        np.put_along_axis(one_hot, codes + first[:-1], np.float32(self._active), axis=1)
        return np.concatenate([one_hot, dense.reshape(len(dense), math.prod(dense.shape[1:]))], axis=1)

    def forward(self, weights: torch.Tensor, dense: Dense) -> tuple[torch.Tensor, list[LinearStep]]:
        """Return logits of shape (n,) and the Linear steps in order.

        Args:
            weights: (layout.size,) float64.
            dense: the ``design`` of the modalities these records hold; the same for all of them.
        """
        parameters = self._named(weights)
        steps: list[LinearStep] = []
        embeddings: list[torch.Tensor] = []
        points: list[torch.Tensor] = []
        for name, values in dense.items():
            record, series = self._views(name, torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64)))
            embeddings.append(torch.tanh(_apply(f"{name}.encoder", record, parameters, steps)))
            if series is not None:
                windows = series.unfold(1, WINDOW, 1).flatten(2)
                embeddings.append(torch.tanh(_apply(f"{name}.sequence", windows, parameters, steps)).mean(dim=1))
            points.append(_apply(f"{name}.points", record, parameters, steps))
        fused = torch.tanh(_apply("fusion", torch.stack(embeddings).mean(dim=0), parameters, steps))
        logits = _apply("head", fused, parameters, steps) + torch.stack(points).sum(dim=0)
        return logits.squeeze(-1), steps

    def _named(self, weights: torch.Tensor) -> dict[str, torch.Tensor]:
        places = self.layout.slices()
        return {block.name: weights[places[block.name]].reshape(block.shape) for block in self.layout.blocks}

    def _views(self, name: str, values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        shape = self._inputs[name]
        if shape.kind == "static":
            return values, None
        bins = sum(shape.bins)
        return values[:, :bins], values[:, bins:].reshape(len(values), *shape.dense)


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
