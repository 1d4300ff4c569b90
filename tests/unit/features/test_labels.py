from __future__ import annotations

import hashlib
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from data_faults.small_loans import numbers, rich, spec_of, without_repeated_rows
from data_faults.world import tables as whole_bank

from fedcredit.errors import ContradictionError, DuplicateKeyError, NoRowsError
from fedcredit.features.build import feature_frame
from fedcredit.features.labels import labelled_rows


def test_every_reason_to_leave_a_row_out_is_counted_once_in_order(tmp_path: Path) -> None:
    made = rich(people=12)
    made["entity"].loc[0, "withdrawn"] = 1
    made["entity"].loc[1, "legal_basis"] = "none"
    made["observation"].loc[2, "split"] = "ttd"
    made["observation"].loc[3, "split"] = "oot"
    made["outcome"] = made["outcome"][made["outcome"]["contract_id"] != made["contract"]["contract_id"][4]]
    made["outcome"].loc[5, "indeterminate"] = 1
    made["observation"].loc[6, "weight"] = 0.4
    # Two reasons: the first one counts.
    made["observation"].loc[0, "split"] = "oot"
    rows = labelled_rows(spec_of(tmp_path, made), "pd12_app")
    assert dict(rows.left_out) == {
        "no legal basis or consent withdrawn": 2,
        "not accepted": 1,
        "out of time": 1,
        "no label": 1,
        "indeterminate": 1,
        "censored": 1,
        "another contract of the borrower": 0,
    }
    kept = made["contract"]["contract_id"][7:].tolist()
    assert sorted(rows.observations.contract) == kept
    expected = dict(zip(made["outcome"]["contract_id"], made["outcome"]["y"], strict=True))
    assert [expected[name] for name in rows.observations.contract] == rows.labels.tolist()


def test_labels_of_another_target_are_not_taken(tmp_path: Path) -> None:
    made = rich(people=6)
    made["outcome"] = made["outcome"].assign(target="fpd30", kind="fpd")
    spec = spec_of(tmp_path, made)
    assert labelled_rows(spec, "pd12_app").left_out["no label"] == 6
    assert len(labelled_rows(spec, "fpd30").observations) == 6
    assert len(labelled_rows(spec, "pd12_beh").observations) == 0
    with pytest.raises(NoRowsError) as caught:
        feature_frame(spec, numbers("contract.amount"), ["all"], place="bank-a")
    assert "bank-a (outcome.pd12_app)" in str(caught.value.describe())


def test_a_borrower_without_a_vehicle_has_features_all_the_same(tmp_path: Path) -> None:
    made = rich(people=5)
    made["contract"]["vin_tok"] = ["", *made["contract"]["vin_tok"][1:]]
    frame = feature_frame(
        spec_of(tmp_path, made), numbers("contract.amount", "veh.odo_km"), ["all"], place="t"
    ).frame.to_pandas()
    assert len(frame) == 5
    assert frame["contract.amount"].notna().all()
    assert frame["veh.odo_km"].isna().sum() == 1


def test_of_a_borrower_with_several_contracts_one_is_learnt_from_whatever_becomes_of_it(tmp_path: Path) -> None:
    made = rich(people=12)
    who = made["entity"]["entity_tok"][0]
    for name in ("contract", "observation"):
        made[name].loc[:3, "entity_tok"] = who
    first = labelled_rows(spec_of(tmp_path / "a", made), "pd12_app")
    assert first.left_out["another contract of the borrower"] == 3
    assert len(first.observations) == 9
    (chosen,) = (c for c, e in zip(first.observations.contract, first.observations.entity, strict=True) if e == who)
    days = dict(zip(made["contract"]["contract_id"], made["contract"]["decision_date"], strict=True))
    marks = {
        contract: hashlib.sha256(f"{who}/{contract}/{np.datetime64(days[contract]).astype(int)}".encode()).digest()
        for contract in made["contract"]["contract_id"][:4]
    }
    assert chosen == min(marks, key=lambda contract: marks[contract])
    # Neither labels, nor other borrowers, nor the order of the file decide.
    made["outcome"]["y"] = 1 - made["outcome"]["y"]
    for name in ("contract", "observation", "outcome", "entity"):
        made[name] = made[name].iloc[::-1].reset_index(drop=True)
    made["observation"].loc[0, "split"] = "oot"  # another borrower goes
    second = labelled_rows(spec_of(tmp_path / "b", made), "pd12_app")
    assert chosen in set(second.observations.contract)
    assert second.left_out["another contract of the borrower"] == 3


