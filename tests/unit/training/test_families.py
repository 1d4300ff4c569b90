"""What a plan makes each institution compute and bound; under shared noise everybody bounds what anybody holds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from consortium import INPUTS, MODALITIES, NAMES, NO_PRIVACY, SHARED, plan_of, table_of

from fedcredit.config.plan import RunPlan
from fedcredit.errors import ConfigValueError
from fedcredit.messages import COUNT_GRID, LANE_LIMIT
from fedcredit.model.layout import ModalityShape
from fedcredit.model.scorecard import Scorecard
from fedcredit.model.trees import largest_leaf_entry
from fedcredit.parties import InstitutionId
from fedcredit.training.families import expected_modalities, model_family

TREES: dict[str, Any] = {
    "model": {"kind": "trees", "depth": 3, "trees_per_round": 6, "structure_seed": 7, "base_rate": 0.4},
    "training": {
        "kind": "dp-boosting",
        "learning_rate": 0.1,
        "clip": 0.8,
        "grid": 64,
        "ridge": 50.0,
        "leaf_limit": 2.0,
    },
}
NETWORK: dict[str, Any] = {"model": {"kind": "network", "width": 3, "base_rate": 0.4}}
FEDAVG: dict[str, Any] = {
    "aggregation/update_bound": "none",
    "model": {"kind": "logistic", "base_rate": 0.4},
    "training": {"kind": "fedavg", "learning_rate": 0.1, "local_epochs": 1, "batch_size": 8, "seed": 1},
    **NO_PRIVACY,
}
BANK_A, BANK_B, FUND = InstitutionId("bank-a"), InstitutionId("bank-b"), InstitutionId("fund-c")


def sized(**borrowers: int) -> dict[str, Any]:
    """Institutions of these sizes; each holds what the small consortium says."""
    return {
        name: {"kind": "bank", "expected_borrowers": borrowers[name[-1]], "modalities": list(MODALITIES[name])}
        for name in NAMES
    }


# --- who bounds what ------------------------------------------------------------------------------------------------


def test_with_local_noise_an_institution_bounds_what_it_holds_itself() -> None:
    plan = plan_of()
    assert [expected_modalities(plan, InstitutionId(name)) for name in NAMES] == [MODALITIES[name] for name in NAMES]


def test_with_shared_noise_everybody_bounds_what_anybody_holds() -> None:
    plan = plan_of(**SHARED)
    for name in NAMES:
        assert set(expected_modalities(plan, InstitutionId(name))) == {"application", "repayment"}
    # And no more than that: a modality of the contract that nobody holds moves nothing.
    names = ("bank-b", "bank-x", "bank-y")
    section = {"kind": "bank", "expected_borrowers": 40, "modalities": ["application"]}
    terms = {**SHARED, "privacy/colluders": 0, "rounds/quorum": 3}
    narrow = plan_of(names[:1], **terms, institutions=dict.fromkeys(names, section))
    assert expected_modalities(narrow, InstitutionId("bank-x")) == ("application",)


@pytest.mark.parametrize("kind", [{}, TREES, NETWORK], ids=["scorecard", "trees", "network"])
def test_shares_of_one_sum_have_one_bound(kind: dict[str, Any]) -> None:
    # The noise of a number must not depend on who can move it, or the sum has less noise than it claims.
    plan = plan_of(**kind, **SHARED, institutions=sized(a=40, b=900, c=7, d=50))
    family = model_family(plan, INPUTS)
    bounds = [family.bounds(plan, InstitutionId(name)) for name in NAMES]
    assert len({bound.sensitivity_squared for bound in bounds}) == 1
    assert len({bound.reached.tobytes() for bound in bounds}) == 1
    assert bounds[0].reached.all()
    local = family.bounds(plan_of(**kind, institutions=sized(a=40, b=900, c=7, d=50)), BANK_B)
    assert local.sensitivity_squared is not None
    assert bounds[0].sensitivity_squared is not None
    assert local.sensitivity_squared < bounds[0].sensitivity_squared
    assert not local.reached.all()


def test_the_scorecard_bounds_by_hand() -> None:
    features = {name: len(INPUTS[name].bins) for name in INPUTS}
    family = model_family(plan_of(), INPUTS)
    both = family.bounds(plan_of(), BANK_A)
    assert both.sensitivity_squared == 8**2 * (1 + 1 + features["application"] + 1 + features["repayment"])
    assert family.bounds(plan_of(), FUND).sensitivity_squared == 8**2 * (2 + features["repayment"])
    assert family.bounds(plan_of(**SHARED), FUND).sensitivity_squared == both.sensitivity_squared
    assert (family.lanes, family.preparation_lanes) == (Scorecard(INPUTS).layout.size, 0)


def test_the_tree_bounds_by_hand() -> None:
    plan = plan_of(**TREES)
    family = model_family(plan, INPUTS)
    entry = largest_leaf_entry(clip=0.8, grid=64)
    # Views: application (2 features), repayment (15), both (17). Six trees: one each; then 2/1, 15/1, 17/1 -> both,
    # 17/2 -> repayment at 15, then 8.5 against 7.5 -> both: 1, 2 and 3 trees.
    assert [family.bounds(plan, name).sensitivity_squared for name in (BANK_A, BANK_B, FUND)] == [
        6 * entry,
        1 * entry,
        2 * entry,
    ]
    shared = plan_of(**TREES, **SHARED)
    assert family.bounds(shared, BANK_B).sensitivity_squared == 6 * entry
    assert family.lanes == 6 * 8 * 2


def test_the_network_takes_the_largest_public_size_when_noise_is_shared() -> None:
    # A size so large that the rounding errors of a float sum show in the bound (network_bounds).
    size = 40_000_000
    institutions = sized(a=40, b=size, c=40, d=40)
    plan, shared = (
        plan_of(**NETWORK, institutions=institutions),
        plan_of(**NETWORK, **SHARED, institutions=institutions),
    )
    family = model_family(plan, INPUTS)
    dimension = family.layout.size

    def bound(borrowers: int) -> int:
        per_entry = 1 + 2 * (2 * borrowers) ** 2 * 8 * 2.0**-53
        return math.ceil((8 + math.sqrt(dimension) * per_entry) ** 2)

    assert bound(size) > bound(40)
    assert family.bounds(plan, BANK_A).sensitivity_squared == bound(40)
    for name in NAMES:
        assert family.bounds(shared, InstitutionId(name)).sensitivity_squared == bound(size)


def test_averaging_has_no_bound() -> None:
    plan = plan_of(**FEDAVG)
    family = model_family(plan, INPUTS)
    bounds = family.bounds(plan, FUND)
    assert (bounds.sensitivity_squared, bounds.largest_entry) == (None, LANE_LIMIT)
    assert bounds.reached.tolist() == family.layout.trained_by(("repayment",)).tolist()


@pytest.mark.parametrize("kind", [{}, TREES, NETWORK], ids=["scorecard", "trees", "network"])
@pytest.mark.parametrize("name", NAMES)
def test_what_an_institution_computes_lies_within_its_bounds(kind: dict[str, Any], name: str) -> None:
    plan = plan_of(**kind)
    family = model_family(plan, INPUTS)
    institution, table = InstitutionId(name), table_of(name, 30)
    computation = family.computation(plan, institution, table)
    total = computation.integer_sum(family.initial_weights(), round_number=1, batch=None).values
    bounds = family.bounds(plan, institution)
    assert total.shape == bounds.reached.shape == (family.lanes,)
    assert total.any()
    assert not total[~bounds.reached].any()
    assert np.abs(total).max() <= 30 * bounds.largest_entry
    probabilities = family.probabilities(family.initial_weights(), table)
    assert probabilities.shape == (30,)


# --- the preparation ------------------------------------------------------------------------------------------------

PREPARED: dict[str, Any] = {**TREES, "privacy/preparation_share": 0.1}


def test_the_preparation_counts_the_categories_of_the_modalities_that_bound_the_sum() -> None:
    # The contract has one category with seven bins, in the application, and none in the repayment.
    plan, shared = plan_of(**PREPARED), plan_of(**PREPARED, **SHARED)
    family = model_family(plan, INPUTS)
    assert family.preparation_lanes == 2 * 7
    bounds = {name: family.preparation_bounds(plan, name) for name in (BANK_A, BANK_B, FUND)}
    assert [one.sensitivity_squared for one in bounds.values()] == [COUNT_GRID**2, COUNT_GRID**2, 0]
    assert [int(one.reached.sum()) for one in bounds.values()] == [14, 14, 0]
    assert family.preparation_bounds(shared, FUND).sensitivity_squared == COUNT_GRID**2
    assert family.preparation_bounds(shared, FUND).reached.all()


def test_the_starting_point_follows_from_the_sum_of_the_preparation() -> None:
    plan = plan_of(**PREPARED)
    family = model_family(plan, INPUTS)
    table = table_of("bank-a", 300)
    total = family.preparation(table).integer_sum(family.initial_weights(), round_number=0, batch=None).values
    assert int(total.sum()) == 300 * COUNT_GRID
    prepared = family.prepared(family.initial_weights(), total)
    groups = prepared[10:17].astype(int).tolist()
    assert groups != list(range(7))
    # The same as sorting by hand: bad with 50 average borrowers, over all with 50.
    good, bad = (total.reshape(-1, 2) / COUNT_GRID).T
    rates = (bad + 50 * bad.sum() / 300) / (good + bad + 50)
    assert np.argsort(rates, kind="stable").tolist() == np.argsort(groups, kind="stable").tolist()


@pytest.mark.parametrize("kind", [{}, NETWORK], ids=["scorecard", "network"])
def test_a_family_without_a_preparation_refuses_one(kind: dict[str, Any]) -> None:
    plan = plan_of(**kind)
    family = model_family(plan, INPUTS)
    assert family.preparation_lanes == 0
    for refused in (
        lambda: family.prepared(np.zeros(1), np.zeros(1, dtype=np.int64)),
        lambda: family.preparation_bounds(plan, BANK_A),
        lambda: family.preparation(table_of("bank-a", 3)),
    ):
        with pytest.raises(ConfigValueError, match="preparation_share"):
            refused()


def test_a_preparation_of_a_contract_without_categories_is_refused() -> None:
    inputs = {name: ModalityShape(kind="static", bins=shape.bins, dense=shape.dense) for name, shape in INPUTS.items()}
    assert model_family(plan_of(**TREES), inputs).preparation_lanes == 0
    with pytest.raises(ConfigValueError, match="preparation_share"):
        model_family(plan_of(**PREPARED), inputs)


# --- plans that do not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training": FEDAVG["training"], **NO_PRIVACY}, "training.kind"),
        ({"training/clip": 1.5}, "training.clip"),
        ({**TREES, "model": {**TREES["model"], "trees_per_round": 2}}, "model.trees_per_round"),
    ],
    ids=["scorecard by averaging", "residual above 1", "fewer trees than views"],
)
def test_a_plan_whose_training_does_not_fit_its_model_is_refused(changes: dict[str, Any], key: str) -> None:
    plan = plan_of(**changes)
    with pytest.raises(ConfigValueError) as caught:
        model_family(plan, INPUTS).bounds(plan, BANK_A)
    assert caught.value.fields["key"] == key


def test_the_views_of_trees_are_what_the_institutions_hold_together_in_any_order() -> None:
    plan = plan_of(**TREES)
    turned = plan_of(tuple(reversed(NAMES)), **TREES)
    table = table_of("bank-a", 50)
    weights = _grown(plan)
    assert (
        model_family(plan, INPUTS).probabilities(weights, table).tolist()
        == model_family(turned, INPUTS).probabilities(weights, table).tolist()
    )


def _grown(plan: RunPlan) -> np.ndarray:
    family = model_family(plan, INPUTS)
    weights = family.initial_weights()
    leaves = family.layout.slices()["leaves"]
    weights[leaves] = np.random.default_rng(1).normal(size=leaves.stop - leaves.start)
    return weights


@pytest.mark.parametrize("model", ["trees", "scorecard"])
def test_a_modality_that_the_contract_lacks_is_named_with_its_place(model: str) -> None:
    plan = plan_of(**(TREES if model == "trees" else {}))
    sections = {name: section.model_dump() for name, section in plan.institutions.items()}
    sections["bank-a"]["modalities"] = ("aplication",)
    strange = plan.model_validate({**plan.model_dump(), "institutions": sections})
    with pytest.raises(ConfigValueError, match=r"institutions\.bank-a\.modalities.*aplication"):
        model_family(strange, INPUTS)
