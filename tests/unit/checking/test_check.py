from __future__ import annotations

import datetime
import decimal
import sqlite3
import tracemalloc
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_faults.world import tables, token, write
from hypothesis import given
from hypothesis import strategies as st

from fedcredit.checking import joins, plausibility, profile, rules, sources, spill, vintages
from fedcredit.checking.canary import auc
from fedcredit.checking.check import DataReport, check_data
from fedcredit.checking.findings import Finding
from fedcredit.checking.repeats import Repeats
from fedcredit.checking.spec import read_spec
from fedcredit.checking.spill import Spill, hashes_of
from fedcredit.contract.canonical import canonical
from fedcredit.contract.canonical.label_map import LabelKind
from fedcredit.contract.canonical.shipped import write_shipped_mapping
from fedcredit.data.datasets import fetch_dataset
from fedcredit.report.data_page import render_data_page

HEAD = """
schema_version = 1
institution_id = "a"
type = "bank"
snapshot_date = 2026-06-30
oot_date = 2025-01-01
currency = "CNY"
data_owner = "risk"
legal_basis = "contract"
token_method = "hmac-sha256"
lacking = ["rep_monthly"]
"""
"""Of a mapping with one table only: that the others are missing is no concern of these tests."""


def findings_of(report: DataReport) -> list[Finding]:
    """Return the findings, but for tables that are not there."""
    return [item for item in report.findings if item.error.code != "FC-5009"]


def codes(folder: Path) -> list[tuple[str, str, str]]:
    report = check_data(read_spec(folder), scratch=folder if folder.is_dir() else folder.parent)
    return [(item.error.code, item.table, item.column) for item in findings_of(report)]


def told(folder: Path) -> list[tuple[str, str, str, int | None, int]]:
    found = check_data(read_spec(folder), scratch=folder.parent).findings
    return [(item.error.code, item.table, item.column, item.row, item.count) for item in found]


def test_a_database_is_checked_like_a_file(tmp_path: Path) -> None:
    made = tables()
    base = sqlite3.connect(tmp_path / "risk.db")
    made["veh"].to_sql("vehicles", base, index=False)
    base.close()
    columns = "\n".join(f'{name} = "{name}"' for name in made["veh"].columns)
    text = f"""{HEAD}[tables.veh]
url = "sqlite:///{tmp_path}/risk.db"
query = "SELECT * FROM vehicles"
[tables.veh.columns]
{columns}
"""  # noqa: S608 - a mapping, and no value of anybody
    (tmp_path / "mapping.toml").write_text(text)
    assert codes(tmp_path) == []
    broken = text.replace('odo_km = "odo_km"', 'odo_km = "fuel"').replace('rest = "told"', "")
    (tmp_path / "mapping.toml").write_text(broken)
    assert ("FC-5012", "veh", "odo_km") in codes(tmp_path)


