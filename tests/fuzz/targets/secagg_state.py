"""What a member keeps of an epoch and of an open round, read again after a restart."""

from __future__ import annotations

from typing import get_type_hints

from fuzz.harness import NotTheSameError, chosen, one_of, same_bytes

from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochOffer, EpochPending, EpochRoots, epoch_from_bytes, epoch_to_bytes
from fedcredit.secagg.member import MemberRound


def _epoch(data: bytes) -> None:
    if epoch_to_bytes(epoch_from_bytes(data)) != data:
        raise NotTheSameError


TARGET = one_of(_epoch, same_bytes(MemberRound.from_bytes))


def seeds() -> dict[str, bytes]:
    """Return each state."""
    cohort = Cohort.of(["bank-a", "bank-b", "bank-c"], seed=bytes(32), threshold=2)
    secrets = (bytes(32), bytes(range(32)))
    states = {
        "offer": EpochOffer(bytes(32), bytes(96)),
        "pending": EpochPending(bytes(32), cohort, 0, bytes(96), secrets),
        "roots": EpochRoots(bytes(32), cohort, 0, 3, secrets),
    }
    of_type = {bytes: bytes(32), int: 0, bool: False, Cohort: cohort}
    member = MemberRound(**{name: of_type.get(kind, secrets) for name, kind in get_type_hints(MemberRound).items()})
    return {name: chosen(0, epoch_to_bytes(state)) for name, state in states.items()} | {
        "member": chosen(1, member.to_bytes())
    }
