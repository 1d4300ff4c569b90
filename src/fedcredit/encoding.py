"""Canonical bytes for everything that is signed, digested or stored (deterministic CBOR, RFC 8949 section 4.2).

Allowed are integers, byte strings, text, booleans, ``None``, lists and maps with text keys. There are no floats: a real
number travels as a scaled integer or as raw lanes inside a byte string, so that one value has one encoding.
"""

from __future__ import annotations

import hashlib
import io
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import cbor2

from fedcredit.errors import MalformedMessageError, MessageTooLargeError

Encodable: TypeAlias = "int | bytes | str | bool | Sequence[Encodable] | Mapping[str, Encodable] | None"

MAX_DEPTH: Final = 12
MAX_ITEMS: Final = 100_000
DIGEST_LENGTH: Final = 32


def encode(value: Encodable) -> bytes:
    """Return the one canonical encoding of ``value``; a float or any other type raises ``TypeError``."""
    _check(value, depth=0)
    return bytes(cbor2.dumps(value, canonical=True))


def decode(data: bytes, *, what: str, limit: int) -> Encodable:
    """Decode exactly one canonical value of at most ``limit`` bytes.

    Raises:
        MessageTooLargeError: ``data`` is longer than ``limit``; nothing was read.
        MalformedMessageError: trailing bytes, an encoding that is not canonical, or a type that is not allowed.
    """
    if len(data) > limit:
        raise MessageTooLargeError(size=len(data), limit=limit)
    stream = io.BytesIO(data)
    try:
        value: Encodable = cbor2.CBORDecoder(stream).decode()
    except (
        cbor2.CBORDecodeError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise MalformedMessageError(what=what, problem="it is not CBOR") from error
    left = len(data) - stream.tell()
    if left:
        raise MalformedMessageError(what=what, problem=f"{left} bytes follow its end")
    try:
        again = encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedMessageError(what=what, problem="it holds a type that is not allowed") from error
    if again != data:
        raise MalformedMessageError(what=what, problem="its encoding is not canonical")
    return value


def digest(value: Encodable) -> bytes:
    """Return SHA-256 over the canonical encoding of ``value``."""
    return hashlib.sha256(encode(value)).digest()


def _check(value: object, *, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if value is None or isinstance(value, bool | int | bytes):
        return
    if isinstance(value, str):
        if unicodedata.normalize("NFC", value) != value:
            raise ValueError("text is not in normal form C")
        return
    if isinstance(value, Mapping):
        _check_items(value.values(), depth=depth)
        if not all(isinstance(key, str) for key in value):
            raise TypeError("map keys must be text")
        return
    if isinstance(value, list | tuple):
        _check_items(value, depth=depth)
        return
    raise TypeError(f"{type(value).__name__} has no canonical encoding")


def _check_items(items: object, *, depth: int) -> None:
    collected = list(items)  # type: ignore[call-overload]
    if len(collected) > MAX_ITEMS:
        raise ValueError(f"more than {MAX_ITEMS} items")
    for item in collected:
        _check(item, depth=depth + 1)
