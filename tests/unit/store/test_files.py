from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fedcredit.errors import AlreadyExistsError, DiskFullError, NotWritableError
from fedcredit.store.files import storage_error, write_atomic, write_new

WRITE_UNDER_A_LIMIT = """
import resource, signal, sys
from pathlib import Path
from fedcredit.errors import DiskFullError
from fedcredit.store.files import write_atomic, write_new
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
folder = Path(sys.argv[1])
data = b"x" * 5000
for write in (lambda: write_atomic(folder / "old", data), lambda: write_new(folder / "new", data, mode=0o600)):
    try:
        write()
    except DiskFullError as error:
        print(error.code)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_written_is_there_with_the_mode_asked_for(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"first")
    write_atomic(tmp_path / "a", b"second", mode=0o600)
    write_new(tmp_path / "b", b"", mode=0o640)
    assert (tmp_path / "a").read_bytes() == b"second"
    assert mode(tmp_path / "a") == 0o600
    assert (tmp_path / "b").read_bytes() == b""
    assert mode(tmp_path / "b") == 0o640
    assert names(tmp_path) == ["a", "b"]


def test_the_default_mode_lets_everybody_read(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"public")
    assert mode(tmp_path / "a") == 0o644


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_write_new_overwrites_nothing(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "taken"
    if kind == "file":
        place.write_bytes(b"precious")
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(AlreadyExistsError) as caught:
        write_new(place, b"new", mode=0o600)
    assert caught.value.fields == {"path": str(place)}
    assert names(tmp_path) == ["taken"]
    if kind == "file":
        assert place.read_bytes() == b"precious"


def test_a_missing_folder_is_named_as_not_writable(tmp_path: Path) -> None:
    with pytest.raises(NotWritableError) as caught:
        write_atomic(tmp_path / "missing" / "a", b"x")
    assert caught.value.fields["problem"] == os.strerror(errno.ENOENT)


def test_a_folder_in_the_place_of_the_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(NotWritableError):
        write_atomic(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_a_real_size_limit_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"previous")
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_UNDER_A_LIMIT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["FC-7001", "FC-7001"]
    assert (tmp_path / "old").read_bytes() == b"previous"
    assert names(tmp_path) == ["old"]


@pytest.mark.parametrize("call", ["write", "fsync", "fchmod", "replace"])
@pytest.mark.parametrize(
    ("number", "expected"),
    [(errno.ENOSPC, DiskFullError), (errno.EDQUOT, DiskFullError), (errno.EIO, NotWritableError)],
)
def test_a_refusing_system_call_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, expected: type[Exception]
) -> None:
    place = tmp_path / "a"
    place.write_bytes(b"previous")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(expected):
        write_atomic(place, b"next")
    monkeypatch.undo()
    assert place.read_bytes() == b"previous"
    assert names(tmp_path) == ["a"]


def test_a_write_that_takes_only_a_part_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, bytes(data)[:3]))
    write_atomic(tmp_path / "a", b"0123456789")
    monkeypatch.undo()
    assert (tmp_path / "a").read_bytes() == b"0123456789"


def test_the_file_is_synced_before_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def recorded_replace(source: str, target: Path) -> None:
        calls.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    write_atomic(tmp_path / "a", b"x")
    assert calls == ["sync file", "rename", "sync folder"]


def test_permission_denied_is_told_from_a_full_disk() -> None:
    refused = storage_error(Path("/a"), PermissionError(errno.EACCES, "Permission denied"))
    assert isinstance(refused, NotWritableError)
    assert refused.fields == {"path": "/a", "problem": "Permission denied"}
    assert isinstance(storage_error(Path("/a"), OSError(errno.ENOSPC, "No space left")), DiskFullError)
