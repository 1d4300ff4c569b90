"""From a YAML file to a ``Contract``: strict at every level, a typo is an error with the nearest name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import Field

from fedcredit.config.reading import Section, validate
from fedcredit.contract.columns import CategoryColumn, Channel, Column, Derived, Items, NumberColumn
from fedcredit.contract.schema import Contract, Cross, Modality
from fedcredit.contract.strict_yaml import mapping, read_yaml
from fedcredit.errors import ConfigFileMissingError, ConfigValueError, ContractSyntaxError, MissingKeyError

VEHICLE_LOANS: Final = "vehicle-loans"
"""The shipped contract on canonical tables: features of loans on vehicles, made from the checked tables."""
_SCHEMAS = resources.files("fedcredit.contract") / "schemas"
_Plain = dict[str, Any]
_SectionT = TypeVar("_SectionT", bound=Section)


class _TopLevel(Section):
    schema_version: int
    name: str
    tables: int | None = None
    title: str
    licence: str
    attribution: str
    unit: str
    entity: str
    label: _Plain
    protected: list[Any]
    modalities: _Plain


class _Static(Section):
    kind: str
    columns: _Plain
    derived: _Plain = Field(default_factory=dict)
    crosses: _Plain = Field(default_factory=dict)
    scorecard: Items[str]


class _Sequence(Section):
    kind: str
    steps: int
    channels: _Plain
    derived: _Plain = Field(default_factory=dict)
    crosses: _Plain = Field(default_factory=dict)
    scorecard: Items[str]


def shipped_contracts() -> tuple[str, ...]:
    """Return the names of the contracts that travel with fedcredit."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in _SCHEMAS.iterdir()))


def shipped_contract(name: str) -> Contract:
    """Return a shipped contract by its name; any other name raises ``ConfigFileMissingError``, no file is opened."""
    if name not in shipped_contracts():
        known = ", ".join(shipped_contracts())
        raise ConfigFileMissingError(what="shipped data contract", path=name, command=f"use one of {known}")
    return parse_contract((_SCHEMAS / f"{name}.yaml").read_text("utf-8"), source=f"{name}.yaml")


def load_contract(name_or_path: str | Path) -> Contract:
    """Return a shipped contract by its name, or the one in a YAML file.

    Raises:
        ConfigFileMissingError: neither a shipped name nor a readable file.
        ContractSyntaxError: the file is not YAML, or has a key twice.
        UnknownKeyError, MissingKeyError, ConfigValueError: the content; the place is named.
    """
    if isinstance(name_or_path, str) and name_or_path in shipped_contracts():
        return shipped_contract(name_or_path)
    path = Path(name_or_path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        known = ", ".join(shipped_contracts())
        raise ConfigFileMissingError(what="data contract", path=str(path), command=f"shipped are {known}") from error
    except UnicodeDecodeError as error:
        raise ContractSyntaxError(path=str(path), detail="it is not UTF-8 text") from error
    return parse_contract(text, source=str(path))


def parse_contract(text: str, *, source: str) -> Contract:
    """Return the contract in YAML ``text``; ``source`` names it in errors, which are those of ``load_contract``."""
    raw = read_yaml(text, source=source)
    top = validate(_TopLevel, mapping(raw, source=source, place=""), source=source)
    modalities = tuple(_modality(key, value, source=source) for key, value in top.modalities.items())
    return validate(Contract, {**top.model_dump(), "modalities": modalities}, source=source)


def _modality(name: str, raw: Any, *, source: str) -> Modality:
    place = f"modalities.{name}"
    where = f"{source}, {place}"
    raw = mapping(raw, source=source, place=place)
    if "kind" not in raw:
        raise MissingKeyError(path=where, key="kind")
    columns: list[Column]
    if raw["kind"] == "sequence":
        sequence = validate(_Sequence, raw, source=where)
        section: _Static | _Sequence = sequence
        steps = sequence.steps
        columns = [_part(Channel, key, value, place=f"{where}.channels") for key, value in sequence.channels.items()]
    else:
        section = static = validate(_Static, raw, source=where)
        steps = 1
        columns = [_column(key, value, place=f"{where}.columns") for key, value in static.columns.items()]
    content = {
        "name": name,
        "kind": section.kind,
        "steps": steps,
        "columns": columns,
        "derived": [_part(Derived, key, value, place=f"{where}.derived") for key, value in section.derived.items()],
        "crosses": [
            validate(Cross, {"name": key, "of": tuple(of) if isinstance(of, list) else of}, source=f"{where}.crosses")
            for key, of in section.crosses.items()
        ],
        "scorecard": section.scorecard,
    }
    return validate(Modality, content, source=where)


def _column(name: str, raw: Any, *, place: str) -> Column:
    kind = mapping(raw, source=place, place=name).get("type")
    if kind == "category":
        return _part(CategoryColumn, name, raw, place=place)
    if kind in ("number", None):  # without a type, the missing key is the error that the reader must see
        return _part(NumberColumn, name, raw, place=place)
    raise ConfigValueError(path=place, key=f"{name}.type", problem="must be number or category")


def _part(model: type[_SectionT], name: str, raw: Any, *, place: str) -> _SectionT:
    content = mapping(raw, source=place, place=name)
    if "name" in content:
        raise ConfigValueError(path=place, key=f"{name}.name", problem="is given by the key above it")
    return validate(model, {**content, "name": name}, source=f"{place}.{name}")
