"""The institution's daemon: data, keys and ledger stay here; a stock SuperNode with the courier carries.

``node run`` starts both. In a hardened deployment another operating-system user runs the SuperNode, and this daemon
runs with ``--no-supernode``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from fedcredit.daemon.service import LocalService
from fedcredit.flower.relay import SuperNode
from fedcredit.institution.node import CA_CERTIFICATE, SUPERNODE, Node, read_invitation
from fedcredit.messages import MAX_MESSAGE_BYTES
from fedcredit.store.files import make_directory

START_S: Final = 90.0
OWN_DIRECTORY: Final = 0o700
GROUP_DIRECTORY: Final = 0o750
"""The socket's group may connect: the SuperNode runs as another user of that group."""


def serve_node(
    folder: Path,
    *,
    socket: Path,
    with_supernode: bool,
    group_socket: bool,
    passphrase: bytes | None,
    stop: threading.Event,
    ready: Callable[[Node], Any],
) -> None:
    """Answer requests of one institution until ``stop`` is set; ``ready`` is called once it can be reached."""
    folder = folder.absolute()
    with ExitStack() as stack:
        node = Node.open(folder, passphrase=passphrase)
        stack.callback(node.close)
        # One request at a time: the ledger, the answer and its log line belong together.
        stack.enter_context(
            LocalService(
                socket,
                node.worker.handle,
                max_bytes=MAX_MESSAGE_BYTES,
                workers=1,
                directory_mode=GROUP_DIRECTORY if group_socket else OWN_DIRECTORY,
            )
        )
        if with_supernode:
            make_directory(folder / "relay", mode=0o700)
            invitation = read_invitation(folder)
            supernode = SuperNode(
                name=node.config.name,
                address=invitation.relay,
                ca=folder / CA_CERTIFICATE,
                private_key=folder / SUPERNODE,
                node_socket=socket,
                directory=folder / "relay",
            )
            supernode.start()
            stack.callback(supernode.stop)
            supernode.wait_ready(timeout_s=START_S)
        ready(node)
        stop.wait()
