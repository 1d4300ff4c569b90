"""Transcripts that a coordinator made up: it owns the log and its own keys, and recomputes every digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from consortium import COORDINATOR, NAMES, SECURE, Consortium, Flaky, HandRound, keys_of, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_runs import change, copied, places, read, retell, rewrite, trained, transcripts

from fedcredit.audit.checkpoint_note import cosign_checkpoint
from fedcredit.audit.log import EventKind
from fedcredit.crypto.signatures import SIGNATURE_LENGTH, sign
from fedcredit.encoding import decode, encode
from fedcredit.envelope import ANSWER_TAG, sign_manifest
from fedcredit.errors import AuditError, FedcreditError, ReconstructionError
from fedcredit.messages import Manifest
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_asked import AskedRound
from fedcredit.rounds.evidence_log import Line, read_log
from fedcredit.rounds.evidence_manifests import ExpectedManifest
from fedcredit.rounds.evidence_models import Models
from fedcredit.rounds.evidence_opening import Opening, read_opening
from fedcredit.rounds.evidence_rounds import Rounds
from fedcredit.rounds.evidence_sums import ReplayedSum, replay
from fedcredit.rounds.transcript import RECORDS, SignedUpload, Transcript
from fedcredit.secagg.agreement import SELECTION_TAG
from fedcredit.secagg.ring import lanes_to_bytes
from fedcredit.secagg.wire import Reveal, Selection, Upload

BANK, FUND = InstitutionId("bank-a"), InstitutionId("fund-c")
LATE = InstitutionId("insurer-d")
"""Its upload is missing in the last round: shares of the seeds that it has in common with the others were revealed."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run that has just released its last round, in which one member was late."""
    consortium = Consortium.make(tmp_path_factory.mktemp("secure"), plan_of(**SECURE, **{"run/rounds": 2}))
    return trained(consortium, Flaky(consortium.loopback(), lambda name, number: (name, number) == (LATE, 6)))


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    return copied(kept, tmp_path / "run")


@dataclass(frozen=True)
class LastRound:
    """The last round's transcript, and what the log says before it."""

    transcript: Transcript
    asked: AskedRound
    rounds: Rounds

    @classmethod
    def of(cls, folder: Path) -> LastRound:
        log = read_log(folder / "run.db")
        opening = read_opening(log, folder)
        rounds = Rounds(log, opening, Models(opening, folder), folder)
        rounds.models.start(log.lines[0])
        end = [line.index for line in log.lines if line.kind is EventKind.SUM_OPENED][-1]
        for line in log.lines[1:end]:
            rounds.follow(line)
        transcript = Transcript.from_bytes(transcripts(folder)[-1].read_bytes())
        return cls(transcript, rounds.asked[-1], rounds)

    def replayed(self, transcript: Transcript) -> ReplayedSum:
        opening = self.rounds._opening
        assert opening.plan.secure is not None
        signed, lanes = self.asked.signed, self.asked.lanes
        assert lanes is not None
        return replay(transcript, signed, opening, opening.plan.secure, self.asked.answers, lanes=lanes)


@pytest.fixture(scope="module")
def last(kept: Path) -> LastRound:
    return LastRound.of(kept)


def forged(run: Path, changed: Callable[[Transcript], Transcript], problem: str) -> None:
    """Check that a verification ends at the entry of the transcript that was made up."""
    index = retell(run, transcripts(run)[-1], changed)
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(run)
    assert (caught.value.fields["index"], caught.value.exit_code) == (index, 5)


def flipped(data: bytes, place: int = -1) -> bytes:
    place %= len(data)
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_the_honest_transcript_gives_the_sum_of_the_log(last: LastRound, kept: Path) -> None:
    found = last.replayed(last.transcript)
    log = read(kept)
    assert found.total_digest == log[places(log, EventKind.SUM_OPENED)[-1]][1]["total"]
    assert found.total_digest == hashlib.sha256(found.total.astype("<i8").tobytes()).digest()
    assert found.members == tuple(name for name in NAMES if name != LATE)
    assert found.wrong == frozenset()


