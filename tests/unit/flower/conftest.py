"""Flower messages for tests: outside a run, Flower builds them only after a private identity is set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import pytest

with warnings.catch_warnings():
    # The typer that flwr 1.41 pins touches names that click 9 will drop; that is theirs to mend.
    warnings.simplefilter("ignore", DeprecationWarning)
    from flwr.app import Message, RecordDict
    from flwr.supercore.task_identity import TaskIdentity


@pytest.fixture
def instruction() -> Iterator[Callable[..., Message]]:
    """A function that builds the message a SuperNode would hand to its ClientApp."""
    before = dict(vars(TaskIdentity))
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 7, 1, 1

    def build(content: RecordDict, *, node: int = 11, ttl: float = 60.0) -> Message:
        return Message(content, node, "query.envelope", ttl=ttl)

    yield build
    for name in ("_run_id", "_node_id", "_task_id"):
        setattr(TaskIdentity, name, before[name])
