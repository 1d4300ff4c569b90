"""All demonstrations by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fedcredit.errors import UsageError
from fedcredit.lab.breaks import drop, kill, poison, replay, snoop, split
from fedcredit.lab.breaks.scene import Setting
from fedcredit.lab.breaks.story import Story

TELL: Final[Mapping[str, Callable[[Path, Setting], Story]]] = MappingProxyType(
    {
        replay.IDEA: replay.tell,
        poison.IDEA: poison.tell,
        snoop.IDEA: snoop.tell,
        split.IDEA: split.tell,
        drop.IDEA: drop.tell,
        kill.IDEA: kill.tell,
    }
)


def play(idea: str, folder: Path, setting: Setting) -> Story:
    """Play the demonstration ``idea``, one of ``TELL``, in ``folder``, which must not exist, and return its story.

    Raises:
        UsageError: it is about a step that open aggregation does not have.
        AlreadyExistsError and others: as ``Scene.open``.
    """
    if setting.aggregation == snoop.OPEN and idea != snoop.IDEA:
        raise UsageError(
            problem=f"--break {idea} is about secure aggregation", hint="Leave out --aggregation, or try --break snoop."
        )
    return TELL[idea](folder, setting)
