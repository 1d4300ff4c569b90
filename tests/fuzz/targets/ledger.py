"""Entries of the privacy ledger, one by one and as the chain that a restart replays."""

from __future__ import annotations

from collections.abc import Iterator

import dp_accounting  # noqa: F401  # fedcredit imports it late, for 0.7 s: not what the first input of a chain costs
from fuzz.harness import NotTheSameError, Target, chosen, one_of, same_bytes

from fedcredit.encoding import encode
from fedcredit.parties import institution_id
from fedcredit.privacy.ledger_entries import (
    AMENDED_KIND,
    CHARGE_KIND,
    OPENED_KIND,
    CapAmended,
    Charge,
    LedgerEntry,
    LedgerOpened,
    decode_entry,
)
from fedcredit.privacy.ledger_record import LedgerRecord
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.spending import BudgetCap
from fedcredit.store.database import Database
from fedcredit.store.journal import Entry, Journal

_KINDS = (CHARGE_KIND, OPENED_KIND, AMENDED_KIND)
_MOST_ENTRIES = 8


def _entry(kind: str) -> Target:
    def target(data: bytes) -> None:
        said = _decoded(kind, data)
        again = said if isinstance(said, Charge) and said.plan is None else _decoded(kind, said.to_bytes())
        if again != said:
            raise NotTheSameError

    return target


def _decoded(kind: str, body: bytes) -> LedgerEntry:
    return decode_entry(Entry(index=0, kind=kind, body=body, digest=bytes(32)))


def _chain(data: bytes) -> None:
    database = Database.in_memory()
    try:
        journal = Journal(database, "ledger")
        for kind, body in _entries(data):
            journal.append(kind, body)
        record = LedgerRecord(journal, place="ledger")
        for partition in record.partitions:
            spent = record.spent(partition)
            if spent is not None and spent.epsilon < 0:
                raise NotTheSameError
    finally:
        database.close()


def _entries(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield kinds and bodies: a byte for the kind, two for the length, the body."""
    for _ in range(_MOST_ENTRIES):
        if len(data) < 3:
            return
        size = int.from_bytes(data[1:3], "big")
        yield _KINDS[data[0] % len(_KINDS)], data[3 : 3 + size]
        data = data[3 + size :]


MUTATIONS = 2_000
TARGET = one_of(*map(_entry, _KINDS), same_bytes(Release.from_bytes), _chain)


def seeds() -> dict[str, bytes]:
    """Return one entry of each kind, the oldest version, a release, and chains."""
    release = _release("run/1/0/train", Mechanism.ROUNDED_GAUSSIAN)
    skellam = _release("run/2/0/train", Mechanism.SKELLAM)
    charge = Charge(release=release, delta=1e-5, plan=bytes(32), time=1_772_366_400)
    opened = LedgerOpened(
        time=1_772_366_400,
        institution=institution_id("bank-a"),
        caps={"train": BudgetCap(epsilon=4.0, delta=1e-5), "holdout": BudgetCap(epsilon=1.0, delta=1e-5)},
        salt=bytes(32),
    )
    amended = CapAmended(
        time=1_772_366_401, partition="train", epsilon=6.0, approvers=("Ada", "Grace"), reason="another year"
    )
    second = Charge(release=skellam, delta=1e-5, plan=bytes(32), time=1_772_366_402)
    old = encode({"version": 1, "release": release.to_bytes(), "delta": (1e-5).hex()})
    chain = [(1, opened.to_bytes()), (0, charge.to_bytes()), (2, amended.to_bytes())]
    return {
        "charge": chosen(0, charge.to_bytes()),
        "charge-version-1": chosen(0, old),
        "opening": chosen(1, opened.to_bytes()),
        "amendment": chosen(2, amended.to_bytes()),
        "release": chosen(3, release.to_bytes()),
        "chain": chosen(4, _chained(chain)),
        "chain-skellam": chosen(4, _chained([(1, opened.to_bytes()), (0, second.to_bytes())])),
        "chain-version-1": chosen(4, _chained([(0, old), (1, opened.to_bytes())])),
    }


def _release(release_id: str, mechanism: Mechanism) -> Release:
    return Release(
        release_id=release_id,
        partition="train",
        purpose="one round of training",
        mechanism=mechanism,
        unit="borrower",
        neighbours="add-or-remove-one",
        sensitivity_squared=64,
        sigma=100,
        dimension=10,
        honest_shares=1,
        sampled_per_million=1_000_000,
        test_noise=False,
    )


def _chained(entries: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([kind]) + len(body).to_bytes(2, "big") + body for kind, body in entries)
