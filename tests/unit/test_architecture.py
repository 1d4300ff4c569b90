"""What the layout of the code promises: one door per dependency, couriers that know nothing, no shortcut that bites."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import fedcredit
from fedcredit.errors import REGISTRY

PACKAGE = Path(fedcredit.__file__).parent
ROOT = Path(__file__).parents[2]
EVERY_MODULE = sorted(
    path
    for folder in (PACKAGE, ROOT / "server", ROOT / "clients")
    for path in folder.rglob("*.py")
    if "_generated" not in path.parts  # written by protoc
)

DOORS: Mapping[str, tuple[str, ...]] = {
    "cbor2": ("encoding.py",),
    "click": ("cli/",),
    "cryptography": ("crypto/",),
    "dp_accounting": ("privacy/accounting.py", "privacy/renyi.py"),
    "flwr": ("flower/", "server/", "clients/"),
    "grpc": ("daemon/",),
    "grpc_health": ("daemon/",),
    "jinja2": ("report/",),
    "matplotlib": ("report/",),
    "mpmath": ("privacy/noise.py",),
    "opacus": ("training/dpsgd.py",),
    "pandas": ("checking/", "features/"),
    "pandera": ("checking/",),
    "pyarrow": ("checking/", "data/", "features/", "lab/", "simulator/"),
    "pydantic": ("config/", "contract/", "report/"),
    "rfc3161_client": ("crypto/timestamps.py",),
    "rich": ("cli/",),
    "safetensors": ("checkpoint.py",),
    "scipy": ("lab/", "privacy/accounting.py"),
    "sklearn": ("lab/",),
    "sqlalchemy": ("checking/",),
    "sqlite3": ("store/",),
    "torch": ("model/", "training/"),
    "typer": ("cli/",),
    "yaml": ("contract/",),
}
"""Where each dependency may be imported; folders of the package end in a stroke."""
NEVER_IMPORTED = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "random", "shelve"}
"""A deserialiser runs code; ``random`` protects nobody and is global state."""
NEVER_USED = {
    "print",
    "eval",
    "exec",
    "__import__",
    "importlib.import_module",  # would be a door that this test does not see
    "torch.load",
    "torch.jit.load",
    "torch.hub.load",
    "numpy.load",
    "yaml.load",
    "yaml.full_load",
    "yaml.unsafe_load",
}
NUMPY_RANDOM = {"default_rng", "Generator", "SeedSequence"}
"""All else in ``numpy.random`` is, or seeds, state that the whole process shares."""
NUMPY_RANDOM_IN = {
    "evaluation/rows.py",
    "lab/audit_scenes.py",
    "lab/describe.py",
    "lab/results.py",
    "lab/world_tally.py",
    "model/network.py",
    "training/dpsgd.py",
    "training/local_averaging.py",
}
"""Resampling for intervals, public first weights, a public order of batches, scenes of the laboratory, and a comparison
that nobody releases (``dpsgd``): nobody is protected by any of it. Noise, batches, keys, masks, shares and nonces come
from AES-CTR and the operating system."""
PROTECTIVE = ("crypto/", "secagg/", "privacy/", "institution/", "rounds/", "messages/", "envelope.py", "enrolment.py")
PREDICTABLE = re.compile(r"^(numpy\.random|random|torch\.(rand\w*|normal|Generator|manual_seed|multinomial))(\.|$)")
MODULE_LINES = 450
ENTRY_LINES = 100
CATALOGUE = "errors.py"
"""One class per error code, no logic: its length is the number of errors."""
SHAPELESS = re.compile(r"(^|_)(util|common|helper|manager|misc)s?($|_)")
FORBIDDEN_FOR_COURIERS = (
    *("torch", "pyarrow", "dp_accounting", "sklearn", "opacus"),
    *("fedcredit.data", "fedcredit.crypto", "fedcredit.privacy", "fedcredit.model", "fedcredit.training"),
    *("fedcredit.institution", "fedcredit.rounds", "fedcredit.store", "fedcredit.lab"),
)


def place(path: Path) -> str:
    """Return a path as the doors name it: below the package, or below the repository for the two entries."""
    return (path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.relative_to(ROOT)).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imported(module: ast.Module) -> set[str]:
    """Return the full names of everything that is imported, inside functions and for type checkers as well."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def dependencies(module: ast.Module) -> set[str]:
    return {name.partition(".")[0] for name in imported(module)}


