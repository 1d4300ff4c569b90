"""The stages of secure aggregation, message by message: what is refused, repeated, remembered and never given away."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import (
    COORDINATOR,
    NAMES,
    NO_PRIVACY,
    RUN,
    SECURE,
    TREES,
    Consortium,
    HandEpoch,
    HandRound,
    HandSetup,
    Question,
    Site,
    keys_of,
    plan_of,
    question,
    request_for,
)

from fedcredit.audit.log import EventKind
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.sealing import SEAL_OVERHEAD
from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG
from fedcredit.messages import (
    COUNT_GRID,
    NO_EPOCH,
    SCORE_BINS,
    Message,
    Purpose,
    Refusal,
    RoundBody,
    Stage,
)
from fedcredit.parties import Roster
from fedcredit.secagg.agreement import selection_digest
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochOffer, EpochPending, EpochRoots
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import (
    Accept,
    AcceptBody,
    EpochBoxes,
    EpochKey,
    KeysBody,
    Reveal,
    RevealBody,
    RootsBody,
    Selection,
    Upload,
)
from fedcredit.store.records import Records

DEADLINE = 60
"""Seconds of each stage."""


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return four members, of whom three must agree; the epoch is set up."""
    made = Consortium.make(tmp_path, plan_of(**SECURE), on_disk=True)
    assert made.epoch(RUN) is not None
    return made


@pytest.fixture
def bank(consortium: Consortium) -> Site:
    return consortium.sites["bank-a"]


@pytest.fixture
def bare(tmp_path: Path) -> Consortium:
    """Return four members without an epoch."""
    return Consortium.make(tmp_path, plan_of(**SECURE), on_disk=True)


def kept(site: Site) -> dict[str, bytes]:
    memory = Records(site.state.database, "run-memory")
    return {key: value for key in memory.keys("") if (value := memory.get(key)) is not None}


def charged(site: Site) -> int:
    return site.charged() + site.charged("holdout")


def refused(asked: Question, code: str) -> None:
    """Ask, and check that the refusal cost and changed nothing, now and after a restart."""
    site = asked.site
    before, spent = kept(site), charged(site)
    assert asked.code() == code
    assert (kept(site), charged(site)) == (before, spent)
    site.reopen()
    assert asked.code() == code
    assert (kept(site), charged(site)) == (before, spent)


# --- the whole of it -------------------------------------------------------------------------------------------------


def computed(consortium: Consortium, weights: np.ndarray, *, number: int) -> np.ndarray:
    """Return the sum over all members by the computation itself."""
    plan, family = consortium.plan, consortium.family
    parts = [
        family.computation(plan, site.name, site.holdings.split(plan).train).integer_sum(
            weights, round_number=number, batch=None
        )
        for site in consortium.sites.values()
    ]
    return np.sum([part.values for part in parts], axis=0)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("restart", [False, True], ids=["running", "restarted between every two stages"])
def test_what_all_stages_together_open_is_the_sum_and_nothing_else(tmp_path: Path, bits: int, restart: bool) -> None:
    changes = {**SECURE, "aggregation": {"kind": "secure", "threshold": 3, "lane_bits": bits, "update_bound": "none"}}
    plan = plan_of(**NO_PRIVACY, **changes)
    consortium = Consortium.make(tmp_path, plan, policy={"allow_no_privacy": True}, on_disk=True)

    def between() -> None:
        for site in consortium.sites.values() if restart else ():
            site.reopen()

    setup = HandSetup.of(consortium)
    for name in NAMES:
        setup.take_key(name, setup.keys(name).answer())
    between()
    bulks = {}
    for name in NAMES:
        asked = setup.roots(name)
        bulks[name] = bytes(asked.open(asked.ask()).bulk)
    consortium.epochs[RUN] = setup.finished(bulks)
    between()
    weights = consortium.family.initial_weights()
    for number in (1, 2):
        attempt = HandRound.of(consortium, round=number, weights=weights).uploaded()
        between()
        attempt.agreed()
        between()
        attempt.revealed("bank-a", "fund-c", "insurer-d")
        between()
        total = attempt.sum.open()
        assert total.values.tolist() == computed(consortium, weights, number=number).tolist()
        assert total.values.any()
        assert not total.wrong
    for site in consortium.sites.values():
        assert site.charged() == 2


def test_a_member_that_drops_out_after_the_set_up_is_not_in_the_sum(tmp_path: Path) -> None:
    plan = plan_of(**NO_PRIVACY, **SECURE)
    consortium = Consortium.make(tmp_path, plan, policy={"allow_no_privacy": True})
    assert consortium.epoch(RUN) is not None
    weights = consortium.family.initial_weights()
    attempt = HandRound.of(consortium).uploaded("bank-b", "fund-c", "insurer-d").agreed().revealed()
    gone = consortium.sites.pop("bank-a")
    assert attempt.sum.open().values.tolist() == computed(consortium, weights, number=1).tolist()
    assert gone.charged() == 0
    # Back again, two steps later.
    consortium.sites["bank-a"] = gone
    HandRound.of(consortium, round=2)
    later = HandRound.of(consortium, round=3).uploaded().agreed().revealed()
    assert later.sum.open().values.tolist() == computed(consortium, weights, number=3).tolist()


