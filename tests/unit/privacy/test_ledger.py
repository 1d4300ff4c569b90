"""The ledger: charged before released, never refunded, never over the cap, and refused when its past is in doubt."""

import math
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.encoding import encode
from fedcredit.errors import (
    BudgetExhaustedError,
    FixedNoiseRefusedError,
    LedgerCorruptError,
    PrivacyOffRefusedError,
    PrivacyPlanError,
    ReleaseConflictError,
)
from fedcredit.privacy.accounting import compose, epsilon_for_mu, mu_for_epsilon
from fedcredit.privacy.ledger import CHARGE_KIND, BudgetCap, PrivacyLedger
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

CAPS = {"train": BudgetCap(epsilon=1.0, delta=1e-5), "holdout": BudgetCap(epsilon=0.5, delta=1e-6)}


def release(name: str = "run/1/1/gradient", **changes: object) -> Release:
    fields = {
        "release_id": name,
        "partition": "train",
        "purpose": "a sum",
        "mechanism": Mechanism.ROUNDED_GAUSSIAN,
        "unit": "borrower",
        "neighbours": "add-or-remove-one",
        "sensitivity_squared": 100,
        "sigma": 100,
        "dimension": 50,
        "test_noise": False,
    }
    return Release(**{**fields, **changes})  # type: ignore[arg-type]


NOTHING = {"mechanism": Mechanism.NONE, "sigma": 0}


def open_ledger(
    database: Database,
    *,
    caps: dict[str, BudgetCap] = CAPS,
    allow_no_privacy: bool = False,
    allow_fixed_noise: bool = False,
) -> PrivacyLedger:
    return PrivacyLedger(
        Journal(database, "privacy"),
        place="state/ledger",
        caps=caps,
        allow_no_privacy=allow_no_privacy,
        allow_fixed_noise=allow_fixed_noise,
    )


@pytest.fixture
def database() -> Database:
    return Database.in_memory()


def test_nothing_is_spent_before_the_first_charge(database: Database) -> None:
    spent = open_ledger(database).spent("train")
    assert (spent.mu, spent.epsilon, spent.releases) == (0.0, 0.0, 0)


def test_a_charge_is_in_the_journal_when_reserve_returns(database: Database) -> None:
    reservation = open_ledger(database).reserve(release())
    (entry,) = Journal(database, "privacy").entries()
    assert not reservation.repeated
    assert entry.kind == CHARGE_KIND
    assert entry.body == encode({"version": 1, "release": release().to_bytes(), "delta": (1e-5).hex()})


def test_charges_add_up_as_squares_and_stay_with_their_partition(database: Database) -> None:
    ledger = open_ledger(database)
    for number in range(4):
        ledger.reserve(release(f"r/{number}"))
    ledger.reserve(release("r/eval", partition="holdout", sigma=200))
    train, holdout = ledger.spent("train"), ledger.spent("holdout")
    assert train.mu_squared == Fraction(4, 100)
    assert train.mu == pytest.approx(0.2)
    assert train.epsilon == pytest.approx(epsilon_for_mu(0.2, 1e-5), abs=1e-8)
    assert train.releases == 4
    assert holdout.mu_squared == Fraction(1, 400)
    assert holdout.delta == 1e-6


def test_the_same_release_again_is_not_charged_again(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release())
    before = ledger.spent("train")
    assert ledger.reserve(release()).repeated
    assert ledger.spent("train") == before
    assert len(Journal(database, "privacy")) == 1


def test_a_release_id_with_other_content_is_refused(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release())
    with pytest.raises(ReleaseConflictError, match="run/1/1/gradient"):
        ledger.reserve(release(sigma=101))
    with pytest.raises(ReleaseConflictError):
        ledger.reserve(release(partition="holdout"))
    assert len(Journal(database, "privacy")) == 1


