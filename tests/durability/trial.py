"""Records the workload, cuts the power everywhere, and judges what each image still says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

import numpy as np
from durability.power_cut import Crash, CrashModel, Image, Record, crashes, in_memory_folder, last_image, name_of, put
from durability.recording import Settings, recorded_os, recorded_sqlite
from durability.workload import STEPS, Institution, Refuse, State, state_after

from fedcredit.errors import FedcreditError

ALL: Final = range(len(STEPS))
SESSION: Final = 13
"""Steps between two restarts of the institution."""
STATES: Final = tuple(state_after(count) for count in range(len(STEPS) + 1))

DAMAGED: Final = "does not open"
LOST: Final = "an acknowledged step is lost"
HALF: Final = "no whole number of steps"
INVENTED: Final = "a step that was not begun is there"
STUCK: Final = "does not go on"


def recorded_run(
    settings: Settings,
    *,
    initial: Image | None = None,
    steps: range = ALL,
    opening: Callable[[Path], Institution] = Institution,
) -> Record:
    """Perform the steps on a folder with that content, restarting now and then; return the record."""
    record = Record(initial=dict(initial or {}))
    with in_memory_folder() as folder:
        put(record.initial, folder)
        with recorded_os(folder, record), recorded_sqlite(folder, record, settings=settings):
            for first in range(steps.start, steps.stop, SESSION):
                institution = opening(folder)
                try:
                    for step in STEPS[first : min(first + SESSION, steps.stop)]:
                        institution.perform(step)
                        record.acknowledge()
                finally:
                    institution.close()
        _require_complete(record, folder)
    return record


def _require_complete(record: Record, folder: Path) -> None:
    """Raise unless the record explains every byte of the folder; SQLite's index of the log is rebuilt, never read."""
    there = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    if last_image(record, CrashModel.KEPT, np.random.default_rng(0)) != there:
        raise AssertionError("something was written that the record does not have")


@dataclass
class Verdict:
    """What was found in the images of one record."""

    images: int = 0
    different: int = 0
    """Of them with content that no other had; only these were opened."""
    found: Counter[tuple[CrashModel, str]] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{model}: {reason} x{count}" for (model, reason), count in sorted(self.found.items()))
        return "\n".join(
            [f"{self.images} images, {self.different} different; {counts or 'nothing wrong'}", *self.examples]
        )

    def reasons(self) -> set[str]:
        return {reason for _, reason in self.found}

    def note(self, crash: Crash, reason: str, detail: str) -> None:
        self.found[crash.model, reason] += 1
        if len(self.examples) < 5:
            self.examples.append(
                f"{reason}: seed {crash.seed}, cut {crash.cut}, variant {crash.variant}, {crash.model}: {detail}"
            )


@dataclass(frozen=True)
class Reading:
    """What one image says: how many steps it holds, and what is wrong with it by itself."""

    steps: int
    wrong: str = ""
    detail: str = ""


def judge(
    record: Record, *, seeds: Mapping[CrashModel, int], seed: int, start: int = 0, enough: int | None = None
) -> Verdict:
    """Open every image of the record and hold it against what had been promised.

    ``start`` steps are from before the record. With ``enough`` it stops after so many violations.
    """
    verdict = Verdict()
    readings: dict[bytes, Reading] = {}
    with in_memory_folder() as folder:
        for crash in crashes(record, seeds=seeds, seed=seed):
            verdict.images += 1
            name = name_of(crash.image)
            if name not in readings:
                put(crash.image, folder)
                readings[name] = read(folder, go_on=len(readings) % 4 == 0)
                verdict.different += 1
            _hold_against(start + record.promises(crash.cut), readings[name], crash, verdict)
            if enough is not None and verdict.found.total() >= enough:
                break
    return verdict


def _hold_against(promised: int, reading: Reading, crash: Crash, verdict: Verdict) -> None:
    if reading.wrong:
        verdict.note(crash, reading.wrong, reading.detail)
    elif reading.steps < promised:
        verdict.note(crash, LOST, f"{promised} promised, {reading.steps} there")
    elif reading.steps > promised + 1:
        verdict.note(crash, INVENTED, f"{promised} promised, {reading.steps} there")


def read(folder: Path, *, go_on: bool) -> Reading:
    """Open the store in ``folder`` as a restart does and say what it holds; ``go_on`` performs the next step as well.

    Everything is opened by the code under test on Python's own SQLite.
    """
    try:
        institution = Institution(folder)
        try:
            return _read_opened(institution, go_on=go_on)
        finally:
            institution.close()
    except FedcreditError as error:
        return Reading(0, DAMAGED, f"{error.code} {error}")


def _read_opened(institution: Institution, *, go_on: bool) -> Reading:
    state = institution.state()
    if state not in STATES:
        return Reading(0, HALF, _difference(state))
    steps = STATES.index(state)
    if not go_on:
        return Reading(steps)
    # After the restart the coordinator asks again: what was done is not done twice, and the next step follows.
    if steps and not isinstance(STEPS[steps - 1], Refuse):
        institution.perform(STEPS[steps - 1])
    for step in STEPS[steps : steps + 1]:
        institution.perform(step)
    if institution.state() != STATES[min(steps + 1, len(STEPS))]:
        return Reading(steps, STUCK, _difference(institution.state()))
    return Reading(steps)


def _difference(state: State) -> str:
    """Say which part of the state is ahead of the others."""
    parts = tuple(field.name for field in fields(State))
    last = {
        part: max(
            (number for number, known in enumerate(STATES) if getattr(known, part) == getattr(state, part)), default=-1
        )
        for part in parts
    }
    return ", ".join(f"{part} up to {number}" for part, number in last.items())
