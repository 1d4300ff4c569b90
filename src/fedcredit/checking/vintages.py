"""Bad rates by quarter of observation: exact counts, over all rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINARY = ("pd12_app", "pd12_beh", "ew30_1", "ew30_3", "fpd30", "spd30", "total_loss", "theft", "fraud")


@dataclass
class Vintages:
    """Rows and bads by target and quarter."""

    counts: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def add(self, chunk: Mapping[str, NDArray[Any]], targets: tuple[str, ...]) -> None:
        """Count the labels of a chunk; indeterminate rows and targets that are numbers do not count."""
        settled = np.isfinite(chunk["target"]) & np.isfinite(chunk["obs_date"]) & np.isin(chunk["y"], (0.0, 1.0))
        if "indeterminate" in chunk:
            settled &= chunk["indeterminate"] != 1
        days = chunk["obs_date"][settled].astype(np.int64).astype("datetime64[D]")
        months = days.astype("datetime64[M]").astype(np.int64)
        groups = np.stack([chunk["target"][settled].astype(np.int64), months // 3])
        found, inverse = np.unique(groups, axis=1, return_inverse=True)
        bads = chunk["y"][settled] == 1.0
        for position in range(found.shape[1]):
            target, quarter = targets[found[0, position]], int(found[1, position])
            if target not in _BINARY:
                continue
            rows = inverse.reshape(-1) == position
            entry = self.counts[target, f"{1970 + quarter // 4}Q{quarter % 4 + 1}"]
            entry[0] += int(rows.sum())
            entry[1] += int(bads[rows].sum())

    def totals(self) -> dict[str, tuple[int, int]]:
        """Return rows and bads of each binary target."""
        sums: dict[str, tuple[int, int]] = {}
        for (target, _), (rows, bads) in self.counts.items():
            before = sums.get(target, (0, 0))
            sums[target] = (before[0] + rows, before[1] + bads)
        return sums

    def by_quarter(self, target: str) -> list[tuple[str, int, int]]:
        """Return quarter, rows and bads of a target, oldest first."""
        return sorted((quarter, rows, bads) for (name, quarter), (rows, bads) in self.counts.items() if name == target)
