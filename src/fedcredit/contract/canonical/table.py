"""A canonical table as a frozen value: its columns with everything that a check or a feature builder must know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from fedcredit.config.reading import Section
from fedcredit.contract.columns import Items, Text
from fedcredit.encoding import Encodable, digest
from fedcredit.parties import InstitutionType

Head: TypeAlias = Literal["pd12_app", "pd12_beh", "ew30", "fpd30", "lgd", "rv", "claim", "fraud"]
"""What a model can be asked for; a column names the heads that may read it."""
ColumnType: TypeAlias = Literal[
    "token", "id", "text", "category", "flag", "integer", "number", "date", "month", "timestamp"
]
NullPolicy: TypeAlias = Literal["required", "nullable", "typed_missing"]
ModalityCode: TypeAlias = Literal["CORE", "APP", "REP", "VEH", "TEL", "CON", "EQP", "ENT", "CLM", "GRA", "LAB"]
Held: TypeAlias = Literal["full", "partial", "none"]
Kind: TypeAlias = Annotated[InstitutionType, Field(strict=False)]

NOT_COLLECTED: Final = -1
NOT_APPLICABLE: Final = -2
REFUSED: Final = -3
SENSOR_GAP: Final = -4
TYPED_MISSING: Final[Mapping[int, tuple[str, str]]] = {
    NOT_COLLECTED: ("not collected", "未采集"),
    NOT_APPLICABLE: ("not applicable", "不适用"),
    REFUSED: ("refused or withdrawn", "拒绝提供或已撤回"),
    SENSOR_GAP: ("sensor gap", "传感器缺失"),
}
"""Why a cell is empty. A numeric column holds the number, a category its text; nothing is ever filled in silently."""
NUMERIC: Final = ("flag", "integer", "number")
TEXTS: Final = ("token", "id", "text")
TIMES: Final = ("date", "month", "timestamp")


def _availability(text: str) -> str:
    if not re.fullmatch(r"application|monthly|event\+[0-9]{1,3}", text):
        raise ValueError("must be application, monthly or event+DAYS")
    return text


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error:
        raise ValueError("is not a regular expression") from None
    return text


class ColumnRule(Section):
    """One column: what its cells may be, where they come from, who may use them."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,40}$")
    type: ColumnType
    unit: str = ""
    """Of a number; empty for every other type."""
    min: float | None = None
    max: float | None = None
    expect: Annotated[tuple[float, float], Field(strict=False)] | None = None
    """Where the median of an ordinary institution lies, in ``unit``; a median far outside points to another unit."""
    values: Items[str] = ()
    """The codes of a category."""
    pattern: Annotated[str, AfterValidator(_pattern)] = ""
    """Of a text."""
    missing: NullPolicy
    source: Text
    available_at: Annotated[str, AfterValidator(_availability)]
    """``application``: known at the decision. ``monthly``: at the month's end. ``event+7``: 7 days after its event."""
    pii_class: Literal["none", "identifier", "sensitive"]
    jrt0171: Literal["C1", "C2", "C3"]
    """Class of personal financial information in JR/T 0171-2020."""
    monotone: Literal["+", "-", "0"]
    """Sign of its effect on the default risk, where domain knowledge fixes one."""
    heads: Items[Head]
    """Heads that may read it as a feature; none for keys, dates and labels."""
    deny: bool
    """Refused wherever it appears (FC-5019)."""
    minimum: bool
    """Part of the minimum viable set: must be there where the institution holds the modality in full."""
    modality: ModalityCode
    en: Text
    zh: Text

    @model_validator(mode="after")
    def _consistent(self) -> ColumnRule:
        if self.type in ("integer", "number") and (not self.unit or self.min is None or self.max is None):
            raise ValueError("a number needs unit, min and max")
        if self.type not in ("integer", "number") and (self.unit or self.min is not None or self.expect):
            raise ValueError("only a number has unit, min, max and expect")
        if (self.type == "category") != bool(self.values) or (self.pattern and self.type != "text"):
            raise ValueError("a category has values and a text may have a pattern; nothing else does")
        if self.missing == "typed_missing" and not self.may_be_typed:
            raise ValueError("typed missing codes need a flag, a category, a text or a number from 0 upwards")
        if self.deny and (self.heads or self.minimum):
            raise ValueError("a denied column has no heads and belongs to no minimum set")
        return self

    @property
    def may_be_typed(self) -> bool:
        """Return whether -1 to -4 cannot be mistaken for values of this column."""
        if self.type in ("integer", "number"):
            return self.min is not None and self.min >= 0
        return self.type in ("flag", "category", "text")

    @property
    def numeric(self) -> bool:
        """Return whether cells are numbers: integer, number or a flag of 0 and 1."""
        return self.type in NUMERIC

    @property
    def is_text(self) -> bool:
        """Return whether cells stay the texts that they are: token, id or text. A category is read as its position."""
        return self.type in TEXTS

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the legal range of a numeric column, without the codes for missing."""
        return (0.0, 1.0) if self.type == "flag" else (self.min or 0.0, self.max or 0.0)


class CanonicalTable(Section):
    """One table: file, keys, time, columns."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    file: Text
    """Inside a data folder; a name without a suffix is a folder of Parquet files."""
    modality: ModalityCode
    en: Text
    zh: Text
    key: Items[str]
    time: str | None
    """The column that orders rows in time and decides what a feature at a day of observation may see."""
    asof: str | None
    """The column that says when the other columns were known, where that is not ``time``."""
    references: Mapping[str, str]
    """Column -> table whose key must hold its cells."""
    columns: Items[ColumnRule]

    @model_validator(mode="after")
    def _consistent(self) -> CanonicalTable:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("a column stands twice")
        for name in (*self.key, *self.references, *filter(None, (self.time, self.asof))):
            if name not in names:
                raise ValueError(f"{name} is not a column here")
        for name in self.key:
            if self.column(name).missing != "required":
                raise ValueError(f"{name} belongs to the key, so it must be required")
        return self

    @cached_property
    def _by_name(self) -> dict[str, ColumnRule]:
        return {column.name: column for column in self.columns}

    def column(self, name: str) -> ColumnRule:
        """Return the column of that name; another name raises ``KeyError``."""
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def accepted(self) -> tuple[ColumnRule, ...]:
        """Return the columns that a table may hold, in order: all but the denied ones."""
        return tuple(column for column in self.columns if not column.deny)

    def features(self, head: Head) -> tuple[ColumnRule, ...]:
        """Return the columns that a head may read, in order."""
        return tuple(column for column in self.accepted if head in column.heads)


