from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from consortium import COORDINATOR, INPUTS, Clock, keys_of, plan_of

from fedcredit.config.federation import FederationConfig
from fedcredit.config.plan import RunPlan
from fedcredit.contract import load_contract
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.enrolment import JoinRequest, armoured
from fedcredit.errors import (
    AlreadyExistsError,
    BadSignatureError,
    EnrolmentFileError,
    FingerprintMismatchError,
    KeyFileError,
    NotAMemberError,
    QuorumError,
    RosterMismatchError,
    RunMismatchError,
    RunNotFoundError,
    SchemaVersionError,
    StateDirInUseError,
    WrongContextError,
)
from fedcredit.parties import InstitutionId, InstitutionType
from fedcredit.rounds.coordinator import Coordinator, init_coordinator, new_run_id, plan_family, require_schema
from fedcredit.store.database import Database
from fedcredit.transport import LoopbackTransport

CONFIG = FederationConfig.model_validate(
    {
        "schema_version": 1,
        "consortium": "credit",
        "relay": {"host": "127.0.0.1", "port": 9092},
        "holdout": {"salt": "0123456789abcdef", "fraction": 0.2},
    }
)
NOBODY = LoopbackTransport({})


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    init_coordinator(tmp_path / "coordinator", CONFIG, hosts=["127.0.0.1"])
    return Coordinator(tmp_path / "coordinator")


def request_file(
    folder: Path, name: str, keys: IdentityKeys, *, consortium: str = "credit", schemas: tuple[int, ...] = (1,)
) -> tuple[Path, str]:
    request = JoinRequest.make(
        consortium=consortium,
        institution=InstitutionId(name),
        kind=InstitutionType.BANK,
        keys=keys,
        supernode=b"ssh-ed25519 " + name.encode(),
        schemas=schemas,
    )
    path = folder / f"{name}.fcrequest"
    path.write_bytes(armoured(request))
    return path, keys.public.fingerprint()


def approve(coordinator: Coordinator, name: str, number: int) -> JoinRequest:
    path, fingerprint = request_file(coordinator.folder.parent, name, keys_of(number))
    return coordinator.approve_member(path, fingerprint=fingerprint)


def test_a_new_folder_keeps_its_keys_to_its_owner(coordinator: Coordinator) -> None:
    for name in ("keys/identity.key", "tls/server.key"):
        assert stat.S_IMODE((coordinator.folder / name).stat().st_mode) == 0o600
    for name in ("keys", "tls", "members", "runs"):
        assert stat.S_IMODE((coordinator.folder / name).stat().st_mode) == 0o700


def test_an_existing_folder_is_never_overwritten(coordinator: Coordinator) -> None:
    before = coordinator.keys.public
    with pytest.raises(AlreadyExistsError):
        init_coordinator(coordinator.folder, CONFIG, hosts=["127.0.0.1"])
    assert Coordinator(coordinator.folder).keys.public == before


def test_a_passphrase_is_needed_where_one_was_given(tmp_path: Path) -> None:
    init_coordinator(tmp_path, CONFIG, hosts=["127.0.0.1"], passphrase=b"secret")
    with pytest.raises(KeyFileError):
        Coordinator(tmp_path)
    Coordinator(tmp_path, passphrase=b"secret")


def test_the_invitation_carries_the_keys_and_the_relay(coordinator: Coordinator) -> None:
    invitation = coordinator.invitation()
    assert invitation.identity == coordinator.keys.public
    assert (invitation.consortium, invitation.relay) == ("credit", "127.0.0.1:9092")
    assert invitation.ca_certificate.startswith(b"-----BEGIN CERTIFICATE-----")


def test_a_member_is_taken_in_once_with_the_fingerprint_that_a_person_compared(coordinator: Coordinator) -> None:
    path, fingerprint = request_file(coordinator.folder.parent, "bank-a", keys_of(10))
    with pytest.raises(FingerprintMismatchError):
        coordinator.approve_member(path, fingerprint=keys_of(11).public.fingerprint())
    assert coordinator.members() == []
    coordinator.approve_member(path, fingerprint=fingerprint.lower().replace("-", " "))
    assert [member.institution for member in coordinator.members()] == ["bank-a"]
    with pytest.raises(AlreadyExistsError):
        approve(coordinator, "bank-a", 12)
    assert coordinator.members()[0].identity == keys_of(10).public.to_bytes()


def test_a_member_that_joins_again_with_its_keys_takes_the_place_of_its_own_request(coordinator: Coordinator) -> None:
    for schemas in ((1,), (1, 2)):
        path, fingerprint = request_file(coordinator.folder.parent, "bank-a", keys_of(10), schemas=schemas)
        coordinator.approve_member(path, fingerprint=fingerprint)
        assert [member.schemas for member in coordinator.members()] == [schemas]
    (kept,) = (coordinator.folder / "members").iterdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(EnrolmentFileError):
        coordinator.approve_member(path, fingerprint=fingerprint)
    assert kept.read_bytes() == b"damaged"


def test_a_request_for_another_consortium_is_refused(coordinator: Coordinator) -> None:
    path, fingerprint = request_file(coordinator.folder.parent, "bank-a", keys_of(10), consortium="other")
    with pytest.raises(EnrolmentFileError, match="another consortium"):
        coordinator.approve_member(path, fingerprint=fingerprint)


def test_a_member_file_that_was_exchanged_is_noticed(coordinator: Coordinator) -> None:
    request = approve(coordinator, "bank-a", 10)
    forged = replace(request, identity=keys_of(66).public.to_bytes())
    (coordinator.folder / "members" / "bank-a.fcrequest").write_bytes(armoured(forged))
    with pytest.raises(BadSignatureError):
        coordinator.members()


