"""Offline checks of whole runs: honest ones hold, whatever happened to them; what was exchanged afterwards is found."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from consortium import COORDINATOR, NAMES, SECURE, SHARED, TREES, Consortium, Flaky, plan_of
from kept_runs import change, copied, driven, opened_run, places, read, rewrite, setups, trained, transcripts

from fedcredit.audit.log import EventKind
from fedcredit.checkpoint import CheckpointStore
from fedcredit.config.plan import RunPlan
from fedcredit.envelope import decode_roster, encode_roster
from fedcredit.errors import AuditError, RunNotFoundError, UsageError
from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId, Roster
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import read_log
from fedcredit.rounds.run import FederatedRun


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run with masked sums in which one member was late once."""
    consortium = Consortium.make(tmp_path_factory.mktemp("secure"), plan_of(**SECURE))
    return driven(consortium, Flaky(consortium.loopback(), lambda name, number: (name, number) == ("bank-b", 6)))


@pytest.fixture
def run(secure: Path, tmp_path: Path) -> Path:
    return copied(secure, tmp_path / "run")


def refused(folder: Path, problem: str) -> int:
    """Return the index of the entry at which the verification ends."""
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    assert caught.value.exit_code == 5
    index = caught.value.fields["index"]
    assert isinstance(index, int)
    return index


# --- honest runs -----------------------------------------------------------------------------------------------------


def test_a_masked_run_in_which_one_member_was_late_holds_to_the_last_bit(secure: Path) -> None:
    evidence = verify_run(secure)
    assert (evidence.released, evidence.sums, evidence.recomputed) == (3, 4, 4)
    assert evidence.uploads == 4 + 3 + 4 + 4
    assert evidence.agreements >= 4 * 3
    assert evidence.reveals >= 4 * 3
    assert evidence.figures == 7
    assert evidence.copies == evidence.entries + 3 + 1
    assert evidence.closed
    assert evidence.final_by == NAMES
    assert evidence.final_size == places(read(secure), EventKind.ROUND_OPENED)[-1]


def test_the_log_says_of_every_member_what_its_own_ledger_says(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    evidence = verify_run(driven(consortium))
    for name, site in consortium.sites.items():
        spent = evidence.spent[InstitutionId(name)]
        assert spent.train.epsilon == site.epsilon()
        assert spent.holdout.epsilon == site.epsilon("holdout")
        assert (spent.train.releases, spent.holdout.releases) == (3, 1)
    assert evidence.accepted == {Purpose.PREPARE: 0, Purpose.TRAIN: 3, Purpose.EVALUATE: 1, Purpose.CLOSE: 0}
    assert evidence.allowed == {Purpose.PREPARE: 0, Purpose.TRAIN: 5, Purpose.EVALUATE: 3, Purpose.CLOSE: 0}


def test_of_an_open_run_the_chain_and_the_cosignatures_hold_and_sums_are_not_claimed(tmp_path: Path) -> None:
    evidence = verify_run(driven(Consortium.make(tmp_path, plan_of())))
    assert (evidence.released, evidence.sums, evidence.recomputed, evidence.figures) == (3, 0, 1, 0)
    assert evidence.cosignatures == 4 * 5
    assert evidence.final_by == NAMES


def test_trees_with_a_preparation_hold_and_a_histogram_of_nothing_costs_nothing(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES, **SECURE))
    evidence = verify_run(driven(consortium))
    assert (evidence.sums, evidence.recomputed) == (5, 5)
    assert evidence.accepted[Purpose.PREPARE] == 1
    for name, site in consortium.sites.items():
        assert evidence.spent[InstitutionId(name)].train.epsilon == site.epsilon()


def test_shared_noise_holds_and_is_told_twice(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SHARED))
    evidence = verify_run(driven(consortium))
    spent = evidence.spent[InstitutionId("bank-a")].train
    assert evidence.sums == 4
    assert spent.shared
    assert spent.epsilon_alone > spent.epsilon == consortium.sites["bank-a"].epsilon()


