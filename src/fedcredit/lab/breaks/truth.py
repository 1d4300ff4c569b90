"""What a member really put under its mask: its borrowers summed again, with the random bytes that it drew.

No attacker has this. It is what an exact sum is compared with, and what a snoop must not find.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from fedcredit.envelope import OpenedRequest
from fedcredit.institution.node import LEDGER, Node
from fedcredit.institution.releases import NoisedSums, RunContext
from fedcredit.messages import weights_from_bytes
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

Integers = npt.NDArray[np.int64]


@dataclass(kw_only=True)
class Drawn:
    """A node's source of random bytes: the operating system's, and what it gave is kept."""

    parts: list[bytes] = field(default_factory=list)

    def __call__(self, count: int) -> bytes:
        """Return ``count`` fresh random bytes."""
        self.parts.append(os.urandom(count))
        return self.parts[-1]


def summed_again(node: Node, opened: OpenedRequest, drawn: Sequence[bytes]) -> Integers:
    """Return the noised numbers that ``node`` released for a request, shape (lanes,); ``drawn`` is what it drew for it.

    No message is read but the request. The charge goes to a ledger that is thrown away.

    Raises:
        RuntimeError: the node never took up the run, or drew in another order.
    """
    terms = node.state.memory.terms(opened.manifest.run)
    if terms is None:
        raise RuntimeError("the member never took up this run")
    context, parts = RunContext.make(terms, node.holdings), iter(drawn)
    weights = weights_from_bytes(opened.round_body().weights, count=context.family.layout.size)
    with Database.in_memory() as scratch:
        ledger = PrivacyLedger(
            Journal(scratch, LEDGER),
            place="scratch",
            owner=node.config.name,
            caps=node.state.ledger.caps,
            allow_no_privacy=True,
            allow_fixed_noise=True,
            clock=lambda: 0.0,
            entropy=os.urandom,
        )
        sums = NoisedSums(institution=node.config.name, ledger=ledger, entropy=lambda count: _next(parts, count))
        return sums.of(opened.manifest, context, weights)


def _next(parts: Iterator[bytes], count: int) -> bytes:
    part = next(parts, b"")
    if len(part) != count:
        raise RuntimeError("the member drew its randomness in another order")
    return part
