"""Epochs of a run: who is in one, who comes back, and that a crash anywhere is followed by a new one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import NAMES, NO_PRIVACY, RUN, SECURE, Consortium, plan_of

from fedcredit.audit.log import EventKind
from fedcredit.envelope import OpenedRequest
from fedcredit.errors import QuorumError, RoundRefusedError, SumNotOpenedError
from fedcredit.institution.stages import Reaction, Stages
from fedcredit.messages import Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.epochs import REJOIN_AFTER
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.run import FederatedRun
from fedcredit.secagg.wire import ROOT_BOX_LENGTH, EpochBoxes, EpochKey
from fedcredit.store.database import Database
from fedcredit.transport import Deadline, Reply, Transport

ALLOW = {"allow_no_privacy": True, "allow_fixed_noise": True}
KNOWN: dict[str, Any] = {**SECURE, **NO_PRIVACY}
SET_UP = [Stage.KEYS, Stage.ROOTS]
ROUND = [Stage.UPLOAD, Stage.ACCEPT, Stage.REVEAL]


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


@dataclass
class Lossy:
    """Loses the messages of a stage from or to the members named for it, and remembers what was asked."""

    inner: Transport
    lost: Mapping[Stage, set[str]] = field(default_factory=dict)
    lose_reply: bool = False
    stage: Stage = Stage.KEYS
    asked: list[Stage] = field(default_factory=list)

    def saw(self, result: RoundResult) -> None:
        self.stage = result.stage

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        self.asked.append(self.stage)
        gone = self.lost.get(self.stage, set())
        reached = {name: data for name, data in requests.items() if self.lose_reply or name not in gone}
        for reply in self.inner.exchange(reached, deadline=deadline):
            if reply.institution not in gone:
                yield reply


def secure(folder: Path, **changes: Any) -> Consortium:
    on_disk = changes.pop("on_disk", False)
    return Consortium.make(folder, plan_of(**{**KNOWN, **changes}), policy=ALLOW, rows=30, on_disk=on_disk)


def lossy(consortium: Consortium, lost: Mapping[Stage, set[str]] | None = None, *, lose_reply: bool = False) -> Lossy:
    return Lossy(consortium.loopback(), lost or {}, lose_reply)


def opened(run: FederatedRun) -> list[tuple[str, list[str]]]:
    """Return purpose and cohort of everything that was begun."""
    return [
        (str(event.fields["purpose"]), list(event.fields["cohort"]))  # type: ignore[arg-type]
        for event in run.audit.events()
        if event.kind is EventKind.ROUND_OPENED
    ]


def kinds(run: FederatedRun) -> list[EventKind]:
    return [event.kind for event in run.audit.events()]


def exact(consortium: Consortium, names: list[str], weights: np.ndarray, number: int) -> list[int]:
    sites = [consortium.sites[name] for name in names]
    plan = consortium.plan
    parts = [consortium.family.computation(plan, site.name, site.holdings.split(plan).train) for site in sites]
    totals = [part.integer_sum(weights, round_number=number, batch=None).values for part in parts]
    return np.sum(totals, axis=0, dtype=np.int64).tolist()


# --- one epoch serves many rounds -----------------------------------------------------------------------------------


def test_an_epoch_is_set_up_once_and_serves_training_and_evaluation(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    transport = lossy(consortium)
    run = consortium.run(transport)
    reports = list(run.rounds(on_reply=transport.saw))
    run.evaluate(on_reply=transport.saw)
    assert transport.asked == [*SET_UP, *ROUND * 4]
    assert [purpose for purpose, _ in opened(run)] == ["setup", "train", "train", "train", "evaluate"]
    assert kinds(run).count(EventKind.EPOCH_READY) == 1
    # The set-up is counted with the round that needed it, and with no other.
    # The shares of three open a sum, so the fourth is not waited for.
    assert [list(report.result.messages.values()) for report in reports] == [[5, 5, 5, 4], [3, 3, 3, 2], [3, 3, 3, 2]]
    sent = [sum(report.result.bytes_sent.values()) for report in reports]
    assert sent[0] > 2 * sent[1]


def test_the_log_names_every_box_of_a_set_up(tmp_path: Path) -> None:
    run = secure(tmp_path).run()
    next(run.rounds())
    (ready,) = (event.fields for event in run.audit.events() if event.kind is EventKind.EPOCH_READY)
    (begun, _) = (event.fields for event in run.audit.events() if event.kind is EventKind.ROUND_OPENED)
    assert ready["manifest"] == begun["manifest"]
    assert ready["cohort"] == list(NAMES)
    assert len(ready["boxes"]) == len(ready["epoch"]) == 32  # type: ignore[arg-type]


@pytest.mark.parametrize("lose_reply", [False, True])
def test_a_member_that_was_away_for_rounds_ratchets_over_them(tmp_path: Path, lose_reply: bool) -> None:
    consortium = secure(tmp_path, **{"run/rounds": 5})
    transport = lossy(consortium, lose_reply=lose_reply)
    run = consortium.run(transport)
    # Away in its very first round, then in two at once.
    gone: dict[int, set[str]] = {1: {"fund-c"}, 2: set(), 3: {"bank-a"}, 4: {"bank-a"}, 5: set()}
    rounds = run.rounds(on_reply=transport.saw)
    for number, names in gone.items():
        transport.lost = {Stage.UPLOAD: names}
        before = run.state
        result = next(rounds).result
        assert result.contributors == [name for name in NAMES if name not in names]
        assert result.total.tolist() == exact(consortium, result.contributors, before.weights, number)
    assert kinds(run).count(EventKind.EPOCH_READY) == 1


# --- who is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", SET_UP)
@pytest.mark.parametrize("lose_reply", [False, True])
def test_a_member_away_during_the_set_up_is_not_in_it_and_comes_back(
    tmp_path: Path, stage: Stage, lose_reply: bool
) -> None:
    consortium = secure(tmp_path, **{"run/rounds": REJOIN_AFTER + 2})
    transport = lossy(consortium, {stage: {"fund-c"}}, lose_reply=lose_reply)
    run = consortium.run(transport)
    rounds = run.rounds(on_reply=transport.saw)
    next(rounds)
    transport.lost = {}
    three, four = [name for name in NAMES if name != "fund-c"], list(NAMES)
    for _ in range(REJOIN_AFTER):
        before = run.state
        result = next(rounds).result
        assert result.total.tolist() == exact(consortium, result.contributors, before.weights, run.state.round)
    # With the keys of some and no boxes of one, everything is set up once more without it.
    again = [("setup", three)] * (stage is Stage.ROOTS)
    assert opened(run) == [
        ("setup", four),
        *again,
        *[("train", three)] * REJOIN_AFTER,
        ("setup", four),
        ("train", four),
    ]
    assert kinds(run).count(EventKind.EPOCH_FAILED) == len(again)
    next(rounds)
    assert opened(run)[-1] == ("train", four)  # and now nobody is missing


def test_who_stays_away_is_waited_for_once_in_so_many_rounds(tmp_path: Path) -> None:
    consortium = secure(tmp_path, **{"run/rounds": 2 * REJOIN_AFTER + 1})
    transport = lossy(consortium, {Stage.KEYS: {"fund-c"}})
    run = consortium.run(transport)
    list(run.rounds(on_reply=transport.saw))
    purposes = [purpose for purpose, _ in opened(run)]
    trained = ["train"] * REJOIN_AFTER
    assert purposes == ["setup", *trained, "setup", *trained, "setup", "train"]


@pytest.mark.parametrize("stage", SET_UP)
def test_a_set_up_with_too_few_members_costs_nothing_but_a_retry(tmp_path: Path, stage: Stage) -> None:
    consortium = secure(tmp_path)
    transport = lossy(consortium, {stage: {"bank-b", "fund-c"}})
    run = consortium.run(transport)
    before = run.state
    with pytest.raises(QuorumError) as caught:
        next(run.rounds(on_reply=transport.saw))
    assert (caught.value.code, caught.value.fields["round"]) == ("FC-2201", 0)
    assert (caught.value.fields["received"], caught.value.fields["needed"]) == (2, 3)
    assert caught.value.fields["missing"] == "bank-b, fund-c"
    assert run.state is before
    assert [purpose for purpose, _ in opened(run)] == ["setup"] * 3  # as often as the plan has retries, and once
    assert all(site.charged() == 0 for site in consortium.sites.values())
    transport.lost = {}
    next(run.rounds(on_reply=transport.saw))
    assert run.state.round == 1


def test_members_that_refuse_the_set_up_stop_the_run_for_good(tmp_path: Path) -> None:
    consortium = secure(tmp_path)
    for name in ("bank-b", "fund-c"):
        (path,) = (consortium.sites[name].folder / "approvals").iterdir()
        path.unlink()
    run = consortium.run()
    with pytest.raises(RoundRefusedError, match=r"bank-b \(FC-2301\), fund-c \(FC-2301\)"):
        next(run.rounds())
    assert [purpose for purpose, _ in opened(run)] == ["setup"]
    assert kinds(run).count(EventKind.INSTITUTION_REFUSED) == 2


def test_one_that_refuses_is_left_out_and_gets_the_plan_again(tmp_path: Path) -> None:
    consortium = secure(tmp_path, **{"run/rounds": REJOIN_AFTER + 1})
    site = consortium.sites["fund-c"]
    (path,) = (site.folder / "approvals").iterdir()
    path.unlink()
    run = consortium.run()
    rounds = run.rounds()
    assert len(next(rounds).result.contributors) == 3
    site.approvals.approve(consortium.plan)
    contributors = [len(report.result.contributors) for report in rounds]
    assert contributors == [3] * (REJOIN_AFTER - 1) + [4]


# --- lost keys ------------------------------------------------------------------------------------------------------


def forget(consortium: Consortium, name: str, *, what: str) -> None:
    """Take records of this kind out of a node's state, as a damaged disk or an older copy of it would."""
    site = consortium.sites[name]
    site.state.database.execute("DELETE FROM records WHERE key LIKE ?", (f"{what}/%",))
    site.reopen()