def test_a_release_over_the_cap_is_refused_with_the_numbers_and_nothing_is_written(database: Database) -> None:
    ledger = open_ledger(database)
    ledger.reserve(release(sigma=50))  # mu .2
    with pytest.raises(BudgetExhaustedError) as caught:
        ledger.reserve(release("run/2/1/gradient", sigma=50))
    fields = caught.value.fields
    assert (fields["release"], fields["partition"], fields["cap"]) == ("run/2/1/gradient", "train", 1.0)
    assert fields["spent"] == pytest.approx(epsilon_for_mu(0.2, 1e-5), abs=1e-8)
    assert fields["would_be"] == pytest.approx(epsilon_for_mu(math.sqrt(0.08), 1e-5), abs=1e-8)
    assert len(Journal(database, "privacy")) == 1
    ledger.reserve(release("run/3/1/gradient", sigma=100))  # a cheaper one still fits


def test_a_plan_at_the_cap_fits_to_its_last_step_and_no_further(database: Database) -> None:
    plan = PrivacyPlan(
        epsilon=1.0,
        delta=1e-5,
        unit="borrower",
        steps=30,
        evaluation_epsilon=0.5,
        evaluation_steps=1,
        mechanism=Mechanism.ROUNDED_GAUSSIAN,
        test_noise=False,
    )
    ledger = open_ledger(database)
    for step in range(30):
        ledger.reserve(plan.training_release(release_id=f"r/{step}", sensitivity_squared=10_000, dimension=320))
    assert 0.999 < ledger.spent("train").epsilon <= 1.0
    with pytest.raises(BudgetExhaustedError):
        ledger.reserve(plan.training_release(release_id="r/30", sensitivity_squared=10_000, dimension=320))


def test_charges_are_counted_by_run_and_partition_and_after_reopening(database: Database) -> None:
    ledger = open_ledger(database)
    for name in ("a/1/1/train", "a/2/1/train", "a/b/1/1/train", "a/1/1/evaluate"):
        ledger.reserve(release(name, partition="holdout" if name.endswith("evaluate") else "train", sigma=1000))
    ledger.reserve(release("a/2/1/train", sigma=1000))  # the same again is no further charge
    for opened in (ledger, open_ledger(database)):
        assert opened.charges(run="a", partition="train") == 2
        assert opened.charges(run="a", partition="holdout") == 1
        # A run whose name holds the separator is a run of its own, and hides nothing.
        assert opened.charges(run="a/b", partition="train") == 1
        assert opened.charges(run="b", partition="train") == 0


def test_releases_without_noise_are_counted_as_well(database: Database) -> None:
    ledger = open_ledger(database, allow_no_privacy=True)
    ledger.reserve(release("a/1/1/train", **NOTHING))
    assert ledger.charges(run="a", partition="train") == 1


def test_a_partition_without_a_cap_has_no_budget(database: Database) -> None:
    with pytest.raises(PrivacyPlanError, match="no budget"):
        open_ledger(database).reserve(release(partition="other"))
    with pytest.raises(PrivacyPlanError, match="no budget"):
        open_ledger(database).spent("other")


@pytest.mark.parametrize("cap", [(0.0, 1e-5), (math.inf, 1e-5), (1.0, 0.0), (1.0, 0.5)])
def test_a_cap_that_cannot_be_accounted_for_is_refused(cap: tuple[float, float]) -> None:
    with pytest.raises(PrivacyPlanError):
        BudgetCap(epsilon=cap[0], delta=cap[1])


# --- without protection ---------------------------------------------------------------------------------------------


def test_no_privacy_is_refused_unless_the_institution_agreed(database: Database) -> None:
    with pytest.raises(PrivacyOffRefusedError):
        open_ledger(database, allow_fixed_noise=True).reserve(release(**NOTHING))
    assert len(Journal(database, "privacy")) == 0


def test_fixed_noise_is_refused_unless_the_institution_agreed(database: Database) -> None:
    with pytest.raises(FixedNoiseRefusedError):
        open_ledger(database, allow_no_privacy=True).reserve(release(test_noise=True))
    assert len(Journal(database, "privacy")) == 0


