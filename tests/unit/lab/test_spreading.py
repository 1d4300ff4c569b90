"""The same real rows in other hands: nobody is lost, nobody is twice anywhere, and the seed decides who goes where."""

from __future__ import annotations

import pytest

from fedcredit.data.datasets import Dataset, load_dataset
from fedcredit.errors import UsageError
from fedcredit.lab.spreading import spread


@pytest.fixture(scope="module")
def german() -> Dataset:
    return load_dataset("german")


def borrowers(dataset: Dataset) -> dict[str, list[str]]:
    column = dataset.contract.entity
    return {name: part.table[column].to_pylist() for name, part in dataset.parts.items()}


@pytest.mark.parametrize("institutions", [2, 3, 10])
def test_every_borrower_is_at_exactly_one_institution(german: Dataset, institutions: int) -> None:
    parts = borrowers(spread(german, institutions, seed=1))
    assert list(parts) == [f"bank-{number:02d}" for number in range(1, institutions + 1)]
    everybody = [name for part in parts.values() for name in part]
    assert sorted(everybody) == sorted(name for part in borrowers(german).values() for name in part)
    assert len(set(everybody)) == len(everybody) == 1000
    # 1000 rows in 10 parts: 100 each with a deviation below 10, so within six of them.
    assert all(abs(len(part) - 1000 / institutions) < 6 * (1000 / institutions) ** 0.5 for part in parts.values())


def test_the_seed_decides_and_nothing_else(german: Dataset) -> None:
    first, again, other = (borrowers(spread(german, 4, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_everybody_holds_every_modality_and_the_division_is_said_to_be_made_up(german: Dataset) -> None:
    dataset = spread(german, 3, seed=1)
    every = tuple(modality.name for modality in german.contract.modalities)
    assert {part.modalities for part in dataset.parts.values()} == {every}
    assert all(part.table is part.complete for part in dataset.parts.values())
    assert dataset.provenance == "real-segments"


@pytest.mark.parametrize("institutions", [-1, 0, 1, 51])
def test_a_number_of_institutions_out_of_range_is_refused(german: Dataset, institutions: int) -> None:
    with pytest.raises(UsageError):
        spread(german, institutions, seed=1)
