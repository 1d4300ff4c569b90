"""What a sealed message of 100 MB costs, framing included: against copying it in memory, and against ``openssl``.

``seal`` is what ``envelope.seal_answer`` does once an answer is signed: length fields, padding, AES-256-GCM under the
epoch's channel. ``open`` is the way back. The copy goes between two buffers that were touched before; our functions
return new memory, and its page faults count.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from secagg_baselines import BULK, Skipped, aes_gcm, memory_copy, openssl_speed
from secagg_rounds import processor_ms

from fedcredit.crypto.channels import Channel
from fedcredit.crypto.sealing import SealContext
from fedcredit.lab.figures import Figure, median_of_runs
from fedcredit.messages import pad, padded_length, unpad

CONTEXT = SealContext(
    consortium="bench",
    run="bench",
    round_number=1,
    attempt=1,
    message_type="answer/train/upload",
    sender="member",
    recipient="coordinator",
    manifest_digest=bytes(32),
)
CONTENT = bytes(600)
"""As long as a signed header."""
BLOCK = 1 << 20


class FramedSeal:
    """Seals and opens one message of ``size`` bytes of bulk data."""

    def __init__(self, size: int) -> None:
        self.bulk = os.urandom(size)
        self.length = padded_length(size)
        self.channel = Channel(os.urandom(32), entropy=os.urandom)

    def seal(self) -> bytes:
        return self.channel.seal_up(pad(CONTENT, bulk=self.bulk, length=self.length), context=CONTEXT)

    def open(self, sealed: bytes) -> tuple[bytes, bytes]:
        return unpad(self.channel.open_up(sealed, context=CONTEXT), what="answer")

    def times(self) -> tuple[float, float]:
        """Return the milliseconds of sealing and of opening."""
        sealed, sealing = processor_ms(self.seal)
        opened, opening = processor_ms(lambda: self.open(sealed))
        assert opened == (CONTENT, self.bulk), "the seal did not return the message"
        return sealing, opening


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section."""
    size, pairs = (BULK // 10, 2) if quick else (BULK, 9)
    seals, opens, bare = [], [], []
    message = FramedSeal(size)
    for _ in range(pairs + 1):
        copy = memory_copy(size, repeats=1).best_ms
        sealing, opening = message.times()
        seals.append(sealing / copy)
        opens.append(opening / copy)
        bare.append(aes_gcm(size, repeats=1)[0].best_ms / copy)
    yield _figure("seal.vs-memcpy", seals[1:])
    yield _figure("open.vs-memcpy", opens[1:])
    yield _figure("seal.cipher.vs-memcpy", bare[1:])
    yield from _versus_openssl(pairs=1 if quick else 5)


def _versus_openssl(*, pairs: int) -> Iterator[Figure]:
    message, found = FramedSeal(BLOCK), []
    for _ in range(pairs):
        theirs = openssl_speed(seconds=1, block=BLOCK, repeats=1)
        if isinstance(theirs, Skipped):
            print(f"{theirs.step}: not measured, {theirs.reason}")
            return
        sealing = min(processor_ms(lambda: [message.seal() for _ in range(50)])[1] / 50 for _ in range(5))
        found.append(theirs.best_ms / sealing)
    yield _figure("seal.vs-openssl", found)


def _figure(name: str, values: list[float]) -> Figure:
    return median_of_runs(name, values, unit="ratio", seeds=[7], data="synthetic-benchmark")
