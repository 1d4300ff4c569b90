"""Named children of one seed."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from fedcredit.simulator.seeds import child, tokens


def test_a_child_depends_on_its_names_and_its_seed_and_on_nothing_drawn_before() -> None:
    first = child(7, "book", 0, "B1").random(4)
    child(7, "book", 0, "B2").random(1000)
    assert np.array_equal(child(7, "book", 0, "B1").random(4), first)
    for other in (child(8, "book", 0, "B1"), child(7, "book", 1, "B1"), child(7, "book", 0), child(7, "book0", "B1")):
        assert not np.array_equal(other.random(4), first)


def test_a_child_is_the_same_in_a_process_that_hashes_texts_in_another_way() -> None:
    code = "from fedcredit.simulator.seeds import child; import sys; sys.stdout.write(repr(child(7, 'a', 1).random()))"
    done = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        for environment in ({"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)} for seed in ("1", "2"))
    ]
    assert {one.stdout for one in done} == {repr(child(7, "a", 1).random())}


def test_tokens_are_lower_case_hex_of_the_length_and_all_different() -> None:
    drawn = tokens(child(1, "t"), 1000)
    assert drawn.dtype == "S64"
    assert len(set(drawn.tolist())) == 1000
    assert set(b"".join(drawn.tolist())) <= set(b"0123456789abcdef")
