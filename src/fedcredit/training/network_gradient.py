"""Per-borrower clipped gradients of networks made of Linear layers, in one forward and one backward pass.

For a Linear layer with inputs ``a`` and output gradients ``δ`` the gradient of borrower i is ``δ_i a_iᵀ``, so its
squared norm is ``‖δ_i‖² ‖a_i‖²`` (Goodfellow 2015, arXiv:1510.01799) and it is never written out. With a time axis it
is ``Σ_t δ_t a_tᵀ``. That matrix is written out for each borrower: it costs the multiplications that the sum over all
borrowers costs anyway, and then the sum is a weighted mean of what is there. The other known form, ``Σ_{t,s} (a_t·a_s)
(δ_t·δ_s)`` (Li et al. 2022, arXiv:2110.05679), needs T² products a borrower, which is dear for convolutions, and it
cancels: its rounding errors are not those of the sum. Borrowers are taken in slices, so memory does not grow with them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from fedcredit.config.plan import LARGEST_CLIP, SMALLEST_CLIP
from fedcredit.data.table import CreditTable
from fedcredit.errors import ConfigValueError, NotFiniteError
from fedcredit.model.linear_stack import Dense, LinearStack, LinearStep, borrowers_at_once
from fedcredit.training.integer_sum import IntegerSum, SumBounds, on_grid

Parts: TypeAlias = dict[str, npt.NDArray[np.float64]]
"""Views of one vector, by block."""
KEPT_NUMBERS: Final = 2**25
"""Larger parts (256 MiB in float64) become float64 slice by slice in every round."""


class ClippedGradients:
    """The loss gradients of one institution's borrowers, each scaled to an L2 norm of at most ``clip``, and summed.

    The loss is the logistic loss of one borrower. What no round changes is computed once and kept, up to a size: the
    norms of the records, and their numbers in float64. ``dense`` must not change either.
    """

    def __init__(self, model: LinearStack, dense: Dense, labels: npt.NDArray[np.int8], *, clip: float) -> None:
        self._model = model
        self._dense = {
            name: part.astype(np.float64) if part.size <= KEPT_NUMBERS else part for name, part in dense.items()
        }
        self._labels = labels.astype(np.float64)
        self._at_once = borrowers_at_once(model, dense)
        # Rounding may make a norm look smaller than it is; network_bounds says why this makes up for it.
        self._bound = clip * (1 - (model.layout.size + 64) * 2.0**-52)
        self._records: dict[str, torch.Tensor] = {}

    def sum(
        self, weights: npt.NDArray[np.float64], batch: npt.NDArray[np.bool_] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the sum at ``weights`` (layout.size,), in the same shape.

        ``batch`` (n,) picks the borrowers of a sampled step; ``None`` means all. Parameters of modalities that are not
        held get zero, and so do all where there is no borrower. A norm that is not finite raises ``NotFiniteError``,
        because no scaling bounds what it contributes.
        """
        additive = self._model.additive
        # On a few hundred borrowers, what autograd keeps ready costs more than all the rest.
        with torch.inference_mode(additive):
            return self._sum(weights, batch, additive=additive)

    def _sum(
        self, weights: npt.NDArray[np.float64], batch: npt.NDArray[np.bool_] | None, *, additive: bool
    ) -> npt.NDArray[np.float64]:
        vector = torch.from_numpy(np.array(weights, dtype=np.float64)).requires_grad_(not additive)
        total = np.zeros(self._model.layout.size)
        parts = self._model.layout.split(total)
        for rows in self._slices(batch):
            logits, steps = self._model.forward(vector, {name: part[rows] for name, part in self._dense.items()})
            # The derivative of the logistic loss, known without computing the loss.
            residuals = torch.sigmoid(logits.detach()).sub_(torch.from_numpy(self._labels[rows]))
            if additive:
                deltas: Sequence[torch.Tensor] = [residuals.unsqueeze(1)] * len(steps)
            else:
                deltas = torch.autograd.grad(logits, [step.outputs for step in steps], residuals)
            with torch.no_grad():
                self._add(parts, steps, deltas, whole=batch is None and len(residuals) == len(self._labels))
        return total

    def _slices(self, batch: npt.NDArray[np.bool_] | None) -> Iterator[slice | npt.NDArray[np.int64]]:
        """Yield who is taken at a time; a slice copies nothing."""
        picked = None if batch is None else np.flatnonzero(batch)
        for first in range(0, len(self._labels if picked is None else picked), self._at_once):
            here = slice(first, first + self._at_once)
            yield here if picked is None else picked[here]

    def _add(self, parts: Parts, steps: Sequence[LinearStep], deltas: Sequence[torch.Tensor], *, whole: bool) -> None:
        """Add the clipped gradients of one slice of borrowers to ``parts``; ``whole`` if it holds everybody."""
        layers = [
            _ManyInputs(step, delta)
            if step.inputs.dim() == 3
            else _OneInput(step, delta, self._of_inputs(step, whole=whole))
            for step, delta in zip(steps, deltas, strict=True)
        ]
        squared = torch.zeros(len(deltas[0]), dtype=torch.float64)
        for layer in layers:
            layer.add_squared_norms(squared)
        if not torch.isfinite(squared).all():
            raise NotFiniteError(what="a per-borrower gradient")
        factors = self._bound / squared.sqrt_().clamp_min_(self._bound)
        for step, layer in zip(steps, layers, strict=True):
            weight, bias = layer.weighted(factors)
            parts[step.weight] += weight.numpy().reshape(parts[step.weight].shape)
            if step.bias:
                parts[step.bias] += bias.numpy()

    def _of_inputs(self, step: LinearStep, *, whole: bool) -> torch.Tensor:
        """Return ``‖a‖²`` of the layer's inputs, plus 1 for a bias."""
        # Kept for everybody in one tensor or not at all: many small ones would keep freed memory in pieces.
        if whole and step.weight in self._records:
            return self._records[step.weight]
        squared = _squared_rows(step.inputs).add_(1.0 if step.bias else 0.0)
        if whole and not step.inputs.requires_grad:
            self._records[step.weight] = squared
        return squared


