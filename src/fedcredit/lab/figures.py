"""The one form of an experiment's ``results.json``, so that figures can be found and compared by id."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from fedcredit.errors import EvaluationInputError
from fedcredit.store.files import write_atomic

SCHEMA_VERSION: Final = "1"
_ID: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9_-]+)+")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure with its interval and the data it comes from."""

    id: str
    value: float
    low: float
    high: float
    unit: str
    seeds: Sequence[int]
    data: Literal["real", "real-segments", "simulated", "synthetic-benchmark"]

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise EvaluationInputError(what="a figure id", problem="must be lower case and dotted")


def mean_over_seeds(name: str, values: Sequence[float], *, unit: str, seeds: Sequence[int], data: str) -> Figure:
    """Return the mean of one value per seed with a 95 % interval of the mean."""
    low, mean, high = mean_interval(values)
    return Figure(id=name, value=mean, low=low, high=high, unit=unit, seeds=list(seeds), data=data)  # type: ignore[arg-type]


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return (low, mean, high) of the 95 % interval of a mean (Student's t); of one value, the value itself."""
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if array.size < 2:
        return mean, mean, mean
    half = float(stdtrit(array.size - 1, 0.975) * array.std(ddof=1) / math.sqrt(array.size))
    return mean - half, mean, mean + half


def median_of_runs(name: str, values: Sequence[float], *, unit: str, seeds: Sequence[int], data: str) -> Figure:
    """Return the median of repeated measurements with their range."""
    array = np.asarray(values, dtype=np.float64)
    return Figure(
        id=name,
        value=float(np.median(array)),
        low=float(array.min()),
        high=float(array.max()),
        unit=unit,
        seeds=list(seeds),
        data=data,  # type: ignore[arg-type]
    )


def write_results(path: Path, *, question: str, command: str, figures: Sequence[Figure]) -> None:
    """Write one experiment's figures; five significant digits, so that noise in the last ones makes no diff."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "question": question,
        "command": command,
        "figures": [
            {key: float(f"{item:.5g}") if isinstance(item, float) else item for key, item in asdict(figure).items()}
            for figure in figures
        ],
    }
    write_atomic(path, (json.dumps(record, indent=1) + "\n").encode())


def peak_memory() -> int:
    """Return the most bytes of memory that this process has held at once, by Linux's own count.

    ``getrusage`` would not do: a process inherits its figure from the one that started it, however large that was.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