def used(module: ast.Module) -> set[str]:
    """Return every dotted name that is used, with the aliases of imports resolved (``np.x`` is ``numpy.x``)."""
    known: dict[str, str] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            known |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}

    def dotted(node: ast.expr) -> str | None:
        if isinstance(node, ast.Name):
            return known.get(node.id, node.id)
        if isinstance(node, ast.Attribute) and (left := dotted(node.value)) is not None:
            return f"{left}.{node.attr}"
        return None

    names = {dotted(node) for node in ast.walk(module) if isinstance(node, ast.Name | ast.Attribute)}
    return {name.removeprefix("builtins.") for name in names if name is not None}


def faults(module: ast.Module) -> Iterator[str]:
    """Yield the shortcuts that a module takes."""
    yield from sorted(dependencies(module) & NEVER_IMPORTED)
    for name in sorted(used(module) | imported(module)):
        if name in NEVER_USED:
            yield name
        if name.startswith("numpy.random.") and name.split(".")[2] not in NUMPY_RANDOM:
            yield name


def test_the_modules_are_found() -> None:
    names = {place(path) for path in EVERY_MODULE}
    assert {"errors.py", "privacy/ledger.py", "server/app.py", "clients/app.py"} <= names
    assert len(names) > 90


@pytest.mark.parametrize("dependency", DOORS)
def test_a_dependency_is_imported_behind_its_own_door_only(dependency: str) -> None:
    importers = {place(path) for path in EVERY_MODULE if dependency in dependencies(tree(path))}
    assert importers, f"nothing imports {dependency} any more: remove its door"
    assert {name for name in importers if not name.startswith(DOORS[dependency])} == set()


@pytest.mark.parametrize("path", EVERY_MODULE, ids=place)
def test_a_module_takes_no_shortcut_that_bites(path: Path) -> None:
    assert list(faults(tree(path))) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("print(1)", "print"),
        ("import builtins\nbuiltins.print(1)", "print"),
        ("f = print", "print"),
        ("import pickle", "pickle"),
        ("def f():\n    from pickle import loads", "pickle"),
        ("import random as r", "random"),
        ("from random import shuffle", "random"),
        ("import numpy as np\nnp.random.seed(1)", "numpy.random.seed"),
        ("from numpy import random\nrandom.normal()", "numpy.random.normal"),
        ("from numpy.random import seed", "numpy.random.seed"),
        ("import torch\ntorch.load(path)", "torch.load"),
        ("from torch import load\nload(path)", "torch.load"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "numpy.load"),
        ("import yaml as y\ny.load(text)", "yaml.load"),
        ("import importlib\nimportlib.import_module('flwr')", "importlib.import_module"),
    ],
)
def test_a_shortcut_is_seen_however_it_is_written(text: str, fault: str) -> None:
    assert fault in set(faults(ast.parse(text)))


@pytest.mark.parametrize(
    "text",
    [
        "import numpy as np\nnp.random.default_rng(1)",
        "import numpy as np\ndef f(g: np.random.Generator) -> None: ...",
        "console.print(1)",
        "import yaml\nyaml.safe_load(text)",
        "import os\nos.urandom(1)",
        "from safetensors.numpy import load",
    ],
)
def test_what_only_looks_like_a_shortcut_is_allowed(text: str) -> None:
    assert list(faults(ast.parse(text))) == []


def predictable(module: ast.Module) -> set[str]:
    """Return every name of a generator whose output follows from a seed that can be searched."""
    return {name for name in used(module) | imported(module) if PREDICTABLE.match(name)}


SIMULATED = "simulator/"
"""Draws made-up people by design; nobody is in it to be protected."""


def test_generators_for_experiments_are_used_where_nobody_is_protected_and_nowhere_else() -> None:
    using = {place(path) for path in EVERY_MODULE if predictable(tree(path))}
    assert {name for name in using if not name.startswith(SIMULATED)} == NUMPY_RANDOM_IN
    assert not any(name.startswith(PROTECTIVE) for name in using)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("import numpy as np\nnp.random.default_rng(1)", "numpy.random.default_rng"),
        ("from numpy.random import default_rng\ndefault_rng()", "numpy.random.default_rng"),
        ("from numpy import random\nrandom.default_rng()", "numpy.random.default_rng"),
        ("from random import randbytes\nrandbytes(3)", "random.randbytes"),
        ("import torch\ntorch.randn(3)", "torch.randn"),
        ("from torch import Generator\nGenerator()", "torch.Generator"),
    ],
)
def test_a_generator_for_experiments_is_seen_however_it_is_written(text: str, name: str) -> None:
    assert name in predictable(ast.parse(text))


