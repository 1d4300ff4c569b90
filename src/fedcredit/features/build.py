"""The table that training sees, made from an institution's canonical tables as its contract says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from fedcredit.checking.spec import DataSpec
from fedcredit.contract import Contract
from fedcredit.contract.columns import NumberColumn
from fedcredit.data.features import encode
from fedcredit.data.table import CreditTable
from fedcredit.errors import NoRowsError, SchemaVersionError
from fedcredit.features.canary import require_silence
from fedcredit.features.holders import Holders
from fedcredit.features.labels import labelled_rows
from fedcredit.features.names import THROUGH, wanted
from fedcredit.features.reading import Values, columns_of
from fedcredit.features.windows import summarise


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureFrame:
    """One row per observation that is learnt from, in the columns of the contract. Stays at the institution."""

    frame: pa.Table
    left_out: Mapping[str, int]
    """Observations that are not learnt from, by reason."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainingRows:
    """What training sees, and how many observations it does not see, by reason."""

    table: CreditTable
    left_out: Mapping[str, int]


def feature_frame(spec: DataSpec, contract: Contract, modalities: Iterable[str], *, place: str) -> FeatureFrame:
    """Return the features of the ``modalities``, the entity and the label of every observation that is learnt from.

    A feature of a table that the institution lacks is empty in every row.

    Raises:
        ConfigValueError: the contract names a feature that canonical tables do not give, or must not.
        SchemaVersionError: the tables are of another version of the canonical data set than the contract's.
        NoRowsError: no observation has a label of the contract's head.
        DataError: a table no longer reads as it did when it was checked.
    """
    modalities = tuple(modalities)
    asked = wanted(contract, modalities)
    _require_same_version(spec, contract)
    rows = labelled_rows(spec, asked.head)
    if not len(rows.observations):
        raise NoRowsError(place=f"{place} ({contract.label.column})")
    # Read only if there is a table of vehicles, and once for all of them.
    holders, made = cache(lambda: Holders.of(spec)), dict[str, Values]()
    for table, names in asked.tables().items():
        made |= summarise(spec, table, names, rows.observations, holders=holders)
    columns = {
        contract.entity: pa.array(rows.observations.entity, pa.string()),
        contract.label.column: pa.array(rows.labels, pa.int8()),
    }
    ranges = _ranges(contract, modalities)
    for name in asked.names:
        kind = pa.string() if name.is_words else pa.float64()
        # Clipped, not refused: that a node stays away would tell, without noise, that somebody lies outside.
        cells = np.clip(made[name.text], *ranges[name.text]) if name.text in ranges else made[name.text]
        columns[name.text] = pa.array(cells, kind, from_pandas=True)
    return FeatureFrame(frame=pa.table(columns), left_out=rows.left_out)


def held_modalities(spec: DataSpec, contract: Contract) -> tuple[str, ...]:
    """Return the modalities of which an institution has a column at least, in the order of the contract.

    Raises:
        ConfigValueError: as ``feature_frame``.
        DataError: a table cannot be opened.
    """
    everything = [modality.name for modality in contract.modalities]
    asked = wanted(contract, everything)
    there = {table: columns_of(spec, table) for table in asked.tables()}
    there |= {table: frozenset() for table, other in THROUGH.items() if table in there and not columns_of(spec, other)}
    held = {name.text for name in asked.names if name.rule.name in there[name.table]}
    return tuple(
        modality.name for modality in contract.modalities if any(column.name in held for column in modality.columns)
    )


def _ranges(contract: Contract, modalities: Iterable[str]) -> dict[str, tuple[float, float]]:
    """Return the public range of every number of the modalities."""
    return {
        column.name: (column.min, column.max)
        for modality in map(contract.modality, modalities)
        for column in modality.columns
        if isinstance(column, NumberColumn)
    }


def _require_same_version(spec: DataSpec, contract: Contract) -> None:
    if spec.facts.schema_version != contract.tables:
        asked = f"version {contract.tables} (the contract {contract.name})"
        raise SchemaVersionError(asked=asked, spoken=f"version {spec.facts.schema_version} (these tables)")


def training_rows(
    spec: DataSpec, contract: Contract, modalities: Iterable[str], *, place: str, accepted: frozenset[str]
) -> TrainingRows:
    """Return the encoded features of what is learnt from; ``accepted`` are the codes of accepted warnings.

    Raises:
        LeakageCanaryError, StrongFeatureError: a made feature is too strong alone.
        ConfigValueError, NoRowsError, DataError: as ``feature_frame`` and ``data.features.encode``.
    """
    names = tuple(modalities)
    made = feature_frame(spec, contract, names, place=place)
    bad = made.frame[contract.label.column].to_numpy() == contract.label.bad
    require_silence(made.frame, wanted(contract, names).names, bad, accepted=accepted, place=place)
    return TrainingRows(table=encode(made.frame, contract, names, place=place), left_out=made.left_out)
