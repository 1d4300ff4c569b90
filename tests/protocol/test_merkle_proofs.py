"""Every proof of a small log against the definitions of RFC 6962, and every way to bend one."""

from __future__ import annotations

import hashlib
from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedcredit.audit.merkle import MerkleTree, verify_consistency, verify_inclusion
from fedcredit.errors import LogProofError

LARGEST = 257
LEAVES = [b"entry %d" % index for index in range(LARGEST)]
UNHURRIED = settings(deadline=None)  # a busy machine is no finding


def grow(leaves: list[bytes]) -> MerkleTree:
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree


TREE = grow(LEAVES)


# --- RFC 6962 section 2.1, word for word over D[start:end] ---------------------------------------------------


@cache
def mth(start: int, end: int) -> bytes:
    n = end - start
    if n == 0:
        return hashlib.sha256().digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + LEAVES[start]).digest()
    k = largest_power_below(n)
    return hashlib.sha256(b"\x01" + mth(start, start + k) + mth(start + k, end)).digest()


def largest_power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def path(m: int, start: int, end: int) -> list[bytes]:
    n = end - start
    if n == 1:
        return []
    k = largest_power_below(n)
    if m < k:
        return [*path(m, start, start + k), mth(start + k, end)]
    return [*path(m - k, start + k, end), mth(start, start + k)]


def subproof(m: int, start: int, end: int, *, whole: bool) -> list[bytes]:
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = largest_power_below(n)
    if m <= k:
        return [*subproof(m, start, start + k, whole=whole), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, whole=False), mth(start, start + k)]


def sides_of_inclusion(m: int, n: int) -> str:
    """The turns from the leaf to the root: all that a proof shows about index and size."""
    if n == 1:
        return ""
    k = largest_power_below(n)
    return sides_of_inclusion(m, k) + "R" if m < k else sides_of_inclusion(m - k, n - k) + "L"


def sides_of_consistency(m: int, n: int, *, whole: bool = True) -> str:
    if m == n:
        return "known " if whole else "given "
    k = largest_power_below(n)
    if m <= k:
        return sides_of_consistency(m, k, whole=whole) + "R"
    return sides_of_consistency(m - k, n - k, whole=False) + "L"


# --- exhaustive ----------------------------------------------------------------------------------------------


def test_every_root_is_that_of_the_definition() -> None:
    assert [TREE.root(size) for size in range(LARGEST + 1)] == [mth(0, size) for size in range(LARGEST + 1)]


def test_every_inclusion_proof_is_that_of_the_definition_and_verifies() -> None:
    for size in range(1, LARGEST + 1):
        root = mth(0, size)
        for index in range(size):
            proof = TREE.inclusion(index, size=size)
            assert list(proof) == path(index, 0, size)
            verify_inclusion(LEAVES[index], index=index, size=size, root=root, proof=proof)


def test_every_consistency_proof_is_that_of_the_definition_and_verifies() -> None:
    for new in range(1, LARGEST + 1):
        for old in range(1, new + 1):
            proof = TREE.consistency(old, new)
            assert list(proof) == subproof(old, 0, new, whole=True)
            verify_consistency(old_size=old, old_root=mth(0, old), new_size=new, new_root=mth(0, new), proof=proof)


def test_no_proof_may_lack_an_element_or_have_one_more() -> None:
    for size in range(1, 34):
        for place in range(size):
            proof = TREE.inclusion(place, size=size)
            for other in one_element_off(proof):
                with pytest.raises(LogProofError):
                    verify_inclusion(LEAVES[place], index=place, size=size, root=mth(0, size), proof=other)
            old = place + 1
            proof = TREE.consistency(old, size)
            for other in one_element_off(proof):
                with pytest.raises(LogProofError):
                    verify_consistency(
                        old_size=old, old_root=mth(0, old), new_size=size, new_root=mth(0, size), proof=other
                    )


