"""Attempts that failed, members that are blamed: what was asked, and with what right, follows from what was signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bent_members import Bend, bent, first_share_changed, other_bulk, other_commitments
from consortium import COORDINATOR, NAMES, SECURE, Consortium, Flaky, keys_of, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st
from kept_runs import (
    Fields,
    attempts,
    change,
    copied,
    driven,
    opened_run,
    places,
    read,
    rewrite,
    setups,
    trained,
    transcripts,
)

from fedcredit.audit.log import EventKind
from fedcredit.crypto.signatures import sign
from fedcredit.encoding import encode
from fedcredit.envelope import ANSWER_TAG, sign_manifest
from fedcredit.errors import AuditError, DiskFullError, MalformedMessageError, QuorumError, SumNotOpenedError
from fedcredit.messages import Manifest, Signed, Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.run import FederatedRun
from fedcredit.rounds.transcript import AttemptRecord
from fedcredit.secagg.wire import Upload

LIAR, HONEST = InstitutionId("bank-b"), InstitutionId("fund-c")
ENDS = (EventKind.ROUND_ABORTED, EventKind.EPOCH_FAILED)


@pytest.fixture(scope="module")
def blaming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of two rounds, in each of which one member contradicts all others and is left out."""
    consortium = Consortium.make(tmp_path_factory.mktemp("blaming"), plan_of(**SECURE, **{"run/rounds": 2}))
    bent(consortium, LIAR, Stage.UPLOAD, other_commitments(3))
    return trained(consortium)


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose last round failed at the uploads, at the agreement and at the shares."""
    consortium = Consortium.make(tmp_path_factory.mktemp("failing"), plan_of(**SECURE, **{"run/rounds": 1}))
    # A set-up has two exchanges; the first attempt ends with its third, the second with the seventh, and so on.
    lost = {3: {"bank-a", "bank-b"}, 7: {"bank-a", "fund-c"}, 12: {"bank-a", "fund-c"}}
    flaky = Flaky(consortium.loopback(), lambda name, number: name in lost.get(number, ()))
    with pytest.raises((QuorumError, SumNotOpenedError)):
        trained(consortium, flaky)
    return consortium.folder / "run"


@pytest.fixture
def run(blaming: Path, tmp_path: Path) -> Path:
    return copied(blaming, tmp_path / "run")


@pytest.fixture
def failed(failing: Path, tmp_path: Path) -> Path:
    return copied(failing, tmp_path / "failed")


def refused(folder: Path, index: int, problem: str) -> None:
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    assert (caught.value.fields["index"], caught.value.exit_code) == (index, 5)


def naming(folder: Path) -> list[int]:
    """Return the entries that name the record of an attempt."""
    return [index for index, (_, fields) in enumerate(read(folder)) if "record" in fields]


def edited(folder: Path, changed: Callable[[AttemptRecord], AttemptRecord]) -> int:
    """Change the last record, and the entry that names it; return the index of that entry."""
    path, index = attempts(folder)[-1], naming(folder)[-1]
    data = changed(AttemptRecord.from_bytes(path.read_bytes())).to_bytes()
    path.write_bytes(data)
    change(folder, index, {"record": hashlib.sha256(data).digest()})
    return index


# --- honest runs -----------------------------------------------------------------------------------------------------


def test_who_contradicts_the_others_is_blamed_and_the_record_shows_it(blaming: Path) -> None:
    evidence = verify_run(blaming)
    assert (evidence.released, evidence.attempts, evidence.blames) == (2, 2, 2)
    assert (evidence.unkept, evidence.cut_off, evidence.unrecorded) == (0, 0, 0)
    assert [path.name for path in attempts(blaming)] == ["00001-train-001-attempt.cbor", "00002-train-001-attempt.cbor"]
    log = read(blaming)
    assert [log[index][0] for index in naming(blaming)] == [EventKind.COHORT_SELECTED] * 2
    record = AttemptRecord.from_bytes(attempts(blaming)[0].read_bytes())
    assert sorted(record.uploads) == sorted(NAMES)
    assert AttemptRecord.from_bytes(record.to_bytes()) == record


def test_attempts_that_failed_at_every_stage_are_kept_without_anything_that_was_masked(failing: Path) -> None:
    evidence, log = verify_run(failing), read(failing)
    aborted = [log[index][1] for index in places(log, EventKind.ROUND_ABORTED)]
    assert [(fields["purpose"], fields["stage"]) for fields in aborted] == [
        ("train", "upload"),
        ("train", "accept"),
        ("train", "reveal"),
    ]
    assert (evidence.attempts, evidence.cut_off, evidence.blames) == (3, 0, 0)
    records = [AttemptRecord.from_bytes(path.read_bytes()) for path in attempts(failing)]
    assert [len(record.uploads) for record in records] == [2, 4, 4]
    # Neither the numbers nor the boxes: 5 kB for four members, of which 3.4 are the coordinator's signatures.
    assert max(path.stat().st_size for path in attempts(failing)) < 3373 + 700 + 4 * 500


def test_set_ups_that_failed_are_kept_as_well(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    lost = {1: {"bank-a", "bank-b"}, 3: {"fund-c"}}
    folder = trained(consortium, Flaky(consortium.loopback(), lambda name, number: name in lost.get(number, ())))
    log = read(folder)
    ends = [(kind, fields["purpose"], fields.get("stage")) for kind, fields in log if kind in ENDS]
    assert ends == [(EventKind.ROUND_ABORTED, "setup", "keys"), (EventKind.EPOCH_FAILED, "setup", None)]
    evidence = verify_run(folder)
    assert (evidence.attempts, evidence.cut_off, evidence.epochs) == (2, 0, 1)
    assert [path.name for path in attempts(folder)] == ["00000-setup-001-attempt.cbor", "00000-setup-002-attempt.cbor"]
    assert len(setups(folder)) == 1


def test_attempts_of_open_rounds_and_of_closings_are_kept_without_their_answers(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**{"run/rounds": 1, "rounds/quorum": 3}))
    lost = {1: {"bank-a", "bank-b"}, 4: {"bank-a", "fund-c"}}
    folder = driven(consortium, Flaky(consortium.loopback(), lambda name, number: name in lost.get(number, ())))
    evidence, log = verify_run(folder), read(folder)
    purposes = [log[index][1]["purpose"] for index in places(log, EventKind.ROUND_ABORTED)]
    assert purposes == ["train", "close"]
    assert (evidence.attempts, evidence.cut_off) == (2, 0)
    assert not any(AttemptRecord.from_bytes(path.read_bytes()).uploads for path in attempts(folder))


def test_two_who_contradict_each_other_are_both_blamed_and_the_attempt_is_given_up(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1}))
    bent(consortium, LIAR, Stage.UPLOAD, other_commitments(1))
    with pytest.raises(SumNotOpenedError):
        trained(consortium)
    folder = tmp_path / "run"
    evidence = verify_run(folder)
    failed = len(places(read(folder), EventKind.ROUND_ABORTED))
    assert (evidence.attempts, evidence.blames, evidence.sums) == (failed, 2 * failed, 0)
    # One of the two is not blamed: the coordinator takes sides.
    log = read(folder)
    one = places(log, EventKind.MEMBER_BLAMED)[-1]
    rewrite(folder, [*log[:one], *log[one + 1 :]])
    refused(folder, len(log) - 2, "blames bank-a for contradicting others, .* show bank-a, bank-b")


def test_a_wrong_share_is_blamed_by_the_transcript_of_its_sum(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1}))
    bent(consortium, "bank-a", Stage.REVEAL, other_bulk(first_share_changed))
    folder = trained(consortium)
    evidence = verify_run(folder)
    assert (evidence.blames, evidence.attempts, evidence.sums) == (1, 0, 1)


def test_a_run_of_an_older_coordinator_holds_and_says_what_it_did_not_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcredit.rounds.run.RECORDS", 1)
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1}))
    bent(consortium, LIAR, Stage.UPLOAD, other_commitments(3))
    folder = trained(consortium)
    assert verify_run(folder).attempts == 1  # what is there is checked, whatever the version says
    index = naming(folder)[0]
    kind, fields = read(folder)[index]
    log = read(folder)
    log[index] = kind, {name: value for name, value in fields.items() if name != "record"}
    rewrite(folder, log)
    attempts(folder)[0].unlink()
    evidence = verify_run(folder)
    assert (evidence.attempts, evidence.unkept, evidence.blames, evidence.released) == (0, 1, 0, 1)


# --- records that were removed or made up ----------------------------------------------------------------------------


@pytest.fixture(params=["left out", "failed"])
def either(request: pytest.FixtureRequest, run: Path, failed: Path) -> Path:
    """Return a run whose last record is of somebody left out of a sum, and one of an attempt without a sum."""
    return run if request.param == "left out" else failed


def test_a_record_that_was_removed_is_found(either: Path) -> None:
    attempts(either)[-1].unlink()
    refused(either, naming(either)[-1], "names a transcript that is missing: .*-attempt.cbor")


def test_an_entry_that_names_no_record_is_found(either: Path) -> None:
    index, log = naming(either)[-1], read(either)
    log[index] = log[index][0], {name: value for name, value in log[index][1].items() if name != "record"}
    rewrite(either, log)
    refused(either, index, "names no record of what was asked")


def test_a_record_of_another_attempt_is_found(either: Path) -> None:
    first = AttemptRecord.from_bytes(attempts(either)[0].read_bytes())
    refused(either, edited(either, lambda _: first), "The transcript does not belong here: manifest")


def test_a_file_that_no_entry_names_is_found(either: Path) -> None:
    attempts(either)[-1].with_name("00001-train-009-attempt.cbor").write_bytes(attempts(either)[-1].read_bytes())
    refused(either, len(read(either)) - 1, "none names the transcript 00001-train-009-attempt.cbor")


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x01" * 50, b"\x84"], ids=["empty", "nothing", "junk", "cut"])
def test_a_record_that_does_not_decode_is_found(either: Path, data: bytes) -> None:
    index = naming(either)[-1]
    attempts(either)[-1].write_bytes(data)
    refused(either, index, "names another record than")
    change(either, index, {"record": hashlib.sha256(data).digest()})
    refused(either, index, r"a record that does not hold: .*-attempt.cbor \(FC-31")


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_in_a_record_is_found_though_its_digest_is_made_to_match(
    blaming: Path, tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    folder = copied(blaming, tmp_path_factory.mktemp("flip") / "run")
    path, index = attempts(folder)[-1], naming(folder)[-1]
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    change(folder, index, {"record": hashlib.sha256(data).digest()})
    refused(folder, index, r"FC-3")


def test_an_upload_that_its_member_did_not_sign_is_found(either: Path) -> None:
    """To make somebody contradict others the coordinator needs that member's key."""

    def forged(record: AttemptRecord) -> AttemptRecord:
        upload = Upload.from_bytes(record.uploads[HONEST].body)
        body = replace(upload, commitments=(upload.commitments[0], *(bytes(32),) * 3)).to_bytes()
        item = Signed(body=body, signature=sign(COORDINATOR, tag=ANSWER_TAG, body=body))
        return replace(record, uploads={**record.uploads, HONEST: item})

    refused(either, edited(either, forged), "FC-3103: The signature of fund-c on the upload")