def test_a_run_that_has_only_begun_holds(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    with opened_run(consortium):
        pass
    evidence = verify_run(tmp_path / "run")
    assert (evidence.released, evidence.recomputed, evidence.final_size, evidence.final_by) == (0, 1, 0, ())


def test_a_run_with_failed_rounds_and_set_ups_holds(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    lost = {2: {"bank-b"}, 5: {"bank-a", "fund-c"}, 9: {"bank-a", "bank-b"}}
    folder = driven(consortium, Flaky(consortium.loopback(), lambda name, number: name in lost.get(number, ())))
    evidence = verify_run(folder)
    kinds = [kind for kind, _ in read(folder)]
    assert EventKind.ROUND_ABORTED in kinds
    assert EventKind.EPOCH_FAILED in kinds
    assert evidence.released == 3


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


def test_a_sum_that_the_coordinator_did_not_live_to_record_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    keep = FederatedRun._keep_transcript

    def keep_and_die(run: FederatedRun, name: str, transcript: bytes) -> None:
        keep(run, name, transcript)
        if "-train-" in name:
            raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(FederatedRun, "_keep_transcript", keep_and_die)
        with pytest.raises(PowerCutError):
            driven(consortium)
    assert verify_run(tmp_path / "run").unrecorded == 1
    folder = driven(consortium)
    evidence = verify_run(folder)
    assert (evidence.unrecorded, evidence.sums) == (1, 4)
    left = folder / "transcripts" / "00001-train-001.cbor"
    left.write_bytes(left.read_bytes()[:-1] + b"\x00")
    refused(folder, "transcript that does not hold")


def test_a_set_up_that_the_coordinator_did_not_live_to_record_is_checked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    keep = FederatedRun._keep_transcript

    def keep_and_die(run: FederatedRun, name: str, transcript: bytes) -> None:
        keep(run, name, transcript)
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(FederatedRun, "_keep_transcript", keep_and_die)
        with pytest.raises(PowerCutError):
            driven(consortium)
    evidence = verify_run(tmp_path / "run")
    assert (evidence.unrecorded, evidence.epochs) == (1, 0)
    folder = driven(consortium)
    evidence = verify_run(folder)
    assert (evidence.unrecorded, evidence.epochs, evidence.sums) == (1, 1, 4)
    left, whole = setups(folder)[0], setups(folder)[0].read_bytes()
    left.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(folder, "a set-up whose record does not hold")


def test_a_copy_of_the_log_may_end_where_the_coordinator_was_cut_off(run: Path) -> None:
    path = run / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:7]))
    assert verify_run(run).copies == 7 + 3 + 1
    path.unlink()
    assert verify_run(run).copies == 3 + 1


def test_without_its_figures_a_run_holds_and_nothing_is_said_of_them(run: Path) -> None:
    (run / "evaluation.json").unlink()
    evidence = verify_run(run)
    assert (evidence.evaluated, evidence.figures) == (True, 0)


# --- where a run is --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "runs/r", "coordinator/runs/r", "desk/runs/r", "demo/coordinator/runs/r"])
def test_the_only_run_below_a_folder_is_found(secure: Path, tmp_path: Path, place: str) -> None:
    copied(secure, tmp_path / "top" / place)
    assert verify_run(tmp_path / "top").folder == tmp_path / "top" / place


def test_no_run_and_several_are_told_apart(secure: Path, tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError):
        verify_run(tmp_path)
    for name in ("a", "b"):
        copied(secure, tmp_path / "runs" / name)
    with pytest.raises(UsageError, match="2 runs"):
        verify_run(tmp_path)


# --- files that were exchanged ---------------------------------------------------------------------------------------


def test_an_empty_log_is_no_evidence(run: Path) -> None:
    (run / "run.db").write_bytes(b"")
    assert refused(run, "empty") == 0
    assert (run / "run.db").read_bytes() == b""
    (run / "run.db").unlink()
    for name in ("run.db-wal", "run.db-shm", "run.db.lock"):
        (run / name).unlink(missing_ok=True)
    with pytest.raises(RunNotFoundError):
        verify_run(run)


def test_a_log_without_a_beginning_is_no_evidence(run: Path) -> None:
    rewrite(run, read(run)[1:])
    assert refused(run, "does not begin") == 0
    rewrite(run, [])
    assert refused(run, "empty") == 0


def test_a_second_opening_and_another_runs_entry_are_found(run: Path) -> None:
    log = read(run)
    rewrite(run, [*log, log[0]])
    assert refused(run, "second time") == len(log)
    rewrite(run, [*log[:-1], (log[-1][0], {**log[-1][1], "run": "another"})])
    assert refused(run, "another run") == len(log) - 1
    rewrite(run, [*log, (EventKind.REQUEST_ANSWERED, {"run": "run-1"})])
    assert refused(run, "no coordinator writes") == len(log)


