"""Models without the federation, on separable made-up records."""

from __future__ import annotations

import numpy as np
import pytest

from fedcredit.data.datasets import load_dataset
from fedcredit.data.features import encode
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable
from fedcredit.evaluation import rows
from fedcredit.lab.baselines import MIN_BOOSTING_ROWS, best_own_model, opacus_per_site

TAIWAN = load_dataset("taiwan")
INPUTS = model_inputs(TAIWAN.contract)


def _table(institution: str, count: int) -> CreditTable:
    part = TAIWAN.parts[institution]
    names = [modality.name for modality in TAIWAN.contract.modalities]
    return encode(part.complete.slice(0, count), TAIWAN.contract, names, place=institution)


def test_a_model_ranks_new_borrowers_better_than_chance_and_the_same_way_each_time() -> None:
    train, test = _table("bank-a", 900), _table("guarantee-fund-c", 900)
    first = best_own_model([train], [test], INPUTS, seed=1)
    again = best_own_model([train], [test], INPUTS, seed=1)
    assert first.method in {"scorecard", "gradient boosting"}
    assert first.scores.tobytes() == again.scores.tobytes()
    assert first.scores.shape == (len(test),)
    assert rows.auc(first.scores, test.labels) > 0.6


def test_a_model_ignores_a_modality_that_it_never_learnt() -> None:
    train, test = _table("insurer-d", 600).with_modalities(["application"]), _table("bank-a", 300)
    seen = best_own_model([train], [test], INPUTS, seed=1)
    unseen = best_own_model([train], [test.with_modalities(["application"])], INPUTS, seed=1)
    assert seen.scores.tobytes() == unseen.scores.tobytes()


def test_a_small_institution_gets_a_scorecard() -> None:
    train = _table("bank-a", MIN_BOOSTING_ROWS)  # a quarter of them is kept for the choice
    assert best_own_model([train], [train], INPUTS, seed=1).method == "scorecard"


def test_pooling_takes_several_tables_and_scores_the_test_tables_in_their_order() -> None:
    parts = [_table("bank-a", 400), _table("guarantee-fund-c", 400)]
    both = best_own_model(parts, parts, INPUTS, seed=3).scores
    swapped = best_own_model(parts, parts[::-1], INPUTS, seed=3).scores
    assert both.shape == (800,)
    np.testing.assert_array_equal(both[:400], swapped[400:])


@pytest.mark.parametrize("labels", [0, 1])
def test_without_both_outcomes_in_the_check_part_the_scorecard_is_taken_unchecked(labels: int) -> None:
    table = _table("bank-a", 600)
    few = np.flatnonzero(table.labels == 1 - labels)[:1]
    rare = table.take(np.isin(np.arange(len(table)), few) | (table.labels == labels))
    assert int((rare.labels == 1 - labels).sum()) == 1
    assert best_own_model([rare], [rare], INPUTS, seed=1).method == "scorecard"


def test_every_institution_alone_with_opacus_scores_all_test_records_with_what_it_holds() -> None:
    train = [_table("bank-a", 700), _table("insurer-d", 700).with_modalities(["application"])]
    test = [_table("guarantee-fund-c", 500), _table("bank-a", 100)]
    labels = np.concatenate([table.labels for table in test])
    first = opacus_per_site(train, test, INPUTS, epsilon=3.0, delta=1e-5, seed=1)
    again = opacus_per_site(train, test, INPUTS, epsilon=3.0, delta=1e-5, seed=1)
    assert [scores.shape for scores in first] == [(600,), (600,)]
    assert [scores.tobytes() for scores in first] == [scores.tobytes() for scores in again]
    assert rows.auc(first[0], labels) > 0.6
    # The insurer sees the application alone: 10 bins of the limit times 7 of the education give at most 70 scores.
    assert len(np.unique(first[1])) <= 70 < len(np.unique(first[0]))


def test_two_institutions_with_the_same_rows_draw_their_own_noise() -> None:
    table = _table("bank-a", 300)
    one, other = opacus_per_site([table, table], [table], INPUTS, epsilon=1.0, delta=1e-5, seed=1)
    assert one.tobytes() != other.tobytes()
