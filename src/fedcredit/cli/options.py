"""Options that every command shares, and the guard that every command runs under."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Final, NoReturn

import click
import typer

from fedcredit.cli.output import emit, fail, run_guarded
from fedcredit.errors import UsageError

PASSPHRASE_VARIABLE: Final = "FEDCREDIT_PASSPHRASE"  # noqa: S105 - the name of a variable


class OutputFormat(StrEnum):
    """What a command prints on stdout."""

    TEXT = "text"
    JSON = "json"


class AggregationChoice(StrEnum):
    """Who reads what an institution sends."""

    SECURE = "secure"
    OPEN = "open"


class NoiseChoice(StrEnum):
    """Whom the noise of one message protects against."""

    LOCAL = "local"
    SHARED = "shared"


class MechanismChoice(StrEnum):
    """Laws of integer noise."""

    ROUNDED_GAUSSIAN = "rounded-gaussian"
    SKELLAM = "skellam"
    DISCRETE_GAUSSIAN = "discrete-gaussian"


class ModelChoice(StrEnum):
    """What is trained."""

    TREES = "trees"
    SCORECARD = "scorecard"
    NETWORK = "network"


class RealDataChoice(StrEnum):
    """The real data sets that travel with fedcredit."""

    TAIWAN = "taiwan"
    SBA = "sba"
    GERMAN = "german"


class ScaleChoice(StrEnum):
    """How many accepted contracts a simulated world has."""

    CI = "ci"
    PAPER = "paper"
    STRESS = "stress"


Format = Annotated[
    OutputFormat, typer.Option("--format", help="text: for people, on stderr. json: one envelope on stdout.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.", hidden=False)]
Command = Callable[..., Mapping[str, Any]]


def guarded(function: Command) -> Callable[..., None]:
    """Return a command that prints its result as one envelope if asked, and ends errors with their code.

    The command must have the parameters ``output_format`` and ``debug``; it returns the envelope's data.
    """

    @functools.wraps(function)
    def command(**arguments: Any) -> None:
        as_json = arguments["output_format"] == OutputFormat.JSON
        run_guarded(lambda: emit(function(**arguments), as_json=as_json), as_json=as_json, debug=arguments["debug"])

    return command


def refuse_usage(error: click.ClickException, arguments: Sequence[str]) -> NoReturn:
    """End a command that could not be read from its arguments: FC-1006, as an envelope too if JSON was asked for."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else "fedcredit"
    usage = UsageError(problem=error.format_message().rstrip("."), hint=f"See: {path} --help")
    as_json = any(pair == ("--format", "json") for pair in pairwise(arguments)) or "--format=json" in arguments
    fail(usage, as_json=as_json, debug=False)


def passphrase() -> bytes | None:
    """Return the passphrase of key files from the environment, if one is set."""
    text = os.environ.get(PASSPHRASE_VARIABLE)
    return text.encode() if text else None
