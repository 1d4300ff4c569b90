"""An institution's own tables on the way to training: checked first, then made into features."""

from __future__ import annotations

from pathlib import Path

from fedcredit.checking.check import check_data
from fedcredit.checking.guards import fingerprints
from fedcredit.checking.spec import read_spec
from fedcredit.config.node import NodeConfig
from fedcredit.contract import Contract
from fedcredit.errors import TableChangedError
from fedcredit.features.build import training_rows
from fedcredit.institution.holdings import Holdings


def own_holdings(folder: Path, config: NodeConfig, contract: Contract, *, scratch: Path) -> Holdings:
    """Return what the node in ``folder`` trains on, made from tables that have just passed their check.

    Raises:
        DataRefusedError, UnacceptedWarningError: they did not; node.toml holds the warnings that are accepted.
        TableChangedError: a file is not the one that was checked. A database cannot be held still.
        SetupError, DataError: as ``read_spec`` and ``features.build.training_rows``.
    """
    spec = read_spec(folder / config.data.path)
    before = fingerprints(spec)
    report = check_data(spec, scratch=scratch)
    data, accepted = config.data, frozenset(config.data.accept)
    report.require_accepted(accepted, command=f"fedcredit node check-data {folder}")
    made = training_rows(spec, contract, data.modalities, place=data.path, accepted=accepted)
    for place, digest in fingerprints(spec).items():
        if before[place] != digest:
            raise TableChangedError(path=place)
    return Holdings(institution=config.name, contract=contract, table=made.table, out_of_time=spec.facts.oot_date)
