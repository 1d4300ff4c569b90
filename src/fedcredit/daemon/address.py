"""Where a local service listens: a Unix-domain socket path as a gRPC target, or a refusal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

from fedcredit.errors import SocketPathError

CHUNK_BYTES: Final = 1 << 20
"""A message travels in pieces of at most this size."""

PATH_LIMIT: Final = 107
"""``sun_path`` has 108 bytes on Linux, the last one is zero (unix(7))."""

COORDINATOR_SOCKET_VARIABLE: Final = "FEDCREDIT_COORDINATOR_SOCKET"
"""Where the server courier finds the coordinator daemon."""

TOO_LARGE_TEXT: Final = "the message exceeds the size limit of this service"
FAILED_TEXT: Final = "the daemon failed on this request"
LIMIT_KEY: Final = "fedcredit-limit-bytes"
"""Trailing metadata of a refusal for size: the limit, in bytes."""


def unix_target(socket_path: Path) -> str:
    """Return the gRPC target of an absolute or relative socket path.

    Raises:
        SocketPathError: the absolute path has more than 107 bytes.
    """
    absolute = socket_path.absolute()
    length = len(os.fsencode(absolute))
    if length > PATH_LIMIT:
        raise SocketPathError(path=absolute, length=length, limit=PATH_LIMIT)
    return "unix:" + quote(os.fsencode(absolute))