class NetworkGradient:
    """The gradient of one institution's borrowers on the integer grid.

    Args:
        model: the network of the plan.
        table: one record per borrower, its dense part in the model's own design.
        clip: bound of one borrower's gradient.
        grid: integer steps per clip bound.

    Raises:
        ConfigValueError: squared norms would leave the range of float64 at this clip.
    """

    def __init__(self, model: LinearStack, table: CreditTable, *, clip: float, grid: int) -> None:
        if not SMALLEST_CLIP <= clip <= LARGEST_CLIP:
            raise ConfigValueError(
                path="plan", key="training.clip", problem="lies outside the range that can be clipped to"
            )
        dense = {name: part.dense for name, part in table.modalities.items()}
        self._gradients = ClippedGradients(model, dense, table.labels, clip=clip)
        self._scale = grid / clip

    def integer_sum(
        self, weights: npt.NDArray[np.float64], *, round_number: int, batch: npt.NDArray[np.bool_] | None
    ) -> IntegerSum:
        """Return the summed gradient at ``weights`` (layout.size,); ``batch`` (n,) picks a sampled step's borrowers."""
        total = self._gradients.sum(weights, batch)
        return IntegerSum(values=on_grid(total, steps=self._scale))


def network_bounds(model: LinearStack, modalities: Iterable[str], *, grid: int, public_borrowers: int) -> SumBounds:
    """Return the bounds of ``NetworkGradient`` for records with these modalities.

    The float64 sum is rounded once. Each of the two neighbouring sums is off by at most 1/2 per entry, so the integer
    vectors differ by at most ``grid + √d`` in L2 norm, plus the rounding errors of the sum itself. A float64 sum of n
    terms, each of at most ``grid``, errs by at most ``n² · grid · 2⁻⁵³`` per entry in any order of addition (Higham
    2002, section 4.2), in slices or not; both sums may, and ``public_borrowers``, taken twice to be safe, stands for n,
    which is private.

    That a term is at most ``grid`` holds of the float64 numbers that are summed. Each is the outer product of the very
    ``δ`` and ``a``, or the very matrix, whose norm was taken. A squared norm is a sum of non-negative numbers in which
    no entry passes more than d + 40 roundings, so it is at least 1 − (d + 40) · 2⁻⁵³ of the true one, in any order of
    addition. The root halves that; scaling to the clip and to the grid adds less than ten roundings. Clipping to
    1 − (d + 64) · 2⁻⁵² of the clip makes up for twice as much. Entries whose squares underflow do not matter: the
    squared clip is at least 10⁻¹².

    That everybody else's terms are the same in both sums is not proved: it asks that a row of a matrix product does not
    depend on the other rows. Where n is at most ``public_borrowers``, taking it twice leaves room for a difference of
    6 n · grid · 2⁻⁵³ per term and entry; a test finds none beyond that, and with the libraries at hand none at all.
    """
    reached = model.layout.trained_by(modalities)
    per_entry = 1 + 2 * (2 * public_borrowers) ** 2 * grid * 2.0**-53
    return SumBounds(
        sensitivity_squared=math.ceil((grid + math.sqrt(int(reached.sum())) * per_entry) ** 2),
        reached=reached,
        # One more than a term: the rounding of a sum is less than one step per borrower.
        largest_entry=grid + 1,
    )


class _OneInput:
    """A layer that sees one vector per borrower: ``δaᵀ`` is never written out."""

    def __init__(self, step: LinearStep, delta: torch.Tensor, squared_inputs: torch.Tensor) -> None:
        self._inputs, self._delta, self._squared_inputs = step.inputs, delta, squared_inputs

    def add_squared_norms(self, squared: torch.Tensor) -> None:
        """Add ``‖δ‖² ‖a‖²`` of every borrower, the 1 of a bias being among ``‖a‖²``."""
        squared.addcmul_(_squared_rows(self._delta), self._squared_inputs)

    def weighted(self, factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over borrowers of ``factor · δaᵀ`` and ``factor · δ``."""
        return (self._delta * factors.unsqueeze(1)).T @ self._inputs, factors @ self._delta


class _ManyInputs:
    """A layer with a time axis: every borrower's gradient is written out, its norm taken, and that matrix summed."""

    def __init__(self, step: LinearStep, delta: torch.Tensor) -> None:
        self._weights = torch.bmm(delta.transpose(1, 2), step.inputs).flatten(1)
        self._biases = delta.sum(1) if step.bias else delta.new_zeros(len(delta), 0)

    def add_squared_norms(self, squared: torch.Tensor) -> None:
        """Add ``‖Σ_t δ_t a_tᵀ‖²`` of every borrower, and ``‖Σ_t δ_t‖²`` where there is a bias."""
        squared.add_(_squared_rows(self._weights)).add_(_squared_rows(self._biases))

    def weighted(self, factors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sums over borrowers of ``factor`` times either gradient, the first one flat."""
        return factors @ self._weights, factors @ self._biases


def _squared_rows(values: torch.Tensor) -> torch.Tensor:
    # vector_norm reads wide records once and writes no squares beside them.
    norms: torch.Tensor = torch.linalg.vector_norm(values, dim=1)
    return norms.mul_(norms)
