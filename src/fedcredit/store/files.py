"""Whole files: either the old content or the new one, never half of it.

The order is temporary file, fsync, rename, fsync of the directory; QUALITY.md 3.3 shows that every other order loses
data on some power failure.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedcredit.errors import AlreadyExistsError, DiskFullError, NotWritableError, StorageError

NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Error numbers that mean "the disk, the quota or the file-size limit is exhausted"."""


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Put ``data`` at ``path``, durable on return; a failure leaves the previous content and no temporary file.

    If only the last step fails, the sync of the folder, the new content is in place but may not outlive a power cut.

    Raises:
        DiskFullError: no space, quota or file-size limit left.
        NotWritableError: any other refusal of the operating system.
    """
    _put(path, data, mode=mode, publish=os.replace)


def write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Put ``data`` at ``path``, durable on return, unless something is there already; that is left as it is.

    Raises:
        AlreadyExistsError: there is a file, a folder or a link at ``path``.
        DiskFullError: no space, quota or file-size limit left.
        NotWritableError: any other refusal of the operating system.
    """
    _put(path, data, mode=mode, publish=_link_as)


def storage_error(path: Path, error: OSError) -> StorageError:
    """Return the error of ours that says what the operating system refused at ``path``."""
    if error.errno in NO_SPACE:
        return DiskFullError(path=str(path))
    return NotWritableError(path=str(path), problem=error.strerror or type(error).__name__)


def sync_directory(directory: Path) -> None:
    """Make the names inside ``directory`` durable; raises ``OSError``."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_as(temporary: str, path: Path) -> None:
    # A rename would replace; only link() fails when the name is taken, without a gap between test and act.
    os.link(temporary, path)
    os.unlink(temporary)


def _put(path: Path, data: bytes, *, mode: int, publish: Callable[[str, Path], None]) -> None:
    temporary: str | None = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:64]}.", suffix=".tmp")
        try:
            _write_all(descriptor, data)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        publish(temporary, path)
        sync_directory(path.parent)
    except FileExistsError as error:
        raise AlreadyExistsError(path=str(path)) from error
    except OSError as error:
        raise storage_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _write_all(descriptor: int, data: bytes) -> None:
    # write() may take only a part: at most 2 GiB a call on Linux, and less just before a disk is full.
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def make_directory(path: Path, *, mode: int = 0o755) -> None:
    """Make a directory and its parents, durable on return; a place that cannot be made raises a ``StorageError``."""
    try:
        missing = [folder for folder in path.parents if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True, mode=mode)
        # The file that comes next syncs its own folder, and that is no promise about the folders above it.
        for folder in (path, *missing):
            sync_directory(folder.parent)
    except OSError as error:
        raise storage_error(path, error) from error