@pytest.mark.parametrize(("what", "code"), [("epoch", "FC-3113"), ("channel", "FC-3102")])
def test_a_member_that_lost_its_keys_says_so_and_the_next_attempt_works(tmp_path: Path, what: str, code: str) -> None:
    consortium = secure(tmp_path, on_disk=True, **{"rounds/quorum": 4})
    run = consortium.run()
    rounds = run.rounds()
    next(rounds)
    forget(consortium, "fund-c", what=what)
    before = run.state
    result = next(rounds).result
    assert result.total.tolist() == exact(consortium, list(NAMES), before.weights, 2)
    refused = [event.fields for event in run.audit.events() if event.kind is EventKind.INSTITUTION_REFUSED]
    assert [(fields["institution"], fields["code"]) for fields in refused] == [("fund-c", code)]
    assert [purpose for purpose, _ in opened(run)] == ["setup", "train", "train", "setup", "train"]


@pytest.mark.parametrize("what", ["epoch", "channel"])
def test_where_the_others_are_enough_it_comes_back_with_the_next_set_up(tmp_path: Path, what: str) -> None:
    consortium = secure(tmp_path, on_disk=True, **{"run/rounds": REJOIN_AFTER + 2})
    run = consortium.run()
    rounds = run.rounds()
    next(rounds)
    forget(consortium, "fund-c", what=what)
    counts = [len(report.result.contributors) for report in rounds]
    assert counts == [3] * (REJOIN_AFTER - 1) + [4] * 2


