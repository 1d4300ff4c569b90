from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fedcredit.crypto.streams import KeyStream
from fedcredit.secagg.masking import BLOCK_BYTES, add_masks, masked_sum

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
WIDTHS = [np.uint16, np.uint32]


def by_hand(lanes: list[int], *, plus: list[bytes], minus: list[bytes], width: int) -> list[int]:
    """The sum of whole streams with Python integers."""

    def mask(key: bytes) -> list[int]:
        stream = KeyStream(key).bytes(width * len(lanes)).tobytes()
        return [int.from_bytes(stream[at : at + width], "little") for at in range(0, len(stream), width)]

    for key in plus:
        lanes = [lane + more for lane, more in zip(lanes, mask(key), strict=True)]
    for key in minus:
        lanes = [lane - less for lane, less in zip(lanes, mask(key), strict=True)]
    return [lane % 2 ** (8 * width) for lane in lanes]


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("count", [1, 5, 1000])
def test_a_mask_is_the_keystream_as_little_endian_lanes(dtype: type, count: int) -> None:
    lanes = np.arange(count, dtype=dtype)
    add_masks(lanes, plus=[A, B], minus=[C])
    width = lanes.itemsize
    assert lanes.tolist() == by_hand(list(range(count)), plus=[A, B], minus=[C], width=width)


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_the_stream_goes_on_over_the_edge_of_a_block(dtype: type, more: int) -> None:
    count = 2 * BLOCK_BYTES // np.dtype(dtype).itemsize + more
    lanes = np.zeros(count, dtype=dtype)
    add_masks(lanes, plus=[A], minus=[])
    assert lanes.tobytes() == KeyStream(A).bytes(lanes.nbytes).tobytes()


@pytest.mark.parametrize("dtype", WIDTHS)
def test_exchanged_keys_take_the_masks_off(dtype: type) -> None:
    lanes = np.arange(200_000, dtype=np.uint32).astype(dtype)
    before = lanes.copy()
    add_masks(lanes, plus=[A], minus=[B, C])
    assert np.count_nonzero(lanes == before) < 50
    add_masks(lanes, plus=[C, B], minus=[A])
    assert np.array_equal(lanes, before)


def test_no_key_or_no_lane_changes_nothing() -> None:
    lanes = np.arange(3, dtype=np.uint32)
    add_masks(lanes, plus=[], minus=[])
    assert lanes.tolist() == [0, 1, 2]
    add_masks(lanes[:0], plus=[A], minus=[])
    assert lanes.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("plus", "minus"), [([A, B, A], []), ([], [A, A]), ([A], [B, A])])
def test_a_key_that_comes_twice_is_refused(plus: list[bytes], minus: list[bytes]) -> None:
    lanes = np.arange(3, dtype=np.uint32)
    with pytest.raises(ValueError, match="comes twice"):
        add_masks(lanes, plus=plus, minus=minus)
    assert lanes.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("plus", "minus"), [([A, bytes(31)], []), ([A], [bytes(33)])])
def test_a_key_of_another_length_changes_nothing(plus: list[bytes], minus: list[bytes]) -> None:
    lanes = np.arange(3, dtype=np.uint32)
    with pytest.raises(ValueError, match="32 bytes"):
        add_masks(lanes, plus=plus, minus=minus)
    assert lanes.tolist() == [0, 1, 2]


@pytest.mark.parametrize("dtype", [np.int32, np.uint64, np.uint8, np.float32, np.dtype(">u4")])
def test_lanes_of_another_type_are_refused(dtype: type) -> None:
    with pytest.raises(TypeError, match="uint16 or uint32"):
        add_masks(np.zeros(4, dtype=dtype), plus=[A], minus=[])


def test_lanes_that_are_no_plain_vector_are_refused() -> None:
    fixed = np.zeros(4, np.uint32)
    fixed.flags.writeable = False
    for lanes in (np.zeros(8, np.uint32)[::2], np.zeros((2, 2), np.uint32), fixed):
        with pytest.raises(ValueError, match="contiguous writable vector"):
            add_masks(lanes, plus=[A], minus=[])
        assert not lanes.any()


def test_fifty_masks_need_less_than_four_megabytes_beside_the_lanes() -> None:
    lanes = np.zeros(2**21, np.uint32)
    keys = [number.to_bytes(32, "big") for number in range(50)]
    tracemalloc.start()
    try:
        add_masks(lanes, plus=keys[:25], minus=keys[25:])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert BLOCK_BYTES < peak < 4_000_000


@pytest.mark.parametrize("dtype", WIDTHS)
@pytest.mark.parametrize("count", [0, 5, BLOCK_BYTES // 2 + 3])
def test_a_masked_sum_is_the_sum_with_masks_added_later(dtype: type, count: int) -> None:
    vectors = [np.arange(count, dtype=np.uint32).astype(dtype) * np.array(factor, dtype) for factor in (1, 7, 60_000)]
    expected = vectors[0] + vectors[1] + vectors[2]
    add_masks(expected, plus=[A], minus=[B, C])
    before = [lanes.copy() for lanes in vectors]
    found = np.empty_like(expected)
    for place, part in masked_sum(vectors, plus=[A], minus=[B, C]):
        found[place] = part
    assert np.array_equal(found, expected)
    assert all(np.array_equal(lanes, old) for lanes, old in zip(vectors, before, strict=True))


def test_vectors_of_different_lengths_have_no_sum() -> None:
    with pytest.raises(ValueError, match="one length"):
        next(masked_sum([np.zeros(3, np.uint32), np.zeros(1, np.uint32)], plus=[A], minus=[]))
