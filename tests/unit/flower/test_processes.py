"""Child processes that leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fedcredit.errors import ConfigFileMissingError, ProcessStartError
from fedcredit.flower.processes import ManagedProcess, carrier_environment, console_script, free_port

WAITS = "import signal; signal.pause()"
# A command that starts another which ignores requests to end, tells its id and waits.
BREEDS = (
    "import subprocess, sys, signal, pathlib;"
    "child = subprocess.Popen([sys.executable, '-c', "
    "'import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()'],"
    " stdout=subprocess.PIPE);"
    "child.stdout.readline();"
    "pathlib.Path(sys.argv[1]).write_text(str(child.pid));"
)


def _python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def _managed(folder: Path, command: list[str]) -> ManagedProcess:
    return ManagedProcess("the test", command, environment=dict(os.environ), log=folder / "log")


def _runs(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rsplit(")", 1)[1].split()[0] not in "ZX"


def _eventually_gone(pid: int) -> bool:
    pause = threading.Event()
    return any(not _runs(pid) or pause.wait(0.02) for _ in range(500))


def _pid_in(path: Path) -> int | None:
    return int(path.read_text()) if path.exists() and path.read_text() else None


def test_stopping_ends_the_whole_group_even_what_ignores_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with _managed(tmp_path, _python(BREEDS + WAITS, str(told))) as process:
        process.wait_until(lambda: _pid_in(told) is not None, timeout_s=20)
        grandchild = _pid_in(told)
        assert grandchild is not None
        assert _runs(grandchild)
        process.stop(grace_s=0.2)
        assert not process.alive()
        assert process.group is None
        assert _eventually_gone(grandchild)


def test_what_a_command_leaves_behind_ends_with_it(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    with _managed(tmp_path, _python(BREEDS, str(told))) as process:
        with pytest.raises(ProcessStartError) as caught:
            process.wait_until(lambda: False, timeout_s=20)
        assert caught.value.fields["log"] == tmp_path / "log"
        grandchild = _pid_in(told)
        assert grandchild is not None
        assert _eventually_gone(grandchild)


def test_a_killed_parent_takes_its_children_along(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent_code = (
        "import sys, signal, os; from pathlib import Path;"
        "from fedcredit.flower.processes import ManagedProcess;"
        "p = ManagedProcess('x', sys.argv[2:], environment=dict(os.environ), log=Path(sys.argv[1])).start();"
        "print(p.group, flush=True); signal.pause()"
    )
    command = _python(parent_code, str(tmp_path / "log"), *_python(BREEDS + WAITS, str(told)))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        leash = int(parent.stdout.readline())
        pause = threading.Event()
        assert any(_pid_in(told) is not None or pause.wait(0.05) for _ in range(400))
        parent.send_signal(signal.SIGKILL)
    grandchild = _pid_in(told)
    assert grandchild is not None
    assert _eventually_gone(grandchild)
    assert _eventually_gone(leash)


def test_a_command_that_ends_before_it_is_ready_is_an_error_with_its_log(tmp_path: Path) -> None:
    with _managed(tmp_path, _python("print('why')")) as process, pytest.raises(ProcessStartError):
        process.wait_until(lambda: False, timeout_s=20)
    assert (tmp_path / "log").read_text() == "why\n"
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_command_that_is_never_ready_is_an_error_in_time(tmp_path: Path) -> None:
    with _managed(tmp_path, _python(WAITS)) as process, pytest.raises(ProcessStartError):
        process.wait_until(lambda: False, timeout_s=0.1)


def test_a_command_that_died_is_revived_and_a_stopped_one_is_not(tmp_path: Path) -> None:
    process = _managed(tmp_path, _python(WAITS))
    process.revive()
    assert process.group is None
    with process:
        first = process.group
        process.revive()
        assert process.group == first
        assert first is not None
        os.killpg(first, signal.SIGKILL)
        with pytest.raises(ProcessStartError):
            process.wait_until(lambda: False, timeout_s=20)
        process.revive()
        assert process.alive()
        assert process.group != first


def test_stopping_twice_or_before_the_start_does_nothing(tmp_path: Path) -> None:
    process = _managed(tmp_path, _python(WAITS))
    process.stop()
    process.start()
    process.stop(grace_s=2)
    process.stop()


def test_flower_is_told_to_stay_quiet_and_gets_no_secret_of_ours() -> None:
    inherited = {"PATH": "/usr/bin", "HOME": "/root", "HTTPS_PROXY": "http://p", "FEDCREDIT_PASSPHRASE": "s"}
    environment = carrier_environment(Path("/srv/flower"), inherited=inherited)
    bin_folder = str(Path(sys.executable).parent)
    assert environment == {
        "PATH": f"{bin_folder}:/usr/bin",
        "HOME": "/root",
        "FLWR_HOME": "/srv/flower",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def test_scripts_are_found_beside_this_python() -> None:
    assert console_script("flwr") == Path(sys.executable).parent / "flwr"
    with pytest.raises(ConfigFileMissingError):
        console_script("flower-nothing")


def test_a_free_port_can_be_bound() -> None:
    assert 1024 <= free_port() <= 65535
