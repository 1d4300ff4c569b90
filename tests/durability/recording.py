"""Two recorders of what a program does to a folder: under SQLite (an apsw VFS) and under Python's ``os``.

Both pass everything on to the real file system; the SQLite one can also refuse, as a full or broken disk does. apsw
brings its own SQLite, so ``sqlite3.connect`` is answered by an adapter: ``Database`` itself runs unchanged, and every
pragma that decides durability is the one that it gives.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw
from durability.power_cut import (
    FailedSync,
    Link,
    MakeDirectory,
    Operation,
    Record,
    Rename,
    Sync,
    SyncDirectory,
    Truncate,
    Unlink,
    Write,
)

_VFS: Final = "fedcredit-recording"
_BASE: Final = "unix"
# SQLite's unix VFS syncs the folder with the first sync of a journal or log that it opened to create.
_NAMES_ITSELF: Final = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
_ENTROPY: Final = bytes(range(256))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How SQLite is run: ``instead`` replaces statements of the code under test, for calibration only."""

    instead: Mapping[str, str] = field(default_factory=dict)
    first: tuple[str, ...] = ()
    """Statements before all others; never one about durability."""
    checkpoint_at: int = 1000
    """Pages in the log from which a commit is followed by a checkpoint; SQLite's own number."""


AS_SHIPPED: Final = Settings()
BUSY: Final = Settings(first=("PRAGMA cache_size = 4",), checkpoint_at=12)
"""Checkpoints inside the workload, and transactions that do not fit into the cache."""


def settings_of(*, journal_mode: str, synchronous: str) -> Settings:
    """Return settings that run the code under test on another durability than the one that it asks for."""
    return Settings(
        instead={
            "PRAGMA journal_mode = WAL": f"PRAGMA journal_mode = {journal_mode}",
            "PRAGMA synchronous = FULL": f"PRAGMA synchronous = {synchronous}",
        }
    )


@dataclass
class Fault:
    """Refuses operations of the disk: number ``at`` of those for which ``concerns`` holds, or all from there on."""

    at: int
    code: int
    concerns: frozenset[str]
    lasting: bool
    met: int = 0
    raised: int = 0
    mended: bool = False

    def meet(self, what: str) -> bool:
        """Return whether this operation fails."""
        if what not in self.concerns or self.mended:
            return False
        self.met += 1
        if self.met == self.at or (self.lasting and self.met > self.at):
            self.raised += 1
            return True
        return False


@dataclass
class _Under:
    root: Path
    record: Record
    fault: Fault | None = None

    def relative(self, path: str | os.PathLike[str]) -> str | None:
        """Return the path below the root; ``None`` for a path elsewhere."""
        whole = Path(os.fspath(path))
        if not whole.is_relative_to(self.root):
            return None
        return "" if whole == self.root else whole.relative_to(self.root).as_posix()

    def refuse(self, what: str) -> None:
        if self.fault is not None and self.fault.meet(what):
            raise apsw.exception_for(self.fault.code)


