"""The ledger: charged before released, never refunded, never over the cap, and refused when its past is in doubt."""

from __future__ import annotations

import hashlib
import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from releases import release

from fedcredit.encoding import encode
from fedcredit.errors import (
    AccountantError,
    AmendmentError,
    BudgetExhaustedError,
    CapMismatchError,
    ClockSetBackError,
    ConfigValueError,
    FedcreditError,
    FixedNoiseRefusedError,
    LedgerCorruptError,
    LedgerOwnerError,
    LedgerRolledBackError,
    PrivacyOffRefusedError,
    PrivacyPlanError,
    ReleaseConflictError,
)
from fedcredit.parties import InstitutionId
from fedcredit.privacy.accounting import epsilon_for_mu, epsilon_with_sampler, mu_for_epsilon
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.ledger_entries import (
    AMENDED_KIND,
    CHARGE_KIND,
    OPENED_KIND,
    CapAmended,
    Charge,
    LedgerOpened,
    decode_entry,
)
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.database import Database
from fedcredit.store.journal import EMPTY_HEAD, Journal

CAPS = {"train": BudgetCap(epsilon=1.0, delta=1e-5), "holdout": BudgetCap(epsilon=0.5, delta=1e-6)}
SALT = bytes(range(32))
PLAN = hashlib.sha256(b"a plan").digest()
NOON = 1_700_000_000


NOTHING: dict[str, Any] = {"mechanism": Mechanism.NONE, "sigma": 0}
EVERYTHING = {"allow_no_privacy": True, "allow_fixed_noise": True}


@dataclass
class Clock:
    """Moves only when told."""

    now: float = float(NOON)

    def __call__(self) -> float:
        return self.now


def open_ledger(
    database: Database,
    *,
    caps: Mapping[str, BudgetCap] = CAPS,
    owner: str = "bank-a",
    clock: Clock | None = None,
    **allowed: bool,
) -> PrivacyLedger:
    flags = {**dict.fromkeys(EVERYTHING, False), **allowed}
    return PrivacyLedger(
        Journal(database, "privacy"),
        place="state/ledger",
        owner=InstitutionId(owner),
        caps=caps,
        clock=clock or Clock(),
        entropy=lambda count: bytes(range(count)),
        **flags,
    )


def caps_of(train: float, *, delta: float = 1e-5) -> dict[str, BudgetCap]:
    return {**CAPS, "train": BudgetCap(epsilon=train, delta=delta)}


def entries(database: Database) -> int:
    return len(Journal(database, "privacy"))


def figures(spent: Spending) -> tuple[object, ...]:
    """Return what a spending says, so that two can be compared."""
    parts = (spent.cost.mu_squared, spent.cost.sampler_distance, spent.alone.mu_squared, spent.alone.sampler_distance)
    return (*parts, spent.epsilon, spent.epsilon_alone, spent.delta, spent.releases, spent.unprotected)


@pytest.fixture
def database() -> Database:
    return Database.in_memory()


# --- charging -------------------------------------------------------------------------------------------------------


def test_a_new_ledger_begins_with_its_owner_its_time_and_its_caps(database: Database) -> None:
    open_ledger(database, clock=Clock(NOON + 0.9))
    (entry,) = Journal(database, "privacy").entries()
    assert entry.kind == "ledger-opened"
    caps = {
        "holdout": {"epsilon": (0.5).hex(), "delta": (1e-6).hex()},
        "train": {"epsilon": (1.0).hex(), "delta": (1e-5).hex()},
    }
    assert entry.body == encode({"version": 2, "institution": "bank-a", "time": NOON, "caps": caps, "salt": SALT})
    open_ledger(database)
    assert entries(database) == 1


def test_nothing_is_spent_before_the_first_charge(database: Database) -> None:
    spent = open_ledger(database).spent("train")
    assert (spent.cost.mu, spent.epsilon, spent.epsilon_alone, spent.releases) == (0.0, 0.0, 0.0, 0)
    assert spent.tpr_ceiling(fpr=0.01) == pytest.approx(0.01)


def test_a_charge_is_in_the_journal_when_reserve_returns(database: Database) -> None:
    reservation = open_ledger(database).reserve(release(), plan_digest=PLAN)
    _, entry = Journal(database, "privacy").entries()
    assert not reservation.repeated
    assert entry.kind == "privacy-charge"
    assert entry.body == encode(
        {"version": 2, "release": release().to_bytes(), "delta": (1e-5).hex(), "plan": PLAN, "time": NOON}
    )


def test_a_charge_without_the_digest_of_a_plan_is_never_written(database: Database) -> None:
    ledger = open_ledger(database)
    with pytest.raises(PrivacyPlanError, match="32 bytes, not 3"):
        ledger.reserve(release(), plan_digest=b"abc")
    assert (entries(database), ledger.spent("train").releases) == (1, 0)


def test_charges_add_up_as_squares_and_stay_with_their_partition(database: Database) -> None:
    ledger = open_ledger(database)
    for number in range(4):
        ledger.reserve(release(f"r/{number}"), plan_digest=PLAN)
    ledger.reserve(release("r/eval", partition="holdout", sigma=200), plan_digest=PLAN)
    train, holdout = ledger.spent("train"), ledger.spent("holdout")
    assert train.cost.mu_squared == Fraction(4, 100)
    assert train.cost.sampler_distance == Fraction(4 * 50, 2**66)
    assert train.epsilon == pytest.approx(epsilon_for_mu(0.2, 1e-5), abs=1e-8)
    assert train.epsilon_alone == train.epsilon
    assert train.releases == 4
    assert holdout.cost.mu_squared == Fraction(1, 400)
    assert holdout.delta == 1e-6


