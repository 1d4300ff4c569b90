"""``fedcredit demo``: the main job on real or simulated data, on this machine, in one command."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit import __version__
from fedcredit.cli.break_view import BreakChoice, show_break
from fedcredit.cli.options import (
    AggregationChoice,
    Debug,
    Format,
    ModelChoice,
    NoiseChoice,
    OutputFormat,
    ScaleChoice,
    guarded,
)
from fedcredit.cli.output import console, done, next_step, note, say
from fedcredit.cli.result_view import require_released, tell_result
from fedcredit.cli.texts import tr, word
from fedcredit.errors import UsageError

if TYPE_CHECKING:
    from fedcredit.lab.results import StudyEvaluation
    from fedcredit.lab.study import Study

DEFAULT_FOLDER: Final = "fedcredit-demo"
MAX_ROUNDS: Final = 10_000
MAX_SEED: Final = 2**32 - 1
FEW_DEFAULTS: Final = 100
"""Below so many an interval of the AUC is wider than what models differ by."""
DEADLINES_S: Final = {"inprocess": 120.0, "flower": 180.0}


class DataChoice(StrEnum):
    """What the demo runs on: real data sets, and the consortium simulator."""

    TAIWAN = "taiwan"
    SBA = "sba"
    GERMAN = "german"
    SIMULATED = "simulated"


class RuntimeChoice(StrEnum):
    """Where the parties run."""

    INPROCESS = "inprocess"
    FLOWER = "flower"


@guarded
def demo(
    data: Annotated[
        DataChoice | None,
        typer.Option(help="A real data set, or a simulated consortium. Default: taiwan; german with --break."),
    ] = None,
    scale: Annotated[
        ScaleChoice | None,
        typer.Option(help="With --data simulated: 4 thousand, 110 thousand or a million contracts. Default: ci."),
    ] = None,
    runtime: Annotated[
        RuntimeChoice, typer.Option(help="inprocess, or flower: real SuperLink, SuperNodes and daemons on loopback.")
    ] = RuntimeChoice.INPROCESS,
    model: Annotated[
        ModelChoice | None,
        typer.Option(
            help="Boosted trees, scorecard or neural network. Default: trees; scorecard with --break and simulated."
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, max=MAX_ROUNDS, help="Training rounds; recommended number if absent.")
    ] = None,
    epsilon: Annotated[
        float, typer.Option(help="Privacy loss per borrower for the whole training; inf switches privacy off, aloud.")
    ] = 3.0,
    seed: Annotated[
        int,
        typer.Option(min=0, max=MAX_SEED, help="Seed of the split into training and test borrowers, and of a world."),
    ] = 1,
    aggregation: Annotated[
        AggregationChoice, typer.Option(help="secure: only sums can be read. open: the coordinator reads each message.")
    ] = AggregationChoice.SECURE,
    noise: Annotated[
        NoiseChoice | None,
        typer.Option(
            help="local: every member noises for itself. shared: all together, read sums only. "
            "Default: local; shared with simulated, whose members are small."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; must not exist. Default: ./fedcredit-demo…")] = None,
    test_noise: Annotated[
        bool, typer.Option("--test-noise", help="Repeatable noise for bit-equality tests. Protects nobody.")
    ] = False,
    break_with: Annotated[
        BreakChoice | None,
        typer.Option("--break", help="Show an attack or a fault on a small run, and how it is refused or survived."),
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Train one model across institutions, with differential privacy and sealed updates."""
    if scale is not None and data is not DataChoice.SIMULATED:
        raise UsageError(problem="--scale goes with --data simulated only", hint="See: fedcredit demo --help")
    if break_with is not None:
        given = {"--runtime flower": runtime is RuntimeChoice.FLOWER, "--rounds": rounds is not None}
        given |= {"--noise": noise is not None, "--data simulated": data is DataChoice.SIMULATED}
        _refuse_with_break({**given, "--test-noise": test_noise})
        return show_break(
            break_with,
            data=str(data or DataChoice.GERMAN),
            model=str(model or ModelChoice.SCORECARD),
            epsilon=epsilon,
            seed=seed,
            aggregation=str(aggregation),
            out=out,
        )
    data = data or DataChoice.TAIWAN
    simulated = data is DataChoice.SIMULATED
    model = model or (ModelChoice.SCORECARD if simulated else ModelChoice.TREES)
    together = simulated and aggregation is AggregationChoice.SECURE
    noise = noise or (NoiseChoice.SHARED if together else NoiseChoice.LOCAL)
    from fedcredit.flower.study_runtime import free_relay_port, run_through_flower
    from fedcredit.lab.inprocess import run_in_process
    from fedcredit.lab.results import StudyEvaluation
    from fedcredit.lab.study import StudyOptions, build_study
    from fedcredit.report import write_report

    started = time.monotonic()
    folder = out if out is not None else _free_folder(Path(DEFAULT_FOLDER))
    options = StudyOptions(
        dataset=str(data),
        model=model.value,
        epsilon=epsilon,
        rounds=rounds,
        seed=seed,
        test_noise=test_noise,
        deadline_s=DEADLINES_S[runtime],
        aggregation=aggregation.value,
        noise=noise.value,
        scale=(scale or ScaleChoice.CI).value,
    )
    say(
        tr(
            "fedcredit {version} demo · {data} · {model} · everything on this machine",
            version=__version__,
            data=data,
            model=word(model),
        )
    )
    study = build_study(folder.absolute(), options, relay_port=free_relay_port())
    _tell_set_up(study)
    evaluation = StudyEvaluation(study)
    run = run_in_process if runtime is RuntimeChoice.INPROCESS else run_through_flower
    run_folder = _with_progress(study, evaluation, run)
    result = evaluation.finish(run_folder, runtime=str(runtime), started=started)
    report = write_report(study.folder)
    tell_result(result)
    _tell_limits(result)
    done(tr("wrote {path}", path=report))
    steps = [f"fedcredit audit verify {_short(run_folder)}"]
    if runtime is RuntimeChoice.INPROCESS:
        again = tr("(real processes, TLS)")
        if simulated:
            steps.append(f"fedcredit demo --data {data} --scale {options.scale} --runtime flower      {again}")
        else:
            steps.append(f"fedcredit demo --data {data} --runtime flower      {again}")
    next_step(*steps)
    require_released(result)
    return {**result, "report": str(report)}


