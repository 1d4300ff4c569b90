"""Attempts that gave no sum, and answers that were left out of one: what was asked, and who is blamed with what right.

Blame before the selection follows from commitments alone, which every member signed with its upload; blame for shares
follows from the reveals in a sum's transcript (``evidence_sums``). Nobody's word is taken for either.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from fedcredit.errors import MalformedMessageError, WrongContextError
from fedcredit.messages import Signed
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence_asked import AskedRound, kept_file
from fedcredit.rounds.evidence_log import Line
from fedcredit.rounds.evidence_opening import Opening
from fedcredit.rounds.evidence_sums import cohort_of, require_logged, signed_upload
from fedcredit.rounds.transcript import AttemptRecord
from fedcredit.secagg.agreement import selection_digest
from fedcredit.secagg.conflicts import conflicts
from fedcredit.secagg.wire import Selection, Upload


def recorded_attempt(line: Line, asked: AskedRound, opening: Opening, folder: Path, *, digest: bytes | None) -> None:
    """Return if the record of an attempt holds and shows that everybody is blamed who has to be, and nobody else.

    Without ``digest`` no entry names it: the coordinator was cut off, perhaps before the log had the answers.

    Raises:
        AuditError: it is missing, another one, not signed by whom it names, or says something else than the log.
    """
    file = asked.attempt_name
    data = kept_file(line, file, folder)
    line.require(digest in {None, hashlib.sha256(data).digest()}, f"names another record than {file}")
    with line.naming(f"names a record that does not hold: {file}"):
        record = AttemptRecord.from_bytes(data)
        asked.signed.require(record.manifest, record.manifest_signature, opening)
        uploads = {name: _upload_of(name, item, asked, opening) for name, item in record.uploads.items()}
        if digest is not None:
            _require_answers(record, uploads, asked)
    if digest is not None:
        _require_blame(line, uploads, asked, opening)
        _require_selection(line, record, asked)
    asked.shown = True


def _upload_of(name: InstitutionId, item: Signed, asked: AskedRound, opening: Opening) -> Upload:
    """Return the upload that a member of a masked round signed for it."""
    if asked.lanes is None:
        raise WrongContextError(what=f"upload of {name}", field="cohort")
    return signed_upload(name, item.body, item.signature, manifest=asked.signed, opening=opening)


def _require_answers(record: AttemptRecord, uploads: Mapping[InstitutionId, Upload], asked: AskedRound) -> None:
    """Return if these are the masked answers that the log took."""
    missing = set(asked.answers) - set(uploads) if asked.lanes is not None else set()
    if missing:
        raise WrongContextError(what="attempt record", field=f"uploads, without that of {min(missing)}")
    for name, upload in uploads.items():
        digest = hashlib.sha256(record.uploads[name].body).digest()
        require_logged(name, upload, digest, asked.answers.get(name))


def _require_blame(line: Line, uploads: Mapping[InstitutionId, Upload], asked: AskedRound, opening: Opening) -> None:
    """Return if the log blames those who follow from the commitments; nobody, if it never came to a selection."""
    found = _contradicting(line, uploads, asked, opening) if asked.selected or asked.conflicting else set()
    line.require(
        found == asked.conflicting,
        f"blames {_listed(asked.conflicting)} for contradicting others, where the commitments show {_listed(found)}",
    )


def _contradicting(
    line: Line, uploads: Mapping[InstitutionId, Upload], asked: AskedRound, opening: Opening
) -> set[str]:
    secure = opening.plan.secure
    assert secure is not None  # noqa: S101 - nobody is selected or blamed elsewhere
    cohort = cohort_of(asked.signed, secure)
    commitments = {cohort.places[name]: upload.commitments for name, upload in uploads.items()}
    with line.naming("names a record that does not hold"):
        if any(len(item) != 1 + len(cohort.neighbours[place]) for place, item in commitments.items()):
            raise MalformedMessageError(what="upload", problem="a part has another size than this round needs")
    left_out = conflicts(commitments, cohort=cohort, colluders=opening.plan.privacy.colluders).left_out
    return {cohort.names[place] for place in left_out}


def _require_selection(line: Line, record: AttemptRecord, asked: AskedRound) -> None:
    """Return if what the log calls the selection is that of these uploads."""
    if not asked.selected:
        return
    chosen = [record.uploads[name] for name in asked.selected]
    selection = Selection(
        manifest_digest=asked.manifest,
        members=asked.selected,
        uploads=tuple(hashlib.sha256(item.body).digest() for item in chosen),
        signatures=tuple(item.signature for item in chosen),
    )
    line.require(selection_digest(selection) == asked.selection, "names another selection than its uploads give")


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "nobody"
