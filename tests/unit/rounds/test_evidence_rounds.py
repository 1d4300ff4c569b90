"""A log whose owner rewrote it, chain and all: every entry has to follow from those before it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consortium import SECURE, TREES, Consortium, Flaky, plan_of
from kept_runs import Fields, Log, attempt_of, copied, driven, places, read, rewrite, trained, transcripts

from fedcredit.audit.log import EventKind
from fedcredit.errors import AuditError, QuorumError
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.run import FederatedRun

UNSEEN = {"ledger_head"}
"""What an accepted answer says behind the last cosigned state: only the member's own log can vouch for it."""


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(Consortium.make(tmp_path_factory.mktemp("closed"), plan_of(**SECURE, **{"run/rounds": 2})))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(Consortium.make(tmp_path_factory.mktemp("kept"), plan_of(**SECURE, **{"run/rounds": 2})))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(Consortium.make(tmp_path_factory.mktemp("plain"), plan_of(**{"run/rounds": 2})))


@pytest.fixture
def run(kept: Path, tmp_path: Path) -> Path:
    return copied(kept, tmp_path / "run")


def other(value: Any) -> Any:
    if isinstance(value, bytes):
        return bytes([value[0] ^ 1]) + value[1:]
    if isinstance(value, list):
        return value[:-1] or [1]
    return value + 1 if isinstance(value, int) else f"{value}x"


def ending(folder: Path, log: Log) -> int | None:
    """Return the entry at which the verification of ``log`` ends; ``None`` if it holds."""
    rewrite(folder, log)
    try:
        verify_run(folder)
    except AuditError as error:
        index = error.fields["index"]
        assert isinstance(index, int)
        return index
    return None


def without(fields: Fields, name: str) -> Fields:
    return {key: value for key, value in fields.items() if key != name}


@pytest.mark.parametrize("gone", [False, True], ids=["changed", "missing"])
def test_a_field_of_any_entry_that_is_changed_is_found(closed: Path, tmp_path: Path, gone: bool) -> None:
    """The last entry of every kind, and where it lies behind the last cosigned state one before it."""
    folder = copied(closed, tmp_path / "run")
    log = read(folder)
    last = places(log, EventKind.ROUND_OPENED)[-1]
    sample = {(kind, index > last and not gone): index for index, (kind, _) in enumerate(log)}
    _require_found(folder, log, list(sample.values()), last, gone=gone)


@pytest.mark.slow
def test_every_field_of_every_entry_that_is_changed_is_found(tmp_path: Path) -> None:
    folder = driven(Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 1})))
    log = read(folder)
    _require_found(folder, log, list(range(len(log))), places(log, EventKind.ROUND_OPENED)[-1], gone=False)


def _require_found(folder: Path, log: Log, indices: list[int], last: int, *, gone: bool) -> None:
    for index in indices:
        kind, fields = log[index]
        for name, value in fields.items():
            changed = without(fields, name) if gone else {**fields, name: other(value)}
            found = ending(folder, [*log[:index], (kind, changed), *log[index + 1 :]])
            unseen = index > last and kind is EventKind.ANSWER_ACCEPTED and name in UNSEEN and not gone
            assert (found is None) is unseen, (index, kind, name)
            assert found is None or found >= index


@pytest.mark.parametrize("step", [-1, 1], ids=["dropped", "twice"])
def test_an_entry_that_is_dropped_or_doubled_is_found(closed: Path, tmp_path: Path, step: int) -> None:
    folder = copied(closed, tmp_path / "run")
    log = read(folder)
    for index in range(len(log) - 1):
        changed = [*log[:index], *log[index + 1 :]] if step < 0 else [*log[: index + 1], *log[index:]]
        found = ending(folder, changed)
        # A run that is not said to be closed claims less, and is told so.
        assert found is not None or (step < 0 and log[index][0] is EventKind.CLOSED), (index, log[index])


def edited(folder: Path, at: int, kind: EventKind, fields: Fields, problem: str) -> None:
    """Check that an entry put into the log at ``at`` is refused there."""
    log = read(folder)
    rewrite(folder, [*log[:at], (kind, fields), *log[at:]])
    with pytest.raises(AuditError, match=f"entry {at} {problem}"):
        verify_run(folder)


