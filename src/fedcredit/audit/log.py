"""Typed events over a hash-chained journal: each side's own record of a run, and the Merkle tree over it.

An event holds digests, names, codes and counts of messages; never a vector, a row or an error text. The chain shows a
change or a gap inside the file; that the file was not replaced as a whole is for the heads that other parties hold:
they cosign the tree's root (``witness``), and follow it from round to round by proofs of consistency.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fedcredit.audit.merkle import MerkleTree
from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import AuditError, FedcreditError, MalformedMessageError, StoreCorruptError
from fedcredit.store.files import write_atomic
from fedcredit.store.journal import Entry, Journal

_EVENT_LIMIT = 16 * 1024 * 1024


class EventKind(enum.StrEnum):
    """Everything that can be recorded."""

    RUN_OPENED = "run-opened"
    ROUND_OPENED = "round-opened"
    ANSWER_ACCEPTED = "answer-accepted"
    ANSWER_REFUSED = "answer-refused"
    INSTITUTION_REFUSED = "institution-refused"
    ROUND_ABORTED = "round-aborted"
    PREPARED = "prepared"
    ROUND_RELEASED = "round-released"
    EVALUATED = "evaluated"
    RUN_FINISHED = "run-finished"
    MODEL_REJECTED = "model-rejected"
    REQUEST_ANSWERED = "request-answered"
    REQUEST_REFUSED = "request-refused"
    EPOCH_READY = "epoch-ready"
    EPOCH_FAILED = "epoch-failed"
    COHORT_SELECTED = "cohort-selected"
    SUM_OPENED = "sum-opened"
    MEMBER_BLAMED = "member-blamed"
    CLOSED = "closed"


_KINDS: Final = frozenset(EventKind)


@dataclass(frozen=True)
class Event:
    """One entry, decoded."""

    index: int
    kind: EventKind
    fields: Mapping[str, Encodable]
    digest: bytes


class AuditLog:
    """Appends events durably and reads them back."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._tree = MerkleTree()

    def record(self, kind: EventKind, **fields: Encodable) -> None:
        """Append one event; it is on disk when this returns."""
        self._journal.append(str(kind), encode(fields))

    def record_all(self, events: Iterable[tuple[EventKind, Mapping[str, Encodable]]]) -> None:
        """Append several events that become durable together."""
        with self.together():
            for kind, fields in events:
                self.record(kind, **fields)

    def together(self) -> AbstractContextManager[None]:
        """Return a context in which events and other writes to the same database become durable together."""
        return self._journal.together()

    def events(self) -> Iterator[Event]:
        """Yield all events in order; an entry that does not decode raises ``AuditError``."""
        for entry in self._journal.entries():
            try:
                fields = decode(entry.body, what="audit event", limit=_EVENT_LIMIT)
                kind = EventKind(entry.kind)
            except (FedcreditError, ValueError) as error:
                raise AuditError(path="audit log", index=entry.index, problem="does not decode") from error
            if not isinstance(fields, Mapping):
                raise AuditError(path="audit log", index=entry.index, problem="has fields of the wrong type")
            yield Event(index=entry.index, kind=kind, fields=fields, digest=entry.digest)

    def tree(self) -> MerkleTree:
        """Return the RFC 6962 tree over the entries so far (``leaf_of``); call it outside ``together``."""
        for entry in self._journal.entries(self._tree.size):
            self._tree.append(leaf_of(entry))
        return self._tree

    def leaf(self, index: int) -> bytes:
        """Return the tree's leaf of one entry."""
        return leaf_of(next(self._journal.entries(index)))

    @property
    def head(self) -> bytes:
        """Return the digest that stands for the whole log."""
        return self._journal.head

    def __len__(self) -> int:
        return len(self._journal)

    def verify(self) -> None:
        """Check the whole chain.

        Raises:
            AuditError: an entry was changed, removed or does not decode.
        """
        try:
            self._journal.verify()
        except StoreCorruptError as error:
            raise AuditError(path="audit log", index=0, problem=error.describe("en")) from error
        for _ in self.events():
            pass

    def export(self, path: Path) -> None:
        """Write the log as JSON lines for people and other programs; the database stays the original."""
        lines = [
            json.dumps(
                {"index": event.index, "event": event.kind, **_jsonable(event.fields), "digest": event.digest.hex()},
                ensure_ascii=False,
            )
            for event in self.events()
        ]
        write_atomic(path, ("\n".join(lines) + "\n").encode() if lines else b"")


def log_origin(*, consortium: str, run: str) -> str:
    """Return the name under which a run's log is signed and cosigned."""
    return f"fedcredit/{consortium}/{run}"


def leaf_of(entry: Entry) -> bytes:
    """Return what the tree hashes of an entry: its kind and its fields, without their place in the file."""
    return encode([entry.kind, entry.body])


def decode_leaf(leaf: bytes) -> tuple[EventKind, Mapping[str, Encodable]]:
    """Return the kind and the fields of a leaf.

    Raises:
        MalformedMessageError: it is not one that ``leaf_of`` made of a known event.
    """
    match decode(leaf, what="log entry", limit=_EVENT_LIMIT):
        case [str(kind), bytes(body)] if kind in _KINDS:
            fields = decode(body, what="log entry", limit=_EVENT_LIMIT)
            if isinstance(fields, Mapping):
                return EventKind(kind), fields
    raise MalformedMessageError(what="log entry", problem="it is no event")


def _jsonable(value: Mapping[str, Encodable]) -> dict[str, object]:
    return {key: item.hex() if isinstance(item, bytes) else item for key, item in value.items()}
