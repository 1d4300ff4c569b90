"""What an institution keeps between messages: it comes back after a restart, and never runs ahead of the disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from consortium import NAMES, plan_of

from fedcredit.audit.witness import FIRST_SIGHT, WitnessState
from fedcredit.crypto.channels import Channel
from fedcredit.encoding import encode
from fedcredit.errors import (
    FedcreditError,
    MalformedMessageError,
    PolicyError,
    ReplayError,
    StoreCorruptError,
    WrongContextError,
)
from fedcredit.institution.memory import RunMemory, Terms, terms_of
from fedcredit.messages import NO_EPOCH, NO_HEAD, Manifest
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochOffer, EpochRoots
from fedcredit.secagg.member import MemberRound
from fedcredit.store.database import Database
from fedcredit.store.records import Records

COHORT = Cohort.of(NAMES, seed=bytes([5]) * 32, threshold=3)
ROOTS = EpochRoots(bytes([5]) * 32, COHORT, 0, 2, tuple(bytes([number]) * 32 for number in range(3)))
OFFER = EpochOffer(bytes([6]) * 32, bytes([7]) * 96)
ROUND = MemberRound(
    manifest_digest=bytes([1]) * 32,
    round_number=1,
    attempt=1,
    epoch=bytes([5]) * 32,
    cohort=COHORT,
    place=0,
    box_keys=(bytes(32),) * 3,
    own_shares=bytes(33 * 4),
    upload=bytes(32),
    selection=b"",
    revealed=False,
)
TERMS = terms_of(plan_of().to_toml().encode(), b"roster", bytes(32))


def manifest(**changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "consortium": "credit",
        "run": "run-1",
        "round": 1,
        "attempt": 1,
        "purpose": "train",
        "plan_digest": bytes(32),
        "roster_digest": bytes(32),
        "weights_digest": bytes(32),
        "cohort": NAMES,
        "ledger_heads": (NO_HEAD,) * 4,
        "quorum": 4,
        "deadline": 0,
        "epoch": NO_EPOCH,
        "step": 0,
        "log_size": 1,
        "log_root": bytes(32),
        "release": 0,
        "radii": (),
        **changes,
    }
    return Manifest(**fields)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.db"


@pytest.fixture
def database(path: Path) -> Database:
    return Database.open(path)


@pytest.fixture
def memory(database: Database) -> RunMemory:
    return RunMemory(database, entropy=os.urandom)


def reopened(database: Database, path: Path) -> RunMemory:
    database.close()
    return RunMemory(Database.open(path), entropy=os.urandom)


def channel_secret(half: int) -> bytes:
    return Channel.secret(coordinator=bytes([half]) * 32, member=bytes(32), setup=bytes(32), name="bank-a")


def test_an_empty_memory_knows_nothing(memory: RunMemory) -> None:
    assert memory.terms("run-1") is memory.epoch("run-1") is memory.member_round("run-1") is None
    assert memory.answer_to(bytes(32), run="run-1") is None
    assert memory.channel(bytes(8)) is None
    assert memory.opened(manifest()) == ()
    assert memory.witnessed("run-1") == FIRST_SIGHT
    memory.require_new(manifest())


def test_everything_comes_back_after_a_restart(memory: RunMemory, database: Database, path: Path) -> None:
    secret = channel_secret(1)
    memory.take_up("run-1", TERMS)
    memory.keep_epoch("run-1", OFFER)
    memory.keep_epoch("run-2", ROOTS)
    memory.keep_round("run-1", ROUND)
    memory.keep_channel("run-1", secret)
    for members in (["bank-a", "fund-c"], ["bank-a", "bank-b"], ["bank-a", "fund-c"]):
        memory.keep_opened(manifest(), members)
    memory.keep_witnessed("run-1", WitnessState(3, bytes([3]) * 32))
    memory.remember_place(manifest(round=2))
    memory.remember_answer("run-1", bytes([8]) * 32, b"answer")
    tag = Channel(secret, entropy=os.urandom).tag
    for restarted in (False, True):
        known = reopened(database, path) if restarted else memory
        assert known.terms("run-1") == TERMS
        assert (known.epoch("run-1"), known.epoch("run-2")) == (OFFER, ROOTS)
        assert known.member_round("run-1") == ROUND
        channel = known.channel(tag)
        assert channel is not None
        assert channel.tag == tag
        assert set(known.opened(manifest(attempt=7))) == {("bank-a", "fund-c"), ("bank-a", "bank-b")}
        assert len(known.opened(manifest())) == 2
        assert known.opened(manifest(round=2)) == known.opened(manifest(purpose="evaluate")) == ()
        assert known.witnessed("run-1") == WitnessState(3, bytes([3]) * 32)
        assert known.answer_to(bytes([8]) * 32, run="run-1") == b"answer"
        assert known.answer_to(bytes([9]) * 32, run="run-1") is None
        with pytest.raises(ReplayError):
            known.require_new(manifest(round=2))


def test_what_was_undone_on_disk_is_forgotten_in_memory_too(memory: RunMemory, database: Database) -> None:
    memory.keep_epoch("run-1", OFFER)
    memory.keep_channel("run-1", channel_secret(1))
    old, new = (Channel(channel_secret(half), entropy=os.urandom).tag for half in (1, 2))
    with pytest.raises(ZeroDivisionError), database.transaction():
        memory.keep_epoch("run-1", ROOTS)
        memory.keep_round("run-1", ROUND)
        memory.keep_channel("run-1", channel_secret(2))
        memory.remember_place(manifest())
        memory.remember_answer("run-1", bytes(32), b"answer")
        _ = 1 // 0
    memory.forget()
    assert memory.epoch("run-1") == OFFER
    assert memory.member_round("run-1") is None
    assert memory.channel(old) is not None
    assert memory.channel(new) is None
    assert memory.answer_to(bytes(32), run="run-1") is None
    memory.require_new(manifest())


def test_the_keys_before_are_gone_from_the_disk(memory: RunMemory, database: Database) -> None:
    memory.keep_epoch("run-1", OFFER)
    memory.keep_channel("run-1", channel_secret(1))
    memory.keep_epoch("run-1", ROOTS)
    memory.keep_channel("run-1", channel_secret(2))
    records = Records(database, "run-memory")
    stored = b"".join(records.get(key) or b"" for key in records.keys(""))
    assert OFFER.seed not in stored
    assert channel_secret(1) not in stored
    assert channel_secret(2) in stored
    assert memory.channel(Channel(channel_secret(1), entropy=os.urandom).tag) is None


def test_a_channel_belongs_to_one_run_and_does_not_push_out_that_of_another(memory: RunMemory) -> None:
    for run, half in (("run-1", 1), ("run-2", 2), ("run-1", 3)):
        memory.keep_channel(run, channel_secret(half))
    tags = [Channel(channel_secret(half), entropy=os.urandom).tag for half in (1, 2, 3)]
    assert [memory.channel(tag) is not None for tag in tags] == [False, True, True]


def test_the_selections_of_one_round_are_forgotten_with_the_next(memory: RunMemory) -> None:
    memory.keep_opened(manifest(), ["bank-a", "fund-c"])
    memory.keep_opened(manifest(round=2), ["bank-a", "bank-b"])
    assert memory.opened(manifest(round=2)) == (("bank-a", "bank-b"),)
    memory.keep_opened(manifest(round=3, purpose="evaluate"), ["bank-a", "insurer-d"])
    assert memory.opened(manifest(round=3, purpose="evaluate")) == (("bank-a", "insurer-d"),)
    assert memory.opened(manifest(round=3)) == memory.opened(manifest(run="run-2")) == ()


@pytest.mark.parametrize(
    ("after", "then", "new"),
    [
        ({"purpose": "setup", "round": 0, "attempt": 3}, {"purpose": "setup", "round": 0, "attempt": 3}, False),
        ({"purpose": "setup", "round": 0, "attempt": 3}, {"purpose": "setup", "round": 0, "attempt": 4}, True),
        ({"purpose": "setup", "round": 0, "attempt": 3}, {}, True),
        ({"round": 3}, {"purpose": "setup", "round": 0}, True),
        ({}, {"purpose": "prepare"}, False),
        ({"purpose": "prepare"}, {}, True),
        ({"purpose": "close", "round": 3}, {"purpose": "evaluate", "round": 3, "attempt": 9}, False),
        ({"purpose": "close", "round": 3}, {"purpose": "close", "round": 3, "attempt": 2}, True),
        ({"round": 3}, {"run": "run-2"}, True),
    ],
    ids=str,
)
def test_the_order_of_a_run_is_kept_and_set_ups_are_counted_for_themselves(
    memory: RunMemory, after: dict[str, Any], then: dict[str, Any], new: bool
) -> None:
    memory.remember_place(manifest(**after))
    if new:
        memory.require_new(manifest(**then))
    else:
        with pytest.raises(ReplayError):
            memory.require_new(manifest(**then))


def test_a_run_has_one_plan_and_a_plan_one_run(memory: RunMemory) -> None:
    memory.take_up("run-1", TERMS)
    memory.take_up("run-1", TERMS)
    with pytest.raises(PolicyError):
        memory.take_up("run-2", TERMS)
    other = terms_of(plan_of(**{"run/name": "second"}).to_toml().encode(), b"roster", bytes(32))
    with pytest.raises(WrongContextError):
        memory.take_up("run-1", other)
    with pytest.raises(WrongContextError):
        memory.take_up("run-1", terms_of(TERMS.plan_text, b"roster", bytes([1]) * 32))
    memory.require_split(TERMS.plan)
    memory.require_split(other.plan)
    with pytest.raises(PolicyError):
        memory.require_split(plan_of(**{"run/holdout_salt": "pepper"}))


def test_terms_are_those_of_the_plan_that_was_received() -> None:
    plan = plan_of()
    assert (
        Terms(
            plan=plan,
            plan_digest=plan.digest(),
            plan_text=plan.to_toml().encode(),
            roster_text=b"roster",
            roster_digest=bytes(32),
        )
        == TERMS
    )
    with pytest.raises(MalformedMessageError, match="UTF-8"):
        terms_of(b"\xff", b"roster", bytes(32))


DAMAGES: list[tuple[str, bytes]] = [
    ("terms/run-1", encode([1])),
    ("terms/run-1", encode({"plan": b"", "roster": b"", "digest": "text"})),
    ("terms/run-1", encode({"plan": b"", "roster": b""})),
    ("last/run-1", encode({})),
    ("last/run-1", encode(["1", 2, 3])),
    ("opened/run-1", encode([1, "train"])),
    ("opened/run-1", encode(["1", "train", []])),
    ("opened/run-1", encode([1, "train", [7]])),
    ("epoch/run-1", encode(["offer"])),
    ("round/run-1", encode([])),
    ("log/run-1", encode({})),
    *((f"{key}/run-1", b"\xff") for key in ("terms", "last", "opened", "epoch", "round", "log")),
]


@pytest.mark.parametrize(("key", "value"), DAMAGES)
def test_a_damaged_record_is_an_error_and_never_nothing(
    memory: RunMemory, database: Database, key: str, value: bytes
) -> None:
    Records(database, "run-memory").put(key, value)
    readings = {
        "terms": lambda: memory.terms("run-1"),
        "last": lambda: memory.require_new(manifest()),
        "opened": lambda: memory.opened(manifest()),
        "epoch": lambda: memory.epoch("run-1"),
        "round": lambda: memory.member_round("run-1"),
        "log": lambda: memory.witnessed("run-1"),
    }
    with pytest.raises(FedcreditError) as caught:
        readings[key.partition("/")[0]]()
    if value != b"\xff" and not key.startswith("log/"):
        assert isinstance(caught.value, StoreCorruptError)
