from __future__ import annotations

import os
from itertools import combinations
from math import comb

import pytest

from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import ReconstructionError
from fedcredit.secagg.shamir import (
    MAX_HOLDERS,
    MAX_SUBSETS,
    PRIME,
    Interpolation,
    Reconstructed,
    _subsets,
    deal,
    reconstruct,
)

KEY = bytes(range(32))
LOW, HIGH, MIXED = bytes(32), b"\xff" * 32, bytes(range(200, 232))


def fixed(count: int) -> bytes:
    assert count == 32
    return KEY


def shares_of(secret: bytes, *, threshold: int, holders: int) -> dict[int, bytes]:
    dealt = deal([secret], threshold=threshold, holders=holders, entropy=os.urandom)
    return {holder: shares[0] for holder, shares in enumerate(dealt)}


def moved(share: bytes, by: int) -> bytes:
    return ((int.from_bytes(share, "big") + by) % PRIME).to_bytes(33, "big")


def found(shares: dict[int, bytes], *, threshold: int, secret: bytes) -> Reconstructed:
    return reconstruct(shares, threshold=threshold, holds=secret.__eq__, what="the seed of bank-1")


def test_the_modulus_is_prime() -> None:
    # Pocklington would need factors of PRIME - 1; twenty Miller-Rabin bases leave a chance below 4^-20.
    odd, twos = PRIME - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71):
        power = pow(base, odd, PRIME)
        assert power in {1, PRIME - 1} or any(pow(power, 2**step, PRIME) == PRIME - 1 for step in range(twos))


@pytest.mark.parametrize(("threshold", "holders"), [(2, 2), (3, 5), (34, 50), (128, 128)])
def test_shares_are_values_of_the_polynomial_that_the_keystream_draws(threshold: int, holders: int) -> None:
    secrets = [LOW, HIGH, MIXED]
    stream = KeyStream(KEY).bytes(48 * 3 * (threshold - 1)).tobytes()
    expected = []
    for x in range(1, holders + 1):
        row = []
        for number, secret in enumerate(secrets):
            value = int.from_bytes(secret, "big")
            for k in range(1, threshold):
                start = 48 * ((k - 1) * 3 + number)
                value += int.from_bytes(stream[start : start + 48], "big") * comb(x, k)
            row.append((value % PRIME).to_bytes(33, "big"))
        expected.append(row)
    assert deal(secrets, threshold=threshold, holders=holders, entropy=fixed) == expected


def test_the_largest_value_still_fits_its_slot() -> None:
    drawn = 2**384 - 1
    assert sum(comb(MAX_HOLDERS, k) * drawn for k in range(MAX_HOLDERS)) < 2**512


@pytest.mark.parametrize("secret", [LOW, HIGH, MIXED])
def test_every_subset_as_large_as_the_threshold_gives_the_secret_back(secret: bytes) -> None:
    shares = shares_of(secret, threshold=3, holders=6)
    for holders in combinations(range(6), 3):
        assert Interpolation(holders).secrets([[shares[holder]] for holder in holders]) == [secret]


def test_an_interpolation_serves_many_secrets_in_any_order_of_holders() -> None:
    secrets = [os.urandom(32) for _ in range(10)]
    dealt = deal(secrets, threshold=4, holders=7, entropy=os.urandom)
    holders = (6, 0, 3, 2)
    interpolation = Interpolation(holders)
    assert interpolation.holders == holders
    assert interpolation.secrets([dealt[holder] for holder in holders]) == secrets
    assert interpolation.secrets([[] for _ in holders]) == []


def test_one_share_less_than_the_threshold_gives_something_else() -> None:
    dealt = deal([MIXED], threshold=4, holders=4, entropy=fixed)
    for holders in combinations(range(4), 3):
        with pytest.raises(ReconstructionError, match="no subset of its shares fits"):
            found({holder: dealt[holder][0] for holder in holders}, threshold=3, secret=MIXED)


def determinant(matrix: list[list[int]]) -> int:
    rows, result = [list(row) for row in matrix], 1
    for column in range(len(rows)):
        pivot = next((row for row in range(column, len(rows)) if rows[row][column] % PRIME), None)
        if pivot is None:
            return 0
        if pivot != column:
            rows[column], rows[pivot], result = rows[pivot], rows[column], -result
        result = result * rows[column][column] % PRIME
        inverse = pow(rows[column][column], -1, PRIME)
        for row in rows[column + 1 :]:
            factor = row[column] * inverse
            row[:] = [(entry - factor * above) % PRIME for entry, above in zip(row, rows[column], strict=True)]
    return result % PRIME


@pytest.mark.parametrize("threshold", range(2, 8))
def test_fewer_shares_than_the_threshold_are_uniform_whatever_the_secret(threshold: int) -> None:
    """For a fixed secret, coefficients -> shares of any threshold - 1 holders is one-to-one, so uniform to uniform."""
    for holders in combinations(range(7), threshold - 1):
        assert determinant([[comb(holder + 1, k) for k in range(1, threshold)] for holder in holders]) != 0


