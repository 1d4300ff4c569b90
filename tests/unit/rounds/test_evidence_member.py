"""A run's log beside what a member keeps: this finds what no check inside the coordinator's folder can."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from consortium import RUN, SECURE, Consortium, plan_of
from kept_runs import copied, driven, places, read, rewrite, transcripts

from fedcredit.audit.log import EventKind
from fedcredit.audit.witness import FIRST_SIGHT
from fedcredit.errors import AuditError, LogForkError, LogRolledBackError
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import Line, RunLog, read_log
from fedcredit.rounds.evidence_member import Compared, MemberRecord, compare


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Return a consortium after a whole run; its nodes are stopped."""
    made = Consortium.make(tmp_path_factory.mktemp("run"), plan_of(**SECURE), on_disk=True)
    driven(made)
    return made


@pytest.fixture(scope="module")
def record(consortium: Consortium) -> MemberRecord:
    site = consortium.sites["bank-a"]
    witnessed = site.state.memory.witnessed(RUN)
    site.state.database.close()
    return MemberRecord(institution=site.name, witnessed=witnessed, log=read_log(site.folder / "node.db"))


@pytest.fixture
def run(consortium: Consortium, tmp_path: Path) -> Path:
    return copied(consortium.folder / "run", tmp_path / "run")


def log_of(run: Path) -> RunLog:
    return read_log(run / "run.db")


def test_the_log_that_a_member_has_cosigned_is_recognised(run: Path, record: MemberRecord) -> None:
    log = read(run)
    closing = places(log, EventKind.ROUND_OPENED)[-1]
    # Two stages of the set-up, three of each of the four masked rounds, and the end; five answers are in the log.
    assert compare(log_of(run), RUN, record) == Compared(
        institution=record.institution,
        cosigned=closing,
        answered=2 + 4 * 3 + 1,
        unstated=0,
        accepted=5,
        unused=0,
        unheard=False,
    )


def cut(run: Path, end: int) -> None:
    """Make of a finished run one that stopped after ``end`` entries, in every file."""
    log = read(run)[:end]
    rewrite(run, log)
    named = {fields["round"] for kind, fields in log if kind is EventKind.SUM_OPENED and fields["purpose"] == "train"}
    for path in transcripts(run):
        if int(path.name[:5]) not in named or "evaluate" in path.name:
            path.unlink()
    for name in ("evaluation.json", "closing.json"):
        (run / name).unlink()
    lines = (run / "rounds.jsonl").read_text().splitlines(keepends=True)
    (run / "rounds.jsonl").write_text("".join(lines[: len(named)]))


def test_a_log_whose_end_was_cut_off_holds_in_itself_and_not_beside_its_member(run: Path, record: MemberRecord) -> None:
    cut(run, places(read(run), EventKind.ROUND_RELEASED)[1] + 1)
    assert verify_run(run).released == 2
    size = len(log_of(run))
    with pytest.raises(LogRolledBackError, match=f"{size} entries, but this institution cosigned") as caught:
        compare(log_of(run), RUN, record)
    assert caught.value.exit_code == 5


def test_a_log_that_was_written_anew_is_a_fork(run: Path, record: MemberRecord) -> None:
    log = read(run)
    index = places(log, EventKind.EPOCH_READY)[0]
    rewrite(run, [*log[:index], (log[index][0], {**log[index][1], "boxes": bytes(32)}), *log[index + 1 :]])
    with pytest.raises(LogForkError, match="does not continue") as caught:
        compare(log_of(run), RUN, record)
    assert caught.value.exit_code == 5


def test_what_lies_behind_the_cosigned_state_is_compared_request_by_request(run: Path, record: MemberRecord) -> None:
    log = read(run)
    closing = places(log, EventKind.ROUND_OPENED)[-1]
    rewrite(run, log[:closing])
    with pytest.raises(AuditError, match="answers a request that the run's log does not have") as caught:
        compare(log_of(run), RUN, record)
    assert caught.value.fields["path"] == record.log.path
    assert record.log.lines[caught.value.fields["index"]].fields["purpose"] == "close"


