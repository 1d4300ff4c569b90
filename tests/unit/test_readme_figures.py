"""Every figure of the README comes from a committed experiment, to the digits shown.

A figure is written ``<!-- figure: ID -->0.772``; ``ID#low`` and ``ID#high`` are the ends of its interval. While an
experiment has not been run, its figures are zeros: a number that nobody measured cannot stand there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXPERIMENTS = {
    "demo": ROOT / "experiments" / "0001-demo" / "results.json",
    "taiwan5": ROOT / "experiments" / "0002-privacy-utility" / "results.json",
    "sba8": ROOT / "experiments" / "0002-privacy-utility" / "results.json",
    "audit": ROOT / "experiments" / "0002-privacy-utility" / "results.json",
    **dict.fromkeys(
        ("engine", "step", "secagg", "seal", "ckks", "check"),
        ROOT / "experiments" / "0100-benchmarks" / "results.json",
    ),
}
"""Where the figures lie whose ids begin with that word."""
FIGURE = re.compile(r"<!-- figure: (?P<id>[a-z0-9._-]+)(?:#(?P<part>low|high))? -->(?P<shown>[-+−]?\d+(?:\.\d+)?)")
MARK = re.compile(r"<!--\s*figure")
LOOSE = re.compile(r"(?<![\w.])[-+−]?0?\.\d{3}(?!\d)")
"""What looks like an AUC or a KS."""
NEEDED = {
    "demo.taiwan.federated.auc.eps3",
    "demo.taiwan.alone.auc",
    "demo.taiwan.pooled.auc",
    "demo.sba8.federated.auc.eps3",
    "demo.sba8.alone.auc",
    "demo.sba8.pooled.auc",
    "demo.wall_s",
    "engine.round.vs-bare.n10",
    "engine.round.vs-bare.n100",
    "engine.round.vs-bare.n1000",
    "engine.startup_s",
    "taiwan5.gap.sum.eps1",
    "taiwan5.gap.sum.eps3",
    "taiwan5.gap.sum.eps8",
    "taiwan5.gap.sum-drop1-collude1.eps1",
    "taiwan5.gap.local.eps1",
    "taiwan5.gap.local.eps3",
    "taiwan5.reference.auc",
    "taiwan5.opacus-per-site.mean.auc.eps1",
    "taiwan5.opacus-per-site.mean.auc.eps3",
    "taiwan5.payload.bytes",
    "taiwan5.cpu_s",
    "sba8.auc.sum.eps1",
    "sba8.auc.sum.eps3",
    "sba8.auc.local.eps1",
    "sba8.alone-best.auc",
    "sba8.alone-mean.auc",
    "sba8.reference.auc",
    "step.overhead.linear",
    "step.overhead.conv",
    "audit.mutants.caught",
}


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def measured(name: str, part: str | None) -> float | None:
    """Return a figure, or ``None`` if its experiment has not been run."""
    path = EXPERIMENTS[name.partition(".")[0]]
    if not path.exists():
        return None
    figures = {line["id"]: line for line in json.loads(path.read_text(encoding="utf-8"))["figures"]}
    assert name in figures, f"{path.parent.name} has no figure {name}"
    return float(figures[name][part or "value"])


def wrong(text: str) -> Iterable[str]:
    """Yield what each wrong figure should be."""
    for match in FIGURE.finditer(text):
        value = measured(match["id"], match["part"])
        digits = len(match["shown"].partition(".")[2])
        right = f"{value or 0.0:.{digits}f}"
        if match["shown"].replace("−", "-").removeprefix("+") != right:
            yield f"{match['id']}{'#' + match['part'] if match['part'] else ''}: {match['shown']} should be {right}"


def test_every_figure_is_the_measured_one_to_the_digits_shown() -> None:
    assert list(wrong(readme())) == []


def test_every_figure_that_the_readme_must_show_is_there() -> None:
    assert {match["id"] for match in FIGURE.finditer(readme())} >= NEEDED


def test_no_mark_is_written_so_that_it_is_not_checked() -> None:
    text = readme()
    assert len(MARK.findall(text)) == len(FIGURE.findall(text))


def test_no_figure_of_a_model_stands_there_without_its_id() -> None:
    prose = re.sub(r"^```.*?^```$", "", readme(), flags=re.MULTILINE | re.DOTALL)  # one run, shown as it was printed
    assert LOOSE.findall(FIGURE.sub("", prose)) == []
    assert LOOSE.findall("an AUC of .772 or 0.772, a gain of −0.004") == [".772", "0.772", "−0.004"]


@pytest.fixture
def one_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.json"
    line = {"id": "demo.x.auc", "value": 0.77249, "low": 0.7655, "high": -0.0044}
    path.write_text(json.dumps({"figures": [line]}))
    monkeypatch.setitem(EXPERIMENTS, "demo", path)


@pytest.mark.usefixtures("one_result")
@pytest.mark.parametrize(
    "text",
    [
        "<!-- figure: demo.x.auc -->0.772",
        "<!-- figure: demo.x.auc -->0.77",
        "<!-- figure: demo.x.auc#low -->0.7655",
        "<!-- figure: demo.x.auc#high -->−0.004",
    ],
)
def test_a_figure_that_was_measured_is_accepted(text: str) -> None:
    assert list(wrong(text)) == []


@pytest.mark.usefixtures("one_result")
@pytest.mark.parametrize("shown", ["0.773", "0.7726", "0.000", "0.78", "−0.772"])
def test_a_figure_that_was_not_measured_is_found(shown: str) -> None:
    assert len(list(wrong(f"<!-- figure: demo.x.auc -->{shown}"))) == 1


@pytest.mark.usefixtures("one_result")
def test_an_id_that_no_experiment_has_is_found() -> None:
    with pytest.raises(AssertionError, match=r"demo\.y\.auc"):
        list(wrong("<!-- figure: demo.y.auc -->0.772"))
