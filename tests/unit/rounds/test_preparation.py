"""The preparation of a run: asked for once, kept as a checkpoint, checked afterwards, never asked for again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from consortium import COORDINATOR, RUN, TREES, Consortium, Flaky, Recorder, plan_of
from kept_runs import change as rewritten
from kept_runs import opened_run, places, read

from fedcredit.audit.log import Event, EventKind
from fedcredit.checkpoint import CheckpointStore
from fedcredit.errors import AuditError, CheckpointError, QuorumError, RoundRefusedError
from fedcredit.messages import Purpose
from fedcredit.model.trees import GROUPS_BLOCK
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import OpenRun
from fedcredit.rounds.drive import PREPARATION_FILE, ROUNDS_FILE, drive, read_lines
from fedcredit.rounds.evidence import verify_run
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database

PLAN = plan_of(**TREES)
FIXED: dict[str, Any] = {"privacy/test_noise": True}
ALLOW = {"allow_fixed_noise": True}
HOLDERS = ("bank-a", "bank-b", "insurer-d")
"""The members that hold a category; fund-c has nothing to count."""


class PowerCutError(BaseException):
    """Ends the coordinator in the middle of something."""


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium.make(tmp_path, PLAN)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.in_memory() as opened:
        yield opened


def trained(run: FederatedRun) -> bytes:
    for _ in run.rounds():
        pass
    return run.state.released().tobytes()


def asked(run: FederatedRun) -> list[tuple[object, object, object]]:
    opened = [event.fields for event in run.audit.events() if event.kind is EventKind.ROUND_OPENED]
    return [(fields["purpose"], fields["round"], fields["attempt"]) for fields in opened]


def prepared_event(run: FederatedRun) -> Event:
    (event,) = (event for event in run.audit.events() if event.kind is EventKind.PREPARED)
    return event


def test_it_is_asked_for_once_before_the_first_round(consortium: Consortium) -> None:
    recorder = Recorder(consortium.loopback())
    run = consortium.run(recorder)
    trained(run)
    run.evaluate()
    run.close()
    run.finish()
    assert asked(run) == [
        ("prepare", 1, 1),
        *[("train", number, 1) for number in (1, 2, 3)],
        ("evaluate", 3, 1),
        ("close", 3, 1),
    ]
    assert len(recorder.requests) == 6
    kinds = [event.kind for event in run.audit.events()]
    one_round = [EventKind.ROUND_OPENED, *[EventKind.ANSWER_ACCEPTED] * 4]
    assert kinds == [
        EventKind.RUN_OPENED,
        *[*one_round, EventKind.PREPARED],
        *[*one_round, EventKind.ROUND_RELEASED] * 3,
        *[*one_round, EventKind.EVALUATED],
        *[*one_round, EventKind.CLOSED],
        EventKind.RUN_FINISHED,
    ]
    # The relay cannot tell it from any other round by its length.
    assert len({len(reply.payload or b"") for reply in recorder.replies}) == 1
    for name, site in consortium.sites.items():
        kinds_charged = [charge.kind for charge in site.charges()]
        assert kinds_charged == ["prepare"] * (name in HOLDERS) + ["train"] * 3 + ["evaluate"]
        assert site.epsilon() <= PLAN.privacy.epsilon


def test_its_event_names_its_manifest_its_model_and_who_was_in_it(consortium: Consortium, tmp_path: Path) -> None:
    run = consortium.run()
    rounds = run.rounds()
    next(rounds)
    events = list(run.audit.events())
    event, opening = prepared_event(run), events[0]
    assert sorted(event.fields["contributors"]) == sorted(consortium.sites)  # type: ignore[arg-type]
    assert event.fields["manifest"] == events[1].fields["manifest"]
    assert event.fields["parent"] == opening.fields["checkpoint"]
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    assert store.path(0, prepared=True).name == "round-00000-prepared.safetensors"
    checkpoint = store.load(0, digest=event.fields["checkpoint"], prepared=True)  # type: ignore[arg-type]
    assert checkpoint.manifest_digest == event.fields["manifest"]
    assert (checkpoint.round, checkpoint.parent) == (0, opening.fields["checkpoint"])
    released = next(item for item in events if item.kind is EventKind.ROUND_RELEASED)
    assert released.fields["parent"] == event.fields["checkpoint"]


def test_training_starts_from_what_follows_from_the_histogram_alone(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**TREES, **FIXED), policy=ALLOW, rows=400)
    run = consortium.run()
    start = run.state.weights.copy()
    result = run.prepare()
    assert result is not None
    expected = consortium.family.prepared(start, result.total)
    assert run.state.weights.tobytes() == expected.tobytes() != start.tobytes()
    parts = consortium.family.layout.split(run.state.weights)
    assert not parts["leaves"].any()
    assert (parts[GROUPS_BLOCK] != consortium.family.layout.split(start)[GROUPS_BLOCK]).any()
    assert run.prepare() is None
    assert asked(run) == [("prepare", 1, 1)]


def test_a_plan_without_a_share_is_never_prepared(tmp_path: Path) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**{**TREES, "privacy/preparation_share": 0.0}))
    run = consortium.run()
    assert run.prepare() is None
    trained(run)
    assert {purpose for purpose, _, _ in asked(run)} == {"train"}
    assert not CheckpointStore(tmp_path / "run" / "checkpoints").path(0, prepared=True).exists()


def test_a_run_cut_off_between_the_preparation_and_round_1_does_not_ask_again_and_ends_bit_equal(
    tmp_path: Path,
) -> None:
    plan = plan_of(**TREES, **FIXED)
    undisturbed = trained(Consortium.make(tmp_path / "a", plan, policy=ALLOW).run())
    consortium = Consortium.make(tmp_path / "b", plan, policy=ALLOW, on_disk=True)
    with Database.open(tmp_path / "b" / "run.db") as database:
        assert consortium.run(database=database).prepare() is not None
    for site in consortium.sites.values():
        site.reopen()
    recorder = Recorder(consortium.loopback())
    with Database.open(tmp_path / "b" / "run.db") as database:
        run = consortium.run(recorder, database=database, run_id="another-name")
        assert (run.run_id, run.state.round) == (RUN, 0)
        assert trained(run) == undisturbed
        assert len(recorder.requests) == 3
    assert [charge.kind for charge in consortium.sites["bank-a"].charges()] == ["prepare"] + ["train"] * 3


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_run_cut_off_after_a_round_of_trees_ends_bit_equal(tmp_path: Path, cut: int) -> None:
    plan = plan_of(**TREES, **FIXED)
    undisturbed = trained(Consortium.make(tmp_path / "a", plan, policy=ALLOW).run())
    consortium = Consortium.make(tmp_path / "b", plan, policy=ALLOW, on_disk=True)
    with Database.open(tmp_path / "b" / "run.db") as database:
        rounds = consortium.run(database=database).rounds()
        for _ in range(cut):
            next(rounds)
        rounds.close()  # type: ignore[attr-defined]
    for site in consortium.sites.values():
        site.reopen()
    with Database.open(tmp_path / "b" / "run.db") as database:
        run = consortium.run(database=database)
        assert run.state.round == cut
        assert trained(run) == undisturbed
    assert [charge.kind for charge in consortium.sites["bank-a"].charges()] == ["prepare"] + ["train"] * 3


def test_a_crash_between_its_checkpoint_and_its_log_line_costs_one_of_its_repetitions(
    consortium: Consortium, database: Database, tmp_path: Path
) -> None:
    run = consortium.run(database=database)
    record = run.audit.record

    def cut(kind: EventKind, **fields: Any) -> None:
        if kind is EventKind.PREPARED:
            raise PowerCutError
        record(kind, **fields)

    run.audit.record = cut  # type: ignore[method-assign]
    with pytest.raises(PowerCutError):
        run.prepare()
    assert CheckpointStore(tmp_path / "run" / "checkpoints").path(0, prepared=True).exists()
    resumed = consortium.run(database=database)
    trained(resumed)
    assert asked(resumed)[:3] == [("prepare", 1, 1), ("prepare", 1, 2), ("train", 1, 1)]
    for name in HOLDERS:
        site = consortium.sites[name]
        assert [charge.kind for charge in site.charges()].count("prepare") == 2
        assert site.epsilon() <= PLAN.privacy.epsilon


@pytest.mark.parametrize("lose_reply", [False, True])
def test_it_is_repeated_while_the_plan_pays_for_it(consortium: Consortium, lose_reply: bool) -> None:
    transport = Flaky(
        consortium.loopback(), lambda name, number: name == "bank-b" and number < 3, lose_reply=lose_reply
    )
    run = consortium.run(transport)
    trained(run)
    assert [purpose for purpose, _, _ in asked(run)] == ["prepare"] * 3 + ["train"] * 3
    charged = [charge.kind for charge in consortium.sites["bank-b"].charges()].count("prepare")
    assert charged == (3 if lose_reply else 1)
    assert all(site.epsilon() <= PLAN.privacy.epsilon for site in consortium.sites.values())


def test_a_preparation_without_its_quorum_leaves_the_starting_point(
    consortium: Consortium, database: Database, tmp_path: Path
) -> None:
    deaf = Flaky(consortium.loopback(), lambda name, number: name == "bank-b")
    run = consortium.run(deaf, database=database)
    before = run.state
    with pytest.raises(QuorumError):
        trained(run)
    assert (deaf.exchanges, run.state) == (3, before)
    assert not CheckpointStore(tmp_path / "run" / "checkpoints").path(0, prepared=True).exists()
    # The others have used up what the plan pays for: it cannot be made up for.
    with pytest.raises(RoundRefusedError, match=r"bank-a \(FC-2302\), insurer-d \(FC-2302\)"):
        trained(consortium.run(database=database))


def test_failed_preparations_take_nothing_from_the_retries_of_training(consortium: Consortium) -> None:
    failing = (1, 2, 4, 6)  # twice in the preparation, twice in training
    transport = Flaky(consortium.loopback(), lambda name, number: number in failing)
    run = consortium.run(transport)
    trained(run)
    assert asked(run) == [
        *[("prepare", 1, attempt) for attempt in (1, 2, 3)],
        *[("train", 1, 1), ("train", 1, 2), ("train", 2, 1), ("train", 2, 2), ("train", 3, 1)],
    ]


# --- evidence ------------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(consortium: Consortium, tmp_path: Path) -> Path:
    """Return the folder of a run that has ended."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "plan.toml").write_text(PLAN.to_toml())
    with Database.open(folder / "run.db") as database:
        run = consortium.run(database=database)
        trained(run)
        run.close()
        run.finish()
    return folder


