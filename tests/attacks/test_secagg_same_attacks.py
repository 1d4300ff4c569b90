"""The attacks that read an update out of Flower's SecAgg+, mounted on the same updates under our own protocol.

Every attack is one function (``attacks.secagg_plus.attacks``) run twice: against the installed flwr code it recovers
the victim's vector to the last rounding, against ours it ends with our own error, or with numbers that have nothing to
do with the vector. Coordinates that are left masked are uniform over the ring, plus or minus 128 here; their mean
distance from any vector of this size is 64 with a standard deviation of 4.8 over 60 coordinates, so that the bounds
below are missed with a chance of 6e-7 a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from attacks.secagg_plus import attacks, mersenne
from attacks.secagg_plus.attacks import NothingFoundError
from attacks.secagg_plus.fedcredit import Fedcredit
from attacks.secagg_plus.fedcredit_members import AgreesAgain, Member, TakesAnyPlan, grid_steps
from attacks.secagg_plus.flower import FlowerSecAggPlus, Update
from attacks.secagg_plus.target import HaltedRoundError, Lost, Residues, Target, Vector
from attacks.test_secagg_plus import COLLUDER, NAMES, VICTIM, fold, updates

from fedcredit.errors import FedcreditError
from fedcredit.institution.admission import Approvals
from fedcredit.messages import AVERAGING_GRID, WIRE_VERSION

Make = Callable[..., Fedcredit]
RING = 2.0**32 / AVERAGING_GRID
"""The ring in the unit of a vector: 256."""


@pytest.fixture
def fedcredit(tmp_path: Path) -> Make:
    """Return how to make a target of our own."""

    def make(trained: dict[str, Update], *, threshold: int, kind: type[Member] = Member) -> Fedcredit:
        return Fedcredit(trained, threshold=threshold, approvals=Approvals(tmp_path), kind=kind)

    return make


def assert_recovered(found: Vector, truth: Update, *, quantum: float = 0.5 / AVERAGING_GRID) -> None:
    np.testing.assert_allclose(found, truth.vector, rtol=0, atol=quantum)


def assert_nothing_recovered(found: Vector, truth: Update) -> None:
    """An error as large as the ring, five hundred times the coordinates themselves."""
    error = np.abs(found - truth.vector)
    assert RING / 4 - 24 < error.mean() < RING / 4 + 24
    assert np.abs(truth.vector).mean() < 0.1


# --- the control: an honest coordinator gets the exact sum, and nobody's part of it ----------------------------------


@pytest.mark.parametrize("lost", [{}, {"west": "upload"}, {"west": "shares"}], ids=str)
def test_an_honest_finish_gives_the_exact_sum(fedcredit: Make, lost: dict[str, Lost]) -> None:
    trained = updates()
    total, count = fedcredit(trained, threshold=4).finish_exactly(lost=lost)
    came = [update for name, update in trained.items() if name not in lost]
    assert count == len(came)
    assert total.tolist() == np.sum([grid_steps(update) for update in came], axis=0).tolist()


def test_an_honest_finish_alone_shows_no_member(fedcredit: Make) -> None:
    trained = updates()
    assert_nothing_recovered(attacks.finish_honestly(fedcredit(trained, threshold=4), VICTIM), trained[VICTIM])


# --- what reads an update there, and not here ------------------------------------------------------------------------

Attack = Callable[[Target], Vector]
REFUSED: dict[str, tuple[Attack, str]] = {
    "one node named living and dead": (lambda target: attacks.name_in_both_lists(target, VICTIM), "FC-3105"),
    "public keys swapped on the way": (lambda target: attacks.swap_public_keys(target, VICTIM), "FC-3103"),
    "threshold one, one colluder": (
        lambda target: attacks.lower_the_threshold(target, VICTIM, colluder=COLLUDER),
        "FC-1004",
    ),
}
"""What ends the attack on our protocol."""


@pytest.mark.parametrize("name", REFUSED)
def test_an_attack_that_reads_an_update_from_flower_is_refused_here(fedcredit: Make, name: str) -> None:
    attack, code = REFUSED[name]
    trained = updates()
    found = attack(FlowerSecAggPlus(trained, threshold=4))
    assert_recovered(found, trained[VICTIM], quantum=trained[VICTIM].quantum)
    with pytest.raises(FedcreditError) as refused:
        attack(fedcredit(trained, threshold=4))
    assert refused.value.code == code


def test_what_was_revealed_before_the_refusal_shows_nothing(fedcredit: Make) -> None:
    trained = updates()
    target = fedcredit(trained, threshold=4)
    with pytest.raises(FedcreditError, match="second cohort"):
        attacks.name_in_both_lists(target, VICTIM)
    # Everybody's own seed is out by now, and so the sum; the victim's pair masks are not.
    found = target.decode(target.uploads()[VICTIM] - target.known_masks(VICTIM))
    assert_nothing_recovered(found, trained[VICTIM])


def test_a_lower_threshold_that_a_plan_may_have_is_not_the_approved_plans(fedcredit: Make) -> None:
    target = fedcredit(updates(), threshold=4)
    target.state_threshold(3)
    with pytest.raises(FedcreditError) as refused:
        target.uploads()
    assert refused.value.code == "FC-2301"


def test_two_cohorts_shown_to_two_halves_are_each_agreed_to_by_too_few(fedcredit: Make) -> None:
    """Nobody signs twice but the colluder: of three signatures on each cohort none opens anything."""
    trained = updates()
    target = fedcredit(trained, threshold=4)
    target.corrupt(COLLUDER)
    target.uploads()
    without = set(NAMES) - {VICTIM}
    with pytest.raises(FedcreditError) as refused:
        target.show({"west": without, "centre": without, VICTIM: NAMES, "east": NAMES})
    assert refused.value.code == "FC-3114"
    found = target.decode(target.uploads()[VICTIM] - target.known_masks(VICTIM))
    assert_nothing_recovered(found, trained[VICTIM])


def seeds_near(unknown: int) -> Iterator[Residues]:
    """Yield the 65,536 seeds that have the upper half of ``unknown``: more help than the search of Flower's gets."""
    yield np.arange((unknown >> 16) << 16, ((unknown >> 16) + 1) << 16, dtype=np.uint64).astype(np.uint32)


