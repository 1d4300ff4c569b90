"""PROTOCOL.md 9.1, attack 14: a started relay speaks TLS 1.3 by its own authority's certificate, or not at all.

The relay is trusted with nothing, and messages are sealed end to end. The channel is a second coat, and the only one
over who talks to whom.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedcredit.crypto.certificates import issue_server_certificate, make_authority, make_supernode_key
from fedcredit.errors import ProcessStartError
from fedcredit.flower.relay import HOST, Relay, SuperNode, TlsFiles

pytestmark = pytest.mark.process
TIMEOUT_S = 10
REFUSED_S = 12
"""A SuperNode whose key is enrolled is taken in after two or three seconds."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fc-") as place:
        yield Path(place)


@pytest.fixture(scope="module")
def relay(folder: Path) -> Iterator[Relay]:
    now = datetime.now(UTC)
    authority = make_authority("relay", days=2, now=now)
    certificate, key = issue_server_certificate(authority, hosts=[HOST], days=1, now=now)
    for name, content in (("ca", authority.cert_pem), ("crt", certificate), ("key", key)):
        (folder / name).write_bytes(content)
    (folder / "stranger").write_bytes(make_authority("relay", days=2, now=now).cert_pem)
    tls = TlsFiles(ca=folder / "ca", certificate=folder / "crt", key=folder / "key")
    with Relay(directory=folder / "relay", tls=tls) as started:
        started.start(timeout_s=60)
        yield started


def spoken(relay: Relay, *, ca: Path, only: ssl.TLSVersion) -> str | None:
    """Return the version that relay and client agree on."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = context.maximum_version = only
    with (
        socket.create_connection((HOST, int(relay.address.split(":")[1])), timeout=TIMEOUT_S) as connection,
        context.wrap_socket(connection, server_hostname=HOST) as channel,
    ):
        return channel.version()


def test_the_relay_speaks_tls_1_3(relay: Relay, folder: Path) -> None:
    assert spoken(relay, ca=folder / "ca", only=ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def test_a_client_that_offers_tls_1_2_is_refused(relay: Relay, folder: Path) -> None:
    with pytest.raises(ssl.SSLError):
        spoken(relay, ca=folder / "ca", only=ssl.TLSVersion.TLSv1_2)


def test_a_relay_that_another_authority_vouches_for_is_refused(relay: Relay, folder: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        spoken(relay, ca=folder / "stranger", only=ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize(
    "opening", [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /health HTTP/1.1\r\nHost: relay\r\n\r\n"]
)
def test_who_speaks_in_the_clear_gets_no_answer(relay: Relay, opening: bytes) -> None:
    address = (HOST, int(relay.address.split(":")[1]))
    with closing(socket.create_connection(address, timeout=TIMEOUT_S)) as connection:
        connection.sendall(opening)
        try:
            answer = connection.recv(1)
        except ConnectionResetError:
            answer = b""
    assert answer == b""


def node(relay: Relay, folder: Path, name: str, *, enrolled: bool) -> SuperNode:
    """Return a SuperNode with a key of its own."""
    private, public = make_supernode_key()
    (folder / f"{name}.key").write_bytes(private)
    (folder / f"{name}.key").chmod(0o600)
    (folder / f"{name}.pub").write_bytes(public)
    if enrolled:
        relay.control.register_supernode(folder / f"{name}.pub", name=name)
    return SuperNode(
        name=name,
        address=relay.address,
        ca=folder / "ca",
        private_key=folder / f"{name}.key",
        node_socket=folder / "nowhere.sock",
        directory=folder / f"{name}-flower",
    )


def test_only_a_node_whose_key_is_enrolled_is_taken_in(relay: Relay, folder: Path) -> None:
    known = node(relay, folder, "known", enrolled=True)
    try:
        known.start().wait_ready(timeout_s=60)
    finally:
        known.stop()
    with pytest.raises(ProcessStartError):
        node(relay, folder, "unknown", enrolled=False).start().wait_ready(timeout_s=REFUSED_S)
