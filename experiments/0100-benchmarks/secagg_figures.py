"""What secure aggregation costs: against Flower's SecAgg+, against the keystreams it cannot do without, and in itself.

Ratios are of processor time, both sides measured in turn in this process on the same vectors. One institution's time is
the median over the members of a round. Nothing that another member of the process has verified helps it.
"""

from __future__ import annotations

import logging
import os
import statistics
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from secagg_baselines import flower_costs, losses_of, private_vectors, threshold_for
from secagg_rounds import (
    BITS,
    OurEpoch,
    OurRound,
    framed,
    noised_seal,
    processor_ms,
)

from fedcredit.crypto.channels import CHANNEL_OVERHEAD
from fedcredit.crypto.streams import KeyStream
from fedcredit.lab.figures import Figure, median_of_runs
from fedcredit.secagg.masking import BLOCK_BYTES, add_masks
from fedcredit.secagg.member import protect
from fedcredit.secagg.ring import Lanes, to_ring

SEED = 7
INSTITUTIONS = (5, 10, 50)


def size_name(institutions: int, parameters: int) -> str:
    """Return the part of an id that names a size; only powers of ten have names."""
    exponent = len(str(parameters)) - 1
    if parameters != 10**exponent:
        raise ValueError("the number of parameters is no power of ten")
    return f"n{institutions}.d1e{exponent}"


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is measured, and how often."""

    institutions: Sequence[int]
    parameters: Sequence[int]
    masked: Sequence[int]
    """Lengths for the masks alone."""
    pairs: int
    pairs_of_many: int
    """For 50 institutions, where a round of Flower's takes a minute."""

    @classmethod
    def chosen(cls, *, quick: bool) -> Sizes:
        """Return the sizes of the design's table, or such as show in seconds that everything runs."""
        if quick:
            return cls(institutions=(5, 10), parameters=(10_000,), masked=(100_000,), pairs=2, pairs_of_many=1)
        return cls(
            institutions=INSTITUTIONS,
            parameters=(100_000, 1_000_000),
            masked=(1_000_000, 10_000_000),
            pairs=15,
            pairs_of_many=3,
        )

    def pairs_for(self, institutions: int) -> int:
        """Return how many ratios there are."""
        return self.pairs_of_many if institutions >= 50 else self.pairs


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    sizes = Sizes.chosen(quick=quick)
    for parameters in sizes.parameters:
        for institutions in sizes.institutions:
            yield from versus_flower(institutions, parameters, pairs=sizes.pairs_for(institutions))
    for parameters in sizes.masked:
        for institutions in sizes.institutions:
            yield from mask_figures(institutions, parameters, pairs=sizes.pairs)
    for institutions in sizes.institutions:
        yield from upload_figures(institutions, sizes.parameters[-1], repeats=sizes.pairs)
    yield from epoch_figures(sizes.institutions[-1])
    yield memory_figure(sizes.institutions[-1], sizes.parameters[-1])


# --- against Flower --------------------------------------------------------------------------------------------------


@dataclass
class Compared:
    """Ratios of one size, one per pair of rounds."""

    client: list[float] = field(default_factory=list)
    upload: list[float] = field(default_factory=list)
    """Flower's client against our upload alone, without agreement and reveal: the client of the design's table."""
    server: dict[int, list[float]] = field(default_factory=dict)
    """By the number of lost members."""
    opening: dict[int, list[float]] = field(default_factory=dict)
    """Flower's server against ours without accepting uploads, which it has nothing like."""
    keystreams: dict[int, list[float]] = field(default_factory=dict)
    """Our server without accepting uploads against the keystreams that have to come off."""


def versus_flower(institutions: int, parameters: int, *, pairs: int) -> Iterator[Figure]:
    """Yield Flower's time divided by ours, for one institution and for the coordinator with and without losses."""
    vectors = private_vectors(institutions, parameters)
    threshold, losses = threshold_for(institutions), losses_of(institutions)
    epoch = OurEpoch(institutions, threshold=threshold)
    _warm_up(vectors)
    found = Compared()
    for _ in range(pairs):
        client, *servers = flower_costs(vectors, threshold=threshold, lost=losses, repeats=1)
        round_ = OurRound(epoch, vectors)
        costs = {lost: round_.server(lost=lost, clock=lost == 0) for lost in losses}
        found.upload.append(statistics.median(client.runs_ms) / statistics.median(round_.upload_ms.values()))
        found.client.append(statistics.median(client.runs_ms) / statistics.median(round_.client_ms.values()))
        for theirs in servers:
            lost, cost = theirs.lost, costs[theirs.lost]
            streams = (1 + lost) * (institutions - lost)
            bound = keystream_ms(parameters, streams=streams)
            found.server.setdefault(lost, []).append(theirs.best_ms / (cost.take_ms + cost.open_ms))
            found.opening.setdefault(lost, []).append(theirs.best_ms / cost.open_ms)
            found.keystreams.setdefault(lost, []).append(cost.open_ms / bound)
    size = size_name(institutions, parameters)
    yield _figure(f"secagg.client.vs-flwr.{size}", found.client, unit="ratio")
    yield _figure(f"secagg.upload.vs-flwr.{size}", found.upload, unit="ratio")
    for lost in losses:
        drops = "-drops" if lost else ""
        yield _figure(f"secagg.server{drops}.vs-flwr.{size}", found.server[lost], unit="ratio")
        yield _figure(f"secagg.opening{drops}.vs-flwr.{size}", found.opening[lost], unit="ratio")
        if lost:
            yield _figure(f"secagg.recovery.vs-keystreams.{size}", found.keystreams[lost], unit="ratio")


