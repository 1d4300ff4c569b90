"""Bad input: each with its code, one sentence with the place, the way out, the exit code, and nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

import fedcredit
from fedcredit.cli.output import run_guarded
from fedcredit.config.plan import RunPlan
from fedcredit.daemon.control import ControlClient, Controller, Status
from fedcredit.daemon.service import LocalService
from fedcredit.errors import FedcreditError, ModelNotReleasedError
from fedcredit.institution.node import Node
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.coordinator import Coordinator
from fedcredit.rounds.drive import drive
from fedcredit.transport import LoopbackTransport

NODE = "--contract german --modality application --epsilon 3 --delta 1e-5 --holdout-epsilon 0.5"
PLAN = "--contract german --epsilon 3 --delta 1e-5 --evaluation-epsilon 0.5 --rounds 2 --aggregation open"


@pytest.fixture
def consortium(type_in, tmp_path: Path, lender_table: pa.Table):
    """A coordinator ``desk`` and a node ``bank`` that has joined, been approved, and got a plan."""
    csv.write_csv(lender_table, tmp_path / "bank.csv")
    type_in("coord init desk --consortium here --port 9443")
    invited = type_in("coord invite desk --format json").data
    type_in(f"node init bank --name bank --type bank --data bank.csv {NODE}")
    joined = type_in(f"node join bank {invited['invitation']} --fingerprint {invited['fingerprint']} --format json")
    own = joined.data["fingerprint"]
    type_in(f"coord member approve desk {joined.data['request']} --fingerprint {own}")
    made = type_in(f"coord plan new desk plan.toml {PLAN} --borrowers bank=50")
    assert made.code == 0, made.stderr
    return type_in


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (old, text)
    path.write_text(text.replace(old, new))


def _state(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- configuration files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("learning_rate =", "learning_rte =", "FC-1003", ["training", "learning_rte", "learning_rate"]),
        ("epsilon = 3.0", 'epsilon = "three"', "FC-1004", ["privacy.epsilon"]),
        ("rounds = 2", "rounds = 2.5", "FC-1004", ["run.rounds"]),
        ("delta = 1e-05", "", "FC-1005", ["privacy.delta", "no default"]),
        ("[privacy]", "[privacy", "FC-1002", ["not valid TOML"]),
        ("schema_version = 3", "schema_version = 4", "FC-1004", ["schema_version"]),
    ],
    ids=["misspelt", "text for a number", "real for a whole number", "missing", "not TOML", "newer"],
)
def test_a_damaged_plan_is_neither_approved_nor_started(
    consortium, tmp_path: Path, old: str, new: str, error: str, words: list[str]
) -> None:
    _replace(tmp_path / "plan.toml", old, new)
    before = _state(tmp_path)
    for command in ("node approve bank plan.toml", "coord run start desk plan.toml"):
        consortium(command).refuses(error, 2, "plan.toml", *words)
    assert _state(tmp_path) == before


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("[budget]", "[budgett]", "FC-1003", ["budgett", "budget"]),
        ("holdout_epsilon =", "holdout_epsilom =", "FC-1003", ["holdout_epsilom", "holdout_epsilon"]),
        ("epsilon = 3.0", "epsilon = true", "FC-1004", ["budget.epsilon"]),
        ('kind = "bank"', 'kind = "banque"', "FC-1004", ["kind"]),
        ('institution = "bank"', 'institution = "Bank & Co"', "FC-1004", ["institution"]),
        ('institution = "bank"', "", "FC-1005", ["institution"]),
        ("schema_version = 1", "schema_version = = 1", "FC-1002", ["line 1"]),
    ],
    ids=["misspelt section", "misspelt key", "boolean", "unknown kind", "bad name", "missing", "not TOML"],
)
def test_a_damaged_node_configuration_stops_every_command_of_the_node(
    consortium, tmp_path: Path, old: str, new: str, error: str, words: list[str]
) -> None:
    path = tmp_path / "bank" / "node.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    before = _state(tmp_path)
    for command in ("node check-data bank", "node status bank", "node approve bank plan.toml", "node keys check bank"):
        consortium(command).refuses(error, 2, *words)
    assert _state(tmp_path) == before


def test_bytes_that_are_no_text_are_no_configuration(consortium, tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe\x00\x80" * 20)
    consortium("node approve bank plan.toml").refuses("FC-1002", 2, "plan.toml", "UTF-8")


@pytest.mark.parametrize(
    "command",
    [
        "node check-data nowhere",
        "node status nowhere",
        "node run nowhere",
        "coord invite nowhere",
        "coord serve nowhere",
        "coord run status nowhere",
        "coord member show nowhere",
        "coord run start desk nowhere.toml",
        "node approve bank nowhere.toml",
        "node join bank nowhere.fcinvite --fingerprint X",
        "coord member approve desk nowhere.fcrequest --fingerprint X",
    ],
)
def test_a_missing_file_is_named_with_the_command_that_makes_one(consortium, command: str) -> None:
    consortium(command).refuses("FC-1001", 2, "nowhere", "make one: fedcredit ")


def test_a_node_that_has_not_joined_says_how_to_join(type_in, tmp_path: Path, lender_table: pa.Table) -> None:
    csv.write_csv(lender_table, tmp_path / "bank.csv")
    type_in(f"node init bank --name bank --type bank --data bank.csv {NODE}")
    type_in("node run bank").refuses("FC-1001", 2, "coordinator.fcinvite", "fedcredit node join ")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (NODE.replace("--epsilon 3", "--epsilon -3"), "FC-1004", ["budget.epsilon"]),
        (NODE.replace("--delta 1e-5", "--delta 0.5"), "FC-1004", ["budget.delta"]),
        (NODE.replace("application", "applications"), "FC-1006", ["applications", "application"]),
        (NODE.replace("german", "greek"), "FC-1001", ["greek", "german"]),
    ],
    ids=["epsilon", "delta", "modality", "contract"],
)
def test_a_node_is_not_made_from_options_that_cannot_be(
    type_in, tmp_path: Path, options: str, error: str, words: list[str]
) -> None:
    type_in(f"node init bank --name bank --type bank --data bank.csv {options}").refuses(error, 2, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "error", "code", "words"),
    [
        ("--borrowers fund=50", "FC-2304", 7, ["fund"]),
        ("--borrowers bank", "FC-1006", 2, ["bank", "INSTITUTION=COUNT"]),
        ("--borrowers bank=many", "FC-1006", 2, ["bank=many"]),
        ("--borrowers bank=50:payments", "FC-1006", 2, ["payments", "application"]),
        ("--borrowers bank=50 --borrowers bank=60", "FC-1006", 2, ["bank twice"]),
        ("--borrowers bank=0", "FC-1004", 2, ["expected_borrowers"]),
        ("--borrowers bank=50 --quorum 2", "FC-1004", 2, ["quorum"]),
        ("--borrowers bank=50 --model oracle", "FC-1006", 2, ["scorecard", "network"]),
    ],
)
def test_a_plan_is_not_drafted_from_options_that_cannot_be(
    consortium, tmp_path: Path, options: str, error: str, code: int, words: list[str]
) -> None:
    consortium(f"coord plan new desk other.toml {PLAN} {options}").refuses(error, code, *words)
    assert not (tmp_path / "other.toml").exists()


def test_nothing_that_exists_is_overwritten(consortium, tmp_path: Path) -> None:
    before = _state(tmp_path)
    consortium("coord init desk --consortium here").refuses("FC-7004", 1, "desk/federation.toml")
    consortium(f"node init bank --name bank --type bank --data bank.csv {NODE}").refuses("FC-7004", 1, "bank/node.toml")
    consortium(f"coord plan new desk plan.toml {PLAN} --borrowers bank=50").refuses("FC-7004", 1, "plan.toml")
    assert _state(tmp_path) == before


# --- data ----------------------------------------------------------------------------------------------------------


def _renamed(table: pa.Table) -> pa.Table:
    return table.rename_columns(["loan_amount" if name == "amount" else name for name in table.column_names])


def _with(table: pa.Table, column: str, cells: list[object]) -> pa.Table:
    return table.set_column(table.column_names.index(column), column, pa.array(cells))


TABLES: dict[str, tuple[Callable[[pa.Table], pa.Table], str, list[str]]] = {
    "missing column": (_renamed, "FC-5011", ['"amount"']),
    "mistyped column": (lambda t: _with(t, "amount", ["1200", *["much"] * (len(t) - 1)]), "FC-5012", ['"amount"', "2"]),
    "unknown code": (lambda t: _with(t, "purpose", ["A99"] * len(t)), "FC-5013", ['"purpose"', "60 rows", "row 1"]),
    "out of range": (lambda t: _with(t, "duration", [-6] * len(t)), "FC-5013", ['"duration"', "row 1"]),
    "empty cells": (lambda t: _with(t, "amount", [None] + [1200] * (len(t) - 1)), "FC-5014", ['"amount"', "row 1"]),
    "no borrower": (lambda t: _with(t, "borrower", [None, *map(str, range(1, len(t)))]), "FC-5017", ['"borrower"']),
    "one class": (lambda t: _with(t, "bad", [0] * len(t)), "FC-5016", ["60 labels"]),
    "no rows": (lambda t: t.slice(0, 0), "FC-5015", ["no rows"]),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_breaks_the_contract_is_refused_by_column_and_row(
    type_in, tmp_path: Path, lender_table: pa.Table, case: str, kind: str
) -> None:
    damage, error, words = TABLES[case]
    path = tmp_path / f"bank.{kind}"
    (csv.write_csv if kind == "csv" else pq.write_table)(damage(lender_table), path)
    type_in(f"node init bank --name bank --type bank --data {path.name} {NODE}")
    before = _state(tmp_path)
    outcome = type_in("node check-data bank")
    outcome.refuses(error, 3, path.name, *words)
    assert "much" not in outcome.stderr  # a cell never leaves
    assert "A99" not in outcome.stderr
    assert _state(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("bank.parquet", b"\x00\x01\x02\x03" * 100, "FC-5003"),
        ("bank.parquet", b"PAR1" + bytes(100) + b"PAR1", "FC-5003"),
        ("bank.parquet", b"", "FC-5003"),
        ("bank.csv", b"\xff\xfe\x00" * 100, "FC-5003"),
        ("bank.csv", b"", "FC-5015"),
        ("bank.csv", b"\n \n", "FC-5015"),
        ("bank.csv", None, "FC-5001"),
    ],
    ids=["garbage", "framed garbage", "empty Parquet", "no UTF-8", "empty CSV", "blank CSV", "missing"],
)
def test_a_file_that_is_no_table_is_refused(
    type_in, tmp_path: Path, name: str, content: bytes | None, error: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    type_in(f"node init bank --name bank --type bank --data {name} {NODE}")
    type_in("node check-data bank").refuses(error, 3, name)


def test_a_cut_parquet_file_is_refused(type_in, tmp_path: Path, lender_table: pa.Table) -> None:
    path = tmp_path / "bank.parquet"
    pq.write_table(lender_table, path)
    path.write_bytes(path.read_bytes()[:-40])
    type_in(f"node init bank --name bank --type bank --data {path.name} {NODE}")
    type_in("node check-data bank").refuses("FC-5003", 3, path.name, "Parquet")


def test_a_data_set_that_is_not_known_is_refused_with_the_known_ones(type_in, tmp_path: Path) -> None:
    type_in("lab data get lendingclub").refuses("FC-5031", 3, "lendingclub", "taiwan", "sba", "german")
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_damaged_vendored_file_stops_the_demo_before_it_writes_anything(tmp_path: Path) -> None:
    package = tmp_path / "installed" / "fedcredit"
    shutil.copytree(Path(fedcredit.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / "data" / "vendored" / "german.parquet"
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 1
    path.write_bytes(damaged)
    work = tmp_path / "work"
    work.mkdir()
    for command in ("demo --data german", "lab data get german"):
        done = _typed_apart(command, work, PYTHONPATH=str(package.parent))
        assert done.returncode == 3
        assert " ✗ FC-5002 " in done.stderr
        assert str(path) in done.stderr
        assert "Traceback" not in done.stderr
        assert [path for path in work.rglob("*") if path.is_file()] == []
    assert not (work / "fedcredit-demo").exists()


# --- keys and enrolment --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.chmod(0o644), ["0644"]),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), ["not a key file"]),
        (lambda path: path.write_bytes(b"\x00" * 200), ["not a key file"]),
        (lambda path: path.unlink(), ["does not exist"]),
    ],
    ids=["open to all", "cut", "garbage", "gone"],
)
def test_a_key_file_that_is_not_as_it_must_be_stops_the_node_and_the_coordinator(
    consortium, tmp_path: Path, damage: Callable[[Path], None], words: list[str]
) -> None:
    for folder, commands in {
        "bank": ("node keys check bank", "node run bank"),
        "desk": ("coord invite desk", "coord serve desk"),
    }.items():
        damage(tmp_path / folder / "keys" / "identity.key")
        for command in commands:
            consortium(command).refuses("FC-3201", 5, f"{folder}/keys/identity.key", *words)


def test_a_fingerprint_that_does_not_match_pins_nobody(consortium, tmp_path: Path) -> None:
    csv.write_csv(csv.read_csv(tmp_path / "bank.csv"), tmp_path / "fund.csv")
    consortium(f"node init fund --name fund --type guarantee_fund --data fund.csv {NODE}")
    before = _state(tmp_path)
    wrong = "0000-1111-2222-3333-4444"
    consortium(f"node join fund desk/here.fcinvite --fingerprint {wrong}").refuses("FC-3202", 5, "the coordinator")
    consortium(f"coord member approve desk bank/bank.fcrequest --fingerprint {wrong}").refuses("FC-3202", 5, "bank")
    assert _state(tmp_path) == before


@pytest.mark.parametrize("cut", [10, 30, 400, -3])
def test_a_cut_invitation_or_request_is_refused(consortium, tmp_path: Path, cut: int) -> None:
    for path, command in (
        (tmp_path / "desk" / "here.fcinvite", "node join bank desk/here.fcinvite --fingerprint X"),
        (tmp_path / "bank" / "bank.fcrequest", "coord member approve desk bank/bank.fcrequest --fingerprint X"),
    ):
        path.write_bytes(path.read_bytes()[:cut])
        before = _state(tmp_path)
        consortium(command).refuses("FC-3203", 5, path.name, "Ask for a new one")
        assert _state(tmp_path) == before


def test_an_invitation_is_no_join_request(consortium) -> None:
    consortium("coord member approve desk desk/here.fcinvite --fingerprint X").refuses("FC-3203", 5, "here.fcinvite")


# --- daemons -------------------------------------------------------------------------------------------------------


@contextmanager
def _control(
    folder: Path, *, status: Status | None = None, start: Callable[[RunPlan], str] | None = None
) -> Iterator[None]:
    """Serve a coordinator's control socket without a relay behind it."""
    coordinator = Coordinator(folder)

    def resume(run: str) -> str:
        coordinator.run_folder(run)
        return run

    controller = Controller(
        start=start or (lambda plan: "a-run"), resume=resume, status=lambda: status or Status.idle()
    )
    with LocalService(folder / "sockets" / "control.sock", controller.handle, max_bytes=1 << 20, workers=2):
        yield


