"""Commitments that contradict each other: who is left out of a sum for it, by public data alone (PROTOCOL.md 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedcredit.secagg.cohort import Cohort


@dataclass(frozen=True, kw_only=True)
class Conflicts:
    """What follows from the commitments of a round, by places."""

    left_out: frozenset[int]
    """Whose uploads are not added up."""
    liars: frozenset[int]
    """Those of them who contradict more members than may lie."""


def conflicts(commitments: Mapping[int, Sequence[bytes]], *, cohort: Cohort, colluders: int) -> Conflicts:
    """Return who is left out because two members committed to different seeds for one pair.

    ``commitments`` are those of every upload, by place: one to the member's own seed, then one for each neighbour.
    Somebody in conflict with more members than may collude lies: one honest member is among those it contradicts.
    One conflict alone decides nothing, whatever the plan says of colluders. Of a pair that stays undecided both are
    left out.
    """

    def of_pair(dealer: int, other: int) -> bytes:
        return commitments[dealer][1 + cohort.position(other, of=dealer)]

    pairs = {
        (one, two)
        for one in commitments
        for two in cohort.neighbours[one]
        if one < two and two in commitments and of_pair(one, two) != of_pair(two, one)
    }
    counts = {place: sum(place in pair for pair in pairs) for place in commitments}
    liars = {place for place, count in counts.items() if count > max(1, colluders)}
    rest = {place for pair in pairs if not liars & {*pair} for place in pair}
    return Conflicts(left_out=frozenset(liars | rest), liars=frozenset(liars))
