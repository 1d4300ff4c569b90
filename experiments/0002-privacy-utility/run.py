"""What does privacy cost? AUC of the federation at small epsilon against boosting without privacy on pooled rows.

    python experiments/0002-privacy-utility/run.py [--seeds 5] [--only taiwan sba audit]

``--only`` without a name draws the pictures again from the figures that are there.

Every run goes through the engine: keys, sealed messages, secure aggregation, ledger, integer noise from a cryptographic
stream. A seed decides who is held out and, for ``taiwan5``, which of five banks a borrower belongs to. With fewer than
five seeds nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedcredit.lab.figures import Figure, mean_over_seeds, write_results
from fedcredit.lab.study import DELTA, StudyOptions
from fedcredit.lab.sweep import Point, Reference, SweepOptions, run_sweep
from fedcredit.report.sweep_figure import CurvePoint, write_sweep_figure

HERE = Path(__file__).parent
FEWEST_SEEDS = 5
INF = float("inf")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One line of the table: a study at several epsilons."""

    name: str
    """As in the ids of the figures."""
    label: str
    """As in the picture."""
    study: StudyOptions
    epsilons: tuple[float, ...]
    drawn: bool = True


def study(dataset: str, **changes: Any) -> StudyOptions:
    """Return a study whose epsilon and seed the sweep sets."""
    common = StudyOptions(
        dataset=dataset,
        model="trees",
        epsilon=1.0,
        rounds=None,
        seed=1,
        test_noise=False,
        deadline_s=600.0,
        retries=0,
        institutions=5 if dataset == "taiwan" else None,
    )
    return replace(common, **changes)


TAIWAN = (
    Curve(
        name="sum",
        label="trees, noise of the sum",
        study=study("taiwan", noise="shared"),
        epsilons=(0.5, 1, 3, 8, INF),
    ),
    Curve(
        name="sum-drop1-collude1",
        label="trees, one drop-out and one colluder priced in",
        study=study("taiwan", noise="shared", drop_outs=1, colluders=1),
        epsilons=(1, 3),
    ),
    Curve(
        name="local",
        label="trees, every message private alone",
        study=study("taiwan"),
        epsilons=(0.5, 1, 3, 8),
    ),
    Curve(
        name="scorecard.sum",
        label="scorecard, noise of the sum",
        study=study("taiwan", model="scorecard", noise="shared"),
        epsilons=(1, 3),
    ),
    Curve(
        name="skellam.sum",
        label="trees, Skellam noise of the sum",
        study=study("taiwan", noise="shared", mechanism="skellam"),
        epsilons=(1, 3),
        drawn=False,
    ),
)
SBA = (
    Curve(name="sum", label="trees, noise of the sum", study=study("sba", noise="shared"), epsilons=(1, 3)),
    Curve(name="local", label="trees, every message private alone", study=study("sba"), epsilons=(1, 3)),
)


def figures_of(prefix: str, data: str, curve: Curve, points: Sequence[Point], seeds: Sequence[int]) -> list[Figure]:
    """Return AUC and gap per epsilon, and what a run costs."""
    figures = []
    for epsilon in curve.epsilons:
        chosen = [point for point in points if point.epsilon == epsilon]
        suffix = f"{curve.name}.{_suffix(epsilon)}"
        for part in ("gap", "auc"):
            values = [getattr(point, part) for point in chosen]
            figures.append(mean_over_seeds(f"{prefix}.{part}.{suffix}", values, unit="auc", seeds=seeds, data=data))
        ks = [point.ks for point in chosen]
        figures.append(mean_over_seeds(f"{prefix}.ks.{suffix}", ks, unit="ks", seeds=seeds, data=data))
        alone = [point.epsilon_alone for point in chosen]
        if np.isfinite(alone).all():
            figures.append(
                mean_over_seeds(f"{prefix}.epsilon-alone.{suffix}", alone, unit="epsilon", seeds=seeds, data=data)
            )
    return figures


def cost_figures(prefix: str, data: str, points: Sequence[Point], seeds: Sequence[int]) -> list[Figure]:
    """Return the largest payload and the CPU time over all runs of a data set."""
    chosen = {seed: [point for point in points if point.seed == seed] for seed in seeds}

    def largest(name: str) -> list[float]:
        return [float(max(getattr(point, name) for point in chosen[seed])) for seed in seeds]

    return [
        mean_over_seeds(f"{prefix}.payload.numbers", largest("numbers_per_round"), unit="1", seeds=seeds, data=data),
        mean_over_seeds(f"{prefix}.payload.bytes", largest("bytes_per_round"), unit="B", seeds=seeds, data=data),
        mean_over_seeds(f"{prefix}.rounds", largest("rounds"), unit="1", seeds=seeds, data=data),
        mean_over_seeds(f"{prefix}.cpu_s", largest("cpu_seconds_per_institution"), unit="s", seeds=seeds, data=data),
    ]


def reference_figures(prefix: str, data: str, points: Sequence[Point], seeds: Sequence[int]) -> list[Figure]:
    """Return the models without privacy: pooled, and every institution alone."""
    first = {point.seed: point for point in reversed(points)}
    pooled = [first[seed].reference_auc for seed in seeds]
    mean = [first[seed].alone_mean_auc or 0.0 for seed in seeds]
    best = [first[seed].alone_best_auc or 0.0 for seed in seeds]
    return [
        mean_over_seeds(f"{prefix}.reference.auc", pooled, unit="auc", seeds=seeds, data=data),
        mean_over_seeds(f"{prefix}.alone-mean.auc", mean, unit="auc", seeds=seeds, data=data),
        mean_over_seeds(f"{prefix}.alone-best.auc", best, unit="auc", seeds=seeds, data=data),
    ]


