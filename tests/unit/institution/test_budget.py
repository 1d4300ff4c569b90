"""The operator's view of the budget, amendments, and a state folder that outlives every installation."""

from __future__ import annotations

import math
import shutil
import stat
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from consortium import NO_PRIVACY, SHARED, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import release

from fedcredit.config.node import NodeConfig, write_budget
from fedcredit.config.plan import RunPlan
from fedcredit.encoding import encode
from fedcredit.errors import (
    AmendmentError,
    CapMismatchError,
    LedgerCorruptError,
    LedgerOwnerError,
    LedgerRolledBackError,
    PrivacyPlanError,
    StateDirInUseError,
)
from fedcredit.institution.admission import Approvals
from fedcredit.institution.budget import BudgetReport, amend_budget, report_budget, verify_ledger
from fedcredit.institution.node import LEDGER, STATE, NodeRecord, NodeState, init_node, node_config
from fedcredit.parties import InstitutionId, InstitutionType
from fedcredit.privacy.accounting import epsilon_for_mu, mu_for_epsilon
from fedcredit.privacy.ledger_entries import CapAmended
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

NOON = 1_700_000_000
BOTH = ("Ada", "Grace")
TREES: dict[str, Any] = {
    "model": {"kind": "trees", "depth": 3, "trees_per_round": 10, "structure_seed": 7, "base_rate": 0.4},
    "training": {
        "kind": "dp-boosting",
        "learning_rate": 0.1,
        "clip": 0.8,
        "grid": 10,
        "ridge": 50.0,
        "leaf_limit": 2.0,
    },
    "privacy/preparation_share": 0.1,
}


def clock() -> float:
    return float(NOON)


def config_of(**changes: Any) -> NodeConfig:
    options: dict[str, Any] = {
        "institution": InstitutionId("bank-a"),
        "kind": InstitutionType.BANK,
        "data_path": "data.parquet",
        "contract": "taiwan",
        "modalities": ("application", "repayment"),
        "epsilon": 6.0,
        "delta": 1e-5,
        "holdout_epsilon": 2.0,
        **changes,
    }
    return node_config(**options)


@pytest.fixture
def node(tmp_path: Path) -> Path:
    init_node(tmp_path / "node", config_of())
    return tmp_path / "node"


def allow_everything(node: Path) -> None:
    path = node / "node.toml"
    assert path.read_text().count(" = false\n") == 2
    path.write_text(path.read_text().replace(" = false\n", " = true\n"))


def charge(node: Path, *releases: Release, plan: bytes = bytes(32)) -> bytes:
    """Charge what a run would, and return the head."""
    with Database.open(node / STATE) as database:
        ledger = NodeState.open(database, NodeConfig.read(node), clock=clock).ledger
        for one in releases:
            ledger.reserve(one, plan_digest=plan)
        return ledger.head


def carried_out(plan: RunPlan, *, rounds: int, evaluations: int = 0) -> list[Release]:
    """Return the releases of a run of ``plan``, with another sensitivity and size than the forecast makes up."""
    private = privacy_plan(plan)
    sizes: dict[str, Any] = {"sensitivity_squared": 777_777, "dimension": 100}
    made = []
    if private.preparation_share and rounds:
        made.append(private.preparation_release(release_id="r/1/1/prepare", **sizes))
    made += [private.training_release(release_id=f"r/{n}/1/train", **sizes) for n in range(1, rounds + 1)]
    made += [
        private.evaluation_release(release_id=f"r/{plan.run.rounds}/{n}/evaluate", **sizes)
        for n in range(1, evaluations + 1)
    ]
    return made


def report(node: Path) -> BudgetReport:
    return report_budget(node)


def figures(node: Path) -> dict[str, tuple[float, float, float]]:
    return {item.partition: (item.spent.epsilon, item.left, item.planned) for item in report(node).partitions}


# --- what is shown --------------------------------------------------------------------------------------------------


