"""A time-stamp authority for tests (RFC 3161): it stamps any SHA-256 with the time that it is told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SHA256, SIGNED_DATA, TST_INFO = "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.7.2", "1.2.840.113549.1.9.16.1.4"
CONTENT_TYPE, MESSAGE_DIGEST, SIGNING_CERTIFICATE = (
    "1.2.840.113549.1.9.3",
    "1.2.840.113549.1.9.4",
    "1.2.840.113549.1.9.16.2.47",
)
ECDSA_SHA256, POLICY = "1.2.840.10045.4.3.2", "1.3.6.1.4.1.99999.1"
GRANTED, REJECTION = 0, 2


def der(tag: int, *parts: bytes) -> bytes:
    """Return one DER element (X.690, section 8.1)."""
    body = b"".join(parts)
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8 or 1, "big")
    return bytes([tag]) + (bytes([len(body)]) if len(body) < 128 else bytes([0x80 | len(size)]) + size) + body


def oid(text: str) -> bytes:
    first, second, *rest = map(int, text.split("."))
    body = bytes([40 * first + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        body += bytes(reversed(groups))
    return der(0x06, body)


def integer(value: int) -> bytes:
    return der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def sequence(*parts: bytes) -> bytes:
    return der(0x30, *parts)


def set_of(*parts: bytes, tag: int = 0x31) -> bytes:
    return der(tag, *sorted(parts))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Certificate | None, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2027, 1, 1, tzinfo=UTC))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        builder = builder.add_extension(usage, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass
class Authority:
    """A root and a stamping certificate under it, valid in 2026."""

    key: ec.EllipticCurvePrivateKey
    root: x509.Certificate
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str = "Test Time") -> Authority:
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = _certificate(f"{name} Root", root_key, None, root_key)
        return cls(key, root, _certificate(name, key, root, root_key))

    @property
    def roots(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)

    def stamp(self, digest: bytes, at: datetime, *, status: int = GRANTED) -> bytes:
        """Return the reply to a query for the SHA-256 ``digest``."""
        if status != GRANTED:
            return sequence(sequence(integer(status)))
        time = der(0x18, f"{at:%Y%m%d%H%M%SZ}".encode())
        imprint = sequence(sequence(oid(SHA256)), der(0x04, digest))
        info = sequence(integer(1), oid(POLICY), imprint, integer(7), time)
        leaf = self.certificate.public_bytes(Encoding.DER)
        signing = sequence(sequence(sequence(der(0x04, hashlib.sha256(leaf).digest()))))
        attributes = (
            sequence(oid(CONTENT_TYPE), set_of(oid(TST_INFO))),
            sequence(oid(MESSAGE_DIGEST), set_of(der(0x04, hashlib.sha256(info).digest()))),
            sequence(oid(SIGNING_CERTIFICATE), set_of(signing)),
        )
        signature = self.key.sign(set_of(*attributes), ec.ECDSA(hashes.SHA256()))
        signer = sequence(
            integer(1),
            sequence(self.certificate.issuer.public_bytes(), integer(self.certificate.serial_number)),
            sequence(oid(SHA256)),
            set_of(*attributes, tag=0xA0),
            sequence(oid(ECDSA_SHA256)),
            der(0x04, signature),
        )
        signed = sequence(
            integer(3),
            set_of(sequence(oid(SHA256))),
            sequence(oid(TST_INFO), der(0xA0, der(0x04, info))),
            der(0xA0, leaf),
            set_of(signer),
        )
        return sequence(sequence(integer(GRANTED)), sequence(oid(SIGNED_DATA), der(0xA0, signed)))


def answer_query(authority: Authority, query: bytes, at: datetime) -> bytes:
    """Return the authority's reply to the bytes of a query."""
    start = query.index(oid(SHA256)) + len(oid(SHA256))
    digest = query[query.index(b"\x04\x20", start) + 2 :][:32]
    return authority.stamp(digest, at)
