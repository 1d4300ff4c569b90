"""The record of prepared features against the leakage traps that only its making gives away."""

from __future__ import annotations

from typing import Final

from fedcredit.checking.findings import FindingBook
from fedcredit.contract.canonical.feature_record import FeatureEntry, FeatureRecord
from fedcredit.contract.canonical.manifest import FolderFacts
from fedcredit.errors import (
    CollectionsFeatureError,
    DataError,
    DisposalFeatureError,
    LateBalanceError,
    LateClaimError,
    LaterFeatureError,
    OutOfTimeFitError,
    TargetEncodingError,
)

COLLECTIONS_GAP_DAYS: Final = 60
_COLLECTIONS: Final = frozenset({"rep_monthly.contact_fail_n", "rep_monthly.promise_broken_n"})
_DISPOSAL: Final = frozenset({"outcome.repo_date", "clm.salvage_value", "outcome.ead"})
_NINETY_DAYS: Final = frozenset({"pd12_app", "pd12_beh"})


def check_record(record: FeatureRecord, place: str, facts: FolderFacts, book: FindingBook) -> None:
    """Add a finding for each feature that falls into a trap."""
    for name, entry in record.features.items():
        for kind in _traps(entry, facts):
            extra = {"oot": facts.oot_date.isoformat()} if kind is OutOfTimeFitError else {}
            book.add(kind, table="features", column=name, count=1, row=None, path=place, **extra)


def _traps(entry: FeatureEntry, facts: FolderFacts) -> list[type[DataError]]:
    inputs = set(entry.inputs)
    found: list[type[DataError]] = []
    pd_head = bool(_NINETY_DAYS & set(entry.heads))
    if pd_head and inputs & _COLLECTIONS and entry.gap_days < COLLECTIONS_GAP_DAYS:
        found.append(CollectionsFeatureError)
    if pd_head and inputs & _DISPOSAL:
        found.append(DisposalFeatureError)
    if entry.cut != "observation":
        found.append(_late_kind(inputs))
    if entry.made_by == "target_encoding" and entry.fitted_on != "development":
        found.append(TargetEncodingError)
    if entry.made_by in ("scaling", "bins") and _saw_late_rows(entry, facts):
        found.append(OutOfTimeFitError)
    return found


def _late_kind(inputs: set[str]) -> type[DataError]:
    if any(name.startswith("rep_monthly.") for name in inputs):
        return LateBalanceError
    return LateClaimError if any(name.startswith("clm.") for name in inputs) else LaterFeatureError


def _saw_late_rows(entry: FeatureEntry, facts: FolderFacts) -> bool:
    until = entry.fitted_until
    return entry.fitted_on == "everything" or (until is not None and until >= facts.oot_date)
