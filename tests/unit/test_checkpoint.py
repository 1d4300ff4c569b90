from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from fedcredit.checkpoint import Checkpoint, CheckpointStore
from fedcredit.errors import CheckpointError, StorageError

TENSORS = {"weights": np.array([1.0, -2.5, np.pi]), "averaged": np.array([3.0])}
CHECKPOINT = Checkpoint(round=7, tensors=TENSORS, manifest_digest=bytes(range(32)), parent=bytes(32))


def test_a_checkpoint_reads_back_with_every_bit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "new" / "folder")
    digest = store.save(CHECKPOINT)
    assert digest == hashlib.sha256(store.path(7).read_bytes()).digest()
    loaded = store.load(7, digest=digest)
    assert (loaded.round, loaded.manifest_digest, loaded.parent) == (7, bytes(range(32)), bytes(32))
    assert {name: tensor.tobytes() for name, tensor in loaded.tensors.items()} == {
        name: tensor.tobytes() for name, tensor in TENSORS.items()
    }


def test_equal_checkpoints_have_equal_digests(tmp_path: Path) -> None:
    stores = [CheckpointStore(tmp_path / name) for name in "ab"]
    assert len({store.save(CHECKPOINT) for store in stores}) == 1


def test_no_byte_of_a_checkpoint_can_be_changed_or_missing(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    digest = store.save(CHECKPOINT)
    whole = store.path(7).read_bytes()
    for place in range(0, len(whole), 7):
        for wrong in (whole[:place], whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]):
            store.path(7).write_bytes(wrong)
            with pytest.raises(CheckpointError):
                store.load(7, digest=digest)


def test_the_prepared_starting_point_lies_beside_the_public_one_and_is_never_taken_for_it(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    start = replace(CHECKPOINT, round=0, parent=bytes(32))
    first = store.save(start)
    second = store.save(replace(start, tensors={"weights": np.zeros(3)}, parent=first), prepared=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "round-00000-prepared.safetensors",
        "round-00000.safetensors",
    ]
    assert store.load(0, digest=first).parent == bytes(32)
    assert store.load(0, digest=second, prepared=True).parent == first
    with pytest.raises(CheckpointError, match="digest"):
        store.load(0, digest=first, prepared=True)
    with pytest.raises(CheckpointError, match="digest"):
        store.load(0, digest=second)


def test_a_missing_checkpoint_is_our_error(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointStore(tmp_path).load(1, digest=bytes(32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk",
        (2**62).to_bytes(8, "little") + b"{}",
        safetensors.numpy.save(TENSORS),
        safetensors.numpy.save(TENSORS, metadata={"format": "another"}),
        safetensors.numpy.save(TENSORS, metadata={"format": "fedcredit checkpoint 1", "round": "x"}),
    ],
    ids=["empty", "junk", "absurd header", "no metadata", "another format", "fields missing"],
)
def test_a_file_of_the_right_digest_and_the_wrong_content_is_refused(tmp_path: Path, content: bytes) -> None:
    store = CheckpointStore(tmp_path)
    store.path(1).write_bytes(content)
    with pytest.raises(CheckpointError):
        store.load(1, digest=hashlib.sha256(content).digest())


def test_a_place_that_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError):
        CheckpointStore(tmp_path / "file" / "checkpoints").save(CHECKPOINT)
