"""What f of 10 lying members do to a model, without and with the bound of their sums (QUALITY.md R14 and 5.4).

Taiwan's 30,000 borrowers, divided at random; the recommended settings; noise shared at epsilon 3, already the wider one
that the bound needs. Loss of AUC against the training in which nobody lies, f = 2, scorecard: sign flip x10 0.276
without the bound and 0.014 with it, scale x100 0.094 and 0.000, noise 0.024 and 0.003, all that the bound leaves 0.276
and 0.021; the other attacks stay below 0.02 in both. A model that a sign flip destroys has an AUC of 0.5 here and not
below, because all scores end at 0 or 1: so "alive" is a loss of 0.25.

Measured beside it, and not kept: a bound per number alone. Fixed at what honest sums reach in the first round, it
leaves a loss of 0.23 to the sign flip; following the last sum, 0.10, and 0.14 to the liar that fills it.

The bound is a bound on honest programs. A member who changed its program can still destroy the model from within the
range of honest sums; then the votes are left, and they see it. They do not see a backdoor.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from attacks.poisoning import (
    ATTACKS,
    BACKDOOR,
    IN_RANGE,
    NAMES,
    ONE_BIN,
    Consortium10,
    Outcome,
    consortium10,
    noised_counts,
    waved_through,
)

from fedcredit.errors import NotFiniteError, UpdateOutOfRangeError
from fedcredit.evaluation import ScoreCounts, count_scores, score_edges
from fedcredit.evaluation.vote import Choice, vote
from fedcredit.training.update_bound import bounded

ALIVE, LARGEST_LOSS, PRICE = 0.25, 0.02, 0.001
AT_THE_BOUND = 0.03
"""Allowed to the liar that knows the bound and fills it to the last, which is none of the ten attacks of QUALITY.md."""
FLOOR = 0.7
"""What a consortium would ask of a candidate here, where an honest one has 0.776."""
VOTERS_ROWS = 600
VOTES = 100


@pytest.fixture(scope="module")
def scorecard() -> Consortium10:
    return consortium10("scorecard")


def loss(consortium: Consortium10, attacked: Outcome, *, bound: bool) -> float:
    return consortium.clean(bound=bound).auc - attacked.auc


def allowed(attack: str) -> float:
    return AT_THE_BOUND if attack == "at the bound" else LARGEST_LOSS


@pytest.mark.parametrize("model", ["scorecard", "trees"])
def test_without_the_bound_two_members_destroy_the_model(model: str) -> None:
    consortium = consortium10(model)
    attacked = consortium.train_with("sign flip x10", liars=2, bound=False)
    assert loss(consortium, attacked, bound=False) >= ALIVE


@pytest.mark.parametrize("liars", [1, 2])
@pytest.mark.parametrize("attack", ATTACKS)
def test_with_the_bound_no_attack_costs_much(scorecard: Consortium10, attack: str, liars: int) -> None:
    attacked = scorecard.train_with(attack, liars=liars, bound=True)
    assert loss(scorecard, attacked, bound=True) <= allowed(attack)


@pytest.mark.parametrize("attack", ["sign flip x10", "at the bound"])
def test_trees_are_held_as_well(attack: str) -> None:
    trees = consortium10("trees")
    assert loss(trees, trees.train_with(attack, liars=2, bound=True), bound=True) <= allowed(attack)


@pytest.mark.slow
@pytest.mark.parametrize("liars", [1, 2])
@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack != ONE_BIN])
@pytest.mark.parametrize("model", ["trees", "network"])
def test_the_whole_grid_is_held(model: str, attack: str, liars: int) -> None:
    consortium = consortium10(model)
    assert loss(consortium, consortium.train_with(attack, liars=liars, bound=True), bound=True) <= allowed(attack)


@pytest.mark.slow
def test_a_network_without_the_bound_is_destroyed() -> None:
    network = consortium10("network")
    assert loss(network, network.train_with("sign flip x10", liars=2, bound=False), bound=False) >= ALIVE


@pytest.mark.parametrize("model", ["scorecard", pytest.param("trees", marks=pytest.mark.slow)])
def test_the_bound_costs_the_honest_nothing_that_matters(model: str) -> None:
    """Three draws of noise, the same in both trainings; the noise of both is already the wider one."""
    consortium = consortium10(model)
    price = [consortium.clean(bound=False, seed=s).auc - consortium.clean(seed=s).auc for s in range(3)]
    assert np.mean(price) <= PRICE


@pytest.mark.parametrize("model", ["scorecard", "trees"])
def test_the_noise_for_bounded_sums_is_hardly_wider(model: str) -> None:
    consortium = consortium10(model)
    bounds = consortium.bounds[NAMES[0]]
    wider = (bounded(bounds).sensitivity_squared or 0) / (bounds.sensitivity_squared or 1)
    assert wider**0.5 <= 1.08


@pytest.mark.parametrize("attack", [BACKDOOR, ONE_BIN])
@pytest.mark.parametrize("liars", [1, 2])
def test_a_backdoor_opens_without_the_bound_and_stays_half_shut_with_it(
    scorecard: Consortium10, attack: str, liars: int
) -> None:
    """The figure: held-out defaulters who carry the trigger and score below the base rate. Clean 0.31, open 1.0."""
    usual = waved_through(scorecard, scorecard.clean().weights)
    open_door = scorecard.train_with(attack, liars=liars, bound=False)
    assert waved_through(scorecard, open_door.weights) >= 0.95
    held = scorecard.train_with(attack, liars=liars, bound=True)
    assert waved_through(scorecard, held.weights) <= 2 * usual


def test_a_number_that_is_none_never_leaves_an_institution() -> None:
    network = consortium10("network")
    name = NAMES[0]
    table = network.train[name].take(np.arange(len(network.train[name])) < 50)
    broken = replace(
        table,
        modalities={
            key: replace(
                part, dense=np.where(np.arange(part.dense.size).reshape(part.dense.shape) == 0, np.nan, part.dense)
            )
            for key, part in table.modalities.items()
        },
    )
    with pytest.raises(NotFiniteError):
        network.family.computation(network.plan, name, broken).integer_sum(
            network.family.initial_weights(), round_number=1, batch=None
        )


@pytest.mark.parametrize(("attack", "liars"), [("scale x100", 1), ("sign flip x10", 2), (ONE_BIN, 1)])
def test_a_changed_program_that_sends_too_much_is_noticed(scorecard: Consortium10, attack: str, liars: int) -> None:
    with pytest.raises(UpdateOutOfRangeError):
        scorecard.train_with(attack, liars=liars, bound=True, unbounded=True, checked=True)


@pytest.mark.parametrize("seed", range(3))
def test_honest_sums_are_always_in_range(scorecard: Consortium10, seed: int) -> None:
    scorecard.train_with(None, liars=0, bound=True, checked=True, seed=seed)


def test_a_changed_program_can_destroy_the_model_in_range_and_the_votes_see_it(scorecard: Consortium10) -> None:
    ruined = scorecard.train_with(IN_RANGE, liars=1, bound=True, unbounded=True, checked=True)
    assert loss(scorecard, ruined, bound=True) >= ALIVE
    assert share_of_noes(scorecard, ruined, rows=VOTERS_ROWS) >= 0.9
    assert share_of_noes(scorecard, scorecard.clean(), rows=VOTERS_ROWS) <= 0.05


def test_the_votes_do_not_see_a_backdoor(scorecard: Consortium10) -> None:
    """A limit, kept here so that nobody believes otherwise."""
    assert share_of_noes(scorecard, scorecard.train_with(ONE_BIN, liars=2, bound=False), rows=VOTERS_ROWS) <= 0.05


def share_of_noes(consortium: Consortium10, outcome: Outcome, *, rows: int) -> float:
    """Return the share of no among members with so many held-out borrowers, at evaluation epsilon 1."""
    rng = np.random.default_rng(rows)
    edges = score_edges(consortium.plan.model.base_rate)
    noes = 0
    for _ in range(VOTES):
        picked = rng.integers(0, len(outcome.labels), size=rows)
        exact: ScoreCounts = count_scores(outcome.scores[picked], outcome.labels[picked], edges)
        counts, deviation = noised_counts(consortium.plan, exact, rng)
        noes += vote(counts, noise_deviation=deviation, floor=FLOOR).choice is Choice.NO
    return noes / VOTES