@pytest.mark.parametrize("command", ["run start desk plan.toml", "run watch desk", "run resume desk some-run"])
def test_without_a_daemon_a_run_command_says_how_to_start_one(consortium, command: str) -> None:
    consortium(f"coord {command}").refuses("FC-1201", 6, "desk/sockets/control.sock", "fedcredit coord serve")


def test_a_run_that_nobody_knows_is_refused(consortium, tmp_path: Path) -> None:
    with _control(tmp_path / "desk"):
        consortium("coord run resume desk no-such-run").refuses("FC-2101", 2, "no-such-run", "coord run status")
    consortium("audit verify desk/runs/no-such-run").refuses("FC-2101", 2, "no-such-run")
    assert list((tmp_path / "desk" / "runs").iterdir()) == []


def test_watching_without_a_run_ends_well_and_names_the_next_command(consortium, tmp_path: Path) -> None:
    with _control(tmp_path / "desk"):
        outcome = consortium("coord run watch desk")
    assert outcome.code == 0
    assert "Next: fedcredit coord run start desk" in outcome.stderr


def test_a_watcher_hears_over_the_socket_who_is_waited_for(consortium, tmp_path: Path) -> None:
    asked = Status(run="a-run", state="running", round=1, rounds=2, institutions=1)
    asked = asked.in_stage("upload", ["bank"], since=1000.0, until=1060.0)
    with _control(tmp_path / "desk", status=asked):
        heard = ControlClient(tmp_path / "desk" / "sockets" / "control.sock").status()
    assert (heard.stage, list(heard.waiting), heard.since, heard.until) == ("upload", ["bank"], 1000.0, 1060.0)
    with _control(tmp_path / "desk", status=asked.finished()):
        assert consortium("coord run watch desk --format json").data["state"] == "finished"