# --- one byte --------------------------------------------------------------------------------------------------------


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in an encoding."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    else:
        yield path


def test_one_changed_byte_in_any_field_of_a_transcript_is_found(run: Path, last: LastRound) -> None:
    whole = decode(last.transcript.to_bytes(), what="transcript", limit=2**24)
    found = list(leaves(whole))
    assert len(found) == 8 + 3 * (3 + 1 + 3)
    for path in found:
        copy: Any = decode(last.transcript.to_bytes(), what="transcript", limit=2**24)
        holder = copy
        for step in path[:-1]:
            holder = holder[step]
        value = holder[path[-1]]
        holder[path[-1]] = flipped(value, len(value) // 2) if isinstance(value, bytes) else _other(value)
        with pytest.raises(FedcreditError) as caught:
            last.replayed(Transcript.from_bytes(encode(copy)))
        assert caught.value.exit_code == 5, path


def _other(value: object) -> object:
    return value + 1 if isinstance(value, int) else f"{value}!"


@settings(max_examples=80, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_a_transcript_is_found(last: LastRound, place: float, bit: int) -> None:
    _require_found(last, int(place * len(last.transcript.to_bytes())), bit)


@pytest.mark.slow
def test_a_flip_of_any_byte_of_a_transcript_is_found(last: LastRound) -> None:
    for place in range(len(last.transcript.to_bytes())):
        _require_found(last, place, place % 8)


def _require_found(last: LastRound, place: int, bit: int) -> None:
    data = last.transcript.to_bytes()
    with pytest.raises(FedcreditError) as caught:
        last.replayed(Transcript.from_bytes(data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]))
    assert caught.value.exit_code == 5


# --- with every digest recomputed ------------------------------------------------------------------------------------


def test_a_transcript_that_is_no_transcript_is_found(run: Path) -> None:
    path = transcripts(run)[-1]
    data = encode(["fedcredit round transcript 2", b""])
    path.write_bytes(data)
    index = places(read(run), EventKind.SUM_OPENED)[-1]
    change(run, index, {"transcript": hashlib.sha256(data).digest()})
    with pytest.raises(AuditError, match="FC-3101"):
        verify_run(run)


@pytest.mark.parametrize("half", [0, SIGNATURE_LENGTH], ids=["Ed25519", "ML-DSA-65"])
def test_either_half_of_the_manifests_signature_counts(run: Path, half: int) -> None:
    forged(
        run,
        lambda it: replace(it, manifest_signature=flipped(it.manifest_signature, half)),
        r"FC-3103: The signature of coordinator on the round manifest",
    )


def test_a_manifest_of_another_round_is_found(run: Path) -> None:
    other = Transcript.from_bytes(transcripts(run)[0].read_bytes())
    forged(run, lambda _: other, "FC-3106: The transcript does not belong here: manifest")


@pytest.mark.parametrize(
    "field",
    [
        *("consortium", "run", "round", "attempt", "purpose", "plan_digest", "roster_digest", "weights_digest"),
        *("cohort", "quorum", "epoch", "step", "log_size", "log_root", "release", "ledger_heads"),
    ],
)
def test_a_manifest_that_says_something_else_than_the_log_is_found(last: LastRound, field: str) -> None:
    """The coordinator signs what it likes, and puts the digest of it into the log."""
    honest = Manifest.from_bytes(last.transcript.manifest)
    value = getattr(honest, field)
    other: Any = value + 1 if isinstance(value, int) else bytes(32) if isinstance(value, bytes) else value[:-1]
    if field == "purpose":
        other = "evaluate"
    manifest = replace(honest, **{field: other})
    signed = replace(last.asked.signed, digest=manifest.digest())
    transcript = replace(
        last.transcript, manifest=manifest.to_bytes(), manifest_signature=sign_manifest(manifest, COORDINATOR)
    )
    lying = LastRound(transcript, replace(last.asked, signed=signed), last.rounds)
    with pytest.raises(FedcreditError, match=f"The round manifest does not belong here: {field}"):
        lying.replayed(transcript)


def test_an_upload_that_its_member_did_not_sign_is_found(run: Path) -> None:
    """The coordinator makes up an upload, signs it with the keys that it has, and puts its digest into the log."""

    def made_up(transcript: Transcript) -> Transcript:
        item = transcript.uploads[BANK]
        upload = Upload.from_bytes(item.body)
        bulk = flipped(item.bulk, 0)
        body = replace(upload, bulk_digest=hashlib.sha256(bulk).digest()).to_bytes()
        signed = SignedUpload(body, sign(COORDINATOR, tag=ANSWER_TAG, body=body), bulk)
        return replace(transcript, uploads={**transcript.uploads, BANK: signed})

    forged(run, made_up, r"FC-3103: The signature of bank-a on the upload")


def test_an_upload_whose_lanes_are_not_those_that_were_signed_is_found(run: Path) -> None:
    def other_lanes(transcript: Transcript) -> Transcript:
        item = transcript.uploads[BANK]
        return replace(transcript, uploads={**transcript.uploads, BANK: replace(item, bulk=flipped(item.bulk, 0))})

    forged(run, other_lanes, "FC-3101: Not a well-formed upload: its lanes and boxes are not those that were signed")


def test_an_upload_that_the_log_did_not_take_is_found(run: Path) -> None:
    """A member that helps the coordinator signs a second upload, which nobody has seen when the others agreed."""

    def second(transcript: Transcript) -> Transcript:
        item = transcript.uploads[BANK]
        body = replace(Upload.from_bytes(item.body), ledger_head=bytes([9]) * 32).to_bytes()
        signed = SignedUpload(body, sign(keys_of(10), tag=ANSWER_TAG, body=body), item.bulk)
        return replace(transcript, uploads={**transcript.uploads, BANK: signed})

    forged(run, second, "FC-3106: The upload of bank-a does not belong here: entry of the log")


def test_an_upload_of_somebody_outside_the_cohort_is_found(run: Path) -> None:
    def stranger(transcript: Transcript) -> Transcript:
        return replace(transcript, uploads={**transcript.uploads, InstitutionId("zeta"): transcript.uploads[BANK]})

    forged(run, stranger, "upload of zeta does not belong here: cohort")


def test_an_upload_for_another_manifest_is_found(run: Path) -> None:
    def earlier(transcript: Transcript) -> Transcript:
        item = transcript.uploads[BANK]
        body = replace(Upload.from_bytes(item.body), manifest_digest=bytes(32)).to_bytes()
        signed = SignedUpload(body, sign(keys_of(10), tag=ANSWER_TAG, body=body), item.bulk)
        return replace(transcript, uploads={**transcript.uploads, BANK: signed})

    forged(run, earlier, "upload of bank-a does not belong here: manifest")


def resigned(transcript: Transcript, selection: Selection) -> Transcript:
    body = selection.to_bytes()
    return replace(transcript, selection=body, selection_signature=sign(COORDINATOR, tag=SELECTION_TAG, body=body))


def test_a_selection_that_leaves_an_upload_out_is_found(run: Path) -> None:
    def shorter(transcript: Transcript) -> Transcript:
        honest = Selection.from_bytes(transcript.selection)
        return resigned(
            transcript,
            replace(
                honest, members=honest.members[:-1], uploads=honest.uploads[:-1], signatures=honest.signatures[:-1]
            ),
        )

    forged(run, shorter, "FC-3106: The selection does not belong here: list of uploads")


def test_a_second_selection_is_found_though_the_coordinator_signed_both(run: Path) -> None:
    """The log says that one cohort was selected; the transcript is of the other one, which no member has signed."""

    def fewer(transcript: Transcript) -> Transcript:
        honest = Selection.from_bytes(transcript.selection)
        members = honest.members[1:]
        return resigned(
            replace(transcript, uploads={name: transcript.uploads[InstitutionId(name)] for name in members}),
            replace(honest, members=members, uploads=honest.uploads[1:], signatures=honest.signatures[1:]),
        )

    forged(run, fewer, r"FC-3115|FC-3103|FC-3114")


def test_a_second_cohort_in_the_log_is_found(run: Path) -> None:
    log = read(run)
    index = places(log, EventKind.COHORT_SELECTED)[-1]
    rewrite(run, [*log[: index + 1], log[index], *log[index + 1 :]])
    with pytest.raises(AuditError, match=f"entry {index + 1} selects a second cohort"):
        verify_run(run)


def test_too_few_agreements_and_a_forged_one_are_found(run: Path, tmp_path: Path) -> None:
    def fewer(transcript: Transcript) -> Transcript:
        names = sorted(transcript.accepts)[:2]
        return replace(transcript, accepts={name: transcript.accepts[name] for name in names})

    forged(copied(run, tmp_path / "fewer"), fewer, "FC-3114: Only 2 members")
    forged(
        run,
        lambda it: replace(it, accepts={**it.accepts, FUND: flipped(it.accepts[FUND])}),
        "FC-3103: The signature of fund-c on the agreement",
    )


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        (lambda parts: (parts[0], flipped(parts[1]), parts[2]), "FC-3103: The signature of fund-c on the reveal"),
        (lambda parts: (parts[0], parts[1], flipped(parts[2])), "its shares are not those that were signed"),
        (lambda parts: _resigned_reveal(parts, selection=bytes(32)), "reveal of fund-c does not belong here: selec"),
        (lambda parts: _resigned_reveal(parts, manifest_digest=bytes(32)), "reveal of fund-c does not belong here"),
    ],
    ids=["signature", "shares", "another selection", "another round"],
)
def test_a_reveal_that_its_member_did_not_give_is_found(run: Path, changed: Callable[..., Any], problem: str) -> None:
    forged(run, lambda it: replace(it, reveals={**it.reveals, FUND: changed(it.reveals[FUND])}), problem)


