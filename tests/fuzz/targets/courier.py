"""What the server courier and the coordinator daemon say to each other."""

from __future__ import annotations

from functools import partial

from fuzz.harness import chosen, one_of, same_bytes

from fedcredit.daemon.courier_messages import CourierAnswer, CourierReply, CourierRequest, OutboxItem

_LIMIT = 1 << 16
TARGET = one_of(
    same_bytes(partial(CourierRequest.from_bytes, limit=_LIMIT)),
    same_bytes(partial(CourierAnswer.from_bytes, limit=_LIMIT)),
)


def seeds() -> dict[str, bytes]:
    """Return one poll and one answer."""
    replies = (CourierReply(id="a", payload=b"sealed", error=None), CourierReply(id="b", payload=None, error="timeout"))
    item = OutboxItem(id="a", node=2**63, ttl_s=60, payload=b"sealed")
    return {
        "poll": chosen(0, CourierRequest(session="s", replies=replies).to_bytes()),
        "answer": chosen(1, CourierAnswer(done=False, outbox=(item,)).to_bytes()),
    }
