"""What a member stores of an epoch and of a round is read back as it was written, and nothing else is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedcredit.encoding import Encodable, decode, encode
from fedcredit.errors import StoreCorruptError
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochOffer, EpochPending, EpochRoots, EpochState, epoch_from_bytes, epoch_to_bytes
from fedcredit.secagg.member import MemberRound

EPOCH = bytes(range(32))
SEED = bytes(96)
SECRETS = (bytes(32), bytes(range(32)))
COHORT = Cohort.of(["bank-a", "bank-b", "bank-c"], seed=EPOCH, threshold=2)
OFFER = EpochOffer(EPOCH, SEED)
PENDING = EpochPending(EPOCH, COHORT, 1, SEED, SECRETS)
ROOTS = EpochRoots(EPOCH, COHORT, 1, 0, SECRETS)
ROUND = MemberRound(
    manifest_digest=bytes(32),
    round_number=1,
    attempt=1,
    epoch=EPOCH,
    cohort=COHORT,
    place=1,
    box_keys=SECRETS,
    own_shares=bytes(99),
    upload=bytes(32),
    selection=b"",
    revealed=False,
)


def parts(data: bytes) -> list[Encodable]:
    value = decode(data, what="state", limit=1 << 20)
    assert isinstance(value, list)
    return value


def with_part(data: bytes, place: int, value: Encodable) -> bytes:
    content = parts(data)
    content[place] = value
    return encode(content)


@pytest.mark.parametrize("state", [OFFER, PENDING, ROOTS], ids=["offer", "pending", "roots"])
def test_the_state_of_an_epoch_survives_its_encoding(state: EpochState) -> None:
    assert epoch_from_bytes(epoch_to_bytes(state)) == state


@pytest.mark.parametrize("state", [ROUND, replace(ROUND, selection=b"selection", revealed=True)])
def test_the_state_of_a_round_survives_its_encoding(state: MemberRound) -> None:
    assert MemberRound.from_bytes(state.to_bytes()) == state


OTHER_EPOCHS: list[tuple[EpochState, int, Encodable]] = [
    (OFFER, 0, "another"),
    (OFFER, 1, "text"),
    (OFFER, 2, SEED[1:]),
    (PENDING, 2, ["bank-b", "bank-a", "bank-c"]),
    (PENDING, 2, ["bank-a", "bank-b", 3]),
    (PENDING, 4, True),
    (PENDING, 6, [SECRETS[0], None]),
    (ROOTS, 2, ["bank-b", "bank-a", "bank-c"]),
    (ROOTS, 3, True),
    (ROOTS, 4, True),
    (ROOTS, 5, False),
    (ROOTS, 6, [SECRETS[0], "text"]),
    (ROOTS, 6, SECRETS[0]),
]


@pytest.mark.parametrize(("state", "place", "value"), OTHER_EPOCHS)
def test_bytes_that_no_epoch_was_stored_as_are_refused(state: EpochState, place: int, value: Encodable) -> None:
    with pytest.raises(StoreCorruptError, match="epoch"):
        epoch_from_bytes(with_part(epoch_to_bytes(state), place, value))


OTHER_ROUNDS: list[tuple[int, Encodable]] = [
    (1, True),
    (2, True),
    (4, ["bank-c", "bank-b", "bank-a"]),
    (4, ["bank-a", "bank-b", 3]),
    (5, True),
    (6, True),
    (7, [SECRETS[0], None]),
    (7, SECRETS[0]),
    (11, 0),
]


@pytest.mark.parametrize(("place", "value"), OTHER_ROUNDS)
def test_bytes_that_no_round_was_stored_as_are_refused(place: int, value: Encodable) -> None:
    with pytest.raises(StoreCorruptError, match="round"):
        MemberRound.from_bytes(with_part(ROUND.to_bytes(), place, value))


@pytest.mark.parametrize("value", [[], {}, "offer", ["offer"]], ids=repr)
def test_another_value_is_no_stored_state(value: Encodable) -> None:
    for read in (epoch_from_bytes, MemberRound.from_bytes):
        with pytest.raises(StoreCorruptError):
            read(encode(value))
