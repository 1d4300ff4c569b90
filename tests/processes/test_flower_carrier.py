"""The carrier with real processes: SuperLink, SuperExec and SuperNodes with TLS and node authentication.

The daemons are in this process; what crosses are opaque bytes. Seconds per exchange are logged at level INFO.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import logging
import os
import secrets
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcredit.daemon.courier_messages import MESSAGE_ROOM
from fedcredit.daemon.courier_transport import CourierTransport
from fedcredit.daemon.service import LocalService
from fedcredit.flower.carrier import CarrierPatience, FlowerCarrier
from fedcredit.flower.relay import Relay, SuperNode, TlsFiles, start_superexec
from fedcredit.parties import InstitutionId
from fedcredit.transport import Deadline

pytestmark = [pytest.mark.process, pytest.mark.slow]

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
MAX_BYTES = (16 << 20) + MESSAGE_ROOM
PATIENCE = CarrierPatience(silent_s=3.0, status_every_s=3.0, replace_after_s=6.0, failed_legs=3, backoff_s=1.0)


def _write_tls(folder: Path) -> TlsFiles:
    now = datetime.datetime.now(datetime.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP384R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fedcredit test CA")])

    def builder(subject: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    usage = {
        "digital_signature": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "key_cert_sign": False,
        "crl_sign": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    ca = (
        builder(ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**{**usage, "key_cert_sign": True, "crl_sign": True}), critical=True)
        .sign(ca_key, hashes.SHA384())
    )
    leaf = (
        builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), key.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.KeyUsage(**{**usage, "digital_signature": True}), critical=True)
        .sign(ca_key, hashes.SHA384())
    )
    files = TlsFiles(ca=folder / "ca.crt", certificate=folder / "server.crt", key=folder / "server.key")
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(_pem(key))
    return files


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _write_node_key(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP384R1())
    private, public = folder / name, folder / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption())
    )
    private.chmod(0o600)
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    return private, public


def _answer(name: str, request: bytes) -> bytes:
    """What the test daemon of ``name`` answers: as long as the request, and bound to both."""
    return hashlib.shake_256(name.encode() + request).digest(len(request))


def _living(groups: list[int]) -> list[str]:
    """Return what /proc tells about the processes of these groups that are not zombies."""
    stats = [_read(path).decode() for path in Path("/proc").glob("[0-9]*/stat")]
    fields = [(stat, stat.rsplit(")", 1)[1].split()) for stat in stats if stat]
    return [stat for stat, (state, _, group, *_) in fields if int(group) in groups and state not in "ZX"]


def _named(script: str, groups: list[int]) -> list[int]:
    """Return the ids of the processes of these groups that run a console script of this name."""
    return [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if f"/{script}".encode() in _read(path) and _group(path.parent) in groups
    ]


def _group(process: Path) -> int:
    stat = _read(process / "stat").decode()
    return int(stat.rsplit(")", 1)[1].split()[2]) if stat else 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


class _Federation:
    """Everything that one test starts; the stack ends it in the reverse order."""

    def __init__(self, names: list[str], folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.groups: list[int] = []
        self.names = names
        tls = _write_tls(folder)
        relay = Relay(directory=folder / "relay", tls=tls)
        stack.callback(relay.stop)
        relay.start(timeout_s=60)
        keys = {name: _write_node_key(folder, name) for name in names}
        nodes = {InstitutionId(name): relay.control.register_supernode(keys[name][1], name=name) for name in names}
        self.transport = CourierTransport(
            nodes=nodes,
            incarnation=secrets.token_hex(8),
            max_bytes=MAX_BYTES,
            idle_hold_s=0.5,
            monotonic=time.monotonic,
        )
        coordinator_socket = folder / "c" / "coordinator.sock"
        stack.enter_context(
            LocalService(coordinator_socket, self.transport.handle_courier, max_bytes=MAX_BYTES, workers=2)
        )
        self.supernodes: dict[str, SuperNode] = {}
        for name in names:
            socket = folder / f"{name}-daemon" / "node.sock"
            stack.enter_context(
                LocalService(socket, lambda request, name=name: _answer(name, request), max_bytes=MAX_BYTES, workers=2)
            )
            supernode = SuperNode(
                name=name,
                address=relay.address,
                ca=relay.ca,
                private_key=keys[name][0],
                node_socket=socket,
                directory=folder / f"{name}-flower",
            )
            stack.callback(supernode.stop)
            self.supernodes[name] = supernode.start()
        superexec = start_superexec(
            address=relay.address,
            ca=relay.ca,
            secret_file=relay.secret_file,
            directory=folder / "coordinator-flower",
            coordinator_socket=coordinator_socket,
            timeout_s=60,
        )
        stack.callback(superexec.stop)
        for supernode in self.supernodes.values():
            supernode.wait_ready(timeout_s=60)
        self.carrier = FlowerCarrier(
            control=relay.control,
            transport=self.transport,
            app_dir=ROOT,
            run_config={},
            patience=PATIENCE,
            tend=lambda: (relay.revive(timeout_s=30), superexec.revive())[1],
        )
        self.relay = relay
        processes = [relay.process, superexec, *(node.process for node in self.supernodes.values())]
        self.groups = [process.group for process in processes if process.group is not None]
        self.carrier.start()
        stack.callback(self.carrier.close, timeout_s=15)

    def exchange(self, size: int, *, seconds: float) -> tuple[dict[str, bytes | None], dict[str, bytes], float]:
        """Send a random request of ``size`` bytes to everybody; return replies, expected replies and seconds."""
        requests = {InstitutionId(name): secrets.token_bytes(size) for name in self.names}
        begun = time.monotonic()
        replies = {
            str(reply.institution): reply.payload
            for reply in self.transport.exchange(requests, deadline=Deadline.after(seconds))
        }
        taken = time.monotonic() - begun
        return replies, {name: _answer(name, requests[InstitutionId(name)]) for name in self.names}, taken


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fc-") as place:  # short: socket paths have 107 bytes
        yield Path(place)


def test_bytes_cross_unchanged_a_killed_node_is_silent_and_nothing_is_left_running(folder: Path) -> None:
    with ExitStack() as stack:
        federation = _Federation(["bank", "insurer"], folder, stack)
        for size in (1_000, 1_000, 1_000_000):
            replies, expected, taken = federation.exchange(size, seconds=60)
            LOG.info("%d bytes to two SuperNodes and back: %.1f s", size, taken)
            assert replies == expected
        first_leg = federation.carrier.run_id

        group = federation.supernodes["insurer"].process.group
        assert group is not None
        os.killpg(group, signal.SIGKILL)
        replies, expected, taken = federation.exchange(1_000, seconds=12)
        assert replies == {"bank": expected["bank"]}
        assert taken >= 12  # the silent one was waited for, to the deadline and no longer
        assert federation.carrier.run_id == first_leg  # the same leg carried on
        assert federation.transport.open_requests() == 0
    assert _living(federation.groups) == []


def test_a_dead_leg_is_replaced_and_the_open_request_still_answered(folder: Path) -> None:
    with ExitStack() as stack:
        federation = _Federation(["bank"], folder, stack)
        replies, expected, _ = federation.exchange(1_000, seconds=60)
        assert replies == expected
        first_leg = federation.carrier.run_id

        (server_app,) = _named("flwr-serverapp", federation.groups)
        os.kill(server_app, signal.SIGKILL)
        replies, expected, taken = federation.exchange(1_000, seconds=60)
        LOG.info("after the death of a leg: %.1f s", taken)
        assert replies == expected
        assert federation.carrier.run_id != first_leg
        assert federation.relay.control.run_status(first_leg or 0).startswith("finished:")
    assert _living(federation.groups) == []