def other_plan(folder: Path) -> None:
    text = (folder / "plan.toml").read_text()
    (folder / "plan.toml").write_text(text.replace("epsilon = 4.0", "epsilon = 3.0"))


def other_keys(folder: Path) -> None:
    (folder / "coordinator.cbor").write_bytes(COORDINATOR.public.to_bytes()[:-1] + b"\x00")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (other_plan, r"another plan than plan\.toml"),
        (lambda run: (run / "plan.toml").write_text("[run"), "FC-1002"),
        (lambda run: (run / "plan.toml").unlink(), "FC-1001"),
        (lambda run: (run / "roster.cbor").unlink(), r"roster\.cbor, which cannot be read"),
        (lambda run: (run / "roster.cbor").write_bytes(b"\x80"), r"another roster\.cbor"),
        (other_keys, r"another coordinator\.cbor"),
        (lambda run: CheckpointStore(run / "checkpoints").path(0).unlink(), "FC-7005"),
    ],
    ids=["plan", "broken plan", "no plan", "no roster", "roster", "coordinator", "starting point"],
)
def test_what_the_run_was_opened_for_is_found_if_it_was_exchanged(
    run: Path, damage: Callable[[Path], None], problem: str
) -> None:
    damage(run)
    assert refused(run, problem) == 0


def test_a_roster_without_a_member_of_the_plan_is_found(run: Path) -> None:
    roster = decode_roster((run / "roster.cbor").read_bytes())
    shorter = encode_roster(Roster(roster.members[:-1]))
    (run / "roster.cbor").write_bytes(shorter)
    change(run, 0, {"roster": hashlib.sha256(shorter).digest()})
    assert refused(run, r"a roster without exactly the members and keys of the plan \(FC-3204: .*insurer-d") == 0
    (run / "roster.cbor").write_bytes(b"\x80\x80")
    change(run, 0, {"roster": hashlib.sha256(b"\x80\x80").digest()})
    assert refused(run, r"names keys that are none \(FC-3101") == 0


def test_another_layout_of_the_model_is_found(run: Path) -> None:
    change(run, 0, {"layout": bytes(32)})
    assert refused(run, "another layout") == 0


def test_an_exchanged_model_is_named_by_the_entry_that_released_it(run: Path) -> None:
    store, released = CheckpointStore(run / "checkpoints"), places(read(run), EventKind.ROUND_RELEASED)
    shutil.copy(store.path(1), store.path(2))
    assert refused(run, "FC-7005") == released[1]


def test_missing_extra_exchanged_and_cut_transcripts_are_found(run: Path) -> None:
    opened, files = places(read(run), EventKind.SUM_OPENED), transcripts(run)
    (run / "transcripts" / ".00009-train-001.cbor.x.tmp").write_bytes(b"cut off by the power")
    verify_run(run)
    extra = run / "transcripts" / "00001-train-002.cbor"
    shutil.copy(files[0], extra)
    assert refused(run, r"none names the transcript 00001-train-002\.cbor") == len(read(run)) - 1
    extra.unlink()

    whole = files[1].read_bytes()
    files[1].write_bytes(whole[:-1])
    assert refused(run, "another transcript") == opened[1]
    shutil.copy(files[0], files[1])
    assert refused(run, "another transcript") == opened[1]
    files[1].unlink()
    assert refused(run, "missing") == opened[1]


def test_figures_that_do_not_follow_from_the_counts_are_found(run: Path) -> None:
    path, index = run / "evaluation.json", places(read(run), EventKind.EVALUATED)[0]
    honest = json.loads(path.read_text())
    for lie in (
        {"auc": honest["auc"] + 1e-12},
        {"auc_low": honest["auc_low"] + 0.1},
        {"contributors": honest["contributors"][:3]},
        {"precision": 0.9},
    ):
        path.write_text(json.dumps({**honest, **lie}))
        assert refused(run, r"evaluation\.json") == index
    path.write_text(json.dumps({name: value for name, value in honest.items() if name != "ks"}))
    assert refused(run, "ks") == index
    for broken in ("{", "[]"):
        path.write_text(broken)
        assert refused(run, r"evaluation\.json") == index


def test_figures_without_an_evaluation_are_found(tmp_path: Path) -> None:
    folder = trained(Consortium.make(tmp_path, plan_of(**SECURE)))
    (folder / "evaluation.json").write_text("{}")
    assert refused(folder, r"none is the evaluation") == len(read(folder)) - 1


