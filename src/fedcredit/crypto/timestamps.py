"""Time stamps: an authority says that a text existed at a time (RFC 3161).

Of a log the text of a checkpoint is stamped, which covers every entry up to its size. A log that was written anew needs
another stamp, and that one has a later time: coordinator and members cannot backdate together. Nothing here opens a
connection: query and reply are files that a person carries, or ``curl``.

Needs the extra ``anchor`` (rfc3161-client).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509

from fedcredit.errors import AnchorError, ConfigFileMissingError, ExtraMissingError

if TYPE_CHECKING:
    import rfc3161_client

MOST_BYTES: Final = 1 << 20
"""Of a reply or of a file of certificates; a reply with its chain has a few thousand."""

_SHA256: Final = "2.16.840.1.101.3.4.2.1"


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A verified time stamp."""

    time: datetime
    """By the authority's clock, UTC."""
    root: str
    """The subject of the certificate that the authority was recognised by (RFC 4514)."""


def stamp_query(text: bytes) -> bytes:
    """Return the query for a stamp of ``text`` (RFC 3161, section 2.4.1; DER).

    It has no nonce, so it can be made again: an old stamp of the same text says nothing wrong.

    Raises:
        ExtraMissingError: rfc3161-client is not installed.
    """
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
    except ImportError as error:
        raise ExtraMissingError(what="time stamps", extra="anchor") from error
    builder = TimestampRequestBuilder(nonce=False).hash_algorithm(HashAlgorithm.SHA256)
    return builder.data(text).build().as_bytes()


def read_roots(path: Path) -> tuple[x509.Certificate, ...]:
    """Return the certificates in the PEM file ``path`` that a time-stamp authority is recognised by.

    Raises:
        ConfigFileMissingError: it cannot be read.
        AnchorError: it holds no certificate, or something else.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(_read(path, "certificates of the time-stamp authority")))
    except ValueError as error:
        raise AnchorError(path=str(path), problem="it holds no certificates in PEM form") from error


def verify_stamp(path: Path, text: bytes, *, roots: Sequence[x509.Certificate]) -> Stamp:
    """Return what the reply in ``path`` says about ``text`` (RFC 3161, section 2.4.2; DER).

    Certificates are judged at the stamp's own time, so a stamp outlives them. Revocation is not looked up.

    Raises:
        ConfigFileMissingError: it cannot be read.
        AnchorError: it is no reply, not granted, of something else, or not signed under one of ``roots``.
        ExtraMissingError: rfc3161-client is not installed.
    """
    try:
        from rfc3161_client import PKIStatus, VerificationError, VerifierBuilder, decode_timestamp_response
    except ImportError as error:
        raise ExtraMissingError(what="time stamps", extra="anchor") from error
    place = str(path)
    try:
        response = decode_timestamp_response(_read(path, "time-stamp reply"))
        if PKIStatus(response.status) is not PKIStatus.GRANTED:
            raise AnchorError(path=place, problem="the authority refused the query")
        stamped = response.tst_info
        _require_same(stamped.message_imprint, text, place)
        time = stamped.gen_time
    except ValueError as error:
        raise AnchorError(path=place, problem="it is not a time-stamp reply") from error
    for root in roots:
        verifier = VerifierBuilder().add_root_certificate(root).build()
        try:
            verifier.verify_message(response, text)
        except (VerificationError, ValueError):
            continue
        return Stamp(time=time, root=root.subject.rfc4514_string())
    raise AnchorError(path=place, problem="it is not signed under any of the given certificates")


def _read(path: Path, what: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigFileMissingError(what=what, path=str(path), command="check the path") from error
    if len(data) > MOST_BYTES:
        raise AnchorError(path=str(path), problem=f"it has more than {MOST_BYTES:,} bytes")
    return data


def _require_same(imprint: rfc3161_client.MessageImprint, text: bytes, place: str) -> None:
    # Said apart from a wrong signature: the reply may be good, and the log another one.
    if (imprint.hash_algorithm.dotted_string, imprint.message) != (_SHA256, hashlib.sha256(text).digest()):
        raise AnchorError(path=place, problem="it stamps something else than this log at its length")