def data_figures(prefix: str, data: str, curves: Sequence[Curve], seeds: Sequence[int]) -> list[Figure]:
    """Run all curves of one data set."""
    figures: list[Figure] = []
    everything: list[Point] = []
    references: dict[int, Reference] = {}
    for curve in curves:
        options = SweepOptions(study=curve.study, epsilons=curve.epsilons, seeds=tuple(seeds), alone=True)
        with tempfile.TemporaryDirectory() as folder:
            tell = _tell(f"{prefix} {curve.name}")
            points = run_sweep(options, Path(folder), on_point=tell, references=references)
        everything += points
        figures += figures_of(prefix, data, curve, points, seeds)
    figures += reference_figures(prefix, data, everything, seeds)
    figures += cost_figures(prefix, data, everything, seeds)
    return figures


def draw(prefix: str, curves: Sequence[Curve], figures: Sequence[Figure]) -> None:
    """Draw the curves of one data set from its figures."""
    by_id = {figure.id: figure for figure in figures}
    drawn = {
        curve.label: [
            CurvePoint(epsilon=epsilon, auc=figure.value, low=figure.low, high=figure.high)
            for epsilon in curve.epsilons
            for figure in [by_id[f"{prefix}.auc.{curve.name}.{_suffix(epsilon)}"]]
        ]
        for curve in curves
        if curve.drawn
    }
    reference = by_id[f"{prefix}.reference.auc"]
    levels = {
        "gradient boosting on pooled rows, no privacy": reference.value,
        "own model without privacy, best institution": by_id[f"{prefix}.alone-best.auc"].value,
    }
    foot = f"{reference.data} data, mean of {len(reference.seeds)} splits, 95 % interval"
    write_sweep_figure(HERE, prefix, drawn, levels, delta=DELTA, foot=foot)


def _suffix(epsilon: float) -> str:
    return f"eps{epsilon:g}".replace("0.5", "05")


def _tell(name: str) -> Callable[[Point], None]:
    def tell(point: Point) -> None:
        print(
            f"{name}: seed {point.seed} epsilon {point.epsilon:g} auc {point.auc:.4f} gap {point.gap:+.4f}", flush=True
        )

    return tell


def taiwan(seeds: Sequence[int]) -> list[Figure]:
    """Five banks that share the Taiwan borrowers at random."""
    from fedcredit.lab.sweep import opacus_per_site_auc

    figures = data_figures("taiwan5", "real-segments", TAIWAN, seeds)
    for epsilon in (1.0, 3.0):
        per_site = [opacus_per_site_auc(replace(TAIWAN[0].study, seed=seed), epsilon=epsilon) for seed in seeds]
        for part, values in (("mean", [np.mean(a) for a in per_site]), ("best", [max(a) for a in per_site])):
            name = f"taiwan5.opacus-per-site.{part}.auc.eps{epsilon:g}"
            figures.append(
                mean_over_seeds(name, [float(v) for v in values], unit="auc", seeds=seeds, data="real-segments")
            )
    return figures


def sba(seeds: Sequence[int]) -> list[Figure]:
    """Eight real lenders."""
    return data_figures("sba8", "real", SBA, seeds)


def audit(seeds: Sequence[int]) -> list[Figure]:
    """How many of the five broken builds the canary audits find, and how often they accuse the right one."""
    from fedcredit.lab.audit_scenes import audit_build, audit_mutants
    from fedcredit.lab.audited_path import CORRECT

    caught, accused = [], []
    for _ in seeds:  # the noise is cryptographic: a repetition, not a seed
        results = audit_mutants(entropy=os.urandom)
        caught.append(float(sum(any(one.refutes_the_claim for one in three) for three in results.values())))
        correct = audit_build(CORRECT, entropy=os.urandom)
        accused.append(float(sum(one.refutes_the_claim for one in correct)))
    data = "synthetic-benchmark"
    return [
        mean_over_seeds("audit.mutants.caught", caught, unit="1", seeds=seeds, data=data),
        mean_over_seeds("audit.correct.accused", accused, unit="1", seeds=seeds, data=data),
    ]


SECTIONS: dict[str, Callable[[Sequence[int]], list[Figure]]] = {
    "taiwan": taiwan,
    "sba": sba,
    "audit": audit,
}
CURVES = {"taiwan": ("taiwan5", TAIWAN), "sba": ("sba8", SBA)}
PREFIXES = {"taiwan": "taiwan5.", "sba": "sba8.", "audit": "audit."}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=FEWEST_SEEDS)
    parser.add_argument("--only", nargs="*", choices=sorted(SECTIONS), default=list(SECTIONS))
    arguments = parser.parse_args()
    seeds = list(range(1, arguments.seeds + 1))
    path = HERE / "results.json"
    for name in arguments.only:
        figures = SECTIONS[name](seeds)
        for figure in figures:
            print(f"{figure.id:48} {figure.value:.4f} ({figure.low:.4f}..{figure.high:.4f})", flush=True)
        if len(seeds) < FEWEST_SEEDS:
            continue
        write_results(
            path,
            question="What does privacy cost, against gradient boosting without privacy on pooled rows?",
            command="python experiments/0002-privacy-utility/run.py",
            figures=[*_kept(path, PREFIXES[name]), *figures],
        )
    if path.exists():
        for prefix, curves in CURVES.values():
            draw(prefix, curves, _kept(path, "-"))
    if len(seeds) < FEWEST_SEEDS:
        print(f"nothing written: fewer than {FEWEST_SEEDS} seeds")


def _kept(path: Path, prefix: str) -> list[Figure]:
    if not path.exists():
        return []
    lines = json.loads(path.read_text(encoding="utf-8"))["figures"]
    return [Figure(**line) for line in lines if not line["id"].startswith(prefix)]


if __name__ == "__main__":
    main()
