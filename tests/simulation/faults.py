"""What can go wrong, where, and when: the 14 kinds of QUALITY.md R1, the points of the protocol, and schedules."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from simulation.draws import Draws


class Kind(enum.StrEnum):
    """The 14 kinds."""

    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DELAY = "delay"
    FLIP = "bit flip"
    TRUNCATE = "truncate"
    PARTITION = "partition"
    ONE_WAY = "one-way partition"
    CRASH = "crash"
    STALE = "crash, then an old disk"
    SLOW = "slow"
    CLOCK = "clock an hour off"
    FULL = "disk full"
    SKEW = "version skew"


STAGES: Final = ("keys", "roots", "upload", "accept", "reveal")
NOTES: Final = ("round-opened", "epoch-ready", "cohort-selected", "sum-opened", "round-released")
"""Writes of the coordinator's log; after "cohort-selected" the selection is chosen, and nobody has heard of it."""

REQUESTS: Final = tuple(f"{stage}/request" for stage in STAGES)
"""A sealed request is on its way to a member."""
HANDLES: Final = tuple(f"{stage}/handle" for stage in STAGES)
"""A member has received a request and has done nothing yet."""
CHARGE: Final = "upload/charge"
"""A member's ledger writes a charge."""
STORES: Final = tuple(f"{stage}/store" for stage in STAGES)
"""A member's one transaction with its new state and its answer."""
ANSWERS: Final = tuple(f"{stage}/answer" for stage in STAGES)
"""A sealed answer is on its way back."""
ASKS: Final = tuple(f"{stage}/ask" for stage in STAGES)
"""The coordinator begins to send the requests of a stage."""
TAKES: Final = tuple(f"{stage}/take" for stage in STAGES)
"""An answer reaches the coordinator."""
WRITES: Final = tuple(f"note/{kind}" for kind in NOTES)
"""The coordinator's transaction with that event."""

MEMBER_POINTS: Final = (*REQUESTS, *HANDLES, CHARGE, *STORES, *ANSWERS)
COORDINATOR_POINTS: Final = (*ASKS, *TAKES, *WRITES)
POINTS: Final = (*MEMBER_POINTS, *COORDINATOR_POINTS)

_WIRE: Final = (Kind.DROP, Kind.DUPLICATE, Kind.REORDER, Kind.DELAY, Kind.FLIP, Kind.TRUNCATE, Kind.SKEW)
_PLACES: Final = {
    **{kind: (*REQUESTS, *ANSWERS) for kind in _WIRE},
    Kind.PARTITION: (*REQUESTS, *ASKS),
    Kind.ONE_WAY: (*REQUESTS, *ANSWERS),
    Kind.CRASH: (*HANDLES, CHARGE, *STORES, *ASKS, *TAKES, *WRITES),
    Kind.STALE: (*HANDLES, *STORES, *ASKS),
    Kind.SLOW: (*HANDLES, *ASKS),
    Kind.CLOCK: (*HANDLES, *ASKS),
    Kind.FULL: (CHARGE, *STORES, *WRITES),
}
SITES: Final = tuple((kind, point) for kind in Kind for point in _PLACES[kind])
"""Every kind at every point where it means something."""
_TWO_SIDED: Final = frozenset({(Kind.CRASH, CHARGE), *((Kind.CRASH, point) for point in (*STORES, *WRITES))})
"""Crashes before the transaction is durable, and after."""
ANYBODY: Final = -1


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    kind: Kind
    point: str
    member: int
    """Whose point, by place; ``ANYBODY`` for whoever comes by, and for the coordinator's points."""
    at: int
    """The point is passed without harm so many times before."""
    times: int
    """Then it happens so many times in a row."""
    amount: int
    """What the kind makes of it: a bit, a length, a sign, a number of disks back, before (even) or after (odd)."""
    lasting_s: int
    """How long a partition, an outage or a wrong clock lasts, or a message is late."""


@dataclass(frozen=True)
class Setting:
    """A federation."""

    members: int
    threshold: int
    quorum: int
    rounds: int
    seed: int


@dataclass(frozen=True)
class Schedule:
    """A federation and what goes wrong in it; equal schedules give equal traces."""

    setting: Setting
    faults: tuple[Fault, ...]


class Strikes:
    """Which faults strike when a point is passed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self._faults = faults
        self._passed: Counter[tuple[str, int]] = Counter()
        self.struck: Counter[tuple[Kind, str]] = Counter()
        self.reached: Counter[str] = Counter()
        self.on = True
        """Off: points are counted and nothing goes wrong any more."""

    def at(self, point: str, member: int = ANYBODY) -> list[Fault]:
        """Return the faults that strike now."""
        self.reached[point] += 1
        passed = {ANYBODY: self._passed[point, ANYBODY], member: self._passed[point, member]}
        for place in passed:
            self._passed[point, place] += 1
        if not self.on:
            return []
        found = [
            fault
            for fault in self._faults
            if fault.point == point
            and fault.member in passed
            and fault.at <= passed[fault.member] < fault.at + fault.times
        ]
        for fault in found:
            self.struck[fault.kind, point] += 1
        return found


def single_faults(members: int) -> Iterator[Fault]:
    """Yield every kind at every point, both sides of a write, both directions, both signs; once early and once late."""
    for number, (kind, point) in enumerate(SITES):
        variants = {Kind.CLOCK: (0, 1), Kind.STALE: (1, 3)}.get(kind, (7,))
        if (kind, point) in _TWO_SIDED:
            variants = (0, 1)
        again = point.split("/")[0] in {"upload", "accept", "reveal"}
        for turn, amount in enumerate(variants):
            yield Fault(
                kind=kind,
                point=point,
                member=ANYBODY if point in COORDINATOR_POINTS else (number + turn) % members,
                # The second round finds stored keys, and an opened selection behind it.
                at=1 if again and number % 2 else 0,
                times=1,
                amount=amount,
                lasting_s=90 if kind is not Kind.REORDER else 5,
            )


def random_schedule(seed: int) -> Schedule:
    """Return a federation of 3 to 8 members and 1 to 8 faults."""
    draws = Draws(seed, "schedule")
    members = draws.one_of((3, 4, 4, 5, 5, 6, 7, 8))
    threshold = draws.between(members // 2 + 1, members)
    quorum = draws.between(threshold, members)
    setting = Setting(members, threshold, quorum, rounds=3, seed=seed)
    return Schedule(setting, tuple(_random_fault(draws, members) for _ in range(draws.between(1, 8))))


def _random_fault(draws: Draws, members: int) -> Fault:
    kind = draws.one_of(tuple(Kind))
    point = draws.one_of(_PLACES[kind])
    crowd = point in COORDINATOR_POINTS or draws.below(4) == 0
    return Fault(
        kind=kind,
        point=point,
        member=ANYBODY if crowd else draws.below(members),
        at=draws.one_of((0, 0, 0, 1, 1, 2, 3)),
        times=draws.one_of((1, 1, 1, 2, members)),
        amount=draws.below(1 << 20),
        lasting_s=draws.one_of((1, 5, 30, 70, 130, 400)),
    )


def shrunk(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Return a schedule of as few of the faults as still ``fails``: none can be left out."""
    while True:
        smaller = next(
            (
                candidate
                for place in range(len(schedule.faults))
                if fails(candidate := replace(schedule, faults=_without(schedule.faults, place)))
            ),
            None,
        )
        if smaller is None:
            return schedule
        schedule = smaller


def _without(faults: Sequence[Fault], place: int) -> tuple[Fault, ...]:
    return (*faults[:place], *faults[place + 1 :])
