"""An anchor: a time-stamp authority says when a log checkpoint existed (RFC 3161).

What is stamped is the text of a checkpoint, so the stamp covers every entry up to its size. A log that was written anew
afterwards needs another stamp, and that one has a later time. Coordinator and members cannot backdate together.
Nothing here opens a connection: the query and the reply are files that a person carries, or ``curl``.

Needs the extra ``anchor`` (rfc3161-client).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from cryptography import x509

from fedcredit.audit.checkpoint_note import LogCheckpoint
from fedcredit.errors import AnchorError, ConfigFileMissingError, ExtraMissingError

if TYPE_CHECKING:
    import rfc3161_client

MOST_BYTES: Final = 1 << 20
"""Of a reply or of a file of certificates; a reply with its chain has a few thousand."""

_SHA256: Final = "2.16.840.1.101.3.4.2.1"


@dataclass(frozen=True, kw_only=True)
class Anchor:
    """A verified time stamp of a log."""

    size: int
    """The first so many entries existed at the time."""
    time: datetime
    """By the authority's clock, UTC."""
    root: str
    """The subject of the certificate that the authority was recognised by (RFC 4514)."""


def anchor_query(checkpoint: LogCheckpoint) -> bytes:
    """Return the time-stamp query for ``checkpoint`` (RFC 3161, section 2.4.1; DER).

    It has no nonce, so it can be made again: an old stamp of the same checkpoint says nothing wrong.

    Raises:
        ExtraMissingError: rfc3161-client is not installed.
    """
    client = _client()
    builder = client.TimestampRequestBuilder(nonce=False).hash_algorithm(client.HashAlgorithm.SHA256)
    query: bytes = builder.data(checkpoint.to_text().encode()).build().as_bytes()
    return query


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


def verify_anchor(path: Path, checkpoint: LogCheckpoint, *, roots: Sequence[x509.Certificate]) -> Anchor:
    """Return what the time-stamp reply in ``path`` says about ``checkpoint`` (RFC 3161, section 2.4.2; DER).

    Certificates are judged at the stamp's own time, so an anchor outlives them. Revocation is not looked up.

    Raises:
        ConfigFileMissingError: it cannot be read.
        AnchorError: it is no reply, not granted, of something else, or not signed under one of ``roots``.
        ExtraMissingError: rfc3161-client is not installed.
    """
    client, place, text = _client(), str(path), checkpoint.to_text().encode()
    try:
        response = client.decode_timestamp_response(_read(path, "time-stamp reply"))
        if client.PKIStatus(response.status) is not client.PKIStatus.GRANTED:
            raise AnchorError(path=place, problem="the authority refused the query")
        stamped = response.tst_info
        _require_same(stamped.message_imprint, text, place)
        time = stamped.gen_time
    except ValueError as error:
        raise AnchorError(path=place, problem="it is not a time-stamp reply") from error
    for root in roots:
        verifier = client.VerifierBuilder().add_root_certificate(root).build()
        try:
            verifier.verify_message(response, text)
        except (client.VerificationError, ValueError):
            continue
        return Anchor(size=checkpoint.size, time=time, root=root.subject.rfc4514_string())
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
        raise AnchorError(path=place, problem="it stamps something else than this log at this length")


def _client() -> ModuleType:
    if importlib.util.find_spec("rfc3161_client") is None:
        raise ExtraMissingError(what="time stamps", extra="anchor")
    return importlib.import_module("rfc3161_client")
