"""Tables of the simulation in memory: frozen, columnar, one row per thing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Self

import numpy as np


class Rows:
    """Base of a frozen dataclass whose array fields have one row per thing; other fields belong to the whole.

    A field may itself be a ``Rows``; it is taken and stacked along.
    """

    def __len__(self) -> int:
        for value in self._columns().values():
            return len(value)
        raise TypeError(f"{type(self).__name__} has no columns")

    def take(self, rows: np.ndarray) -> Self:
        """Return the rows, in the order given; a mask is an order too."""
        return self.replaced(
            **{
                name: value.take(rows) if isinstance(value, Rows) else value[rows]
                for name, value in self._columns().items()
            }
        )

    def with_rows(self, rows: np.ndarray, others: Self) -> Self:
        """Return the same table with ``others`` in the places ``rows``, in that order."""
        columns: dict[str, Any] = {}
        for name, value in self._columns().items():
            new = getattr(others, name)
            if isinstance(value, Rows):
                columns[name] = value.with_rows(rows, new)
            else:
                columns[name] = value.copy()
                columns[name][rows] = new
        return self.replaced(**columns)

    def replaced(self, **changes: Any) -> Self:
        """Return the same rows with other columns."""
        return replace(self, **changes)  # type: ignore[type-var]

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Return all rows of ``parts``, at least one; what belongs to the whole comes from the first."""
        columns: dict[str, Any] = {}
        for name, value in parts[0]._columns().items():
            values = [getattr(part, name) for part in parts]
            columns[name] = type(value).stack(values) if isinstance(value, Rows) else np.concatenate(values)
        return parts[0].replaced(**columns)

    def _columns(self) -> dict[str, Any]:
        named = {part.name: getattr(self, part.name) for part in fields(self)}  # type: ignore[arg-type]
        return {name: value for name, value in named.items() if isinstance(value, np.ndarray | Rows)}
