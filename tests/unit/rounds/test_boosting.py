"""Boosted trees through a whole consortium: what is learned, from whom, and that a repeated round changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import INPUTS, MODALITIES, NAMES, NO_PRIVACY, TREES, Consortium, Flaky, Recorder, plan_of

from fedcredit.audit.log import EventKind
from fedcredit.data.table import CreditTable
from fedcredit.errors import QuorumError
from fedcredit.evaluation import rows
from fedcredit.model.trees import LEAVES_BLOCK, BoostedTrees, leaf_values
from fedcredit.parties import InstitutionId
from fedcredit.rounds.run import FederatedRun

FIXED: dict[str, Any] = {"privacy/test_noise": True}
ALLOW = {"allow_fixed_noise": True, "allow_no_privacy": True}
OPEN = plan_of(**{**TREES, "privacy/preparation_share": 0.0}, **NO_PRIVACY)


def trained(run: FederatedRun) -> bytes:
    for _ in run.rounds():
        pass
    return run.state.released().tobytes()


def train_of(consortium: Consortium, name: str) -> CreditTable:
    return consortium.sites[name].holdings.split(consortium.plan).train


def leaves_of(consortium: Consortium, weights: np.ndarray) -> np.ndarray:
    return consortium.family.layout.split(weights)[LEAVES_BLOCK]


def the_model(consortium: Consortium) -> BoostedTrees:
    model = consortium.plan.model
    assert model.depth and model.trees_per_round and model.structure_seed
    return BoostedTrees(
        INPUTS,
        views=MODALITIES.values(),
        trees=consortium.plan.trees,
        trees_per_round=model.trees_per_round,
        depth=model.depth,
        structure_seed=model.structure_seed,
        base_rate=model.base_rate,
    )


def test_a_round_adds_the_trees_that_the_sums_of_all_institutions_give(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, OPEN, policy=ALLOW)
    weights = consortium.run(run_id="unused").state.weights
    for report in consortium.run().rounds():
        total = np.sum(
            [
                consortium.family.computation(OPEN, InstitutionId(name), train_of(consortium, name))
                .integer_sum(weights, round_number=report.round, batch=None)
                .values
                for name in NAMES
            ],
            axis=0,
        )
        assert report.result.total.tolist() == total.tolist()
        before, after = leaves_of(consortium, weights), leaves_of(consortium, report.state.weights)
        new = slice(6 * (report.round - 1), 6 * report.round)
        sums = total.reshape(6, 8, 2) / 100
        expected = leaf_values(sums, ridge=20.0, limit=2.0, learning_rate=0.3)
        assert after[new].tolist() == expected.tolist()
        assert after[new].any()
        # Older trees stay, later ones are still empty.
        assert after[: new.start].tolist() == before[: new.start].tolist()
        assert not after[new.stop :].any()
        weights = report.state.weights


def test_without_noise_the_consortium_learns_what_one_institution_with_all_borrowers_would(tmp_path: Path) -> None:
    names = ("bank-a", "insurer-d")  # they hold the same modalities, so their rows can lie in one table
    changes = {**TREES, "privacy/preparation_share": 0.0, **NO_PRIVACY}
    both = Consortium.make(tmp_path / "both", plan_of(names, **changes), policy=ALLOW)
    alone = Consortium.make(tmp_path / "alone", plan_of(("bank-a",), **changes), policy=ALLOW)
    parts = [both.sites[name].table for name in names]
    alone.sites["bank-a"].table = CreditTable(
        entities=np.concatenate([part.entities for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        modalities={
            name: type(parts[0].modalities[name])(
                codes=np.concatenate([part.modalities[name].codes for part in parts]),
                dense=np.concatenate([part.modalities[name].dense for part in parts]),
            )
            for name in parts[0].modalities
        },
        dropped=0,
    )
    alone.sites["bank-a"].assemble()
    assert trained(both.run()) == trained(alone.run())


def test_every_institution_reaches_the_trees_of_its_own_modalities_and_no_others(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES))
    model = the_model(consortium)
    views = [set(model.view_of(place)) for place in range(6)]
    assert {frozenset(view) for view in views} == {
        frozenset({"application"}),
        frozenset({"repayment"}),
        frozenset({"application", "repayment"}),
    }
    trained(consortium.run())
    for name, site in consortium.sites.items():
        held = [place for place, view in enumerate(views) if view <= set(MODALITIES[name])]
        releases = [charge.release for charge in site.charges() if charge.kind == "train"]
        assert {release.dimension for release in releases} == {len(held) * 8 * 2}
    assert consortium.sites["fund-c"].charges()[0].release.dimension < 6 * 16


def test_a_separable_portfolio_is_learned_by_holders_of_every_combination_of_modalities(tmp_path: Path) -> None:
    plan = plan_of(**{**TREES, "privacy/preparation_share": 0.0}, **NO_PRIVACY, **{"run/rounds": 15})
    consortium = Consortium.make(tmp_path, plan, policy=ALLOW, rows=400)
    run = consortium.run()
    start = run.state.weights
    trained(run)
    for name, site in consortium.sites.items():
        holdout = site.holdings.split(plan).holdout
        before = consortium.family.probabilities(start, holdout)
        after = consortium.family.probabilities(run.state.released(), holdout)
        assert before == pytest.approx(np.full(len(holdout), 0.4))  # the base rate for everybody
        assert rows.auc(after, holdout.labels) > 0.75, name
        assert rows.brier(after, holdout.labels) < rows.brier(before, holdout.labels) - 0.02, name
    counts, _ = run.evaluate()
    share_of_bad = np.cumsum(counts.bad) / counts.bad.sum()
    share_of_good = np.cumsum(counts.good) / counts.good.sum()
    assert (share_of_good - share_of_bad).max() > 0.3


def test_it_is_learned_with_noise_as_well(tmp_path: Path) -> None:
    # Fixed noise of the deviation that epsilon 4 needs: what is learned here does not depend on a lucky draw.
    plan = plan_of(**TREES, **FIXED, **{"run/rounds": 10})
    consortium = Consortium.make(tmp_path, plan, policy=ALLOW, rows=3000)
    run = consortium.run()
    trained(run)
    for name in ("bank-a", "fund-c"):
        holdout = consortium.sites[name].holdings.split(plan).holdout
        scores = consortium.family.probabilities(run.state.released(), holdout)
        assert rows.auc(scores, holdout.labels) > 0.65, name


@pytest.mark.parametrize("lose_reply", [False, True])
def test_a_boosting_round_that_is_repeated_ends_bit_equal(tmp_path: Path, lose_reply: bool) -> None:
    # Fixed noise does not depend on the attempt, so only the repetition itself could make a difference.
    plan = plan_of(**TREES, **FIXED)
    undisturbed = trained(Consortium.make(tmp_path / "a", plan, policy=ALLOW).run())
    consortium = Consortium.make(tmp_path / "b", plan, policy=ALLOW)
    # Exchange 1 is the preparation; rounds 1 and 3 fail once each.
    transport = Flaky(consortium.loopback(), lambda name, number: number in (2, 5), lose_reply=lose_reply)
    run = consortium.run(transport)
    assert trained(run) == undisturbed
    opened = [event.fields for event in run.audit.events() if event.kind is EventKind.ROUND_OPENED]
    assert [(fields["purpose"], fields["round"], fields["attempt"]) for fields in opened] == [
        ("prepare", 1, 1),
        *[("train", 1, 1), ("train", 1, 2), ("train", 2, 1), ("train", 3, 1), ("train", 3, 2)],
    ]
    for site in consortium.sites.values():
        trains = [charge for charge in site.charges() if charge.kind == "train"]
        assert len(trains) == (5 if lose_reply else 3)


def test_a_repeated_boosting_round_draws_fresh_noise_and_is_charged_again(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES))
    recorder = Recorder(Flaky(consortium.loopback(), lambda name, number: name == "bank-b" and number == 2))
    run = consortium.run(recorder)
    trained(run)
    assert [len(charges) for charges in trains_of(consortium)] == [4, 3, 4, 4]
    assert all(site.epsilon() <= consortium.plan.privacy.epsilon for site in consortium.sites.values())
    answers = [
        event.fields["answer"]
        for event in run.audit.events()
        if event.kind is EventKind.ANSWER_ACCEPTED and event.fields["purpose"] == "train"
    ]
    assert len(set(answers)) == len(answers) == 3 + 12


def trains_of(consortium: Consortium) -> list[list[object]]:
    return [[charge for charge in site.charges() if charge.kind == "train"] for site in consortium.sites.values()]


def test_a_minority_that_drops_out_of_a_boosting_round_leaves_the_others_with_an_exact_sum(tmp_path: Path) -> None:
    changes = {**TREES, "privacy/preparation_share": 0.0, **NO_PRIVACY, "rounds/quorum": 2}
    consortium = Consortium.make(tmp_path, plan_of(**changes), policy=ALLOW)
    gone = {1: {"fund-c"}, 2: {"bank-a", "insurer-d"}, 3: {"bank-b", "fund-c"}}
    transport = Flaky(consortium.loopback(), lambda name, number: name in gone[number])
    run = consortium.run(transport)
    weights = run.state.weights
    for report in run.rounds():
        present = [name for name in NAMES if name not in gone[report.round]]
        assert report.result.contributors == present
        total = np.sum(
            [
                consortium.family.computation(consortium.plan, InstitutionId(name), train_of(consortium, name))
                .integer_sum(weights, round_number=report.round, batch=None)
                .values
                for name in present
            ],
            axis=0,
        )
        assert report.result.total.tolist() == total.tolist()
        weights = report.state.weights


def test_a_boosting_round_without_its_quorum_leaves_the_trees_as_they_are(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES))
    transport = Flaky(consortium.loopback(), lambda name, number: number > 2)
    run = consortium.run(transport)
    rounds = run.rounds()
    next(rounds)
    kept = run.state
    with pytest.raises(QuorumError):
        next(rounds)
    assert run.state is kept
    assert leaves_of(consortium, kept.weights)[:6].any()
    assert not leaves_of(consortium, kept.weights)[6:].any()
