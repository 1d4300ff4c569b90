"""``fedcredit demo --break`` as it is typed: what it prints, how it ends, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.cells import cell_len

from fedcredit.cli.break_texts import BREAK_ZH
from fedcredit.cli.break_view import WIDTH, tell_story
from fedcredit.errors import AgreementError
from fedcredit.lab.breaks.story import Check, LogLine, Step, Story

STORY = Story(
    idea="split",
    dataset="german",
    model="scorecard",
    institutions=("bank-a", "bank-b"),
    steps=(
        Step(
            who="coordinator",
            act="asks-shares-of-half",
            hostile=True,
            fields={"institution": "bank-a", "signed": 2},
        ),
        Step(who="bank-a", act="refuses", hostile=False, fields={}, error=AgreementError(signed=2, needed=3)),
    ),
    lines=(LogLine(log="bank-a", index=7, event="request-refused", fields={"code": "FC-3114"}),),
    checks=(Check(name="no-share-left", held=True, observed={"shares": 0}),),
)


def words_of(told: str) -> str:
    return " ".join(told.split())


def test_a_story_says_who_did_what_with_which_code_what_is_logged_and_the_verdict(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "en")
    tell_story(STORY, seconds=1.25)
    told = words_of(capsys.readouterr().err)
    for part in (
        "▸ coordinator asks bank-a for shares, with the agreements of its half",
        "↳ bank-a refuses FC-3114 Only 2 members of the cohort have agreed to this selection; 3 must, before a share "
        "leaves.",
        "bank-a 7 request-refused FC-3114",
        "✓ 0 shares left while the members were divided",
        "✓ The defence held: 1 of 1 checks, 1.2 s",
    ):
        assert part in told


def test_a_name_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "en")
    line = LogLine(log="[red]\x1b[31mbank", index=1, event="member-blamed", fields={"institution": "[bold]\x07"})
    tell_story(Story(**{**STORY.__dict__, "lines": (line,)}), seconds=1.0)
    told = capsys.readouterr().err
    assert "\x1b[31m" not in told
    assert "\x07" not in told
    assert "[red]" in told
    assert "[bold]" in told


def test_a_refused_attack_ends_with_0_one_envelope_and_no_wide_line(type_in, tmp_path: Path) -> None:
    outcome = type_in("demo --break split --format json")
    assert outcome.code == 0
    data = outcome.data
    assert (data["attack"], data["held"], len(data["institutions"])) == ("split", True, 4)
    assert {step["code"] for step in data["steps"] if "code" in step} >= {"FC-3105", "FC-3106", "FC-3114", "FC-3116"}
    assert all(check["held"] for check in data["checks"])
    assert {line["log"] for line in data["log"]} > {"coordinator", "auto-lender-a"}
    assert max(map(cell_len, outcome.stderr.splitlines())) <= WIDTH
    assert "✓ The defence held" in outcome.stderr
    assert "Next: fedcredit demo --break drop" in outcome.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_kept_folder_verifies_and_is_never_overwritten(type_in, tmp_path: Path) -> None:
    outcome = type_in("demo --break kill --out kept")
    assert outcome.code == 0
    assert "Next: fedcredit audit verify kept" in outcome.stderr
    assert type_in("audit verify kept --format json").data["released"] == 2
    type_in("demo --break kill --out kept").refuses("FC-7004", 1, str(tmp_path / "kept"))


def test_an_attack_that_works_ends_with_5_and_says_which_checks_failed(type_in) -> None:
    outcome = type_in("demo --break snoop --aggregation open --format json")
    assert outcome.code == 5
    envelope = json.loads(outcome.stdout)
    assert (envelope["status"], envelope["code"], envelope["exit"]) == ("error", "FC-3401", 5)
    assert envelope["where"]["names"] == "nothing-found, upload-unreadable, upload-uniform"
    assert "✗ The defence did NOT hold: 0 of 3 checks" in outcome.stderr
    assert "reads 160 of 160 numbers" in words_of(outcome.stderr)


def test_a_demonstration_speaks_chinese_with_the_same_codes(type_in) -> None:
    outcome = type_in("--lang zh demo --break replay")
    assert outcome.code == 0
    english = {template for template in BREAK_ZH if "{" not in template and len(template) > len("relay")}
    assert {template for template in english if template in outcome.stderr} == set()
    for part in ("中继", "防御成立", "重复第 1 轮的上传请求", "FC-3105"):
        assert part in outcome.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--break split --aggregation open", "--break split"),
        ("--break replay --rounds 3", "--rounds"),
        ("--break replay --runtime flower", "--runtime flower"),
        ("--break replay --test-noise", "--test-noise"),
        ("--break nothing", "nothing"),
    ],
)
def test_what_does_not_go_with_a_demonstration_is_refused(type_in, tmp_path: Path, options: str, words: str) -> None:
    type_in(f"demo {options}").refuses("FC-1006", 2, words)
    assert list(tmp_path.iterdir()) == []
