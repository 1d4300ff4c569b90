from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedcredit.contract import Modality, load_contract, shipped_contracts
from fedcredit.contract.loading import parse_contract
from fedcredit.encoding import encode
from fedcredit.errors import (
    ConfigFileMissingError,
    ConfigValueError,
    ContractSyntaxError,
    FedcreditError,
    MissingKeyError,
    UnknownKeyError,
)

SMALL = """
schema_version: 1
name: small
title: Two columns
licence: none
attribution: nobody
unit: borrower
entity: who
label: {column: outcome, good: 0, bad: 1}
protected: [age]
modalities:
  application:
    kind: static
    columns:
      amount: {type: number, unit: EUR, min: 0, max: 100, missing: required, source: form, available_at: application,
               grid: [10, 50]}
      use: {type: category, values: [car, house], missing: nullable, source: form, available_at: application}
    crosses: {amount_by_use: [amount, use]}
    scorecard: [amount, use, amount_by_use]
  repayment:
    kind: sequence
    steps: 2
    channels:
      late: {columns: [late_1, late_2], unit: days, min: 0, max: 99, missing: required, source: ledger,
             available_at: monthly, dense: {scale: linear, low: 0, high: 99}}
    derived:
      worst: {function: highest, inputs: [late], unit: days, missing: required, grid: [1, 30]}
    scorecard: [worst]
"""


def changed(*keys: str, to: Any = None, drop: bool = False) -> str:
    raw = yaml.safe_load(SMALL)
    place = raw
    for key in keys[:-1]:
        place = place[key]
    if drop:
        del place[keys[-1]]
    else:
        place[keys[-1]] = to
    return yaml.safe_dump(raw, sort_keys=False)


def raised(text: str) -> FedcreditError:
    with pytest.raises(FedcreditError) as caught:
        parse_contract(text, source="small.yaml")
    return caught.value


AMOUNT = ("modalities", "application", "columns", "amount")
USE = ("modalities", "application", "columns", "use")
LATE = ("modalities", "repayment", "channels", "late")
WORST = ("modalities", "repayment", "derived", "worst")


@pytest.mark.parametrize("name", shipped_contracts())
def test_a_shipped_contract_loads_by_its_name(name: str) -> None:
    assert load_contract(name).name == name


