from __future__ import annotations

import os

import pytest

from fedcredit.crypto.epoch_keys import BOX_LENGTH, PUBLIC_LENGTH, EpochKeys, seal_secret
from fedcredit.errors import CannotOpenError, MalformedMessageError

SECRET = bytes(range(32))


def keys() -> EpochKeys:
    return EpochKeys.generate(os.urandom)


def test_a_box_opens_for_its_recipient_in_its_context_only() -> None:
    mine, other = keys(), keys()
    box = seal_secret(SECRET, to=mine.public, info=b"a>b")
    assert len(mine.public) == PUBLIC_LENGTH
    assert len(box) == BOX_LENGTH
    assert mine.open(box, info=b"a>b", sender="a") == SECRET
    for reader, info in ((mine, b"b>a"), (other, b"a>b")):
        with pytest.raises(CannotOpenError):
            reader.open(box, info=info, sender="a")


@pytest.mark.parametrize("place", [0, 31, 32, 1119, 1120, BOX_LENGTH - 1])
def test_a_changed_byte_never_opens(place: int) -> None:
    mine = keys()
    box = bytearray(seal_secret(SECRET, to=mine.public, info=b""))
    box[place] ^= 1
    with pytest.raises(CannotOpenError):
        mine.open(bytes(box), info=b"", sender="a")


@pytest.mark.parametrize("box", [b"", bytes(BOX_LENGTH - 1), bytes(BOX_LENGTH + 1), bytes(BOX_LENGTH)])
def test_what_is_no_box_does_not_open(box: bytes) -> None:
    with pytest.raises(CannotOpenError):
        keys().open(box, info=b"", sender="a")


def test_the_same_seed_gives_the_same_keys() -> None:
    mine = keys()
    assert EpochKeys(mine.seed).public == mine.public
    assert mine.seed.hex() not in repr(mine)


def test_a_key_that_is_none_is_refused() -> None:
    public = keys().public
    for wrong in (b"", public[:-1], bytes(32) + public[32:], public[:32] + b"\xff" * 1184):
        with pytest.raises(MalformedMessageError):
            seal_secret(SECRET, to=wrong, info=b"")


def test_lengths_are_exact() -> None:
    with pytest.raises(ValueError, match="96 bytes"):
        EpochKeys(bytes(95))
    with pytest.raises(ValueError, match="32 bytes"):
        seal_secret(bytes(31), to=keys().public, info=b"")
