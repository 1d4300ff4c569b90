"""``manifest.toml``: what a data folder says about itself, so that a changed or half-copied file is noticed."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeAlias

import tomlkit
from pydantic import Field, model_validator

from fedcredit.config.reading import Section, read_toml, validate
from fedcredit.contract.canonical.loading import canonical
from fedcredit.contract.canonical.table import Kind
from fedcredit.contract.columns import Items, Text
from fedcredit.errors import ConfigValueError
from fedcredit.parties import institution_id
from fedcredit.store.files import write_atomic

MANIFEST_FILE: Final = "manifest.toml"
ALWAYS_HELD: Final = ("entity", "contract", "observation", "outcome")
"""Tables without which nothing can be trained, whatever the type of institution."""
TokenMethod: TypeAlias = Literal["hmac-sha256", "oprf", "none-synthetic", "none-public-record"]
"""How tokens were made. A hash without a key is refused: 18-digit ids can all be tried in an afternoon. The last two
are for made-up people, and for published records that name nobody."""
LegalBasis: TypeAlias = Literal["contract", "consent", "legal_duty", "public_record", "synthetic"]


class FolderFacts(Section):
    """What a data folder or a mapping says about the tables as a whole."""

    schema_version: Annotated[int, Field(ge=1)]
    institution_id: str
    type: Kind
    snapshot_date: datetime.date
    """Day on which the tables were taken; nothing in them is later."""
    oot_date: datetime.date
    """First day of observation of the out-of-time part: one day for the whole consortium."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    """ISO 4217; money columns are in it. Medians of money are compared with what is expected only for CNY."""
    data_owner: Text
    """A post or department that answers for the data, not a person."""
    legal_basis: LegalBasis
    token_method: TokenMethod
    lacking: Items[str] = ()
    """Tables that this type of institution usually holds and this one does not, said aloud."""

    @model_validator(mode="after")
    def _facts(self) -> Self:
        if self.oot_date > self.snapshot_date:
            raise ValueError("oot_date lies behind snapshot_date")
        unkeyed = {"none-synthetic": "synthetic", "none-public-record": "public_record"}.get(self.token_method)
        if (unkeyed is not None or self.legal_basis in ("synthetic", "public_record")) and unkeyed != self.legal_basis:
            raise ValueError(
                "token_method and legal_basis do not fit: tokens without a key are for made-up people only"
            )
        institution_id(self.institution_id)
        return self

    def require_lackable(self, path: str) -> None:
        """Raise ``ConfigValueError`` unless every table that is said to be lacking is one that may be."""
        tables = [table.name for table in canonical(self.schema_version).tables]
        for name in self.lacking:
            if name not in tables:
                problem = f'may not list "{name}", which is no table; there are {", ".join(tables)}'
                raise ConfigValueError(path=path, key="lacking", problem=problem)
            if name in ALWAYS_HELD:
                problem = f'may not list "{name}": without {", ".join(ALWAYS_HELD)} nothing can be trained'
                raise ConfigValueError(path=path, key="lacking", problem=problem)


class FileEntry(Section):
    """One table of the folder."""

    path: Text
    """Relative to the manifest; a file, or a folder of Parquet files."""
    rows: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """See ``digest_of``."""


def files_at(path: Path) -> tuple[Path, ...]:
    """Return the file at ``path``, or a folder's Parquet files in the order of their names; nothing for nothing."""
    if path.is_dir():
        return tuple(sorted(path.rglob("*.parquet"), key=lambda file: file.relative_to(path).as_posix()))
    return (path,) if path.is_file() else ()


def digest_of(path: Path) -> str:
    """Return SHA-256 of the file at ``path``; of a folder, over a line "SHA-256, two blanks, name" for each file.

    Raises:
        OSError: a file cannot be read.
    """
    if not path.is_dir():
        return _sha256(path)
    lines = "".join(f"{_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files_at(path))
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Manifest(FolderFacts):
    """manifest.toml."""

    tables: Annotated[Mapping[str, FileEntry], Field(min_length=1)]

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            ConfigFileMissingError, ConfigSyntaxError, UnknownKeyError, MissingKeyError, ConfigValueError: the file.
            SchemaVersionError: this release does not speak its version.
        """
        raw = read_toml(path, what="manifest of the data folder", command=f"fedcredit node check-data {path.parent}")
        found = validate(cls, raw, source=str(path))
        found.require_lackable(str(path))
        return found

    def write(self, path: Path) -> None:
        """Write the manifest whole.

        Raises:
            DiskFullError, NotWritableError: an older file is as it was.
        """
        content = self.model_dump(exclude={"tables"}) | {"type": str(self.type)}
        content["tables"] = {name: entry.model_dump() for name, entry in self.tables.items()}
        write_atomic(path, tomlkit.dumps(content).encode("utf-8"))
