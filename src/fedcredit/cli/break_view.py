"""``fedcredit demo --break``: an attack or a fault on a small real run, and how it is refused or survived."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from fedcredit import __version__
from fedcredit.cli.break_words import ACTS, CHECKS, IDEAS
from fedcredit.cli.output import console, next_step, say
from fedcredit.cli.texts import tr, word

if TYPE_CHECKING:
    from fedcredit.lab.breaks.story import Check, LogLine, Step, Story

WIDTH: Final = 100
NARROW: Final = 60
"""A story takes at most ``WIDTH`` columns, and fewer in a narrower terminal, down to this."""


class BreakChoice(StrEnum):
    """Attacks and faults that can be shown."""

    REPLAY = "replay"
    POISON = "poison"
    SNOOP = "snoop"
    SPLIT = "split"
    DROP = "drop"
    KILL = "kill"


def show_break(
    idea: BreakChoice, *, data: str, model: str, epsilon: float, seed: int, aggregation: str, out: Path | None
) -> Mapping[str, Any]:
    """Play a demonstration, tell it, and return its data; ``out`` keeps its folder.

    Raises:
        DefenceBrokenError: a check did not hold.
        UsageError, AlreadyExistsError and others: as ``play``.
    """
    from fedcredit.errors import DefenceBrokenError
    from fedcredit.lab.breaks.play import play
    from fedcredit.lab.breaks.scene import Setting

    setting = Setting(dataset=data, model=model, epsilon=epsilon, seed=seed, aggregation=aggregation)
    started = time.monotonic()
    with _folder(out) as folder:
        story = play(str(idea), folder, setting)
    tell_story(story, seconds=time.monotonic() - started)
    if not story.held:
        failed = list(dict.fromkeys(story.failed))
        raise DefenceBrokenError(
            attack=story.idea, failed=len(story.failed), checks=len(story.checks), names=", ".join(failed)
        )
    if out is not None:
        next_step(f"fedcredit audit verify {out}")
    order = [*BreakChoice, *BreakChoice]
    next_step(f"fedcredit demo --break {order[order.index(idea) + 1]}")
    return story_data(story)


def tell_story(story: Story, *, seconds: float) -> None:
    """Print a story for people, at most ``WIDTH`` columns wide."""
    say(
        tr(
            "fedcredit {version} demo --break {idea} · {data} · {model} · {institutions} institutions, in this process",
            version=__version__,
            idea=story.idea,
            data=story.dataset,
            model=word(story.model),
            institutions=len(story.institutions),
        )
    )
    say("")
    _show(_columns([f"[bold]{_safe(IDEAS[story.idea]({}))}[/bold]"]))
    say("")
    say(tr("What happened"))
    for step in story.steps:
        _show(_step(step))
    say("")
    say(tr("What the audit logs say of it"))
    _show(_log(story.lines))
    say("")
    say(tr("What was checked"))
    for check in story.checks:
        _show(_check(check))
    say("")
    _show(_verdict(story, seconds))


def story_data(story: Story) -> Mapping[str, Any]:
    """Return a story as the data of an envelope; names of acts, checks and events are the same in every language."""
    return {
        "attack": story.idea,
        "held": story.held,
        "data": story.dataset,
        "model": story.model,
        "institutions": list(story.institutions),
        "steps": [
            {
                "who": step.who,
                "act": step.act,
                "hostile": step.hostile,
                **step.fields,
                **({"code": step.error.code, "message": step.error.describe()} if step.error else {}),
            }
            for step in story.steps
        ],
        "log": [{"log": line.log, "index": line.index, "event": line.event, **line.fields} for line in story.lines],
        "checks": [{"check": check.name, "held": check.held, **check.observed} for check in story.checks],
    }


@contextlib.contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        yield out.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="fedcredit-break-") as made:
        yield Path(made) / "run"


def _step(step: Step) -> RenderableType:
    text = _safe(ACTS[step.act](step.fields))
    if step.error is not None:
        text = f"{text}  [bold]{step.error.code}[/bold] {_safe(step.error.describe())}"
    mark = "[yellow]▸[/yellow]" if step.hostile else "↳"
    return _columns([mark, f"[bold]{_safe(_party(step.who))}[/bold]  {text}"], first=2 if step.hostile else 4)


def _log(lines: tuple[LogLine, ...]) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    for column in range(5):
        grid.add_column(justify="right" if column == 1 else "left", overflow="fold")
    heads = (tr("log"), tr("entry"), tr("event"), tr("purpose/round/attempt"), tr("who and what"))
    grid.add_row(
        *(
            f"[dim] {_safe(head)}[/dim]" if not place else f"[dim]{_safe(head)}[/dim]"
            for place, head in enumerate(heads)
        )
    )
    for line in lines:
        fields = dict(line.fields)
        place = "/".join(filter(None, (fields.pop(name, "") for name in ("purpose", "round", "attempt"))))
        rest = "  ".join(filter(None, fields.values()))
        grid.add_row(f" {_safe(_party(line.log))}", str(line.index), _safe(line.event), _safe(place), _safe(rest))
    return grid


def _check(check: Check) -> RenderableType:
    mark = "[green]✓[/green]" if check.held else "[red]✗[/red]"
    return _columns([mark, _safe(CHECKS[check.name](check.observed))], first=2)


def _verdict(story: Story, seconds: float) -> RenderableType:
    held = sum(check.held for check in story.checks)
    if story.held:
        text = tr(
            "The defence held: {held} of {checks} checks, {seconds:.1f} s", held=held, checks=held, seconds=seconds
        )
        return _columns(["[green]✓[/green]", f"[bold green]{_safe(text)}[/bold green]"], first=2)
    text = tr(
        "The defence did NOT hold: {held} of {checks} checks, {seconds:.1f} s",
        held=held,
        checks=len(story.checks),
        seconds=seconds,
    )
    return _columns(["[red]✗[/red]", f"[bold red]{_safe(text)}[/bold red]"], first=2)


def _party(name: str) -> str:
    return {"coordinator": tr("coordinator"), "relay": tr("relay")}.get(name, name)


def _columns(cells: list[str], *, first: int = 0) -> RenderableType:
    """Return cells side by side: a mark at the end of ``first`` columns, and a text wrapped under itself."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    if len(cells) > 1:
        grid.add_column(width=first, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row(*cells)
    return grid


def _show(view: RenderableType) -> None:
    columns = shutil.get_terminal_size(fallback=(WIDTH, 24)).columns
    console.print(view, width=max(NARROW, min(WIDTH, columns)), soft_wrap=False)


def _safe(text: str) -> str:
    return escape("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text))