def test_shared_noise_is_charged_as_claimed_and_what_each_message_is_worth_alone_is_kept_too(
    database: Database,
) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release("r/1/1/train", honest_shares=4), plan_digest=PLAN)
    ledger.reserve(release("r/2/1/train"), plan_digest=PLAN)
    spent = ledger.spent("train")
    assert spent.cost.mu_squared == Fraction(1, 400) + Fraction(1, 100)
    assert spent.alone.mu_squared == Fraction(2, 100)
    assert spent.epsilon == pytest.approx(epsilon_for_mu(math.sqrt(0.0125), 1e-5), abs=1e-8)
    assert spent.epsilon_alone == pytest.approx(epsilon_for_mu(math.sqrt(0.02), 1e-5), abs=1e-8)
    again = open_ledger(database).spent("train")
    assert figures(again) == figures(spent)


def test_the_cap_is_compared_with_the_claim_not_with_what_a_message_is_worth_alone(database: Database) -> None:
    ledger = open_ledger(database)
    # mu .2 claimed, .8 alone: epsilon .73 and 3.3.
    ledger.reserve(release(honest_shares=16, sensitivity_squared=6400), plan_digest=PLAN)
    assert ledger.spent("train").epsilon < 1 < 3 < ledger.spent("train").epsilon_alone
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(release("run/2/1/train", honest_shares=16, sensitivity_squared=6400), plan_digest=PLAN)


def test_noise_that_is_not_gaussian_is_charged_by_renyi_accounting(database: Database) -> None:
    ledger = open_ledger(database)
    skellam = release("r/1/1/train", mechanism=Mechanism.SKELLAM)
    ledger.reserve(skellam, plan_digest=PLAN)
    ledger.reserve(release("r/2/1/train"), plan_digest=PLAN)
    expected = Cost.total([skellam, release("r/2/1/train")]).epsilon(1e-5)
    assert ledger.spent("train").epsilon == expected > epsilon_for_mu(math.sqrt(0.02), 1e-5)
    assert open_ledger(database).spent("train").epsilon == expected


def test_the_same_release_again_is_not_charged_again(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release(), plan_digest=PLAN)
    before = figures(ledger.spent("train"))
    assert ledger.reserve(release(), plan_digest=PLAN).repeated
    assert figures(ledger.spent("train")) == before
    assert entries(database) == 2


def test_a_release_id_with_other_content_is_refused(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release(), plan_digest=PLAN)
    with pytest.raises(ReleaseConflictError, match="run/1/1/train"):
        ledger.reserve(release(sigma=101), plan_digest=PLAN)
    with pytest.raises(ReleaseConflictError):
        ledger.reserve(release(partition="holdout"), plan_digest=PLAN)
    assert entries(database) == 2


def test_a_release_over_the_cap_is_refused_with_the_numbers_and_nothing_is_written(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release(sigma=50), plan_digest=PLAN)  # mu .2
    with pytest.raises(BudgetExhaustedError) as caught:
        ledger.reserve(release("run/2/1/train", sigma=50), plan_digest=PLAN)
    fields = caught.value.fields
    assert (fields["release"], fields["partition"], fields["cap"]) == ("run/2/1/train", "train", 1.0)
    assert fields["spent"] == pytest.approx(epsilon_for_mu(0.2, 1e-5), abs=1e-8)
    assert fields["would_be"] == pytest.approx(epsilon_for_mu(math.sqrt(0.08), 1e-5), abs=1e-8)
    assert entries(database) == 2
    ledger.reserve(release("run/3/1/train", sigma=100), plan_digest=PLAN)  # a cheaper one still fits


def plan_of(**changes: Any) -> PrivacyPlan:
    fields: dict[str, Any] = {
        "epsilon": 1.0,
        "delta": 1e-5,
        "unit": "borrower",
        "steps": 30,
        "preparation_share": 0.0,
        "preparation_steps": 1,
        "evaluation_epsilon": 0.5,
        "evaluation_steps": 1,
        "vote_share": 0.0,
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "accountant": "gdp",
        "honest_shares": 1,
        "sampled_per_million": 1_000_000,
        "test_noise": False,
    }
    return PrivacyPlan(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"honest_shares": 4},
        {"mechanism": Mechanism.SKELLAM, "accountant": "rdp"},
        {"accountant": "rdp", "sampled_per_million": 50_000},
    ],
    ids=["gaussian", "shared", "skellam", "sampled"],
)
def test_a_plan_at_the_cap_fits_to_its_last_step_and_no_further(database: Database, changes: dict[str, Any]) -> None:
    plan = plan_of(**changes)
    ledger = open_ledger(database)
    for step in range(30):
        asked = plan.training_release(release_id=f"r/{step}", sensitivity_squared=10_000, dimension=320)
        ledger.reserve(asked, plan_digest=PLAN)
    assert 0.99 < ledger.spent("train").epsilon <= 1.0
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(
            plan.training_release(release_id="r/30", sensitivity_squared=10_000, dimension=320), plan_digest=PLAN
        )


def test_charges_are_counted_by_run_partition_and_kind_and_after_reopening(database: Database) -> None:
    ledger = open_ledger(database)
    for name in ("a/0/1/prepare", "a/1/1/train", "a/2/1/train", "a/b/1/1/train", "a/1/1/evaluate"):
        partition = "holdout" if name.endswith("evaluate") else "train"
        ledger.reserve(release(name, partition=partition, sigma=1000), plan_digest=PLAN)
    ledger.reserve(release("a/2/1/train", sigma=1000), plan_digest=PLAN)  # the same again is no further charge
    for opened in (ledger, open_ledger(database)):
        assert opened.charges(run="a", partition="train") == 3
        assert opened.charges(run="a", partition="train", kind="train") == 2
        assert opened.charges(run="a", partition="train", kind="prepare") == 1
        assert opened.charges(run="a", partition="train", kind="evaluate") == 0
        assert opened.charges(run="a", partition="holdout") == 1
        # A run whose name holds the separator is a run of its own, and hides nothing.
        assert opened.charges(run="a/b", partition="train") == 1
        assert opened.charges(run="b", partition="train") == 0


