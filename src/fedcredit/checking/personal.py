"""Plain personal data in cells: identity numbers, phones, vehicle numbers, cards, mail, coordinates. Never quoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fedcredit.checking.findings import FindingBook, Mask, Rows
from fedcredit.contract.identifiers import is_luhn, is_national_id, is_uscc, is_vin
from fedcredit.errors import PersonalValueError, phrase

_LOOKED_AT: Final = 256
"""Candidates of a chunk whose check digit is computed."""
_COORDINATE_DECIMALS: Final = 4
_CHINA: Final = ((3.0, 54.0), (73.0, 136.0))
_MOSTLY: Final = 0.9


@dataclass(frozen=True, kw_only=True)
class _Shape:
    en: str
    zh: str
    pattern: str
    proof: Callable[[str], bool] | None = None


_SHAPES: Final = (
    _Shape(en="18-digit identity numbers", zh="18 位身份证号", pattern=r"^\d{17}[\dXx]$", proof=is_national_id),
    _Shape(
        en="credit codes of firms (USCC)", zh="统一社会信用代码", pattern=r"^[0-9A-HJ-NP-RTUW-Y]{18}$", proof=is_uscc
    ),
    _Shape(en="mobile phone numbers", zh="手机号码", pattern=r"^(\+?86[- ]?)?1[3-9]\d{9}$"),
    _Shape(en="vehicle identification numbers", zh="车辆识别代号", pattern=r"^[0-9A-HJ-NPR-Z]{17}$", proof=is_vin),
    _Shape(
        en="number plates",
        zh="车牌号",
        pattern=r"^[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼][A-Z][A-Z0-9]{5,6}$",
    ),
    _Shape(en="bank cards", zh="银行卡号", pattern=r"^62\d{14,17}$", proof=is_luhn),
    _Shape(en="e-mail addresses", zh="邮箱地址", pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}\.[A-Za-z]{2,24}$"),
    _Shape(en="pairs of coordinates", zh="坐标对", pattern=r"^-?\d{1,3}\.\d{4,}\s*[,; ]\s*-?\d{1,3}\.\d{4,}$"),
)


def look_for_people(
    batch: pa.RecordBatch, *, table: str, place: str, rows: Rows, names: Mapping[str, str], book: FindingBook
) -> None:
    """Add a finding for each column of a batch whose cells look like plain personal data.

    ``names`` maps a column of the export to the canonical name, where it has one. A phone number that is a whole
    amount in fen would be told too: an amount of that size is outside every range of the contract.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        found = _shape_of(column)
        if found is None:
            found = _coordinate(column)
        if found is not None:
            shape, hits = found
            what = phrase(en=shape[0], zh=shape[1])
            where = {"table": table, "column": names.get(name, name), "path": place}
            book.add_rows(PersonalValueError, hits, rows=rows, what=what, **where)


def _shape_of(column: Any) -> tuple[tuple[str, str], Mask] | None:
    texts = _texts(column)
    if texts is None:
        return None
    for shape in _SHAPES:
        rows = _flags(pc.fill_null(pc.match_substring_regex(texts, shape.pattern), False))
        if rows.any() and shape.proof is not None:
            rows = _proven(texts, rows, shape.proof)
        if rows.any():
            return (shape.en, shape.zh), rows
    return None


def _proven(texts: Any, rows: Mask, proof: Callable[[str], bool]) -> Mask:
    candidates = np.flatnonzero(rows)[:_LOOKED_AT]
    cells = pc.take(texts, pa.array(candidates)).to_pylist()
    good = [position for position, cell in zip(candidates.tolist(), cells, strict=True) if proof(cell)]
    # One random number in ten has a fitting check digit: a third of the candidates is no accident, and neither is one
    # candidate alone that fits.
    if len(good) * 3 < len(cells):
        return np.zeros(len(rows), dtype=np.bool_)
    proven = rows.copy()
    proven[: good[0]] = False
    return proven


def _coordinate(column: Any) -> tuple[tuple[str, str], Mask] | None:
    """Return the rows of a column of floats that are all latitudes or longitudes to ten metres or better."""
    if not pa.types.is_floating(column.type):
        return None
    numbers: NDArray[np.float64] = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    real = np.isfinite(numbers)
    if real.sum() < 10 or np.abs(numbers[real]).max() > 180:
        return None
    numbers = np.where(real, numbers, 0.0)
    fine = np.abs(numbers * 10.0**_COORDINATE_DECIMALS % 1.0 - 0.5) < 0.5 - 1e-6
    # A computed figure has fifteen decimals; what a receiver gives ends before the ninth.
    fine &= np.abs(numbers * 1e8 - np.rint(numbers * 1e8)) < 1e-4
    for low, high in _CHINA:
        inside = real & (numbers > low) & (numbers < high)
        spread = float(np.ptp(numbers[real]))
        if inside.sum() == real.sum() and (fine & real).sum() > _MOSTLY * real.sum() and spread < 1.0:
            return ("coordinates", "坐标"), inside
    return None


def _texts(column: Any) -> Any:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_integer(column.type):
        return column.cast(pa.string())
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return pc.utf8_trim_whitespace(column.cast(pa.string())) if is_text else None


def _flags(array: Any) -> Mask:
    return np.array(array.to_numpy(zero_copy_only=False), dtype=np.bool_)
