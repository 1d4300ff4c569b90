"""What the documentation says about this repository is so: tests, links, generated parts, tree, exit codes."""

from __future__ import annotations

import ast
import importlib.util
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import fedcredit
from fedcredit.errors import REGISTRY

ROOT = Path(__file__).parents[2]
PACKAGE = Path(fedcredit.__file__).parent
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md", "server/**/*.md", "clients/**/*.md", "experiments/**/*.md")
    for path in ROOT.glob(pattern)
)
TEST = re.compile(r"`(?:tests/)?(?P<file>[\w/]+\.py)?::(?P<name>test_\w+)`")
TEST_FILE = re.compile(r"`(?:tests/)?(?P<file>(?:\w+/)+test_\w+\.py)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<to>[^)\s]+)\)")
OTHER_EXITS = {0, 130}
"""Success, and Ctrl-C: no error of ours."""


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def functions_of(path: Path) -> frozenset[str]:
    return frozenset(node.name for node in ast.walk(ast.parse(text(path))) if isinstance(node, ast.FunctionDef))


def named_tests(page: str) -> Iterator[tuple[str, str]]:
    """Yield file and name of each test that a page names; a name without a file belongs to the file before it."""
    file = ""
    for match in TEST.finditer(page):
        file = match["file"] or file
        yield file, match["name"]


def slug(heading: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return "".join(sign for sign in plain if sign.isalnum() or sign in " -_").replace(" ", "-")


@cache
def anchors(path: Path) -> frozenset[str]:
    prose = re.sub(r"^```.*?^```$", "", text(path), flags=re.MULTILINE | re.DOTALL)
    return frozenset(slug(line.lstrip("#")) for line in prose.splitlines() if re.match(r"#{1,6} ", line))


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_found() -> None:
    assert {"README.md", "SECURITY.md", "docs/by-hand.md", "src/fedcredit/privacy/PRIVACY.md"} <= set(map(name, PAGES))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    for file, test in named_tests(text(page)):
        path = ROOT / "tests" / file
        assert path.is_file(), f"{file} is not there"
        assert test in functions_of(path), f"{file} has no {test}"
    for match in TEST_FILE.finditer(text(page)):
        assert (ROOT / "tests" / match["file"]).is_file(), match["file"]


def test_every_promise_of_the_readme_names_a_test() -> None:
    section = text(ROOT / "README.md").partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    assert [row for row in rows if not TEST.search(row)] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    for match in LINK.finditer(text(page)):
        file, _, anchor = match["to"].partition("#")
        if "://" in file:
            continue
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), match["to"]
        if anchor:
            assert anchor in anchors(target), match["to"]


def test_the_generated_parts_are_those_of_today() -> None:
    readme = text(ROOT / "README.md")
    assert generator().with_table(readme) == readme, "run: make docs"
    assert generator().error_page() == text(ROOT / "docs" / "errors.md"), "run: make docs"
    pages = {path.name: text(path) for path in (ROOT / "docs" / "data").iterdir()}
    assert generator().data_pages() == pages, "run: make docs"


def test_a_readme_without_its_marks_is_not_written() -> None:
    with pytest.raises(ValueError, match="error-codes"):
        generator().with_table("# no marks here")


def test_every_error_has_its_message_and_its_way_out_on_the_page() -> None:
    page = text(ROOT / "docs" / "errors.md")
    for code, error in REGISTRY.items():
        entry = page.partition(f"### {code}\n")[2].partition("\n#")[0]
        for template in (error.en, error.zh, *([] if error.fix_en == "{hint}" else [error.fix_en])):
            for piece, *_ in string.Formatter().parse(template):
                assert piece in entry, code


def test_the_exit_codes_of_the_readme_are_those_of_the_registry() -> None:
    section = text(ROOT / "README.md").partition("## Exit codes")[2].partition("\n## ")[0]
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)}
    assert listed == {error.exit_code for error in REGISTRY.values()} | OTHER_EXITS


def test_the_tree_in_the_readme_has_every_first_level_module_once() -> None:
    block = text(ROOT / "README.md").partition("src/fedcredit/\n")[2].partition("server/")[0]
    listed = [line.split()[0].removesuffix("/") for line in block.splitlines() if line.strip()]
    there = {
        path.name
        for path in PACKAGE.iterdir()
        if path.name not in {"__init__.py", "__pycache__", "py.typed"} and path.name[0] != "."
    }
    assert sorted(listed) == sorted(there)


def test_every_decision_is_in_the_index_and_names_its_negative_consequences() -> None:
    folder = ROOT / "docs" / "decisions"
    records = sorted(path for path in folder.glob("[0-9]*.md"))
    index = text(folder / "README.md")
    assert len(records) >= 9
    for path in records:
        assert f"]({path.name})" in index
        for part in ("## Context", "## Options", "## Decision", "## Negative consequences"):
            assert part in text(path), (path.name, part)


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Backup, and what must never be restored", "backup-and-what-must-never-be-restored"),
        ("Two users on the institution's host", "two-users-on-the-institutions-host"),
        ("`flwr run .` is a carrier leg", "flwr-run--is-a-carrier-leg"),
        ("FC-1001", "fc-1001"),
    ],
)
def test_an_anchor_is_made_as_github_makes_it(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor
