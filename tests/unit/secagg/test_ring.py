from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from fedcredit.errors import MalformedMessageError, NoiseRangeError
from fedcredit.secagg.ring import from_ring, lanes_from_bytes, lanes_to_bytes, ring_limit, to_ring


def numbers(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, dtype=np.int64)


@pytest.mark.parametrize(
    ("bits", "limit", "lanes"),
    [(16, 32_767, [0, 1, 65_535, 32_767, 32_769]), (32, 2_147_483_647, [0, 1, 2**32 - 1, 2**31 - 1, 2**31 + 1])],
)
def test_a_negative_number_is_a_lane_above_the_middle(bits: int, limit: int, lanes: list[int]) -> None:
    assert ring_limit(bits) == limit
    there = to_ring(numbers(0, 1, -1, limit, -limit), bits=bits)
    assert there.dtype == np.dtype(f"u{bits // 8}")
    assert there.tolist() == lanes
    back = from_ring(there, bits=bits)
    assert back.dtype == np.int64
    assert back.tolist() == [0, 1, -1, limit, -limit]


@pytest.mark.parametrize("bits", [16, 32])
def test_a_number_beyond_the_end_is_refused_not_wrapped(bits: int) -> None:
    end = 2 ** (bits - 1)
    for beyond in (end, -end, 2**bits, 2**63 - 1, -(2**63)):
        with pytest.raises(NoiseRangeError, match=f"{bits}-bit lanes") as caught:
            to_ring(numbers(0, beyond, 0), bits=bits)
        assert str(beyond).lstrip("-") not in str(caught.value).replace(str(end - 1), "")


@pytest.mark.parametrize("bits", [16, 32])
def test_a_sum_wraps_on_the_way_and_is_exact_at_the_end(bits: int) -> None:
    limit = ring_limit(bits)
    total = (
        to_ring(numbers(limit), bits=bits) + to_ring(numbers(limit), bits=bits) + to_ring(numbers(-limit), bits=bits)
    )
    assert from_ring(total, bits=bits).tolist() == [limit]


def test_the_one_lane_that_no_number_becomes_is_the_least_number() -> None:
    assert from_ring(np.array([2**15], np.uint16), bits=16).tolist() == [-(2**15)]
    assert from_ring(np.array([2**31], np.uint32), bits=32).tolist() == [-(2**31)]


@pytest.mark.parametrize("bits", [16, 32])
def test_nothing_is_nothing(bits: int) -> None:
    lanes = to_ring(numbers(), bits=bits)
    assert lanes.shape == from_ring(lanes, bits=bits).shape == (0,)
    assert bytes(lanes_to_bytes(lanes)) == b""
    assert lanes_from_bytes(b"", count=0, bits=bits, what="sum").shape == (0,)


def test_numbers_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="int64, got float64"):
        to_ring(np.zeros(2), bits=32)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="16-bit lanes are uint16, got uint32"):
        from_ring(np.zeros(2, np.uint32), bits=16)


@pytest.mark.parametrize("bits", [0, 8, 31, 64])
def test_lanes_of_another_width_are_refused(bits: int) -> None:
    for call in (
        lambda: ring_limit(bits),
        lambda: to_ring(numbers(1), bits=bits),
        lambda: from_ring(np.zeros(1, np.uint32), bits=bits),
        lambda: lanes_from_bytes(bytes(8), count=1, bits=bits, what="sum"),
    ):
        with pytest.raises(ValueError, match=f"16 or 32 bits, not {bits}"):
            call()


def test_lanes_travel_little_endian() -> None:
    assert bytes(lanes_to_bytes(np.array([0x01020304, 5], np.uint32))) == bytes([4, 3, 2, 1, 5, 0, 0, 0])
    assert bytes(lanes_to_bytes(np.array([0x0102, 5], np.uint16))) == bytes([2, 1, 5, 0])
    assert lanes_from_bytes(bytes([4, 3, 2, 1, 5, 0, 0, 0]), count=2, bits=32, what="sum").tolist() == [0x01020304, 5]
    assert lanes_from_bytes(bytes([2, 1, 5, 0]), count=2, bits=16, what="sum").tolist() == [0x0102, 5]


def test_bytes_of_lanes_are_views_that_cannot_be_written() -> None:
    lanes = np.array([1, 2], np.uint32)
    view = lanes_to_bytes(lanes)
    assert view.readonly
    lanes[0] = 3
    assert bytes(view) == bytes([3, 0, 0, 0, 2, 0, 0, 0])
    buffer = bytearray(view)
    read = lanes_from_bytes(memoryview(buffer), count=2, bits=32, what="sum")
    buffer[0] = 9
    assert read.tolist() == [9, 2]
    with pytest.raises(ValueError, match="read-only"):
        read[0] = 1


@pytest.mark.parametrize(("bits", "size"), [(32, 7), (32, 9), (32, 0), (32, 4), (16, 8), (16, 3)])
def test_another_number_of_bytes_is_refused(bits: int, size: int) -> None:
    with pytest.raises(MalformedMessageError, match=f"{bits // 4} bytes of lanes are expected, it has {size}"):
        lanes_from_bytes(bytes(size), count=2, bits=bits, what="sum")
