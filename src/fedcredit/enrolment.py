"""How an institution and a coordinator learn each other's keys: an invitation one way, a join request the other.

Both are small text files. The keys in them are trusted only after a person has compared the fingerprint by another
channel; commands ask for it. Enrolment grows in a later version (expiry, revocation, certificates).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import LASTING_SIGNATURE_LENGTH, sign_lasting, verify_lasting
from fedcredit.errors import ConfigFileMissingError, EnrolmentFileError, FedcreditError
from fedcredit.messages import Message
from fedcredit.messages.base import counts_field
from fedcredit.parties import COORDINATOR, InstitutionId, InstitutionType, Member, institution_id

INVITATION_TAG: Final = "fedcredit invitation 2"
JOIN_TAG: Final = "fedcredit join request 3"
_FILE_LIMIT: Final = 64 * 1024
_FILE_VERSION: Final = 2
MessageT = TypeVar("MessageT", bound=Message)


def _text(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and 0 < len(value) <= limit


def _octets(limit: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, bytes) and len(value) <= limit


def _name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9][a-z0-9-]{0,40}", value) is not None


@dataclass(frozen=True, kw_only=True)
class Invitation(Message):
    """What an institution must know of a coordinator."""

    TAG: ClassVar[str] = "invitation"

    consortium: str
    coordinator: bytes
    """Encoded public identity."""
    relay: str
    """host:port of the SuperLink."""
    ca_certificate: bytes
    """PEM; the relay's certificate is checked against it."""
    signature: bytes
    """By the coordinator, over everything else: the compared fingerprint then covers relay and certificate as well."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "consortium": _name,
            "coordinator": _octets(4096),
            "relay": _text(300),
            "ca_certificate": _octets(16 * 1024),
            "signature": _octets(LASTING_SIGNATURE_LENGTH),
        }

    @classmethod
    def make(cls, *, consortium: str, keys: IdentityKeys, relay: str, ca_certificate: bytes) -> Invitation:
        """Return an invitation signed by the coordinator whose keys these are."""
        unsigned = cls(
            consortium=consortium,
            coordinator=keys.public.to_bytes(),
            relay=relay,
            ca_certificate=ca_certificate,
            signature=b"",
        )
        signature = sign_lasting(keys, tag=INVITATION_TAG, body=unsigned.to_bytes())
        return replace(unsigned, signature=signature)

    def require_signed(self) -> None:
        """Raise ``BadSignatureError`` unless the coordinator named here signed exactly this invitation."""
        unsigned = replace(self, signature=b"")
        verify_lasting(
            self.identity,
            tag=INVITATION_TAG,
            body=unsigned.to_bytes(),
            signature=self.signature,
            signer=COORDINATOR,
            what="invitation",
        )

    @property
    def identity(self) -> PublicIdentity:
        """Return the coordinator's public keys."""
        return PublicIdentity.from_bytes(self.coordinator)


@dataclass(frozen=True, kw_only=True)
class JoinRequest(Message):
    """What a coordinator must know of an institution; signed with the key inside it, which proves possession."""

    TAG: ClassVar[str] = "join-request"

    consortium: str
    institution: str
    kind: str
    identity: bytes
    supernode_key: bytes
    """Public key of the SuperNode in OpenSSH form: a transport key only."""
    schemas: tuple[int, ...]
    """Versions of the canonical data set that the node speaks."""
    signature: bytes

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "consortium": _text(41),
            "institution": _text(63),
            "kind": lambda value: isinstance(value, str) and value in set(InstitutionType),
            "identity": _octets(4096),
            "supernode_key": _octets(4096),
            "schemas": counts_field(64, each=10_000),
            "signature": _octets(LASTING_SIGNATURE_LENGTH),
        }

    @classmethod
    def make(
        cls,
        *,
        consortium: str,
        institution: InstitutionId,
        kind: InstitutionType,
        keys: IdentityKeys,
        supernode: bytes,
        schemas: tuple[int, ...],
    ) -> JoinRequest:
        """Return a request signed with ``keys``."""
        unsigned = cls(
            consortium=consortium,
            institution=institution,
            kind=str(kind),
            identity=keys.public.to_bytes(),
            supernode_key=supernode,
            schemas=schemas,
            signature=b"",
        )
        signature = sign_lasting(keys, tag=JOIN_TAG, body=unsigned.to_bytes())
        return replace(unsigned, signature=signature)

    def member(self) -> Member:
        """Return the member that this request describes.

        Raises:
            BadSignatureError: the request is not signed with the key that it names.
        """
        unsigned = replace(self, signature=b"")
        verify_lasting(
            PublicIdentity.from_bytes(self.identity),
            tag=JOIN_TAG,
            body=unsigned.to_bytes(),
            signature=self.signature,
            signer=self.institution,
            what="join request",
        )
        return Member(
            institution=institution_id(self.institution),
            kind=InstitutionType(self.kind),
            public_identity=self.identity,
        )


def armoured(message: Message) -> bytes:
    """Return a message as text that survives mail: a first line that says what it is, then base64."""
    return f"fedcredit {message.TAG} {_FILE_VERSION}\n".encode() + base64.encodebytes(message.to_bytes())


def read_armoured(kind: type[MessageT], path: Path, *, command: str) -> MessageT:
    """Read an armoured message from a file.

    Raises:
        ConfigFileMissingError: there is no such file; ``command`` makes one.
        EnrolmentFileError: it is not exactly one message of this kind.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise ConfigFileMissingError(what=kind.TAG, path=str(path), command=command) from error
    header, _, body = data.partition(b"\n")
    if len(data) > _FILE_LIMIT or header != f"fedcredit {kind.TAG} {_FILE_VERSION}".encode():
        raise EnrolmentFileError(path=str(path), what=kind.TAG, problem="it does not begin like one")
    try:
        return kind.from_bytes(base64.b64decode(b"".join(body.split()), validate=True))
    except (binascii.Error, FedcreditError) as error:
        raise EnrolmentFileError(path=str(path), what=kind.TAG, problem="its content was changed or cut") from error
