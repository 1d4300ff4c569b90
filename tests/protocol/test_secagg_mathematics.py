from __future__ import annotations

import hashlib
import json
import runpy
from itertools import combinations
from pathlib import Path
from typing import Any

import cbor2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.crypto.derivation import commitment, derive
from fedcredit.errors import MalformedMessageError, ReconstructionError
from fedcredit.secagg.masking import add_masks
from fedcredit.secagg.ring import from_ring, lanes_from_bytes, lanes_to_bytes, ring_limit, to_ring
from fedcredit.secagg.shamir import PRIME, Interpolation, Reconstructed, deal, reconstruct

VECTORS = Path(__file__).parent / "vectors"
STORED: dict[str, Any] = json.loads((VECTORS / "secagg.json").read_text(encoding="utf-8"))
UNHURRIED = settings(deadline=None)  # a busy machine is no finding
KEYS = st.binary(min_size=32, max_size=32)
BITS = st.sampled_from([16, 32])


def entropy_of(key: bytes) -> Any:
    return lambda count: key[:count]


# --- golden vectors --------------------------------------------------------------------------------------


def test_the_generator_still_writes_what_is_stored() -> None:
    assert runpy.run_path(str(VECTORS / "make_secagg.py"))["content"]() == STORED


@pytest.mark.parametrize("case", STORED["derived"], ids=lambda case: case["label"])
def test_derived_keys_are_the_stored_ones(case: dict[str, Any]) -> None:
    context = cbor2.loads(bytes.fromhex(case["context"]))
    got = derive(bytes.fromhex(case["key"]), label=case["label"], context=context, length=case["length"])
    assert got.hex() == case["bytes"]


@pytest.mark.parametrize("case", STORED["commitments"], ids=lambda case: case["seed"][:4])
def test_commitments_are_the_stored_ones(case: dict[str, Any]) -> None:
    got = commitment(bytes.fromhex(case["seed"]), context=bytes.fromhex(case["context"]))
    assert got.hex() == case["commitment"]


@pytest.mark.parametrize("case", STORED["shares"], ids=lambda case: f"{case['threshold']}-of-{case['holders']}")
def test_shares_are_the_stored_ones_and_give_the_secrets_back(case: dict[str, Any]) -> None:
    secrets = [bytes.fromhex(secret) for secret in case["secrets"]]
    dealt = deal(
        secrets,
        threshold=case["threshold"],
        holders=case["holders"],
        entropy=entropy_of(bytes.fromhex(case["entropy"])),
    )
    assert [[share.hex() for share in row] for row in dealt] == case["dealt"]
    holders = range(case["holders"] - case["threshold"], case["holders"])
    last = Interpolation(holders)
    for number, secret in enumerate(secrets):
        given_back = last.secrets([[bytes.fromhex(case["dealt"][holder][number])] for holder in holders])
        assert given_back == [secret]


@pytest.mark.parametrize("case", STORED["masks"], ids=lambda case: f"{case['bits']}-bit")
def test_masked_lanes_are_the_stored_ones(case: dict[str, Any]) -> None:
    lanes = np.array(case["lanes"], dtype=f"u{case['bits'] // 8}")
    add_masks(
        lanes,
        plus=[bytes.fromhex(key) for key in case["plus"]],
        minus=[bytes.fromhex(key) for key in case["minus"]],
    )
    assert lanes.tolist() == case["masked"]


# --- masks -----------------------------------------------------------------------------------------------


def pair_key(first: int, second: int) -> bytes:
    return bytes([min(first, second), max(first, second)]) * 16


def protected(values: list[int], *, member: int, cohort: int, bits: int) -> Any:
    """What a member uploads: plus the masks it shares with later members, minus those with earlier ones."""
    lanes = to_ring(np.array(values, np.int64), bits=bits)
    add_masks(
        lanes,
        plus=[bytes([200 + member]) * 32, *(pair_key(member, other) for other in range(member + 1, cohort))],
        minus=[pair_key(member, other) for other in range(member)],
    )
    return lanes


@UNHURRIED
@given(st.data(), st.integers(2, 6), st.integers(1, 9), BITS)
def test_the_masks_of_every_cohort_cancel_exactly_for_whoever_stays(
    data: st.DataObject, cohort: int, size: int, bits: int
) -> None:
    largest = ring_limit(bits) // cohort
    vector = st.lists(st.integers(-largest, largest), min_size=size, max_size=size)
    updates = [data.draw(vector) for _ in range(cohort)]
    uploads = [protected(update, member=member, cohort=cohort, bits=bits) for member, update in enumerate(updates)]
    for count in range(1, cohort + 1):
        for stayed in combinations(range(cohort), count):
            total = np.zeros_like(uploads[0])
            for member in stayed:
                total += uploads[member]
            lost = [member for member in range(cohort) if member not in stayed]
            # A mask between one who stayed and one who left is in the sum once, with the sign of who stayed.
            add_masks(
                total,
                plus=[pair_key(here, gone) for here in stayed for gone in lost if gone < here],
                minus=[
                    *(bytes([200 + member]) * 32 for member in stayed),
                    *(pair_key(here, gone) for here in stayed for gone in lost if gone > here),
                ],
            )
            expected = [sum(updates[member][lane] for member in stayed) for lane in range(size)]
            assert from_ring(total, bits=bits).tolist() == expected


@UNHURRIED
@given(st.lists(KEYS, min_size=1, max_size=6, unique=True), st.integers(0, 63), st.integers(1, 40), BITS)
def test_every_pattern_of_signs_is_undone_by_its_opposite(keys: list[bytes], signs: int, size: int, bits: int) -> None:
    plus = [key for place, key in enumerate(keys) if signs >> place & 1]
    minus = [key for place, key in enumerate(keys) if not signs >> place & 1]
    lanes = to_ring(np.arange(size, dtype=np.int64), bits=bits)
    add_masks(lanes, plus=plus, minus=minus)
    add_masks(lanes, plus=minus, minus=plus)
    assert from_ring(lanes, bits=bits).tolist() == list(range(size))


