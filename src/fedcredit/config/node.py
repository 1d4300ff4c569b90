"""The private configuration of one institution; nothing of it ever leaves."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

import tomlkit
from pydantic import Field

from fedcredit.config.plan import Kind, Positive, Real
from fedcredit.config.reading import Section, read_toml, validate
from fedcredit.parties import InstitutionId, institution_id
from fedcredit.store.files import write_atomic

NODE_FILE: Final = "node.toml"


class DataSection(Section):
    """Where the institution's own table lies."""

    path: str
    """Relative to the folder of node.toml. Parquet or CSV in the contract's columns; or, for a contract on canonical
    tables such as vehicle-loans, the data folder with its manifest, or the mapping of the institution's own tables."""
    contract: str
    modalities: Annotated[tuple[str, ...], Field(min_length=1, strict=False)]
    accept: Annotated[tuple[Annotated[str, Field(pattern=r"^FC-5\d{3}$")], ...], Field(strict=False)] = ()
    """Codes of the warnings about canonical tables that a person has looked at and accepted."""


class BudgetSection(Section):
    """The most that this institution ever spends on this data set, over all runs."""

    epsilon: Positive
    delta: Annotated[Real, Field(gt=0, lt=0.001)]
    holdout_epsilon: Positive


class PolicySection(Section):
    """What the institution agrees to beyond an approved plan. The defaults refuse."""

    allow_no_privacy: bool = False
    allow_fixed_noise: bool = False


class NodeConfig(Section):
    """node.toml."""

    schema_version: Literal[1]
    institution: str
    kind: Kind
    data: DataSection
    budget: BudgetSection
    policy: PolicySection = PolicySection()

    @classmethod
    def read(cls, folder: Path) -> NodeConfig:
        """Read ``folder``/node.toml; the institution's name is checked too."""
        path = folder / NODE_FILE
        raw = read_toml(path, what="node configuration", command=f"fedcredit node init {folder}")
        config = validate(cls, raw, source=str(path))
        institution_id(config.institution)
        return config

    @property
    def name(self) -> InstitutionId:
        """Return the institution's identifier."""
        return InstitutionId(self.institution)


def write_budget(folder: Path, *, key: str, value: float) -> None:
    """Set one key of [budget] in ``folder``/node.toml, mode 0600; comments and everything else stay as they are.

    Raises:
        DiskFullError, NotWritableError: the file is as it was.
    """
    _write(folder, "budget", key, value)


def write_accepted(folder: Path, codes: Collection[str]) -> None:
    """Set the accepted warnings in ``folder``/node.toml; otherwise as ``write_budget``."""
    _write(folder, "data", "accept", sorted(codes))


def _write(folder: Path, section: str, key: str, value: object) -> None:
    path = folder / NODE_FILE
    document = tomlkit.parse(path.read_bytes().decode("utf-8"))
    cast("Any", document)[section][key] = value
    write_atomic(path, tomlkit.dumps(document).encode("utf-8"), mode=0o600)
