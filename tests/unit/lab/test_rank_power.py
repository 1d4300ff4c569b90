"""Areas under the curve when the probability of default is known."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score

from fedcredit.lab.rank_power import soft_auc


def test_with_certain_labels_it_is_the_ordinary_area() -> None:
    rng = np.random.default_rng(1)
    bad = rng.random(500) < 0.3
    score = np.round(rng.standard_normal(500) + bad, 1)  # with ties
    assert np.isclose(soft_auc(score, bad.astype(float)), roc_auc_score(bad, score))


def test_it_is_what_many_draws_of_the_labels_give_on_average() -> None:
    rng = np.random.default_rng(2)
    probability = rng.beta(1, 4, 300)
    score = np.round(2 * probability + 0.3 * rng.standard_normal(300), 2)
    draws = [roc_auc_score(rng.random(300) < probability, score) for _ in range(2000)]
    assert abs(np.mean(draws) - soft_auc(score, probability)) < 4 * np.std(draws) / np.sqrt(2000) + 0.002


def test_a_constant_score_ranks_nothing_and_a_perfect_one_everything() -> None:
    probability = np.array([0.0, 0.0, 1.0, 1.0])
    assert soft_auc(np.zeros(4), probability) == 0.5
    assert soft_auc(np.array([1.0, 2.0, 3.0, 4.0]), probability) == 1.0
    assert soft_auc(np.array([4.0, 3.0, 2.0, 1.0]), probability) == 0.0
