from __future__ import annotations

import numpy as np
import pytest
import torch

from fedcredit.model.layout import ModalityShape
from fedcredit.model.linear_stack import probabilities
from fedcredit.model.logistic import LogisticRegression
from fedcredit.model.network import MultimodalNetwork
from fedcredit.model.scorecard import Scorecard

INPUTS = {
    "application": ModalityShape(kind="static", bins=(2, 3), dense=(4,)),
    "repayment": ModalityShape(kind="sequence", bins=(3, 2), dense=(5, 2)),
}
ACTIVE = 2.0
"""The value of an active bin: 4 / √4 features."""
HELD = [["application"], ["repayment"], ["application", "repayment"]]
WIDTH = 3
MODEL = MultimodalNetwork(INPUTS, width=WIDTH)
RNG = np.random.default_rng(20260301)
WEIGHTS = RNG.normal(size=MODEL.layout.size)
DENSE = {
    "application": RNG.uniform(-1, 1, size=(6, 4)).astype(np.float32),
    "repayment": RNG.uniform(-1, 1, size=(6, 5, 2)).astype(np.float32),
}
CODES = {
    name: np.array([[i % bins for bins in shape.bins] for i in range(6)], dtype=np.int16)
    for name, shape in INPUTS.items()
}


def designed(held: list[str]) -> dict[str, np.ndarray]:
    return {name: MODEL.design(name, CODES[name], DENSE[name]) for name in held}


def by_hand(weights: np.ndarray, held: list[str]) -> np.ndarray:
    """The network of the module's docstring in loops, one borrower at a time."""
    part = MODEL.layout.split(weights)
    result = []
    for i in range(6):
        embeddings = []
        points = 0.0
        for name in held:
            record = [
                ACTIVE * (CODES[name][i, feature] == code)
                for feature, bins in enumerate(INPUTS[name].bins)
                for code in range(bins)
            ]
            if name == "application":
                record += list(DENSE[name][i].astype(float))
            x = np.array(record)
            embeddings.append(np.tanh(part[f"{name}.encoder.weight"] @ x + part[f"{name}.encoder.bias"]))
            points += (part[f"{name}.points.weight"] @ x + part[f"{name}.points.bias"])[0]
        if "repayment" in held:
            series = DENSE["repayment"][i].astype(float)
            windows = []
            for start in range(len(series) - 2):
                # channel by channel, three steps each
                window = np.concatenate([series[start : start + 3, channel] for channel in range(series.shape[1])])
                windows.append(np.tanh(part["repayment.sequence.weight"] @ window + part["repayment.sequence.bias"]))
            embeddings.append(np.mean(windows, axis=0))
        hidden = np.tanh(part["fusion.weight"] @ np.mean(embeddings, axis=0) + part["fusion.bias"])
        result.append(1 / (1 + np.exp(-(part["head.weight"] @ hidden + part["head.bias"])[0] - points)))
    return np.array(result)


@pytest.mark.parametrize("held", HELD, ids=str)
def test_the_network_is_the_one_that_its_docstring_draws(held: list[str]) -> None:
    np.testing.assert_allclose(probabilities(MODEL, WEIGHTS, designed(held)), by_hand(WEIGHTS, held), rtol=1e-12)


@pytest.mark.parametrize("held", HELD, ids=str)
def test_without_its_head_the_network_is_a_scorecard(held: list[str]) -> None:
    card = Scorecard(INPUTS)
    points = card.layout.split(RNG.normal(size=card.layout.size))
    parts = MODEL.layout.split(WEIGHTS.copy())
    scale = np.sqrt(card.active)
    parts["head.weight"][:] = 0
    parts["head.bias"][:] = points["intercept"] / scale
    for name, shape in INPUTS.items():
        parts[f"{name}.points.weight"][:] = 0
        parts[f"{name}.points.weight"][0, : sum(shape.bins)] = points[f"{name}.bins"] / scale / ACTIVE
        parts[f"{name}.points.bias"][:] = points[f"{name}.present"] / scale
    scored = probabilities(MODEL, MODEL.layout.join(parts), designed(held))
    expected = card.probabilities(card.layout.join(points), {name: CODES[name] for name in held})
    np.testing.assert_allclose(scored, expected, rtol=1e-12)


