"""Write the generated parts of the documentation from the code: ``python docs/generate.py`` (``make docs``).

README.md        the table between <!-- error-codes --> and <!-- /error-codes -->
docs/errors.md   every error with its sentences, its exit code and its way out
docs/data/*.md   one page per modality of the canonical data set, and the deny-list

``tests/unit/test_docs.py`` fails when either is not what this script would write.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Final

from fedcredit.contract.canonical import CanonicalTable, ColumnRule, canonical
from fedcredit.contract.canonical.deny import denied_kinds
from fedcredit.contract.canonical.table import TYPED_MISSING, ModalityRule
from fedcredit.contract.canonical.units import units_for
from fedcredit.contract.canonical.versions import SPOKEN
from fedcredit.errors import REGISTRY, RETIRED, FedcreditError

ROOT: Final = Path(__file__).parents[1]
BEGIN: Final = "<!-- error-codes -->"
END: Final = "<!-- /error-codes -->"
_MADE: Final = "Made by `make docs` from `src/fedcredit/contract/canonical/v1/`; do not edit."
AREAS: Final = {
    "1": "set-up",
    "2": "rounds",
    "3": "security",
    "4": "privacy",
    "5": "data",
    "6": "model",
    "7": "storage",
    "9": "bugs",
}
"""The first digit of a code."""


def main() -> None:
    """Write all files."""
    for name, text in data_pages().items():
        (ROOT / "docs" / "data").mkdir(exist_ok=True)
        (ROOT / "docs" / "data" / name).write_text(text, encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "errors.md").write_text(error_page(), encoding="utf-8")


def data_pages() -> dict[str, str]:
    """Return the pages of the canonical data set by file name."""
    rules = canonical(SPOKEN[-1])
    pages = {f"{modality.code}.md": _modality_page(modality) for modality in rules.modalities}
    lines = [f"| [{m.code}]({m.code}.md) | {m.en} | {m.zh} | {_tables_of(m.code)} |" for m in rules.modalities]
    pages["README.md"] = "\n".join(
        [
            f"# The canonical data set, version {rules.version}",
            "",
            f"{_MADE} One page per modality. An institution maps its own tables to these:",
            "[own-data.md](../own-data.md).",
            "★ marks the minimum set. A column of it must be there where the institution holds the modality in full.",
            "",
            "| code | modality | 模态 | tables |",
            "|---|---|---|---|",
            *lines,
            "",
            "## Typed codes for missing",
            "",
            "| code | meaning | 含义 |",
            "|---|---|---|",
            *[f"| {code} | {en} | {zh} |" for code, (en, zh) in TYPED_MISSING.items()],
            "",
            "A column that is `typed_missing` never has an empty cell: a number holds the code, a category its text.",
            "",
            "## Deny-list",
            "",
            "A column with such a name is refused (FC-5019), and cells that look like it too (FC-5020).",
            "",
            "| kind | 类别 | whole names | words in a name | 中文字段名 |",
            "|---|---|---|---|---|",
            *[
                f"| {k.en} | {k.zh} | {', '.join(k.exact)} | {', '.join(k.anywhere)} | {'、'.join(k.zh_names)} |"
                for k in denied_kinds(rules.version)
            ],
            "",
        ]
    )
    return pages


def _tables_of(code: str) -> str:
    tables = canonical(SPOKEN[-1]).tables
    return ", ".join(t.name for t in tables if any(column.modality == code for column in t.columns))


def _modality_page(modality: ModalityRule) -> str:
    held = ", ".join(f"{kind} {how}" for kind, how in modality.held_by.items())
    parts = [
        f"# {modality.code}: {modality.en} ({modality.zh})",
        f"{_MADE} Held by: {held}. Freshness: {modality.freshness}. Typical gap: {modality.typical_gap}.",
    ]
    for table in canonical(SPOKEN[-1]).tables:
        columns = [column for column in table.columns if column.modality == modality.code]
        if columns:
            parts.append(_data_table(table, columns))
    return "\n\n".join(parts) + "\n"


def _data_table(table: CanonicalTable, columns: list[ColumnRule]) -> str:
    facts = [f"`{table.file}`", f"key {' + '.join(table.key)}"]
    facts += [f"time {table.time}"] if table.time else []
    facts += [f"{column} refers to {target}" for column, target in table.references.items()]
    head = "| column | meaning | 含义 | type | allowed | units accepted | missing | available | heads | class |"
    return "\n".join(
        [
            f"## {table.name}",
            "",
            f"{table.en} ({table.zh}). {'; '.join(facts)}.",
            "",
            head,
            "|---" * head.count(" | ") + "|---|",
            *[_data_line(column) for column in columns],
        ]
    )


def _data_line(rule: ColumnRule) -> str:
    if rule.deny:
        return f"| ~~{rule.name}~~ | {_cell(rule.en)} | {rule.zh} | refused | | | | | | {rule.jrt0171} |"
    allowed = ", ".join(rule.values) or _pattern(rule.pattern)
    if rule.type in ("integer", "number"):
        low, high = rule.bounds
        allowed = f"{low:,.10g} to {high:,.10g} {rule.unit}"
    units = ", ".join(unit for unit in units_for(rule.unit) if unit != rule.unit) if rule.unit else ""
    sign = {"+": " (+)", "-": " (−)", "0": ""}[rule.monotone]
    heads = ", ".join(rule.heads) + (sign if rule.heads else "")
    star = " ★" if rule.minimum else ""
    cells = [f"{rule.name}{star}", _cell(rule.en), rule.zh, rule.type, allowed, units, rule.missing]
    return f"| {' | '.join([*cells, rule.available_at, heads, f'{rule.jrt0171} {rule.pii_class}'])} |"


def _pattern(pattern: str) -> str:
    """Return a regular expression that Markdown takes neither for a link nor for a column."""
    signs = {"[": "&#91;", "]": "&#93;", "(": "&#40;", "|": "&#124;"}
    return f"<code>{''.join(signs.get(sign, sign) for sign in pattern)}</code>" if pattern else ""


def with_table(readme: str) -> str:
    """Return the README with the table of today's errors between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{error_table()}{END}{after}"