def test_the_same_secret_is_never_dealt_alike() -> None:
    first, second = (shares_of(MIXED, threshold=2, holders=5) for _ in range(2))
    assert not set(first.values()) & set(second.values())


def test_no_secrets_have_no_shares() -> None:
    assert deal([], threshold=2, holders=3, entropy=os.urandom) == [[], [], []]


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_secret_of_another_length_is_not_dealt(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        deal([MIXED, bytes(length)], threshold=2, holders=3, entropy=os.urandom)


@pytest.mark.parametrize(("threshold", "holders"), [(1, 3), (0, 3), (-1, 3), (4, 3), (2, 1), (2, MAX_HOLDERS + 1)])
def test_a_threshold_that_protects_nobody_or_cannot_be_met_is_refused(threshold: int, holders: int) -> None:
    with pytest.raises(ValueError, match="does not hold"):
        deal([MIXED], threshold=threshold, holders=holders, entropy=os.urandom)


@pytest.mark.parametrize("holders", [(), (1, 1), (0, 2, 0), (-1, 2), (0, MAX_HOLDERS)])
def test_an_interpolation_over_no_or_wrong_holders_is_refused(holders: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"each once|number from 0 to 127"):
        Interpolation(holders)


@pytest.mark.parametrize("share", [2**256, PRIME - 1, PRIME, PRIME + 5, 2**264 - 1])
def test_only_a_secret_with_a_share_beyond_its_bytes_needs_a_closer_look(share: int) -> None:
    secrets = [LOW, MIXED, HIGH]
    dealt = deal(secrets, threshold=2, holders=5, entropy=os.urandom)
    bent = [dealt[4][0], share.to_bytes(33, "big"), dealt[4][2]]
    assert Interpolation((1, 4)).secrets([dealt[1], bent]) == [LOW, None, HIGH]


def test_the_largest_shares_of_all_holders_reach_no_neighbour() -> None:
    secrets = [os.urandom(32) for _ in range(3)]
    dealt = deal(secrets, threshold=MAX_HOLDERS, holders=MAX_HOLDERS, entropy=os.urandom)
    rows = [[row[0], b"\xff" * 33, row[2]] for row in dealt]
    assert Interpolation(range(MAX_HOLDERS)).secrets(rows) == [secrets[0], None, secrets[2]]


def test_shares_that_give_no_32_bytes_give_nothing() -> None:
    # On the line through 1 at 1 and 294 at 2, the value at 0 is -292, which is 2^256 + 5.
    assert Interpolation((0, 1)).secrets([[(1).to_bytes(33, "big")], [(294).to_bytes(33, "big")]]) == [None]
    assert Interpolation((0, 1)).secrets([[(1).to_bytes(33, "big")], [(2).to_bytes(33, "big")]]) == [bytes(32)]


def test_more_or_fewer_shares_than_holders_are_refused() -> None:
    shares = shares_of(MIXED, threshold=2, holders=3)
    for given in ([[shares[0]]], [[shares[0]], [shares[1]], [shares[2]]], []):
        with pytest.raises(ValueError, match="zip"):
            Interpolation((0, 1)).secrets(given)
    for given in ([[shares[0]], [shares[1], shares[1]]], [[shares[0]], [shares[1][:-1]]], [[shares[0]], [b""]]):
        with pytest.raises(ValueError, match="reshape"):
            Interpolation((0, 1)).secrets(given)


def test_right_shares_are_found_right() -> None:
    shares = shares_of(MIXED, threshold=4, holders=6)
    assert found(shares, threshold=4, secret=MIXED) == Reconstructed(secret=MIXED, wrong=frozenset())
    del shares[0], shares[3]
    assert found(shares, threshold=4, secret=MIXED) == Reconstructed(secret=MIXED, wrong=frozenset())


@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_wrong_shares_as_can_be_spared_are_named_wherever_they_are(count: int) -> None:
    shares = shares_of(MIXED, threshold=3, holders=6)
    for wrong in combinations(range(6), count):
        bent = {**shares, **{holder: moved(shares[holder], 1 + 7 * holder) for holder in wrong}}
        assert found(bent, threshold=3, secret=MIXED) == Reconstructed(secret=MIXED, wrong=frozenset(wrong))


def test_a_share_that_is_no_number_is_wrong_and_the_others_suffice() -> None:
    shares = shares_of(MIXED, threshold=3, holders=6)
    bent = {**shares, 0: b"", 2: PRIME.to_bytes(33, "big"), 4: moved(shares[4], 1)}
    assert found(bent, threshold=3, secret=MIXED) == Reconstructed(secret=MIXED, wrong=frozenset({0, 2, 4}))


@pytest.mark.parametrize("apart", [(0, 1), (3, 9), (0, 49), (16, 17)])
def test_two_wrong_of_fifty_are_named(apart: tuple[int, int]) -> None:
    shares = shares_of(MIXED, threshold=34, holders=50)
    bent = {**shares, **{holder: moved(shares[holder], 1) for holder in apart}}
    assert found(bent, threshold=34, secret=MIXED) == Reconstructed(secret=MIXED, wrong=frozenset(apart))


def test_two_liars_whose_errors_cancel_at_zero_cannot_put_the_blame_on_others() -> None:
    shares = shares_of(MIXED, threshold=3, holders=7)
    # Through 1, 2, 3 the weights at zero are 3, -3, 1: errors of 1 and 1 at the first two cancel.
    bent = {**shares, 0: moved(shares[0], 1), 1: moved(shares[1], 1)}
    assert Interpolation((0, 1, 2)).secrets([[bent[0]], [bent[1]], [bent[2]]]) == [MIXED]
    assert found(bent, threshold=3, secret=MIXED) == Reconstructed(secret=MIXED, wrong=frozenset({0, 1}))


def test_with_no_share_to_spare_the_secret_is_right_and_the_blame_is_open() -> None:
    shares = shares_of(MIXED, threshold=3, holders=4)
    bent = {**shares, 0: moved(shares[0], 1), 1: moved(shares[1], 1)}
    result = found(bent, threshold=3, secret=MIXED)
    assert result.secret == MIXED
    assert result.wrong == {3}, "the docstring of wrong warns of this"


def test_too_few_usable_shares_are_refused() -> None:
    shares = shares_of(MIXED, threshold=3, holders=3)
    with pytest.raises(ReconstructionError, match="2 of 3 needed shares are usable"):
        found({**shares, 1: bytes(32)}, threshold=3, secret=MIXED)
    with pytest.raises(ReconstructionError, match="0 of 2 needed"):
        found({}, threshold=2, secret=MIXED)


def test_shares_of_which_no_subset_fits_are_refused() -> None:
    shares = shares_of(MIXED, threshold=3, holders=5)
    with pytest.raises(ReconstructionError, match="no subset of its shares fits its commitment"):
        found(shares, threshold=3, secret=LOW)


def test_a_result_beyond_32_bytes_is_passed_over() -> None:
    asked: list[bytes] = []

    def holds(candidate: bytes) -> bool:
        asked.append(candidate)
        return False

    largest = (PRIME - 1).to_bytes(33, "big")  # the constant polynomial PRIME - 1
    with pytest.raises(ReconstructionError, match="no subset"):
        reconstruct({0: largest, 1: largest, 2: largest}, threshold=2, holds=holds, what="the seed")
    assert asked == []


def test_the_search_ends() -> None:
    shares = shares_of(MIXED, threshold=4, holders=20)
    tried = 0

    def holds(candidate: bytes) -> bool:
        nonlocal tried
        tried += 1
        return False

    with pytest.raises(ReconstructionError):
        reconstruct(shares, threshold=4, holds=holds, what="the seed")
    assert 0 < tried <= MAX_SUBSETS


@pytest.mark.parametrize(("holder", "threshold"), [(-1, 2), (MAX_HOLDERS, 2), (2, 1), (2, MAX_HOLDERS + 1)])
def test_a_holder_or_threshold_out_of_range_is_refused(holder: int, threshold: int) -> None:
    shares = shares_of(MIXED, threshold=2, holders=2)
    with pytest.raises(ValueError, match=r"number from 0|does not hold"):
        found({**shares, holder: shares[0]}, threshold=threshold, secret=MIXED)


def reach(holders: int, threshold: int, wrong: int) -> bool:
    """Whether every set of ``wrong`` holders is avoided by some subset that the search tries."""
    tried = [sum(1 << holder for holder in subset) for subset in list(_subsets(range(holders), threshold=threshold))]
    tried = tried[:MAX_SUBSETS]
    masks = (sum(1 << holder for holder in avoided) for avoided in combinations(range(holders), wrong))
    return all(any(not mask & subset for subset in tried) for mask in masks)


def test_the_search_reaches_what_it_promises() -> None:
    for holders in range(2, 11):
        for threshold in range(2, holders + 1):
            for wrong in range(holders - threshold + 1):
                assert reach(holders, threshold, wrong), (holders, threshold, wrong)
    assert reach(20, 14, 3)


@pytest.mark.parametrize(("holders", "threshold"), [(2, 2), (10, 7), (7, 2)])
def test_every_subset_that_is_tried_has_as_many_holders_as_the_threshold(holders: int, threshold: int) -> None:
    for subset in _subsets(range(holders), threshold=threshold):
        assert len(subset) == len(set(subset)) == threshold
