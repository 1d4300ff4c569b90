"""PROTOCOL.md 9.1, attack 13: no byte of a real log changes unseen, and no witness follows a fork or a cut log.

The log is that of a small run. Its owner may write it anew with every digest right: what is left is the heads that the
members hold.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pytest
from consortium import SECURE, Consortium, plan_of
from kept_runs import driven, read

from fedcredit.audit.checkpoint_note import LogCheckpoint
from fedcredit.audit.merkle import MerkleTree, verify_inclusion
from fedcredit.audit.witness import FIRST_SIGHT, WitnessState, advance
from fedcredit.encoding import encode
from fedcredit.errors import AuditError, LogForkError, LogProofError, LogRolledBackError
from fedcredit.rounds.evidence_log import JOURNAL, read_lines, read_log
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

ORIGIN = "fedcredit/credit/run-1"


class Log:
    """Leaves and the tree over them."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves = leaves

    @cached_property
    def tree(self) -> MerkleTree:
        tree = MerkleTree()
        for leaf in self.leaves:
            tree.append(leaf)
        return tree

    def __len__(self) -> int:
        return len(self.leaves)

    def head(self, size: int) -> WitnessState:
        return WitnessState(size, self.tree.root(size))

    def shown_to(self, held: WitnessState, size: int) -> WitnessState:
        """Return the state of a witness that holds a head and is shown this log, with the proof that it makes."""
        proof = self.tree.consistency(held.size, size) if 0 < held.size < size else ()
        return advance(held, LogCheckpoint(ORIGIN, size, self.tree.root(size)), proof)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(Consortium.make(tmp_path_factory.mktemp("run"), plan_of(**SECURE, **{"run/rounds": 1})))


@pytest.fixture(scope="module")
def log(folder: Path) -> Log:
    made = Log([encode([str(kind), encode(fields)]) for kind, fields in read(folder)])
    assert made.tree.root(len(made)) == read_log(folder / "run.db").tree.root(len(made))
    return made


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


def test_a_flip_of_any_byte_of_any_leaf_is_in_no_head_of_the_log(log: Log) -> None:
    size = len(log)
    root = log.tree.root(size)
    tried = 0
    for index, leaf in enumerate(log.leaves):
        proof = log.tree.inclusion(index, size=size)
        verify_inclusion(leaf, index=index, size=size, root=root, proof=proof)
        for place in range(len(leaf)):
            tried += 1
            with pytest.raises(LogProofError) as caught:
                verify_inclusion(flipped(leaf, place), index=index, size=size, root=root, proof=proof)
            assert caught.value.exit_code == 5
    assert tried == sum(map(len, log.leaves)) > 5_000


def test_a_changed_byte_in_any_entry_of_the_file_is_named_by_its_index(folder: Path) -> None:
    with Database.open(folder / "run.db") as kept:
        entries = list(Journal(kept, JOURNAL).entries())
    with Database.in_memory() as database:
        for entry in entries:
            Journal(database, JOURNAL).append(entry.kind, entry.body)
        for entry in entries:
            for body in (flipped(entry.body, len(entry.body) // 2), entry.body):
                database.execute("UPDATE journal_entries SET body = ? WHERE position = ?", (body, entry.index))
                if body == entry.body:
                    continue
                with pytest.raises(AuditError) as caught:
                    list(read_lines(database, place="run.db"))
                assert (caught.value.fields["index"], caught.value.exit_code) == (entry.index, 5)
        list(read_lines(database, place="run.db"))


def test_a_log_that_is_forked_at_any_entry_is_followed_by_nobody_who_holds_a_head_behind_it(log: Log) -> None:
    for fork in range(len(log)):
        forked = Log([*log.leaves[:fork], flipped(log.leaves[fork], 3), *log.leaves[fork + 1 :], b"later"])
        for held in range(len(log) + 1):
            state = FIRST_SIGHT if held == 0 else log.head(held)
            for size in {max(held, 1), len(forked)}:
                if held <= fork:
                    assert forked.shown_to(state, size) == forked.head(size)
                    continue
                with pytest.raises(LogForkError) as caught:
                    forked.shown_to(state, size)
                assert caught.value.exit_code == 5


def test_a_log_without_its_tail_is_followed_by_nobody_who_has_seen_it(log: Log) -> None:
    for held in range(1, len(log) + 1):
        for size in range(1, held):
            with pytest.raises(LogRolledBackError) as caught:
                log.shown_to(log.head(held), size)
            assert caught.value.exit_code == 5
        assert log.shown_to(log.head(held), len(log)) == log.head(len(log))


def test_a_proof_of_another_log_leads_no_witness_to_a_fork(log: Log) -> None:
    forked = Log([flipped(log.leaves[0], 3), *log.leaves[1:], b"later"])
    for held in range(1, len(log)):
        for honest in (log.tree.consistency(held, len(log)), ()):
            with pytest.raises(LogForkError):
                advance(log.head(held), LogCheckpoint(ORIGIN, len(forked), forked.tree.root(len(forked))), honest)