# --- crashes of the coordinator -------------------------------------------------------------------------------------


def undisturbed(folder: Path) -> bytes:
    run = secure(folder).run()
    list(run.rounds())
    return run.state.released().tobytes()


def cut_at(stage: Stage, heard: int) -> Callable[[RoundResult], None]:
    """Return a power cut in the second round (or the first set-up), after so many replies of a stage."""
    replies = 0

    def cut(result: RoundResult) -> None:
        nonlocal replies
        if result.stage is stage:
            replies += 1
        if replies > heard:
            raise PowerCutError

    return cut


@pytest.mark.parametrize("stage", [*SET_UP, *ROUND])
@pytest.mark.parametrize("heard", [0, 2, 3])
def test_a_coordinator_that_crashed_at_any_stage_sets_up_a_new_epoch_and_goes_on(
    tmp_path: Path, stage: Stage, heard: int
) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    consortium = secure(tmp_path / "cut", on_disk=True)
    first_round = 0 if stage in SET_UP else 1
    with Database.open(tmp_path / "cut" / "run.db") as database:
        run = consortium.run(database=database)
        rounds = run.rounds()
        for _ in range(first_round):
            next(rounds)
        with pytest.raises(PowerCutError):
            next(run.rounds(on_reply=cut_at(stage, heard)))
    for site in consortium.sites.values():
        site.reopen()
    with Database.open(tmp_path / "cut" / "run.db") as database:
        run = consortium.run(database=database)
        assert run.state.round == first_round
        list(run.rounds())
        # No attempt and no set-up has the number of another.
        begun = [event.fields for event in run.audit.events() if event.kind is EventKind.ROUND_OPENED]
        places = [(fields["purpose"], fields["round"], fields["attempt"]) for fields in begun]
        assert len(set(places)) == len(places)
        assert [place for place in places if place[0] == "setup"] == [("setup", 0, 1), ("setup", 0, 2)]
        run.evaluate()
        run.close()
        run.finish()
        run.audit.verify()
    assert run.state.released().tobytes() == expected