def error_table() -> str:
    """Return one line per error: code, meaning, exit code."""
    lines = ["| code | meaning | exit |", "|---|---|---|"]
    lines += [
        f"| [{code}](docs/errors.md#{code.lower()}) | {_cell(_meaning(error))} | {error.exit_code} |"
        for code, error in _errors()
    ]
    return "\n".join(lines) + "\n"


def error_page() -> str:
    """Return the page with all errors."""
    parts = [
        "# Error codes",
        "Made by `make docs` from `src/fedcredit/errors.py`; do not edit. A code never changes its meaning. "
        "Words in ‹angle quotes› are filled in: names, places and numbers, never a cell value or a key. "
        "`fedcredit --lang zh …` or `FEDCREDIT_LANG=zh` gives the Chinese sentences.",
    ]
    area = ""
    for code, error in _errors():
        if code[3] != area:
            area = code[3]
            parts.append(f"## FC-{area}xxx: {AREAS[area]}")
        parts.append(_entry(code, error))
    parts += [
        "## Retired",
        f"These codes were in use once and will not mean anything again: {', '.join(sorted(RETIRED))}.",
    ]
    return "\n\n".join(parts) + "\n"


def _entry(code: str, error: type[FedcreditError]) -> str:
    return "\n".join(
        [
            f"### {code}",
            "",
            f"{_meaning(error)} Exit code {error.exit_code}.",
            "",
            f"- Message: {_shown(error.en)}",
            f"- What to do: {_fix(error)}",
            f"- 中文:{_shown(error.zh)}",
        ]
    )


def _errors() -> list[tuple[str, type[FedcreditError]]]:
    # Only the package's own: a test may have registered others in this process.
    return sorted((code, error) for code, error in REGISTRY.items() if error.__module__ == "fedcredit.errors")


def _meaning(error: type[FedcreditError]) -> str:
    """Return the first sentence of the class, which may go over several lines."""
    return " ".join((error.__doc__ or "").partition("\n\n")[0].split())


def _fix(error: type[FedcreditError]) -> str:
    return "the message itself says it." if error.fix_en == "{hint}" else _shown(error.fix_en)


def _shown(template: str) -> str:
    """Return a sentence with its fields in angle quotes."""
    pieces = string.Formatter().parse(template)
    return "".join(text + (f"‹{name}›" if name else "") for text, name, _, _ in pieces)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    main()
