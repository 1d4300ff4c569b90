from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest

from fedcredit.errors import RunNotFoundError, StoreCorruptError
from fedcredit.report import render, write_report
from tests.unit.report import sample

FIGURES = ("rounds", "gain", "calibration", "epsilon")
SECTIONS = ("summary", "figures", "tables", "verify")
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Outline(HTMLParser):
    """Every element with its attributes, the text of every section and figure, and whether all tags are closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag in {"li", "p"} and self._open[-1][0] != tag:
            return
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for tag, name in self._open:
            key = name or tag
            self.text[key] = self.text.get(key, "") + data

    def figures(self) -> list[str]:
        return [name for tag, attrs in self.elements if tag == "figure" and (name := attrs["id"])]


def run_folder(folder: Path, *, metrics: str | None = None, result: Any = None) -> Path:
    lines = "".join(json.dumps(line) + "\n" for line in sample.metrics())
    (folder / "metrics.jsonl").write_text(lines if metrics is None else metrics, "utf-8")
    (folder / "result.json").write_text(json.dumps(sample.result() if result is None else result), "utf-8")
    return folder


def test_a_run_folder_becomes_one_page_with_every_section_and_figure(tmp_path: Path) -> None:
    path = write_report(run_folder(tmp_path))
    outline = Outline(path.read_text("utf-8"))
    assert path == tmp_path / "report.html"
    assert outline.figures() == [f"figure-{name}" for name in FIGURES]
    assert [attrs["id"] for tag, attrs in outline.elements if tag == "section"] == list(SECTIONS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["metrics.jsonl", "report.html", "result.json"]


def test_every_figure_can_be_read_without_seeing_it() -> None:
    outline = Outline(render(sample.result(), sample.metrics()))
    pictures = [attrs for tag, attrs in outline.elements if tag == "svg"]
    assert len(pictures) == len(FIGURES)
    for name, attrs in zip(FIGURES, pictures, strict=True):
        assert attrs["role"] == "img"
        assert (attrs["aria-labelledby"], attrs["aria-describedby"]) == (f"{name}-title", f"{name}-desc")
        assert len(outline.text[f"{name}-desc"]) > 40


def test_no_id_occurs_twice_and_every_reference_has_its_target() -> None:
    page = render(sample.result(institutions=8), sample.metrics(60))
    names = [attrs["id"] for _, attrs in Outline(page).elements if "id" in attrs]
    assert len(names) == len(set(names))
    references = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', page))
    assert references
    assert {first or second for first, second in references} <= set(names)


def test_the_same_inputs_give_the_same_bytes_whatever_the_settings_of_matplotlib() -> None:
    first = render(sample.result(), sample.metrics())
    with mpl.rc_context({"font.size": 20, "lines.linewidth": 9}):
        assert render(sample.result(), sample.metrics()) == first
        assert mpl.rcParams["font.size"] == 20


@pytest.mark.parametrize("protected", [True, False])
def test_the_page_holds_no_address_no_script_and_asks_for_nothing(protected: bool) -> None:
    page = (
        render(sample.result(), sample.metrics())
        if protected
        else render(sample.unprotected_result(), sample.unprotected_metrics())
    )
    lowered = page.lower()
    assert "http://" not in lowered
    assert "https://" not in lowered
    assert "doi.org/10.24432/c55s3h" in lowered
    elements = Outline(page).elements
    assert not {tag for tag, _ in elements} & {"script", "link", "iframe", "object", "embed", "img", "image", "a"}
    assert not [name for _, attrs in elements for name in attrs if name.startswith("on") or name == "src"]
    assert all((attrs["href"] or "").startswith("#") for _, attrs in elements if "href" in attrs)
    policy = [attrs["content"] for _, attrs in elements if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_a_hostile_institution_name_stays_text_in_tables_and_figures() -> None:
    name = '<img src=x onerror="alert(1)"> $\\frac$ id="a" url(#b)'
    page = render(sample.result(names=[name, "bank-b"]), sample.metrics())
    outline = Outline(page)
    assert "<img" not in page
    assert name in outline.text["tables"]
    assert name in outline.text["gain-desc"]
    assert '<img src=x onerror="alert…' in outline.text["figure-gain"]


def test_a_name_in_a_script_that_the_measuring_font_lacks_is_drawn_all_the_same() -> None:
    outline = Outline(render(sample.result(names=["银行甲", "b"]), sample.metrics()))
    assert "银行甲" in outline.text["figure-gain"]


def test_hostile_text_elsewhere_in_the_result_stays_text() -> None:
    result = sample.result()
    hostile = "</style></title><script>alert(1)</script>"
    result |= {name: hostile for name in ("title", "dataset", "model", "runtime", "run", "version", "plan_digest")}
    result |= {"provenance_note": hostile, "attribution": hostile}
    result["privacy"]["unit"] = result["federated_evaluation"]["note"] = result["audit"]["head"] = hostile
    page = render(result, sample.metrics())
    assert "<script" not in page
    assert page.count("</style>") == 1


def test_a_private_run_carries_no_banner() -> None:
    assert "NOT PRIVATE" not in render(sample.result(), sample.metrics())


def warned_about(result: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    page = render(result, metrics)
    outline = Outline(page)
    for section in SECTIONS:
        start = page.index(f'<section id="{section}"')
        heading_over = page.index("</h2>", start) + len("</h2>")
        assert page[heading_over:].lstrip().startswith('<p class="banner" role="note"><strong>■ NOT PRIVATE')
    pictures = re.findall(r"<svg .*?</svg>", page, flags=re.DOTALL)
    assert len(pictures) == len(FIGURES)
    assert all(">■ NOT PRIVATE ■<" in picture for picture in pictures)
    assert "NOT PRIVATE" in outline.text["title"]
    assert "Training is differentially private" not in page


def test_a_run_with_infinite_epsilon_is_marked_in_every_section_and_on_every_figure() -> None:
    result, metrics = sample.unprotected_result(), sample.unprotected_metrics()
    warned_about(result, metrics)
    outline = Outline(render(result, metrics))
    assert "Epsilon is infinite" in outline.text["summary"]
    assert "ε = ∞" in outline.text["figure-epsilon"]
    assert "inf" not in re.findall(r"[a-z]+", outline.text["tables"])


def test_noise_for_tests_is_marked_even_if_the_result_calls_itself_protected() -> None:
    result = sample.result()
    result["privacy"]["test_noise"] = True
    warned_about(result, sample.metrics())
    assert "anyone can repeat" in render(result, sample.metrics())


def test_an_infinite_epsilon_is_marked_even_if_the_result_calls_itself_protected() -> None:
    result = sample.unprotected_result() | {"protected": True}
    warned_about(result, sample.unprotected_metrics())


def test_a_run_marked_as_unprotected_is_marked_whatever_its_epsilon() -> None:
    warned_about(sample.result() | {"protected": False}, sample.metrics())


@pytest.mark.parametrize(
    ("provenance", "note", "sentence"),
    [
        (
            "real-segments",
            "segments by credit limit stand in for institutions",
            "Real data; segments by credit limit stand in for institutions.",
        ),
        ("real-segments", "cut by limit.", "Real data; segments stand in for institutions: cut by limit."),
        ("real", "", "Real data."),
        ("simulated", "scenario three", "Simulated data: scenario three."),
    ],
)
def test_the_origin_of_the_data_stands_beside_every_figure_and_table_of_results(
    provenance: str, note: str, sentence: str
) -> None:
    outline = Outline(render(sample.result() | {"provenance": provenance, "provenance_note": note}, sample.metrics()))
    for place in (*SECTIONS, *(f"figure-{name}" for name in FIGURES)):
        assert sentence in outline.text[place]
    # The banner line under the heading, and the captions of tables 2 to 5.
    assert outline.text["tables"].count(sentence) == 5


def test_the_summary_says_what_epsilon_means_and_whom_to_trust() -> None:
    summary = " ".join(Outline(render(sample.result(), sample.metrics())).text["summary"].split())
    assert "ε = 3.00 at δ = 10⁻⁵; the unit is one borrower, add or remove one" in summary
    assert "at most 5.6 %; guessing gives 1 %" in summary
    assert "the coordinator saw each institution’s noised update" in summary
    assert "better than the institution’s own best model for 4 of 4 institutions." in summary


def words(page: str, element: str) -> str:
    """Return the text of the element with this id, a space between any two tags."""
    inside = page[page.index(f'id="{element}"') :]
    inside = inside[
        inside.index(">") + 1 : inside.index("</figure>" if element.startswith("figure-") else "</section>")
    ]
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", inside)).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_privacy_table_says_everything_that_the_claim_rests_on() -> None:
    table = words(render(sample.result(), sample.metrics()), "tables")
    for said in (
        "Unit · neighbouring relation borrower · add-or-remove-one",
        "Mechanism · accountant rounded-gaussian · Gaussian DP, exact",
        "Noise local: each institution adds all the noise that its own message needs",
        "Releases that ε of training pays for 20 steps · all borrowers",
        "ε of training, against whoever sees the sum 3.00 at δ = 10⁻⁵",
        "ε of training, if secure aggregation fails 3.00 at δ = 10⁻⁵",
        "The noise is local: every message is private alone, so ε is the same with and without the sum.",
        "ε of training, by a second accountant 3.22 (Rényi DP)",
        "true-positive ceiling at 1 % false positives 5.6 %",
        "ε of evaluation (held-out borrowers) 0.50",
    ):
        assert said in table, said


def test_shared_noise_never_states_one_cost_without_the_other() -> None:
    page = render(sample.shared_result(), sample.metrics())
    summary, table = words(page, "summary"), words(page, "tables")
    both = "ε = 3.00 against whoever sees the sums only, and with ε = 5.77 against whoever reads one institution’s"
    for place, said in (
        (summary, both),
        (summary, "3.00 against whoever sees the sums; 5.77 for a message read alone;"),
        (summary, "evaluation: ε = 0.50 (0.92 alone)"),
        (summary, "the coordinator read sums only, each opened after at least 3 institutions had agreed"),
        (summary, "If secure aggregation failed, ε = 5.77 would hold for a message read alone."),
        (table, "shared: 3 honest institutions’ shares together make the noise"),
        (table, "each adds 1/3 of its variance"),
        (table, "ε of training, against whoever sees the sum 3.00 at δ = 10⁻⁵"),
        (table, "ε of training, if secure aggregation fails 5.77 at δ = 10⁻⁵"),
        (table, "ε = 3.00 holds for sums that contain at least 3 honest institutions, ε = 5.77 for a message"),
        (table, "skellam · Rényi DP"),
        (table, "– (this mechanism has Rényi DP only)"),
        (table, "20 steps · 2 histograms before the first step · all borrowers"),
        (table, "0.50 against whoever sees the sum; 0.92 if secure aggregation fails"),
        (table, "5.6 %, from the sums"),
        (table, "First for whoever sees the sums, then if secure aggregation fails."),
        (words(page, "figure-epsilon"), "for a message read alone the whole training costs 5.77"),
    ):
        assert said in place, said
    assert table.count("3.00 · 5.75") == 4  # each institution's ledger
    assert "Every message is differentially private on its own" not in summary


def test_the_summary_says_what_the_model_is() -> None:
    trees = words(render(sample.shared_result(), sample.metrics()), "summary")
    assert "400 boosted trees of depth 5, 10 added in each round" in trees
    scorecard = words(render(sample.result(), sample.metrics()), "summary")
    assert "every bin of every feature has points" in scorecard


def test_a_shared_model_that_loses_on_own_borrowers_is_said_to_lose_in_the_first_sentence_pair() -> None:
    result = sample.result()
    for row in result["rows"]:
        row |= {"own_alone_auc": 0.8, "own_federated_auc": 0.77}
        row |= {"own_gain": -0.03, "own_gain_low": -0.05, "own_gain_high": -0.01}
    outline = Outline(render(result, sample.metrics()))
    assert "it is better for 0, worse for 4 and without a clear difference for 0 of 4" in outline.text["summary"]
    assert outline.text["tables"].count("−0.030") == 4


def test_an_institution_that_lacks_a_modality_of_the_test_records_is_named_as_overstated() -> None:
    result = sample.result()
    for row in result["rows"]:
        row["modalities"] = ["application", "repayment"]
    assert "overstated" not in render(result, sample.metrics())
    result["rows"][2]["modalities"] = ["application"]
    summary = " ".join(Outline(render(result, sample.metrics())).text["summary"].split())
    assert "do not hold them all (insurer-c)" in summary
    assert "overstated" in summary


def test_figures_that_noise_left_without_meaning_are_shown_as_they_are() -> None:
    result = sample.result()
    result["federated_evaluation"] |= {"auc": 1.02, "brier": -0.003, "ks": None, "observed_expected": "inf"}
    tables = " ".join(Outline(render(result, sample.metrics())).text["tables"].split())
    assert "1.020" in tables
    assert "– · 0.544" in tables
    assert "−0.003 · ∞" in tables


def test_a_result_without_federated_evaluation_or_own_figures_is_still_a_page() -> None:
    result = sample.result()
    result["federated_evaluation"] = None
    result["rows"][0] |= {"own_n": 0, "own_alone_auc": None, "own_federated_auc": None}
    result["rows"][0] |= {"own_gain": None, "own_gain_low": None, "own_gain_high": None}
    result["privacy"]["spent"] = []
    outline = Outline(render(result, sample.metrics(1)))
    assert "Federated evaluation" not in outline.text["tables"]
    assert "there is no finite cap" in outline.text["figure-epsilon"]


def test_a_folder_without_its_files_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunNotFoundError, match=r"result\.json"):
        write_report(tmp_path)
    run_folder(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    with pytest.raises(RunNotFoundError, match=r"metrics\.jsonl"):
        write_report(tmp_path)


def test_a_damaged_line_of_metrics_is_named_and_the_older_report_stays(tmp_path: Path) -> None:
    before = write_report(run_folder(tmp_path)).read_bytes()
    run_folder(tmp_path, metrics=json.dumps(sample.metrics()[0]) + '\n{"round":2,"au')
    with pytest.raises(StoreCorruptError, match=r"metrics\.jsonl is damaged: line 2 is not JSON"):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before


def test_a_model_that_the_members_kept_back_is_marked_on_every_part_of_the_page() -> None:
    value = sample.result()
    kept_back = {**value, "verdict": "not-released", "votes": {name: ["no", "below-floor"] for name in value["votes"]}}
    page = render(kept_back, sample.metrics())
    assert page.count("NOT RELEASED") >= 4
    assert "below floor" in page
    assert "NOT RELEASED" not in render(value, sample.metrics())
