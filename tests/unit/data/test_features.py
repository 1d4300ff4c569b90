from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fedcredit.contract import Contract, load_contract, shipped_contracts
from fedcredit.data.features import encode, feature_spec
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.errors import ConfigValueError, MissingValueError, NoRowsError, OneClassError

BOTH = ("application", "repayment")
MakeContract = Callable[..., Contract]
MakeTable = Callable[..., pa.Table]
MakeColumns = Callable[..., dict[str, Any]]


def test_the_bins_have_texts_for_people(contract: MakeContract) -> None:
    spec = feature_spec(contract()).modality("application")
    labels = {feature.name: feature.labels for feature in spec.features}
    assert labels["amount"] == ("< 10", "10 to < 50", ">= 50")
    assert labels["income"] == ("< 5", ">= 5", "missing")
    assert labels["use"] == ("car", "house", "missing")
    assert labels["place"] == ("north", "south", "missing")
    assert labels["amount_by_use"][:4] == ("< 10 | car", "< 10 | house", "< 10 | missing", "10 to < 50 | car")
    assert spec.bins == (3, 3, 3, 3, 4, 9)
    assert [feature.unit for feature in spec.features] == ["EUR", "EUR", "", "", "amount / income", ""]


def test_a_spec_knows_its_modalities_and_features_by_name(contract: MakeContract) -> None:
    spec = feature_spec(contract())
    assert spec.names == BOTH
    assert spec.modality("repayment").feature_names == ("worst",)
    with pytest.raises(ConfigValueError, match="telematics"):
        spec.modality("telematics")


def test_bins_of_categories_and_crosses_have_no_order_of_their_own(contract: MakeContract) -> None:
    spec = feature_spec(contract())
    # amount, income, use, place, burden, amount_by_use; and the sequence's worst
    assert spec.modality("application").nominal == (False, False, True, True, False, True)
    assert spec.modality("repayment").nominal == (False,)
    assert [feature.nominal for feature in spec.modality("application").features] == list(
        spec.modality("application").nominal
    )
    inputs = model_inputs(contract())
    assert inputs["application"].nominal == (False, False, True, True, False, True)
    assert inputs["application"].bins == spec.modality("application").bins


def test_each_cell_falls_into_its_bin_and_a_missing_one_into_the_last(contract: MakeContract, table: MakeTable) -> None:
    codes = encode(table(), contract(), BOTH, place="t").modalities["application"].codes
    assert codes.tolist() == [
        [0, 1, 0, 0, 0, 0],  # 5; 10; car; north; 0.5; bin 0 of amount and 0 of use
        [1, 2, 1, 2, 3, 4],  # 10 is the lower end of its bin; no income; house; an unlisted place; no ratio
        [2, 1, 2, 2, 2, 8],  # 99; 9; no use; no place; 11
    ]


def test_a_sequence_is_encoded_from_its_channels(contract: MakeContract, table: MakeTable) -> None:
    spec = feature_spec(contract()).modality("repayment")
    part = encode(table(), contract(), BOTH, place="t").modalities["repayment"]
    assert part.codes.tolist() == [[0], [2], [3]]
    assert (spec.dense_names, spec.dense_shape) == (("late", "late missing", "share", "share missing"), (2, 4))
    expected = [
        [[-1, 0, -1, 0], [-1, 0, -1, 0]],
        [[1, 0, 1, 0], [1, 0, 1, 0]],  # 40 and 20 days are clipped to 10; days / EUR to 1
        [[0, 1, 0, 1], [-0.4, 0, 2 * 3 / 99 - 1, 0]],
    ]
    np.testing.assert_allclose(part.dense, expected, atol=1e-6)


def test_dense_columns_are_scaled_by_the_constants_of_the_contract(contract: MakeContract, table: MakeTable) -> None:
    spec = feature_spec(contract()).modality("application")
    part = encode(table(), contract(), BOTH, place="t").modalities["application"]
    assert spec.dense_names == ("amount", "income", "income missing", "use=1", "use=2", "use missing")
    assert spec.dense_shape == (6,)
    first = [-0.9, 2 * math.log(11) / math.log(100) - 1, 0, 1, 0, 0]
    second = [-0.8, 0, 1, 0, 1, 0]
    third = [0.98, 2 * math.log(10) / math.log(100) - 1, 0, 0, 0, 1]
    np.testing.assert_allclose(part.dense, [first, second, third], atol=1e-6)


