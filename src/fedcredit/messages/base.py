"""The base of everything that crosses the wire: frozen values with one canonical encoding, and the checks of fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from typing import Any, ClassVar, Final, Self, cast

from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import MalformedMessageError

WIRE_VERSION: Final = 4
MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024
LARGEST_COHORT: Final = 100_000
_KEPT_BYTES: Final = 256 * 1024


class Message:
    """Base of the wire values: a tag, a version and the dataclass fields, nothing else."""

    TAG: ClassVar[str]

    def to_bytes(self) -> bytes:
        """Return the canonical encoding; a message never changes, so a small one is encoded once."""
        known: bytes | None = self.__dict__.get("_encoded")
        if known is None:
            known = self._encode()
            self._keep(known)
        return known

    def _keep(self, encoded: bytes) -> None:
        if len(encoded) <= _KEPT_BYTES:
            self.__dict__["_encoded"] = encoded

    def _encode(self) -> bytes:
        head: dict[str, Encodable] = {"type": self.TAG, "version": WIRE_VERSION}
        body: dict[str, Encodable] = {}
        for name in _names_of(cast(Any, type(self))):
            value = head[name] if name in head else getattr(self, name)
            body[name] = list(value) if isinstance(value, tuple) else value
        return encode(body)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Decode exactly one message of this type; anything else raises ``MalformedMessageError``."""
        message = cls._from_value(decode(data, what=cls.TAG, limit=MAX_MESSAGE_BYTES))
        message._keep(bytes(data))  # it was canonical, so it is what encoding would give
        return message

    @classmethod
    def _from_value(cls, value: Encodable) -> Self:
        if not isinstance(value, dict):
            raise MalformedMessageError(what=cls.TAG, problem="it is not a map")
        if value.get("type") != cls.TAG:
            raise MalformedMessageError(what=cls.TAG, problem="it is of another type")
        # True == 1 in Python, but it is another encoding.
        if value.get("version") is True or value.get("version") != WIRE_VERSION:
            raise MalformedMessageError(what=cls.TAG, problem=f"its version is not {WIRE_VERSION}")
        checks = _checks_of(cast(Any, cls))
        if set(value) != set(checks) | {"type", "version"}:
            raise MalformedMessageError(what=cls.TAG, problem="its fields are not the expected ones")
        arguments: dict[str, Any] = {}
        for name, check in checks.items():
            item = value[name]
            if not check(item):
                raise MalformedMessageError(what=cls.TAG, problem=f"the field {name} has a wrong type or size")
            arguments[name] = tuple(item) if isinstance(item, list) else item
        return cls(**arguments)

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        raise NotImplementedError


@cache
def _names_of(kind: type[Message]) -> tuple[str, ...]:
    """Return the keys of an encoded message in their canonical order, so that nobody has to sort them again."""
    names = ["type", "version", *(field.name for field in fields(cast(Any, kind)))]
    return tuple(sorted(names, key=lambda name: (len(name), name)))


@cache
def _checks_of(kind: type[Message]) -> dict[str, Callable[[Any], bool]]:
    return kind.checks()


def text_field(limit: int) -> Callable[[Any], bool]:
    """Return the check of a text of 1 to ``limit`` characters."""
    return lambda value: isinstance(value, str) and 0 < len(value) <= limit


def count_field(limit: int) -> Callable[[Any], bool]:
    """Return the check of an integer from 0 to ``limit``."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= limit


def counts_field(limit: int, *, each: int) -> Callable[[Any], bool]:
    """Return the check of a list of at most ``limit`` integers from 0 to ``each``."""
    one = count_field(each)
    return lambda value: isinstance(value, list) and len(value) <= limit and all(map(one, value))


def octets_field(limit: int, *, exactly: int | None = None) -> Callable[[Any], bool]:
    """Return the check of a byte string of at most ``limit`` bytes, or of ``exactly`` so many."""
    return lambda value: isinstance(value, bytes) and len(value) <= limit and exactly in (None, len(value))


def digests_field(limit: int) -> Callable[[Any], bool]:
    """Return the check of a list of at most ``limit`` SHA-256 digests."""
    return lambda value: (
        isinstance(value, list)
        and len(value) <= limit
        and all(isinstance(item, bytes) and len(item) == 32 for item in value)
    )


def names_field(limit: int) -> Callable[[Any], bool]:
    """Return the check of a list of at most ``limit`` distinct names."""
    return lambda value: (
        isinstance(value, list)
        and len(value) <= limit
        and all(isinstance(item, str) and 0 < len(item) <= 63 for item in value)
        and len({*value}) == len(value)
    )


def octet_lists_field(limit: int, *, each: int) -> Callable[[Any], bool]:
    """Return the check of a list of at most ``limit`` byte strings of at most ``each`` bytes."""
    return lambda value: (
        isinstance(value, list)
        and len(value) <= limit
        and all(isinstance(item, bytes) and len(item) <= each for item in value)
    )


def digest_field() -> Callable[[Any], bool]:
    """Return the check of one SHA-256 digest."""
    return octets_field(32, exactly=32)


def large_count_field() -> Callable[[Any], bool]:
    """Return the check of an integer from 0 to 2^53."""
    return count_field(2**53)
