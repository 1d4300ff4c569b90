"""Member and aggregator together: what a round gives, and what neither can be made to do."""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import replace

import numpy as np
import pytest
from members import Members, Round

from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG
from fedcredit.errors import (
    AgreementError,
    BadSignatureError,
    MalformedMessageError,
    ReconstructionError,
    ReplayError,
    SmallCohortError,
    WrongContextError,
)
from fedcredit.secagg.agreement import require_agreement, require_safe_difference, require_selection, selection_digest
from fedcredit.secagg.member import NO_SHARE, MemberRound, wanted
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Accept, Selection


@pytest.fixture(scope="module")
def five() -> Members:
    return Members.make(5, 4)


@pytest.mark.parametrize("bits", [16, 32])
def test_the_sum_over_everybody_is_exact(five: Members, bits: int) -> None:
    attempt = Round(five, bits=bits)
    assert attempt.whole(five.names).tolist() == attempt.total(five.names).tolist()


def test_every_pattern_of_lost_uploads_and_lost_shares_gives_the_exact_sum_or_none(five: Members) -> None:
    opened = 0
    for away in itertools.chain.from_iterable(itertools.combinations(five.names, lost) for lost in (0, 1)):
        present = [name for name in five.names if name not in away]
        for lost in range(len(present) + 1):
            for silent in itertools.combinations(present, lost):
                attempt, speaking = Round(five), [name for name in present if name not in silent]
                attempt.uploads_of(present)
                attempt.agree(present)
                attempt.reveal(speaking)
                assert attempt.aggregator.can_open() == (len(speaking) >= 4)
                if len(speaking) >= 4:
                    assert attempt.aggregator.open().values.tolist() == attempt.total(present).tolist()
                    opened += 1
    assert opened == 6 + 5


@pytest.mark.slow
def test_fifty_members_with_random_losses_give_the_exact_sum_or_none() -> None:
    members, rng = Members.make(50, 34), np.random.default_rng(5)
    for step in range(12):
        attempt = Round(members, step=step, smallest=34)
        present = sorted(rng.choice(members.names, size=int(rng.integers(34, 51)), replace=False).tolist())
        speaking = sorted(rng.choice(present, size=int(rng.integers(30, len(present) + 1)), replace=False).tolist())
        attempt.uploads_of(present)
        attempt.agree(present)
        attempt.reveal(speaking)
        assert attempt.aggregator.can_open() == (len(speaking) >= 34)
        if len(speaking) >= 34:
            assert attempt.aggregator.open().values.tolist() == attempt.total(present).tolist()


def test_seventy_members_on_a_graph_lose_some_and_give_the_exact_sum() -> None:
    members = Members.make(70, 47)
    attempt, present = Round(members, smallest=47), members.names[3:]
    attempt.uploads_of(present)
    attempt.agree(present)
    attempt.reveal(present)
    assert attempt.aggregator.open().values.tolist() == attempt.total(present).tolist()


def test_two_uploads_of_one_vector_have_nothing_in_common(five: Members) -> None:
    count = 20_000
    first, second = Round(five, count=count), Round(five, count=count)
    for attempt in (first, second):
        attempt.uploads_of(five.names)
    lanes = [attempt.aggregator.contributions[0].lanes for attempt in (first, second)]
    # 256 cells of the top byte, 20,000 draws: chi-square has mean 255 and deviation 22.6; 6 deviations, 1e-7 a side.
    for sample in (*lanes, lanes[0] - lanes[1]):
        counts = np.bincount((sample >> 24).astype(np.int64), minlength=256)
        chi_square = float(((counts - count / 256) ** 2 / (count / 256)).sum())
        assert 120 < chi_square < 391


def test_all_but_the_own_masks_known_the_rest_is_still_uniform(five: Members) -> None:
    attempt = Round(five, count=20_000)
    attempt.uploads_of(five.names)
    roots = five.roots["m000"]
    masked = attempt.aggregator.contributions[0].lanes.copy()
    from fedcredit.secagg.masking import add_masks

    # Everybody else works together: all pair masks of m000 are known, its own seed is not.
    add_masks(masked, plus=[], minus=roots.at(0).keys(attempt.manifest_digest).masks)
    counts = np.bincount((masked >> 24).astype(np.int64), minlength=256)
    assert 120 < float(((counts - 20_000 / 256) ** 2 / (20_000 / 256)).sum()) < 391


