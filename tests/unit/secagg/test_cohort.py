from __future__ import annotations

import pytest

from fedcredit.secagg.cohort import COMPLETE_UP_TO, DEGREE, Cohort


def cohort(count: int, seed: bytes = b"seed", threshold: int = 3) -> Cohort:
    return Cohort.of([f"m{number:04d}" for number in range(count)], seed=seed, threshold=threshold)


def test_up_to_sixty_four_members_everybody_is_everybodys_neighbour() -> None:
    members = cohort(COMPLETE_UP_TO)
    assert all(len(near) == COMPLETE_UP_TO - 1 for near in members.neighbours)
    assert members.holders[5] == tuple(range(COMPLETE_UP_TO))
    assert members.share_threshold == members.threshold


@pytest.mark.parametrize("count", [COMPLETE_UP_TO + 1, 66, 100, 1000])
def test_above_that_the_graph_is_regular_and_symmetric(count: int) -> None:
    members = cohort(count, threshold=2 * count // 3 + 1)
    for place, near in enumerate(members.neighbours):
        assert len(near) == len(set(near)) == DEGREE
        assert place not in near
        assert list(near) == sorted(near)
        assert all(place in members.neighbours[other] for other in near)
        assert members.holders[place] == tuple(sorted((*near, place)))
    assert members.share_threshold == 44


def test_the_graph_follows_from_the_seed() -> None:
    assert cohort(100).neighbours == cohort(100).neighbours
    assert cohort(100).neighbours != cohort(100, b"other").neighbours


def test_names_are_in_order_whatever_order_they_came_in() -> None:
    assert Cohort.of(["b", "a"], seed=b"", threshold=2).names == ("a", "b")
    assert Cohort.of(["b", "a"], seed=b"", threshold=2).places == {"a": 0, "b": 1}
    assert len(cohort(7)) == 7
