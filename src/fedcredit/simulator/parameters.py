"""The numbers of a world: ``world.toml`` with a scenario pack over it, each with where it comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import numpy as np

from fedcredit.errors import ConfigValueError, UnknownKeyError, UnknownScenarioError

SOURCES: Final = ("measured", "public", "expert", "scenario")
_FILES = resources.files("fedcredit.simulator")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where one number comes from, in one of ``SOURCES``, and what to say about it."""

    path: str
    source: str
    note: str


class Section:
    """One table of numbers, by attribute: ``world.claims.rate``. Lists are read-only arrays.

    A name that the table does not have raises ``AttributeError``; nothing can be set.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        object.__setattr__(self, "_values", dict(values))

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"the world has no number {name}") from None

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name}: a world does not change")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]


@dataclass(frozen=True, kw_only=True)
class World:
    """All numbers of one world."""

    scenario: str
    title: str
    """What the pack is for, one sentence."""
    numbers: Section
    base: Section
    """The numbers without the pack, whose economy the intercepts are calibrated in."""
    provenance: tuple[Provenance, ...]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.numbers, name)


def scenarios() -> tuple[str, ...]:
    """Return the names of the scenario packs that travel with fedcredit."""
    folder = _FILES / "scenarios"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_world(scenario: str) -> World:
    """Return the world of a scenario pack.

    Raises:
        UnknownScenarioError: no pack has that name.
        UnknownKeyError, ConfigValueError: a pack names a number that the world does not have, or of another shape.
    """
    if scenario not in scenarios():
        raise UnknownScenarioError(name=scenario, known=", ".join(scenarios()))
    raw = tomllib.loads((_FILES / "world.toml").read_text("utf-8"))
    pack = tomllib.loads((_FILES / "scenarios" / f"{scenario}.toml").read_text("utf-8"))
    title = pack.pop("title")
    return build_world(raw, pack, scenario=scenario, title=title)


def build_world(raw: Mapping[str, Any], pack: Mapping[str, Any], *, scenario: str, title: str) -> World:
    """Return the world of two decoded TOML files; errors as ``load_world``."""
    base = dict(_leaves(raw, ""))
    merged = dict(base)
    for path, leaf in _leaves(pack, ""):
        if path not in base:
            raise UnknownKeyError(path=f"{scenario}.toml", key=path, hint="A pack replaces numbers of world.toml only.")
        if _shape(leaf["value"]) != _shape(base[path]["value"]):
            raise ConfigValueError(path=f"{scenario}.toml", key=path, problem="has another type or length")
        merged[path] = leaf
    return World(
        scenario=scenario,
        title=title,
        numbers=_nested(merged),
        base=_nested(base),
        provenance=tuple(
            Provenance(path=path, source=leaf["from"], note=leaf.get("note", "")) for path, leaf in merged.items()
        ),
    )


def _leaves(raw: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for key, item in raw.items():
        path = f"{prefix}{key}"
        if not isinstance(item, dict):
            raise ConfigValueError(path="world", key=path, problem='must be { value = ..., from = "..." }')
        if "value" not in item:
            yield from _leaves(item, f"{path}.")
            continue
        if item.get("from") not in SOURCES or set(item) - {"value", "from", "note"}:
            raise ConfigValueError(path="world", key=path, problem=f"needs value, from ({', '.join(SOURCES)}), note")
        yield path, item


def _shape(value: Any) -> Any:
    if isinstance(value, list):
        return len(value), {_shape(item) for item in value}
    return float if isinstance(value, int | float) else type(value)


def _nested(leaves: Mapping[str, Mapping[str, Any]]) -> Section:
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = _frozen(leaf["value"])
    return _section(tree)


def _section(tree: Mapping[str, Any]) -> Section:
    return Section({key: _section(item) if isinstance(item, dict) else item for key, item in tree.items()})


def _frozen(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    array = np.array(value)
    array.setflags(write=False)
    return array
