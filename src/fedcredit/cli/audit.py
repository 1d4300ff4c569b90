"""``fedcredit audit``: what anyone may check afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done
from fedcredit.cli.texts import tr

app = typer.Typer(help="Check the evidence of a run.", no_args_is_help=True)


@app.command("verify")
@guarded
def verify(
    folder: Annotated[Path, typer.Argument(help="A run folder, or the folder of a demo.", metavar="RUN")],
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Check a run's log chain and that every released model is the one it names; exit code 5 on failure."""
    from fedcredit.rounds.evidence import verify_run

    evidence = verify_run(folder)
    head = evidence.head.hex()
    done(tr("audit log: {entries} entries, chain unbroken, head {head}", entries=evidence.entries, head=head[:16]))
    done(tr("{released} released models match their log lines", released=evidence.released))
    return {"entries": evidence.entries, "head": head, "released": evidence.released}
