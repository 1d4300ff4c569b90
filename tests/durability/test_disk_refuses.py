"""A full or failing disk anywhere: an error of ours, nothing half, nothing spent twice; then it goes on."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import apsw
import numpy as np
import pytest
from durability.power_cut import CrashModel, Record, in_memory_folder, last_image, put
from durability.recording import BUSY, Fault, recorded_os, recorded_sqlite
from durability.trial import STATES, Reading, read
from durability.workload import STEPS, Institution

from fedcredit.errors import DiskFullError, NotWritableError, StorageError

SEED: Final = 20261130
FIRST: Final = 12
"""Steps of one trial: the split, a run taken up, two rounds and a half; a restart after six."""
KINDS: Final = {
    "full for a moment": Fault(at=0, code=apsw.SQLITE_FULL, concerns=frozenset({"write"}), lasting=False),
    "full until mended": Fault(at=0, code=apsw.SQLITE_FULL, concerns=frozenset({"write", "open"}), lasting=True),
    "write error": Fault(at=0, code=apsw.SQLITE_IOERR_WRITE, concerns=frozenset({"write"}), lasting=False),
    "sync error": Fault(at=0, code=apsw.SQLITE_IOERR_FSYNC, concerns=frozenset({"sync"}), lasting=False),
    "sync errors until mended": Fault(at=0, code=apsw.SQLITE_IOERR_FSYNC, concerns=frozenset({"sync"}), lasting=True),
    "read error": Fault(at=0, code=apsw.SQLITE_IOERR_READ, concerns=frozenset({"read"}), lasting=False),
    "cannot shorten or delete": Fault(
        at=0, code=apsw.SQLITE_IOERR_TRUNCATE, concerns=frozenset({"truncate", "delete"}), lasting=False
    ),
    "cannot open": Fault(at=0, code=apsw.SQLITE_CANTOPEN, concerns=frozenset({"open"}), lasting=False),
}


class DiskGivesUpError(Exception):
    """Ends a trial: the disk refused and is not mended."""


@dataclass
class Trial:
    """The first steps on a disk with one fault.

    With ``mend`` the disk works again after the first refusal and the step is repeated in the same process; without,
    the process gives up and closes what it has.
    """

    folder: Path
    record: Record
    fault: Fault
    mend: bool
    done: int = 0
    refused: list[str] = field(default_factory=list)
    """The code of each error, in order."""

    def run(self) -> None:
        with contextlib.suppress(DiskGivesUpError):
            for first in (0, FIRST // 2):
                with contextlib.closing(self.open()) as institution:
                    while self.done < first + FIRST // 2:
                        self.try_step(institution)

    def open(self) -> Closing:
        try:
            return Closing(self)
        except StorageError as error:
            self.note(error)
            return Closing(self)

    def try_step(self, institution: Institution) -> None:
        try:
            institution.perform(STEPS[self.done])
        except StorageError as error:
            if self.mend:
                self.fault.mended = True
                # Read from the live store: the step happened as a whole, or not at all.
                assert institution.state() in STATES[self.done : self.done + 2]
            self.note(error)
        else:
            self.done += 1
            self.record.acknowledge()

    def note(self, error: StorageError) -> None:
        self.refused.append(error.code)
        if not self.mend:
            raise DiskGivesUpError from error
        if self.fault.mended and len(self.refused) > 2:
            raise AssertionError("a disk that works again is still refused") from error
        self.fault.mended = True


class Closing(Institution):
    """An institution whose closing may be refused, as its daemon's may."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial.folder)
        self._trial = trial

    def close(self) -> None:
        try:
            super().close()
        except StorageError as error:
            self._trial.note(error)


def trial(fault: Fault, *, mend: bool) -> tuple[Trial, list[Reading]]:
    """Run a trial; return it, and what is read from the disk after it, in every crash model."""
    record = Record()
    with in_memory_folder() as folder:
        done = Trial(folder, record, fault, mend)
        with recorded_os(folder, record), recorded_sqlite(folder, record, settings=BUSY, fault=fault):
            done.run()
        readings = [read(folder, go_on=True)]
        for model in CrashModel:
            put(last_image(record, model, np.random.default_rng([SEED, fault.at])), folder)
            readings.append(read(folder, go_on=True))
    return done, readings


def trials(kind: str, *, every: int) -> Iterator[tuple[Trial, list[Reading]]]:
    """Let every ``every``-th operation of the kind fail, until there is none left that could."""
    at = 1
    while True:
        for mend in (True, False):
            fault = replace(KINDS[kind], at=at)
            done, readings = trial(fault, mend=mend)
            if not fault.raised:
                return
            yield done, readings
        at += every


def check(kind: str, *, every: int) -> Counter[str]:
    """Judge the trials of one kind; return how often each error was met."""
    met: Counter[str] = Counter()
    for done, readings in trials(kind, every=every):
        met.update(done.refused or ["nothing"])
        where = (
            f"{kind}, operation {done.fault.at}, mend {done.mend}: refused {done.refused}, {done.done} done, {readings}"
        )
        assert not any(reading.wrong for reading in readings), where
        if done.mend:
            assert done.done == FIRST, where
            assert {reading.steps for reading in readings} == {FIRST}, where
        assert all(done.done <= reading.steps <= done.done + 1 for reading in readings), where
    return met


@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_refuses_loses_nothing_and_charges_nothing_twice(kind: str) -> None:
    common = KINDS[kind].concerns & {"read", "write"}
    assert codes(check(kind, every=13 if common else 3)) == {code_of(kind)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_single_operation_of_the_disk_may_refuse_unnoticed(kind: str) -> None:
    assert codes(check(kind, every=1)) == {code_of(kind)}


def codes(met: Counter[str]) -> set[str]:
    # "nothing": the refusal hit a checkpoint, which SQLite repeats by itself.
    return set(met) - {"nothing"}


def code_of(kind: str) -> str:
    return (DiskFullError if KINDS[kind].code == apsw.SQLITE_FULL else NotWritableError).code
