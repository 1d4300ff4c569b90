"""What members say to each other through the coordinator; each value travels in a signed, sealed, padded answer.

    set-up    E1 EpochKey      a fresh key, signed with both long-lived signature keys
              E2 EpochBoxes    one sealed, signed secret per neighbour
    round     M1 Upload        masked lanes and one box of shares per neighbour
              M2 Accept        "these uploads, and no others, are added up"
              M3 Reveal        the shares that open the sum

Bulk data (lanes, boxes, shares) travels beside the message and is bound by ``bulk_digest``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from fedcredit.crypto.epoch_keys import BOX_LENGTH, PUBLIC_LENGTH
from fedcredit.crypto.signatures import SIGNATURE_LENGTH
from fedcredit.encoding import Buffer
from fedcredit.messages import (
    COSIGNATURE_LIMIT,
    LARGEST_COHORT,
    LASTING_SIGNATURE_LENGTH,
    CloseAnswer,
    CountsAnswer,
    Message,
    Stage,
    TrainAnswer,
    digest_field,
    digests_field,
    names_field,
    octet_lists_field,
    octets_field,
    text_field,
)

ROOT_BOX_LENGTH: Final = BOX_LENGTH + SIGNATURE_LENGTH
"""A sealed secret and its sender's signature."""
MOST_NEIGHBOURS: Final = 1_000


def _signatures(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) <= LARGEST_COHORT
        and all(isinstance(item, bytes) and len(item) == SIGNATURE_LENGTH for item in value)
    )


@dataclass(frozen=True, kw_only=True)
class EpochKey(Message):
    """E1: a member's fresh key for one set-up."""

    TAG: ClassVar[str] = "epoch-key"

    setup: bytes
    """Digest of the set-up's manifest."""
    member: str
    key: bytes
    signature: bytes
    """Ed25519 and ML-DSA-65 over everything else; empty while it is made."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "setup": digest_field(),
            "member": text_field(63),
            "key": octets_field(PUBLIC_LENGTH, exactly=PUBLIC_LENGTH),
            "signature": octets_field(LASTING_SIGNATURE_LENGTH, exactly=LASTING_SIGNATURE_LENGTH),
        }

    def unsigned(self) -> bytes:
        """Return what the signature covers."""
        return EpochKey(setup=self.setup, member=self.member, key=self.key, signature=b"").to_bytes()


@dataclass(frozen=True, kw_only=True)
class EpochHello(Message):
    """E1 as it is answered: the key for everybody, and a contribution to the channel, for the coordinator alone."""

    TAG: ClassVar[str] = "epoch-hello"

    manifest_digest: bytes
    key: bytes
    """Encoded ``EpochKey``."""
    channel: bytes
    """32 random bytes."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest_digest": digest_field(),
            "key": octets_field(8 * 1024),
            "channel": octets_field(32, exactly=32),
        }


@dataclass(frozen=True, kw_only=True)
class EpochBoxes(Message):
    """E2: one sealed secret per neighbour, ``ROOT_BOX_LENGTH`` bytes each, in the order of the neighbours."""

    TAG: ClassVar[str] = "epoch-boxes"

    epoch: bytes
    bulk_digest: bytes

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"epoch": digest_field(), "bulk_digest": digest_field()}


