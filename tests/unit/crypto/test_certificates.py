from __future__ import annotations

import dataclasses
import ipaddress
import ssl
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from fedcredit.crypto.certificates import Authority, issue_server_certificate, make_authority, make_supernode_key
from fedcredit.errors import ConfigValueError, KeyFileError

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOSTS = ("localhost", "relay.example.org", "127.0.0.1", "::1")
AUTHORITY = make_authority("fedcredit test relay", days=365, now=NOW)
CERTIFICATE, KEY = issue_server_certificate(AUTHORITY, hosts=HOSTS, days=90, now=NOW)


def accepted(host: str, *, at: datetime = NOW, authority: Authority = AUTHORITY) -> bool:
    subject: x509.DNSName | x509.IPAddress
    try:
        subject = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        subject = x509.DNSName(host)
    trusted = Store([x509.load_pem_x509_certificate(authority.cert_pem)])
    verifier = PolicyBuilder().store(trusted).time(at).build_server_verifier(subject)
    try:
        verifier.verify(x509.load_pem_x509_certificate(CERTIFICATE), [])
    except VerificationError:
        return False
    return True


def handshake(tmp_path: Path, *, host: str, authority: Authority) -> str | None:
    """Shake hands in memory and return the TLS version that both sides agreed on."""
    now = datetime.now(UTC)
    certificate, key = issue_server_certificate(authority, hosts=["localhost"], days=1, now=now)
    (tmp_path / "server.crt").write_bytes(certificate)
    (tmp_path / "server.key").write_bytes(key)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    client_context = ssl.create_default_context(cadata=AUTHORITY_TODAY.cert_pem.decode())
    client_context.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return client.version()


AUTHORITY_TODAY = make_authority("today", days=2, now=datetime.now(UTC))


@pytest.mark.parametrize("host", HOSTS)
def test_the_relay_is_known_by_each_of_its_hosts(host: str) -> None:
    assert accepted(host)


@pytest.mark.parametrize("host", ["example.org", "relay.example.org.evil", "127.0.0.2"])
def test_no_other_host_passes(host: str) -> None:
    assert not accepted(host)


def test_another_authority_with_the_same_name_does_not_vouch() -> None:
    assert not accepted("localhost", authority=make_authority("fedcredit test relay", days=365, now=NOW))


def test_a_certificate_counts_from_an_hour_before_to_its_last_day() -> None:
    assert accepted("localhost", at=NOW - timedelta(minutes=59))
    assert not accepted("localhost", at=NOW - timedelta(minutes=61))
    assert accepted("localhost", at=NOW + timedelta(days=90))
    assert not accepted("localhost", at=NOW + timedelta(days=90, seconds=1))


def test_python_and_openssl_shake_hands_with_tls_1_3(tmp_path: Path) -> None:
    assert handshake(tmp_path, host="localhost", authority=AUTHORITY_TODAY) == "TLSv1.3"


def test_the_handshake_fails_for_another_host_or_authority(tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, host="relay.example.org", authority=AUTHORITY_TODAY)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, host="localhost", authority=make_authority("other", days=2, now=datetime.now(UTC)))


def test_the_authority_may_sign_certificates_and_nothing_else() -> None:
    certificate = x509.load_pem_x509_certificate(AUTHORITY.cert_pem)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.digital_signature) == (True, True, False)
    key = load_pem_private_key(AUTHORITY.key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp384r1"


def test_the_server_certificate_is_no_authority() -> None:
    certificate = x509.load_pem_x509_certificate(CERTIFICATE)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.SERVER_AUTH]
    with pytest.raises(ConfigValueError):
        issue_server_certificate(AUTHORITY, hosts=["localhost"], days=366, now=NOW)


def test_an_authority_does_not_show_its_key() -> None:
    assert "PRIVATE" not in repr(AUTHORITY)
    assert "CERTIFICATE" in repr(AUTHORITY)


@pytest.mark.parametrize(
    "hosts",
    [[], [""], ["local host"], ["localhost:8000"], ["https://relay"], ["*.example.org"], ["RELAY"], ["银行.example"],
     ["-a"], ["a" * 64], ["."], ["localhost\n"], ["a." * 127 + "a"], ["localhost", "10.0.0.0/8"]],
)  # fmt: skip
def test_a_host_that_is_no_name_or_address_is_refused(hosts: Sequence[str]) -> None:
    with pytest.raises(ConfigValueError):
        issue_server_certificate(AUTHORITY, hosts=hosts, days=1, now=NOW)


@pytest.mark.parametrize("days", [0, -1])
def test_a_validity_of_no_days_is_refused(days: int) -> None:
    with pytest.raises(ConfigValueError):
        make_authority("a", days=days, now=NOW)
    with pytest.raises(ConfigValueError):
        issue_server_certificate(AUTHORITY, hosts=["localhost"], days=days, now=NOW)


@pytest.mark.parametrize("name", ["", "a" * 65, "银" * 22])
def test_an_authority_name_outside_the_limits_is_refused(name: str) -> None:
    with pytest.raises(ConfigValueError):
        make_authority(name, days=1, now=NOW)


def test_a_time_without_a_zone_is_a_bug() -> None:
    with pytest.raises(ValueError, match="time zone"):
        make_authority("a", days=1, now=NOW.replace(tzinfo=None))


def test_an_authority_whose_parts_do_not_belong_together_is_refused() -> None:
    other = make_authority("other", days=365, now=NOW)
    for broken in (
        dataclasses.replace(AUTHORITY, key_pem=other.key_pem),
        dataclasses.replace(AUTHORITY, key_pem=b"no key"),
        dataclasses.replace(AUTHORITY, cert_pem=b"no certificate"),
    ):
        with pytest.raises(KeyFileError):
            issue_server_certificate(broken, hosts=["localhost"], days=1, now=NOW)


def test_flower_takes_the_supernode_keys(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # flwr's own imports are not our concern
        from flwr.cli.supernode.register import try_load_public_key
        from flwr.supercore.primitives.asymmetric import bytes_to_public_key, uses_nist_ec_curve
    private, public = make_supernode_key()
    (tmp_path / "node.pub").write_bytes(public)
    registered = bytes_to_public_key(try_load_public_key(tmp_path / "node.pub"))
    loaded = load_ssh_private_key(private, None)  # what flower-supernode calls
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert uses_nist_ec_curve(registered)
    assert loaded.public_key().public_numbers() == registered.public_numbers()


def test_supernode_keys_look_like_those_of_ssh_keygen() -> None:
    private, public = make_supernode_key()
    assert private.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert public.startswith(b"ecdsa-sha2-nistp384 ")
    assert public.endswith(b"\n")
    assert make_supernode_key()[0] != private
