from __future__ import annotations

import os
from dataclasses import replace

import pytest

from fedcredit.crypto.channels import CHANNEL_OVERHEAD, Channel, channel_tag
from fedcredit.crypto.sealing import MAX_SEALED, SealContext
from fedcredit.errors import CannotOpenError, MessageTooLargeError

CONTEXT = SealContext(
    consortium="c",
    run="r",
    round_number=1,
    attempt=1,
    message_type="t",
    sender="a",
    recipient="b",
    manifest_digest=bytes(32),
)


def channel(secret: bytes = b"k" * 32) -> Channel:
    return Channel(secret, entropy=os.urandom)


def test_each_end_opens_what_the_other_sealed() -> None:
    mine, theirs = channel(), channel()
    for seal, read in ((mine.seal_up, theirs.open_up), (theirs.seal_down, mine.open_down)):
        sealed = seal(b"content", context=CONTEXT)
        assert len(sealed) == len(b"content") + CHANNEL_OVERHEAD
        assert read(sealed, context=CONTEXT) == b"content"
        assert channel_tag(sealed) == mine.tag


@pytest.mark.parametrize("size", [0, 1, 2**16 - CHANNEL_OVERHEAD, 2**16 - CHANNEL_OVERHEAD + 1, 2**18])
def test_parts_are_sealed_like_one_piece_whatever_their_size(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    parts = (content[:100], memoryview(content)[100:])
    nonce = bytes(range(12))
    mine = Channel(b"k" * 32, entropy=lambda count: nonce[:count])
    sealed, room = mine.seal_up(*parts, context=CONTEXT), bytearray(size + CHANNEL_OVERHEAD)
    mine.seal_up_into(memoryview(room), *parts, context=CONTEXT)
    assert sealed == room
    assert channel().open_up(sealed, context=CONTEXT) == content


def test_a_message_is_not_reflected() -> None:
    sealed = channel().seal_up(b"content", context=CONTEXT)
    with pytest.raises(CannotOpenError):
        channel().open_down(sealed, context=CONTEXT)


@pytest.mark.parametrize("field", ["consortium", "run", "message_type", "sender", "recipient"])
def test_every_text_of_the_context_is_bound(field: str) -> None:
    sealed = channel().seal_down(b"content", context=CONTEXT)
    with pytest.raises(CannotOpenError):
        channel().open_down(sealed, context=replace(CONTEXT, **{field: "other"}))


def test_every_bit_is_bound() -> None:
    sealed = channel().seal_down(b"content", context=CONTEXT)
    for bit in range(8 * len(sealed)):
        changed = bytearray(sealed)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CannotOpenError):
            channel().open_down(bytes(changed), context=CONTEXT)


def test_another_epoch_has_another_channel() -> None:
    sealed = channel().seal_down(b"content", context=CONTEXT)
    with pytest.raises(CannotOpenError):
        channel(b"l" * 32).open_down(sealed, context=CONTEXT)


def test_both_ends_and_the_place_make_the_secret() -> None:
    parts = {"coordinator": b"1" * 32, "member": b"2" * 32, "setup": b"3" * 32, "name": "a"}
    secrets = {Channel.secret(**parts)}
    for key, value in (("coordinator", b"x" * 32), ("member", b"x" * 32), ("setup", b"x" * 32), ("name", "b")):
        secrets.add(Channel.secret(**{**parts, key: value}))
    assert len(secrets) == 5


def test_parts_are_sealed_as_one_message() -> None:
    sealed = channel().seal_up(b"one", memoryview(b"two"), b"", b"three", context=CONTEXT)
    assert channel().open_up(sealed, context=CONTEXT) == b"onetwothree"


def test_a_seal_is_written_into_a_buffer_of_its_length_and_opened_into_another() -> None:
    sealed, opened = bytearray(7 + CHANNEL_OVERHEAD), bytearray(7)
    channel().seal_up_into(memoryview(sealed), b"con", b"tent", context=CONTEXT)
    channel().open_up_into(memoryview(opened), bytes(sealed), context=CONTEXT)
    assert opened == b"content"
    for room in (memoryview(sealed)[1:], memoryview(bytearray(8 + CHANNEL_OVERHEAD))):
        with pytest.raises(ValueError, match="another length"):
            channel().seal_up_into(room, b"content", context=CONTEXT)


def test_what_was_opened_cannot_be_written_to() -> None:
    assert channel().open_up(channel().seal_up(b"content", context=CONTEXT), context=CONTEXT).readonly


def test_what_is_too_short_or_of_another_kind_has_no_tag() -> None:
    sealed = channel().seal_up(b"", context=CONTEXT)
    assert channel_tag(sealed[:-1]) is None
    assert channel_tag(b"\x01" + sealed[1:]) is None
    assert channel_tag(b"") is None


class Long(bytes):
    """Says that it is longer than any call of AES-GCM takes."""

    def __len__(self) -> int:
        return MAX_SEALED


def test_a_message_that_no_call_can_seal_is_refused() -> None:
    with pytest.raises(MessageTooLargeError):
        channel().seal_up(Long(), context=CONTEXT)


def test_the_nonce_is_as_long_as_it_must_be() -> None:
    with pytest.raises(ValueError, match="12"):
        Channel(b"k" * 32, entropy=lambda _: b"").seal_up(b"", context=CONTEXT)


def test_no_secret_is_shown() -> None:
    assert repr(channel()) == "Channel()"
