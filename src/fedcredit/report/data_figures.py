"""The figures of the data report: missing cells, distributions, bad rates by vintage, the power of single columns."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from fedcredit.checking.canary import HARD_STOP, SIGN_OFF
from fedcredit.checking.check import DataReport
from fedcredit.checking.profile import ColumnProfile, TableProfile, is_feature_like, present
from fedcredit.contract.canonical.table import TYPED_MISSING
from fedcredit.report.drawing import ALARM, ALONE, FONT_SIZE, INK, MUTED, SHARED, Canvas, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH: Final = 8.0
_ROW: Final = 0.19
_CELL: Final = 1.12
_ACROSS: Final = 5
_BINS: Final = 24
_MOST_POWERS: Final = 15
_REASONS: Final = {-1: ("#8a96a0", ""), -2: ("#c3cbd1", "//"), -3: (ALONE, ".."), -4: ("#56B4E9", "xx")}
_FOOT: Final = "stays at the institution"
_Z: Final = 1.959964


def vintages(report: DataReport) -> Panel | None:
    """Return the bad rate by quarter of the target with most labels, and its interval; ``None`` without labels."""
    totals = report.vintages.totals()
    if not totals:
        return None
    target = max(totals, key=lambda name: totals[name][0])
    entries = report.vintages.by_quarter(target)
    names, rows, bads = zip(*entries, strict=True)
    rates = [bad / row for bad, row in zip(bads, rows, strict=True)]
    bounds = [_wilson(bad, row) for bad, row in zip(bads, rows, strict=True)]
    places = np.arange(len(names))
    with Canvas(width=WIDTH, height=2.5, foot=_FOOT, not_private=False, legend=False) as canvas:
        upper, lower = canvas.figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        low = [rate - bound[0] for rate, bound in zip(rates, bounds, strict=True)]
        high = [bound[1] - rate for rate, bound in zip(rates, bounds, strict=True)]
        upper.errorbar(places, rates, yerr=[low, high], fmt="o-", color=SHARED, ecolor=MUTED, capsize=2, markersize=4)
        upper.set_ylim(bottom=0)
        upper.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        upper.set_ylabel("bad rate")
        lower.bar(places, rows, color=MUTED, width=0.7)
        lower.set_ylabel("rows")
        lower.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
        step = max(1, math.ceil(len(names) / 16))
        lower.set_xticks(places[::step], names[::step], rotation=45 if len(names) > 10 else 0, ha="center")
        words = "; ".join(f"{name} {rate:.1%} of {row:,}" for name, rate, row in zip(names, rates, rows, strict=True))
        return canvas.panel(
            name="vintages",
            title=f"Bad rate by quarter of observation: {target}",
            caption="Points: share of bad labels, 95 % interval (Wilson). Bars: labels. Indeterminate rows are out.",
            description=words,
        )


def powers(report: DataReport) -> Panel | None:
    """Return the AUC of the strongest single columns; ``None`` without labels."""
    chosen = report.powers[:_MOST_POWERS][::-1]
    if not chosen:
        return None
    names = [f"{power.table}.{power.column}" for power in chosen]
    with Canvas(width=WIDTH, height=0.5 + 0.2 * len(chosen), foot=_FOOT, not_private=False, legend=False) as canvas:
        axes = canvas.figure.subplots()
        for place, power in enumerate(chosen):
            colour = ALARM if power.auc > HARD_STOP else ALONE if power.auc >= SIGN_OFF else SHARED
            marker = "s" if power.auc > HARD_STOP else "^" if power.auc >= SIGN_OFF else "o"
            axes.plot([0.5, power.auc], [place, place], color=colour, linewidth=1.2)
            axes.plot(power.auc, place, marker, color=colour, markersize=5)
            axes.text(power.auc + 0.008, place, f"{power.auc:.3f}", va="center", fontsize=FONT_SIZE - 1)
        for limit, colour in ((SIGN_OFF, ALONE), (HARD_STOP, ALARM)):
            axes.axvline(limit, color=colour, linestyle="--", linewidth=0.9)
        axes.set_xlim(0.5, 1.03)
        axes.set_yticks(range(len(names)), names)
        axes.grid(visible=False, axis="y")
        late = chosen[-1].out_of_time
        return canvas.panel(
            name="powers",
            title="How well each column alone tells bad from good",
            caption=f"AUC {'out of time' if late else 'on all rows: too few bads out of time'}. Dashed: from 0.80 a "
            "reviewer signs off (triangle), above 0.90 a leak until shown otherwise (square).",
            description="; ".join(f"{n} {p.auc:.3f}" for n, p in zip(names[::-1], chosen[::-1], strict=True)),
        )


def missing(profile: TableProfile) -> Panel | None:
    """Return the share of missing cells of each column by reason; ``None`` if nothing is missing."""
    columns = [(name, column) for name, column in profile.columns.items() if column.missing]
    if not columns or not profile.rows:
        return None
    columns = columns[::-1]
    with Canvas(width=WIDTH, height=0.45 + _ROW * len(columns), foot=_FOOT, not_private=False, legend=True) as canvas:
        axes = canvas.figure.subplots()
        starts = np.zeros(len(columns))
        drawn: dict[str, Any] = {}
        for reason, colour, hatch in _reasons():
            shares = np.array([_count(column, reason) / profile.rows for _, column in columns])
            if shares.any():
                bars = axes.barh(
                    range(len(columns)), shares, left=starts, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.3
                )
                drawn[_word(reason)] = bars[0]
                starts += shares
        axes.set_yticks(range(len(columns)), [name for name, _ in columns])
        axes.set_xlim(0, 1)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(visible=False, axis="y")
        canvas.legend(drawn)
        name = profile.table.name
        return canvas.panel(
            name=f"missing-{name}",
            title=f"{name}: cells without a value",
            caption="By the reason that the institution gave.",
            description="; ".join(f"{n} {c.missing / profile.rows:.0%}" for n, c in columns[::-1]),
        )


def distributions(profile: TableProfile) -> Panel | None:
    """Return a small histogram of every number, flag and category; ``None`` if the table has none."""
    sample = profile.sample()
    columns = [(n, c) for n, c in profile.columns.items() if is_feature_like(c.rule) and n in sample]
    columns = [(n, c) for n, c in columns if len(present(sample[n], c.rule))]
    if not columns:
        return None
    down = math.ceil(len(columns) / _ACROSS)
    with Canvas(width=WIDTH, height=_CELL * down, foot=_FOOT, not_private=False, legend=False) as canvas:
        # Placed by hand: the solver takes seconds for fifty axes, and its last digits differ from run to run.
        total = float(canvas.figure.get_figheight())
        canvas.figure.set_layout_engine("none")
        room = {"left": 0.05, "right": 0.985, "bottom": 0.62 / total, "top": 1 - 0.24 / total}
        grid = canvas.figure.subplots(down, _ACROSS, squeeze=False, gridspec_kw={**room, "wspace": 0.14, "hspace": 1.0})
        for axes in grid.flat[len(columns) :]:
            axes.set_visible(False)
        for axes, (name, column) in zip(grid.flat, columns, strict=False):
            _histogram(axes, name, column, sample)
        table = profile.table.name
        whole = "all rows" if profile.threshold >= 2.0**64 else f"a sample of {len(sample['#']):,} rows"
        return canvas.panel(
            name=f"distributions-{table}",
            title=f"{table}: distributions",
            caption=f"Cells with a value, from {whole}; numbers between their 0.5 % and 99.5 % quantiles.",
            description="; ".join(f"{n} median {np.median(present(sample[n], c.rule)):,.4g}" for n, c in columns),
        )


def _histogram(axes: Axes, name: str, column: ColumnProfile, sample: Mapping[str, Any]) -> None:
    values = present(sample[name], column.rule)
    axes.set_title(name if len(name) <= 19 else f"{name[:18]}…", fontsize=FONT_SIZE - 1, weight="normal")
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(labelsize=FONT_SIZE - 2, length=2)
    if column.rule.type == "category":
        counts = np.bincount(values.astype(int), minlength=len(column.rule.values))
        axes.bar(range(len(counts)), counts, color=SHARED, width=0.75)
        labels = [text if len(text) <= 7 else f"{text[:6]}…" for text in column.rule.values]
        axes.set_xticks(
            range(len(counts)),
            labels,
            rotation=30 if len(counts) > 2 else 0,
            ha="right" if len(counts) > 2 else "center",
        )
        return
    low, high = np.quantile(values, [0.005, 0.995])
    if low == high:
        low, high = low - 0.5, high + 0.5
    whole = column.rule.type != "number" and high - low < _BINS
    edges = np.arange(np.floor(low) - 0.5, np.ceil(high) + 1) if whole else np.linspace(low, high, _BINS + 1)
    axes.hist(values, bins=edges.tolist(), color=SHARED)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=column.rule.type != "number"))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _: object) -> str:
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


def _reasons() -> list[tuple[int | None, str, str]]:
    return [(None, "#ffffff", ""), *((code, *_REASONS[code]) for code in TYPED_MISSING)]


def _count(column: ColumnProfile, reason: int | None) -> int:
    return column.empty if reason is None else column.typed[reason]


def _word(reason: int | None) -> str:
    return "empty" if reason is None else TYPED_MISSING[reason][0]


def _wilson(bad: int, rows: int) -> tuple[float, float]:
    rate, square = bad / rows, _Z**2
    middle = (rate + square / (2 * rows)) / (1 + square / rows)
    half = _Z * math.sqrt(rate * (1 - rate) / rows + square / (4 * rows**2)) / (1 + square / rows)
    return min(rate, middle - half), max(rate, middle + half)
