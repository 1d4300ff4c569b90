"""Fuzz our decoders, replay their corpus, or write its seeds.

python tests/fuzz/run.py fuzz --seconds 60 [target ...]   coverage-guided, with atheris; new inputs go to build/fuzz
python tests/fuzz/run.py replay [target ...]              the corpus and mutations of it; what ``make test`` does
python tests/fuzz/run.py seeds [target ...]               write the seeds that are missing or no longer accepted

A finding is one line: the target, what escaped, the file that holds the input. Copy that file to
``corpus/<target>/found-<words>``, so that it is replayed for ever, and repair the decoder.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parent
TESTS: Final = FOLDER.parent
BUILD: Final = TESTS.parent / "build" / "fuzz"
LOG: Final = "found.jsonl"
MUTATIONS: Final = 3_000
SEED: Final = 20_261_101
INSTRUMENTED: Final = ("fedcredit", "tomllib")
SLOWED: Final = 8.0
"""Instrumented code is slower; what exceeds this many seconds is then judged without instruments."""
HANGING: Final = 60
SAFETY_MB: Final = 4_096

sys.path.insert(0, str(TESTS))


def main(arguments: Sequence[str]) -> int:
    """Run one command; 1 says that there are findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    fuzz = commands.add_parser("fuzz")
    fuzz.add_argument("--seconds", type=int, required=True)
    for command in (fuzz, commands.add_parser("seeds"), replayed := commands.add_parser("replay")):
        command.add_argument("targets", nargs="*")
    replayed.add_argument("--mutations", type=int, help=f"per target; {MUTATIONS} unless it says less itself")
    replayed.add_argument("--seed", type=int, default=SEED)
    replayed.add_argument("--stored", type=Path, help="a folder of inputs instead of the corpus")
    replayed.add_argument("--out", type=Path, default=BUILD)
    engine = commands.add_parser("engine", help="one target inside atheris; the rest goes to libFuzzer")
    engine.add_argument("target")
    engine.add_argument("--out", type=Path, required=True)
    engine.add_argument("--stop", action="store_true", help="stop at the first finding")
    chosen, rest = parser.parse_known_args(arguments)
    if chosen.command == "engine":
        return run_engine(chosen.target, out=chosen.out, stop=chosen.stop, arguments=rest)
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    if chosen.command == "fuzz":
        return fuzz_all(_named(chosen.targets), seconds=chosen.seconds)
    if chosen.command == "seeds":
        return write_seeds(_named(chosen.targets))
    reports = [
        replay_one(name, stored=chosen.stored, mutations=chosen.mutations, seed=chosen.seed, out=chosen.out)
        for name in _named(chosen.targets)
    ]
    return int(any(reports))


def replay_one(name: str, *, stored: Path | None, mutations: int | None, seed: int, out: Path) -> int:
    """Replay one target, print its report as one line of JSON, and return how much is wrong."""
    from fuzz.harness import CORPUS, inputs_in, load, replay

    module = load(name)
    inputs = inputs_in(stored or CORPUS / name)
    count = getattr(module, "MUTATIONS", MUTATIONS) if mutations is None else mutations
    done, refused, escapes = replay(
        module.TARGET,
        inputs,
        hostile=module.hostile() if stored is None and hasattr(module, "hostile") else {},
        mutations=count,
        seed=seed,
        tokens=getattr(module, "TOKENS", ()),
    )
    found = {what: str(_save(out / name, what, data)) for what, data in escapes.items()}
    _say(json.dumps({"target": name, "inputs": done, "refused": refused, "found": found}))
    return len(refused) + len(found)


def write_seeds(names: Iterable[str]) -> int:
    """Write every seed whose file is missing or is no longer accepted, and remove the files of seeds that are gone."""
    from fuzz.harness import CORPUS, SECONDS, VALID, Judge, inputs_in, load

    for name in names:
        module, folder = load(name), CORPUS / name
        folder.mkdir(parents=True, exist_ok=True)
        stored, seeds = inputs_in(folder), {VALID + seed: data for seed, data in module.seeds().items()}
        judge = Judge(module.TARGET, seconds=SECONDS)
        for file in stored:
            if file.startswith(VALID) and file not in seeds:
                (folder / file).unlink()
        for file, data in seeds.items():
            if file not in stored or not judge.accepts(stored[file]):
                (folder / file).write_bytes(data)
                _say(f"{name}/{file}: {len(data)} bytes")
    return 0


