"""What travels inside and beside the messages: padding, rosters, lanes, weights, boxes."""

from __future__ import annotations

from fuzz.harness import NotTheSameError, chosen, one_of
from fuzz.keys import keys_of, roster_of

from fedcredit.crypto.boxes import open_box, seal_box
from fedcredit.crypto.epoch_keys import EpochKeys, seal_secret
from fedcredit.encoding import decode, encode
from fedcredit.messages import from_lanes, pad, unpad, weights_from_bytes
from fedcredit.parties import Roster

_EPOCH_KEYS = EpochKeys(bytes([3]) * 96)
_INFO = b"pair"


def _padded(data: bytes) -> None:
    content, bulk = unpad(data, what="answer")
    if pad(content, bulk=bulk, length=len(data)) != data:
        raise NotTheSameError


def _roster(data: bytes) -> None:
    if encode(Roster.from_value(decode(data, what="roster", limit=1 << 16)).to_value()) != data:
        raise NotTheSameError


def _numbers(data: bytes) -> None:
    from_lanes(data, what="answer", count=len(data) // 4)
    weights_from_bytes(data, count=len(data) // 8)


def _box(data: bytes) -> None:
    open_box(data, key=bytes(32), context=b"box", sender="bank-a")


def _secret(data: bytes) -> None:
    _EPOCH_KEYS.open(data, info=_INFO, sender="bank-a")


def _epoch_key(data: bytes) -> None:
    seal_secret(bytes(32), to=data, info=_INFO)


TARGET = one_of(_padded, _roster, _numbers, _box, _secret, _epoch_key)


def seeds() -> dict[str, bytes]:
    """Return one of each."""
    return {
        "padded": chosen(0, pad(b"answer", bulk=b"lanes", length=64)),
        "roster": chosen(1, roster_of("bank-a", "bank-b")),
        "numbers": chosen(2, bytes(16)),
        "box": chosen(3, seal_box(b"share", key=bytes(32), context=b"box", entropy=bytes)),
        "secret": chosen(4, seal_secret(bytes(32), to=_EPOCH_KEYS.public, info=_INFO)),
        "epoch-key": chosen(5, keys_of(2).public.kem_classic + keys_of(2).public.kem_post_quantum),
    }
