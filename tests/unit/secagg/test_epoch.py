from __future__ import annotations

import os
from dataclasses import replace

import pytest
from consortium import keys_of
from members import SETUP, Members

from fedcredit.errors import BadSignatureError, CannotOpenError, EpochError, MalformedMessageError, WrongContextError
from fedcredit.secagg.epoch import (
    MOST_STEPS,
    EpochOffer,
    EpochPending,
    epoch_from_bytes,
    epoch_id,
    epoch_to_bytes,
    require_keys,
)


@pytest.fixture(scope="module")
def four() -> Members:
    return Members.make(4, 3)


def test_both_ends_of_a_pair_have_the_same_keys_in_opposite_directions(four: Members) -> None:
    manifest = os.urandom(32)
    for one in range(4):
        for two in range(one + 1, 4):
            first = four.roots[f"m{one:03d}"].keys(manifest)
            second = four.roots[f"m{two:03d}"].keys(manifest)
            at = four.roots[f"m{one:03d}"].cohort.neighbours[one].index(two)
            back = four.roots[f"m{two:03d}"].cohort.neighbours[two].index(one)
            assert first.masks[at] == second.masks[back]
            assert first.boxes_out[at] == second.boxes_in[back]
            assert first.boxes_in[at] == second.boxes_out[back]
            assert first.boxes_out[at] != first.boxes_in[at]


def test_no_two_pairs_uses_manifests_or_steps_share_a_key(four: Members) -> None:
    seen: list[bytes] = []
    for manifest in (bytes(32), b"1" * 32):
        for step in (0, 1, 2):
            keys = four.roots["m000"].at(step).keys(manifest)
            seen += [*keys.masks, *keys.boxes_out, *keys.boxes_in]
    assert len(set(seen)) == len(seen) == 2 * 3 * 9


def test_a_member_that_was_away_reaches_the_same_keys_as_one_that_was_not(four: Members) -> None:
    roots = four.roots["m001"]
    assert roots.at(5) == roots.at(1).at(2).at(5)


def test_earlier_keys_cannot_be_had_from_later_ones(four: Members) -> None:
    with pytest.raises(EpochError, match="is over"):
        four.roots["m000"].at(3).at(2)
    with pytest.raises(EpochError, match="ends after"):
        four.roots["m000"].at(MOST_STEPS + 1)


def test_every_state_survives_a_restart(four: Members) -> None:
    offer, _ = EpochOffer.make(setup=SETUP, member="m000", keys=four.keys["m000"], entropy=os.urandom)
    for state in (offer, four.pending["m000"], four.roots["m000"].at(7)):
        assert epoch_from_bytes(epoch_to_bytes(state)) == state


def test_no_state_shows_a_secret(four: Members) -> None:
    offer, _ = EpochOffer.make(setup=SETUP, member="m000", keys=four.keys["m000"], entropy=os.urandom)
    assert [repr(offer), repr(four.pending["m000"]), repr(four.roots["m000"])] == [
        "EpochOffer()",
        "EpochPending()",
        "EpochRoots(step=0)",
    ]
    assert "object at" in repr(four.roots["m000"].keys(bytes(32)))


def test_a_list_with_one_bad_signature_is_refused_every_time_and_a_good_one_after_it_holds(four: Members) -> None:
    identities = {name: keys.public for name, keys in four.keys.items()}
    bad = [*four.offered[:3], replace(four.offered[3], signature=four.offered[2].signature)]
    for _ in range(2):
        with pytest.raises(BadSignatureError):
            require_keys(bad, setup=SETUP, identities=identities, smallest=4)
        require_keys(four.offered, setup=SETUP, identities=identities, smallest=4)
    # The same list under another identity is another question.
    with pytest.raises(BadSignatureError):
        require_keys(four.offered, setup=SETUP, identities={**identities, "m001": keys_of(77).public}, smallest=4)


def test_another_list_of_keys_is_another_epoch(four: Members) -> None:
    assert epoch_id(SETUP, four.offered) != epoch_id(SETUP, four.offered[:3])
    assert epoch_id(SETUP, four.offered) != epoch_id(b"t" * 32, four.offered)


def test_keys_are_in_order_of_distinct_members_who_signed_them_for_this_set_up(four: Members) -> None:
    good, identities = four.offered, four.identities
    require_keys(good, setup=SETUP, identities=identities, smallest=4)
    for wrong in (list(reversed(good)), [good[0], *good], good[:2]):
        with pytest.raises(WrongContextError):
            require_keys(wrong, setup=SETUP, identities=identities, smallest=3)
    with pytest.raises(WrongContextError):
        require_keys(good, setup=b"t" * 32, identities=identities, smallest=4)
    with pytest.raises(WrongContextError):
        require_keys([replace(good[0], member="a-stranger")], setup=SETUP, identities=identities, smallest=1)


def test_a_swapped_key_is_found_by_its_signature(four: Members) -> None:
    swapped = replace(four.offered[1], key=four.offered[2].key)
    with pytest.raises(BadSignatureError):
        require_keys([swapped], setup=SETUP, identities=four.identities, smallest=1)
    theirs = EpochOffer.make(setup=SETUP, member="m001", keys=keys_of(99), entropy=os.urandom)[1]
    with pytest.raises(BadSignatureError):
        require_keys([theirs], setup=SETUP, identities=four.identities, smallest=1)


def test_a_member_whose_own_key_was_exchanged_or_left_out_goes_no_further(four: Members) -> None:
    offer, key = EpochOffer.make(setup=SETUP, member="m000", keys=four.keys["m000"], entropy=os.urandom)
    for received in (four.offered, four.offered[1:]):
        with pytest.raises(WrongContextError, match="own key"):
            EpochPending.make(offer, received, member="m000", threshold=3, keys=four.keys["m000"], entropy=os.urandom)
    assert key.setup == SETUP


def test_boxes_from_somebody_else_changed_or_missing_complete_nothing(four: Members) -> None:
    pending, boxes = four.pending["m000"], four.boxes_for("m000")
    with pytest.raises(BadSignatureError):
        pending.complete([boxes[1], boxes[0], boxes[2]], identities=four.identities)
    changed = bytearray(boxes[0])
    changed[5] ^= 1
    with pytest.raises(BadSignatureError):
        pending.complete([bytes(changed), *boxes[1:]], identities=four.identities)
    for wrong in (boxes[:2], [*boxes, boxes[0]], [boxes[0][:-1], *boxes[1:]]):
        with pytest.raises(MalformedMessageError):
            pending.complete(wrong, identities=four.identities)
    with pytest.raises(CannotOpenError):
        replace(pending, seed=os.urandom(96)).complete(boxes, identities=four.identities)
