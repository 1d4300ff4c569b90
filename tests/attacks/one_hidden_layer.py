"""The network of QUALITY.md 5.1: one hidden layer of rectified units, which hands out whole records most readily.

fedcredit trains no such network; it stands behind the same interface, so the real client path clips, rounds and noises
its gradients as it does those of its own networks.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.model.layout import Block, ParameterLayout
from fedcredit.model.linear_stack import Dense, LinearStep


class OneHiddenLayer:
    """record (n, inputs) → Linear → rectifier → Linear → logit."""

    additive = False

    def __init__(self, modality: str, *, inputs: int, width: int) -> None:
        self._modality = modality
        self.layout = ParameterLayout(
            (
                Block(name="hidden.weight", shape=(width, inputs), modality=None),
                Block(name="hidden.bias", shape=(width,), modality=None),
                Block(name="output.weight", shape=(1, width), modality=None),
                Block(name="output.bias", shape=(1,), modality=None),
            )
        )

    def initial_weights(self, *, seed: int, base_rate: float) -> npt.NDArray[np.float64]:
        """Return what torch would start a Linear layer from; the output starts at even odds, whatever the rate."""
        del base_rate
        generator = np.random.default_rng(seed)
        parts = {}
        for block in self.layout.blocks:
            layer = "hidden.weight" if block.name.startswith("hidden") else "output.weight"
            fan_in = next(other.shape[1] for other in self.layout.blocks if other.name == layer)
            parts[block.name] = generator.uniform(-(fan_in**-0.5), fan_in**-0.5, size=block.shape)
        return self.layout.join(parts)

    def design(
        self, modality: str, codes: npt.NDArray[np.int16], dense: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Return the dense numbers as they are."""
        return dense

    def forward(self, weights: torch.Tensor, dense: Dense) -> tuple[torch.Tensor, list[LinearStep]]:
        """Return logits of shape (n,) and the two Linear steps."""
        places = self.layout.slices()
        parts = {block.name: weights[places[block.name]].reshape(block.shape) for block in self.layout.blocks}
        current = torch.from_numpy(np.ascontiguousarray(dense[self._modality], dtype=np.float64))
        steps = []
        for layer in ("hidden", "output"):
            outputs = torch.nn.functional.linear(current, parts[f"{layer}.weight"], parts[f"{layer}.bias"])
            steps.append(LinearStep(weight=f"{layer}.weight", bias=f"{layer}.bias", inputs=current, outputs=outputs))
            current = torch.relu(outputs)
        return steps[-1].outputs.squeeze(-1), steps
