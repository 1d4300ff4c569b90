"""Every summary against a loop over all rows, and the property that matters: the future changes nothing."""

from __future__ import annotations

import datetime
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from data_faults.small_loans import HEAD, contract_of, modality, number, rich, shifted, spec_of, words

from fedcredit.checking.spec import read_spec
from fedcredit.contract import load_contract
from fedcredit.features.build import feature_frame, held_modalities
from fedcredit.features.reading import read_chunks

LAGS = {"tel_daily": 1, "con": 3, "rv_weekly": 7, "pol": 0, "clm": 0, "veh": 0}
TIMES = {"tel_daily": "day", "con": "capture_date", "rv_weekly": "week", "pol": "start", "clm": "report_date"}
REPORTED = {"ent_monthly": "reported_at", "rv_weekly": "guide_vintage", "clm": "known_at"}
NAMES = [
    "tel_daily.km.mean_90d",
    "tel_daily.km.sd_60d",
    "tel_daily.km.sum_30d",
    "tel_daily.km.min_90d",
    "tel_daily.km.max_90d",
    "tel_daily.km.count_90d",
    "tel_daily.km",
    "ent_monthly.revenue_vat.mean_365d",
    "ent_monthly.min_balance.min_365d",
    "ent_monthly.min_balance",
    "con.interior_wear",
    "pol.ncd_coef",
    "clm.paid.sum_730d",
    "clm.paid.count_730d",
]
SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "latest": lambda values: values[0] if values else math.nan,
    "count": lambda values: float(len(values)),
    "mean": lambda values: sum(values) / len(values) if values else math.nan,
    "sd": lambda values: statistics.pstdev(values) if len(values) > 1 else math.nan,
    "sum": lambda values: sum(values) if values else math.nan,
    "min": lambda values: min(values, default=math.nan),
    "max": lambda values: max(values, default=math.nan),
}
DAY = datetime.date.fromisoformat


def made_frame(folder: Path, made: dict[str, pd.DataFrame], *names: str) -> pd.DataFrame:
    contract = contract_of(modality("all", *map(number, names)))
    frame = feature_frame(spec_of(folder, made), contract, ["all"], place="t").frame.to_pandas()
    return frame.set_index("entity_tok")


def visible(made: dict[str, pd.DataFrame], table: str, loan: Any, days: int | None) -> list[dict[str, Any]]:
    """Return the rows of a borrower that were known on the day of decision, each with its own day."""
    today = DAY(loan.decision_date)
    owner = dict(zip(made["pol"]["policy_id"], made["pol"]["entity_tok"], strict=True))
    found = []
    for row in made[table].to_dict("records"):
        keys = {row.get("vin_tok"), row.get("entity_tok"), owner.get(row.get("policy_id"))}
        own = DAY(row[TIMES.get(table, "month")])
        known = own + datetime.timedelta(days=LAGS.get(table, 0))
        if table == "ent_monthly":
            known = (own.replace(day=28) + datetime.timedelta(days=4)).replace(day=1) - datetime.timedelta(days=1)
        if table in REPORTED:
            known = max(known, DAY(row[REPORTED[table]]))
        if keys & {loan.vin_tok, loan.entity_tok} and known <= today and (days is None or (today - own).days <= days):
            found.append({**row, "own": own})
    return found


def by_hand(made: dict[str, pd.DataFrame], name: str) -> dict[str, float]:
    """Return a feature of every borrower by looking at each row of the table in turn."""
    table, column, *rest = name.split(".")
    summary, days = (rest[0].split("_")[0], int(rest[0].split("_")[1][:-1])) if rest else ("latest", None)
    typed = column != "min_balance"
    found = {}
    for loan in made["contract"].itertuples():
        rows = visible(made, table, loan, days)
        if summary == "latest":
            rows = [max(rows, key=lambda row: (row["own"], row[column]))] if rows else []
        values = [float(row[column]) for row in rows if not (typed and row[column] < 0)]
        found[loan.entity_tok] = SUMMARIES[summary](values)
    return found