@pytest.mark.parametrize("name", shipped_contracts())
def test_every_shipped_contract_makes_features(name: str) -> None:
    spec = feature_spec(load_contract(name))
    for modality in spec.modalities:
        assert len(modality.features) >= 2
        assert all(2 <= bins <= 60 for bins in modality.bins)
        assert modality.dense_shape[-1] == len(modality.dense_names) == len(set(modality.dense_names)) > 0


def test_labels_are_one_for_bad(contract: MakeContract, table: MakeTable) -> None:
    assert encode(table(), contract(), ("application",), place="t").labels.tolist() == [0, 1, 0]


def test_a_modality_that_is_not_asked_for_is_absent_and_its_columns_are_not_needed(
    contract: MakeContract, columns: Callable[..., dict[str, Any]]
) -> None:
    cells = columns()
    del cells["late_1"]
    encoded = encode(pa.table(cells), contract(), ("application",), place="t")
    assert tuple(encoded.modalities) == ("application",)


def test_a_protected_column_changes_nothing(contract: MakeContract, table: MakeTable) -> None:
    one = encode(table(), contract(), BOTH, place="t")
    other = encode(table(age=[99, None, -3]), contract(), BOTH, place="t")
    for name in BOTH:
        np.testing.assert_array_equal(one.modalities[name].codes, other.modalities[name].codes)
        np.testing.assert_array_equal(one.modalities[name].dense, other.modalities[name].dense)


def test_one_row_per_borrower_stays(contract: MakeContract, table: MakeTable) -> None:
    by_borrower = encode(table(who=["a", "b", "a"]), contract(), BOTH, place="t")
    assert (sorted(by_borrower.entities.tolist()), by_borrower.dropped) == (["a", "b"], 1)


def test_a_borrower_with_ten_thousand_rows_counts_once(contract: MakeContract, columns: MakeColumns) -> None:
    # The bound of every sum is per borrower; a file that repeats one must not make it heavier.
    few = encode(pa.table(columns()), contract(), BOTH, place="t")
    many = {
        name: [*cells[:1] * 3_000, cells[1], *cells[:1] * 4_000, cells[2], *cells[:1] * 3_000]
        for name, cells in columns().items()
    }
    encoded = encode(pa.table(many), contract(), BOTH, place="t")
    assert (len(encoded), encoded.dropped) == (3, 9_999)
    assert sorted(encoded.entities.tolist()) == few.entities.tolist() == ["a", "b", "c"]
    order = np.argsort(encoded.entities)
    assert encoded.labels[order].tolist() == few.labels.tolist()
    for name in BOTH:
        np.testing.assert_array_equal(encoded.modalities[name].codes[order], few.modalities[name].codes)
        np.testing.assert_array_equal(encoded.modalities[name].dense[order], few.modalities[name].dense)


def test_ten_thousand_different_rows_of_a_borrower_count_once_too(contract: MakeContract, columns: MakeColumns) -> None:
    rows = 10_000
    cells = {name: [values[0]] * rows + [values[1]] for name, values in columns().items()}
    cells["amount"] = [number % 101 for number in range(rows)] + [10]
    encoded = encode(pa.table(cells), contract(), BOTH, place="t")
    assert (encoded.entities.tolist(), encoded.dropped) == (["a", "b"], rows - 1)


def test_a_contract_per_loan_is_refused_until_loans_are_accounted_for(contract: MakeContract) -> None:
    with pytest.raises(ConfigValueError):
        contract(unit="loan")


def test_the_row_that_stays_does_not_depend_on_the_label(contract: MakeContract, table: MakeTable) -> None:
    stays = [
        encode(table(who=["a", "b", "a"], outcome=outcome), contract(), BOTH, place="t")
        .modalities["application"]
        .codes.tolist()
        for outcome in (["paid", "lost", "paid"], ["lost", "paid", "lost"])
    ]
    assert stays[0] == stays[1]