def test_the_evidence_of_a_prepared_run_holds(finished: Path) -> None:
    assert verify_run(finished).released == 3


@pytest.mark.parametrize("damage", ["changed", "cut", "missing", "the starting point"])
def test_a_prepared_model_that_was_tampered_with_is_found_and_never_continued_from(
    consortium: Consortium, tmp_path: Path, damage: str
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "plan.toml").write_text(PLAN.to_toml())
    store = CheckpointStore(folder / "checkpoints")
    with Database.open(folder / "run.db") as database:
        run = consortium.run(database=database)
        run.prepare()
    whole = store.path(0, prepared=True).read_bytes()
    if damage == "missing":
        store.path(0, prepared=True).unlink()
    else:
        forged = {
            "changed": whole[:-1] + bytes([whole[-1] ^ 1]),
            "cut": whole[:-8],
            "the starting point": store.path(0).read_bytes(),
        }
        store.path(0, prepared=True).write_bytes(forged[damage])
    with pytest.raises(AuditError, match=r"entry 6 names a model that is not in its place \(FC-7005"):
        verify_run(folder)
    with Database.open(folder / "run.db") as database, pytest.raises(CheckpointError):
        consortium.run(database=database)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"parent": bytes(32)}, "another parent"),
        ({"manifest": bytes(32)}, "another manifest"),
        ({"round": 1}, "out of order"),
    ],
    ids=["parent", "manifest", "round"],
)
def test_a_prepared_line_that_does_not_fit_its_place_is_found(
    consortium: Consortium, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with opened_run(consortium) as opened:
        opened.run.prepare()
    folder = tmp_path / "run"
    assert verify_run(folder).released == 0
    (index,) = places(read(folder), EventKind.PREPARED)
    rewritten(folder, index, change)
    with pytest.raises(AuditError, match=problem) as caught:
        verify_run(folder)
    assert caught.value.fields["index"] == index


# --- what a driven run leaves --------------------------------------------------------------------------------------


def driven(consortium: Consortium) -> Recorder:
    recorder = Recorder(consortium.loopback())
    with OpenRun(
        plan=consortium.plan,
        run_id=RUN,
        folder=consortium.folder / "run",
        roster=consortium.roster,
        keys=COORDINATOR,
        transport=recorder,
        heads=LedgerHeads(None),
        clock=consortium.clock,
    ) as opened:
        drive(opened, privacy_plan(consortium.plan))
    return recorder


def test_a_driven_run_records_what_the_preparation_sent(consortium: Consortium, tmp_path: Path) -> None:
    recorder = driven(consortium)
    record = json.loads((tmp_path / "run" / PREPARATION_FILE).read_text())
    assert (record["round"], sorted(record["contributors"])) == (0, sorted(consortium.sites))
    assert record["bytes_up"] == {reply.institution: len(reply.payload or b"") for reply in recorder.replies[:4]}
    assert record["bytes_down"] == {name: len(data) for name, data in recorder.requests[0].items()}
    assert [line["round"] for line in read_lines(tmp_path / "run" / ROUNDS_FILE)] == [1, 2, 3]
    assert driven(consortium).requests == []


def test_a_driven_run_without_a_preparation_leaves_no_record_of_one(tmp_path: Path) -> None:
    driven(Consortium.make(tmp_path))
    assert not (tmp_path / "run" / PREPARATION_FILE).exists()


def test_every_purpose_of_a_request_has_its_own_number_of_lanes(consortium: Consortium) -> None:
    run = consortium.run()
    assert run._engine._lanes == {
        Purpose.PREPARE: 14,  # seven bins of one category, by outcome
        Purpose.TRAIN: 6 * 8 * 2,  # gradient and curvature of eight leaves of six trees
        Purpose.EVALUATE: 20,
    }