def test_the_counts_of_an_evaluation_and_of_a_preparation_are_opened_too(tmp_path: Path) -> None:
    plan = plan_of(**NO_PRIVACY, **TREES, **SECURE)
    consortium = Consortium.make(tmp_path, plan, policy={"allow_no_privacy": True})
    assert consortium.epoch(RUN) is not None
    prepared = HandRound.of(consortium, purpose="prepare").uploaded().agreed().revealed().sum.open().values
    holders = [site for site in consortium.sites.values() if "application" in site.holdings.table.modalities]
    assert prepared.sum() == COUNT_GRID * sum(len(site.holdings.split(plan).train) for site in holders)
    counted = HandRound.of(consortium, purpose="evaluate").uploaded().agreed().revealed().sum.open().values
    everybody = [site.holdings.split(plan).holdout for site in consortium.sites.values()]
    assert counted.size == 2 * SCORE_BINS
    assert counted.sum() == COUNT_GRID * sum(len(part) for part in everybody)
    assert counted[SCORE_BINS:].sum() == COUNT_GRID * sum(int(part.labels.sum()) for part in everybody)


def test_an_upload_alone_is_as_good_as_random(tmp_path: Path) -> None:
    plan = plan_of(**NO_PRIVACY, **SECURE)
    consortium = Consortium.make(tmp_path, plan, policy={"allow_no_privacy": True})
    assert consortium.epoch(RUN) is not None
    count = consortium.family.lanes
    seen = []
    for attempt in (1, 2, 3):
        asked = HandRound.of(consortium, attempt=attempt).upload("bank-b")
        seen.append(np.frombuffer(asked.open(asked.ask()).bulk[: 4 * count], dtype="<u4"))
    # Without masks most lanes would be small or zero, and all three alike. A lane repeats with a chance of 2^-32.
    for lanes in seen:
        assert len(set(lanes.tolist())) == count
    assert len({lane for lanes in seen for lane in lanes.tolist()}) == 3 * count


# --- every stage has its purpose and its time ------------------------------------------------------------------------

BODIES: Mapping[Stage, Message] = {
    Stage.KEYS: KeysBody(channel=bytes(32)),
    Stage.ROOTS: RootsBody(keys=()),
    Stage.ACCEPT: AcceptBody(selection=b"", signature=bytes(64)),
    Stage.REVEAL: RevealBody(selection=bytes(32), members=(), signatures=(), boxes=()),
}
STAGES = {
    Purpose.SETUP: {Stage.KEYS, Stage.ROOTS},
    Purpose.TRAIN: {Stage.UPLOAD, Stage.ACCEPT, Stage.REVEAL},
    Purpose.EVALUATE: {Stage.UPLOAD, Stage.ACCEPT, Stage.REVEAL},
    Purpose.CLOSE: {Stage.CLOSE},
}


@pytest.mark.parametrize(
    ("purpose", "stage"),
    [(purpose, stage) for purpose, allowed in STAGES.items() for stage in Stage if stage not in allowed],
)
def test_a_stage_that_the_purpose_does_not_have_is_refused(
    consortium: Consortium, bank: Site, purpose: Purpose, stage: Stage
) -> None:
    place = {"round": 0, "attempt": 9} if purpose is Purpose.SETUP else {}
    weights = {"weights_digest": bytes(32), "release": 0} if purpose is Purpose.SETUP else {}
    sent: dict[str, Any] = {"stage": str(stage)}
    if stage in BODIES:
        sent["body"] = BODIES[stage].to_bytes()
    elif purpose is Purpose.SETUP:
        body = RoundBody(weights=b"", release=b"", release_path=(), log_proofs=(), roots=())
        sent["body"] = body.to_bytes()
        weights["weights_digest"] = hashlib.sha256(b"").digest()
    refused(question(consortium, "bank-a", purpose=str(purpose), sent=sent, **place, **weights), "FC-3106")


Steps = Iterator[tuple[Stage, Callable[..., Question], Callable[[Question, bytes], object]]]


def by_stage(consortium: Consortium) -> Steps:
    """Yield every stage of a set-up and a round: how to ask bank-a, and what to do with its answer.

    The other members have done what the stage needs.
    """
    setup = HandSetup.of(consortium)

    def took_key(asked: Question, reply: bytes) -> None:
        setup.take_key("bank-a", asked.read(reply))

    yield Stage.KEYS, lambda **sent: setup.keys("bank-a", **sent), took_key
    for name in NAMES[1:]:
        setup.take_key(name, setup.keys(name).answer())
    bulks: dict[str, bytes] = {}

    def took_boxes(asked: Question, reply: bytes) -> None:
        bulks["bank-a"] = bytes(asked.open(reply).bulk)

    yield Stage.ROOTS, lambda **sent: setup.roots("bank-a", **sent), took_boxes
    for name in NAMES[1:]:
        asked = setup.roots(name)
        bulks[name] = bytes(asked.open(asked.ask()).bulk)
    consortium.epochs[RUN] = setup.finished(bulks)
    attempt = HandRound.of(consortium)
    yield Stage.UPLOAD, lambda **sent: attempt.upload("bank-a", **sent), attempt.take_upload
    attempt.uploaded(*NAMES[1:])
    yield Stage.ACCEPT, lambda **sent: attempt.accept("bank-a", attempt.sum.select(), **sent), attempt.take_accept
    attempt.agreed(*NAMES[1:])
    yield Stage.REVEAL, lambda **sent: attempt.reveal("bank-a", **sent), attempt.take_reveal


