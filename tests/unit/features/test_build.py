from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_faults.small_loans import contract_of, modality, number, numbers, rich, spec_of, without_repeated_rows, words

from fedcredit.checking.spec import read_spec
from fedcredit.contract import load_contract
from fedcredit.errors import SchemaVersionError, WrongColumnTypeError
from fedcredit.features.build import feature_frame, held_modalities, training_rows


def test_the_training_table_has_one_row_per_borrower_with_their_label(tmp_path: Path) -> None:
    made = rich(people=24)
    contract = contract_of(modality("all", number("contract.amount"), words("veh.fuel", "ICE", "BEV")))
    rows = training_rows(spec_of(tmp_path, made), contract, ["all"], place="data", accepted=frozenset())
    table = rows.table
    expected = dict(zip(made["outcome"]["contract_id"], made["outcome"]["y"], strict=True))
    loans = dict(zip(made["contract"]["entity_tok"], made["contract"]["contract_id"], strict=True))
    assert len(table) == 24
    assert {who: expected[loans[who]] for who in table.entities.tolist()} == dict(
        zip(table.entities.tolist(), table.labels.tolist(), strict=True)
    )


def test_modalities_are_held_if_one_of_their_columns_is_there(tmp_path: Path) -> None:
    made = rich(people=6)
    del made["clm"], made["pol"]
    spec = spec_of(tmp_path, made)
    held = held_modalities(spec, load_contract("vehicle-loans"))
    assert held == ("terms", "application", "vehicle", "condition", "telematics", "operations")
    made["contract"] = made["contract"][
        ["contract_id", "entity_tok", "vin_tok", "product", "orig_date", "decision_date", "decision", "amount"]
    ]
    assert "application" not in held_modalities(spec_of(tmp_path / "b", made), load_contract("vehicle-loans"))


def test_own_tables_behind_a_mapping_give_the_features_of_canonical_ones(tmp_path: Path) -> None:
    made = rich(people=20)
    names = ("contract.amount", "contract.income_m", "veh.odo_km", "tel_daily.km.mean_90d")
    canonical = feature_frame(spec_of(tmp_path / "a", made), numbers(*names), ["all"], place="t").frame
    own = tmp_path / "b"
    own.mkdir()
    facts = (tmp_path / "a" / "manifest.toml").read_text().split("[tables")[0]
    text = [facts, 'label_map = "label_map.toml"\n'] if "label_map" not in facts else [facts]
    for name, table in made.items():
        renamed = table.rename(columns={"amount": "BETRAG", "km": "KM"})
        if name == "contract":
            renamed["BETRAG"] = table["amount"] / 1e4
        renamed.to_csv(own / f"{name}.csv", index=False, sep=";", decimal=",")
        columns = {column: f'"{column}"' for column in table.columns}
        if name == "contract":
            columns["amount"] = '{ column = "BETRAG", unit = "10k CNY" }'
        if name == "tel_daily":
            columns["km"] = '"KM"'
        listed = "\n".join(f"{column} = {source}" for column, source in columns.items())
        head = f'file = "{name}.csv"\ndelimiter = ";"\ndecimal = ","\ntyped = true'
        text.append(f"[tables.{name}]\n{head}\n[tables.{name}.columns]\n{listed}\n")
    (own / "label_map.toml").write_text((tmp_path / "a" / "label_map.toml").read_text())
    (own / "mapping.toml").write_text("".join(text))
    mapped = feature_frame(read_spec(own), numbers(*names), ["all"], place="t").frame
    assert mapped.column_names == canonical.column_names
    left, right = (frame.to_pandas().set_index("entity_tok").sort_index() for frame in (canonical, mapped))
    assert ((left - right).abs().fillna(0) < 1e-6).all().all()
    assert (left.isna() == right.isna()).all().all()


def test_cells_that_changed_since_their_check_stop_the_making(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, rich(people=6))
    path = tmp_path / "contract.csv"
    lines = path.read_text().splitlines()
    place = lines[0].split(",").index("amount")
    cells = lines[2].split(",")
    cells[place] = "ZQ7CANARY"
    path.write_text("\n".join([lines[0], lines[1], ",".join(cells), *lines[3:]]) + "\n")
    with pytest.raises(WrongColumnTypeError) as caught:
        feature_frame(spec, numbers("contract.amount"), ["all"], place="data")
    told = str(caught.value.describe())
    assert "amount" in told
    assert "row 2" in told
    assert "ZQ7CANARY" not in told


def test_an_absent_column_is_not_collected_in_every_row(tmp_path: Path) -> None:
    made = rich(people=6)
    contract = contract_of(
        modality(
            "all", number("contract.pti"), words("contract.pti.reason", "not collected"), number("contract.amount")
        )
    )
    frame = feature_frame(spec_of(tmp_path, made), contract, ["all"], place="t").frame.to_pydict()
    assert frame["contract.pti"] == [None] * 6
    assert frame["contract.pti.reason"] == ["not collected"] * 6


def test_parquet_and_csv_give_the_same_features(tmp_path: Path) -> None:
    made = rich(people=10)
    first = spec_of(tmp_path / "a", made)
    second = tmp_path / "b"
    second.mkdir()
    text = (tmp_path / "a" / "manifest.toml").read_text().replace(".csv", ".parquet")
    (second / "manifest.toml").write_text(text)
    (second / "label_map.toml").write_text((tmp_path / "a" / "label_map.toml").read_text())
    for name, table in made.items():
        pq.write_table(pa.Table.from_pandas(table, preserve_index=False), second / f"{name}.parquet")
    names = ("contract.amount", "tel_daily.km.mean_90d", "ent_monthly.revenue_vat.mean_365d")
    frames = [feature_frame(spec, numbers(*names), ["all"], place="t").frame for spec in (first, read_spec(second))]
    assert frames[0].equals(frames[1])


def test_what_lies_outside_its_range_is_clipped_to_it_as_the_warning_says(tmp_path: Path) -> None:
    made = rich(people=6)
    made["contract"]["amount"] = [-7.0, 9e9, -1.0, 100.0, 200.0, 300.0]
    frame = feature_frame(spec_of(tmp_path, made), numbers("contract.amount"), ["all"], place="t").frame.to_pydict()
    got = dict(zip(frame["entity_tok"], frame["contract.amount"], strict=True))
    assert [got[who] for who in made["contract"]["entity_tok"]] == [0.0, 5e6, None, 100.0, 200.0, 300.0]


def test_rows_that_the_check_left_out_as_repeated_are_left_out_here(tmp_path: Path) -> None:
    made = rich(people=4)
    again = made["veh"].assign(odo_km=999_999.0)
    made["veh"] = pd.concat([made["veh"], again], ignore_index=True)
    spec = spec_of(tmp_path, made)
    frames = [
        feature_frame(one, numbers("veh.odo_km"), ["all"], place="t").frame["veh.odo_km"].to_pylist()
        for one in (spec, without_repeated_rows(spec, "veh"))
    ]
    assert frames[0] == [999_999.0] * 4, "of two rows of one day the larger cell counts"
    assert 999_999.0 not in frames[1]


def test_tables_of_another_version_than_the_contract_are_refused(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, rich(people=6))
    later = replace(spec, facts=spec.facts.model_copy(update={"schema_version": 2}))
    with pytest.raises(SchemaVersionError) as caught:
        feature_frame(later, numbers("contract.amount"), ["all"], place="t")
    told = str(caught.value.describe())
    assert "version 1 (the contract small-loans)" in told
    assert "version 2 (these tables)" in told