def test_members_of_different_manifests_cannot_be_added_up(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names[:4])
    other = Round(five)
    message, _, _, bulk = other.upload("m004")
    attempt.uploads["m004"] = attempt.signed("m004", replace(message, manifest_digest=attempt.manifest_digest), bulk)
    attempt.deliver("m004")
    selection = attempt.aggregator.select()
    assert attempt.aggregator.conflicting == set(five.names) - set(selection.members)
    assert "m004" in attempt.aggregator.conflicting


def test_a_second_selection_in_one_attempt_is_refused(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names)
    smaller = Selection(
        manifest_digest=attempt.manifest_digest,
        members=tuple(five.names[:4]),
        uploads=tuple(attempt.uploads[name][1] for name in five.names[:4]),
        signatures=tuple(attempt.uploads[name][2] for name in five.names[:4]),
    )
    with pytest.raises(ReplayError, match="second cohort"):
        attempt.states["m000"].agree(smaller)
    assert attempt.states["m000"].agree(attempt.aggregator.select()) == attempt.states["m000"]


def test_no_member_is_given_away_by_both_kinds_of_share(five: Members) -> None:
    cohort = five.roots["m000"].cohort
    for size in range(2, 6):
        for selected in itertools.combinations(range(5), size):
            for holder in range(5):
                secrets = list(wanted(cohort, frozenset(selected), holder))
                own = {dealer for dealer, other in secrets if other is None}
                pairs = {member for dealer, other in secrets if other is not None for member in (dealer, other)}
                # A pair's seed belongs to the absent one; with its partner's own seed it opens the absent one's masks,
                # whose own seed never leaves.
                assert own == set(selected)
                assert pairs - own == (set(range(5)) - set(selected) if len(selected) < 5 else set())
                assert all(
                    dealer in selected and other not in selected for dealer, other in secrets if other is not None
                )