def test_units_codes_formats_and_marks_of_a_mapping_give_the_same_figures_as_canonical_cells(tmp_path: Path) -> None:
    made = tables()["veh"][["vin_tok", "asof_date", "make_code", "fuel", "use", "new_used", "invoice_price", "odo_km"]]
    own = made.rename(columns={"invoice_price": "PRICE", "odo_km": "ODO", "fuel": "F", "asof_date": "D"})
    own["PRICE"] = [f"{price / 1e4:.4f}".replace(".", ",") for price in own["PRICE"]]
    own["ODO"] = [f"{km:,.0f}".replace(",", ".") for km in own["ODO"]]
    own["F"] = own["F"].map({"BEV": "E", "ICE": "B"})
    own["D"] = pd.to_datetime(own["D"]).dt.strftime("%d.%m.%Y")
    own.to_csv(tmp_path / "cars.csv", sep=";", index=False, encoding="gb18030")
    (tmp_path / "mapping.toml").write_text(
        HEAD
        + """[tables.veh]
file = "cars.csv"
delimiter = ";"
decimal = ","
thousands = "."
encoding = "gb18030"
date_format = "%d.%m.%Y"
absent = ["appraised_v0"]
[tables.veh.columns]
vin_tok = "vin_tok"
asof_date = "D"
make_code = "make_code"
fuel = { column = "F", codes = { E = "BEV", B = "ICE" } }
use = "use"
new_used = "new_used"
invoice_price = { column = "PRICE", unit = "10k CNY" }
odo_km = "ODO"
"""
    )
    report = check_data(read_spec(tmp_path), scratch=tmp_path)
    assert findings_of(report) == []
    sample = report.profiles["veh"].sample()
    np.testing.assert_allclose(np.sort(sample["invoice_price"]), np.sort(made["invoice_price"]))
    np.testing.assert_allclose(np.sort(sample["odo_km"]), np.sort(made["odo_km"]))
    days = pd.to_datetime(made["asof_date"]).to_numpy().astype("datetime64[D]").astype(int)
    np.testing.assert_array_equal(np.sort(sample["asof_date"]), np.sort(days))
    assert report.profiles["veh"].columns["fuel"].codes.tolist() == [160, 0, 0, 0, 80]


@pytest.mark.parametrize("name", ["german", "taiwan"])
def test_a_vendored_set_passes_through_its_mapping_without_a_finding(name: str, tmp_path: Path) -> None:
    fetch_dataset(name, tmp_path)
    report = check_data(read_spec(write_shipped_mapping(name, tmp_path)), scratch=tmp_path)
    assert report.findings == ()
    rows, bads = next(iter(report.vintages.totals().values()))
    assert (rows, bads) == {"german": (1000, 300), "taiwan": (30_000, 6_636)}[name]


def test_the_sba_loans_pass_through_their_mapping(tmp_path: Path) -> None:
    path = fetch_dataset("sba", tmp_path)
    part = pq.read_table(path)
    pq.write_table(part.take(pa.array(np.arange(0, part.num_rows, 40))), path)
    report = check_data(read_spec(write_shipped_mapping("sba", tmp_path)), scratch=tmp_path)
    assert report.findings == ()


GMSC = (
    ",SeriousDlqin2yrs,RevolvingUtilizationOfUnsecuredLines,age,NumberOfTime30-59DaysPastDueNotWorse,DebtRatio,"
    "MonthlyIncome,NumberOfOpenCreditLinesAndLoans,NumberOfTimes90DaysLate,NumberRealEstateLoansOrLines,"
    "NumberOfTime60-89DaysPastDueNotWorse,NumberOfDependents\n"
)
SPAIN = "rownames,Status,Seniority,Home,Time,Age,Marital,Records,Job,Expenses,Income,Assets,Debt,Amount,Price\n"


def made_up(name: str) -> str:
    """Return rows that are made up, in the columns and the spelling of the file that cannot travel with us."""
    rng = np.random.default_rng(5)
    if name == "givemesomecredit":
        rows = [
            f"{n},{int(n % 9 == 0)},{rng.random():.9f},{rng.integers(21, 90)},{rng.choice([0, 0, 1, 98])},"
            f"{rng.random():.9f},"
            f"{'NA' if n % 5 == 0 else rng.integers(1_500, 15_000)},{rng.integers(0, 20)},0,{rng.integers(0, 4)},"
            f"{rng.choice([0, 1])},{'NA' if n % 7 == 0 else rng.integers(0, 4)}"
            for n in range(1, 300)
        ]
        return GMSC + "\n".join(rows) + "\n"
    rows = [
        f"{n},{'bad' if n % 4 == 0 else 'good'},{rng.integers(0, 30)},{rng.choice(['owner', 'rent', 'parents', 'NA'])},"
        f"{rng.choice([24, 36, 60])},{rng.integers(19, 66)},married,{rng.choice(['no', 'yes'])},"
        f"{rng.choice(['fixed', 'freelance', 'NA'])},{rng.integers(35, 90)},"
        f"{'NA' if n % 9 == 0 else rng.integers(40, 300)},"
        f"{rng.integers(0, 9_000)},{rng.integers(0, 500)},{rng.integers(200, 2_000)},{rng.integers(300, 3_000)}"
        for n in range(1, 300)
    ]
    return SPAIN + "\n".join(rows) + "\n"


