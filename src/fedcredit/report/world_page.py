"""A simulated world as one page: nine pictures and the acceptance table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fedcredit.store.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE_FILE: Final = "world.html"
PICTURE_FILE: Final = "world.png"
_WIDTH, _HEIGHT = 13.2, 12.4
_FIRST_MONTHS: Final = 12
"""In which too few contracts live for a share."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table, as text."""

    name: str
    where: str
    target: str
    value: str
    error: str
    verdict: str


@dataclass(frozen=True, kw_only=True)
class WorldPicture:
    """What is drawn and said of a world."""

    scenario: str
    title: str
    scale: str
    seed: int
    lenders: int
    insurers: int
    accepted: str
    policies: str
    lines: Sequence[Line]
    default_rates: Mapping[str, tuple[float, float, float]]
    """Lender -> (target, realised, standard error)."""
    hazard: np.ndarray
    """Of default, by month on book from 1."""
    losses: np.ndarray
    """Shares of exposure."""
    months: Sequence[str]
    """Of the world, ISO 8601."""
    prices: Mapping[str, np.ndarray]
    """Class -> index by month, 100 at the start."""
    stress: np.ndarray
    missed: np.ndarray
    """Share of current contracts that miss a payment, by month."""
    areas: Mapping[str, tuple[float, float, float]]
    """Lender -> (application, with telematics, oracle)."""
    institutions: Sequence[str]
    overlap: np.ndarray
    """Share of the row's customers that the column has too."""
    modalities: Sequence[str]
    held: np.ndarray
    """Share of contracts for which an institution (row) holds a modality (column)."""
    week: Mapping[str, np.ndarray]
    """One vehicle's speed, distance and mask, every five minutes of a week."""


def write_world_page(folder: Path, world: WorldPicture, *, verdict: str) -> list[Path]:
    """Write ``world.html`` and ``world.png`` into ``folder`` and return both paths.

    Raises:
        DiskFullError, NotWritableError: the disk.
    """
    from fedcredit.report.drawing import Canvas
    from fedcredit.report.page import environment

    foot = f"SIMULATED · {world.scenario} · {world.scale} · seed {world.seed}"
    with Canvas(width=_WIDTH, height=_HEIGHT, foot=foot, not_private=False, legend=False) as canvas:
        panels = canvas.figure.subplots(3, 3).ravel()
        drawers = (_rates, _hazard, _losses, _prices, _missed, _areas, _overlap, _held, _week)
        for axes, draw in zip(panels, drawers, strict=True):
            draw(axes, world)
        out = BytesIO()
        canvas.figure.savefig(out, format="png", dpi=110, facecolor="white")
        panel = canvas.panel(
            name="world",
            title=f"The simulated world {world.scenario}",
            caption="",
            description="Nine pictures; their figures stand in the table below.",
        )
    page = environment().get_template(PAGE_FILE).render(world=world, figure=panel.svg, verdict=verdict)
    write_atomic(folder / PAGE_FILE, page.encode("utf-8"))
    write_atomic(folder / PICTURE_FILE, out.getvalue())
    return [folder / PAGE_FILE, folder / PICTURE_FILE]


def _rates(axes: Axes, world: WorldPicture) -> None:
    from fedcredit.report.drawing import ALONE, SHARED

    names = list(world.default_rates)
    target, value, error = (100 * np.array(column) for column in zip(*world.default_rates.values(), strict=True))
    place = np.arange(len(names))
    axes.errorbar(place, value, yerr=1.96 * error, fmt="o", color=SHARED, capsize=3, label="realised, 95 %")
    axes.plot(place, target, "_", color=ALONE, markersize=18, markeredgewidth=2.5, label="target")
    axes.set_xticks(place, names)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("% in default within 12 months")
    axes.set_title("Default rates of own contracts")
    axes.legend(loc="upper left")


def _hazard(axes: Axes, world: WorldPicture) -> None:
    from fedcredit.report.drawing import SHARED

    months = np.arange(1, world.hazard.size + 1)
    smooth = np.convolve(np.pad(world.hazard, 2, mode="edge"), np.ones(5) / 5, mode="valid")
    axes.axvspan(10, 16, color="#E8EDF2", label="target of the peak")
    axes.plot(months, 100 * world.hazard, ".", color="#9AA5B1", markersize=4, label="month")
    axes.plot(months, 100 * smooth, color=SHARED, label="five months")
    axes.set_xlim(0, 48)
    axes.set_ylim(0, 100 * 1.8 * float(smooth[:36].max()))
    axes.set_xlabel("month on book")
    axes.set_ylabel("% of live contracts default")
    axes.set_title("Seasoning, vintages with three years or more")
    axes.legend(loc="upper right")


