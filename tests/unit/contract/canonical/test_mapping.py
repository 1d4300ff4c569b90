from __future__ import annotations

from pathlib import Path

import pytest

from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.deny import denied, denied_kinds
from fedcredit.contract.canonical.examples import example_label_map, example_mapping, example_node
from fedcredit.contract.canonical.feature_record import FeatureRecord
from fedcredit.contract.canonical.label_map import LabelMap
from fedcredit.contract.canonical.mapping import DataMapping
from fedcredit.contract.canonical.shipped import shipped_mappings, write_shipped_mapping
from fedcredit.contract.canonical.units import likely_unit, units_for
from fedcredit.errors import ConfigFileMissingError, ConfigValueError, FedcreditError, UnknownKeyError
from fedcredit.parties import InstitutionType

MAPPING = """
schema_version = 1
institution_id = "bank-a"
type = "bank"
snapshot_date = 2026-06-30
oot_date = 2025-01-01
currency = "CNY"
data_owner = "risk department"
legal_basis = "contract"
token_method = "hmac-sha256"
[tables.contract]
file = "loans.csv"
absent = ["vin_tok"]
[tables.contract.columns]
contract_id = "LOAN"
amount = { column = "AMT", unit = "10k CNY" }
product = { column = "PROD", codes = { "1" = "new_car" } }
income_m = { column = "INC", empty = -1 }
"""


def read(folder: Path, text: str) -> DataMapping:
    path = folder / "mapping.toml"
    path.write_text(text)
    return DataMapping.read(path)


def test_a_name_alone_is_the_short_form_of_a_column(tmp_path: Path) -> None:
    source = read(tmp_path, MAPPING).tables["contract"]
    assert source.columns["contract_id"].column == "LOAN"
    assert (source.columns["amount"].unit, source.columns["income_m"].empty) == ("10k CNY", -1)


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("tables.contract", "tables.contracts", UnknownKeyError, "tables.contracts"),
        ("amount =", "amuont =", UnknownKeyError, "amuont"),
        ('unit = "10k CNY"', 'unit = "kWh"', ConfigValueError, "10k CNY"),
        ('"1" = "new_car"', '"1" = "car"', ConfigValueError, "new_car"),
        ("empty = -1", "empty = -5", ConfigValueError, "empty"),
        ('contract_id = "LOAN"', 'contract_id = { column = "LOAN", empty = -1 }', ConfigValueError, "required"),
        ('contract_id = "LOAN"', 'contract_id = { column = "LOAN", typed = true }', ConfigValueError, "required"),
        ('contract_id = "LOAN"', 'contract_id = { column = "LOAN", constant = "x" }', ConfigValueError, "one of"),
        ('contract_id = "LOAN"', 'contract_id = { derived = "fold" }', ConfigValueError, "column fold"),
        ('amount = { column = "AMT", unit = "10k CNY" }', 'amount = { derived = "row" }', ConfigValueError, "an id"),
        ('amount = { column = "AMT"', 'amount = { codes = { a = "1" }, column = "AMT"', ConfigValueError, "category"),
        ('absent = ["vin_tok"]', 'absent = ["contract_id"]', ConfigValueError, "contract_id"),
        ('file = "loans.csv"', 'url = "sqlite://"', ConfigValueError, "query"),
        ('file = "loans.csv"', "", ConfigValueError, "file or url"),
        ('file = "loans.csv"', 'url = "sqlite://"\nquery = "DELETE FROM loans"', ConfigValueError, "one SELECT"),
        ('file = "loans.csv"', 'file = "loans.csv"\ndecimal = ","\nthousands = ","', ConfigValueError, "same mark"),
        ('file = "loans.csv"', 'file = "loans.csv"\nencoding = "klingon"', ConfigValueError, "no encoding"),
        ('"hmac-sha256"', '"sha256"', ConfigValueError, "token_method"),
        ('"hmac-sha256"', '"none-public-record"', ConfigValueError, "made-up people"),
        ("[tables.contract]", 'lacking = ["rep_montly"]\n[tables.contract]', ConfigValueError, "rep_monthly"),
        ("[tables.contract]", 'lacking = ["outcome"]\n[tables.contract]', ConfigValueError, "nothing can be trained"),
        ("[tables.contract]", 'lacking = ["entity"]\n[tables.contract]', ConfigValueError, "nothing can be trained"),
        ("schema_version = 1", "schema_version = 9", FedcreditError, "version 9"),
    ],
)
def test_a_mapping_that_does_not_hold_is_refused_with_its_place(
    tmp_path: Path, old: str, new: str, error: type[FedcreditError], said: str
) -> None:
    assert old in MAPPING
    with pytest.raises(error) as caught:
        read(tmp_path, MAPPING.replace(old, new))
    assert said in str(caught.value) + caught.value.fix("en")


def test_a_public_token_is_for_public_records_only(tmp_path: Path) -> None:
    text = MAPPING + 'entity_tok = { column = "LOAN", public = true }\n'
    with pytest.raises(ConfigValueError, match="tokenise"):
        read(tmp_path, text)
    public = text.replace('"contract"\ntoken', '"public_record"\ntoken').replace("hmac-sha256", "none-public-record")
    assert read(tmp_path, public).tables["contract"].columns["entity_tok"].public


