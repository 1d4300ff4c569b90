"""Every stored input and some thousand mutations of it: nothing but ``FedcreditError`` escapes (QUALITY.md R9).

Each target runs in a process of its own, so that its memory counts from nothing and a crash of a decoder written in C
is a failure and not the end of the tests. The search for new inputs is ``make fuzz``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.harness import CORPUS, VALID, chosen, inputs_in, mutants, one_of, target_names
from fuzz.samples import message_kinds

RUN = Path(__file__).parent / "run.py"
TARGETS = target_names()
OPEN_FINDINGS: Mapping[str, frozenset[str]] = {}
"""Per target what is known to escape and not repaired yet. A repaired target fails its test until its line is gone."""
MOST_BYTES = 200_000


def run(*arguments: str, path: Path | None = None, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **({"PYTHONPATH": str(path)} if path else {})}
    return subprocess.run(
        [sys.executable, str(RUN), *arguments], env=environment, capture_output=True, text=True, timeout=timeout_s
    )


@cache
def report(name: str) -> dict[str, Any]:
    done = run("replay", name)
    assert done.stdout, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_an_error_of_ours_escapes_in_time_and_memory(name: str) -> None:
    assert report(name)["inputs"] >= 1_000
    known = OPEN_FINDINGS.get(name, frozenset())
    escaped = {what: place for what, place in report(name)["found"].items() if what.split()[0] not in known}
    assert escaped == {}, "the input lies at the place named"
    assert bool(known) == bool(report(name)["found"]), "everything known is repaired: remove its line"


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_still_accepted(name: str) -> None:
    assert any(file.startswith(VALID) for file in inputs_in(CORPUS / name)), "python tests/fuzz/run.py seeds"
    assert report(name)["refused"] == [], "the format has changed: python tests/fuzz/run.py seeds"


def test_every_wire_message_has_a_seed() -> None:
    stored = {file.removeprefix(VALID) for file in inputs_in(CORPUS / "messages") if file.startswith(VALID)}
    assert stored == {kind.TAG for kind in message_kinds()}, "python tests/fuzz/run.py seeds messages"
    assert len(stored) > 10


def test_every_folder_of_the_corpus_belongs_to_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == set(TARGETS)


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < MOST_BYTES


def test_the_same_seed_gives_the_same_mutants_and_another_gives_others() -> None:
    stored = [b"schema_version = 1\n", bytes(range(64))]

    def made(seed: int) -> list[bytes]:
        return list(mutants(stored, 200, rng=np.random.default_rng(seed), tokens=(b"[x]",)))

    assert made(1) == made(1)
    assert made(1) != made(2)
    assert len(set(made(1))) > 150
    assert list(mutants([b""], 100, rng=np.random.default_rng(1))) != []


def test_the_first_byte_chooses_the_decoder_and_an_unknown_one_chooses_none() -> None:
    seen: list[tuple[int, bytes]] = []
    target = one_of(lambda data: seen.append((0, data)), lambda data: seen.append((1, data)))
    for data in (chosen(1, b"x"), chosen(0, b""), chosen(2, b"y"), b""):
        target(data)
    assert seen == [(1, b"x"), (0, b"")]


# --- the harness can fail --------------------------------------------------------------------------------------------

PLANTED = {
    "escape": "if data[3:4] != b'd': raise KeyError",
    "slow": "import time\n    start = time.thread_time()\n    while time.thread_time() < start + 1.2: pass",
    "big": "b'x' * (600 << 20)",
    "panic": "class Panic(BaseException): pass\n    raise Panic",
    "another_encoding": "from fuzz.harness import same_bytes\n    same_bytes(lambda _: Other())(data)",
    "refused": "from fedcredit.errors import InternalError\n    raise InternalError(kind='x')",
}
FOUND = {
    "escape": ["KeyError from the target"],
    "slow": ["TooSlowError from the target"],
    "big": ["TooBigError from the target"],
    "panic": ["Panic from the target"],
    "another_encoding": ["NotTheSameError from the target"],
    "refused": [],
}


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[str, str], Path]:
    def plant(name: str, body: str) -> Path:
        text = f"class Other:\n    def to_bytes(self): return b'other'\ndef TARGET(data):\n    {body}\n"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        (tmp_path / "stored").mkdir()
        (tmp_path / "stored" / "valid-seed").write_bytes(b"seed")
        return tmp_path

    return plant


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(fault: str, planted: Callable[[str, str], Path]) -> None:
    folder = planted(f"planted_{fault}", PLANTED[fault])
    # The escape lies behind a byte that only mutations change; the others need no mutation, and cost time or memory.
    mutations = "50" if fault == "escape" else "0"
    stored = ("--stored", str(folder / "stored"), "--out", str(folder / "out"), "--mutations", mutations)
    done = run("replay", f"planted_{fault}", *stored, path=folder)
    found = json.loads(done.stdout)
    assert list(found["found"]) == FOUND[fault]
    assert found["refused"] == ([] if fault == "escape" else ["valid-seed"])
    assert done.returncode == 1


def test_a_crash_of_the_process_is_a_failure(planted: Callable[[str, str], Path]) -> None:
    folder = planted("planted_crash", "import os\n    os.abort()")
    done = run("replay", "planted_crash", "--stored", str(folder / "stored"), path=folder)
    assert done.returncode < 0
    assert done.stdout == ""


def test_the_search_finds_an_escape_that_no_seed_is_near(planted: Callable[[str, str], Path]) -> None:
    pytest.importorskip("atheris", reason="atheris has wheels for Linux on x86-64 only")
    nested = "".join(
        f"{'    ' * depth}if data[{depth - 1}:{depth}] == b'{byte}':\n" for depth, byte in enumerate("FUZZ", 1)
    )
    folder = planted("planted_word", nested.strip() + "\n" + "    " * 5 + "raise KeyError")
    options = ("--out", str(folder), "--stop", "-seed=1", "-runs=1000000", "-max_len=8", f"-artifact_prefix={folder}/")
    done = run("engine", "planted_word", *options, path=folder)
    assert done.returncode
    (line,) = (folder / "found.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["what"] == "KeyError from the target"
    assert Path(json.loads(line)["input"]).read_bytes().startswith(b"FUZZ")
