"""How numbers are written in texts: decimal marks, marks between groups of three, and which of them an export has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pyarrow.compute as pc

from fedcredit.checking.findings import Mask
from fedcredit.contract.canonical.mapping import TableSource
from fedcredit.errors import phrase

_SPOKEN: Final = {",": ("comma", "逗号"), ".": ("point", "句点")}


def number_pattern(source: TableSource) -> str:
    """Return the pattern of a number with the mapping's marks: groups are of three digits, or there are none."""
    mark, group = re.escape(source.decimal), re.escape(source.thousands)
    plain = rf"(\d+({mark}\d*)?|{mark}\d+)([eE][+-]?\d+)?"
    return rf"^[+-]?({plain}|[1-9]\d{{0,2}}({group}\d{{3}})+({mark}\d*)?)$" if group else rf"^[+-]?{plain}$"


def other_marks(array: Any, rest: Mask, source: TableSource) -> Iterator[tuple[Mask, str, str]]:
    """Yield the rows among ``rest`` that are numbers under another mark, what that mark is, and the line to write.

    1.234 may be either a decimal or a group. It is what the other cells are; where they do not say, a group: a column
    of decimals in which each has exactly three digits is rarer, and an amount must not become a thousandth of itself.
    """
    other = "," if source.decimal == "." else "."
    own, mark = re.escape(source.decimal), re.escape(other)
    fraction = rest & matches(array, rf"^[+-]?(\d{{1,3}}([{own} ']\d{{3}})+{mark}\d+|\d+{mark}\d*|{mark}\d+)$")
    groups = rest & matches(array, rf"^[+-]?[1-9]\d{{0,2}}({mark}\d{{3}})+({own}\d*)?$")
    if (fraction & ~groups).any():
        groups &= ~fraction
    else:
        fraction &= ~groups
    # One mark cannot stand for both, so where it groups already, both lines change.
    more = ' and thousands = ""' if source.thousands == other else ""
    en, zh = _SPOKEN[other]
    yield fraction, phrase(en=f"a decimal {en}", zh=f"{zh}作小数点"), f'decimal = "{other}"{more}'
    yield groups, phrase(en=f"a {en} for thousands", zh=f"{zh}作千位分隔符"), f'thousands = "{other}"'


def matches(array: Any, pattern: str) -> Mask:
    """Return which texts fit a pattern; an empty cell fits none."""
    found = pc.fill_null(pc.match_substring_regex(array, pattern), False)
    return np.array(found.to_numpy(zero_copy_only=False), dtype=np.bool_)
