from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.contract.identifiers import (
    is_luhn,
    is_national_id,
    is_uscc,
    is_vin,
    national_id_check,
    normalised,
    uscc_check,
    vin_check,
)


def test_the_published_examples_fit() -> None:
    assert is_national_id("11010519491231002X")  # the example of GB 11643-1999
    assert is_vin("1M8GDM9AXKP042788")  # the example of 49 CFR 565
    assert is_luhn("4539578763621486")


@pytest.mark.parametrize(
    "text", ["110105194912310021", "11010519491331002X", "1101051949123100", "X1010519491231002X", "", "陶瓷"]
)
def test_a_broken_identity_number_is_told(text: str) -> None:
    assert not is_national_id(text)


@given(st.integers(0, 10**9 - 1), st.integers(0, 16), st.integers(1, 9))
def test_one_wrong_digit_of_an_identity_number_is_always_found(number: int, place: int, change: int) -> None:
    digits = f"110105{1949:04d}1231{number % 1000:03d}"
    whole = digits + national_id_check(digits)
    wrong = whole[:place] + str((int(whole[place]) + change) % 10) + whole[place + 1 :]
    assert is_national_id(whole)
    assert not is_national_id(wrong)


@given(st.text("0123456789ABCDEFGHJKLMNPQRTUWXY", min_size=17, max_size=17), st.integers(0, 16), st.integers(1, 30))
def test_one_wrong_letter_of_a_credit_code_is_always_found(code: str, place: int, change: int) -> None:
    letters = "0123456789ABCDEFGHJKLMNPQRTUWXY"
    whole = code + uscc_check(code)
    other = letters[(letters.index(whole[place]) + change) % 31]
    assert is_uscc(whole)
    assert not is_uscc(whole[:place] + other + whole[place + 1 :])


def test_the_ninth_letter_of_a_vin_is_its_check_digit() -> None:
    number = "LSVAA4182E2184847"
    fitting = number[:8] + vin_check(number) + number[9:]
    assert [digit for digit in "0123456789X" if is_vin(number[:8] + digit + number[9:])] == [fitting[8]]
    assert not is_vin(fitting.replace("L", "I", 1))


def test_one_spelling_is_left_of_many() -> None:
    wide = "110105 1949-1231002x"  # full-width digits, a blank, a hyphen, a small letter
    assert normalised(wide) == "11010519491231002X"
    assert normalised("11010519491231002x") == "11010519491231002X"
