"""What somebody with the relay's disk would have: every state of its files while it ran, and searches in them."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

_BLOCK = 4096
_OVERLAP = 127
"""A marker of up to 128 bytes is found across two blocks; longer ones need not be looked for as a whole."""
_LOOK_S = 0.2
WINDOW = 16
_VARIETY = 7
"""A window with fewer different byte values is padding or a run of small numbers, and may occur anywhere."""


class Wiretap:
    """Keeps every different block of every file below ``folders``, looked at about five times a second.

    Messages are deleted from the relay's database once they are delivered, and its log is written over; whoever only
    searched the files in the end would not see what had been there.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._blocks: dict[bytes, None] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="wiretap", daemon=True)
        self.names: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def holds(self, marker: bytes) -> bool:
        """Tell whether ``marker``, at most 128 bytes, was ever in a file."""
        assert 0 < len(marker) <= _OVERLAP + 1
        return any(marker in block for block in list(self._blocks))

    def shares_a_window(self, *secrets: bytes) -> bool:
        """Tell whether any 16 bytes in a row of one of ``secrets`` were ever in a file; padding does not count."""
        each = [windows(secret) for secret in secrets]
        assert all(each), "a secret without a telling window proves nothing"
        wanted = set().union(*each)
        return any(
            block[start : start + WINDOW] in wanted
            for block in list(self._blocks)
            for start in range(len(block) - WINDOW + 1)
        )

    def _listen(self) -> None:
        while not self._stop.wait(_LOOK_S):
            self._look()

    def _look(self) -> None:
        for path in self._files():
            try:
                data = path.read_bytes()
            except OSError:
                continue
            self.names.add(path.name)
            for start in range(0, len(data), _BLOCK):
                self._blocks.setdefault(data[start : start + _BLOCK + _OVERLAP])

    def _files(self) -> Iterable[Path]:
        for folder in self._folders:
            for parent in [folder] if folder.exists() else []:
                try:
                    yield from [path for path in parent.rglob("*") if path.is_file() and not path.is_symlink()]
                except OSError:
                    continue


def windows(secret: bytes) -> set[bytes]:
    """Return the telling windows of 16 bytes of a secret."""
    found = {secret[start : start + WINDOW] for start in range(len(secret) - WINDOW + 1)}
    return {window for window in found if len(set(window)) >= _VARIETY}
