from __future__ import annotations

import math

import numpy as np
import pytest

from fedcredit.model.layout import ModalityShape
from fedcredit.model.scorecard import Scorecard, logit, sigmoid

INPUTS = {
    "application": ModalityShape(kind="static", bins=(2, 3), dense=(4,)),
    "repayment": ModalityShape(kind="sequence", bins=(2,), dense=(3, 1)),
}
MODEL = Scorecard(INPUTS)


def codes(*rows: list[int]) -> np.ndarray:
    return np.array(rows, dtype=np.int16)


def test_the_layout_is_an_intercept_and_per_modality_a_presence_and_its_bins() -> None:
    assert [(block.name, block.size, block.modality) for block in MODEL.layout.blocks] == [
        ("intercept", 1, None),
        ("application.present", 1, "application"),
        ("application.bins", 5, "application"),
        ("repayment.present", 1, "repayment"),
        ("repayment.bins", 2, "repayment"),
    ]
    assert MODEL.active == 1 + (1 + 2) + (1 + 1)


def test_each_code_switches_on_its_own_parameter() -> None:
    # intercept 0 | present 1 | bins 2-3, 4-6 | present 7 | bins 8-9
    both = {"application": codes([1, 2], [0, 0]), "repayment": codes([1], [0])}
    assert MODEL.active_parameters(both).tolist() == [[0, 1, 3, 6, 7, 9], [0, 1, 2, 4, 7, 8]]
    assert MODEL.active_parameters({"repayment": codes([1])}).tolist() == [[0, 7, 9]]


def test_no_two_features_share_a_parameter() -> None:
    every = [(feature, code) for feature, bins in enumerate((2, 3)) for code in range(bins)]
    places = set()
    for feature, code in every:
        row = [0, 0]
        row[feature] = code
        places.add(int(MODEL.active_parameters({"application": codes(row)})[0, 2 + feature]))
    assert len(places) == len(every) == 5


def test_the_probability_is_that_of_the_summed_weights() -> None:
    weights = np.arange(10.0)
    both = {"application": codes([1, 2]), "repayment": codes([1])}
    total = (0 + 1 + 3 + 6 + 7 + 9) / math.sqrt(6)
    assert MODEL.probabilities(weights, both)[0] == pytest.approx(1 / (1 + math.exp(-total)), rel=1e-14)


def test_training_starts_at_the_base_rate_for_everybody() -> None:
    weights = MODEL.initial_weights(base_rate=0.07)
    for held in ({"application": codes([1, 2])}, {"repayment": codes([0])}):
        assert MODEL.probabilities(weights, held)[0] == pytest.approx(0.07, rel=1e-12)


def test_log_odds_undo_the_sigmoid_and_nothing_overflows() -> None:
    for probability in (1e-9, 0.2, 0.5, 1 - 1e-9):
        assert sigmoid(np.array([logit(probability)]))[0] == pytest.approx(probability, rel=1e-6)
    with np.errstate(all="raise"):
        assert sigmoid(np.array([-1e300, 0.0, 1e300])).tolist() == [0.0, 0.5, 1.0]
