"""The signed messages of a secure round and of an epoch's set-up, kept so that anybody can check them and add up again.

Masked uploads may be shown: with the shares that were revealed they give the sum, and no single update. Of an attempt
without a sum there is less: what was asked, and what its members committed to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fedcredit.encoding import Buffer, Encodable, decode, encode, encode_octets, list_head
from fedcredit.errors import MalformedMessageError
from fedcredit.messages import Manifest, Signed
from fedcredit.parties import InstitutionId

TRANSCRIPTS: Final = "transcripts"
_TRANSCRIPT_FORMAT: Final = "fedcredit round transcript 1"
_SETUP_FORMAT: Final = "fedcredit set-up record 1"
_ATTEMPT_FORMAT: Final = "fedcredit attempt record 1"
RECORDS: Final = 2
"""Version of what is kept beside a log, in its first entry; from 2 on there are records of attempts."""
_LIMIT: Final = 2**31 - 1

Keep = Callable[[str, bytes], None]
"""Makes a file of this name durable, with this content."""


@dataclass(frozen=True)
class SignedUpload:
    """An upload as it was signed, and the lanes and boxes beside it."""

    body: bytes
    signature: bytes
    bulk: Buffer


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One round that ended with a sum."""

    manifest: bytes
    manifest_signature: bytes
    lanes: int
    lane_bits: int
    threshold: int
    selection: bytes
    selection_signature: bytes
    uploads: Mapping[InstitutionId, SignedUpload]
    accepts: Mapping[InstitutionId, bytes]
    """Each member's signature on the selection."""
    reveals: Mapping[InstitutionId, tuple[bytes, bytes, bytes]]
    """Each member's signed message, its signature, and the shares."""

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        before: list[Encodable] = [
            _TRANSCRIPT_FORMAT,
            self.manifest,
            self.manifest_signature,
            self.lanes,
            self.lane_bits,
            self.threshold,
            self.selection,
            self.selection_signature,
        ]
        # Of a thousand members the uploads are 150 MB, which would be copied three times otherwise.
        uploads = encode_octets({name: [item.body, item.signature, item.bulk] for name, item in self.uploads.items()})
        after: list[Encodable] = [
            {str(name): signature for name, signature in self.accepts.items()},
            {str(name): list(parts) for name, parts in self.reveals.items()},
        ]
        head = list_head(len(before) + 1 + len(after))
        return b"".join([head, *map(encode, before), *uploads, *map(encode, after)])

    @classmethod
    def from_bytes(cls, data: bytes) -> Transcript:
        """Return what ``to_bytes`` was called on; the signatures are not checked.

        Raises:
            MalformedMessageError: it was not called on this.
        """
        match decode(data, what="round transcript", limit=_LIMIT):
            case [
                str(form),
                bytes(manifest),
                bytes(manifest_signature),
                int(lanes),
                int(lane_bits),
                int(threshold),
                bytes(selection),
                bytes(selection_signature),
                dict(uploads),
                dict(accepts),
                dict(reveals),
            ] if form == _TRANSCRIPT_FORMAT:
                return cls(
                    manifest=manifest,
                    manifest_signature=manifest_signature,
                    lanes=lanes,
                    lane_bits=lane_bits,
                    threshold=threshold,
                    selection=selection,
                    selection_signature=selection_signature,
                    uploads={InstitutionId(name): SignedUpload(*_three(item)) for name, item in uploads.items()},
                    accepts={InstitutionId(name): _octets(item) for name, item in accepts.items()},
                    reveals={InstitutionId(name): _three(item) for name, item in reveals.items()},
                )
        raise MalformedMessageError(what="round transcript", problem="its parts are not the expected ones")

    def digest(self) -> bytes:
        """Return SHA-256 of the encoding."""
        return hashlib.sha256(self.to_bytes()).digest()


