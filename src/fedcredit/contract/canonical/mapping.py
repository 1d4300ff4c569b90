"""``mapping.toml``: from an institution's own tables to the canonical ones, column by column."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from fedcredit.config.reading import Section, read_toml, validate
from fedcredit.contract.canonical.loading import canonical
from fedcredit.contract.canonical.manifest import FolderFacts
from fedcredit.contract.canonical.table import CanonicalTable, ColumnRule, NullPolicy
from fedcredit.contract.canonical.units import units_for
from fedcredit.contract.columns import Items, Text
from fedcredit.errors import ConfigValueError, UnknownKeyError

MAPPING_FILE: Final = "mapping.toml"
EXTRA_PREFIX: Final = "x_"
"""Begins the names of columns that only this institution has."""


def _codec(name: str) -> str:
    try:
        codecs.lookup(name)
    except LookupError:
        raise ValueError("names no encoding") from None
    return name


class ColumnSource(Section):
    """Where the cells of one canonical column come from: a column of the table, or one value for all rows."""

    column: str = ""
    constant: str | int | float | None = None
    unit: str = ""
    """Unit of the export; empty for the contract's own."""
    codes: Mapping[str, str] = Field(default_factory=dict)
    """The institution's code -> the contract's; of a flag: "1" or "0"."""
    format: str = ""
    """Of dates, as in strptime; empty for the table's ``date_format``."""
    public: bool = False
    """Of a token: made here from a public record number, where the legal basis is a public record."""
    derived: Literal["", "row", "fold"] = ""
    """``row``: the number of the row, of an id or a public token. ``fold``: the fold that entity_tok gives."""
    empty: Annotated[int, Field(ge=-4, le=-1)] | Text | None = None
    """What an empty cell means: -1 not collected, -2 not applicable, -3 refused, -4 sensor gap; of a text, a text."""
    typed: bool | None = None
    """Whether cells that are -1 to -4 are such codes in the export itself; ``None`` for what the table says."""

    @model_validator(mode="after")
    def _one_source(self) -> ColumnSource:
        if bool(self.column) + (self.constant is not None) + bool(self.derived) != 1:
            raise ValueError("needs one of column, constant and derived")
        return self


class ExtraColumn(Section):
    """A column that the contract does not know: checked, kept at home, read by no head."""

    column: Text
    type: Literal["text", "category", "flag", "integer", "number", "date"]
    unit: str = ""
    min: float | None = None
    max: float | None = None
    values: Items[str] = ()
    missing: NullPolicy
    available_at: Text
    about: Text

    def rule(self, name: str, table: CanonicalTable) -> ColumnRule:
        """Return the column as a rule of the ``table``."""
        content = {
            **self.model_dump(include={"type", "unit", "min", "max", "values", "missing", "available_at"}),
            **{"name": name, "source": self.column, "pii_class": "none", "jrt0171": "C2", "monotone": "0"},
            **{"heads": (), "deny": False, "minimum": False, "modality": table.modality},
            **{"en": self.about, "zh": self.about},
        }
        return validate(ColumnRule, content, source=f"tables.{table.name}.extra.{name}")

    @property
    def source(self) -> ColumnSource:
        """Return where its cells come from; codes for missing are in it if it says that it has them."""
        return ColumnSource(column=self.column, typed=self.missing == "typed_missing")


