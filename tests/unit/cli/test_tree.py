"""Every command of the tree, looked at from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
import typer

from fedcredit.cli.main import app
from fedcredit.contract import shipped_contracts

MAIN = "from fedcredit.cli.main import main; main()"
HEAVY = ("torch", "opacus", "flwr", "matplotlib", "sklearn", "dp_accounting", "grpc", "pandas", "pandera", "sqlalchemy")


def _commands(group: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        yield path, group
        return
    for name, command in group.commands.items():
        yield from _commands(command, (*path, name))


COMMANDS = dict(_commands(typer.main.get_command(app), ()))
GROUPS = sorted({path[:length] for path in COMMANDS for length in range(len(path))})


def test_the_tree_is_the_one_that_the_documentation_describes() -> None:
    assert {" ".join(path) for path in COMMANDS} == {
        "demo",
        "node init",
        "node check-data",
        "node join",
        "node preview",
        "node approve",
        "node run",
        "node status",
        "node tokenise",
        "node tokens contribute",
        "node tokens combine",
        "node keys check",
        "node budget show",
        "node budget amend",
        "coord init",
        "coord invite",
        "coord member approve",
        "coord member show",
        "coord plan new",
        "coord plan check",
        "coord serve",
        "coord run start",
        "coord run resume",
        "coord run watch",
        "coord run status",
        "lab data get",
        "lab sweep",
        "lab simulate",
        "lab describe",
        "audit verify",
        "audit view",
        "audit anchor",
    }


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_has_format_and_debug_and_says_what_each_option_is_for(path: tuple[str, ...]) -> None:
    options = {name: option for option in COMMANDS[path].params for name in option.opts}
    assert isinstance(options["--format"].type, click.Choice)
    assert list(options["--format"].type.choices) == ["text", "json"]
    assert options["--debug"].is_flag  # type: ignore[attr-defined]
    for option in COMMANDS[path].params:
        assert option.help or isinstance(option, click.Argument), option.name  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", [("node", "init"), ("coord", "plan", "new")], ids=" ".join)
def test_the_help_names_every_shipped_contract(path: tuple[str, ...]) -> None:
    (contract,) = (option for option in COMMANDS[path].params if option.name == "contract")
    assert [name for name in shipped_contracts() if name not in (contract.help or "")] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("path", [*COMMANDS, *GROUPS], ids=" ".join)
def test_the_help_of_every_command_and_group_opens(path: tuple[str, ...], flag: str, type_in) -> None:
    outcome = type_in(" ".join([*path, flag]))
    assert outcome.code == 0
    assert " ".join(["Usage: fedcredit", *path]) in " ".join(outcome.stdout.split())


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_a_group_alone_shows_its_help_and_ends_as_wrong_usage(path: tuple[str, ...], type_in) -> None:
    outcome = type_in(" ".join(path))
    assert outcome.code == 2
    assert "Usage: fedcredit" in outcome.stdout + outcome.stderr
    assert "FC-" not in outcome.stderr


@pytest.mark.parametrize(
    "statement",
    ["import fedcredit", "import fedcredit.cli.main", f"sys.argv[1:] = ['--help']\n{MAIN}"],
    ids=["the package", "the command line", "help"],
)
def test_nothing_heavy_is_imported_before_a_command_needs_it(statement: str) -> None:
    code = f"""
import atexit, sys
heavy = {set(HEAVY)!r}
atexit.register(lambda: print(sorted({{name.partition(".")[0] for name in sys.modules}} & heavy), file=sys.stderr))
{statement}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "[]\n"


def test_an_unknown_command_and_a_wrong_option_end_with_their_code(type_in) -> None:
    type_in("coord nosuch").refuses("FC-1006", 2, "nosuch", "See: fedcredit coord --help")
    type_in("demo --rounds 0").refuses("FC-1006", 2, "--rounds", "See: fedcredit demo --help")
    type_in("demo --data nosuch").refuses("FC-1006", 2, "taiwan", "sba", "german")
    type_in("node init here").refuses("FC-1006", 2, "--name")


def test_a_wrong_option_also_prints_one_envelope_if_json_was_asked_for(type_in) -> None:
    for form in ("--format json", "--format=json"):
        outcome = type_in(f"demo --data nosuch {form}")
        assert outcome.code == 2
        assert outcome.stdout.count("\n") == 1
        assert '"status": "error"' in outcome.stdout
        assert '"code": "FC-1006"' in outcome.stdout


def test_the_version_is_printed(type_in) -> None:
    outcome = type_in("--version")
    assert outcome.code == 0
    assert outcome.stderr.startswith("fedcredit 0.")
