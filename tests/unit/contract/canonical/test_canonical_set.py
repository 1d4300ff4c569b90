from __future__ import annotations

from importlib import resources

import pytest

from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.loading import parse_set
from fedcredit.contract.canonical.versions import SPOKEN, newest_common, require_spoken, require_spoken_by
from fedcredit.errors import (
    ConfigValueError,
    ContractSyntaxError,
    FedcreditError,
    MissingKeyError,
    SchemaVersionError,
    UnknownKeyError,
)
from fedcredit.parties import InstitutionType

SET = canonical(1)
ALL_COLUMNS = [(table.name, column) for table in SET.tables for column in table.columns]
MODALITIES = (resources.files("fedcredit.contract") / "canonical/v1/modalities.yaml").read_text("utf-8")
PAGE = """
schema_version: 1
table: entity
file: entity.parquet
modality: CORE
en: people
zh: 主体
key: [entity_tok]
time: null
asof: null
references: {}
defaults: {source: s, available_at: application, pii_class: none, jrt0171: C2, monotone: "0", heads: [], deny: false,
  minimum: false}
columns:
  entity_tok: {type: token, missing: required, en: token, zh: 令牌}
  amount: {type: number, unit: CNY, min: 0, max: 10, missing: nullable, en: amount, zh: 金额}
"""


def test_the_tables_are_those_of_the_data_model() -> None:
    expected = "entity contract observation rep_monthly veh rv_weekly tel_daily tel_5min con eqp eqp_series ent_monthly"
    assert SET.names == (*expected.split(), "pol", "clm", "edge", "outcome")


def test_a_table_stands_behind_those_that_it_refers_to() -> None:
    for position, table in enumerate(SET.tables):
        assert set(table.references.values()) <= set(SET.names[:position])


def test_every_column_that_trains_comes_with_a_head_and_no_key_or_label_does() -> None:
    for table, column in ALL_COLUMNS:
        if column.type in ("token", "id", "date", "month", "timestamp") or table in ("outcome", "observation"):
            assert column.heads == (), (table, column.name)


def test_collections_fields_are_for_early_warning_only() -> None:
    for name in ("contact_fail_n", "promise_broken_n"):
        assert SET.table("rep_monthly").column(name).heads == ("ew30",)


def test_coordinates_are_denied_and_so_not_accepted() -> None:
    for table in ("tel_daily", "tel_5min"):
        assert SET.table(table).column("lat").deny
        assert {"lat", "lon"} & {column.name for column in SET.table(table).accepted} == set()


def test_a_repeated_column_becomes_numbered_ones() -> None:
    names = [column.name for column in SET.table("con").columns if column.name.startswith("panel_sev")]
    assert names == [f"panel_sev_{index:02d}" for index in range(13)]


def test_protected_attributes_train_nothing() -> None:
    assert SET.table("contract").column("marital").heads == ()


@pytest.mark.parametrize("kind", InstitutionType)
def test_every_modality_says_who_holds_it(kind: InstitutionType) -> None:
    assert {item.held_by[kind] for item in SET.modalities} <= {"full", "partial", "none"}
    assert SET.modality("CORE").held_by[kind] == "full"


def test_a_median_that_is_expected_lies_in_the_legal_range() -> None:
    for table, column in ALL_COLUMNS:
        if column.expect:
            low, high = column.bounds
            assert low <= column.expect[0] < column.expect[1] <= high, (table, column.name)


def test_the_digest_is_that_of_the_content_not_of_the_spelling() -> None:
    text = PAGE.replace("table: entity", "table:   entity   # a comment")
    one, other = (parse_set(1, tables={"entity": page}, modalities=MODALITIES) for page in (PAGE, text))
    changed = parse_set(1, tables={"entity": PAGE.replace("max: 10", "max: 11")}, modalities=MODALITIES)
    assert one.digest() == other.digest() != changed.digest()


@pytest.mark.parametrize(
    ("old", "new", "error", "said"),
    [
        ("unit: CNY, ", "", ConfigValueError, "needs unit"),
        ("type: number", "type: numbr", ConfigValueError, "type"),
        ("missing: nullable, ", "", MissingKeyError, "missing"),
        ("missing: nullable", "mising: nullable", UnknownKeyError, "mising"),
        ("min: 0", "min: -5", None, ""),
        ("min: 0, max: 10, missing: nullable", "min: -5, max: 10, missing: typed_missing", ConfigValueError, "typed"),
        ("key: [entity_tok]", "key: [amount]", ConfigValueError, "required"),
        ("key: [entity_tok]", "key: [nobody]", ConfigValueError, "nobody"),
        ("key: [entity_tok]", "key: [entity_tok", ContractSyntaxError, "entity.yaml"),
        ("references: {}", "references: {entity_tok: nothing}", ConfigValueError, "nothing"),
        ("table: entity", "table: contract", ConfigValueError, "must be entity"),
        ("schema_version: 1", "schema_version: 2", ConfigValueError, "schema_version 1"),
        ("unit: CNY", "unit: CNY, deny: true, minimum: true", ConfigValueError, "denied"),
        ("unit: CNY", "unit: CNY, available_at: event", ConfigValueError, "DAYS"),
        ("unit: CNY", "unit: CNY, repeat: 1", ConfigValueError, "repeat"),
        ("type: token", "type: text, pattern: '['", ConfigValueError, "regular expression"),
        ("type: token", "type: category", ConfigValueError, "values"),
    ],
)
def test_a_page_that_does_not_hold_is_refused_with_its_place(
    old: str, new: str, error: type[FedcreditError] | None, said: str
) -> None:
    assert old in PAGE
    text = PAGE.replace(old, new)
    if error is None:
        parse_set(1, tables={"entity": text}, modalities=MODALITIES)
        return
    with pytest.raises(error, match=said):
        parse_set(1, tables={"entity": text}, modalities=MODALITIES)


def test_a_modality_that_forgets_a_type_of_institution_is_refused() -> None:
    with pytest.raises(ConfigValueError, match="every type"):
        parse_set(1, tables={"entity": PAGE}, modalities=MODALITIES.replace(", insurer: full}", "}", 1))


def test_a_version_that_is_not_spoken_is_refused_before_a_page_is_read() -> None:
    require_spoken(SPOKEN[-1])
    with pytest.raises(SchemaVersionError, match="version 99; spoken here: 1") as caught:
        canonical(99)
    assert caught.value.code == "FC-5007"


def test_the_newest_version_that_all_speak_is_found_whatever_the_order() -> None:
    assert newest_common([(1, 2, 3), (3, 2), (2, 1)]) == 2
    assert newest_common([(2, 1), (3, 1, 2), (2, 3)]) == 2
    assert newest_common([(1,), (2,)]) is None
    assert newest_common([(1, 2), ()]) is None
    assert newest_common([]) is None


def test_who_does_not_speak_a_version_is_named() -> None:
    require_spoken_by(2, {"bank": (1, 2), "fund": (2,)})
    with pytest.raises(SchemaVersionError) as caught:
        require_spoken_by(2, {"fund": (1, 3), "bank": (2,), "insurer": ()})
    assert caught.value.code == "FC-5007"
    assert "version 2; spoken here: fund 1, 3; insurer none" in caught.value.describe("en")


def test_who_speaks_nothing_is_named_in_chinese_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDCREDIT_LANG", "zh")
    with pytest.raises(SchemaVersionError) as caught:
        require_spoken_by(2, {"insurer": ()})
    assert "数据结构版本要求为 2;本机支持:insurer 无" in caught.value.describe()
