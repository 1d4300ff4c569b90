"""Bytes as one Flower record, and back.

One array of type uint8 per message (FLOWER.md section 1): arrays are cut, addressed by content and moved faster than
config records, and the foreign ``stype`` makes any strategy that would average an envelope fail loudly.
"""

from __future__ import annotations

from typing import Final

from flwr.app import Array, ArrayRecord, RecordDict

from fedcredit.errors import MalformedMessageError

MESSAGE_TYPE: Final = "query.envelope"
"""One message type for everything, so that the relay cannot tell stages apart by it."""

STYPE: Final = "fedcredit.envelope.v1"
_RECORD: Final = "envelope"
_ARRAY: Final = "b"
_DTYPE: Final = "uint8"


def wrap(data: bytes) -> RecordDict:
    """Return ``data`` as the only array of the only record."""
    array = Array(dtype=_DTYPE, shape=(len(data),), stype=STYPE, data=data)
    return RecordDict({_RECORD: ArrayRecord({_ARRAY: array})})


def unwrap(content: RecordDict) -> bytes:
    """Return the bytes of exactly one envelope.

    Raises:
        MalformedMessageError: other records or arrays, another type, or a shape that is not the number of bytes.
    """
    if set(content) != {_RECORD} or not isinstance(content[_RECORD], ArrayRecord):
        raise MalformedMessageError(what="envelope", problem="it does not hold exactly one array record")
    record = content[_RECORD]
    if set(record) != {_ARRAY}:
        raise MalformedMessageError(what="envelope", problem="it does not hold exactly one array")
    array = record[_ARRAY]
    if array.dtype != _DTYPE or array.stype != STYPE:
        raise MalformedMessageError(what="envelope", problem="its array has another type")
    if tuple(array.shape) != (len(array.data),):
        raise MalformedMessageError(what="envelope", problem="its shape is not its length")
    return bytes(array.data)
