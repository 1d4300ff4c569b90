"""The members' votes on the model: where they come from, what they cost, what they decide, and who can check them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from consortium import (
    NO_PRIVACY,
    SECURE,
    SHARED,
    VOTED,
    Consortium,
    Flaky,
    Recorder,
    modalities_of,
    plan_of,
    question,
)
from kept_runs import copied, driven, opened_run, places, read, rewrite

from fedcredit.audit.log import EventKind
from fedcredit.errors import AuditError, MalformedMessageError, ModelNotReleasedError
from fedcredit.evaluation.vote import Outcome, Reason
from fedcredit.messages import CloseAnswer
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.drive import CLOSING_FILE, drive
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.voting import Verdict, ballots_from_bytes, ballots_to_bytes, reason_of

NAMES = ("bank-a", "bank-b", "fund-c", "insurer-d")
ROWS = 2000
SIZES = {
    "institutions": {
        name: {"kind": "bank", "expected_borrowers": 1400, "modalities": list(modalities_of(name))} for name in NAMES
    }
}
FAST = {"training/learning_rate": 30.0}
"""So fast that three rounds spread the borrowers over several score bins."""
HIGH = {"evaluation": {"vote_floor": 0.97, "vote_share": 0.0}}
"""A floor that no model here reaches."""
OWN = {"evaluation": {"vote_floor": 0.55, "vote_share": 0.5}}
ALLOW = {"allow_no_privacy": True}


def consortium_of(folder: Path, **changes: Any) -> Consortium:
    plan = plan_of(**{**SIZES, **SECURE, **VOTED, **FAST, **changes})
    return Consortium.make(folder, plan, rows=ROWS, policy=ALLOW)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return driven(consortium_of(tmp_path_factory.mktemp("released")))


@pytest.fixture(scope="module")
def rejected(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = consortium_of(tmp_path_factory.mktemp("rejected"), **HIGH)
    driven(consortium)
    return consortium


def test_a_model_that_ranks_well_is_released_and_everybodys_vote_is_in_the_evidence(kept: Path) -> None:
    closing = json.loads((kept / CLOSING_FILE).read_text())
    assert closing["verdict"] == "released"
    assert closing["votes"] == {name: ["yes", "better-than-chance"] for name in NAMES}
    kind, fields = read(kept)[-2]
    assert kind is EventKind.CLOSED
    assert (fields["verdict"], fields["votes"]) == (closing["verdict"], closing["votes"])
    verdict = verify_run(kept).verdict
    assert verdict is not None
    assert (verdict.outcome, set(verdict.votes.values())) == (Outcome.RELEASED, {Reason.BETTER_THAN_CHANCE})
    verdict.require_released()


def test_a_model_that_the_members_keep_back_stays_a_candidate(rejected: Consortium) -> None:
    folder = rejected.folder / "run"
    evidence = verify_run(folder)
    assert evidence.verdict is not None
    with pytest.raises(ModelNotReleasedError) as caught:
        evidence.verdict.require_released()
    assert caught.value.fields == {"yes": 0, "no": 4, "abstain": 0, "colluders": 0}
    assert caught.value.exit_code == 8
    assert read(folder)[-1][0] is EventKind.MODEL_REJECTED
    assert (folder / "checkpoints" / "round-00003.safetensors").is_file()
    assert json.loads((folder / CLOSING_FILE).read_text())["votes"] == {name: ["no", "below-floor"] for name in NAMES}


def test_a_rejected_run_that_is_resumed_asks_nobody_again(rejected: Consortium) -> None:
    recorder = Recorder(rejected.loopback())
    entries = len(read(rejected.folder / "run"))
    with opened_run(rejected, recorder) as opened:
        assert drive(opened, privacy_plan(rejected.plan)).outcome is Outcome.NOT_RELEASED
    assert not recorder.requests
    assert len(read(rejected.folder / "run")) == entries


def test_with_local_noise_the_vote_costs_nothing_beyond_the_evaluation(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path)
    driven(consortium)
    assert {site.charged("holdout") for site in consortium.sites.values()} == {1}


def test_with_shared_noise_the_vote_has_counts_of_its_own_and_they_are_charged_once(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path, **SHARED, **OWN, **{"rounds/quorum": 4})
    # The first close loses all answers: the second one votes on the same counts.
    folder = driven(consortium, Flaky(consortium.loopback(), lambda _, number: number == 15, lose_reply=True))
    log = read(folder)
    closings = [fields for kind, fields in log if kind is EventKind.ROUND_OPENED and fields["purpose"] == "close"]
    assert len(closings) == 2
    for site in consortium.sites.values():
        kinds = [charge.kind for charge in site.charges() if charge.release.partition == "holdout"]
        assert kinds == ["evaluate", "close"]
        own = site.charges()[-1].release
        assert (own.honest_shares, str(own.mechanism)) == (1, "rounded-gaussian")
        assert site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon
    evidence = verify_run(folder)
    assert evidence.spent[consortium.sites["bank-a"].name].holdout.epsilon == consortium.sites["bank-a"].epsilon(
        "holdout"
    )


def test_without_privacy_the_vote_is_on_exact_counts(tmp_path: Path) -> None:
    assert verify_run(driven(consortium_of(tmp_path, **NO_PRIVACY))).verdict is not None


def test_who_took_no_part_in_the_evaluation_abstains(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path)
    # Two exchanges for keys and three for each of three rounds; the twelfth asks for the evaluation's uploads.
    folder = driven(consortium, Flaky(consortium.loopback(), lambda name, number: name == "fund-c" and number == 12))
    votes = json.loads((folder / CLOSING_FILE).read_text())["votes"]
    assert votes["fund-c"] == ["abstain", "no-counts"]
    assert verify_run(folder).closed


def test_counts_of_another_model_are_none(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path, aggregation={"kind": "open", "update_bound": "none"}, **{"rounds/quorum": 4})
    start = consortium.family.initial_weights()
    assert question(consortium, "bank-a", purpose="evaluate", weights=start).code() == ""
    answer = question(consortium, "bank-a", purpose="close", weights=start + 0.5).answer()
    assert isinstance(answer, CloseAnswer)
    assert (answer.vote, answer.reason) == ("abstain", "no-counts")


def test_where_nobody_votes_the_run_ends_as_it_always_did(tmp_path: Path) -> None:
    consortium = consortium_of(tmp_path, evaluation={"vote_floor": "none", "vote_share": 0.0})
    folder = driven(consortium)
    assert read(folder)[-1][0] is EventKind.RUN_FINISHED
    verdict = verify_run(folder).verdict
    assert verdict is not None
    assert (verdict.outcome, dict(verdict.votes)) == (Outcome.NOT_VOTED, {})
    verdict.require_released()


@pytest.mark.parametrize(
    ("vote", "reason", "votes"),
    [
        ("none", "none", True),
        ("yes", "below-floor", True),
        ("no", "because", True),
        ("yes", "better-than-chance", False),
    ],
)
def test_an_answer_that_does_not_vote_as_the_plan_asks_is_refused(vote: str, reason: str, votes: bool) -> None:
    plan = plan_of(**(VOTED if votes else {}))
    answer = CloseAnswer(manifest_digest=bytes(32), ledger_head=bytes(32), cosignature="x", vote=vote, reason=reason)
    with pytest.raises(MalformedMessageError):
        reason_of(plan, answer)
    with pytest.raises(MalformedMessageError):
        Verdict.of(plan, {consortium_name: answer for consortium_name in plan.expected_borrowers()})


def test_a_run_cannot_end_otherwise_than_its_votes(kept: Path, rejected: Consortium, tmp_path: Path) -> None:
    for number, (folder, kind) in enumerate(
        [(kept, EventKind.MODEL_REJECTED), (rejected.folder / "run", EventKind.RUN_FINISHED)]
    ):
        run = copied(folder, tmp_path / str(number))
        log = read(run)
        rewrite(run, [*log[:-1], (kind, log[-1][1])])
        with pytest.raises(AuditError, match="finishes otherwise than the votes") as caught:
            verify_run(run)
        assert caught.value.fields["index"] == len(log) - 1


def test_a_vote_that_its_member_did_not_sign_is_found(rejected: Consortium, tmp_path: Path) -> None:
    run = copied(rejected.folder / "run", tmp_path / "run")
    log = read(run)
    (at,) = places(log, EventKind.CLOSED)
    fields = log[at][1]
    ballots = ballots_from_bytes(fields["ballots"])
    honest = CloseAnswer.from_bytes(ballots[consortium_member(rejected)].body)
    assert honest.vote == "no"
    for problem, changed in (
        ("FC-3103", {**ballots, consortium_member(rejected): _yes(ballots, rejected)}),
        ("votes of others", {name: ballots[name] for name in list(ballots)[1:]}),
        ("FC-3103", {**ballots, consortium_member(rejected): ballots[list(ballots)[1]]}),
    ):
        rewrite(run, [*log[:at], (log[at][0], {**fields, "ballots": ballots_to_bytes(changed)}), *log[at + 1 :]])
        with pytest.raises(AuditError, match=problem) as caught:
            verify_run(run)
        assert caught.value.fields["index"] == at


def consortium_member(consortium: Consortium) -> Any:
    return consortium.sites["bank-a"].name


def _yes(ballots: Any, consortium: Consortium) -> Any:
    signed = ballots[consortium_member(consortium)]
    answer = CloseAnswer.from_bytes(signed.body)
    return replace(signed, body=replace(answer, vote="yes", reason="better-than-chance").to_bytes())
