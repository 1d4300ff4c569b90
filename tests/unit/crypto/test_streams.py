from __future__ import annotations

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from fedcredit.crypto.streams import KeyStream, fresh_key

# The key of NIST SP 800-38A, F.5.5; its vectors have another IV, and AES itself is checked block by block below.
NIST_KEY = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")


def test_the_first_blocks_are_those_of_the_gcm_specification() -> None:
    # McGrew and Viega, "The Galois/Counter Mode of Operation", test cases 13 and 14, key and IV zero: H is the
    # encrypted block 0, the tag of nothing the encrypted block 1, the ciphertext of a zero block the encrypted block 2.
    assert KeyStream(bytes(32)).bytes(48).tobytes() == bytes.fromhex(
        "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738bcea7403d4d606b6e074ec5d3baf39d18"
    )


@pytest.mark.parametrize(
    "count", [0, 1, 15, 16, 17, 31, 32, 33, 4095, 4096, 4097, 2**18 - 1, 2**18, 2**18 + 1, 3 * 2**18 + 5]
)
def test_the_stream_is_the_encrypted_counter_from_zero(count: int) -> None:
    blocks = -(-count // 16)
    counters = b"".join(number.to_bytes(16, "big") for number in range(blocks))
    expected = Cipher(AES256(NIST_KEY), ECB()).encryptor().update(counters)[:count]  # noqa: S305 - the second route
    stream = KeyStream(NIST_KEY).bytes(count)
    assert stream.dtype == np.uint8
    assert stream.tobytes() == expected


def test_reading_in_pieces_gives_the_same_stream() -> None:
    counts = (1, 0, 16, 30, 100, 853, 3000, 96, 1, 15, 0, 2**18, 4097)
    whole = KeyStream(NIST_KEY).bytes(sum(counts)).tobytes()
    pieces = KeyStream(NIST_KEY)
    assert b"".join(pieces.bytes(count).tobytes() for count in counts) == whole


def test_words_are_little_endian_whatever_the_machine() -> None:
    stream = KeyStream(NIST_KEY).bytes(24).tobytes()
    words = KeyStream(NIST_KEY).words64(3)
    assert words.dtype == np.dtype("<u8")
    assert words.shape == (3,)
    assert [int(word) for word in words] == [int.from_bytes(stream[at : at + 8], "little") for at in (0, 8, 16)]


def test_another_key_gives_another_stream() -> None:
    assert KeyStream(bytes(32)).bytes(32).tobytes() != KeyStream(NIST_KEY).bytes(32).tobytes()


@pytest.mark.parametrize("length", [0, 16, 24, 31, 33])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyStream(bytes(length))


def test_a_stream_does_not_show_its_key() -> None:
    assert repr(KeyStream(NIST_KEY)) == str(KeyStream(NIST_KEY)) == "KeyStream()"


def test_a_fresh_key_is_what_the_entropy_source_gives() -> None:
    assert fresh_key(lambda count: bytes(range(count))) == bytes(range(32))
    assert fresh_key(os.urandom) != fresh_key(os.urandom)


def test_an_entropy_source_that_gives_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="instead of 32"):
        fresh_key(lambda count: bytes(count - 1))


@pytest.mark.parametrize("count", [0, 1, 17, 29, 30, 2**18 + 5])
def test_a_buffer_is_filled_with_the_next_bytes(count: int) -> None:
    whole = KeyStream(NIST_KEY).bytes(3 + count + 5).tobytes()
    stream = KeyStream(NIST_KEY)
    stream.bytes(3)
    buffer = bytearray(count)
    stream.read_into(memoryview(buffer))
    assert bytes(buffer) == whole[3 : 3 + count]
    assert stream.bytes(5).tobytes() == whole[3 + count :]


@pytest.mark.parametrize(
    ("buffer", "error"),
    [
        (np.zeros(4, np.uint32).data, ValueError),
        (np.zeros((4, 2), np.uint8).data, ValueError),
        (memoryview(bytes(16)), TypeError),
    ],
    ids=["words", "matrix", "read-only"],
)
def test_a_buffer_that_cannot_be_filled_costs_no_byte_of_the_stream(buffer: memoryview, error: type[Exception]) -> None:
    stream = KeyStream(NIST_KEY)
    with pytest.raises(error):
        stream.read_into(buffer)
    assert stream.bytes(16).tobytes() == KeyStream(NIST_KEY).bytes(16).tobytes()
