from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.model.layout import Block, ParameterLayout

LAYOUT = ParameterLayout(
    (
        Block(name="intercept", shape=(1,), modality=None),
        Block(name="a.weight", shape=(2, 3), modality="a"),
        Block(name="b.bias", shape=(2,), modality="b"),
    )
)


def test_blocks_lie_one_behind_the_other() -> None:
    assert LAYOUT.size == 9
    assert LAYOUT.slices() == {"intercept": slice(0, 1), "a.weight": slice(1, 7), "b.bias": slice(7, 9)}


def test_an_institution_trains_the_shared_blocks_and_those_of_its_modalities() -> None:
    assert LAYOUT.trained_by(["a"]).tolist() == [True] + [True] * 6 + [False] * 2
    assert LAYOUT.trained_by([]).tolist() == [True] + [False] * 8
    assert LAYOUT.trained_by(["b", "a", "elsewhere"]).all()


def test_splitting_and_joining_is_the_identity() -> None:
    vector = np.arange(9.0)
    parts = LAYOUT.split(vector)
    assert parts["a.weight"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert LAYOUT.join(parts).tolist() == vector.tolist()


def test_a_block_of_another_shape_does_not_join() -> None:
    parts = LAYOUT.split(np.arange(9.0))
    with pytest.raises(ValueError, match=r"a\.weight has shape \(3, 2\)"):
        LAYOUT.join({**parts, "a.weight": np.zeros((3, 2))})


def test_a_vector_of_another_length_does_not_split() -> None:
    with pytest.raises(ValueError, match="reshape"):
        LAYOUT.split(np.arange(8.0))


def test_a_name_stands_for_one_block() -> None:
    block = Block(name="x", shape=(1,), modality=None)
    with pytest.raises(ValueError, match="unique"):
        ParameterLayout((block, block))


def test_the_digest_covers_names_shapes_modalities_and_order() -> None:
    first, second, third = LAYOUT.blocks
    layouts = [
        LAYOUT,
        ParameterLayout((second, first, third)),
        ParameterLayout((first, second)),
        ParameterLayout((first, Block(name="a.weight", shape=(3, 2), modality="a"), third)),
        ParameterLayout((first, Block(name="a.weight", shape=(2, 3), modality="b"), third)),
        ParameterLayout((first, Block(name="a.other", shape=(2, 3), modality="a"), third)),
        ParameterLayout((Block(name="intercept", shape=(1,), modality="a"), second, third)),
    ]
    assert len({layout.digest() for layout in layouts}) == len(layouts)
    assert ParameterLayout(LAYOUT.blocks).digest() == LAYOUT.digest()


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=5))
def test_the_slices_cover_every_vector_exactly(shapes: list[list[int]]) -> None:
    layout = ParameterLayout(
        tuple(Block(name=str(i), shape=tuple(shape), modality=None) for i, shape in enumerate(shapes))
    )
    covered = [index for place in layout.slices().values() for index in range(place.start, place.stop)]
    assert covered == list(range(layout.size))
    vector = np.arange(float(layout.size))
    assert layout.join(layout.split(vector)).tolist() == vector.tolist()
