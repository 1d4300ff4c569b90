from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import unicodedata
from pathlib import Path

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedcredit
from fedcredit.encoding import MAX_DEPTH, MAX_ITEMS, MAX_TOTAL, decode, digest, encode, encode_octets, list_head
from fedcredit.errors import FedcreditError, MalformedMessageError, MessageTooLargeError

LIMIT = 1 << 22
NORMAL = st.text(alphabet=st.characters(codec="ascii"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.binary(max_size=20) | NORMAL,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NORMAL, inner, max_size=4),
    max_leaves=12,
)


def read(data: bytes, limit: int = LIMIT) -> object:
    return decode(data, what="thing", limit=limit)


def test_known_values_have_the_bytes_of_rfc_8949() -> None:
    # RFC 8949 appendix A, and section 4.2.1 for the order of keys: shorter first, then by bytes.
    assert encode(0) == bytes.fromhex("00")
    assert encode(1000000) == bytes.fromhex("1a000f4240")
    assert encode(-1000) == bytes.fromhex("3903e7")
    assert encode(b"\x01\x02") == bytes.fromhex("420102")
    assert encode("ü") == bytes.fromhex("62c3bc")
    assert encode([1, [2, 3]]) == bytes.fromhex("8201820203")
    assert encode({"b": 1, "a": 2, "aa": True}) == bytes.fromhex("a36161026162016261 61f5".replace(" ", ""))


def test_a_digest_is_sha256_of_the_encoding() -> None:
    assert digest([1, 2]) == hashlib.sha256(bytes.fromhex("820102")).digest()


@given(VALUES)
def test_what_was_encoded_decodes_to_an_equal_value(value: object) -> None:
    assert read(encode(value)) == value  # type: ignore[arg-type]


@given(
    st.recursive(
        VALUES,
        lambda inner: st.dictionaries(st.sampled_from(["", "b", "a", "aa", "ab", "é", "z\u00fc", "\ud7ff"]), inner),
        max_leaves=12,
    )
)
def test_keys_in_any_order_get_the_order_that_the_library_sorts_them_into(value: object) -> None:
    assert encode(value) == cbor2.dumps(value, canonical=True)  # type: ignore[arg-type]


@given(st.dictionaries(st.text(max_size=30), st.lists(st.binary(max_size=300), max_size=30), max_size=30))
def test_a_map_of_byte_strings_in_parts_is_encoded_like_one_in_one_piece(lists: dict[str, list[bytes]]) -> None:
    lists = {name: items for name, items in lists.items() if unicodedata.is_normalized("NFC", name)}
    views = {name: [memoryview(item) for item in items] for name, items in lists.items()}
    assert b"".join(encode_octets(views)) == encode(lists)
    assert b"".join([list_head(2), encode(7), *encode_octets(views)]) == encode([7, lists])


def test_bytes_behind_the_end_are_counted() -> None:
    with pytest.raises(MalformedMessageError, match="3 bytes follow its end"):
        read(encode([1, {"a": b"x"}]) + bytes(3))


@given(VALUES, st.data())
def test_no_truncation_and_no_extension_decodes(value: object, data: st.DataObject) -> None:
    encoded = encode(value)  # type: ignore[arg-type]
    cut = data.draw(st.integers(0, len(encoded) - 1))
    for wrong in (encoded[:cut], encoded + data.draw(st.binary(min_size=1, max_size=3))):
        with pytest.raises(MalformedMessageError):
            read(wrong)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_decode_to_their_only_encoding_or_are_refused(data: bytes) -> None:
    try:
        value = read(data)
    except FedcreditError:
        return
    assert encode(value) == data  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [1.0, float("nan"), {1: 2}, {"a": {b"k": 1}}, ..., {1, 2}, [1.5], cbor2.CBORTag(1, 2), bytearray(b"a")],
    ids=repr,
)
def test_a_type_without_a_canonical_form_cannot_be_encoded(bad: object) -> None:
    with pytest.raises(TypeError):
        encode(bad)  # type: ignore[arg-type]


def test_text_outside_normal_form_c_is_refused_both_ways() -> None:
    with pytest.raises(ValueError, match="normal form C"):
        encode("e\u0301")
    with pytest.raises(MalformedMessageError):
        read(cbor2.dumps("e\u0301"))