class _File(apsw.VFSFile):
    def __init__(self, under: _Under, name: Any, flags: list[int], path: str) -> None:
        super().__init__(_BASE, name, flags)
        self._under = under
        self._inode = under.record.inode(path)
        self._folder = path.rpartition("/")[0]
        self._name_is_durable = not (flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & _NAMES_ITSELF)

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - SQLite's names
        self._under.refuse("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: Any, offset: int) -> None:  # noqa: N802
        data = bytes(data)
        try:
            self._under.refuse("write")
        except apsw.FullError:
            self._write(data[: len(data) // 2], offset)  # what still fitted
            raise
        self._write(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._under.refuse("truncate")
        super().xTruncate(newsize)
        self._under.record.add(Truncate(self._inode, newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self._under.refuse("sync")
        except apsw.IOError:
            self._under.record.add(FailedSync(self._inode))
            raise
        super().xSync(flags)
        self._under.record.add(Sync(self._inode))
        if not self._name_is_durable:
            self._name_is_durable = True
            self._under.record.add(SyncDirectory(self._folder))

    def _write(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._under.record.add(Write(self._inode, offset, data))


class _Vfs(apsw.VFS):
    def __init__(self, under: _Under) -> None:
        # The default, so that SQLite draws its salts and nonces from here.
        super().__init__(_VFS, _BASE, makedefault=True)
        self._under = under

    def xRandomness(self, numbyte: int) -> bytes:  # noqa: N802
        return _ENTROPY[:numbyte]  # salts repeat, so that a failure does

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        whole = name.filename() if isinstance(name, apsw.URIFilename) else name
        path = None if whole is None else self._under.relative(whole)
        if whole is None or path is None:
            return super().xOpen(name, flags)  # SQLite's own temporary files
        self._under.refuse("open")
        if not os.path.lexists(whole):
            self._under.record.create(path)
        return _File(self._under, name, flags, path)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self._under.refuse("delete")
        super().xDelete(filename, syncdir)
        path = self._under.relative(filename)
        if path is not None:
            self._under.record.add(Unlink(path))
            if syncdir:
                self._under.record.add(SyncDirectory(path.rpartition("/")[0]))


class _Connection:
    """The part of ``sqlite3.Connection`` that ``Database`` uses, over apsw."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._settings = settings
        with _as_sqlite3():
            self._connection = apsw.Connection(path, vfs=_VFS)
            try:
                self._connection.set_wal_hook(self._after_commit)
                for statement in settings.first:
                    self._connection.execute(statement)
            except BaseException:
                self._connection.close()
                raise

    def _after_commit(self, connection: apsw.Connection, name: str, pages: int) -> int:
        # What SQLite's own hook does. Here, because apsw would report a failure that SQLite passes over: the commit
        # is durable, and the next checkpoint tries again.
        if pages >= self._settings.checkpoint_at:
            with contextlib.suppress(apsw.Error):
                connection.wal_checkpoint(name)
        return apsw.SQLITE_OK

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: tuple[Any, ...] = ()) -> _Rows:
        with _as_sqlite3():
            rows = list(self._connection.execute(self._settings.instead.get(sql, sql), parameters))
        if sql in self._settings.instead and rows:
            return _Rows([("wal",)])  # the code under test believes in its own setting
        return _Rows(rows)

    def close(self) -> None:
        with _as_sqlite3():
            self._connection.close()


@dataclass(frozen=True)
class _Rows:
    rows: list[tuple[Any, ...]]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows


@contextlib.contextmanager
def _as_sqlite3() -> Iterator[None]:
    try:
        yield
    except apsw.Error as error:
        translated = sqlite3.OperationalError(str(error))
        translated.sqlite_errorcode = error.extendedresult  # type: ignore[attr-defined]
        raise translated from error


@contextlib.contextmanager
def recorded_sqlite(
    root: Path, record: Record, *, settings: Settings = AS_SHIPPED, fault: Fault | None = None
) -> Iterator[None]:
    """Answer ``sqlite3.connect`` with connections whose operations below ``root`` are recorded."""
    vfs = _Vfs(_Under(root, record, fault))
    apsw.randomness(0)  # drawn again, from the VFS
    real = sqlite3.connect
    sqlite3.connect = lambda path, **_: _Connection(os.fspath(path), settings)  # type: ignore[assignment]
    try:
        yield
    finally:
        sqlite3.connect = real
        vfs.unregister()


class _OsRecorder:
    """Stands in for the functions of ``os`` that change files; tracks the descriptors it gave out."""

    NAMES: Final = ("open", "close", "write", "fsync", "replace", "rename", "link", "unlink", "mkdir")

    def __init__(self, under: _Under) -> None:
        self._under = under
        self._real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in self.NAMES}
        self._files: dict[int, tuple[int, int]] = {}
        """Descriptor -> (inode, position)."""
        self._folders: dict[int, str] = {}

    def open(self, path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        name = self._under.relative(path)
        there = os.path.lexists(path)
        descriptor: int = self._real["open"](path, flags, mode, **rest)
        if name is None:
            return descriptor
        if os.path.isdir(path):
            self._folders[descriptor] = name
            return descriptor
        if not there:
            self._under.record.create(name)
        inode = self._under.record.inode(name)
        if there and flags & os.O_TRUNC:
            self._under.record.add(Truncate(inode, 0))
        self._files[descriptor] = (inode, 0)
        return descriptor

    def close(self, descriptor: int) -> None:
        self._files.pop(descriptor, None)
        self._folders.pop(descriptor, None)
        self._real["close"](descriptor)

    def write(self, descriptor: int, data: Any) -> int:
        count: int = self._real["write"](descriptor, data)
        if descriptor in self._files:
            inode, position = self._files[descriptor]
            self._under.record.add(Write(inode, position, bytes(data[:count])))
            self._files[descriptor] = (inode, position + count)
        return count

    def fsync(self, descriptor: int) -> None:
        self._real["fsync"](descriptor)
        if descriptor in self._files:
            self._under.record.add(Sync(self._files[descriptor][0]))
        elif descriptor in self._folders:
            self._under.record.add(SyncDirectory(self._folders[descriptor]))

    def replace(self, source: Any, target: Any) -> None:
        self._real["replace"](source, target)
        self._named(Rename, source, target)

    def rename(self, source: Any, target: Any) -> None:
        self._real["rename"](source, target)
        self._named(Rename, source, target)

    def link(self, source: Any, target: Any) -> None:
        self._real["link"](source, target)
        self._named(Link, source, target)

    def unlink(self, path: Any, **rest: Any) -> None:
        self._real["unlink"](path, **rest)
        self._named(Unlink, path)

    def mkdir(self, path: Any, mode: int = 0o777, **rest: Any) -> None:
        self._real["mkdir"](path, mode, **rest)
        self._named(MakeDirectory, path)

    def _named(self, change: Callable[..., Operation], *paths: Any) -> None:
        names = [self._under.relative(path) for path in paths]
        if None not in names:
            self._under.record.add(change(*names))

    def install(self) -> None:
        for name in self.NAMES:
            setattr(os, name, getattr(self, name))

    def remove(self) -> None:
        for name, real in self._real.items():
            setattr(os, name, real)


@contextlib.contextmanager
def recorded_os(root: Path, record: Record) -> Iterator[None]:
    """Record what Python code does to files below ``root`` through ``os``; ``open()`` and ``io`` are not seen."""
    recorder = _OsRecorder(_Under(root, record))
    recorder.install()
    try:
        yield
    finally:
        recorder.remove()
