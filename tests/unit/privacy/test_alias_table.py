"""The alias table against plain integers: what it weighs, what it draws, and what it refuses."""

import ast
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import fedcredit.privacy
from fedcredit.crypto.streams import KeyStream
from fedcredit.errors import NoiseRangeError
from fedcredit.privacy import alias_table
from fedcredit.privacy.alias_table import AliasTable, Masses

KEY = bytes(range(32))
CAPACITY = 1 << 64
ONE = 1 << 200


def law_of(parts: list[int]) -> Masses:
    """The law whose magnitudes weigh as ``parts``, to the last of 200 bits; zero takes what the division leaves."""
    magnitudes = [ONE * part // sum(parts) for part in parts]
    magnitudes[0] += ONE - sum(magnitudes)
    return Masses(magnitudes=magnitudes, wrong_by=len(parts))


def realised_weights(table: AliasTable) -> list[int]:
    weights = [0] * table.thresholds.size
    for column, (threshold, alias) in enumerate(zip(table.thresholds.tolist(), table.aliases.tolist(), strict=True)):
        weights[column] += threshold
        weights[alias] += CAPACITY - threshold
    return weights


def test_masses_that_are_powers_of_two_are_realised_without_any_error() -> None:
    table = AliasTable(law_of([4, 2, 1, 1]))
    assert realised_weights(table) == [2 * CAPACITY, CAPACITY, CAPACITY // 2, CAPACITY // 2]
    assert table.distance_bits == pytest.approx(2 - 200)  # nothing but the stated error of the masses, 4 units


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40).filter(lambda parts: parts[0] > 0))
def test_every_weight_is_the_mass_to_half_a_unit_and_together_they_are_the_capacity(parts: list[int]) -> None:
    masses = law_of(parts)
    try:
        table = AliasTable(masses)
    except NoiseRangeError:
        assume(False)  # a few large columns can round too coarsely; no law with real noise is so small
    weights = realised_weights(table)
    assert sum(weights) == CAPACITY * len(weights)
    for weight, mass in zip(weights[1:], masses.magnitudes[1:], strict=False):
        assert abs(weight * ONE - mass * CAPACITY * len(weights)) <= ONE // 2
    assert all(weight == 0 for weight in weights[len(parts) :])


def test_a_table_too_far_from_its_law_is_refused() -> None:
    # 2**-60 of the mass lies beyond the table: it would be drawn as zeros.
    masses = Masses(magnitudes=[ONE // 2, ONE // 2 - (ONE >> 60)], wrong_by=2)
    with pytest.raises(NoiseRangeError, match=r"2\*\*-60"):
        AliasTable(masses)


def test_masses_that_may_be_wrong_themselves_count_towards_the_distance() -> None:
    exact = law_of([4, 2, 1, 1])
    with pytest.raises(NoiseRangeError, match=r"2\*\*-63"):
        AliasTable(Masses(magnitudes=exact.magnitudes, wrong_by=ONE >> 63))
    assert AliasTable(Masses(magnitudes=exact.magnitudes, wrong_by=ONE >> 70)).distance_bits == pytest.approx(-70)


def test_weights_that_were_tampered_with_are_too_far() -> None:
    masses = law_of([1] * 100)
    weights = alias_table._weights(masses, column_bits=7)
    weights[3] += 1 << 12
    weights[4] -= 1 << 12
    with pytest.raises(NoiseRangeError, match=r"2\*\*-59"):
        alias_table._distance_bits(weights, masses, column_bits=7)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 32_768, 32_769, 70_001])
def test_samples_follow_the_table_word_by_word(size: int) -> None:
    table = AliasTable(law_of([i * i % 97 + 1 for i in range(700)]))
    thresholds, aliases = table.thresholds.tolist(), table.aliases.tolist()
    stream, expected = KeyStream(KEY), []
    for count in [min(32_768, size - start) for start in range(0, size, 32_768)]:
        keep = stream.words64(count).tolist()
        pairs = stream.words64((count + 1) // 2).tolist()
        for i in range(count):
            half = (pairs[i // 2] >> (32 * (i % 2))) & 0xFFFFFFFF
            column = half % len(thresholds)
            magnitude = column if keep[i] < thresholds[column] else aliases[column]
            expected.append(-magnitude if half >> 31 else magnitude)
    assert table.sample(KeyStream(KEY), size).tolist() == expected


def test_a_word_below_the_threshold_keeps_the_column_and_the_threshold_itself_does_not() -> None:
    table = AliasTable(law_of([5, 1, 1, 1]))
    column = int(np.flatnonzero(table.thresholds)[0])
    threshold = int(table.thresholds[column])

    class Words:
        def read_into(self, buffer: memoryview) -> None:
            buffer[:] = np.array([threshold - 1, threshold, column | column << 32], dtype="<u8").view(np.uint8).data

    assert table.sample(Words(), 2).tolist() == [column, table.aliases[column]]  # type: ignore[arg-type]


def test_a_law_on_zero_alone_draws_zeros() -> None:
    assert AliasTable(law_of([1])).sample(KeyStream(KEY), 5).tolist() == [0] * 5


def test_how_much_of_the_stream_is_used_does_not_depend_on_what_is_drawn() -> None:
    narrow, wide, reference = KeyStream(KEY), KeyStream(KEY), KeyStream(KEY)
    AliasTable(law_of([1, 1])).sample(narrow, 101)
    AliasTable(law_of([1] * 5_000)).sample(wide, 101)
    reference.words64(101 + 51)
    assert narrow.words64(1) == wide.words64(1) == reference.words64(1)


def test_two_calls_on_one_stream_share_no_memory() -> None:
    table, stream = AliasTable(law_of([1] * 64)), KeyStream(KEY)
    first = table.sample(stream, 1_000)
    copy = first.copy()
    table.sample(stream, 1_000)
    assert first.tolist() == copy.tolist()


def test_a_cached_table_cannot_be_changed() -> None:
    table = AliasTable(law_of([3, 1]))
    for array in (table.thresholds, table.aliases, table._moves):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_only_the_laws_know_the_table() -> None:
    package = Path(fedcredit.privacy.__file__).parents[1]
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "fedcredit.privacy.alias_table"
    }
    assert users == {"privacy/noise.py"}
