"""The coordinator keeps the heads of the institutions' ledgers, so that a ledger that was set back is found out."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from consortium import COORDINATOR, NAMES, RUN, Consortium, Flaky, Site, plan_of

from fedcredit.audit.log import EventKind
from fedcredit.errors import RoundRefusedError, StoreCorruptError
from fedcredit.messages import NO_HEAD
from fedcredit.parties import InstitutionId
from fedcredit.rounds.coordinator import OpenRun
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database

BANK = InstitutionId("bank-a")
HEAD = hashlib.sha256(b"a ledger").digest()


def test_who_was_never_seen_has_no_head() -> None:
    assert LedgerHeads(None).of(BANK) == NO_HEAD == bytes(32)


def test_what_was_saved_is_there_after_a_restart_and_what_was_not_is_not(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    heads = LedgerHeads(path)
    heads.saw(BANK, HEAD)
    assert heads.of(BANK) == HEAD
    assert LedgerHeads(path).of(BANK) == NO_HEAD
    heads.save()
    assert LedgerHeads(path).of(BANK) == HEAD
    assert json.loads(path.read_text()) == {"bank-a": HEAD.hex()}


def test_two_runs_of_one_coordinator_do_not_overwrite_each_others_heads(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    first = LedgerHeads(path)
    first.saw(InstitutionId("bank-a"), bytes([1] * 32))
    first.save()
    other = LedgerHeads(path)
    other.saw(InstitutionId("bank-a"), bytes([2] * 32))
    other.save()
    # The first run hears from somebody else only; what it loaded of bank-a is old by now.
    first.saw(InstitutionId("bank-b"), bytes([3] * 32))
    first.save()
    assert LedgerHeads(path).of(InstitutionId("bank-a")) == bytes([2] * 32)
    assert LedgerHeads(path).of(InstitutionId("bank-b")) == bytes([3] * 32)


def test_nothing_is_written_if_nothing_changed(tmp_path: Path) -> None:
    path = tmp_path / "heads.json"
    heads = LedgerHeads(path)
    heads.save()
    assert not path.exists()
    heads.saw(BANK, HEAD)
    heads.save()
    before = path.stat().st_mtime_ns
    heads.saw(BANK, HEAD)
    heads.save()
    assert path.stat().st_mtime_ns == before


def test_without_a_file_they_last_as_long_as_the_object() -> None:
    heads = LedgerHeads(None)
    heads.saw(BANK, HEAD)
    heads.save()
    assert heads.of(BANK) == HEAD


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'"bank-a"',
        b"7",
        b'{"bank-a": 7}',
        b'{"bank-a": null}',
        b'{"bank-a": "xyz"}',
        b'{"bank-a": "00ff"}',
        b'{"bank-a": "' + b"0" * 66 + b'"}',
    ],
    ids=repr,
)
def test_a_file_that_is_no_list_of_heads_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "heads.json"
    path.write_bytes(content)
    with pytest.raises(StoreCorruptError) as caught:
        LedgerHeads(path)
    assert caught.value.code == "FC-7002"
    assert path.read_bytes() == content


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium.make(tmp_path, plan_of(**{"rounds/retries": 20, "run/rounds": 6}), on_disk=True)


def back_up(site: Site) -> None:
    site.state.database.close()
    shutil.copy(site.folder / "node.db", site.folder / "older.db")
    site.open()


def restore(site: Site) -> None:
    site.state.database.close()
    shutil.copy(site.folder / "older.db", site.folder / "node.db")
    site.open()


def test_every_answer_of_the_log_carries_the_head_that_the_next_manifest_sends(consortium: Consortium) -> None:
    heads = LedgerHeads(None)
    run = consortium.run(heads=heads)
    rounds = run.rounds()
    next(rounds)
    seen = {name: heads.of(site.name) for name, site in consortium.sites.items()}
    assert seen == {name: site.state.ledger.head for name, site in consortium.sites.items()}
    accepted = [event.fields for event in run.audit.events() if event.kind is EventKind.ANSWER_ACCEPTED]
    assert {fields["institution"]: fields["ledger_head"] for fields in accepted} == seen
    next(rounds)
    accepted = [event.fields for event in run.audit.events() if event.kind is EventKind.ANSWER_ACCEPTED]
    assert len({fields["ledger_head"] for fields in accepted}) == len(accepted) == 8


def test_a_refusal_is_logged_with_its_head_and_does_not_replace_the_one_that_was_seen(consortium: Consortium) -> None:
    heads = LedgerHeads(None)
    run = consortium.run(heads=heads)
    site = consortium.sites["bank-b"]
    rounds = run.rounds()
    next(rounds)
    back_up(site)
    next(rounds)
    seen = heads.of(site.name)
    restore(site)
    with pytest.raises(RoundRefusedError, match=r"bank-b \(FC-4105\)"):
        next(rounds)
    (refused,) = (event.fields for event in run.audit.events() if event.kind is EventKind.INSTITUTION_REFUSED)
    assert (refused["institution"], refused["code"]) == ("bank-b", "FC-4105")
    assert refused["ledger_head"] == site.state.ledger.head != seen
    assert heads.of(site.name) == seen


def exhausted(run: FederatedRun) -> None:
    for _ in run.rounds():
        pass


def test_a_state_restored_from_an_older_copy_is_refused_as_often_as_it_is_asked(consortium: Consortium) -> None:
    database, heads = Database.in_memory(), LedgerHeads(None)
    rounds = consortium.run(database=database, heads=heads).rounds()
    next(rounds)
    site = consortium.sites["fund-c"]
    back_up(site)
    next(rounds)
    restore(site)
    assert site.charged() == 1  # the charge of round 2 is forgotten
    for _ in range(3):
        with pytest.raises(RoundRefusedError, match=r"fund-c \(FC-4105\)"):
            exhausted(consortium.run(database=database, heads=heads))
    assert site.charged() == 1
    assert consortium.run(database=database, heads=heads).state.round == 2


def test_the_others_go_on_where_the_quorum_allows_it(tmp_path: Path) -> None:
    # A refusal's head must not be taken for the newest one.
    consortium = Consortium.make(tmp_path, plan_of(**{"rounds/quorum": 3, "run/rounds": 4}), on_disk=True)
    rounds = consortium.run().rounds()
    site = consortium.sites["fund-c"]
    back_up(site)
    next(rounds)
    restore(site)
    refusals = [report.result.refusals for report in rounds]
    assert refusals == [{"fund-c": "FC-4105"}] * 3
    assert site.charged() == 0


def test_a_state_with_more_charges_than_the_coordinator_saw_is_welcome(consortium: Consortium) -> None:
    # The reply of round 2 is lost: the ledger is ahead of what the coordinator knows, never behind.
    transport = Flaky(consortium.loopback(), lambda name, number: number == 2, lose_reply=True)
    run = consortium.run(transport)
    exhausted(run)
    assert run.state.round == 6
    assert {site.charged() for site in consortium.sites.values()} == {7}


def opened(consortium: Consortium, run_id: str = RUN) -> OpenRun:
    return OpenRun(
        plan=consortium.plan,
        run_id=run_id,
        folder=consortium.folder / "runs" / run_id,
        roster=consortium.roster,
        keys=COORDINATOR,
        transport=consortium.loopback(),
        heads=LedgerHeads(consortium.folder / "ledger-heads.json"),
        clock=consortium.clock,
    )


def test_a_coordinator_that_was_restarted_still_knows_the_heads(consortium: Consortium) -> None:
    site = consortium.sites["bank-a"]
    with opened(consortium) as first:
        rounds = first.run.rounds()
        next(rounds)
        back_up(site)
        next(rounds)
    kept = json.loads((consortium.folder / "ledger-heads.json").read_text())
    assert kept == {name: each.state.ledger.head.hex() for name, each in consortium.sites.items()}
    assert sorted(kept) == sorted(NAMES)
    restore(site)
    for _ in range(2):
        with opened(consortium) as again, pytest.raises(RoundRefusedError, match=r"bank-a \(FC-4105\)"):
            exhausted(again.run)
    assert site.charged() == 1


def test_the_heads_outlive_a_run(consortium: Consortium) -> None:
    with opened(consortium) as first:
        back_up(consortium.sites["bank-a"])
        exhausted(first.run)
    restore(consortium.sites["bank-a"])
    plan = plan_of(**{"run/name": "second"})
    for site in consortium.sites.values():
        site.approvals.approve(plan)
    consortium.plan = plan
    with opened(consortium, "run-2") as second, pytest.raises(RoundRefusedError, match=r"bank-a \(FC-4105\)"):
        exhausted(second.run)


def test_a_coordinator_without_heads_begins_anew(consortium: Consortium) -> None:
    with opened(consortium) as first:
        next(first.run.rounds())
    (consortium.folder / "ledger-heads.json").unlink()
    with opened(consortium) as again:
        exhausted(again.run)
        assert again.run.state.round == 6


def test_a_coordinator_whose_heads_are_damaged_does_not_go_on(consortium: Consortium) -> None:
    with opened(consortium) as first:
        next(first.run.rounds())
    (consortium.folder / "ledger-heads.json").write_text('{"bank-a": "00"}')
    with pytest.raises(StoreCorruptError):
        opened(consortium)
