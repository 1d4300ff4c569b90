"""From checked columns to features: which bins there are (public), and which bin each row falls into."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from fedcredit.contract import Contract, Modality
from fedcredit.contract.columns import Derived
from fedcredit.data.bins import bin_codes, bin_labels, bin_unit, is_nominal
from fedcredit.data.columns import (
    Numbers,
    check_columns,
    needed_columns,
    none_missing,
    read_entities,
    read_labels,
    read_modality,
)
from fedcredit.data.dense import dense_layers, dense_names, dense_parts
from fedcredit.data.derived import DERIVATIONS
from fedcredit.data.entities import one_observation_per_entity
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.errors import ConfigValueError, NoRowsError, OneClassError


@dataclass(frozen=True, kw_only=True)
class FeatureBins:
    """One scorecard feature and the text of each of its bins."""

    name: str
    unit: str
    """Empty for a category or a cross."""
    labels: tuple[str, ...]
    nominal: bool
    """The bins have no order of their own."""

    @property
    def bins(self) -> int:
        """Return the number of bins; codes run from 0 to one less."""
        return len(self.labels)


@dataclass(frozen=True, kw_only=True)
class ModalitySpec:
    """The public shape of one modality in both forms."""

    name: str
    kind: Literal["static", "sequence"]
    features: tuple[FeatureBins, ...]
    dense_names: tuple[str, ...]
    """Names of the last axis of the dense array."""
    dense_shape: tuple[int, ...]
    """(p,) or (T, c)."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Return the scorecard features in the order of the codes."""
        return tuple(feature.name for feature in self.features)

    @property
    def bins(self) -> tuple[int, ...]:
        """Return the number of bins of each feature."""
        return tuple(feature.bins for feature in self.features)

    @property
    def nominal(self) -> tuple[bool, ...]:
        """Return which features have bins without an order."""
        return tuple(feature.nominal for feature in self.features)


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """What a contract makes of its columns; public, and the same at every institution."""

    modalities: tuple[ModalitySpec, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the modalities."""
        return tuple(modality.name for modality in self.modalities)

    def modality(self, name: str) -> ModalitySpec:
        """Return the modality of that name; any other name raises ``ConfigValueError``."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise ConfigValueError(path="features", key="modalities", problem=f'has no "{name}"')


def feature_spec(contract: Contract) -> FeatureSpec:
    """Return the features of a contract.

    Raises:
        ConfigValueError: a derived feature names an unknown function, or gives it the wrong inputs.
    """
    return FeatureSpec(modalities=tuple(_modality_spec(contract, modality) for modality in contract.modalities))


def encode(frame: pa.Table, contract: Contract, modalities: Iterable[str], *, place: str) -> CreditTable:
    """Return the rows of ``frame`` as features of the ``modalities``; ``place`` names the table in errors.

    The unit of privacy is the borrower, so exactly one row of each borrower stays (``dropped`` counts the rest).
    Columns that the contract does not know, and protected ones, are not looked at.

    Raises:
        MissingColumnError, WrongColumnTypeError, MissingValueError, ValueRangeError, MissingEntityError: the table.
        NoRowsError, OneClassError: there is nothing to learn from.
        ConfigValueError: a modality or a derived function is unknown.
    """
    names = tuple(dict.fromkeys(modalities))
    if not names:
        raise ConfigValueError(path=place, key="modalities", problem="must name at least one")
    specs = {name: _modality_spec(contract, contract.modality(name)) for name in names}
    check_columns(frame.column_names, needed_columns(contract, names), place=place)
    if frame.num_rows == 0:
        raise NoRowsError(place=place)
    entities = read_entities(frame, contract, place=place)
    labels = read_labels(frame, contract, place=place)
    raw = {name: read_modality(frame, contract.modality(name), place=place) for name in names}
    keep = one_observation_per_entity(entities, [cells for part in raw.values() for cells in part.values()])
    if len(set(labels[keep].tolist())) < 2:
        raise OneClassError(rows=len(keep), place=place)
    parts = {
        name: _encode_modality(
            contract.modality(name), specs[name], {key: cells[keep] for key, cells in raw[name].items()}, place=place
        )
        for name in names
    }
    return CreditTable(entities=entities[keep], labels=labels[keep], modalities=parts, dropped=len(labels) - len(keep))


def _modality_spec(contract: Contract, modality: Modality) -> ModalitySpec:
    for part in modality.derived:
        _check_function(contract, modality, part)
    features = tuple(
        FeatureBins(
            name=name,
            unit=bin_unit(modality, name),
            labels=bin_labels(modality, name),
            nominal=is_nominal(modality, name),
        )
        for name in modality.scorecard
    )
    layers = tuple(name for part in dense_parts(modality) for name in dense_names(part))
    shape = (len(layers),) if modality.kind == "static" else (modality.steps, len(layers))
    return ModalitySpec(
        name=modality.name, kind=modality.kind, features=features, dense_names=layers, dense_shape=shape
    )


def _check_function(contract: Contract, modality: Modality, part: Derived) -> None:
    key = f"modalities.{modality.name}.derived.{part.name}"
    known = DERIVATIONS.get(part.function)
    if known is None:
        problem = f"must be one of {', '.join(DERIVATIONS)}"
        raise ConfigValueError(path=contract.name, key=f"{key}.function", problem=problem)
    if len(part.inputs) != known.inputs:
        raise ConfigValueError(path=contract.name, key=f"{key}.inputs", problem=f"must be {known.inputs}")
    if known.kind == "sequence" and modality.steps < 2:
        raise ConfigValueError(path=contract.name, key=f"{key}.function", problem="needs a sequence of steps")
    per_step = known.kind == "any" and modality.kind == "sequence"
    if part.grid and per_step:
        raise ConfigValueError(path=contract.name, key=f"{key}.grid", problem="does not fit a number per step")
    if part.dense and modality.kind == "sequence" and not per_step:
        raise ConfigValueError(path=contract.name, key=f"{key}.dense", problem="needs a number per step")


def _encode_modality(modality: Modality, spec: ModalitySpec, cells: dict[str, Numbers], *, place: str) -> ModalityTable:
    derived = {
        part.name: DERIVATIONS[part.function].function(*(cells[name] for name in part.inputs))
        for part in modality.derived
    }
    none_missing(derived, (part.name for part in modality.derived if part.missing == "required"), place=place)
    values = {**cells, **derived}
    rows = len(next(iter(values.values())))
    codes = [bin_codes(modality, name, values) for name in modality.scorecard]
    dense = [layer for column in dense_parts(modality) for layer in dense_layers(column, values[column.name])]
    return ModalityTable(
        codes=np.stack(codes, axis=1) if codes else np.zeros((rows, 0), np.int16),
        dense=np.stack(dense, axis=-1) if dense else np.zeros((rows, *spec.dense_shape), np.float32),
    )