def _resigned_reveal(parts: tuple[bytes, bytes, bytes], **fields: bytes) -> tuple[bytes, bytes, bytes]:
    body = replace(Reveal.from_bytes(parts[0]), **fields).to_bytes()
    return body, sign(keys_of(12), tag=ANSWER_TAG, body=body), parts[2]


def test_a_reveal_without_an_agreement_is_found(run: Path) -> None:
    forged(
        run,
        lambda it: replace(it, reveals={**it.reveals, LATE: it.reveals[FUND]}),
        "reveal of insurer-d does not belong here: agreement",
    )


def test_a_sum_that_its_reveals_do_not_open_is_found(run: Path) -> None:
    forged(run, lambda it: replace(it, reveals={FUND: it.reveals[FUND]}), "FC-3112")


def test_a_member_is_not_blamed_for_shares_that_are_right(run: Path) -> None:
    log = read(run)
    index = places(log, EventKind.SUM_OPENED)[-1]
    place = {name: log[index][1][name] for name in ("run", "round", "attempt", "purpose")}
    blame = {**place, "institution": "bank-a", "reason": "a share does not fit its commitment"}
    rewrite(run, [*log[:index], (EventKind.MEMBER_BLAMED, blame), *log[index:]])
    with pytest.raises(AuditError, match=f"entry {index + 1} blames others"):
        verify_run(run)


