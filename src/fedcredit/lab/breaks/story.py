"""What one demonstration was: steps in order, lines of the audit logs, checks, and the verdict that follows from them.

Nothing here is a sentence: an act or a check has a name, and the terminal has its words (``cli.break_words``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fedcredit.audit.log import Event
from fedcredit.errors import FedcreditError

COORDINATOR: Final = "coordinator"
RELAY: Final = "relay"
SHOWN: Final = ("round", "attempt", "purpose", "institution", "stage", "code", "reason", "contributors", "missing")
"""Fields of an event that a reader of a story needs; digests stay in the log."""
Observed: TypeAlias = "str | int | float"


@dataclass(frozen=True, kw_only=True)
class Step:
    """Somebody did something."""

    who: str
    """An institution, ``COORDINATOR`` or ``RELAY``."""
    act: str
    """Name of the act."""
    hostile: bool
    """Whether it is part of the attack or the fault, not an answer to it."""
    fields: Mapping[str, Observed]
    error: FedcreditError | None = None
    """With which it refused, in the words of its own log."""


@dataclass(frozen=True, kw_only=True)
class LogLine:
    """One entry of an audit log."""

    log: str
    """Whose log."""
    index: int
    event: str
    fields: Mapping[str, str]

    @classmethod
    def of(cls, log: str, event: Event) -> LogLine:
        """Return what a reader needs of an event."""
        shown = {name: event.fields[name] for name in SHOWN if name in event.fields}
        return cls(log=log, index=event.index, event=str(event.kind), fields={k: _text(v) for k, v in shown.items()})


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that must be so if the defence held, and what was observed."""

    name: str
    held: bool
    observed: Mapping[str, Observed]


@dataclass(frozen=True, kw_only=True)
class Story:
    """A finished demonstration."""

    idea: str
    dataset: str
    model: str
    institutions: tuple[str, ...]
    steps: tuple[Step, ...]
    lines: tuple[LogLine, ...]
    checks: tuple[Check, ...]

    @property
    def held(self) -> bool:
        """Return whether the defence held: something was checked, and all of it was so."""
        return bool(self.checks) and all(check.held for check in self.checks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Return the names of the checks that did not hold."""
        return tuple(check.name for check in self.checks if not check.held)


@dataclass(kw_only=True)
class Account:
    """A story while it happens."""

    steps: list[Step] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)

    def attack(self, who: str, act: str, /, **fields: Observed) -> None:
        """Note a part of the attack or the fault."""
        self.steps.append(Step(who=who, act=act, hostile=True, fields=fields))

    def answer(self, who: str, act: str, /, *, error: FedcreditError | None = None, **fields: Observed) -> None:
        """Note what came of it."""
        self.steps.append(Step(who=who, act=act, hostile=False, fields=fields, error=error))

    def check(self, name: str, held: bool, /, **observed: Observed) -> None:
        """Note whether something that must be so was so."""
        self.checks.append(Check(name=name, held=held, observed=observed))


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
