"""How many numbers a second each noise law draws: million samples per second of CPU time on one core."""

from __future__ import annotations

import time
from collections.abc import Iterator

from fedcredit.crypto.streams import KeyStream
from fedcredit.lab.figures import Figure, median_of_runs
from fedcredit.privacy.noise import LAWS, noise_law

SIGMAS = (32, 256, 2_048)
SAMPLES = 1 << 21
"""Far beyond every cache, so that writing the result counts as well."""


def rate(name: str, sigma: int, stream: KeyStream) -> float:
    begin = time.process_time()
    noise_law(name, sigma).sample(stream, SAMPLES)
    return SAMPLES / (time.process_time() - begin) / 1e6


def noise_rates(repeats: int) -> Iterator[Figure]:
    """Yield one figure per law and deviation; the laws take turns, and the turn that builds the tables is left out."""
    stream = KeyStream(bytes(32))
    for sigma in SIGMAS:
        turns = [{name: rate(name, sigma, stream) for name in LAWS} for _ in range(repeats + 1)][1:]
        for name in LAWS:
            yield median_of_runs(
                f"noise.rate.{name}.s{sigma}",
                [turn[name] for turn in turns],
                unit="million samples per CPU second",
                seeds=[0],
                data="synthetic-benchmark",
            )


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section."""
    return noise_rates(3 if quick else 9)


if __name__ == "__main__":
    for figure in noise_rates(9):
        print(figure)