def _warm_up(vectors: Sequence[NDArray[np.float32]]) -> None:
    """Run both sides once with three members, which does not count."""
    few, threshold = vectors[:3], threshold_for(3)
    flower_costs(few, threshold=threshold, lost=(0,), repeats=1)
    OurRound(OurEpoch(3, threshold=threshold), few).server(lost=0, clock=True)


# --- against the keystreams ------------------------------------------------------------------------------------------


Fill: TypeAlias = Callable[[memoryview], object]


def ours(key: bytes) -> Fill:
    """Return how our own keystream fills the next buffer."""
    return KeyStream(key).read_into


def counter_mode(key: bytes) -> Fill:
    """Return how the library's AES-256-CTR fills the next buffer: the same bytes, and the bound of the design."""
    encryptor, zeros = Cipher(AES256(key), CTR(bytes(16))).encryptor(), memoryview(bytes(BLOCK_BYTES))
    return lambda room: encryptor.update_into(zeros[: len(room)], room)


def keystream_ms(parameters: int, *, streams: int = 1, begin: Callable[[bytes], Fill] = counter_mode) -> float:
    """Return the time of drawing keystreams as long as a vector into one block of memory, over and over."""
    length, room = parameters * BITS // 8, np.ones(BLOCK_BYTES, np.uint8)
    keys = [os.urandom(32) for _ in range(streams)]

    def draw() -> None:
        for key in keys:
            fill = begin(key)
            for start in range(0, length, BLOCK_BYTES):
                fill(room.data[: min(BLOCK_BYTES, length - start)])

    return processor_ms(draw)[1]


def mask_figures(institutions: int, parameters: int, *, pairs: int) -> Iterator[Figure]:
    """Yield masking a vector divided by its keystreams and one pass of additions, after a pair that does not count.

    The keystreams of the bound are the library's counter mode; ``vs-own-keystreams`` takes ours instead.
    """
    lanes, other = (np.ones(parameters, np.uint32) for _ in range(2))
    bound, own_bound = [], []
    for _ in range(pairs + 1):
        own, *shared = (os.urandom(32) for _ in range(institutions))
        half = len(shared) // 2
        plus, minus = [own, *shared[:half]], shared[half:]
        masking = processor_ms(lambda plus=plus, minus=minus: add_masks(lanes, plus=plus, minus=minus))[1]
        adding = processor_ms(lambda: np.add(lanes, other, out=lanes))[1]
        bound.append(masking / (keystream_ms(parameters, streams=institutions) + adding))
        own_bound.append(masking / (keystream_ms(parameters, streams=institutions, begin=ours) + adding))
    size = size_name(institutions, parameters)
    yield _figure(f"secagg.mask.vs-bound.{size}", bound[1:], unit="ratio")
    yield _figure(f"secagg.mask.vs-own-keystreams.{size}", own_bound[1:], unit="ratio")


# --- one upload ------------------------------------------------------------------------------------------------------


def upload_figures(institutions: int, parameters: int, *, repeats: int) -> Iterator[Figure]:
    """Yield the time from a clipped sum to a sealed upload, and what a round sends beside the raw lanes."""
    vector = private_vectors(1, parameters)[0]
    epoch = OurEpoch(institutions, threshold=threshold_for(institutions))
    times = [noised_seal(epoch, vector) for _ in range(repeats + 1)][1:]
    per_parameter = [spent * 1e6 / parameters for spent in times]
    yield _figure(f"secagg.protect.ns-per-parameter.n{institutions}", per_parameter, unit="ns")
    round_ = OurRound(epoch, [vector] * institutions)
    round_.server(lost=0, clock=False)
    sent = sum(framed(round_)) + 3 * CHANNEL_OVERHEAD
    raw = parameters * BITS // 8
    overhead = [100 * (sent - raw) / raw]
    yield _figure(f"secagg.wire-overhead.{size_name(institutions, parameters)}", overhead, unit="percent")


# --- what does not depend on the length ------------------------------------------------------------------------------


def epoch_figures(institutions: int) -> Iterator[Figure]:
    """Yield what one member computes and sends to set an epoch up, and what agreeing and revealing take per round."""
    epoch = OurEpoch(institutions, threshold=threshold_for(institutions))
    yield _figure(f"secagg.setup.ms.n{institutions}", list(epoch.setup_ms.values()), unit="ms")
    yield _figure(f"secagg.setup.bytes.n{institutions}", list(epoch.setup_bytes.values()), unit="bytes")
    round_ = OurRound(epoch, private_vectors(institutions, 1000))
    round_.server(lost=0, clock=True)
    yield _figure(f"secagg.accept-reveal.ms.n{institutions}", list(round_.opening_ms.values()), unit="ms")


def memory_figure(institutions: int, parameters: int) -> Figure:
    """Return the memory that masking and sharing need beside the vector, by Python's and numpy's own count."""
    epoch = OurEpoch(institutions, threshold=threshold_for(institutions))
    lanes: Lanes = to_ring(np.zeros(parameters, np.int64), bits=BITS)
    roots, peaks = epoch.roots[epoch.names[0]], []
    for _ in range(3):
        tracemalloc.start()
        protect(lanes, roots, manifest_digest=os.urandom(32), round_number=1, attempt=1, entropy=os.urandom)
        peaks.append(float(tracemalloc.get_traced_memory()[1]))
        tracemalloc.stop()
    return _figure("secagg.memory.bytes", peaks, unit="bytes")


def _figure(name: str, values: Sequence[float], *, unit: str) -> Figure:
    return median_of_runs(name, values, unit=unit, seeds=[SEED], data="synthetic-benchmark")