def test_the_transport_key_of_a_stranger_is_not_found(coordinator: Coordinator) -> None:
    approve(coordinator, "bank-a", 10)
    assert coordinator.supernode_key_path(InstitutionId("bank-a")).read_bytes() == b"ssh-ed25519 bank-a"
    with pytest.raises(NotAMemberError):
        coordinator.supernode_key_path(InstitutionId("bank-b"))


def test_a_roster_holds_the_members_of_the_plan_and_no_others(coordinator: Coordinator) -> None:
    approve(coordinator, "bank-a", 10)
    approve(coordinator, "bank-b", 12)
    plan = plan_of(("bank-a", "fund-c"))
    with pytest.raises(NotAMemberError, match="fund-c"):
        coordinator.roster(plan)
    approve(coordinator, "fund-c", 11)
    assert [member.institution for member in coordinator.roster(plan)] == ["bank-a", "fund-c"]


def test_a_contract_on_tables_that_a_member_does_not_speak_is_refused(coordinator: Coordinator) -> None:
    approve(coordinator, "bank-a", 10)
    path, fingerprint = request_file(coordinator.folder.parent, "fund-c", keys_of(11), schemas=(2, 3))
    coordinator.approve_member(path, fingerprint=fingerprint)
    on_tables, on_a_file = load_contract("vehicle-loans"), load_contract("german")
    bank, fund = coordinator.members()
    with pytest.raises(SchemaVersionError, match="fund-c 2, 3"):
        require_schema(on_tables, (bank, fund))
    # Who is not in the plan need not speak it, and a file of one's own needs no version.
    require_schema(on_tables, (bank,))
    require_schema(on_a_file, (bank, fund))


def test_a_member_with_other_keys_than_the_plan_names_stops_the_run_before_it_starts(coordinator: Coordinator) -> None:
    approve(coordinator, "bank-a", 10)
    approve(coordinator, "fund-c", 99)
    with pytest.raises(RosterMismatchError, match="fund-c"):
        coordinator.roster(plan_of(("bank-a", "fund-c")))


@pytest.fixture
def ready(coordinator: Coordinator) -> tuple[Coordinator, RunPlan]:
    approve(coordinator, "bank-a", 10)
    return coordinator, plan_of(("bank-a",))


def test_a_run_leaves_its_plan_and_a_readable_log_even_when_it_fails(ready: tuple[Coordinator, RunPlan]) -> None:
    coordinator, plan = ready
    with pytest.raises(QuorumError), coordinator.open_run("run-1", plan, NOBODY, clock=Clock()) as opened:
        list(opened.run.rounds())
    folder = coordinator.run_folder("run-1")
    assert RunPlan.read(folder / "plan.toml") == plan
    assert (folder / "audit.jsonl").read_text(encoding="utf-8").count("round-aborted") == 3
    assert coordinator.run_ids() == ["run-1"]
    with coordinator.open_run("run-1", plan, NOBODY, clock=Clock()) as opened:
        assert opened.run.run_id == "run-1"


def test_one_process_works_on_a_run_at_a_time(ready: tuple[Coordinator, RunPlan]) -> None:
    coordinator, plan = ready
    with coordinator.open_run("run-1", plan, NOBODY), pytest.raises(StateDirInUseError):
        coordinator.open_run("run-1", plan, NOBODY)
    coordinator.open_run("run-1", plan, NOBODY).__exit__(None, None, None)


def test_the_folder_of_another_plan_is_refused_and_its_plan_file_stays(ready: tuple[Coordinator, RunPlan]) -> None:
    coordinator, plan = ready
    with coordinator.open_run("run-1", plan, NOBODY):
        pass
    other = plan_of(("bank-a",), **{"training/learning_rate": 2.5})
    with pytest.raises(RunMismatchError):
        coordinator.open_run("run-1", other, NOBODY)
    assert RunPlan.read(coordinator.run_folder("run-1") / "plan.toml") == plan
    Database.open(coordinator.run_folder("run-1") / "run.db").close()  # the lock was given back


def test_the_log_that_cannot_be_exported_still_gives_the_lock_back(ready: tuple[Coordinator, RunPlan]) -> None:
    coordinator, plan = ready
    opened = coordinator.open_run("run-1", plan, NOBODY)
    (opened.folder / "audit.jsonl").mkdir()
    with pytest.raises(Exception, match=r"audit\.jsonl"):
        opened.__exit__(None, None, None)
    Database.open(opened.folder / "run.db").close()


def test_a_plan_of_another_consortium_or_contract_is_refused(ready: tuple[Coordinator, RunPlan]) -> None:
    coordinator, _ = ready
    with pytest.raises(WrongContextError, match="consortium"):
        coordinator.open_run(None, plan_of(("bank-a",), **{"run/consortium": "other"}), NOBODY)
    with pytest.raises(WrongContextError, match="contract"):
        coordinator.open_run(None, plan_of(("bank-a",), **{"run/contract_digest": "0" * 64}), NOBODY)
    assert coordinator.run_ids() == []


def test_an_unknown_run_is_not_found(coordinator: Coordinator) -> None:
    with pytest.raises(RunNotFoundError):
        coordinator.run_folder("run-9")


def test_run_ids_are_fresh_and_say_what_they_are_for() -> None:
    plan = plan_of(("bank-a",))
    first, second = new_run_id(plan), new_run_id(plan)
    assert first != second
    assert "-first-" in first
    assert len(first) <= 63


def test_the_model_of_a_plan_is_that_of_its_contract() -> None:
    family = plan_family(plan_of(("bank-a",)))
    assert {block.modality for block in family.layout.blocks} == {None, *INPUTS}
    assert COORDINATOR.public.fingerprint()
