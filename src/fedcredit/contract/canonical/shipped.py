"""Mappings of the real data sets that travel with fedcredit; each lies beside its data file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from fedcredit.errors import ConfigFileMissingError
from fedcredit.store.files import write_atomic

_FOLDER = resources.files("fedcredit.contract") / "canonical" / "mappings"
_SUFFIX: Final = ".mapping.toml"


def shipped_mappings() -> tuple[str, ...]:
    """Return the names of the data sets that have a mapping."""
    return tuple(sorted(e.name.removesuffix(_SUFFIX) for e in _FOLDER.iterdir() if e.name.endswith(_SUFFIX)))


def write_shipped_mapping(name: str, folder: Path) -> Path:
    """Write the mapping of a data set and its label map into ``folder``; return the path of the mapping.

    Raises:
        ConfigFileMissingError: no data set of that name has one.
        DiskFullError, NotWritableError: it cannot be written.
    """
    if name not in shipped_mappings():
        known = ", ".join(shipped_mappings())
        raise ConfigFileMissingError(what="shipped mapping", path=name, command=f"use one of {known}")
    for file in (f"{name}.label_map.toml", f"{name}{_SUFFIX}"):
        write_atomic(folder / file, (_FOLDER / file).read_bytes())
    return folder / f"{name}{_SUFFIX}"
