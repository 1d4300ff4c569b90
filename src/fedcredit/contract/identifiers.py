"""Identifiers of people, enterprises and vehicles: one spelling for each, and the check digit that a typo breaks.

national id   18 characters, GB 11643-1999: ISO 7064 MOD 11-2
USCC          18 characters, GB 32100-2015: MOD 31
VIN           17 characters, GB 16735-2019 and ISO 3779: MOD 11 at the ninth place
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from typing import Final

_ID: Final = re.compile(r"[1-9]\d{16}[\dX]")
_ID_WEIGHTS: Final = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK: Final = "10X98765432"
_USCC_LETTERS: Final = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_WEIGHTS: Final = tuple(pow(3, place, 31) for place in range(17))
_VIN: Final = re.compile(r"[0-9A-HJ-NPR-Z]{17}")
_VIN_VALUES: Final = {
    **{str(digit): digit for digit in range(10)},
    **dict(zip("ABCDEFGH", range(1, 9), strict=True)),
    **dict(zip("JKLMN", range(1, 6), strict=True)),
    **{"P": 7, "R": 9},
    **dict(zip("STUVWXYZ", range(2, 10), strict=True)),
}
_VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_VIN_CHECK: Final = "0123456789X"


def normalised(text: str) -> str:
    """Return the one spelling of an identifier: NFKC, capitals, without blanks and hyphens."""
    return re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", text)).upper()


def is_national_id(text: str) -> bool:
    """Return whether a text is an 18-character identity number with a real birthday and a fitting check digit."""
    number = normalised(text)
    if not _ID.fullmatch(number):
        return False
    try:
        datetime.date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    return national_id_check(number[:17]) == number[17]


def national_id_check(digits: str) -> str:
    """Return the check digit of the first 17 digits."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, _ID_WEIGHTS, strict=True))
    return _ID_CHECK[total % 11]


def is_uscc(text: str) -> bool:
    """Return whether a text is a unified social credit code with a fitting check digit."""
    code = normalised(text)
    return len(code) == 18 and all(letter in _USCC_LETTERS for letter in code) and uscc_check(code[:17]) == code[17]


def uscc_check(code: str) -> str:
    """Return the check digit of the first 17 characters."""
    total = sum(_USCC_LETTERS.index(letter) * weight for letter, weight in zip(code, _USCC_WEIGHTS, strict=True))
    return _USCC_LETTERS[-total % 31]


def is_vin(text: str) -> bool:
    """Return whether a text is a vehicle identification number with a fitting check digit."""
    number = normalised(text)
    return bool(_VIN.fullmatch(number)) and vin_check(number) == number[8]


def vin_check(number: str) -> str:
    """Return the check digit of a 17-character number; what stands at the ninth place does not count."""
    total = sum(_VIN_VALUES[letter] * weight for letter, weight in zip(number, _VIN_WEIGHTS, strict=True))
    return _VIN_CHECK[total % 11]


def is_luhn(text: str) -> bool:
    """Return whether the digits of a card number fit ISO/IEC 7812-1 (Luhn)."""
    digits = [int(digit) for digit in reversed(text)]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
