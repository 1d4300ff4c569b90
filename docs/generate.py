"""Write the generated parts of the documentation from the code: ``python docs/generate.py`` (``make docs``).

README.md        the table between <!-- error-codes --> and <!-- /error-codes -->
docs/errors.md   every error with its sentences, its exit code and its way out

``tests/unit/test_docs.py`` fails when either is not what this script would write.
"""

from __future__ import annotations

import string
from pathlib import Path
from typing import Final

from fedcredit.errors import REGISTRY, RETIRED, FedcreditError

ROOT: Final = Path(__file__).parents[1]
BEGIN: Final = "<!-- error-codes -->"
END: Final = "<!-- /error-codes -->"
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
    """Write both files."""
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (ROOT / "docs" / "errors.md").write_text(error_page(), encoding="utf-8")


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