@pytest.mark.parametrize("seed", [3, 4])
def test_every_summary_is_what_a_loop_over_all_rows_gives(tmp_path: Path, seed: int) -> None:
    made = rich(seed)
    frame = made_frame(tmp_path, made, *NAMES)
    for name in NAMES:
        expected = by_hand(made, name)
        got = frame[name].to_dict()
        assert got == pytest.approx({key: expected[key] for key in got}, nan_ok=True, abs=1e-6), name
        assert sum(math.isfinite(value) for value in got.values()) > 3, f"{name} is tested on nothing"


def later(table: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return copies of rows as of years after the last decision, with other figures."""
    late = rows.copy()
    for step, column in enumerate(("reported_at", "guide_vintage", "known_at", TIMES.get(table, "month"))):
        if column in late:
            late[column] = [
                f"{2026 + step // 3 + place // 336}-{place % 336 // 28 + 1:02d}-{place % 28 + 1:02d}"
                for place in range(len(late))
            ]
    if table == "ent_monthly":
        late["month"] = [f"{2027 + place // 12}-{place % 12 + 1:02d}-01" for place in range(len(late))]
    for column in late.select_dtypes("number"):
        late[column] = 1.0
    if table == "pol":
        late["policy_id"] = [f"later{place:04d}" for place in range(len(late))]
    return late


def test_rows_that_became_known_later_change_nothing(tmp_path: Path) -> None:
    made = rich()
    before = made_frame(tmp_path / "a", made, *NAMES, "veh.odo_km")
    made["veh"] = pd.concat([made["veh"], made["veh"].assign(asof_date="2026-05-01", odo_km=1.0)], ignore_index=True)
    for table in ("tel_daily", "ent_monthly", "con", "rv_weekly", "pol", "clm"):
        made[table] = pd.concat([made[table], later(table, made[table])], ignore_index=True)
    after = made_frame(tmp_path / "b", made, *NAMES, "veh.odo_km")
    pd.testing.assert_frame_equal(before, after)


def test_a_row_counts_from_the_day_on_which_it_was_reported(tmp_path: Path) -> None:
    made = rich(people=2)
    first, second = made["contract"]["decision_date"]
    vins = made["contract"]["vin_tok"]
    made["tel_daily"] = pd.DataFrame(
        {
            "vin_tok": vins,
            "day": [shifted(first, -1), second],
            "device_event": "none",
            "km": [7.0, 9.0],
            "gap_share": 0.1,
        }
    )
    frame = made_frame(tmp_path, made, "tel_daily.km", "tel_daily.km.count_1d")
    # A day of telematics is known on the next one.
    assert frame["tel_daily.km"].iloc[0] == 7.0
    assert math.isnan(frame["tel_daily.km"].iloc[1])
    assert frame["tel_daily.km.count_1d"].tolist() == [1.0, 0.0]


def test_words_and_reasons_are_told_apart(tmp_path: Path) -> None:
    made = rich(people=6)
    made["contract"]["bureau_score"] = [600, -1, -2, -3, -4, 700]
    made["contract"]["housing"] = ["rent", "-1", "owner", "-2", "-3", "rent"]
    contract = contract_of(
        modality(
            "all",
            words("contract.housing", "rent", "owner"),
            words("contract.bureau_score.reason", "present"),
            words("con.interior_wear.reason", "present", "no row"),
            words("eqp.temp_sd.reason", "no row"),
            words("veh.make_code", "make-1"),
        )
    )
    made["con"] = made["con"].head(1).assign(capture_date="2026-06-01")  # after every decision
    frame = feature_frame(spec_of(tmp_path, made), contract, ["all"], place="t").frame.to_pydict()
    order = [made["contract"]["entity_tok"].tolist().index(token) for token in frame["entity_tok"]]
    assert [frame["contract.housing"][order.index(n)] for n in range(6)] == ["rent", None, "owner", None, None, "rent"]
    reasons = [frame["contract.bureau_score.reason"][order.index(n)] for n in range(6)]
    assert reasons == ["present", "not collected", "not applicable", "refused or withdrawn", "sensor gap", "present"]
    assert set(frame["con.interior_wear.reason"]) == {"no row"}
    assert set(frame["eqp.temp_sd.reason"]) == {"no row"}
    assert [frame["veh.make_code"][order.index(n)] for n in range(6)] == made["veh"]["make_code"].tolist()


def test_without_its_table_not_even_a_count_is_known(tmp_path: Path) -> None:
    made = {name: table for name, table in rich(people=4).items() if name not in ("clm", "pol")}
    frame = made_frame(tmp_path, made, "clm.paid.count_730d", "pol.ncd_coef")
    assert frame["clm.paid.count_730d"].isna().all()
    assert frame["pol.ncd_coef"].isna().all()


def test_claims_without_their_policies_are_not_a_count_of_zero(tmp_path: Path) -> None:
    made = {name: table for name, table in rich(people=4).items() if name != "pol"}
    frame = made_frame(tmp_path, made, "clm.paid.count_730d", "contract.amount")
    assert frame["clm.paid.count_730d"].isna().all()
    assert "policy" not in held_modalities(read_spec(tmp_path), load_contract("vehicle-loans"))


def test_of_a_contract_without_a_vehicle_nothing_is_counted(tmp_path: Path) -> None:
    made = rich(people=5)
    made["contract"]["vin_tok"] = ["", *made["contract"]["vin_tok"][1:]]
    frame = made_frame(tmp_path, made, "tel_daily.km.count_90d")
    counted = frame["tel_daily.km.count_90d"].to_dict()
    assert math.isnan(counted.pop(made["contract"]["entity_tok"][0]))
    assert all(value >= 0 for value in counted.values())


def test_each_day_of_observation_of_a_contract_sees_its_own_rows(tmp_path: Path) -> None:
    made = rich(people=8)
    days = made["contract"]["decision_date"].tolist()
    ids, tokens = made["contract"]["contract_id"], made["contract"]["entity_tok"]
    later = [shifted(day, 200) for day in days]
    made["observation"] = pd.concat(
        [made["observation"], made["observation"].assign(obs_date=later, obs_kind="behaviour")], ignore_index=True
    )
    made["outcome"] = pd.concat(
        [made["outcome"], made["outcome"].assign(obs_date=later, target="pd12_beh")], ignore_index=True
    )
    paid = [(contract, day, step) for contract, day in zip(ids, days, strict=True) for step in range(12)]
    made["rep_monthly"] = pd.DataFrame(
        {
            "contract_id": [contract for contract, _, _ in paid],
            "month": [f"{shifted(day, 30 * step)[:7]}-01" for _, day, step in paid],
            "balance": [1000.0 + 10 * step for _, _, step in paid],
            "reported_at": [
                "" if step % 2 else shifted(f"{shifted(day, 30 * step)[:7]}-01", 45) for _, day, step in paid
            ],
        }
    ).drop_duplicates(["contract_id", "month"])
    names = ("rep_monthly.balance.max_365d", "rep_monthly.balance.count_90d", "rep_monthly.balance")
    contract = contract_of(modality("all", *map(number, names)), head=HEAD.replace("pd12_app", "pd12_beh"))
    frame = feature_frame(spec_of(tmp_path, made), contract, ["all"], place="t").frame.to_pandas()
    frame = frame.set_index("entity_tok")
    assert len(frame) == 8
    for contract_id, token, today in zip(ids, tokens, map(DAY, later), strict=True):
        seen = []
        for row in made["rep_monthly"][made["rep_monthly"]["contract_id"] == contract_id].itertuples():
            own = DAY(row.month)
            known = (own.replace(day=28) + datetime.timedelta(days=4)).replace(day=1) - datetime.timedelta(days=1)
            if max(known, DAY(row.reported_at) if row.reported_at else known) <= today:
                seen.append((own, row.balance))
        assert seen
        assert frame.loc[token, names[0]] == max(balance for _, balance in seen)
        assert frame.loc[token, names[1]] == sum((today - own).days <= 90 for own, _ in seen)
        assert frame.loc[token, names[2]] == max(seen)[1]


def test_a_folder_of_many_chunks_gives_what_one_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = rich()
    whole = made_frame(tmp_path / "a", made, *NAMES)
    monkeypatch.setattr("fedcredit.checking.sources._CSV_BLOCK", 2048)
    spec = read_spec(tmp_path / "a")
    assert len(list(read_chunks(spec, "tel_daily", ["vin_tok"]))) > 10
    parts = made_frame(tmp_path / "b", made, *NAMES)
    pd.testing.assert_frame_equal(whole, parts)


def test_the_order_of_rows_changes_nothing(tmp_path: Path) -> None:
    made = rich()
    made["pol"] = pd.concat([made["pol"], made["pol"].assign(ncd_coef=1.7)], ignore_index=True)
    made["pol"]["policy_id"] = [f"p{place:04d}" for place in range(len(made["pol"]))]
    before = made_frame(tmp_path / "a", made, *NAMES)
    for table in ("tel_daily", "ent_monthly", "con", "rv_weekly", "pol", "clm", "veh", "contract"):
        made[table] = made[table].sample(frac=1.0, random_state=5).reset_index(drop=True)
    after = made_frame(tmp_path / "b", made, *NAMES)
    pd.testing.assert_frame_equal(before, after.loc[before.index])


def test_what_one_borrower_drove_is_not_another_ones_feature(tmp_path: Path) -> None:
    made = rich(people=2)
    first, second = made["contract"]["decision_date"]
    vin = made["contract"]["vin_tok"][0]
    for name in ("contract", "veh"):
        made[name]["vin_tok"] = vin
    made["veh"] = made["veh"].tail(1)
    days = [shifted(first, -3), shifted(first, 2), shifted(second, -1)]
    made["tel_daily"] = pd.DataFrame(
        {"vin_tok": vin, "day": days, "device_event": "none", "km": [5.0, 60.0, 70.0], "gap_share": 0.1}
    )
    name = "tel_daily.km.sum_999d"
    tokens = made["contract"]["entity_tok"]
    both = made_frame(tmp_path / "a", made, name)[name]
    assert both[tokens[0]] == 5.0
    assert math.isnan(both[tokens[1]]), "the first borrower drove on all of these days"
    # Without the first borrower and what is theirs the second one's feature is the same.
    kept = ("entity", "contract", "observation", "outcome")
    alone = {table: rows.tail(1) if table in kept else rows for table, rows in made.items() if table != "rep_monthly"}
    alone["tel_daily"] = made["tel_daily"].head(1).assign(day=second)
    assert math.isnan(made_frame(tmp_path / "b", alone, name)[name][tokens[1]])


@pytest.mark.parametrize("column", ["bureau_date", "appraised_at"])
def test_a_later_look_hides_what_it_found_and_nothing_else(tmp_path: Path, column: str) -> None:
    made = rich(people=3)
    table = "contract" if column == "bureau_date" else "veh"
    made[table][column] = [shifted(made["contract"]["decision_date"][0], 40), *made[table][column][1:]]
    late, other = {"contract": ("bureau_score", "amount"), "veh": ("appraised_v0", "odo_km")}[table]
    frame = made_frame(tmp_path, made, f"{table}.{late}", f"{table}.{other}")
    token = made["contract"]["entity_tok"][0]
    assert math.isnan(frame.loc[token, f"{table}.{late}"])
    assert frame[f"{table}.{late}"].notna().sum() == 2
    assert frame[f"{table}.{other}"].notna().all()


def test_a_placeholder_date_makes_no_row_visible(tmp_path: Path) -> None:
    made = rich(people=3)
    made["con"] = pd.DataFrame(
        {"vin_tok": made["contract"]["vin_tok"], "capture_date": "1970-01-01", "source": "orig", "interior_wear": 2}
    )
    assert made_frame(tmp_path, made, "con.interior_wear")["con.interior_wear"].isna().all()


def test_many_observations_of_one_key_come_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = rich()
    whole = made_frame(tmp_path / "a", made, *NAMES)
    monkeypatch.setattr("fedcredit.features.windows._PAIRS", 3)
    pd.testing.assert_frame_equal(whole, made_frame(tmp_path / "b", made, *NAMES))