def test_a_crash_between_the_open_sum_and_its_release_does_the_round_again(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "undisturbed")
    consortium, database = secure(tmp_path / "cut"), Database.in_memory()
    run = consortium.run(database=database)
    record = run.audit.record

    def cut(kind: EventKind, **fields: Any) -> None:
        if kind is EventKind.ROUND_RELEASED:
            raise PowerCutError
        record(kind, **fields)

    run.audit.record = cut  # type: ignore[method-assign]
    with pytest.raises(PowerCutError):
        next(run.rounds())
    assert EventKind.SUM_OPENED in kinds(run)
    resumed = consortium.run(database=database)
    list(resumed.rounds())
    assert resumed.state.released().tobytes() == expected
    assert kinds(resumed).count(EventKind.SUM_OPENED) == 4


def test_a_resumed_run_with_a_member_less_asks_the_others_to_open_no_second_cohort(tmp_path: Path) -> None:
    # They have opened the sum over four; the difference to that over three is one member's numbers.
    consortium, database = secure(tmp_path, **{"rounds/retries": 0}), Database.in_memory()
    transport = lossy(consortium)

    def cut(result: RoundResult) -> None:
        transport.saw(result)
        if result.stage is Stage.REVEAL and len(result.waiting) == 1:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        next(consortium.run(transport, database=database).rounds(on_reply=cut))
    transport.lost = {Stage.UPLOAD: {"bank-b"}}
    resumed = consortium.run(transport, database=database)
    with pytest.raises(SumNotOpenedError, match="FC-3115"):
        next(resumed.rounds(on_reply=transport.saw))
    assert resumed.state.round == 0


# --- members whose software lies -------------------------------------------------------------------------------------


class Lying:
    """A member's reactions, bent in one stage before they are signed."""

    def __init__(self, honest: Stages, stage: Stage, bend: Callable[[Reaction, OpenedRequest], Reaction]) -> None:
        self._honest = honest
        self._stage = stage
        self._bend = bend

    def react(self, opened: OpenedRequest) -> Reaction:
        reaction = self._honest.react(opened)
        return self._bend(reaction, opened) if opened.stage is self._stage else reaction


def another_key(change: Callable[[EpochKey], EpochKey]) -> Callable[[Reaction, OpenedRequest], Reaction]:
    def bend(reaction: Reaction, _: OpenedRequest) -> Reaction:
        key = EpochKey.from_bytes(reaction.answer.key)  # type: ignore[attr-defined]
        return replace(reaction, answer=replace(reaction.answer, key=change(key).to_bytes()))  # type: ignore[call-arg]

    return bend


