"""The consortium simulator as a data set to train on: canonical tables per institution, features made from them."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Final

from fedcredit.checking.spec import read_spec
from fedcredit.contract import VEHICLE_LOANS, Contract, load_contract
from fedcredit.contract.canonical.manifest import MANIFEST_FILE, Manifest
from fedcredit.data.datasets import Dataset, Part
from fedcredit.data.features import encode
from fedcredit.errors import NoRowsError, OneClassError
from fedcredit.features.build import feature_frame, held_modalities
from fedcredit.parties import institution_id
from fedcredit.simulator.generate import INSTITUTIONS, generate

NO_LABEL: Final = "no label of this kind"
ONE_OUTCOME: Final = "one outcome only"


def simulate_dataset(folder: Path, *, scenario: str, scale: str, seed: int) -> Dataset:
    """Write a simulated world to ``folder`` and return it as a data set; the same seed gives the same bytes.

    An institution without labels of this kind, such as an insurer that sees claims only, or with one outcome only is
    left out: it has nothing to learn from.

    Raises:
        UnknownScenarioError: there is no such pack.
        AlreadyExistsError: the folder holds something.
        StorageError: the disk.
    """
    generate(folder, scenario=scenario, scale=scale, seed=seed, tell=lambda *_: None)
    contract = load_contract(VEHICLE_LOANS)
    parts: dict[str, Part] = {}
    left_out: dict[str, str] = {}
    homes = sorted((folder / INSTITUTIONS).iterdir())
    for home in homes:
        try:
            part = _part(home, contract)
        except NoRowsError:
            left_out[home.name.lower()] = NO_LABEL
        except OneClassError:
            left_out[home.name.lower()] = ONE_OUTCOME
        else:
            parts[part.institution] = part
    return Dataset(
        name="simulated",
        title=f"Simulated vehicle lending, scenario {scenario}, scale {scale}",
        provenance="simulated",
        contract=contract,
        parts=MappingProxyType(parts),
        out_of_time=Manifest.read(homes[0] / MANIFEST_FILE).oot_date,
        left_out=MappingProxyType(left_out),
    )


def _part(home: Path, contract: Contract) -> Part:
    spec = read_spec(home)
    everything = [modality.name for modality in contract.modalities]
    complete = feature_frame(spec, contract, everything, place=home.name).frame
    held = held_modalities(spec, contract)
    columns = [contract.entity, contract.label.column]
    for modality in held:
        columns += contract.modality(modality).table_columns()
    table = complete.select(list(dict.fromkeys(columns)))
    encode(table, contract, held, place=home.name)  # what a node could not open is not offered
    return Part(
        institution=institution_id(spec.facts.institution_id),
        kind=spec.facts.type,
        modalities=held,
        table=table,
        complete=complete,
        known_modalities=held,
        canonical=home,
    )