def test_the_search_of_seeds_that_reads_one_of_three_there_finds_nothing_here(fedcredit: Make) -> None:
    trained = updates(NAMES[:3])
    theirs = FlowerSecAggPlus(trained, threshold=2)
    theirs.uploads()
    unknown = mersenne.gather(fold(theirs.pair_secret(VICTIM, "east")))
    text = mersenne.seeds_of_text(known_high_bits=12, high=unknown >> 16)
    found = attacks.search_for_seed(theirs, VICTIM, colluder=COLLUDER, seeds=text)
    assert_recovered(found, trained[VICTIM], quantum=trained[VICTIM].quantum)
    for space in ("of text", "around the fold of the true seed"):
        ours = fedcredit(trained, threshold=2)
        ours.uploads()
        fold_of_ours = fold(ours.pair_secret(VICTIM, "east"))
        seeds = mersenne.seeds_of_text(known_high_bits=12, high=unknown >> 16)
        with pytest.raises(NothingFoundError):
            attacks.search_for_seed(
                ours, VICTIM, colluder=COLLUDER, seeds=seeds if space == "of text" else seeds_near(fold_of_ours)
            )
        assert_nothing_recovered(ours.decode(ours.uploads()[VICTIM] - ours.known_masks(VICTIM)), trained[VICTIM])


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_search_of_all_seeds_that_reads_one_of_three_there_finds_nothing_here(fedcredit: Make) -> None:
    """All 2^28; the search that finds the seed there is ``test_secagg_plus``'s. About ten minutes of one core."""
    trained = updates(NAMES[:3])
    ours = fedcredit(trained, threshold=2)
    with pytest.raises(NothingFoundError):
        attacks.search_for_seed(ours, VICTIM, colluder=COLLUDER, seeds=mersenne.seeds_of_text())


