from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.data.entities import one_observation_per_entity
from fedcredit.data.splits import holdout_mask

ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=1, max_size=12)


def kept(rows: list[tuple[str, int]]) -> list[tuple[str, int]]:
    entities = np.array([entity for entity, _ in rows])
    index = one_observation_per_entity(entities, [np.array([float(value) for _, value in rows])])
    assert index.tolist() == sorted(index.tolist())
    return [rows[position] for position in index]


@given(ROWS)
def test_each_borrower_keeps_exactly_one_row(rows: list[tuple[str, int]]) -> None:
    assert sorted(entity for entity, _ in kept(rows)) == sorted({entity for entity, _ in rows})


@given(ROWS, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_file(rows: list[tuple[str, int]], shuffler: object) -> None:
    shuffled = list(rows)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sorted(kept(rows)) == sorted(kept(shuffled))


@given(ROWS)
def test_another_borrower_changes_no_choice(rows: list[tuple[str, int]]) -> None:
    without = [row for row in rows if row[0] != "a"]
    if without:
        assert [row for row in kept(rows) if row[0] != "a"] == kept(without)


def test_the_smallest_hash_of_token_and_content_stays() -> None:
    marks = [hashlib.sha256(b"a\0" + np.array([value, 1.0]).tobytes()).digest() for value in (3.0, 4.0, 5.0)]
    steps = np.array([[3.0, 1.0], [4.0, 1.0], [5.0, 1.0]])
    index = one_observation_per_entity(np.array(["a", "a", "a"]), [steps])
    assert index.tolist() == [marks.index(min(marks))]


def test_minus_zero_and_missing_cells_count_as_equal_content() -> None:
    twins = np.array([0.0, -0.0, np.nan, -np.nan])
    index = one_observation_per_entity(np.array(["a", "a", "b", "b"]), [twins])
    assert index.tolist() == [0, 2]


def test_the_held_out_part_is_the_low_end_of_the_keyed_hash() -> None:
    tokens = [f"borrower-{number}" for number in range(200)]
    expected = [
        int.from_bytes(hmac.new(b"salt", token.encode(), hashlib.sha256).digest()[:8], "big") / 2**64 < 0.25
        for token in tokens
    ]
    assert holdout_mask(np.array(tokens), salt="salt", fraction=0.25).tolist() == expected
    assert 30 < sum(expected) < 70


def test_all_rows_of_a_borrower_fall_on_one_side_at_every_institution() -> None:
    here = holdout_mask(np.array(["x", "y", "z", "x", "x"]), salt="s", fraction=0.5)
    there = holdout_mask(np.array(["a-much-longer-token", "x"]), salt="s", fraction=0.5)
    assert here[0] == here[3] == here[4] == there[1]


def test_another_salt_holds_out_others() -> None:
    tokens = np.array([str(number) for number in range(500)])
    one, other = (holdout_mask(tokens, salt=salt, fraction=0.5) for salt in ("one", "other"))
    assert 150 < int((one != other).sum()) < 350


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_holds_out_nobody_or_everybody_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction"):
        holdout_mask(np.array(["x"]), salt="s", fraction=fraction)
