"""PROTOCOL.md 9.1, attack 8: everybody at the end of the range at once is summed exactly, and one step more would wrap.

What keeps members within their part of the ring is ``unit/training/test_plan_review`` and ``unit/training/
test_update_bound``; here is that the part is the whole part, under real masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from members import Members, Round

FIVE = 5


@pytest.fixture(scope="module")
def five() -> Members:
    return Members.make(FIVE, 4)


@dataclass
class AtTheEnd(Round):
    """Every member sends what ``number`` says, in every lane."""

    number: Callable[[int], int] = lambda _: 0

    def vector(self, name: str) -> np.ndarray:
        return np.full(self.count, self.number(self.cohort.places[name]), dtype=np.int64)


def part(bits: int) -> int:
    """Return the most that each of five members may send."""
    return (2 ** (bits - 1) - 1) // FIVE


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize(
    "sign", [lambda _: 1, lambda _: -1, lambda place: 1 if place % 2 else -1], ids=["plus", "minus", "both"]
)
@pytest.mark.parametrize("lost", [0, 1])
def test_all_members_at_the_end_of_their_part_are_summed_exactly(
    five: Members, bits: int, sign: Callable[[int], int], lost: int
) -> None:
    attempt = AtTheEnd(five, bits=bits, number=lambda place: sign(place) * part(bits))
    there = five.names[lost:]
    attempt.uploads_of(there)
    attempt.agree(there)
    attempt.reveal(there)
    assert attempt.aggregator.open().values.tolist() == attempt.total(there).tolist()


@pytest.mark.parametrize("bits", [16, 32])
def test_one_bit_less_than_the_part_needs_would_wrap(five: Members, bits: int) -> None:
    attempt = AtTheEnd(five, bits=bits, number=lambda _: 2 * part(bits))
    opened = attempt.whole(five.names)
    assert (opened - attempt.total(five.names)).tolist() == [-(2**bits)] * attempt.count
