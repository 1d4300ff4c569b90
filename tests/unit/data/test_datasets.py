from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fedcredit.data.datasets import dataset_names, fetch_dataset, load_dataset, verified_bytes
from fedcredit.data.features import encode, feature_spec
from fedcredit.data.tables import read_table
from fedcredit.errors import ChecksumError, DataFileMissingError, UnknownDatasetError
from fedcredit.parties import InstitutionType

# Rows and bad rate of each institution, counted in the carrier packages with pandas, not with this code.
EXPECTED = {
    "german": {
        "auto-lender-a": (337, 0.315),
        "retail-bank-b": (473, 0.262),
        "guarantee-fund-c": (97, 0.351),
        "bank-d": (93, 0.387),
    },
    "taiwan": {
        "bank-a": (10_147, 0.168),
        "auto-lender-b": (7_676, 0.318),
        "guarantee-fund-c": (7_614, 0.247),
        "insurer-d": (4_563, 0.133),
    },
    "sba": {
        "bank-of-america": (86_773, 0.276),
        "bbcn-bank": (22_978, 0.550),
        "capital-one": (22_247, 0.413),
        "citizens-bank": (33_770, 0.223),
        "jpmorgan-chase": (48_131, 0.275),
        "pnc-bank": (27_340, 0.195),
        "us-bank": (35_112, 0.175),
        "wells-fargo": (63_461, 0.141),
    },
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_institutions_have_the_rows_and_the_bad_rate_of_the_source(name: str) -> None:
    dataset = load_dataset(name)
    assert dataset.provenance == ("real" if name == "sba" else "real-segments")
    assert set(dataset.parts) == set(EXPECTED[name])
    for institution, (rows, bad_rate) in EXPECTED[name].items():
        labels = dataset.parts[institution].table[dataset.contract.label.column].to_numpy()
        assert (len(labels), round(float(labels.mean()), 3)) == (rows, bad_rate)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_vendored_row_satisfies_its_contract(name: str) -> None:
    dataset = load_dataset(name)
    spec = feature_spec(dataset.contract)
    for institution, part in dataset.parts.items():
        encoded = encode(part.table, dataset.contract, part.modalities, place=institution)
        assert len(encoded) + encoded.dropped == part.table.num_rows
        for modality, table in encoded.modalities.items():
            assert table.codes.min() >= 0
            assert (table.codes < np.array(spec.modality(modality).bins)).all()
            assert table.dense.shape[1:] == spec.modality(modality).dense_shape
            assert np.abs(table.dense).max() <= 1.0


def test_no_borrower_of_a_divided_set_is_at_two_institutions() -> None:
    tables = [part.table["borrower"].to_pylist() for part in load_dataset("taiwan").parts.values()]
    assert len({token for tokens in tables for token in tokens}) == 30_000 == sum(map(len, tables))


def test_the_insurer_of_taiwan_sees_no_repayment() -> None:
    insurer = load_dataset("taiwan").parts["insurer-d"]
    assert (insurer.kind, insurer.modalities) == (InstitutionType.INSURER, ("application",))
    assert set(insurer.table.column_names) == {
        "borrower",
        "default",
        "sex",
        "age",
        "marriage",
        "credit_limit",
        "education",
    }


def test_a_lender_of_sba_keeps_one_loan_per_borrower() -> None:
    dataset = load_dataset("sba")
    part = dataset.parts["citizens-bank"]
    encoded = encode(part.table, dataset.contract, part.modalities, place="citizens-bank")
    borrowers = set(part.table["borrower"].to_pylist())
    assert set(encoded.entities.tolist()) == borrowers
    assert len(encoded) == len(borrowers) == part.table.num_rows - encoded.dropped


def test_nothing_that_is_known_after_the_decision_is_in_sba() -> None:
    columns = set(load_dataset("sba").parts["bbcn-bank"].table.column_names)
    assert not columns & {"term", "charge_off_date", "charge_off_amount", "balance", "name", "lender"}


def test_a_part_written_to_a_file_reads_as_in_memory(tmp_path: Path) -> None:
    dataset = load_dataset("german")
    part = dataset.parts["bank-d"]
    pq.write_table(part.table, tmp_path / "bank-d.parquet")
    read = read_table(tmp_path / "bank-d.parquet", dataset.contract, modalities=part.modalities)
    encoded = encode(part.table, dataset.contract, part.modalities, place="bank-d")
    np.testing.assert_array_equal(read.modalities["application"].codes, encoded.modalities["application"].codes)


def test_a_fetched_copy_is_the_vendored_file(tmp_path: Path) -> None:
    path = fetch_dataset("german", tmp_path)
    assert path == tmp_path / "german.parquet"
    assert verified_bytes(path, "german") == path.read_bytes()


def test_one_changed_byte_is_noticed_before_use(tmp_path: Path) -> None:
    path = fetch_dataset("german", tmp_path)
    changed = bytearray(path.read_bytes())
    changed[1000] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ChecksumError) as caught:
        verified_bytes(path, "german")
    assert caught.value.fields["actual"] == hashlib.sha256(changed).hexdigest()[:12]


def test_a_set_that_does_not_exist_or_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownDatasetError, match="gemran"):
        load_dataset("gemran")
    with pytest.raises(DataFileMissingError):
        verified_bytes(tmp_path / "german.parquet", "german")
    assert dataset_names() == ("german", "sba", "taiwan")