def test_what_each_run_has_spent_is_kept_apart_and_adds_up_to_the_whole(database: Database) -> None:
    ledger = open_ledger(database)
    for name in ("b/1/1/train", "a/1/1/train", "a/2/1/train"):
        ledger.reserve(release(name), plan_digest=PLAN)
    ledger.reserve(release("a/1/1/evaluate", partition="holdout", sigma=300), plan_digest=PLAN)
    for opened in (ledger, open_ledger(database)):
        by_run = opened.spent_by_run("train")
        assert {run: (one.releases, one.cost.mu_squared) for run, one in by_run.items()} == {
            "b": (1, Fraction(1, 100)),
            "a": (2, Fraction(2, 100)),
        }
        assert list(by_run) == ["b", "a"]
        assert list(opened.spent_by_run("holdout")) == ["a"]
        assert dict(opened.spent_by_run("other")) == {}


def test_a_charge_knows_its_run_its_round_and_its_kind() -> None:
    for name, expected in {
        "a/3/1/train": ("a", "3", "train"),
        "a/b/3/1/evaluate": ("a/b", "3", "evaluate"),
        "a": ("a", "", "a"),
    }.items():
        charged = Charge(release=release(name), delta=1e-5, plan=PLAN, time=0)
        assert (charged.run, charged.round, charged.kind) == expected


def test_releases_without_noise_are_counted_as_well(database: Database) -> None:
    ledger = open_ledger(database, allow_no_privacy=True)
    ledger.reserve(release("a/1/1/train", **NOTHING), plan_digest=PLAN)
    assert ledger.charges(run="a", partition="train") == 1
    assert ledger.spent_by_run("train")["a"].epsilon == math.inf


def test_a_partition_without_a_cap_has_no_budget(database: Database) -> None:
    ledger = open_ledger(database, allow_no_privacy=True)
    for asked in (release(partition="other"), release(partition="other", **NOTHING)):
        with pytest.raises(PrivacyPlanError, match="no budget"):
            ledger.reserve(asked, plan_digest=PLAN)
    with pytest.raises(PrivacyPlanError, match="no budget"):
        ledger.spent("other")


@pytest.mark.parametrize("cap", [(0.0, 1e-5), (math.inf, 1e-5), (1.0, 0.0), (1.0, 0.5)])
def test_a_cap_that_cannot_be_accounted_for_is_refused(cap: tuple[float, float]) -> None:
    with pytest.raises(PrivacyPlanError):
        BudgetCap(epsilon=cap[0], delta=cap[1])


# --- without protection ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "missing", "error"),
    [
        (NOTHING, "allow_no_privacy", PrivacyOffRefusedError),
        ({"test_noise": True}, "allow_fixed_noise", FixedNoiseRefusedError),
        ({"honest_shares": 2, "test_noise": True}, "allow_fixed_noise", FixedNoiseRefusedError),
    ],
    ids=["none", "fixed", "shared and fixed"],
)
def test_a_weaker_protection_is_refused_unless_the_institution_agreed_to_exactly_that(
    database: Database, changes: dict[str, Any], missing: str, error: type[FedcreditError]
) -> None:
    with pytest.raises(error):
        open_ledger(database, **{**EVERYTHING, missing: False}).reserve(release(**changes), plan_digest=PLAN)
    assert entries(database) == 1
    open_ledger(database, **EVERYTHING).reserve(release(**changes), plan_digest=PLAN)
    assert entries(database) == 2


@pytest.mark.parametrize("changes", [NOTHING, {"test_noise": True}], ids=["none", "fixed"])
def test_an_unprotected_release_is_recorded_as_infinite_and_no_private_one_may_follow(
    database: Database, changes: dict[str, Any]
) -> None:
    ledger = open_ledger(database, **EVERYTHING)
    ledger.reserve(release(**changes), plan_digest=PLAN)
    spent = open_ledger(database).spent("train")
    assert (spent.epsilon, spent.epsilon_alone, spent.unprotected, spent.releases) == (math.inf, math.inf, 1, 1)
    assert spent.tpr_ceiling(fpr=0.01) == 1.0
    assert figures(ledger.spent("train")) == figures(spent)
    with pytest.raises(BudgetExhaustedError, match="inf"):
        ledger.reserve(release("next"), plan_digest=PLAN)


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_clock_far_behind_the_last_charge_charges_nothing(database: Database) -> None:
    clock = Clock()
    ledger = open_ledger(database, clock=clock)
    ledger.reserve(release("r/1"), plan_digest=PLAN)
    clock.now = NOON - 301
    for opened in (ledger, open_ledger(database, clock=clock)):
        with pytest.raises(ClockSetBackError) as caught:
            opened.reserve(release("r/2"), plan_digest=PLAN)
        assert caught.value.fields == {"seconds": 301}
        assert opened.reserve(release("r/1"), plan_digest=PLAN).repeated  # what was charged stays charged
    assert entries(database) == 2


def test_a_clock_may_step_back_a_little_but_not_little_by_little(database: Database) -> None:
    clock = Clock()
    ledger = open_ledger(database, clock=clock)
    for step, now in enumerate([NOON, NOON - 300, NOON - 300]):
        clock.now = now
        ledger.reserve(release(f"r/{step}"), plan_digest=PLAN)
    clock.now = NOON - 301
    with pytest.raises(ClockSetBackError):
        ledger.reserve(release("r/9"), plan_digest=PLAN)


# --- opening again --------------------------------------------------------------------------------------------------


