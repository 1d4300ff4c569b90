"""``fedcredit audit``: what anyone may check afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done, note
from fedcredit.cli.plan_view import spent_twice, tell_pairs
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.errors import AuditError, FedcreditError

app = typer.Typer(help="Check the evidence of a run, or the privacy ledger of a node.", no_args_is_help=True)


class LedgerKind(StrEnum):
    """Ledgers of a node that can be verified."""

    PRIVACY = "privacy"


@app.command("verify")
@guarded
def verify(
    folder: Annotated[
        Path,
        typer.Argument(help="A run folder, or the folder of a demo; with --ledger a node's folder.", metavar="FOLDER"),
    ],
    ledger: Annotated[
        LedgerKind | None, typer.Option(help="Verify this ledger of a node instead; the node must not be running.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="With --ledger: a run folder whose log must name no head that the ledger lacks."),
    ] = None,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Check a run's log chain and that every released model is the one it names, or a node's privacy ledger."""
    if ledger is not None:
        return _verify_ledger(folder, against)
    if against is not None:
        from fedcredit.errors import UsageError

        raise UsageError(problem="--against goes with --ledger privacy", hint="See: fedcredit audit verify --help")
    return _verify_run(folder)


def _verify_run(folder: Path) -> Mapping[str, Any]:
    from fedcredit.rounds.evidence import verify_run

    evidence = verify_run(folder)
    head = evidence.head.hex()
    done(tr("audit log: {entries} entries, chain unbroken, head {head}", entries=evidence.entries, head=head[:16]))
    done(tr("{released} released models match their log lines", released=evidence.released))
    return {"entries": evidence.entries, "head": head, "released": evidence.released}


def _verify_ledger(folder: Path, against: Path | None) -> Mapping[str, Any]:
    from fedcredit.config.node import NodeConfig
    from fedcredit.errors import LedgerCorruptError, LedgerOwnerError, LedgerRolledBackError, StoreCorruptError
    from fedcredit.institution.budget import verify_ledger
    from fedcredit.rounds.evidence import recorded_ledger_heads

    heads = () if against is None else recorded_ledger_heads(against, NodeConfig.read(folder).name)
    try:
        evidence = verify_ledger(folder, heads=heads)
    except (LedgerCorruptError, LedgerOwnerError, LedgerRolledBackError, StoreCorruptError) as error:
        raise _unverified(folder, error) from error
    head = evidence.head.hex()
    done(
        tr(
            "privacy ledger of {institution}: {entries} entries, chain unbroken, head {head}",
            institution=evidence.institution,
            entries=evidence.entries,
            head=head[:16],
        )
    )
    shared = any(spent.shared for spent in evidence.spent.values())
    for name, spent in evidence.spent.items():
        done(
            tr(
                "{partition}: epsilon {epsilon} at delta {delta:g}, {releases} releases",
                partition=word(name),
                epsilon=spent_twice(spent, shared=shared),
                delta=spent.delta,
                releases=spent.releases,
            )
        )
    tell_pairs(shared=shared)
    if heads:
        done(tr("all {heads} heads that the coordinator's log holds are in this ledger", heads=len(heads)))
    elif against is not None:
        note(tr("the coordinator's log holds no head of this ledger: nothing was compared"))
    return {
        "institution": evidence.institution,
        "entries": evidence.entries,
        "head": head,
        "spent": {
            name: {
                "epsilon": item.epsilon,
                "epsilon_alone": item.epsilon_alone,
                "delta": item.delta,
                "releases": item.releases,
            }
            for name, item in evidence.spent.items()
        },
        "heads_compared": len(heads),
    }


def _unverified(folder: Path, error: FedcreditError) -> AuditError:
    """Return what ends a verification that failed; the code inside is the one that keeps the node closed."""
    from fedcredit.errors import AuditError, LedgerCorruptError
    from fedcredit.institution.node import STATE

    path = str(folder / STATE)
    if isinstance(error, LedgerCorruptError):
        found = f"of the privacy ledger is broken ({error.code}: {error.fields['problem']})"
        return AuditError(path=path, index=error.fields["index"], problem=found)
    # The ledger as a whole is the wrong one, or no entry can be read at all.
    found = f"begins a privacy ledger that is refused ({error.code}: {error.describe('en').rstrip('.')})"
    return AuditError(path=path, index=0, problem=found)
