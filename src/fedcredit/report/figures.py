"""The figures of the report. Each shows the same thing by place, shape and dash as by colour."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Final

from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedcredit.report import wording
from fedcredit.report.drawing import ALARM, ALONE, FONT_SIZE, INK, MUTED, POOLED, SHARED, Canvas, Panel
from fedcredit.report.record import Result, Round

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FULL: Final = 8.0
HALF: Final = 3.9
"""Inches; at the page's width 8.5 points become about 13 pixels, and 7.5 points on A4."""
_LONGEST_NAME: Final = 26


def draw_all(result: Result, rounds: Sequence[Round]) -> dict[str, Panel]:
    """Return every figure by its name: rounds, gain, calibration, epsilon."""
    panels = (_by_round(result, rounds), _gain(result), _calibration(result), _epsilon(result, rounds))
    return {panel.name: panel for panel in panels}


def _canvas(result: Result, *, width: float, height: float, legend: bool) -> Canvas:
    foot = wording.short_provenance(result)
    return Canvas(width=width, height=height, foot=foot, not_private=not result.private, legend=legend)


def _ticks(most: int, *, integer: bool = False) -> MaxNLocator:
    return MaxNLocator(nbins=most, steps=[1, 2, 5, 10], integer=integer)


def _by_round(result: Result, rounds: Sequence[Round]) -> Panel:
    rows, summary, last = result.rows, result.summary, rounds[-1]
    numbers = [entry.round for entry in rounds]
    with _canvas(result, width=FULL, height=2.3, legend=True) as canvas:
        left, right = canvas.figure.subplots(1, 2)
        band = left.fill_between(
            numbers,
            [entry.auc_low for entry in rounds],
            [entry.auc_high for entry in rounds],
            color=SHARED,
            alpha=0.18,
            linewidth=0,
        )
        auc = [entry.auc for entry in rounds]
        line, alone, pooled = _three_lines(left, numbers, auc, alone=summary.alone_mean_auc, pooled=summary.pooled_auc)
        left.set_title("AUC")
        _three_lines(
            right,
            numbers,
            [entry.ks for entry in rounds],
            alone=fmean(row.alone_ks for row in rows),
            pooled=fmean(row.pooled_ks for row in rows),
        )
        right.set_title("KS")
        for axes in (left, right):
            _rounds_axis(axes, numbers)
        canvas.legend(
            {
                "shared model": line,
                "its 95 % interval (AUC)": band,
                "own best models, mean": alone,
                "all rows pooled, no privacy": pooled,
            }
        )
        return canvas.panel(
            name="rounds",
            title="AUC and KS by round",
            caption=(
                "KS has no band: its interval is kept for the last round only (table 3). The horizontal lines of KS "
                "are means over the institutions."
            ),
            description=(
                f"After round {last.round} the shared model has an AUC of {wording.rate(last.auc)} "
                f"({wording.rate(last.auc_low)} to {wording.rate(last.auc_high)}) and a KS of {wording.rate(last.ks)}. "
                f"The own best models have a mean AUC of {wording.rate(summary.alone_mean_auc)}; a model of all rows "
                f"pooled without privacy has {wording.rate(summary.pooled_auc)}."
            ),
        )