def test_an_upload_that_the_log_did_not_take_is_found(either: Path) -> None:
    def second(record: AttemptRecord) -> AttemptRecord:
        body = replace(Upload.from_bytes(record.uploads[HONEST].body), ledger_head=bytes([9]) * 32).to_bytes()
        item = Signed(body=body, signature=sign(keys_of(12), tag=ANSWER_TAG, body=body))
        return replace(record, uploads={**record.uploads, HONEST: item})

    refused(either, edited(either, second), "upload of fund-c does not belong here: entry of the log")


def test_an_upload_for_another_attempt_is_found(either: Path) -> None:
    first = AttemptRecord.from_bytes(attempts(either)[0].read_bytes())
    name = sorted(first.uploads)[-1]

    def earlier(record: AttemptRecord) -> AttemptRecord:
        return replace(record, uploads={**record.uploads, name: first.uploads[name]})

    refused(either, edited(either, earlier), f"upload of {name} does not belong here: manifest")


def test_an_upload_that_is_left_out_of_the_record_is_found(either: Path) -> None:
    def without(record: AttemptRecord) -> AttemptRecord:
        return replace(record, uploads={name: item for name, item in record.uploads.items() if name != HONEST})

    refused(either, edited(either, without), "attempt record does not belong here: uploads, without that of fund-c")


