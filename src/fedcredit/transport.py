"""The one seam between the two sides of a round: request bytes out, reply bytes back.

Everything above it (``rounds``) and below it (``institution``) is tested without Flower. A transport promises nothing
about order, uniqueness or delivery; the engine and the worker do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from fedcredit.parties import InstitutionId

Clock = Callable[[], float]
"""Seconds since the epoch."""


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """A moment after which an answer no longer counts."""

    at: float
    """Seconds since the epoch."""
    clock: Clock = time.time

    @classmethod
    def after(cls, seconds: float, *, clock: Clock = time.time) -> Deadline:
        """Return the deadline ``seconds`` from now."""
        return cls(at=clock() + seconds, clock=clock)

    def remaining_s(self) -> float:
        """Return the seconds left, never negative."""
        return max(0.0, self.at - self.clock())

    def passed(self) -> bool:
        """Tell whether the deadline is over."""
        return self.clock() >= self.at


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What came back for one request: bytes, or the carrier's own failure code."""

    institution: InstitutionId
    payload: bytes | None
    carrier_error: str | None = None


class Transport(Protocol):
    """Carries opaque bytes to institutions and their answers back."""

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        """Deliver each request and yield answers as they come, until all came or the deadline is over.

        A transport may yield no answer, several, or a late one for an institution; it never raises for one of them.
        """
        ...


class LoopbackTransport:
    """Calls workers in this process, one after the other, in the order of the requests."""

    def __init__(self, handlers: Mapping[InstitutionId, Callable[[bytes], bytes]]) -> None:
        self._handlers = dict(handlers)

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        """Deliver each request by a function call; an unknown institution is answered with a carrier error."""
        for institution, request in requests.items():
            if deadline.passed():
                return
            handler = self._handlers.get(institution)
            if handler is None:
                yield Reply(institution=institution, payload=None, carrier_error="no such institution")
                continue
            yield Reply(institution=institution, payload=handler(request))