@pytest.mark.parametrize(("table", "place"), [("contract", "contract.csv"), ("outcome", "outcome.csv")])
def test_a_key_that_stands_twice_by_now_is_told_without_being_quoted(tmp_path: Path, table: str, place: str) -> None:
    made = rich(people=6)
    spec = spec_of(tmp_path, made)
    path = tmp_path / place
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[2]]) + "\n")
    with pytest.raises(DuplicateKeyError) as caught:
        labelled_rows(spec, "pd12_app")
    assert f"{place}: 1 rows repeat the key" in str(caught.value.describe())
    told = "".join(traceback.format_exception(caught.value))
    assert made["entity"]["entity_tok"][1] not in told
    assert made["contract"]["contract_id"][1] not in told


@pytest.mark.parametrize("absent", ["withdrawn", "legal_basis"])
def test_without_a_word_about_consent_nobody_is_learnt_from(tmp_path: Path, absent: str) -> None:
    made = rich(people=6)
    made["entity"] = made["entity"].drop(columns=absent)
    rows = labelled_rows(spec_of(tmp_path, made), "pd12_app")
    assert rows.left_out["no legal basis or consent withdrawn"] == 6


def test_a_consent_withdrawn_on_any_row_of_a_person_is_withdrawn(tmp_path: Path) -> None:
    made = rich(people=6)
    made["entity"]["withdrawn_at"] = ["", "2024-01-01", *[""] * 4]
    later = made["entity"].head(1).assign(withdrawn=1)
    made["entity"] = pd.concat([made["entity"], later], ignore_index=True)
    rows = labelled_rows(without_repeated_rows(spec_of(tmp_path, made), "entity"), "pd12_app")
    assert rows.left_out["no legal basis or consent withdrawn"] == 2


def test_rows_of_the_consortiums_day_or_later_are_out_of_time_whatever_their_split_says(tmp_path: Path) -> None:
    made = {name: table.copy() for name, table in whole_bank().items()}
    late = (made["observation"]["split"] == "oot").sum()
    made["observation"]["split"] = "dev"
    assert labelled_rows(spec_of(tmp_path, made), "pd12_app").left_out["out of time"] == late > 0


@pytest.mark.parametrize(
    ("column", "value"), [("kind", "ew30"), ("window_m", 6), ("y", 0.5), ("event_date", "2026-06-01")]
)
def test_a_label_that_is_not_this_one_is_none(tmp_path: Path, column: str, value: object) -> None:
    made = rich(people=8)
    made["outcome"] = made["outcome"].astype({"y": float})
    made["outcome"].loc[2, "y"] = 1.0
    made["outcome"].loc[2, column] = value
    assert labelled_rows(spec_of(tmp_path, made), "pd12_app").left_out["no label"] == 1


def test_an_observation_of_another_borrower_than_its_contract_is_refused(tmp_path: Path) -> None:
    made = rich(people=6)
    made["observation"].loc[3, "entity_tok"] = made["entity"]["entity_tok"][0]
    with pytest.raises(ContradictionError) as caught:
        labelled_rows(spec_of(tmp_path, made), "pd12_app")
    assert "observation.entity_tok = contract.entity_tok does not hold in 1 rows" in str(caught.value.describe())
