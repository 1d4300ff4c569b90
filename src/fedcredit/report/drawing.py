"""From a matplotlib figure to SVG inside an HTML page: same input, same bytes; no address, no script, no clash of ids.

The only place that knows matplotlib, together with ``figures``; both are imported when a report is made.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

import matplotlib as mpl
from markupsafe import escape
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

INK: Final = "#1f2933"
MUTED: Final = "#5b6770"
GRID: Final = "#dfe4e8"
ALARM: Final = "#b00020"
# Okabe and Ito 2008: told apart under the three common kinds of colour blindness, and by lightness in grey print.
SHARED: Final = "#0072B2"
ALONE: Final = "#D55E00"
POOLED: Final = "#4d4d4d"

FONT_SIZE: Final = 8.5
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.usetex": False,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so the layout does not depend on the machine
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE + 1,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": FONT_SIZE,
    "lines.linewidth": 1.8,
    "text.color": INK,
}
_FAMILY: Final = "font-family: 'DejaVu Sans'; "
"""Taken out of the SVG, so that its text has the page's typeface."""
_BANNER_INCHES: Final = 0.34
_FOOT_INCHES: Final = 0.2
_LEGEND_INCHES: Final = 0.28
_TAG: Final = re.compile(r"<[^>]*>")


@dataclass(frozen=True, kw_only=True)
class Panel:
    """An SVG element, what it shows, how to read it, and the words that stand for it when it cannot be seen."""

    name: str
    title: str
    caption: str
    description: str
    svg: str


class Canvas:
    """A figure of a given size in inches with the foot, and the banner where needed, that every figure carries.

    Use it as a context: matplotlib's settings are ours inside, and what they were before outside.
    """

    figure: Figure

    def __init__(self, *, width: float, height: float, foot: str, not_private: bool, legend: bool) -> None:
        self._settings = ExitStack()
        self._width, self._height = width, height
        self._foot, self._not_private = foot, not_private
        self._bottom = _FOOT_INCHES + (_LEGEND_INCHES if legend else 0.0)

    def __enter__(self) -> Self:
        self._settings.enter_context(mpl.rc_context())
        mpl.rcdefaults()
        self._settings.enter_context(mpl.rc_context(_STYLE))
        top = _BANNER_INCHES if self._not_private else 0.0
        total = self._height + self._bottom + top
        # A gap of 0.05 at each side keeps strokes inside the picture.
        layout = ConstrainedLayoutEngine(
            rect=(0.0, self._bottom / total, 1.0, self._height / total), w_pad=0.05, h_pad=0.05
        )
        self.figure = Figure(figsize=(self._width, total), layout=layout)
        self.figure.text(0.995, 0.04 / total, self._foot, ha="right", va="bottom", fontsize=7, color=MUTED)
        if self._not_private:
            self._banner(total)
        return self

    def __exit__(self, *exception: Any) -> None:
        self._settings.close()

    def legend(self, entries: Mapping[str, Any]) -> None:
        """Put a legend, words to drawn things, between the axes and the foot."""
        place = (0.5, _FOOT_INCHES / float(self.figure.get_figheight()))
        legend = self.figure.legend(
            list(entries.values()),
            list(entries),
            loc="lower center",
            bbox_to_anchor=place,
            ncols=len(entries),
            borderaxespad=0,
            columnspacing=1.6,
        )
        legend.set_in_layout(False)  # its room is set aside already

    def panel(self, *, name: str, title: str, caption: str, description: str) -> Panel:
        """Return the figure as SVG whose ids all begin with ``name``."""
        svg = _svg(self.figure, name=name, title=title, description=description)
        return Panel(name=name, title=title, caption=caption, description=description, svg=svg)

    def _banner(self, total: float) -> None:
        from matplotlib.patches import Rectangle

        share = (_BANNER_INCHES - 0.06) / total
        self.figure.add_artist(
            Rectangle((0, 1 - share), 1, share, transform=self.figure.transFigure, facecolor=ALARM, edgecolor="none")
        )
        self.figure.text(
            0.5, 1 - share / 2, "■ NOT PRIVATE ■", ha="center", va="center", color="white", weight="bold", fontsize=10
        )


def _svg(figure: Figure, *, name: str, title: str, description: str) -> str:
    mpl.rcParams["svg.hashsalt"] = name
    out = io.BytesIO()
    with warnings.catch_warnings():
        # The font that measures lacks a sign of some name; the reader's fonts, which draw it, may well have it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(
            out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}, transparent=True
        )
    body = out.getvalue().decode("utf-8")
    body = body[body.index("<svg") :]
    # The defaults that matplotlib sets with a style sheet for * would apply to the whole page; the page has them.
    body = re.sub(r"<defs>\s*<style[^>]*>[^<]*</style>\s*</defs>|<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = _TAG.sub(lambda tag: _tidy(tag.group(), name), body)
    head, rest = body.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None, "matplotlib writes a viewBox"  # noqa: S101 - a fact about its SVG backend
    words = f'<title id="{name}-title">{escape(title)}</title><desc id="{name}-desc">{escape(description)}</desc>'
    opening = f'<svg {view.group()} role="img" aria-labelledby="{name}-title" aria-describedby="{name}-desc">'
    svg = "\n".join(line.strip() for line in rest.splitlines() if line.strip())
    return f"{opening}{words}\n{svg}"


def _tidy(tag: str, name: str) -> str:
    # Text cannot be met here: matplotlib escapes < and >, so whatever lies between them is a tag of its own.
    tag = re.sub(r'\bid="', f'id="{name}-', tag)
    tag = tag.replace("url(#", f"url(#{name}-").replace('xlink:href="#', f'href="#{name}-')
    return tag.replace(_FAMILY, "")
