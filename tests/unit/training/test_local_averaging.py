from __future__ import annotations

import numpy as np
import pytest

from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.errors import NoiseRangeError, NotFiniteError
from fedcredit.messages import AVERAGING_GRID
from fedcredit.model.layout import ModalityShape
from fedcredit.model.logistic import LogisticRegression
from fedcredit.training.local_averaging import LocalAveraging

INPUTS = {name: ModalityShape(kind="static", bins=(2,), dense=(3,)) for name in ("application", "repayment")}
MODEL = LogisticRegression(INPUTS)
RNG = np.random.default_rng(7)
DENSE = RNG.uniform(-1, 1, size=(20, 3)).astype(np.float32)
LABELS = RNG.integers(0, 2, size=20).astype(np.int8)
TABLE = CreditTable(
    entities=np.array([str(i) for i in range(20)], dtype=np.str_),
    labels=LABELS,
    modalities={"application": ModalityTable(codes=np.zeros((20, 1), dtype=np.int16), dense=DENSE)},
    dropped=0,
)
START = RNG.normal(size=MODEL.layout.size)


def averaging(**changes: object) -> LocalAveraging:
    options = {"learning_rate": 0.5, "epochs": 1, "batch_size": 20, "share": 0.25, "seed": b"seed", **changes}
    return LocalAveraging(MODEL, TABLE, **options)  # type: ignore[arg-type]


def by_hand(*, epochs: int) -> np.ndarray:
    """Full batches: plain gradient descent on the mean loss."""
    weights = START.copy()
    columns = [0, 1, 2, 6]
    inputs = np.hstack([DENSE.astype(float), np.ones((20, 1))])
    for _ in range(epochs):
        residuals = 1 / (1 + np.exp(-inputs @ weights[columns])) - LABELS
        weights[columns] -= 0.5 * inputs.T @ residuals / 20
    return weights - START


@pytest.mark.parametrize("epochs", [1, 3])
def test_full_batches_are_gradient_descent_weighted_by_the_public_share(epochs: int) -> None:
    result = averaging(epochs=epochs).integer_sum(START, round_number=1, batch=None)
    np.testing.assert_allclose(result.values / AVERAGING_GRID, 0.25 * by_hand(epochs=epochs), atol=1 / AVERAGING_GRID)


def test_what_is_not_held_stays_zero() -> None:
    result = averaging(batch_size=4).integer_sum(START, round_number=1, batch=None)
    assert (result.values != 0).tolist() == [True] * 3 + [False] * 3 + [True]


def test_the_order_of_batches_is_public_and_differs_from_round_to_round() -> None:
    first = averaging(batch_size=3, epochs=2).integer_sum(START, round_number=1, batch=None).values
    assert (
        first.tolist()
        == averaging(batch_size=3, epochs=2).integer_sum(START, round_number=1, batch=None).values.tolist()
    )
    assert (
        first.tolist()
        != averaging(batch_size=3, epochs=2, seed=b"other")
        .integer_sum(START, round_number=1, batch=None)
        .values.tolist()
    )


def test_a_training_that_diverges_never_leaves() -> None:
    with pytest.raises(NoiseRangeError):
        averaging(learning_rate=1e6).integer_sum(START, round_number=1, batch=None)
    with pytest.raises(NotFiniteError):
        averaging(learning_rate=float("inf")).integer_sum(START, round_number=1, batch=None)
