"""Commands to a relay: enrol a node, submit a run, ask for its status, stop it.

They wrap Flower's own command line with ``--format json`` and trust what it prints, never its exit status: ``flwr run``
ends with 0 whatever becomes of the run (FLOWER.md section 7).
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fedcredit.errors import RelayCommandError
from fedcredit.flower.bundle import stage
from fedcredit.flower.processes import carrier_environment, console_script

RunConfig = Mapping[str, str | int | bool]

CONNECTION: Final = "relay"
COMMAND_S: Final = 60.0
FINISHED: Final = "finished:"
"""How the status of a run begins once it has ended."""


class RelayControl:
    """Speaks to the relay at ``address`` (host:port) over TLS; its files live in ``flwr_home``.

    The relay's Control API has no authentication of its own: only the coordinator's private network may reach it.
    """

    def __init__(self, *, address: str, ca: Path, flwr_home: Path, log: Path) -> None:
        self._home = flwr_home.absolute()
        self._log = log
        self._environment = carrier_environment(self._home)
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self._home / "config.toml").write_text(
            f"[superlink]\ndefault = {json.dumps(CONNECTION)}\n\n[superlink.{CONNECTION}]\n"
            f"address = {json.dumps(address)}\n"
            f"root-certificates = {json.dumps(str(ca.absolute()), ensure_ascii=False)}\n",
            encoding="utf-8",
        )

    def register_supernode(self, public_key: Path, *, name: str) -> int:
        """Enrol the public key of a SuperNode and return the node id that the relay gives it.

        Raises:
            RelayCommandError: the relay is not there, or refuses (for example a key that is enrolled already).
        """
        action = "supernode register"
        answer = self._flwr(action, "supernode", "register", str(public_key.absolute()), CONNECTION, "--name", name)
        return self._number(answer.get("node-id"), action=action)

    def submit_run(self, app_dir: Path, run_config: RunConfig) -> int:
        """Bundle the app of ``app_dir``, submit it and return the run id; the run has not begun by then.

        Raises:
            RelayCommandError: the relay is not there, or refuses.
            ConfigFileMissingError, ConfigValueError: the folder holds no app (see ``bundle``).
        """
        action = "run"
        app = stage(app_dir, self._home / "staged-app")
        overrides = self._home / "run-config.toml"
        overrides.write_text(
            "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in run_config.items()),
            encoding="utf-8",
        )
        config = ("--run-config", str(overrides)) if run_config else ()
        answer = self._flwr(action, "run", str(app), CONNECTION, *config)
        return self._number(answer.get("run-id"), action=action)

    def run_status(self, run_id: int) -> str:
        """Return the run's status, such as ``running``, ``finished:completed`` or ``finished:failed``.

        Raises:
            RelayCommandError: the relay is not there or does not know the run.
        """
        answer = self._flwr("list", "list", CONNECTION, "--run-id", str(run_id))
        for run in answer.get("runs") or ():
            if str(run.get("run-id")) == str(run_id) and isinstance(run.get("status"), str):
                return str(run["status"])
        raise RelayCommandError(action="list", log=self._log)

    def open_runs(self) -> list[int]:
        """Return the ids of the runs that have not ended.

        Raises:
            RelayCommandError: the relay is not there.
        """
        action = "list"
        runs = self._flwr(action, "list", CONNECTION).get("runs") or ()
        return [
            self._number(run.get("run-id"), action=action)
            for run in runs
            if not str(run.get("status")).startswith(FINISHED)
        ]

    def stop_run(self, run_id: int) -> None:
        """Stop a run; the relay drops what it still had to deliver.

        Raises:
            RelayCommandError: the relay is not there, or the run is over already.
        """
        self._flwr("stop", "stop", str(run_id), CONNECTION)

    def _flwr(self, action: str, *arguments: str) -> dict[str, Any]:
        command = [str(console_script("flwr")), *arguments, "--format", "json"]
        try:
            done = subprocess.run(
                command,
                env=self._environment,
                cwd=self._home,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=COMMAND_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RelayCommandError(action=action, log=self._log) from error
        with self._log.open("ab") as log:
            log.write(f"$ flwr {action}\n".encode() + done.stdout + done.stderr)
        with contextlib.suppress(ValueError):
            answer = json.loads(done.stdout)
            if isinstance(answer, dict) and answer.get("success") is True:
                return answer
        raise RelayCommandError(action=action, log=self._log)

    def _number(self, value: object, *, action: str) -> int:
        if isinstance(value, str) and value.isdecimal():
            return int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise RelayCommandError(action=action, log=self._log)
