"""What clipping per borrower costs: a step of the engine against the same step without privacy, in the same run.

Both sides see the same network, the same float64 inputs and the same weights, on one thread. The step without privacy
is a forward and a backward pass of torch for the gradient of the summed loss; it may take all borrowers at once or in
the engine's own slices, and the quicker of the two counts. Measurements alternate, in processor time; the figure is
the ratio of each pair. Opacus with hooks, for context, is measured against the same layers in ordinary torch modules.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from fedcredit.contract import load_contract
from fedcredit.data.inputs import model_inputs
from fedcredit.lab.figures import Figure, median_of_runs
from fedcredit.model.layout import ModalityShape, ModelInputs
from fedcredit.model.linear_stack import Dense, borrowers_at_once
from fedcredit.model.network import MultimodalNetwork
from fedcredit.training.network_gradient import ClippedGradients

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # opacus warns about its own imports
    from opacus.grad_sample import GradSampleModule

CLIP = 1.0
SEED = 7
AT_LEAST_S = 0.1
"""Processor time of one measurement; short steps are repeated."""

Step = Callable[[], object]


@dataclass(frozen=True)
class Case:
    """A network on synthetic numbers."""

    model: MultimodalNetwork
    weights: np.ndarray
    dense: Dense
    labels: np.ndarray
    batch: np.ndarray | None
    """Who is in a sampled step, or ``None`` for everybody."""


def taiwan_inputs() -> ModelInputs:
    """Return what a bank of the Taiwan data has: static inputs and a short sequence, 6 steps with 5 channels."""
    return model_inputs(load_contract("taiwan"))


def static_inputs() -> ModelInputs:
    """Return what every institution of the Taiwan data has: 2 features in 17 bins, 8 numbers."""
    return {name: shape for name, shape in taiwan_inputs().items() if shape.kind == "static"}


def plain_numbers() -> ModelInputs:
    """Return 32 numbers, so that the encoder is the first layer of an ordinary perceptron."""
    return {"numbers": ModalityShape(kind="static", bins=(), nominal=(), dense=(32,))}


def with_sequence() -> ModelInputs:
    """Return the static inputs and a sequence of 288 steps with 6 channels."""
    sequence = ModalityShape(kind="sequence", bins=(5,) * 4, nominal=(False,) * 4, dense=(288, 6))
    return {**static_inputs(), "telemetry": sequence}


def make_case(inputs: ModelInputs, *, width: int, rows: int, sampled: int | None) -> Case:
    """Return a network and random borrowers; ``sampled`` of them are in a step, or all."""
    generator = np.random.default_rng(SEED)
    model = MultimodalNetwork(inputs, width=width)
    dense = {}
    for name, shape in inputs.items():
        codes = generator.integers(0, shape.bins, size=(rows, len(shape.bins))).astype(np.int16)
        numbers = generator.uniform(-1, 1, size=(rows, *shape.dense)).astype(np.float32)
        dense[name] = model.design(name, codes, numbers).astype(np.float64)
    return Case(
        model=model,
        weights=model.initial_weights(seed=SEED, base_rate=0.2),
        dense=dense,
        labels=generator.integers(0, 2, size=rows).astype(np.int8),
        batch=None if sampled is None else generator.permutation(rows) < sampled,
    )


def private_step(case: Case) -> Step:
    gradients = ClippedGradients(case.model, case.dense, case.labels, clip=CLIP)
    return lambda: gradients.sum(case.weights, case.batch)


def plain_step(case: Case, at_once: int) -> Step:
    """Return the step without privacy, ``at_once`` borrowers at a time."""
    labels = case.labels.astype(np.float64)

    def step() -> np.ndarray:
        total = np.zeros(case.model.layout.size)
        picked = None if case.batch is None else np.flatnonzero(case.batch)
        vector = torch.from_numpy(case.weights.copy()).requires_grad_()
        for first in range(0, len(labels) if picked is None else len(picked), at_once):
            here = slice(first, first + at_once)
            rows = here if picked is None else picked[here]
            logits, _ = case.model.forward(vector, {name: part[rows] for name, part in case.dense.items()})
            loss = binary_cross_entropy_with_logits(logits, torch.from_numpy(labels[rows]), reduction="sum")
            total += torch.autograd.grad(loss, vector)[0].numpy()
        return total

    return step


class Modules(torch.nn.Module):
    """The network on one static modality, in ordinary torch modules."""

    def __init__(self, case: Case) -> None:
        super().__init__()
        parts = case.model.layout.split(case.weights)
        name = next(iter(case.dense))
        self.encoder, self.points, self.fusion, self.head = (
            _linear(parts[f"{layer}.weight"], parts[f"{layer}.bias"])
            for layer in (f"{name}.encoder", f"{name}.points", "fusion", "head")
        )

    def forward(self, record: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.fusion(torch.tanh(self.encoder(record))))
        logits: torch.Tensor = (self.head(hidden) + self.points(record)).squeeze(-1)
        return logits


def _linear(weight: np.ndarray, bias: np.ndarray) -> torch.nn.Linear:
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
    layer.load_state_dict({"weight": torch.from_numpy(weight.copy()), "bias": torch.from_numpy(bias.copy())})
    return layer


def module_step(case: Case) -> Step:
    """Return the step without privacy in ordinary torch modules."""
    return _step_of(Modules(case), case)


def opacus_step(case: Case) -> Step:
    """Return the step with opacus: hooks keep every borrower's gradient, then they are clipped and summed."""
    modules = GradSampleModule(Modules(case), loss_reduction="sum")
    backward = _step_of(modules, case)

    def step() -> list[torch.Tensor]:
        backward()
        samples = [parameter.grad_sample for parameter in modules.parameters()]
        norms = torch.stack([sample.flatten(1).norm(dim=1) for sample in samples]).norm(dim=0)
        factors = CLIP / norms.clamp_min(CLIP)
        return [torch.einsum("n,n...->...", factors, sample) for sample in samples]

    return step


