"""CKKS of TenSEAL against our secure aggregation: what one of ten institutions computes and sends for one vector.

CKKS has one key for everybody, so the coordinator and any institution together read every vector: it is a price, and no
equal. Two settings, both at 128 bits of security: ``usual`` as in TenSEAL's examples, ``lean`` for sums alone.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Iterator

import numpy as np
from secagg_baselines import CKKS_LEAN, CKKS_USUAL, CkksSum, private_vectors, threshold_for
from secagg_rounds import OurEpoch, OurRound, framed, processor_ms

from fedcredit.crypto.channels import CHANNEL_OVERHEAD
from fedcredit.lab.figures import Figure, median_of_runs

INSTITUTIONS = 10


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section, or none without TenSEAL."""
    if importlib.util.find_spec("tenseal") is None:
        print("ckks: not measured, tenseal is not installed: pip install -e '.[bench]'")
        return
    parameters, pairs = (10_000, 2) if quick else (1_000_000, 5)
    vectors = private_vectors(INSTITUTIONS, parameters)
    epoch = OurEpoch(INSTITUTIONS, threshold=threshold_for(INSTITUTIONS))
    for setting in (CKKS_USUAL, CKKS_LEAN):
        ckks, times, sizes = CkksSum(setting), [], []
        for _ in range(pairs + 1):
            theirs, spent = processor_ms(lambda ckks=ckks: ckks.encrypted(vectors[0]))
            assert np.abs(ckks.opened(theirs) - vectors[0]).max() < 1e-5, "CKKS did not return the vector"
            ours = OurRound(epoch, vectors)
            ours.server(lost=0, clock=True)
            times.append(spent / statistics.median(ours.client_ms.values()))
            sizes.append(sum(map(len, theirs)) / (sum(framed(ours)) + 3 * CHANNEL_OVERHEAD))
        yield _figure(f"ckks.client.vs-fedcredit.{setting.name}", times[1:])
        yield _figure(f"ckks.bytes.vs-fedcredit.{setting.name}", sizes[1:])


def _figure(name: str, values: list[float]) -> Figure:
    return median_of_runs(name, values, unit="ratio", seeds=[7], data="synthetic-benchmark")