def test_a_plan_that_an_institution_has_not_approved_is_refused_and_the_watcher_hears_it(
    consortium, tmp_path: Path
) -> None:
    plan = RunPlan.read(tmp_path / "plan.toml")
    coordinator, node = Coordinator(tmp_path / "desk"), Node.open(tmp_path / "bank")
    transport = LoopbackTransport({node.config.name: node.worker.handle})
    running = Status(run="a-run", state="running", round=0, rounds=plan.run.rounds, institutions=1)
    with coordinator.open_run("a-run", plan, transport) as opened, pytest.raises(FedcreditError) as refused:
        drive(opened, privacy_plan(plan))
    node.close()
    with _control(tmp_path / "desk", status=running.failed(refused.value)):
        outcome = consortium("coord run watch desk")
    outcome.refuses("FC-2202", 7, "Round 1", "bank (FC-2301)", "The model is unchanged")
    assert "Next: fedcredit coord run resume desk a-run" in outcome.stderr
    assert consortium("node status bank --format json").data["spent"]["train"] == {
        "epsilon": 0.0,
        "epsilon_alone": 0.0,
        "releases": 0,
    }


def test_a_socket_that_speaks_something_else_is_refused_and_its_node_goes_on(consortium, tmp_path: Path) -> None:
    consortium("node approve bank plan.toml")
    node = Node.open(tmp_path / "bank")
    socket = tmp_path / "elsewhere" / "control.sock"
    with LocalService(socket, node.worker.handle, max_bytes=1 << 20, workers=1):
        for _ in range(2):
            consortium("coord run watch desk --sockets elsewhere").refuses("FC-3101", 5, "control message")
    node.close()
    spent = consortium("node status bank --format json").data
    assert spent["spent"]["train"]["releases"] == 0
    assert spent["audit"]["entries"] == 2  # two refusals
    assert spent["ledger"]["entries"] == 1  # its opening