@pytest.mark.parametrize("changes", [NOTHING, {"test_noise": True}], ids=["none", "fixed"])
def test_an_unprotected_release_is_recorded_as_infinite_and_no_private_one_may_follow(
    database: Database, changes: dict[str, object]
) -> None:
    ledger = open_ledger(database, allow_no_privacy=True, allow_fixed_noise=True)
    ledger.reserve(release(**changes))
    spent = open_ledger(database).spent("train")
    assert (spent.mu, spent.epsilon, spent.unprotected, spent.releases) == (math.inf, math.inf, 1, 1)
    assert ledger.spent("train") == spent
    with pytest.raises(BudgetExhaustedError, match="inf"):
        ledger.reserve(release("next"))


# --- opening again --------------------------------------------------------------------------------------------------


def test_a_reopened_ledger_knows_every_charge(tmp_path: Path) -> None:
    with Database.open(tmp_path / "state.db") as database:
        ledger = open_ledger(database)
        ledger.reserve(release("a"))
        ledger.reserve(release("b", partition="holdout", sigma=300))
        before = ledger.spent("train"), ledger.spent("holdout")
    with Database.open(tmp_path / "state.db") as database:
        again = open_ledger(database)
        assert (again.spent("train"), again.spent("holdout")) == before
        assert again.reserve(release("a")).repeated


def test_what_was_spent_is_known_even_where_the_cap_is_gone(database: Database) -> None:
    open_ledger(database).reserve(release())
    assert open_ledger(database, caps={}).spent("train").releases == 1