def test_a_repeated_request_of_every_stage_gets_the_same_bytes_and_is_charged_once(bare: Consortium) -> None:
    site, expected = bare.sites["bank-a"], 0
    for stage, ask, take in by_stage(bare):
        asked = ask()
        reply = asked.ask()
        expected += stage is Stage.UPLOAD
        before, lines = kept(site), len(site.events())
        assert asked.ask() == reply
        site.reopen()  # a restart of the daemon
        assert asked.ask() == reply
        assert (kept(site), len(site.events())) == (before, lines)
        assert charged(site) == expected
        last = site.events()[-1]
        assert (last.kind, last.fields["stage"]) == (EventKind.REQUEST_ANSWERED, str(stage))
        assert last.fields["answer"] == hashlib.sha256(asked.open(reply).signed.body).digest()
        take(asked, reply)


LATER = {Stage.KEYS: 0, Stage.ROOTS: 1, Stage.UPLOAD: 0, Stage.ACCEPT: 1, Stage.REVEAL: 2}


@pytest.mark.parametrize("late", [0, 1])
def test_every_stage_after_the_first_has_the_plans_time_again(bare: Consortium, late: int) -> None:
    begun = bare.clock.now
    for stage, ask, take in by_stage(bare):
        asked = ask()
        bare.clock.now = begun + (1 + LATER[stage]) * DEADLINE + late
        if late:
            refused(asked, "FC-2303")
            bare.clock.now -= late
        take(asked, asked.ask())
        bare.clock.now = begun


def test_an_approval_that_is_withdrawn_ends_every_stage(bare: Consortium) -> None:
    site = bare.sites["bank-a"]
    for _, ask, take in by_stage(bare):
        asked = ask()
        path = site.approvals._path(bare.plan.digest())
        path.unlink()
        refused(asked, "FC-2301")
        site.approvals.approve(bare.plan)
        take(asked, asked.ask())


def test_a_refusal_of_every_stage_is_as_long_as_an_answer(bare: Consortium) -> None:
    site = bare.sites["bank-a"]
    for _, ask, take in by_stage(bare):
        asked = ask()
        path = site.approvals._path(bare.plan.digest())
        path.unlink()
        refusal = asked.ask()
        assert isinstance(asked.read(refusal), Refusal)
        site.approvals.approve(bare.plan)
        reply = asked.ask()
        assert len(refusal) == len(reply)
        assert not isinstance(asked.read(reply), Refusal)
        take(asked, reply)


def test_all_members_answer_a_stage_with_one_length(consortium: Consortium) -> None:
    attempt = HandRound.of(consortium)
    for prepare, ask in (
        (lambda: attempt, attempt.upload),
        (attempt.uploaded, lambda name: attempt.accept(name, attempt.sum.select())),
        (attempt.agreed, attempt.reveal),
    ):
        prepare()
        assert len({len(ask(name).ask()) for name in NAMES}) == 1


@pytest.mark.parametrize("length", [0, 16, 200])
def test_a_length_into_which_no_answer_fits_is_refused_in_a_way_that_can_be_read(bare: Consortium, length: int) -> None:
    site = bare.sites["bank-a"]
    for stage, ask, take in by_stage(bare):
        right = ask()
        asked = ask(answer_length=length)
        before, spent = kept(site), charged(site)
        answer = asked.read(asked.ask())
        assert isinstance(answer, Refusal)
        assert answer.code == "FC-3101"
        if stage is Stage.UPLOAD:
            # What was charged stays charged, and only another attempt is answered: this one may have been computed.
            assert charged(site) == spent + 1
            assert right.code() == "FC-3105"
            return
        assert charged(site) == spent
        assert without_terms(kept(site)) == without_terms(before)
        take(right, right.ask())


def without_terms(memory: Mapping[str, bytes]) -> dict[str, bytes]:
    """Leave out what the first request that is admitted leaves behind, whatever becomes of it."""
    return {key: value for key, value in memory.items() if not key.startswith(("split", "terms/", "plan/"))}


# --- set-up of an epoch ----------------------------------------------------------------------------------------------


def begun(consortium: Consortium) -> HandSetup:
    setup = HandSetup.of(consortium)
    for name in NAMES:
        setup.take_key(name, setup.keys(name).answer())
    return setup


def test_a_set_up_leaves_an_offer_then_the_secrets_sent_and_then_the_roots(bare: Consortium) -> None:
    site = bare.sites["bank-a"]
    setup = begun(bare)
    assert isinstance(site.state.memory.epoch(RUN), EpochOffer)
    assert isinstance(setup.roots("bank-a").answer(), EpochBoxes)
    assert isinstance(site.state.memory.epoch(RUN), EpochPending)
    bare.epochs[RUN] = setup.finished(boxes_of(setup))
    assert question(bare, "bank-a").code() == ""
    known = site.state.memory.epoch(RUN)
    assert isinstance(known, EpochRoots)
    assert known.step == 1


def boxes_of(setup: HandSetup) -> dict[str, bytes]:
    bulks = {}
    for name in setup.received:
        asked = setup.roots(name)
        bulks[name] = bytes(asked.open(asked.ask()).bulk)
    return bulks


