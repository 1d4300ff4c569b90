"""Agreement on whose uploads are added up: what a member checks before it signs, and before it reveals.

The coordinator chooses the cohort; without agreement it could show different members different ones and open more than
one sum of the same masks (PROTOCOL.md 4.3; Bonawitz et al. 2017, section 6.2, ConsistencyCheck).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from fedcredit.crypto.keys import PublicIdentity
from fedcredit.crypto.signatures import VerifiedSignatures, verify, verify_digest
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
    identities: Mapping[str, PublicIdentity],
) -> None:
    """Return if a member may agree to ``selection``.

    Raises:
        WrongContextError: it is for another round, its lists do not fit, or it has another upload of this member.
        SmallCohortError: it has fewer than ``smallest`` members, or leaves this member out.
        BadSignatureError: an upload in it is not signed by its member.
    """
    members = selection.members
    if selection.manifest_digest != manifest_digest:
        raise WrongContextError(what="selection", field="manifest digest")
    fits = len(selection.uploads) == len(selection.signatures) == len(members)
    if not fits or list(members) != sorted(members) or not set(members) <= set(cohort):
        raise WrongContextError(what="selection", field="members")
    if len(members) < smallest or member not in members:
        raise SmallCohortError(members=len(members), needed=smallest)
    if selection.uploads[members.index(member)] != own_upload:
        raise WrongContextError(what="selection", field="own upload")
    signers = [identities[name] for name in members]

    def check() -> None:
        for name, upload, signature in zip(members, selection.uploads, selection.signatures, strict=True):
            verify_digest(
                identities[name], tag=ANSWER_TAG, digest=upload, signature=signature, signer=name, what="upload"
            )

    _once(check, selection.to_bytes(), signers)


def require_agreement(
    selection: bytes,
    accepted: Mapping[str, bytes],
    *,
    manifest_digest: bytes,
    cohort: Sequence[str],
    threshold: int,
    identities: Mapping[str, PublicIdentity],
) -> None:
    """Return if at least ``threshold`` members of ``cohort`` have signed exactly this selection.

    ``selection`` is its digest, ``accepted`` a signature by name.

    Raises:
        AgreementError: they are fewer, or one of them is not in the cohort.
        BadSignatureError: one of the signatures is not on this selection.
    """
    if len(accepted) < threshold or not set(accepted) <= set(cohort):
        raise AgreementError(signed=len(set(accepted) & set(cohort)), needed=threshold)
    body = Accept(manifest_digest=manifest_digest, selection=selection).to_bytes()

    def check() -> None:
        for name, signature in accepted.items():
            verify(identities[name], tag=ANSWER_TAG, body=body, signature=signature, signer=name, what="agreement")

    _once(check, body + b"".join(accepted.values()), [identities[name] for name in accepted])


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


def _once(check: Callable[[], None], signed: bytes, signers: Sequence[PublicIdentity]) -> None:
    """Run a check of many signatures unless the same ones held before (see ``crypto.signatures``).

    In one process all members of a round check the same list. ``signed`` is everything that was signed, or determines
    it, together with the signatures; the signers' keys follow, of fixed length.
    """
    digest = hashlib.sha256(signed + b"".join(identity.signing for identity in signers)).digest()
    if not _HELD.holds(digest):
        check()
        _HELD.add(digest)


def selection_digest(selection: Selection) -> bytes:
    """Return what members sign: SHA-256 of the encoding."""
    return hashlib.sha256(selection.to_bytes()).digest()
