"""``features.toml``: how an institution made the features that it prepares itself, to be checked."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from fedcredit.config.reading import Section, read_toml, validate
from fedcredit.contract.canonical.loading import canonical
from fedcredit.contract.canonical.table import Head
from fedcredit.contract.columns import Items, Text
from fedcredit.errors import UnknownKeyError

FEATURE_FILE: Final = "features.toml"


class FeatureEntry(Section):
    """One prepared feature."""

    heads: Annotated[Items[Head], Field(min_length=1)]
    inputs: Annotated[Items[Text], Field(min_length=1)]
    """``table.column`` of the canonical set."""
    made_by: Literal["copy", "aggregate", "scaling", "bins", "target_encoding"]
    fitted_on: Literal["nothing", "development", "everything"]
    """Which rows a fit saw. ``nothing``: a public formula."""
    fitted_until: datetime.date | None = None
    """Last day of observation that a fit saw; needed where something was fitted."""
    cut: Literal["observation", "month_end", "snapshot"]
    """The newest cell that it reads: known on the day of observation, at that month's end, or at the snapshot."""
    gap_days: Annotated[int, Field(ge=0, le=3650)]
    """Days between its newest cell and the start of the label's window."""


class FeatureRecord(Section):
    """features.toml."""

    schema_version: Annotated[int, Field(ge=1)]
    features: Mapping[str, FeatureEntry]

    @classmethod
    def read(cls, path: Path) -> FeatureRecord:
        """Read a record; every input must be a column of the canonical set.

        Raises:
            ConfigFileMissingError, ConfigSyntaxError, UnknownKeyError, MissingKeyError, ConfigValueError: the file.
            SchemaVersionError: this release does not speak its version.
        """
        raw = read_toml(path, what="record of features", command=f"write {FEATURE_FILE} beside the mapping")
        record = validate(cls, raw, source=str(path))
        known = {f"{table.name}.{c.name}" for table in canonical(record.schema_version).tables for c in table.columns}
        for name, entry in record.features.items():
            for column in entry.inputs:
                if column not in known:
                    hint = "Inputs are written table.column, as in the pages of the data set."
                    raise UnknownKeyError(path=str(path), key=f"features.{name}.inputs.{column}", hint=hint)
        return record