@dataclass(frozen=True, kw_only=True)
class Upload(Message):
    """M1: what a member contributes, masked. Nothing else travels with it: no count, no metric."""

    TAG: ClassVar[str] = "upload"

    manifest_digest: bytes
    ledger_head: bytes
    """Head of the institution's privacy ledger, this charge included."""
    cosignature: str
    """Of the log checkpoint that the manifest names."""
    commitments: tuple[bytes, ...]
    """To the member's own seed, then to the seed that it shares with each neighbour, in order."""
    bulk_digest: bytes
    """Of the masked lanes followed by the boxes."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest_digest": digest_field(),
            "ledger_head": digest_field(),
            "cosignature": text_field(COSIGNATURE_LIMIT),
            "commitments": digests_field(MOST_NEIGHBOURS),
            "bulk_digest": digest_field(),
        }


@dataclass(frozen=True, kw_only=True)
class Selection(Message):
    """Whose uploads are added up; the coordinator signs it, and every member signs its digest."""

    TAG: ClassVar[str] = "selection"

    manifest_digest: bytes
    members: tuple[str, ...]
    """In order of their names."""
    uploads: tuple[bytes, ...]
    """Digest of each member's upload message."""
    signatures: tuple[bytes, ...]
    """Each member's signature on its upload message."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "manifest_digest": digest_field(),
            "members": names_field(LARGEST_COHORT),
            "uploads": digests_field(LARGEST_COHORT),
            "signatures": _signatures,
        }


@dataclass(frozen=True, kw_only=True)
class Accept(Message):
    """M2: agreement to one selection, at most one per attempt."""

    TAG: ClassVar[str] = "accept"

    manifest_digest: bytes
    selection: bytes
    """Digest of the selection."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"manifest_digest": digest_field(), "selection": digest_field()}


@dataclass(frozen=True, kw_only=True)
class Reveal(Message):
    """M3: the shares that open the sum of one selection; bulk: 33 bytes each, in the order of ``member.wanted``."""

    TAG: ClassVar[str] = "reveal"

    manifest_digest: bytes
    selection: bytes
    bulk_digest: bytes

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"manifest_digest": digest_field(), "selection": digest_field(), "bulk_digest": digest_field()}


def bulk_digest(*parts: Buffer) -> bytes:
    """Return SHA-256 of the joined parts: what an answer says of the bulk data beside it."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.digest()


# --- what the coordinator sends in each stage ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class KeysBody(Message):
    """Asks for an epoch key."""

    TAG: ClassVar[str] = "keys-body"

    channel: bytes
    """32 random bytes for the recipient alone: the coordinator's contribution to their channel."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"channel": octets_field(32, exactly=32)}


@dataclass(frozen=True, kw_only=True)
class RootsBody(Message):
    """Everybody's epoch keys: the cohort of the epoch is those who are in it."""

    TAG: ClassVar[str] = "roots-body"

    keys: tuple[bytes, ...]
    """Encoded ``EpochKey`` of every member, by name."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {"keys": octet_lists_field(LARGEST_COHORT, each=8 * 1024)}


@dataclass(frozen=True, kw_only=True)
class AcceptBody(Message):
    """Asks to agree to a selection."""

    TAG: ClassVar[str] = "accept-body"

    selection: bytes
    """Encoded ``Selection``."""
    signature: bytes
    """By the coordinator: two different ones for one attempt are evidence against it."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "selection": octets_field(64 * 1024 * 1024),
            "signature": octets_field(SIGNATURE_LENGTH, exactly=SIGNATURE_LENGTH),
        }


@dataclass(frozen=True, kw_only=True)
class RevealBody(Message):
    """Asks for shares: who has agreed, and the boxes that the recipient's neighbours sent it."""

    TAG: ClassVar[str] = "reveal-body"

    selection: bytes
    """Digest of the selection."""
    members: tuple[str, ...]
    """As many who have agreed as the threshold says."""
    signatures: tuple[bytes, ...]
    """Of each of them, on the same ``Accept``."""
    boxes: tuple[bytes, ...]
    """From each neighbour in order; empty for one that is not in the selection."""

    @classmethod
    def checks(cls) -> dict[str, Callable[[Any], bool]]:
        """Return the check of every field."""
        return {
            "selection": digest_field(),
            "members": names_field(LARGEST_COHORT),
            "signatures": _signatures,
            "boxes": octet_lists_field(LARGEST_COHORT, each=1024 * 1024),
        }


ANSWERS: Final[Mapping[Stage, tuple[type[Message], ...]]] = {
    Stage.KEYS: (EpochHello,),
    Stage.ROOTS: (EpochBoxes,),
    Stage.ANSWER: (TrainAnswer, CountsAnswer),
    Stage.UPLOAD: (Upload,),
    Stage.ACCEPT: (Accept,),
    Stage.REVEAL: (Reveal,),
    Stage.CLOSE: (CloseAnswer,),
}
"""What answers each stage, other than a refusal."""