def test_a_reopened_ledger_knows_every_charge(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        ledger = open_ledger(database)
        ledger.reserve(release("a"), plan_digest=PLAN)
        ledger.reserve(release("b", partition="holdout", sigma=300), plan_digest=PLAN)
        before = [figures(ledger.spent(name)) for name in CAPS], ledger.head
    with Database.open(tmp_path / "state.db") as database:
        again = open_ledger(database)
        assert ([figures(again.spent(name)) for name in CAPS], again.head) == before
        assert again.reserve(release("a"), plan_digest=PLAN).repeated


def test_what_was_spent_is_known_even_where_the_cap_is_gone(database: Database) -> None:
    open_ledger(database).reserve(release(), plan_digest=PLAN)
    ledger = open_ledger(database, caps={})
    assert ledger.spent("train").releases == 1
    assert dict(ledger.caps) == {}
    with pytest.raises(PrivacyPlanError, match="no budget"):
        ledger.reserve(release("next"), plan_digest=PLAN)


KILLED = """
import os
import sys
from pathlib import Path
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.spending import BudgetCap, Spending
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

ledger = PrivacyLedger(
    Journal(Database.open(Path(sys.argv[1])), "privacy"), place="x", owner="bank-a", clock=lambda: 1_700_000_000.0,
    entropy=os.urandom,
    caps={"train": BudgetCap(epsilon=8.0, delta=1e-5)},
    allow_no_privacy=False, allow_fixed_noise=False,
)
for number in range(100_000):
    ledger.reserve(Release(
        release_id=f"r/{number}", partition="train", purpose="a sum", mechanism=Mechanism.ROUNDED_GAUSSIAN,
        unit="borrower", neighbours="add-or-remove-one", sensitivity_squared=1, sigma=1000, dimension=1,
        honest_shares=1, sampled_per_million=1_000_000, test_noise=False,
    ), plan_digest=bytes(32))
    print(number, flush=True)
"""


def test_after_kill_9_every_reservation_that_was_returned_is_charged(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(20):
            child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        rest = child.stdout.read()
    returned = 20 + rest.count("\n")
    with Database.open(path) as database:
        ledger = open_ledger(database, caps={"train": BudgetCap(epsilon=8.0, delta=1e-5)})
        assert returned <= ledger.spent("train").releases <= returned + 1
        again = release("r/0", sensitivity_squared=1, sigma=1000, dimension=1)
        assert ledger.reserve(again, plan_digest=PLAN).repeated


# --- owner and caps -------------------------------------------------------------------------------------------------


def test_a_ledger_opens_for_its_own_institution_only(database: Database) -> None:
    open_ledger(database)
    with pytest.raises(LedgerOwnerError, match="belongs to bank-a, not to bank-b"):
        open_ledger(database, owner="bank-b", caps=caps_of(9.0, delta=1e-7))  # said before any cap is looked at


def test_a_ledger_is_not_opened_under_a_name_that_it_could_not_read_again(database: Database) -> None:
    with pytest.raises(ConfigValueError):
        open_ledger(database, owner="Bank & Co")
    assert entries(database) == 0


def test_delta_is_fixed_when_the_ledger_is_opened_first(database: Database) -> None:
    open_ledger(database)
    with pytest.raises(PrivacyPlanError, match="fixed at 1e-05"):
        open_ledger(database, caps=caps_of(1.0, delta=1e-6))


def test_the_lower_cap_counts_and_a_higher_one_needs_an_amendment(database: Database) -> None:
    open_ledger(database)
    lower = open_ledger(database, caps=caps_of(0.3))
    assert (lower.caps["train"].epsilon, lower.caps["holdout"].epsilon) == (0.3, 0.5)
    assert lower.recorded_caps["train"].epsilon == 1.0
    with pytest.raises(BudgetExhaustedError):
        lower.reserve(release(), plan_digest=PLAN)
    with pytest.raises(CapMismatchError) as caught:
        open_ledger(database, caps=caps_of(1.5))
    assert caught.value.fields == {"key": "budget.epsilon", "wanted": 1.5, "cap": 1.0}
    with pytest.raises(CapMismatchError, match=r"budget\.holdout_epsilon to 0\.6"):
        open_ledger(database, caps={**CAPS, "holdout": BudgetCap(epsilon=0.6, delta=1e-6)})
    with pytest.raises(CapMismatchError, match="other to 1, but the privacy ledger holds a cap of 0"):
        open_ledger(database, caps={**CAPS, "other": BudgetCap(epsilon=1.0, delta=1e-6)})
    assert entries(database) == 1


BOTH = ("Ada Lovelace", "Grace Hopper")


def amend(ledger: PrivacyLedger, epsilon: float, **changes: Any) -> None:
    ledger.amend(
        changes.pop("partition", "train"),
        epsilon=epsilon,
        **{"approvers": BOTH, "reason": "a second model", **changes},
    )


def test_an_amendment_raises_the_cap_in_one_entry_and_node_toml_may_follow(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release(sigma=50), plan_digest=PLAN)
    amend(ledger, 3.0, approvers=[" Ada Lovelace", "Grace Hopper "])
    assert entries(database) == 3
    *_, entry = Journal(database, "privacy").entries()
    assert entry.kind == "cap-amended"
    assert entry.body == encode(
        {
            "version": 2,
            "partition": "train",
            "epsilon": (3.0).hex(),
            "approvers": list(BOTH),
            "reason": "a second model",
            "time": NOON,
        }
    )
    assert (ledger.recorded_caps["train"], ledger.caps["train"].epsilon) == (caps_of(3.0)["train"], 1.0)
    raised = open_ledger(database, caps=caps_of(3.0))
    raised.reserve(release("run/2/1/train", sigma=50), plan_digest=PLAN)
    assert 1 < raised.spent("train").epsilon < 3
    with pytest.raises(CapMismatchError):
        open_ledger(database, caps=caps_of(3.1))
    with pytest.raises(PrivacyPlanError, match="delta"):
        open_ledger(database, caps=caps_of(3.0, delta=1e-6))


def test_an_amendment_may_lower_the_cap_down_to_what_is_spent(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release(), plan_digest=PLAN)
    spent = ledger.spent("train").epsilon
    with pytest.raises(AmendmentError, match=r"0\.\d{4} is spent, more than 0.3"):
        amend(ledger, 0.3)
    amend(ledger, spent)
    assert ledger.caps["train"].epsilon == spent  # at once
    with pytest.raises(CapMismatchError):
        open_ledger(database)


def test_the_cap_that_the_ledger_holds_already_is_no_amendment(database: Database) -> None:
    ledger = open_ledger(database)
    amend(ledger, 3.0)
    amend(ledger, 3.0, reason="the same again")
    assert entries(database) == 2
    amend(ledger, 2.0)
    amend(ledger, 3.0)
    assert entries(database) == 4


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"approvers": ["Ada"]}, "two different"),
        ({"approvers": []}, "two different"),
        ({"approvers": ["Ada", "ada "]}, "two different"),
        ({"approvers": ["Ada Lovelace", "ADA  LOVELACE"]}, "two different"),
        ({"approvers": ["Ada", "Grace", "ada"]}, "two different"),
        ({"approvers": ["Ada", "\uff21da"]}, "two different"),  # a full-width A
        ({"approvers": [str(number) for number in range(11)]}, "at most 10"),
        ({"approvers": ["Ada", ""]}, "name of an approver"),
        ({"approvers": ["Ada", "  "]}, "name of an approver"),
        ({"approvers": ["Ada", "Grace\nHopper"]}, "name of an approver"),
        ({"approvers": ["Ada", "x" * 101]}, "name of an approver"),
        ({"reason": ""}, "a reason"),
        ({"reason": " \t"}, "a reason"),
        ({"reason": "x" * 501}, "a reason"),
        ({"partition": "other"}, "no cap for the partition other"),
        ({"epsilon": math.inf}, "epsilon must be"),
        ({"epsilon": math.nan}, "epsilon must be"),
        ({"epsilon": 0.0}, "epsilon must be"),
        ({"epsilon": 101.0}, "epsilon must be"),
    ],
)
def test_an_amendment_without_two_persons_a_reason_and_a_cap_is_none(
    database: Database, changes: dict[str, Any], problem: str
) -> None:
    ledger = open_ledger(database)
    with pytest.raises(AmendmentError, match=problem) as caught:
        amend(ledger, changes.pop("epsilon", 2.0), **changes)
    assert "Ada" not in str(caught.value)
    assert entries(database) == 1