def _three_lines(
    axes: Axes, numbers: Sequence[int], values: Sequence[float], *, alone: float, pooled: float
) -> tuple[object, object, object]:
    # A marker on every round would hide the line in a long run.
    (line,) = axes.plot(numbers, values, color=SHARED, marker="o", markersize=3.5, markevery=max(1, len(numbers) // 20))
    dashed = axes.axhline(alone, color=ALONE, linestyle=(0, (5, 2)), linewidth=1.5)
    dotted = axes.axhline(pooled, color=POOLED, linestyle=(0, (1, 1.4)), linewidth=1.7)
    axes.yaxis.set_major_locator(_ticks(6))
    return line, dashed, dotted


def _rounds_axis(axes: Axes, numbers: Sequence[int]) -> None:
    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(_ticks(10, integer=True))
    room = max(0.5, (numbers[-1] - numbers[0]) * 0.03)
    axes.set_xlim(numbers[0] - room, numbers[-1] + room)


def _gain(result: Result) -> Panel:
    rows = result.rows
    places = range(len(rows))
    with _canvas(result, width=FULL, height=0.6 + 0.26 * len(rows), legend=True) as canvas:
        left, right = canvas.figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
        for place, row in zip(places, rows, strict=True):
            left.plot([row.alone_auc, row.federated_auc], [place, place], color=MUTED, linewidth=1.4, zorder=2)
        own = left.scatter(
            [row.alone_auc for row in rows], places, s=42, facecolor="white", edgecolor=ALONE, linewidth=1.7, zorder=3
        )
        shared = left.scatter([row.federated_auc for row in rows], places, s=46, color=SHARED, zorder=4)
        pooled = left.scatter(
            [row.pooled_auc for row in rows], places, s=90, marker="|", color=POOLED, linewidth=1.8, zorder=3
        )
        left.set_yticks(places, [_short(row.institution) for row in rows])
        left.set_ylim(len(rows) - 0.5, -0.5)
        left.set_title("AUC")
        _gain_intervals(right, result)
        left.xaxis.set_major_locator(_ticks(6))
        for axes in (left, right):
            axes.grid(axis="y", visible=False)
            axes.tick_params(axis="y", length=0)
        canvas.legend({"own best model": own, "shared model": shared, "all rows pooled, no privacy": pooled})
        told = "; ".join(f"{row.institution}: {_interval(row.gain, row.gain_low, row.gain_high)}" for row in rows)
        return canvas.panel(
            name="gain",
            title="Gain of each institution over its own best model",
            caption=(
                "Judged on the common test records, borrowers of all institutions; table 4 has each institution’s own. "
                "▲ the interval lies above zero, ▼ below, ○ it holds zero."
            ),
            description=f"Difference in AUC between the shared and the own model with its 95 % interval. {told}.",
        )


def _gain_intervals(axes: Axes, result: Result) -> None:
    looks = {"better": ("^", SHARED, SHARED), "worse": ("v", ALONE, ALONE), "open": ("o", "white", MUTED)}
    axes.axvline(0, color=INK, linewidth=0.9)
    for place, row in enumerate(result.rows):
        marker, face, edge = looks[wording.gain_word(row)]
        axes.hlines(place, row.gain_low, row.gain_high, color=edge, linewidth=2.2, zorder=2)
        axes.scatter(row.gain, place, marker=marker, s=46, facecolor=face, edgecolor=edge, linewidth=1.6, zorder=3)
        axes.annotate(
            wording.change(row.gain),
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=FONT_SIZE,
        )
    axes.set_title("Gain: shared minus own, with 95 % interval")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(_ticks(6))
    axes.xaxis.set_major_formatter(FuncFormatter(_signed))
    axes.margins(x=0.08)


def _calibration(result: Result) -> Panel:
    bins = result.calibration
    with _canvas(result, width=HALF, height=2.5, legend=False) as canvas:
        axes = canvas.figure.subplots()
        end = max(0.01, *(max(entry.mean_predicted, entry.high) for entry in bins)) * 1.06
        axes.plot([0, end], [0, end], color=POOLED, linestyle=(0, (5, 2)), linewidth=1.2)
        for entry in bins:
            axes.vlines(entry.mean_predicted, entry.low, entry.high, color=SHARED, linewidth=1.8)
        axes.scatter(
            [entry.mean_predicted for entry in bins], [entry.observed for entry in bins], s=30, color=SHARED, zorder=3
        )
        axes.set_xlim(0, end)
        axes.set_ylim(0, end)
        axes.set_xlabel("mean predicted risk")
        axes.set_ylabel("observed share of bad outcomes")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(_ticks(6))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:.3g} %"))
        first, last = bins[0], bins[-1]
        return canvas.panel(
            name="calibration",
            title="Calibration by decile",
            caption="Upright bars: 95 % intervals of the observed share. Dashed diagonal: perfect calibration.",
            description=(
                f"In the lowest group the model predicts {_share(first.mean_predicted)} and "
                f"{_share(first.observed)} turned bad; in the highest it predicts {_share(last.mean_predicted)} and "
                f"{_share(last.observed)} turned bad."
            ),
        )


def _epsilon(result: Result, rounds: Sequence[Round]) -> Panel:
    numbers, spent = [entry.round for entry in rounds], [entry.epsilon for entry in rounds]
    cap = min([entry.cap for entry in result.privacy.spent], default=math.inf)
    finite = all(map(math.isfinite, spent))
    with _canvas(result, width=HALF, height=2.5, legend=False) as canvas:
        axes = canvas.figure.subplots()
        if finite:
            axes.plot(numbers, spent, color=SHARED, marker="o", markersize=3.5, markevery=max(1, len(numbers) // 20))
            axes.yaxis.set_major_locator(_ticks(6))
        else:
            words = {"transform": axes.transAxes, "ha": "center", "va": "center"}
            axes.text(0.5, 0.5, "ε = ∞", fontsize=24, color=ALARM, weight="bold", **words)  # type: ignore[arg-type]
            axes.text(0.5, 0.34, "nothing bounds what was released", color=ALARM, **words)  # type: ignore[arg-type]
            axes.set_yticks([])
        top = max([value for value in (*spent, cap) if math.isfinite(value)], default=1.0) or 1.0
        axes.set_ylim(0, top * 1.14)
        _rounds_axis(axes, numbers)
        if math.isfinite(cap):
            axes.axhline(cap, color=ALARM, linestyle=(0, (5, 2)), linewidth=1.5)
            axes.annotate(
                f"cap {wording.cost(cap)}",
                (0.02, cap),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                color=ALARM,
                weight="bold",
            )
        axes.set_ylabel("ε spent on training")
        ceiling = f"the lowest cap is {wording.cost(cap)}" if math.isfinite(cap) else "there is no finite cap"
        return canvas.panel(
            name="epsilon",
            title="Privacy spent by round",
            caption=f"Training of this run, each round with all before it{_against(result)}. "
            "Dashed: the lowest cap of an institution.",
            description=(
                f"After round {numbers[-1]} epsilon is {wording.cost(spent[-1]) if finite else 'infinite'}; {ceiling}."
            ),
        )


def _against(result: Result) -> str:
    """Return what must stand beside a cost that holds for sums only."""
    privacy = result.privacy
    if privacy.noise == "local":
        return ""
    return (
        f", against whoever sees the sums; for a message read alone the whole training costs "
        f"{wording.cost(privacy.epsilon_alone)}"
    )


def _interval(value: float, low: float, high: float) -> str:
    return f"{wording.change(value)} ({wording.change(low)} to {wording.change(high)})"


def _signed(value: float, _position: int | None = None) -> str:
    # As many digits as the step of the axis needs; the tick at zero may be off by a float error.
    return "0" if abs(value) < 1e-9 else f"{value:+.3g}".replace("-", wording.MINUS)


def _share(value: float) -> str:
    return f"{value * 100:.1f} %"


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