def joined(reaction: Reaction) -> bytes:
    return b"".join(reaction.bulk)


def boxes(reaction: Reaction, bulk: bytes, **changes: Any) -> Reaction:
    assert isinstance(reaction.answer, EpochBoxes)
    digest = hashlib.sha256(bulk).digest()
    return replace(reaction, bulk=(bulk,), answer=replace(reaction.answer, **{"bulk_digest": digest, **changes}))


MISFITS: dict[str, tuple[Stage, Callable[[Reaction, OpenedRequest], Reaction], str]] = {
    "another member's name": (Stage.KEYS, another_key(lambda key: replace(key, member="bank-b")), "FC-3106"),
    "a key of another set-up": (Stage.KEYS, another_key(lambda key: replace(key, setup=bytes(32))), "FC-3106"),
    "a key that was not signed": (
        Stage.KEYS,
        another_key(lambda key: replace(key, key=bytes([key.key[0] ^ 1]) + key.key[1:])),
        "FC-3103",
    ),
    "boxes instead of a key": (
        Stage.KEYS,
        lambda it, opened: replace(it, answer=EpochBoxes(epoch=bytes(32), bulk_digest=opened.manifest_digest)),
        "FC-3101",
    ),
    "boxes of another epoch": (Stage.ROOTS, lambda it, _: boxes(it, joined(it), epoch=bytes(32)), "FC-3106"),
    "a box too few": (Stage.ROOTS, lambda it, _: boxes(it, joined(it)[ROOT_BOX_LENGTH:]), "FC-3101"),
    "boxes that were not signed": (Stage.ROOTS, lambda it, _: boxes(it, joined(it), bulk_digest=bytes(32)), "FC-3101"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_what_does_not_fit_a_set_up_leaves_its_sender_out(tmp_path: Path, misfit: str) -> None:
    stage, bend, code = MISFITS[misfit]
    consortium = secure(tmp_path)
    worker = consortium.sites["bank-a"].worker
    worker._stages = Lying(worker._stages, stage, bend)  # type: ignore[assignment]
    run = consortium.run()
    before = run.state
    result = next(run.rounds()).result
    others = [name for name in NAMES if name != "bank-a"]
    assert opened(run)[-1] == ("train", others)
    assert result.total.tolist() == exact(consortium, others, before.weights, 1)
    refused = [event.fields for event in run.audit.events() if event.kind is EventKind.ANSWER_REFUSED]
    assert {(fields["institution"], fields["code"]) for fields in refused} == {("bank-a", code)}


def test_whoever_does_not_sign_its_boxes_is_left_out_and_nobody_else(tmp_path: Path) -> None:
    # Only the recipient could use such a box, and it could do no more than stay away: the sender's fault, its loss.
    consortium = secure(tmp_path)
    worker = consortium.sites["bank-a"].worker

    def garbled(reaction: Reaction, _: OpenedRequest) -> Reaction:
        bulk = joined(reaction)
        return boxes(reaction, bytes([bulk[0] ^ 1]) + bulk[1:])

    worker._stages = Lying(worker._stages, Stage.ROOTS, garbled)  # type: ignore[assignment]
    run = consortium.run()
    before = run.state
    result = next(run.rounds()).result
    assert result.contributors == ["bank-b", "fund-c", "insurer-d"]
    assert result.refusals == {}
    assert result.total.tolist() == exact(consortium, result.contributors, before.weights, 1)


def test_the_place_of_a_run_is_found_in_its_log_alone(tmp_path: Path) -> None:
    consortium, database = secure(tmp_path), Database.in_memory()
    transport = lossy(consortium, {Stage.KEYS: {*NAMES}})
    with pytest.raises(QuorumError):
        next(consortium.run(transport, database=database).rounds(on_reply=transport.saw))
    resumed = consortium.run(database=database)
    assert (resumed.run_id, resumed.state.round) == (RUN, 0)
    next(resumed.rounds())
    begun = [event.fields["attempt"] for event in resumed.audit.events() if event.kind is EventKind.ROUND_OPENED]
    assert begun == [1, 2, 3, 4, 1]  # four set-ups, and then the first attempt of round 1
