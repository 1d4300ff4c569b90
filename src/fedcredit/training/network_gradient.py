"""Per-borrower clipped gradients of networks made of Linear layers, in closed form.

For a Linear layer with inputs ``a`` and output gradients ``δ`` the gradient of borrower i is ``δ_i a_iᵀ``, so its
squared norm is ``‖δ_i‖² ‖a_i‖²`` (Goodfellow 2015, arXiv:1510.01799), and with a time axis
``Σ_{t,s} (a_t·a_s)(δ_t·δ_s)`` (Li et al. 2022, arXiv:2110.05679). One forward and one backward pass give all norms;
the clipped sum is one product per layer. No per-borrower gradient is ever materialised.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.config.plan import LARGEST_CLIP, SMALLEST_CLIP
from fedcredit.data.table import CreditTable
from fedcredit.errors import ConfigValueError, NotFiniteError
from fedcredit.model.linear_stack import Dense, LinearStack, LinearStep
from fedcredit.training.integer_sum import IntegerSum


def clipped_gradient_sum(
    model: LinearStack, weights: npt.NDArray[np.float64], dense: Dense, labels: npt.NDArray[np.int8], *, clip: float
) -> npt.NDArray[np.float64]:
    """Return the sum over borrowers of their loss gradients, each scaled to an L2 norm of at most ``clip``.

    The loss is the logistic loss of one borrower. Parameters of modalities that ``dense`` lacks get zero. Everything is
    float64; a non-finite norm raises ``NotFiniteError``, because no scaling bounds what it contributes.
    """
    vector = torch.from_numpy(np.array(weights, dtype=np.float64)).requires_grad_()
    logits, steps = model.forward(vector, dense)
    targets = torch.from_numpy(labels.astype(np.float64))
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    deltas = torch.autograd.grad(loss, [step.outputs for step in steps])
    with torch.no_grad():
        squared = sum(
            (_squared_norm(step, delta) for step, delta in zip(steps, deltas, strict=True)),
            start=torch.zeros(len(labels), dtype=torch.float64),
        )
        if not torch.isfinite(squared).all():
            raise NotFiniteError(what="a per-borrower gradient")
        factors = (clip / squared.sqrt().clamp_min(clip)).clamp_max(1.0)
        parts = {block.name: np.zeros(block.shape) for block in model.layout.blocks}
        for step, delta in zip(steps, deltas, strict=True):
            _add_clipped(parts, step, delta, factors)
    return model.layout.join(parts)


class NetworkGradient:
    """The full-batch gradient of one institution's borrowers on the integer grid.

    The float64 sum is rounded once. Each of the two neighbouring sums is off by at most 1/2 per entry, so the integer
    vectors differ by at most ``grid + √d`` in L2 norm, plus the rounding errors of the sum itself. A float64 sum of n
    terms, each of at most ``grid``, errs by at most ``n² · grid · 2⁻⁵³`` per entry in any order of addition (Higham
    2002, section 4.2); both sums may, and ``public_borrowers``, taken twice to be safe, stands for n, which is private.
    """

    def __init__(
        self, model: LinearStack, table: CreditTable, *, clip: float, grid: int, public_borrowers: int
    ) -> None:
        if not SMALLEST_CLIP <= clip <= LARGEST_CLIP:
            raise ConfigValueError(
                path="plan", key="training.clip", problem="lies outside the range that can be clipped to"
            )
        self._model = model
        # Once, instead of in every round.
        self._dense = {name: part.dense.astype(np.float64) for name, part in table.modalities.items()}
        self._labels = table.labels
        self._trained = model.layout.trained_by(table.modalities)
        self._clip = clip
        self._grid = grid
        self.dimension = int(self._trained.sum())
        per_entry = 1 + 2 * (2 * public_borrowers) ** 2 * grid * 2.0**-53
        self.sensitivity_squared: int | None = math.ceil((grid + math.sqrt(self.dimension) * per_entry) ** 2)

    def integer_sum(self, weights: npt.NDArray[np.float64]) -> IntegerSum:
        """Return the summed gradient at ``weights`` (layout.size,)."""
        total = clipped_gradient_sum(self._model, weights, self._dense, self._labels, clip=self._clip)
        return IntegerSum(values=np.rint(total * (self._grid / self._clip)).astype(np.int64), trained=self._trained)


def _squared_norm(step: LinearStep, delta: torch.Tensor) -> torch.Tensor:
    one = 1.0 if step.bias else 0.0
    if step.inputs.dim() == 2:
        # vector_norm reads the wide one-hot records once and writes no squares beside them.
        norm = torch.linalg.vector_norm
        squared: torch.Tensor = (norm(step.inputs, dim=1) ** 2 + one) * norm(delta, dim=1) ** 2
        return squared
    # Rounding cannot hide a norm here: tanh gives a unit's δ_t one sign, so the bias alone adds Σ_t ‖δ_t‖² or more.
    inputs = step.inputs @ step.inputs.transpose(1, 2) + one
    return (inputs * (delta @ delta.transpose(1, 2))).sum((1, 2)).clamp_min(0.0)


def _add_clipped(
    parts: dict[str, npt.NDArray[np.float64]], step: LinearStep, delta: torch.Tensor, factors: torch.Tensor
) -> None:
    scaled = delta * factors.reshape(-1, *[1] * (delta.dim() - 1))
    flat_delta, flat_inputs = scaled.reshape(-1, scaled.shape[-1]), step.inputs.reshape(-1, step.inputs.shape[-1])
    parts[step.weight] += (flat_delta.T @ flat_inputs).numpy().reshape(parts[step.weight].shape)
    if step.bias:
        parts[step.bias] += flat_delta.sum(0).numpy()
