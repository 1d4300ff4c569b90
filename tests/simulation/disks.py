"""Databases in memory whose commits can fail or be the last thing that a machine does, and images of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Self

from fedcredit.store.database import Database, Row

Hook = Callable[[frozenset[str], bool], None]
"""Called around a commit with what it holds ("journal/kind" or "collection/key") and whether it is durable already."""


class PowerCutError(BaseException):
    """The machine stops here. Not an ``Exception``: no guard of ours may go on after it."""


class SimulatedDatabase(Database):
    """What ``Database`` promises, until the power is cut: then nothing more is read or written."""

    dead = False
    _held: frozenset[str] = frozenset()
    _hook: Hook = staticmethod(lambda held, durable: None)

    @classmethod
    def of(cls, image: bytes | None) -> Self:
        """Return the database that ``image`` holds, or a new one."""
        if image is None:
            return cls.in_memory()
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        connection.deserialize(image)
        database = cls(connection, place=":memory:", lock=None)
        database._prepare(new=False)
        return database

    def watch(self, hook: Hook) -> None:
        """Call ``hook`` around every commit from now on."""
        self._hook = hook

    def image(self) -> bytes:
        """Return what is durable; only between transactions."""
        assert not self._connection.in_transaction
        return self._connection.serialize()

    def cut(self) -> None:
        """Cut the power; what is not committed is gone."""
        self.dead = True
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def execute(self, sql: str, parameters: Row = ()) -> list[Row]:
        """Run one statement as ``Database.execute`` does."""
        if self.dead:
            raise PowerCutError
        if sql.startswith("BEGIN"):
            self._held = frozenset()
        elif sql.startswith("INSERT INTO journal_entries"):
            self._held |= {"/".join(map(str, (parameters[0], parameters[2])))}
        elif sql.startswith("INSERT INTO records"):
            self._held |= {"/".join((str(parameters[0]), str(parameters[1]).split("/")[0]))}
        if sql != "COMMIT":
            return super().execute(sql, parameters)
        held, self._held = self._held, frozenset()
        self._hook(held, False)
        rows = super().execute(sql, parameters)
        self._hook(held, True)
        return rows
