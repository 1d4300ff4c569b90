"""Records from a gradient by matching it (TabLeak, Vero et al. 2023): softmax over the levels, many starts, best loss.

The attacked network is fedcredit's own. Its per-borrower gradient has a closed form in the record, so thousands of
candidate batches are matched side by side without a second backward pass. The attacker knows weights, labels, the
number of records, the clip bound and the grid: everything but the records and the noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from attacks.german import CONTRACT, INPUTS, MODALITY
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from fedcredit.data.features import feature_spec
from fedcredit.model.network import MultimodalNetwork

SPEC = feature_spec(CONTRACT).modality(MODALITY)
BINS = INPUTS[MODALITY].bins
_ACTIVE = 4.0 / len(BINS) ** 0.5
_HELD = torch.tensor([[level < bins for level in range(max(BINS))] for bins in BINS])
"""(features, most bins): which levels exist."""
_PADDING = torch.where(_HELD, 0.0, -torch.inf).to(torch.float32)
_NUMBERS = [column for column, name in enumerate(SPEC.dense_names) if "=" not in name]
_NUMBERS_TO_RECORD = torch.zeros(len(_NUMBERS), sum(BINS) + len(SPEC.dense_names), dtype=torch.float32)
_NUMBERS_TO_RECORD[range(len(_NUMBERS)), [sum(BINS) + column for column in _NUMBERS]] = 1.0


def _levels_to_record() -> torch.Tensor:
    """Return where a level stands in the network's record: as a bin, and a category once more among the numbers."""
    matrix = torch.zeros(sum(BINS), sum(BINS) + len(SPEC.dense_names), dtype=torch.float32)
    matrix[range(sum(BINS)), range(sum(BINS))] = _ACTIVE
    start = 0
    for name, bins in zip(SPEC.feature_names, BINS, strict=True):
        columns = [column for column, dense in enumerate(SPEC.dense_names) if dense.startswith(f"{name}=")]
        for level, column in enumerate(columns):
            matrix[start + level, sum(BINS) + column] = 1.0
        start += bins
    return matrix


_LEVELS_TO_RECORD = _levels_to_record()
Parts = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What the attacker spends."""

    steps: int
    starts: int
    learning_rate: float
    seed: int


class GradientMatching:
    """Reconstructs the records behind summed gradients of one network at known weights."""

    def __init__(self, model: MultimodalNetwork, weights: NDArray[np.float64], *, clip: float) -> None:
        self._blocks = {
            name: torch.from_numpy(part.astype(np.float32)) for name, part in model.layout.split(weights).items()
        }
        self._clip = clip

    def records(
        self, gradients: list[dict[str, NDArray[np.float64]]], labels: NDArray[np.int8], effort: Effort
    ) -> NDArray[np.int64]:
        """Return the codes (batches, records, features) that match each gradient best; labels (batches, records)."""
        batches, size = labels.shape
        generator = torch.Generator().manual_seed(effort.seed)
        shape = (effort.starts, batches, size)
        logits = torch.randn(*shape, *_HELD.shape, generator=generator, dtype=torch.float32).requires_grad_()
        numbers = torch.randn(*shape, len(_NUMBERS), generator=generator, dtype=torch.float32).requires_grad_()
        wanted = {
            name: torch.from_numpy(np.stack([gradient[name] for gradient in gradients]).astype(np.float32))
            for name in gradients[0]
        }
        targets = torch.from_numpy(labels.astype(np.float32))
        optimiser = torch.optim.Adam([logits, numbers], lr=effort.learning_rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, effort.steps)
        loss = torch.zeros(())
        for _ in range(effort.steps):
            optimiser.zero_grad()
            loss = _distance(self._gradients(self._record(logits, numbers), targets), wanted)
            loss.sum().backward()
            optimiser.step()
            decay.step()
        best = loss.detach().argmin(dim=0)
        chosen = logits.detach()[best, torch.arange(batches)]
        codes: NDArray[np.int64] = (chosen + _PADDING).argmax(dim=-1).numpy()
        return codes

    def _record(self, logits: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        levels = torch.softmax(logits + _PADDING, dim=-1)[..., _HELD]
        return levels @ _LEVELS_TO_RECORD + torch.tanh(numbers) @ _NUMBERS_TO_RECORD

    def _gradients(self, record: torch.Tensor, targets: torch.Tensor) -> Parts:
        """Return the clipped gradient sums of candidate batches; the backward pass, written out."""
        blocks = self._blocks
        first = f"{MODALITY}.encoder"
        encoded = torch.tanh(record @ blocks[f"{first}.weight"].T + blocks[f"{first}.bias"])
        fused = torch.tanh(encoded @ blocks["fusion.weight"].T + blocks["fusion.bias"])
        points = record @ blocks[f"{MODALITY}.points.weight"].T + blocks[f"{MODALITY}.points.bias"]
        logits = (fused @ blocks["head.weight"].T + blocks["head.bias"] + points).squeeze(-1)
        residual = (torch.sigmoid(logits) - targets).unsqueeze(-1)
        at_fusion = residual * blocks["head.weight"] * (1 - fused**2)
        at_encoder = (at_fusion @ blocks["fusion.weight"]) * (1 - encoded**2)
        layers = [
            (first, at_encoder, record),
            (f"{MODALITY}.points", residual, record),
            ("fusion", at_fusion, encoded),
            ("head", residual, fused),
        ]
        squared = sum((delta**2).sum(-1) * ((seen**2).sum(-1) + 1) for _, delta, seen in layers)
        factor = (self._clip / torch.as_tensor(squared).sqrt()).clamp_max(1.0).unsqueeze(-1)
        parts = {}
        for name, delta, seen in layers:
            parts[f"{name}.weight"] = torch.einsum("sbrj,sbrk->sbjk", delta * factor, seen)
            parts[f"{name}.bias"] = (delta * factor).sum(dim=2)
        return parts


def _distance(made: Parts, wanted: Parts) -> torch.Tensor:
    """Return the squared distance per start and batch, each block relative to its own size."""
    total = torch.zeros(())
    for name, part in wanted.items():
        dims = tuple(range(2, made[name].dim()))
        total = total + ((made[name] - part) ** 2).sum(dims) / (part**2).sum(tuple(range(1, part.dim()))).clamp_min(
            1e-12
        )
    return total


def exactly_matched(guess: NDArray[np.int64], truth: NDArray[np.int64]) -> int:
    """Return how many records of a batch are right in every feature, in the pairing that has most features right."""
    right = (guess[:, None, :] == truth[None, :, :]).sum(axis=2)
    return int((right[linear_sum_assignment(-right)] == truth.shape[1]).sum())
