from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from consortium import NO_PRIVACY, Clock, Consortium, Flaky, Recorder, plan_of

from fedcredit.aggregation.server_step import server_step
from fedcredit.audit.log import EventKind
from fedcredit.checkpoint import CheckpointStore
from fedcredit.errors import (
    AuditError,
    CheckpointError,
    NothingTrainedError,
    QuorumError,
    RoundRefusedError,
    RunMismatchError,
)
from fedcredit.parties import InstitutionId, Roster
from fedcredit.rounds.engine import RoundResult
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database
from fedcredit.transport import Deadline, Reply

FIXED: dict[str, Any] = {"privacy/test_noise": True}
ALLOW = {"allow_fixed_noise": True, "allow_no_privacy": True}


def trained(run: FederatedRun) -> bytes:
    for _ in run.rounds():
        pass
    return run.state.released().tobytes()


def test_a_whole_run_from_the_plan_to_the_evaluated_model(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, rows=200)
    run = consortium.run()
    reports = list(run.rounds())
    assert [(report.round, report.rounds) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    assert all(len(report.result.contributors) == 4 for report in reports)
    assert np.isfinite(run.state.released()).all()
    counts, result = run.evaluate()
    assert counts.bins == 10
    assert len(result.contributors) == 4
    run.close()
    run.finish()
    run.finish()
    kinds = [event.kind for event in run.audit.events()]
    one_round = [EventKind.ROUND_OPENED, *[EventKind.ANSWER_ACCEPTED] * 4]
    assert kinds == [
        EventKind.RUN_OPENED,
        *[*one_round, EventKind.ROUND_RELEASED] * 3,
        *one_round,
        EventKind.EVALUATED,
        *one_round,
        EventKind.CLOSED,
        EventKind.RUN_FINISHED,
    ]
    for site in consortium.sites.values():
        assert (site.charged(), site.charged("holdout")) == (3, 1)
        assert site.epsilon() <= consortium.plan.privacy.epsilon
        assert site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon
        site.state.audit.verify()


def test_without_noise_the_consortium_learns_what_one_institution_with_all_borrowers_would(tmp_path: Path) -> None:
    names = ("bank-a", "insurer-d")
    consortium = Consortium.make(tmp_path, plan_of(names, **NO_PRIVACY), policy=ALLOW)
    run = consortium.run()
    trained(run)
    family = consortium.family
    step = server_step(consortium.plan, family.layout, input_scale=family.input_scale)
    state = consortium.run(run_id="unused").state
    parts = [
        family.computation(consortium.plan, site.name, site.holdings.split(consortium.plan).train)
        for site in consortium.sites.values()
    ]
    for number in (1, 2, 3):
        total = np.sum(
            [part.integer_sum(state.weights, round_number=number, batch=None).values for part in parts], axis=0
        )
        state = step.apply(state, total, [InstitutionId(name) for name in names])
    assert run.state.released().tobytes() == state.released().tobytes()


def test_training_learns_something(tmp_path: Path) -> None:
    plan = plan_of(**NO_PRIVACY, **{"run/rounds": 20, "training/learning_rate": 8.0})
    consortium = Consortium.make(tmp_path, plan, policy=ALLOW, rows=300)
    run = consortium.run()
    trained(run)
    counts, _ = run.evaluate()
    share_of_bad = np.cumsum(counts.bad) / counts.bad.sum()
    share_of_good = np.cumsum(counts.good) / counts.good.sum()
    assert (share_of_good - share_of_bad).max() > 0.3


def test_a_run_continues_where_it_was_cut_off_and_ends_bit_equal(tmp_path: Path) -> None:
    plan = plan_of(**FIXED)
    undisturbed = trained(Consortium.make(tmp_path / "a", plan, policy=ALLOW).run())
    for cut in (0, 1, 2, 3):
        consortium = Consortium.make(tmp_path / f"b{cut}", plan, policy=ALLOW, on_disk=True)
        database = Database.open(tmp_path / f"b{cut}" / "run.db")
        rounds = consortium.run(database=database).rounds()
        for _ in range(cut):
            next(rounds)
        rounds.close()  # type: ignore[attr-defined]
        database.close()
        for site in consortium.sites.values():
            site.reopen()
        again = Database.open(tmp_path / f"b{cut}" / "run.db")
        run = consortium.run(database=again, run_id="another-name")
        assert run.run_id == "run-1"
        assert run.state.round == cut
        assert trained(run) == undisturbed
        assert all(site.charged() == 3 for site in consortium.sites.values())
        again.close()


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


@pytest.mark.parametrize("heard", [1, 2, 3, 4])
def test_a_cut_in_the_middle_of_a_round_still_ends_bit_equal(tmp_path: Path, heard: int) -> None:
    plan = plan_of(**FIXED)
    undisturbed = trained(Consortium.make(tmp_path / "a", plan, policy=ALLOW).run())
    consortium = Consortium.make(tmp_path / "b", plan, policy=ALLOW, on_disk=True)

    def cut(result: RoundResult) -> None:
        if len(result.contributors) == heard:
            raise PowerCutError

    with Database.open(tmp_path / "b" / "run.db") as database:
        run = consortium.run(database=database)
        next(run.rounds())
        with pytest.raises(PowerCutError):
            next(run.rounds(on_reply=cut))
    for site in consortium.sites.values():
        site.reopen()
    with Database.open(tmp_path / "b" / "run.db") as database:
        assert trained(consortium.run(database=database)) == undisturbed


@pytest.mark.parametrize("heard", [0, 1])
def test_a_cut_in_the_middle_of_a_round_asks_with_a_new_attempt(tmp_path: Path, heard: int) -> None:
    consortium = Consortium.make(tmp_path)
    database = Database.open(tmp_path / "run.db")

    def cut(result: RoundResult) -> None:
        if len(result.contributors) == heard:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        list(consortium.run(database=database).rounds(on_reply=cut))
    database.close()
    again = Database.open(tmp_path / "run.db")
    recorder = Recorder(consortium.loopback())
    run = consortium.run(recorder, database=again)
    trained(run)
    opened = [event.fields for event in run.audit.events() if event.kind is EventKind.ROUND_OPENED]
    assert [(fields["round"], fields["attempt"]) for fields in opened] == [(1, 1), (1, 2), (2, 1), (3, 1)]
    # The institution that had answered the first attempt is charged for it: never less than what left.
    assert [site.charged() for site in consortium.sites.values()] == [3 + heard, 3, 3, 3]
    again.close()


def test_a_lost_quorum_is_asked_again_while_the_plan_has_retries_and_then_stops(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    transport = Flaky(consortium.loopback(), lambda name, number: name == "bank-b")
    run = consortium.run(transport)
    before = run.state
    with pytest.raises(QuorumError) as caught:
        trained(run)
    assert caught.value.fields["missing"] == "bank-b"
    assert transport.exchanges == 3  # one attempt and two retries
    assert run.state is before
    assert sorted((tmp_path / "run" / "checkpoints").iterdir()) == [
        CheckpointStore(tmp_path / "run" / "checkpoints").path(0)
    ]
    assert [site.charged() for site in consortium.sites.values()] == [3, 0, 3, 3]
    # The others have paid for three of their five releases. What bank-b lost cannot be made up for: they refuse.
    transport.lost = lambda name, number: False
    with pytest.raises(RoundRefusedError, match=r"bank-a \(FC-2302\), fund-c \(FC-2302\), insurer-d \(FC-2302\)"):
        trained(run)
    assert run.state.round == 2
    assert [site.charged() for site in consortium.sites.values()] == [5, 3, 5, 5]
    assert all(site.epsilon() <= consortium.plan.privacy.epsilon for site in consortium.sites.values())


@pytest.mark.parametrize("lose_reply", [False, True])
def test_retries_that_the_plan_pays_for_end_in_the_whole_model(tmp_path: Path, lose_reply: bool) -> None:
    consortium = Consortium.make(tmp_path)
    # Attempts: round 1 fails once, round 3 fails once, the evaluation fails twice.
    transport = Flaky(consortium.loopback(), lambda name, number: number in (1, 4, 6, 7), lose_reply=lose_reply)
    run = consortium.run(transport)
    trained(run)
    run.evaluate()
    run.close()
    run.finish()
    opened = [event.fields for event in run.audit.events() if event.kind is EventKind.ROUND_OPENED]
    assert [(fields["round"], fields["attempt"], fields["purpose"]) for fields in opened] == [
        *[(1, 1, "train"), (1, 2, "train"), (2, 1, "train"), (3, 1, "train"), (3, 2, "train")],
        *[(3, 1, "evaluate"), (3, 2, "evaluate"), (3, 3, "evaluate"), (3, 1, "close")],
    ]
    for site in consortium.sites.values():
        assert (site.charged(), site.charged("holdout")) == ((5, 3) if lose_reply else (3, 1))
        assert site.epsilon() <= consortium.plan.privacy.epsilon
        assert site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon


@pytest.mark.parametrize(("retries", "failing"), [(0, (1,)), (1, (1, 2)), (2, (1, 3, 5)), (3, (2, 3, 4, 6))], ids=str)
def test_a_run_makes_exactly_its_retries_whatever_round_they_are_for(
    tmp_path: Path, retries: int, failing: tuple[int, ...]
) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**{"rounds/retries": retries}))
    transport = Flaky(consortium.loopback(), lambda name, number: number in failing)
    with pytest.raises(QuorumError):
        trained(consortium.run(transport))
    # The last exchange is the failure that no retry was left for.
    assert transport.exchanges == failing[-1]
    assert len(failing) == retries + 1