KILLED = """
import sys
from pathlib import Path
from fedcredit.privacy.ledger import BudgetCap, PrivacyLedger
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

ledger = PrivacyLedger(
    Journal(Database.open(Path(sys.argv[1])), "privacy"), place="x",
    caps={"train": BudgetCap(epsilon=8.0, delta=1e-5)}, allow_no_privacy=False, allow_fixed_noise=False,
)
for number in range(100_000):
    ledger.reserve(Release(
        release_id=f"r/{number}", partition="train", purpose="a sum", mechanism=Mechanism.ROUNDED_GAUSSIAN,
        unit="borrower", neighbours="add-or-remove-one", sensitivity_squared=1, sigma=1000, dimension=1,
        test_noise=False,
    ))
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
        ledger = open_ledger(database)
        assert returned <= ledger.spent("train").releases <= returned + 1
        assert ledger.reserve(release("r/0", sensitivity_squared=1, sigma=1000, dimension=1)).repeated


def test_delta_is_fixed_by_the_first_charge(database: Database) -> None:
    open_ledger(database, caps={"train": BudgetCap(epsilon=1.0, delta=1e-6)})  # nothing charged: still open
    open_ledger(database).reserve(release())
    with pytest.raises(PrivacyPlanError, match="fixed at 1e-05"):
        open_ledger(database, caps={"train": BudgetCap(epsilon=1.0, delta=1e-6)})
    open_ledger(database, caps={"train": BudgetCap(epsilon=2.0, delta=1e-5)})  # the cap itself may change


# --- a past in doubt ------------------------------------------------------------------------------------------------


def charge(release: Release, *, version: object = 1, delta: object = (1e-5).hex()) -> bytes:
    return encode({"version": version, "release": release.to_bytes(), "delta": delta})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "body", "problem"),
    [
        ("refund", charge(release("b")), "kind is unknown"),
        (CHARGE_KIND, charge(release("b"), version=2), "version is unknown"),
        (CHARGE_KIND, charge(release("b"), version=True), "version is unknown"),
        (CHARGE_KIND, charge(release("b"), delta="a"), "delta"),
        (CHARGE_KIND, charge(release("b"), delta="wide"), "not a number"),
        (CHARGE_KIND, charge(release("b"), delta=(1e-6).hex()), "delta of train changes"),
        (CHARGE_KIND, charge(release("b"), delta=5), "wrong type"),
        (CHARGE_KIND, charge(release("a")), "charged before"),
        (CHARGE_KIND, encode({"version": 1}), "fields"),
        (CHARGE_KIND, encode([1]), "fields"),
        (CHARGE_KIND, b"", "CBOR"),
        (CHARGE_KIND, encode({"version": 1, "release": b"x", "delta": (1e-5).hex()}), "release"),
    ],
)
def test_an_entry_that_is_not_fully_understood_closes_the_ledger(
    database: Database, kind: str, body: bytes, problem: str
) -> None:
    open_ledger(database).reserve(release("a"))
    Journal(database, "privacy").append(kind, body)
    with pytest.raises(LedgerCorruptError, match=problem) as caught:
        open_ledger(database)
    assert (caught.value.fields["index"], caught.value.fields["path"]) == (1, "state/ledger")


def three_charges(database: Database) -> None:
    ledger = open_ledger(database)
    for name in "abc":
        ledger.reserve(release(name))


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
        open_ledger(database)
    assert caught.value.fields["index"] == index


def test_a_journal_that_somebody_else_wrote_to_accepts_no_further_charge(database: Database) -> None:
    ledger = open_ledger(database)
    open_ledger(database).reserve(release("a"))
    with pytest.raises(LedgerCorruptError, match="behind the ledger's back"):
        ledger.reserve(release("b"))


def test_a_charge_that_was_rolled_back_stops_the_ledger(database: Database) -> None:
    ledger = open_ledger(database)

    def reserve_and_fail() -> None:
        with database.transaction():
            ledger.reserve(release("a"))
            raise KeyError("the caller's own failure")

    with pytest.raises(KeyError):
        reserve_and_fail()
    with pytest.raises(LedgerCorruptError):
        ledger.reserve(release("b"))


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
    st.tuples(st.integers(0, 7), st.integers(1, 40), st.sampled_from([100, 150, 230]), st.booleans()), max_size=25
)


@settings(max_examples=60, deadline=None)
@given(sequence=steps, reopen_after=st.integers(0, 25))
def test_no_sequence_exceeds_the_cap_and_spending_is_the_sum_of_what_was_granted(
    sequence: list[tuple[int, int, int, bool]], reopen_after: int
) -> None:
    database = Database.in_memory()
    ledger, granted = open_ledger(database), dict[str, Release]()
    for position, (name, root, sigma, on_holdout) in enumerate(sequence):
        asked = release(
            f"r/{name}",
            sensitivity_squared=root * root,
            sigma=sigma,
            partition="holdout" if on_holdout else "train",
        )
        if position == reopen_after:
            ledger = open_ledger(database)
        try:
            reservation = ledger.reserve(asked)
        except BudgetExhaustedError:
            others = [r for r in granted.values() if r.partition == asked.partition]
            cap = CAPS[asked.partition]
            assert compose([*others, asked]) > mu_for_epsilon(cap.epsilon, cap.delta) * (1 - 1e-6)
        except ReleaseConflictError:
            assert granted[asked.release_id] != asked
        else:
            assert reservation.repeated == (asked.release_id in granted)
            assert granted.setdefault(asked.release_id, asked) == asked
    for partition, cap in CAPS.items():
        spent = ledger.spent(partition)
        mine = [r for r in granted.values() if r.partition == partition]
        assert spent.mu_squared == sum((r.mu_squared for r in mine), Fraction(0))
        assert spent.releases == len(mine)
        assert spent.epsilon <= cap.epsilon
    assert len(Journal(database, "privacy")) == len(granted)


def test_the_order_of_charges_does_not_change_what_is_spent(database: Database) -> None:
    forward, backward = open_ledger(database), open_ledger(Database.in_memory())
    releases = [release(f"r/{n}", sigma=100 + 13 * n) for n in range(5)]
    for one in releases:
        forward.reserve(one)
    for one in reversed(releases):
        backward.reserve(one)
    assert forward.spent("train") == backward.spent("train")
