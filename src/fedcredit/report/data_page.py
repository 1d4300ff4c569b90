"""From a check to ``data-report.html``: one file that asks for nothing, runs nothing and stays at the institution."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from fedcredit.checking.check import DataReport
from fedcredit.checking.findings import Finding
from fedcredit.checking.profile import ColumnProfile, TableProfile
from fedcredit.errors import Language
from fedcredit.store.files import write_atomic

PAGE_FILE: Final = "data-report.html"
RECORD_FILE: Final = "data-report.json"
_LEAST: Final = 10
"""Counts of a category below this are shown as "< 10": the page may be printed and passed on inside the house."""


def write_data_report(report: DataReport, folder: Path, *, accepted: frozenset[str], language: Language) -> Path:
    """Write the page and its twin for programs into ``folder``, mode 0600; return the path of the page.

    Raises:
        DiskFullError, NotWritableError: they cannot be written.
    """
    path = folder / PAGE_FILE
    write_atomic(path, render_data_page(report, accepted=accepted, language=language).encode(), mode=0o600)
    record = json.dumps(record_of(report, accepted=accepted), ensure_ascii=False, indent=1)
    write_atomic(folder / RECORD_FILE, record.encode(), mode=0o600)
    return path


def render_data_page(report: DataReport, *, accepted: frozenset[str], language: Language) -> str:
    """Return the page; the same data give the same bytes under the same version of matplotlib."""
    # matplotlib takes half a second to import; only who draws pays for it.
    from fedcredit.report import data_figures as draw

    tables = [
        {
            "profile": profile,
            "counts": counts_of(report.findings, profile.table.name),
            "columns": [_column(profile, column) for column in profile.columns.values()],
            "figures": [panel for panel in (draw.missing(profile), draw.distributions(profile)) if panel],
        }
        for profile in report.profiles.values()
    ]
    environment = Environment(
        loader=PackageLoader("fedcredit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    facts = report.spec.facts
    page: str = environment.get_template(PAGE_FILE).render(
        facts=facts,
        findings=[_finding(item, accepted, language) for item in report.findings],
        errors=len(report.errors),
        open_warnings=len(report.open_warnings(accepted)),
        accepted=sum(1 for item in report.findings if item.warning and item.error.code in accepted),
        tables=tables,
        rows=sum(profile.rows for profile in report.profiles.values()),
        figures=[panel for panel in (draw.vintages(report), draw.powers(report)) if panel],
        language=language,
    )
    return page


def record_of(report: DataReport, *, accepted: frozenset[str]) -> dict[str, Any]:
    """Return the findings and the tables for programs; no cell value, no figure of single rows."""
    return {
        "schema_version": "1",
        "institution": report.spec.facts.institution_id,
        "snapshot_date": report.spec.facts.snapshot_date.isoformat(),
        "tables": [
            {
                "table": name,
                "file": profile.place,
                "rows": profile.rows,
                "left_out": profile.left_out,
                "coverage": round(profile.coverage, 4),
            }
            for name, profile in report.profiles.items()
        ],
        "findings": [
            {
                "code": item.error.code,
                "severity": "warning" if item.warning else "error",
                "accepted": item.warning and item.error.code in accepted,
                "table": item.table,
                "column": item.column,
                "row": item.row,
                "count": item.count,
                "message": item.error.describe("en"),
                "fix": item.error.fix("en"),
            }
            for item in report.findings
        ],
    }


def counts_of(findings: Sequence[Finding], table: str) -> tuple[int, int]:
    """Return how many errors and warnings a table has."""
    own = [item for item in findings if item.table == table]
    warnings = sum(item.warning for item in own)
    return len(own) - warnings, warnings


def _finding(item: Finding, accepted: frozenset[str], language: Language) -> dict[str, Any]:
    state = "error" if not item.warning else "accepted" if item.error.code in accepted else "warning"
    return {
        "code": item.error.code,
        "state": state,
        "table": item.table,
        "column": item.column,
        "message": item.error.describe(language),
        "fix": item.error.fix(language),
    }


def _column(profile: TableProfile, column: ColumnProfile) -> dict[str, Any]:
    rule = column.rule
    rows = max(1, profile.rows)
    found = profile.median(rule.name) if rule.numeric else None
    return {
        "name": rule.name,
        "spoken": column.spoken,
        "about": rule.en,
        "zh": rule.zh,
        "type": rule.type,
        "unit": rule.unit,
        "missing": f"{column.missing / rows:.1%}",
        "median": f"{found[0]:,.4g}" if found and found[1] >= _LEAST else "",
        "range": "" if not rule.numeric else "{:,.6g} – {:,.6g}".format(*rule.bounds),
        "values": _codes(column) if rule.type == "category" else "",
        "minimum": rule.minimum,
    }


def _codes(column: ColumnProfile) -> str:
    counts = zip(column.rule.values, column.codes.tolist(), strict=False)
    return ", ".join(
        f"{code} {'< ' + str(_LEAST) if 0 < count < _LEAST else format(count, ',')}" for code, count in counts
    )