@pytest.mark.parametrize("text", ["import os\nos.urandom(1)", "import torch\ntorch.round(x)", "rng.normal()"])
def test_what_only_looks_like_such_a_generator_is_none(text: str) -> None:
    assert predictable(ast.parse(text)) == set()


@pytest.mark.parametrize(
    ("text", "dependency"),
    [
        ("import flwr", "flwr"),
        ("from flwr.app import Message", "flwr"),
        ("def f():\n    import torch.nn as nn", "torch"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sqlite3 import Connection", "sqlite3"),
    ],
)
def test_an_import_is_seen_wherever_it_stands(text: str, dependency: str) -> None:
    assert dependency in dependencies(ast.parse(text))


@pytest.mark.parametrize("entry", ["server.app", "clients.app"])
def test_a_courier_knows_neither_data_nor_keys_nor_models(entry: str) -> None:
    courier = {"server.app": "fedcredit.flower.coordinator_courier", "clients.app": "fedcredit.flower.node_courier"}
    script = f"import sys, {entry}; sys.stdout.write(' '.join(sys.modules))"
    environment = {**os.environ, "FLWR_TELEMETRY_ENABLED": "0", "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert courier[entry] in loaded
    assert [name for name in loaded if f"{name}.".startswith(tuple(f"{it}." for it in FORBIDDEN_FOR_COURIERS))] == []


def test_a_courier_imports_nothing_of_ours_but_couriers_errors_and_the_daemons_messages() -> None:
    for name in ("server/app.py", "clients/app.py"):
        ours = {it for it in imported(tree(ROOT / name)) if it.startswith("fedcredit")}
        assert len(ours) == 1
        assert all(it.startswith("fedcredit.flower.") for it in ours)


@pytest.mark.parametrize("path", EVERY_MODULE, ids=place)
def test_a_module_fits_into_one_head(path: Path) -> None:
    if place(path) != CATALOGUE:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MODULE_LINES


def test_the_catalogue_of_errors_has_no_logic_that_grows_with_it() -> None:
    module = tree(PACKAGE / CATALOGUE)
    assert len([node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]) <= 20
    for node in module.body:
        if isinstance(node, ast.ClassDef) and any(isinstance(item, ast.FunctionDef) for item in node.body):
            assert node.name not in {kind.__name__ for kind in REGISTRY.values()}, node.name


@pytest.mark.parametrize("name", ["server/app.py", "clients/app.py"])
def test_an_entry_of_flower_stays_a_page(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) < ENTRY_LINES


def test_every_module_and_folder_has_a_name_that_says_its_role() -> None:
    parts = {part.removesuffix(".py") for path in EVERY_MODULE for part in Path(place(path)).parts}
    assert {part for part in parts if SHAPELESS.search(part)} == set()
    for bad in ("utils", "common", "helpers", "manager", "run_manager", "test_utils"):
        assert SHAPELESS.search(bad)


def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_the_readme_names_the_two_commands_and_the_makefile_has_them(command: str) -> None:
    assert command in readme()
    target = command.removeprefix("make ")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_the_table_of_error_codes_in_the_readme_is_complete_and_names_nothing_else() -> None:
    parts = re.split(r"<!-- /?error-codes -->", readme())
    assert len(parts) == 3, "README.md needs one table between <!-- error-codes --> and <!-- /error-codes -->"
    rows = [line for line in parts[1].splitlines() if line.lstrip().startswith("|")]
    listed = Counter(code for row in rows for code in re.findall(r"FC-\d{4}", row.split("|")[1]))
    assert set(listed) == set(REGISTRY)
    assert [code for code, times in listed.items() if times > 1] == []


def test_the_readme_names_no_error_code_that_does_not_exist() -> None:
    assert set(re.findall(r"FC-\d{4}", readme())) <= set(REGISTRY)
