"""Everything that a command says exists in English and Chinese, and says the same in both."""

from __future__ import annotations

import ast
import json
import re
import string
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import fedcredit.cli
from fedcredit.cli.texts import WORDS_ZH, ZH, tr, word
from fedcredit.config.plan import ModelSection
from fedcredit.daemon.control import State
from fedcredit.evaluation.vote import Choice, Outcome, Reason
from fedcredit.features.labels import LEFT_OUT
from fedcredit.lab.results import PROVENANCE_NOTES
from fedcredit.lab.simulated import NO_LABEL, ONE_OUTCOME
from fedcredit.messages import Stage
from fedcredit.parties import InstitutionType
from fedcredit.privacy.plan import BORROWER, HOLDOUT, TRAIN

MODULES = {path.name: ast.parse(path.read_text()) for path in Path(fedcredit.cli.__file__).parent.glob("*.py")}
SPEAKERS = {"say", "done", "note", "next_step", "table", "print", "status", "update", "TextColumn", "echo", "secho"}
"""Functions and methods whose arguments an operator reads."""
TRANSLATORS = {"tr", "word"}
COMMAND = "fedcredit "
ALIKE = {
    "AUC",
    "Brier",
    "KS",
    " {provenance}.",
    "AUC {auc:.3f}  ε {epsilon:.2f}",
    "{released} of {rounds}",
    "{spent:.3f} of {cap:.3f}",
}
"""Templates whose Chinese needs no Chinese character."""
CHINESE = re.compile("[\u4e00-\u9fff]")
NODE = (
    "--name bank --type bank --data table.parquet --contract german --modality application "
    "--epsilon 3 --delta 1e-5 --holdout-epsilon 0.5"
)


