"""From what a person decides to the rest of a plan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from fedcredit.config.plan import RunPlan
from fedcredit.contract import load_contract
from fedcredit.lab.settings import (
    VOTE_FLOOR,
    Consortium,
    PrivacyChoice,
    aggregation_values,
    evaluation_values,
    plan_values,
    settings_for,
)
from fedcredit.privacy.run_plan import privacy_plan

CHOICE = PrivacyChoice(
    epsilon=3.0,
    delta=1e-5,
    evaluation_epsilon=1.0,
    mechanism="rounded-gaussian",
    noise="local",
    colluders=0,
    sampling_rate=1.0,
    test_noise=False,
)
SHARED = replace(CHOICE, noise="shared", colluders=1)
OFF = replace(CHOICE, epsilon=math.inf, evaluation_epsilon=math.inf)
FOUR = Consortium(members=4, borrowers=24_000, quorum=4)


def plan_for(privacy: PrivacyChoice, *, model: str = "scorecard", rounds: int | None = None) -> RunPlan:
    contract = load_contract("german")
    section: dict[str, Any] = {"kind": "bank", "expected_borrowers": 6000, "modalities": ["application"]}
    return RunPlan.model_validate(
        plan_values(
            settings_for(contract, model, privacy, FOUR),
            name="settings",
            consortium="credit",
            contract=contract,
            rounds=rounds,
            holdout=("salt", 0.2),
            out_of_time=None,
            privacy=privacy,
            quorum=4,
            retries=1,
            deadline_s=60.0,
            aggregation=aggregation_values("secure", threshold=3),
            institutions={f"bank-{letter}": {**section, "identity": letter * 64} for letter in "abcd"},
        )
    )


@pytest.mark.parametrize(
    ("privacy", "accountant", "sampling", "noise"),
    [
        (CHOICE, "gdp", "full-batch", "local"),
        (replace(CHOICE, mechanism="skellam"), "rdp", "full-batch", "local"),
        (replace(CHOICE, mechanism="discrete-gaussian"), "rdp", "full-batch", "local"),
        (replace(CHOICE, sampling_rate=0.125), "rdp", "poisson", "local"),
        (SHARED, "gdp", "full-batch", "shared"),
        (replace(SHARED, mechanism="skellam"), "rdp", "full-batch", "shared"),
        (OFF, "none", "full-batch", "local"),
        (replace(SHARED, epsilon=math.inf, evaluation_epsilon=math.inf), "none", "full-batch", "local"),
    ],
)
@pytest.mark.parametrize("model", ["scorecard", "network", "trees"])
def test_the_accountant_follows_from_what_is_chosen_and_the_plan_keeps_its_claim(
    privacy: PrivacyChoice, accountant: str, sampling: str, noise: str, model: str
) -> None:
    if model == "trees" and sampling == "poisson":
        with pytest.raises(ValidationError, match="poisson"):
            plan_for(privacy, model=model)
        return
    plan = plan_for(privacy, model=model)
    section = plan.privacy
    assert (section.accountant, section.sampling, section.noise) == (accountant, sampling, noise)
    assert (section.mechanism == "none") == privacy.off
    facts = privacy_plan(plan).describe()
    assert facts.protects is not privacy.off
    assert facts.honest_shares == (3 if noise == "shared" else 1)


def test_only_sums_can_be_read_or_the_plan_says_that_messages_can() -> None:
    assert aggregation_values("open", threshold=3) == {"kind": "open", "update_bound": "share"}
    secure = plan_for(CHOICE).secure
    assert secure is not None
    assert (secure.threshold, secure.lane_bits) == (3, 32)
    # Colluders are a matter of the masks too, so they are kept without any noise.
    assert plan_for(replace(OFF, colluders=1)).privacy.colluders == 1


def test_only_categories_without_an_order_are_worth_a_preparation_and_only_for_trees() -> None:
    assert plan_for(CHOICE, model="trees").privacy.preparation_share == 0.05
    assert plan_for(CHOICE, model="scorecard").privacy.preparation_share == 0
    taiwan = settings_for(load_contract("taiwan"), "trees", CHOICE, FOUR)  # two categories
    assert taiwan.preparation_share == 0


def test_more_signal_buys_more_rounds_or_bolder_ones() -> None:
    contract = load_contract("taiwan")
    sizes = [
        settings_for(contract, "trees", replace(CHOICE, epsilon=e), FOUR).rounds for e in (0.1, 0.5, 1.0, 3.0, 8.0)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    # A tenth of the borrowers is a tenth of the signal; noise that is shared is a stronger one.
    fewer = settings_for(contract, "trees", CHOICE, replace(FOUR, borrowers=2_400))
    many = settings_for(contract, "trees", CHOICE, FOUR)
    shared = settings_for(contract, "trees", SHARED, replace(FOUR, borrowers=2_400))
    assert fewer.rounds <= shared.rounds <= many.rounds
    assert fewer.rounds < many.rounds


def test_a_number_of_rounds_that_was_asked_for_is_kept() -> None:
    assert plan_for(CHOICE, model="trees", rounds=7).run.rounds == 7


def votes(privacy: PrivacyChoice, sizes: list[int], *, quorum: int | None = None, retries: int = 1) -> dict[str, Any]:
    return evaluation_values(
        privacy, quorum=quorum or len(sizes), retries=retries, holdout=0.2, borrowers=sizes, base_rate=0.2
    )


@pytest.mark.parametrize(
    ("privacy", "sizes", "floor"),
    [
        (CHOICE, [8000, 6000, 6000, 3600], VOTE_FLOOR),
        (CHOICE, [8000, 30, 30, 30], VOTE_FLOOR),
        (CHOICE, [360, 250, 70, 70], "none"),
        (OFF, [2000, 2000], VOTE_FLOOR),
        # With one colluder two more must be able to tell, so that it can abstain.
        (replace(CHOICE, colluders=1), [8000, 8000, 8000, 30], VOTE_FLOOR),
        (replace(CHOICE, colluders=1), [8000, 8000, 30, 30], "none"),
        (SHARED, [8000] * 4, VOTE_FLOOR),
    ],
)
def test_members_vote_where_so_many_can_tell_that_colluders_decide_nothing(
    privacy: PrivacyChoice, sizes: list[int], floor: float | str
) -> None:
    section = votes(privacy, sizes)
    assert section["vote_floor"] == floor
    assert section["vote_share"] == (0.5 if privacy.noise == "shared" and floor != "none" else 0.0)


def test_a_quorum_that_colluders_could_starve_has_no_votes() -> None:
    assert votes(replace(CHOICE, colluders=2), [9000] * 6, quorum=4)["vote_floor"] == "none"
    assert votes(replace(CHOICE, colluders=2), [9000] * 6, quorum=5)["vote_floor"] == VOTE_FLOOR


def test_every_plan_of_these_settings_bounds_updates() -> None:
    assert aggregation_values("secure", threshold=3)["update_bound"] == "share"
    assert plan_for(CHOICE).bounds_updates
