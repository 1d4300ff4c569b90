"""The simulation can fail: every planted mistake is found, and by the sentence that is about it."""

from __future__ import annotations

import pytest
from simulation import mutants
from simulation.faults import ANYBODY, Fault, Kind, Schedule, Setting
from simulation.federation import AS_SHIPPED, Product, play

FIVE = Setting(members=5, threshold=3, quorum=4, rounds=3, seed=11)


def fault(kind: Kind, point: str, *, member: int = ANYBODY, at: int = 0, times: int = 1, amount: int = 1) -> Fault:
    return Fault(kind=kind, point=point, member=member, at=at, times=times, amount=amount, lasting_s=90)


NOTHING = Schedule(FIVE, ())
ONE_MISSING = Schedule(FIVE, (fault(Kind.DROP, "upload/request", member=2),))
NOBODY_REVEALS = fault(Kind.DROP, "reveal/answer", times=5)
# The first attempt's shares have left; in the second attempt one member is missing.
OTHER_COHORT = Schedule(FIVE, (NOBODY_REVEALS, fault(Kind.DROP, "upload/request", member=2, at=1)))
SET_BACK = Schedule(FIVE, (fault(Kind.STALE, "reveal/store", member=1, at=1, amount=2),))

FOUND = {
    "a mask that neither step nor manifest changes": (mutants.UNBOUND_MASKS, NOTHING, "used a mask twice"),
    "roots that do not ratchet": (mutants.NO_RATCHET, NOTHING, "used the root of a pair twice"),
    "the pair masks of a missing member stay": (mutants.PAIR_MASKS_LEFT, ONE_MISSING, "decodes to"),
    "a member in the sum that is not announced": (mutants.ONE_NOT_NAMED, NOTHING, "decodes to"),
    "agreement to two cohorts": (mutants.AGREES_TWICE, NOTHING, "agreed to two cohorts of one attempt"),
    "an agreement that is not stored": (mutants.ANSWERS_BEFORE_STORING, NOTHING, "agreed to two cohorts"),
    "no check of the agreement": (mutants.NO_AGREEMENT_CHECK, NOTHING, "shares have left for two cohorts"),
    "shares of both kinds": (mutants.BOTH_KINDS, NOTHING, "shares of both kinds have left"),
    "cohorts that differ by one": (mutants.ANY_DIFFERENCE, OTHER_COHORT, "the difference is a few"),
    "a release without a charge": (mutants.NO_CHARGE, NOTHING, "its ledger knows fewer"),
    "a contribution that counts twice": (mutants.COUNTED_TWICE, NOTHING, "decodes to"),
    "a ledger that was set back": (mutants.OLD_LEDGER_ACCEPTED, SET_BACK, "was set back behind a charge"),
    "another model after an abort": (
        mutants.MODEL_CHANGED_ON_ABORT,
        Schedule(FIVE, (fault(Kind.CLOCK, "keys/ask", amount=0),)),
        "the model changed without a release",
    ),
}


@pytest.mark.parametrize(("mutant", "schedule", "sentence"), FOUND.values(), ids=FOUND)
def test_a_planted_mistake_is_found(mutant: Product, schedule: Schedule, sentence: str) -> None:
    outcome = play(schedule, product=mutant)
    assert any(sentence in violation for violation in outcome.violations), str(outcome)


@pytest.mark.parametrize("schedule", [NOTHING, ONE_MISSING, OTHER_COHORT, SET_BACK], ids=range(4))
def test_the_product_itself_passes_where_its_mutants_fail(schedule: Schedule) -> None:
    assert not play(schedule, product=AS_SHIPPED).violations


@pytest.mark.parametrize("product", [mutants.SHOWS_BOTH, mutants.SHOWS_ONE_EACH], ids=["both", "one each"])
def test_a_coordinator_that_shows_two_cohorts_opens_one_at_most(product: Product) -> None:
    outcome = play(NOTHING, product=product)
    assert not [violation for violation in outcome.violations if "nothing goes wrong" not in violation], str(outcome)