def test_the_retries_of_a_run_are_counted_over_a_resume(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)  # two retries
    database = Database.in_memory()

    def cut(result: RoundResult) -> None:
        if result.contributors:
            raise PowerCutError

    # One attempt of round 1 fails; then the coordinator loses power in the middle of an attempt of round 2.
    first = Flaky(consortium.loopback(), lambda name, number: number == 1)
    rounds = consortium.run(first, database=database).rounds()
    next(rounds)
    with pytest.raises(PowerCutError):
        next(consortium.run(database=database).rounds(on_reply=cut))
    # Both count as failed, so the resumed run asks once, and not again.
    deaf = Flaky(consortium.loopback(), lambda name, number: True)
    resumed = consortium.run(deaf, database=database)
    with pytest.raises(QuorumError):
        trained(resumed)
    assert deaf.exchanges == 1
    opened = [event.fields for event in resumed.audit.events() if event.kind is EventKind.ROUND_OPENED]
    assert [(fields["round"], fields["attempt"]) for fields in opened] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    # Nothing of those attempts was charged but what bank-a answered: an operator who resumes may still finish.
    trained(consortium.run(database=database))
    assert [site.charged() for site in consortium.sites.values()] == [4, 3, 3, 3]


@pytest.mark.parametrize("retries", [0, 2])
def test_the_retries_of_the_evaluation_are_counted_over_a_resume(tmp_path: Path, retries: int) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**{"rounds/retries": retries}))
    database = Database.in_memory()
    trained(consortium.run(database=database))
    for exchanges in (retries + 1, 1):
        deaf = Flaky(consortium.loopback(), lambda name, number: True)
        with pytest.raises(QuorumError):
            consortium.run(deaf, database=database).evaluate()
        assert deaf.exchanges == exchanges
    consortium.run(database=database).evaluate()
    assert [site.charged("holdout") for site in consortium.sites.values()] == [1] * 4


