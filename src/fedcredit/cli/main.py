"""The command tree. Each group lives in its own module, and every command imports what it needs when it runs."""

from __future__ import annotations

import os
import sys
from typing import Annotated

# Nothing phones home: the switches are set before any dependency can be imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
# Waiting threads sleep instead of spinning, so that a busy machine stays usable.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import typer
from click.exceptions import Abort, ClickException, NoArgsIsHelpError

from fedcredit import __version__
from fedcredit.cli import audit, coord, demo, lab, node
from fedcredit.cli.options import refuse_usage
from fedcredit.cli.output import INTERRUPTED, say

app = typer.Typer(
    name="fedcredit",
    help="Train one shared credit-risk model across institutions, without sharing a row.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(node.app, name="node")
app.add_typer(coord.app, name="coord")
app.add_typer(lab.app, name="lab")
app.add_typer(audit.app, name="audit")
app.command(name="demo")(demo.demo)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"fedcredit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    lang: Annotated[
        str, typer.Option("--lang", help="Language of messages: en or zh.", envvar="FEDCREDIT_LANG")
    ] = "en",
) -> None:
    os.environ["FEDCREDIT_LANG"] = lang


def main() -> None:
    """Run the command line; a wrong option ends like every other error, with its code."""
    arguments = sys.argv[1:]
    try:
        code = app(prog_name="fedcredit", args=arguments, standalone_mode=False)
    except NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except ClickException as error:
        refuse_usage(error, arguments)
    except Abort:
        sys.exit(INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)
