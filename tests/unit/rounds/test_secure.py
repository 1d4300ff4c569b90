"""Secure rounds through a whole consortium: exact sums whoever drops out, and nothing at all from who cheats."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bent_members import Bend, bent, first_share_changed, other_bulk, other_commitments
from consortium import CONSORTIUM, COORDINATOR, NAMES, NO_PRIVACY, RUN, SECURE, SHARED, Consortium, plan_of

from fedcredit.audit.checkpoint_note import LogCheckpoint, NoteSignature
from fedcredit.audit.log import Event, EventKind, log_origin
from fedcredit.audit.witness import require_final
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.signatures import verify, verify_digest
from fedcredit.envelope import ANSWER_TAG, verified_manifest
from fedcredit.errors import MalformedMessageError, QuorumError, SumNotOpenedError
from fedcredit.institution.stages import Reaction
from fedcredit.messages import Stage
from fedcredit.parties import COORDINATOR as COORDINATOR_NAME
from fedcredit.parties import InstitutionId
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.run import FederatedRun
from fedcredit.rounds.transcript import TRANSCRIPTS, Transcript, transcript_name
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Accept, Reveal, Selection, Upload
from fedcredit.transport import Deadline, Reply, Transport

ALLOW = {"allow_no_privacy": True, "allow_fixed_noise": True}
KNOWN: dict[str, Any] = {**SECURE, **NO_PRIVACY, "rounds/retries": 0}
"""Four members of whom three must agree, without noise: what a sum must be is known. Every attempt is the last."""


@dataclass
class Lossy:
    """Loses the messages of a stage from or to the members named for it."""

    inner: Transport
    lost: Mapping[Stage, set[str]] = field(default_factory=dict)
    lose_reply: bool = False
    stage: Stage = Stage.KEYS
    asked: list[Stage] = field(default_factory=list)

    def saw(self, result: RoundResult) -> None:
        self.stage = result.stage

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        self.asked.append(self.stage)
        gone = self.lost.get(self.stage, set())
        reached = {name: data for name, data in requests.items() if self.lose_reply or name not in gone}
        for reply in self.inner.exchange(reached, deadline=deadline):
            if reply.institution not in gone:
                yield reply


def secure(folder: Path, plan: RunPlan | None = None, **changes: Any) -> Consortium:
    return Consortium.make(folder, plan or plan_of(**{**KNOWN, **changes}), policy=ALLOW, rows=30)


def exact(consortium: Consortium, names: list[str], weights: np.ndarray, number: int) -> list[int]:
    """The sum of these members' numbers, by the function that each of them computes."""
    sites = [consortium.sites[name] for name in names]
    plan = consortium.plan
    parts = [consortium.family.computation(plan, site.name, site.holdings.split(plan).train) for site in sites]
    totals = [part.integer_sum(weights, round_number=number, batch=None).values for part in parts]
    return np.sum(totals, axis=0, dtype=np.int64).tolist()


def attempt(run: FederatedRun, transport: Lossy) -> RoundResult:
    """Run one round with one attempt."""
    return next(run.rounds(on_reply=transport.saw)).result


def last(run: FederatedRun, kind: EventKind) -> Event:
    return [event for event in run.audit.events() if event.kind is kind][-1]


def all_of(run: FederatedRun, kind: EventKind) -> list[Mapping[str, Any]]:
    return [event.fields for event in run.audit.events() if event.kind is kind]


# --- dropping out ---------------------------------------------------------------------------------------------------


def subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [chosen for size in range(len(names) + 1) for chosen in itertools.combinations(names, size)]


