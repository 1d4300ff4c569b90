"""Agreement on whose uploads are added up: what a member checks before it signs, and before it reveals.

The coordinator chooses the cohort; without agreement it could show different members different ones and open more than
one sum of the same masks (PROTOCOL.md 4.3; Bonawitz et al. 2017, section 6.2, ConsistencyCheck).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from fedcredit.crypto.keys import PublicIdentity
from fedcredit.crypto.signatures import VerifiedSignatures, has_verified, verify_digest
from fedcredit.envelope import ANSWER_TAG
from fedcredit.errors import AgreementError, SmallCohortError, WrongContextError
from fedcredit.secagg.wire import Accept, Selection

SELECTION_TAG: Final = "fedcredit selection 1"
LEAST_DIFFERENCE: Final = 3
"""Two sums of one round may not differ by fewer members than this, colluders not counted."""


def require_selection(
    selection: Selection,
    *,
    manifest_digest: bytes,
    cohort: Sequence[str],
    member: str,
    own_upload: bytes,
    smallest: int,
) -> None:
    """Return if a member may agree to ``selection``: with that it vouches for its own upload in it.

    The others' signatures are verified before shares leave (``require_agreement``).

    Raises:
        WrongContextError: it is for another round, its lists do not fit, or it has another upload of this member.
        SmallCohortError: it has fewer than ``smallest`` members, or leaves this member out.
    """
    members = selection.members
    if selection.manifest_digest != manifest_digest:
        raise WrongContextError(what="selection", field="manifest digest")
    fits = len(selection.uploads) == len(selection.signatures) == len(members)
    if not fits or list(members) != sorted({*members}) or not set(members) <= set(cohort):
        raise WrongContextError(what="selection", field="members")
    if len(members) < smallest or member not in members:
        raise SmallCohortError(members=len(members), needed=smallest)
    if selection.uploads[members.index(member)] != own_upload:
        raise WrongContextError(what="selection", field="own upload")


def require_agreement(
    selection: Selection,
    accepted: Mapping[str, bytes],
    *,
    member: str | None,
    threshold: int,
    identities: Mapping[str, PublicIdentity],
) -> None:
    """Return if every member of ``selection`` vouches for its upload, at least ``threshold`` of them for all of it.

    ``accepted`` has a signature by name on the selection's digest. Who has signed that had its own upload in it; of all
    others the signature on the upload itself is verified. ``member`` asks and has agreed to this selection; ``None``
    stands for somebody who has agreed to nothing.

    Raises:
        AgreementError: fewer have agreed, or one of them is not in the selection.
        BadSignatureError: one of the others' signatures is not on this selection, or not on the upload in it.
    """
    signers = set(accepted) & set(selection.members)
    if len(signers) < threshold or len(signers) < len(accepted):
        raise AgreementError(signed=len(signers), needed=threshold)
    body = Accept(manifest_digest=selection.manifest_digest, selection=selection_digest(selection)).to_bytes()
    agreement = hashlib.sha256(body).digest()
    _verify_others(
        {name: (agreement, signature) for name, signature in accepted.items()}, member, identities, "agreement"
    )
    uploads = zip(selection.members, selection.uploads, selection.signatures, strict=True)
    _verify_others(
        {name: (upload, signature) for name, upload, signature in uploads if name not in accepted},
        member,
        identities,
        "upload",
    )


def require_safe_difference(members: Sequence[str], opened: Sequence[str], *, colluders: int) -> None:
    """Return if the sum over ``members`` may be opened after that over ``opened`` for the same round.

    The difference of two such sums is the sum over the members in one of them only.

    Raises:
        SmallCohortError: they differ, by fewer than ``LEAST_DIFFERENCE`` members besides the colluders.
    """
    apart, needed = len(set(members) ^ set(opened)), LEAST_DIFFERENCE + colluders
    if opened and 0 < apart < needed:
        raise SmallCohortError(members=apart, needed=needed)


_HELD: Final = VerifiedSignatures(limit=64)
"""Whole lists that verified: in one process all members of a round check the same one (see ``crypto.signatures``)."""


def _verify_others(
    signed: Mapping[str, tuple[bytes, bytes]],
    member: str | None,
    identities: Mapping[str, PublicIdentity],
    what: str,
) -> None:
    """Verify everybody's signature on a digest but ``member``'s own: it compared what it signed itself.

    A list is kept as verified only once its every signature was, by whichever member.
    """
    whole = hashlib.sha256()
    for name, pair in signed.items():
        whole.update(identities[name].signing + b"".join(len(part).to_bytes(4, "big") + part for part in pair))
    seen = whole.digest()
    if _HELD.holds(seen):
        return
    for name, (digest, signature) in signed.items():
        if name != member:
            verify_digest(identities[name], tag=ANSWER_TAG, digest=digest, signature=signature, signer=name, what=what)
    own = signed.get(member) if member is not None else None
    if own is None or has_verified(identities[str(member)], tag=ANSWER_TAG, digest=own[0], signature=own[1]):
        _HELD.add(seen)


def selection_digest(selection: Selection) -> bytes:
    """Return what members sign: SHA-256 of the encoding."""
    return hashlib.sha256(selection.to_bytes()).digest()