def test_a_new_node_has_its_whole_budget_left(node: Path) -> None:
    told = report(node)
    assert (told.institution, told.opened, told.entries, told.planned, told.unreadable) == ("bank-a", None, 0, 0, 0)
    assert not (node / STATE).exists()
    train, holdout = told.partitions
    assert (train.partition, train.cap.epsilon, train.cap.delta) == ("train", 6.0, 1e-5)
    assert (holdout.partition, holdout.cap.epsilon) == ("holdout", 2.0)
    assert train.left == pytest.approx(6.0, abs=1e-6)
    assert train.left <= 6.0
    assert (train.spent.epsilon, train.planned) == (0.0, 0.0)


def test_looking_writes_nothing_whatever_state_there_is(node: Path) -> None:
    (node / STATE).touch()
    assert report(node).entries == 0
    assert (node / STATE).read_bytes() == b""
    (node / STATE).unlink()
    with Database.open(node / STATE):
        pass
    for opened, entries in ((None, 0), (NOON, 1), (NOON, 2)):
        before = (node / STATE).read_bytes()
        told = report(node)
        assert (told.opened, told.entries) == (opened, entries)
        assert (node / STATE).read_bytes() == before
        charge(node, *[release("a/1/1/train")] * entries)


def test_what_is_left_is_what_one_further_plan_may_state(node: Path) -> None:
    mu = mu_for_epsilon(3.0, 1e-5)
    # sensitivity/sigma = mu of epsilon 3, rounded to the thousandth.
    charge(node, release("a/1/1/train", sensitivity_squared=round(1000 * mu) ** 2, sigma=1000))
    (train, _), spent = report(node).partitions, round(1000 * mu) / 1000
    rest = math.sqrt(mu_for_epsilon(6.0, 1e-5) ** 2 - spent**2)
    assert train.spent.epsilon == pytest.approx(3.0, abs=0.01)
    assert train.left == pytest.approx(epsilon_for_mu(rest, 1e-5), abs=1e-5)
    assert train.left > 6.0 - train.spent.epsilon  # squares add up


def test_nothing_is_left_at_the_cap_or_after_an_unprotected_release(node: Path) -> None:
    allow_everything(node)
    charge(
        node,
        release("a/1/1/train", mechanism=Mechanism.NONE, sigma=0),
        release("a/1/1/evaluate", partition="holdout", sensitivity_squared=1_500),
    )
    write_budget(node, key="holdout_epsilon", value=1.0)
    assert figures(node)["train"] == (math.inf, 0.0, math.inf)
    spent, left, _ = figures(node)["holdout"]
    assert spent > 1.0
    assert left == 0.0


def test_what_each_run_has_spent_is_shown(node: Path) -> None:
    charge(node, release("a/1/1/train"), release("b/1/1/train"), release("b/2/1/train"))
    (train, _) = report(node).partitions
    assert {run: item.releases for run, item in train.by_run.items()} == {"a": 1, "b": 2}


# --- what approved plans may still take -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        TREES,
        {"privacy/mechanism": "skellam", "privacy/accountant": "rdp"},
        {"privacy/accountant": "rdp", "privacy/sampling": "poisson", "privacy/sampling_rate": 0.05},
        {**TREES, "privacy/accountant": "rdp"},
    ],
    ids=["gaussian", "trees", "skellam", "sampled", "trees by Renyi"],
)
def test_an_approved_plan_may_take_what_it_states_and_less_as_it_goes_on(node: Path, changes: dict[str, Any]) -> None:
    plan = plan_of(**{"run/rounds": 5, **changes})
    Approvals(node / "approvals").approve(plan)
    assert report(node).planned == 1
    # The ledger is exact for Gaussian noise also where the plan was calibrated by Renyi accounting: up to 10 % less.
    least = 0.99 if plan.privacy.accountant == "gdp" else 0.9
    assert 4.0 * least < figures(node)["train"][2] < 4.0 * 1.01
    assert 1.0 * least < figures(node)["holdout"][2] < 1.0 * 1.01

    halfway = carried_out(plan, rounds=2)
    charge(node, *halfway, plan=plan.digest())
    spent, _, planned = figures(node)["train"]
    assert spent < planned <= 4.0 * 1.01
    assert planned > 3.5

    whole = carried_out(plan, rounds=5, evaluations=1)
    charge(node, *whole, plan=plan.digest())
    # No training follows the last evaluation; the evaluation itself may be asked again.
    spent, _, planned = figures(node)["train"]
    assert planned == spent
    spent, _, planned = figures(node)["holdout"]
    assert spent < planned <= 1.0 * 1.01

    charge(node, *carried_out(plan, rounds=5, evaluations=3), plan=plan.digest())
    assert report(node).planned == 0
    assert figures(node)["holdout"][2] == figures(node)["holdout"][0]