def test_a_column_of_ones_own_begins_with_x_and_obeys_the_rules_of_columns(tmp_path: Path) -> None:
    extra = '{ column = "S", type = "number", unit = "points", min = 0.0, max = 9.0, missing = "nullable", '
    extra += 'available_at = "application", about = "score" }\n'
    good = MAPPING + "[tables.contract.extra]\nx_score = " + extra
    rule = read(tmp_path, good).tables["contract"].extra["x_score"].rule("x_score", canonical(1).table("contract"))
    assert (rule.heads, rule.bounds) == ((), (0.0, 9.0))
    with pytest.raises(ConfigValueError, match="x_"):
        read(tmp_path, good.replace("x_score", "score"))
    with pytest.raises(ConfigValueError, match="unit, min and max"):
        read(tmp_path, good.replace('unit = "points", ', ""))


@pytest.mark.parametrize("kind", InstitutionType)
def test_the_example_of_every_type_of_institution_reads(kind: InstitutionType, tmp_path: Path) -> None:
    mapping = read(tmp_path, example_mapping(kind, name="member-1", folder="m", version=1))
    assert mapping.type is kind
    assert {"entity", "contract", "observation", "outcome"} <= set(mapping.tables)
    rules = canonical(1)
    for name in mapping.tables:
        assert rules.modality(rules.table(name).modality).held_by[kind] == "full"
    labels = tmp_path / "label_map.toml"
    labels.write_text(example_label_map(kind))
    assert LabelMap.read(labels).labels
    assert f'kind = "{kind}"' in example_node(kind, name="member-1", folder="m")


@pytest.mark.parametrize("kind", InstitutionType)
def test_every_commented_line_of_an_example_may_be_taken_into_use(kind: InstitutionType, tmp_path: Path) -> None:
    text = example_mapping(kind, name="member-1", folder="m", version=1)
    head, _, body = text.partition("\n[tables")
    lines = [line.removeprefix("# ") if " = " in line or "[tables" in line else line for line in body.split("\n")]
    mapping = read(tmp_path, head + "\n[tables" + "\n".join(lines))
    rules = canonical(1)
    held = {t.name for t in rules.tables if rules.modality(t.modality).held_by[kind] != "none"}
    assert set(mapping.tables) == held


@pytest.mark.parametrize("name", shipped_mappings())
def test_every_shipped_mapping_reads_and_names_its_label_map(name: str, tmp_path: Path) -> None:
    mapping = DataMapping.read(write_shipped_mapping(name, tmp_path))
    assert LabelMap.read(tmp_path / mapping.label_map).labels


def test_there_is_a_mapping_for_each_real_set_and_no_other(tmp_path: Path) -> None:
    assert shipped_mappings() == ("german", "givemesomecredit", "sba", "spain", "taiwan")
    with pytest.raises(ConfigFileMissingError, match="lendingclub"):
        write_shipped_mapping("lendingclub", tmp_path)


@pytest.mark.parametrize(
    ("median", "unit", "low", "high", "expected"),
    [
        (41, "kWh", 500, 5e6, "MWh"),
        (12.5, "CNY", 5000, 2e6, "10k CNY"),
        (6.8, "decimal", 0.01, 0.36, "%"),
        (110_000, "CNY/month", 1000, 100_000, "CNY/year"),
        (650, "points", 300, 600, None),
        (-3, "CNY", 0, 10, None),
        (0, "CNY", 10, 20, None),
    ],
)
def test_a_median_points_to_its_unit(median: float, unit: str, low: float, high: float, expected: str | None) -> None:
    assert likely_unit(median, unit=unit, low=low, high=high) == expected


def test_every_unit_of_the_canonical_set_is_its_own_first_unit() -> None:
    for table in canonical(1).tables:
        for column in table.columns:
            if column.unit:
                assert units_for(column.unit)[column.unit] == 1.0


def test_no_canonical_column_is_on_the_deny_list_but_the_denied_ones() -> None:
    for table in canonical(1).tables:
        for column in table.columns:
            assert (denied(column.name, version=1) is not None) == column.deny, column.name


@pytest.mark.parametrize("name", ["product_name", "vin_tok", "trace", "tel_daily", "LOAN_ID", "region2", "model_code"])
def test_harmless_names_pass_the_deny_list(name: str) -> None:
    assert denied(name, version=1) is None


def test_every_kind_of_the_deny_list_is_found_by_each_of_its_names_however_it_is_written() -> None:
    for kind in denied_kinds(1):
        for name in (*kind.exact, *kind.anywhere):
            spellings = (name.replace(" ", "_"), name.replace(" ", "").upper(), name.title().replace(" ", ""))
            assert all(denied(spelling, version=1) for spelling in spellings), name
        assert all(denied(f"借款人{name}", version=1) for name in kind.zh_names)


def test_an_input_of_a_feature_must_be_a_column(tmp_path: Path) -> None:
    path = tmp_path / "features.toml"
    text = 'schema_version = 1\n[features.a]\nheads = ["lgd"]\ninputs = ["veh.odo_km"]\nmade_by = "copy"\n'
    text += 'fitted_on = "nothing"\ncut = "observation"\ngap_days = 0\n'
    path.write_text(text)
    assert FeatureRecord.read(path).features["a"].inputs == ("veh.odo_km",)
    path.write_text(text.replace("odo_km", "odometer"))
    with pytest.raises(UnknownKeyError, match=r"veh\.odometer"):
        FeatureRecord.read(path)
