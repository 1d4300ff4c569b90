"""``audit verify`` of a run and ``audit view``, as typed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bent_members import bent, other_commitments
from consortium import SECURE, Consortium, Flaky, plan_of
from kept_runs import attempts, change, driven, opened_run, places, read, rewrite, trained
from timestamping import Authority, answer_query

from fedcredit.audit.log import EventKind
from fedcredit.errors import AuditError, QuorumError
from fedcredit.lab.inprocess import run_in_process
from fedcredit.lab.study import Study, StudyOptions, build_study
from fedcredit.messages import Stage
from fedcredit.rounds.run import FederatedRun
from fedcredit.store.database import Database

OPTIONS = StudyOptions(
    dataset="german", model="scorecard", epsilon=3.0, rounds=2, seed=1, test_noise=False, deadline_s=60.0
)
VERIFY = "audit verify demo"
VIEW = "audit view demo"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    made = build_study(tmp_path_factory.mktemp("study") / "demo", OPTIONS, relay_port=9443)
    run_in_process(made, on_round=lambda *_: None)
    return made


@pytest.fixture
def demo(study: Study, tmp_path: Path, type_in: Callable) -> Callable:
    shutil.copytree(study.folder, tmp_path / "demo")
    return type_in


@pytest.fixture
def run(demo: Callable, tmp_path: Path) -> Path:
    (found,) = (tmp_path / "demo" / "coordinator" / "runs").iterdir()
    return found


def node_of(study: Study, number: int = 0) -> tuple[str, Path]:
    name = sorted(study.holdings)[number]
    return name, Path("demo") / study.node_folder(name).relative_to(study.folder)


# --- anchor ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.make()


STAMPED = datetime(2026, 11, 22, 7, 30, tzinfo=UTC)


def test_a_run_is_stamped_by_files_carried_to_an_authority_and_the_stamp_is_verified_later(
    demo: Callable, run: Path, tmp_path: Path, authority: Authority
) -> None:
    asked = demo("audit anchor demo --query query.tsq --format json")
    assert (asked.code, asked.data["size"]) == (0, len(read(run)))
    (tmp_path / "reply.tsr").write_bytes(answer_query(authority, (tmp_path / "query.tsq").read_bytes(), STAMPED))
    (tmp_path / "authority.pem").write_bytes(authority.roots)
    kept = demo("audit anchor demo --reply reply.tsr --authority authority.pem")
    assert kept.code == 0
    assert "existed on 2026-11-22 07:30:00 UTC, says the authority under CN=Test Time Root" in kept.stderr
    assert "▲ time stamps lie in anchors; with --authority they are checked" in demo(VERIFY).stderr
    checked = demo(f"{VERIFY} --authority authority.pem --format json")
    assert checked.data["anchors"] == [
        {"size": asked.data["size"], "time": "2026-11-22T07:30:00+00:00", "root": "CN=Test Time Root"}
    ]
    (tmp_path / "authority.pem").write_bytes(Authority.make().roots)
    demo(f"{VERIFY} --authority authority.pem").refuses("FC-3307", 5, "not signed under")


def test_a_stamp_of_another_run_is_neither_kept_nor_believed(
    demo: Callable, run: Path, tmp_path: Path, authority: Authority
) -> None:
    (tmp_path / "reply.tsr").write_bytes(authority.stamp(bytes(32), STAMPED))
    (tmp_path / "authority.pem").write_bytes(authority.roots)
    demo("audit anchor demo --reply reply.tsr --authority authority.pem").refuses("FC-3307", 5, "something else")
    assert not (run / "anchors").exists()
    demo(f"{VERIFY} --authority authority.pem").refuses("FC-3307", 5, "there is none")
    (run / "anchors").mkdir()
    (run / "anchors" / "99999.tsr").write_bytes((tmp_path / "reply.tsr").read_bytes())
    demo(f"{VERIFY} --authority authority.pem").refuses("FC-3307", 5, "entries only")


@pytest.mark.parametrize(
    "options", ["", "--query a --reply b", "--reply b", "--query a --authority c", "--authority c"]
)
def test_a_query_and_a_reply_are_two_errands(demo: Callable, options: str) -> None:
    demo(f"audit anchor demo {options}").refuses("FC-1006", 2, "either --query, or --reply")


# --- verify ----------------------------------------------------------------------------------------------------------


def test_a_demo_verifies_and_tells_what_was_checked(demo: Callable, run: Path) -> None:
    outcome = demo(f"{VERIFY} --format json")
    assert outcome.code == 0
    data = outcome.data
    assert (data["aggregation"], data["released"], data["sums"]) == ("secure", 2, 3)
    assert data["recomputed"] == 3
    assert data["uploads"] == 3 * 4
    assert data["figures"] == 7
    assert data["entries"] == len(read(run)) == data["final"]["size"] + 7
    assert data["final"] == {"size": data["entries"] - 7, "by": sorted(data["spent"]), "closed": True}
    assert data["releases"]["train"] == {"accepted": 2, "allowed": 3}
    assert all(item["train"]["epsilon"] <= 3.0 for item in data["spent"].values())
    assert data["compared"] is None
    said = outcome.stderr
    for part in (
        f"✓ audit log: {data['entries']} entries, chain unbroken, head {data['head'][:16]}",
        "✓ 3 sums added up again from 12 uploads, 12 agreements and",
        "✓ 2 released models match their log lines",
        "✓ 3 models follow bit for bit from plan and sums",
        "✓ 7 figures of the evaluation follow from its counts",
        f"the first {data['final']['size']} entries are final: cosigned by {', '.join(data['final']['by'])}",
        "7 entries lie behind them: the closing of the run",
        "training 2/3, evaluation 1/2",
        data["fingerprints"]["coordinator"],
        *data["fingerprints"]["members"].values(),
    ):
        assert part in said, part


def test_the_only_run_below_the_current_folder_is_verified(demo: Callable, run: Path) -> None:
    assert demo("audit verify --format json").data["run"] == run.name


def test_the_coordinators_fingerprint_is_compared(demo: Callable) -> None:
    right = demo(f"{VERIFY} --format json").data["fingerprints"]["coordinator"]
    assert "✓ the coordinator's fingerprint is the one that you gave" in demo(f"{VERIFY} --coordinator {right}").stderr
    demo(f"{VERIFY} --coordinator 0000-{right[5:]}").refuses("FC-3202", 5, "the coordinator of this run", right)


def test_a_run_is_compared_with_what_a_member_has_cosigned(demo: Callable, study: Study, run: Path) -> None:
    name, folder = node_of(study)
    outcome = demo(f"{VERIFY} --against {folder} --format json")
    compared = outcome.data["compared"]
    closing = places(read(run), EventKind.ROUND_OPENED)[-1]
    assert compared == {
        "institution": name,
        "cosigned": closing,
        "answered": 2 + 3 * 3 + 1,
        "unstated": 0,
        "accepted": 4,
        "unused": 0,
        "unheard": False,
    }
    assert f"✓ {name} cosigned the first {closing} entries of this log" in outcome.stderr

    log = read(run)
    rewrite(run, log[: places(log, EventKind.EVALUATED)[0] + 1])
    (run / "closing.json").unlink()
    assert demo(VERIFY).code == 0
    rewrite(run, log[: places(log, EventKind.EVALUATED)[0]])
    (run / "evaluation.json").unlink()
    demo(f"{VERIFY} --against {folder}").refuses("FC-3303", 5, f"cosigned {closing}")


def test_an_answer_to_the_closing_that_the_log_lacks_is_told_beside_its_member(
    demo: Callable, study: Study, run: Path
) -> None:
    name, folder = node_of(study)
    log = read(run)
    rewrite(run, log[: places(log, EventKind.ROUND_OPENED)[-1] + 1])
    (run / "closing.json").unlink()
    outcome = demo(f"{VERIFY} --against {folder}")
    assert outcome.code == 0
    assert f"▲ the log lacks the answer of {name} to the closing" in outcome.stderr
    assert "gave shares" not in outcome.stderr


def test_a_node_that_knows_nothing_of_the_run_is_told_apart(demo: Callable, study: Study, run: Path) -> None:
    name, folder = node_of(study)
    (folder / "state" / "node.db").unlink()
    demo(f"{VERIFY} --against {folder}").refuses("FC-3301", 5, "there is no log")
    with Database.open(folder / "state" / "node.db"):
        pass
    demo(f"{VERIFY} --against {folder}").refuses("FC-3301", 5, f"takes an answer that {name} did not give")
    rewrite(run, read(run)[:1])
    for path in (
        (run / "transcripts").iterdir(),
        [run / "evaluation.json", run / "closing.json", run / "rounds.jsonl"],
    ):
        for file in path:
            file.unlink()
    assert f"▲ {name} has cosigned nothing of this run" in demo(f"{VERIFY} --against {folder}").stderr


def test_a_run_of_others_is_not_compared(demo: Callable, study: Study) -> None:
    _, folder = node_of(study)
    text = (folder / "node.toml").read_text()
    (folder / "node.toml").write_text(re.sub(r'institution = ".*"', 'institution = "stranger"', text))
    demo(f"{VERIFY} --against {folder}").refuses("FC-1006", 2, "stranger is not a member of this run")


def test_a_lie_ends_with_five_and_names_its_entry(demo: Callable, run: Path) -> None:
    log = read(run)
    index = places(log, EventKind.SUM_OPENED)[1]
    change(run, index, {"total": bytes(32)})
    demo(VERIFY).refuses("FC-3301", 5, f"entry {index} names another sum than its signed messages give")
    envelope = json.loads(demo(f"{VERIFY} --format json").stdout)
    assert (envelope["code"], envelope["exit"], envelope["where"]["index"]) == ("FC-3301", 5, str(index))
    rewrite(run, log)
    assert demo(VERIFY).code == 0


def test_what_is_missing_from_a_run_is_said_aloud(demo: Callable, run: Path) -> None:
    for name in ("evaluation.json", "closing.json"):
        (run / name).unlink()
    assert "▲ the run was evaluated, and its figures are not here: nothing was compared" in demo(VERIFY).stderr
    log = read(run)
    rewrite(run, log[: places(log, EventKind.CLOSED)[0]])
    assert "entries lie behind them; until the run is closed they are the coordinator's word" in demo(VERIFY).stderr


def test_options_that_do_not_go_together_are_refused(demo: Callable, study: Study) -> None:
    _, folder = node_of(study)
    demo(f"audit verify {folder} --ledger privacy --coordinator 0000").refuses("FC-1006", 2, "--coordinator")
    demo(f"audit verify {folder} --against demo").refuses("FC-1006", 2, "--ledger privacy")
    demo("audit verify nowhere").refuses("FC-2101", 2, "nowhere")


def test_an_open_run_and_one_cut_off_are_told_as_such(
    tmp_path: Path, type_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven(Consortium.make(tmp_path / "open", plan_of(**{"run/rounds": 1})))
    said = type_in("audit verify open/run").stderr
    assert "▲ open aggregation keeps no answers" in said
    assert "bit for bit" not in said

    keep = FederatedRun._keep_transcript

    def keep_and_fail(self: FederatedRun, *kept: object) -> None:
        keep(self, *kept)  # type: ignore[arg-type]
        raise AuditError(path="x", index=0, problem="is a power cut")

    consortium = Consortium.make(tmp_path / "cut", plan_of(**SECURE))
    with monkeypatch.context() as patched:
        patched.setattr(FederatedRun, "_keep_transcript", keep_and_fail)
        with opened_run(consortium) as opened, pytest.raises(AuditError):
            next(opened.run.rounds())
    assert "▲ 1 transcripts hold that no entry names" in type_in("audit verify cut/run").stderr


def test_what_failed_and_who_is_blamed_is_told(tmp_path: Path, type_in: Callable) -> None:
    consortium = Consortium.make(tmp_path, plan_of(**SECURE, **{"run/rounds": 2, "rounds/retries": 0}))
    bent(consortium, "bank-b", Stage.UPLOAD, other_commitments(3))
    flaky = Flaky(consortium.loopback(), lambda name, number: number == 6 and name != "bank-a")
    with pytest.raises(QuorumError):
        trained(consortium, flaky)
    verified = type_in("audit verify run --format json")
    assert "✓ 2 attempts without a sum, or without somebody's answer: what was asked is signed" in verified.stderr
    assert "✓ 1 times a member is blamed, each time by what members signed" in verified.stderr
    told = json.loads(verified.stdout)["data"]
    assert (told["attempts"], told["blames"]) == ({"kept": 2, "not_kept": 0, "cut_off": 0}, 1)
    log = read(tmp_path / "run")
    rewrite(tmp_path / "run", log[:-1])
    attempts(tmp_path / "run")[-1].unlink()
    assert (
        "▲ 1 attempts have no end in the log: the coordinator was cut off, or is" in type_in("audit verify run").stderr
    )


def test_what_older_versions_did_not_keep_is_told(
    tmp_path: Path, type_in: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedcredit.rounds.run.RECORDS", 1)
    consortium = Consortium.make(tmp_path, plan_of(**{"run/rounds": 1, "rounds/retries": 0, "rounds/quorum": 3}))
    with pytest.raises(QuorumError):
        trained(consortium, Flaky(consortium.loopback(), lambda name, number: name < "c"))
    log = read(tmp_path / "run")
    rewrite(tmp_path / "run", [*log[:-1], (log[-1][0], {**log[-1][1], "record": bytes(32)})])
    type_in("audit verify run").refuses("FC-3301", 5, "names another record than 00001-train-001-attempt.cbor")
    attempts(tmp_path / "run")[0].unlink()
    older = {name: value for name, value in log[-1][1].items() if name != "record"}
    rewrite(tmp_path / "run", [*log[:-1], (log[-1][0], older)])
    said = type_in("audit verify run").stderr
    assert "▲ 1 attempts without a sum, or without somebody's answer, were not kept by that version" in said


def test_requests_that_an_older_node_recorded_without_their_radii_are_told(
    demo: Callable, study: Study, run: Path
) -> None:
    name, folder = node_of(study)
    state = folder / "state" / "node.db"
    log = [(kind, {key: value for key, value in fields.items() if key != "radii"}) for kind, fields in read(state)]
    rewrite(state, log)
    outcome = demo(f"{VERIFY} --against {folder} --format json")
    trained_on = [fields for kind, fields in log if fields.get("purpose") == "train"]
    assert outcome.data["compared"]["unstated"] == len(trained_on)
    assert f"▲ {len(trained_on)} requests in the log of {name} were recorded by an older version" in outcome.stderr


# --- view ------------------------------------------------------------------------------------------------------------


def test_the_entries_of_a_run_are_browsed_page_by_page(demo: Callable, run: Path) -> None:
    log = read(run)
    first = demo(f"{VIEW} --limit 10 --format json")
    assert [event["index"] for event in first.data["events"]] == list(range(10))
    assert first.data["next"] == 10
    assert "Next: fedcredit audit view demo --from 10 --limit 10" in first.stderr
    assert f"10 of {len(log)} entries, chain unbroken" in first.stderr
    second = demo(f"{VIEW} --from 10 --limit 1000 --format json")
    assert second.data["next"] is None
    assert "Next:" not in second.stderr
    events = first.data["events"] + second.data["events"]
    assert [(event["index"], event["event"]) for event in events] == [
        (index, str(kind)) for index, (kind, _) in enumerate(log)
    ]
    assert events[0]["plan"] == log[0][1]["plan"].hex()
    assert events[-1]["digest"] == second.data["head"]


def test_entries_are_chosen_by_round_member_and_kind(demo: Callable, study: Study, run: Path) -> None:
    name, _ = node_of(study)
    log = read(run)
    shown = demo(f"{VIEW} --round 1 --member {name} --kind answer-accepted --format json")
    (event,) = shown.data["events"]
    kind, fields = log[event["index"]]
    assert (kind, fields["institution"], fields["round"]) == (EventKind.ANSWER_ACCEPTED, name, 1)
    line = next(line for line in shown.stderr.splitlines() if "answer-accepted" in line)
    assert line.split() == [
        *(str(event["index"]), "answer-accepted", "1", "train", "1", name),
        *("answer", event["answer"][:8], "·", "ledger_head", event["ledger_head"][:8], "·"),
        *("log_size", str(event["log_size"])),
    ]
    everybody = demo(f"{VIEW} --member {name} --kind cohort-selected --format json").data["events"]
    assert len(everybody) == len(places(log, EventKind.COHORT_SELECTED))
    page = demo(f"{VIEW} --member {name} --limit 1")
    assert f"Next: fedcredit audit view demo --member {name} --from 2 --limit 1" in page.stderr


def test_codes_are_explained_long_texts_cut_and_an_unknown_code_left_alone(demo: Callable, run: Path) -> None:
    log = read(run)
    opened = places(log, EventKind.ROUND_OPENED)[-1]
    place = {name: log[opened][1][name] for name in ("run", "round", "attempt", "purpose")}
    refusals = [
        (EventKind.INSTITUTION_REFUSED, {**place, "institution": "bank-d", "stage": "close", "code": code})
        for code in ("FC-4101", "FC-0000")
    ]
    blame = (EventKind.MEMBER_BLAMED, {**place, "institution": "bank-d", "reason": "r" * 80})
    aborted = (EventKind.ROUND_ABORTED, {**place, "stage": "close", "missing": ["a", "b", "c"], "refused": ["bank-d"]})
    rewrite(run, [*log[: opened + 1], *refusals, blame, aborted])
    said = demo(f"{VIEW} --from {opened + 1}").stderr
    assert "FC-4101  A release would exceed the institution's own cap." in said
    assert f"reason {'r' * 47}…\n" in said
    assert "FC-0000  " not in said
    assert "missing 3 members · refused bank-d · stage close" in said
    chinese = demo(f"--lang zh {VIEW} --from {opened + 1}").stderr
    assert "FC-4101  … 将使 … 的 epsilon 达到 …;本机构上限为 …(已用 …)。" in chinese
    assert "missing 3 个成员" in chinese


def test_a_broken_log_is_shown_up_to_where_it_breaks(demo: Callable, run: Path) -> None:
    with Database.open(run / "run.db") as database:
        database.execute("UPDATE journal_entries SET body = x'a0' WHERE position = 6")
    outcome = demo(VIEW)
    assert outcome.code == 5
    assert "entry 6 does not match its digest" in outcome.stderr
    assert re.findall(r"(?m)^(\d+) ", outcome.stderr) == [str(number) for number in range(6)]


def test_a_nodes_own_log_is_browsed_too(demo: Callable, study: Study) -> None:
    _, folder = node_of(study)
    events = demo(f"audit view {folder} --kind request-answered --format json").data["events"]
    assert [event["stage"] for event in events[:5]] == ["keys", "roots", "upload", "accept", "reveal"]


def test_an_empty_log_shows_nothing_and_an_unknown_kind_is_refused(demo: Callable, study: Study) -> None:
    demo(f"{VIEW} --kind gossip").refuses("FC-1006", 2, '"gossip"', "answer-accepted")
    demo("audit view nowhere").refuses("FC-2101", 2, "nowhere")
    _, folder = node_of(study)
    (folder / "state" / "node.db").unlink()
    with Database.open(folder / "state" / "node.db"):
        pass
    data = demo(f"audit view {folder} --format json").data
    assert (data["entries"], data["head"], data["events"]) == (0, None, [])


# --- Chinese ---------------------------------------------------------------------------------------------------------


def test_both_commands_speak_chinese_with_the_same_envelopes(demo: Callable, study: Study) -> None:
    _, folder = node_of(study)
    for command in (f"{VERIFY} --against {folder}", f"{VIEW} --limit 5"):
        english, chinese = (demo(f"--lang {lang} {command} --format json") for lang in ("en", "zh"))
        assert json.loads(english.stdout) == json.loads(chinese.stdout)
        told = "\n".join(line for line in chinese.stderr.splitlines() if "demo" not in line and "event" not in line)
        words = set(re.findall(r"(?<![\w.-])[A-Za-z]{2,}(?![\w-])", told))
        fields = {"manifest", "epoch", "plan", "roster", "coordinator", "answer", "ledger_head", "log_size", "records"}
        assert words <= {"epsilon", "delta", "setup", "train", *fields}
