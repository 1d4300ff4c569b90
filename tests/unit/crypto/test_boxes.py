from __future__ import annotations

import os

import pytest

from fedcredit.crypto.boxes import BOX_OVERHEAD, open_box, seal_box
from fedcredit.errors import CannotOpenError

KEY = b"k" * 32


def test_a_box_opens_with_its_key_and_context_only() -> None:
    box = seal_box(b"shares", key=KEY, context=b"a>b", entropy=os.urandom)
    assert len(box) == len(b"shares") + BOX_OVERHEAD
    assert open_box(box, key=KEY, context=b"a>b", sender="a") == b"shares"
    for key, context in ((b"l" * 32, b"a>b"), (KEY, b"b>a")):
        with pytest.raises(CannotOpenError):
            open_box(box, key=key, context=context, sender="a")


def test_every_bit_is_bound_and_no_end_can_be_cut_off() -> None:
    box = seal_box(b"s", key=KEY, context=b"", entropy=os.urandom)
    for bit in range(8 * len(box)):
        changed = bytearray(box)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CannotOpenError):
            open_box(bytes(changed), key=KEY, context=b"", sender="a")
    for end in range(len(box)):
        with pytest.raises(CannotOpenError):
            open_box(box[:end], key=KEY, context=b"", sender="a")


def test_lengths_are_exact() -> None:
    with pytest.raises(ValueError, match="12"):
        seal_box(b"", key=KEY, context=b"", entropy=lambda _: b"")
