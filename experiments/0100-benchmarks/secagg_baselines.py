"""What alternatives to our secure aggregation cost: Flower's SecAgg+, CKKS of TenSEAL; and what the machine can do.

    python experiments/0100-benchmarks/secagg_baselines.py [--institutions 5 10 50] [--parameters 100000 1000000]

Every time is processor time, all threads together, best of the runs; ``openssl speed`` counts its own. Flower is
measured in ``flower_secagg.py``. Nothing is written: the figures of a README come from one run in which our own
protocol meets the same vectors (``secagg_figures.py``).
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from flower_secagg import FlowerRound, Vector
from numpy.typing import NDArray

Result = TypeVar("Result")

SEED = 7
BULK = 100_000_000
"""Bytes of the copies and of the sealed message."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Processor time of one step."""

    step: str
    institutions: int
    parameters: int
    lost: int
    runs_ms: tuple[float, ...]
    bytes_sent: int | None = None
    """Bytes that its result has on the wire, framing left out; ``None`` where nothing is sent."""

    @property
    def best_ms(self) -> float:
        """Return the fastest run in milliseconds."""
        return min(self.runs_ms)


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Processor time of something done to ``size`` bytes."""

    step: str
    size: int
    runs_ms: tuple[float, ...]

    @property
    def best_ms(self) -> float:
        """Return the fastest run in milliseconds."""
        return min(self.runs_ms)

    @property
    def gigabytes_per_s(self) -> float:
        """Return the rate of the fastest run."""
        return self.size / self.best_ms / 1e6


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A measurement that was not made; there is no number for it."""

    step: str
    reason: str


def threshold_for(institutions: int) -> int:
    """Return the smallest number above two thirds, the threshold that our plans use as well."""
    return 2 * institutions // 3 + 1


def private_vectors(institutions: int, parameters: int) -> list[Vector]:
    """Return one vector of small normal numbers per institution."""
    generator = np.random.default_rng(SEED)
    return [0.1 * generator.standard_normal(parameters, dtype=np.float32) for _ in range(institutions)]


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return what one call returns and its processor time in milliseconds."""
    begin = time.process_time()
    result = work()
    return result, (time.process_time() - begin) * 1e3


def flower_costs(vectors: Sequence[Vector], *, threshold: int, lost: Sequence[int], repeats: int) -> list[Cost]:
    """Return Flower's client (share, mask, reveal) and its server, the latter per number of ``lost``.

    Every member that lasts to the end counts as a run of the client.
    """
    shape = {"institutions": len(vectors), "parameters": len(vectors[0])}
    client: list[float] = []
    server: dict[int, list[float]] = {count: [] for count in lost}
    sent = 0
    for _ in range(repeats):
        flower = FlowerRound(vectors, threshold=threshold)
        for place, count in enumerate(lost):
            server[count].append(flower.server_ms(lost=count, clock=place == 0))
        client += [flower.client_ms[node] for node in flower.nodes[max(lost) :]]
        sent = flower.bytes_sent()
    return [
        Cost(step="flower client", lost=0, runs_ms=tuple(client), bytes_sent=sent, **shape),
        *(Cost(step="flower server", lost=count, runs_ms=tuple(runs), **shape) for count, runs in server.items()),
    ]


# CKKS.


@dataclass(frozen=True, kw_only=True)
class CkksSetting:
    """Parameters of CKKS at 128 bits of security; one key pair for all institutions."""

    name: str
    degree: int
    prime_bits: tuple[int, ...]
    scale_bits: int


CKKS_USUAL = CkksSetting(name="usual", degree=8192, prime_bits=(60, 40, 60), scale_bits=40)
"""One prime for a multiplication, as in TenSEAL's examples."""
CKKS_LEAN = CkksSetting(name="lean", degree=8192, prime_bits=(60, 60), scale_bits=40)
"""No prime for a multiplication: a sum needs none."""


class CkksSum:
    """Vectors encrypted in parts, added part by part, and opened with the one key."""

    def __init__(self, setting: CkksSetting) -> None:
        import tenseal

        self._tenseal = tenseal
        self._slots = setting.degree // 2
        self._context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            poly_modulus_degree=setting.degree,
            coeff_mod_bit_sizes=list(setting.prime_bits),
            n_threads=1,
        )
        self._context.global_scale = 2**setting.scale_bits

    def encrypted(self, vector: Vector) -> list[bytes]:
        parts = (vector[at : at + self._slots] for at in range(0, len(vector), self._slots))
        return [self._tenseal.ckks_vector(self._context, part).serialize() for part in parts]

    def summed(self, uploads: Sequence[Sequence[bytes]]) -> list[bytes]:
        total = [self._tenseal.ckks_vector_from(self._context, part) for part in uploads[0]]
        for upload in uploads[1:]:
            for place, part in enumerate(upload):
                total[place] += self._tenseal.ckks_vector_from(self._context, part)
        return [part.serialize() for part in total]

    def opened(self, total: Sequence[bytes]) -> NDArray[np.float64]:
        return np.concatenate([self._tenseal.ckks_vector_from(self._context, part).decrypt() for part in total])