def test_the_design_is_the_bins_and_then_the_numbers_step_by_step() -> None:
    codes = np.array([[2, 0], [0, 1]], dtype=np.int16)
    dense = np.array([[[1, 2]] * 5, [[3, 4]] * 5], dtype=np.float32) / 4
    assert MODEL.design("repayment", codes, dense).tolist() == [
        [0, 0, 2, 2, 0] + [0.25, 0.5] * 5,
        [2, 0, 0, 0, 2] + [0.75, 1.0] * 5,
    ]
    nobody = MODEL.design("repayment", codes[:0], dense[:0])
    assert (nobody.shape, nobody.dtype) == ((0, 15), np.float32)


@pytest.mark.parametrize("features", [1, 5, 40])
def test_the_bins_of_a_complete_record_have_a_norm_of_four_under_every_contract(features: int) -> None:
    inputs = {name: ModalityShape(kind="static", bins=(3,) * features, dense=(1,)) for name in ("a", "b")}
    model = MultimodalNetwork(inputs, width=1)
    codes, none = np.zeros((1, features), dtype=np.int16), np.zeros((1, 1), dtype=np.float32)
    record = np.concatenate([model.design(name, codes, none) for name in inputs], axis=1)
    assert np.linalg.norm(record) == pytest.approx(4, rel=1e-6)


def test_a_contract_without_bins_has_only_numbers() -> None:
    model = MultimodalNetwork({"a": ModalityShape(kind="static", bins=(), dense=(2,))}, width=2)
    dense = np.array([[0.5, -1]], dtype=np.float32)
    assert model.design("a", np.zeros((1, 0), dtype=np.int16), dense).tolist() == [[0.5, -1]]


def test_a_borrower_is_scored_without_regard_to_the_others() -> None:
    dense = designed(HELD[2])
    everyone = probabilities(MODEL, WEIGHTS, dense)
    for i in range(6):
        alone = probabilities(MODEL, WEIGHTS, {name: values[i : i + 1] for name, values in dense.items()})
        assert alone[0] == pytest.approx(everyone[i], rel=1e-13)


def test_the_layout_names_encoders_and_points_per_modality_and_the_shared_layers() -> None:
    assert [(block.name, block.shape, block.modality) for block in MODEL.layout.blocks] == [
        ("application.encoder.weight", (3, 9), "application"),
        ("application.encoder.bias", (3,), "application"),
        ("application.points.weight", (1, 9), "application"),
        ("application.points.bias", (1,), "application"),
        ("repayment.encoder.weight", (3, 5), "repayment"),
        ("repayment.encoder.bias", (3,), "repayment"),
        ("repayment.sequence.weight", (3, 6), "repayment"),
        ("repayment.sequence.bias", (3,), "repayment"),
        ("repayment.points.weight", (1, 5), "repayment"),
        ("repayment.points.bias", (1,), "repayment"),
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
    for zero in ("fusion.bias", "application.points.weight", "application.points.bias", "repayment.points.weight"):
        assert not parts[zero].any()
    assert 0 < np.abs(parts["fusion.weight"]).max() <= np.sqrt(6 / 6)
    assert 0 < np.abs(parts["application.encoder.weight"]).max() <= np.sqrt(6 / 12)


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
        scored = probabilities(model, weights, {name: model.design(name, CODES[name], DENSE[name]) for name in held})
        np.testing.assert_allclose(scored, 1 / (1 + np.exp(-expected)), rtol=1e-12)
    start = model.initial_weights(seed=1, base_rate=0.3)
    np.testing.assert_allclose(probabilities(model, start, DENSE), 0.3, rtol=1e-12)


def test_scoring_keeps_no_graph_and_changes_no_weight() -> None:
    before = WEIGHTS.copy()
    probabilities(MODEL, WEIGHTS, designed(HELD[2]))
    assert WEIGHTS.tobytes() == before.tobytes()
    assert torch.is_grad_enabled()
