from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from consortium import COORDINATOR, RUN, Consortium, Recorder

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.errors import QuorumError
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import OpenRun
from fedcredit.rounds.drive import EVALUATION_FILE, ROUNDS_FILE, drive, read_lines
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun, RoundReport


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


def opened(consortium: Consortium, recorder: Recorder) -> OpenRun:
    return OpenRun(
        plan=consortium.plan,
        run_id=RUN,
        folder=consortium.folder / "run",
        roster=consortium.roster,
        keys=COORDINATOR,
        transport=recorder,
        heads=LedgerHeads(None),
        clock=consortium.clock,
    )


def driven(consortium: Consortium, *, on_round: Callable[[RoundReport], None] = lambda _: None) -> Recorder:
    """Open or resume the run, drive it to its end, and return what was carried meanwhile."""
    recorder = Recorder(consortium.loopback())
    with opened(consortium, recorder) as run:
        drive(run, privacy_plan(consortium.plan), on_round=on_round)
    return recorder


def kinds(consortium: Consortium) -> list[str]:
    lines = (consortium.folder / "run" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["event"] for line in lines]


def cut(*_: object, **__: object) -> None:
    raise PowerCutError


def test_a_driven_run_leaves_a_line_per_round_and_one_evaluation(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    recorder = driven(consortium)
    assert len(recorder.requests) == 5  # three rounds, the evaluation, and the whole log to cosign
    lines = read_lines(tmp_path / "run" / ROUNDS_FILE)
    assert [line["round"] for line in lines] == [1, 2, 3]
    assert all(sorted(line["contributors"]) == sorted(consortium.sites) for line in lines)
    assert [sum(line["bytes_up"].values()) for line in lines] == [
        sum(len(reply.payload or b"") for reply in recorder.replies[4 * number : 4 * number + 4]) for number in range(3)
    ]
    record = json.loads((tmp_path / "run" / EVALUATION_FILE).read_text(encoding="utf-8"))
    assert record["auc_low"] <= record["auc_high"]
    assert record["traffic"]["round"] == 3
    assert [sorted(line["messages"].values()) for line in lines] == [[1, 1, 1, 1]] * 3
    assert kinds(consortium)[-8:] == [
        EventKind.EVALUATED,
        EventKind.ROUND_OPENED,
        *[EventKind.ANSWER_ACCEPTED] * 4,
        EventKind.CLOSED,
        EventKind.RUN_FINISHED,
    ]


def test_a_crash_between_the_evaluation_and_the_end_asks_for_no_second_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = Consortium.make(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(FederatedRun, "finish", cut)
        with pytest.raises(PowerCutError):
            driven(consortium)
    before = (tmp_path / "run" / EVALUATION_FILE).read_bytes()
    assert EventKind.RUN_FINISHED not in kinds(consortium)
    assert driven(consortium).requests == []
    assert (tmp_path / "run" / EVALUATION_FILE).read_bytes() == before
    assert kinds(consortium).count(EventKind.EVALUATED) == kinds(consortium).count(EventKind.RUN_FINISHED) == 1
    assert [site.charged("holdout") for site in consortium.sites.values()] == [1] * 4


@pytest.mark.parametrize("lost", ["request", "log line"])
def test_a_crash_before_everybody_has_cosigned_the_end_asks_for_that_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    consortium = Consortium.make(tmp_path)
    record = AuditLog.record

    def until_closed(log: AuditLog, kind: EventKind, **fields: Any) -> None:
        if kind is EventKind.CLOSED:
            raise PowerCutError
        record(log, kind, **fields)

    with monkeypatch.context() as patched:
        if lost == "request":
            patched.setattr(FederatedRun, "close", cut)
        else:
            patched.setattr(AuditLog, "record", until_closed)
        with pytest.raises(PowerCutError):
            driven(consortium)
    assert EventKind.RUN_FINISHED not in kinds(consortium)
    assert len(driven(consortium).requests) == 1
    assert driven(consortium).requests == []
    assert kinds(consortium).count(EventKind.EVALUATED) == kinds(consortium).count(EventKind.CLOSED) == 1
    assert [site.charged("holdout") for site in consortium.sites.values()] == [1] * 4


def test_a_run_that_has_ended_is_not_evaluated_or_finished_again(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    driven(consortium)
    assert driven(consortium).requests == []
    assert kinds(consortium).count(EventKind.RUN_FINISHED) == 1
    assert [(site.charged(), site.charged("holdout")) for site in consortium.sites.values()] == [(3, 1)] * 4


def test_a_crash_before_the_evaluation_is_written_costs_one_of_its_retries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The counts of the first answer are lost with the process; the plan pays for asking again.
    consortium = Consortium.make(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("fedcredit.rounds.drive.evaluation_record", cut)
        with pytest.raises(PowerCutError):
            driven(consortium)
    assert not (tmp_path / "run" / EVALUATION_FILE).exists()
    assert len(driven(consortium).requests) == 2  # once more, and the end
    for site in consortium.sites.values():
        assert site.charged("holdout") == 2
        assert site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon


def test_a_driven_run_that_is_cut_off_goes_on_after_its_last_released_round(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)

    def after_the_second(report: RoundReport) -> None:
        if report.round == 2:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        driven(consortium, on_round=after_the_second)
    recorder = driven(consortium)
    assert len(recorder.requests) == 3
    assert [line["round"] for line in read_lines(tmp_path / "run" / ROUNDS_FILE)] == [1, 2, 3]
    assert [(site.charged(), site.charged("holdout")) for site in consortium.sites.values()] == [(3, 1)] * 4


def test_a_run_without_its_quorum_is_neither_evaluated_nor_finished(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    silent = Recorder(type(consortium.loopback())({}))
    with pytest.raises(QuorumError), opened(consortium, silent) as run:
        drive(run, privacy_plan(consortium.plan))
    assert not (tmp_path / "run" / EVALUATION_FILE).exists()
    assert kinds(consortium)[-1] == EventKind.ROUND_ABORTED