@pytest.mark.parametrize("lose_reply", [False, True])
def test_a_minority_that_drops_out_leaves_the_others_with_an_exact_sum(tmp_path: Path, lose_reply: bool) -> None:
    plan = plan_of(**NO_PRIVACY, **{"rounds/quorum": 2})
    consortium = Consortium.make(tmp_path, plan, policy=ALLOW)
    # Exchange 1 loses bank-a, 2 loses bank-b and fund-c, 3 loses nobody.
    gone = {1: {"bank-a"}, 2: {"bank-b", "fund-c"}, 3: set()}
    transport = Flaky(consortium.loopback(), lambda name, number: name in gone[number], lose_reply=lose_reply)
    run = consortium.run(transport)
    family = consortium.family
    step = server_step(plan, family.layout, input_scale=family.input_scale)
    state = run.state
    for report in run.rounds():
        present = [site for name, site in consortium.sites.items() if name not in gone[report.round]]
        assert report.result.contributors == [site.name for site in present]
        total = np.sum(
            [
                family.computation(plan, site.name, site.holdings.split(plan).train)
                .integer_sum(state.weights, round_number=report.round, batch=None)
                .values
                for site in present
            ],
            axis=0,
        )
        assert report.result.total.tolist() == total.tolist()
        state = step.apply(state, total, report.result.contributors)
        assert report.state.weights.tobytes() == state.weights.tobytes()


