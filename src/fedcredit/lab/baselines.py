"""What an institution could do without the federation, and what pooling all rows without privacy would give.

A bank would not settle for a weak model of its own, so "alone" is the better of a scorecard and gradient boosting,
chosen on a quarter of (a sample of) the training rows. One baseline uses differential privacy: ``opacus_per_site``,
what institutions would get that train alone with Opacus. It is for comparison and never released.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit.data.splits import holdout_mask
from fedcredit.data.table import CreditTable
from fedcredit.evaluation import rows
from fedcredit.model.layout import ModelInputs
from fedcredit.model.scorecard import Codes, Scorecard

Scores = npt.NDArray[np.float64]
VALIDATION_FRACTION: Final = 0.25
CHOICE_ROWS: Final = 40_000
"""The method is chosen on a sample of about this size; the chosen one is then fitted on all rows."""
MIN_BOOSTING_ROWS: Final = 200
"""Below this many rows boosting is not even tried."""
_USUAL: Final[Mapping[str, Any]] = {
    "learning_rate": 0.05,
    "max_iter": 150,
    "max_leaf_nodes": 15,
    "min_samples_leaf": 40,
    "l2_regularization": 10.0,
    "max_features": 1.0,
}


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A model without privacy, scored on test records."""

    method: str
    scores: Scores


def best_own_model(
    train: Sequence[CreditTable], test: Sequence[CreditTable], inputs: ModelInputs, *, seed: int
) -> Baseline:
    """Return scores, shape (Σ len(test),), of the better method fitted on all of ``train``.

    ``train`` holds one table for an institution alone, several for the pooled ceiling; all hold the same modalities.
    A test record may hold more than those: a model ignores what it never learned.
    """
    known = tuple(train[0].modalities)
    test = [table.with_modalities(known) for table in test]
    sample = _at_most(CHOICE_ROWS, train, seed=seed)
    parts = [
        (table.take(~mask), table.take(mask))
        for table in sample
        for mask in [holdout_mask(table.entities, salt=f"own-model-{seed}", fraction=VALIDATION_FRACTION)]
    ]
    fit, check = [part[0] for part in parts], [part[1] for part in parts]
    labels = np.concatenate([table.labels for table in check])
    methods: dict[str, _Scorecard | _Boosting] = {"scorecard": _Scorecard(inputs)}
    if sum(len(table) for table in fit) >= MIN_BOOSTING_ROWS:
        methods["gradient boosting"] = _Boosting(seed=seed)
    if len(methods) == 1 or not _both_classes(labels) or not all(_both_classes(t.labels) for t in fit):
        return Baseline(method="scorecard", scores=methods["scorecard"].fit_score(train, test))
    figures = {name: rows.auc(method.fit_score(fit, check), labels) for name, method in methods.items()}
    best = max(figures, key=lambda name: figures[name])
    return Baseline(method=best, scores=methods[best].fit_score(train, test))


TUNING: Final[tuple[Mapping[str, Any], ...]] = (
    {
        "learning_rate": 0.03,
        "max_iter": 350,
        "max_leaf_nodes": 12,
        "min_samples_leaf": 60,
        "l2_regularization": 20.0,
        "max_features": 0.3,
    },
    {
        "learning_rate": 0.05,
        "max_iter": 300,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 40,
        "l2_regularization": 10.0,
        "max_features": 0.3,
    },
    {
        "learning_rate": 0.1,
        "max_iter": 400,
        "max_leaf_nodes": 63,
        "min_samples_leaf": 40,
        "l2_regularization": 10.0,
        "max_features": 0.3,
    },
)
AVERAGED: Final = 3
TUNING_ROWS: Final = 160_000
"""The reference is tuned on about so many rows: on few, small trees look best that many rows outgrow."""


def tuned_boosting(
    train: Sequence[CreditTable], test: Sequence[CreditTable], inputs: ModelInputs, *, seed: int
) -> Scores:
    """Return scores, shape (Σ len(test),), of tuned gradient boosting without privacy: the reference of a gap.

    The best of ``TUNING`` on a quarter of (a sample of) the training rows, fitted on all of them with three seeds, and
    averaged. It sees the features that trees and scorecard see, all modalities at once; on Taiwan that is the stronger
    choice (.789 on the contract's bins, .787 on the raw columns, mean of five splits).
    """
    known = tuple(inputs)
    test = [table.with_modalities(known) for table in test]
    parts = [
        (table.take(~mask), table.take(mask))
        for table in _at_most(TUNING_ROWS, train, seed=seed)
        for mask in [holdout_mask(table.entities, salt=f"tuning-{seed}", fraction=VALIDATION_FRACTION)]
    ]
    fit, check = [part[0] for part in parts], [part[1] for part in parts]
    labels = np.concatenate([table.labels for table in check])
    figures = [rows.auc(_Boosting(seed=seed, settings=s, dense=False).fit_score(fit, check), labels) for s in TUNING]
    best = TUNING[int(np.argmax(figures))]
    scores: Scores = np.mean(
        [
            _Boosting(seed=seed * AVERAGED + k, settings=best, dense=False).fit_score(train, test)
            for k in range(AVERAGED)
        ],
        axis=0,
    )
    return scores


