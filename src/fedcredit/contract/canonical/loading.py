"""From the YAML pages of one version to a ``CanonicalSet``: a typo is an error with its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, Final

from pydantic import Field

from fedcredit.config.reading import Section, validate
from fedcredit.contract.canonical.table import CanonicalSet, CanonicalTable, ColumnRule, ModalityRule
from fedcredit.contract.canonical.versions import require_spoken
from fedcredit.contract.columns import Items
from fedcredit.contract.strict_yaml import mapping, read_yaml
from fedcredit.errors import ConfigValueError

_FOLDER = resources.files("fedcredit.contract") / "canonical"
_MODALITIES: Final = "modalities.yaml"
_ORDER: Final = (
    *("entity", "contract", "observation", "rep_monthly", "veh", "rv_weekly", "tel_daily", "tel_5min", "con"),
    *("eqp", "eqp_series", "ent_monthly", "pol", "clm", "edge", "outcome"),
)
"""A table stands behind those that it refers to."""
_Plain = dict[str, Any]


class _Page(Section):
    schema_version: int
    table: str
    file: str
    modality: str
    en: str
    zh: str
    key: Items[str]
    time: str | None
    asof: str | None
    references: Mapping[str, str]
    defaults: _Plain
    columns: _Plain


class _Modalities(Section):
    schema_version: int
    modalities: _Plain


class _Repeated(Section):
    repeat: int = Field(ge=2, le=512)


@cache
def canonical(version: int) -> CanonicalSet:
    """Return the canonical data set of a schema version that this release speaks.

    Raises:
        SchemaVersionError: it does not speak that version.
    """
    require_spoken(version)
    folder = _FOLDER / f"v{version}"
    return parse_set(
        version,
        tables={name: (folder / f"{name}.yaml").read_text("utf-8") for name in _ORDER},
        modalities=(folder / _MODALITIES).read_text("utf-8"),
    )


def parse_set(version: int, *, tables: Mapping[str, str], modalities: str) -> CanonicalSet:
    """Return the set in these YAML texts; ``tables`` maps the name of each table to its page.

    Raises:
        ContractSyntaxError: a page is not YAML, or has a key twice.
        UnknownKeyError, MissingKeyError, ConfigValueError: its content; the page and the key are named.
    """
    top = validate(_Modalities, _content(modalities, _MODALITIES), source=_MODALITIES)
    content = {
        "version": version,
        "modalities": tuple(
            _with_name(ModalityRule, "code", code, rule, source=_MODALITIES) for code, rule in top.modalities.items()
        ),
        "tables": tuple(_table(name, text, version=version) for name, text in tables.items()),
    }
    return validate(CanonicalSet, content, source=f"v{version}")


def _table(name: str, text: str, *, version: int) -> CanonicalTable:
    source = f"{name}.yaml"
    page = validate(_Page, _content(text, source), source=source)
    if page.schema_version != version or page.table != name:
        raise ConfigValueError(path=source, key="table", problem=f"must be {name} of schema_version {version}")
    columns = tuple(column for key, rule in page.columns.items() for column in _columns(page, key, rule, source=source))
    content = {
        **page.model_dump(include={"file", "modality", "en", "zh", "key", "time", "asof", "references"}),
        "name": name,
        "columns": columns,
    }
    return validate(CanonicalTable, content, source=source)


def _columns(page: _Page, name: str, raw: Any, *, source: str) -> Iterator[ColumnRule]:
    rule = dict(mapping(raw, source=source, place=name))
    repeat = {"repeat": rule.pop("repeat")} if "repeat" in rule else None
    merged = {"modality": page.modality, **page.defaults, **rule}
    if repeat is None:
        yield _with_name(ColumnRule, "name", name, merged, source=source)
        return
    for index in range(validate(_Repeated, repeat, source=f"{source}, {name}").repeat):
        numbered = {**merged, "en": f"{merged['en']} ({index})", "zh": f"{merged['zh']}({index})"}
        yield _with_name(ColumnRule, "name", f"{name}_{index:02d}", numbered, source=source)


def _with_name(model: type[Any], key: str, name: str, raw: Any, *, source: str) -> Any:
    content = mapping(raw, source=source, place=name)
    return validate(model, {**content, key: name}, source=f"{source}, {name}")


def _content(text: str, source: str) -> Mapping[str, Any]:
    return mapping(read_yaml(text, source=source), source=source, place="")