def test_two_plans_add_up_as_squares(node: Path) -> None:
    for salt in ("one", "two"):
        Approvals(node / "approvals").approve(plan_of(**{"run/holdout_salt": salt}))
    both = epsilon_for_mu(math.sqrt(2) * mu_for_epsilon(4.0, 1e-5), 1e-5)
    assert report(node).planned == 2
    assert figures(node)["train"][2] == pytest.approx(both, rel=0.01)
    assert 5.9 < both < 8.0


@pytest.mark.parametrize("changes", [NO_PRIVACY, {"privacy/test_noise": True}], ids=["none", "fixed"])
def test_a_plan_that_policy_refuses_takes_nothing_until_policy_allows_it(node: Path, changes: dict[str, Any]) -> None:
    Approvals(node / "approvals").approve(plan_of(**changes))
    assert (report(node).planned, figures(node)["train"][2]) == (0, 0.0)
    allow_everything(node)
    assert report(node).planned == 1
    assert figures(node)["train"][2] == math.inf


def test_a_plan_with_shared_noise_is_counted_as_it_claims_and_needs_no_permission(node: Path) -> None:
    # Only a secure sum may share noise, and that is in the plan.
    Approvals(node / "approvals").approve(plan_of(**SHARED))
    assert report(node).planned == 1
    assert figures(node)["train"][2] == pytest.approx(4.0, rel=0.01)


def test_an_unprotected_tree_plan_is_infinite_from_its_preparation_on(node: Path) -> None:
    allow_everything(node)
    Approvals(node / "approvals").approve(plan_of(**{**TREES, "privacy/test_noise": True}))
    assert figures(node)["train"][2] == math.inf


def test_a_file_that_is_no_plan_of_ours_takes_nothing_and_is_counted_if_it_cannot_be_read(node: Path) -> None:
    approvals = node / "approvals"
    approvals.mkdir()
    (approvals / f"{'0' * 64}.toml").write_text("schema_version = 1\n")
    (approvals / "renamed.toml").write_text(plan_of().to_toml())
    Approvals(approvals).approve(plan_of(("bank-b", "fund-c")))
    cannot_hold = plan_of(**{"privacy/delta": 1e-4, "privacy/epsilon": 3.0})
    raw = cannot_hold.model_dump()
    raw["institutions"]["bank-a"]["expected_borrowers"] = 1_000_000
    Approvals(approvals).approve(RunPlan.model_validate(raw))
    told = report(node)
    assert (told.planned, told.unreadable) == (0, 2)
    assert figures(node)["train"][2] == 0.0


# --- amendments -----------------------------------------------------------------------------------------------------

COMMENTED = """
# the caps of 2026
schema_version = 1
institution = "bank-a"
kind = "bank"

[data]
path = "data.parquet" # monthly
contract = "taiwan"
modalities = ["application"]

[budget]
epsilon = 6 # agreed on 3 March
delta = 1e-5
holdout_epsilon = 2.0
"""


def amend(node: Path, epsilon: float, *, partition: str = "train", **changes: Any) -> float:
    arguments: dict[str, Any] = {"approvers": BOTH, "reason": "a second model", **changes}
    return amend_budget(node, partition=partition, epsilon=epsilon, clock=clock, **arguments)


def budgets(node: Path) -> tuple[float, float]:
    budget = NodeConfig.read(node).budget
    return budget.epsilon, budget.holdout_epsilon


