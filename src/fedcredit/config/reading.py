"""From a TOML file to a frozen, validated value; a typo is an error with the nearest name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from fedcredit.errors import (
    ConfigFileMissingError,
    ConfigSyntaxError,
    ConfigValueError,
    FedcreditError,
    MissingKeyError,
    UnknownKeyError,
)


class Section(BaseModel):
    """Base of every configuration value: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


SectionT = TypeVar("SectionT", bound=Section)

MOST_CHARACTERS: Final = 1 << 20
"""Of one file: four times the longest plan of 1,000 institutions."""
MOST_DOTS: Final = 64
"""Of one line, and so of one key: each costs the decoder time and memory quadratic in the parts of a key."""


def read_toml(path: Path, *, what: str, command: str) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        ConfigFileMissingError: the file does not exist; ``command`` tells how to make one.
        ConfigSyntaxError: it is not TOML.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigFileMissingError(what=what, path=str(path), command=command) from error
    except UnicodeDecodeError as error:
        raise ConfigSyntaxError(path=str(path), detail="it is not UTF-8 text") from error
    return parse_toml(text, source=str(path))


def parse_toml(text: str, *, source: str) -> dict[str, Any]:
    """Return the content of TOML text; ``source`` names it in errors.

    Raises:
        ConfigSyntaxError: it is not TOML, or above ``MOST_CHARACTERS`` or ``MOST_DOTS``: a plan comes from elsewhere.
    """
    _require_modest(text, source=source)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The decoder's message quotes single characters and positions only, never a whole line.
        raise ConfigSyntaxError(path=source, detail=str(error).rstrip(".")) from error
    except (ValueError, RecursionError) as error:
        # The decoder passes these on: a number of thousands of digits, brackets nested without end.
        raise ConfigSyntaxError(path=source, detail="it holds a number or a nesting without end") from error


def _require_modest(text: str, *, source: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise ConfigSyntaxError(path=source, detail=f"it has more than {MOST_CHARACTERS:,} characters")
    for number, line in enumerate(text.split("\n"), 1):  # the one character that ends a line, and a key, in TOML
        if line.count(".") > MOST_DOTS:
            raise ConfigSyntaxError(path=source, detail=f"more than {MOST_DOTS} dots (at line {number})")


def validate(model: type[SectionT], raw: Mapping[str, Any], *, source: str) -> SectionT:
    """Return ``raw`` as a ``model``.

    Raises:
        UnknownKeyError: a key is not known; the hint names the nearest one.
        MissingKeyError: a key without a default is absent.
        ConfigValueError: a value has the wrong type or range.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise _translated(error, model, source) from None


def _translated(error: ValidationError, model: type[BaseModel], source: str) -> FedcreditError:
    problems = sorted(error.errors(include_url=False, include_input=False), key=lambda p: _rank(p["type"]))
    first = problems[0]
    keys, known = _walk(model, first["loc"])
    place = ".".join(keys) or "the file"
    if first["type"] == "extra_forbidden":
        return UnknownKeyError(path=source, key=place, hint=_hint(keys[-1], sorted(known)))
    if first["type"] == "missing":
        return MissingKeyError(path=source, key=place)
    return ConfigValueError(path=source, key=place, problem=_problem(first["msg"]))


def _rank(kind: str) -> int:
    # A misspelt key is also a missing key; the misspelling is what the operator must hear about.
    return {"extra_forbidden": 0, "missing": 1}.get(kind, 2)


def _problem(message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input ").rstrip(".")
    return text[:1].lower() + text[1:]


def _walk(model: type[BaseModel], location: Iterable[int | str]) -> tuple[list[str], set[str]]:
    """Return the keys of a place as the file spells them, and the keys known in the section that holds the last."""
    keys: list[str] = []
    section: type[BaseModel] | None = model
    holder = section
    alternatives: list[type[BaseModel]] = []
    for part in map(str, location):
        tagged = [choice for choice in alternatives if part in _tags(choice)]
        if tagged:  # pydantic names the chosen variant of a union in the place; the file does not
            section, alternatives = tagged[0], []
            continue
        keys.append(part)
        holder = section
        field = section.model_fields.get(part) if section else None
        alternatives = _sections_in(field.annotation) if field else alternatives
        section = alternatives[0] if alternatives else None
    return keys, set(holder.model_fields) if holder else set()


def _tags(section: type[BaseModel]) -> tuple[str, ...]:
    kind = section.model_fields.get("kind")
    return getattr(kind.annotation, "__args__", ()) if kind else ()


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in getattr(annotation, "__args__", ()) for found in _sections_in(argument)]


def _hint(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if near:
        return f'Did you mean "{near[0]}"?'
    return "Known here: " + ", ".join(known)
