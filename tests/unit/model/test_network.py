from __future__ import annotations

import numpy as np
import pytest
import torch

from fedcredit.model.layout import ModalityShape
from fedcredit.model.linear_stack import probabilities
from fedcredit.model.logistic import LogisticRegression
from fedcredit.model.network import MultimodalNetwork

INPUTS = {
    "application": ModalityShape(kind="static", bins=(2,), dense=(4,)),
    "repayment": ModalityShape(kind="sequence", bins=(2,), dense=(5, 2)),
}
WIDTH = 3
MODEL = MultimodalNetwork(INPUTS, width=WIDTH)
RNG = np.random.default_rng(20260301)
WEIGHTS = RNG.normal(size=MODEL.layout.size)
DENSE = {
    "application": RNG.uniform(-1, 1, size=(6, 4)).astype(np.float32),
    "repayment": RNG.uniform(-1, 1, size=(6, 5, 2)).astype(np.float32),
}


def by_hand(weights: np.ndarray, dense: dict[str, np.ndarray]) -> np.ndarray:
    """The network of the module's docstring in loops, one borrower at a time."""
    part = MODEL.layout.split(weights)
    rows = len(next(iter(dense.values())))
    result = []
    for i in range(rows):
        embeddings = []
        if "application" in dense:
            x = dense["application"][i].astype(float)
            embeddings.append(np.tanh(part["application.encoder.weight"] @ x + part["application.encoder.bias"]))
        if "repayment" in dense:
            series = dense["repayment"][i].astype(float)
            windows = []
            for start in range(len(series) - 2):
                # channel by channel, three steps each
                window = np.concatenate([series[start : start + 3, channel] for channel in range(series.shape[1])])
                windows.append(np.tanh(part["repayment.encoder.weight"] @ window + part["repayment.encoder.bias"]))
            embeddings.append(np.mean(windows, axis=0))
        hidden = np.tanh(part["fusion.weight"] @ np.mean(embeddings, axis=0) + part["fusion.bias"])
        result.append(1 / (1 + np.exp(-(part["head.weight"] @ hidden + part["head.bias"])[0])))
    return np.array(result)


@pytest.mark.parametrize("held", [["application"], ["repayment"], ["application", "repayment"]], ids=str)
def test_the_network_is_the_one_that_its_docstring_draws(held: list[str]) -> None:
    dense = {name: DENSE[name] for name in held}
    np.testing.assert_allclose(probabilities(MODEL, WEIGHTS, dense), by_hand(WEIGHTS, dense), rtol=1e-12)


def test_a_borrower_is_scored_without_regard_to_the_others() -> None:
    everyone = probabilities(MODEL, WEIGHTS, DENSE)
    for i in range(6):
        alone = probabilities(MODEL, WEIGHTS, {name: values[i : i + 1] for name, values in DENSE.items()})
        assert alone[0] == pytest.approx(everyone[i], rel=1e-13)


def test_the_layout_names_an_encoder_per_modality_and_the_shared_layers() -> None:
    assert [(block.name, block.shape, block.modality) for block in MODEL.layout.blocks] == [
        ("application.encoder.weight", (3, 4), "application"),
        ("application.encoder.bias", (3,), "application"),
        ("repayment.encoder.weight", (3, 6), "repayment"),
        ("repayment.encoder.bias", (3,), "repayment"),
        ("fusion.weight", (3, 3), None),
        ("fusion.bias", (3,), None),
        ("head.weight", (1, 3), None),
        ("head.bias", (1,), None),
    ]


def test_the_starting_point_is_public_and_near_the_base_rate() -> None:
    first = MODEL.initial_weights(seed=1, base_rate=0.1)
    assert first.tobytes() == MODEL.initial_weights(seed=1, base_rate=0.1).tobytes()
    assert first.tobytes() != MODEL.initial_weights(seed=2, base_rate=0.1).tobytes()
    parts = MODEL.layout.split(first)
    assert parts["head.bias"][0] == pytest.approx(np.log(0.1 / 0.9))
    assert not parts["fusion.bias"].any()
    assert np.abs(parts["fusion.weight"]).max() <= np.sqrt(6 / 6)


def test_a_sequence_shorter_than_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        MultimodalNetwork({"a": ModalityShape(kind="sequence", bins=(), dense=(2, 1))}, width=2)


def test_logistic_regression_is_a_weighted_sum_over_what_is_held() -> None:
    model = LogisticRegression(INPUTS)
    weights = np.linspace(-1, 1, model.layout.size)
    parts = model.layout.split(weights)
    for held in (["application"], ["repayment"], ["application", "repayment"]):
        expected = np.full(6, parts["bias"][0])
        for name in held:
            expected += DENSE[name].reshape(6, -1).astype(float) @ parts[f"{name}.weight"][0]
        scored = probabilities(model, weights, {name: DENSE[name] for name in held})
        np.testing.assert_allclose(scored, 1 / (1 + np.exp(-expected)), rtol=1e-12)
    start = model.initial_weights(seed=1, base_rate=0.3)
    np.testing.assert_allclose(probabilities(model, start, DENSE), 0.3, rtol=1e-12)


def test_scoring_keeps_no_graph_and_changes_no_weight() -> None:
    before = WEIGHTS.copy()
    probabilities(MODEL, WEIGHTS, DENSE)
    assert WEIGHTS.tobytes() == before.tobytes()
    assert torch.is_grad_enabled()