def test_only_a_later_set_up_is_begun(bare: Consortium) -> None:
    assert HandSetup.of(bare, attempt=4).keys("bank-a").code() == ""
    for attempt in (1, 3, 4):
        refused(HandSetup.of(bare, attempt=attempt, deadline=2_000_000).keys("bank-a"), "FC-3105")
    assert HandSetup.of(bare, attempt=5).keys("bank-a").code() == ""


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"round": 1}, "FC-2302"),
        ({"epoch": bytes([1]) * 32}, "FC-3106"),
        ({"quorum": 2}, "FC-3106"),
        ({"cohort": ("bank-a", "bank-b")}, "FC-3106"),
        ({"cohort": ("bank-b", "fund-c", "insurer-d")}, "FC-2304"),
        ({"plan_digest": bytes(32)}, "FC-3106"),
        ({"deadline": 0}, "FC-2303"),
    ],
    ids=str,
)
def test_a_set_up_that_is_none_of_the_plan_is_refused(bare: Consortium, changes: dict[str, Any], code: str) -> None:
    refused(HandSetup.of(bare, **changes).keys("bank-a"), code)


def test_a_set_up_goes_on_only_where_it_was_begun(bare: Consortium) -> None:
    setup = begun(bare)
    other = HandSetup.of(bare)
    other.received = setup.received
    refused(other.roots("bank-a"), "FC-3113")
    boxes_of(setup)
    # The secrets are sent: no second cohort gets others under the same key.
    fewer = [key for key in setup.in_order if key.member != "insurer-d"]
    refused(setup.roots("bank-a", keys=fewer), "FC-3113")
    again = setup.roots("bank-a")
    assert isinstance(again.answer(), EpochBoxes)


def test_before_the_run_was_taken_up_no_later_stage_is_answered(bare: Consortium) -> None:
    setup = HandSetup.of(bare)
    for name in NAMES[1:]:
        setup.take_key(name, setup.keys(name).answer())
    refused(setup.roots("bank-a"), "FC-3106")


def test_a_list_of_epoch_keys_holds_or_nothing_is_sent(bare: Consortium) -> None:
    setup, other = begun(bare), HandSetup.of(bare, run="another")
    keys = setup.in_order
    mine, rest = keys[0], keys[1:]
    forged = replace(mine, key=rest[0].key)
    cases: list[tuple[list[EpochKey], str]] = [
        (rest, "FC-3106"),  # without the own one
        (keys[:2], "FC-3106"),  # below the quorum
        ([], "FC-3106"),
        (keys[::-1], "FC-3106"),
        ([mine, mine, *rest], "FC-3106"),
        ([*keys, replace(rest[-1], member="stranger")], "FC-3106"),
        ([mine, rest[0], replace(rest[1], setup=other.manifest.digest()), rest[2]], "FC-3106"),
        ([forged, *rest], "FC-3103"),
        ([mine, replace(rest[0], key=mine.key), *rest[1:]], "FC-3103"),
        ([mine, replace(rest[0], signature=rest[1].signature), *rest[1:]], "FC-3103"),
    ]
    for given, code in cases:
        refused(setup.roots("bank-a", keys=given), code)
    refused(setup.roots("bank-a", body=RootsBody(keys=(b"junk",)).to_bytes()), "FC-3101")
    assert setup.roots("bank-a").code() == ""


def test_one_owner_under_two_names_is_noticed_before_anything_is_sent(bare: Consortium) -> None:
    # It would count twice wherever signatures are counted.
    members = {str(member.institution): member for member in bare.roster}
    fund, bank_b = (bare.sites[name].keys.public for name in ("fund-c", "bank-b"))
    twice = replace(members["fund-c"], public_identity=replace(fund, signing=bank_b.signing).to_bytes())
    roster = Roster(tuple(twice if name == "fund-c" else member for name, member in members.items()))
    raw = bare.plan.model_dump()
    raw["institutions"]["fund-c"]["identity"] = twice.identity_digest
    careless = RunPlan.model_validate(raw)
    for site in bare.sites.values():
        site.approvals.approve(careless)
    setup = HandSetup.of(bare, plan=careless, roster=roster)
    for name in ("bank-a", "bank-b", "insurer-d"):
        setup.take_key(name, setup.keys(name).answer())
    refused(setup.roots("bank-a"), "FC-3101")


def test_an_own_key_that_was_exchanged_is_noticed(bare: Consortium) -> None:
    # Signed by the institution itself, for an earlier set-up: the newest one counts.
    first, second = begun(bare), HandSetup.of(bare)
    second.take_key("bank-a", second.keys("bank-a").answer())
    refused(first.roots("bank-a"), "FC-3113")
    for name in NAMES[1:]:
        second.take_key(name, second.keys(name).answer())
    old = [first.received["bank-a"], *second.in_order[1:]]
    refused(second.roots("bank-a", keys=old), "FC-3106")