def test_a_contract_loads_from_a_path_as_from_its_text(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(SMALL, "utf-8")
    assert load_contract(path).digest() == parse_contract(SMALL, source="x").digest()


def test_the_content_arrives_in_order() -> None:
    contract = parse_contract(SMALL, source="x")
    application, repayment = contract.modalities
    assert application.table_columns() == ("amount", "use")
    assert application.columns[1].values == (("car", "car"), ("house", "house"))
    assert repayment.table_columns() == ("late_1", "late_2")
    assert (repayment.steps, repayment.scorecard) == (2, ("worst",))


@pytest.mark.parametrize(
    ("keys", "near"),
    [
        (("titel",), "title"),
        (("modalities", "application", "colums"), "columns"),
        ((*AMOUNT, "grdi"), "grid"),
        ((*LATE, "colums"), "columns"),
        ((*WORST, "functoin"), "function"),
        (("label", "goood"), "good"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(keys: tuple[str, ...], near: str) -> None:
    error = raised(changed(*keys, to=1))
    assert isinstance(error, UnknownKeyError)
    assert error.fix("en") == f'Did you mean "{near}"?'


@pytest.mark.parametrize(
    "keys",
    [
        ("licence",),
        ("modalities",),
        ("label", "bad"),
        ("modalities", "application", "kind"),
        ("modalities", "repayment", "steps"),
        (*AMOUNT, "type"),
        (*AMOUNT, "missing"),
        (*USE, "values"),
        (*WORST, "inputs"),
    ],
)
def test_a_missing_key_is_named_because_no_decision_has_a_default(keys: tuple[str, ...]) -> None:
    error = raised(changed(*keys, drop=True))
    assert isinstance(error, MissingKeyError)
    assert str(error.fields["key"]).split(".")[-1] == keys[-1]


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("schema_version",), 2),
        (("unit",), "household"),
        (("name",), "Not A Slug"),
        (("entity",), "amount"),
        (("protected",), ["use"]),
        (("label", "column"), "late_1"),
        (("label", "good"), 1),
        (("modalities",), {}),
        (("modalities", "application"), 3),
        (("modalities", "application", "kind"), "picture"),
        (("modalities", "application", "scorecard"), ["amount", "amount"]),
        (("modalities", "application", "scorecard"), ["income"]),
        (("modalities", "application", "crosses"), {"amount": ["amount", "use"]}),
        (("modalities", "application", "crosses"), {"three": ["amount", "use", "use"]}),
        (("modalities", "application", "crosses"), {"other": ["amount", "nothing"]}),
        (("modalities", "repayment", "steps"), 3),
        (("modalities", "repayment", "scorecard"), ["late"]),
        ((*AMOUNT, "type"), "date"),
        ((*AMOUNT, "name"), "amount"),
        ((*AMOUNT, "grid"), [50, 10]),
        ((*AMOUNT, "grid"), [10, 10]),
        ((*AMOUNT, "min"), 100),
        ((*AMOUNT, "min"), "0"),
        ((*AMOUNT, "min"), True),
        ((*AMOUNT, "max"), float("inf")),
        ((*AMOUNT, "max"), float("nan")),
        ((*AMOUNT, "missing"), "unknown"),
        ((*AMOUNT, "dense"), {"scale": "linear", "low": 1, "high": 1}),
        ((*USE, "values"), []),
        ((*USE, "values"), ["car", "car"]),
        ((*USE, "values"), ["car", 1]),
        ((*USE, "values"), "car"),
        ((*WORST, "inputs"), ["amount"]),
        ((*WORST, "grid"), []),
    ],
)
def test_a_bad_value_is_refused(keys: tuple[str, ...], value: Any) -> None:
    assert isinstance(raised(changed(*keys, to=value)), ConfigValueError)


@pytest.mark.parametrize(
    "text", ["a: [", "name: one\nname: two", "- 1\n- 2: {", "!!python/object:os.system {}", "\x07"]
)
def test_text_that_is_not_plain_yaml_is_refused(text: str) -> None:
    assert isinstance(raised(text), ContractSyntaxError)


@pytest.mark.parametrize(
    "value",
    [
        "2001-99-99",
        "!!int ''",
        "!!float x",
        "!!float 1" + ":0" * 200 + ".5",
        "!!bool x",
        "!!timestamp x",
        "!!set [1]",
        "[" * 600,
    ],
    ids=["date", "no digit", "no float", "above every float", "no boolean", "no time", "set of a list", "nested"],
)
def test_a_value_that_does_not_fit_its_tag_is_refused_and_not_quoted(value: str) -> None:
    caught = raised(f"name: {value}")
    assert isinstance(caught, ContractSyntaxError)
    assert caught.__cause__ is None


@pytest.mark.parametrize("text", ["", "- 1", "3", "1: 2"])
def test_yaml_that_is_not_a_map_of_names_is_refused(text: str) -> None:
    assert isinstance(raised(text), ConfigValueError)


def test_a_repeated_key_deep_inside_is_refused_with_its_line() -> None:
    text = SMALL.replace("    kind: sequence\n", "    kind: sequence\n    kind: static\n")
    error = raised(text)
    assert isinstance(error, ContractSyntaxError)
    assert f"line {text.splitlines().index('    kind: static', 15) + 1}" in str(error)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileMissingError, match="nowhere"):
        load_contract("nowhere")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ContractSyntaxError):
        load_contract(tmp_path / "binary.yaml")


def test_the_digest_is_that_of_the_canonical_bytes_and_ignores_layout() -> None:
    contract = parse_contract(SMALL, source="x")
    again = parse_contract("# a comment\n" + changed("title", to="Two columns"), source="elsewhere")
    assert contract.digest() == again.digest()
    assert contract.digest() == hashlib.sha256(encode(contract.to_value())).digest()


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((*AMOUNT, "grid"), [10, 51]),
        ((*AMOUNT, "max"), 101),
        ((*USE, "missing"), "required"),
        (("label", "bad"), 2),
        (("modalities", "application", "scorecard"), ["use", "amount"]),
        ((*WORST, "function"), "mean"),
    ],
)
def test_every_decision_changes_the_digest(keys: tuple[str, ...], value: Any) -> None:
    before = parse_contract(SMALL, source="x").digest()
    assert parse_contract(changed(*keys, to=value), source="x").digest() != before


def test_integer_and_text_codes_do_not_share_a_digest() -> None:
    numbers = parse_contract(changed(*USE, "values", to=[1, 2]), source="x")
    texts = parse_contract(changed(*USE, "values", to=["1", "2"]), source="x")
    assert numbers.digest() != texts.digest()


def test_a_static_modality_has_no_channels() -> None:
    sequence = parse_contract(SMALL, source="x").modality("repayment")
    with pytest.raises(ValueError, match="channels"):
        Modality.model_validate({**dict(sequence), "kind": "static"})


def test_a_modality_that_the_contract_lacks_is_refused() -> None:
    with pytest.raises(ConfigValueError, match="telematics"):
        parse_contract(SMALL, source="x").modality("telematics")