@UNHURRIED
@given(st.lists(KEYS, min_size=2, max_size=6, unique=True), st.integers(1, 40), BITS)
def test_masks_come_in_any_order_and_in_any_number_of_calls(keys: list[bytes], size: int, bits: int) -> None:
    at_once, one_by_one = (to_ring(np.zeros(size, np.int64), bits=bits) for _ in range(2))
    add_masks(at_once, plus=keys[1:], minus=keys[:1])
    for key in reversed(keys[1:]):
        add_masks(one_by_one, plus=[key], minus=[])
    add_masks(one_by_one, plus=[], minus=keys[:1])
    assert np.array_equal(at_once, one_by_one)


# --- the ring --------------------------------------------------------------------------------------------


@UNHURRIED
@given(st.data(), BITS)
def test_numbers_come_back_from_the_ring_and_from_their_bytes(data: st.DataObject, bits: int) -> None:
    limit = ring_limit(bits)
    values = np.array(data.draw(st.lists(st.integers(-limit, limit), max_size=40)), dtype=np.int64)
    sent = bytes(lanes_to_bytes(to_ring(values, bits=bits)))
    lanes = lanes_from_bytes(sent, count=values.size, bits=bits, what="upload")
    assert np.array_equal(from_ring(lanes, bits=bits), values)
    for changed in (sent[:-1], sent + b"\x00"):
        if changed != sent:
            with pytest.raises(MalformedMessageError):
                lanes_from_bytes(changed, count=values.size, bits=bits, what="upload")


# --- secret sharing --------------------------------------------------------------------------------------

ACCESS = st.integers(2, 6).flatmap(lambda threshold: st.tuples(st.just(threshold), st.integers(threshold, 7)))


@UNHURRIED
@given(st.lists(KEYS, min_size=1, max_size=4), ACCESS, KEYS)
def test_all_subsets_as_large_as_the_threshold_give_all_secrets_back(
    secrets: list[bytes], access: tuple[int, int], key: bytes
) -> None:
    threshold, holders = access
    dealt = deal(secrets, threshold=threshold, holders=holders, entropy=entropy_of(key))
    for subset in combinations(range(holders), threshold):
        interpolation = Interpolation(subset)
        for number, secret in enumerate(secrets):
            assert interpolation.secrets([[dealt[holder][number]] for holder in subset]) == [secret]


@UNHURRIED
@given(KEYS, KEYS, ACCESS, KEYS, st.data())
def test_one_share_too_few_fits_every_other_secret_as_well(
    secret: bytes, other: bytes, access: tuple[int, int], key: bytes, data: st.DataObject
) -> None:
    """Through the known shares and (0, any secret) goes a polynomial: the missing share decides which one it is."""
    threshold, holders = access
    dealt = [row[0] for row in deal([secret], threshold=threshold, holders=holders, entropy=entropy_of(key))]
    order = data.draw(st.permutations(range(holders)))
    known, missing = order[: threshold - 1], order[threshold - 1]
    # Lagrange by hand over the points 0 and the known holders, at the point of the missing holder.
    points = {0: int.from_bytes(other, "big"), **{h + 1: int.from_bytes(dealt[h], "big") for h in known}}
    value = 0
    for x, y in points.items():
        term = y
        for z in points:
            if z != x:
                term = term * (missing + 1 - z) * pow(x - z, -1, PRIME) % PRIME
        value = (value + term) % PRIME
    shares = [*(dealt[holder] for holder in known), value.to_bytes(33, "big")]
    assert Interpolation([*known, missing]).secrets([[share] for share in shares]) == [other]
    assert (shares[-1] == dealt[missing]) == (other == secret)


@UNHURRIED
@given(KEYS, ACCESS, KEYS, st.data())
def test_wrong_shares_are_named_while_enough_right_ones_are_there(
    secret: bytes, access: tuple[int, int], key: bytes, data: st.DataObject
) -> None:
    threshold, holders = access
    rows = deal([secret], threshold=threshold, holders=holders, entropy=entropy_of(key))
    shares = {holder: row[0] for holder, row in enumerate(rows)}
    wrong = data.draw(st.sets(st.integers(0, holders - 1), max_size=holders))
    for holder in wrong:
        # Hashed, so that no drawn set of wrong shares lies on a polynomial with the same secret.
        noise = b"\x00" + hashlib.sha256(bytes([holder]) + key + secret).digest()
        shares[holder] = data.draw(st.sampled_from([noise, noise[1:], b"", b"\xff" * 33]))
    if holders - len(wrong) >= threshold:
        result = reconstruct(shares, threshold=threshold, holds=secret.__eq__, what="seed")
        assert result == Reconstructed(secret=secret, wrong=frozenset(wrong))
    else:
        with pytest.raises(ReconstructionError):
            reconstruct(shares, threshold=threshold, holds=secret.__eq__, what="seed")


@settings(deadline=None, max_examples=5)
@given(st.sets(st.integers(0, 49), max_size=4))
def test_any_four_wrong_of_fifty_are_named(wrong: set[int]) -> None:
    secret = bytes(range(32))
    rows = deal([secret], threshold=34, holders=50, entropy=entropy_of(bytes(32)))
    shares = {holder: bytes(33) if holder in wrong else row[0] for holder, row in enumerate(rows)}
    result = reconstruct(shares, threshold=34, holds=secret.__eq__, what="seed")
    assert result == Reconstructed(secret=secret, wrong=frozenset(wrong))
