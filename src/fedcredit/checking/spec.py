"""What is to be checked: the tables with their sources, from a data folder's manifest or from a mapping."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedcredit.contract.canonical import CanonicalTable, canonical
from fedcredit.contract.canonical.feature_record import FEATURE_FILE, FeatureRecord
from fedcredit.contract.canonical.label_map import LABEL_MAP_FILE, LabelMap
from fedcredit.contract.canonical.manifest import MANIFEST_FILE, FolderFacts, Manifest
from fedcredit.contract.canonical.mapping import MAPPING_FILE, DataMapping, TableSource
from fedcredit.errors import ConfigFileMissingError, ConfigValueError


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One table and where it comes from."""

    table: CanonicalTable
    place: str
    """What findings call it: the path as the operator wrote it, or "database"."""
    path: Path | None
    """``None`` for a database."""
    source: TableSource
    mapped: bool
    """Whether ``source.columns`` names the columns; otherwise they have the canonical names already."""
    rows: int | None = None
    """What the manifest says, if there is one."""
    sha256: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Everything that one check reads."""

    facts: FolderFacts
    tables: tuple[TableSpec, ...]
    """In the order in which they refer to each other."""
    label_map: LabelMap | None
    label_map_place: str
    features: FeatureRecord | None
    features_place: str


def read_spec(target: Path) -> DataSpec:
    """Return what there is to check at ``target``: a mapping, a manifest, or a folder that holds one.

    A folder with both has its tables in its manifest; a mapping is for tables elsewhere.

    Raises:
        ConfigFileMissingError: neither is there.
        SetupError, SchemaVersionError: a file does not hold; the place is named.
    """
    if target.is_file():
        return from_mapping(target) if target.name != MANIFEST_FILE else from_manifest(target)
    for name, reader in ((MANIFEST_FILE, from_manifest), (MAPPING_FILE, from_mapping)):
        if (target / name).exists():
            return reader(target / name)
    command = "fedcredit node init NODE --name NAME --type TYPE"
    raise ConfigFileMissingError(what="manifest.toml or mapping.toml", path=str(target), command=command)


def from_manifest(path: Path) -> DataSpec:
    """Return the check of a data folder in canonical form."""
    manifest = Manifest.read(path)
    known = {table.name: table for table in canonical(manifest.schema_version).tables}
    for name in manifest.tables:
        if name not in known:
            raise ConfigValueError(
                path=str(path), key=f"tables.{name}", problem=f"is no table; there are {_list(known)}"
            )
    tables = tuple(
        TableSpec(
            table=known[name],
            place=manifest.tables[name].path,
            path=path.parent / manifest.tables[name].path,
            source=TableSource(file=manifest.tables[name].path, columns={}, typed=True),
            mapped=False,
            rows=manifest.tables[name].rows,
            sha256=manifest.tables[name].sha256,
        )
        for name in known
        if name in manifest.tables
    )
    labels, features = path.parent / LABEL_MAP_FILE, path.parent / FEATURE_FILE
    return _spec(manifest, tables, labels if labels.exists() else None, features if features.exists() else None)


def from_mapping(path: Path) -> DataSpec:
    """Return the check of an institution's own tables."""
    mapping = DataMapping.read(path)
    tables = tuple(
        TableSpec(
            table=table,
            place=mapping.tables[table.name].file or f"database ({table.name})",
            path=path.parent / mapping.tables[table.name].file if mapping.tables[table.name].file else None,
            source=mapping.tables[table.name],
            mapped=True,
        )
        for table in canonical(mapping.schema_version).tables
        if table.name in mapping.tables
    )
    labels = path.parent / mapping.label_map if mapping.label_map else None
    features = path.parent / mapping.feature_record if mapping.feature_record else None
    return _spec(mapping, tables, labels, features)


def _spec(facts: FolderFacts, tables: tuple[TableSpec, ...], labels: Path | None, features: Path | None) -> DataSpec:
    return DataSpec(
        facts=facts,
        tables=tables,
        label_map=LabelMap.read(labels) if labels else None,
        label_map_place=labels.name if labels else LABEL_MAP_FILE,
        features=FeatureRecord.read(features) if features else None,
        features_place=features.name if features else FEATURE_FILE,
    )


def _list(names: dict[str, CanonicalTable]) -> str:
    return ", ".join(names)
