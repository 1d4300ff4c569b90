"""The configuration of a coordinator."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from fedcredit.config.plan import HoldoutFraction
from fedcredit.config.reading import Section, read_toml, validate

FEDERATION_FILE: Final = "federation.toml"


class RelaySection(Section):
    """The SuperLink that carries sealed bytes."""

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65535)]


class HoldoutSection(Section):
    """The one split of borrowers into training and held-out; the same in every plan, or members refuse the second."""

    salt: Annotated[str, Field(min_length=1, max_length=64)]
    fraction: HoldoutFraction
    out_of_time: datetime.date | None = None
    """First day of observation that nobody trains on; plans on canonical tables need it."""


class FederationConfig(Section):
    """federation.toml."""

    schema_version: Literal[1]
    consortium: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    relay: RelaySection
    holdout: HoldoutSection

    @classmethod
    def read(cls, folder: Path) -> FederationConfig:
        """Read ``folder``/federation.toml."""
        path = folder / FEDERATION_FILE
        raw = read_toml(path, what="coordinator configuration", command=f"fedcredit coord init {folder}")
        return validate(cls, raw, source=str(path))
