from __future__ import annotations

import numpy as np
import pytest

from fedcredit.errors import EvaluationInputError
from fedcredit.evaluation import ScoreCounts, noisy_auc_interval, score_edges
from fedcredit.evaluation.vote import Choice, Outcome, Reason, decide, vote

EDGES = score_edges(0.2)
RISING = np.arange(10)


def counts(good: object, bad: object) -> ScoreCounts:
    return ScoreCounts(edges=EDGES, good=np.array(good), bad=np.array(bad))


def test_a_model_that_ranks_well_gets_a_yes() -> None:
    given = vote(counts(100 * (10 - RISING), 30 * RISING), noise_deviation=4.0, floor=0.7)
    assert (given.choice, given.reason) == (Choice.YES, Reason.BETTER_THAN_CHANCE)


def test_a_model_that_ranks_by_chance_gets_a_no() -> None:
    given = vote(counts([200] * 10, [50] * 10), noise_deviation=4.0, floor=0.7)
    assert (given.choice, given.reason) == (Choice.NO, Reason.BELOW_FLOOR)
    assert given.auc is not None
    assert given.auc.value == 0.5


def test_the_interval_decides_and_not_the_figure() -> None:
    table = counts(100 * (10 - RISING), 30 * RISING)
    highest = noisy_auc_interval(table, noise_deviation=4.0).high
    assert vote(table, noise_deviation=4.0, floor=highest).choice is Choice.YES
    assert vote(table, noise_deviation=4.0, floor=np.nextafter(highest, 1)).choice is Choice.NO


def test_a_table_too_small_to_tell_abstains() -> None:
    given = vote(counts([2] * 10, [1] * 10), noise_deviation=4.0, floor=0.7)
    assert (given.choice, given.reason) == (Choice.ABSTAIN, Reason.CANNOT_TELL)


def test_a_table_without_defaults_abstains() -> None:
    given = vote(counts([50] * 10, [-1] * 10), noise_deviation=4.0, floor=0.7)
    assert (given.choice, given.reason, given.auc) == (Choice.ABSTAIN, Reason.TOO_FEW, None)


@pytest.mark.parametrize("floor", [0.5, 1.0, float("nan")])
def test_a_floor_that_excludes_nothing_or_everything_is_refused(floor: float) -> None:
    with pytest.raises(EvaluationInputError):
        vote(counts([5] * 10, [5] * 10), noise_deviation=4.0, floor=floor)


def test_noise_without_a_known_deviation_is_refused() -> None:
    with pytest.raises(EvaluationInputError):
        vote(counts([5] * 10, [5] * 10), noise_deviation=-1.0, floor=0.7)


@pytest.mark.parametrize(
    ("yes", "no", "abstain", "unheard", "colluders", "outcome"),
    [
        (1, 0, 9, 0, 0, Outcome.RELEASED),
        (0, 0, 10, 0, 0, Outcome.NOT_RELEASED),
        (1, 1, 8, 0, 0, Outcome.NOT_RELEASED),
        (2, 1, 7, 0, 0, Outcome.RELEASED),
        (2, 0, 8, 0, 2, Outcome.NOT_RELEASED),  # colluders alone release nothing
        (3, 2, 5, 0, 2, Outcome.RELEASED),  # nor do they keep back what one more of the others can judge
        (3, 3, 4, 0, 2, Outcome.NOT_RELEASED),
        (2, 8, 0, 0, 2, Outcome.NOT_RELEASED),
        (3, 0, 1, 2, 1, Outcome.RELEASED),
        (3, 2, 0, 2, 1, Outcome.NOT_RELEASED),  # two that would say no, left out by the coordinator
        (3, 0, 0, 3, 0, Outcome.NOT_RELEASED),
    ],
)
def test_the_rule_by_hand(yes: int, no: int, abstain: int, unheard: int, colluders: int, outcome: Outcome) -> None:
    choices = [Choice.YES] * yes + [Choice.NO] * no + [Choice.ABSTAIN] * abstain
    assert decide(choices, unheard=unheard, colluders=colluders) is outcome


def test_every_reason_is_for_one_choice() -> None:
    assert [reason.choice for reason in Reason] == [Choice.YES, Choice.NO, *[Choice.ABSTAIN] * 3]