def _step_of(modules: torch.nn.Module, case: Case) -> Step:
    record = torch.from_numpy(next(iter(case.dense.values())))
    labels = torch.from_numpy(case.labels.astype(np.float64))

    def step() -> None:
        modules.zero_grad()
        for parameter in modules.parameters():
            if hasattr(parameter, "grad_sample"):
                parameter.grad_sample = None
        binary_cross_entropy_with_logits(modules(record), labels, reduction="sum").backward()

    return step


def ratios(measured: Step, references: list[Step], pairs: int) -> list[float]:
    """Return the ratio to the quickest reference, per pair, after a first that does not count."""
    for step in (measured, *references):
        step()
    repeats = max(1, round(AT_LEAST_S / _seconds(references[0], 3)))
    found = []
    for _ in range(pairs + 1):
        found.append(_seconds(measured, repeats) / min(_seconds(step, repeats) for step in references))
    return found[1:]


def _seconds(step: Step, repeats: int) -> float:
    begin = time.process_time()
    for _ in range(repeats):
        step()
    return (time.process_time() - begin) / repeats


def overhead(case: Case, pairs: int) -> list[float]:
    """Return the ratios of the private step to the one without privacy."""
    rows = len(case.labels)
    sizes = {rows, min(rows, borrowers_at_once(case.model, case.dense))}
    return ratios(private_step(case), [plain_step(case, at_once) for at_once in sizes], pairs)


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section."""
    pairs = 3 if quick else 15
    linear = make_case(static_inputs(), width=8, rows=24_000, sampled=None)
    wide = make_case(plain_numbers(), width=64, rows=2048, sampled=None)
    measured = {
        "linear": overhead(linear, pairs),
        "linear.batch256": overhead(make_case(static_inputs(), width=8, rows=8000, sampled=256), pairs),
        "linear.width64": overhead(wide, pairs),
        "conv.taiwan": overhead(make_case(taiwan_inputs(), width=8, rows=8000, sampled=None), pairs),
        "conv": overhead(make_case(with_sequence(), width=8, rows=3000, sampled=None), pairs),
        "conv.batch64": overhead(make_case(with_sequence(), width=8, rows=3000, sampled=64), pairs),
        "conv.batch256": overhead(make_case(with_sequence(), width=8, rows=3000, sampled=256), pairs),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about the hooks that opacus uses
        measured["opacus-hooks.linear"] = ratios(opacus_step(linear), [module_step(linear)], min(pairs, 7))
        measured["opacus-hooks.linear.width64"] = ratios(opacus_step(wide), [module_step(wide)], min(pairs, 7))
    for name, values in measured.items():
        yield median_of_runs(f"step.overhead.{name}", values, unit="ratio", seeds=[SEED], data="synthetic-benchmark")
