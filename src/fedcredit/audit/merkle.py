"""The Merkle tree of an append-only log (RFC 6962 section 2.1, RFC 9162 section 2.1).

A leaf hashes to ``SHA-256(0x00 || leaf)``, an inner node to ``SHA-256(0x01 || left || right)``, and the left part of a
tree of n leaves holds the largest power of two below n. A root does not fix the number of leaves: a proof speaks about
a *pair* of size and root, and that pair is what a checkpoint signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Literal

from fedcredit.encoding import DIGEST_LENGTH
from fedcredit.errors import LogProofError

Subject = Literal["root", "inclusion proof", "consistency proof"]

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of a log without entries."""
MAX_LOG_SIZE: Final = 2**63 - 1

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of one entry, 32 bytes."""
    return hashlib.sha256(_LEAF + leaf).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


class MerkleTree:
    """A tree in memory that only grows; every earlier size stays provable.

    ``levels[k][i]`` is the hash of the leaves from ``i * 2^k`` to ``(i + 1) * 2^k``, so a node is hashed once, when
    its last leaf arrives: two hashes per leaf and about 64 bytes of hashes, without the leaves themselves.
    """

    def __init__(self) -> None:
        self._levels: list[list[bytes]] = [[]]

    @property
    def size(self) -> int:
        """The number of entries."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add one entry and return its index."""
        levels = self._levels
        index = place = len(levels[0])
        node = leaf_hash(leaf)
        levels[0].append(node)
        height = 0
        while place & 1:
            node = _node_hash(levels[height][place - 1], node)
            place >>= 1
            height += 1
            if height == len(levels):
                levels.append([])
            levels[height].append(node)
        return index

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first ``size`` entries, of all without it.

        Raises:
            LogProofError: the log has fewer entries.
        """
        if size is None:
            size = self.size
        self._require_size(size, what="root")
        return self._subtree(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, *, size: int) -> tuple[bytes, ...]:
        """Return the proof that entry ``index`` is among the first ``size`` entries (RFC 9162 section 2.1.3.1).

        Its elements are the siblings on the way from the leaf to the root, 32 bytes each.

        Raises:
            LogProofError: there is no such entry or no such size.
        """
        self._require_size(size, what="inclusion proof")
        _require_index(index, size=size)
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(start, middle))
                start = middle
        return tuple(reversed(path))

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """Return the proof that the first ``new`` entries begin with the first ``old`` ones (RFC 9162 section 2.1.4.1).

        It is empty where there is nothing to prove: from no entries, and from a size to itself.

        Raises:
            LogProofError: there is no such size, or ``new`` is smaller than ``old``.
        """
        self._require_size(new, what="consistency proof")
        _require_growth(old, new)
        if old == 0:
            return ()
        path: list[bytes] = []
        start, end = 0, new
        while end != old:
            middle = start + _split(end - start)
            if old <= middle:
                path.append(self._subtree(middle, end))
                end = middle
            else:
                path.append(self._subtree(start, middle))
                start = middle
        if start:
            # Otherwise this subtree is the whole old tree, whose root the verifier holds.
            path.append(self._subtree(start, end))
        return tuple(reversed(path))

    def _require_size(self, size: int, *, what: Subject) -> None:
        if not 0 <= size <= self.size:
            raise LogProofError(what=what, problem=f"the log has {self.size} entries, not {size}")

    def _subtree(self, start: int, end: int) -> bytes:
        # ``start`` is a multiple of every power of two up to the length, so each set bit of the length is a stored
        # node. The smallest lies rightmost; the larger ones join it from the left.
        left = end - start
        lowest = left & -left
        left -= lowest
        node = self._levels[lowest.bit_length() - 1][(start + left) // lowest]
        while left:
            lowest = left & -left
            left -= lowest
            node = _node_hash(self._levels[lowest.bit_length() - 1][(start + left) // lowest], node)
        return node


def verify_inclusion(leaf: bytes, *, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Return only if ``proof`` shows that ``leaf`` is entry ``index`` of the log with this size and root.

    RFC 9162 section 2.1.3.2; the proof has exactly the elements that the index and the size ask for.

    Raises:
        LogProofError: anything else.
    """
    _require_log_size(size, what="inclusion proof")
    _require_index(index, size=size)
    _require_hashes(proof, what="inclusion proof")
    node = leaf_hash(leaf)
    place, last = index, size - 1
    for sibling in proof:
        if last == 0:
            raise LogProofError(what="inclusion proof", problem="it is too long")
        if place & 1 or place == last:
            node = _node_hash(sibling, node)
            place, last = _up_to_right_child(place, last)
        else:
            node = _node_hash(node, sibling)
        place >>= 1
        last >>= 1
    if last:
        raise LogProofError(what="inclusion proof", problem="it is too short")
    if node != root:
        raise LogProofError(what="inclusion proof", problem="it leads to another root")


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return only if ``proof`` shows that the log with the new size and root begins with the one of the old ones.

    RFC 9162 section 2.1.4.2. From an empty log and from a size to itself the proof is empty and the roots decide.

    Raises:
        LogProofError: anything else.
    """
    _require_log_size(new_size, what="consistency proof")
    _require_growth(old_size, new_size)
    _require_hashes(proof, what="consistency proof")
    if old_size in (0, new_size):
        _verify_trivial(old_size=old_size, old_root=old_root, new_size=new_size, new_root=new_root, proof=proof)
        return
    # A complete old tree is itself the first node of the path, and the verifier holds it.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise LogProofError(what="consistency proof", problem="it is too short")
    place, last = _strip_ones(old_size - 1, new_size - 1)
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise LogProofError(what="consistency proof", problem="it is too long")
        if place & 1 or place == last:
            old_node, new_node = _node_hash(sibling, old_node), _node_hash(sibling, new_node)
            place, last = _up_to_right_child(place, last)
        else:
            new_node = _node_hash(new_node, sibling)
        place >>= 1
        last >>= 1
    if last:
        raise LogProofError(what="consistency proof", problem="it is too short")
    if (old_node, new_node) != (old_root, new_root):
        raise LogProofError(what="consistency proof", problem="it leads to other roots")


def _verify_trivial(*, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    if proof:
        raise LogProofError(what="consistency proof", problem="it is too long")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise LogProofError(what="consistency proof", problem="an empty log has another root")
    if old_size == new_size and old_root != new_root:
        raise LogProofError(what="consistency proof", problem="one size has two roots")


def _split(size: int) -> int:
    """Return the largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _up_to_right_child(place: int, last: int) -> tuple[int, int]:
    # A node at the right edge without a sibling stands for its parent too, up to where it is a right child.
    while place and not place & 1:
        place >>= 1
        last >>= 1
    return place, last


def _strip_ones(place: int, last: int) -> tuple[int, int]:
    while place & 1:
        place >>= 1
        last >>= 1
    return place, last


def _require_log_size(size: int, *, what: Subject) -> None:
    if not 0 <= size <= MAX_LOG_SIZE:
        raise LogProofError(what=what, problem="its size is outside what a log can have")


def _require_index(index: int, *, size: int) -> None:
    if not 0 <= index < size:
        raise LogProofError(what="inclusion proof", problem=f"there is no entry {index} among {size}")


def _require_growth(old: int, new: int) -> None:
    if not 0 <= old <= new:
        raise LogProofError(what="consistency proof", problem=f"{new} entries do not continue {old}")


def _require_hashes(hashes: Sequence[bytes], *, what: Subject) -> None:
    if any(len(item) != DIGEST_LENGTH for item in hashes):
        raise LogProofError(what=what, problem="an element is not a hash")
