"""Attacks and faults on a small real run: each is refused or survived, and a weakened path turns its verdict round."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from fedcredit.audit.log import EventKind
from fedcredit.cli.break_words import ACTS, CHECKS, IDEAS
from fedcredit.errors import UsageError
from fedcredit.lab.breaks import drop, kill, poison, replay, snoop, split
from fedcredit.lab.breaks.play import TELL, play
from fedcredit.lab.breaks.scene import Delivery, Handler, HandlerOf, Scene, Setting
from fedcredit.lab.breaks.snoop import Reading
from fedcredit.lab.breaks.story import Account, Story
from fedcredit.messages import Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.run import RoundReport

SETTING = Setting(dataset="german", model="scorecard", epsilon=3.0, seed=1, aggregation="secure")
NAMES = ("auto-lender-a", "bank-d", "guarantee-fund-c", "retail-bank-b")
ONLY_IF_WEAK = {"answers", "takes-it", "gives-other-bytes"}


@cache
def story(idea: str) -> Story:
    with TemporaryDirectory() as folder:
        return play(idea, Path(folder) / "run", SETTING)


def codes(told: Story) -> list[str]:
    """Return the codes of everything that refused, in order."""
    return [step.error.code for step in told.steps if step.error]


def logged(told: Story, event: str, **fields: str) -> list[str]:
    """Return whose logs hold such an event."""
    return [line.log for line in told.lines if line.event == event and fields.items() <= line.fields.items()]


@pytest.mark.parametrize("idea", TELL)
def test_an_attack_is_told_and_refused_and_every_check_holds(idea: str) -> None:
    told = story(idea)
    assert told.institutions == NAMES
    assert [check for check in told.checks if not check.held] == []
    assert told.held
    assert any(step.hostile for step in told.steps)
    assert told.lines
    for line in told.lines:
        assert line.index > 0
        assert line.event in set(EventKind)


def test_a_replay_gets_the_same_bytes_or_a_refusal_and_costs_nothing() -> None:
    told = story("replay")
    assert codes(told)[1:] == ["FC-3105", "FC-3106", codes(told)[3], "FC-3105"]
    assert {codes(told)[0], codes(told)[3]} <= {"FC-3101", "FC-3102"}
    assert logged(told, "answer-refused", institution="auto-lender-a", round="2") == ["coordinator"] * 2
    assert [line.fields["code"] for line in told.lines if line.log == "auto-lender-a"] == [
        "FC-3105",
        "FC-3106",
        "FC-3105",
    ]
    costs = next(check.observed for check in told.checks if check.name == "no-charge-for-repetitions")
    assert costs["before"] == costs["after"] > 0


def test_a_poisoner_is_refused_by_code_or_blamed_by_name_and_the_others_go_on() -> None:
    told = story("poison")
    assert codes(told)[0] == "FC-3101"
    assert codes(told)[2:] == ["FC-4004", "FC-3101"]
    assert logged(told, "answer-refused", institution="auto-lender-a", code="FC-3101") == ["coordinator"] * 2
    assert logged(told, "member-blamed", institution="auto-lender-a", round="3") == ["coordinator"]
    members = [line.fields["contributors"] for line in told.lines if line.event == "cohort-selected"]
    assert members == [", ".join(NAMES[1:]), ", ".join(NAMES[1:]), ", ".join(NAMES)]


def test_a_snoop_reads_uniform_bytes_and_the_same_snoop_reads_an_open_run() -> None:
    read = [step.fields for step in story("snoop").steps if step.act == "reads-numbers"]
    assert [fields["equal"] for fields in read] == [0, 0, 160]
    assert [float(fields["p"]) > 1e-6 for fields in read] == [True, True, False]


def test_a_split_is_refused_at_every_door_and_no_share_leaves() -> None:
    told = story("split")
    refused = [step.error.code for step in told.steps if step.act == "refuses" and step.error]
    assert refused == ["FC-3106", "FC-3116", "FC-3105", "FC-3114", "FC-3103", "FC-3106", "FC-3115", "FC-3302"]
    assert logged(told, "round-aborted", round="2", attempt="1", stage="accept") == ["coordinator"]
    assert logged(told, "institution-refused", institution="auto-lender-a", code="FC-3302") == ["coordinator"]
    assert sorted(set(logged(told, "request-refused"))) == list(NAMES[:3])


def test_drop_outs_end_with_an_exact_sum_or_without_one_and_a_retry_works() -> None:
    told = story("drop")
    assert codes(told) == ["FC-2201", "FC-2203"]
    aborted = [(line.fields["attempt"], line.fields["stage"]) for line in told.lines if line.event == "round-aborted"]
    assert aborted == [("1", "upload"), ("2", "reveal")]
    charged = next(check.observed for check in told.checks if check.name == "every-attempt-charged")
    assert (charged["before"], charged["after"]) == (2, 5)
    assert charged["epsilon_before"] < charged["epsilon_after"] <= SETTING.epsilon  # type: ignore[operator]


def test_after_a_kill_coordinator_and_node_go_on_from_their_folders() -> None:
    told = story("kill")
    assert [step.act for step in told.steps if step.hostile] == ["coordinator-is-killed", "node-is-killed"]
    opened = [(line.fields["round"], line.fields["attempt"]) for line in told.lines if line.event == "sum-opened"]
    assert opened == [("1", "1"), ("2", "2")]


def test_the_terminal_has_words_for_everything_that_happens_and_no_others() -> None:
    told = [story(idea) for idea in TELL]
    assert set(IDEAS) == set(TELL)
    assert {step.act for one in told for step in one.steps} == set(ACTS) - ONLY_IF_WEAK
    assert {check.name for one in told for check in one.checks} == set(CHECKS)
    assert set(ACTS) >= ONLY_IF_WEAK


@pytest.mark.parametrize("idea", ["split", "kill"])
def test_the_folder_that_stays_is_a_run_that_verifies(idea: str, tmp_path: Path) -> None:
    told = play(idea, tmp_path / "run", SETTING)
    (run,) = (tmp_path / "run" / "coordinator" / "runs").iterdir()
    assert told.held
    assert verify_run(run).released >= 2


# --- weakened paths --------------------------------------------------------------------------------------------------


def forgetful(weak: InstitutionId, again: Callable[[Delivery, Delivery], bool]) -> HandlerOf:
    """Return the handlers of a consortium in which ``weak`` stands on a disk that can be put back.

    Before each request that ``again`` calls a repetition of an earlier one, the disk is put back to before that one.
    """

    def handler_of(scene: Scene, name: InstitutionId) -> Handler:
        state, before = scene.study.node_folder(name) / "state", list[tuple[Delivery, Path]]()

        def handle(request: bytes) -> bytes:
            now = scene.delivery(name, request)
            for earlier, copy in before:
                if again(earlier, now):
                    scene.nodes[name].close()
                    shutil.rmtree(state)
                    shutil.copytree(copy, state)
                    scene.restart_node(name)
                    break
            copy = state.with_name(f"before-{len(before)}")
            shutil.copytree(state, copy)
            before.append((now, copy))
            return scene.nodes[name].worker.handle(request)

        return handle if name == weak else lambda request: scene.nodes[name].worker.handle(request)

    return handler_of


def same_bytes(earlier: Delivery, now: Delivery) -> bool:
    return earlier.sealed == now.sealed


def another_selection(earlier: Delivery, now: Delivery) -> bool:
    return earlier.manifest == now.manifest and earlier.opened.stage is now.opened.stage is Stage.ACCEPT


def test_a_member_that_forgets_its_answers_fails_the_replay(tmp_path: Path) -> None:
    told = replay.tell(tmp_path / "run", SETTING, handler_of=forgetful(InstitutionId(NAMES[0]), same_bytes))
    assert "same-bytes" in told.failed
    assert not told.held


def test_a_node_that_comes_back_from_an_older_disk_fails_the_kill(tmp_path: Path) -> None:
    told = kill.tell(tmp_path / "run", SETTING, handler_of=forgetful(InstitutionId(NAMES[0]), same_bytes))
    assert "same-bytes" in told.failed


def test_a_member_that_forgets_its_agreement_fails_the_split(tmp_path: Path) -> None:
    weak = forgetful(InstitutionId(NAMES[1]), another_selection)
    told = split.tell(tmp_path / "run", SETTING, handler_of=weak)
    assert "every-lie-refused" in told.failed


def test_a_flipped_bit_that_is_signed_again_fails_the_poisoning(tmp_path: Path) -> None:
    told = poison.tell(tmp_path / "run", SETTING, signs_again=True)
    assert {"poison-refused", "exact-sum"} <= set(told.failed)


def test_open_aggregation_fails_the_snoop(tmp_path: Path) -> None:
    told = snoop.tell(tmp_path / "run", replace(SETTING, aggregation="open"))
    assert set(told.failed) == {"nothing-found", "upload-unreadable", "upload-uniform"}


def test_a_sum_that_is_off_by_one_and_a_fault_that_never_came_fail_the_drop(tmp_path: Path) -> None:
    class Perfect(drop.FailingNetwork):
        def _silent(self, _: object) -> tuple[InstitutionId, ...]:
            return ()

    with Scene.open(tmp_path / "run", SETTING, rounds=3) as scene:
        network = Perfect(scene)
        reports: dict[int, RoundReport] = scene.run_until(network, 3)
        drop.judge_sums(scene, network, reports)
        assert [check.held for check in scene.account.checks] == [False, True, True]  # nobody was missing in round 1
        reports[2].result.total[7] += 1
        scene.account.checks.clear()
        drop.judge_sums(scene, network, reports)
        assert [check.held for check in scene.account.checks] == [False, False, True]


def test_a_mask_that_is_used_twice_fails_the_kill(tmp_path: Path) -> None:
    with Scene.open(tmp_path / "run", SETTING, rounds=2) as scene:
        machines = kill.Machines(scene)
        with scene.run(machines) as opened, pytest.raises(kill.Killed):
            list(opened.run.rounds())
        for (_, name), upload in list(machines.uploads.items()):
            machines.uploads[kill.SECOND, name] = upload
        kill.judge_members(scene, machines)
        assert "no-mask-used-twice" in {check.name for check in scene.account.checks if not check.held}


# --- parts -----------------------------------------------------------------------------------------------------------


def test_a_story_without_a_check_has_not_held() -> None:
    assert not replace(story("kill"), checks=()).held
    account = Account()
    account.check("resumed", False, round=2)
    assert not replace(story("kill"), checks=(*story("kill").checks, *account.checks)).held


def test_a_reading_tells_numbers_from_noise() -> None:
    truth = np.arange(-200, 200, dtype=np.int64) * 37
    noise = np.random.default_rng(7).integers(-(2**31), 2**31, size=400)
    assert Reading.of(truth, truth).readable
    assert not Reading.of(truth, truth).uniform
    assert not Reading.of(noise, truth).readable
    assert Reading.of(noise, truth).uniform
    shifted = Reading.of(truth + 5, truth)
    assert (shifted.equal, shifted.readable) == (0, True)


def test_a_demonstration_about_a_missing_step_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        play("split", tmp_path / "run", replace(SETTING, aggregation="open"))
    assert list(tmp_path.iterdir()) == []