def one_element_off(proof: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    missing = [proof[:place] + proof[place + 1 :] for place in range(len(proof))]
    surplus = [(*proof[:place], mth(0, 1), *proof[place:]) for place in range(len(proof) + 1)]
    doubled = [proof[: place + 1] + proof[place:] for place in range(len(proof))]
    return missing + surplus + doubled


def test_every_changed_byte_of_every_entry_is_found() -> None:
    size = 33
    root = TREE.root(size)
    for index in range(size):
        proof = TREE.inclusion(index, size=size)
        for place in range(len(LEAVES[index])):
            changed = bytearray(LEAVES[index])
            changed[place] ^= 1
            with pytest.raises(LogProofError):
                verify_inclusion(bytes(changed), index=index, size=size, root=root, proof=proof)
            assert grow([*LEAVES[:index], bytes(changed), *LEAVES[index + 1 : size]]).root() != root


def test_a_fork_at_any_entry_is_found_by_who_holds_a_head_behind_it() -> None:
    size = 33
    for fork in range(size):
        forked = grow([*LEAVES[:fork], b"another entry", *LEAVES[fork + 1 : size + 7]])
        for held in range(1, size + 1):
            for new in (size, size + 7):
                step = {
                    "old_size": held,
                    "old_root": TREE.root(held),
                    "new_size": new,
                    "new_root": forked.root(new),
                    "proof": forked.consistency(held, new),
                }
                if held <= fork:
                    verify_consistency(**step)  # type: ignore[arg-type]
                    continue
                with pytest.raises(LogProofError):
                    verify_consistency(**step)  # type: ignore[arg-type]


def test_entries_that_are_exchanged_or_left_out_are_found() -> None:
    size = 20
    for place in range(size - 1):
        exchanged = [*LEAVES[:place], LEAVES[place + 1], LEAVES[place], *LEAVES[place + 2 : size]]
        left_out = [*LEAVES[:place], *LEAVES[place + 1 : size + 1]]
        for leaves in (exchanged, left_out):
            other = grow([*leaves, b"later"])
            with pytest.raises(LogProofError):
                verify_consistency(
                    old_size=size,
                    old_root=TREE.root(size),
                    new_size=size + 1,
                    new_root=other.root(),
                    proof=other.consistency(size, size + 1),
                )


# --- generated -----------------------------------------------------------------------------------------------


@st.composite
def included(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(1, LARGEST))
    return draw(st.integers(0, size - 1)), size


@st.composite
def grown(draw: st.DrawFn) -> tuple[int, int]:
    new = draw(st.integers(2, LARGEST))
    return draw(st.integers(1, new - 1)), new


def flip(data: st.DataObject, value: bytes) -> bytes:
    changed = bytearray(value)
    place = data.draw(st.integers(0, len(value) - 1))
    changed[place] ^= data.draw(st.integers(1, 255))
    return bytes(changed)


def flip_one(data: st.DataObject, proof: tuple[bytes, ...]) -> tuple[bytes, ...]:
    place = data.draw(st.integers(0, len(proof) - 1))
    return (*proof[:place], flip(data, proof[place]), *proof[place + 1 :])


@given(included(), st.data())
@UNHURRIED
def test_any_flipped_byte_of_an_inclusion_proof_is_found(where: tuple[int, int], data: st.DataObject) -> None:
    index, size = where
    leaf, root, proof = LEAVES[index], TREE.root(size), TREE.inclusion(index, size=size)
    part = data.draw(st.sampled_from(["leaf", "root", "proof"] if proof else ["leaf", "root"]))
    if part == "leaf":
        leaf = flip(data, leaf)
    elif part == "root":
        root = flip(data, root)
    else:
        proof = flip_one(data, proof)
    with pytest.raises(LogProofError):
        verify_inclusion(leaf, index=index, size=size, root=root, proof=proof)


@given(included(), st.integers(-2, 2 * LARGEST))
@UNHURRIED
def test_any_other_index_is_found(where: tuple[int, int], other: int) -> None:
    index, size = where
    assume(other != index)
    with pytest.raises(LogProofError):
        verify_inclusion(
            LEAVES[index], index=other, size=size, root=TREE.root(size), proof=TREE.inclusion(index, size=size)
        )


@given(included(), st.integers(-2, 2 * LARGEST))
@UNHURRIED
def test_another_size_is_found_unless_the_way_up_is_the_same(where: tuple[int, int], other: int) -> None:
    index, size = where
    arguments = {"index": index, "root": TREE.root(size), "proof": TREE.inclusion(index, size=size)}
    if other > index and sides_of_inclusion(index, other) == sides_of_inclusion(index, size):
        verify_inclusion(LEAVES[index], size=other, **arguments)  # type: ignore[arg-type]
        return
    with pytest.raises(LogProofError):
        verify_inclusion(LEAVES[index], size=other, **arguments)  # type: ignore[arg-type]


@given(grown(), st.data())
@UNHURRIED
def test_any_flipped_byte_of_a_consistency_proof_is_found(where: tuple[int, int], data: st.DataObject) -> None:
    old, new = where
    old_root, new_root, proof = TREE.root(old), TREE.root(new), TREE.consistency(old, new)
    part = data.draw(st.sampled_from(["old root", "new root", "proof"]))
    if part == "old root":
        old_root = flip(data, old_root)
    elif part == "new root":
        new_root = flip(data, new_root)
    else:
        proof = flip_one(data, proof)
    with pytest.raises(LogProofError):
        verify_consistency(old_size=old, old_root=old_root, new_size=new, new_root=new_root, proof=proof)


@given(grown(), st.integers(-2, LARGEST), st.integers(-2, 2 * LARGEST))
@UNHURRIED
def test_other_sizes_are_found_unless_the_way_up_is_the_same(
    where: tuple[int, int], other_old: int, other_new: int
) -> None:
    old, new = where
    proof = TREE.consistency(old, new)
    for shown_old, shown_new in ((other_old, new), (old, other_new), (other_old, other_new)):
        step = {
            "old_size": shown_old,
            "old_root": TREE.root(old),
            "new_size": shown_new,
            "new_root": TREE.root(new),
            "proof": proof,
        }
        sound = 0 < shown_old < shown_new
        if sound and sides_of_consistency(shown_old, shown_new) == sides_of_consistency(old, new):
            verify_consistency(**step)  # type: ignore[arg-type]
            continue
        with pytest.raises(LogProofError):
            verify_consistency(**step)  # type: ignore[arg-type]


@given(grown(), st.data())
@UNHURRIED
def test_the_proof_of_other_sizes_does_not_serve(where: tuple[int, int], data: st.DataObject) -> None:
    old, new = where
    other_old, other_new = data.draw(grown())
    proof = TREE.consistency(other_old, other_new)
    assume(proof != TREE.consistency(old, new))
    with pytest.raises(LogProofError):
        verify_consistency(old_size=old, old_root=TREE.root(old), new_size=new, new_root=TREE.root(new), proof=proof)


@given(st.lists(st.binary(max_size=40), max_size=70), st.lists(st.binary(max_size=40), max_size=20))
@UNHURRIED
def test_a_tree_proves_what_it_was_before_it_grew(first: list[bytes], more: list[bytes]) -> None:
    before = grow(first)
    after = grow(first + more)
    assert after.root(len(first)) == before.root()
    verify_consistency(
        old_size=before.size,
        old_root=before.root(),
        new_size=after.size,
        new_root=after.root(),
        proof=after.consistency(before.size, after.size),
    )
    for index, leaf in enumerate(first):
        verify_inclusion(
            leaf,
            index=index,
            size=after.size,
            root=after.root(),
            proof=after.inclusion(index, size=after.size),
        )
