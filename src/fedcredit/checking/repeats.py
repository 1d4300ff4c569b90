"""Rows whose key an earlier row of the table has, found as the rows come; for tables that are made from longer ones."""

from __future__ import annotations

import numpy as np

from fedcredit.checking.findings import Mask
from fedcredit.checking.spill import Hashes


class Repeats:
    """Remembers every key that came, at 8 bytes each: 80 MB for ten million persons."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []
        """Sorted keys, each run less than half as long as the one before: few runs, and each key is merged seldom."""

    def first(self, keys: Hashes) -> Mask:
        """Return which rows have a key that no earlier row had, in this chunk or before, and remember them."""
        found, places = np.unique(keys, return_index=True)
        new = np.ones(len(found), dtype=np.bool_)
        for run in self._runs:
            near = np.minimum(np.searchsorted(run, found), len(run) - 1)
            new &= run[near] != found
        first = np.zeros(len(keys), dtype=np.bool_)
        first[places[new]] = True
        self._keep(found[new])
        return first

    def _keep(self, run: Hashes) -> None:
        if not len(run):
            return
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)