def test_an_amendment_is_in_the_ledger_and_in_node_toml_and_every_comment_stays(node: Path) -> None:
    (node / "node.toml").write_text(COMMENTED)
    assert amend(node, 8.0) == 6.0
    assert (node / "node.toml").read_text() == COMMENTED.replace("epsilon = 6 #", "epsilon = 8.0 #")
    assert stat.S_IMODE((node / "node.toml").stat().st_mode) == 0o600
    assert amend(node, 1.0, partition="holdout") == 2.0
    assert budgets(node) == (8.0, 1.0)
    told = report(node)
    assert [item.cap.epsilon for item in told.partitions] == [8.0, 1.0]
    assert told.amendments == (
        CapAmended(time=NOON, partition="train", epsilon=8.0, approvers=BOTH, reason="a second model"),
        CapAmended(time=NOON, partition="holdout", epsilon=1.0, approvers=BOTH, reason="a second model"),
    )


@pytest.mark.parametrize("epsilon", [8.0, 4.0], ids=["raised", "lowered"])
def test_after_a_crash_before_node_toml_was_written_the_same_command_finishes(node: Path, epsilon: float) -> None:
    before = (node / "node.toml").read_bytes()
    amend(node, epsilon)
    (node / "node.toml").write_bytes(before)  # as a crash between the two leaves it
    assert amend(node, epsilon) == epsilon
    assert budgets(node) == (epsilon, 2.0)
    assert report(node).entries == 2


def test_caps_that_were_raised_by_hand_are_made_good_by_amendments(node: Path) -> None:
    charge(node)
    write_budget(node, key="epsilon", value=9.0)
    write_budget(node, key="holdout_epsilon", value=3.0)
    with pytest.raises(CapMismatchError):
        report(node)
    amend(node, 9.0)
    with pytest.raises(CapMismatchError, match="holdout_epsilon"):
        report(node)
    amend(node, 3.0, partition="holdout")
    assert [item.cap.epsilon for item in report(node).partitions] == [9.0, 3.0]


def test_a_refused_amendment_changes_neither_ledger_nor_node_toml(node: Path) -> None:
    charge(node, release("a/1/1/train"))
    before = (node / "node.toml").read_bytes()
    for changes in ({"approvers": ["Ada"]}, {"reason": ""}):
        with pytest.raises(AmendmentError):
            amend(node, 8.0, **changes)
    with pytest.raises(AmendmentError, match="spent"):
        amend(node, 0.1)
    assert (node / "node.toml").read_bytes() == before
    assert report(node).entries == 2


def test_a_running_node_is_neither_read_nor_amended(node: Path) -> None:
    with Database.open(node / STATE):
        for act in (lambda: report(node), lambda: amend(node, 8.0), lambda: verify_ledger(node, heads=())):
            with pytest.raises(StateDirInUseError):
                act()
    assert budgets(node) == (6.0, 2.0)


@settings(max_examples=20, deadline=None)
@given(epsilons=st.lists(st.tuples(st.sampled_from(["train", "holdout"]), st.floats(0.5, 100)), max_size=6))
def test_after_any_amendments_the_node_opens_and_both_records_agree(
    tmp_path_factory: pytest.TempPathFactory, epsilons: list[tuple[str, float]]
) -> None:
    node = tmp_path_factory.mktemp("any") / "node"
    init_node(node, config_of())
    for partition, epsilon in epsilons:
        amend(node, epsilon, partition=partition)
    train, holdout = report(node).partitions
    assert (train.cap.epsilon, holdout.cap.epsilon) == budgets(node)


# --- the ledger verified --------------------------------------------------------------------------------------------


def test_a_ledger_verifies_and_has_every_head_that_others_saw(node: Path) -> None:
    heads = [charge(node, release(f"a/{n}/1/train")) for n in range(1, 4)]
    evidence = verify_ledger(node, heads=heads)
    assert (evidence.institution, evidence.entries, evidence.head) == ("bank-a", 4, heads[-1])
    assert {name: item.releases for name, item in evidence.spent.items()} == {"train": 3, "holdout": 0}
    assert evidence.spent["train"].cost.mu_squared == Fraction(3, 100)


def test_an_old_copy_of_the_state_lacks_a_head(node: Path, tmp_path: Path) -> None:
    charge(node, release("a/1/1/train"))
    shutil.copytree(node, tmp_path / "backup")
    seen = charge(node, release("a/2/1/train"))
    verify_ledger(tmp_path / "backup", heads=())
    with pytest.raises(LedgerRolledBackError, match=seen.hex()[:16]):
        verify_ledger(tmp_path / "backup", heads=[seen])


