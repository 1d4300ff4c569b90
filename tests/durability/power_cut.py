"""What a disk may hold after the power goes: a record of operations, and the images that each of its prefixes allows.

A write is kept once its file was synced, a name once its folder was synced. Everything since then may be there, may be
missing, or may be there in part; QUALITY.md 3.3 names five ways to choose, the crash models. Never reordered is what
lies on two sides of a sync of the same file. Modes, times and owners are not part of the model.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

SECTOR: Final = 512
Image: TypeAlias = Mapping[str, bytes | None]
"""Content by path relative to the root; ``None`` is a folder."""


class CrashModel(enum.StrEnum):
    """Which of the operations since the last sync the disk kept."""

    LOST = "unsynced lost"
    KEPT = "all kept"
    TORN = "last write torn"
    SUBSET = "random subset of unsynced"
    DIRECTORY = "directory entries not durable"


@dataclass(frozen=True)
class Create:
    path: str
    inode: int


@dataclass(frozen=True)
class MakeDirectory:
    path: str


@dataclass(frozen=True)
class Write:
    inode: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    inode: int
    size: int


@dataclass(frozen=True)
class Sync:
    inode: int


@dataclass(frozen=True)
class FailedSync:
    """Linux forgets the writes that it could not store: a later sync succeeds without them."""

    inode: int


@dataclass(frozen=True)
class SyncDirectory:
    path: str


@dataclass(frozen=True)
class Link:
    source: str
    target: str


@dataclass(frozen=True)
class Rename:
    source: str
    target: str


@dataclass(frozen=True)
class Unlink:
    path: str


NameChange: TypeAlias = Create | MakeDirectory | Link | Rename | Unlink
Operation: TypeAlias = NameChange | Write | Truncate | Sync | FailedSync | SyncDirectory
FOLDER: Final = -1


@dataclass
class Record:
    """The operations of a program under one root, in order, and when it was told that something is done."""

    initial: Image = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    """For each promise, how many operations came before it was given."""
    _names: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = _inodes(self.initial)
        self._next = len(self.initial)

    def acknowledge(self) -> None:
        """Note that the caller was told "done"."""
        self.acknowledged.append(len(self.operations))

    def promises(self, cut: int) -> int:
        """Return how many promises were given before operation ``cut``."""
        return sum(position <= cut for position in self.acknowledged)

    def inode(self, path: str) -> int:
        return self._names[path]

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        if isinstance(operation, NameChange):
            _rename(self._names, operation)

    def create(self, path: str) -> None:
        self.add(Create(path, self._next))
        self._next += 1


@dataclass
class _File:
    """``durable`` is on the disk for good; ``current`` is with ``pending``, what happened since."""

    durable: bytes
    current: bytearray
    pending: list[Write | Truncate] = field(default_factory=list)


class Disk:
    """The state of the disk after the operations that were ``apply``-ed."""

    def __init__(self, initial: Image) -> None:
        self._durable_names = _inodes(initial)
        self._names = dict(self._durable_names)
        self._unsynced_names: list[NameChange] = []
        self._files = {
            self._names[path]: _File(durable=content, current=bytearray(content))
            for path, content in initial.items()
            if content is not None
        }
        self._last: tuple[Write, bytes] | None = None  # the last write while unsynced, and what it replaced

    def apply(self, operation: Operation) -> None:
        match operation:
            case Write(inode, offset, data):
                file = self._files[inode]
                self._last = (operation, bytes(file.current[offset : offset + len(data)]))
                file.pending.append(operation)
                _write(file.current, offset, data)
            case Truncate(inode, size):
                self._forget_last(inode)
                self._files[inode].pending.append(operation)
                _truncate(self._files[inode].current, size)
            case Sync(inode):
                self._forget_last(inode)
                file = self._files[inode]
                file.durable, file.pending = bytes(file.current), []
            case FailedSync(inode):
                self._forget_last(inode)
                file = self._files[inode]
                file.current, file.pending = bytearray(file.durable), []
            case SyncDirectory(path):
                self._sync_names(path)
            case _:
                if isinstance(operation, Create):
                    self._files[operation.inode] = _File(durable=b"", current=bytearray())
                self._unsynced_names.append(operation)
                _rename(self._names, operation)

    def image(self, model: CrashModel, rng: np.random.Generator) -> Image:
        """Return one content that the disk may have if the power goes now."""
        match model:
            case CrashModel.LOST:
                return self._image(self._names, {inode: file.durable for inode, file in self._files.items()})
            case CrashModel.KEPT:
                return self._image(self._names, self._kept())
            case CrashModel.TORN:
                return self._image(self._names, {**self._kept(), **self._torn(rng)})
            case CrashModel.SUBSET:
                return self._image(self._names, self._subset(rng))
            case CrashModel.DIRECTORY:
                return self._with_old_names(rng)

    def _with_old_names(self, rng: np.random.Generator) -> Image:
        names = dict(self._durable_names)
        share = rng.choice([0.0, 0.0, 0.5])  # mostly none of the changes: the harshest
        for change in self._unsynced_names:
            if rng.random() < share:
                _rename(names, change)
        contents = self._kept() if rng.random() < 0.5 else self._subset(rng)
        return self._image(names, contents)

    def _image(self, names: Mapping[str, int], contents: Mapping[int, bytes]) -> Image:
        # A name in a folder that is not there is not there either.
        return {
            path: None if inode == FOLDER else contents[inode]
            for path, inode in names.items()
            if all(names.get(above) == FOLDER for above in _above(path))
        }

    def _kept(self) -> dict[int, bytes]:
        return {inode: bytes(file.current) for inode, file in self._files.items()}

    def _torn(self, rng: np.random.Generator) -> dict[int, bytes]:
        if self._last is None or len(self._last[0].data) < 2:
            return {}
        write, before = self._last
        content = bytearray(self._files[write.inode].current)
        at = int(rng.integers(1, len(write.data)))
        if rng.random() < 0.5:  # the disk wrote the first part
            content[write.offset + at : write.offset + len(write.data)] = before[at:]
        else:  # or, out of order, only the second
            content[write.offset : write.offset + at] = before[:at].ljust(at, b"\0")
        return {write.inode: bytes(content)}

    def _subset(self, rng: np.random.Generator) -> dict[int, bytes]:
        contents = {}
        for inode, file in self._files.items():
            content = bytearray(file.durable)
            share = rng.random()
            for pending in file.pending:
                _apply_part(content, pending, share, rng)
            if file.pending and rng.random() < 0.3:  # the new length was kept without the data
                content.extend(bytes(max(0, len(file.current) - len(content))))
            contents[inode] = bytes(content)
        return contents

    def _sync_names(self, folder: str) -> None:
        waiting = []
        for change in self._unsynced_names:
            if _folder_of(change) == folder:
                _rename(self._durable_names, change)
            else:
                waiting.append(change)
        self._unsynced_names = waiting

    def _forget_last(self, inode: int) -> None:
        if self._last is not None and self._last[0].inode == inode:
            self._last = None


@dataclass(frozen=True)
class Crash:
    """One image and where it comes from."""

    cut: int
    """How many operations had been done."""
    model: CrashModel
    seed: int
    variant: int
    image: Image


def crashes(record: Record, *, seeds: Mapping[CrashModel, int], seed: int) -> Iterator[Crash]:
    """Yield, for every prefix of the record, ``seeds[model]`` images of each crash model."""
    disk = Disk(record.initial)
    for cut in range(len(record.operations) + 1):
        if cut:
            disk.apply(record.operations[cut - 1])
        for number, model in enumerate(CrashModel):
            for variant in range(seeds[model]):
                rng = np.random.default_rng([seed, cut, number, variant])
                yield Crash(cut=cut, model=model, seed=seed, variant=variant, image=disk.image(model, rng))


def last_image(record: Record, model: CrashModel, rng: np.random.Generator) -> Image:
    """Return an image of the disk after the whole record."""
    disk = Disk(record.initial)
    for operation in record.operations:
        disk.apply(operation)
    return disk.image(model, rng)


@contextlib.contextmanager
def in_memory_folder() -> Iterator[Path]:
    """Give a folder in memory where there is one: the images need a file system, not a disk."""
    memory = Path("/dev/shm")  # noqa: S108 - the folder below it is private
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def put(image: Image, folder: Path) -> None:
    """Make ``folder`` hold exactly the image."""
    for old in folder.iterdir():
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def name_of(image: Image) -> bytes:
    """Return a digest by which equal images are recognised."""
    total = hashlib.blake2b()
    for path, content in sorted(image.items()):
        total.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
        total.update(content or b"")
    return total.digest()


def _inodes(image: Image) -> dict[str, int]:
    return {path: FOLDER if content is None else inode for inode, (path, content) in enumerate(image.items())}


def _rename(names: dict[str, int], change: NameChange) -> None:
    match change:
        case Create(path, inode):
            names[path] = inode
        case MakeDirectory(path):
            names[path] = FOLDER
        case Link(source, target) if source in names:
            names[target] = names[source]
        case Rename(source, target) if source in names:
            names[target] = names.pop(source)
        case Unlink(path):
            names.pop(path, None)


def _folder_of(change: NameChange) -> str:
    path = change.target if isinstance(change, Link | Rename) else change.path
    if isinstance(change, Link | Rename) and change.source.rpartition("/")[0] != path.rpartition("/")[0]:
        raise AssertionError("a name that moves between folders is not part of this model")
    return path.rpartition("/")[0]


def _above(path: str) -> Iterator[str]:
    parts = path.split("/")[:-1]
    return ("/".join(parts[: end + 1]) for end in range(len(parts)))


def _write(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    del content[size:]
    content.extend(bytes(size - len(content)))


def _apply_part(content: bytearray, pending: Write | Truncate, share: float, rng: np.random.Generator) -> None:
    if isinstance(pending, Truncate):
        if rng.random() < share:
            _truncate(content, pending.size)
    elif rng.random() < 0.8:
        if rng.random() < share:
            _write(content, pending.offset, pending.data)
    else:  # by sectors
        for start in range(0, len(pending.data), SECTOR):
            if rng.random() < share:
                _write(content, pending.offset + start, pending.data[start : start + SECTOR])