def test_a_selection_is_agreed_to_only_if_everything_in_it_holds(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    good = attempt.aggregator.select()

    def require(selection: Selection, *, member: str = "m000", smallest: int = 4) -> None:
        require_selection(
            selection,
            manifest_digest=attempt.manifest_digest,
            cohort=attempt.cohort.names,
            member=member,
            own_upload=attempt.uploads["m000"][1],
            smallest=smallest,
        )

    require(good)
    with pytest.raises(WrongContextError):
        require(replace(good, manifest_digest=os.urandom(32)))
    for wrong in (
        replace(good, uploads=good.uploads[:-1]),
        replace(good, signatures=good.signatures[:-1]),
        replace(good, members=tuple(reversed(good.members))),
        replace(good, members=(*good.members[:-1], "z-stranger")),
        replace(good, members=(*good.members[:-1], good.members[-2])),
    ):
        with pytest.raises(WrongContextError):
            require(wrong)
    with pytest.raises(SmallCohortError):
        require(good, smallest=6)
    with pytest.raises(SmallCohortError):
        require(good, member="z-absent")
    with pytest.raises(WrongContextError, match="own upload"):
        require(replace(good, uploads=(bytes(32), *good.uploads[1:])))


def test_shares_leave_only_when_enough_members_signed_the_same_selection(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names)
    selection = attempt.aggregator.select()

    def require(accepts: dict[str, bytes], selection: Selection = selection) -> None:
        require_agreement(selection, accepts, member=None, threshold=4, identities=five.identities)

    require(attempt.accepts)
    require(attempt.accepts)  # the second time from memory
    few = dict(list(attempt.accepts.items())[:3])
    with pytest.raises(AgreementError):
        require(few)
    with pytest.raises(AgreementError):
        require({**few, "z-stranger": attempt.accepts["m004"]})
    with pytest.raises(BadSignatureError):
        require({**few, "m003": attempt.accepts["m004"]})
    with pytest.raises(BadSignatureError):
        require(attempt.accepts, replace(selection, manifest_digest=os.urandom(32)))
    with pytest.raises(AgreementError):
        require(attempt.accepts, replace(selection, members=("a000", *selection.members[1:])))


def test_shares_leave_only_when_everybody_who_did_not_agree_signed_the_upload(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names[:4])
    good = attempt.aggregator.select()
    require_agreement(good, attempt.accepts, member="m000", threshold=4, identities=five.identities)
    for invented in (
        replace(good, uploads=(*good.uploads[:4], bytes(32))),
        replace(good, signatures=(*good.signatures[:4], good.signatures[3])),
    ):
        digest = selection_digest(invented)
        body = Accept(manifest_digest=attempt.manifest_digest, selection=digest).to_bytes()
        accepts = {name: sign(five.keys[name], tag=ANSWER_TAG, body=body) for name in five.names[:4]}
        with pytest.raises(BadSignatureError, match="upload"):
            require_agreement(invented, accepts, member="m000", threshold=4, identities=five.identities)


def test_a_member_does_not_verify_what_it_signed_itself_and_vouches_for_it_to_nobody(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names)
    accepts = {**attempt.accepts, "m001": bytes(64)}

    def require(member: str | None) -> None:
        require_agreement(attempt.aggregator.select(), accepts, member=member, threshold=4, identities=five.identities)

    for _ in range(2):
        require("m001")
        for other in ("m000", None):
            with pytest.raises(BadSignatureError):
                require(other)


def test_a_list_that_verified_stands_for_no_other_with_the_same_bytes(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names[:4])
    good = attempt.aggregator.select()
    require_agreement(good, attempt.accepts, member=None, threshold=4, identities=five.identities)
    *others, last = good.uploads
    moved = replace(
        good, uploads=(*others, last[:-1]), signatures=(*good.signatures[:4], last[-1:] + good.signatures[4])
    )
    body = Accept(manifest_digest=attempt.manifest_digest, selection=selection_digest(moved)).to_bytes()
    accepts = {name: sign(five.keys[name], tag=ANSWER_TAG, body=body) for name in five.names[:4]}
    with pytest.raises(BadSignatureError):
        require_agreement(moved, accepts, member=None, threshold=4, identities=five.identities)


def test_two_sums_of_a_round_differ_in_nobody_or_in_enough() -> None:
    names = [f"m{i}" for i in range(8)]
    require_safe_difference(names, names, colluders=2)
    require_safe_difference(names, names[5:], colluders=2)
    for opened in (names[1:], names[4:], [*names[2:], "n", "o"]):
        with pytest.raises(SmallCohortError):
            require_safe_difference(names, opened, colluders=2)


def test_shares_are_not_given_for_a_selection_that_nobody_here_agreed_to(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    with pytest.raises(WrongContextError, match="agreed"):
        attempt.states["m000"].reveal([b""] * 4)
    attempt.agree(["m000"])
    with pytest.raises(MalformedMessageError):
        attempt.states["m000"].reveal([b""] * 3)


def test_a_round_survives_a_restart_of_its_member_at_every_stage(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.states = {name: MemberRound.from_bytes(state.to_bytes()) for name, state in attempt.states.items()}
    attempt.agree(five.names)
    attempt.states = {name: MemberRound.from_bytes(state.to_bytes()) for name, state in attempt.states.items()}
    attempt.reveal(five.names)
    assert all(state.revealed for state in attempt.states.values())
    assert attempt.aggregator.open().values.tolist() == attempt.total(five.names).tolist()
    assert repr(attempt.states["m000"]) == "MemberRound(round=1, attempt=1)"


def test_a_box_that_does_not_open_costs_its_shares_and_nothing_more(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names)
    boxes = list(attempt.aggregator.boxes_for("m000"))
    boxes[0] = b"garbage"
    _, shares = attempt.states["m000"].reveal(boxes)
    missing = [shares[i : i + SHARE_LENGTH] == NO_SHARE for i in range(0, len(shares), SHARE_LENGTH)]
    assert missing == [False, True, False, False, False]
    attempt.aggregator.take_reveal("m000", shares)
    attempt.reveal(five.names[1:4])
    assert not attempt.aggregator.can_open()
    attempt.reveal(["m004"])
    assert attempt.aggregator.open().values.tolist() == attempt.total(five.names).tolist()


def test_a_wrong_share_is_found_named_and_gone_round(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names)
    _, shares = attempt.states["m000"].reveal(attempt.aggregator.boxes_for("m000"))
    attempt.aggregator.take_reveal("m000", bytes([0, *([7] * 32)]) + shares[SHARE_LENGTH:])
    attempt.reveal(five.names[1:4])
    with pytest.raises(ReconstructionError):
        attempt.aggregator.open()
    attempt.reveal(["m004"])
    opened = attempt.aggregator.open()
    assert opened.values.tolist() == attempt.total(five.names).tolist()
    assert opened.wrong == {"m000"}


def test_an_upload_with_parts_of_other_sizes_is_refused(five: Members) -> None:
    attempt = Round(five)
    message, _, _, bulk = attempt.upload("m000")
    longer = bulk + b"\0"
    for wrong, content in (
        (replace(message, commitments=message.commitments[:-1]), bulk),
        (replace(message, bulk_digest=hashlib.sha256(longer).digest()), longer),
        (replace(message, bulk_digest=bytes(32)), bulk),
    ):
        attempt.uploads["m000"] = attempt.signed("m000", wrong, content)
        with pytest.raises(MalformedMessageError):
            attempt.deliver("m000")
    assert not attempt.aggregator.contributions


def test_a_commitment_of_somebody_else_is_refused(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(["m000"])
    message, _, _, bulk = attempt.upload("m001")
    theirs = attempt.uploads["m000"][0].commitments[0]
    attempt.uploads["m001"] = attempt.signed(
        "m001", replace(message, commitments=(theirs, *message.commitments[1:])), bulk
    )
    with pytest.raises(MalformedMessageError, match="repeats"):
        attempt.deliver("m001")


def test_a_second_upload_changes_nothing_and_a_late_one_is_refused(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names[:4])
    first = attempt.aggregator.contributions[0].digest
    attempt.upload("m000")
    attempt.deliver("m000")
    assert attempt.aggregator.contributions[0].digest == first
    attempt.aggregator.select()
    attempt.upload("m004")
    with pytest.raises(ReplayError):
        attempt.deliver("m004")


def test_a_late_upload_stays_masked(five: Members) -> None:
    # m004 uploads after the others opened their sum without it: its pair masks are known then, its own seed is not.
    attempt = Round(five, count=20_000)
    attempt.uploads_of(five.names[:4])
    attempt.agree(five.names[:4])
    attempt.reveal(five.names[:4])
    opened = attempt.aggregator.open()
    *_, bulk = attempt.upload("m004")
    lanes = np.frombuffer(bulk[: 4 * 20_000], dtype="<u4").copy()
    from fedcredit.secagg.masking import add_masks

    add_masks(lanes, plus=[seed for (_, other), seed in opened.seeds.items() if other == 4], minus=[])
    counts = np.bincount((lanes >> 24).astype(np.int64), minlength=256)
    assert 120 < float(((counts - 20_000 / 256) ** 2 / (20_000 / 256)).sum()) < 391


def test_one_who_contradicts_many_is_left_out_and_of_a_lone_pair_both(five: Members) -> None:
    def conflicting(colluders: int, *changed: tuple[str, int]) -> frozenset[str]:
        attempt = Round(five, colluders=colluders)
        attempt.uploads_of([name for name in five.names if name not in {name for name, _ in changed}])
        for name, places in changed:
            message, _, _, bulk = attempt.upload(name)
            lies = (
                message.commitments[0],
                *(os.urandom(32) for _ in range(places)),
                *message.commitments[1 + places :],
            )
            attempt.uploads[name] = attempt.signed(name, replace(message, commitments=lies), bulk)
            attempt.deliver(name)
        attempt.aggregator.select()
        return attempt.aggregator.conflicting

    assert conflicting(1, ("m004", 4)) == {"m004"}
    assert conflicting(1, ("m004", 1)) == {"m000", "m004"}
    assert conflicting(1) == frozenset()


def test_too_few_uploads_make_no_selection(five: Members) -> None:
    attempt = Round(five, smallest=4)
    attempt.uploads_of(five.names[:3])
    with pytest.raises(SmallCohortError):
        attempt.aggregator.select()
    with pytest.raises(RuntimeError):
        _ = attempt.aggregator.selection


def test_a_reveal_of_another_length_is_refused_and_a_second_changes_nothing(five: Members) -> None:
    attempt = Round(five)
    attempt.uploads_of(five.names)
    attempt.agree(five.names)
    with pytest.raises(MalformedMessageError):
        attempt.aggregator.take_reveal("m000", bytes(SHARE_LENGTH))
    attempt.reveal(five.names)
    attempt.aggregator.take_reveal("m000", bytes(1))
    assert attempt.aggregator.open().values.tolist() == attempt.total(five.names).tolist()


def test_two_members_with_one_seed_are_found_before_the_sum_is_wrong(five: Members) -> None:
    from fedcredit.secagg.aggregator import unmasked_sum

    with pytest.raises(ReconstructionError):
        unmasked_sum([np.zeros(3, dtype=np.uint32)], {(0, None): b"s" * 32, (1, None): b"s" * 32}, bits=32)