def test_verifying_writes_nothing(node: Path) -> None:
    for empty in (False, True):
        if empty:
            (node / STATE).touch()
        with pytest.raises(LedgerCorruptError, match="missing or empty"):
            verify_ledger(node, heads=())
        assert (node / STATE).exists() == empty
    (node / STATE).unlink()
    with Database.open(node / STATE):
        pass
    assert verify_ledger(node, heads=()).entries == 0  # not even an opening


def test_a_changed_or_a_strangers_ledger_does_not_verify(node: Path, tmp_path: Path) -> None:
    charge(node, release("a/1/1/train"))
    init_node(tmp_path / "other", config_of(institution=InstitutionId("bank-b")))
    shutil.copytree(node / "state", tmp_path / "other" / "state", dirs_exist_ok=True)
    with pytest.raises(LedgerOwnerError, match="belongs to bank-a, not to bank-b"):
        verify_ledger(tmp_path / "other", heads=())
    with Database.open(node / STATE) as database:
        database.execute("UPDATE journal_entries SET body = x'a0' WHERE position = 1 AND journal = 'privacy-ledger'")
    with pytest.raises(LedgerCorruptError, match="entry 1"):
        verify_ledger(node, heads=())


# --- a new installation ---------------------------------------------------------------------------------------------


def test_the_state_folder_alone_carries_the_budget_into_a_new_node_folder(node: Path, tmp_path: Path) -> None:
    head = charge(node, release("a/1/1/train"), release("a/1/1/evaluate", partition="holdout"))
    amend(node, 7.0)
    before = figures(node)
    new = tmp_path / "new"
    init_node(new, config_of(epsilon=7.0))  # new keys, new node.toml
    shutil.copytree(node / "state", new / "state", dirs_exist_ok=True)
    assert figures(new) == before
    verify_ledger(new, heads=[head])
    charge(new, release("a/1/1/train"))  # the same release is known, not charged again
    assert report(new).partitions[0].spent.releases == 1
    # A new node.toml is no way round the caps, the delta or the owner.
    for changes, error in (
        ({"epsilon": 8.0}, CapMismatchError),
        ({"epsilon": 7.0, "delta": 1e-6}, PrivacyPlanError),
        ({"epsilon": 7.0, "institution": InstitutionId("bank-b")}, LedgerOwnerError),
    ):
        other = tmp_path / error.__name__
        init_node(other, config_of(**changes))
        shutil.copytree(node / "state", other / "state", dirs_exist_ok=True)
        with pytest.raises(error):
            report(other)


def test_a_state_of_the_first_released_version_goes_on(node: Path) -> None:
    written = {
        "version": 1,
        "release_id": "old/1/1/train",
        "partition": "train",
        "purpose": "a sum",
        "mechanism": "rounded-gaussian",
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "sensitivity_squared": 100,
        "sigma": 100,
        "dimension": 50,
        "test_noise": False,
    }
    with Database.open(node / STATE) as database:
        Journal(database, "privacy-ledger").append(
            "privacy-charge", encode({"version": 1, "release": encode(written), "delta": (1e-5).hex()})
        )
    assert LEDGER == "privacy-ledger"
    assert verify_ledger(node, heads=()).entries == 1
    told = report(node)
    (train, holdout) = told.partitions
    assert (train.spent.releases, train.spent.cost.mu_squared, train.cap.epsilon) == (1, Fraction(1, 100), 6.0)
    assert (holdout.spent.releases, holdout.spent.delta) == (0, 1e-5)
    assert list(train.by_run) == ["old"]
    assert (told.opened, told.entries) == (None, 1)
    assert verify_ledger(node, heads=()).entries == 1  # looking opened nothing
    other = NodeConfig.read(node).model_copy(update={"budget": config_of(delta=1e-6).budget})
    with pytest.raises(PrivacyPlanError, match="delta of train"), NodeRecord.read(node, other):
        pass
    head = charge(node, release("old/1/1/train"), release("old/2/1/train"))
    assert verify_ledger(node, heads=[head]).entries == 3
    with pytest.raises(AmendmentError):
        amend(node, 0.1)
    amend(node, 9.0)
    assert report(node).partitions[0].cap.epsilon == 9.0
