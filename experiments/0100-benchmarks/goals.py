"""The goals that figures are held against, and the table of both (P1 to P15 are the rows of the design's table)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from fedcredit.lab.figures import Figure


@dataclass(frozen=True)
class Goal:
    """What the figures whose ids match should reach; of several goals that match, the first one counts."""

    row: str
    ids: str
    sign: Literal["<=", ">="]
    limit: float

    def met(self, value: float) -> bool:
        """Return whether a value reaches it."""
        return value <= self.limit if self.sign == "<=" else value >= self.limit


GOALS = (
    Goal("P1", "seal.vs-memcpy", "<=", 1.5),
    Goal("P1", "open.vs-memcpy", "<=", 1.5),
    Goal("P2", "seal.vs-openssl", ">=", 1.8),
    Goal("P3", "secagg.mask.vs-bound.n5.*", "<=", 1.4),
    Goal("P3", "secagg.mask.vs-bound.*", "<=", 1.3),
    Goal("P4", "secagg.protect.ns-per-parameter.n5", "<=", 15),
    Goal("P4", "secagg.protect.ns-per-parameter.n10", "<=", 18),
    Goal("P4", "secagg.protect.ns-per-parameter.n50", "<=", 42),
    Goal("P5", "secagg.client.vs-flwr.*", ">=", 7),
    Goal("P5", "secagg.upload.vs-flwr.*", ">=", 7),
    Goal("P5", "secagg.server*.vs-flwr.*", ">=", 15),
    Goal("P5", "secagg.opening*.vs-flwr.*", ">=", 15),
    Goal("P6", "ckks.client.vs-fedcredit.*", ">=", 100),
    Goal("P6", "ckks.bytes.vs-fedcredit.*", ">=", 10),
    Goal("P7", "secagg.wire-overhead.n50.*", "<=", 2.5),
    Goal("P7", "secagg.wire-overhead.*", "<=", 0.5),
    Goal("P9", "secagg.recovery.vs-keystreams.*", "<=", 1.4),
    Goal("P10", "secagg.memory.bytes", "<=", 4_000_000),
    Goal("P11", "noise.rate.*", ">=", 100),
    Goal("P13", "secagg.setup.ms.n50", "<=", 15),
    Goal("P13", "secagg.setup.bytes.n50", "<=", 64_000),
    Goal("P14", "secagg.accept-reveal.ms.n50", "<=", 12),
    Goal("P15", "log.append.us", "<=", 5),
    Goal("P15", "log.inclusion*.us", "<=", 50),
    Goal("P15", "log.consistency*.us", "<=", 100),
    Goal("", "engine.round.vs-bare.*", "<=", 2),
    Goal("", "engine.secure.rounds-per-s.n10", ">=", 25),
    Goal("", "engine.startup_s", "<=", 3),
    Goal("", "step.overhead.linear*", "<=", 1.4),
    Goal("", "step.overhead.conv*", "<=", 1.8),
    Goal("", "check.memory.bytes", "<=", 1_000_000_000),
)


def goal_of(figure: Figure) -> Goal | None:
    """Return the goal of a figure; ``None`` if it is there for comparison only."""
    return next((goal for goal in GOALS if fnmatchcase(figure.id, goal.ids)), None)


def table(figures: Sequence[Figure], *, judged: bool) -> Iterator[str]:
    """Yield one line per figure: id, median with range, unit, goal, and with ``judged`` whether the median reaches it.

    A figure that misses its goal is ``below`` it, whether it is too large or too small.
    """
    width = max((len(figure.id) for figure in figures), default=0)
    for figure in figures:
        goal = goal_of(figure)
        value = f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g}) {figure.unit}"
        yield f"{figure.id:<{width}}  {value:<60} {_against(goal, figure.value, judged=judged)}".rstrip()


def _against(goal: Goal | None, value: float, *, judged: bool) -> str:
    if goal is None:
        return ""
    verdict = ("ok" if goal.met(value) else "below") if judged else ""
    return f"{goal.row:>3} {goal.sign} {goal.limit:<10,g} {verdict}"
