"""The privacy-utility curve as a picture: AUC against epsilon, with intervals, beside what no privacy would give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

import matplotlib as mpl

from fedcredit.errors import EvaluationInputError
from fedcredit.report.drawing import ALONE, POOLED, SHARED, Canvas
from fedcredit.store.files import write_atomic

_COLOURS: Final = (SHARED, ALONE, "#009E73", "#CC79A7")
_MARKERS: Final = "os^D"
_STYLES: Final = ("--", ":", "-.")
_WITHOUT: Final = 2.0
"""By which factor the place of "no privacy" lies to the right of the largest epsilon."""


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """Mean AUC at one epsilon (inf for no privacy) with the interval of the mean."""

    epsilon: float
    auc: float
    low: float
    high: float


def write_sweep_figure(
    folder: Path,
    name: str,
    curves: Mapping[str, Sequence[CurvePoint]],
    lines: Mapping[str, float],
    *,
    delta: float,
    foot: str,
) -> list[Path]:
    """Write ``name``.svg and ``name``.png into ``folder`` and return both paths.

    ``curves`` are drawn with their intervals, ``lines`` as horizontal lines; their keys are the words of the legend.

    Raises:
        EvaluationInputError: there are more curves or lines than a reader can tell apart.
    """
    if len(curves) > len(_COLOURS) or len(lines) > len(_STYLES):
        raise EvaluationInputError(what="a figure", problem="it has more curves or lines than can be told apart")
    finite = sorted({p.epsilon for points in curves.values() for p in points if math.isfinite(p.epsilon)}) or [1.0]
    without = finite[-1] * _WITHOUT
    ticks = {epsilon: f"{epsilon:g}" for epsilon in finite}
    if any(math.isinf(p.epsilon) for points in curves.values() for p in points):
        ticks[without] = "none"
    with Canvas(
        width=6.3, height=3.2 + 0.2 * (len(curves) + len(lines)), foot=foot, not_private=False, legend=False
    ) as canvas:
        axes = canvas.figure.add_subplot()
        for (label, points), colour, marker in zip(curves.items(), _COLOURS, _MARKERS, strict=False):
            chosen = sorted(points, key=lambda point: point.epsilon)
            places = [point.epsilon if math.isfinite(point.epsilon) else without for point in chosen]
            means = [point.auc for point in chosen]
            bars = [[p.auc - p.low for p in chosen], [p.high - p.auc for p in chosen]]
            axes.errorbar(
                places,
                means,
                yerr=bars,
                color=colour,
                marker=marker,
                markersize=5,
                capsize=3,
                linewidth=1.5,
                label=label,
            )
        for (label, value), style in zip(lines.items(), _STYLES, strict=False):
            axes.axhline(value, color=POOLED, linestyle=style, linewidth=1.2, label=label)
        axes.set_xscale("log")
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.minorticks_off()
        axes.set_xlabel(f"epsilon of a borrower for the whole training (delta {delta:g})")
        axes.set_ylabel("AUC on held-out borrowers")
        if curves or lines:
            # Above the axes: no place inside is free of curves and lines in every sweep.
            axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.01), ncols=1, borderaxespad=0)
        mpl.rcParams["svg.hashsalt"] = name  # or the ids inside would be random
        paths = []
        for kind in ("svg", "png"):
            out = BytesIO()
            canvas.figure.savefig(out, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
            paths.append(folder / f"{name}.{kind}")
            write_atomic(paths[-1], out.getvalue())
    return paths
