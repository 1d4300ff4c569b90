"""PROTOCOL.md 9.1, attack 1: every bit of a seed counts, and no generator for experiments protects anybody.

Flower folds its seed by exclusive or into 32 bits, so that two flipped bits 32 places apart cancel; the same search
finds them there and nothing here. The search of all seeds that reads an update there is in
``test_secagg_same_attacks``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from attacks.secagg_plus.masks import own_mask
from attacks.secagg_plus.target import Residues

from fedcredit.secagg.masking import add_masks

SEED = bytes(range(7, 7 + 32))
BITS = 8 * len(SEED)
Generator = Callable[[bytes, int], Residues]


def our_mask(seed: bytes, size: int) -> Residues:
    lanes = np.zeros(size, np.uint32)
    add_masks(lanes, plus=[seed], minus=[])
    return lanes


def with_flipped(*places: int) -> bytes:
    number = int.from_bytes(SEED, "little")
    for place in places:
        number ^= 1 << place
    return number.to_bytes(len(SEED), "little")


def cancelling(generator: Generator) -> list[tuple[int, int]]:
    """Return the pairs of bits, whole words apart, that can be flipped together without another mask."""
    pairs = [pair for pair in itertools.combinations(range(BITS), 2) if (pair[1] - pair[0]) % 32 == 0]
    whole = generator(SEED, 8).tolist()
    return [pair for pair in pairs if generator(with_flipped(*pair), 8).tolist() == whole]


def test_each_of_the_256_bits_of_a_seed_changes_half_of_the_mask() -> None:
    size = 1_000
    whole = our_mask(SEED, size)
    for place in range(BITS):
        changed = int(np.bitwise_count(whole ^ our_mask(with_flipped(place), size)).sum())
        # 32,000 bits, each of which changes with probability 1/2: deviation 89; six of them, 5e-7 over all 256 bits.
        assert abs(changed - 16_000) < 537, place


def test_no_two_of_all_seeds_that_differ_in_one_or_two_bits_begin_alike() -> None:
    seeds = [SEED, *(with_flipped(place) for place in range(BITS))]
    seeds += [with_flipped(*pair) for pair in itertools.combinations(range(BITS), 2)]
    assert len(seeds) == 1 + 256 + 32_640
    assert len({our_mask(seed, 4).tobytes() for seed in seeds}) == len(seeds)


def test_the_bits_that_cancel_in_flowers_fold_do_not_cancel_here() -> None:
    assert len(cancelling(own_mask)) == 32 * (8 * 7 // 2)
    assert cancelling(our_mask) == []