def fuzz_all(names: Sequence[str], *, seconds: int) -> int:
    """Fuzz the targets one after the other and return 1 if anything was found."""
    worst = 0
    for name in names:
        found, speed = _fuzz_one(name, seconds=seconds)
        _say(f"{name}: {speed}, {len(found)} findings")
        for line in found:
            worst = 1
            _say(f"  {line}")
    return worst


def _fuzz_one(name: str, *, seconds: int) -> tuple[list[str], str]:
    from fuzz.harness import CORPUS

    out = BUILD / name
    grown = out / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    (out / LOG).unlink(missing_ok=True)
    options = [f"-max_total_time={seconds}", f"-timeout={HANGING}", f"-rss_limit_mb={SAFETY_MB}", "-max_len=65536"]
    command = [sys.executable, __file__, "engine", name, "--out", str(out), *options, "-print_final_stats=1"]
    command += [f"-artifact_prefix={out}/", str(grown), str(CORPUS / name)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    (out / "log.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    features = re.findall(r"cov: (\d+)", done.stderr)
    speed = f"{int(runs.group(1)):,} runs" if runs else "no count of runs"
    speed += f" in {seconds} s, {features[-1] if features else 'no'} edges"
    found = [_confirmed(name, entry) for entry in _logged(out)]
    if done.returncode:
        found.append(f"the process itself ended with {done.returncode}: see {out / 'log.txt'}")
    return found, speed


def _logged(out: Path) -> list[dict[str, str]]:
    log = out / LOG
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []


def _confirmed(name: str, entry: dict[str, str]) -> str:
    """Return the finding with what the same input does without instruments, in a process of its own."""
    alone = Path(entry["input"]).parent / "alone"
    alone.mkdir(exist_ok=True)
    for old in alone.iterdir():
        old.unlink()
    (alone / "input").write_bytes(Path(entry["input"]).read_bytes())
    command = [sys.executable, __file__, "replay", name, "--stored", str(alone), "--mutations", "0"]
    done = subprocess.run([*command, "--out", str(alone.parent / "again")], capture_output=True, text=True, check=False)
    again = ", ".join(json.loads(done.stdout)["found"]) if done.stdout else f"it ended with {done.returncode}"
    return f"{entry['what']}: {entry['input']} (alone: {again or 'nothing'})"


def run_engine(name: str, *, out: Path, stop: bool, arguments: Sequence[str]) -> int:
    """Become libFuzzer; every new kind of escape is written down, and the search goes on."""
    import atheris  # wheels for Linux on x86-64 only; nothing but this function needs it

    with atheris.instrument_imports(include=[*INSTRUMENTED, name, "fuzz.targets"]):
        from fuzz.harness import Judge, load, what_escaped

        module = load(name)
    judge = Judge(module.TARGET, seconds=SLOWED)
    words = _dictionary(out, getattr(module, "TOKENS", ()))
    seen: set[str] = set()

    def one(data: bytes) -> None:
        try:
            judge.accepts(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            what = what_escaped(error)
            if what not in seen:
                seen.add(what)
                path = _save(out, what, data)
                with (out / LOG).open("a", encoding="utf-8") as log:
                    log.write(json.dumps({"what": what, "input": str(path)}) + "\n")
            if stop:
                raise

    atheris.Setup([sys.argv[0], *words, *arguments], one)
    atheris.Fuzz()
    return 0


def _dictionary(out: Path, tokens: Sequence[bytes]) -> list[str]:
    """Write the words of a format as libFuzzer reads them and return the option that names the file."""
    if not tokens:
        return []
    path = out / "words.txt"
    lines = ["".join(f"\\x{byte:02x}" for byte in token) for token in tokens if token]
    path.write_text("".join(f'"{line}"\n' for line in lines), encoding="ascii")
    return [f"-dict={path}"]


def _save(out: Path, what: str, data: bytes) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    path = out / ("found-" + re.sub(r"[^a-z0-9]+", "-", what.lower()).strip("-"))
    path.write_bytes(data)
    return path


def _named(targets: Sequence[str]) -> tuple[str, ...]:
    from fuzz.harness import target_names

    return tuple(targets) or target_names()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
