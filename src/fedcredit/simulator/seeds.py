"""Randomness of the simulated world: one integer seed, and a named child for everything that draws.

Children are independent of each other and of the order in which they are asked for, so that a vehicle's five-minute
series can be drawn alone, years after its contract, and be the same. This is experiments' randomness: it hides nothing.
"""

from __future__ import annotations

import hashlib

import numpy as np


def child(seed: int, *names: str | int) -> np.random.Generator:
    """Return the generator of ``names`` under ``seed`` (PCG64 over a ``SeedSequence`` with the names as spawn key).

    Names are hashed with SHA-256: Python's own ``hash`` of a text differs from process to process.
    """
    path = "\x1f".join(str(name) for name in names).encode()
    words = np.frombuffer(hashlib.sha256(path).digest()[:16], dtype="<u4")
    sequence = np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words))
    return np.random.default_rng(sequence)


def tokens(rng: np.random.Generator, count: int, length: int = 64) -> np.ndarray:
    """Return ``count`` distinct-looking lower-case hex texts of ``length`` characters, as fixed-width bytes."""
    text = rng.bytes(count * length // 2).hex().encode()
    return np.frombuffer(text, dtype=f"S{length}")
