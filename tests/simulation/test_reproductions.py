"""What the simulation has found, shrunk, under names: each of these failed once."""

from __future__ import annotations

from simulation.faults import ANYBODY, Fault, Kind, Schedule, Setting
from simulation.federation import play


def lost(point: str, *, member: int = ANYBODY, at: int = 0, times: int = 1) -> Fault:
    return Fault(kind=Kind.DROP, point=point, member=member, at=at, times=times, amount=0, lasting_s=0)


TEN = Setting(members=10, threshold=6, quorum=6, rounds=3, seed=1)


def test_every_cohort_opened_before_counts_and_not_only_the_last() -> None:
    """Ten members opened everybody's sum, then that of seven, then that of all but the first, whose update is the
    difference between the first sum and the third. Members remembered the last opened cohort only."""
    outcome = play(
        Schedule(
            TEN,
            (
                lost("reveal/answer", times=10),
                *(lost("upload/request", member=member, at=1) for member in (7, 8, 9)),
                lost("reveal/answer", at=10, times=7),
                lost("upload/request", member=0, at=2),
            ),
        )
    )
    assert not outcome.violations, str(outcome)


FOUR = Setting(members=4, threshold=3, quorum=3, rounds=3, seed=1)


def test_a_member_that_comes_back_does_not_block_the_round() -> None:
    """One upload was lost, then the shares of the other three: they had opened a cohort of three, and refused the four
    that the coordinator selected in every further attempt, each of which charged everybody."""
    outcome = play(Schedule(FOUR, (lost("upload/request", member=3), lost("reveal/answer", times=3))))
    assert not outcome.violations, str(outcome)
    assert outcome.released == FOUR.rounds


def test_two_of_three_members_may_open_their_sum() -> None:
    """With nothing opened before, a cohort was compared with an empty one, and two members are too near to that."""
    three = Setting(members=3, threshold=2, quorum=2, rounds=3, seed=1)
    outcome = play(Schedule(three, (lost("upload/request", member=2, times=30),)))
    assert not outcome.violations, str(outcome)
    assert outcome.released == three.rounds


def test_a_member_that_an_epoch_leaves_out_finds_a_proof_when_it_is_back() -> None:
    """The coordinator's disk was full at both releases of the first round, so it started again and did not know where
    anybody stands; the next epoch went without the fifth member, and from then on no proof began at the size of the
    log that this one had cosigned. It could never take part again, nor could the cohort of six that had been opened."""
    six = Setting(members=6, threshold=5, quorum=5, rounds=3, seed=74)
    full = Fault(kind=Kind.FULL, point="note/round-released", member=ANYBODY, at=0, times=2, amount=0, lasting_s=0)
    away = Fault(kind=Kind.ONE_WAY, point="roots/answer", member=4, at=2, times=1, amount=0, lasting_s=400)
    outcome = play(Schedule(six, (full, away)))
    assert not outcome.violations, str(outcome)
    assert outcome.released == six.rounds
