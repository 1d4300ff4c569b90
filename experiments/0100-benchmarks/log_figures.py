"""The audit log's tree at 100,000 entries: microseconds to append, to make a proof, and to check one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from fedcredit.audit.merkle import MerkleTree, verify_consistency, verify_inclusion
from fedcredit.lab.figures import Figure, median_of_runs

ENTRIES = 100_000
PROOFS = 1_000


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section."""
    entries, repeats = (1_000, 2) if quick else (ENTRIES, 7)
    leaves = [b"an entry of the log" + number.to_bytes(200, "big") for number in range(entries)]
    found: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        for name, value in _once(leaves).items():
            found.setdefault(name, []).append(value)
    for name, values in found.items():
        yield median_of_runs(name, values[1:], unit="microseconds", seeds=[7], data="synthetic-benchmark")


def _once(leaves: Sequence[bytes]) -> dict[str, float]:
    tree, size = MerkleTree(), len(leaves)
    places = [int(place) for place in np.random.default_rng(7).integers(1, size, size=min(PROOFS, size))]
    appending = _microseconds(lambda: [tree.append(leaf) for leaf in leaves], size)
    root, roots = tree.root(size), {old: tree.root(old) for old in places}
    inclusion = {place: tree.inclusion(place, size=size) for place in places}
    consistency = {old: tree.consistency(old, size) for old in places}

    def check_inclusion() -> None:
        for place in places:
            verify_inclusion(leaves[place], index=place, size=size, root=root, proof=inclusion[place])

    def check_consistency() -> None:
        for old in places:
            verify_consistency(old_size=old, old_root=roots[old], new_size=size, new_root=root, proof=consistency[old])

    count = len(places)
    return {
        "log.append.us": appending,
        "log.inclusion.us": _microseconds(lambda: [tree.inclusion(place, size=size) for place in places], count),
        "log.inclusion-check.us": _microseconds(check_inclusion, count),
        "log.consistency.us": _microseconds(lambda: [tree.consistency(old, size) for old in places], count),
        "log.consistency-check.us": _microseconds(check_consistency, count),
    }


def _microseconds(work: Callable[[], object], count: int) -> float:
    begin = time.process_time()
    work()
    return (time.process_time() - begin) * 1e6 / count