NOT_CANONICAL = {
    "long integer": "1800",
    "longer integer": "190001",
    "long byte string head": "580101",
    "long list head": "980101",
    "indefinite list": "9f01ff",
    "indefinite bytes": "5f4101ff",
    "indefinite text": "7f6161ff",
    "indefinite map": "bf616101ff",
    "keys in another order": "a2616201616102",
    "a key twice": "a2616101616102",
    "small bignum": "c24101",
    "float": "fb3ff0000000000000",
    "half float": "f93c00",
    "undefined": "f7",
    "simple value": "e0",
    "date": "c074323031332d30332d32315432303a30343a30305a",
    "epoch": "c11a514b67b0",
    "decimal": "c48221196ab3",
    "fraction by zero": "d81e820100",
    "regular expression": "d8236128",
    "self-reference": "d81c81d81d00",
    "set": "d901028101",
    "unhashable key": "a1810101",
    "integer key": "a10102",
    "break alone": "ff",
    "nothing": "",
}


@pytest.mark.parametrize("encoded", NOT_CANONICAL.values(), ids=NOT_CANONICAL.keys())
def test_another_spelling_or_another_type_is_refused(encoded: str) -> None:
    with pytest.raises(MalformedMessageError):
        read(bytes.fromhex(encoded))


def test_a_message_above_its_limit_is_not_even_read() -> None:
    with pytest.raises(MessageTooLargeError, match=r"11 bytes exceeds the limit of 10"):
        read(b"\xff" * 11, limit=10)
    assert read(encode(b"12345678"), limit=9) == b"12345678"


def nested(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_ends_at_the_limit() -> None:
    assert read(encode(nested(MAX_DEPTH))) == nested(MAX_DEPTH)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nested deeper"):
        encode(nested(MAX_DEPTH + 1))  # type: ignore[arg-type]
    for head in (b"\x81", b"\xa1\x61a", b"\xc1", b"\x9f", b"\xd8\x1c"):
        with pytest.raises(MalformedMessageError):
            read(head * 100_000)


def test_a_list_is_no_longer_than_the_limit() -> None:
    assert read(encode([0] * MAX_ITEMS)) == [0] * MAX_ITEMS
    with pytest.raises(ValueError, match="more than"):
        encode([0] * (MAX_ITEMS + 1))
    with pytest.raises(MalformedMessageError):
        read(cbor2.dumps([0] * (MAX_ITEMS + 1)))


@pytest.mark.parametrize("head", ["9b0000000100000000", "9bffffffffffffffff", "bb0000000100000000"])
@pytest.mark.parametrize("tail", ["", "00"])
def test_a_promise_of_many_items_is_not_believed(head: str, tail: str) -> None:
    with pytest.raises(MalformedMessageError):
        read(bytes.fromhex(head + tail))


@pytest.mark.parametrize("head", ["5b000000ffffffffff", "7b000000ffffffffff"])
def test_a_promise_of_many_bytes_is_not_believed(head: str) -> None:
    with pytest.raises(MalformedMessageError):
        read(bytes.fromhex(head) + b"a")


def test_a_value_has_no_more_items_than_the_limit() -> None:
    # Items of two bytes each, so that the bytes alone do not say that they are few; 1 + 4 heads of lists.
    inner = [[24] * MAX_ITEMS] * 3 + [[24] * (MAX_TOTAL - 5 - 3 * MAX_ITEMS)]
    assert read(encode(inner)) == inner
    with pytest.raises(MalformedMessageError, match=f"more than {MAX_TOTAL} items"):
        read(encode([*inner, 0]))


def test_a_selection_of_a_thousand_members_is_far_below_the_limits() -> None:
    # Three lists of as many items as members; the whole is about 142 kB.
    selection = [[f"{place:063d}" for place in range(1000)], [bytes(32)] * 1000, [bytes(64)] * 1000]
    assert read(encode(selection)) == selection
    assert MAX_TOTAL > 100 * (1 + 3 * 1001)


def test_a_message_of_many_tiny_items_costs_no_memory() -> None:
    # Anyone who knows a public key can send this; without the count it takes 20 GB before the signature is looked at.
    program = (
        "from fedcredit.encoding import MAX_TOTAL, decode\n"
        "from fedcredit.errors import MalformedMessageError\n"
        "n = 64 * 1024 * 1024\n"
        "data = b'\\x9a' + n.to_bytes(4, 'big') + b'\\x80' * n\n"
        "def peak():\n"  # not ru_maxrss: a process inherits that from the one that started it, however large that was
        "    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM:'))\n"
        "before = peak()\n"
        "try:\n"
        "    decode(data, what='thing', limit=1 << 28)\n"
        "except MalformedMessageError as error:\n"
        "    print(error)\n"
        "print((peak() - before) // 1024)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PYTHONPATH": str(Path(fedcredit.__file__).parents[1])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30)),
    )
    sentence, megabytes = done.stdout.splitlines()
    assert sentence == f"Not a well-formed thing: it has more than {MAX_TOTAL} items."
    assert int(megabytes) < 100