class TableSource(Section):
    """Where one canonical table comes from and how its cells are written."""

    file: str = ""
    """Parquet or CSV, relative to the mapping; a folder of Parquet files for the five-minute series."""
    url: str = ""
    """A SQLAlchemy address, or "env:NAME" for one that stands in the environment, so that no password is in a file."""
    query: str = ""
    """One SELECT for the database."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    encoding: Annotated[str, AfterValidator(_codec)] = "utf-8"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ".", ",", " ", "'"] = ""
    date_format: Text = "%Y-%m-%d"
    null: Items[str] = ("",)
    """Texts that mean an empty cell."""
    typed: bool = False
    """Whether cells that are -1 to -4 are codes for missing, in the columns that may have them. A table in canonical
    form has them by definition; in any other table -1 may be a number, so somebody must say what it is."""
    columns: Mapping[str, ColumnSource]
    extra: Mapping[str, ExtraColumn] = Field(default_factory=dict)
    absent: Items[str] = ()
    """Columns of the minimum set that the institution does not have, said aloud; they are typed missing or empty."""
    repeated: Literal["refused", "left_out"] = "refused"
    """What becomes of a row whose key an earlier row has: ``left_out`` makes one row per person of a table of loans.
    Its cells are checked like all others, and it counts nowhere. Which row is the first, the file or the query says."""
    rest: Literal["told", "ignored"] = "told"
    """What becomes of columns that nothing here names. Denied ones are refused either way."""
    ignore: Items[str] = ()
    """Columns of the export that are left where they are; denied ones cannot be ignored."""

    @field_validator("columns", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: {"column": item} if isinstance(item, str) else item for name, item in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> TableSource:
        if bool(self.file) == bool(self.url):
            raise ValueError("needs either file or url")
        if bool(self.url) != bool(self.query):
            raise ValueError("url and query belong together")
        if self.query and not self.query.lstrip().lower().startswith(("select", "with")):
            raise ValueError("query must be one SELECT")
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands are the same mark")
        return self


class DataMapping(FolderFacts):
    """mapping.toml."""

    label_map: str = ""
    """Path of the label map, relative to this file; needed where there is an outcome table."""
    feature_record: str = ""
    """Path of the record of prepared features, if the institution prepares any."""
    tables: Annotated[Mapping[str, TableSource], Field(min_length=1)]

    @classmethod
    def read(cls, path: Path) -> DataMapping:
        """Read a mapping and hold every name in it against the canonical tables.

        Raises:
            ConfigFileMissingError, ConfigSyntaxError, UnknownKeyError, MissingKeyError, ConfigValueError: the file.
            SchemaVersionError: this release does not speak its version.
        """
        raw = read_toml(path, what="data mapping", command=f"fedcredit node init {path.parent}")
        found = validate(cls, raw, source=str(path))
        found.require_known(str(path))
        return found

    def require_known(self, path: str) -> None:
        """Raise unless every table, column, unit and code is one that the contract has."""
        self.require_lackable(path)
        tables = {table.name: table for table in canonical(self.schema_version).tables}
        for name, source in self.tables.items():
            if name not in tables:
                raise UnknownKeyError(path=path, key=f"tables.{name}", hint=f"Tables are: {', '.join(tables)}")
            for column, where in source.columns.items():
                place = f"tables.{name}.columns.{column}"
                if where.public and self.legal_basis != "public_record":
                    problem = "is for public records only; make tokens with: fedcredit node tokenise"
                    raise ConfigValueError(path=path, key=f"{place}.public", problem=problem)
                _require_column(tables[name], column, path=path, place=place)
                _require_fitting(tables[name].column(column), where, path=path, place=place)
            for column in source.absent:
                _require_may_lack(tables[name], column, path=path)
            for column, extra in source.extra.items():
                _require_own_name(column, path=path, place=f"tables.{name}.extra.{column}")
                extra.rule(column, tables[name])


def _require_column(table: CanonicalTable, column: str, *, path: str, place: str) -> None:
    if column not in table or table.column(column).deny:
        known = ", ".join(rule.name for rule in table.accepted)
        raise UnknownKeyError(path=path, key=place, hint=f"Columns of {table.name} are: {known}")


def _require_own_name(column: str, *, path: str, place: str) -> None:
    if not column.startswith(EXTRA_PREFIX):
        raise ConfigValueError(path=path, key=place, problem=f'must begin with "{EXTRA_PREFIX}"')


def _require_may_lack(table: CanonicalTable, column: str, *, path: str) -> None:
    if column not in table or table.column(column).missing == "required":
        problem = f"may not list {column}: the contract requires it, or does not know it"
        raise ConfigValueError(path=path, key=f"tables.{table.name}.absent", problem=problem)


def _require_fitting(rule: ColumnRule, source: ColumnSource, *, path: str, place: str) -> None:
    for key, problem in (*_misfits(rule, source), *_code_misfits(rule, source)):
        raise ConfigValueError(path=path, key=f"{place}.{key}", problem=problem)


def _misfits(rule: ColumnRule, source: ColumnSource) -> Iterator[tuple[str, str]]:
    """Yield each key of a column's source that does not belong to a column of this kind, and why."""
    sizes = units_for(rule.unit)
    if source.unit and source.unit not in sizes:
        yield "unit", f"is no unit of this column; it may be {', '.join(sizes)}" if rule.unit else "has no unit here"
    if source.public and rule.type != "token":
        yield "public", "belongs to a token"
    if source.derived == "fold" and rule.name != "fold":
        yield "derived", "fold is for the column fold"
    if source.derived == "row" and rule.type not in ("id", "token"):
        yield "derived", "row is for an id or a public token"


def _code_misfits(rule: ColumnRule, source: ColumnSource) -> Iterator[tuple[str, str]]:
    allowed = rule.values if rule.type == "category" else ("0", "1")
    if source.codes and rule.type not in ("category", "flag") and rule.name != "y":
        yield "codes", "belong to a category or a flag"
    if not set(source.codes.values()) <= {*allowed, "-1", "-2", "-3", "-4"}:
        yield "codes", f"may lead to {', '.join(allowed)} only"
    if isinstance(source.empty, str) and rule.type != "text":
        yield "empty", "may be a text for a text only"
    if isinstance(source.empty, int) and rule.missing != "typed_missing":
        yield "empty", f"is not for a column that is {rule.missing}"
    if source.typed is not None and rule.missing != "typed_missing":
        yield "typed", f"is not for a column that is {rule.missing}"
