"""``fedcredit node budget``: what an institution's borrowers have lost of their privacy, and how much they may lose."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, next_step, note, say, table
from fedcredit.cli.plan_view import seen_twice, spent_twice, tell_pairs
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.institution.budget import BudgetReport, PartitionBudget
    from fedcredit.privacy.ledger_entries import CapAmended
    from fedcredit.privacy.spending import Spending

app = typer.Typer(help="What borrowers have lost of their privacy, and the caps.", no_args_is_help=True)
NodeFolder = Annotated[Path, typer.Argument(help="The node's folder.", metavar="NODE")]
FALSE_ALARMS = 0.01
"""The false-positive rate of the membership test that an epsilon is explained by."""


class Partition(StrEnum):
    """Groups of borrowers with a budget of their own."""

    TRAIN = "train"
    HOLDOUT = "holdout"


@app.command("show")
@guarded
def show(folder: NodeFolder, output_format: Format = OutputFormat.TEXT, debug: Debug = False) -> Mapping[str, Any]:
    """Show what is spent, what is left, and what approved plans may still take. The node must not be running."""
    from fedcredit.config.node import NodeConfig
    from fedcredit.institution.budget import report_budget

    contract = NodeConfig.read(folder).data.contract
    report = report_budget(folder)
    # An unprotected release makes both totals infinite, but not those of the other runs.
    shared = any(spent.shared for item in report.partitions for spent in (item.spent, *item.by_run.values()))
    _show_partitions(report, contract, shared=shared)
    _show_runs(report, shared=shared)
    tell_pairs(shared=shared)
    for amended in report.amendments:
        say(_amendment_line(amended))
    _show_notes(report, folder)
    return {
        "institution": report.institution,
        "data_set": contract,
        "partitions": {item.partition: _partition_data(item) for item in report.partitions},
        "approved_plans": {"counted": report.planned, "unreadable": report.unreadable},
        "amendments": [_amendment_data(item) for item in report.amendments],
        "ledger": {"entries": report.entries, "head": report.head.hex(), "opened": _opened(report)},
    }


@app.command("amend")
@guarded
def amend(
    folder: NodeFolder,
    partition: Annotated[Partition, typer.Option(help="Whose cap: training or held-out borrowers.")],
    epsilon: Annotated[float, typer.Option(help="The new cap, at the delta of the ledger.")],
    approver: Annotated[list[str], typer.Option(help="Who answers for it; give two different persons.")],
    reason: Annotated[str, typer.Option(help="Why, in one line; kept in the ledger.")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Change a cap for good: an entry in the ledger, then node.toml. The node must not be running."""
    from fedcredit.institution.budget import amend_budget

    before = amend_budget(
        folder, partition=partition.value, epsilon=epsilon, approvers=approver, reason=reason, clock=time.time
    )
    if before == epsilon:
        done(tr("the ledger holds this cap already; node.toml names it too"))
    else:
        done(
            tr(
                "cap of {partition}: epsilon {before:g} before, {epsilon:g} now; in the ledger and in node.toml",
                partition=word(partition),
                before=before,
                epsilon=epsilon,
            )
        )
    next_step(f"fedcredit node budget show {folder}", f"fedcredit node run {folder}")
    return {"partition": partition.value, "before": before, "epsilon": epsilon, "amended": before != epsilon}


def _show_partitions(report: BudgetReport, contract: str, *, shared: bool) -> None:
    lines = [
        [
            word(item.partition),
            f"{item.cap.epsilon:.4f}",
            spent_twice(item.spent, shared=shared),
            f"{item.left:.4f}",
            f"{item.planned:.4f}",
            str(item.spent.releases),
            _found(item.spent, shared=shared),
        ]
        for item in report.partitions
    ]
    columns = [
        tr("borrowers"),
        tr("cap"),
        tr("epsilon spent"),
        tr("left"),
        tr("with approved plans"),
        tr("releases"),
        tr("found at 1 % false alarms"),
    ]
    table(f"{report.institution} · {contract}", columns, lines)
    say(tr("   left: the epsilon that one further plan may state; squares add up, so it is more than the difference"))
    say(tr("   found: the largest share of the borrowers that any membership test with 1 % false alarms can find"))


def _show_runs(report: BudgetReport, *, shared: bool) -> None:
    lines = [
        [
            run,
            word(item.partition),
            spent_twice(spent, shared=shared),
            str(spent.releases),
            _found(spent, shared=shared),
        ]
        for item in report.partitions
        for run, spent in item.by_run.items()
    ]
    if lines:
        columns = [tr("run"), tr("borrowers"), tr("epsilon"), tr("releases"), tr("found at 1 % false alarms")]
        table(tr("Runs"), columns, lines, left=2)


def _found(spent: Spending, *, shared: bool) -> str:
    claimed, alone = spent.tpr_ceiling(fpr=FALSE_ALARMS), spent.tpr_ceiling_alone(fpr=FALSE_ALARMS)
    return seen_twice(claimed, alone, shared=shared, spec=".1%")


def _show_notes(report: BudgetReport, folder: Path) -> None:
    for item in report.partitions:
        if item.spent.unprotected:
            note(tr("{partition}: some releases had no protecting noise", partition=word(item.partition)))
    if report.unreadable:
        note(
            tr(
                "{count} approved plans are of another version or cannot hold; they are not counted",
                count=report.unreadable,
            )
        )
    short = [item for item in report.partitions if item.planned > item.cap.epsilon]
    if short:
        note(tr("approved plans may ask for more than a cap; rounds beyond it will be refused"))
    next_step(
        *(
            f"fedcredit node budget amend {folder} --partition {item.partition} --epsilon EPSILON --approver NAME "
            f"--approver NAME --reason REASON"
            for item in short
            if item.planned < float("inf")
        ),
        f"fedcredit audit verify {folder} --ledger privacy",
    )


def _amendment_line(amended: CapAmended) -> str:
    return tr(
        "   amended {day}: cap of {partition} {epsilon:g}, by {approvers}: {reason}",
        day=_moment(amended.time)[:10],
        partition=word(amended.partition),
        epsilon=amended.epsilon,
        approvers=", ".join(amended.approvers),
        reason=amended.reason,
    )


def _partition_data(item: PartitionBudget) -> Mapping[str, Any]:
    return {
        "cap": item.cap.epsilon,
        "delta": item.cap.delta,
        **_spent_data(item.spent),
        "left": item.left,
        "with_approved_plans": item.planned,
        "runs": {run: _spent_data(spent) for run, spent in item.by_run.items()},
    }


def _spent_data(spent: Spending) -> Mapping[str, Any]:
    return {
        "epsilon": spent.epsilon,
        "epsilon_alone": spent.epsilon_alone,
        "releases": spent.releases,
        "unprotected": spent.unprotected,
        "tpr_ceiling_at_fpr_1_percent": spent.tpr_ceiling(fpr=FALSE_ALARMS),
        "tpr_ceiling_alone_at_fpr_1_percent": spent.tpr_ceiling_alone(fpr=FALSE_ALARMS),
    }


def _amendment_data(amended: CapAmended) -> Mapping[str, Any]:
    approvers: Sequence[str] = amended.approvers
    return {
        "time": _moment(amended.time),
        "partition": amended.partition,
        "epsilon": amended.epsilon,
        "approvers": list(approvers),
        "reason": amended.reason,
    }


def _opened(report: BudgetReport) -> str | None:
    return None if report.opened is None else _moment(report.opened)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat()