def opening(log: Log, **fields: Any) -> Fields:
    """Return the last entry that opened a round, with other fields."""
    return {**log[places(log, EventKind.ROUND_OPENED)[-1]][1], "manifest": bytes([7]) * 32, **fields}


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({}, "opens a round a second time"),
        ({"attempt": 0}, "opens a round a second time"),
        ({"attempt": 2}, "opens a round out of turn"),
        ({"round": 3}, "opens a round that the plan does not have"),
        ({"round": 0}, "opens a round out of turn"),
        ({"purpose": "prepare", "round": 1}, "opens a preparation that the plan does not have"),
        ({"purpose": "close", "round": 1}, "opens a round out of turn"),
        ({"purpose": "gossip"}, "has a purpose that no round has"),
        ({"purpose": "evaluate", "manifest": b"short"}, "reuses a manifest"),
        ({"purpose": "evaluate", "cohort": ["fund-c", "bank-a", "bank-b"]}, "names a cohort out of order"),
        (
            {"purpose": "evaluate", "cohort": ["bank-a", "bank-b"]},
            "asks others than the plan's institutions, or too few",
        ),
        ({"purpose": "evaluate", "cohort": ["a", "b", "c"]}, "asks others than the plan's institutions, or too few"),
        (
            {"purpose": "evaluate", "cohort": ["bank-a", "bank-b", "fund-c"]},
            "asks others than the members of the epoch",
        ),
        ({"purpose": "close", "cohort": ["bank-a", "bank-b", "fund-c"]}, "does not ask every institution"),
        ({"purpose": "evaluate", "weights": bytes(32)}, "asks with other weights than the log released last"),
    ],
)
def test_a_round_that_is_not_due_or_asks_for_something_else_is_found(run: Path, fields: Fields, problem: str) -> None:
    log = read(run)
    released = log[places(log, EventKind.ROUND_RELEASED)[-1]][1]["released"]
    asked = opening(log, weights=released, **fields) if "weights" not in fields else opening(log, **fields)
    if fields.get("purpose") in {"evaluate", "close", "prepare"}:
        asked = {**asked, "attempt": 1}
    edited(run, len(log), EventKind.ROUND_OPENED, asked, problem)


def test_an_earlier_manifest_is_not_used_again(run: Path) -> None:
    log = read(run)
    index = places(log, EventKind.ROUND_OPENED)[-1]
    fields = opening(log, purpose="evaluate", manifest=log[index][1]["manifest"])
    edited(run, len(log), EventKind.ROUND_OPENED, fields, "reuses a manifest")


def test_masked_answers_before_any_epoch_are_found(run: Path) -> None:
    log = read(run)
    first = places(log, EventKind.ROUND_OPENED)[1]
    edited(run, 1, EventKind.ROUND_OPENED, log[first][1], "asks for masked answers before any keys were agreed on")


def test_trees_are_not_trained_before_their_preparation(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES))
    folder = trained(consortium)
    log = read(folder)
    (prepared,) = places(log, EventKind.PREPARED)
    again = {**log[places(log, EventKind.ROUND_OPENED)[0]][1], "attempt": 2, "manifest": bytes([7]) * 32}
    assert ending(copied(folder, tmp_path / "again"), [*log[: prepared + 1], (EventKind.ROUND_OPENED, again)]) == (
        prepared + 1
    )
    train = log[places(log, EventKind.ROUND_OPENED)[1]][1]
    assert ending(copied(folder, tmp_path / "early"), [log[0], (EventKind.ROUND_OPENED, train)]) == 1
    second = {**log[prepared][1], "parent": log[prepared][1]["checkpoint"]}
    assert ending(folder, [*log[: prepared + 1], (EventKind.PREPARED, second)]) == prepared + 1


def test_a_set_up_without_secure_aggregation_is_found(plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "run")
    fields = opening(read(folder), round=0, purpose="setup", attempt=1)
    edited(folder, 1, EventKind.ROUND_OPENED, fields, "sets up keys that the plan has no use for")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"manifest": bytes(32)}, "names another set-up"),
        ({"cohort": ["bank-b", "bank-a", "fund-c"]}, "names others than were asked"),
        ({"cohort": ["bank-a", "bank-b"]}, "agrees on keys with too few members"),
        ({"epoch": bytes(32)}, "names no epoch"),
        ({"attempt": 2}, "does not belong to the round that is open"),
    ],
)
def test_an_epoch_that_does_not_fit_its_set_up_is_found(run: Path, fields: Fields, problem: str) -> None:
    log = read(run)
    index = places(log, EventKind.EPOCH_READY)[0]
    rewrite(run, [*log[:index], (log[index][0], {**log[index][1], **fields}), *log[index + 1 :]])
    with pytest.raises(AuditError, match=f"entry {index} {problem}"):
        verify_run(run)


def test_keys_are_agreed_on_in_a_set_up_only(run: Path) -> None:
    log = read(run)
    ready, opened = places(log, EventKind.EPOCH_READY)[0], places(log, EventKind.ROUND_OPENED)[-1]
    place = {name: log[opened][1][name] for name in ("round", "attempt", "purpose")}
    edited(run, opened + 1, EventKind.EPOCH_READY, {**log[ready][1], **place}, "does not belong to the round")


