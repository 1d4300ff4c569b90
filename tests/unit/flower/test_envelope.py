"""Bytes as one Flower record."""

from __future__ import annotations

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.errors import MalformedMessageError
from fedcredit.flower.envelope import STYPE, unwrap, wrap


@given(st.binary(max_size=100))
def test_bytes_come_out_as_they_went_in(data: bytes) -> None:
    assert unwrap(wrap(data)) == data


def test_a_foreign_strategy_cannot_average_an_envelope() -> None:
    with pytest.raises(TypeError):
        wrap(b"abc")["envelope"]["b"].numpy()


def _array(*, dtype: str = "uint8", stype: str = STYPE, shape: tuple[int, ...] = (3,)) -> Array:
    return Array(dtype=dtype, shape=shape, stype=stype, data=b"abc")


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ArrayRecord({"b": _array()})}),
        RecordDict({"envelope": ArrayRecord({"b": _array()}), "more": ConfigRecord({"x": 1})}),
        RecordDict({"envelope": ConfigRecord({"b": b"abc"})}),
        RecordDict({"envelope": ArrayRecord()}),
        RecordDict({"envelope": ArrayRecord({"c": _array()})}),
        RecordDict({"envelope": ArrayRecord({"b": _array(), "c": _array()})}),
        RecordDict({"envelope": ArrayRecord({"b": _array(dtype="float32")})}),
        RecordDict({"envelope": ArrayRecord({"b": _array(stype="fedcredit.envelope.v2")})}),
        RecordDict({"envelope": ArrayRecord({"b": Array(np.zeros(3, dtype=np.uint8))})}),
        RecordDict({"envelope": ArrayRecord({"b": _array(shape=(1, 3))})}),
        RecordDict({"envelope": ArrayRecord({"b": _array(shape=(4,))})}),
    ],
)
def test_anything_but_exactly_one_envelope_is_refused(content: RecordDict) -> None:
    assert unwrap(RecordDict({"envelope": ArrayRecord({"b": _array()})})) == b"abc"
    with pytest.raises(MalformedMessageError):
        unwrap(content)
