"""What every command keeps: people read stderr, programs read one envelope on stdout, errors end with their code."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from fedcredit.cli.texts import tr
from fedcredit.errors import FedcreditError, InternalError

SCHEMA_VERSION: Final = "1"
INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it: 128 and the number of SIGINT."""
NARROWEST: Final = 120
"""Columns that tables may take; a narrower terminal wraps lines rather than losing figures."""
_detected: Final = Console(stderr=True)
console: Final = Console(stderr=True, highlight=False, soft_wrap=True, width=max(NARROWEST, _detected.width))


def say(text: str) -> None:
    """Print one line for people."""
    console.print(_printable(text), markup=False)


def done(text: str) -> None:
    """Print one finished step."""
    console.print(f" [green]✓[/green] {_escape(text)}")


def note(text: str) -> None:
    """Print something that needs attention."""
    console.print(f" [yellow]▲[/yellow] {_escape(text)}")


def next_step(*commands: str) -> None:
    """Print the next commands."""
    label = tr("Next:")
    for command in commands:
        console.print(f"{label} [bold]{_escape(command)}[/bold]")
        label = " " * cell_len(label)


def table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]], *, left: int = 1) -> None:
    """Print a table; the first ``left`` columns are text, the others numbers. Text without room is folded."""
    view = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for index, column in enumerate(columns):
        text = index < left
        view.add_column(column, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    for line in lines:
        view.add_row(*(_escape(cell) for cell in line))
    console.print(view)


def emit(data: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the one envelope of a successful command if JSON was asked for."""
    if as_json:
        envelope = {"schema_version": SCHEMA_VERSION, "status": "ok", "data": jsonable(data)}
        sys.stdout.write(json.dumps(envelope, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()


def jsonable(value: Any) -> Any:
    """Return ``value`` with infinities as text: JSON has no number for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else ("-inf" if value < 0 else None)
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    return value


def run_guarded(command: Callable[[], None], *, as_json: bool, debug: bool) -> None:
    """Run a command; a deliberate error ends with its code, anything else as a bug, without a traceback."""
    try:
        command()
    except FedcreditError as error:
        fail(error, as_json=as_json, debug=debug)
    except KeyboardInterrupt:
        say(tr("Stopped."))
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001 - the last guard of a command
        if debug:
            # Frames only: the message of a library's exception may quote a cell or a token.
            traceback.print_tb(error.__traceback__)
        fail(InternalError(kind=type(error).__name__), as_json=as_json, debug=False)


def fail(error: FedcreditError, *, as_json: bool, debug: bool) -> NoReturn:
    """Print an error once for people, once for programs if JSON was asked for, and end with its exit code."""
    if debug:
        traceback.print_exc()
    if as_json:
        envelope = {
            "schema_version": SCHEMA_VERSION,
            "status": "error",
            "code": error.code,
            "exit": error.exit_code,
            "message": error.describe(),
            "fix": [error.fix()],
            "where": jsonable({key: str(value) for key, value in error.fields.items()}),
            "doc": f"errors/{error.code}",
        }
        sys.stdout.write(json.dumps(envelope, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    console.print(f" [red]✗[/red] [bold]{error.code}[/bold] {_escape(error.describe())}")
    console.print(f"   {_escape(error.fix())}")
    raise SystemExit(error.exit_code)


def _escape(text: str) -> str:
    return _printable(text).replace("[", r"\[")


def _printable(text: str) -> str:
    """Return the text without control characters: names from a plan or an invitation must not steer the terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text)
