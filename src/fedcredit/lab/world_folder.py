"""A folder that ``lab simulate`` wrote, read again: is it still what it was, and who holds what in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fedcredit.config.reading import read_toml
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.manifest import MANIFEST_FILE, Manifest, digest_of, files_at
from fedcredit.errors import NotSimulatedError
from fedcredit.simulator.generate import INSTITUTIONS, SIMULATION_FILE, VERSION

MODALITIES: Final = ("APP", "bureau", "REP", "VEH", "TEL", "CON", "ENT", "EQP", "CLM")
_KEYS: Final = {
    "REP": ("rep_monthly", "contract_id"),
    "VEH": ("veh", "vin_tok"),
    "TEL": ("tel_daily", "vin_tok"),
    "CON": ("con", "vin_tok"),
    "ENT": ("ent_monthly", "entity_tok"),
    "EQP": ("eqp", "entity_tok"),
    "CLM": ("pol", "vin_tok"),
}
_COLUMNS: Final = ["contract_id", "entity_tok", "vin_tok", "decision", "age_y", "bureau_score"]


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """What ``simulation.toml`` says."""

    folder: Path
    scenario: str
    title: str
    scale: str
    seed: int
    accepted: Mapping[str, int]
    policies: Mapping[str, int]

    @property
    def institutions(self) -> tuple[str, ...]:
        """Return the names of the institutions, lenders and funds first."""
        return (*self.accepted, *self.policies)


def read_simulation(folder: Path) -> Simulation:
    """Return what a folder says about itself.

    Raises:
        ConfigFileMissingError, ConfigSyntaxError: there is no ``simulation.toml``, or it is not TOML.
        NotSimulatedError: a field is missing.
    """
    command = f"fedcredit lab simulate --out {folder}"
    raw: Mapping[str, Any] = read_toml(folder / SIMULATION_FILE, what="simulated world", command=command)
    names = ("scenario", "title", "scale", "seed", "accepted", "policies")
    if missing := [name for name in names if name not in raw]:
        raise NotSimulatedError(path=str(folder), problem=f"{SIMULATION_FILE} lacks {missing[0]}")
    return Simulation(folder=folder, **{name: raw[name] for name in names})


def require_untouched(simulation: Simulation) -> int:
    """Compare every table with its manifest and return how many were compared.

    Raises:
        NotSimulatedError: a file is missing or another one.
    """
    compared = 0
    for institution in simulation.institutions:
        home = simulation.folder / INSTITUTIONS / institution
        manifest = Manifest.read(home / MANIFEST_FILE)
        for name, entry in manifest.tables.items():
            path = home / entry.path
            if not files_at(path):
                raise NotSimulatedError(path=str(simulation.folder), problem=f"{institution} has no {name}")
            if digest_of(path) != entry.sha256:
                problem = f"{institution}'s {name} is not what was written"
                raise NotSimulatedError(path=str(simulation.folder), problem=problem)
            compared += 1
    return compared


def holdings(simulation: Simulation) -> np.ndarray:
    """Return (institutions, len(MODALITIES)): for which share of contracts each modality is held.

    Declined applications do not count. ENT and EQP are over the contracts of businesses.
    """
    return np.array([_of_institution(simulation.folder / INSTITUTIONS / name) for name in simulation.institutions])


def _of_institution(home: Path) -> list[float]:
    place = home / "contract.parquet"
    there = set(pq.read_schema(place).names)
    contracts = pq.read_table(place, columns=[name for name in _COLUMNS if name in there])
    contracts = contracts.filter(pc.equal(contracts["decision"], "approve"))
    entities = pq.read_table(home / "entity.parquet", columns=["entity_tok", "ent_type"])
    businesses = entities.filter(pc.not_equal(entities["ent_type"], "consumer"))["entity_tok"]
    cells = {"APP": "age_y", "bureau": "bureau_score"}
    shares = {
        modality: _mean(pc.greater(contracts[column], 0)) if column in there else 0.0
        for modality, column in cells.items()
    }
    for modality, (table, key) in _KEYS.items():
        path = home / canonical(VERSION).table(table).file
        if not path.exists():
            shares[modality] = 0.0
            continue
        held = pc.unique(pq.read_table(path, columns=[key])[key])
        chosen = contracts
        if modality in ("ENT", "EQP"):
            chosen = contracts.filter(pc.is_in(contracts["entity_tok"], value_set=businesses.combine_chunks()))
        shares[modality] = _mean(pc.is_in(chosen[key], value_set=held))
    return [shares[modality] for modality in MODALITIES]


def _mean(flags: pa.ChunkedArray) -> float:
    return float(pc.mean(pc.cast(flags, pa.float64())).as_py() or 0.0)
