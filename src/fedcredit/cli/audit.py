"""``fedcredit audit``: what anyone may check afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import done

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
    done(f"audit log: {evidence.entries} entries, chain unbroken, head {evidence.head.hex()[:16]}")
    done(f"{evidence.released} released models match their log lines")
    return {"entries": evidence.entries, "head": evidence.head.hex(), "released": evidence.released}