@pytest.mark.parametrize(("name", "file"), [("givemesomecredit", "creditscoring1.csv"), ("spain", "credit_data.csv")])
def test_a_set_that_is_fetched_by_hand_passes_through_its_mapping(name: str, file: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(made_up(name))
    report = check_data(read_spec(write_shipped_mapping(name, tmp_path)), scratch=tmp_path)
    assert [(item.error.code, item.table, item.column) for item in report.findings] == []
    assert report.profiles["contract"].rows == 299


def test_rows_that_repeat_a_key_are_left_out_where_the_mapping_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row per person of a table of loans: the first of each counts, wherever the chunks end."""
    monkeypatch.setattr(sources, "CHUNK_ROWS", 100)
    people = tables()["entity"]
    later = people.iloc[::2].assign(ent_type="small_ent", region2="11")
    loans = pd.concat([people.iloc[:150], later, people.iloc[150:], later], ignore_index=True)
    loans.loc[len(loans) - 1, "region2"] = "Guangdong"  # a cell of a row that is left out is checked all the same
    pq.write_table(pa.Table.from_pandas(loans, preserve_index=False), tmp_path / "loans.parquet")
    columns = "\n".join(f'{name} = "{name}"' for name in people.columns)
    text = f'{HEAD}[tables.entity]\nfile = "loans.parquet"\nrepeated = "left_out"\n[tables.entity.columns]\n{columns}\n'
    (tmp_path / "mapping.toml").write_text(text)
    report = check_data(read_spec(tmp_path), scratch=tmp_path)
    found = report.profiles["entity"]
    assert (found.rows, found.left_out) == (240, 240)
    # Of the rows from 150 on, every second person was seen first in a later row of the other type.
    first = loans.drop_duplicates("entity_tok")
    kinds = canonical(1).table("entity").column("ent_type").values
    assert found.columns["ent_type"].codes.tolist() == [int((first["ent_type"] == kind).sum()) for kind in kinds]
    assert [(item.error.code, item.column, item.row) for item in findings_of(report)] == [("FC-5041", "region2", 480)]
    (tmp_path / "mapping.toml").write_text(text.replace('repeated = "left_out"\n', ""))
    assert ("FC-5030", "entity", "") in codes(tmp_path)


@given(st.lists(st.lists(st.integers(0, 40), max_size=30), max_size=30))
def test_a_key_is_first_once(chunks: list[list[int]]) -> None:
    repeats, seen = Repeats(), set[int]()
    for chunk in chunks:
        expected = [key not in seen and key not in chunk[:place] for place, key in enumerate(chunk)]
        seen |= set(chunk)
        assert repeats.first(np.array(chunk, dtype=np.uint64)).tolist() == expected


def test_keys_on_disk_give_the_same_findings_as_keys_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tables()
    made["contract"] = pd.concat([made["contract"], made["contract"].iloc[[4, 9]]], ignore_index=True)
    made["rv_weekly"].loc[3, "vin_tok"] = token("none", 1)
    made["observation"].loc[7, "split"] = "dev"
    folder = write(tmp_path / "data", made)
    whole = [
        (i.error.code, i.table, i.column, i.row, i.count)
        for i in check_data(read_spec(folder), scratch=tmp_path).findings
    ]
    monkeypatch.setattr(spill, "HELD_AT_MOST", 50)
    monkeypatch.setattr(joins, "AT_ONCE", 0)
    apart = [
        (i.error.code, i.table, i.column, i.row, i.count)
        for i in check_data(read_spec(folder), scratch=tmp_path).findings
    ]
    assert apart == whole
    assert {code for code, *_ in whole} == {"FC-5030", "FC-5035"}


def test_what_was_spilled_is_gone_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD_AT_MOST", 50)
    folder, scratch = write(tmp_path / "data", tables()), tmp_path / "scratch"
    scratch.mkdir()
    check_data(read_spec(folder), scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_memory_does_not_grow_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "CHUNK_ROWS", 4_000)
    monkeypatch.setattr(spill, "HELD_AT_MOST", 4_000)
    monkeypatch.setattr(joins, "AT_ONCE", 0)
    monkeypatch.setattr(profile, "SAMPLE_ROWS", 1_000)

    def peak(rows: int) -> int:
        path = tmp_path / "tel_daily.parquet"
        tokens = [token("vehicle", n) for n in range(1_000)]
        with pq.ParquetWriter(
            path, pa.schema([("vin_tok", pa.string()), ("day", pa.int32()), ("km", pa.float64())])
        ) as out:
            for day in range(rows // 1_000):
                km, date = np.linspace(10, 90, 1_000), 20_200_101 + 100 * (day // 28) + day % 28
                out.write_batch(
                    pa.record_batch({"vin_tok": tokens, "day": pa.array([date] * 1_000, pa.int32()), "km": km + day})
                )
        (tmp_path / "mapping.toml").write_text(
            HEAD + '[tables.tel_daily]\nfile = "tel_daily.parquet"\ndate_format = "%Y%m%d"\n'
            'absent = []\n[tables.tel_daily.columns]\nvin_tok = "vin_tok"\nday = "day"\nkm = "km"\n'
            'device_event = { constant = "none" }\ngap_share = { constant = 0 }\n'
        )
        tracemalloc.start()
        report = check_data(read_spec(tmp_path), scratch=tmp_path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert report.profiles["tel_daily"].rows == rows
        return most

    small, large = peak(12_000), peak(60_000)
    assert large < 1.4 * small


def test_equal_keys_have_equal_hashes_in_any_table_and_order() -> None:
    one = hashes_of([np.array(["a", "b", None], dtype=object)])
    other = hashes_of([np.array([None, "a"], dtype=object)])
    assert one[0] == other[1]
    assert one[2] == other[0]
    pairs = hashes_of([np.array(["a", "b"], dtype=object), np.array([1.0, 2.0])])
    swapped = hashes_of([np.array(["b", "a"], dtype=object), np.array([1.0, 2.0])])
    assert len({*pairs.tolist(), *swapped.tolist()}) == 4


def test_a_spill_gives_back_what_it_got_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spill, "HELD_AT_MOST", 100)
    kept = Spill(tmp_path, "rows", ("x",))
    keys = hashes_of([np.array([f"k{n}" for n in range(950)], dtype=object)])
    for start in range(0, 950, 60):
        piece = slice(start, start + 60)
        rows = np.arange(950)[piece]
        kept.add(keys[piece], rows, {"x": rows / 2})
    back = pd.concat([kept.part(range(part, part + 1)) for part in range(spill.PARTS)])
    assert sorted(zip(back["key"], back["row"], back["x"], strict=True)) == sorted(
        zip(keys, np.arange(950), np.arange(950) / 2, strict=True)
    )


def test_the_auc_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(2)
    scores, bad = rng.integers(0, 9, 120).astype(float), rng.random(120) < 0.3
    pairs = [(b > g) + 0.5 * (b == g) for b in scores[bad] for g in scores[~bad]]
    assert auc(scores, bad) == pytest.approx(sum(pairs) / len(pairs))


ROWS = 240
ARROW: dict[str, pa.Array] = {
    "lists": pa.array([[1]] * ROWS),
    "structures": pa.array([{"a": 1}] * ROWS),
    "bytes": pa.array([b"\xff\xfe"] * ROWS),
    "decimals": pa.array([decimal.Decimal("1.50")] * ROWS),
    "times": pa.array([datetime.time(1, 2)] * ROWS),
    "durations": pa.array([datetime.timedelta(1)] * ROWS),
    "large texts": pa.array(["x"] * ROWS, pa.large_string()),
    "views of texts": pa.array(["x"] * ROWS, pa.string_view()),
    "flags": pa.array([True] * ROWS),
    "nothing": pa.nulls(ROWS),
    "dictionaries of texts": pa.array(["a"] * ROWS).dictionary_encode(),
    "dictionaries of numbers": pa.array([1] * ROWS).dictionary_encode(),
    "moments in a zone": pa.array([datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)] * ROWS),
    "moments far away": pa.array([2**62] * ROWS, pa.int64()).cast(pa.timestamp("us")),
    "the largest whole number": pa.array([2**64 - 1] * ROWS, pa.uint64()),
    "the least whole number": pa.array([-(2**63)] * ROWS),
    "half floats": pa.array(np.ones(ROWS, dtype=np.float16)),
    "the largest float": pa.array([1.7e308] * ROWS),
}


@pytest.mark.parametrize("name", ARROW)
def test_a_column_of_any_type_ends_as_findings_and_never_as_a_crash(name: str, tmp_path: Path) -> None:
    made = {table: frame for table, frame in tables().items() if table not in ("veh", "rv_weekly", "tel_daily")}
    columns = ("amount", "term_m", "product", "orig_date", "dealer_id", "bureau_hit")
    changed = pa.Table.from_pandas(made["contract"].drop(columns=[c for c in columns if c != "dealer_id"]))
    for column in columns:
        changed = changed.append_column(column, ARROW[name])
    pq.write_table(
        changed.drop_columns([c for c in changed.column_names if c.startswith("__")]), tmp_path / "c.parquet"
    )
    folder = write(
        tmp_path, made, raw={"contract": (tmp_path / "c.parquet").read_bytes()}, names={"contract": "c.parquet"}
    )
    report = check_data(read_spec(folder), scratch=tmp_path)
    told = {item.column for item in report.findings if item.table == "contract"}
    assert {"orig_date", "product", "term_m"} & told
    page = render_data_page(report, accepted=frozenset(), language="en") if name == "the largest float" else "<svg"
    assert "<svg" in page


def test_the_positions_that_the_rules_count_on_are_those_of_the_canonical_set() -> None:
    rules_of = canonical(1)
    targets = rules_of.table("outcome").column("target").values
    binary = {"pd12_app", "pd12_beh", "ew30_1", "ew30_3", "fpd30", "spd30", "total_loss", "theft", "fraud"}
    assert {targets[int(place)] for place in rules._BINARY} == binary == set(vintages._BINARY)
    assert [targets[int(place)] for place in joins._PD_TARGETS] == ["pd12_app", "pd12_beh"]
    assert rules_of.table("entity").column("legal_basis").values[int(rules._NO_BASIS)] == "none"
    methods = rules_of.table("veh").column("appraisal_method").values
    assert [methods[int(place)] for place in rules._DISPOSAL] == ["disposal", "auction"]
    assert rules_of.table("edge").column("origin").values[int(rules._INVESTIGATION)] == "investigation"
    assert set(get_args(LabelKind)) == set(rules_of.table("outcome").column("kind").values)
    events = rules_of.table("tel_daily").column("device_event").values
    assert [events[int(place)] for place in joins._EVENTS] == ["reinstall", "immobilise", "remove"]
    splits = rules_of.table("observation").column("split").values
    assert [splits[int(place)] for place in joins._DEVELOPMENT] == ["dev", "oos"]
    assert rules_of.table("contract").column("status").values[int(plausibility._STATUS_ACTIVE)] == "active"
