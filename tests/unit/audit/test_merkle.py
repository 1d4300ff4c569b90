from __future__ import annotations

import hashlib

import pytest

from fedcredit.audit.merkle import (
    EMPTY_ROOT,
    MAX_LOG_SIZE,
    MerkleTree,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from fedcredit.errors import LogProofError

# The vectors of the Certificate Transparency reference implementation (github.com/transparency-dev/merkle, testonly).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
LEAF_HASHES = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "0298d122906dcfc10892cb53a73992fc5b9f493ea4c9badb27b791b4127a7fe7",
    "07506a85fd9dd2f120eb694f86011e5bb4662e5c415a62917033d4a9624487e7",
    "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    "4271a26be0d8a84f0bd54c8c302e7cb3a3b5d1fa6780a40bcce2873477dab658",
    "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
    "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 2): ["96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"],
    (1, 2): ["6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def hashes(texts: list[str]) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(text) for text in texts)


def reference_tree() -> MerkleTree:
    tree = MerkleTree()
    for leaf in LEAVES:
        tree.append(leaf)
    return tree


TREE = reference_tree()


def include(**changes: object) -> None:
    arguments: dict[str, object] = {"index": 1, "size": 5, "root": TREE.root(5), "proof": TREE.inclusion(1, size=5)}
    leaf = changes.pop("leaf", LEAVES[1])
    verify_inclusion(leaf, **(arguments | changes))  # type: ignore[arg-type]


def continues(**changes: object) -> None:
    arguments: dict[str, object] = {
        "old_size": 6,
        "old_root": TREE.root(6),
        "new_size": 8,
        "new_root": TREE.root(8),
        "proof": TREE.consistency(6, 8),
    }
    verify_consistency(**(arguments | changes))  # type: ignore[arg-type]


def problem(error: pytest.ExceptionInfo[LogProofError]) -> tuple[object, object]:
    return error.value.fields["what"], error.value.fields["problem"]


def test_leaves_and_roots_are_those_of_the_reference_implementation() -> None:
    assert [leaf_hash(leaf).hex() for leaf in LEAVES] == LEAF_HASHES
    assert EMPTY_ROOT.hex() == ROOTS[0]
    tree = MerkleTree()
    assert (tree.size, tree.root().hex()) == (0, ROOTS[0])
    for index, leaf in enumerate(LEAVES):
        assert tree.append(leaf) == index
        assert (tree.size, tree.root().hex()) == (index + 1, ROOTS[index + 1])
    assert [tree.root(size).hex() for size in range(9)] == ROOTS


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference_implementation(index: int, size: int) -> None:
    proof = hashes(INCLUSION[index, size])
    assert TREE.inclusion(index, size=size) == proof
    verify_inclusion(LEAVES[index], index=index, size=size, root=bytes.fromhex(ROOTS[size]), proof=proof)


@pytest.mark.parametrize(("old", "new"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference_implementation(old: int, new: int) -> None:
    proof = hashes(CONSISTENCY[old, new])
    assert TREE.consistency(old, new) == proof
    verify_consistency(
        old_size=old,
        old_root=bytes.fromhex(ROOTS[old]),
        new_size=new,
        new_root=bytes.fromhex(ROOTS[new]),
        proof=proof,
    )


def test_a_leaf_cannot_stand_for_an_inner_node() -> None:
    inner = b"\x01" + bytes.fromhex(LEAF_HASHES[0]) + bytes.fromhex(LEAF_HASHES[1])
    assert hashlib.sha256(inner).hexdigest() == ROOTS[2]
    assert leaf_hash(inner[1:]).hex() != ROOTS[2]
    assert leaf_hash(inner).hex() != ROOTS[2]


@pytest.mark.parametrize("size", [-1, 9])
def test_a_size_that_the_log_does_not_have_is_refused(size: int) -> None:
    with pytest.raises(LogProofError) as error:
        TREE.root(size)
    assert problem(error) == ("root", f"the log has 8 entries, not {size}")
    with pytest.raises(LogProofError) as error:
        TREE.inclusion(0, size=size)
    assert problem(error) == ("inclusion proof", f"the log has 8 entries, not {size}")
    with pytest.raises(LogProofError) as error:
        TREE.consistency(0, size)
    assert problem(error) == ("consistency proof", f"the log has 8 entries, not {size}")


@pytest.mark.parametrize("index", [-1, 5])
def test_an_entry_that_the_size_does_not_have_is_refused(index: int) -> None:
    expected = ("inclusion proof", f"there is no entry {index} among 5")
    with pytest.raises(LogProofError) as error:
        TREE.inclusion(index, size=5)
    assert problem(error) == expected
    with pytest.raises(LogProofError) as error:
        include(index=index)
    assert problem(error) == expected


@pytest.mark.parametrize("old", [-1, 9])
def test_a_log_that_shrinks_has_no_consistency_proof(old: int) -> None:
    expected = ("consistency proof", f"8 entries do not continue {old}")
    with pytest.raises(LogProofError) as error:
        TREE.consistency(old, 8)
    assert problem(error) == expected
    with pytest.raises(LogProofError) as error:
        continues(old_size=old)
    assert problem(error) == expected


@pytest.mark.parametrize("size", [-1, MAX_LOG_SIZE + 1])
def test_a_size_that_no_log_has_is_refused(size: int) -> None:
    assert MAX_LOG_SIZE == 9_223_372_036_854_775_807
    continues(old_size=MAX_LOG_SIZE, old_root=TREE.root(), new_size=MAX_LOG_SIZE, new_root=TREE.root(), proof=())
    with pytest.raises(LogProofError, match="outside what a log can have"):
        include(size=size)
    with pytest.raises(LogProofError, match="outside what a log can have"):
        continues(new_size=size)


def test_an_inclusion_proof_has_exactly_its_length() -> None:
    include()
    with pytest.raises(LogProofError) as error:
        include(proof=TREE.inclusion(1, size=5)[:-1])
    assert problem(error) == ("inclusion proof", "it is too short")
    with pytest.raises(LogProofError) as error:
        include(proof=(*TREE.inclusion(1, size=5), EMPTY_ROOT))
    assert problem(error) == ("inclusion proof", "it is too long")


def test_a_consistency_proof_has_exactly_its_length() -> None:
    continues()
    for proof, expected in (
        (TREE.consistency(6, 8)[:-1], "it is too short"),
        ((), "it is too short"),
        ((*TREE.consistency(6, 8), EMPTY_ROOT), "it is too long"),
    ):
        with pytest.raises(LogProofError) as error:
            continues(proof=proof)
        assert problem(error) == ("consistency proof", expected)


def test_an_element_that_is_no_hash_is_refused() -> None:
    for element in (b"", bytes(31), bytes(33)):
        with pytest.raises(LogProofError, match="an element is not a hash"):
            include(proof=(element, *TREE.inclusion(1, size=5)[1:]))
        with pytest.raises(LogProofError, match="an element is not a hash"):
            continues(proof=(element, *TREE.consistency(6, 8)[1:]))


def test_another_leaf_or_root_is_refused() -> None:
    with pytest.raises(LogProofError) as error:
        include(leaf=LEAVES[2])
    assert problem(error) == ("inclusion proof", "it leads to another root")
    with pytest.raises(LogProofError):
        include(root=TREE.root(4))
    for change in ({"old_root": TREE.root(5)}, {"new_root": TREE.root(7)}):
        with pytest.raises(LogProofError) as error:
            continues(**change)
        assert problem(error) == ("consistency proof", "it leads to other roots")


def test_from_an_empty_log_and_to_itself_nothing_is_to_be_proven() -> None:
    continues(old_size=0, old_root=EMPTY_ROOT, proof=())
    continues(old_size=0, old_root=EMPTY_ROOT, new_size=0, new_root=EMPTY_ROOT, proof=())
    continues(old_size=8, old_root=TREE.root(8), proof=())
    assert TREE.consistency(0, 8) == TREE.consistency(8, 8) == ()
    for change, expected in (
        ({"old_size": 0, "old_root": EMPTY_ROOT, "proof": (EMPTY_ROOT,)}, "it is too long"),
        ({"old_size": 8, "old_root": TREE.root(8), "proof": (EMPTY_ROOT,)}, "it is too long"),
        ({"old_size": 0, "old_root": TREE.root(1), "proof": ()}, "an empty log has another root"),
        ({"old_size": 8, "old_root": TREE.root(7), "proof": ()}, "one size has two roots"),
        ({"old_size": 0, "old_root": EMPTY_ROOT, "new_size": 0, "proof": ()}, "one size has two roots"),
    ):
        with pytest.raises(LogProofError) as error:
            continues(**change)
        assert problem(error) == ("consistency proof", expected)


def test_a_root_alone_does_not_fix_the_number_of_entries() -> None:
    # Three and four leaves have the same way up from entry 0, so only a signed pair of size and root says which it is.
    verify_inclusion(LEAVES[0], index=0, size=3, root=TREE.root(3), proof=TREE.inclusion(0, size=3))
    verify_inclusion(LEAVES[0], index=0, size=4, root=TREE.root(3), proof=TREE.inclusion(0, size=3))
