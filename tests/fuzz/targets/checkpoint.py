"""A checkpoint file that has the digest which the log recorded, and is no checkpoint for all that."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
from fuzz.harness import from_file

from fedcredit.checkpoint import Checkpoint, CheckpointStore

TOKENS = (
    b'"dtype":"',
    b"F64",
    b"BF16",
    b"F8_E4M3",
    b"BOOL",
    b'"shape":[',
    b'"data_offsets":[',
    b'"__metadata__":{',
    b"}",
)
_NAME = "round-00003.safetensors"


def _load(path: Path) -> None:
    CheckpointStore(path.parent).load(3, digest=hashlib.sha256(path.read_bytes()).digest())


TARGET = from_file(_NAME, _load)


def seeds() -> dict[str, bytes]:
    """Return a checkpoint with tensors, and one without."""
    tensors = {"bias": np.array(0.5), "weights": np.arange(6.0).reshape(2, 3)}
    return {"model": _saved(tensors), "empty": _saved({})}


def _saved(tensors: dict[str, np.ndarray]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        store.save(Checkpoint(round=3, tensors=tensors, manifest_digest=bytes(32), parent=bytes(range(32))))
        return store.path(3).read_bytes()
