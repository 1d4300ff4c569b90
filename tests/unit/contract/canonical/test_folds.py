from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.contract.canonical.folds import folds_of


def test_a_fold_is_the_one_of_the_definition() -> None:
    tokens = ["0000000a" + "f" * 56, "ffffffff" + "0" * 56, "1234abcd" + "0" * 56]
    expected = [int(token[:8], 16) % 10 for token in tokens]
    assert expected == [0, 5, 1]
    assert folds_of(np.array(tokens, dtype=object)).tolist() == expected
    assert folds_of(np.array([token.encode() for token in tokens])).tolist() == expected


@given(st.lists(st.integers(0, 2**256 - 1), max_size=20))
def test_texts_and_bytes_have_the_same_fold(numbers: list[int]) -> None:
    tokens = [f"{number:064x}" for number in numbers]
    expected = [int(token[:8], 16) % 10 for token in tokens]
    assert folds_of(np.array(tokens, dtype=object)).tolist() == expected
    assert folds_of(np.array([token.encode() for token in tokens], dtype="S64")).tolist() == expected


@pytest.mark.parametrize(
    "cell", [None, float("nan"), "", "x", "0123456", "0x12345678", "ABCDEF01", "+1234567", "陶瓷陶瓷陶瓷陶瓷"]
)
def test_what_is_no_token_has_no_fold(cell: object) -> None:
    cells = np.empty(1, dtype=object)
    cells[0] = cell
    assert np.isnan(folds_of(cells)).all()
