"""Which row of a CSV file a row that was read is: blank and torn lines were not read, and count all the same."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np

from fedcredit.checking.findings import Rows


class RowNumbers:
    """The rows of a file, counted from 1 behind the header line as an editor or a spreadsheet counts them.

    A quoted line break does not begin a row. Kept are the numbers of the rows that were skipped, at 8 bytes each.
    """

    def __init__(self, blank: Iterable[int]) -> None:
        self._blank = _places(np.fromiter(blank, dtype=np.int64))
        self._torn = array("q")
        """Further rows that are skipped, as they are counted without the blank ones."""

    def skip(self, number: int) -> int:
        """Note a torn row, counted without blank ones, and return its number with them."""
        self._torn.append(number)
        return int(_put_back(np.array([number]), self._blank)[0])

    def of(self, first: int, count: int) -> Rows:
        """Return the numbers of the rows that were read as ``first`` and following; all before them were read."""
        read = np.arange(first, first + count, dtype=np.int64)
        return _put_back(_put_back(read, _places(np.array(self._torn, dtype=np.int64))), self._blank)


def _places(skipped: Rows) -> Rows:
    """Return for skipped rows, in order, which of the other rows stands behind each, from 1."""
    return skipped - np.arange(len(skipped))


def _put_back(rows: Rows, places: Rows) -> Rows:
    """Return the numbers of rows after the skipped ones were put back between them."""
    return rows + np.searchsorted(places, rows, side="right")
