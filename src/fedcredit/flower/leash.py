"""A parent that cannot die without taking its child along; run as a script: ``python -I -S leash.py COMMAND...``.

Flower's processes start further processes, and a signal for the death of a parent (``PR_SET_PDEATHSIG``) reaches only
the first of them, and also fires when merely the *thread* that started them ends. So this small process leads the group
and watches: when its standard input closes or its parent changes, it ends the whole group. When the command ends by
itself, what it left behind is ended too. Standard library only: it must start in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time

_LOOK_S = 0.5
_GRACE_S = 3.0
_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> int:
    """Run ``command`` in this process's own group until it ends or the leash is let go; return 0 if it did."""
    parent = os.getppid()
    # The group's terminations are for the command; this process stays to the end to see them through.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    with contextlib.suppress(OSError, AttributeError):  # Linux: orphans of the command become ours
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None:
        held, _, _ = select.select([sys.stdin], [], [], _LOOK_S)
        if (held and not os.read(sys.stdin.fileno(), 1)) or os.getppid() != parent:
            break
    os.killpg(0, signal.SIGTERM)
    if not _all_gone_within(_GRACE_S, child):
        os.killpg(0, signal.SIGKILL)  # this process included
    return 0 if child.returncode == 0 else 1


def _all_gone_within(seconds: float, child: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        child.poll()
        try:
            reaped, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        if reaped == 0:
            time.sleep(0.02)
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
