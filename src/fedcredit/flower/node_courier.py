"""The institution's courier: one envelope from Flower to the local daemon, and the reply back.

It runs as code of a Flower bundle under a user that can reach neither data nor keys. It is a process per message. What
it raises goes to the relay word by word, so it raises one error with constant text.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flwr.app import Context, Message

from fedcredit.daemon.client import exchange
from fedcredit.errors import CourierError
from fedcredit.flower.envelope import unwrap, wrap

SOCKET_KEY: Final = "socket"
MARGIN_S: Final = 2.0
"""Kept back from the message's lifetime for the way home."""
GRACE_S: Final = 10.0
"""After the lifetime and this, the process ends itself: a hang would block its SuperNode for good."""

_STUCK: Final = 75


def carry(
    message: Message,
    context: Context,
    *,
    clock: Callable[[], float] = time.time,
    hard_exit: Callable[[int], object] = os._exit,
    grace_s: float = GRACE_S,
) -> Message:
    """Return the daemon's reply to ``message`` within the message's lifetime.

    The socket's path comes from the SuperNode's own configuration, never from the message. The watchdog is not taken
    back on return: it also ends a process that hangs while Flower sends the reply.

    Raises:
        CourierError: no socket is configured, it is no envelope, its time is over, or the daemon gave no reply.
    """
    # The other side's clock may be wrong: never wait longer than the lifetime as seen from now.
    lifetime_s = min(message.metadata.ttl, message.metadata.created_at + message.metadata.ttl - clock())
    _arm_watchdog(max(lifetime_s, 0.0) + grace_s, hard_exit=hard_exit)
    try:
        # A deadline that is over makes the exchange fail at once; so does a path that is no text.
        socket_path = Path(context.node_config[SOCKET_KEY])
        reply = exchange(socket_path, unwrap(message.content), timeout_s=max(lifetime_s - MARGIN_S, 0.0))
        return Message(wrap(reply), reply_to=message)
    except Exception:  # noqa: BLE001 - whatever it was, its text must stay here
        raise CourierError from None


def _arm_watchdog(seconds: float, *, hard_exit: Callable[[int], object]) -> None:
    watchdog = threading.Timer(seconds, hard_exit, args=(_STUCK,))
    watchdog.daemon = True
    watchdog.start()