Edit = Callable[[Fields], Fields]


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (lambda it: {**it, "institution": "nobody"}, "takes an answer of somebody who was not asked"),
        (lambda it: {**it, "answer": b"short"}, "names no answer"),
        (lambda it: {**it, "ledger_head": b"short"}, "names no answer"),
        (lambda it: {**it, "log_size": 1}, "names another state of the log than its round"),
        (lambda it: {**it, "cosignature": it["cosignature"].replace("A", "B")}, "has a cosignature that does not hold"),
        (lambda it: {**it, "cosignature": "no line"}, r"has a cosignature that does not hold \(FC-3305"),
        (lambda it: {**it, "institution": "bank-b"}, r"has a cosignature that does not hold \(FC-3103"),
        (lambda it: {**it, "round": 1}, "does not belong to the round that is open"),
    ],
)
def test_an_answer_that_does_not_fit_its_round_is_found(run: Path, edit: Edit, problem: str) -> None:
    log = read(run)
    index = places(log, EventKind.ROUND_OPENED)[-1] + 1
    kind, fields = log[index]
    assert (kind, fields["institution"]) == (EventKind.ANSWER_ACCEPTED, "bank-a")
    rewrite(run, [*log[:index], (kind, edit(fields)), *log[index + 1 :]])
    with pytest.raises(AuditError, match=f"entry {index} {problem}"):
        verify_run(run)


def test_answers_come_once_before_the_selection_and_never_in_a_set_up(run: Path) -> None:
    log = read(run)
    opened = places(log, EventKind.ROUND_OPENED)
    answer = log[opened[-1] + 1][1]
    for at, fields, problem in (
        (opened[-1] + 2, answer, "takes a second answer of one member"),
        (places(log, EventKind.SUM_OPENED)[-1], answer, "takes an answer that nobody asked for"),
        (opened[0] + 1, {**answer, "round": 0, "purpose": "setup"}, "takes an answer that nobody asked for"),
    ):
        edited(run, at, EventKind.ANSWER_ACCEPTED, fields, problem)
        rewrite(run, log)


def test_selections_and_sums_belong_to_masked_rounds_and_come_once(run: Path, plain: Path, tmp_path: Path) -> None:
    log = read(run)
    selected, opened = places(log, EventKind.COHORT_SELECTED)[-1], places(log, EventKind.SUM_OPENED)[-1]
    selection, total = log[selected][1], log[opened][1]
    swapped = {**selection, "contributors": selection["contributors"][::-1]}
    for at, kind, fields, problem in (
        (selected, EventKind.COHORT_SELECTED, swapped, "names its members out of order"),
        (selected, EventKind.SUM_OPENED, total, "opens a sum of no cohort"),
        (opened + 1, EventKind.SUM_OPENED, total, "opens a second sum of one round"),
    ):
        edited(run, at, kind, fields, problem)
        rewrite(run, log)
    folder = copied(plain, tmp_path / "plain")
    at = places(read(folder), EventKind.ROUND_RELEASED)[-1]
    edited(folder, at, EventKind.COHORT_SELECTED, selection, "selects a cohort for an open question")


def test_a_round_without_its_sum_or_after_its_end_releases_nothing(run: Path) -> None:
    log = read(run)
    opened, released = places(log, EventKind.SUM_OPENED)[-1], places(log, EventKind.ROUND_RELEASED)[-1]
    assert ending(run, [*log[:opened], *log[opened + 1 :]]) == opened
    place = {name: log[opened][1][name] for name in ("run", "round", "attempt", "purpose")}
    aborted = {**place, "stage": "reveal", "missing": [], "refused": []}
    # A sum that was opened and is in range is not given up either.
    assert ending(run, [*log[:released], (EventKind.ROUND_ABORTED, aborted), log[released]]) == released
    # Given up before it was opened, it cannot be opened any more; what was asked has to be on record then.
    assert ending(run, [*log[:opened], (EventKind.ROUND_ABORTED, aborted), *log[opened:]]) == opened
    aborted["record"] = attempt_of(run, transcripts(run)[-1])
    assert ending(run, [*log[:opened], (EventKind.ROUND_ABORTED, aborted), *log[opened:]]) == opened + 1


def test_a_state_that_too_few_cosigned_ends_no_round(plain: Path, tmp_path: Path) -> None:
    folder = copied(plain, tmp_path / "run")
    log = read(folder)
    released = places(log, EventKind.ROUND_RELEASED)[-1]
    missing = [*log[: released - 1], log[released]]
    rewrite(folder, missing)
    with pytest.raises(AuditError, match="answers the log does not hold, or too few"):
        verify_run(folder)