def test_a_new_epoch_ends_the_one_before(consortium: Consortium, bank: Site) -> None:
    old = HandRound.of(consortium)
    new = HandSetup.of(consortium).carried_out()
    assert new is not None
    before = consortium.epochs[RUN]
    consortium.epochs[RUN] = new
    # The old epoch's channel is gone with it: its requests do not even open.
    gone = request_for(
        consortium,
        "bank-a",
        old.manifest,
        stage=Stage.UPLOAD,
        body=RoundBody(weights=b"", release=b"", release_path=(), log_proofs=(), roots=()),
        length=4096,
        channel=before.channels["bank-a"],
    )
    assert gone.code() == "FC-3102"
    refused(old.upload("bank-a"), "FC-3113")
    assert question(consortium, "bank-a", attempt=2).code() == ""


def test_a_channel_survives_a_restart_and_serves_one_member_only(consortium: Consortium, bank: Site) -> None:
    bank.reopen()
    asked = question(consortium, "bank-a")
    assert asked.channel is not None
    assert asked.code() == ""
    channels = consortium.epochs[RUN].channels
    for name in ("bank-b", "fund-c"):
        attempt = HandRound.of(consortium, round=2)
        assert attempt.upload("bank-a", channel=channels[name]).code() == "FC-3102"
    assert bank.charged() == 1


def test_a_round_of_an_epoch_may_come_by_the_long_lived_key_as_well(consortium: Consortium, bank: Site) -> None:
    # A coordinator that has lost its channels still reaches everybody.
    epoch = consortium.epochs.pop(RUN)
    consortium.epochs[RUN] = replace(epoch, channels=dict.fromkeys(NAMES))
    asked = question(consortium, "bank-a")
    assert asked.channel is None
    reply = asked.ask()
    assert isinstance(asked.read(reply), Upload)
    assert len(reply) % 1024 == SEAL_OVERHEAD % 1024


# --- M1: upload ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epoch", [bytes([1]) * 32, bytes([9]) * 32])
def test_an_upload_needs_the_epoch_that_the_institution_holds(consortium: Consortium, epoch: bytes) -> None:
    refused(question(consortium, "bank-a", epoch=epoch), "FC-3113")
    assert question(consortium, "bank-a").code() == ""


def test_without_an_epoch_there_is_no_upload(bare: Consortium) -> None:
    site, cohort = bare.sites["bank-a"], Cohort.of(NAMES, seed=bytes(32), threshold=3)
    bare.epochs[RUN] = HandEpoch(epoch=bytes([9]) * 32, cohort=cohort, boxes={}, channels=dict.fromkeys(NAMES))
    assert question(bare, "bank-a").code() == "FC-3113"
    refused(question(bare, "bank-a"), "FC-3113")
    refused(question(bare, "bank-a", epoch=NO_EPOCH), "FC-3106")
    setup = begun(bare)
    assert isinstance(site.state.memory.epoch(RUN), EpochOffer)
    refused(question(bare, "bank-a", epoch=setup.manifest.digest()), "FC-3113")


def test_a_step_that_is_over_is_refused_and_a_later_one_is_answered(consortium: Consortium) -> None:
    assert question(consortium, "bank-a", step=4).code() == ""
    for step in (0, 3, 4):
        refused(question(consortium, "bank-a", attempt=2, step=step), "FC-3113")
    refused(question(consortium, "bank-a", attempt=2, step=10_000), "FC-3113")
    assert question(consortium, "bank-a", attempt=2, step=5).code() == ""
    assert question(consortium, "bank-a", attempt=3, step=200).code() == ""


def test_the_first_upload_needs_the_secrets_of_all_neighbours(consortium: Consortium) -> None:
    boxes = consortium.epochs[RUN].boxes
    mine = boxes["bank-a"]
    flipped = bytearray(mine[0])
    flipped[5] ^= 1
    cases = [
        ((), "FC-3101"),
        (mine[:2], "FC-3101"),
        ((*mine, mine[0]), "FC-3101"),
        ((mine[0][:-1], *mine[1:]), "FC-3101"),
        ((mine[1], mine[0], mine[2]), "FC-3103"),
        (boxes["bank-b"], "FC-3103"),
        ((bytes(flipped), *mine[1:]), "FC-3103"),
    ]
    for roots, code in cases:
        refused(question(consortium, "bank-a", sent={"roots": roots}), code)
    assert question(consortium, "bank-a").code() == ""
    # From then on the roots are there, and what is sent for them is not read.
    assert question(consortium, "bank-a", round=2, sent={"roots": ()}).code() == ""


def test_a_round_with_fewer_members_than_the_epoch_is_refused(consortium: Consortium) -> None:
    refused(question(consortium, "bank-a", cohort=("bank-a", "bank-b", "fund-c")), "FC-3106")


def test_the_masks_of_an_upload_are_never_used_again(consortium: Consortium, bank: Site) -> None:
    """The roots that are kept when an upload has left are those of the next step."""
    request = question(consortium, "bank-a")
    known = bank.state.memory.epoch(RUN)
    assert isinstance(known, EpochPending)
    assert request.code() == ""
    first = bank.state.memory.epoch(RUN)
    assert question(consortium, "bank-a", attempt=2).code() == ""
    second = bank.state.memory.epoch(RUN)
    assert isinstance(first, EpochRoots)
    assert isinstance(second, EpochRoots)
    assert (first.step, second.step) == (1, 2)
    assert first.at(2).roots == second.roots
    stored = b"".join(kept(bank).values())
    assert not any(root in stored for root in first.roots)
    assert not any(secret in stored for secret in (known.seed, *known.sent))