def test_a_partition_without_protection_can_have_no_cap_any_more(database: Database) -> None:
    ledger = open_ledger(database, **EVERYTHING)
    ledger.reserve(release(**NOTHING), plan_digest=PLAN)
    with pytest.raises(AmendmentError, match="inf is spent"):
        amend(ledger, 100.0)


# --- history and heads ----------------------------------------------------------------------------------------------


def test_the_history_tells_every_entry_in_order(database: Database) -> None:
    clock = Clock()
    ledger = open_ledger(database, clock=clock)
    clock.now += 60
    ledger.reserve(release(), plan_digest=PLAN)
    amend(ledger, 2.0)
    expected = [
        LedgerOpened(time=NOON, institution=InstitutionId("bank-a"), caps=CAPS, salt=SALT),
        Charge(release=release(), delta=1e-5, plan=PLAN, time=NOON + 60),
        CapAmended(time=NOON + 60, partition="train", epsilon=2.0, approvers=BOTH, reason="a second model"),
    ]
    assert list(ledger.history()) == expected
    assert list(open_ledger(database).history()) == expected


def test_every_head_that_a_ledger_had_is_known_and_no_other(database: Database) -> None:
    ledger = open_ledger(database)
    heads = [EMPTY_HEAD, ledger.head]
    ledger.reserve(release(), plan_digest=PLAN)
    heads.append(ledger.head)
    amend(ledger, 2.0)
    heads.append(ledger.head)
    assert heads[-1] == Journal(database, "privacy").head
    assert len(set(heads)) == 4
    for opened in (ledger, open_ledger(database)):
        for head in heads:
            opened.require_head(head)
        for stranger in (hashlib.sha256(b"x").digest(), heads[-1][:31], b""):
            with pytest.raises(LedgerRolledBackError) as caught:
                opened.require_head(stranger)
            assert caught.value.fields == {"path": "state/ledger", "head": stranger.hex()[:16]}


def test_an_old_copy_of_a_ledger_lacks_the_newest_head(tmp_path: Path) -> None:
    path, copy = tmp_path / "state.db", tmp_path / "copy.db"
    with Database.open(path) as database:
        open_ledger(database).reserve(release("a"), plan_digest=PLAN)
    copy.write_bytes(path.read_bytes())
    with Database.open(path) as database:
        ledger = open_ledger(database)
        ledger.reserve(release("b"), plan_digest=PLAN)
        seen = ledger.head
    with Database.open(copy) as database:
        old = open_ledger(database)
        with pytest.raises(LedgerRolledBackError):
            old.require_head(seen)
        # Going on does not hide it: another charge has another digest.
        old.reserve(release("c"), plan_digest=PLAN)
        with pytest.raises(LedgerRolledBackError):
            old.require_head(seen)


# --- version 1 ------------------------------------------------------------------------------------------------------


def old_charge(name: str, *, delta: float = 1e-5, **changes: object) -> bytes:
    """Return a charge as fedcredit 0.1 wrote it, field by field."""
    written = {
        "version": 1,
        "release_id": name,
        "partition": "train",
        "purpose": "a sum",
        "mechanism": "rounded-gaussian",
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "sensitivity_squared": 100,
        "sigma": 100,
        "dimension": 50,
        "test_noise": False,
        **changes,
    }
    return encode({"version": 1, "release": encode(written), "delta": delta.hex()})  # type: ignore[dict-item]


