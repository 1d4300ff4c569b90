"""A journal and a collection of records against plain Python, through commits, rollbacks and reopenings."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import NoReturn

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.store.records import Records

BODIES = st.binary(max_size=20)
KEYS = st.sampled_from(["a", "a/1", "b"])
STEPS = st.lists(st.tuples(st.sampled_from(["append", "put", "delete"]), KEYS, BODIES), max_size=4)


class StopError(Exception):
    """Ends a transaction on purpose."""


def stop() -> NoReturn:
    raise StopError


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.lines: list[tuple[str, bytes]] = []
        self.values: dict[str, bytes] = {}
        self.open()

    def open(self) -> None:
        self.database = Database.open(self.folder / "state.db")
        self.journal = Journal(self.database, "ledger")
        self.records = Records(self.database, "values")

    def teardown(self) -> None:
        self.database.close()
        shutil.rmtree(self.folder)

    def perform(self, steps: list[tuple[str, str, bytes]]) -> None:
        for step, key, body in steps:
            if step == "append":
                self.journal.append(key, body)
            elif step == "put":
                self.records.put(key, body)
            else:
                self.records.delete(key)

    def remember(self, steps: list[tuple[str, str, bytes]]) -> None:
        for step, key, body in steps:
            if step == "append":
                self.lines.append((key, body))
            elif step == "put":
                self.values[key] = body
            else:
                self.values.pop(key, None)

    @rule(steps=STEPS)
    def commit(self, steps: list[tuple[str, str, bytes]]) -> None:
        with self.database.transaction():
            self.perform(steps)
        self.remember(steps)

    @rule(steps=STEPS)
    def write_one_by_one(self, steps: list[tuple[str, str, bytes]]) -> None:
        self.perform(steps)
        self.remember(steps)

    @rule(steps=STEPS)
    def fail(self, steps: list[tuple[str, str, bytes]]) -> None:
        try:
            with self.database.transaction():
                self.perform(steps)
                stop()
        except StopError:
            pass

    @rule(kept=STEPS, lost=STEPS, later=STEPS)
    def fail_inside(
        self,
        kept: list[tuple[str, str, bytes]],
        lost: list[tuple[str, str, bytes]],
        later: list[tuple[str, str, bytes]],
    ) -> None:
        with self.database.transaction():
            self.perform(kept)
            try:
                with self.database.transaction():
                    self.perform(lost)
                    stop()
            except StopError:
                pass
            self.perform(later)
        self.remember(kept + later)

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.open()

    @rule()
    def restore_a_copy_taken_while_open(self) -> None:
        """What a power failure leaves: the files as they are, nothing closed."""
        copy = Path(tempfile.mkdtemp())
        for name in ("state.db", "state.db-wal"):
            shutil.copyfile(self.folder / name, copy / name)
        self.teardown()
        self.folder = copy
        self.open()

    @invariant()
    def the_store_says_what_the_model_says(self) -> None:
        self.journal.verify()
        assert [(entry.kind, entry.body) for entry in self.journal.entries()] == self.lines
        assert len(self.journal) == len(self.lines)
        assert self.records.keys("") == sorted(self.values)
        for key in ("a", "a/1", "b"):
            assert self.records.get(key) == self.values.get(key)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=15, deadline=None)
