"""Logs of a daemon: one line each on stderr, with codes and no content."""

from __future__ import annotations

import logging
import sys


class _OneLine(logging.Formatter):
    """Formats a record as one line; a name from a message cannot forge another line or steer a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with control characters replaced."""
        text = super().format(record)
        return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def log_to_stderr() -> None:
    """Send fedcredit's log lines of level INFO and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("fedcredit")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