@pytest.fixture
def old(database: Database) -> Database:
    journal = Journal(database, "privacy")
    journal.append("privacy-charge", old_charge("a/1/1/train"))
    journal.append("privacy-charge", old_charge("a/1/1/evaluate", partition="holdout", sigma=300, delta=1e-6))
    return database


def test_a_ledger_of_version_1_goes_on_under_an_opening_of_its_own(old: Database) -> None:
    head = Journal(old, "privacy").head
    ledger = open_ledger(old)
    assert entries(old) == 3
    first, _, third = ledger.history()
    assert isinstance(first, Charge)
    assert (first.plan, first.time, first.release) == (None, None, release("a/1/1/train"))
    assert isinstance(third, LedgerOpened)
    assert third.institution == "bank-a"
    ledger.require_head(head)
    ledger.require_head(EMPTY_HEAD)
    assert ledger.charges(run="a", partition="train", kind="train") == 1
    assert ledger.spent("train").cost.mu_squared == Fraction(1, 100)
    # The same content in another version's bytes is the same release.
    assert ledger.reserve(release("a/1/1/train"), plan_digest=PLAN).repeated
    with pytest.raises(ReleaseConflictError):
        ledger.reserve(release("a/1/1/train", honest_shares=2), plan_digest=PLAN)
    ledger.reserve(release("a/2/1/train"), plan_digest=PLAN)
    again = open_ledger(old)
    assert (again.spent("train").releases, entries(old)) == (2, 4)
    with pytest.raises(LedgerOwnerError):
        open_ledger(old, owner="bank-b")


def test_a_ledger_of_version_1_keeps_its_delta_and_is_not_opened_with_another(old: Database) -> None:
    with pytest.raises(PrivacyPlanError, match="delta of train was fixed at 1e-05"):
        open_ledger(old, caps=caps_of(1.0, delta=1e-6))
    assert entries(old) == 2
    open_ledger(old)


def test_a_ledger_of_version_1_over_its_cap_opens_and_charges_nothing_more(old: Database) -> None:
    ledger = open_ledger(old, caps=caps_of(0.1))
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(release("next"), plan_digest=PLAN)


def test_a_partition_of_version_1_without_a_cap_stays_known_and_gets_no_budget(old: Database) -> None:
    ledger = open_ledger(old, caps={"train": CAPS["train"]})
    assert ledger.spent("holdout").releases == 1
    with pytest.raises(PrivacyPlanError, match="no budget"):
        ledger.reserve(release("next", partition="holdout"), plan_digest=PLAN)
    with pytest.raises(CapMismatchError, match=r"budget\.holdout_epsilon"):
        open_ledger(old)


# --- a past in doubt ------------------------------------------------------------------------------------------------


def charge(name: str = "b", **changes: Any) -> bytes:
    fields = {"version": 2, "release": release(name).to_bytes(), "delta": (1e-5).hex(), "plan": PLAN, "time": NOON}
    return encode({**fields, **changes})


def opening(**changes: Any) -> bytes:
    caps = {"train": {"epsilon": (1.0).hex(), "delta": (1e-5).hex()}}
    return encode({"version": 2, "institution": "bank-a", "time": NOON, "caps": caps, "salt": SALT, **changes})


def amendment(**changes: Any) -> bytes:
    fields = {"version": 2, "partition": "train", "epsilon": (2.0).hex(), "approvers": list(BOTH), "time": NOON}
    return encode({**fields, "reason": "why", **changes})


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ("refund", charge(), "kind is unknown"),
        (CHARGE_KIND, charge(version=3), "version is unknown"),
        (CHARGE_KIND, charge(version=0), "version is unknown"),
        (CHARGE_KIND, charge(version=True), "version is unknown"),
        (CHARGE_KIND, charge(delta="a"), "delta"),
        (CHARGE_KIND, charge(delta="wide"), "not a number"),
        (CHARGE_KIND, charge(delta=(1e-6).hex()), "delta of train changes"),
        (CHARGE_KIND, charge(delta=5), "wrong type"),
        (CHARGE_KIND, charge(plan=b"short"), "32 bytes"),
        (CHARGE_KIND, charge(plan=None), "plan has the wrong type"),
        (CHARGE_KIND, charge(time=True), "time has the wrong type"),
        (CHARGE_KIND, charge(time=-1), "time is out of range"),
        (CHARGE_KIND, charge(time=253_402_300_800), "time is out of range"),
        (CHARGE_KIND, charge(note="x"), "fields"),
        (CHARGE_KIND, charge("a"), "charged before"),
        (CHARGE_KIND, charge(release=release("b", partition="other").to_bytes()), "partition without a cap"),
        (CHARGE_KIND, charge(release=b"x"), "release"),
        (CHARGE_KIND, old_charge("b"), "wrong side of the opening"),
        (CHARGE_KIND, encode({"version": 1}), "fields"),
        (CHARGE_KIND, encode({"release": b""}), "fields"),
        (CHARGE_KIND, encode([1]), "fields"),
        (CHARGE_KIND, b"", "CBOR"),
        (OPENED_KIND, opening(), "opened before"),
        (OPENED_KIND, opening(version=1), "version is unknown"),
        (OPENED_KIND, opening(institution="Bank & Co"), "no possible name"),
        (OPENED_KIND, opening(institution=7), "institution has the wrong type"),
        (OPENED_KIND, opening(caps=[]), "caps has the wrong type"),
        (OPENED_KIND, opening(caps={"train": {"epsilon": "0x1p0"}}), "other fields than epsilon and delta"),
        (OPENED_KIND, opening(caps={"train": 1}), "other fields than epsilon and delta"),
        (OPENED_KIND, opening(caps={"train": {"epsilon": "inf", "delta": "0x1p-20"}}), "epsilon must be"),
        (OPENED_KIND, opening(more=1), "fields"),
        (AMENDED_KIND, amendment(partition="other"), "cap that there is not"),
        (AMENDED_KIND, amendment(version=1), "version is unknown"),
        (AMENDED_KIND, amendment(approvers=["Ada"]), "two different approvers"),
        (AMENDED_KIND, amendment(approvers="Ada, Grace"), "approvers has the wrong type"),
        (AMENDED_KIND, amendment(approvers=["Ada", 7]), "a name has the wrong type"),
        (AMENDED_KIND, amendment(reason=" why"), "a reason"),
        (AMENDED_KIND, amendment(epsilon="0x1p9"), "epsilon must be"),
        (AMENDED_KIND, amendment(epsilon="0x1p9999"), "not a number"),
        (AMENDED_KIND, amendment(time="now"), "time has the wrong type"),
        (AMENDED_KIND, amendment(more=1), "fields"),
    ],
)
def test_an_entry_that_is_not_fully_understood_closes_the_ledger(
    database: Database, kind: str, body: bytes, problem: str
) -> None:
    open_ledger(database).reserve(release("a"), plan_digest=PLAN)
    Journal(database, "privacy").append(kind, body)
    with pytest.raises(LedgerCorruptError, match=problem) as caught:
        open_ledger(database)
    assert (caught.value.fields["index"], caught.value.fields["path"]) == (2, "state/ledger")


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        (CHARGE_KIND, charge(), "wrong side of the opening"),
        (CHARGE_KIND, old_charge("a"), "charged before"),
        (CHARGE_KIND, old_charge("b", delta=1e-6), "delta of train changes"),
        (AMENDED_KIND, amendment(), "cap that there is not"),
        (OPENED_KIND, opening(caps={"train": {"epsilon": "0x1p0", "delta": (1e-6).hex()}}), "delta of train changes"),
    ],
)
def test_an_entry_before_the_opening_is_a_charge_of_version_1(
    database: Database, kind: str, body: bytes, problem: str
) -> None:
    Journal(database, "privacy").append(CHARGE_KIND, old_charge("a"))
    Journal(database, "privacy").append(kind, body)
    with pytest.raises(LedgerCorruptError, match=problem) as caught:
        open_ledger(database)
    assert caught.value.fields["index"] == 1


