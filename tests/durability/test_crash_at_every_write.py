"""QUALITY.md R3: the power goes at every write of the store, and every promise of its section 1 still holds."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from durability.power_cut import CrashModel, Image, Record, crashes, in_memory_folder, put
from durability.recording import AS_SHIPPED, BUSY, Settings, settings_of
from durability.trial import DAMAGED, HALF, LOST, Verdict, judge, read, recorded_run
from durability.workload import Institution

SEED: Final = 20261130
ONE_EACH: Final = dict.fromkeys(CrashModel, 1)
# Where chance decides nothing, a second image would be the first again.
MANY: Final = {
    CrashModel.LOST: 1,
    CrashModel.KEPT: 1,
    CrashModel.TORN: 12,
    CrashModel.SUBSET: 30,
    CrashModel.DIRECTORY: 10,
}
REAL: Final = {"as shipped": AS_SHIPPED, "busy": BUSY}


def require_nothing_wrong(verdict: Verdict) -> None:
    assert not verdict.found, str(verdict)


@pytest.mark.parametrize("settings", REAL.values(), ids=REAL)
def test_no_power_cut_loses_or_halves_anything(settings: Settings) -> None:
    verdict = judge(recorded_run(settings), seeds=ONE_EACH, seed=SEED)
    require_nothing_wrong(verdict)
    # Two records of this size are the 3,500 images of R3.
    assert verdict.images >= 1750, str(verdict)
    assert verdict.different >= 700, str(verdict)


@pytest.mark.slow
@pytest.mark.parametrize("settings", REAL.values(), ids=REAL)
def test_no_power_cut_loses_or_halves_anything_in_many_images(settings: Settings) -> None:
    verdict = judge(recorded_run(settings), seeds=MANY, seed=SEED + 1)
    require_nothing_wrong(verdict)
    # The two records together: the 50,000 images of R3.
    assert verdict.images >= 23_000, str(verdict)


@pytest.mark.parametrize("model", [CrashModel.SUBSET, CrashModel.DIRECTORY, CrashModel.TORN])
def test_a_power_cut_while_recovering_from_one_loses_nothing(model: CrashModel) -> None:
    image, steps = crashed(recorded_run(BUSY), model)
    again = recorded_run(BUSY, initial=image, steps=range(steps, steps + 4))
    require_nothing_wrong(judge(again, seeds=ONE_EACH, seed=SEED, start=steps))


def crashed(record: Record, model: CrashModel) -> tuple[Image, int]:
    """Return a late image with a log to recover from, and how many steps it holds."""
    seeds: Mapping[CrashModel, int] = {**dict.fromkeys(CrashModel, 0), model: 1}
    with in_memory_folder() as folder:
        for crash in crashes(record, seeds=seeds, seed=SEED):
            if record.promises(crash.cut) >= 20 and len(crash.image.get("node.db-wal") or b"") > 20_000:
                put(crash.image, folder)
                return crash.image, read(folder, go_on=False).steps
    raise AssertionError("the record has no such image")


CALIBRATIONS: Final = {
    "WAL, synchronous OFF": (settings_of(journal_mode="WAL", synchronous="OFF"), {LOST, DAMAGED}, 400),
    "DELETE, synchronous OFF": (settings_of(journal_mode="DELETE", synchronous="OFF"), {LOST, DAMAGED, HALF}, 400),
    "WAL, synchronous NORMAL": (settings_of(journal_mode="WAL", synchronous="NORMAL"), {LOST}, 100),
    "DELETE, synchronous FULL": (settings_of(journal_mode="DELETE", synchronous="FULL"), {LOST}, 40),
}


@pytest.mark.parametrize(("settings", "faults", "count"), CALIBRATIONS.values(), ids=CALIBRATIONS)
def test_the_harness_finds_what_other_settings_lose(settings: Settings, faults: set[str], count: int) -> None:
    """NORMAL, and DELETE with FULL, only forget; OFF destroys (QUALITY.md 4.1)."""
    verdict = judge(recorded_run(settings), seeds=ONE_EACH, seed=SEED, enough=count)
    assert verdict.found.total() == count, str(verdict)
    assert verdict.reasons() == faults, str(verdict)


class Careless(Institution):
    """Stores an answer and its log line one after the other."""

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        yield


class Hasty(Institution):
    """Says "done" before the disk does: everything waits for one transaction at the end."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.open_transaction = contextlib.ExitStack()
        self.open_transaction.enter_context(self.database.transaction())

    def close(self) -> None:
        self.open_transaction.close()
        super().close()


@pytest.mark.parametrize(("institution", "fault"), [(Careless, HALF), (Hasty, LOST)])
def test_the_harness_finds_an_institution_in_the_wrong_order(institution: type[Institution], fault: str) -> None:
    record = recorded_run(AS_SHIPPED, steps=range(12), opening=institution)
    assert judge(record, seeds=ONE_EACH, seed=SEED, enough=5).reasons() == {fault}


def test_the_harness_accuses_no_settings_that_are_safe() -> None:
    """DELETE with EXTRA syncs the folder after the journal is gone, which is all that FULL lacks."""
    record = recorded_run(settings_of(journal_mode="DELETE", synchronous="EXTRA"), steps=range(8))
    require_nothing_wrong(judge(record, seeds=ONE_EACH, seed=SEED))