# --- M2: accept ------------------------------------------------------------------------------------------------------


@pytest.fixture
def uploaded(consortium: Consortium) -> HandRound:
    return HandRound.of(consortium).uploaded()


def test_a_selection_is_agreed_to_once_per_attempt(uploaded: HandRound) -> None:
    first = uploaded.selection()
    assert uploaded.accept("bank-a", first).code() == ""
    for members in (("bank-a", "bank-b", "fund-c"), ("bank-a", "fund-c", "insurer-d")):
        refused(uploaded.accept("bank-a", uploaded.selection(*members)), "FC-3105")
    # The same selection once more, in a request of other bytes, is agreed to again: nothing new is said.
    again = uploaded.accept("bank-a", first, plan=b"")
    answer = again.answer()
    assert answer == Accept(
        manifest_digest=uploaded.manifest.digest(), selection=hashlib.sha256(first.to_bytes()).digest()
    )


def test_the_selection_that_was_agreed_to_first_is_the_one_that_is_revealed(uploaded: HandRound) -> None:
    fewer = uploaded.selection("bank-a", "bank-b", "fund-c")
    uploaded.agreed()
    refused(uploaded.accept("bank-a", fewer), "FC-3105")
    assert isinstance(uploaded.reveal("bank-a").answer(), Reveal)


def test_a_selection_below_the_quorum_or_without_the_member_is_refused(uploaded: HandRound) -> None:
    for members in (("bank-a",), ("bank-a", "bank-b"), ("bank-b", "fund-c", "insurer-d")):
        refused(uploaded.accept("bank-a", uploaded.selection(*members)), "FC-3115")
    assert uploaded.accept("bank-a").code() == ""


def test_a_selection_that_does_not_hold_is_refused(uploaded: HandRound) -> None:
    right = uploaded.selection()
    names, uploads, signatures = right.members, right.uploads, right.signatures
    swapped = (uploads[1], uploads[0], *uploads[2:])
    cases = [
        (replace(right, manifest_digest=bytes(32)), "FC-3106"),
        (replace(right, members=names[::-1], uploads=uploads[::-1], signatures=signatures[::-1]), "FC-3106"),
        (replace(right, members=(*names[:3], "stranger")), "FC-3106"),
        (replace(right, uploads=uploads[:3]), "FC-3106"),
        (replace(right, signatures=signatures[:3]), "FC-3106"),
        (replace(right, uploads=(bytes(32), *uploads[1:])), "FC-3106"),
        (replace(right, uploads=swapped), "FC-3106"),
    ]
    for selection, code in cases:
        refused(uploaded.accept("bank-a", selection), code)
    assert uploaded.accept("bank-a", right).code() == ""


def test_only_the_coordinator_selects(uploaded: HandRound, bank: Site) -> None:
    for selector in (keys_of(77), bank.keys):
        refused(uploaded.accept("bank-a", selector=selector), "FC-3103")
    junk = AcceptBody(selection=b"junk", signature=bytes(64)).to_bytes()
    refused(uploaded.accept("bank-a", body=junk), "FC-3103")
    assert uploaded.accept("bank-a", selector=COORDINATOR).code() == ""


def test_nothing_is_agreed_to_before_an_upload_or_after_the_next(consortium: Consortium) -> None:
    attempt = HandRound.of(consortium).uploaded("bank-b", "fund-c", "insurer-d")
    refused(attempt.accept("bank-a"), "FC-3106")
    attempt.uploaded("bank-a")
    later = HandRound.of(consortium, attempt=2).uploaded()
    refused(attempt.accept("bank-a"), "FC-3106")
    assert later.accept("bank-a").code() == ""


# --- M3: reveal ------------------------------------------------------------------------------------------------------


@pytest.fixture
def agreed(uploaded: HandRound) -> HandRound:
    return uploaded.agreed()


def test_no_share_leaves_before_the_member_itself_has_agreed(uploaded: HandRound) -> None:
    uploaded.agreed("bank-b", "fund-c", "insurer-d")
    refused(uploaded.reveal("bank-a"), "FC-3106")
    uploaded.agreed("bank-a")
    assert uploaded.reveal("bank-a").code() == ""


def test_no_share_leaves_below_the_threshold_of_agreement(agreed: HandRound) -> None:
    signatures = dict(agreed.signatures)
    for signers in ((), ("bank-a",), ("bank-a", "fund-c")):
        body = {"members": signers, "signatures": tuple(signatures[name] for name in signers)}
        refused(agreed.reveal("bank-a", body=body), "FC-3114")
    three = ("bank-b", "fund-c", "insurer-d")
    body = {"members": three, "signatures": tuple(signatures[name] for name in three)}
    assert agreed.reveal("bank-a", body=body).code() == ""


def test_agreement_counts_only_if_every_signature_is_on_this_selection(agreed: HandRound) -> None:
    names = tuple(sorted(agreed.signatures))
    right = tuple(agreed.signatures[name] for name in names)
    upload_signatures = agreed.sum.select().signatures
    cases = [
        ({"signatures": (right[1], right[0], *right[2:])}, "FC-3103"),
        ({"signatures": (*right[:3], bytes(64))}, "FC-3103"),
        ({"signatures": upload_signatures}, "FC-3103"),
        ({"signatures": right[:3]}, "FC-3106"),
        ({"members": names[:3]}, "FC-3106"),
        ({"members": (*names[:3], "stranger")}, "FC-3114"),
        ({"selection": bytes(32)}, "FC-3106"),
        ({"boxes": ()}, "FC-3101"),
        ({"boxes": agreed.sum.boxes_for("bank-a")[:2]}, "FC-3101"),
    ]
    for body, code in cases:
        refused(agreed.reveal("bank-a", body=body), code)
    assert agreed.reveal("bank-a").code() == ""


