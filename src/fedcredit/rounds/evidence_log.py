"""A run's log as somebody reads it who trusts nobody: the chain first, then one entry after the other.

A database is what its owner made of it, so no field is taken to have the type that an honest coordinator gives it:
``Line`` hands out typed fields, or ends the verification with the index of the entry.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedcredit.audit.checkpoint_note import LogCheckpoint
from fedcredit.audit.log import EventKind, decode_leaf, leaf_of
from fedcredit.audit.merkle import MerkleTree
from fedcredit.encoding import DIGEST_LENGTH, Encodable
from fedcredit.errors import AuditError, FedcreditError, StoreCorruptError
from fedcredit.parties import InstitutionId
from fedcredit.store.database import Database
from fedcredit.store.journal import EMPTY_HEAD, Entry, Journal, chain_digest

RUN_DATABASE: Final = "run.db"
JOURNAL: Final = "audit"
"""The name of the log's journal, at the coordinator and at a node; it enters every digest of the chain."""

_DAMAGED: Final = (StoreCorruptError, UnicodeDecodeError)
"""SQLite quotes a damaged schema in its message, which then is no text."""


@dataclass(frozen=True)
class Line:
    """One entry of a log whose chain holds up to here. All that it hands out raises ``AuditError`` if it is not so."""

    path: str
    index: int
    kind: EventKind
    fields: Mapping[str, Encodable]
    digest: bytes

    def error(self, problem: str) -> AuditError:
        """Return what ends a verification at this entry; ``problem`` goes on after "entry 7"."""
        return AuditError(path=self.path, index=self.index, problem=problem)

    def require(self, holds: bool, problem: str) -> None:
        """Return if ``holds``."""
        if not holds:
            raise self.error(problem)

    @contextlib.contextmanager
    def naming(self, problem: str) -> Iterator[None]:
        """Let every deliberate error inside end the verification at this entry, with its code and text behind."""
        try:
            yield
        except AuditError:
            raise
        except FedcreditError as error:
            raise self.error(f"{problem} ({error.code}: {error.describe('en').rstrip('.')})") from error

    def octets(self, name: str) -> bytes:
        """Return a byte string."""
        value = self.fields.get(name)
        if not isinstance(value, bytes):
            raise self.error(f"has no {name} of the right type")
        return value

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise self.error(f"has no {name} of the right type")
        return value

    def number(self, name: str) -> int:
        """Return an integer that is not negative."""
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.error(f"has no {name} of the right type")
        return value

    def names(self, name: str) -> tuple[InstitutionId, ...]:
        """Return a list of distinct names."""
        value = self.fields.get(name)
        if not isinstance(value, list | tuple):
            raise self.error(f"has no {name} of the right type")
        found = tuple(InstitutionId(item) for item in value if isinstance(item, str))
        self.require(len(set(found)) == len(value), f"has a name in {name} that is none, or one twice")
        return found


@dataclass(frozen=True, kw_only=True)
class RunLog:
    """A whole log whose chain holds."""

    path: str
    lines: tuple[Line, ...]
    tree: MerkleTree
    """RFC 6962 tree over all entries."""
    head: bytes

    def __len__(self) -> int:
        return len(self.lines)

    def checkpoint(self, size: int, *, origin: str) -> LogCheckpoint:
        """Return the head of the first ``size`` entries, computed from this log."""
        return LogCheckpoint(origin=origin, size=size, root=self.tree.root(size))


def read_log(path: Path) -> RunLog:
    """Read the log in the database at ``path``, a coordinator's or a node's; it may have no entries.

    Raises:
        AuditError: names the first entry that is missing, changed or too many, or that does not decode.
        StateDirInUseError: its owner is running.
        NotWritableError, DiskFullError: the operating system does not let it be read.
    """
    with open_database(path) as database:
        tree, lines = MerkleTree(), []
        for line, leaf in read_lines(database, place=str(path)):
            lines.append(line)
            tree.append(leaf)
    return RunLog(path=str(path), lines=tuple(lines), tree=tree, head=lines[-1].digest if lines else EMPTY_HEAD)


@contextlib.contextmanager
def open_database(path: Path) -> Iterator[Database]:
    """Return a context with the database at ``path``; what is no intact database is no evidence (``AuditError``)."""
    try:
        if path.stat().st_size == 0:
            # Opening an empty file would make a new, valid log of it.
            raise AuditError(path=str(path), index=0, problem="is missing: the log is empty")
        database = Database.open(path)
    except FileNotFoundError as error:
        raise AuditError(path=str(path), index=0, problem="is missing: there is no log") from error
    except _DAMAGED as error:
        raise AuditError(path=str(path), index=0, problem="cannot be read: the database is damaged") from error
    with database:
        yield database


def read_lines(database: Database, *, place: str) -> Iterator[tuple[Line, bytes]]:
    """Yield the entries of a log in order, each with its leaf in the tree; the chain holds up to what was yielded.

    Raises:
        AuditError: names the first entry that is missing, changed or too many, or that does not decode.
    """
    journal = Journal(database, JOURNAL)
    entries, previous, index = journal.entries(), EMPTY_HEAD, 0
    while (entry := _next(entries, index, place)) is not None:
        previous = _require_chained(entry, previous, place)
        leaf = leaf_of(entry)
        try:
            kind, fields = decode_leaf(leaf)
        except FedcreditError as error:
            raise AuditError(path=place, index=index, problem="does not decode") from error
        yield Line(place, index, kind, fields, entry.digest), leaf
        index += 1
    _require_end(journal, index, place)


def _next(entries: Iterator[Entry], index: int, place: str) -> Entry | None:
    try:
        return next(entries, None)
    except _DAMAGED as error:
        raise AuditError(path=place, index=index, problem="is missing, or cannot be read") from error


def _require_chained(entry: Entry, previous: bytes, place: str) -> bytes:
    """Return the digest of ``entry``, which continues the chain."""
    try:
        expected = chain_digest(journal=JOURNAL, previous=previous, index=entry.index, kind=entry.kind, body=entry.body)
    except ValueError:  # a kind that is no text of ours has no canonical encoding
        expected = None
    if entry.digest != expected:
        raise AuditError(path=place, index=entry.index, problem="does not match its digest")
    return entry.digest


def _require_end(journal: Journal, length: int, place: str) -> None:
    """Return if nothing lies behind the end, and the end is the one that was recorded."""
    try:
        journal.verify()
    except _DAMAGED as error:
        raise AuditError(
            path=place, index=max(length - 1, 0), problem="is not the recorded end of the chain"
        ) from error


def is_digest(value: object) -> bool:
    """Return whether ``value`` is a SHA-256 digest by its form."""
    return isinstance(value, bytes) and len(value) == DIGEST_LENGTH