def test_a_budget_that_ends_in_the_middle_stops_the_run_and_keeps_the_model(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    poor = consortium.sites["fund-c"]
    poor.budget = {"epsilon": 2.5, "delta": 1e-5, "holdout_epsilon": 5.0}
    poor.open()
    run = consortium.run()
    rounds = run.rounds()
    next(rounds)
    next(rounds)
    kept = run.state
    with pytest.raises(RoundRefusedError, match=r"fund-c \(FC-4101\)"):
        next(rounds)
    assert run.state is kept
    assert poor.charged() == 2
    assert poor.epsilon() <= 2.5
    with pytest.raises(NothingTrainedError):
        run.evaluate()
    with pytest.raises(NothingTrainedError):
        run.finish()


def test_a_folder_of_another_plan_or_roster_is_refused(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    database = Database.in_memory()
    consortium.run(database=database)
    with pytest.raises(RunMismatchError):
        consortium.run(database=database, plan=plan_of(**{"training/learning_rate": 2.5}))
    with pytest.raises(RunMismatchError):
        consortium.run(database=database, roster=Roster(consortium.roster.members[:3]))
    consortium.run(database=database)


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "swapped"])
def test_a_damaged_checkpoint_is_never_continued_from(tmp_path: Path, damage: str) -> None:
    consortium = Consortium.make(tmp_path)
    database = Database.in_memory()
    next(consortium.run(database=database).rounds())
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    path = store.path(1)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(
            {"changed": whole[:-1] + b"\1", "cut": whole[:-8], "swapped": store.path(0).read_bytes()}[damage]
        )
    with pytest.raises(CheckpointError):
        consortium.run(database=database)


