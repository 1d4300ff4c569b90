"""``node budget`` and ``audit verify --ledger privacy``, as typed."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consortium import plan_of
from releases import release

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.config.node import NodeConfig
from fedcredit.config.plan import RunPlan
from fedcredit.institution.admission import Approvals
from fedcredit.institution.node import STATE, NodeState
from fedcredit.privacy.accounting import epsilon_for_mu, tpr_ceiling
from fedcredit.privacy.release import Mechanism
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

NODE = (
    "--name bank --type bank --data table.parquet --contract german --modality application "
    "--epsilon 3 --delta 1e-5 --holdout-epsilon 0.5"
)
AMEND = "node budget amend bank --partition train --epsilon 4 --approver Ada --approver Grace --reason renewal"


@pytest.fixture
def bank(type_in: Callable[..., Any]) -> Callable[..., Any]:
    """A node ``bank`` that has not answered yet."""
    made = type_in(f"node init bank {NODE}")
    assert made.code == 0, made.stderr
    return type_in


def charge(folder: Path, name: str, **changes: Any) -> bytes:
    """Charge a release of mu .1 and return the head."""
    with Database.open(folder / STATE) as database:
        ledger = NodeState.open(database, NodeConfig.read(folder)).ledger
        ledger.reserve(release(name, **changes), plan_digest=bytes(32))
        return ledger.head


def run_log(folder: Path, *heads: bytes) -> None:
    folder.mkdir()
    with Database.open(folder / "run.db") as database:
        log = AuditLog(Journal(database, "audit"))
        log.record(EventKind.RUN_OPENED, run="r")
        for head in heads:
            log.record(EventKind.ANSWER_ACCEPTED, institution="bank", ledger_head=head)


def allow_everything(folder: Path) -> None:
    path = folder / "node.toml"
    path.write_text(path.read_text().replace(" = false\n", " = true\n"))


# --- budget show ----------------------------------------------------------------------------------------------------


def test_the_budget_of_a_node_is_shown_with_what_it_means(bank, tmp_path: Path) -> None:
    charge(tmp_path / "bank", "a/1/1/train")
    charge(tmp_path / "bank", "b/1/1/train")
    outcome = bank("node budget show bank --format json")
    data = outcome.data
    assert (data["institution"], data["data_set"]) == ("bank", "german")
    train = data["partitions"]["train"]
    assert (train["cap"], train["delta"], train["releases"], train["unprotected"]) == (3.0, 1e-5, 2, 0)
    assert train["epsilon"] == pytest.approx(epsilon_for_mu(math.sqrt(0.02), 1e-5), abs=1e-8)
    assert train["epsilon_alone"] == train["epsilon"] == train["with_approved_plans"]
    assert train["tpr_ceiling_at_fpr_1_percent"] == pytest.approx(tpr_ceiling(math.sqrt(0.02), 0.01))
    assert train["tpr_ceiling_alone_at_fpr_1_percent"] == train["tpr_ceiling_at_fpr_1_percent"]
    assert train["runs"]["a"]["epsilon"] == pytest.approx(epsilon_for_mu(0.1, 1e-5), abs=1e-8)
    assert list(train["runs"]) == ["a", "b"]
    assert data["partitions"]["holdout"]["left"] == pytest.approx(0.5, abs=1e-6)
    assert data["ledger"]["entries"] == 3
    assert data["approved_plans"] == {"counted": 0, "unreadable": 0}
    assert "train" in outcome.stderr
    assert re.search(r"^train +3\.0000 +0\.4\d+ +2\.9\d+ +0\.4\d+ +2 +1\.4%$", outcome.stderr, re.MULTILINE)
    assert "if secure aggregation fails" not in outcome.stderr
    assert "Next: fedcredit audit verify bank --ledger privacy\n" in outcome.stderr


def test_shared_noise_and_unprotected_releases_are_pointed_out(bank, tmp_path: Path) -> None:
    allow_everything(tmp_path / "bank")
    charge(tmp_path / "bank", "a/1/1/train", honest_shares=4)
    charge(tmp_path / "bank", "a/1/1/evaluate", partition="holdout", mechanism=Mechanism.NONE, sigma=0)
    outcome = bank("node budget show bank --format json")
    claimed, alone = epsilon_for_mu(0.05, 1e-5), epsilon_for_mu(0.1, 1e-5)
    train = outcome.data["partitions"]["train"]
    assert (train["epsilon"], train["epsilon_alone"]) == (
        pytest.approx(claimed, abs=1e-8),
        pytest.approx(alone, abs=1e-8),
    )
    assert train["tpr_ceiling_alone_at_fpr_1_percent"] == pytest.approx(tpr_ceiling(0.1, 0.01))
    assert outcome.data["partitions"]["holdout"]["epsilon"] == "inf"
    assert outcome.stderr.count(f"{claimed:.4f} / {alone:.4f}") == 2  # all runs, and the one run
    assert outcome.stderr.count(f"{tpr_ceiling(0.05, 0.01):.1%} / {tpr_ceiling(0.1, 0.01):.1%}") == 2
    assert "b if secure aggregation fails and each message is read alone" in outcome.stderr
    assert "▲ holdout: some releases had no protecting noise" in outcome.stderr
    assert "amend" not in outcome.stderr  # no cap makes an unprotected release good


def test_a_budget_that_approved_plans_exceed_names_the_command_that_raises_it(bank, tmp_path: Path) -> None:
    raw = plan_of().model_dump()
    raw["institutions"]["bank"] = raw["institutions"].pop("bank-b")
    plan = RunPlan.model_validate(raw)
    Approvals(tmp_path / "bank" / "approvals").approve(plan)
    (tmp_path / "bank" / "approvals" / "old.toml").write_text("schema_version = 1\n")
    outcome = bank("node budget show bank --format json")
    assert outcome.data["approved_plans"] == {"counted": 1, "unreadable": 1}
    assert outcome.data["partitions"]["train"]["with_approved_plans"] == pytest.approx(4.0, rel=0.01)
    assert "▲ approved plans may ask for more than a cap" in outcome.stderr
    assert "▲ 1 approved plans are of another version" in outcome.stderr
    assert "fedcredit node budget amend bank --partition train --epsilon EPSILON" in outcome.stderr
    assert "--partition holdout" in outcome.stderr  # its 1.0 exceeds the cap of .5 too


def test_a_running_node_and_a_raised_cap_are_refused_with_the_way_out(bank, tmp_path: Path) -> None:
    charge(tmp_path / "bank", "a/1/1/train")
    with Database.open(tmp_path / "bank" / STATE):
        for command in ("node budget show bank", AMEND, "audit verify bank --ledger privacy"):
            bank(command).refuses("FC-1301", 2, "bank/state")
    path = tmp_path / "bank" / "node.toml"
    path.write_text(path.read_text().replace("epsilon = 3.0", "epsilon = 4.0", 1))
    bank("node budget show bank").refuses("FC-4108", 4, "budget.epsilon to 4", "cap of 3", "node budget amend")


# --- budget amend ---------------------------------------------------------------------------------------------------


def test_an_amendment_is_made_shown_and_not_made_twice(bank, tmp_path: Path) -> None:
    first = bank(f"{AMEND} --format json")
    assert first.data == {"partition": "train", "before": 3.0, "epsilon": 4.0, "amended": True}
    assert "cap of train: epsilon 3 before, 4 now" in first.stderr
    again = bank(f"{AMEND} --format json")
    assert again.data == {"partition": "train", "before": 4.0, "epsilon": 4.0, "amended": False}
    assert "holds this cap already" in again.stderr
    shown = bank("node budget show bank --format json")
    assert shown.data["partitions"]["train"]["cap"] == 4.0
    (amendment,) = shown.data["amendments"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", amendment.pop("time"))
    assert amendment == {"partition": "train", "epsilon": 4.0, "approvers": ["Ada", "Grace"], "reason": "renewal"}
    assert re.search(r"amended 20\d\d-\d\d-\d\d: cap of train 4, by Ada, Grace: renewal", shown.stderr)
    assert NodeConfig.read(tmp_path / "bank").budget.epsilon == 4.0


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("--approver Grace", "--approver ADA", "FC-4109", ["two different"]),
        ("--approver Grace", "", "FC-4109", ["two different"]),
        ("--epsilon 4", "--epsilon 0.01", "FC-4109", ["is spent, more than 0.01"]),
        ("--epsilon 4", "--epsilon 400", "FC-4109", ["epsilon must be"]),
        ("--epsilon 4", "--epsilon nan", "FC-4109", ["epsilon must be"]),
        ("train", "test", "FC-1006", ["train", "holdout"]),
        (" --reason renewal", "", "FC-1006", ["--reason"]),
    ],
)
def test_an_amendment_that_is_none_changes_nothing(
    bank, tmp_path: Path, old: str, new: str, error: str, words: list[str]
) -> None:
    charge(tmp_path / "bank", "a/1/1/train")
    before = (tmp_path / "bank" / "node.toml").read_bytes()
    bank(AMEND.replace(old, new)).refuses(error, 2 if error == "FC-1006" else 4, *words)
    assert (tmp_path / "bank" / "node.toml").read_bytes() == before
    assert bank("node budget show bank --format json").data["ledger"]["entries"] == 2


# --- status, and looking ----------------------------------------------------------------------------------------


def test_looking_at_a_node_that_never_ran_opens_nothing_and_fixes_no_cap(bank, tmp_path: Path) -> None:
    empty = {"entries": 0, "head": "00" * 32}
    status = bank("node status bank --format json").data
    assert (status["ledger"], status["audit"], status["caps"]) == (empty, empty, {"train": 3.0, "holdout": 0.5})
    shown = bank("node budget show bank --format json").data
    assert shown["ledger"] == {**empty, "opened": None}
    assert shown["partitions"]["train"]["left"] == pytest.approx(3.0, abs=1e-6)
    assert list((tmp_path / "bank" / "state").iterdir()) == []
    # So the caps are still the operator's own to correct.
    path = tmp_path / "bank" / "node.toml"
    path.write_text(path.read_text().replace("epsilon = 3.0", "epsilon = 4.0", 1))
    assert bank("node budget show bank --format json").data["partitions"]["train"]["cap"] == 4.0
    charge(tmp_path / "bank", "a/1/1/train")
    assert bank("node status bank --format json").data["caps"]["train"] == 4.0


def test_status_names_both_chains_and_writes_nothing(bank, tmp_path: Path) -> None:
    charge(tmp_path / "bank", "a/1/1/train")
    head = charge(tmp_path / "bank", "a/2/1/train")
    with Database.open(tmp_path / "bank" / STATE) as database:
        AuditLog(Journal(database, "audit")).record(EventKind.REQUEST_REFUSED, code="FC-2301")
    before = (tmp_path / "bank" / STATE).read_bytes()
    outcome = bank("node status bank --format json")
    assert outcome.data["ledger"] == {"entries": 3, "head": head.hex()}
    assert outcome.data["audit"]["entries"] == 1
    assert f"✓ privacy ledger verified · 3 entries, head {head.hex()[:16]}" in outcome.stderr
    assert f"✓ audit log verified · 1 entries, head {outcome.data['audit']['head'][:16]}" in outcome.stderr
    spent = outcome.data["spent"]["train"]
    assert spent["epsilon"] == spent["epsilon_alone"] == pytest.approx(epsilon_for_mu(math.sqrt(0.02), 1e-5), abs=1e-8)
    assert " / " not in outcome.stderr
    assert (tmp_path / "bank" / STATE).read_bytes() == before


@pytest.mark.parametrize("command", ["node status bank", "node budget show bank", "audit verify bank --ledger privacy"])
def test_with_shared_noise_what_is_spent_is_two_numbers(bank, tmp_path: Path, command: str) -> None:
    allow_everything(tmp_path / "bank")
    charge(tmp_path / "bank", "a/1/1/train", honest_shares=4)  # a share has half the deviation
    claimed, alone = epsilon_for_mu(0.05, 1e-5), epsilon_for_mu(0.1, 1e-5)
    outcome = bank(f"{command} --format json")
    spent = outcome.data.get("spent", outcome.data.get("partitions"))["train"]
    assert spent["epsilon"] == pytest.approx(claimed, abs=1e-8)
    assert spent["epsilon_alone"] == pytest.approx(alone, abs=1e-8)
    assert f"{claimed:.4f} / {alone:.4f}" in outcome.stderr
    assert "a of the sum, b if secure aggregation fails" in outcome.stderr


# --- audit verify ---------------------------------------------------------------------------------------------------


def test_a_ledger_verifies_alone_and_against_what_a_coordinator_saw(bank, tmp_path: Path) -> None:
    heads = [charge(tmp_path / "bank", f"a/{number}/1/train") for number in (1, 2)]
    outcome = bank("audit verify bank --ledger privacy --format json")
    assert outcome.data["entries"] == 3
    assert outcome.data["head"] == heads[-1].hex()
    assert outcome.data["heads_compared"] == 0
    assert outcome.data["spent"]["train"]["releases"] == 2
    assert "privacy ledger of bank: 3 entries, chain unbroken" in outcome.stderr

    run_log(tmp_path / "run", *heads)
    outcome = bank("audit verify bank --ledger privacy --against run --format json")
    assert outcome.data["heads_compared"] == 2
    assert "all 2 heads" in outcome.stderr

    run_log(tmp_path / "silent")
    outcome = bank("audit verify bank --ledger privacy --against silent --format json")
    assert outcome.data["heads_compared"] == 0
    assert "▲ the coordinator's log holds no head of this ledger" in outcome.stderr


def test_an_old_copy_of_a_ledger_is_found_against_the_coordinators_log(bank, tmp_path: Path) -> None:
    charge(tmp_path / "bank", "a/1/1/train")
    shutil.copytree(tmp_path / "bank", tmp_path / "old")
    run_log(tmp_path / "run", charge(tmp_path / "bank", "a/2/1/train"))
    assert bank("audit verify bank --ledger privacy --against run").code == 0
    assert bank("audit verify old --ledger privacy").code == 0
    bank("audit verify old --ledger privacy --against run").refuses(
        "FC-3301", 5, "old/state/node.db", "(FC-4105", "lacks the entry"
    )


def test_a_ledger_that_does_not_verify_ends_with_five(bank, tmp_path: Path) -> None:
    verify = "audit verify bank --ledger privacy"
    bank(verify).refuses("FC-3301", 5, "entry 0", "(FC-4102", "missing or empty")
    charge(tmp_path / "bank", "a/1/1/train")
    path = tmp_path / "bank" / "node.toml"
    own = path.read_text()
    path.write_text(own.replace('institution = "bank"', 'institution = "fund"'))
    bank(verify).refuses("FC-3301", 5, "(FC-4106", "belongs to bank, not to fund")
    path.write_text(own)
    with Database.open(tmp_path / "bank" / STATE) as database:
        database.execute("UPDATE journal_entries SET body = x'a0' WHERE position = 1 AND journal = 'privacy-ledger'")
    bank(verify).refuses("FC-3301", 5, "entry 1 of the privacy ledger", "(FC-4102")
    (tmp_path / "bank" / STATE).write_bytes(b"no database" * 1000)
    bank(verify).refuses("FC-3301", 5, "entry 0", "(FC-7002")


def test_what_cannot_be_verified_at_all_is_refused(bank) -> None:
    bank("audit verify nowhere --ledger privacy").refuses("FC-1001", 2, "node.toml")
    bank("audit verify bank --against run").refuses("FC-1006", 2, "--ledger privacy")
    bank("audit verify bank --ledger release").refuses("FC-1006", 2, "privacy")
    bank("audit verify bank --ledger privacy --against nowhere").refuses("FC-2101", 2, "nowhere")


# --- Chinese --------------------------------------------------------------------------------------------------------


def test_budget_and_verification_speak_chinese_with_the_same_envelopes(bank, tmp_path: Path) -> None:
    allow_everything(tmp_path / "bank")
    charge(tmp_path / "bank", "a/1/1/train", honest_shares=4)
    bank(AMEND)
    for command in ("node budget show bank", f"{AMEND}", "audit verify bank --ledger privacy", "node status bank"):
        english, chinese = (bank(f"--lang {lang} {command} --format json") for lang in ("en", "zh"))
        assert json.loads(english.stdout) == json.loads(chinese.stdout)
        told = "\n".join(line for line in chinese.stderr.splitlines() if "fedcredit" not in line)
        told = re.sub(r"\b[0-9a-f]{8,}", "", told)  # digests may begin with letters
        names = {"bank", "german", "Ada", "Grace", "renewal", "epsilon", "delta", "node", "toml"}
        assert set(re.findall(r"(?<![\w.…])[A-Za-z]{2,}", told)) <= names
