"""Canonical bytes for everything that is signed, digested or stored (deterministic CBOR, RFC 8949 section 4.2).

Allowed are integers, byte strings, text, booleans, ``None``, lists and maps with text keys. There are no floats: a real
number travels as a scaled integer or as raw lanes inside a byte string, so that one value has one encoding.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, cast

import cbor2

from fedcredit.errors import MalformedMessageError, MessageTooLargeError

Encodable: TypeAlias = "int | bytes | str | bool | Sequence[Encodable] | Mapping[str, Encodable] | None"
Buffer: TypeAlias = bytes | memoryview
"""Bytes that need not be copied; a view is a read-only vector of single bytes."""

MAX_DEPTH: Final = 12
MAX_ITEMS: Final = 100_000
"""Most items of one list or map."""
MAX_TOTAL: Final = 400_000
"""Most items of one value, counted before any is built: an item of one byte costs a hundred bytes of memory."""
DIGEST_LENGTH: Final = 32
_PLAIN: Final = frozenset({int, bytes, bool, type(None)})
_TEXT: Final = frozenset({str})
_LISTS: Final = frozenset({list, tuple})
_OCTETS: Final = 2
_LIST: Final = 4
_MAP: Final = 5
_STRINGS: Final = (_OCTETS, 3)
_INDEFINITE: Final = 31


def encode(value: Encodable) -> bytes:
    """Return the one canonical encoding of ``value``; a float or any other type raises ``TypeError``."""
    in_order = _check(value, depth=0)
    # The library sorts the keys of every map to put them in order. Most of them are: what was decoded always is.
    return bytes(cbor2.dumps(value, canonical=not in_order))


def encode_octets(lists: Mapping[str, Sequence[Buffer]]) -> list[Buffer]:
    """Return the parts that make up ``encode`` of a map of lists of byte strings; none of the strings is copied.

    An encoded list is a head and the encodings of its items (RFC 8949 section 3.1), so whoever encodes a list with such
    a map in it joins ``list_head`` and those.
    """
    parts: list[Buffer] = [_head(_MAP, len(lists))]
    for name in sorted(sorted(lists), key=lambda key: len(key.encode())):
        parts += [encode(name), _head(_LIST, len(lists[name]))]
        for octets in lists[name]:
            parts += [_head(_OCTETS, len(octets)), octets]
    return parts


def list_head(count: int) -> bytes:
    """Return what comes before the encodings of the ``count`` items of a list."""
    return _head(_LIST, count)


def _head(major: int, argument: int) -> bytes:
    # The head of a number, which has major type 0, with another major type in its upper three bits.
    first, *rest = encode(argument)
    return bytes([first | major << 5, *rest])


def decode(data: bytes, *, what: str, limit: int) -> Encodable:
    """Decode exactly one canonical value of at most ``limit`` bytes.

    Raises:
        MessageTooLargeError: ``data`` is longer than ``limit``; nothing was read.
        MalformedMessageError: trailing bytes, an encoding that is not canonical, or a type that is not allowed.
    """
    if len(data) > limit:
        raise MessageTooLargeError(size=len(data), limit=limit)
    _require_few_items(data, what=what)
    try:
        value: Encodable = cbor2.loads(data)
    except (
        cbor2.CBORDecodeError,
        ValueError,
        TypeError,
        OverflowError,
        RecursionError,
        MemoryError,
    ) as error:
        raise MalformedMessageError(what=what, problem="it is not CBOR") from error
    try:
        again = encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise MalformedMessageError(what=what, problem="it holds a type that is not allowed") from error
    if again != data:
        # No encoding is the beginning of another, so this is the value that was read, and more.
        longer = data.startswith(again)
        problem = f"{len(data) - len(again)} bytes follow its end" if longer else "its encoding is not canonical"
        raise MalformedMessageError(what=what, problem=problem)
    return value


def digest(value: Encodable) -> bytes:
    """Return SHA-256 over the canonical encoding of ``value``."""
    return hashlib.sha256(encode(value)).digest()


def _require_few_items(data: bytes, *, what: str) -> None:
    """Count the heads of ``data`` without building anything; what is not CBOR is left to the decoder."""
    if len(data) <= MAX_TOTAL:
        return  # an item takes a byte at least
    place = items = 0
    while place < len(data):
        major, short = data[place] >> 5, data[place] & 31
        width = {24: 1, 25: 2, 26: 4, 27: 8}.get(short, 0)
        argument = int.from_bytes(data[place + 1 : place + 1 + width], "big") if width else short
        place += 1 + width
        if major in _STRINGS:
            place += argument if short != _INDEFINITE else 0
        items += 1
        if items > MAX_TOTAL:
            raise MalformedMessageError(what=what, problem=f"it has more than {MAX_TOTAL} items")


def _check(value: object, *, depth: int) -> bool:
    """Refuse what has no canonical encoding, and return whether the keys of all maps are certainly in order."""
    # In the order of how often and how fast: asking an abstract class such as Mapping takes ten times as long.
    kind = type(value)
    if kind in _PLAIN:
        return True
    if kind is dict:
        mapping = cast("dict[object, object]", value)
        in_order = _check_items(mapping.values(), depth=depth)
        if _TEXT.issuperset(map(type, mapping)):
            return _in_order(cast("dict[str, object]", mapping)) and in_order
        _require_text_keys(mapping)
        return False
    if kind in _LISTS:
        return _check_items(cast("list[object]", value), depth=depth)
    return _check_unusual(value, depth=depth)


def _check_unusual(value: object, *, depth: int) -> bool:
    """Do as ``_check`` for text and for what is derived from a type that has an encoding."""
    if isinstance(value, str):
        _require_normal(value)
    elif isinstance(value, list | tuple):
        return _check_items(value, depth=depth)
    elif isinstance(value, Mapping):
        _require_text_keys(value)
        _check_items(value.values(), depth=depth)
        return False
    elif not isinstance(value, bool | int | bytes):
        raise TypeError(f"{type(value).__name__} has no canonical encoding")
    return True


def _require_text_keys(keys: Iterable[object]) -> None:
    if not all(isinstance(key, str) for key in keys):
        raise TypeError("map keys must be text")


def _in_order(keys: Iterable[str]) -> bool:
    """Return whether ``keys`` are in the order of RFC 8949 section 4.2.1; of ASCII keys, shorter ones come first."""
    found = list(keys)
    return found == sorted(sorted(found), key=len) and "".join(found).isascii()


def _require_normal(text: str) -> None:
    if not text.isascii() and unicodedata.normalize("NFC", text) != text:
        raise ValueError("text is not in normal form C")


def _check_items(items: Collection[object], *, depth: int) -> bool:
    if len(items) > MAX_ITEMS:
        raise ValueError(f"more than {MAX_ITEMS} items")
    if items and depth >= MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    in_order = True
    if _PLAIN.issuperset(map(type, items)):
        return in_order
    for item in items:
        # Most items are plain, or plain text, and the call would cost more than the question.
        if type(item) not in _PLAIN and not (type(item) is str and item.isascii()):
            in_order &= _check(item, depth=depth + 1)
    return in_order
