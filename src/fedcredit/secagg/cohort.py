"""Who shares masks and secrets with whom: everybody with everybody, or with the neighbours of a public graph.

Up to ``COMPLETE_UP_TO`` members the graph is complete, which is what the protocol's bounds are stated for
(PROTOCOL.md 4.4). Above, each member has ``DEGREE`` neighbours on a ring in a public random order (Bell et al. 2020,
"Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", section 3): the work of a member no longer grows
with the cohort, and the sum hides nobody whose honest neighbours are all gone.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Final

from fedcredit.config.plan import COMPLETE_UP_TO

DEGREE: Final = 64


@dataclass(frozen=True)
class Cohort:
    """The members of an epoch in the order of their names, and the graph between them."""

    names: tuple[str, ...]
    seed: bytes
    """Public; nobody can foresee it, because every member's fresh key enters it."""
    threshold: int
    """Members who must agree on a selection."""

    @staticmethod
    def of(names: Sequence[str], *, seed: bytes, threshold: int) -> Cohort:
        """Return the cohort of ``names``; equal arguments give one object, so its graph is drawn once."""
        return _cohort(tuple(sorted(names)), seed, threshold)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def places(self) -> dict[str, int]:
        """Return the place of every name."""
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Return the places of every member's neighbours, in order; the relation is symmetric."""
        count = len(self.names)
        if count <= COMPLETE_UP_TO:
            return tuple(tuple(other for other in range(count) if other != place) for place in range(count))
        order = sorted(range(count), key=lambda place: hashlib.sha256(self.seed + place.to_bytes(4, "big")).digest())
        found: list[tuple[int, ...]] = [()] * count
        for position, place in enumerate(order):
            steps = [step for step in range(-(DEGREE // 2), DEGREE // 2 + 1) if step]
            found[place] = tuple(sorted(order[(position + step) % count] for step in steps))
        return tuple(found)

    @cached_property
    def holders(self) -> tuple[tuple[int, ...], ...]:
        """Return who holds shares of every member's secrets: its neighbours and itself, in order."""
        return tuple(tuple(sorted((*near, place))) for place, near in enumerate(self.neighbours))

    def position(self, other: int, *, of: int) -> int:
        """Return where the neighbour at the place ``other`` stands among the neighbours of the place ``of``."""
        near = self.neighbours[of]
        position = bisect_left(near, other)
        if position == len(near) or near[position] != other:
            raise ValueError("the two are no neighbours")
        return position

    @property
    def share_threshold(self) -> int:
        """Return how many shares open a secret: the threshold, or two thirds of a neighbourhood and one."""
        if len(self.names) <= COMPLETE_UP_TO:
            return self.threshold
        return 2 * (DEGREE + 1) // 3 + 1


@lru_cache(maxsize=8)
def _cohort(names: tuple[str, ...], seed: bytes, threshold: int) -> Cohort:
    return Cohort(names, seed, threshold)