def ckks_costs(vectors: Sequence[Vector], *, setting: CkksSetting, repeats: int) -> list[Cost] | Skipped:
    """Return what TenSEAL needs to encrypt one vector, to add all ciphertexts and to decrypt the sum, bytes included.

    Whoever decrypts can decrypt every single vector as well: the key is shared, so this is no equal of secure
    aggregation, only its price.
    """
    if importlib.util.find_spec("tenseal") is None:
        return Skipped(step=f"ckks {setting.name}", reason="tenseal is not installed: pip install -e '.[bench]'")
    ckks = CkksSum(setting)
    times: dict[str, list[float]] = {"client": [], "server": [], "decrypt": []}
    sent: dict[str, int | None] = {"decrypt": None}
    for _ in range(repeats):
        uploads = []
        for vector in vectors:
            upload, spent = timed(partial(ckks.encrypted, vector))
            uploads.append(upload)
            times["client"].append(spent)
        total, spent = timed(partial(ckks.summed, uploads))
        times["server"].append(spent)
        opened, spent = timed(partial(ckks.opened, total))
        times["decrypt"].append(spent)
        sent |= {"client": sum(map(len, uploads[0])), "server": sum(map(len, total))}
        assert np.abs(opened - np.sum(vectors, axis=0, dtype=np.float64)).max() < 1e-5, "CKKS did not return the sum"
    shape = {"institutions": len(vectors), "parameters": len(vectors[0])}
    return [
        Cost(step=f"ckks {setting.name} {step}", lost=0, runs_ms=tuple(runs), bytes_sent=sent[step], **shape)
        for step, runs in times.items()
    ]


# What the machine can do.


def memory_copy(size: int, *, repeats: int) -> Rate:
    """Return the time of copying ``size`` bytes between two buffers that were touched before."""
    source, target = np.ones(size, np.uint8), np.ones(size, np.uint8)
    runs = [timed(partial(np.copyto, target, source))[1] for _ in range(repeats)]
    return Rate(step="memcpy", size=size, runs_ms=tuple(runs))


def aes_gcm(size: int, *, repeats: int) -> tuple[Rate, Rate]:
    """Return the time of one AES-256-GCM seal and one open of ``size`` bytes, into buffers that were touched before."""
    cipher, nonce = AESGCM(bytes(range(32))), bytes(12)
    plain, sealed = np.ones(size, np.uint8), np.ones(size + 16, np.uint8)
    opened = np.ones(size, np.uint8)
    seals, opens = [], []
    for _ in range(repeats):
        # A nonce may repeat here, where key and message are public and the same.
        seals.append(timed(partial(cipher.encrypt_into, nonce, plain.data, None, sealed.data))[1])
        opens.append(timed(partial(cipher.decrypt_into, nonce, sealed.data, None, opened.data))[1])
    assert np.array_equal(plain, opened), "AES-GCM did not return the message"
    return (
        Rate(step="aes-256-gcm seal", size=size, runs_ms=tuple(seals)),
        Rate(step="aes-256-gcm open", size=size, runs_ms=tuple(opens)),
    )


def openssl_speed(*, seconds: int, block: int, repeats: int) -> Rate | Skipped:
    """Return what the ``openssl`` command measures for sealing with AES-256-GCM, in its user time per ``block``."""
    step = "openssl speed aes-256-gcm"
    command = shutil.which("openssl")
    if command is None:
        return Skipped(step=step, reason="there is no openssl command")
    arguments = ["speed", "-mr", "-seconds", str(seconds), "-bytes", str(block), "-evp", "aes-256-gcm"]
    runs = []
    for _ in range(repeats):
        done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
        lines = [line.split(":") for line in done.stdout.splitlines() if line.startswith("+F:")]
        if done.returncode != 0 or len(lines) != 1:
            return Skipped(step=step, reason=f"openssl speed ended with {done.returncode} and no rate")
        runs.append(block / float(lines[0][-1]) * 1e3)
    return Rate(step=step, size=block, runs_ms=tuple(runs))


def losses_of(institutions: int) -> tuple[int, int]:
    """Return the numbers of lost members that are measured: none, and one or, of many, five."""
    return (0, 5) if institutions >= 50 else (0, 1)


def repeats_for(institutions: int, parameters: int) -> int:
    """Return how often a round of Flower's is run; a minute's worth is run once."""
    return 1 if institutions * institutions * parameters > 10**9 else 3


def show(measured: Cost | Rate | Skipped) -> None:
    match measured:
        case Skipped():
            print(f"{measured.step}: not measured, {measured.reason}")
        case Rate():
            print(f"{measured.step}: {measured.best_ms:.2f} CPU ms, {measured.gigabytes_per_s:.2f} GB/s")
        case Cost():
            sent = (
                "" if measured.bytes_sent is None else f", {measured.bytes_sent / measured.parameters:.2f} B/parameter"
            )
            print(
                f"{measured.step}: n {measured.institutions} d {measured.parameters} lost {measured.lost}: "
                f"{measured.best_ms:.1f} CPU ms, best of {len(measured.runs_ms)}{sent}"
            )


def baselines(institutions: Sequence[int], parameters: Sequence[int]) -> Iterator[Cost | Rate | Skipped]:
    """Yield every baseline for these sizes, the bounds of the machine first; CKKS is measured for ten institutions."""
    yield memory_copy(BULK, repeats=9)
    yield from aes_gcm(BULK, repeats=9)
    yield openssl_speed(seconds=1, block=1 << 20, repeats=3)
    for size in parameters:
        for count in institutions:
            vectors = private_vectors(count, size)
            repeats = repeats_for(count, size)
            yield from flower_costs(vectors, threshold=threshold_for(count), lost=losses_of(count), repeats=repeats)
            for setting in (CKKS_USUAL, CKKS_LEAN) if count == 10 else ():
                costs = ckks_costs(vectors, setting=setting, repeats=3)
                yield from [costs] if isinstance(costs, Skipped) else costs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--institutions", type=int, nargs="+", default=[5, 10, 50])
    parser.add_argument("--parameters", type=int, nargs="+", default=[100_000, 1_000_000])
    sizes = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    for measured in baselines(sizes.institutions, sizes.parameters):
        show(measured)


if __name__ == "__main__":
    main()