def test_copies_that_say_something_else_than_the_log_are_found(run: Path) -> None:
    log, path = read(run), run / "audit.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:9], lines[9].replace(b"train", b"trail"), *lines[10:]]))
    assert refused(run, r"another one in audit\.jsonl") == 9
    path.write_bytes(b"".join([*lines, lines[-1]]))
    assert refused(run, r"another one in audit\.jsonl") == len(log) - 1
    path.unlink()

    rounds, released = run / "rounds.jsonl", places(log, EventKind.ROUND_RELEASED)
    told = [json.loads(line) for line in rounds.read_text().splitlines()]
    for lie, index in (
        ({"checkpoint": "00" * 32}, released[1]),
        ({"contributors": ["bank-a"]}, released[1]),
        ({"round": 7}, len(log) - 1),
        ({"round": None}, len(log) - 1),
    ):
        rounds.write_text("".join(json.dumps(line) + "\n" for line in [told[0], {**told[1], **lie}, told[2]]))
        assert refused(run, r"rounds\.jsonl") == index
    for broken in ("{", "7"):
        rounds.write_text(broken)
        assert refused(run, "does not decode") == len(log) - 1


def test_a_closing_that_the_log_does_not_tell_of_is_found(run: Path, tmp_path: Path) -> None:
    log, path = read(run), run / "closing.json"
    (closed,) = places(log, EventKind.CLOSED)
    honest = json.loads(path.read_text())
    for lie in ({"round": 2}, {"round": None}, {"contributors": honest["contributors"][:3]}):
        path.write_text(json.dumps({**honest, **lie}))
        assert refused(run, r"closes something else than closing\.json says") == closed
    path.write_text("{")
    assert refused(run, "does not decode") == len(log) - 1
    path.unlink()
    assert verify_run(run).released == 3  # a coordinator that was cut off has not written it
    folder = trained(Consortium.make(tmp_path / "other", plan_of(**SECURE)))
    (folder / "closing.json").write_text(json.dumps(honest))
    assert refused(folder, "none closes") == len(read(folder)) - 1


CHECKED = {
    "round",
    "contributors",
    "checkpoint",
    "auc",
    "ks",
    "gini",
    "brier",
    "observed_expected",
    "auc_low",
    "auc_high",
}
"""What readable files tell that follows from the log; how much was sent is the coordinator's word."""


def telling(path: Path) -> object:
    """Return what a file of a run's folder tells that can be checked."""
    if path.name == "plan.toml":
        return RunPlan.read(path).digest()
    if path.name == "run.db":
        return read_log(path).lines
    if path.suffix in {".json", ".jsonl"} and path.name != "audit.jsonl":
        records = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
        return [{name: value for name, value in json.loads(text).items() if name in CHECKED} for text in records]
    return path.read_bytes()


def require_found(run: Path, path: Path, place: int, bit: int) -> None:
    """Flip one bit of a file: it is found, or it changed nothing that anybody could check."""
    honest, whole = telling(path), path.read_bytes()
    path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << bit)]) + whole[place + 1 :])
    try:
        with pytest.raises(AuditError) as caught:
            verify_run(run)
        assert caught.value.exit_code == 5
    except pytest.fail.Exception:
        assert telling(path) == honest, (path, place, bit)
    finally:
        path.write_bytes(whole)


def files_of(run: Path) -> list[Path]:
    files = sorted(path for path in run.rglob("*") if path.is_file())
    return [path for path in files if path.name not in {"run.db.lock", "run.db-wal", "run.db-shm"}]


def test_a_flipped_bit_in_any_file_is_found_or_tells_nothing_else(run: Path) -> None:
    assert len(files_of(run)) == 4 + 5 + 8
    for number, path in enumerate(files_of(run)):
        size = path.stat().st_size
        for share in (0.02, 0.4, 0.97):
            require_found(run, path, int(share * size), number % 8)


@pytest.mark.slow
def test_flipped_bits_all_over_every_file_are_found_or_tell_nothing_else(run: Path) -> None:
    for path in files_of(run):
        for place in range(0, path.stat().st_size, 397):
            require_found(run, path, place, place % 8)


def test_a_model_without_the_answers_behind_it_is_found(run: Path) -> None:
    log = read(run)
    index = places(log, EventKind.ROUND_RELEASED)[-1]
    rewrite(run, [*log, (log[index][0], {**log[index][1], "round": 4})])
    assert refused(run, "ends a round that is not open") == len(log)
    change(run, len(log), {"round": 3})
    assert refused(run, "out of order") == len(log)
