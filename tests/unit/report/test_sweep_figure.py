"""The privacy-utility curve: both files are there, say what they show, and repeat bit for bit."""

import math
from pathlib import Path

import pytest

from fedcredit.report.sweep_figure import CurvePoint, write_sweep_figure

CURVES = {
    "trees, noise of the sum": [
        CurvePoint(epsilon=math.inf, auc=0.78, low=0.77, high=0.79),
        CurvePoint(epsilon=1.0, auc=0.77, low=0.76, high=0.78),
    ],
    "scorecard": [CurvePoint(epsilon=1.0, auc=0.75, low=0.74, high=0.76)],
}
LINES = {"no privacy": 0.785}


def test_the_figure_names_its_curves_its_lines_and_its_data(tmp_path: Path) -> None:
    svg, png = write_sweep_figure(tmp_path, "curve", CURVES, LINES, delta=1e-5, foot="real data: taiwan")
    text = svg.read_text(encoding="utf-8")
    for words in (
        "trees, noise of the sum",
        "scorecard",
        "no privacy",
        "real data: taiwan",
        ">none<",
        "AUC on held-out",
    ):
        assert words in text
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "curve.svg"]


def test_equal_curves_give_equal_files(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write_sweep_figure(tmp_path / folder, "curve", CURVES, LINES, delta=1e-5, foot="x")
    for kind in ("svg", "png"):
        assert (tmp_path / f"a/curve.{kind}").read_bytes() == (tmp_path / f"b/curve.{kind}").read_bytes()


@pytest.mark.parametrize(
    "curves", [{}, {"only without privacy": [CurvePoint(epsilon=math.inf, auc=0.7, low=0.6, high=0.8)]}]
)
def test_a_sweep_without_a_finite_epsilon_is_drawn_too(tmp_path: Path, curves: dict[str, list[CurvePoint]]) -> None:
    assert all(path.exists() for path in write_sweep_figure(tmp_path, "curve", curves, LINES, delta=1e-5, foot="x"))