def three_charges(database: Database) -> None:
    ledger = open_ledger(database)
    for name in "abc":
        ledger.reserve(release(name), plan_digest=PLAN)


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        ("UPDATE journal_entries SET body = x'00' WHERE position = 1", 1),
        ("UPDATE journal_entries SET kind = 'other' WHERE position = 2", 2),
        ("DELETE FROM journal_entries WHERE position = 0", 0),
        ("UPDATE journal_heads SET length = 2", 1),
    ],
)
def test_a_changed_past_closes_the_ledger_and_names_the_entry(database: Database, statement: str, index: int) -> None:
    three_charges(database)
    database.execute(statement)
    with pytest.raises(LedgerCorruptError) as caught:
        open_ledger(database, owner="bank-b")  # the chain comes before the owner
    assert caught.value.fields["index"] == index


def test_a_history_that_was_changed_under_an_open_ledger_is_not_told(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release("a"), plan_digest=PLAN)
    database.execute("UPDATE journal_entries SET body = x'00' WHERE position = 1")
    with pytest.raises(LedgerCorruptError):
        list(ledger.history())
    database.execute("DELETE FROM journal_entries WHERE position = 1")
    with pytest.raises(LedgerCorruptError, match="missing"):
        list(ledger.history())


def test_a_journal_that_somebody_else_wrote_to_accepts_nothing_further(database: Database) -> None:
    ledger = open_ledger(database)
    open_ledger(database).reserve(release("a"), plan_digest=PLAN)
    with pytest.raises(LedgerCorruptError, match="behind the ledger's back"):
        ledger.reserve(release("b"), plan_digest=PLAN)
    with pytest.raises(LedgerCorruptError, match="behind the ledger's back"):
        amend(ledger, 2.0)
    assert entries(database) == 2
    assert ledger.head != Journal(database, "privacy").head  # a refusal can still name what this ledger wrote


def test_a_charge_that_was_rolled_back_stops_the_ledger_even_if_another_took_its_place(database: Database) -> None:
    ledger = open_ledger(database)

    def reserve_and_fail() -> None:
        with database.transaction():
            ledger.reserve(release("a"), plan_digest=PLAN)
            raise KeyError("the caller's own failure")

    with pytest.raises(KeyError):
        reserve_and_fail()
    with pytest.raises(LedgerCorruptError):
        ledger.reserve(release("b"), plan_digest=PLAN)
    Journal(database, "privacy").append(CHARGE_KIND, charge("c"))
    with pytest.raises(LedgerCorruptError):
        ledger.reserve(release("b"), plan_digest=PLAN)


