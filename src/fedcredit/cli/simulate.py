"""``fedcredit lab simulate`` and ``fedcredit lab describe``: a made-up consortium, and what it is like."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, ScaleChoice, guarded
from fedcredit.cli.output import done, next_step, note, table
from fedcredit.cli.texts import tr

if TYPE_CHECKING:
    from fedcredit.lab.describe import Description

PAGE_FOLDER: Final = "describe"


@guarded
def simulate(
    out: Annotated[Path, typer.Option(help="New folder for the data sets.")],
    scenario: Annotated[str, typer.Option(help="Scenario pack; a wrong name lists them all.")] = "missing_modality",
    scale: Annotated[
        ScaleChoice, typer.Option(help="4 thousand, 110 thousand or a million accepted contracts.")
    ] = ScaleChoice.CI,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 7,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")] = False,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Write one canonical data set per institution, and what only the simulator knows in a folder apart."""
    from fedcredit.simulator.generate import INSTITUTIONS, ORACLE, generate, plan

    if dry_run:
        planned = plan(scenario, scale.value, seed)
        accepted = {name: sum(block[name] for block in planned.accepted) for name in planned.accepted[0]}
        done(
            tr(
                "would write {count:,} accepted contracts of {members} lenders and funds in {blocks} blocks to {path}",
                count=sum(accepted.values()),
                members=len(accepted),
                blocks=len(planned.accepted),
                path=out,
            )
        )
        return {"scenario": scenario, "scale": scale.value, "seed": seed, "accepted": accepted, "dry_run": True}
    rows = generate(out, scenario=scenario, scale=scale.value, seed=seed, tell=_tell)
    for name, tables in rows.items():
        if name != ORACLE:
            done(
                tr(
                    "{institution}: {contracts:,} contracts, {rows:,} rows in {tables} tables",
                    institution=name,
                    contracts=tables["contract"],
                    rows=sum(tables.values()),
                    tables=len(tables),
                )
            )
    note(tr("simulated: nobody and nothing in it is real. The oracle is for the researcher, never for an institution"))
    # Some customers have withdrawn, and a small world has columns in which nothing happened: two warnings to accept.
    first = out / INSTITUTIONS / next(iter(rows))
    check = f"fedcredit node check-data {first} --accept FC-5047 --accept FC-5032"
    next_step(f"fedcredit lab describe {out}", check)
    return {
        "scenario": scenario,
        "scale": scale.value,
        "seed": seed,
        "path": str(out),
        "rows": {name: dict(tables) for name, tables in rows.items()},
    }


def _tell(number: int, blocks: int) -> None:
    if blocks > 1:
        done(tr("block {number} of {blocks}", number=number, blocks=blocks))


@guarded
def describe(
    folder: Annotated[Path, typer.Argument(help="A folder that lab simulate wrote.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Compare the files with their manifests, and print what the world should do and what it did."""
    from fedcredit.lab.describe import ACCEPTED
    from fedcredit.lab.describe import describe as describe_world
    from fedcredit.lab.world_folder import read_simulation, require_untouched
    from fedcredit.report.world_page import write_world_page
    from fedcredit.store.files import make_directory

    simulation = read_simulation(folder)
    tables = require_untouched(simulation)
    done(tr("{tables} tables are what their manifests say", tables=tables))
    found = describe_world(simulation)
    _tell_table(found)
    if simulation.scenario not in ACCEPTED:
        note(
            tr(
                "the targets are those of the reference world; {scenario} moves some on purpose",
                scenario=simulation.scenario,
            )
        )
    counts = found.counts
    make_directory(folder / PAGE_FOLDER)
    verdict = f"{counts['inside']} inside, {counts['within noise']} within noise, {counts['outside']} outside."
    paths = write_world_page(folder / PAGE_FOLDER, found.picture, verdict=verdict)
    for path in paths:
        done(tr("wrote {path}", path=path))
    return {
        "scenario": simulation.scenario,
        "scale": simulation.scale,
        "seed": simulation.seed,
        "verdicts": counts,
        "facts": [
            {
                "name": fact.name,
                "member": fact.member,
                "low": fact.low,
                "high": fact.high,
                "value": fact.value,
                "standard_error": fact.error,
                "verdict": fact.verdict,
            }
            for fact in found.accepted.facts
        ],
        "files": [str(path) for path in paths],
    }


def _tell_table(found: Description) -> None:
    words = {"inside": tr("inside"), "within noise": tr("within noise"), "outside": tr("outside")}
    marks = {"inside": "●", "within noise": "◐", "outside": "▲"}
    lines = [
        [line.name, line.where, f"{marks[line.verdict]} {words[line.verdict]}", line.target, line.value, line.error]
        for line in found.picture.lines
    ]
    columns = [tr("figure"), tr("where"), tr("verdict"), tr("target"), tr("realised"), tr("standard error")]
    table(tr("What the simulated world should do, and what it did"), columns, lines, left=3)
    counts = found.counts
    done(
        tr(
            "{inside} inside, {noise} within noise, {outside} outside",
            inside=counts["inside"],
            noise=counts["within noise"],
            outside=counts["outside"],
        )
    )
