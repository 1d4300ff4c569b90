"""The real data sets that travel with fedcredit: checked by SHA-256, and divided into institutions.

``sba`` has real institutions (the lenders). In ``taiwan`` and ``german`` borrower segments stand in for institutions;
their names are our reading, and ``provenance`` says so.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedcredit.contract import Contract, load_contract
from fedcredit.errors import ChecksumError, DataFileMissingError, UnknownDatasetError
from fedcredit.parties import InstitutionId, InstitutionType, institution_id
from fedcredit.store.files import write_atomic

Provenance = Literal["real", "real-segments", "simulated"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """The rows of one institution, in the column names of the contract, with entity, label and protected columns."""

    institution: InstitutionId
    kind: InstitutionType
    modalities: tuple[str, ...]
    table: pa.Table
    complete: pa.Table
    """The same rows with the columns of every modality: what no institution that lacks one ever sees. Only an
    experiment that scores models on the whole population may use it. Where nobody knows them, they are empty."""
    known_modalities: tuple[str, ...]
    """Modalities that anybody knows of its borrowers: all of the contract in real data, its own in simulated data."""
    canonical: Path | None = None
    """Where the institution's canonical tables are until its node gets them, if ``table`` was made from them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set divided into institutions."""

    name: str
    title: str
    provenance: Provenance
    """``real``: the institutions are the lenders of the data. ``real-segments``: real rows, our division.
    ``simulated``: nothing is real."""
    contract: Contract
    parts: Mapping[str, Part]
    out_of_time: datetime.date | None = None
    """First day of observation that is in no part; for simulated worlds."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Institutions of the data that cannot learn this label, with the reason."""


@dataclass(frozen=True, kw_only=True)
class _Share:
    institution: str
    kind: InstitutionType
    modalities: tuple[str, ...]
    rows: Callable[[pa.Table], Any]
    """The mask of this institution's rows."""


@dataclass(frozen=True, kw_only=True)
class _Source:
    sha256: str
    provenance: Provenance
    shares: tuple[_Share, ...]


def _between(column: str, above: int, up_to: int) -> Callable[[pa.Table], Any]:
    return lambda table: pc.and_(pc.greater(table[column], above), pc.less_equal(table[column], up_to))


def _one_of(column: str, *values: str) -> Callable[[pa.Table], Any]:
    return lambda table: pc.is_in(table[column], value_set=pa.array(values))


_BOTH: Final = ("application", "repayment")
_APPLICATION: Final = ("application",)

_TAIWAN: Final = (
    _Share(
        institution="bank-a",
        kind=InstitutionType.BANK,
        modalities=_BOTH,
        rows=_between("credit_limit", 140_000, 300_000),
    ),
    _Share(
        institution="auto-lender-b",
        kind=InstitutionType.AUTO_FINANCE,
        modalities=_BOTH,
        rows=_between("credit_limit", 0, 50_000),
    ),
    _Share(
        institution="guarantee-fund-c",
        kind=InstitutionType.GUARANTEE_FUND,
        modalities=_BOTH,
        rows=_between("credit_limit", 50_000, 140_000),
    ),
    _Share(
        institution="insurer-d",
        kind=InstitutionType.INSURER,
        modalities=_APPLICATION,
        rows=_between("credit_limit", 300_000, 10_000_000),
    ),
)

_GERMAN: Final = tuple(
    _Share(institution=institution, kind=kind, modalities=_APPLICATION, rows=_one_of("purpose", *purposes))
    for institution, kind, purposes in (
        ("auto-lender-a", InstitutionType.AUTO_FINANCE, ("A40", "A41")),
        ("retail-bank-b", InstitutionType.BANK, ("A42", "A43", "A44")),
        ("guarantee-fund-c", InstitutionType.GUARANTEE_FUND, ("A49",)),
        ("bank-d", InstitutionType.BANK, ("A45", "A46", "A48", "A410")),
    )
)

