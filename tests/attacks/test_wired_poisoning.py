"""Poisoning through everything that production has but the network (QUALITY.md R14): 10 institutions, f of them lie.

Default settings, secure aggregation, noise shared at epsilon 3, votes with a floor of 0.55. ``test_poisoning`` has the
whole grid of models and what a changed program can do.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from attacks.poisoning import ATTACKS, BACKDOOR, ONE_BIN, consortium10, waved_through
from attacks.wired_poisoning import Ended, run_with
from consortium import BOUNDED, SECURE, Consortium, plan_of
from kept_runs import opened_run, read

from fedcredit.audit.log import EventKind
from fedcredit.evaluation.vote import Choice, Outcome
from fedcredit.rounds.evidence import verify_run

LARGEST_LOSS, AT_THE_BOUND, ALIVE = 0.02, 0.03, 0.25
"""As in ``test_poisoning``: a destroyed model has an AUC of 0.5 here, so "alive" cannot mean more."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return run_with(tmp_path_factory.mktemp("clean"), None, liars=0)


def test_an_honest_run_is_never_refused_and_its_model_is_released(clean: Ended) -> None:
    assert clean.auc >= 0.76
    assert clean.verdict.outcome is Outcome.RELEASED
    assert clean.verdict.count(Choice.NO) == 0
    assert not [kind for kind, _ in read(clean.folder) if kind in {EventKind.ROUND_ABORTED, EventKind.ANSWER_REFUSED}]


def test_a_sign_flip_of_two_is_held_and_the_evidence_holds(clean: Ended, tmp_path: Path) -> None:
    attacked = run_with(tmp_path, "sign flip x10", liars=2)
    assert clean.auc - attacked.auc <= LARGEST_LOSS
    assert attacked.verdict.outcome is Outcome.RELEASED
    assert verify_run(attacked.folder).released == consortium10("scorecard").plan.run.rounds


def test_without_the_bound_it_destroys_the_model_and_the_members_keep_it_back(clean: Ended, tmp_path: Path) -> None:
    attacked = run_with(tmp_path, "sign flip x10", liars=2, bounded=False)
    assert clean.auc - attacked.auc >= ALIVE
    assert attacked.verdict.outcome is Outcome.NOT_RELEASED
    assert attacked.verdict.count(Choice.YES) == 0


@pytest.mark.slow
@pytest.mark.parametrize("liars", [1, 2])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_costs_much(clean: Ended, tmp_path: Path, attack: str, liars: int) -> None:
    attacked = run_with(tmp_path, attack, liars=liars)
    assert clean.auc - attacked.auc <= (AT_THE_BOUND if attack == "at the bound" else LARGEST_LOSS)
    assert attacked.verdict.outcome is Outcome.RELEASED


@pytest.mark.slow
@pytest.mark.parametrize("attack", [BACKDOOR, ONE_BIN])
def test_a_backdoor_stays_half_shut(clean: Ended, tmp_path: Path, attack: str) -> None:
    ten = consortium10("scorecard")
    attacked = run_with(tmp_path, attack, liars=2)
    assert waved_through(ten, attacked.weights) <= 2 * waved_through(ten, clean.weights)


def test_a_member_with_a_number_that_is_none_refuses_and_is_named(tmp_path: Path) -> None:
    """Its table would not be read either (FC-5014); here it is there already."""
    consortium = Consortium.make(
        tmp_path, plan_of(**SECURE, **BOUNDED, model={"kind": "network", "width": 2, "base_rate": 0.4})
    )
    site = consortium.sites["bank-b"]
    part = site.table.modalities["application"]
    broken = replace(part, dense=np.full_like(part.dense, np.nan))
    site.table = replace(site.table, modalities={"application": broken})
    site.assemble()
    with opened_run(consortium) as opened:
        assert next(opened.run.rounds()).result.contributors == ["bank-a", "fund-c", "insurer-d"]
    refused = [fields for kind, fields in read(tmp_path / "run") if kind is EventKind.INSTITUTION_REFUSED]
    assert [(fields["institution"], fields["code"]) for fields in refused] == [("bank-b", "FC-6001")]