def test_a_changed_log_is_never_continued_from(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    database = Database.in_memory()
    next(consortium.run(database=database).rounds())
    database.execute("UPDATE journal_entries SET digest = x'00' WHERE position = 2")
    with pytest.raises(AuditError):
        consortium.run(database=database)


def test_a_crash_between_checkpoint_and_log_line_does_the_round_again(tmp_path: Path) -> None:
    # The checkpoint of round 1 lies there, but the log does not say that it was released.
    consortium = Consortium.make(tmp_path)
    database = Database.in_memory()
    run = consortium.run(database=database)
    start = run.state.weights.copy()
    record = run.audit.record

    def cut(kind: EventKind, **fields: Any) -> None:
        if kind is EventKind.ROUND_RELEASED:
            raise PowerCutError
        record(kind, **fields)

    run.audit.record = cut  # type: ignore[method-assign]
    with pytest.raises(PowerCutError):
        next(run.rounds())
    assert CheckpointStore(tmp_path / "run" / "checkpoints").path(1).exists()
    resumed = consortium.run(database=database)
    assert resumed.state.round == 0
    assert resumed.state.weights.tolist() == start.tolist()
    trained(resumed)
    opened = [event.fields for event in resumed.audit.events() if event.kind is EventKind.ROUND_OPENED]
    assert [(fields["round"], fields["attempt"]) for fields in opened] == [(1, 1), (1, 2), (2, 1), (3, 1)]


def test_every_released_model_names_its_parent_and_its_round(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    run = consortium.run()
    trained(run)
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    events = list(run.audit.events())
    manifests = {
        event.fields["round"]: event.fields["manifest"] for event in events if event.kind is EventKind.ROUND_OPENED
    }
    parent = events[0].fields["checkpoint"]
    assert store.load(0, digest=parent).parent == bytes(32)  # type: ignore[arg-type]
    for event in events:
        if event.kind is not EventKind.ROUND_RELEASED:
            continue
        number = event.fields["round"]
        checkpoint = store.load(number, digest=event.fields["checkpoint"])  # type: ignore[arg-type]
        assert (checkpoint.round, checkpoint.parent) == (number, parent)
        assert checkpoint.manifest_digest == event.fields["manifest"] == manifests[number]
        parent = event.fields["checkpoint"]


def test_the_relay_sees_nothing_but_sealed_bytes_of_public_lengths(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    recorder = Recorder(consortium.loopback())
    run = consortium.run(recorder)
    trained(run)
    run.evaluate()
    assert len({len(reply.payload or b"") for reply in recorder.replies}) == 1
    for exchange, requests in enumerate(recorder.requests):
        assert len({len(request) for request in requests.values()}) == 1, exchange
    everything = b"".join(reply.payload or b"" for reply in recorder.replies) + b"".join(
        request for requests in recorder.requests for request in requests.values()
    )
    for secret in (b"run-1", b"bank-a", b"credit", consortium.plan.digest(), b"rounded-gaussian"):
        assert secret not in everything


def test_replies_of_an_earlier_run_do_not_count_in_a_later_one(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**{"rounds/quorum": 1}))
    recorder = Recorder(consortium.loopback())
    trained(consortium.run(recorder))

    @dataclass
    class Replaying:
        clock: Clock

        def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
            yield from recorder.replies

    later = consortium.run(Replaying(consortium.clock), run_id="run-2")
    with pytest.raises(QuorumError):
        trained(later)
    assert later.state.round == 0


def test_a_second_evaluation_is_charged_again_and_never_for_free(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    run = consortium.run()
    trained(run)
    for number in (1, 2, 3):
        run.evaluate()
        assert [site.charged("holdout") for site in consortium.sites.values()] == [number] * 4
    with pytest.raises(RoundRefusedError, match="FC-2302"):
        run.evaluate()
    assert [site.charged("holdout") for site in consortium.sites.values()] == [3] * 4
    assert all(
        site.epsilon("holdout") <= consortium.plan.privacy.evaluation_epsilon for site in consortium.sites.values()
    )


def test_a_second_run_of_an_approved_plan_trains_nothing(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path)
    trained(consortium.run())
    again = consortium.run(run_id="run-2")
    with pytest.raises(RoundRefusedError, match="FC-2302"):
        trained(again)
    assert again.state.round == 0
    assert [site.charged() for site in consortium.sites.values()] == [3] * 4


@pytest.mark.parametrize("kind", ["network", "logistic"])
def test_the_torch_families_run_through_the_same_engine(tmp_path: Path, kind: str) -> None:
    model = {"kind": kind, "base_rate": 0.4} | ({"width": 4} if kind == "network" else {})
    raw = plan_of(**FIXED).model_dump()
    plan = type(plan_of()).model_validate({**raw, "model": model})
    consortium = Consortium.make(tmp_path, plan, policy=ALLOW)
    run = consortium.run()
    trained(run)
    assert run.state.round == 3
    run.evaluate()


def test_federated_averaging_runs_through_the_same_engine(tmp_path: Path) -> None:
    raw = plan_of(**NO_PRIVACY).model_dump()
    raw["model"] = {"kind": "logistic", "base_rate": 0.4}
    raw["aggregation"]["update_bound"] = "none"
    raw["training"] = {"kind": "fedavg", "learning_rate": 0.5, "local_epochs": 1, "batch_size": 16, "seed": 1}
    consortium = Consortium.make(tmp_path, type(plan_of()).model_validate(raw), policy=ALLOW)
    run = consortium.run()
    start = run.state.weights.copy()
    trained(run)
    assert (run.state.weights != start).any()
