"""The canary: how well a single column tells bad from good. One that sings alone is nearly always a leak."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fedcredit.checking.findings import FindingBook
from fedcredit.checking.profile import TableProfile, is_feature_like
from fedcredit.checking.rules import day
from fedcredit.contract.canonical import ColumnRule
from fedcredit.contract.canonical.manifest import FolderFacts
from fedcredit.contract.canonical.table import TYPED_MISSING
from fedcredit.errors import LeakageCanaryError, StrongFeatureError

HARD_STOP: Final = 0.90
SIGN_OFF: Final = 0.80
LEAST_BADS: Final = 15
"""With fewer the standard error of an AUC is above 0.07, and the canary would sing by chance."""
_LINKS: Final = {"contract": "#", "entity": "entity_tok#", "veh": "vin_tok#"}
"""By which hash of the contract table a table of features is found."""
_SINGLE: Final = ("entity", "contract", "veh")
Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FeaturePower:
    """The AUC of one column alone; always 0.5 or more, because a model can turn it round."""

    table: str
    column: str
    auc: float
    bads: int
    out_of_time: bool
    """Measured out of time; with too few bads there, on everything."""


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    keys: NDArray[np.uint64]
    bad: NDArray[np.bool_]
    late: NDArray[np.bool_]


def feature_powers(profiles: Mapping[str, TableProfile], facts: FolderFacts) -> tuple[FeaturePower, ...]:
    """Return the AUC of every column of the tables with one row per contract, strongest first; none without labels.

    Computed on the samples. Ordered columns by their ranks with ties; a category by the bad rates of its codes.
    """
    labelled = _labels(profiles, facts)
    contract = profiles.get("contract")
    rows = contract.sample() if contract else {"#": np.zeros(0)}
    if labelled is None or not len(rows["#"]):
        return ()
    found = []
    for name in _SINGLE:
        if name in profiles and _LINKS[name] in rows and profiles[name].rows:
            for rule, values in _joined(profiles[name], rows, _LINKS[name], labelled):
                found.append(_power(name, rule, values, labelled))
    return tuple(sorted((power for power in found if power is not None), key=lambda power: -power.auc))


def sing(powers: tuple[FeaturePower, ...], profiles: Mapping[str, TableProfile], book: FindingBook) -> None:
    """Add a finding for each column that is too strong alone."""
    for power in powers:
        kind = LeakageCanaryError if power.auc > HARD_STOP else StrongFeatureError
        limit = HARD_STOP if power.auc > HARD_STOP else SIGN_OFF
        if power.auc >= SIGN_OFF:
            where = {"table": power.table, "column": power.column, "path": profiles[power.table].place}
            book.add(kind, count=power.bads, row=None, auc=f"{power.auc:.3f}", limit=f"{limit:.2f}", **where)


def _labels(profiles: Mapping[str, TableProfile], facts: FolderFacts) -> _Labelled | None:
    """Return the labels of the target that most observations have, one per contract: bad if any row is."""
    outcome = profiles.get("outcome")
    sample = outcome.sample() if outcome else {}
    if not {"target", "y", "obs_date", "contract_id#"} <= set(sample):
        return None
    binary = np.isfinite(sample["y"]) & np.isin(sample["y"], (0.0, 1.0)) & np.isfinite(sample["target"])
    if not binary.any():
        return None
    targets, counts = np.unique(sample["target"][binary], return_counts=True)
    chosen = binary & (sample["target"] == targets[counts.argmax()])
    keys, inverse = np.unique(sample["contract_id#"][chosen], return_inverse=True)
    bad, late = np.zeros(len(keys), dtype=np.bool_), np.zeros(len(keys), dtype=np.bool_)
    np.logical_or.at(bad, inverse, sample["y"][chosen] == 1.0)
    np.logical_or.at(late, inverse, sample["obs_date"][chosen] >= day(facts.oot_date))
    return _Labelled(keys=keys, bad=bad, late=late)


def _joined(
    profile: TableProfile, contracts: Mapping[str, NDArray[Any]], link: str, labelled: _Labelled
) -> Iterator[tuple[ColumnRule, Numbers]]:
    """Yield each column with its value per labelled contract; NaN where the sample has none."""
    rows = profile.sample()
    by_contract = _positions(contracts["#"], labelled.keys)
    keys = np.where(by_contract >= 0, contracts[link][by_contract], np.uint64(0))
    places = _positions(rows["#"], keys)
    for name, counted in profile.columns.items():
        if is_feature_like(counted.rule) and name in rows and name not in ("status", "decision"):
            yield counted.rule, np.where((places >= 0) & (by_contract >= 0), rows[name][places], np.nan)


def _positions(keys: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return where each wanted key stands, -1 if nowhere."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    places = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
    return np.where(keys[order][places] == wanted, order[places], -1).astype(np.int64)


def _power(table: str, rule: ColumnRule, values: Numbers, labelled: _Labelled) -> FeaturePower | None:
    known = np.isfinite(values)
    late = known & labelled.late
    enough = min(int(labelled.bad[late].sum()), int((~labelled.bad[late]).sum())) >= LEAST_BADS
    rows = late if enough else known
    bad = labelled.bad[rows]
    if min(int(bad.sum()), int((~bad).sum())) < LEAST_BADS:
        return None
    scores = _scores(values, rule, labelled.bad, rows, known & ~labelled.late if enough else known)
    power = auc(scores, bad)
    return FeaturePower(
        table=table, column=rule.name, auc=max(power, 1 - power), bads=int(bad.sum()), out_of_time=enough
    )


def _scores(
    values: Numbers, rule: ColumnRule, bad: NDArray[np.bool_], rows: NDArray[np.bool_], fit: NDArray[np.bool_]
) -> Numbers:
    """Return a score per row: the number itself, with codes for missing and categories scored by their bad rate.

    A typed code gets the number whose bad rate is nearest only in the sense of rank: if codes stand for more bads than
    the numbers do, they rank above all numbers, else below. That shows a code that was set after the default.
    """
    if rule.type == "category":
        fitted = fit if fit.any() else rows
        rates = {code: bad[fitted & (values == code)].mean() for code in np.unique(values[fitted])}
        overall = float(bad[fitted].mean())
        return np.array([rates.get(code, overall) for code in values[rows]])
    scores = values[rows].copy()
    coded = np.isin(scores, list(TYPED_MISSING)) & (rule.missing == "typed_missing")
    if coded.any() and not coded.all():
        among = bad[rows]
        sign = auc(scores[~coded], among[~coded]) >= 0.5
        worse = among[coded].mean() > among[~coded].mean()
        numbers = scores[~coded]
        scores[coded] = numbers.max() + 1 if worse == sign else numbers.min() - 1
    return scores


def auc(scores: Numbers, bad: NDArray[np.bool_]) -> float:
    """Return the probability that a bad has the higher score, ties one half (Mann-Whitney); 0.5 with one class."""
    bads, goods = int(bad.sum()), int((~bad).sum())
    if not bads or not goods:
        return 0.5
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    total = float(ranks[inverse][bad].sum())
    return (total - bads * (bads + 1) / 2) / (bads * goods)
