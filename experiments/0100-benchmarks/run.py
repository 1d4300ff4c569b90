"""What the engine, its noise, its steps, its secure sums, its seals and its log cost; ratios within one process.

    python experiments/0100-benchmarks/run.py [--quick] [--only SECTION]

Each section says in its module how it is measured. The table at the end holds every figure against its goal; with
``--quick`` it judges nothing, because goals are about the full sizes and a quiet machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from goals import table

from fedcredit.lab.figures import Figure, write_results

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"


@dataclass(frozen=True)
class Section:
    """A module with ``figures(quick=…)``, imported when it is measured: some bring slow imports with them."""

    module: str
    ids: tuple[str, ...]
    """Patterns of its ids; an id belongs to the first section that has one for it."""
    function: str = "figures"
    always: bool = True
    """Whether it is measured without being named."""

    def figures(self, *, quick: bool) -> Iterator[Figure]:
        """Measure, and yield every figure as soon as it is there."""
        measured: Iterator[Figure] = getattr(importlib.import_module(self.module), self.function)(quick=quick)
        return measured


SECTIONS = {
    "thousand": Section("engine_rounds", ("engine.*.n1000",), function="thousand", always=False),
    "engine": Section("engine_rounds", ("engine.*",)),
    "noise": Section("noise_rate", ("noise.*",)),
    "step": Section("steps", ("step.*",)),
    "secagg": Section("secagg_figures", ("secagg.*",)),
    "seal": Section("seals", ("seal.*", "open.*")),
    "ckks": Section("ckks_figures", ("ckks.*",)),
    "log": Section("log_figures", ("log.*",)),
    "check": Section("data_check", ("check.*",)),
}


def section_of(name: str) -> str | None:
    """Return the section that an id belongs to."""
    return next((key for key, each in SECTIONS.items() if any(fnmatchcase(name, ids) for ids in each.ids)), None)


def measured_before(section: str) -> list[Figure]:
    """Return the figures of a section that is not measured this time."""
    lines = json.loads(RESULTS.read_text(encoding="utf-8"))["figures"]
    return [Figure(**line) for line in lines if section_of(line["id"]) == section]


def measured_now(section: Section, *, quick: bool) -> Iterator[Figure]:
    """Yield the figures of a section, and say each."""
    for figure in section.figures(quick=quick):
        print(f"{figure.id} {figure.value:.4g} {figure.unit}", flush=True)
        yield figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats, nothing written")
    parser.add_argument("--only", choices=sorted(SECTIONS), help="measure one section, keep the figures of the others")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    figures: list[Figure] = []
    for name, section in SECTIONS.items():
        if arguments.only == name or (arguments.only is None and section.always):
            figures += measured_now(section, quick=arguments.quick)
        elif not arguments.quick:
            figures += measured_before(name)
    print(*table(figures, judged=not arguments.quick), sep="\n")
    if not arguments.quick:
        write_results(
            RESULTS,
            question="What do rounds, noise, clipped steps, secure sums, seals, the log and a check of tables cost?",
            command="make bench",
            figures=figures,
        )


if __name__ == "__main__":
    main()
