"""Models on disk: one file per round, named by round, checked by digest, written in one rename."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

from fedcredit.errors import CheckpointError
from fedcredit.store.files import make_directory, write_atomic

FORMAT: Final = "fedcredit checkpoint 1"
Tensors = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model with what it comes from."""

    round: int
    tensors: Tensors
    manifest_digest: bytes
    """Of the round that made it; 32 zero bytes for the starting point."""
    parent: bytes
    """Digest of the checkpoint before it; 32 zero bytes for the starting point."""


class CheckpointStore:
    """The checkpoints of one run in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder_is_durable = False

    def path(self, round_number: int, *, prepared: bool = False) -> Path:
        """Return where the checkpoint of a round lies; ``prepared`` is the starting point after the preparation."""
        return self._folder / f"round-{round_number:05d}{'-prepared' if prepared else ''}.safetensors"

    def save(self, checkpoint: Checkpoint, *, prepared: bool = False) -> bytes:
        """Write a checkpoint durably and return its SHA-256."""
        saved = safetensors.numpy.save(
            {name: np.ascontiguousarray(tensor) for name, tensor in checkpoint.tensors.items()},
            metadata={
                "format": FORMAT,
                "round": str(checkpoint.round),
                "manifest": checkpoint.manifest_digest.hex(),
                "parent": checkpoint.parent.hex(),
            },
        )
        data = _in_one_order(saved)
        if not self._folder_is_durable:
            # Once a run, not once a round: it waits for the disk.
            make_directory(self._folder)
            self._folder_is_durable = True
        write_atomic(self.path(checkpoint.round, prepared=prepared), data)
        return hashlib.sha256(data).digest()

    def load(self, round_number: int, *, digest: bytes, prepared: bool = False) -> Checkpoint:
        """Read the checkpoint of a round; it must have exactly the digest that the audit log recorded."""
        path = self.path(round_number, prepared=prepared)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(path=str(path), problem="cannot be read") from error
        if hashlib.sha256(data).digest() != digest:
            raise CheckpointError(path=str(path), problem="does not have the digest that the audit log recorded")
        return _parsed(data, path)


def _in_one_order(data: bytes) -> bytes:
    """Return the same safetensors file with its header sorted, so that equal models have equal digests.

    The writer's own order changes from call to call.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def _parsed(data: bytes, path: Path) -> Checkpoint:
    try:
        tensors = safetensors.numpy.load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = _metadata(data[8 : 8 + size])
        return Checkpoint(
            round=int(metadata["round"]),
            tensors=tensors,
            manifest_digest=bytes.fromhex(metadata["manifest"]),
            parent=bytes.fromhex(metadata["parent"]),
        )
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise CheckpointError(path=str(path), problem="is not a fedcredit checkpoint") from error


def _metadata(header: bytes) -> dict[str, str]:
    metadata: dict[str, str] = json.loads(header)["__metadata__"]
    if metadata["format"] != FORMAT:
        raise ValueError("another format")
    return metadata
