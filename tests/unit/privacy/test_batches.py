"""Poisson batches: the stated rate, from a cryptographic stream, independent of everything else.

Statistical bounds are exact binomial tails at 1e-9 a side; the streams have fixed keys, so nothing here is flaky.
"""

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from fedcredit.crypto.streams import KeyStream
from fedcredit.privacy.batches import poisson_batch

RECORDS = 200_000


def stream(name: str) -> KeyStream:
    return KeyStream(hashlib.sha256(name.encode()).digest())


def batch(name: str, sampled_per_million: int, records: int = RECORDS) -> np.ndarray:
    drawn = poisson_batch(stream(name), sampled_per_million=sampled_per_million, records=records)
    assert drawn is not None
    return drawn


def within(count: int, size: int, rate: float) -> bool:
    """Whether a binomial count lies between its 1e-9 quantiles."""
    return bool(stats.binom.ppf(1e-9, size, rate) <= count <= stats.binom.ppf(1 - 1e-9, size, rate))


@pytest.mark.parametrize("sampled_per_million", [1, 100, 10_000, 123_456, 500_000, 999_999])
def test_everybody_joins_at_the_stated_rate(sampled_per_million: int) -> None:
    # Mutation killed: a rate 2 % off at half of everybody, and every rate that is off by its own size.
    drawn = batch("rate", sampled_per_million)
    assert drawn.shape == (RECORDS,)
    assert drawn.dtype == np.bool_
    assert within(int(drawn.sum()), RECORDS, sampled_per_million / 1e6)


def test_the_rate_is_that_of_the_words_and_never_above_the_stated_one() -> None:
    words = [int(word) for word in stream("words").words64(1000)]
    drawn = batch("words", 250_001, records=1000)
    assert drawn.tolist() == [Fraction(word, 2**64) < Fraction(250_001, 10**6) for word in words]


def test_places_in_the_table_and_batches_of_different_streams_are_independent() -> None:
    first, second = batch("one", 300_000), batch("two", 300_000)
    assert within(int((first & second).sum()), RECORDS, 0.09)
    assert within(int((first[1:] & first[:-1]).sum()), RECORDS - 1, 0.09)
    for half in (first[: RECORDS // 2], first[RECORDS // 2 :]):
        assert within(int(half.sum()), RECORDS // 2, 0.3)


def test_two_batches_of_one_stream_are_two_draws() -> None:
    source = stream("going on")
    drawn = [poisson_batch(source, sampled_per_million=300_000, records=1000) for _ in range(2)]
    assert not np.array_equal(drawn[0], drawn[1])  # type: ignore[arg-type]


def test_a_borrower_joins_whoever_else_is_there() -> None:
    # Whether record 5 is in does not depend on how many follow; otherwise a neighbour would change the others' draw.
    assert batch("same", 400_000, records=100).tolist() == batch("same", 400_000, records=1000)[:100].tolist()


def test_full_batches_draw_nothing() -> None:
    source = stream("untouched")
    assert poisson_batch(source, sampled_per_million=1_000_000, records=5) is None
    assert source.words64(3).tolist() == stream("untouched").words64(3).tolist()


def test_a_table_without_records_has_an_empty_batch() -> None:
    assert batch("empty", 500_000, records=0).tolist() == []


def test_a_batch_may_be_empty_and_that_is_no_error() -> None:
    assert not batch("rare", 1, records=10).any()
