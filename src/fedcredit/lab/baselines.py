"""What an institution could do without the federation, and what pooling all rows without privacy would give.

A bank would not settle for a weak model of its own, so "alone" is the better of a scorecard and gradient boosting,
chosen on a quarter of (a sample of) the training rows. No baseline uses differential privacy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit.data.splits import holdout_mask
from fedcredit.data.table import CreditTable
from fedcredit.evaluation import rows
from fedcredit.model.layout import ModelInputs
from fedcredit.model.scorecard import Scorecard

Scores = npt.NDArray[np.float64]
VALIDATION_FRACTION: Final = 0.25
CHOICE_ROWS: Final = 40_000
"""The method is chosen on a sample of about this size; the chosen one is then fitted on all rows."""
MIN_BOOSTING_ROWS: Final = 200
"""Below this many rows boosting is not even tried."""


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
            active = self._model.active_parameters({name: part.codes for name, part in table.modalities.items()})
            indptr = np.arange(0, active.size + 1, active.shape[1])
            shape = (len(table), self._model.layout.size)
            blocks.append(sparse.csr_matrix((np.ones(active.size), active.reshape(-1), indptr), shape=shape))
        return sparse.vstack(blocks).tocsr()


class _Boosting:
    """Histogram gradient boosting on bins and dense numbers."""

    def __init__(self, *, seed: int) -> None:
        self._seed = seed

    def fit_score(self, train: Sequence[CreditTable], test: Sequence[CreditTable]) -> Scores:
        from sklearn.ensemble import HistGradientBoostingClassifier

        labels = np.concatenate([table.labels for table in train])
        known = self._design(train)
        varying = known.min(axis=0) < known.max(axis=0)
        model = HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=150,
            max_leaf_nodes=15,
            min_samples_leaf=40,
            l2_regularization=10.0,
            early_stopping=False,
            random_state=self._seed,
        ).fit(known[:, varying], labels)
        result: Scores = model.predict_proba(self._design(test)[:, varying])[:, 1]
        return result

    def _design(self, tables: Sequence[CreditTable]) -> npt.NDArray[np.float32]:
        return np.concatenate([np.concatenate(list(_columns(table)), axis=1) for table in tables])


def _columns(table: CreditTable) -> Iterator[npt.NDArray[np.float32]]:
    for part in table.modalities.values():
        yield part.codes.astype(np.float32)
        yield part.dense.reshape(len(table), -1)


def _both_classes(labels: npt.NDArray[np.int8]) -> bool:
    return 0 < int(labels.sum()) < len(labels)