def test_no_share_leaves_for_an_upload_that_nobody_vouches_for(consortium: Consortium) -> None:
    def invented(right: Selection) -> Iterator[Selection]:
        *uploads, third, last = right.uploads
        *signatures, third_signature, last_signature = right.signatures
        yield replace(right, uploads=(*uploads, third, bytes(32)))
        yield replace(right, uploads=(*uploads, third, third), signatures=(*signatures, *[third_signature] * 2))
        yield replace(right, signatures=(*signatures, third_signature, bytes(64)))
        yield replace(right, uploads=(*uploads, last, third), signatures=(*signatures, last_signature, third_signature))

    for attempt in range(1, 5):
        hand = HandRound.of(consortium, attempt=attempt).uploaded()
        hand.sum.select()
        selection = list(invented(hand.selection()))[attempt - 1]
        asked = hand.accept("bank-a", selection)
        hand.take_accept(asked, asked.ask())
        # Two that work together with the coordinator agree to anything.
        accept = Accept(manifest_digest=hand.manifest.digest(), selection=selection_digest(selection)).to_bytes()
        for name in ("bank-b", "fund-c"):
            hand.signatures[name] = sign(consortium.sites[name].keys, tag=ANSWER_TAG, body=accept)
        body = {"selection": selection_digest(selection), "boxes": hand.sum.boxes_for("bank-a")}
        refused(hand.reveal("bank-a", body=body), "FC-3103")


def test_agreement_to_another_attempt_opens_nothing(consortium: Consortium) -> None:
    first = HandRound.of(consortium).uploaded().agreed()
    second = HandRound.of(consortium, attempt=2).uploaded()
    second.agreed("bank-a")
    body = {"members": tuple(NAMES), "signatures": tuple(first.signatures[name] for name in NAMES)}
    refused(second.reveal("bank-a", body=body), "FC-3103")
    refused(first.reveal("bank-a"), "FC-3106")


def test_a_reveal_has_the_own_seeds_of_the_selected_and_the_pair_seeds_of_the_others_only(
    consortium: Consortium,
) -> None:
    everybody = HandRound.of(consortium).uploaded().agreed()
    asked = everybody.reveal("bank-a")
    assert len(asked.open(asked.ask()).bulk) == 4 * SHARE_LENGTH
    three = HandRound.of(consortium, round=2).uploaded("bank-a", "bank-b", "fund-c").agreed()
    asked = three.reveal("bank-a")
    # Of each of three dealers: the own seed, and the one in common with insurer-d.
    assert len(asked.open(asked.ask()).bulk) == 6 * SHARE_LENGTH


def test_a_box_that_does_not_open_costs_its_own_shares_only(agreed: HandRound) -> None:
    boxes = list(agreed.sum.boxes_for("bank-a"))
    boxes[1] = bytes(len(boxes[1]))
    asked = agreed.reveal("bank-a", body={"boxes": tuple(boxes)})
    bulk = asked.open(asked.ask()).bulk
    shares = [bulk[i : i + SHARE_LENGTH] for i in range(0, len(bulk), SHARE_LENGTH)]
    assert [share == b"\xff" * SHARE_LENGTH for share in shares] == [False, False, True, False]


# --- retries ---------------------------------------------------------------------------------------------------------


def test_a_second_sum_of_a_round_differs_in_nobody_or_is_never_opened(consortium: Consortium) -> None:
    HandRound.of(consortium).uploaded("bank-a", "bank-b", "fund-c").agreed().revealed()
    second = HandRound.of(consortium, attempt=2).uploaded()
    refused(second.accept("bank-a"), "FC-3115")
    refused(second.accept("bank-a", second.selection("bank-a", "bank-b", "insurer-d")), "FC-3115")
    assert second.accept("bank-a", second.selection("bank-a", "bank-b", "fund-c")).code() == ""
    # One that has revealed nothing, and the next round, are free.
    assert second.accept("insurer-d").code() == ""
    third = HandRound.of(consortium, round=2).uploaded()
    assert third.accept("bank-a").code() == ""


def test_what_was_agreed_to_and_not_revealed_binds_no_retry(consortium: Consortium) -> None:
    HandRound.of(consortium).uploaded("bank-a", "bank-b", "fund-c").agreed()
    assert HandRound.of(consortium, attempt=2).uploaded().accept("bank-a").code() == ""


