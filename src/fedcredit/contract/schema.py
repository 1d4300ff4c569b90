"""The contract as a frozen value: modalities with their parts, the label, the unit of privacy, the digest."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from pydantic import Field, model_validator

from fedcredit.config.reading import Section
from fedcredit.contract.columns import CategoryColumn, Channel, Column, Derived, Items, NumberColumn, Text
from fedcredit.encoding import Encodable, digest
from fedcredit.errors import ConfigValueError


class LabelColumn(Section):
    """The column of outcomes and its two codes."""

    column: Text
    good: int | str
    bad: int | str

    @model_validator(mode="after")
    def _two_codes(self) -> LabelColumn:
        if self.good == self.bad or type(self.good) is not type(self.bad):
            raise ValueError("good and bad must be two different codes of one type")
        return self


class Cross(Section):
    """A scorecard feature with one bin per pair of bins of two others."""

    name: Text
    of: tuple[str, str]


class Modality(Section):
    """One source of data that an institution has or has not.

    ``static`` modalities have number and category columns; ``sequence`` modalities have channels of ``steps`` numbers.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    kind: Literal["static", "sequence"]
    steps: int = Field(ge=1)
    """1 for a static modality."""
    columns: Items[Column]
    derived: Items[Derived]
    crosses: Items[Cross]
    scorecard: Items[Text]
    """The features of the scorecard, in the order of its columns."""

    @model_validator(mode="after")
    def _consistent(self) -> Modality:
        names = [part.name for part in (*self.columns, *self.derived, *self.crosses)]
        if len(set(names)) != len(names):
            raise ValueError("a name stands for two things")
        self._check_channels()
        self._check_references()
        return self

    def _check_channels(self) -> None:
        for column in self.columns:
            if isinstance(column, Channel) != (self.kind == "sequence"):
                raise ValueError("a sequence has channels, a static modality has columns")
            if len(column.columns) != self.steps:
                raise ValueError(f"channel {column.name} must name {self.steps} columns")

    def _check_references(self) -> None:
        known = {column.name for column in self.columns}
        for part in self.derived:
            if not set(part.inputs) <= known:
                raise ValueError(f"derived {part.name} reads something that is not a column or channel here")
        binned = self._binned()
        for cross in self.crosses:
            if not set(cross.of) <= binned:
                raise ValueError(f"cross {cross.name} joins something that has no bins")
        if len(set(self.scorecard)) != len(self.scorecard):
            raise ValueError("scorecard lists a feature twice")
        for name in self.scorecard:
            if name not in binned | {cross.name for cross in self.crosses}:
                raise ValueError(f"scorecard lists {name}, which has no bins")

    def _binned(self) -> set[str]:
        gridded = (part for part in (*self.columns, *self.derived) if not isinstance(part, Channel))
        return {part.name for part in gridded if isinstance(part, CategoryColumn) or part.grid}

    def binned(self, name: str) -> NumberColumn | CategoryColumn | Derived | Cross:
        """Return the scorecard feature of that name."""
        parts = (*self.columns, *self.derived, *self.crosses)
        return next(part for part in parts if part.name == name and not isinstance(part, Channel))

    def table_columns(self) -> tuple[str, ...]:
        """Return the columns of a table that this modality reads, each once, in order."""
        return tuple(dict.fromkeys(name for column in self.columns for name in column.columns))


class Contract(Section):
    """What the institutions of a consortium agreed their tables to be."""

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")
    tables: int | None = Field(default=None, ge=1)
    """Version of the canonical data set that the features are made from; ``None`` if the columns are a table's own."""
    title: Text
    licence: Text
    attribution: Text
    unit: Literal["borrower"]
    """The unit of privacy: one borrower, with all rows at the institution."""
    entity: Text
    label: LabelColumn
    protected: Items[Text]
    """Columns that a table may hold to measure fairness; never trained on."""
    modalities: Items[Modality]

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        names = [modality.name for modality in self.modalities]
        if not names or len(set(names)) != len(names):
            raise ValueError("needs at least one modality, each with its own name")
        trained = {name for modality in self.modalities for name in modality.table_columns()}
        for name in (*self.protected, self.entity, self.label.column):
            if name in trained:
                raise ValueError(f"{name} must not be trained on, but a modality reads it")
        return self

    def modality(self, name: str) -> Modality:
        """Return the modality of that name; any other name raises ``ConfigValueError``."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        known = ", ".join(modality.name for modality in self.modalities)
        raise ConfigValueError(path=self.name, key="modalities", problem=f'has no "{name}", only {known}')

    def to_value(self) -> Encodable:
        """Return the canonical value; real numbers as their shortest decimal text."""
        value = self.model_dump()
        if self.tables is None:  # contracts from before there were canonical tables keep their digests
            del value["tables"]
            return _canonical(value)
        # Heads, ranges and delays of the tables make features too; loaded here, because that module needs this one.
        from fedcredit.contract.canonical.loading import canonical

        return _canonical(value | {"canonical": canonical(self.tables).digest()})

    def digest(self) -> bytes:
        """Return SHA-256 over the canonical encoding; comments and spacing of the YAML do not count."""
        return self._digest

    @cached_property
    def _digest(self) -> bytes:
        return digest(self.to_value())


def _canonical(value: Any) -> Encodable:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_canonical(item) for item in value]
    plain: Encodable = value
    return plain