def test_an_answer_that_the_member_did_not_give_is_found(run: Path, record: MemberRecord) -> None:
    lines = record.log.lines
    gone = next(line for line in lines if (line.fields["purpose"], line.fields["stage"]) == ("evaluate", "upload"))
    shorter = replace(record, log=replace(record.log, lines=tuple(line for line in lines if line is not gone)))
    with pytest.raises(AuditError, match="takes an answer that bank-a did not give") as caught:
        compare(log_of(run), RUN, shorter)
    fields = log_of(run).lines[caught.value.fields["index"]].fields
    assert (fields["institution"], fields["purpose"]) == ("bank-a", "evaluate")


def with_line(record: MemberRecord, kind: EventKind, **fields: object) -> MemberRecord:
    log = record.log
    line = Line(log.path, len(log), kind, fields, bytes(32))  # type: ignore[arg-type]
    return replace(record, log=replace(log, lines=(*log.lines, line)))


def test_a_refusal_belongs_to_a_request_of_the_log_as_well(run: Path, record: MemberRecord) -> None:
    known = log_of(run).lines[places(read(run), EventKind.ROUND_OPENED)[0]].fields["manifest"]
    refusal = {"run": RUN, "code": "FC-3105", "manifest": known}
    assert compare(log_of(run), RUN, with_line(record, EventKind.REQUEST_REFUSED, **refusal)).accepted == 5
    unknown = {**refusal, "manifest": bytes(32)}
    with pytest.raises(AuditError, match="refuses a request that the run's log does not have"):
        compare(log_of(run), RUN, with_line(record, EventKind.REQUEST_REFUSED, **unknown))
    other_run = {**unknown, "run": "another"}
    assert compare(log_of(run), RUN, with_line(record, EventKind.REQUEST_REFUSED, **other_run)).accepted == 5


def test_a_member_that_never_took_part_has_nothing_to_say(run: Path, record: MemberRecord) -> None:
    stranger = MemberRecord(
        institution="bank-z",  # type: ignore[arg-type]
        witnessed=FIRST_SIGHT,
        log=replace(record.log, lines=()),
    )
    assert compare(log_of(run), RUN, stranger) == Compared(
        institution="bank-z",  # type: ignore[arg-type]
        cosigned=0,
        answered=0,
        unstated=0,
        accepted=0,
        unused=0,
        unheard=False,
    )


def place_of(run: Path, purpose: str) -> dict[str, object]:
    """Return what the log's last request of a purpose is known by."""
    asked = [fields for kind, fields in read(run) if kind is EventKind.ROUND_OPENED and fields["purpose"] == purpose]
    return {"run": RUN, **{name: asked[-1][name] for name in ("manifest", "round", "attempt", "purpose")}}


def test_shares_for_a_sum_that_the_log_does_not_have_are_counted(run: Path, record: MemberRecord) -> None:
    kind, trained = EventKind.REQUEST_ANSWERED, place_of(run, "train")
    again = with_line(record, kind, **trained, stage="reveal")
    assert compare(log_of(run), RUN, again).unused == 0  # the log has that sum
    without_sum = with_line(again, kind, **place_of(run, "close"), stage="reveal")
    assert compare(log_of(run), RUN, without_sum).unused == 1
    twice = with_line(without_sum, kind, **place_of(run, "close"), stage="reveal")
    assert compare(log_of(run), RUN, twice).unused == 1  # one sum, asked for once more


def test_an_answer_to_the_closing_that_the_log_lacks_is_told(run: Path, record: MemberRecord) -> None:
    answered = replace(record, institution="bank-z", witnessed=FIRST_SIGHT)  # type: ignore[arg-type]
    assert compare(log_of(run), RUN, record).unheard is False
    # bank-z has answered the same closing, and the log has no answer of that name.
    assert compare(log_of(run), RUN, answered).unheard is True
    later = with_line(record, EventKind.REQUEST_ANSWERED, **{**place_of(run, "evaluate"), "stage": "close"})
    assert compare(log_of(run), RUN, later).unheard is False  # the log takes the last one