def test_the_rows_are_encoded_one_by_one(contract: MakeContract, table: MakeTable) -> None:
    whole = encode(table(), contract(), BOTH, place="t")
    pair = encode(table().take([2, 1]), contract(), BOTH, place="t")
    for name in BOTH:
        np.testing.assert_array_equal(whole.modalities[name].codes[[2, 1]], pair.modalities[name].codes)
        np.testing.assert_array_equal(whole.modalities[name].dense[[2, 1]], pair.modalities[name].dense)


def test_a_table_without_rows_or_with_one_outcome_teaches_nothing(contract: MakeContract, table: MakeTable) -> None:
    with pytest.raises(NoRowsError):
        encode(table().slice(0, 0), contract(), BOTH, place="t")
    with pytest.raises(OneClassError) as caught:
        encode(table(outcome=["paid"] * 3), contract(), BOTH, place="t")
    assert caught.value.fields == {"rows": 3, "place": "t"}


def test_a_required_derived_feature_without_a_value_is_an_error(contract: MakeContract, table: MakeTable) -> None:
    strict = contract(old="unit: amount / income, missing: nullable", new="unit: amount / income, missing: required")
    with pytest.raises(MissingValueError) as caught:
        encode(table(), strict, BOTH, place="t")
    assert caught.value.fields == {"column": "burden", "path": "t", "count": 1, "row": 2}


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("function: highest", "function: highset", "worst.function"),
        ("function: highest", "function: ratio_change", "worst.inputs"),
        ("{function: ratio, inputs: [amount, income]", "{function: highest, inputs: [amount]", "burden.function"),
        ("{function: highest, inputs: [late], unit", "{function: same, inputs: [late], unit", "worst.grid"),
        ("grid: [1, 30]}", "grid: [1, 30], dense: {scale: linear, low: 0, high: 1}}", "worst.dense"),
    ],
)
def test_a_derived_feature_must_name_a_function_that_fits(contract: MakeContract, old: str, new: str, key: str) -> None:
    with pytest.raises(ConfigValueError, match=key.replace(".", r"\.")):
        feature_spec(contract(old=old, new=new))


@pytest.mark.parametrize("names", [(), ("telematics",)])
def test_modalities_must_be_named_and_known(contract: MakeContract, table: MakeTable, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigValueError):
        encode(table(), contract(), names, place="t")


def test_taking_rows_takes_them_everywhere(contract: MakeContract, table: MakeTable) -> None:
    whole = encode(table(), contract(), BOTH, place="t")
    part = whole.take(np.array([True, False, True]))
    assert (len(part), part.entities.tolist(), part.labels.tolist()) == (2, ["a", "c"], [0, 0])
    for name in BOTH:
        np.testing.assert_array_equal(part.modalities[name].codes, whole.modalities[name].codes[[0, 2]])
        np.testing.assert_array_equal(part.modalities[name].dense, whole.modalities[name].dense[[0, 2]])


def test_narrowing_to_modalities_keeps_the_order_asked_for(contract: MakeContract, table: MakeTable) -> None:
    whole = encode(table(), contract(), BOTH, place="t")
    assert tuple(whole.with_modalities(["repayment", "application"]).modalities) == ("repayment", "application")
    with pytest.raises(ConfigValueError, match="telematics"):
        whole.with_modalities(["telematics"])


def test_arrays_of_other_shapes_never_become_a_table() -> None:
    codes, dense = np.zeros((2, 1), np.int16), np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="codes"):
        ModalityTable(codes=codes.astype(np.int64), dense=dense)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="dense"):
        ModalityTable(codes=codes, dense=dense[:, 0])
    with pytest.raises(ValueError, match="rows"):
        ModalityTable(codes=codes, dense=dense[:1])
    part = {"application": ModalityTable(codes=codes, dense=dense)}
    with pytest.raises(ValueError, match="labels"):
        CreditTable(entities=np.array(["a", "b"]), labels=np.zeros(2), modalities=part, dropped=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows"):
        CreditTable(entities=np.array(["a"]), labels=np.zeros(2, np.int8), modalities=part, dropped=0)
