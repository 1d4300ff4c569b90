"""``fedcredit audit view``: the entries of a log, one a line.

What is not in an entry, such as its time, is not shown. A line has what a person compares; ``--format json`` has all.
"""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fedcredit.cli.options import Debug, Format, OutputFormat, guarded
from fedcredit.cli.output import next_step, say, table
from fedcredit.cli.texts import tr

if TYPE_CHECKING:
    from fedcredit.errors import AuditError
    from fedcredit.rounds.evidence_log import Line

DIGEST_DIGITS: Final = 8
MOST_NAMES: Final = 2
LONGEST_TEXT: Final = 48
_PEOPLE: Final = ("institution", "contributors", "cohort")
"""Fields that say whom an entry is about, the most telling first."""
_NAMING: Final = (*_PEOPLE, "missing", "refused")
"""Fields in which a member may be named."""
_PLACE: Final = ("round", "purpose", "attempt")
_ELSEWHERE: Final = frozenset({"run", "cosignature", *_PLACE, *_PEOPLE})
"""Fields that another column shows, or that are too long for a line."""
_BRIEF: Final = frozenset({"layout", "weights", "released", "boxes", "parent", "ballots", "radii"})
"""Digests and signed messages that are checked, not read."""


@guarded
def view(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A run folder, one with a single run below it, or a stopped node's folder.", metavar="[FOLDER]"
        ),
    ] = Path(),
    round_number: Annotated[int | None, typer.Option("--round", min=0, help="Only entries of this round.")] = None,
    member: Annotated[str | None, typer.Option(help="Only entries that name this institution.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only entries of this kind, such as answer-accepted.")] = None,
    start: Annotated[int, typer.Option("--from", min=0, help="Begin at this entry.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="Show at most so many entries.")] = 50,
    output_format: Format = OutputFormat.TEXT,
    debug: Debug = False,
) -> Mapping[str, Any]:
    """Browse the log of a run, or of a node; its hash chain is checked on the way."""
    path = _log_in(folder)
    _require_kind(kind)
    lines, broken = _read(path)
    wanted = [line for line in lines if line.index >= start and _fits(line, round_number, member, kind)]
    shown, more = wanted[:limit], wanted[limit:]
    columns = [tr("entry"), tr("event"), tr("round"), tr("who"), tr("what")]
    table(str(path), columns, [_cells(line) for line in shown], left=len(columns))
    _tell_codes(shown)
    if broken is not None:
        raise broken
    say(tr("   {shown} of {entries} entries, chain unbroken", shown=len(shown), entries=len(lines)))
    if more:
        filters = (
            ("round", round_number),
            ("member", member),
            ("kind", kind),
            ("from", more[0].index),
            ("limit", limit),
        )
        options = " ".join(f"--{name} {value}" for name, value in filters if value is not None)
        next_step(f"fedcredit audit view {folder} {options}")
    return {
        "log": str(path),
        "entries": len(lines),
        "head": lines[-1].digest.hex() if lines else None,
        "events": [_data(line) for line in shown],
        "next": more[0].index if more else None,
    }


def _log_in(folder: Path) -> Path:
    from fedcredit.config.node import NODE_FILE
    from fedcredit.institution.node import STATE
    from fedcredit.rounds.evidence_files import run_folder
    from fedcredit.rounds.evidence_log import RUN_DATABASE

    if (folder / NODE_FILE).is_file():
        return folder / STATE
    return run_folder(folder) / RUN_DATABASE


def _require_kind(kind: str | None) -> None:
    from fedcredit.audit.log import EventKind
    from fedcredit.errors import UsageError

    if kind is not None and kind not in set(EventKind):
        raise UsageError(problem=f'there is no kind of entry "{kind[:40]}"', hint=f"Known: {', '.join(EventKind)}")


def _read(path: Path) -> tuple[list[Line], AuditError | None]:
    """Return the entries up to where the chain breaks, and how it does."""
    from fedcredit.errors import AuditError
    from fedcredit.rounds.evidence_log import open_database, read_lines

    lines: list[Line] = []
    with open_database(path) as database:
        try:
            for line, _ in read_lines(database, place=str(path)):
                lines.append(line)
        except AuditError as error:
            return lines, error
    return lines, None


def _fits(line: Line, round_number: int | None, member: str | None, kind: str | None) -> bool:
    fields = line.fields
    if round_number is not None and fields.get("round") != round_number:
        return False
    if kind is not None and line.kind != kind:
        return False
    return member is None or any(member in _names(fields.get(name)) for name in _NAMING)


def _names(value: object) -> list[str]:
    """Return the names in a field: one, several, or none."""
    if isinstance(value, list):
        return [str(item) for item in value]
    return [value] if isinstance(value, str) else []


def _cells(line: Line) -> list[str]:
    fields = line.fields
    place = [str(fields[name]) for name in _PLACE if name in fields]
    who = next((_names(fields[name]) for name in _PEOPLE if name in fields), [])
    hidden = _ELSEWHERE | _BRIEF | ({"checkpoint"} if line.kind == "run-opened" else set())
    parts = [f"{name} {_short(value)}" for name, value in sorted(fields.items()) if name not in hidden]
    return [str(line.index), str(line.kind), " ".join(place), _listed(who), " · ".join(parts)]


def _short(value: object) -> str:
    if isinstance(value, Mapping):  # votes: whose, and which
        return _cut(", ".join(f"{name} {said[0]}" for name, said in sorted(value.items())))
    if isinstance(value, bytes):
        return value.hex()[:DIGEST_DIGITS]
    return _listed(_names(value)) if isinstance(value, list) else _cut(str(value))


def _listed(names: list[str]) -> str:
    return _cut(", ".join(names)) if len(names) <= MOST_NAMES else tr("{count} members", count=len(names))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _tell_codes(lines: Sequence[Line]) -> None:
    """Say what the codes mean in general: the fields of a single case are with whoever raised it."""
    from fedcredit.errors import REGISTRY, operator_language

    for code in sorted({str(line.fields["code"]) for line in lines if "code" in line.fields} & set(REGISTRY)):
        error = REGISTRY[code]
        meaning = (
            _Blanks().format(error.zh) if operator_language() == "zh" else (error.__doc__ or "").partition("\n")[0]
        )
        say(f"   {code}  {meaning}")


class _Blanks(string.Formatter):
    """Puts an ellipsis for every field, whatever its format."""

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> str:
        """Return an ellipsis."""
        return "…"

    def format_field(self, value: str, format_spec: str) -> str:
        """Return an ellipsis."""
        return value


def _data(line: Line) -> Mapping[str, Any]:
    fields = {name: value.hex() if isinstance(value, bytes) else value for name, value in line.fields.items()}
    return {"index": line.index, "event": str(line.kind), **fields, "digest": line.digest.hex()}
