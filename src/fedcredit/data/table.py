"""What training sees: bins and dense numbers per modality, one row per observation, nothing else of the table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcredit.errors import ConfigValueError


@dataclass(frozen=True, kw_only=True, eq=False)
class ModalityTable:
    """One modality of n rows in its two forms."""

    codes: NDArray[np.int16]
    """(n, F): the bin of each scorecard feature, 0 up to its number of bins."""
    dense: NDArray[np.float32]
    """(n, p) for a static modality, (n, T, c) for a sequence; scaled by public constants to [-1, 1]."""

    def __post_init__(self) -> None:
        if self.codes.ndim != 2 or self.codes.dtype != np.int16:
            raise ValueError("codes must be int16 of shape (n, F)")
        if self.dense.ndim not in (2, 3) or self.dense.dtype != np.float32:
            raise ValueError("dense must be float32 of shape (n, p) or (n, T, c)")
        if len(self.codes) != len(self.dense):
            raise ValueError("codes and dense differ in their number of rows")


@dataclass(frozen=True, kw_only=True, eq=False)
class CreditTable:
    """The rows of one institution. A modality that it does not hold is absent from ``modalities``."""

    entities: NDArray[np.str_]
    labels: NDArray[np.int8]
    """(n,): 1 for bad, 0 for good."""
    modalities: Mapping[str, ModalityTable]
    dropped: int
    """Rows left out when the table was read, because their borrower had another one."""

    def __post_init__(self) -> None:
        if self.labels.dtype != np.int8 or self.labels.ndim != 1:
            raise ValueError("labels must be int8 of shape (n,)")
        lengths = {len(self.entities), len(self.labels), *(len(part.codes) for part in self.modalities.values())}
        if len(lengths) != 1:
            raise ValueError("entities, labels and modalities differ in their number of rows")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[Any]) -> CreditTable:
        """Return the rows that ``index`` (positions or a boolean mask) selects; ``dropped`` stays."""
        return replace(
            self,
            entities=self.entities[index],
            labels=self.labels[index],
            modalities={
                name: ModalityTable(codes=part.codes[index], dense=part.dense[index])
                for name, part in self.modalities.items()
            },
        )

    def with_modalities(self, names: Iterable[str]) -> CreditTable:
        """Return the same rows with the modalities ``names`` only, in that order; one it lacks raises.

        Raises:
            ConfigValueError: the table does not hold a modality of ``names``.
        """
        wanted = tuple(names)
        for name in wanted:
            if name not in self.modalities:
                raise ConfigValueError(path="table", key="modalities", problem=f'does not hold "{name}"')
        return replace(self, modalities={name: self.modalities[name] for name in wanted})