def test_an_upload_of_somebody_who_was_not_asked_is_found(either: Path) -> None:
    def stranger(record: AttemptRecord) -> AttemptRecord:
        return replace(record, uploads={**record.uploads, InstitutionId("zeta"): record.uploads[HONEST]})

    refused(either, edited(either, stranger), "upload of zeta does not belong here: cohort")


@pytest.mark.parametrize("half", [0, 64], ids=["Ed25519", "ML-DSA-65"])
def test_either_half_of_the_manifests_signature_counts(either: Path, half: int) -> None:
    def unsigned(record: AttemptRecord) -> AttemptRecord:
        signature = bytearray(record.manifest_signature)
        signature[half] ^= 1
        return replace(record, manifest_signature=bytes(signature))

    refused(either, edited(either, unsigned), "FC-3103: The signature of coordinator on the round manifest")


@pytest.mark.parametrize(
    "fields",
    [
        {"weights_digest": bytes(32)},
        {"release": 7},
        {"radii": (5, 5, 5, 5)},
        {"log_root": bytes(32)},
        {"cohort": ("bank-a", "bank-b", "fund-c")},
        {"step": 3},
        {"quorum": 2},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_manifest_that_asks_something_else_than_the_log_says_is_found(either: Path, fields: Fields) -> None:
    """The coordinator signs what it likes, and puts the digest of it into the log."""
    record = AttemptRecord.from_bytes(attempts(either)[-1].read_bytes())
    manifest = replace(Manifest.from_bytes(record.manifest), **fields)
    log = read(either)
    change(either, places(log, EventKind.ROUND_OPENED)[-1], {"manifest": manifest.digest()})

    def other(record: AttemptRecord) -> AttemptRecord:
        return replace(record, manifest=manifest.to_bytes(), manifest_signature=sign_manifest(manifest, COORDINATOR))

    (name,) = fields
    refused(either, edited(either, other), f"The round manifest does not belong here: {name}")


# --- false blame -----------------------------------------------------------------------------------------------------


def blame(place: Fields, name: str) -> tuple[EventKind, Any]:
    return EventKind.MEMBER_BLAMED, {**place, "institution": name, "reason": "commitments contradict those of others"}


def place_of(fields: Fields) -> Fields:
    return {name: fields[name] for name in ("run", "round", "attempt", "purpose")}


def test_another_than_the_liar_is_not_blamed_in_its_place(run: Path) -> None:
    log = read(run)
    at, selected = places(log, EventKind.MEMBER_BLAMED)[-1], naming(run)[-1]
    log[at] = blame(place_of(log[at][1]), HONEST)
    log[selected] = log[selected][0], {**log[selected][1], "contributors": sorted({*NAMES} - {HONEST})}
    rewrite(run, log)
    refused(run, selected, "blames fund-c for contradicting others, where the commitments show bank-b")


def test_a_blamed_member_is_not_added_up(run: Path) -> None:
    selected = naming(run)[-1]
    change(run, selected, {"contributors": sorted(NAMES)})
    refused(run, selected, "takes the answer of a member that it blames")


def test_nobody_is_blamed_for_a_contradiction_where_a_failed_attempt_shows_none(failed: Path) -> None:
    log = read(failed)
    at = places(log, EventKind.COHORT_SELECTED)[-1]
    aborted = places(log, EventKind.ROUND_ABORTED)[-1]
    place = place_of(log[at][1])
    # The selection is taken out, so that the attempt ends with the blame.
    rewrite(failed, [*log[:at], blame(place, HONEST), *log[at + 1 :]])
    refused(failed, aborted, "blames fund-c for contradicting others, where the commitments show nobody")


def test_nobody_is_blamed_for_shares_of_a_sum_that_was_not_opened(failed: Path) -> None:
    log = read(failed)
    aborted = places(log, EventKind.ROUND_ABORTED)[-1]
    rewrite(failed, [*log[:aborted], blame(place_of(log[aborted][1]), HONEST), *log[aborted:]])
    refused(failed, aborted + 1, "blames members for the shares of no sum")
    rewrite(failed, [*log[:aborted], blame(place_of(log[aborted][1]), HONEST)])
    refused(failed, aborted, "comes behind a round that blames a member, and then has neither")


def test_a_round_that_blames_somebody_and_then_just_ends_is_found(run: Path) -> None:
    log = read(run)
    at = places(log, EventKind.MEMBER_BLAMED)[-1]
    rewrite(run, log[: at + 1])
    for path in (*attempts(run)[1:], *transcripts(run)[1:]):
        path.unlink()
    (run / "rounds.jsonl").unlink(missing_ok=True)
    refused(run, at, "comes behind a round that blames a member")


def test_nobody_is_blamed_whose_masked_answer_the_log_does_not_hold(run: Path, tmp_path: Path) -> None:
    log = read(run)
    opened = places(log, EventKind.ROUND_OPENED)[-1]
    rewrite(run, [*log[: opened + 1], blame(place_of(log[opened][1]), HONEST), *log[opened + 1 :]])
    refused(run, opened + 1, "blames somebody whose masked answer it does not hold")
    plain = trained(Consortium.make(tmp_path / "plain", plan_of(**{"run/rounds": 1})))
    log = read(plain)
    end = places(log, EventKind.ROUND_RELEASED)[-1]
    rewrite(plain, [*log[:end], blame(place_of(log[end - 1][1]), HONEST), *log[end:]])
    refused(plain, end, "blames somebody whose masked answer it does not hold")


def test_a_selection_of_other_uploads_than_the_record_holds_is_found(either: Path) -> None:
    selected = places(read(either), EventKind.COHORT_SELECTED)[-1]
    change(either, selected, {"selection": bytes(32)})
    refused(either, naming(either)[-1], "names another selection than its uploads give")


# --- a coordinator that was cut off ----------------------------------------------------------------------------------


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


def test_a_record_that_the_coordinator_did_not_live_to_name_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1}))
    keep = FederatedRun._keep_transcript

    def keep_and_die(run: FederatedRun, name: str, transcript: bytes) -> None:
        keep(run, name, transcript)
        if "-attempt" in name:
            raise PowerCutError

    flaky = Flaky(consortium.loopback(), lambda name, number: number == 3 and name < "c")
    with monkeypatch.context() as patched:
        patched.setattr(FederatedRun, "_keep_transcript", keep_and_die)
        with pytest.raises(PowerCutError):
            trained(consortium, flaky)
    folder = tmp_path / "run"
    evidence = verify_run(folder)
    assert (evidence.unrecorded, evidence.attempts, evidence.cut_off) == (1, 0, 0)
    for site in consortium.sites.values():
        site.reopen()
    trained(consortium)
    assert (verify_run(folder).unrecorded, verify_run(folder).released) == (1, 1)
    path = attempts(folder)[0]
    record = AttemptRecord.from_bytes(path.read_bytes())
    lying = replace(Manifest.from_bytes(record.manifest), release=1)
    path.write_bytes(
        replace(record, manifest=lying.to_bytes(), manifest_signature=sign_manifest(lying, COORDINATOR)).to_bytes()
    )
    with pytest.raises(AuditError, match=r"a record that does not hold: 00001-train-001-attempt\.cbor"):
        verify_run(folder)


