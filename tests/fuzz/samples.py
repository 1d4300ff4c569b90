"""A valid value of any wire message, made from the checks of its fields, so that a new message needs nothing here."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import fedcredit
from fedcredit.messages import Message, Purpose, Stage
from fedcredit.parties import InstitutionType

_PACKAGE: Final = Path(fedcredit.__file__).parent
_LONGEST_OCTETS: Final = 10_000
_CANDIDATES: Final[tuple[Any, ...]] = (
    ("bank-a", "bank-b"),
    (bytes(32), bytes(range(32))),
    (bytes(64), bytes(range(64))),
    (b"one", b"two"),
    (1, 2),
    "credit",
    "FC-4101",
    "abstain",
    *map(str, (*Purpose, *Stage, *InstitutionType)),
    2,
    True,
    b"body",
)
"""Tried in this order; full lists before empty ones."""


@cache
def message_kinds() -> tuple[type[Message], ...]:
    """Return every wire message of the package, by tag: each class that says ``TAG: ClassVar[str] = ...``."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        if re.search(r"^    TAG: ClassVar\[str\] = ", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            importlib.import_module(".".join(path.relative_to(_PACKAGE.parent).with_suffix("").parts))
    ours = {kind.TAG: kind for kind in _below(Message) if kind.__module__.startswith("fedcredit.")}
    return tuple(ours[tag] for tag in sorted(ours))


def sample(kind: type[Message], **fields: Any) -> Any:
    """Return a value of ``kind``; what is not in ``fields`` is the first candidate that the field's check accepts.

    Raises:
        LookupError: no candidate fits a field; add one.
    """
    return kind(
        **{
            name: fields[name] if name in fields else _fitting(kind, name, check)
            for name, check in kind.checks().items()
        }
    )


def _fitting(kind: type[Message], name: str, check: Callable[[Any], bool]) -> Any:
    for value in (*_CANDIDATES, *map(bytes, range(_LONGEST_OCTETS))):
        # A check sees what was decoded, and that is a list.
        if check(list(value) if isinstance(value, tuple) else value):
            return value
    raise LookupError(f"no candidate fits {kind.__name__}.{name}: add one in {__file__}")


def _below(kind: type[Message]) -> Iterator[type[Message]]:
    for child in kind.__subclasses__():
        if "TAG" in child.__dict__:
            yield child
        yield from _below(child)