def test_a_member_lost_before_its_shares_halts_their_round_and_not_ours(fedcredit: Make) -> None:
    trained = updates()
    with pytest.raises(HaltedRoundError):
        FlowerSecAggPlus(trained, threshold=4).finish(lost={"west": "shares"})
    mean = fedcredit(trained, threshold=4).finish(lost={"west": "shares"})
    left = np.mean([update.vector for name, update in trained.items() if name != "west"], axis=0)
    np.testing.assert_allclose(mean, left, rtol=0, atol=0.5 / AVERAGING_GRID)


@pytest.mark.parametrize("moment", ["shares", "upload"])
def test_too_few_members_end_the_round_without_a_sum(fedcredit: Make, moment: Lost) -> None:
    trained = updates()
    target = fedcredit(trained, threshold=4)
    with pytest.raises(FedcreditError) as refused:
        target.finish(lost={"west": moment, "east": moment})
    assert refused.value.code == {"shares": "FC-3106", "upload": "FC-3115"}[moment]


def test_no_number_of_a_member_travels_in_clear_beside_its_masked_vector(fedcredit: Make) -> None:
    trained = updates()
    theirs = FlowerSecAggPlus(trained, threshold=4)
    theirs.uploads()
    assert trained[VICTIM].examples in theirs.numbers_in_clear(VICTIM).values()
    ours = fedcredit(trained, threshold=4)
    ours.uploads()
    assert ours.numbers_in_clear(VICTIM) == {"upload/version": WIRE_VERSION}


# --- calibration: the same moves, where the rule that stops them is missing or the bound is crossed ------------------


def test_without_the_rule_of_one_cohort_the_update_is_read(fedcredit: Make) -> None:
    trained = updates()
    target = fedcredit(trained, threshold=4, kind=AgreesAgain)
    assert_recovered(attacks.name_in_both_lists(target, VICTIM), trained[VICTIM])


def test_if_the_coordinator_set_the_threshold_three_colluders_would_read_the_update(fedcredit: Make) -> None:
    def attack(kind: type[Member]) -> Vector:
        target = fedcredit(trained, threshold=4, kind=kind)
        for name in ("north", "west", "centre"):
            target.corrupt(name)
        target.state_threshold(3)
        return target.decode(target.uploads()[VICTIM] - target.known_masks(VICTIM))

    trained = updates()
    assert_recovered(attack(TakesAnyPlan), trained[VICTIM])
    with pytest.raises(FedcreditError) as refused:
        attack(Member)
    assert refused.value.code == "FC-2301"


@pytest.mark.parametrize("honest", ["", "centre"])
def test_one_member_against_all_others_is_read_and_against_all_but_one_is_not(fedcredit: Make, honest: str) -> None:
    trained = updates()
    target = fedcredit(trained, threshold=5)
    for name in set(NAMES) - {VICTIM, honest}:
        target.corrupt(name)
    found = attacks.finish_honestly(target, VICTIM)
    (assert_nothing_recovered if honest else assert_recovered)(found, trained[VICTIM])


def test_the_bound_on_colluders_is_sharp(fedcredit: Make) -> None:
    """Of three members with threshold two, none may collude (2t - n - 1 = 0): one who signs two cohorts is enough."""
    trained = updates(NAMES[:3])
    target = fedcredit(trained, threshold=2)
    target.corrupt(COLLUDER)
    target.uploads()
    target.show({"east": NAMES[:3], VICTIM: (COLLUDER, VICTIM)})
    assert_recovered(target.decode(target.uploads()[VICTIM] - target.known_masks(VICTIM)), trained[VICTIM])