class ModalityRule(Section):
    """One modality: who holds it."""

    code: ModalityCode
    en: Text
    zh: Text
    held_by: Mapping[Kind, Held]
    freshness: Text
    typical_gap: Text

    @model_validator(mode="after")
    def _everybody(self) -> ModalityRule:
        if set(self.held_by) != set(InstitutionType):
            raise ValueError("held_by must name every type of institution")
        return self


class CanonicalSet(Section):
    """All tables of one schema version."""

    version: int
    modalities: Items[ModalityRule]
    tables: Items[CanonicalTable]

    @model_validator(mode="after")
    def _consistent(self) -> CanonicalSet:
        names = {table.name for table in self.tables}
        for table in self.tables:
            for column, target in table.references.items():
                if target not in names:
                    raise ValueError(f"{table.name}.{column} refers to {target}, which is no table")
        return self

    def table(self, name: str) -> CanonicalTable:
        """Return the table of that name; another name raises ``KeyError``."""
        return next(table for table in self.tables if table.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the tables, in the order in which they refer to each other."""
        return tuple(table.name for table in self.tables)

    def modality(self, code: str) -> ModalityRule:
        """Return the modality of that code."""
        return next(item for item in self.modalities if item.code == code)

    def digest(self) -> bytes:
        """Return SHA-256 over the canonical encoding; comments and spacing of the YAML do not count."""
        return digest(_plain(self.model_dump(mode="json")))


def _plain(value: object) -> Encodable:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    plain: Encodable = value  # type: ignore[assignment]
    return plain
