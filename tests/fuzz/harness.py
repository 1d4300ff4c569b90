"""What a fuzz target is made of, and the one rule that all of them are judged by (QUALITY.md R9).

A target is a module in ``targets/`` with

- ``TARGET(data)``: give the bytes to a decoder of ours. Returning means "accepted"; raising ``FedcreditError`` means
  "refused". **Anything else that escapes is a finding**, and so is an input that takes more than one second or 512 MB.
- ``seeds()``: small valid inputs by name. They are stored in ``corpus/<target>/valid-<name>``; every one must be
  accepted, or mutations of it would never come past the first check.
- optionally ``TOKENS``, words of the format for the mutations; ``MUTATIONS``, how many of them ``make test`` tries
  where a target is slow; ``hostile()``, inputs by name that are too long to be stored, and are run but not mutated.

A new target, whole::

    from fuzz.harness import one_of, same_bytes
    TARGET = one_of(same_bytes(Upload.from_bytes), same_bytes(Reveal.from_bytes))
    def seeds():
        return {"upload": chosen(0, Upload(...).to_bytes()), "reveal": chosen(1, Reveal(...).to_bytes())}

and then ``python tests/fuzz/run.py seeds``. A new wire message (a class with a ``TAG``) needs that command only.

Everything here is deterministic and free of atheris, so that ``make test`` can replay the corpus on any platform.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np

from fedcredit.errors import FedcreditError

Target = Callable[[bytes], None]

FOLDER: Final = Path(__file__).parent
CORPUS: Final = FOLDER / "corpus"
SECONDS: Final = 1.0
MEGABYTES: Final = 512
VALID: Final = "valid-"
_MEMORY: Final = Path("/dev/shm")  # noqa: S108  # a private folder is made inside; a file per input must not wear a disk
_LONGEST_MUTANT: Final = 1 << 16
_STACKED: Final = 4
# Ends of the integer ranges, and the heads with which CBOR announces 8-byte lengths, floats and endless items.
_TELLING: Final = bytes(
    [0, 1, 0x7F, 0x80, 0xFF, 0x1B, 0x5B, 0x7B, 0x9B, 0xBB, 0x9F, 0xBF, 0xF9, 0xFB, 0xC2, 0x0A, 0x22]
)


class TooSlowError(AssertionError):
    """An input took more than the time that one input may take."""


class TooBigError(AssertionError):
    """An input took more than the memory that one input may take."""


class NotTheSameError(AssertionError):
    """What was decoded encodes to other bytes: two encodings of one value."""


def target_names() -> tuple[str, ...]:
    """Return the names of all targets."""
    return tuple(sorted(path.stem for path in (FOLDER / "targets").glob("[a-z]*.py")))


def load(name: str) -> ModuleType:
    """Return the module of a target, or of any importable module that has a ``TARGET``."""
    return importlib.import_module(f"fuzz.targets.{name}" if name in target_names() else name)


def one_of(*decoders: Target) -> Target:
    """Return a target whose first byte says which decoder gets the rest; a new decoder goes to the end."""

    def target(data: bytes) -> None:
        if data and data[0] < len(decoders):
            decoders[data[0]](data[1:])

    return target


def chosen(index: int, data: bytes) -> bytes:
    """Return the input with which ``one_of`` gives ``data`` to the decoder at ``index``."""
    return bytes([index]) + data


def same_bytes(decode: Callable[[bytes], Any]) -> Target:
    """Return a target for a canonical format: what decodes must encode, by ``to_bytes``, to the bytes it came from."""

    def target(data: bytes) -> None:
        if decode(data).to_bytes() != data:
            raise NotTheSameError

    return target


def from_file(name: str, read: Callable[[Path], object]) -> Target:
    """Return a target for a reader of files: the input lies at a path that ends in ``name``, of mode 0600."""

    def target(data: bytes) -> None:
        path = _scratch() / name
        if not path.exists():
            path.touch(mode=0o600)
        path.write_bytes(data)
        read(path)

    return target


@cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fedcredit-fuzz-", dir=_MEMORY if _MEMORY.is_dir() else None))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Judge:
    """Runs inputs one by one and raises what escapes; memory counts from the moment that the judge is made."""

    def __init__(self, target: Target, *, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._baseline = _peak_megabytes()

    def accepts(self, data: bytes) -> bool:
        """Return whether the target accepted ``data``; raise whatever is neither that nor a refusal of ours."""
        start = time.thread_time()
        accepted = False
        with contextlib.suppress(FedcreditError):
            self._target(data)
            accepted = True
        spent = time.thread_time() - start
        # Memory first: on a busy machine, getting it is what takes the time.
        if (grown := _peak_megabytes() - self._baseline) > MEGABYTES:
            raise TooBigError(f"{grown} MB more than at the start")
        if spent > self._seconds:
            raise TooSlowError(f"{spent:.1f} s")
        return accepted


def _peak_megabytes() -> int:
    # Not ru_maxrss: a process inherits that from the one that started it, however large that was.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM:"))


def inputs_in(folder: Path) -> dict[str, bytes]:
    """Return the inputs in a folder in the order of their names; none if there is no such folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*"))}


