from __future__ import annotations

import json

import pytest

from fedcredit.daemon.control import Controller, Status, error_from
from fedcredit.errors import ModelNotReleasedError


def answer(request: bytes) -> dict[str, object]:
    controller = Controller(start=lambda _: "a-run", resume=lambda run: run, status=Status.idle)
    decoded: dict[str, object] = json.loads(controller.handle(request))
    return decoded


@pytest.mark.parametrize(
    ("request_", "problem"),
    [
        (b"", "it is not JSON"),
        (b"\xff", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b'{"a":' * 100_000, "it is not JSON"),
        (b"1" * 5_000, "it is not JSON"),
        (b"[]", "it is not an object"),
        (b"{}", "its command is not known"),
    ],
    ids=["nothing", "no text", "lists without end", "objects without end", "digits", "a list", "no command"],
)
def test_what_is_no_request_is_answered_with_an_error(request_: bytes, problem: str) -> None:
    error = answer(request_)["error"]
    assert isinstance(error, dict)
    assert error["code"] == "FC-3101"
    assert error["fields"]["problem"] == problem


def test_a_request_is_answered() -> None:
    assert answer(b'{"command": "resume", "run": "a-run"}') == {"run": "a-run"}
    status = answer(b'{"command": "status"}')["status"]
    assert isinstance(status, dict)
    assert status["state"] == "idle"


def test_a_rejected_run_has_ended_and_says_how_the_votes_fell() -> None:
    error = ModelNotReleasedError(yes=1, no=2, abstain=0, colluders=0)
    status = Status(run="r", state="running", round=3, rounds=3, institutions=3).rejected(error)
    assert status.state == "rejected"
    assert str(error_from(status.error or {})) == str(error)
