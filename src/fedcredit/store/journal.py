"""An append-only list whose entries are chained by SHA-256, so that a changed past is noticed.

The chain finds damage and edits. Whoever can rewrite the whole file can rewrite the whole chain too; against that the
head must be known elsewhere (other parties, the audit log).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from fedcredit.encoding import DIGEST_LENGTH, digest
from fedcredit.errors import StoreCorruptError
from fedcredit.store.database import ConstraintError, Database

EMPTY_HEAD: Final = bytes(DIGEST_LENGTH)
"""The head of a journal without entries."""
CHAIN_TAG: Final = "fedcredit-journal-1"


@dataclass(frozen=True)
class Entry:
    """One line of a journal; ``digest`` covers it and everything before it."""

    index: int
    kind: str
    body: bytes
    digest: bytes


def chain_digest(*, journal: str, previous: bytes, index: int, kind: str, body: bytes) -> bytes:
    """Return SHA-256 over the canonical encoding of ``[CHAIN_TAG, journal, previous, index, kind, body]``."""
    return digest([CHAIN_TAG, journal, previous, index, kind, body])


class Journal:
    """The journal called ``name`` inside ``database``; several share one database and its transactions."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    def append(self, kind: str, body: bytes) -> Entry:
        """Add an entry; it is durable on return, or with the enclosing ``database.transaction()``.

        Raises:
            DiskFullError, NotWritableError: nothing was added.
            StoreCorruptError: there is an entry behind the recorded head, so the past is not known.
        """
        with self._database.transaction():
            index, previous = self.end
            entry = Entry(
                index=index,
                kind=kind,
                body=body,
                digest=chain_digest(journal=self._name, previous=previous, index=index, kind=kind, body=body),
            )
            try:
                self._database.execute(
                    "INSERT INTO journal_entries VALUES (?, ?, ?, ?, ?)", (self._name, index, kind, body, entry.digest)
                )
            except ConstraintError as error:
                if self._row(index) is None:
                    raise  # it was another rule
                raise self._corrupt(index, "lies behind the recorded end") from error
            self._database.execute(
                "INSERT INTO journal_heads VALUES (?, ?, ?)"
                " ON CONFLICT (journal) DO UPDATE SET length = excluded.length, digest = excluded.digest",
                (self._name, index + 1, entry.digest),
            )
        return entry

    def together(self) -> AbstractContextManager[None]:
        """Return a context in which appended entries become durable together, at its end."""
        return self._database.transaction()

    def entries(self, start: int = 0) -> Iterator[Entry]:
        """Yield the entries from index ``start`` up to the end as it is when the first is asked for; the chain
        is not checked.

        Raises:
            StoreCorruptError: an entry is missing.
        """
        for index in range(start, len(self)):
            entry = self._row(index)
            if entry is None:
                raise self._corrupt(index, "is missing")
            yield entry

    def __len__(self) -> int:
        return self.end[0]

    @property
    def head(self) -> bytes:
        """The digest of the last entry; ``EMPTY_HEAD`` when there is none."""
        return self.end[1]

    @property
    def end(self) -> tuple[int, bytes]:
        """The number of entries and ``head``, as they are together."""
        rows = self._database.execute("SELECT length, digest FROM journal_heads WHERE journal = ?", (self._name,))
        if not rows:
            return 0, EMPTY_HEAD
        ((length, head),) = rows
        if not isinstance(length, int) or not isinstance(head, bytes):
            raise self._corrupt(0, "has a head of the wrong type")
        return length, head

    def verify(self) -> None:
        """Recompute the chain from its start to its recorded end.

        Raises:
            StoreCorruptError: names the first index that is missing, changed or too many.
        """
        with self._database.transaction():
            self._verify()

    def _verify(self) -> None:
        length, head = self.end
        previous = EMPTY_HEAD
        for entry in self.entries():
            expected = chain_digest(
                journal=self._name, previous=previous, index=entry.index, kind=entry.kind, body=entry.body
            )
            if entry.digest != expected:
                raise self._corrupt(entry.index, "does not match its digest")
            previous = expected
        if previous != head:
            raise self._corrupt(max(length - 1, 0), "is not the one the recorded head names")
        ((stray,),) = self._database.execute(
            "SELECT min(position) FROM journal_entries WHERE journal = ? AND (position >= ? OR position < 0)",
            (self._name, length),
        )
        if stray is not None:
            raise self._corrupt(stray, "lies behind the recorded end")

    def _row(self, index: int) -> Entry | None:
        rows = self._database.execute(
            "SELECT kind, body, digest FROM journal_entries WHERE journal = ? AND position = ?", (self._name, index)
        )
        if not rows:
            return None
        ((kind, body, stored),) = rows
        if not isinstance(kind, str) or not isinstance(body, bytes) or not isinstance(stored, bytes):
            raise self._corrupt(index, "has a cell of the wrong type")
        return Entry(index=index, kind=kind, body=body, digest=stored)

    def _corrupt(self, index: int | str | bytes, problem: str) -> StoreCorruptError:
        return StoreCorruptError(
            path=self._database.place, problem=f'entry {index!r} of the journal "{self._name}" {problem}'
        )
