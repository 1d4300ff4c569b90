"""The figures of the demo over several seeds: every institution alone, federated with privacy, pooled without.

    python experiments/0001-demo/run.py [--seeds 5] [--data taiwan sba]

Each seed is one run of the command that a user types (``fedcredit demo --format json``), with another split of the
borrowers into training and test. The noise is cryptographic, so a repetition gives other noise: the interval of each
mean covers splits and noise together. With fewer than five seeds nothing is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fedcredit.lab.figures import Figure, mean_over_seeds, median_of_runs, write_results

HERE = Path(__file__).parent
NAMES = {"taiwan": ("taiwan", "real-segments"), "sba": ("sba8", "real")}
EPSILON = 3
FEWEST_SEEDS = 5


def demo(data: str, seed: int) -> dict[str, Any]:
    """Run the demo once and return the data of its envelope."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(Path(sys.executable).parent / "fedcredit"), "demo", "--format", "json"]
        options = ["--data", data, "--epsilon", str(EPSILON), "--seed", str(seed), "--out", f"{folder}/run"]
        done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
        envelope = json.loads(done.stdout)
        result: dict[str, Any] = envelope["data"]
        return result


def figures_of(data: str, results: list[dict[str, Any]], seeds: list[int]) -> list[Figure]:
    """Return the means over seeds for one data set."""
    name, kind = NAMES[data]

    def mean(part: str, values: list[float]) -> Figure:
        return mean_over_seeds(f"demo.{name}.{part}", values, unit="auc", seeds=seeds, data=kind)

    lines = [result["rows"] for result in results]
    return [
        mean(f"federated.auc.eps{EPSILON}", [result["summary"]["federated_auc"] for result in results]),
        mean("alone.auc", [result["summary"]["alone_mean_auc"] for result in results]),
        mean("alone.best.auc", [max(line["alone_auc"] for line in rows) for rows in lines]),
        mean("pooled.auc", [result["summary"]["pooled_auc"] for result in results]),
        mean(f"own-customers.gain.eps{EPSILON}", [_mean([line["own_gain"] for line in rows]) for rows in lines]),
        *_ks(name, kind, lines, seeds),
    ]


def _ks(name: str, kind: str, lines: list[list[dict[str, Any]]], seeds: list[int]) -> list[Figure]:
    return [
        mean_over_seeds(
            f"demo.{name}.{part}.ks{suffix}",
            [_mean([line[f"{part}_ks"] for line in rows]) for rows in lines],
            unit="ks",
            seeds=seeds,
            data=kind,
        )
        for part, suffix in (("federated", f".eps{EPSILON}"), ("alone", ""), ("pooled", ""))
    ]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument("--data", nargs="+", choices=sorted(NAMES), default=["taiwan", "sba"])
    arguments = parser.parse_args()
    seeds = list(range(1, arguments.seeds + 1))
    figures: list[Figure] = []
    for data in arguments.data:
        results = []
        for seed in seeds:
            results.append(demo(data, seed))
            summary = results[-1]["summary"]
            print(
                f"{data} seed {seed}: federated {summary['federated_auc']:.4f} alone {summary['alone_mean_auc']:.4f} "
                f"pooled {summary['pooled_auc']:.4f} {results[-1]['wall_s']:.0f} s",
                flush=True,
            )
        figures += figures_of(data, results, seeds)
        if data == "taiwan":
            times = [result["wall_s"] for result in results]
            figures.append(median_of_runs("demo.wall_s", times, unit="s", seeds=seeds, data="real-segments"))
    if len(seeds) >= FEWEST_SEEDS and len(arguments.data) == len(NAMES):
        write_results(
            HERE / "results.json",
            question="What does the shared model give, against every institution alone and against pooled rows?",
            command="make experiments",
            figures=figures,
        )


if __name__ == "__main__":
    main()