def test_a_running_node_keeps_a_second_process_out(consortium, tmp_path: Path) -> None:
    node = Node.open(tmp_path / "bank")
    consortium("node status bank").refuses("FC-1301", 2, "bank/state")
    node.close()


def test_a_changed_privacy_ledger_is_no_ledger(consortium, tmp_path: Path) -> None:
    path = tmp_path / "bank" / "state" / "node.db"
    Node.open(tmp_path / "bank").close()
    path.write_bytes(b"not a database at all" * 300)
    consortium("node status bank").refuses("FC-7002", 1, "bank/state/node.db")


# --- disks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    ["demo --data german --out bank.csv/run", "lab data get german --out bank.csv/data", "coord init bank.csv/desk2"],
)
def test_a_place_that_cannot_be_written_is_named(consortium, tmp_path: Path, command: str) -> None:
    options = " --consortium here" if command.startswith("coord") else ""
    before = _state(tmp_path)
    consortium(command + options).refuses("FC-7003", 1, "bank.csv/")
    assert _state(tmp_path) == before


@pytest.mark.parametrize(
    ("command", "limit"),
    [
        ("lab data get german --out data", 4096),
        ("demo --data german --out run", 4096),
        ("demo --data german --rounds 1 --out run", 50),
        (f"node init bank --name bank --type bank --data bank.csv {NODE}", 50),
        ("coord init desk --consortium here", 50),
    ],
    ids=["data", "demo: a table", "demo: a key", "node", "coordinator"],
)
def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path, command: str, limit: int) -> None:
    done = _typed_apart(command, tmp_path, limit=limit)
    assert done.returncode == 1, done.stderr
    assert " ✗ FC-7001 No space left while writing " in done.stderr
    assert "Traceback" not in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def _typed_apart(
    command: str, folder: Path, *, limit: int = -1, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Type a command in a process of its own, in which no file may grow beyond ``limit`` bytes."""
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY}));"
        "from fedcredit.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-B", "-c", code, *command.split()],
        cwd=folder,
        env={**os.environ, "FEDCREDIT_LANG": "en", "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


# --- how it is said ------------------------------------------------------------------------------------------------


def test_the_same_error_is_one_envelope_for_programs(type_in) -> None:
    outcome = type_in("node check-data nowhere --format json")
    assert outcome.code == 2
    assert outcome.stdout.count("\n") == 1
    envelope = json.loads(outcome.stdout)
    assert (envelope["status"], envelope["code"], envelope["exit"]) == ("error", "FC-1001", 2)
    assert envelope["message"] == "There is no node configuration at nowhere/node.toml."
    assert envelope["fix"] == ["Give the right path, or make one: fedcredit node init nowhere"]
    assert " ✗ FC-1001 " in outcome.stderr


def test_an_error_is_said_in_chinese_if_asked_for_with_the_same_code(type_in) -> None:
    outcome = type_in("--lang zh node check-data nowhere")
    assert outcome.code == 2
    assert " ✗ FC-1001 nowhere/node.toml 处没有" in outcome.stderr
    assert "请给出正确的路径" in outcome.stderr
    assert "There is no" not in outcome.stderr


def test_a_traceback_is_shown_with_debug_only(type_in) -> None:
    assert "Traceback" not in type_in("node check-data nowhere").stderr
    outcome = type_in("node check-data nowhere --debug")
    assert outcome.code == 2
    assert "Traceback (most recent call last)" in outcome.stderr
    assert " ✗ FC-1001 " in outcome.stderr


def test_a_watcher_of_a_rejected_run_hears_every_vote_and_gets_its_exit_code(consortium, tmp_path: Path) -> None:
    error = ModelNotReleasedError(yes=0, no=1, abstain=0, colluders=0)
    ended = Status(run="a-run", state="running", round=2, rounds=2, institutions=1).rejected(error)
    place = tmp_path / "desk" / "runs" / "a-run"
    place.mkdir(parents=True)
    (place / "closing.json").write_text(
        json.dumps({"verdict": "not-released", "votes": {"bank": ["no", "below-floor"]}})
    )
    with _control(tmp_path / "desk", status=ended):
        outcome = consortium("coord run watch desk")
    outcome.refuses("FC-6006", 8, "1 say no")
    assert "bank no (below-floor)" in " ".join(outcome.stderr.split())
    assert "resume" not in outcome.stderr


def test_a_bug_with_debug_shows_where_it_is_and_not_what_a_library_quoted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> None:
        raise ValueError("row 7f2777e3 of a borrower")

    with pytest.raises(SystemExit):
        run_guarded(broken, as_json=False, debug=True)
    told = capsys.readouterr().err
    assert "in broken" in told
    assert "7f2777e3 of a borrower\n" not in told.replace('raise ValueError("row 7f2777e3 of a borrower")\n', "")
