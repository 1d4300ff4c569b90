"""What a plan would spend, told beforehand: the ledger itself is the second route."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any, cast

import pytest
from consortium import CONTRACT, NO_PRIVACY, SHARED, Clock, plan_of
from dp_accounting.gaussian_mechanism import get_epsilon_gaussian

from fedcredit.config.node import PolicySection
from fedcredit.errors import (
    BudgetExhaustedError,
    FixedNoiseRefusedError,
    PrivacyOffRefusedError,
)
from fedcredit.institution.admission import policy_refusal
from fedcredit.institution.forecast import Forecast, forecast
from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.release import Release
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.training.plan_review import InstitutionReview, review_plan

DELTA = 1e-5
RETRIES = 2
TREES: dict[str, Any] = {
    "model": {"kind": "trees", "base_rate": 0.4, "depth": 2, "trees_per_round": 4, "structure_seed": 1},
    "training": {
        "kind": "dp-boosting",
        "learning_rate": 0.1,
        "clip": 0.8,
        "grid": 100,
        "ridge": 10.0,
        "leaf_limit": 2.0,
    },
    "privacy/preparation_share": 0.2,
}
PLANS: dict[str, dict[str, Any]] = {
    "exact": {},
    "trees with a preparation": TREES,
    "skellam": {"privacy/mechanism": "skellam", "privacy/accountant": "rdp"},
    "sampled": {"privacy/sampling": "poisson", "privacy/sampling_rate": 0.25, "privacy/accountant": "rdp"},
    "shared": SHARED,
}


def review_of(**changes: Any) -> InstitutionReview:
    return review_plan(plan_of(**changes), CONTRACT).institutions[0]


def caps_of(epsilon: float, holdout: float = 1.0) -> dict[str, BudgetCap]:
    return {name: BudgetCap(epsilon=cap, delta=DELTA) for name, cap in (("train", epsilon), ("holdout", holdout))}


def ledger_of(caps: dict[str, BudgetCap]) -> PrivacyLedger:
    return PrivacyLedger(
        Journal(Database.in_memory(), "privacy-ledger"),
        place="here",
        owner=InstitutionId("bank-a"),
        caps=caps,
        allow_no_privacy=True,
        allow_fixed_noise=True,
        clock=Clock(),
        entropy=os.urandom,
    )


def forecasts_of(review: InstitutionReview, ledger: PrivacyLedger) -> dict[str, Forecast]:
    spent = {name: ledger.spent(name) for name in ledger.caps}
    made = forecast(review, repetitions=RETRIES, spent=spent, caps=ledger.caps)
    return {item.partition: item for item in made}


def carried_out(review: InstitutionReview, ledger: PrivacyLedger, *, repetitions: int, run: str) -> list[Release]:
    """Reserve what the plan releases, in order, and return what the ledger let out before its first refusal."""
    let_out = []
    for item in review.releases:
        for number in range(1, item.at_most - RETRIES + repetitions + 1):
            release = replace(item.release, release_id=f"{run}/{number}/1/{item.purpose}")
            ledger.reserve(release, plan_digest=bytes(32))
            let_out.append(release)
    return let_out


def refusal_of(review: InstitutionReview, ledger: PrivacyLedger, *, repetitions: int, run: str) -> BudgetExhaustedError:
    with pytest.raises(BudgetExhaustedError) as refused:
        carried_out(review, ledger, repetitions=repetitions, run=run)
    return refused.value


@pytest.mark.parametrize("changes", PLANS.values(), ids=PLANS)
def test_the_ledger_refuses_the_very_release_that_was_foretold(changes: dict[str, Any]) -> None:
    review = review_of(**changes)
    ledger = ledger_of(caps_of(4.0, holdout=50.0))
    carried_out(review, ledger, repetitions=0, run="before")
    told = forecasts_of(review, ledger)
    refused = told["train"].refused
    assert refused is not None
    error = refusal_of(review, ledger, repetitions=0, run="next")
    assert error.fields["release"] == f"next/{refused.number}/1/{refused.purpose}"
    assert error.fields["would_be"] == refused.would_be
    assert cast(float, error.fields["spent"]) <= 4.0 < refused.would_be
    assert told["holdout"].refused is None


@pytest.mark.parametrize("changes", PLANS.values(), ids=PLANS)
def test_the_ledger_holds_what_was_foretold_once_a_plan_is_carried_out(changes: dict[str, Any]) -> None:
    review = review_of(**changes)
    for repetitions, state in ((0, "planned"), (RETRIES, "at_most")):
        ledger = ledger_of(caps_of(20.0))
        told = forecasts_of(review, ledger)
        assert all(item.spent.releases == 0 and item.refused is None for item in told.values())
        assert all(item.fitting == item.releases for item in told.values())
        let_out = carried_out(review, ledger, repetitions=repetitions, run="next")
        for name, item in told.items():
            ahead: Spending = getattr(item, state)
            now = ledger.spent(name)
            assert (ahead.epsilon, ahead.epsilon_alone, ahead.releases) == (
                pytest.approx(now.epsilon, rel=1e-12),
                pytest.approx(now.epsilon_alone, rel=1e-12),
                now.releases,
            )
            assert now.releases == sum(release.partition == name for release in let_out)


def test_a_cap_is_reached_in_the_round_that_a_hand_calculation_gives() -> None:
    review = review_of()
    release = next(item.release for item in review.releases if item.purpose is Purpose.TRAIN)
    mu = math.sqrt(release.sensitivity_squared) / release.sigma
    after = [get_epsilon_gaussian(1 / (mu * math.sqrt(rounds)), DELTA) for rounds in (1, 2, 3)]
    for rounds, epsilon in enumerate(after, start=1):
        (train, _) = forecast(
            review,
            repetitions=RETRIES,
            spent={name: Spending.none(DELTA) for name in ("train", "holdout")},
            caps=caps_of(epsilon - 1e-4),
        )
        assert train.refused is not None
        assert (train.refused.purpose, train.refused.number) == (Purpose.TRAIN, rounds)
        assert train.refused.would_be == pytest.approx(epsilon, abs=1e-6)
        assert train.fitting == rounds - 1
        assert train.releases == 5  # three rounds, two repetitions


def test_a_cap_that_only_repetitions_exceed_refuses_no_round_but_is_told() -> None:
    review = review_of()
    told = forecasts_of(review, ledger_of(caps_of(20.0)))["train"]
    caps = caps_of((told.planned.epsilon + told.at_most.epsilon) / 2)
    (train, holdout) = forecast(
        review, repetitions=RETRIES, spent={name: Spending.none(DELTA) for name in caps}, caps=caps
    )
    assert train.refused is None
    assert 3 <= train.fitting < train.releases == 5
    assert holdout.fitting == holdout.releases == 3


@pytest.mark.parametrize("changes", [NO_PRIVACY, {"privacy/test_noise": True}], ids=["no noise", "fixed noise"])
def test_no_cap_stops_what_protects_nobody_but_epsilon_is_infinite(changes: dict[str, Any]) -> None:
    review = review_of(**changes)
    ledger = ledger_of(caps_of(1e-3, holdout=1e-3))
    told = forecasts_of(review, ledger)
    assert all(item.refused is None and item.fitting == item.releases for item in told.values())
    assert all(item.planned.epsilon == item.at_most.epsilon == math.inf for item in told.values())
    carried_out(review, ledger, repetitions=RETRIES, run="next")

    # Afterwards nothing that protects fits any more, and that is told too.
    told = forecasts_of(review_of(), ledger)
    assert [item.refused and item.refused.would_be for item in told.values()] == [math.inf, math.inf]
    assert refusal_of(review_of(), ledger, repetitions=0, run="later").fields["would_be"] == math.inf


def test_an_evaluation_beyond_its_own_cap_is_told_apart_from_the_training() -> None:
    told = forecasts_of(review_of(), ledger_of(caps_of(20.0, holdout=0.1)))
    refused = told["holdout"].refused
    assert refused is not None
    assert (refused.purpose, refused.number) == (Purpose.EVALUATE, 1)
    assert told["train"].refused is None


@pytest.mark.parametrize(
    ("changes", "policy", "error"),
    [
        (NO_PRIVACY, "allow_no_privacy", PrivacyOffRefusedError),
        ({"privacy/test_noise": True}, "allow_fixed_noise", FixedNoiseRefusedError),
    ],
    ids=["no noise", "fixed noise"],
)
def test_policy_refuses_by_default_what_protects_less_than_it_says(
    changes: dict[str, Any], policy: str, error: type[Exception]
) -> None:
    plan = plan_of(**changes)
    assert isinstance(policy_refusal(plan, PolicySection()), error)
    assert policy_refusal(plan, PolicySection.model_validate({policy: True})) is None
    for protecting in ({}, SHARED):
        assert policy_refusal(plan_of(**protecting), PolicySection()) is None
