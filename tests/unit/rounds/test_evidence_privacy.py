"""Releases are counted by member and purpose, and one more than the plan pays for is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from consortium import NO_PRIVACY, SECURE, TREES, Consortium, Flaky, plan_of
from kept_runs import driven, trained

from fedcredit.audit.log import EventKind
from fedcredit.errors import AuditError
from fedcredit.messages import Purpose
from fedcredit.parties import InstitutionId
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.evidence_log import Line, read_log
from fedcredit.rounds.evidence_opening import Opening, read_opening
from fedcredit.rounds.evidence_privacy import Releases

BANK, FUND = InstitutionId("bank-a"), InstitutionId("fund-c")


def opening_of(folder: Path, **changes: Any) -> Opening:
    run = trained(Consortium.make(folder, plan_of(**{"run/rounds": 1, **changes})))
    return read_opening(read_log(run / "run.db"), run)


def answer(number: int, attempt: int = 1) -> Line:
    return Line("run.db", 9, EventKind.ANSWER_ACCEPTED, {"round": number, "attempt": attempt}, bytes(32))


def test_one_release_more_than_the_plan_pays_for_is_found_whatever_its_attempt(tmp_path: Path) -> None:
    releases = Releases(opening_of(tmp_path))
    assert [releases.allowed(purpose) for purpose in (Purpose.PREPARE, Purpose.TRAIN, Purpose.EVALUATE)] == [0, 3, 3]
    for attempt in (1, 2, 3):
        releases.take(answer(1, attempt), BANK, Purpose.TRAIN)
        releases.take(answer(1, attempt), BANK, Purpose.EVALUATE)
    for purpose in (Purpose.TRAIN, Purpose.EVALUATE):
        releases.take(answer(1, 3), BANK, purpose)  # the same release again
        with pytest.raises(AuditError, match="entry 9 takes more of bank-a than the 3 releases"):
            releases.take(answer(1, 4), BANK, purpose)
    releases.take(answer(1, 4), FUND, Purpose.TRAIN)
    with pytest.raises(AuditError, match="0 releases"):
        releases.take(answer(1), BANK, Purpose.PREPARE)
    for attempt in range(9):
        releases.take(answer(1, attempt), BANK, Purpose.CLOSE)


def test_attempts_that_failed_are_paid_for_too(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE))
    lost = {4: {"bank-a", "fund-c"}}  # nobody agrees: the uploads of the first attempt were charged for nothing
    evidence = verify_run(driven(consortium, Flaky(consortium.loopback(), lambda name, n: name in lost.get(n, ()))))
    assert evidence.accepted[Purpose.TRAIN] == 4
    for name, site in consortium.sites.items():
        assert evidence.spent[InstitutionId(name)].train.epsilon == site.epsilon()
        assert evidence.spent[InstitutionId(name)].train.releases == site.charged()


def test_a_member_without_a_category_pays_nothing_for_the_histogram(tmp_path: Path) -> None:
    releases = Releases(opening_of(tmp_path, **TREES))
    for name in (BANK, FUND):
        releases.take(answer(1), name, Purpose.PREPARE)
    spent = releases.spent()
    assert (spent[BANK].train.releases, spent[FUND].train.releases) == (1, 0)
    assert spent[BANK].train.epsilon > 0 == spent[FUND].train.epsilon


@pytest.mark.parametrize("changes", [NO_PRIVACY, {"privacy/test_noise": True}], ids=["none", "fixed"])
def test_without_protecting_noise_one_release_costs_everything(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan = plan_of(**{"run/rounds": 1, **changes})
    policy = {"allow_fixed_noise": True, "allow_no_privacy": True}
    run = trained(Consortium.make(tmp_path, plan, policy=policy))
    spent = verify_run(run).spent[BANK]
    assert (spent.train.epsilon, spent.holdout.epsilon) == (float("inf"), 0.0)
