"""A secure round computed again from its signed messages: who signed what, and which sum follows from it.

The aggregator's own code opens the sum (``secagg.aggregator``), so a transcript that gives another one is a lie of the
coordinator, never a difference between two implementations. Errors here say what is wrong; the caller knows the entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import SecureAggregation
from fedcredit.crypto.signatures import verify
from fedcredit.envelope import ANSWER_TAG
from fedcredit.errors import MalformedMessageError, WrongContextError
from fedcredit.parties import COORDINATOR, InstitutionId
from fedcredit.rounds.evidence_log import Line
from fedcredit.rounds.evidence_manifests import ExpectedManifest
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.transcript import Transcript
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import SELECTION_TAG, require_agreement
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.wire import Reveal, Selection, Upload, bulk_digest

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ReplayedSum:
    """What a transcript gives."""

    total: Integers
    members: tuple[InstitutionId, ...]
    """Whose uploads are in the sum."""
    selection_digest: bytes
    wrong: frozenset[str]
    """Members some of whose shares do not fit their commitments."""
    agreements: int
    reveals: int

    @property
    def total_digest(self) -> bytes:
        """Return what the log says of a sum."""
        return hashlib.sha256(self.total.astype("<i8").tobytes()).digest()


def replay(
    transcript: Transcript,
    expected: ExpectedManifest,
    opening: Opening,
    secure: SecureAggregation,
    accepted: Mapping[InstitutionId, Line],
    *,
    lanes: int,
) -> ReplayedSum:
    """Return the sum of ``lanes`` numbers that follows from ``transcript``.

    The log says what the manifest is ``expected`` to say, and in which entries it ``accepted`` the members' answers.

    Raises:
        BadSignatureError: a manifest, selection, upload, agreement or reveal is not signed by whom it names.
        WrongContextError: a part belongs to another round, or the log says otherwise.
        AgreementError, SmallCohortError: too few have agreed, or are in the sum.
        ReconstructionError: the shares do not open the sum.
        MalformedMessageError: a part does not decode, or has another size.
    """
    _require_manifest(transcript, expected, opening, secure, lanes)
    aggregator = AggregatorRound(
        manifest_digest=expected.digest,
        cohort=cohort_of(expected, secure),
        count=lanes,
        bits=secure.lane_bits,
        smallest=opening.plan.rounds.quorum,
        colluders=opening.plan.privacy.colluders,
    )
    _take_uploads(transcript, aggregator, expected, opening, accepted)
    _require_selection(transcript, aggregator, opening)
    _require_agreement(transcript, aggregator, opening, secure)
    _take_reveals(transcript, aggregator, opening)
    opened = aggregator.open()
    return ReplayedSum(
        total=opened.values,
        members=tuple(InstitutionId(name) for name in aggregator.selection.members),
        selection_digest=aggregator.selection_digest,
        wrong=opened.wrong,
        agreements=len(transcript.accepts),
        reveals=len(transcript.reveals),
    )


def cohort_of(manifest: ExpectedManifest, secure: SecureAggregation) -> Cohort:
    """Return the cohort of a masked round, with the graph of its epoch."""
    epoch = manifest.fields["epoch"]
    seed = epoch if isinstance(epoch, bytes) else b""
    return Cohort.of(manifest.cohort, seed=seed, threshold=secure.threshold)


def _require_manifest(
    transcript: Transcript, expected: ExpectedManifest, opening: Opening, secure: SecureAggregation, lanes: int
) -> None:
    """Return if the coordinator signed this manifest, and it says what the log says."""
    expected.require(transcript.manifest, transcript.manifest_signature, opening)
    stated = (transcript.lanes, transcript.lane_bits, transcript.threshold)
    if stated != (lanes, secure.lane_bits, secure.threshold):
        raise WrongContextError(what="transcript", field="number of lanes, their width or threshold")


def _take_uploads(
    transcript: Transcript,
    aggregator: AggregatorRound,
    expected: ExpectedManifest,
    opening: Opening,
    accepted: Mapping[InstitutionId, Line],
) -> None:
    for name, item in transcript.uploads.items():
        upload = signed_upload(name, item.body, item.signature, manifest=expected, opening=opening)
        digest = hashlib.sha256(item.body).digest()
        require_logged(name, upload, digest, accepted.get(name))
        aggregator.take_upload(name, upload, digest=digest, signature=item.signature, bulk=item.bulk)


def signed_upload(
    name: InstitutionId, body: bytes, signature: bytes, *, manifest: ExpectedManifest, opening: Opening
) -> Upload:
    """Return the upload that a member who was asked has signed for this manifest.

    Raises:
        BadSignatureError: the member did not sign it.
        WrongContextError: nobody asked that member, or it is for another manifest.
        MalformedMessageError: it does not decode.
    """
    if name not in manifest.cohort:
        raise WrongContextError(what=f"upload of {name}", field="cohort")
    verify(opening.identities[name], tag=ANSWER_TAG, body=body, signature=signature, signer=name, what="upload")
    upload = Upload.from_bytes(body)
    if upload.manifest_digest != manifest.digest:
        raise WrongContextError(what=f"upload of {name}", field="manifest")
    return upload


def require_logged(name: str, upload: Upload, digest: bytes, line: Line | None) -> None:
    """Return if the log took exactly this upload, with the head and the cosignature that are in it.

    Raises:
        WrongContextError: it did not.
    """
    stated = {"answer": digest, "ledger_head": upload.ledger_head, "cosignature": upload.cosignature}
    if line is None or any(line.fields.get(key) != value for key, value in stated.items()):
        raise WrongContextError(what=f"upload of {name}", field="entry of the log")


def _require_selection(transcript: Transcript, aggregator: AggregatorRound, opening: Opening) -> None:
    """Return if the coordinator signed the selection of exactly these uploads."""
    verify(
        opening.coordinator,
        tag=SELECTION_TAG,
        body=transcript.selection,
        signature=transcript.selection_signature,
        signer=COORDINATOR,
        what="selection",
    )
    if Selection.from_bytes(transcript.selection) != aggregator.select():
        raise WrongContextError(what="selection", field="list of uploads")


def _require_agreement(
    transcript: Transcript, aggregator: AggregatorRound, opening: Opening, secure: SecureAggregation
) -> None:
    require_agreement(
        aggregator.selection,
        {str(name): signature for name, signature in transcript.accepts.items()},
        member=None,
        threshold=secure.threshold,
        identities={str(name): identity for name, identity in opening.identities.items()},
    )


def _take_reveals(transcript: Transcript, aggregator: AggregatorRound, opening: Opening) -> None:
    for name, (body, signature, bulk) in transcript.reveals.items():
        if name not in transcript.accepts:
            raise WrongContextError(what=f"reveal of {name}", field="agreement")
        verify(opening.identities[name], tag=ANSWER_TAG, body=body, signature=signature, signer=name, what="reveal")
        reveal = Reveal.from_bytes(body)
        place = (reveal.manifest_digest, reveal.selection)
        if place != (aggregator.manifest_digest, aggregator.selection_digest):
            raise WrongContextError(what=f"reveal of {name}", field="selection")
        if bulk_digest(bulk) != reveal.bulk_digest:
            raise MalformedMessageError(what="reveal", problem="its shares are not those that were signed")
        aggregator.take_reveal(name, bulk)