def patterns(uploading: tuple[str, ...]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return who agrees and who reveals, for every outcome of the two stages; fewer than three end the attempt."""
    found = []
    for agreeing in subsets(uploading):
        found += [(agreeing, revealing) for revealing in (subsets(agreeing) if len(agreeing) >= 3 else [()])]
    return found


ENOUGH = [chosen for chosen in subsets(NAMES) if len(chosen) >= 3]


def test_so_many_patterns_of_three_stages_there_are() -> None:
    # 4 members: one cohort of 4 with 16 + 4 * 8 + 11 ends, four of 3 with 8 + 7 ends, 11 too small.
    assert sum(len(patterns(chosen)) for chosen in ENOUGH) == (16 + 4 * 8 + 11) + 4 * (8 + 7)
    assert len(ENOUGH) == 5


@pytest.mark.parametrize("uploading", ENOUGH, ids="+".join)
def test_whoever_drops_out_the_sum_is_exact_or_nothing_is_opened(tmp_path: Path, uploading: tuple[str, ...]) -> None:
    consortium = secure(tmp_path, **{"run/rounds": 200})
    transport = Lossy(consortium.loopback())
    run = consortium.run(transport)
    for number, (agreeing, revealing) in enumerate(patterns(uploading)):
        lost = {
            Stage.UPLOAD: {*NAMES} - {*uploading},
            Stage.ACCEPT: {*uploading} - {*agreeing},
            Stage.REVEAL: {*agreeing} - {*revealing},
        }
        # A lost request and a lost reply are the same to the coordinator, and not to the member.
        transport.lost, transport.lose_reply = lost, bool(number % 2)
        before = run.state
        if len(agreeing) >= 3 and len(revealing) >= 3:
            result = attempt(run, transport)
            assert result.contributors == list(uploading)
            assert result.total.tolist() == exact(consortium, result.contributors, before.weights, before.round + 1)
            assert run.state.round == before.round + 1
            continue
        with pytest.raises(SumNotOpenedError) as caught:
            attempt(run, transport)
        assert caught.value.code == "FC-2203"
        step, done = ("agree", agreeing) if len(agreeing) < 3 else ("reveal", revealing)
        assert (caught.value.fields["received"], caught.value.fields["needed"]) == (len(done), 3)
        assert str(caught.value.fields["step"]).startswith(step)
        missing = {*uploading} - {*done}
        assert {name.split(" ")[0] for name in str(caught.value.fields["missing"]).split(", ")} == missing
        assert run.state is before
        assert last(run, EventKind.ROUND_ABORTED).fields["stage"] == ("accept" if step == "agree" else "reveal")
        if step == "reveal":
            # What some may have opened is opened once more, by a new attempt with new masks over the same members.
            transport.lost = {Stage.UPLOAD: {*NAMES} - {*uploading}}
            result = attempt(run, transport)
            assert result.total.tolist() == exact(consortium, list(uploading), before.weights, before.round + 1)


def test_too_few_uploads_open_nothing(tmp_path: Path) -> None:
    consortium = secure(tmp_path, **{"run/rounds": 20})
    transport = Lossy(consortium.loopback())
    run = consortium.run(transport)
    before = run.state
    small = [chosen for chosen in subsets(NAMES) if len(chosen) < 3]
    assert len(small) == 11
    for uploading in small:
        transport.lost = {Stage.UPLOAD: {*NAMES} - {*uploading}}
        with pytest.raises(QuorumError) as caught:
            attempt(run, transport)
        assert (caught.value.code, caught.value.fields["received"]) == ("FC-2201", len(uploading))
        assert run.state is before
    assert not all_of(run, EventKind.COHORT_SELECTED)
    assert Stage.ACCEPT not in transport.asked


def test_members_who_opened_one_cohort_do_not_open_another_that_differs_by_one(tmp_path: Path) -> None:
    # The difference of the two sums would be fund-c's numbers.
    consortium = secure(tmp_path, **{"run/rounds": 20})
    transport = Lossy(consortium.loopback(), {Stage.REVEAL: {"fund-c", "insurer-d"}})
    run = consortium.run(transport)
    before = run.state
    with pytest.raises(SumNotOpenedError):
        attempt(run, transport)
    transport.lost = {Stage.UPLOAD: {"fund-c"}}
    with pytest.raises(SumNotOpenedError) as caught:
        attempt(run, transport)
    # insurer-d may have opened nothing: its reply was lost, or its request.
    assert "bank-a (FC-3115), bank-b (FC-3115)" in str(caught.value.fields["missing"])
    assert run.state is before
    transport.lost = {}
    assert len(attempt(run, transport).contributors) == 4


def test_whoever_comes_back_waits_until_the_others_have_opened_the_cohort_that_they_began(tmp_path: Path) -> None:
    consortium = secure(tmp_path, **{"run/rounds": 20})
    transport = Lossy(consortium.loopback(), {Stage.UPLOAD: {"insurer-d"}, Stage.REVEAL: {"fund-c"}})
    run = consortium.run(transport)
    with pytest.raises(SumNotOpenedError):
        attempt(run, transport)
    transport.lost = {}
    assert attempt(run, transport).contributors == ["bank-a", "bank-b", "fund-c"]
    # And in the next round everybody takes part again.
    assert len(attempt(run, transport).contributors) == 4


def test_no_member_stands_in_two_transcripts_of_one_round_with_the_same_masks(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    transport = Lossy(consortium.loopback(), {Stage.REVEAL: {"bank-a", "bank-b"}})
    run = consortium.run(transport)
    with pytest.raises(SumNotOpenedError):
        attempt(run, transport)
    transport.lost = {}
    attempt(run, transport)
    answers = [fields["answer"] for fields in all_of(run, EventKind.ANSWER_ACCEPTED)]
    assert len(set(answers)) == len(answers) == 8
    assert len({fields["manifest"] for fields in all_of(run, EventKind.ROUND_OPENED)}) == 4  # two set-ups, two rounds


# --- with noise -----------------------------------------------------------------------------------------------------


def test_a_secure_run_ends_with_the_bits_of_an_open_one(tmp_path: Path) -> None:
    # Fixed noise depends on institution, round and purpose only: masks must cancel to the last bit, in every purpose.
    fixed = {"privacy/test_noise": True, "rounds/quorum": 3}
    masked = secure(tmp_path / "masked", plan_of(**{**SECURE, **fixed})).run()
    read = secure(tmp_path / "read", plan_of(**fixed)).run()
    for report, other in zip(masked.rounds(), read.rounds(), strict=True):
        assert report.result.total.tolist() == other.result.total.tolist()
    assert masked.evaluate()[1].total.tolist() == read.evaluate()[1].total.tolist()
    assert masked.state.released().tobytes() == read.state.released().tobytes()


def test_shared_noise_is_whole_if_members_leave_after_their_upload(tmp_path: Path) -> None:
    plan = plan_of(**SHARED, **{"privacy/test_noise": True})
    quiet, left = (secure(tmp_path / name, plan) for name in ("quiet", "left"))
    transport = Lossy(left.loopback(), {Stage.ACCEPT: {"bank-a"}, Stage.REVEAL: {"bank-a"}})
    run = left.run(transport)
    for report, other in zip(quiet.run().rounds(), run.rounds(on_reply=transport.saw), strict=True):
        assert report.result.total.tolist() == other.result.total.tolist()
        assert len(other.result.contributors) == 4
    for site in left.sites.values():
        assert all(charge.release.honest_shares == 3 for charge in site.charges())


def test_lanes_of_sixteen_bits_carry_the_same_sum(tmp_path: Path) -> None:
    narrow = {"aggregation": {"kind": "secure", "threshold": 3, "lane_bits": 16, "update_bound": "none"}}
    wide, short = secure(tmp_path / "wide"), secure(tmp_path / "short", **narrow)
    totals, sent = [], []
    for consortium in (wide, short):
        result = next(consortium.run().rounds()).result
        totals.append(result.total.tolist())
        sent.append(sum(result.bytes_received.values()))
    assert totals[0] == totals[1]
    assert sent[1] <= sent[0]


# --- who is waited for ----------------------------------------------------------------------------------------------


def test_the_result_says_in_every_stage_who_is_waited_for(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    transport = Lossy(consortium.loopback(), {Stage.UPLOAD: {"fund-c"}, Stage.ACCEPT: set(), Stage.REVEAL: set()})
    seen: list[tuple[Stage, set[str]]] = []
    times: set[tuple[float, float]] = set()

    def watch(result: RoundResult) -> None:
        transport.saw(result)
        if not seen or seen[-1][0] is not result.stage:
            consortium.clock.now += 5
        seen.append((result.stage, set(result.waiting)))
        times.add((result.since, result.until))

    result = next(consortium.run(transport).rounds(on_reply=watch)).result
    stages = [stage for stage, _ in itertools.groupby(seen, key=lambda item: item[0])]
    assert stages == [Stage.KEYS, Stage.ROOTS, Stage.UPLOAD, Stage.ACCEPT, Stage.REVEAL]
    begun = {stage: next(waiting for at, waiting in seen if at is stage) for stage in stages}
    assert begun[Stage.KEYS] == begun[Stage.ROOTS] == begun[Stage.UPLOAD] == {*NAMES}
    # Only whose upload is in the sum is asked for agreement and shares.
    assert begun[Stage.ACCEPT] == begun[Stage.REVEAL] == {*NAMES} - {"fund-c"}
    assert [waiting for stage, waiting in seen if stage is Stage.UPLOAD][-1] == {"fund-c"}
    assert all(until - since == 60 for since, until in times)
    assert sorted(since for since, _ in times) == [1_000_000.0 + 5 * stage for stage in range(5)]
    assert result.messages == {name: 3 if name == "fund-c" else 5 for name in NAMES} | {"fund-c": 2}


# --- evidence -------------------------------------------------------------------------------------------------------


def transcript_of(folder: Path, number: int = 1) -> Transcript:
    name = transcript_name(round_number=number, purpose="train", attempt=1)
    return Transcript.from_bytes((folder / "run" / TRANSCRIPTS / name).read_bytes())


def test_every_secure_round_leaves_a_transcript_whose_digest_is_in_the_log(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    run = consortium.run()
    reports = list(run.rounds())
    run.evaluate()
    names = sorted(path.name for path in (tmp_path / "run" / TRANSCRIPTS).iterdir())
    assert names == [
        "00000-setup-001.cbor",
        "00001-train-001.cbor",
        "00002-train-001.cbor",
        "00003-evaluate-001.cbor",
        "00003-train-001.cbor",
    ]
    opened = all_of(run, EventKind.SUM_OPENED)
    for fields in opened:
        name = transcript_name(round_number=fields["round"], purpose=fields["purpose"], attempt=fields["attempt"])
        data = (tmp_path / "run" / TRANSCRIPTS / name).read_bytes()
        assert fields["transcript"] == hashlib.sha256(data).digest() == Transcript.from_bytes(data).digest()
    assert [report.result.transcript for report in reports] == [fields["transcript"] for fields in opened[:3]]
    totals = [hashlib.sha256(report.result.total.astype("<i8").tobytes()).digest() for report in reports]
    assert [fields["total"] for fields in opened[:3]] == totals


def test_an_open_round_leaves_none(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**NO_PRIVACY), policy=ALLOW)
    result = next(consortium.run().rounds()).result
    assert result.transcript is None
    assert not (tmp_path / "run" / TRANSCRIPTS).exists()


def test_anybody_who_has_a_transcript_checks_its_signatures_and_adds_up_again(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    transport = Lossy(consortium.loopback(), {Stage.UPLOAD: {"bank-b"}})
    result = attempt(consortium.run(transport), transport)
    seen = transcript_of(tmp_path)
    manifest = verified_manifest(seen.manifest, seen.manifest_signature, coordinator=COORDINATOR.public)
    digest = hashlib.sha256(seen.manifest).digest()
    verify(
        COORDINATOR.public,
        tag=SELECTION_TAG,
        body=seen.selection,
        signature=seen.selection_signature,
        signer=COORDINATOR_NAME,
        what="selection",
    )
    selection = Selection.from_bytes(seen.selection)
    assert selection.members == tuple(seen.uploads) == ("bank-a", "fund-c", "insurer-d")
    again = AggregatorRound(
        manifest_digest=digest,
        cohort=Cohort.of(manifest.cohort, seed=manifest.epoch, threshold=seen.threshold),
        count=seen.lanes,
        bits=seen.lane_bits,
        smallest=manifest.quorum,
        colluders=0,
    )
    for name, item in seen.uploads.items():
        keys = consortium.sites[name].keys.public
        body = hashlib.sha256(item.body).digest()
        verify_digest(keys, tag=ANSWER_TAG, digest=body, signature=item.signature, signer=name, what="upload")
        upload = Upload.from_bytes(item.body)
        again.take_upload(name, upload, digest=body, signature=item.signature, bulk=item.bulk)
    assert again.select().to_bytes() == seen.selection
    accepted = Accept(manifest_digest=digest, selection=again.selection_digest).to_bytes()
    assert len(seen.accepts) == 3
    for name, signature in seen.accepts.items():
        keys = consortium.sites[name].keys.public
        verify(keys, tag=ANSWER_TAG, body=accepted, signature=signature, signer=name, what="agreement")
    for name, (body, signature, shares) in seen.reveals.items():
        keys = consortium.sites[name].keys.public
        verify(keys, tag=ANSWER_TAG, body=body, signature=signature, signer=name, what="shares")
        assert Reveal.from_bytes(body).bulk_digest == hashlib.sha256(shares).digest()
        again.take_reveal(name, shares)
    assert again.open().values.tolist() == result.total.tolist()


@pytest.mark.parametrize("damage", ["cut", "longer", "another form", "a signature that is none", "a pair for three"])
def test_what_is_no_transcript_is_refused(tmp_path: Path, damage: str) -> None:
    consortium = secure(tmp_path)
    next(consortium.run().rounds())
    seen = transcript_of(tmp_path)
    whole = seen.to_bytes()
    assert Transcript.from_bytes(whole) == seen
    broken = {
        "cut": whole[:-1],
        "longer": whole + b"\0",
        "another form": whole.replace(b"transcript 1", b"transcript 2"),
        "a signature that is none": replace(seen, accepts={InstitutionId("bank-a"): "x"}).to_bytes(),  # type: ignore[dict-item]
        "a pair for three": replace(seen, reveals={InstitutionId("bank-a"): (b"", b"")}).to_bytes(),  # type: ignore[dict-item]
    }
    with pytest.raises(MalformedMessageError):
        Transcript.from_bytes(broken[damage])


def test_the_cosignatures_in_the_log_make_every_head_of_it_final(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    transport = Lossy(consortium.loopback())
    run = consortium.run(transport)
    attempt(run, transport)
    transport.lost = {Stage.UPLOAD: {"fund-c"}}
    attempt(run, transport)
    transport.lost = {}
    attempt(run, transport)
    run.evaluate()
    run.close()
    identities = {site.name: site.keys.public for site in consortium.sites.values()}
    by_size: dict[int, list[NoteSignature]] = {}
    for fields in all_of(run, EventKind.ANSWER_ACCEPTED):
        by_size.setdefault(fields["log_size"], []).append(NoteSignature.from_line(fields["cosignature"]))
    assert len(by_size) == 5
    signers = []
    for size, lines in sorted(by_size.items()):
        origin = log_origin(consortium=CONSORTIUM, run=RUN)
        checkpoint = LogCheckpoint(origin=origin, size=size, root=run.audit.tree().root(size))
        signers.append(require_final(checkpoint, lines, identities, threshold=3))
    assert [len(names) for names in signers] == [4, 3, 4, 4, 4]
    assert last(run, EventKind.CLOSED).fields["log_size"] == max(by_size)


# --- members whose software lies -------------------------------------------------------------------------------------


def other_own_commitment(reaction: Reaction) -> Reaction:
    assert isinstance(reaction.answer, Upload)
    _, *pairs = reaction.answer.commitments
    return replace(reaction, answer=replace(reaction.answer, commitments=(bytes(32), *pairs)))


def blamed(run: FederatedRun) -> list[tuple[str, str]]:
    return [(fields["institution"], fields["reason"].split(" ")[0]) for fields in all_of(run, EventKind.MEMBER_BLAMED)]


def test_a_member_whose_commitments_contradict_everybodys_is_blamed_and_left_out(tmp_path: Path) -> None:
    # One colluder may lie about one honest member, so a conflict with one alone would decide nothing.
    consortium = secure(tmp_path, **{"privacy/colluders": 1})
    bent(consortium, "bank-b", Stage.UPLOAD, other_commitments(3))
    run = consortium.run()
    before = run.state
    result = next(run.rounds()).result
    assert result.contributors == ["bank-a", "fund-c", "insurer-d"]
    assert result.total.tolist() == exact(consortium, result.contributors, before.weights, 1)
    assert blamed(run) == [("bank-b", "commitments")]
    assert last(run, EventKind.COHORT_SELECTED).fields["contributors"] == result.contributors


def test_two_who_contradict_each_other_leave_too_few_and_both_are_in_the_log(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    bent(consortium, "bank-b", Stage.UPLOAD, other_commitments(1))  # about bank-a
    run = consortium.run()
    before = run.state
    with pytest.raises(SumNotOpenedError) as caught:
        next(run.rounds())
    assert caught.value.fields["received"] == 2
    assert caught.value.fields["missing"] == "bank-a, bank-b"
    assert blamed(run) == [("bank-a", "commitments"), ("bank-b", "commitments")]
    assert run.state is before
    assert not all_of(run, EventKind.COHORT_SELECTED)


def test_a_garbage_share_is_blamed_and_the_sum_still_opens(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    bent(consortium, "bank-a", Stage.REVEAL, other_bulk(first_share_changed))  # the first that is heard
    run = consortium.run()
    before = run.state
    result = next(run.rounds()).result
    assert len(result.contributors) == 4  # its upload counts, its share does not
    assert result.total.tolist() == exact(consortium, result.contributors, before.weights, 1)
    assert blamed(run) == [("bank-a", "a")]
    assert len(transcript_of(tmp_path).reveals) == 4


def test_a_garbage_share_among_no_more_than_the_threshold_opens_nothing(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    bent(consortium, "bank-a", Stage.REVEAL, other_bulk(first_share_changed))
    transport = Lossy(consortium.loopback(), {Stage.REVEAL: {"fund-c"}})
    run = consortium.run(transport)
    before = run.state
    with pytest.raises(SumNotOpenedError, match="fit their commitments"):
        attempt(run, transport)
    assert run.state is before


def test_a_dealer_whose_own_seed_fits_no_commitment_stops_the_sum(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    bent(consortium, "bank-a", Stage.UPLOAD, other_own_commitment)
    run = consortium.run()
    with pytest.raises(SumNotOpenedError, match="fit their commitments"):
        next(run.rounds())
    # Nothing says who it was: the dealer, or all who hold its shares.
    assert blamed(run) == []


def test_a_box_that_does_not_open_costs_one_share_and_stops_nothing(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    bent(consortium, "insurer-d", Stage.UPLOAD, other_bulk(lambda bulk: bulk[:-1] + bytes([bulk[-1] ^ 1])))
    run = consortium.run()
    before = run.state
    result = next(run.rounds()).result
    assert result.total.tolist() == exact(consortium, list(NAMES), before.weights, 1)
    # Its last box is for fund-c, so the share of insurer-d itself was needed.
    assert len(transcript_of(tmp_path).reveals) == 4
    assert blamed(run) == []


MISFITS: dict[str, tuple[Stage, Bend, str]] = {
    "lanes that were not signed": (
        Stage.UPLOAD,
        other_bulk(lambda bulk: bytes([bulk[0] ^ 1]) + bulk[1:], signed=False),
        "FC-3101",
    ),
    "a lane too few": (Stage.UPLOAD, other_bulk(lambda bulk: bulk[4:]), "FC-3101"),
    "a box too many": (Stage.UPLOAD, other_bulk(lambda bulk: bulk + bulk[-100:]), "FC-3101"),
    "a commitment too few": (
        Stage.UPLOAD,
        lambda it: replace(it, answer=replace(it.answer, commitments=it.answer.commitments[1:])),  # type: ignore[attr-defined, call-arg]
        "FC-3101",
    ),
    "a cosignature of nothing": (
        Stage.UPLOAD,
        lambda it: replace(it, answer=replace(it.answer, cosignature="nothing")),  # type: ignore[call-arg]
        "FC-3305",
    ),
    "another selection": (
        Stage.ACCEPT,
        lambda it: replace(it, answer=replace(it.answer, selection=bytes(32))),  # type: ignore[call-arg]
        "FC-3106",
    ),
    "an agreement to another manifest": (
        Stage.ACCEPT,
        lambda it: replace(it, answer=replace(it.answer, manifest_digest=bytes(32))),  # type: ignore[call-arg]
        "FC-3106",
    ),
    "shares of another selection": (
        Stage.REVEAL,
        lambda it: replace(it, answer=replace(it.answer, selection=bytes(32))),  # type: ignore[call-arg]
        "FC-3106",
    ),
    "shares that were not signed": (Stage.REVEAL, other_bulk(first_share_changed, signed=False), "FC-3101"),
    "a share too few": (Stage.REVEAL, other_bulk(lambda shares: shares[SHARE_LENGTH:]), "FC-3101"),
    "an agreement instead of shares": (
        Stage.REVEAL,
        lambda it: Reaction(
            answer=Accept(manifest_digest=it.answer.manifest_digest, selection=it.answer.selection)  # type: ignore[attr-defined]
        ),
        "FC-3101",
    ),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_a_message_that_does_not_fit_is_refused_and_the_others_go_on(tmp_path: Path, misfit: str) -> None:
    stage, bend, code = MISFITS[misfit]
    consortium = secure(tmp_path)
    bent(consortium, "bank-a", stage, bend)
    run = consortium.run()
    before = run.state
    result = next(run.rounds()).result
    (refused,) = all_of(run, EventKind.ANSWER_REFUSED)
    assert refused["institution"] == "bank-a"
    assert refused["code"] == code
    assert result.unusable[InstitutionId("bank-a")] == f"answer not accepted: {code}"
    assert result.contributors == [name for name in NAMES if name != "bank-a" or stage is not Stage.UPLOAD]
    assert result.total.tolist() == exact(consortium, result.contributors, before.weights, 1)
    assert blamed(run) == []


def test_a_member_that_copies_anothers_commitment_is_not_taken(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    seen: list[bytes] = []

    def remember(reaction: Reaction) -> Reaction:
        assert isinstance(reaction.answer, Upload)
        seen.append(reaction.answer.commitments[0])
        return reaction

    def copy(reaction: Reaction) -> Reaction:
        assert isinstance(reaction.answer, Upload)
        mine = (seen[-1], *reaction.answer.commitments[1:])
        return replace(reaction, answer=replace(reaction.answer, commitments=mine))

    bent(consortium, "bank-a", Stage.UPLOAD, remember)
    bent(consortium, "insurer-d", Stage.UPLOAD, copy)
    assert next(consortium.run().rounds()).result.contributors == ["bank-a", "bank-b", "fund-c"]


def test_a_second_answer_of_a_stage_changes_nothing(tmp_path: Path) -> None:
    consortium = secure(tmp_path)

    class Twice:
        def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
            for reply in consortium.loopback().exchange(requests, deadline=deadline):
                yield from (reply, reply)

    run = consortium.run(Twice())
    before = run.state
    result = next(run.rounds()).result
    assert result.total.tolist() == exact(consortium, list(NAMES), before.weights, 1)
    assert len(all_of(run, EventKind.ANSWER_ACCEPTED)) == 4
