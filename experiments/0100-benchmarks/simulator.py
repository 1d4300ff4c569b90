"""What a simulated world costs: processor seconds, memory, bytes on disk, and five-minute series a second.

    python experiments/0100-benchmarks/simulator.py [--quick] [--stress]

Each world is written by a process of its own, so that its memory is its own; processor seconds, not the clock, because
the machine may be busy. ``--quick`` writes the small world only, one repeat, and no file. The figures stand in
``simulator.json`` beside this module.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fedcredit.lab.figures import Figure, median_of_runs, peak_memory, write_results

HERE = Path(__file__).parent
RESULTS = HERE / "simulator.json"
GOALS = {
    "simulator.ci.cpu_s": 5.0,
    "simulator.paper.cpu_s": 180.0,
    "simulator.paper.peak_gib": 4.0,
    "simulator.stress.peak_gib": 4.0,
    "simulator.series.vehicle_days_per_s": 5_000.0,
}
"""At most, but for the last: at least."""
VEHICLES, DAYS = 256, 7


def measure(scale: str, seed: int) -> dict[str, float]:
    """Write one world in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--one", scale, "--seed", str(seed), "--out", f"{folder}/world"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured: dict[str, float] = json.loads(done.stdout)
        measured["mib"] = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
    return measured


def one(scale: str, seed: int, out: Path) -> None:
    """Write one world and print what it cost."""
    from fedcredit.simulator.generate import generate

    start = time.process_time()
    rows = generate(out, scenario="missing_modality", scale=scale, seed=seed, tell=lambda done, blocks: None)
    seconds = time.process_time() - start
    peak = peak_memory() / 2**30
    total = sum(sum(tables.values()) for owner, tables in rows.items() if owner != "oracle")
    print(json.dumps({"cpu_s": seconds, "peak_gib": peak, "rows": total}))


def series_rate(seed: int) -> float:
    """Return vehicle-days of five-minute readings a processor second."""
    from fedcredit.simulator.generate import plan
    from fedcredit.simulator.sightings import of_records
    from fedcredit.simulator.telematics import drivers_of
    from fedcredit.simulator.telematics_series import NEVER, five_minutes

    planned = plan("missing_modality", "ci", seed)
    numbers = planned.world.numbers
    records = planned.block(0).lenders["B1"].take(np.arange(VEHICLES))
    seen = of_records(np.random.default_rng(seed), numbers, records, np.zeros(VEHICLES, dtype=np.int64))
    drivers, nobody = drivers_of(seed, numbers, seen), np.full(VEHICLES, NEVER)
    start = time.process_time()
    five_minutes(seed, numbers, drivers, first=seen.day - DAYS, days=DAYS, abscond=nobody)
    return VEHICLES * DAYS / (time.process_time() - start)


def figures(*, quick: bool, stress: bool) -> Iterator[Figure]:
    """Measure, and yield every figure."""
    for scale, repeats in (("ci", 1 if quick else 5), ("paper", 0 if quick else 3), ("stress", int(stress))):
        seeds = list(range(1, repeats + 1))
        runs = [measure(scale, seed) for seed in seeds]
        for name, unit in (("cpu_s", "s"), ("peak_gib", "GiB"), ("mib", "MiB"), ("rows", "1")):
            if runs:
                values = [run[name] for run in runs]
                yield median_of_runs(f"simulator.{scale}.{name}", values, unit=unit, seeds=seeds, data="simulated")
    seeds = list(range(1, 2 if quick else 6))
    rates = [series_rate(seed) for seed in seeds]
    name = "simulator.series.vehicle_days_per_s"
    yield median_of_runs(name, rates, unit="1/s", seeds=seeds, data="simulated")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--stress", action="store_true", help="a million contracts too, once: minutes, 4 GB of disk")
    parser.add_argument("--one", choices=("ci", "paper", "stress"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        one(arguments.one, arguments.seed, arguments.out)
        return
    measured = []
    for figure in figures(quick=arguments.quick, stress=arguments.stress):
        measured.append(figure)
        goal = GOALS.get(figure.id)
        held = (
            ""
            if goal is None
            else f"   goal {goal:g} "
            + ("held" if (figure.value >= goal if figure.unit == "1/s" else figure.value <= goal) else "MISSED")
        )
        print(f"{figure.id:40} {figure.value:10.4g} {figure.unit}{held}", flush=True)
    if not arguments.quick:
        write_results(
            RESULTS,
            question="What does a simulated world cost?",
            command="python experiments/0100-benchmarks/simulator.py",
            figures=measured,
        )


if __name__ == "__main__":
    main()