@pytest.mark.parametrize(
    ("colluders", "quorum", "first", "second", "code"),
    [
        (0, 4, "abcd", "abcdefg", ""),
        (0, 4, "abcd", "abcdef", "FC-3115"),
        (0, 4, "abcd", "abce", "FC-3115"),
        (0, 4, "abcd", "abef", ""),
        (1, 5, "abcde", "abcdefg", "FC-3115"),
        (1, 5, "abcde", "abcdfg", "FC-3115"),
        (1, 5, "abcde", "abcfg", ""),
    ],
)
def test_two_sums_of_a_round_differ_by_three_members_besides_the_colluders(
    tmp_path: Path, colluders: int, quorum: int, first: str, second: str, code: str
) -> None:
    plan = plan_of(
        [f"bank-{letter}" for letter in "abcdefg"],
        aggregation={"kind": "secure", "threshold": quorum, "lane_bits": 32, "update_bound": "none"},
        **{"rounds/quorum": quorum, "privacy/colluders": colluders},
    )
    consortium = Consortium.make(tmp_path, plan)
    assert consortium.epoch(RUN) is not None
    HandRound.of(consortium).uploaded(*(f"bank-{letter}" for letter in first)).agreed().revealed()
    later = HandRound.of(consortium, attempt=2).uploaded()
    members = [f"bank-{letter}" for letter in second]
    assert later.accept("bank-a", later.selection(*members)).code() == code


def test_a_third_sum_of_a_round_is_compared_with_the_first_as_well(tmp_path: Path) -> None:
    plan = plan_of(
        [f"bank-{letter}" for letter in "abcdefg"],
        aggregation={"kind": "secure", "threshold": 4, "lane_bits": 32, "update_bound": "none"},
        **{"rounds/quorum": 4},
    )
    consortium = Consortium.make(tmp_path, plan)
    assert consortium.epoch(RUN) is not None
    for attempt, letters in ((1, "abcd"), (2, "abefg")):
        members = [f"bank-{letter}" for letter in letters]
        HandRound.of(consortium, attempt=attempt).uploaded(*members).agreed().revealed()
    third = HandRound.of(consortium, attempt=3).uploaded()
    # Four members apart from the second, but one from the first.
    near_the_first = third.selection(*(f"bank-{letter}" for letter in "abcde"))
    assert third.accept("bank-a", near_the_first).code() == "FC-3115"
    assert third.accept("bank-a", third.selection(*(f"bank-{letter}" for letter in "abcd"))).code() == ""


def test_the_refusal_of_a_retry_holds_after_a_restart(consortium: Consortium, bank: Site) -> None:
    HandRound.of(consortium).uploaded("bank-a", "bank-b", "fund-c").agreed().revealed()
    bank.reopen()
    second = HandRound.of(consortium, attempt=2).uploaded()
    bank.reopen()
    refused(second.accept("bank-a"), "FC-3115")


# --- what is on disk -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "table", "condition"),
    [
        (Stage.KEYS, "records", "NEW.key LIKE 'epoch/%'"),
        (Stage.KEYS, "records", "NEW.key LIKE 'channel%'"),
        (Stage.KEYS, "records", "NEW.key LIKE 'last-setup/%'"),
        (Stage.ROOTS, "records", "NEW.key LIKE 'epoch/%'"),
        (Stage.ROOTS, "records", "NEW.key LIKE 'answer/%'"),
        (Stage.ACCEPT, "records", "NEW.key LIKE 'round/%'"),
        (Stage.ACCEPT, "journal_entries", "NEW.journal = 'audit' AND NEW.kind = 'request-answered'"),
        (Stage.REVEAL, "records", "NEW.key LIKE 'opened/%'"),
        (Stage.REVEAL, "records", "NEW.key LIKE 'answer/%'"),
        (Stage.REVEAL, "journal_entries", "NEW.journal = 'audit' AND NEW.kind = 'request-answered'"),
    ],
)
def test_what_a_stage_leaves_behind_is_on_disk_before_its_answer_leaves_or_nothing_is(
    bare: Consortium, stage: Stage, table: str, condition: str
) -> None:
    site = bare.sites["bank-a"]
    for current, ask, take in by_stage(bare):
        asked = ask()
        if current is not stage:
            take(asked, asked.ask())
            continue
        before = without_terms(kept(site))
        body = f"WHEN {condition} BEGIN SELECT RAISE(FAIL, 'x'); END"
        site.state.database.execute(f"CREATE TEMP TRIGGER disk BEFORE INSERT ON main.{table} {body}")
        assert asked.code() == "FC-9001"
        assert without_terms(kept(site)) == before
        site.state.database.execute("DROP TRIGGER disk")
        # In the same process, whose memory must not be ahead of the disk.
        take(asked, asked.ask())
        site.reopen()
        assert asked.code() == ""


def test_the_log_of_an_institution_tells_every_stage(bare: Consortium) -> None:
    for _, ask, take in by_stage(bare):
        asked = ask()
        take(asked, asked.ask())
    events = bare.sites["bank-a"].events()
    assert [(event.kind, event.fields["stage"]) for event in events] == [
        (EventKind.REQUEST_ANSWERED, stage) for stage in ("keys", "roots", "upload", "accept", "reveal")
    ]
    assert len({event.fields["manifest"] for event in events}) == 2


def test_no_secret_of_a_round_is_shown_by_what_is_printed(consortium: Consortium, bank: Site) -> None:
    HandRound.of(consortium).uploaded().agreed().revealed()
    memory = bank.state.memory
    epoch, state = memory.epoch(RUN), memory.member_round(RUN)
    assert repr(epoch) == "EpochRoots(step=1)"
    assert repr(state) == "MemberRound(round=1, attempt=1)"
