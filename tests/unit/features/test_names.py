from __future__ import annotations

import pytest
from data_faults.small_loans import HEAD, contract_of, modality, number, numbers, words

from fedcredit.contract import Contract, load_contract, shipped_contracts
from fedcredit.contract.columns import NumberColumn
from fedcredit.errors import ConfigValueError
from fedcredit.features.names import is_canonical, wanted


def ask(contract: Contract) -> list[tuple[str, str, str, int | None]]:
    everything = [one.name for one in contract.modalities]
    return [(name.table, name.rule.name, name.summary, name.days) for name in wanted(contract, everything).names]


def refused(contract: Contract) -> str:
    with pytest.raises(ConfigValueError) as caught:
        ask(contract)
    return str(caught.value.describe())


def test_a_name_says_table_column_summary_and_window() -> None:
    contract = contract_of(
        modality(
            "all",
            number("contract.amount"),
            number("tel_daily.km.mean_90d"),
            number("clm.paid.count_1095d"),
            words("veh.fuel", "ICE", "BEV"),
            words("contract.bureau_score.reason", "present", "refused or withdrawn"),
        )
    )
    assert ask(contract) == [
        ("contract", "amount", "latest", None),
        ("tel_daily", "km", "mean", 90),
        ("clm", "paid", "count", 1095),
        ("veh", "fuel", "latest", None),
        ("contract", "bureau_score", "reason", None),
    ]


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("amount", "must be TABLE.COLUMN"),
        ("loans.amount", "must be TABLE.COLUMN"),
        ("outcome.y", "must be TABLE.COLUMN"),
        ("observation.weight", "must be TABLE.COLUMN"),
        ("edge.weight", "must be TABLE.COLUMN"),
        ("contract.amonut", "names no column"),
        ("contract.amount.mean", "needs a window"),
        ("contract.amount.reason_90d", "needs a window"),
        ("contract.amount.latest_90d", "summary latest"),
        ("contract.amount.latest", "summary latest"),
        ("tel_daily.km.median_90d", "summary median"),
        ("tel_daily.km.mean_0d", "must be TABLE.COLUMN"),
        ("tel_daily.km.mean_99999d", "must be TABLE.COLUMN"),
        ("veh.fuel.mean_90d", "is a text"),
        ("veh.fuel", "type must be category"),
        ("contract.bureau_score.reason", "type must be category"),
    ],
)
def test_a_name_that_means_nothing_is_refused_with_its_place(name: str, part: str) -> None:
    told = refused(numbers(name))
    assert part in told
    assert f"modalities.all.columns.{name}" in told


@pytest.mark.parametrize(
    "name",
    [
        "contract.entity_tok",  # a key
        "contract.status",  # rewritten afterwards
        "contract.marital",  # to measure fairness only
        "rep_monthly.dpd_eom.max_90d",  # behaviour is no application
        "clm.suspicious_flag",  # an investigation
        "tel_daily.lat.mean_90d",  # denied outright
    ],
)
def test_a_column_that_the_label_must_not_see_is_refused(name: str) -> None:
    assert "must not be a feature of pd12_app" in refused(numbers(name))


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("outcome.pd12_app", "outcome.lgd", "must be outcome. and one of pd12_app"),
        ("outcome.pd12_app", "outcome.nothing", "must be outcome. and one of pd12_app"),
        ("entity: entity_tok", "entity: borrower", "must be entity_tok"),
        ("good: 0, bad: 1", "good: 1, bad: 0", "good: 0 and bad: 1"),
    ],
)
def test_entity_and_label_must_be_those_of_canonical_tables(old: str, new: str, part: str) -> None:
    assert part in refused(contract_of(modality("all", number("contract.amount")), head=HEAD.replace(old, new)))


def test_a_sequence_is_refused() -> None:
    text = """  all:
    kind: sequence
    steps: 2
    channels:
      km: {columns: [tel_daily.km.mean_90d, tel_daily.km.mean_30d], unit: km, min: 0, max: 9, missing: nullable,
           source: box, available_at: application}
    scorecard: []
"""
    assert "must be static" in refused(contract_of(text))


def test_of_the_shipped_contracts_only_vehicle_loans_is_on_canonical_tables() -> None:
    assert [name for name in shipped_contracts() if is_canonical(load_contract(name))] == ["vehicle-loans"]


def test_the_shipped_contract_reads_columns_in_their_whole_legal_range() -> None:
    contract = load_contract("vehicle-loans")
    everything = {name.text: name for name in wanted(contract, [m.name for m in contract.modalities]).names}
    newest = [
        column
        for part in contract.modalities
        for column in part.columns
        if isinstance(column, NumberColumn) and everything[column.name].summary in ("latest", "mean", "max")
    ]
    assert len(newest) > 40
    for column in newest:
        assert (column.min, column.max) == everything[column.name].rule.bounds, column.name