def mutants(
    stored: Sequence[bytes], count: int, *, rng: np.random.Generator, tokens: Sequence[bytes] = ()
) -> Iterator[bytes]:
    """Yield ``count`` changed copies of the ``stored`` inputs, if there are any; equal generators give equal ones."""
    for number in range(count if stored else 0):
        data = bytearray(stored[number % len(stored)])
        for _ in range(int(rng.integers(1, _STACKED + 1))):
            _CHANGES[int(rng.integers(len(_CHANGES)))](data, stored, tokens, rng)
        yield bytes(data[:_LONGEST_MUTANT])


def _slice(data: bytes | bytearray, rng: np.random.Generator) -> slice:
    start = int(rng.integers(len(data) + 1))
    return slice(start, start + int(rng.integers(1, 33)))


def _flip_a_bit(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    if data:
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))


def _set_a_telling_byte(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    if data:
        data[int(rng.integers(len(data)))] = _TELLING[int(rng.integers(len(_TELLING)))]


def _set_a_number(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    width = 1 << int(rng.integers(4))
    number = [0, 1, 2 ** (8 * width - 1), 2 ** (8 * width) - 1][int(rng.integers(4))]
    place = int(rng.integers(len(data) + 1))
    data[place : place + width] = number.to_bytes(width, ("big", "little")[int(rng.integers(2))])


def _insert(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    place = int(rng.integers(len(data) + 1))
    data[place:place] = rng.bytes(int(rng.integers(1, 9)))


def _delete(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    del data[_slice(data, rng)]


def _repeat(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    part = _slice(data, rng)
    data[part.stop : part.stop] = data[part] * int(rng.integers(1, 65))


def _cut(data: bytearray, _: object, __: object, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data) + 1)) :]


def _splice(data: bytearray, stored: Sequence[bytes], _: object, rng: np.random.Generator) -> None:
    other = stored[int(rng.integers(len(stored)))]
    data[_slice(data, rng)] = other[_slice(other, rng)]


def _insert_a_token(data: bytearray, _: object, tokens: Sequence[bytes], rng: np.random.Generator) -> None:
    if tokens:
        part = _slice(data, rng)
        data[part.start : part.start + int(rng.integers(3))] = tokens[int(rng.integers(len(tokens)))]


_CHANGES: Final = (
    _flip_a_bit,
    _set_a_telling_byte,
    _set_a_number,
    _insert,
    _delete,
    _repeat,
    _cut,
    _splice,
    _insert_a_token,
)


def what_escaped(error: BaseException) -> str:
    """Return the type of an escape with the innermost function of ours: inputs with one cause give one text."""
    places = [
        f"{Path(frame.filename).name} ({frame.name})"
        for frame in traceback.extract_tb(error.__traceback__)
        if "fedcredit" in Path(frame.filename).parts
    ]
    return f"{type(error).__name__} from {places[-1] if places else 'the target'}"


def replay(
    target: Target,
    stored: Mapping[str, bytes],
    *,
    hostile: Mapping[str, bytes],
    mutations: int,
    seed: int,
    tokens: Sequence[bytes],
) -> tuple[int, list[str], dict[str, bytes]]:
    """Run the stored inputs, the hostile ones, then ``mutations`` changed copies of the valid seeds.

    Returns how many inputs ran, the names of the valid seeds that were refused, and per escape its first input.
    """
    judge = Judge(target, seconds=SECONDS)
    refused: list[str] = []
    escapes: dict[str, bytes] = {}
    done = 0

    def run(data: bytes) -> bool:
        try:
            return judge.accepts(data)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # a panic of a Rust decoder is no Exception
            escapes.setdefault(what_escaped(error), data)
            return False

    for name, data in (*stored.items(), *hostile.items()):
        if not run(data) and name.startswith(VALID):
            refused.append(name)
        done += 1
    # Not of what was found: a neighbour of an input that was too slow is too slow again.
    seeds = [data for name, data in stored.items() if name.startswith(VALID)]
    for data in mutants(seeds, mutations, rng=np.random.default_rng(seed), tokens=tokens):
        run(data)
        done += 1
    return done, refused, escapes
