from __future__ import annotations

import ast
import builtins
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcredit import errors
from fedcredit.errors import REGISTRY, RETIRED, BudgetExhaustedError, FedcreditError, UnknownKeyError

SOURCE = Path(errors.__file__).parent
AREAS = (
    errors.SetupError,
    errors.RoundError,
    errors.SecurityError,
    errors.PrivacyError,
    errors.DataError,
    errors.ModelError,
    errors.StorageError,
)
CONCRETE = sorted(REGISTRY.values(), key=lambda kind: kind.code)
GUARDED = ("cli", "daemon", "institution", "rounds", "data", "store", "config")
"""Where an operator would meet a bare built-in error."""
FOR_PROGRAMMERS = {"ValueError", "TypeError", "OverflowError"}
ALLOWED = {
    ("cli/output.py", "SystemExit"),  # how a command ends
    ("daemon/service.py", "AssertionError"),  # behind a gRPC abort, which raises by itself
}


def placeholders(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def area_table() -> dict[str, set[int]]:
    """Return the exit codes per thousand, as the drawing at the top of errors.py promises them."""
    lines = re.findall(r"FC-(\d)(?:xxx|\d{3}) .*?exit (.*)", errors.__doc__ or "")
    return {thousand: {int(code) for code in re.findall(r"\d+", text)} for thousand, text in lines}


def test_every_concrete_error_is_registered_under_its_own_code() -> None:
    def below(kind: type[FedcreditError]) -> Iterator[type[FedcreditError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    concrete = {kind for kind in below(FedcreditError) if kind not in AREAS}
    assert concrete == set(REGISTRY.values())
    assert all(REGISTRY[kind.code] is kind for kind in concrete)


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.code)
def test_a_code_has_the_published_form_and_lies_in_its_area(kind: type[FedcreditError]) -> None:
    assert re.fullmatch(r"FC-[1-9][0-9]{3}", kind.code)
    if kind is not errors.InternalError:
        assert issubclass(kind, AREAS[int(kind.code[3]) - 1])


def test_a_second_owner_of_a_code_cannot_be_defined() -> None:
    with pytest.raises(TypeError, match="FC-1001 belongs to ConfigFileMissingError"):
        type("Impostor", (FedcreditError,), {"code": "FC-1001"})


@pytest.mark.parametrize("code", sorted(RETIRED))
def test_a_retired_code_never_means_anything_again(code: str) -> None:
    # An operator's old log must not change its meaning.
    assert code not in REGISTRY
    with pytest.raises(TypeError, match=f"{code} is retired"):
        type("Impostor", (FedcreditError,), {"code": code})
    assert code not in REGISTRY


def test_the_code_of_bare_shares_is_retired() -> None:
    assert "FC-4008" in RETIRED


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.code)
def test_both_languages_say_what_happened_and_what_to_do(kind: type[FedcreditError]) -> None:
    for text in (kind.en, kind.zh, kind.fix_en, kind.fix_zh):
        assert text.strip()
    assert kind.__doc__
    for text in (kind.zh, kind.fix_zh):
        # A sentence that is nothing but fields carries its language in the fields.
        words = re.sub(r"\{[^}]*\}", "", text)
        assert re.search(r"[\u4e00-\u9fff]", words) or not re.search(r"\w", words)


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.code)
def test_both_languages_use_the_same_fields(kind: type[FedcreditError]) -> None:
    assert placeholders(kind.en) | placeholders(kind.fix_en) == placeholders(kind.zh) | placeholders(kind.fix_zh)


@pytest.mark.parametrize("kind", CONCRETE, ids=lambda kind: kind.code)
def test_an_error_formats_in_both_languages_with_exactly_its_fields(kind: type[FedcreditError]) -> None:
    fields = {name: 1 for name in kind.field_names()}
    error = kind(**fields)
    for language in ("en", "zh"):
        assert "{" not in error.describe(language) + error.fix(language)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes the fields"):
        kind(**fields, surplus=1)
    if fields:
        with pytest.raises(TypeError, match="takes the fields"):
            kind()


def test_exit_codes_follow_the_table_at_the_top_of_the_module() -> None:
    table = area_table()
    assert sorted(table) == ["1", "2", "3", "4", "5", "6", "7", "9"]
    strays = {kind.code: kind.exit_code for kind in CONCRETE if kind.exit_code not in table[kind.code[3]]}
    assert strays == {}


def test_the_operator_reads_the_language_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnknownKeyError(path="plan.toml", key="nois", hint='Did you mean "noise"?')
    monkeypatch.setenv("FEDCREDIT_LANG", "zh")
    assert error.describe() == 'plan.toml 中有未知的键 "nois"。'
    monkeypatch.setenv("FEDCREDIT_LANG", "en")
    assert error.describe() == 'plan.toml has an unknown key "nois".'
    assert str(error) == error.describe("en")


def test_a_refused_budget_says_what_was_spent_and_what_the_cap_is() -> None:
    error = BudgetExhaustedError(release="r/1/1/train", partition="train", spent=3.7, would_be=4.2, cap=4.0)
    assert error.describe("en") == (
        "r/1/1/train would bring epsilon of train to 4.200; this institution's cap is 4.000 (spent 3.700). "
        "Nothing was computed."
    )
    assert "fedcredit node budget amend" in error.fix("en")


def parsed(*folders: str) -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(SOURCE.rglob("*.py")):
        place = path.relative_to(SOURCE)
        if "_generated" in place.parts or (folders and place.parts[0] not in folders):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield place, node


def called_name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def test_every_construction_of_an_error_passes_exactly_its_fields() -> None:
    kinds = {kind.__name__: kind for kind in CONCRETE}
    wrong, seen = [], set()
    for place, node in parsed():
        if isinstance(node, ast.Raise) and node.exc is not None and called_name(node.exc) in kinds:
            seen.add(called_name(node.exc))
            if kinds[called_name(node.exc)].field_names():
                wrong.append(f"{place}:{node.lineno} raises {called_name(node.exc)} without its fields")
        if not isinstance(node, ast.Call) or called_name(node.func) not in kinds:
            continue
        kind = kinds[called_name(node.func)]
        seen.add(kind.__name__)
        given = {keyword.arg for keyword in node.keywords}
        if node.args or (None not in given and given != kind.field_names()):
            wrong.append(f"{place}:{node.lineno} {kind.__name__} takes {sorted(kind.field_names())}")
    assert wrong == []
    assert len(seen) > 40, "the walk found too few errors to be believed"


def test_no_bare_built_in_error_reaches_an_operator() -> None:
    built_in = {name for name, value in vars(builtins).items() if isinstance(value, type)}
    wrong = []
    for place, node in parsed(*GUARDED):
        if not isinstance(node, ast.Raise) or node.exc is None:
            continue
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        name = called_name(raised)
        if name in built_in - FOR_PROGRAMMERS and (place.as_posix(), name) not in ALLOWED:
            wrong.append(f"{place}:{node.lineno} raises {name}")
    assert wrong == []


def test_no_deliberate_error_lives_outside_the_registry() -> None:
    wrong = []
    for place, node in parsed():
        if isinstance(node, ast.ClassDef) and place.name != "errors.py":
            bases = {called_name(base) for base in node.bases}
            if any(base.endswith(("Error", "Exception")) for base in bases):
                wrong.append(f"{place}:{node.lineno} {node.name}")
    assert wrong == []
