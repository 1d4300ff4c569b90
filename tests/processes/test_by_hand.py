"""Coordinator and two institutions in four terminals: every command after the first is one that a command printed.

In the middle of the run the coordinator's daemon is killed with SIGKILL. In the end a plain ``flwr run .`` and a
foreign Flower app go through the same relay; the foreign app also shows that the search of the relay's disk can fail.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from wiretap import Wiretap

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.data.datasets import load_dataset
from fedcredit.flower.bundle import stage
from fedcredit.flower.control import RelayControl
from fedcredit.flower.processes import carrier_environment
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal

pytestmark = [pytest.mark.process]

LOG = logging.getLogger(__name__)
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "PATH": f"{BIN}:{os.environ['PATH']}"}
ROUNDS = 3
PATIENCE_S = 400

CELL = "MARKER-IN-A-CELL"
BORROWER = "MARKER-BORROWER"
PLAN = "marker-of-a-plan"
FOREIGN = b"sent in the clear by a foreign app"
"""The foreign app sends the SHA-256 of this text, so that its source, which the relay stores, does not hold it."""

FOREIGN_APP = f"""
import hashlib
from flwr.app import Message
from flwr.serverapp import ServerApp
from fedcredit.flower.envelope import MESSAGE_TYPE, wrap

app = ServerApp()


@app.main()
def main(grid, context):
    payload = hashlib.sha256({FOREIGN!r}).digest() * 64
    messages = [Message(wrap(payload), node, MESSAGE_TYPE, ttl=60.0) for node in grid.get_node_ids()]
    replies = list(grid.send_and_receive(messages, timeout=60.0))
    print("foreign replies", len(replies), sum(reply.has_content() for reply in replies))
"""


@dataclass
class Terminals:
    """Types commands in ``folder``, and only such commands as were printed there before."""

    folder: Path
    stack: ExitStack
    printed: list[str]

    def first(self, command: str) -> dict[str, Any]:
        """Type a command from the documentation."""
        begun = time.monotonic()
        done = subprocess.run(
            [*command.split(), "--format", "json"],
            cwd=self.folder,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        self._read(done.stderr)
        envelope = json.loads(done.stdout)
        assert (done.returncode, envelope["status"]) == (0, "ok"), done.stderr
        LOG.info("%.1f s: %s", time.monotonic() - begun, command)
        data: dict[str, Any] = envelope["data"]
        return data

    def then(self, command: str) -> dict[str, Any]:
        """Type a printed command, its words in capitals replaced."""
        self._must_be_printed(command)
        return self.first(command)

    def serve(self, command: str) -> subprocess.Popen[bytes]:
        """Type a printed command that runs until it is stopped, and return when it has printed the next one."""
        self._must_be_printed(command)
        log = self.folder / f"terminal-{len(list(self.folder.glob('terminal-*')))}.txt"
        with log.open("wb") as output:
            process = subprocess.Popen(command.split(), cwd=self.folder, env=ENVIRONMENT, stderr=output)
        self.stack.callback(_end, process)
        await_(lambda: "Next:" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        self._read(log.read_text())
        return process

    def _must_be_printed(self, command: str) -> None:
        assert any(re.match(pattern, command) for pattern in map(_pattern, self.printed)), (command, self.printed)

    def _read(self, text: str) -> None:
        after = text.partition("Next: ")[2]
        self.printed += [re.split(r"\s{3,}\(", line.strip())[0] for line in after.splitlines()]


def _pattern(printed: str) -> str:
    """Return a pattern of a printed command, in which capitals and ``plan.toml`` stand for something to fill in."""
    return re.sub(r"\b[A-Z]{4,}\b|plan\\.toml", r"\\S+", re.escape(printed)) + r"(\s|$)"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait()


def await_(ready: Callable[[], object], *, seconds: float = PATIENCE_S) -> None:
    """Poll until something outside this process is so."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def _write_data(folder: Path) -> dict[str, int]:
    """Write one institution's own table as CSV, the other's as Parquet, with markers; return their sizes."""
    lender, bank, *_ = load_dataset("german").parts.values()
    tables = {}
    for name, part in (("lender", lender), ("bank", bank)):
        tokens = pa.array([f"{BORROWER}-{name}-{row}" for row in range(part.table.num_rows)])
        table = part.table.set_column(part.table.column_names.index("borrower"), "borrower", tokens)
        tables[name] = table.append_column("remark", pa.array([CELL] * table.num_rows))
    csv.write_csv(tables["lender"], folder / "lender.csv")
    pq.write_table(tables["bank"], folder / "bank.parquet", compression="none")
    return {name: table.num_rows for name, table in tables.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _released(run: Path) -> int:
    path = run / "rounds.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0


@dataclass(frozen=True, kw_only=True)
class Story:
    """What happened, for the tests to look at."""

    folder: Path
    run: Path
    released_when_killed: int
    left_after_kill: list[str]
    watched: dict[str, Any]
    verified: dict[str, Any]
    refused_again: str
    flwr_run_status: str
    foreign_status: str
    spent: dict[str, Any]
    tap: Wiretap


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="fch-"))  # short: socket paths have 107 bytes
        stack.callback(shutil.rmtree, folder)
        relays = [folder / "desk" / "relay", folder / "lender" / "relay", folder / "bank" / "relay"]
        tap = stack.enter_context(Wiretap(*relays))
        with ExitStack() as processes:
            facts = _tell(Terminals(folder, processes, []))
        # The commands have ended, and with them what they had started.
        facts["spent"] = {
            name: _typed(folder, f"fedcredit node status {name} --format json") for name in ("lender", "bank")
        }
        yield Story(folder=folder, tap=tap, **facts)


def _typed(folder: Path, command: str) -> dict[str, Any]:
    done = subprocess.run(
        command.split(), cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    envelope: dict[str, Any] = json.loads(done.stdout)
    return envelope


def _tell(terminals: Terminals) -> dict[str, Any]:
    folder = terminals.folder
    sizes = _write_data(folder)
    _enrol(terminals)
    sized = " ".join(f"--borrowers {name}={round(0.8 * size, -1):.0f}" for name, size in sizes.items())
    claim = "--epsilon 3 --delta 1e-5 --evaluation-epsilon 0.5"
    terminals.then(
        f"fedcredit coord plan new desk {PLAN}.toml --contract german {claim} --threshold 2 {sized} --rounds {ROUNDS} "
        "--deadline-s 120"
    )
    for name in sizes:
        terminals.then(f"fedcredit node approve {name} {PLAN}.toml")
    daemon = terminals.serve("fedcredit coord serve desk")
    for name in sizes:
        terminals.serve(f"fedcredit node run {name}")
    run_id = terminals.then(f"fedcredit coord run start desk {PLAN}.toml")["run"]
    run = folder / "desk" / "runs" / run_id

    await_(lambda: _released(run) >= 1)
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    released = _released(run)
    await_(lambda: not _relay_processes(folder), seconds=20)
    left = _relay_processes(folder)

    terminals.serve("fedcredit coord serve desk")
    terminals.first(f"fedcredit coord run resume desk {run_id}")  # what ``coord run status`` shows as open
    watched = terminals.then("fedcredit coord run watch desk")
    verified = terminals.then(f"fedcredit audit verify desk/runs/{run_id}")
    refused = _typed(folder, "fedcredit coord run start desk no-such-plan.toml --format json")
    return {
        "run": run,
        "released_when_killed": released,
        "left_after_kill": left,
        "watched": watched,
        "verified": verified,
        "refused_again": refused["code"],
        "flwr_run_status": _flwr_run(stage(ROOT, folder / "app"), folder),
        "foreign_status": _flwr_run(_foreign_app(folder), folder),
    }


def _enrol(terminals: Terminals) -> None:
    kinds = {"lender": "auto_finance", "bank": "bank"}
    terminals.first(f"fedcredit coord init desk --consortium by-hand --port {_free_port()}")
    coordinator = terminals.then("fedcredit coord invite desk")
    for name, data in (("lender", "lender.csv"), ("bank", "bank.parquet")):
        terminals.first(
            f"fedcredit node init {name} --name {name} --type {kinds[name]} --data {data} --contract german "
            "--modality application --epsilon 4 --delta 1e-5 --holdout-epsilon 1"
        )
        terminals.then(f"fedcredit node check-data {name}")
        joined = terminals.then(
            f"fedcredit node join {name} {coordinator['invitation']} --fingerprint {coordinator['fingerprint']}"
        )
        terminals.then(f"fedcredit coord member approve desk {joined['request']} --fingerprint {joined['fingerprint']}")


def _relay_processes(folder: Path) -> list[str]:
    """Return the command lines of the coordinator's own Flower processes."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            environment = (place / "environ").read_bytes()
        except OSError:  # it ended in between
            continue
        if os.fsencode(folder / "desk" / "relay") in b" ".join(words) + environment:
            found.append(b" ".join(words).decode())
    return found


def _foreign_app(folder: Path) -> Path:
    app = stage(ROOT, folder / "foreign-app")
    (app / "server" / "app.py").write_text(FOREIGN_APP)
    return app


def _flwr_run(app: Path, folder: Path) -> str:
    """Type ``flwr run .`` in ``app`` as any user of Flower would, and return how the run ended."""
    address = _relay_address(folder)
    home = folder / "flwr-home"
    control = RelayControl(
        address=address, ca=folder / "desk" / "tls" / "ca.crt", flwr_home=home, log=folder / "flwr-commands.log"
    )
    done = subprocess.run(
        [BIN / "flwr", "run", ".", "relay", "--format", "json"],
        cwd=app,
        env=carrier_environment(home),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answer = json.loads(done.stdout)
    assert answer["success"] is True, done.stdout + done.stderr
    run_id = int(answer["run-id"])
    await_(lambda: control.run_status(run_id).startswith("finished:"), seconds=60)
    return control.run_status(run_id)


def _relay_address(folder: Path) -> str:
    """Return the relay's address from what an institution was told."""
    text = (folder / "desk" / "federation.toml").read_text()
    (port,) = re.findall(r"^port = (\d+)$", text, flags=re.MULTILINE)
    return f"127.0.0.1:{port}"


def test_a_run_survives_kill_9_of_the_coordinator_and_its_evidence_verifies(story: Story) -> None:
    assert 1 <= story.released_when_killed < ROUNDS
    assert story.left_after_kill == []  # the relay and its SuperExec died with their parent
    assert story.watched == {"run": story.run.name, "state": "finished", "round": ROUNDS, "rounds": ROUNDS}
    assert story.verified["released"] == ROUNDS
    lines = [json.loads(line) for line in (story.run / "rounds.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == list(range(1, ROUNDS + 1))
    assert all(sorted(line["contributors"]) == ["bank", "lender"] for line in lines)


def test_every_institution_charged_each_release_and_no_more_than_the_repeated_round(story: Story) -> None:
    for name, envelope in story.spent.items():
        data = envelope["data"]
        assert envelope["status"] == "ok"
        assert data["institution"] == name
        # The preparation and every round; one that was under way when the coordinator died is charged again.
        assert ROUNDS + 1 <= data["spent"]["train"]["releases"] <= ROUNDS + 2
        assert data["spent"]["holdout"]["releases"] == 1
        assert 0 < data["spent"]["train"]["epsilon"] <= data["caps"]["train"]


def test_an_error_beside_a_running_daemon_changes_nothing(story: Story) -> None:
    assert story.refused_again == "FC-1001"


def test_flwr_run_submits_a_carrier_leg_that_ends_at_once_when_no_run_is_open(story: Story) -> None:
    assert story.flwr_run_status == "finished:completed"


def test_what_a_foreign_app_sends_is_refused_by_the_institutions_and_charged_nothing(story: Story) -> None:
    assert story.foreign_status == "finished:completed"
    for name in ("lender", "bank"):
        with Database.open(story.folder / name / "state" / "node.db") as database:
            events = list(AuditLog(Journal(database, "audit")).events())
        refused = [event.fields["code"] for event in events if event.kind is EventKind.REQUEST_REFUSED]
        assert refused == ["FC-3101"]


def test_the_relay_never_held_a_marker_but_the_one_that_was_sent_in_the_clear(story: Story) -> None:
    in_the_clear = hashlib.sha256(FOREIGN).digest()
    assert story.tap.holds(in_the_clear)
    assert story.tap.shares_a_window(in_the_clear)
    assert CELL in (story.folder / "lender.csv").read_text()
    assert CELL.encode() in (story.folder / "bank.parquet").read_bytes()
    assert (story.folder / f"{PLAN}.toml").read_text().count(PLAN) == 1
    assert "holdout_epsilon" in (story.folder / "bank" / "node.toml").read_text()
    for marker in (CELL, BORROWER, PLAN, "by-hand", "holdout_epsilon", "expected_borrowers", "bank.parquet"):
        assert not story.tap.holds(marker.encode()), marker
    checkpoints = sorted((story.run / "checkpoints").glob("*.safetensors"))
    assert len(checkpoints) == ROUNDS + 2  # the starting point, the prepared one, and one after every round
    keys = sorted(story.folder.glob("*/keys/identity.key"))
    assert len(keys) == 3
    assert not story.tap.shares_a_window(*(path.read_bytes() for path in [*checkpoints, *keys]))
