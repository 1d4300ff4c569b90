"""Logs of a daemon: one line each on stderr, with codes and no content."""

from __future__ import annotations

import logging
import sys


def log_to_stderr() -> None:
    """Send fedcredit's log lines of level INFO and above to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log = logging.getLogger("fedcredit")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