def _refuse_with_break(given: Mapping[str, bool]) -> None:
    """A demonstration sets its own run, in this process, and hides nothing behind a noise that repeats."""
    for option, wanted in given.items():
        if wanted:
            raise UsageError(problem=f"{option} does not go with --break", hint="See: fedcredit demo --help")


def _free_folder(base: Path) -> Path:
    candidates = [base, *(base.with_name(f"{base.name}-{number}") for number in range(2, 10_000))]
    return next(path for path in candidates if not path.exists())


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _tell_set_up(study: Study) -> None:
    plan = study.plan
    if study.dataset.provenance == "simulated":
        note(tr("SIMULATED data: every person, vehicle and institution is made up"))
        for name, reason in study.dataset.left_out.items():
            note(tr("{institution} is left out: {reason}", institution=name, reason=word(reason)))
    done(tr("keys, enrolment, approved plan        {institutions} institutions", institutions=len(study.holdings)))
    borrowers = sum(len(holdings.table) for holdings in study.holdings.values())
    bad = sum(int(holdings.table.labels.sum()) for holdings in study.holdings.values())
    done(
        tr(
            "data checked against the contract     {borrowers:,} borrowers, {default:.1%} default",
            borrowers=borrowers,
            default=bad / borrowers,
        )
    )
    if plan.privacy.mechanism == "none":
        note(tr("epsilon = inf: this run trains WITHOUT differential privacy; every output says so"))
    elif plan.privacy.test_noise:
        note(tr("test noise: the noise is repeatable and protects NOBODY; every output says so"))
    if plan.secure is None:
        note(tr("OPEN aggregation: the coordinator reads the message of every institution"))
    if plan.vote_floor is None:
        note(tr("nobody votes on the model: too few members have borrowers enough to judge it"))


def _tell_limits(result: Mapping[str, Any]) -> None:
    bads = result["summary"]["test_bads"]
    if bads < FEW_DEFAULTS:
        note(tr("only {bads} defaults among the test records: figures from so few are no result", bads=bads))
    if result["shared_borrowers"]:
        note(
            tr(
                "{borrowers:,} borrowers are at two institutions or more, one at {most}: epsilon is per institution, "
                "and their losses add up",
                borrowers=result["shared_borrowers"],
                most=result["most_institutions"],
            )
        )


def _with_progress(study: Study, evaluation: StudyEvaluation, run: Callable[..., Path]) -> Path:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn(f"   {tr('round')}"),
        MofNCompleteColumn(),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=study.plan.run.rounds, figures="")

        def on_round(number: int, released: Any, institutions: int) -> None:
            line = evaluation.round_figures(number, released, institutions=institutions)
            figures = tr("AUC {auc:.3f}  ε {epsilon:.2f}", auc=line["auc"], epsilon=line["epsilon"])
            progress.update(task, completed=number, figures=figures)

        return run(study, on_round=on_round)