def _losses(axes: Axes, world: WorldPicture) -> None:
    from fedcredit.report.drawing import ALONE, SHARED

    weights = np.full(world.losses.size, 100 / max(world.losses.size, 1))
    axes.hist(world.losses, bins=np.linspace(0, 1.05, 22).tolist(), weights=weights, color=SHARED)
    axes.axvline(float(world.losses.mean()), color=ALONE, linestyle="--", label=f"mean {world.losses.mean():.2f}")
    axes.set_xlabel("loss given default")
    axes.set_ylabel("% of defaults")
    axes.set_title("Losses: much, little, seldom half")
    _room_for_legend(axes)
    axes.legend(loc="upper right")


def _prices(axes: Axes, world: WorldPicture) -> None:
    colours = ("#4d4d4d", "#0072B2", "#D55E00", "#009E73")
    for (name, path), colour, style in zip(world.prices.items(), colours, ("-", "--", "-", ":"), strict=True):
        axes.plot(path, color=colour, linestyle=style, label=name)
    _year_ticks(axes, world)
    axes.set_ylabel("index, start = 100")
    axes.set_title("Prices of vehicles")
    axes.legend(loc="lower left", ncols=2)


def _missed(axes: Axes, world: WorldPicture) -> None:
    from fedcredit.report.drawing import ALONE, SHARED

    months = np.arange(world.missed.size)
    for month in range(world.missed.size):
        if world.months[month][5:7] in ("01", "02"):
            axes.axvspan(month - 0.5, month + 0.5, color="#E8EDF2", linewidth=0)
    axes.plot(
        months[_FIRST_MONTHS:], 100 * world.missed[_FIRST_MONTHS:], color=SHARED, label="% of current contracts (left)"
    )
    axes.set_ylabel("% miss a payment")
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.plot(months, world.stress[: months.size], color=ALONE, linestyle="--", label="stress (right)")
    other.grid(visible=False)
    _year_ticks(axes, world)
    axes.set_title("Missed payments; January and February shaded")
    _room_for_legend(axes)
    _room_for_legend(other)
    lines = [*axes.get_lines(), *other.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper left")


def _room_for_legend(axes: Axes) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.28 * (high - low))


def _year_ticks(axes: Axes, world: WorldPicture) -> None:
    starts = [place for place, month in enumerate(world.months) if month[5:7] == "01"]
    axes.set_xticks(starts, [world.months[place][:4] for place in starts])


def _areas(axes: Axes, world: WorldPicture) -> None:
    from fedcredit.report.drawing import ALONE, POOLED, SHARED

    names, place = list(world.areas), np.arange(len(world.areas))
    columns = zip(*world.areas.values(), strict=True)
    styles = (("application", "s", ALONE), ("and telematics", "o", SHARED), ("latent traits (oracle)", "^", POOLED))
    for values, (label, marker, colour) in zip(columns, styles, strict=True):
        axes.plot(place, values, marker, color=colour, label=label)
    axes.set_xticks(place, names)
    axes.set_ylim(min(0.62, *(min(values) - 0.02 for values in world.areas.values())), 0.95)
    axes.set_ylabel("AUC, out of time, soft labels")
    axes.set_title("How well risk can be ranked")
    axes.legend(loc="upper right")


def _overlap(axes: Axes, world: WorldPicture) -> None:
    _matrix(axes, 100 * world.overlap, world.institutions, world.institutions, skip=np.eye(len(world.institutions)) > 0)
    axes.set_title("% of the row's customers at the column too")


def _held(axes: Axes, world: WorldPicture) -> None:
    _matrix(axes, 100 * world.held, world.institutions, world.modalities, skip=np.isnan(world.held))
    axes.set_title("% of contracts for which a modality is held")


def _matrix(axes: Axes, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], *, skip: np.ndarray) -> None:
    shown: Any = np.ma.masked_array(values, mask=skip)
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for row, column in zip(*np.nonzero(~skip), strict=True):
        value = values[row, column]
        text = "0" if value == 0 else (f"{value:.1f}" if value < 9.95 else f"{value:.0f}")
        colour = "white" if value > 55 else "#1f2933"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(np.arange(len(columns)), columns)
    axes.set_yticks(np.arange(len(rows)), rows)
    axes.grid(visible=False)


def _week(axes: Axes, world: WorldPicture) -> None:
    from fedcredit.report.drawing import ALONE, SHARED

    days = np.arange(world.week["speed_mean"].size) / 288
    speed = np.where(world.week["mask"] > 0, world.week["speed_mean"], np.nan)
    home = np.where(world.week["mask"] > 0, world.week["dist_home_km"], np.nan)
    axes.plot(days, speed, color=SHARED, linewidth=0.6, label="km/h (left)")
    axes.set_ylabel("km/h")
    other = axes.twinx()
    other.plot(days, home, color=ALONE, linewidth=1.2, label="km from the anchor (right)")
    other.grid(visible=False)
    axes.set_xlabel("day")
    axes.set_title("A vehicle's week in five-minute readings")
    _room_for_legend(axes)
    _room_for_legend(other)
    lines = [*axes.get_lines(), *other.get_lines()]
    axes.legend(lines, [str(line.get_label()) for line in lines], loc="upper right")
