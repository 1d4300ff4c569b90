"""Canonical CBOR, under everything else."""

from __future__ import annotations

from fedcredit.encoding import Encodable, decode, encode

_LIMIT = 1 << 22


def TARGET(data: bytes) -> None:  # noqa: N802
    """Decode one value; that it encodes to the same bytes is checked by ``decode`` itself."""
    decode(data, what="value", limit=_LIMIT)


def seeds() -> dict[str, bytes]:
    """Return one value of every kind, and the deepest nesting."""
    deep: Encodable = []
    for _ in range(11):
        deep = [deep]
    values: dict[str, Encodable] = {
        "map": {"a": 1, "bb": -1, "list": [None, True, False], "text": "grün", "bytes": bytes(40)},
        "numbers": [0, 23, 24, 255, 256, 65536, 2**32, 2**64 - 1, 2**64, 2**80, -(2**64), -(2**70)],
        "deep": deep,
        "long": ["x" * 300, bytes(300), [0] * 300],
    }
    return {name: encode(value) for name, value in values.items()}


def hostile() -> dict[str, bytes]:
    """Return as many items as fit into a few bytes each: 20 lists of 99,990 empty ones."""
    inner = b"\x9a" + (99_990).to_bytes(4, "big") + b"\x80" * 99_990
    return {"two-million-items": b"\x94" + inner * 20}
