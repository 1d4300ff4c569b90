"""What ``coord run watch`` says while a run goes on: how far it is, and who is waited for in which stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fedcredit.cli.coord import progress
from fedcredit.daemon.control import Status
from fedcredit.errors import QuorumError
from fedcredit.messages import Stage

RUNNING = Status(run="a-run", state="running", round=2, rounds=30, institutions=4)
ASKED = RUNNING.in_stage("reveal", ["bank-a", "fund-c"], since=1000.0, until=1060.0)
FAILURE = QuorumError(round=3, received=1, needed=3, seconds=60.0, missing="fund-c")


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "en")


def test_before_anybody_is_asked_only_the_rounds_are_told() -> None:
    assert progress(RUNNING, now=1000.0) == "run a-run · running · round 2 of 30 released · 4 institutions"
    assert progress(Status.idle(), now=1000.0).startswith("run – · idle · round 0 of 0")


def test_the_stage_says_who_has_not_answered_since_when_and_until_when() -> None:
    assert progress(ASKED, now=1012.4).splitlines() == [
        "run a-run · running · round 2 of 30 released · 4 institutions",
        "  reveal · waiting for bank-a, fund-c · for 12 s, gives up in 48 s",
    ]


@pytest.mark.parametrize(("now", "said"), [(990.0, "for 0 s, gives up in 70 s"), (1070.0, "for 70 s, gives up in 0 s")])
def test_clocks_that_disagree_make_no_negative_time(now: float, said: str) -> None:
    assert progress(ASKED, now=now).endswith(said)


@pytest.mark.parametrize(
    "later",
    [
        ASKED.in_stage("reveal", [], since=1000.0, until=1060.0),
        ASKED.at_round(3),
        ASKED.finished(),
        ASKED.failed(FAILURE),
    ],
    ids=["all answered", "released", "finished", "failed"],
)
def test_nobody_is_waited_for_once_a_stage_is_over(later: Status) -> None:
    assert len(progress(later, now=1012.0).splitlines()) == 1
    assert later.waiting == ()


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_is_named_in_chinese(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "zh")
    told = progress(replace(ASKED, stage=str(stage)), now=1012.0)
    assert " · 等待 bank-a, fund-c · 已 12 秒,48 秒后放弃" in told
    assert str(stage) not in told