def test_a_damaged_file_closes_the_ledger_at_its_first_entry(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with Database.open(path) as database:
        three_charges(database)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\xff" * (len(data) - 4096))
    with Database.open(path) as database, pytest.raises(LedgerCorruptError) as caught:
        open_ledger(database)
    assert caught.value.fields["index"] == 0


# --- any sequence ---------------------------------------------------------------------------------------------------

steps = st.lists(
    st.tuples(
        st.integers(0, 7), st.integers(1, 40), st.sampled_from([100, 150, 230]), st.booleans(), st.sampled_from([1, 3])
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(sequence=steps, reopen_after=st.integers(0, 25))
def test_no_sequence_exceeds_the_cap_and_spending_is_the_sum_of_what_was_granted(
    sequence: list[tuple[int, int, int, bool, int]], reopen_after: int
) -> None:
    database = Database.in_memory()
    ledger, granted = open_ledger(database), dict[str, Release]()
    for position, (name, root, sigma, on_holdout, shares) in enumerate(sequence):
        asked = release(
            f"r/{name}",
            sensitivity_squared=root * root,
            sigma=sigma,
            partition="holdout" if on_holdout else "train",
            honest_shares=shares,
        )
        if position == reopen_after:
            ledger = open_ledger(database)
        try:
            reservation = ledger.reserve(asked, plan_digest=PLAN)
        except BudgetExhaustedError:
            mine = [r for r in [*granted.values(), asked] if r.partition == asked.partition]
            cap = CAPS[asked.partition]
            assert mu_squared(mine) > mu_for_epsilon(cap.epsilon, cap.delta) ** 2 * (1 - 1e-6)
        except ReleaseConflictError:
            assert granted[asked.release_id] != asked
        else:
            assert reservation.repeated == (asked.release_id in granted)
            assert granted.setdefault(asked.release_id, asked) == asked
    for partition, cap in CAPS.items():
        spent = ledger.spent(partition)
        mine = [r for r in granted.values() if r.partition == partition]
        assert spent.cost.mu_squared == mu_squared(mine)
        assert spent.alone.mu_squared == sum((Fraction(r.sensitivity_squared, r.sigma**2) for r in mine), Fraction(0))
        distance = Fraction(sum(50 * r.honest_shares for r in mine), 2**66)
        assert spent.epsilon == epsilon_with_sampler(spent.cost.mu, cap.delta, distance=distance)
        assert spent.releases == len(mine)
        assert spent.epsilon <= cap.epsilon
        assert spent.epsilon <= spent.epsilon_alone
        assert sum(one.releases for one in ledger.spent_by_run(partition).values()) == len(mine)
    assert entries(database) == 1 + len(granted)


def mu_squared(releases: list[Release]) -> Fraction:
    """Return the exact sum, written out once more."""
    return sum((Fraction(r.sensitivity_squared, r.honest_shares * r.sigma**2) for r in releases), Fraction(0))


def test_the_order_of_charges_does_not_change_what_is_spent(database: Database) -> None:
    forward, backward = open_ledger(database), open_ledger(Database.in_memory())
    releases = [release(f"r/{n}", sigma=100 + 13 * n) for n in range(5)]
    for one in releases:
        forward.reserve(one, plan_digest=PLAN)
    for one in reversed(releases):
        backward.reserve(one, plan_digest=PLAN)
    assert figures(forward.spent("train")) == figures(backward.spent("train"))


names = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(
    first=names,
    second=names,
    reason=names,
    epsilon=st.floats(0.01, 100),
    time=st.integers(-10, 2**53),
    plan=st.binary(),
)
def test_whatever_can_be_written_is_read_back_as_it_was(
    first: str, second: str, reason: str, epsilon: float, time: int, plan: bytes
) -> None:
    database = Database.in_memory()
    clock = Clock(float(time))
    ledger = open_ledger(database, clock=clock)
    digest = hashlib.sha256(plan).digest()
    ledger.reserve(release(), plan_digest=digest)
    try:
        amend(ledger, epsilon, approvers=[first, second], reason=reason)
    except AmendmentError:
        assert entries(database) == 2
    told = list(ledger.history())
    assert [decode_entry(entry) for entry in Journal(database, "privacy").entries()] == told
    assert [type(item) for item in told[:2]] == [LedgerOpened, Charge]
    for item, entry in zip(told, Journal(database, "privacy").entries(), strict=True):
        assert item.to_bytes() == entry.body
    assert list(open_ledger(database, clock=clock, caps=caps_of(min(epsilon, 1.0))).history()) == told


def test_two_ledgers_with_the_same_caps_and_time_have_different_heads(database: Database) -> None:
    # Other parties see heads; what is in the opening must not be found by trying.
    def head(entropy: bytes) -> bytes:
        other = Database.in_memory()
        return PrivacyLedger(
            Journal(other, "privacy"),
            place="x",
            owner=InstitutionId("bank-a"),
            caps=CAPS,
            allow_no_privacy=False,
            allow_fixed_noise=False,
            clock=Clock(),
            entropy=lambda count: entropy * count,
        ).head

    assert head(b"a") != head(b"b")


def test_after_gaussian_releases_a_partition_takes_no_release_that_is_priced_otherwise(database: Database) -> None:
    # Two tight prices side by side are no filter: whoever sees results could choose the cheaper route.
    ledger = open_ledger(database)
    ledger.reserve(release("r/1/1/train"), plan_digest=PLAN)
    with pytest.raises(AccountantError, match="priced exactly"):
        ledger.reserve(release("r/2/1/train", mechanism=Mechanism.SKELLAM), plan_digest=PLAN)
    assert ledger.spent("train").releases == 1


def test_after_another_mechanism_a_gaussian_release_is_priced_by_renyi(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release("r/1/1/train", mechanism=Mechanism.SKELLAM), plan_digest=PLAN)
    ledger.reserve(release("r/2/1/train"), plan_digest=PLAN)
    spent = ledger.spent("train")
    assert not spent.cost.is_gaussian
    assert spent.epsilon == spent.cost.renyi_epsilon(1e-5)


def test_what_is_priced_otherwise_is_refused_before_it_is_asked_too() -> None:
    # The preview and the approval look at spending, not at an open ledger.
    spent = Spending.none(1e-5).after(release())
    with pytest.raises(AccountantError, match="priced exactly"):
        spent.require_one_price(release("next", mechanism=Mechanism.SKELLAM))
    spent.require_one_price(release("next"))
    Spending.none(1e-5).require_one_price(release(mechanism=Mechanism.SKELLAM))
    Spending.none(1e-5).after(release(mechanism=Mechanism.SKELLAM)).require_one_price(release("next"))
