"""A terminal in this process: the real entry point, its exit code and what it printed."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fedcredit.cli.main import main
from fedcredit.data.datasets import load_dataset


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def data(self) -> dict[str, Any]:
        """Return the data of the one envelope on stdout."""
        envelope = json.loads(self.stdout)
        assert set(envelope) == {"schema_version", "status", "data"}, self.stdout
        assert (envelope["schema_version"], envelope["status"]) == ("1", "ok")
        data: dict[str, Any] = envelope["data"]
        return data

    def refuses(self, error: str, code: int, *words: str) -> None:
        """Check the one error of a command that was typed without --format json."""
        assert self.code == code, self.stderr
        assert self.stdout == ""
        assert self.stderr.count(" ✗ FC-") == 1
        assert f" ✗ {error} " in self.stderr
        assert "Traceback" not in self.stderr
        told = self.stderr[self.stderr.index(" ✗ FC-") :]
        assert len(told.splitlines()) == 2, told  # one sentence and the way out
        for word in words:
            assert word in told, (word, told)


Terminal = Callable[..., Outcome]


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    """Type a command in the folder of the test."""
    monkeypatch.setenv("FEDCREDIT_LANG", "en")
    monkeypatch.chdir(tmp_path)

    # A daemon's command sends its log to the stderr of this test; the next test has another one.
    log = logging.getLogger("fedcredit")
    monkeypatch.setattr(log, "handlers", list(log.handlers))
    monkeypatch.setattr(log, "level", log.level)

    def typed(command: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fedcredit", *command.split()])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), captured.out, captured.err)

    return typed


@pytest.fixture(scope="session")
def lender_table() -> pa.Table:
    """Return 60 real rows in the columns of the contract ``german``."""
    table = next(iter(load_dataset("german").parts.values())).table
    return table.slice(0, 60)
