"""From a finished run's folder to ``report.html``: one file that asks for nothing, runs nothing and prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedcredit.report import wording
from fedcredit.report.record import METRICS_FILE, RESULT_FILE, Result, Round, check_result, check_rounds, read_run
from fedcredit.store.files import write_atomic

REPORT_FILE: Final = "report.html"

_FILTERS: Final = (
    wording.rate,
    wording.change,
    wording.decimals2,
    wording.percent,
    wording.cost,
    wording.small,
    wording.count,
    wording.size,
    wording.duration,
    wording.without_scheme,
    wording.gain_word,
    wording.noise,
    wording.noise_sentence,
    wording.accountant,
    wording.second_accountant,
    wording.steps,
)


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a finished run's folder and return its path; an older report is replaced whole.

    The same two files give the same bytes under the same version of matplotlib.

    Raises:
        RunNotFoundError: ``result.json`` or ``metrics.jsonl`` does not exist.
        StoreCorruptError: one of them is damaged; the place is named, nothing is written.
        DiskFullError, NotWritableError: the report cannot be written.
    """
    result, rounds = read_run(folder)
    path = folder / REPORT_FILE
    write_atomic(path, _page(result, rounds).encode("utf-8"))
    return path


def render(result: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> str:
    """Return the page for the content of ``result.json`` and the lines of ``metrics.jsonl``.

    Raises:
        StoreCorruptError: a field is missing or out of range, or there is no round.
    """
    return _page(check_result(result, path=Path(RESULT_FILE)), check_rounds(metrics, path=Path(METRICS_FILE)))


def _page(result: Result, rounds: Sequence[Round]) -> str:
    # matplotlib takes half a second to import; only who draws pays for it.
    from fedcredit.report.figures import draw_all

    page: str = (
        environment()
        .get_template(REPORT_FILE)
        .render(
            result=result,
            rounds=rounds,
            figures=draw_all(result, rounds),
            provenance=wording.provenance(result),
            runtime=wording.runtime(result),
            verdict=wording.verdict(result.rows),
            privacy=wording.privacy_sentence(result),
            trust=wording.trust(result),
            model=wording.model(result),
            limits=wording.limits(result),
            votes=wording.votes(result),
            containment=wording.containment(result),
            why_not_private=None if result.private else wording.why_not_private(result),
        )
    )
    return page


def environment() -> Environment:
    """Return the templates' surroundings: everything is escaped, and an undefined name is an error."""
    environment = Environment(
        loader=PackageLoader("fedcredit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update({function.__name__: function for function in _FILTERS})
    return environment
