"""QUALITY.md R1 and R2: every kind of fault at every point of the protocol, one at a time."""

from __future__ import annotations

from collections import Counter

from simulation.faults import POINTS, SITES, Kind, Schedule, Setting, single_faults
from simulation.federation import Outcome, play

FOUR = Setting(members=4, threshold=3, quorum=3, rounds=3, seed=20261122)
"""One member may be missing, so a single fault never stops a run for good."""


def test_no_single_fault_breaks_a_promise_or_stops_the_next_round() -> None:
    faults = list(single_faults(FOUR.members))
    outcomes = [play(Schedule(FOUR, (fault,))) for fault in faults]
    failed = [outcome for outcome in outcomes if outcome.violations]
    assert not failed, "\n\n".join(map(str, failed))
    _require_everything_struck(outcomes)
    unfinished = [outcome for outcome in outcomes if outcome.released < FOUR.rounds]
    # Members do not follow a coordinator whose log is an old one, whatever it asks.
    assert {fault.kind for outcome in unfinished for fault in outcome.schedule.faults} <= {Kind.STALE}
    assert all(outcome.excused for outcome in unfinished)


def _require_everything_struck(outcomes: list[Outcome]) -> None:
    struck: Counter[tuple[Kind, str]] = Counter()
    reached: Counter[str] = Counter()
    for outcome in outcomes:
        struck.update(outcome.struck)
        reached.update(outcome.reached)
    assert not set(SITES) - set(struck)
    # R19: each point is reached at least 100 times.
    assert {point: reached[point] for point in POINTS if reached[point] < 100} == {}
