"""A message as a stream of chunks, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fedcredit.daemon._generated.local_pb2 import Chunk
from fedcredit.daemon.address import CHUNK_BYTES
from fedcredit.errors import MessageTooLargeError


def chunked(data: bytes) -> Iterator[Chunk]:
    """Cut ``data`` into chunks of at most 1 MiB; no bytes make no chunk."""
    view = memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        yield Chunk(data=bytes(view[start : start + CHUNK_BYTES]))


def gather(chunks: Iterable[Chunk], *, limit: int) -> bytes:
    """Join a stream of chunks; memory never holds more than ``limit`` bytes and one chunk.

    Raises:
        MessageTooLargeError: the stream is longer than ``limit``; the rest is not read.
    """
    joined = bytearray()
    for chunk in chunks:
        if len(joined) + len(chunk.data) > limit:
            raise MessageTooLargeError(size=len(joined) + len(chunk.data), limit=limit)
        joined += chunk.data
    return bytes(joined)