@pytest.mark.parametrize("liars", [1, 2])
def test_a_wrong_share_is_blamed_on_who_signed_it_as_long_as_enough_others_open_the_sum(
    tmp_path: Path, liars: int
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    made = HandRound.of(consortium).uploaded().agreed()
    reveals = {}
    for number, name in enumerate(NAMES):
        asked = made.reveal(name)
        opened = asked.open(asked.ask())
        body, signature, shares = opened.signed.body, opened.signed.signature, bytes(opened.bulk)
        if number < liars:
            shares = flipped(shares, 5 + number)  # equal errors of the first two would cancel
            body = replace(Reveal.from_bytes(body), bulk_digest=hashlib.sha256(shares).digest()).to_bytes()
            signature = sign(consortium.sites[name].keys, tag=ANSWER_TAG, body=body)
        reveals[InstitutionId(name)] = (body, signature, shares)
    if liars == 1:
        assert replayed_by_hand(consortium, made, reveals).wrong == {NAMES[0]}
    else:
        with pytest.raises(ReconstructionError):
            replayed_by_hand(consortium, made, reveals)


def replayed_by_hand(
    consortium: Consortium, made: HandRound, reveals: dict[InstitutionId, tuple[bytes, bytes, bytes]]
) -> ReplayedSum:
    """Return what follows from a round that was asked for by hand, all of whose messages are kept."""
    plan, manifest, selection = consortium.plan, made.manifest, made.sum.select().to_bytes()
    uploads, accepted = {}, {}
    for place, item in made.sum.contributions.items():
        name, body = InstitutionId(made.sum.cohort.names[place]), item.upload.to_bytes()
        uploads[name] = SignedUpload(body, item.signature, b"".join((lanes_to_bytes(item.lanes), *item.boxes)))
        fields = {"answer": item.digest, "ledger_head": item.upload.ledger_head, "cosignature": item.upload.cosignature}
        accepted[name] = Line("run.db", 1, EventKind.ANSWER_ACCEPTED, fields, bytes(32))
    assert plan.secure is not None
    transcript = Transcript(
        manifest=manifest.to_bytes(),
        manifest_signature=sign_manifest(manifest, COORDINATOR),
        lanes=consortium.family.lanes,
        lane_bits=plan.secure.lane_bits,
        threshold=plan.secure.threshold,
        selection=selection,
        selection_signature=sign(COORDINATOR, tag=SELECTION_TAG, body=selection),
        uploads=uploads,
        accepts={InstitutionId(name): signature for name, signature in made.signatures.items()},
        reveals=reveals,
    )
    opening = Opening(
        run=manifest.run,
        plan=plan,
        plan_digest=plan.digest(),
        roster_digest=consortium.roster.digest(),
        identities={site.name: site.keys.public for site in consortium.sites.values()},
        coordinator=COORDINATOR.public,
        family=consortium.family,
        privacy=privacy_plan(plan),
        records=RECORDS,
    )
    expected = ExpectedManifest(digest=manifest.digest(), fields={"cohort": manifest.cohort, "epoch": manifest.epoch})
    return replay(transcript, expected, opening, plan.secure, accepted, lanes=consortium.family.lanes)


def test_an_answer_that_was_accepted_and_then_left_out_is_found(run: Path) -> None:
    """Censorship: the log took the late member's answer, and the coordinator leaves it out without a word."""
    log = read(run)
    opened = places(log, EventKind.ROUND_OPENED)[-1]
    index = places(log, EventKind.COHORT_SELECTED)[-1]
    checkpoint = read_log(run / "run.db").checkpoint(opened, origin="fedcredit/credit/run-1")
    kind, fields = log[opened + 1]
    assert kind is EventKind.ANSWER_ACCEPTED
    note = cosign_checkpoint(checkpoint, name=LATE, keys=keys_of(13), time_s=1).to_line()
    late = {**fields, "institution": LATE, "answer": bytes([3]) * 32, "cosignature": note}
    rewrite(run, [*log[:index], (kind, late), *log[index:]])
    with pytest.raises(AuditError, match=f"entry {index + 1} leaves out insurer-d"):
        verify_run(run)
    # Said aloud, it is censorship as well, unless the members' commitments show why: nothing is kept that does.
    place = {name: fields[name] for name in ("run", "round", "attempt", "purpose")}
    blame = (EventKind.MEMBER_BLAMED, {**place, "institution": LATE, "reason": "commitments contradict"})
    rewrite(run, [*log[:index], (kind, late), blame, *log[index:]])
    with pytest.raises(AuditError, match=f"entry {index + 2} names no record"):
        verify_run(run)
    # A refused message of its is no reason once it was accepted.
    refusal = (EventKind.ANSWER_REFUSED, {**place, "institution": LATE, "code": "FC-3101"})
    rewrite(run, [*log[:index], refusal, (kind, late), *log[index:]])
    with pytest.raises(AuditError, match="leaves out insurer-d"):
        verify_run(run)