def test_an_open_round_counts_everybody_who_answered(plain: Path, tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**{"run/rounds": 1, "rounds/quorum": 3}))
    folder = trained(consortium)
    log = read(folder)
    kind, fields = log[-1]
    rewrite(folder, [*log[:-1], (kind, {**fields, "contributors": fields["contributors"][:3]})])
    with pytest.raises(AuditError, match="other contributors than the answers in its sum"):
        verify_run(folder)


def test_the_end_of_a_run_comes_once_and_names_what_was_released(closed: Path, tmp_path: Path) -> None:
    folder = copied(closed, tmp_path / "run")
    log = read(folder)
    (shut,), (finished,) = places(log, EventKind.CLOSED), places(log, EventKind.RUN_FINISHED)
    end, finish = log[shut][1], log[finished][1]
    released = places(log, EventKind.ROUND_RELEASED)[-1]
    for at, kind, fields, problem in (
        (finished + 1, EventKind.RUN_FINISHED, finish, "finishes the run a second time"),
        (released, EventKind.RUN_FINISHED, finish, "finishes before the last round"),
        (finished, EventKind.RUN_FINISHED, {**finish, "checkpoint": bytes(32)}, "finishes with another model"),
        (shut, EventKind.CLOSED, {**end, "log_size": 3}, "closes another state of the log than was cosigned"),
        (shut + 1, EventKind.CLOSED, end, "ends a round that is not open"),
    ):
        edited(folder, at, kind, fields, problem)
        rewrite(folder, log)


# --- what happened in the run ----------------------------------------------------------------------------------------


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


def test_two_sums_of_one_round_that_differ_by_one_member_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The members have lost what they opened, so nobody but the reader of the log sees that one is laid bare."""
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))

    def die(*_: object) -> None:
        raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(FederatedRun, "_release", die)
        with pytest.raises(PowerCutError):
            trained(consortium)
    for site in consortium.sites.values():
        site.reopen()
    folder = trained(consortium, Flaky(consortium.loopback(), lambda name, number: (name, number) == ("bank-b", 3)))
    first, second, *_ = places(read(folder), EventKind.SUM_OPENED)
    with pytest.raises(AuditError, match=rf"entry {second} opens a sum too close to an earlier one \(FC-3115"):
        verify_run(folder)
    assert first < second


def test_an_attempt_that_failed_in_its_set_up_leaves_its_number_out(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    folder = trained(consortium, Flaky(consortium.loopback(), lambda name, number: number == 1 and name < "c"))
    log = read(folder)
    opened = [log[index][1] for index in places(log, EventKind.ROUND_OPENED)]
    assert [(fields["purpose"], fields["attempt"]) for fields in opened[:3]] == [
        ("setup", 1),
        ("setup", 2),
        ("train", 2),
    ]
    assert verify_run(folder).released == 3


def test_who_has_to_wait_because_others_have_revealed_for_fewer_is_not_called_left_out(tmp_path: Path) -> None:
    """One upload is lost, and then two reveals: the second attempt is over the same members, though all answer."""
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    lost = {3: {"bank-b"}, 5: {"bank-a", "fund-c"}}
    flaky = Flaky(consortium.loopback(), lambda name, number: name in lost.get(number, ()), lose_reply=True)
    folder = trained(consortium, flaky)
    log = read(folder)
    first, second = (log[index][1] for index in places(log, EventKind.COHORT_SELECTED)[:2])
    assert first["contributors"] == second["contributors"] == ["bank-a", "fund-c", "insurer-d"]
    assert sum(kind is EventKind.ANSWER_ACCEPTED and fields["attempt"] == 2 for kind, fields in log) == 4
    assert verify_run(folder).released == 3


def test_a_member_that_refuses_is_left_out_and_the_run_holds(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    for path in (tmp_path / "fund-c" / "approvals").iterdir():
        path.unlink()
    folder = trained(consortium)
    assert EventKind.INSTITUTION_REFUSED in [kind for kind, _ in read(folder)]
    evidence = verify_run(folder)
    assert (evidence.released, evidence.uploads) == (3, 3 * 3)


def test_rounds_that_failed_at_the_end_leave_the_last_final_state_where_it_was(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    with pytest.raises(QuorumError):
        trained(consortium, Flaky(consortium.loopback(), lambda name, number: number > 5 and name < "c"))
    folder = tmp_path / "run"
    evidence = verify_run(folder)
    opened = places(read(folder), EventKind.ROUND_OPENED)
    assert evidence.released == 1
    assert evidence.final_size == opened[1] < opened[-1]
    assert not evidence.closed