def called(node: ast.AST) -> str:
    """Return the last name of what a call calls, or nothing."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def fields(template: str) -> set[tuple[str, str, str | None]]:
    return {
        (name, spec or "", conversion)
        for _, name, spec, conversion in string.Formatter().parse(template)
        if name is not None
    }


def translations() -> Iterator[tuple[str, ast.Call]]:
    for name, module in MODULES.items():
        yield from ((f"{name}:{node.lineno}", node) for node in ast.walk(module) if called(node) == "tr")


def templates() -> set[str]:
    first = [call.args[0] for _, call in translations()]
    return {item.value for item in first if isinstance(item, ast.Constant) and isinstance(item.value, str)}


def entries(module: ast.Module, *, but: str) -> Iterator[tuple[str, str]]:
    """Yield what is written out in a table of the module, apart from the table ``but``."""
    for node in module.body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(keys=keys, values=values)) if name != but:
                written = ((key, value) for key, value in zip(keys, values, strict=True) if key is not None)
                yield from ((ast.literal_eval(key), ast.literal_eval(value)) for key, value in written)


def bound(name: str, target: ast.expr, value: ast.expr) -> Iterator[ast.expr]:
    """Yield what an assignment of ``value`` to ``target`` may put under ``name``."""
    if isinstance(target, ast.Name):
        yield from [value] if target.id == name else []
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for inner, part in zip(target.elts, value.elts, strict=True):
            yield from bound(name, inner, part)
    elif isinstance(target, ast.Tuple):
        for inner in target.elts:
            yield from bound(name, inner, value)


class Listener:
    """Finds the texts of one module that reach an operator without a translation, through local names and functions."""

    def __init__(self, module: ast.Module) -> None:
        self._functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
        self._module = module

    def faults(self) -> Iterator[str]:
        for scope in self._module.body:
            for node in ast.walk(scope):
                if called(node) in SPEAKERS and isinstance(node, ast.Call):
                    for spoken in [*node.args, *(keyword.value for keyword in node.keywords)]:
                        heard = self._texts(spoken, scope, frozenset(), commands=called(node) == "next_step")
                        yield from (text for text in heard if _has_words(text))

    def _texts(self, node: ast.AST, scope: ast.AST, seen: frozenset[str], *, commands: bool) -> Iterator[str]:
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield from _remarks(node) if commands and _literal(node).startswith(COMMAND) else [_literal(node)]
        for inner, place, name in self._inside(node, scope):
            if name not in seen:
                yield from self._texts(inner, place, seen | ({name} - {""}), commands=commands)

    def _inside(self, node: ast.AST, scope: ast.AST) -> Iterator[tuple[ast.AST, ast.AST, str]]:
        """Yield the parts whose text becomes text of ``node``, where each stands, and the name that was followed."""
        if isinstance(node, ast.Name):
            yield from ((value, scope, node.id) for value in _values_of(node.id, scope))
        elif called(node) in self._functions and isinstance(node, ast.Call):
            function = self._functions[called(node)]
            returns = [inner for inner in ast.walk(function) if isinstance(inner, ast.Return) and inner.value]
            yield from ((inner.value, function, f"{function.name}()") for inner in returns if inner.value)
        else:
            yield from ((part, scope, "") for part in _parts(node))


def _parts(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Call(func=func, args=args) if called(node) not in TRANSLATORS:
            return [*([func.value] if isinstance(func, ast.Attribute) else []), *args]
        case ast.JoinedStr(values=values):
            return [value.value for value in values if isinstance(value, ast.FormattedValue)]
        case ast.IfExp(body=body, orelse=orelse):
            return [body, orelse]
        case ast.BinOp(left=left, right=right):
            return [left, right]
        case ast.BoolOp(values=parts) | ast.List(elts=parts) | ast.Tuple(elts=parts) | ast.Dict(values=parts):
            return parts
        case ast.ListComp(elt=part) | ast.GeneratorExp(elt=part) | ast.Starred(value=part) | ast.Subscript(value=part):
            return [part]
    return []


def _values_of(name: str, scope: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(scope):
        match node:
            case ast.Assign(targets=[target], value=value):
                yield from bound(name, target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value) | ast.AugAssign(target=target, value=value):
                yield from bound(name, target, value)
            case (
                ast.For(target=target, iter=ast.Tuple(elts=items) | ast.List(elts=items))
                | ast.comprehension(target=target, iter=ast.Tuple(elts=items) | ast.List(elts=items))
            ):
                for item in items:
                    yield from bound(name, target, item)
            case ast.Call(func=ast.Attribute(value=ast.Name(id=owner), attr="append" | "extend" | "insert"), args=args):
                yield from args if owner == name else []


def _literal(node: ast.Constant | ast.JoinedStr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _remarks(node: ast.Constant | ast.JoinedStr) -> list[str]:
    """Return what follows a command in brackets; the command itself is the same in every language."""
    _, bracket, remark = _literal(node).partition("(")
    return [bracket + remark]


def _has_words(text: str) -> bool:
    plain = re.sub(r"\[/?[a-z ]+\]|\{.*?\}|\bfedcredit\b", "", text)  # styles, fields, our name
    return any(letter.isalpha() for letter in plain)


def heard(text: str) -> list[str]:
    return list(Listener(ast.parse(text)).faults())


def test_every_template_is_written_out_and_gets_exactly_its_fields() -> None:
    for place, call in translations():
        assert len(call.args) == 1, place
        template = call.args[0]
        assert isinstance(template, ast.Constant), place
        assert isinstance(template.value, str), place
        given = [keyword.arg for keyword in call.keywords]
        assert sorted(map(str, given)) == sorted(name for name, _, _ in fields(template.value)), place


@pytest.mark.parametrize("template", sorted(templates()))
def test_every_template_has_a_chinese_one_with_the_same_fields_and_formats(template: str) -> None:
    assert fields(ZH[template]) == fields(template)
    assert len(ZH[template]) == len(ZH[template].rstrip())
    assert bool(CHINESE.search(ZH[template])) is (template not in ALIKE)


def test_the_catalogue_has_no_entry_that_nothing_says() -> None:
    assert set(ZH) - templates() == set()
    assert templates() >= ALIKE


def test_a_template_has_one_chinese_whichever_parts_of_the_catalogue_hold_it() -> None:
    # The parts are merged: a second entry of the same template would hide the first.
    parts = [MODULES[name] for name in MODULES if name.endswith("texts.py")]
    assert len(parts) == 6
    pairs = {pair for module in parts for pair in entries(module, but="WORDS_ZH")}
    assert [template for template, times in Counter(template for template, _ in pairs).items() if times > 1] == []
    assert dict(pairs) == ZH


def test_the_words_are_those_that_records_can_hold() -> None:
    models = get_args(ModelSection.model_fields["kind"].annotation)
    kinds = [str(kind) for kind in InstitutionType]
    votes = {*map(str, Choice), *map(str, Reason), *map(str, Outcome)}
    records = {*get_args(State), *map(str, Stage), *models, *kinds, *votes, BORROWER, TRAIN, HOLDOUT}
    reasons = {NO_LABEL, ONE_OUTCOME, *LEFT_OUT}
    assert set(WORDS_ZH) == records | reasons | set(PROVENANCE_NOTES.values())
    assert all(CHINESE.search(text) for text in WORDS_ZH.values())


@pytest.mark.parametrize("name", sorted(MODULES))
def test_nothing_is_said_past_the_catalogue(name: str) -> None:
    assert list(Listener(MODULES[name]).faults()) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("say('hello')", "hello"),
        ("done(f'wrote {path}')", "wrote "),
        ("def f():\n    note('bad' if x else tr('good'))", "bad"),
        ("console.print(f' [red]no[/red] {x}')", " [red]no[/red] "),
        ("line.update(f'run {x}')", "run "),
        ("TextColumn('   round')", "   round"),
        ("table('Runs', [tr('run')], lines)", "Runs"),
        ("table(tr('Runs'), ['run'], lines)", "run"),
        ("def f():\n    lines = [['open' if r else tr('shut')] for r in rs]\n    table(tr('Runs'), [], lines)", "open"),
        ("def f():\n    lines = []\n    lines.append(['open'])\n    table('', [], lines)", "open"),
        ("def f():\n    for a, b in ((1, 'open'),):\n        say(b)", "open"),
        ("def g():\n    return 'few'\ndef f():\n    say(f'{g()}')", "few"),
        ("say('fedcredit demo')", "fedcredit demo"),
        ("next_step('go on')", "go on"),
        ("next_step(f'fedcredit demo {x}      (again)')", "(again)"),
        (
            "def f():\n    steps = [x]\n    steps.append('fedcredit demo      (again)')\n    next_step(*steps)",
            "(again)",
        ),
        ("def g(x):\n    return f'fedcredit demo {x}      (again)'\ndef f():\n    next_step(g(1))", "(again)"),
    ],
)
def test_a_text_past_the_catalogue_is_heard_however_it_gets_there(text: str, fault: str) -> None:
    assert heard(text) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "say(tr('hello {x}', x='you'))",
        "say(f'   {tr(\"round\")} · {word(state)}')",
        "say(f'fedcredit {version}')",
        "console.print(f' [green]✓[/green] {x}')",
        "table(config.name, [tr('a')], [[r['run'], f'{r[\"n\"]:,.1f}'] for r in rows])",
        "next_step(f'fedcredit demo {x}      {tr(\"(again)\")}', 'fedcredit coord serve desk')",
        "def f():\n    f()\n    say(g())\ndef g():\n    return g()",
    ],
)
def test_translated_texts_figures_and_commands_are_let_through(text: str) -> None:
    assert heard(text) == []


def test_english_is_the_template_and_chinese_the_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    template = "{borrowers:,} borrowers · {default:.1%} default · modalities {modalities}"
    for language, text in (
        ("en", "1,234 borrowers · 12.5% default · modalities a, b"),
        ("zh", "1,234 位借款人 · 违约率 12.5% · 模态 a, b"),
    ):
        monkeypatch.setenv("FEDCREDIT_LANG", language)
        assert tr(template, borrowers=1234, default=0.125, modalities="a, b") == text
    assert word("guarantee_fund") == "融资担保机构"
    monkeypatch.setenv("FEDCREDIT_LANG", "en")
    assert word("guarantee_fund") == "guarantee_fund"


def test_what_the_catalogue_lacks_is_said_in_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "zh")
    missing = "nobody says {what}"
    assert tr(missing, what="this") == "nobody says this"
    assert word("a later state") == "a later state"


def commands_in(told: str) -> list[str]:
    """Return the next commands, without their remarks."""
    return [line.partition("fedcredit ")[2].partition("   ")[0] for line in told.splitlines() if "fedcredit " in line]


def test_a_command_speaks_chinese_and_its_envelope_and_next_commands_stay(type_in) -> None:
    english = type_in("--lang en lab data get german --out here --format json")
    chinese = type_in("--lang zh lab data get german --out there --format json")
    assert chinese.data == {key: value.replace("here", "there") for key, value in english.data.items()}
    assert chinese.stderr.startswith(
        f" ✓ 已写入 {chinese.data['path']}(14 kB,SHA-256 校验通过)\n下一步: fedcredit demo"
    )
    assert commands_in(chinese.stderr) == [
        "demo --data german",
        "node check-data there/german.mapping.toml",
    ]
    assert len(commands_in(english.stderr)) == 2


def test_a_node_is_made_and_refused_in_chinese_with_the_same_fields_and_codes(type_in) -> None:
    english = type_in(f"--lang en node init one {NODE} --format json")
    chinese = type_in(f"--lang zh node init two {NODE} --format json")
    assert english.data.keys() == chinese.data.keys()
    assert chinese.data["institution"] == "bank"
    for part in ("✓ 已写入 two/node.toml 和密钥", "bank 的指纹:", chinese.data["fingerprint"], "(两者均由协调方提供)"):
        assert part in chinese.stderr
    expected = ["node check-data one", "node join one INVITATION --fingerprint FINGERPRINT"]
    assert commands_in(english.stderr) == expected
    assert commands_in(chinese.stderr) == [command.replace("one", "two") for command in expected]

    english, chinese = (type_in(f"--lang {lang} node init one {NODE} --format json") for lang in ("en", "zh"))
    assert english.code == chinese.code == 1
    refused, also = json.loads(english.stdout), json.loads(chinese.stdout)
    assert CHINESE.search(also["message"])
    assert {**refused, "message": "", "fix": []} == {**also, "message": "", "fix": []}
    assert also["code"] == "FC-7004"


def test_a_whole_demo_says_nothing_in_english_but_names(type_in) -> None:
    outcome = type_in("--lang zh demo --data german --rounds 1 --out run")
    assert outcome.code == 0
    told = "\n".join(line for line in outcome.stderr.splitlines() if "run/" not in line and " --data " not in line)
    assert set(re.findall(r"(?<!\d)[A-Za-z][A-Za-z-]+", told)) == {
        *("fedcredit", "german", "AUC", "KS", "kB"),
        *("auto-lender-a", "retail-bank-b", "guarantee-fund-c", "bank-d"),
        *("epoch-hello", "epoch-boxes", "upload", "accept", "reveal", "close-answer", "refusal"),
    }
    for term in ("借款人", "机构", "差分隐私", "联邦训练(本次)", "单独训练", "集中训练(无隐私保护)"):
        assert term in told
