"""What a sealed message of 100 MB costs, framing included: against copying it in memory, and against ``openssl``.

``seal`` is what ``envelope.seal_answer`` does once an answer is signed: length fields, padding, AES-256-GCM under the
epoch's channel. ``open`` is the way back. Both are measured between buffers that were touched before, and so is the
copy. Where the engine needs new memory for the result (``.new``), it is measured against a copy into new memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from secagg_baselines import BULK, Skipped, aes_gcm, memory_copy, openssl_speed
from secagg_rounds import processor_ms

from fedcredit.crypto.channels import CHANNEL_OVERHEAD, Channel
from fedcredit.crypto.sealing import SealContext
from fedcredit.encoding import Buffer
from fedcredit.lab.figures import Figure, median_of_runs
from fedcredit.messages import frame, padded_length, unpad

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
        self.bulk = np.frombuffer(os.urandom(size), np.uint8)
        self.length = padded_length(size)
        self.channel = Channel(os.urandom(32), entropy=os.urandom)
        self.plain, self.sealed = (np.ones(self.length + more, np.uint8) for more in (0, CHANNEL_OVERHEAD))

    def _framed(self) -> tuple[Buffer, ...]:
        return frame(CONTENT, bulk=(self.bulk.data,), length=self.length)

    def seal(self) -> None:
        self.channel.seal_up_into(self.sealed.data, *self._framed(), context=CONTEXT)

    def open(self) -> tuple[bytes, Buffer]:
        self.channel.open_up_into(self.plain.data, self.sealed.data, context=CONTEXT)
        return unpad(self.plain.data, what="answer")

    def seal_new(self) -> bytes:
        return self.channel.seal_up(*self._framed(), context=CONTEXT)

    def open_new(self, sealed: bytes) -> tuple[bytes, Buffer]:
        return unpad(self.channel.open_up(sealed, context=CONTEXT), what="answer")

    def times(self) -> tuple[float, float]:
        """Return the milliseconds of sealing and of opening."""
        _, sealing = processor_ms(self.seal)
        opened, opening = processor_ms(self.open)
        self._require(opened)
        return sealing, opening

    def times_new(self) -> tuple[float, float]:
        """Return the milliseconds of sealing and of opening into new memory."""
        sealed, sealing = processor_ms(self.seal_new)
        opened, opening = processor_ms(lambda: self.open_new(sealed))
        self._require(opened)
        return sealing, opening

    def _require(self, opened: tuple[bytes, Buffer]) -> None:
        content, bulk = opened
        right = content == CONTENT and np.array_equal(np.frombuffer(bulk, np.uint8), self.bulk)
        assert right, "the seal did not return the message"


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield all figures of this section."""
    size, pairs = (BULK // 10, 2) if quick else (BULK, 9)
    found: dict[str, list[float]] = {}
    message = FramedSeal(size)
    for _ in range(pairs + 1):
        copy = memory_copy(size, repeats=1).best_ms
        new_copy = processor_ms(message.bulk.tobytes)[1]
        sealing, opening = message.times()
        sealing_new, opening_new = message.times_new()
        ratios = {
            "seal.vs-memcpy": sealing / copy,
            "open.vs-memcpy": opening / copy,
            "seal.new.vs-copy": sealing_new / new_copy,
            "open.new.vs-copy": opening_new / new_copy,
            "seal.cipher.vs-memcpy": aes_gcm(size, repeats=1)[0].best_ms / copy,
        }
        for name, ratio in ratios.items():
            found.setdefault(name, []).append(ratio)
    for name, ratios_found in found.items():
        yield _figure(name, ratios_found[1:])
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
