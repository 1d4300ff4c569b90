"""Who takes part: identifiers, roles and the roster of members with their public keys."""

from __future__ import annotations

import enum
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NewType

from fedcredit.encoding import Encodable, digest
from fedcredit.errors import ConfigValueError, MalformedMessageError

InstitutionId = NewType("InstitutionId", str)

COORDINATOR: Final = InstitutionId("coordinator")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")


class InstitutionType(enum.StrEnum):
    """What kind of company a member is; it decides which modalities are expected."""

    BANK = "bank"
    AUTO_FINANCE = "auto_finance"
    GUARANTEE_FUND = "guarantee_fund"
    INSURER = "insurer"
    LESSOR = "lessor"


def institution_id(name: str) -> InstitutionId:
    """Return ``name`` as an identifier; only lower-case letters, digits and hyphens, at most 63 characters.

    Raises:
        ConfigValueError: the name breaks the rule or is reserved.
    """
    if not _NAME.fullmatch(name) or name == COORDINATOR:
        raise ConfigValueError(
            path="institution name", key=name[:63], problem="must be lower-case letters, digits and hyphens"
        )
    return InstitutionId(name)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One institution of the consortium with the public keys it enrolled."""

    institution: InstitutionId
    kind: InstitutionType
    public_identity: bytes
    """Encoded public identity (``crypto.keys.PublicIdentity.to_bytes``)."""

    @cached_property
    def identity_digest(self) -> str:
        """Return SHA-256 of the public identity in hexadecimal digits, as a plan names it."""
        return hashlib.sha256(self.public_identity).hexdigest()

    def to_value(self) -> Encodable:
        """Return the canonical value."""
        return {"institution": self.institution, "kind": str(self.kind), "identity": self.public_identity}

    @classmethod
    def from_value(cls, value: Encodable) -> Member:
        """Rebuild a member; anything else than exactly its three fields raises."""
        if not isinstance(value, Mapping) or set(value) != {"institution", "kind", "identity"}:
            raise MalformedMessageError(what="member", problem="its fields are not the expected ones")
        name, kind, identity = value["institution"], value["kind"], value["identity"]
        if not isinstance(name, str) or not isinstance(identity, bytes):
            raise MalformedMessageError(what="member", problem="a field has the wrong type")
        if not isinstance(kind, str) or kind not in set(InstitutionType):
            raise MalformedMessageError(what="member", problem="its kind is not known")
        if not _NAME.fullmatch(name) or name == COORDINATOR:
            raise MalformedMessageError(what="member", problem="its name is not allowed")
        return cls(institution=InstitutionId(name), kind=InstitutionType(kind), public_identity=identity)


@dataclass(frozen=True)
class Roster:
    """The members of a consortium in the order of their names; its digest is bound into every round."""

    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        names = [member.institution for member in self.members]
        if len(set(names)) != len(names):
            raise MalformedMessageError(what="roster", problem="it names an institution twice")
        keys = [member.public_identity for member in self.members]
        if len(set(keys)) != len(keys):
            raise MalformedMessageError(what="roster", problem="two institutions share keys")
        object.__setattr__(self, "members", tuple(sorted(self.members, key=lambda m: m.institution)))

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def find(self, institution: InstitutionId) -> Member | None:
        """Return the member of that name, if there is one."""
        return self._by_name.get(institution)

    @cached_property
    def _by_name(self) -> dict[InstitutionId, Member]:
        return {member.institution: member for member in self.members}

    def to_value(self) -> list[Encodable]:
        """Return the canonical value."""
        return [member.to_value() for member in self.members]

    @classmethod
    def from_value(cls, value: Encodable) -> Roster:
        """Rebuild a roster; a member that does not decode, or another order than that of the names, raises."""
        if not isinstance(value, list):
            raise MalformedMessageError(what="roster", problem="it is not a list")
        members = tuple(Member.from_value(item) for item in value)
        roster = cls(members)
        if roster.members != members:
            raise MalformedMessageError(what="roster", problem="its members are not in the order of their names")
        return roster

    def digest(self) -> bytes:
        """Return SHA-256 over the canonical encoding."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return digest(self.to_value())