@dataclass(frozen=True, kw_only=True)
class SetupRecord:
    """One set-up that ended with an epoch: what was asked, and the key that each member signed for it.

    The sealed secrets of the pairs are not in it; the log has their digest.
    """

    manifest: bytes
    manifest_signature: bytes
    keys: tuple[bytes, ...]
    """Encoded epoch keys with their signatures, in the order of the cohort."""

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        return encode([_SETUP_FORMAT, self.manifest, self.manifest_signature, list(self.keys)])

    @classmethod
    def from_bytes(cls, data: bytes) -> SetupRecord:
        """Return what ``to_bytes`` was called on; the signatures are not checked.

        Raises:
            MalformedMessageError: it was not called on this.
        """
        match decode(data, what="set-up record", limit=_LIMIT):
            case [str(form), bytes(manifest), bytes(signature), list(keys)] if form == _SETUP_FORMAT:
                octets = tuple(key for key in keys if isinstance(key, bytes))
                if len(octets) == len(keys):
                    return cls(manifest=manifest, manifest_signature=signature, keys=octets)
        raise MalformedMessageError(what="set-up record", problem="its parts are not the expected ones")


@dataclass(frozen=True, kw_only=True)
class AttemptRecord:
    """One attempt that gave no sum, or whose sum leaves out somebody who had answered.

    Lanes and boxes are not in it. What a member is blamed for before the selection, or not, follows from the
    commitments, and they are in the message that it signed.
    """

    manifest: bytes
    manifest_signature: bytes
    uploads: Mapping[InstitutionId, Signed]
    """Every masked upload that was accepted; none of a set-up, of a closing, or with open aggregation."""

    def to_bytes(self) -> bytes:
        """Return the canonical encoding."""
        uploads: dict[str, Encodable] = {str(name): [item.body, item.signature] for name, item in self.uploads.items()}
        return encode([_ATTEMPT_FORMAT, self.manifest, self.manifest_signature, uploads])

    @classmethod
    def from_bytes(cls, data: bytes) -> AttemptRecord:
        """Return what ``to_bytes`` was called on; the signatures are not checked.

        Raises:
            MalformedMessageError: it was not called on this.
        """
        match decode(data, what="attempt record", limit=_LIMIT):
            case [str(form), bytes(manifest), bytes(signature), dict(uploads)] if form == _ATTEMPT_FORMAT:
                return cls(
                    manifest=manifest,
                    manifest_signature=signature,
                    uploads={InstitutionId(name): _signed(item) for name, item in uploads.items()},
                )
        raise MalformedMessageError(what="attempt record", problem="its parts are not the expected ones")


def keep_attempt(manifest: Manifest, *, signature: bytes, uploads: Mapping[InstitutionId, Signed], keep: Keep) -> bytes:
    """Keep the record of an attempt and return its SHA-256, for the entry that says what came of it."""
    record = AttemptRecord(manifest=manifest.to_bytes(), manifest_signature=signature, uploads=uploads).to_bytes()
    keep(attempt_name(round_number=manifest.round, purpose=manifest.purpose, attempt=manifest.attempt), record)
    return hashlib.sha256(record).digest()


def transcript_name(*, round_number: int, purpose: str, attempt: int) -> str:
    """Return the file name of a round's transcript."""
    return f"{round_number:05d}-{purpose}-{attempt:03d}.cbor"


def attempt_name(*, round_number: int, purpose: str, attempt: int) -> str:
    """Return the file name of an attempt's record, which may stand beside the transcript of the same attempt."""
    return f"{round_number:05d}-{purpose}-{attempt:03d}-attempt.cbor"


def _signed(value: Encodable) -> Signed:
    match value:
        case [bytes(body), bytes(signature)]:
            return Signed(body=body, signature=signature)
    raise MalformedMessageError(what="attempt record", problem="a message does not have two parts")


def _octets(value: Encodable) -> bytes:
    if not isinstance(value, bytes):
        raise MalformedMessageError(what="round transcript", problem="a signature is no byte string")
    return value


def _three(value: Encodable) -> tuple[bytes, bytes, bytes]:
    match value:
        case [bytes(first), bytes(second), bytes(third)]:
            return first, second, third
    raise MalformedMessageError(what="round transcript", problem="a message does not have three parts")
