"""Certificates of the relay's TLS and the keys of SuperNodes (FLOWER.md 5); channel keys, never message keys.

ECDSA on P-384: measured to work with gRPC's TLS and with Flower's node authentication, which takes NIST curves only;
Ed25519 certificates fail in both (PROTOCOL.md 2.3).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedcredit.errors import ConfigValueError, KeyFileError

CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""How far before ``now`` a certificate begins: the clock of another party may be behind."""

_NAME_LIMIT: Final = 64  # RFC 5280 appendix A.1, ub-common-name
_SERVER_NAME: Final = "fedcredit relay"
_HOST: Final = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority for one relay."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


def make_authority(name: str, *, days: int, now: datetime) -> Authority:
    """Return a new authority called ``name``, valid for ``days`` from ``now`` (which has a time zone).

    Raises:
        ConfigValueError: the name is empty or too long, or ``days`` is not positive.
    """
    if not 1 <= len(name.encode()) <= _NAME_LIMIT:
        raise _refused("name", f"must have 1 to {_NAME_LIMIT} bytes")
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _common_name(name)
    certificate = (
        _begin(subject=subject, issuer=subject, key=key.public_key(), days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .sign(key, hashes.SHA384())
    )
    return Authority(cert_pem=certificate.public_bytes(Encoding.PEM), key_pem=_key_pem(key))


def issue_server_certificate(
    authority: Authority, *, hosts: Sequence[str], days: int, now: datetime
) -> tuple[bytes, bytes]:
    """Return ``(certificate, key)`` in PEM for a TLS server reached as any of ``hosts`` (DNS names or IP addresses).

    Raises:
        ConfigValueError: no host, a host that is neither name nor address, or an end after the authority's own.
        KeyFileError: the authority's certificate and key are not a pair.
    """
    issuer, issuer_key = _load(authority)
    if not hosts:
        raise _refused("hosts", "must name at least one host")
    if now + timedelta(days=days) > issuer.not_valid_after_utc:
        raise _refused("days", "would outlive the certificate authority")
    key = ec.generate_private_key(ec.SECP384R1())
    subject = _common_name(_SERVER_NAME)
    certificate = (
        _begin(subject=subject, issuer=issuer.subject, key=key.public_key(), days=days, now=now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(host) for host in hosts]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA384())
    )
    return certificate.public_bytes(Encoding.PEM), _key_pem(key)


def make_supernode_key() -> tuple[bytes, bytes]:
    """Return ``(private, public)`` of a SuperNode in OpenSSH form, as ``ssh-keygen -t ecdsa -b 384`` writes them.

    The first is for ``flower-supernode --auth-supernode-private-key``, the second for ``flwr supernode register``.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return private, public + b"\n"


def _refused(key: str, problem: str) -> ConfigValueError:
    return ConfigValueError(path="certificate", key=key, problem=problem)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begin(
    *, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int, now: datetime
) -> x509.CertificateBuilder:
    if days < 1:
        raise _refused("days", "must be at least 1")
    if now.tzinfo is None:
        raise ValueError("now needs a time zone")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not _HOST.fullmatch(host):
        raise _refused("hosts", "must be DNS names in lower case or IP addresses, without a port")
    return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(authority.cert_pem)
        key = load_pem_private_key(authority.key_pem, password=None)
    except (ValueError, TypeError) as error:
        raise KeyFileError(
            path="of the certificate authority", problem="is not PEM, or is protected by a passphrase"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        raise KeyFileError(path="of the certificate authority", problem="does not belong to its certificate")
    return certificate, key
