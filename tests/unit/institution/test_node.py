from __future__ import annotations

import datetime
import stat
from dataclasses import replace
from pathlib import Path

import pytest
from consortium import COORDINATOR, plan_of, table_of

from fedcredit.config.node import NodeConfig
from fedcredit.contract import load_contract
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.data.splits import holdout_mask
from fedcredit.enrolment import Invitation
from fedcredit.errors import (
    AlreadyExistsError,
    ConfigFileMissingError,
    LedgerCorruptError,
    PolicyError,
    PrivacyPlanError,
)
from fedcredit.institution.holdings import Holdings, split_name
from fedcredit.institution.node import NodeState, init_node, join, node_config, read_invitation
from fedcredit.parties import InstitutionId, InstitutionType
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

INVITATION = Invitation.make(consortium="credit", keys=COORDINATOR, relay="relay:9092", ca_certificate=b"pem")


def config_of(**changes: object) -> NodeConfig:
    options: dict[str, object] = {
        "institution": InstitutionId("bank-a"),
        "kind": InstitutionType.BANK,
        "data_path": "data.parquet",
        "contract": "taiwan",
        "modalities": ("application",),
        "epsilon": 4.0,
        "delta": 1e-5,
        "holdout_epsilon": 0.5,
        **changes,
    }
    return node_config(**options)  # type: ignore[arg-type]


def test_a_new_node_is_complete_private_and_refuses_unprotected_plans(tmp_path: Path) -> None:
    keys = init_node(tmp_path / "node", config_of())
    assert NodeConfig.read(tmp_path / "node") == config_of()
    assert not NodeConfig.read(tmp_path / "node").policy.allow_no_privacy
    assert IdentityKeys.load(tmp_path / "node" / "keys/identity.key", passphrase=None).public == keys.public
    for name in ("keys/identity.key", "keys/supernode"):
        assert stat.S_IMODE((tmp_path / "node" / name).stat().st_mode) == 0o600


def test_an_existing_node_is_never_overwritten(tmp_path: Path) -> None:
    keys = init_node(tmp_path, config_of())
    with pytest.raises(AlreadyExistsError):
        init_node(tmp_path, config_of())
    assert IdentityKeys.load(tmp_path / "keys/identity.key", passphrase=None).public == keys.public


def test_joining_pins_the_coordinator_and_signs_with_the_nodes_own_keys(tmp_path: Path) -> None:
    keys = init_node(tmp_path, config_of())
    with pytest.raises(ConfigFileMissingError):
        read_invitation(tmp_path)
    request = join(tmp_path, INVITATION)
    assert read_invitation(tmp_path) == INVITATION
    member = request.member()
    assert (member.institution, member.public_identity) == ("bank-a", keys.public.to_bytes())
    assert request.supernode_key == (tmp_path / "keys/supernode.pub").read_bytes()


def test_a_damaged_ledger_keeps_the_node_closed() -> None:
    database = Database.in_memory()
    Journal(database, "privacy-ledger").append("privacy-charge", b"junk")
    with pytest.raises(LedgerCorruptError):
        NodeState.open(database, config_of())


def test_a_budget_that_cannot_be_accounted_for_keeps_the_node_closed() -> None:
    with pytest.raises(PrivacyPlanError):
        NodeState.open(Database.in_memory(), config_of(epsilon=1e9))


LATE = datetime.date(2024, 7, 1)


def holdings(rows: int = 60) -> Holdings:
    return Holdings(
        institution=InstitutionId("bank-a"), contract=load_contract("taiwan"), table=table_of("bank-a", rows)
    )


def test_every_borrower_is_on_exactly_one_side_of_the_split() -> None:
    plan, table = plan_of(), holdings().table
    split = holdings().split(plan)
    assert sorted([*split.train.entities, *split.holdout.entities]) == sorted(table.entities)
    assert set(split.holdout.entities) == set(table.entities[holdout_mask(table.entities, salt="salt", fraction=0.3)])
    assert not set(split.train.entities) & set(split.holdout.entities)


def test_the_split_shows_only_the_modalities_of_the_plan() -> None:
    raw = plan_of().model_dump()
    raw["institutions"]["bank-a"]["modalities"] = ["repayment"]
    assert set(holdings().split(type(plan_of()).model_validate(raw)).train.modalities) == {"repayment"}
    raw["institutions"]["bank-a"]["modalities"] = ["repayment", "telematics"]
    with pytest.raises(PolicyError, match="telematics"):
        holdings().split(type(plan_of()).model_validate(raw))


@pytest.mark.parametrize(("in_plan", "in_tables"), [(LATE, None), (None, LATE), (LATE, LATE + datetime.timedelta(1))])
def test_tables_that_begin_the_test_in_time_on_another_day_than_the_plan_are_not_trained_on(
    in_plan: datetime.date | None, in_tables: datetime.date | None
) -> None:
    held = replace(holdings(), out_of_time=in_tables)
    with pytest.raises(PolicyError, match="out of time begins"):
        held.split(plan_of(**{"run/out_of_time": in_plan}))
    assert len(replace(held, out_of_time=in_plan).split(plan_of(**{"run/out_of_time": in_plan})).train)


def test_an_empty_side_is_answered_like_any_other_because_a_refusal_would_tell_who_is_in_it() -> None:
    sides = {
        (len(split.train), len(split.holdout))
        for salt in map(str, range(40))
        for split in [holdings(1).split(plan_of(**{"run/holdout_salt": salt}))]
    }
    assert sides == {(0, 1), (1, 0)}


def test_the_name_of_a_split_covers_its_salt_and_its_fraction() -> None:
    changes = [("run/holdout_salt", "pepper"), ("run/holdout_fraction", 0.31), ("run/out_of_time", LATE)]
    plans = [plan_of(), *(plan_of(**{key: value}) for key, value in changes)]
    assert len({split_name(plan) for plan in plans}) == 4
    assert split_name(plan_of(**{"training/learning_rate": 9.0})) == split_name(plan_of())
