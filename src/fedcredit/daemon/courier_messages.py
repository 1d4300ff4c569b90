"""What the server courier and the coordinator daemon say to each other (canonical CBOR over the local service).

The courier polls: it hands over the replies that came since its last poll and gets the requests it has not carried in
this session. A session is one Flower run. Payloads are sealed before they come here; ids, node ids and times are not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import MalformedMessageError

VERSION: Final = 1
REPORT_BYTES: Final = 1 << 20
"""A message holds no further payload once its payloads reach this size, so that it holds one large one at most."""
MESSAGE_ROOM: Final = 2 * REPORT_BYTES
"""Bytes that a message may need beside its largest payload: the smaller ones and the fields, with a margin."""

_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
_MAX_NODE: Final = 2**64 - 1
_REQUEST: Final = "courier request"
_ANSWER: Final = "courier answer"


@dataclass(frozen=True, kw_only=True)
class CourierReply:
    """What came back for one outbox item: the payload, or a word of ours (never a text of Flower's) for the failure."""

    id: str
    payload: bytes | None
    error: str | None


@dataclass(frozen=True, kw_only=True)
class OutboxItem:
    """One request to carry to a Flower node within ``ttl_s`` seconds."""

    id: str
    node: int
    ttl_s: int
    payload: bytes


@dataclass(frozen=True, kw_only=True)
class CourierRequest:
    """One poll of the courier."""

    session: str
    replies: tuple[CourierReply, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        replies: list[Encodable] = [
            {"id": reply.id, "payload": reply.payload, "error": reply.error} for reply in self.replies
        ]
        return encode({"version": VERSION, "session": self.session, "replies": replies})

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int) -> CourierRequest:
        """Decode exactly one poll; a missing, further or wrong field raises ``MalformedMessageError``."""
        fields = _fields(decode(data, what=_REQUEST, limit=limit), {"version", "session", "replies"}, what=_REQUEST)
        _check_version(fields["version"], what=_REQUEST)
        return cls(
            session=_word(fields["session"], what=_REQUEST),
            replies=tuple(_reply(item) for item in _items(fields["replies"], what=_REQUEST)),
        )


@dataclass(frozen=True, kw_only=True)
class CourierAnswer:
    """The daemon's answer to a poll; ``done`` ends the Flower run."""

    done: bool
    outbox: tuple[OutboxItem, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        outbox: list[Encodable] = [
            {"id": item.id, "node": item.node, "ttl_s": item.ttl_s, "payload": item.payload} for item in self.outbox
        ]
        return encode({"version": VERSION, "done": self.done, "outbox": outbox})

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int) -> CourierAnswer:
        """Decode exactly one answer; a missing, further or wrong field raises ``MalformedMessageError``."""
        fields = _fields(decode(data, what=_ANSWER, limit=limit), {"version", "done", "outbox"}, what=_ANSWER)
        _check_version(fields["version"], what=_ANSWER)
        done = fields["done"]
        if not isinstance(done, bool):
            raise MalformedMessageError(what=_ANSWER, problem="done is not a boolean")
        return cls(done=done, outbox=tuple(_outbox_item(item) for item in _items(fields["outbox"], what=_ANSWER)))


def _reply(value: Encodable) -> CourierReply:
    fields = _fields(value, {"id", "payload", "error"}, what=_REQUEST)
    payload, error = fields["payload"], fields["error"]
    identifier = _word(fields["id"], what=_REQUEST)
    if isinstance(payload, bytes) and error is None:
        return CourierReply(id=identifier, payload=payload, error=None)
    if payload is None:
        return CourierReply(id=identifier, payload=None, error=_word(error, what=_REQUEST))
    raise MalformedMessageError(what=_REQUEST, problem="a reply must hold either bytes or an error")


def _outbox_item(value: Encodable) -> OutboxItem:
    fields = _fields(value, {"id", "node", "ttl_s", "payload"}, what=_ANSWER)
    payload = fields["payload"]
    if not isinstance(payload, bytes):
        raise MalformedMessageError(what=_ANSWER, problem="a payload is not bytes")
    return OutboxItem(
        id=_word(fields["id"], what=_ANSWER),
        node=_positive(fields["node"], what=_ANSWER),
        ttl_s=_positive(fields["ttl_s"], what=_ANSWER),
        payload=payload,
    )


def _fields(value: Encodable, names: set[str], *, what: str) -> Mapping[str, Encodable]:
    if not isinstance(value, Mapping) or set(value) != names:
        raise MalformedMessageError(what=what, problem="its fields are not the expected ones")
    return value


def _items(value: Encodable, *, what: str) -> Sequence[Encodable]:
    if not isinstance(value, list):
        raise MalformedMessageError(what=what, problem="a list is missing")
    return value


def _check_version(value: Encodable, *, what: str) -> None:
    if isinstance(value, bool) or value != VERSION:
        raise MalformedMessageError(what=what, problem=f"its version is not {VERSION}")


def _word(value: Encodable, *, what: str) -> str:
    if not isinstance(value, str) or not _WORD.fullmatch(value):
        raise MalformedMessageError(what=what, problem="a name in it is not allowed")
    return value


def _positive(value: Encodable, *, what: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_NODE:
        raise MalformedMessageError(what=what, problem="a number in it is out of range")
    return value