@pytest.mark.parametrize(
    ("stage", "lie", "name"),
    [
        (Stage.UPLOAD, other_commitments(3), "00001-train-001-attempt.cbor"),
        (Stage.UPLOAD, other_commitments(1), "00001-train-001-attempt.cbor"),
        (Stage.REVEAL, other_bulk(first_share_changed), "00001-train-001.cbor"),
    ],
    ids=["left out", "no cohort", "a wrong share"],
)
def test_nobody_is_blamed_before_what_shows_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Stage, lie: Bend, name: str
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1}))
    bent(consortium, "bank-a", stage, lie)
    keep = FederatedRun._keep_transcript

    def full(run: FederatedRun, kept: str, transcript: bytes) -> None:
        if kept == name:
            raise DiskFullError(path=kept)
        keep(run, kept, transcript)

    monkeypatch.setattr(FederatedRun, "_keep_transcript", full)
    with pytest.raises(DiskFullError):
        trained(consortium)
    assert places(read(tmp_path / "run"), EventKind.MEMBER_BLAMED) == []
    assert verify_run(tmp_path / "run").cut_off == 1


def test_an_attempt_without_an_end_is_counted(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1}))

    def dying(name: str, number: int) -> bool:
        if number == 4:
            raise PowerCutError
        return False

    with opened_run(consortium, Flaky(consortium.loopback(), dying)) as opened, pytest.raises(PowerCutError):
        next(opened.run.rounds())
    evidence = verify_run(tmp_path / "run")
    assert (evidence.cut_off, evidence.attempts, evidence.released) == (1, 0, 0)


# --- the format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uploads", [{"bank-a": [b"one"]}, {"bank-a": b"one"}, {"bank-a": [b"one", 2]}, []])
def test_what_is_no_record_of_an_attempt_is_refused(uploads: Any) -> None:
    with pytest.raises(MalformedMessageError, match="attempt record"):
        AttemptRecord.from_bytes(encode(["fedcredit attempt record 1", b"", b"", uploads]))
