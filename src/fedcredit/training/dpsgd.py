"""What a bank gets that trains alone with Opacus: for COMPARISON only, and the one door to that library.

DP-SGD (Abadi et al. 2016, arXiv:1607.00133) as Opacus ships it (Yousefpour et al. 2021, arXiv:2109.12298): Poisson
sampling, gradients clipped per row, Gaussian noise, and the accountant of Gopi et al. (2021, arXiv:2106.02848), which
is the tightest bound that Opacus has. Rows are borrowers, and neighbours differ by one row, as everywhere in fedcredit.

**Nothing that this module makes is ever released by fedcredit.** Its noise is floating point, from a generator that is
not cryptographic and that a seed repeats; so the epsilon holds in real arithmetic only (Mironov 2012). It serves as a
yardstick for figures. Federated training uses ``privacy.noise``, and no plan names this method.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fedcredit.errors import NotFiniteError

Features: TypeAlias = npt.NDArray[np.float32]
_Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class OpacusModel:
    """A trained network of one hidden layer, and what its training cost by Opacus's own account."""

    network: nn.Module
    epsilon: float
    """At the delta that was asked for."""
    noise_multiplier: float
    steps: int

    def probabilities(self, features: Features) -> npt.NDArray[np.float64]:
        """Return default probabilities, shape (n,), of rows with the features of the training."""
        with torch.no_grad():
            logits = self.network(torch.from_numpy(features)).squeeze(1).double()
        result: npt.NDArray[np.float64] = torch.sigmoid(logits).numpy()
        return result


def train_alone_with_opacus(
    features: Features,
    labels: npt.NDArray[np.int8],
    *,
    epsilon: float,
    delta: float,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    clip: float,
    hidden: int,
    seed: int,
) -> OpacusModel:
    """Return a network of ``hidden`` ReLU units, trained on one institution's rows by Adam under (epsilon, delta)-DP.

    ``features`` has shape (n, p), ``labels`` (n,) with 1 for bad. A batch has ``batch_size`` rows on average, at most
    n; one that is larger means all rows in every step. ``clip`` bounds the L2 norm of one row's gradient. ``seed``
    decides first weights, batches and noise; no other generator is touched. The number of rows counts as public.

    Raises:
        NotFiniteError: training has diverged.
        ValueError: ``epsilon`` is not finite or no noise of Opacus reaches it, or the arrays do not fit.
    """
    if not math.isfinite(epsilon):
        raise ValueError("epsilon must be finite")  # Opacus would train, at a noise of its own choice
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError("features must be (n, p), labels (n,)")
    randomness = torch.Generator().manual_seed(seed)
    network = _network(features.shape[1], hidden, randomness)
    with _silence():
        from opacus import PrivacyEngine

        engine = PrivacyEngine(accountant="prv")
        module, optimizer, batches = engine.make_private_with_epsilon(
            module=network,
            optimizer=torch.optim.Adam(network.parameters(), lr=learning_rate),
            data_loader=DataLoader(
                _Rows(features, labels),
                batch_size=min(batch_size, len(labels)),
                collate_fn=_as_it_is,
                generator=randomness,
            ),
            target_epsilon=epsilon,
            target_delta=delta,
            epochs=epochs,
            max_grad_norm=clip,
            noise_generator=randomness,
        )
        for _ in range(epochs):
            for rows, outcomes in batches:
                optimizer.zero_grad()
                logits = module(rows).squeeze(1)
                loss = nn.functional.binary_cross_entropy_with_logits(logits, outcomes)
                torch.autograd.backward(loss)
                optimizer.step()
        network = module.to_standard_module()
        spent = float(engine.get_epsilon(delta))
    if not all(bool(torch.isfinite(part).all()) for part in network.parameters()):
        raise NotFiniteError(what="a weight of the Opacus comparison")
    return OpacusModel(
        network=network,
        epsilon=spent,
        noise_multiplier=float(optimizer.noise_multiplier),
        steps=epochs * len(batches),
    )


class _Rows(Dataset[_Batch]):
    """Rows that are taken a batch at a time: one by one, the loader costs more than the training."""

    def __init__(self, features: Features, labels: npt.NDArray[np.int8]) -> None:
        self._features = torch.from_numpy(features)
        self._labels = torch.from_numpy(labels.astype(np.float32))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> _Batch:
        return self._features[index], self._labels[index]

    def __getitems__(self, indices: list[int]) -> _Batch:
        picked = torch.tensor(indices, dtype=torch.int64)
        return self._features[picked], self._labels[picked]


def _as_it_is(batch: Any) -> Any:
    return batch


def _network(inputs: int, hidden: int, randomness: torch.Generator) -> nn.Module:
    # On "meta" a layer has no numbers yet; elsewhere it would draw them from torch's global generator.
    first = nn.Linear(inputs, hidden, device="meta").to_empty(device="cpu")
    last = nn.Linear(hidden, 1, device="meta").to_empty(device="cpu")
    for layer in (first, last):
        nn.init.xavier_uniform_(layer.weight, generator=randomness)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), last)


@contextmanager
def _silence() -> Iterator[None]:
    """Drop warnings: Opacus warns about its generator (see above), its grid of orders, and torch about its hooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
