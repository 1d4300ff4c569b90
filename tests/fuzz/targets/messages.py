"""Every wire message of the package, after the seal was opened; a new one is found by itself (``samples``)."""

from __future__ import annotations

from fuzz.harness import same_bytes
from fuzz.samples import message_kinds, sample

from fedcredit.messages import Message, decode_answer


def _decode(data: bytes) -> Message:
    return decode_answer(data, *message_kinds())


TARGET = same_bytes(_decode)


def seeds() -> dict[str, bytes]:
    """Return one value of every kind."""
    return {kind.TAG: sample(kind).to_bytes() for kind in message_kinds()}
