"""``fedcredit lab sweep``: the privacy-utility curve of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli.options import (
    Debug,
    Format,
    MechanismChoice,
    ModelChoice,
    NoiseChoice,
    OutputFormat,
    RealDataChoice,
    guarded,
)
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.texts import tr

if TYPE_CHECKING:
    from fedcredit.lab.sweep import Point

DEADLINE_S: Final = 120.0
RESULTS_FILE: Final = "sweep.json"
MOST_SEEDS: Final = 100


@guarded
def sweep(
    epsilon: Annotated[str, typer.Option(help="Epsilons, with commas: 0.5,1,3,8,inf.")] = "0.5,1,3,8,inf",
    seeds: Annotated[int, typer.Option(min=1, max=MOST_SEEDS, help="Splits of the borrowers, from seed 1 on.")] = 5,
    data: Annotated[RealDataChoice, typer.Option(help="Which real data set.")] = RealDataChoice.TAIWAN,
    model: Annotated[ModelChoice, typer.Option(help="Boosted trees, scorecard or neural network.")] = ModelChoice.TREES,
    noise: Annotated[
        NoiseChoice, typer.Option(help="local: every message is private alone. shared: only their sum is (experiment).")
    ] = NoiseChoice.LOCAL,
    mechanism: Annotated[MechanismChoice, typer.Option(help="Law of the noise.")] = MechanismChoice.ROUNDED_GAUSSIAN,
    colluders: Annotated[int, typer.Option(min=0, help="With shared noise: institutions that are not counted on.")] = 0,
    drop_outs: Annotated[int, typer.Option(min=0, help="How many answers the quorum can do without.")] = 0,
    institutions: Annotated[
        int | None, typer.Option(min=2, max=50, help="Spread the rows over so many; the data set's own if absent.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Training rounds; recommended number if absent.")] = None,
    alone: Annotated[bool, typer.Option(help="Fit every institution's own model too.")] = True,
    out: Annotated[Path, typer.Option(help="Folder for the table and the figure.")] = Path("fedcredit-sweep"),
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Run the same study at several epsilons and seeds: table, figure and every point."""
    from fedcredit.errors import AlreadyExistsError
    from fedcredit.lab.study import StudyOptions
    from fedcredit.lab.sweep import SweepOptions, run_sweep, summary
    from fedcredit.store.files import make_directory

    if (out / RESULTS_FILE).exists():
        raise AlreadyExistsError(path=str(out / RESULTS_FILE))
    options = SweepOptions(
        study=StudyOptions(
            dataset=data.value,
            model=model.value,
            epsilon=1.0,
            rounds=rounds,
            seed=1,
            test_noise=False,
            deadline_s=DEADLINE_S,
            noise=noise.value,
            mechanism=mechanism.value,
            colluders=colluders,
            drop_outs=drop_outs,
            retries=0,
            institutions=institutions,
        ),
        epsilons=_epsilons(epsilon),
        seeds=tuple(range(1, seeds + 1)),
        alone=alone,
    )
    if noise is NoiseChoice.SHARED:
        note(tr("shared noise without secure aggregation: an experiment on public data, and the table says so"))
    make_directory(out)
    points = run_sweep(options, out / "runs", on_point=_tell_point)
    lines = summary(points)
    _tell_summary(lines)
    paths = _write(out, options, points, lines)
    for path in paths:
        done(tr("wrote {path}", path=path))
    next_step(f"fedcredit demo --data {data}")
    return {"lines": lines, "files": [str(path) for path in paths], "noise": noise.value}


def _epsilons(text: str) -> tuple[float, ...]:
    from fedcredit.errors import UsageError

    try:
        return tuple(sorted({float(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise UsageError(problem=f'"{text}" is not a list of epsilons', hint="Example: 0.5,1,3,8,inf") from None


def _tell_point(point: Point) -> None:
    say(
        tr(
            "   seed {seed}  epsilon {epsilon:g}  AUC {auc:.4f}  gap {gap:+.4f}",
            seed=point.seed,
            epsilon=point.epsilon,
            auc=point.auc,
            gap=point.gap,
        )
    )


def _tell_summary(lines: list[dict[str, Any]]) -> None:
    columns = [
        tr("epsilon"),
        tr("epsilon, message alone"),
        tr("AUC"),
        tr("gap to boosting without privacy"),
        tr("KS"),
        tr("Brier"),
    ]
    rows = [
        [
            f"{line['epsilon']:g}",
            f"{line['epsilon_alone']:.3g}",
            f"{line['auc']:.4f} ({line['auc_low']:.4f}–{line['auc_high']:.4f})",
            f"{line['gap']:+.4f} ({line['gap_low']:+.4f}–{line['gap_high']:+.4f})",
            f"{line['ks']:.3f}",
            f"{line['brier']:.4f}",
        ]
        for line in lines
    ]
    table(tr("Privacy and utility"), columns, rows)


def _write(out: Path, options: Any, points: list[Point], lines: list[dict[str, Any]]) -> list[Path]:
    import json

    from fedcredit.cli.output import jsonable
    from fedcredit.lab.study import DELTA
    from fedcredit.lab.sweep import as_records
    from fedcredit.report.sweep_figure import CurvePoint, write_sweep_figure
    from fedcredit.store.files import write_atomic

    study = options.study
    record = {
        "schema_version": "1",
        "data": study.dataset,
        "model": study.model,
        "noise": study.noise,
        "mechanism": study.mechanism,
        "seeds": list(options.seeds),
        "lines": lines,
        "points": as_records(points),
    }
    path = out / RESULTS_FILE
    write_atomic(path, (json.dumps(jsonable(record), indent=1) + "\n").encode())
    curve = [
        CurvePoint(epsilon=line["epsilon"], auc=line["auc"], low=line["auc_low"], high=line["auc_high"])
        for line in lines
    ]
    levels = {"gradient boosting on pooled rows, no privacy": lines[0]["reference_auc"]}
    if points[0].alone_mean_auc is not None:
        levels["own models, mean"] = sum(point.alone_mean_auc or 0.0 for point in points) / len(points)
    figures = write_sweep_figure(
        out,
        "sweep",
        {f"{study.model}, {study.noise} noise": curve},
        levels,
        delta=DELTA,
        foot=f"real data: {study.dataset}",
    )
    return [path, *figures]