_SBA: Final = tuple(
    _Share(institution=name, kind=InstitutionType.BANK, modalities=_APPLICATION, rows=_one_of("lender", name))
    for name in (
        "bank-of-america",
        "bbcn-bank",
        "capital-one",
        "citizens-bank",
        "jpmorgan-chase",
        "pnc-bank",
        "us-bank",
        "wells-fargo",
    )
)

_SOURCES: Final[Mapping[str, _Source]] = MappingProxyType(
    {
        "german": _Source(
            sha256="3a3366ef06b11faa2cb2a8b01354c1e2203ea778c1ff167a5c8806d175019c9d",
            provenance="real-segments",
            shares=_GERMAN,
        ),
        "sba": _Source(
            sha256="dc9b13709e8c95045a114b8ef8f5d9793200f313e705ca336fa04e5f1327682c",
            provenance="real",
            shares=_SBA,
        ),
        "taiwan": _Source(
            sha256="b123ff7deb038c1aa08d38fd94ec9aea2d5497f13060216262a2c0af6461a596",
            provenance="real-segments",
            shares=_TAIWAN,
        ),
    }
)


def dataset_names() -> tuple[str, ...]:
    """Return the names of the data sets that travel with fedcredit."""
    return tuple(_SOURCES)


def load_dataset(name: str) -> Dataset:
    """Return a data set, divided into its institutions; nothing is fetched.

    Raises:
        UnknownDatasetError: no data set has that name.
        DataFileMissingError: the package was installed without its data.
        ChecksumError: the file is not the one that was vendored.
    """
    source = _source(name)
    whole = pq.read_table(pa.BufferReader(_verified(name)))
    contract = load_contract(name)
    whole = _with_tokens(whole, contract.entity, name)
    parts = {share.institution: _part(share, whole, contract) for share in source.shares}
    return Dataset(
        name=name,
        title=contract.title,
        provenance=source.provenance,
        contract=contract,
        parts=MappingProxyType(parts),
    )


def fetch_dataset(name: str, cache_dir: Path) -> Path:
    """Put a verified copy of a data set's Parquet file into ``cache_dir`` and return its path.

    Raises:
        UnknownDatasetError, DataFileMissingError, ChecksumError: as for ``load_dataset``.
        DiskFullError, NotWritableError: the copy could not be written; nothing is half-written.
    """
    data = _verified(name)
    target = cache_dir / f"{name}.parquet"
    write_atomic(target, data)
    return target


def _source(name: str) -> _Source:
    if name not in _SOURCES:
        raise UnknownDatasetError(name=name, known=", ".join(_SOURCES))
    return _SOURCES[name]


def _verified(name: str) -> bytes:
    return verified_bytes(Path(str(resources.files("fedcredit.data"))) / "vendored" / f"{name}.parquet", name)


def verified_bytes(path: Path, name: str) -> bytes:
    """Return the bytes at ``path`` if they are the vendored file of the data set ``name``; raises otherwise."""
    expected = _source(name).sha256
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataFileMissingError(path=str(path), hint="Install fedcredit again: its data files are gone.") from error
    actual = hashlib.sha256(data).hexdigest()
    if actual != expected:
        raise ChecksumError(path=str(path), actual=actual[:12], expected=expected[:12])
    return data


def _with_tokens(table: pa.Table, entity: str, name: str) -> pa.Table:
    if not pa.types.is_integer(table[entity].type):
        return table
    tokens = pc.binary_join_element_wise(name, table[entity].cast(pa.string()), "-")
    return table.set_column(table.column_names.index(entity), entity, tokens)


def _part(share: _Share, whole: pa.Table, contract: Contract) -> Part:
    columns = [contract.entity, contract.label.column, *contract.protected]
    for modality in share.modalities:
        columns += contract.modality(modality).table_columns()
    rows = whole.filter(share.rows(whole))
    return Part(
        institution=institution_id(share.institution),
        kind=share.kind,
        modalities=share.modalities,
        table=rows.select(list(dict.fromkeys(columns))),
        complete=rows,
        known_modalities=tuple(modality.name for modality in contract.modalities),
    )
