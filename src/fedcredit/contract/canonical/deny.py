"""The deny-list: names of columns that no export may hold, in English and Chinese."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, Final

from fedcredit.config.reading import Section, validate
from fedcredit.contract.columns import Items, Text
from fedcredit.contract.strict_yaml import mapping, read_yaml

_FILE: Final = "deny.yaml"
_WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


class DeniedKind(Section):
    """One kind of personal data and the names that give it away."""

    kind: str
    en: Text
    zh: Text
    exact: Items[str]
    anywhere: Items[str]
    zh_names: Items[str]

    def names(self, column: str) -> bool:
        """Return whether a column of that name holds this kind."""
        words = f" {' '.join(word.lower() for word in _WORD.findall(column))} "
        joined = words.replace(" ", "")
        return (
            joined in (name.replace(" ", "") for name in (*self.exact, *self.anywhere))
            or any(f" {name} " in words for name in self.anywhere)
            or any(name.lower() in column.lower() for name in self.zh_names)
        )


class _Page(Section):
    schema_version: int
    kinds: dict[str, Any]


@cache
def denied_kinds(version: int) -> tuple[DeniedKind, ...]:
    """Return the deny-list of a schema version."""
    text = (resources.files("fedcredit.contract") / "canonical" / f"v{version}" / _FILE).read_text("utf-8")
    page = validate(_Page, mapping(read_yaml(text, source=_FILE), source=_FILE, place=""), source=_FILE)
    return tuple(
        validate(DeniedKind, {**mapping(rule, source=_FILE, place=kind), "kind": kind}, source=f"{_FILE}, {kind}")
        for kind, rule in page.kinds.items()
    )


def denied(column: str, *, version: int) -> DeniedKind | None:
    """Return the kind of personal data that the name of a column gives away, if it does."""
    return next((kind for kind in denied_kinds(version) if kind.names(column)), None)
