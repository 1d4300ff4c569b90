"""QUALITY.md R4: the power goes while a whole file is written. It is there or it is not, and never again not."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from durability.power_cut import CrashModel, Image, Record, crashes, in_memory_folder, put
from durability.recording import recorded_os

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.checkpoint import Checkpoint, CheckpointStore
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.errors import AlreadyExistsError
from fedcredit.store.database import Database
from fedcredit.store.files import sync_directory, write_atomic, write_new
from fedcredit.store.journal import Journal

SEED: Final = 20261130
SEEDS: Final = {
    CrashModel.LOST: 1,
    CrashModel.KEPT: 1,
    CrashModel.TORN: 3,
    CrashModel.SUBSET: 4,
    CrashModel.DIRECTORY: 4,
}
CORRUPT: Final = "corrupt"
LOST: Final = "an acknowledged file is lost"


@dataclass(frozen=True)
class Save:
    """One acknowledged writing of the file at ``path``."""

    path: str
    perform: Callable[[Path], None]


@dataclass(frozen=True)
class Written:
    """A recorded program, and the content of its file after each step."""

    record: Record
    steps: tuple[tuple[str, bytes], ...]


def written(program: Sequence[Save], *, initial: Image) -> Written:
    record, steps = Record(initial=initial), []
    with in_memory_folder() as folder:
        put(initial, folder)
        with recorded_os(folder, record):
            for save in program:
                save.perform(folder)
                record.acknowledge()
                steps.append((save.path, (folder / save.path).read_bytes()))
    return Written(record, tuple(steps))


def faults(program: Written) -> tuple[Counter[str], int, list[str]]:
    """Return what is wrong in how many images, the number of all images, and where the first faults are."""
    found: Counter[str] = Counter()
    where: list[str] = []
    images = 0
    for crash in crashes(program.record, seeds=SEEDS, seed=SEED):
        images += 1
        fault = fault_of(crash.image, program, promised=program.record.promises(crash.cut))
        if fault:
            found[fault] += 1
            where.append(f"{fault}: seed {crash.seed}, cut {crash.cut}, variant {crash.variant}, {crash.model}")
    return found, images, where[:5]


def fault_of(image: Image, program: Written, *, promised: int) -> str:
    before: dict[str, bytes | None] = {path: program.record.initial.get(path) for path, _ in program.steps}
    whole: dict[str, set[bytes | None]] = {path: {content} for path, content in before.items()}
    for path, content in program.steps:
        whole[path].add(content)
    promises: dict[str, bytes | None] = {**before, **dict(program.steps[:promised])}
    under_way = dict(program.steps[promised : promised + 1])
    for path, content in promises.items():
        there = image.get(path)
        if there not in whole[path]:
            return CORRUPT
        if there != content and (path not in under_way or there != under_way[path]):
            return LOST
    return ""


def require_no_faults(program: Written) -> int:
    found, images, where = faults(program)
    assert not found, f"{dict(found)} in {images} images: {where}"
    return images


LARGE: Final = bytes(range(256)) * 9
"""Some sectors, so that a part of it can be missing."""
FILE: Final = "report.html"
OLD: Final[Image] = {FILE: b"old" * 700}


def of(write: Callable[[Path, bytes], None]) -> list[Save]:
    """Replace one file four times."""
    return [
        Save(FILE, lambda folder, number=number: write(folder / FILE, LARGE + bytes([number]) * 700 * number))
        for number in range(4)
    ]


def test_a_file_replaced_whole_is_the_old_or_the_new_one() -> None:
    assert require_no_faults(written(of(write_atomic), initial=OLD)) >= 200


def test_a_file_written_once_is_whole_or_not_there() -> None:
    def write(folder: Path) -> None:
        write_new(folder / FILE, LARGE, mode=0o600)
        with pytest.raises(AlreadyExistsError):
            write_new(folder / FILE, b"other", mode=0o600)

    require_no_faults(written([Save(FILE, write)], initial={}))


def test_keys_are_whole_or_not_there() -> None:
    seed = bytes([1]) * 64
    keys = IdentityKeys(signing=seed[:32], signing_post_quantum=seed[:32], kem_classic=seed[:32], kem_post_quantum=seed)
    program = written(
        [Save("identity.key", lambda folder: keys.save(folder / "identity.key", passphrase=None))], initial={}
    )
    require_no_faults(program)
    with in_memory_folder() as folder:
        put(dict(program.steps), folder)
        (folder / "identity.key").chmod(0o600)
        assert IdentityKeys.load(folder / "identity.key", passphrase=None).public == keys.public


def test_an_exported_log_is_the_old_or_the_new_one() -> None:
    with Database.in_memory() as database:
        log = AuditLog(Journal(database, "audit"))

        def export(folder: Path) -> None:
            log.record(EventKind.RUN_OPENED, run="run-1", plan=bytes(400))
            log.export(folder / "audit.jsonl")

        require_no_faults(written([Save("audit.jsonl", export)] * 3, initial={}))


def checkpoints(folder: str, digests: list[bytes]) -> list[Save]:
    def save(number: int) -> Callable[[Path], None]:
        checkpoint = Checkpoint(
            round=number,
            tensors={"weights": np.arange(90.0) + number},
            manifest_digest=bytes(32),
            parent=digests[-1] if digests else bytes(32),
        )
        return lambda root: digests.append(CheckpointStore(root / folder).save(checkpoint))

    return [Save(f"{folder}/round-{number:05d}.safetensors", save(number)) for number in (0, 1, 2, 2)]


def test_a_checkpoint_is_whole_or_not_there() -> None:
    digests: list[bytes] = []
    program = written(checkpoints("checkpoints", digests), initial={"checkpoints": None})
    require_no_faults(program)
    with in_memory_folder() as folder:
        put({"checkpoints": None, **dict(program.steps)}, folder)
        for number, digest in enumerate(digests[:3]):
            assert CheckpointStore(folder / "checkpoints").load(number, digest=digest).round == number


def test_the_first_checkpoint_of_a_run_outlives_its_new_folders() -> None:
    require_no_faults(written(checkpoints("runs/run-1/checkpoints", []), initial={}))


def in_place(path: Path, data: bytes) -> None:
    put_bytes(path, data, sync=True)
    sync_directory(path.parent)


def renamed_unsynced(path: Path, data: bytes) -> None:
    put_bytes(path.with_suffix(".tmp"), data, sync=False)
    os.replace(path.with_suffix(".tmp"), path)
    sync_directory(path.parent)


def renamed_in_an_unsynced_folder(path: Path, data: bytes) -> None:
    put_bytes(path.with_suffix(".tmp"), data, sync=True)
    os.replace(path.with_suffix(".tmp"), path)


def put_bytes(path: Path, data: bytes, *, sync: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, data)
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize(
    ("write", "expected"),
    [(in_place, {CORRUPT}), (renamed_unsynced, {CORRUPT}), (renamed_in_an_unsynced_folder, {LOST})],
)
def test_the_harness_finds_every_other_order(write: Callable[[Path, bytes], None], expected: set[str]) -> None:
    found, images, where = faults(written(of(write), initial=OLD))
    assert set(found) == expected, f"{dict(found)} in {images} images: {where}"
