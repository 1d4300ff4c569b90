"""Rules over the columns of one row: contradictions, and the leakage traps that a row gives away by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.checking.findings import Mask
from fedcredit.contract.canonical.folds import folds_of
from fedcredit.contract.canonical.manifest import FolderFacts
from fedcredit.errors import (
    ContradictionError,
    DataError,
    DisposalFeatureError,
    FoldError,
    InvestigationLinkError,
    LateBalanceError,
    LateBureauError,
    LateClaimError,
    LaterFeatureError,
    LegalBasisError,
    OpenWindowError,
    RestatedGuideError,
    RewrittenStatusError,
)
from fedcredit.parties import InstitutionType

MONTH_DAYS: Final = 365.25 / 12
REPORTING_LAG_DAYS: Final = 62
"""A fund hears of a month 15 to 45 days after its end; what comes two months later was rewritten."""
Columns = Mapping[str, NDArray[Any]]
Test = Callable[[Columns, FolderFacts], Mask]


@dataclass(frozen=True, kw_only=True)
class RowRule:
    """A rule that a row breaks by itself."""

    table: str
    column: str
    """The column that a finding names."""
    needs: tuple[str, ...]
    broken: Test
    kind: type[DataError]
    fields: Mapping[str, Any] = field(default_factory=dict)


def day(facts_date: Any) -> float:
    """Return a date as days since 1970-01-01."""
    return float(np.datetime64(facts_date, "D").astype(np.int64))


def _after(later: str, earlier: str, slack: float = 0.0) -> Test:
    return lambda c, _: c[later] > c[earlier] + slack


def _shares(c: Columns, _: FolderFacts) -> Mask:
    parts = np.stack([c[name] for name in _SHARES])
    known = (parts >= 0).all(axis=0)
    return np.asarray(known & (np.abs(parts.sum(axis=0) - 1.0) > 0.005))


def _fund_rewrites(c: Columns, facts: FolderFacts) -> Mask:
    late = c["reported_at"] > c["month"] + 31 + REPORTING_LAG_DAYS
    return late if facts.type is InstitutionType.GUARANTEE_FUND else np.zeros(len(late), dtype=np.bool_)


def _open_window(c: Columns, facts: FolderFacts) -> Mask:
    ends = c["obs_date"] + c["window_m"] * MONTH_DAYS
    known = np.minimum(c["known_at"], day(facts.snapshot_date))
    return np.asarray((c["y"] == 0) & (ends > known + 1))


def _no_ground(c: Columns, _: FolderFacts) -> Mask:
    return np.asarray((c["withdrawn"] == 1) | (c["legal_basis"] == _NO_BASIS))


def _not_binary(c: Columns, _: FolderFacts) -> Mask:
    return np.asarray(np.isin(c["target"], _BINARY) & np.isfinite(c["y"]) & ~np.isin(c["y"], (0.0, 1.0)))


_BINARY: Final = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 9.0, 10.0, 11.0)
"""Positions of the targets that either happen or not among the values of outcome.target."""
_SHARES: Final = ("share_bank", "share_guar", "share_reguar", "share_ins")
_NO_BASIS: Final = 3.0
"""Position of "none" among the values of entity.legal_basis."""
_DISPOSAL: Final = (5.0, 6.0)
"""Positions of "disposal" and "auction" among the values of veh.appraisal_method."""
_INVESTIGATION: Final = 3.0
"""Position of "investigation" among the values of edge.origin."""


def _contradiction(table: str, column: str, needs: tuple[str, ...], broken: Test, rule: str) -> RowRule:
    return RowRule(
        table=table, column=column, needs=needs, broken=broken, kind=ContradictionError, fields={"rule": rule}
    )


def _until(column: str) -> RowRule:
    kind = LateBalanceError if column == "rep_until" else LaterFeatureError
    return RowRule(
        table="observation", column=column, needs=(column, "obs_date"), broken=_after(column, "obs_date"), kind=kind
    )


RULES: Final = (
    RowRule(
        table="contract",
        column="bureau_date",
        needs=("bureau_date", "orig_date"),
        broken=_after("bureau_date", "orig_date"),
        kind=LateBureauError,
    ),
    *map(_until, ("bureau_until", "rep_until", "rv_until", "tel_until", "con_until", "ent_until", "clm_until")),
    RowRule(
        table="rv_weekly",
        column="guide_vintage",
        needs=("guide_vintage", "week"),
        broken=_after("guide_vintage", "week", 6),
        kind=RestatedGuideError,
    ),
    RowRule(
        table="veh",
        column="appraisal_method",
        needs=("appraisal_method",),
        broken=lambda c, _: np.isin(c["appraisal_method"], _DISPOSAL),
        kind=DisposalFeatureError,
    ),
    RowRule(
        table="clm",
        column="known_at",
        needs=("known_at", "report_date"),
        broken=_after("report_date", "known_at"),
        kind=LateClaimError,
    ),
    RowRule(
        table="observation",
        column="fold",
        needs=("fold", "entity_tok"),
        broken=lambda c, _: ~np.isnan(c["fold"]) & (folds_of(c["entity_tok"]) != c["fold"]),
        kind=FoldError,
    ),
    RowRule(
        table="rep_monthly",
        column="reported_at",
        needs=("reported_at", "month"),
        broken=_fund_rewrites,
        kind=RewrittenStatusError,
        fields={"limit": REPORTING_LAG_DAYS},
    ),
    RowRule(
        table="outcome",
        column="y",
        needs=("y", "obs_date", "window_m", "known_at"),
        broken=_open_window,
        kind=OpenWindowError,
    ),
    RowRule(
        table="edge",
        column="origin",
        needs=("origin",),
        broken=lambda c, _: c["origin"] == _INVESTIGATION,
        kind=InvestigationLinkError,
    ),
    RowRule(
        table="entity",
        column="legal_basis",
        needs=("legal_basis", "withdrawn"),
        broken=_no_ground,
        kind=LegalBasisError,
    ),
    _contradiction(
        "contract", "share_bank", _SHARES, _shares, "share_bank + share_guar + share_reguar + share_ins = 1"
    ),
    _contradiction(
        "contract",
        "decision_date",
        ("decision_date", "orig_date"),
        _after("decision_date", "orig_date"),
        "decision_date <= orig_date",
    ),
    _contradiction("pol", "end", ("start", "end"), _after("start", "end"), "start <= end"),
    _contradiction(
        "clm", "loss_date", ("loss_date", "report_date"), _after("loss_date", "report_date"), "loss_date <= report_date"
    ),
    _contradiction("rv_weekly", "rv_p10", ("rv_p10", "rv_mid"), _after("rv_p10", "rv_mid"), "rv_p10 <= rv_mid"),
    _contradiction(
        "rv_weekly",
        "rv_p90",
        ("rv_mid", "rv_p90"),
        lambda c, _: (c["rv_p90"] >= 0) & (c["rv_mid"] > c["rv_p90"]),
        "rv_mid <= rv_p90",
    ),
    _contradiction(
        "rep_monthly",
        "dpd_max_m",
        ("dpd_eom", "dpd_max_m"),
        lambda c, _: (c["dpd_max_m"] >= 0) & (c["dpd_eom"] > c["dpd_max_m"]),
        "dpd_eom <= dpd_max_m",
    ),
    _contradiction("outcome", "y", ("y", "target"), _not_binary, "y = 0 or y = 1"),
    _contradiction(
        "outcome", "event_date", ("obs_date", "event_date"), _after("obs_date", "event_date"), "obs_date <= event_date"
    ),
    _contradiction(
        "outcome", "known_at", ("event_date", "known_at"), _after("event_date", "known_at"), "event_date <= known_at"
    ),
)
