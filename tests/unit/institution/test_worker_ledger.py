"""What the worker says of its privacy ledger, and what it does when the ledger is not the one that others have seen."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from consortium import NO_PRIVACY, Consortium, Site, plan_of, question

from fedcredit.institution.node import LEDGER
from fedcredit.messages import NO_HEAD, CountsAnswer, Refusal, TrainAnswer
from fedcredit.store.journal import Journal


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium.make(tmp_path, on_disk=True)


@pytest.fixture
def bank(consortium: Consortium) -> Site:
    return consortium.sites["bank-a"]


def set_back(site: Site, copy: Path) -> None:
    """Put an older copy of the state in the place of the newer one, as a restored backup does."""
    site.state.database.close()
    shutil.copy(copy, site.folder / "node.db")
    site.open()


def backed_up(site: Site, copy: Path) -> Path:
    site.state.database.close()
    shutil.copy(site.folder / "node.db", copy)
    site.open()
    return copy


def test_an_answer_carries_the_head_with_its_own_charge(consortium: Consortium, bank: Site) -> None:
    before = bank.state.ledger.head
    heads = []
    for purpose, kind in (("train", TrainAnswer), ("evaluate", CountsAnswer)):
        answer = question(consortium, "bank-a", purpose=purpose).answer()
        assert isinstance(answer, kind)
        assert answer.ledger_head == bank.state.ledger.head
        heads.append(answer.ledger_head)
    assert len({before, *heads}) == 3


def test_a_refusal_carries_the_head_as_it_is(consortium: Consortium, bank: Site) -> None:
    before = bank.state.ledger.head
    answer = question(consortium, "bank-a", round=9).answer()
    assert isinstance(answer, Refusal)
    assert answer.ledger_head == before == bank.state.ledger.head


def test_every_head_that_the_ledger_ever_had_is_its_own(consortium: Consortium, bank: Site) -> None:
    heads = [NO_HEAD, bank.state.ledger.head]
    for number in (1, 2):
        answer = question(consortium, "bank-a", round=number, heads={"bank-a": heads[-1]}).answer()
        assert isinstance(answer, TrainAnswer)
        heads.append(answer.ledger_head)
    for attempt, head in enumerate(heads, start=1):
        assert question(consortium, "bank-a", round=3, attempt=attempt, heads={"bank-a": head}).code() in {
            "",
            "FC-2302",  # the plan pays for five
        }


def test_a_head_of_nobody_or_of_somebody_else_stops_the_institution_before_it_computes_anything(
    consortium: Consortium, bank: Site
) -> None:
    before = bank.state.ledger.head
    for part in bank.table.modalities.values():
        part.codes[:] = 12_345  # whatever computes with it fails with FC-9001
    bank.assemble()
    other = consortium.sites["bank-b"].state.ledger.head
    for attempt, head in enumerate((bytes([7]) * 32, other), start=1):
        asked = question(consortium, "bank-a", attempt=attempt, heads={"bank-a": head})
        assert asked.code() == "FC-4105"
    assert (bank.charged(), bank.state.ledger.head) == (0, before)
    assert [event.fields["code"] for event in bank.events()] == ["FC-4105", "FC-4105"]


def test_what_the_coordinator_saw_of_others_is_no_matter(consortium: Consortium) -> None:
    assert question(consortium, "bank-a", heads={"bank-b": bytes([7]) * 32}).code() == ""


@pytest.mark.parametrize("heads", [(), (NO_HEAD,) * 3, (NO_HEAD,) * 5], ids=["none", "one too few", "one too many"])
def test_a_manifest_without_one_head_for_each_member_is_refused(
    consortium: Consortium, bank: Site, heads: tuple[bytes, ...]
) -> None:
    assert question(consortium, "bank-a", ledger_heads=heads).code() == "FC-3106"
    assert bank.charged() == 0
    assert question(consortium, "bank-a").code() == ""


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_a_state_that_was_set_back_is_noticed_by_the_head_that_it_lacks(
    consortium: Consortium, bank: Site, tmp_path: Path, purpose: str
) -> None:
    assert question(consortium, "bank-a").code() == ""
    copy = backed_up(bank, tmp_path / "copy.db")
    answer = question(consortium, "bank-a", round=2).answer()
    assert isinstance(answer, TrainAnswer)
    set_back(bank, copy)
    assert bank.charged() == 1  # it has forgotten a charge
    seen = {"bank-a": answer.ledger_head}
    for attempt in (1, 2, 3):
        assert question(consortium, "bank-a", round=3, attempt=attempt, purpose=purpose, heads=seen).code() == "FC-4105"
    assert (bank.charged(), bank.charged("holdout")) == (1, 0)


def test_a_state_that_was_set_back_is_not_noticed_by_a_coordinator_that_has_seen_nothing(
    consortium: Consortium, bank: Site, tmp_path: Path
) -> None:
    # The limit of this protection, kept in sight: both sides would have to forget.
    copy = backed_up(bank, tmp_path / "copy.db")
    assert question(consortium, "bank-a").code() == ""
    set_back(bank, copy)
    assert question(consortium, "bank-a", round=2).code() == ""


def test_releases_that_protect_nobody_are_in_the_chain_too(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**NO_PRIVACY), policy={"allow_no_privacy": True}, on_disk=True)
    site = consortium.sites["bank-a"]
    copy = backed_up(site, tmp_path / "copy.db")
    answer = question(consortium, "bank-a").answer()
    assert isinstance(answer, TrainAnswer)
    set_back(site, copy)
    assert question(consortium, "bank-a", round=2, heads={"bank-a": answer.ledger_head}).code() == "FC-4105"


def test_a_ledger_that_somebody_else_wrote_to_still_ends_in_a_refusal_that_names_its_own_head(
    consortium: Consortium, bank: Site
) -> None:
    head = bank.state.ledger.head
    Journal(bank.state.database, LEDGER).append("privacy-charge", b"somebody else's")
    for attempt in (1, 2):
        answer = question(consortium, "bank-a", attempt=attempt).answer()
        assert answer == Refusal(manifest_digest=answer.manifest_digest, ledger_head=head, code="FC-4102")


def test_a_state_that_is_closed_under_the_worker_still_ends_in_a_refusal(consortium: Consortium, bank: Site) -> None:
    head = bank.state.ledger.head
    bank.state.database.close()
    answer = question(consortium, "bank-a").answer()
    assert answer == Refusal(manifest_digest=answer.manifest_digest, ledger_head=head, code="FC-9001")
