"""What an operator's command says to the coordinator daemon over its control socket, in JSON.

The socket's directory decides who may connect. An error comes back with its code and fields, so that the command ends
as if it had failed here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from fedcredit.config.plan import RunPlan
from fedcredit.daemon.client import exchange
from fedcredit.errors import REGISTRY, FedcreditError, InternalError, MalformedMessageError

CONTROL_S: Final = 60.0
State = Literal["idle", "running", "finished", "rejected", "failed"]
"""``rejected``: the run has ended, and the members' votes keep its model back."""


@dataclass(frozen=True, kw_only=True)
class Status:
    """What the daemon is doing."""

    run: str
    state: State
    round: int
    """Rounds released so far."""
    rounds: int
    institutions: int
    stage: str = ""
    """Which exchange of messages is going on; empty between rounds."""
    waiting: Sequence[str] = ()
    """Who has been asked in it and has not answered."""
    since: float = 0.0
    until: float = 0.0
    """When it began and when it gives up, in seconds since 1970."""
    error: Mapping[str, Any] | None = None

    @classmethod
    def idle(cls) -> Self:
        """Return the status before any run."""
        return cls(run="", state="idle", round=0, rounds=0, institutions=0)

    def at_round(self, number: int) -> Self:
        """Return the status after a release."""
        return replace(self, round=number, stage="", waiting=())

    def in_stage(self, stage: str, waiting: Sequence[str], *, since: float, until: float) -> Self:
        """Return the status while members are asked."""
        return replace(self, stage=stage, waiting=tuple(waiting), since=since, until=until)

    def finished(self) -> Self:
        """Return the status at the end."""
        return replace(self, state="finished", stage="", waiting=())

    def rejected(self, error: FedcreditError) -> Self:
        """Return the status at the end of a run whose model the members did not release."""
        return replace(self, state="rejected", stage="", waiting=(), error=error_record(error))

    def failed(self, error: FedcreditError) -> Self:
        """Return the status after a failure."""
        return replace(self, state="failed", stage="", waiting=(), error=error_record(error))


def error_record(error: FedcreditError) -> dict[str, Any]:
    """Return an error as JSON values."""
    fields = {key: value if isinstance(value, int | float) else str(value) for key, value in error.fields.items()}
    return {"code": error.code, "fields": fields}


def error_from(record: Mapping[str, Any]) -> FedcreditError:
    """Return the error that a record describes; an unknown one becomes an internal error."""
    kind = REGISTRY.get(str(record.get("code")))
    try:
        return kind(**record["fields"]) if kind else InternalError(kind="unknown error code")
    except (TypeError, KeyError, ValueError):
        return InternalError(kind="malformed error record")


class Controller:
    """Answers control requests; never raises."""

    def __init__(
        self,
        *,
        start: Callable[[RunPlan], str],
        resume: Callable[[str], str],
        status: Callable[[], Status],
    ) -> None:
        self._start = start
        self._resume = resume
        self._status = status

    def handle(self, request: bytes) -> bytes:
        """Answer one request."""
        try:
            answer = self._answer(_parsed(request))
        except FedcreditError as error:
            answer = {"error": error_record(error)}
        return json.dumps(answer).encode()

    def _answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        command = request.get("command")
        if command == "start":
            return {"run": self._start(RunPlan.from_toml(str(request.get("plan")), source="the plan given"))}
        if command == "resume":
            return {"run": self._resume(str(request.get("run")))}
        if command == "status":
            return {"status": asdict(self._status())}
        raise MalformedMessageError(what="control request", problem="its command is not known")


class ControlClient:
    """The commands' side of the control socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def start(self, plan: RunPlan) -> str:
        """Start a run and return its id."""
        return str(self._ask({"command": "start", "plan": plan.to_toml()})["run"])

    def resume(self, run: str) -> str:
        """Resume a run and return its id."""
        return str(self._ask({"command": "resume", "run": run})["run"])

    def status(self) -> Status:
        """Return what the daemon is doing."""
        return Status(**self._ask({"command": "status"})["status"])

    def _ask(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        answer = _parsed(exchange(self._socket, json.dumps(request).encode(), timeout_s=CONTROL_S))
        if "error" in answer:
            raise error_from(answer["error"])
        return answer


def _parsed(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(what="control message", problem="it is not JSON") from error
    if not isinstance(value, dict):
        raise MalformedMessageError(what="control message", problem="it is not an object")
    return value