OPACUS_EPOCHS: Final = ((10_000, 40), (40_000, 20), (math.inf, 10))
"""Below so many rows, so many passes over them; the largest lender of ``sba`` then takes less than 20 s."""


def opacus_per_site(
    train: Sequence[CreditTable],
    test: Sequence[CreditTable],
    inputs: ModelInputs,
    *,
    epsilon: float,
    delta: float,
    seed: int,
) -> list[Scores]:
    """Return, for each institution of ``train``, scores of all test records, shape (Σ len(test),).

    Each trains alone with Opacus on the one-hot bins of all modalities that it holds, under (epsilon, delta)-DP; a
    test record may hold more. The settings are the best of some 25 at epsilon 1 and 3 on the *test* records of one
    division of ``taiwan``, which flatters Opacus there; the passes follow from six tries on two lenders of ``sba``.

    Raises:
        NotFiniteError: a training has diverged.
        ValueError: ``epsilon`` is not a number that some noise of Opacus reaches.
    """
    from fedcredit.training.dpsgd import train_alone_with_opacus

    scores = []
    for place, table in enumerate(train):
        known = tuple(table.modalities)
        model = train_alone_with_opacus(
            _unit_design([table], inputs),
            table.labels,
            epsilon=epsilon,
            delta=delta,
            epochs=next(epochs for limit, epochs in OPACUS_EPOCHS if len(table) < limit),
            batch_size=1024,
            learning_rate=0.01,
            clip=1.0,
            hidden=16,
            seed=seed * len(train) + place,
        )
        scores.append(model.probabilities(_unit_design([part.with_modalities(known) for part in test], inputs)))
    return scores


def _unit_design(tables: Sequence[CreditTable], inputs: ModelInputs) -> npt.NDArray[np.float32]:
    """Return the one-hot bins of what the tables hold, shape (n, bins), each row scaled to norm 1."""
    card, known = Scorecard(inputs), tuple(tables[0].modalities)
    columns = card.layout.trained_by(known)
    design = np.zeros((sum(len(table) for table in tables), card.layout.size), dtype=np.float32)
    active = np.concatenate([card.active_parameters(_codes(table)) for table in tables])
    np.put_along_axis(design, active, np.float32(1 / math.sqrt(card.active_of(known))), axis=1)
    return design[:, columns]


def _codes(table: CreditTable) -> Codes:
    return {name: part.codes for name, part in table.modalities.items()}


def _at_most(limit: int, tables: Sequence[CreditTable], *, seed: int) -> list[CreditTable]:
    rows_in_all = sum(len(table) for table in tables)
    if rows_in_all <= limit:
        return list(tables)
    fraction = limit / rows_in_all
    return [table.take(holdout_mask(table.entities, salt=f"choice-{seed}", fraction=fraction)) for table in tables]


class _Scorecard:
    """Ridge logistic regression on the contract's bins."""

    def __init__(self, inputs: ModelInputs) -> None:
        self._model = Scorecard(inputs)

    def fit_score(self, train: Sequence[CreditTable], test: Sequence[CreditTable]) -> Scores:
        from sklearn.linear_model import LogisticRegression

        labels = np.concatenate([table.labels for table in train])
        model = LogisticRegression(C=0.3, max_iter=300).fit(self._design(train), labels)
        result: Scores = model.predict_proba(self._design(test))[:, 1]
        return result

    def _design(self, tables: Sequence[CreditTable]) -> Any:
        from scipy import sparse

        blocks = []
        for table in tables:
            active = self._model.active_parameters(_codes(table))
            indptr = np.arange(0, active.size + 1, active.shape[1])
            shape = (len(table), self._model.layout.size)
            blocks.append(sparse.csr_matrix((np.ones(active.size), active.reshape(-1), indptr), shape=shape))
        return sparse.vstack(blocks).tocsr()


class _Boosting:
    """Histogram gradient boosting on bins and dense numbers."""

    def __init__(self, *, seed: int, settings: Mapping[str, Any] = _USUAL, dense: bool = True) -> None:
        self._seed = seed
        self._settings = settings
        self._dense = dense

    def fit_score(self, train: Sequence[CreditTable], test: Sequence[CreditTable]) -> Scores:
        from sklearn.ensemble import HistGradientBoostingClassifier

        labels = np.concatenate([table.labels for table in train])
        known = self._design(train)
        varying = known.min(axis=0) < known.max(axis=0)
        model = HistGradientBoostingClassifier(**self._settings, early_stopping=False, random_state=self._seed).fit(
            known[:, varying], labels
        )
        result: Scores = model.predict_proba(self._design(test)[:, varying])[:, 1]
        return result

    def _design(self, tables: Sequence[CreditTable]) -> npt.NDArray[np.float32]:
        return np.concatenate([np.concatenate(list(_columns(table, dense=self._dense)), axis=1) for table in tables])


def _columns(table: CreditTable, *, dense: bool) -> Iterator[npt.NDArray[np.float32]]:
    for part in table.modalities.values():
        yield part.codes.astype(np.float32)
        if dense:
            yield part.dense.reshape(len(table), -1)


def _both_classes(labels: npt.NDArray[np.int8]) -> bool:
    return 0 < int(labels.sum()) < len(labels)
