"""Faults, each made by code: what is changed, and the code, place and way out that a check must then tell."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from data_faults.world import OOT, ROWS, Tables, csv_bytes, day, token

from fedcredit.contract.identifiers import national_id_check, uscc_check, vin_check
from fedcredit.parties import InstitutionType

SECRET = "ZQ7CANARY"
"""Stands in faulty cells; no message may hold it."""


@dataclass
class Case:
    """A world that is about to be written."""

    tables: Tables
    raw: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    kind: InstitutionType = InstitutionType.BANK
    facts: dict[str, Any] = field(default_factory=dict)
    features: str = ""
    mapped: dict[str, str] | None = None
    """Lines of a mapping by table or ``table.column``; ``None`` for a manifest."""
    after: list[Callable[[Any], None]] = field(default_factory=list)
    """Run on the written folder."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault and what must be said about it."""

    name: str
    make: Callable[[Case], None]
    code: str
    table: str
    column: str = ""
    row: int | None = None
    fix: str = ""
    secrets: tuple[str, ...] = (SECRET,)
    also: frozenset[str] = frozenset()
    """Further codes that the same fault truly has."""


FAULTS: list[Fault] = []


def fault(name: str, code: str, place: str, make: Callable[[Case], None], **more: Any) -> None:
    table, _, column = place.partition(".")
    FAULTS.append(Fault(name=name, code=code, table=table, column=column, make=make, **more))


def put(place: str, values: Any, rows: Sequence[int] | slice | None = None) -> Callable[[Case], None]:
    """Return a change of a column: ``values`` for all rows, or at ``rows`` counted from 1."""
    table, _, column = place.partition(".")

    def change(case: Case) -> None:
        frame = case.tables[table]
        new = values(frame) if callable(values) else values
        if rows is None:
            frame[column] = new
        else:
            frame[column] = frame[column].astype(object) if column in frame else ""
            for row in range(ROWS)[rows] if isinstance(rows, slice) else [row - 1 for row in rows]:
                frame.loc[row, column] = new

    return change


def several(*changes: Callable[[Case], None]) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        for part in changes:
            part(case)

    return change


def mapping(**lines: str) -> Callable[[Case], None]:
    """Return a change that reads the tables through a mapping with these ``lines``; a __ is the dot of a column."""
    return lambda case: setattr(case, "mapped", {name.replace("__", "."): text for name, text in lines.items()})


def raw(table: str, make: Callable[[bytes], bytes], name: str | None = None) -> Callable[[Case], None]:
    """Return a change of the bytes of a table's file."""

    def change(case: Case) -> None:
        case.raw[table] = make(csv_bytes(case.tables[table]))
        if name:
            case.names[table] = name

    return change


def parquet(table: str, make: Callable[[pd.DataFrame], pa.Table]) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        sink = io.BytesIO()
        pq.write_table(make(case.tables[table]), sink)
        case.raw[table], case.names[table] = sink.getvalue(), f"{table}.parquet"

    return change


def typed(frame: pd.DataFrame, **columns: pa.Array) -> pa.Table:
    """Return a frame as Arrow with some columns replaced; empty texts become nulls."""
    table = pa.Table.from_pandas(frame.replace({"": None}), preserve_index=False)
    for name, array in columns.items():
        position = table.schema.get_field_index(name)
        table = table.set_column(position, name, array) if position >= 0 else table.append_column(name, array)
    return table


# --- cells -----------------------------------------------------------------------------------------------

for name, text in (("letters", SECRET), ("percent", "8 %"), ("blank inside", "12 500"), ("hexadecimal", "0x1F")):
    fault(
        f"{name} in a number", "FC-5012", "contract.amount", put("contract.amount", text, [17]), row=17, secrets=(text,)
    )
fault(
    "fractions in whole numbers",
    "FC-5012",
    "contract.term_m",
    put("contract.term_m", "24.5", [9]),
    row=9,
    secrets=("24.5",),
)
fault(
    "a flag of 2", "FC-5013", "contract.bureau_hit", put("contract.bureau_hit", 2, slice(0, 40)), row=1, fix="Correct"
)
fault(
    "one amount beyond the range",
    "FC-5021",
    "contract.amount",
    put("contract.amount", 9_876_543, [31]),
    row=31,
    fix="--accept FC-5021",
    secrets=("9876543", "9,876,543"),
)
fault(
    "many terms beyond the range",
    "FC-5013",
    "contract.term_m",
    put("contract.term_m", 777, slice(4, 60)),
    row=5,
    secrets=("777",),
)
fault(
    "many negative amounts",
    "FC-5013",
    "contract.amount",
    put("contract.amount", -54321, slice(2, 50)),
    row=3,
    secrets=("54321",),
)
fault(
    "one negative balance",
    "FC-5021",
    "rep_monthly.balance",
    put("rep_monthly.balance", -54321, [8]),
    row=8,
    secrets=("54321",),
)
fault("an empty required cell", "FC-5014", "entity.ent_type", put("entity.ent_type", "", [12]), row=12)
fault(
    "a row without a borrower",
    "FC-5017",
    "observation.entity_tok",
    put("observation.entity_tok", "", [3]),
    row=3,
    also=frozenset({"FC-5110"}),
)
fault(
    "minus one through a mapping that says nothing of codes",
    "FC-5054",
    "contract.income_m",
    several(mapping(), put("contract.income_m", "-1", [20])),
    row=20,
    fix="typed = true",
    secrets=(),
)
fault(
    "minus two for a category through a mapping",
    "FC-5054",
    "rep_monthly.bucket",
    several(mapping(contract="typed = true"), put("rep_monthly.bucket", "-2", [7])),
    row=7,
    fix="[tables.rep_monthly.columns.bucket]",
    secrets=(),
)
fault(
    "an empty cell without a reason",
    "FC-5045",
    "contract.income_m",
    put("contract.income_m", "", [20]),
    row=20,
    fix="empty = -1",
)
for text in ("NaN", "inf", "-Infinity", "#DIV/0!", "#N/A"):
    fault(
        f"{text} in a number",
        "FC-5029",
        "contract.income_m",
        put("contract.income_m", text, [5]),
        row=5,
        fix="empty",
        secrets=(),
    )
fault(
    "a decimal comma",
    "FC-5022",
    "contract.apr",
    put("contract.apr", "0,0731", [2]),
    row=2,
    fix='decimal = ","',
    secrets=("0731",),
)
fault(
    "a decimal comma with points",
    "FC-5022",
    "contract.amount",
    put("contract.amount", "98.765,43", slice(0, 200)),
    row=1,
    fix='decimal = ","',
    secrets=("98.765", "765,43"),
)
fault(
    "commas for thousands",
    "FC-5022",
    "contract.amount",
    put("contract.amount", "98,765.43", slice(0, 200)),
    row=1,
    fix='thousands = ","',
    secrets=("98,765",),
)
fault(
    "one grouped number among decimal commas",
    "FC-5022",
    "contract.amount",
    several(put("contract.amount", "98765,5", slice(0, 200)), put("contract.amount", "98,765", [1])),
    row=1,
    fix='decimal = ","',
    secrets=("98765", "98,765"),
)
fault(
    "commas before three digits everywhere",
    "FC-5022",
    "contract.amount",
    put("contract.amount", "98,765", slice(0, 240)),
    row=1,
    fix='thousands = ","',
    secrets=("98,765",),
)
for text, fix in (("98.765", 'thousands = "."'), ("98.765,43", 'thousands = "."'), ("98765.4", 'decimal = "."')):
    fault(
        f"{text} where commas are decimal",
        "FC-5022",
        "contract.amount",
        several(
            mapping(contract='decimal = ","'),
            put("contract.apr", "0,07"),
            put("contract.ltv0", "0,6"),
            put("contract.amount", "98765,5"),
            put("contract.amount", text, [9]),
        ),
        row=9,
        fix=fix,
        secrets=(text, "98765"),
        also=frozenset({"FC-5032"}),
    )
fault(
    "decimal commas where commas group",
    "FC-5022",
    "contract.amount",
    several(
        mapping(contract='thousands = ","'), put("contract.amount", "98,765.5"), put("contract.amount", "12,5", [4])
    ),
    row=4,
    fix='decimal = "," and thousands = ""',
    secrets=("12,5", "98,765"),
    also=frozenset({"FC-5032"}),
)
fault(
    "decimal points where points group",
    "FC-5022",
    "contract.amount",
    several(
        mapping(contract='decimal = ","\nthousands = "."'),
        put("contract.apr", "0,07"),
        put("contract.ltv0", "0,6"),
        put("contract.amount", "98.765,5"),
        put("contract.amount", "0.073", [4]),
    ),
    row=4,
    fix='decimal = "." and thousands = ""',
    secrets=("0.073", "98.765"),
    also=frozenset({"FC-5032"}),
)
fault(
    "a list in a cell",
    "FC-5012",
    "contract.amount",
    parquet("contract", lambda f: typed(f, amount=pa.array([[1.0]] * ROWS))),
    row=1,
)
fault(
    "numbers that are NaN in Parquet",
    "FC-5029",
    "contract.amount",
    parquet("contract", lambda f: typed(f, amount=pa.array(np.where(np.arange(ROWS) == 6, np.nan, f["amount"])))),
    row=7,
)
fault(
    "numbers that are infinite in Parquet",
    "FC-5029",
    "contract.amount",
    parquet("contract", lambda f: typed(f, amount=pa.array(np.where(np.arange(ROWS) == 6, np.inf, f["amount"])))),
    row=7,
)
fault(
    "true and false for a date",
    "FC-5012",
    "contract.orig_date",
    parquet("contract", lambda f: typed(f, orig_date=pa.array([True] * ROWS))),
    row=1,
)

# --- dates -----------------------------------------------------------------------------------------------


def written(place: str, form: str, rows: slice | None = None) -> Callable[[Case], None]:
    """Return a change that writes a column's dates in another format."""
    table, _, column = place.partition(".")

    def change(case: Case) -> None:
        frame = case.tables[table]
        new = pd.to_datetime(frame[column]).dt.strftime(form)
        frame[column] = (
            new
            if rows is None
            else [n if i in range(ROWS)[rows] else o for i, (o, n) in enumerate(zip(frame[column], new, strict=True))]
        )

    return change


for form in ("%d.%m.%Y", "%Y%m%d", "%Y/%m/%d", "%Y年%m月%d日", "%Y-%m-%d %H:%M:%S", "%d-%b-%Y"):
    fault(
        f"dates as {form}",
        "FC-5026",
        "contract.bureau_date",
        written("contract.bureau_date", form),
        row=1,
        fix=f'format = "{form}"',
    )
fault(
    "two formats of dates",
    "FC-5027",
    "contract.bureau_date",
    written("contract.bureau_date", "%d.%m.%Y", slice(50, 90)),
    row=51,
    fix="one format",
)
fault(
    "day and month either way",
    "FC-5027",
    "contract.bureau_date",
    written("contract.bureau_date", "%d/%m/%Y", slice(10, 40)),
    row=11,
    fix="YYYY-MM-DD",
)
fault(
    "a day that does not exist",
    "FC-5026",
    "contract.bureau_date",
    put("contract.bureau_date", "2024-02-30", [44]),
    row=44,
    secrets=("02-30",),
)
fault("a word for a date", "FC-5026", "contract.bureau_date", put("contract.bureau_date", SECRET, [44]), row=44)
fault(
    "a date in the future",
    "FC-5028",
    "veh.appraised_at",
    put("veh.appraised_at", "2031-05-17", [13]),
    row=13,
    secrets=("2031",),
)
for text in ("1900-01-01", "9999-12-31", "1970-01-01"):
    fault(
        f"{text} for an empty date",
        "FC-5049",
        "contract.bureau_date",
        put("contract.bureau_date", text, [6]),
        row=6,
        fix="--accept FC-5049",
    )

# --- codes -----------------------------------------------------------------------------------------------

fault(
    "a product that nobody listed",
    "FC-5041",
    "contract.product",
    put("contract.product", SECRET, [8]),
    row=8,
    fix='"YOURS" = "new_car"',
)
fault("a bucket that nobody listed", "FC-5041", "rep_monthly.bucket", put("rep_monthly.bucket", SECRET, [4]), row=4)
fault(
    "a drive in small letters",
    "FC-5041",
    "veh.fuel",
    put("veh.fuel", "bev", slice(0, 80)),
    row=1,
    fix='"YOURS" = "ICE"',
    secrets=("bev",),
)
fault(
    "a region below the prefecture",
    "FC-5041",
    "entity.region2",
    put("entity.region2", "440305", [19]),
    row=19,
    secrets=("440305",),
)
fault(
    "a typed code where none may be",
    "FC-5041",
    "entity.ent_type",
    put("entity.ent_type", "-1", [19]),
    row=19,
    secrets=(),
)
fault(
    "a label kind outside the map",
    "FC-5052",
    "outcome.kind",
    put("outcome.kind", "comp", [22]),
    row=22,
    fix="label_map.toml",
)

# --- tokens ----------------------------------------------------------------------------------------------


def tokens(make: Callable[[int], str]) -> Callable[[Case], None]:
    """Return a change of every borrower's token, in all tables."""

    def change(case: Case) -> None:
        new = [make(n) for n in range(ROWS)]
        for table in ("entity", "contract", "observation"):
            case.tables[table]["entity_tok"] = new
        case.tables["observation"]["fold"] = [int(t[:8], 16) % 10 for t in new]

    return change


def hashed(method: str, what: str) -> Callable[[int], str]:
    return lambda n: hashlib.new(method, (f"c{n:05d}" if what == "id" else str(n + 1)).encode()).hexdigest()


fault(
    "SHA-256 of the contract's number",
    "FC-5044",
    "contract.entity_tok",
    tokens(hashed("sha256", "id")),
    row=1,
    fix="tokenise",
)
fault(
    "SHA-256 of the row's number",
    "FC-5044",
    "entity.entity_tok",
    tokens(hashed("sha256", "row")),
    row=1,
    also=frozenset(),
)
fault("SHA3 of the row's number", "FC-5044", "entity.entity_tok", tokens(hashed("sha3_256", "row")), row=1)
fault(
    "MD5 for a token",
    "FC-5043",
    "veh.vin_tok",
    several(
        put(
            "veh.vin_tok",
            lambda f: [hashlib.md5(str(n).encode(), usedforsecurity=False).hexdigest() for n in range(ROWS)],
        ),
        lambda c: c.tables.pop("rv_weekly") is None,
        lambda c: c.tables.pop("tel_daily") is None,
    ),
    row=1,
)
fault(
    "a token in capitals",
    "FC-5043",
    "contract.vin_tok",
    put("contract.vin_tok", "AB" * 32, [5]),
    row=5,
    secrets=("ABAB",),
)
fault(
    "a token that is cut",
    "FC-5043",
    "contract.vin_tok",
    put("contract.vin_tok", "ab" * 20, [5]),
    row=5,
    secrets=("abab",),
)

# --- personal data: names of columns ---------------------------------------------------------------------

for name in (
    "name",
    "cust_name",
    "CustomerName",
    "姓名",
    "id_no",
    "IDCard",
    "身份证号",
    "phone",
    "mobile_no",
    "手机号",
    "home_address",
    "住址",
    "lat",
    "gps_lon",
    "经度",
    "wechat_id",
    "通讯录",
    "sms_content",
    "faceId",
    "指纹",
    "民族",
    "religion",
    "health_status",
    "疾病",
    "bank_card_no",
    "银行卡",
    "vin",
    "车牌号",
    "child_name",
    "email",
    "browsing_history",
    "call_log",
):
    fault(
        f"a column called {name}",
        "FC-5019",
        f"contract.{name}",
        put(f"contract.{name}", SECRET),
        fix="Leave the column out",
    )

# --- personal data: values -------------------------------------------------------------------------------


def national_id(n: int) -> str:
    digits = f"440305{1960 + n % 40:04d}{n % 12 + 1:02d}{n % 28 + 1:02d}{n % 1000:03d}"
    return digits + national_id_check(digits)


def uscc(n: int) -> str:
    code = f"91440300MA5{n:06d}"
    return code + uscc_check(code)


def vin(n: int) -> str:
    number = f"LSVAA4182E{n:07d}"
    return number[:8] + vin_check(number) + number[9:]


VALUES: Mapping[str, Callable[[int], str]] = {
    "identity numbers": national_id,
    "credit codes": uscc,
    "phone numbers": lambda n: f"138{n:08d}",
    "phone numbers with +86": lambda n: f"+86 139{n:08d}",
    "vehicle numbers": vin,
    "number plates": lambda n: f"粤B{n:05d}",
    "addresses of mail": lambda n: f"person{n}@example.org",
    "pairs of coordinates": lambda n: f"22.5{n:04d}, 114.0{n:04d}",
}
for name, make in VALUES.items():
    fault(
        f"{name} in cells",
        "FC-5020",
        "contract.dealer_id",
        put("contract.dealer_id", lambda f, make=make: [make(n) for n in range(ROWS)]),
        row=1,
        secrets=(make(0), make(7)),
    )
fault(
    "identity numbers for tokens",
    "FC-5020",
    "entity.entity_tok",
    several(
        tokens(lambda n: token("person", n)), put("entity.entity_tok", lambda f: [national_id(n) for n in range(ROWS)])
    ),
    row=1,
    fix="tokenise",
    secrets=(national_id(0),),
    also=frozenset({"FC-5035"}),
)
fault(
    "phone numbers as numbers",
    "FC-5020",
    "contract.dealer_id",
    parquet("contract", lambda f: typed(f, dealer_id=pa.array([13_800_000_000 + n for n in range(ROWS)]))),
    row=1,
    secrets=("138000",),
)
fault(
    "latitudes in a harmless column",
    "FC-5020",
    "rv_weekly.market_index",
    parquet("rv_weekly", lambda f: typed(f, market_index=pa.array([22.543_21 + n * 1e-4 + 1e-5 for n in range(ROWS)]))),
    row=1,
    secrets=("22.5",),
)

# --- columns ---------------------------------------------------------------------------------------------


def drop(place: str) -> Callable[[Case], None]:
    table, _, column = place.partition(".")
    return lambda case: case.tables.update({table: case.tables[table].drop(columns=column)})


def rename(place: str, new: str) -> Callable[[Case], None]:
    table, _, column = place.partition(".")
    return lambda case: case.tables.update({table: case.tables[table].rename(columns={column: new})})


def swap(table: str, one: str, other: str) -> Callable[[Case], None]:
    return lambda case: case.tables.update({table: case.tables[table].rename(columns={one: other, other: one})})


for place in (
    "contract.amount",
    "contract.bureau_score",
    "observation.fold",
    "outcome.known_at",
    "veh.fuel",
    "entity.region2",
):
    fault(f"no {place}", "FC-5011", place, drop(place), fix=place.partition(".")[2])
fault("no key", "FC-5011", "rep_monthly.month", drop("rep_monthly.month"), fix="month")
fault(
    "a misspelt column",
    "FC-5011",
    "contract.amount",
    rename("contract.amount", "amuont"),
    fix='"amuont"',
    also=frozenset({"FC-5033"}),
)
fault("one column too many", "FC-5033", "contract.branch_note", put("contract.branch_note", SECRET), fix="ignore = ")
fault(
    "a column twice",
    "FC-5046",
    "contract.amount",
    raw("contract", lambda b: b.replace(b"income_m", b"amount", 1)),
    also=frozenset({"FC-5011"}),
    fix="Rename",
)
fault("income and age swapped", "FC-5034", "contract.age_y", swap("contract", "age_y", "income_m"), row=1, fix="Swap")
fault(
    "amount and term swapped",
    "FC-5034",
    "contract.amount",
    swap("contract", "amount", "term_m"),
    row=1,
    fix="Swap",
    also=frozenset({"FC-5012"}),
)
fault("a constant column", "FC-5032", "contract.term_m", put("contract.term_m", 36), fix="--accept FC-5032")
fault(
    "a column that is mostly missing",
    "FC-5050",
    "contract.income_m",
    put("contract.income_m", lambda f: np.where(np.arange(ROWS) % 5 == 0, f["income_m"], -1)),
    fix="--accept FC-5050",
)

# --- keys ------------------------------------------------------------------------------------------------


def again(table: str, row: int) -> Callable[[Case], None]:
    return lambda case: case.tables.update(
        {table: pd.concat([case.tables[table], case.tables[table].iloc[[row - 1]]], ignore_index=True)}
    )


fault("a contract twice", "FC-5030", "contract", again("contract", 5), row=ROWS + 1, fix="one row for each contract_id")
fault("a month twice", "FC-5030", "rep_monthly", again("rep_monthly", 9), row=3 * ROWS + 1, fix="contract_id + month")
fault("an observation twice", "FC-5030", "observation", again("observation", 9), row=ROWS + 1)
fault(
    "a contract of nobody",
    "FC-5035",
    "contract.entity_tok",
    put("contract.entity_tok", token("stranger", 1), [7]),
    row=7,
    fix="same day",
)
fault(
    "an observation of no contract",
    "FC-5035",
    "observation.contract_id",
    put("observation.contract_id", "c99999", [7]),
    row=7,
    also=frozenset({"FC-5035"}),
    secrets=("c99999",),
)
fault(
    "an outcome of no contract",
    "FC-5035",
    "outcome.contract_id",
    put("outcome.contract_id", "c99999", [7]),
    row=7,
    secrets=("c99999",),
)
fault("a guide for no vehicle", "FC-5035", "rv_weekly.vin_tok", put("rv_weekly.vin_tok", token("none", 1), [3]), row=3)
fault(
    "an outcome without an observation",
    "FC-5035",
    "outcome.obs_date",
    lambda c: c.tables.update(observation=c.tables["observation"].drop(index=10)),
    row=11,
)
fault(
    "a series with a gap",
    "FC-5053",
    "rep_monthly.month",
    lambda c: c.tables.update(rep_monthly=c.tables["rep_monthly"].drop(index=4)),
    row=4,
)

# --- files -----------------------------------------------------------------------------------------------


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("contract.csv", data)
        archive.writestr("bomb.csv", bytes(4_000_000))
    return sink.getvalue()


def bomb(frame: pd.DataFrame) -> pa.Table:
    return pa.table({"contract_id": pa.array(["c" * 60_000] * 1_200)})


def pack(case: Case) -> None:
    sink = io.BytesIO()
    pq.write_table(
        bomb(case.tables["contract"]),
        sink,
        compression="zstd",
        use_dictionary=False,
        write_statistics=False,
        data_page_size=1 << 28,
    )
    case.raw["contract"], case.names["contract"] = sink.getvalue(), "contract.parquet"


def wide(data: bytes, change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    return b"\n".join(change(data.split(b"\n")))


def line(number: int, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a change of one data line, counted from 1."""
    return lambda data: wide(data, lambda rows: [change(r) if i == number else r for i, r in enumerate(rows)])


def longer(folder: Path) -> None:
    (folder / "contract.csv").write_bytes((folder / "contract.csv").read_bytes() + b"\n")


fault(
    "a byte order mark", "FC-5025", "contract", raw("contract", lambda b: b"\xef\xbb\xbf" + b), fix="--accept FC-5025"
)
for mark, spoken in ((b";", 'delimiter = ";"'), (b"\t", 'delimiter = "\\t"'), (b"|", 'delimiter = "|"')):
    fault(
        f"columns separated by {mark!r}",
        "FC-5023",
        "contract",
        raw("contract", lambda b, mark=mark: b.replace(b",", mark)),
        fix=spoken,
    )
fault(
    "GB 18030 text",
    "FC-5024",
    "contract",
    raw("contract", line(3, lambda r: r + "陶瓷".encode("gb18030"))),
    row=3,
    fix='encoding = "gb18030"',
)
fault(
    "UTF-16 text",
    "FC-5024",
    "contract",
    raw("contract", lambda b: b.decode().encode("utf-16")),
    row=1,
    fix='encoding = "utf-16"',
)
fault("Western text", "FC-5024", "contract", raw("contract", line(9, lambda r: r + b"\xe9 ")), row=9, fix="encoding = ")
fault("a gzip file", "FC-5036", "contract", raw("contract", gzip.compress), fix="Unpack")
fault("a zip archive", "FC-5036", "contract", raw("contract", zipped), fix="Unpack")
fault("an Excel workbook", "FC-5036", "contract", raw("contract", zipped, "contract.xlsx"), fix="Unpack")
fault("a zstd file", "FC-5036", "contract", raw("contract", lambda b: b"\x28\xb5\x2f\xfd" + b[:40]), fix="Unpack")
fault("a Parquet bomb", "FC-5037", "contract", pack, fix="smaller row groups")
fault("an empty file", "FC-5015", "contract", raw("contract", lambda b: b""))
fault("a header line only", "FC-5015", "contract", raw("contract", lambda b: b.split(b"\n")[0] + b"\n"))
fault(
    "a huge cell",
    "FC-5038",
    "contract",
    raw("contract", line(4, lambda r: b"c" * 70_000 + r)),
    row=4,
    fix="quotation mark",
)
fault("an endless line", "FC-5038", "contract", raw("contract", line(4, lambda r: r + b"9" * 1_500_000)))
fault(
    "a line with a cell too many",
    "FC-5042",
    "contract",
    raw("contract", line(6, lambda r: r + b"," + SECRET.encode())),
    row=6,
    fix="Quote",
)
fault(
    "a line with a cell too few",
    "FC-5042",
    "contract",
    raw("contract", line(6, lambda r: r.rpartition(b",")[0])),
    row=6,
    fix="Quote",
)
for name, row, change in (
    ("three blank lines below the header", 12, lambda rows: [rows[0], b"", b"", b"", *rows[1:]]),
    ("a blank line between rows", 10, lambda rows: [*rows[:4], b"", *rows[4:]]),
    ("blank lines behind the rows", 9, lambda rows: [*rows, b"", b""]),
):
    fault(
        f"a broken cell and {name}",
        "FC-5012",
        "contract.term_m",
        several(
            put("contract.term_m", "24.5", [9]), lambda c, change=change: raw("contract", lambda b: wide(b, change))(c)
        ),
        row=row,
        secrets=("24.5",),
    )
fault(
    "text called Parquet",
    "FC-5003",
    "contract",
    raw("contract", lambda b: b, "contract.parquet"),
    fix="Export it again",
)


def cut(case: Case) -> None:
    parquet("contract", lambda f: typed(f))(case)
    case.raw["contract"] = case.raw["contract"][:-300]


fault("half a Parquet file", "FC-5003", "contract", cut)
fault(
    "no file",
    "FC-5001",
    "contract",
    lambda c: c.after.append(lambda folder: (folder / "contract.csv").unlink()),
    fix="path",
)
fault(
    "a file that was changed",
    "FC-5002",
    "contract",
    lambda c: c.after.append(longer),
    fix="Fetch it again",
)
fault(
    "fewer rows than stated",
    "FC-5006",
    "rv_weekly",
    lambda c: c.raw.update(rv_weekly=csv_bytes(c.tables["rv_weekly"].iloc[:200])),
    fix="Copy",
)
fault(
    "one row",
    "FC-5039",
    "rv_weekly",
    lambda c: c.tables.update(rv_weekly=c.tables["rv_weekly"].iloc[:1]),
    fix="--accept FC-5039",
)
fault("no outcome table", "FC-5009", "outcome", lambda c: c.tables.pop("outcome") is None, fix="outcome")
fault("no repayment series at a bank", "FC-5009", "rep_monthly", lambda c: c.tables.pop("rep_monthly") is None)
fault("no operations at a fund", "FC-5009", "ent_monthly", lambda c: setattr(c, "kind", InstitutionType.GUARANTEE_FUND))

# --- units -----------------------------------------------------------------------------------------------


def scaled(place: str, factor: float) -> Callable[[Case], None]:
    return put(place, lambda f: f[place.partition(".")[2]] * factor)


fault("amounts in 10,000 yuan", "FC-5018", "contract.amount", scaled("contract.amount", 1e-4), fix='unit = "10k CNY"')
fault("rates in percent", "FC-5018", "contract.apr", scaled("contract.apr", 100), fix='unit = "%"')
fault("loan to value in percent", "FC-5018", "contract.ltv0", scaled("contract.ltv0", 100), fix='unit = "%"')
fault(
    "income of a year",
    "FC-5018",
    "contract.income_m",
    put("contract.income_m", lambda f: f["income_m"] * 14),
    fix='unit = "CNY/year"',
)
fault(
    "prices in 10,000 yuan", "FC-5018", "veh.invoice_price", scaled("veh.invoice_price", 1e-4), fix='unit = "10k CNY"'
)


def operations(case: Case) -> None:
    """Add the operations of every borrower."""
    rng = np.random.default_rng(3)
    case.tables["ent_monthly"] = pd.DataFrame(
        {
            "entity_tok": case.tables["entity"]["entity_tok"],
            "month": "2024-01-01",
            "revenue_vat": 200_000 + 90_000 * rng.random(ROWS),
            "power_kwh": 40_000 + 9_000 * rng.random(ROWS),
        }
    )


fault(
    "electricity in MWh",
    "FC-5018",
    "ent_monthly.power_kwh",
    several(operations, scaled("ent_monthly.power_kwh", 1e-3)),
    fix='unit = "MWh"',
)

# --- contradictions and law ------------------------------------------------------------------------------

fault(
    "shares that are not one",
    "FC-5048",
    "contract.share_bank",
    several(*(put(f"contract.share_{n}", 0.3) for n in ("bank", "guar", "reguar", "ins"))),
    row=1,
    fix="Correct",
)
fault(
    "a decision after the payout",
    "FC-5048",
    "contract.decision_date",
    put("contract.orig_date", "2022-01-01", [200]),
    row=200,
    also=frozenset({"FC-5102"}),
)
fault(
    "a value below its tenth percentile", "FC-5048", "rv_weekly.rv_p10", put("rv_weekly.rv_p10", 9_000_000, [5]), row=5
)
fault("a value above its ninetieth percentile", "FC-5048", "rv_weekly.rv_p90", put("rv_weekly.rv_p90", 1, [5]), row=5)
fault(
    "a delay above the month's worst",
    "FC-5048",
    "rep_monthly.dpd_max_m",
    several(
        put("rep_monthly.dpd_max_m", lambda f: f["dpd_eom"]),
        put("rep_monthly.dpd_max_m", 0, [k + 1 for k in range(3 * ROWS) if k == 10]),
        put("rep_monthly.dpd_eom", 40, [11]),
    ),
    row=11,
)
fault(
    "a default before the observation",
    "FC-5048",
    "outcome.event_date",
    put("outcome.event_date", "2021-01-05", [5]),
    row=5,
)
fault(
    "a label known before its event",
    "FC-5048",
    "outcome.known_at",
    several(
        put("outcome.known_at", "2022-01-02", [5]),
        put("outcome.event_date", "2025-06-01", [5]),
        put("outcome.y", 1, [5]),
    ),
    row=5,
)


def lagging(lines: str) -> Callable[[Case], None]:
    """Return a change of when the label map says that a label is known."""

    def change(folder: Path) -> None:
        text = (folder / "label_map.toml").read_text()
        (folder / "label_map.toml").write_text(text.replace('lag_days = 0\nknown_at = "event"', lines))

    return lambda case: case.after.append(change)


def known_late(case: Case) -> None:
    """Let every label be known 40 days after its event, and one after 29."""
    frame = case.tables["outcome"]
    bad = np.flatnonzero(frame["y"] == 1)
    for row in bad:
        lag = 29 if row == bad[2] else 40
        frame.loc[row, "known_at"] = str(np.datetime64(frame.loc[row, "event_date"]) + np.timedelta64(lag, "D"))


fault(
    "labels known sooner than the label map allows",
    "FC-5055",
    "outcome.known_at",
    several(known_late, lagging('lag_days = 30\nknown_at = "event"')),
    fix="--accept FC-5055",
)
fault(
    "labels known before the end of their month",
    "FC-5055",
    "outcome.known_at",
    several(put("outcome.known_at", lambda f: f["known_at"]), lagging('lag_days = 0\nknown_at = "month_end"')),
    fix="label_map.toml",
)
fault("half a default", "FC-5048", "outcome.y", put("outcome.y", 0.5, [5]), row=5, secrets=("0.5",))
fault(
    "a withdrawn consent",
    "FC-5047",
    "entity.legal_basis",
    put("entity.withdrawn", 1, [14]),
    row=14,
    fix="data protection officer",
)
fault("no legal basis", "FC-5047", "entity.legal_basis", put("entity.legal_basis", "none", [14]), row=14)
fault(
    "no default at all",
    "FC-5016",
    "outcome.y",
    several(
        put("outcome.y", 0),
        put("outcome.event_date", ""),
        put("outcome.known_at", "2026-06-01"),
        put("rep_monthly.restructured", lambda f: np.arange(len(f)) * 0),
    ),
    also=frozenset({"FC-5032"}),
)
fault("defaults only", "FC-5016", "outcome.y", put("outcome.y", 1))

# --- the eighteen leakage traps --------------------------------------------------------------------------


def known_until(column: str, row: int = 33) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        frame = case.tables["observation"]
        frame[column] = frame["obs_date"]
        frame.loc[row - 1, column] = str(np.datetime64(frame.loc[row - 1, "obs_date"]) + np.timedelta64(5, "D"))

    return change


def features(text: str) -> Callable[[Case], None]:
    head = "schema_version = 1\n[features.trap]\n"
    return lambda case: setattr(case, "features", head + text)


def feature(
    inputs: str,
    *,
    heads: str = "pd12_app",
    made_by: str = "aggregate",
    fitted_on: str = "nothing",
    until: str = "",
    cut: str = "observation",
    gap: int = 0,
) -> Callable[[Case], None]:
    fitted = f"fitted_until = {until}\n" if until else ""
    return features(
        f'heads = ["{heads}"]\ninputs = ["{inputs}"]\nmade_by = "{made_by}"\nfitted_on = "{fitted_on}"\n{fitted}'
        f'cut = "{cut}"\ngap_days = {gap}\n'
    )


def later(place: str, days: int, row: int) -> Callable[[Case], None]:
    table, _, column = place.partition(".")

    def change(case: Case) -> None:
        frame = case.tables[table]
        frame.loc[row - 1, column] = str(np.datetime64(frame.loc[row - 1, column]) + np.timedelta64(days, "D"))

    return change


def good_row(case: Case) -> int:
    """Return the first row, from 1, whose contract is good."""
    return int(np.flatnonzero(case.tables["outcome"]["y"] == 0)[0]) + 1


for column in ("bureau_until", "rv_until", "con_until", "ent_until", "clm_until"):
    fault(f"L1 {column} behind the observation", "FC-5101", f"observation.{column}", known_until(column), row=33)
fault("L1 telematics behind the observation", "FC-5101", "observation.tel_until", known_until("tel_until"), row=33)
fault("L1 a vehicle file from later", "FC-5101", "veh.asof_date", later("veh.asof_date", 90, 21), row=21)
fault("L1 a feature cut at the snapshot", "FC-5101", "features.trap", feature("contract.income_m", cut="snapshot"))
fault(
    "L2 a bureau report after the origination",
    "FC-5102",
    "contract.bureau_date",
    later("contract.bureau_date", 30, 40),
    row=40,
    fix="bureau report of the decision",
)
fault(
    "L3 collections in a 90-day head",
    "FC-5103",
    "features.trap",
    feature("rep_monthly.contact_fail_n", heads="pd12_beh", gap=30),
    fix="60 days",
)
fault(
    "L4 a balance behind the observation",
    "FC-5104",
    "observation.rep_until",
    known_until("rep_until"),
    row=33,
    fix="last month",
)
fault(
    "L4 a feature cut at the month's end", "FC-5104", "features.trap", feature("rep_monthly.balance", cut="month_end")
)
fault(
    "L5 a restated guide",
    "FC-5105",
    "rv_weekly.guide_vintage",
    later("rv_weekly.guide_vintage", 40, 12),
    row=12,
    fix="issue",
)
fault(
    "L6 an auction for an appraisal",
    "FC-5106",
    "veh.appraisal_method",
    put("veh.appraisal_method", "auction", [18]),
    row=18,
)


def repossessed(case: Case) -> None:
    frame = case.tables["outcome"]
    row = int(np.flatnonzero(frame["y"] == 1)[0])
    frame.loc[row, "repo_date"] = frame.loc[row, "event_date"]
    case.tables["veh"].loc[row, "appraised_at"] = str(
        np.datetime64(frame.loc[row, "event_date"]) + np.timedelta64(9, "D")
    )


fault("L6 an appraisal after the repossession", "FC-5106", "veh.appraised_at", repossessed, row=None)


def immobilised(case: Case) -> None:
    case.tables["tel_daily"].loc[30, "device_event"] = "immobilise"
    seen = case.tables["observation"]
    start = np.datetime64(seen.loc[30, "obs_date"])
    seen.loc[30, "obs_kind"] = "behaviour"
    for table in ("observation", "outcome"):
        case.tables[table].loc[30, "obs_date"] = str(start + np.timedelta64(25, "D"))
    seen.loc[30, "tel_until"] = str(start + np.timedelta64(20, "D"))
    out = case.tables["outcome"]
    out.loc[30, ["y", "event_date", "known_at"]] = [
        1,
        str(start + np.timedelta64(60, "D")),
        str(start + np.timedelta64(60, "D")),
    ]


fault("L7 telematics after an immobilisation", "FC-5107", "observation.tel_until", immobilised, row=31)


def claims(case: Case) -> None:
    """Add policies, half of them ended, and a claim each."""
    vehicles, people = case.tables["veh"]["vin_tok"], case.tables["entity"]["entity_tok"]
    rng = np.random.default_rng(5)
    case.tables["pol"] = pd.DataFrame(
        {
            "policy_id": [f"p{n}" for n in range(ROWS)],
            "entity_tok": people,
            "vin_tok": vehicles,
            "start": "2024-01-01",
            "end": np.where(np.arange(ROWS) % 2 == 0, "2024-12-31", "2026-12-31"),
            "cover": np.where(np.arange(ROWS) % 2 == 0, "own", "third"),
            "premium": 2_000 + 900 * rng.random(ROWS),
            "ncd_coef": 0.6 + rng.random(ROWS),
            "exposure_y": 0.5 + 0.5 * rng.random(ROWS),
        }
    )
    case.tables["clm"] = pd.DataFrame(
        {
            "claim_id": [f"k{n}" for n in range(ROWS)],
            "policy_id": [f"p{n}" for n in range(ROWS)],
            "loss_date": "2024-03-01",
            "report_date": "2024-03-09",
            "known_at": "2024-03-09",
            "kind": np.where(np.arange(ROWS) % 2 == 0, "own", "glass"),
            "paid": 900 + 5_000 * rng.random(ROWS),
        }
    )


fault(
    "L8 a claim before its report",
    "FC-5108",
    "clm.known_at",
    several(claims, put("clm.known_at", "2024-03-02", [27])),
    row=27,
)
fault(
    "a policy that ends before it starts",
    "FC-5048",
    "pol.end",
    several(claims, put("pol.end", "2023-05-01", [8])),
    row=8,
)
fault(
    "a loss after its report",
    "FC-5048",
    "clm.loss_date",
    several(claims, put("clm.loss_date", "2024-03-10", [8])),
    row=8,
)


def restructured_good(case: Case) -> None:
    row = good_row(case)
    start = case.tables["observation"].loc[row - 1, "obs_date"]
    new = case.tables["rep_monthly"].iloc[[3 * row - 3]].copy()
    new["month"] = str((np.datetime64(start) + np.timedelta64(62, "D")).astype("datetime64[M]")) + "-01"
    new["restructured"] = 1
    series = case.tables["rep_monthly"]
    others = series[series["contract_id"] != f"c{row - 1:05d}"]
    case.tables["rep_monthly"] = pd.concat([others, new], ignore_index=True)


fault("L9 a restructured loan that is good", "FC-5109", "outcome.y", restructured_good, fix="indeterminate")
fault(
    "L10 a fold of one's own",
    "FC-5110",
    "observation.fold",
    put("observation.fold", lambda f: (f["fold"] + (f.index == 24)) % 10),
    row=25,
    fix="int(entity_tok[:8], 16) % 10",
)


def both_parts(case: Case) -> None:
    seen = case.tables["observation"]
    first = int(np.flatnonzero(seen["split"] == "dev")[0])
    more = seen.iloc[[first]].copy()
    more["obs_date"] = str(np.datetime64(more["obs_date"].iloc[0]) + np.timedelta64(40, "D"))
    more["obs_kind"], more["split"] = "behaviour", "oos"
    case.tables["observation"] = pd.concat([seen, more], ignore_index=True)


fault("L10 a borrower in two parts", "FC-5110", "observation.split", both_parts)
fault(
    "L11 a target encoding of everything",
    "FC-5111",
    "features.trap",
    feature("contract.dealer_id", made_by="target_encoding", fitted_on="everything"),
    fix="development part",
)
fault(
    "L12 bins of everything",
    "FC-5112",
    "features.trap",
    feature("contract.amount", made_by="bins", fitted_on="everything"),
    fix="2024-07-01",
)
fault(
    "L12 scaling until after the cut",
    "FC-5112",
    "features.trap",
    feature("contract.amount", made_by="scaling", fitted_on="development", until="2025-01-01"),
)


def prepaid(case: Case) -> None:
    row = good_row(case)
    frame = case.tables["outcome"]
    frame.loc[row - 1, "prepaid_date"] = str(np.datetime64(frame.loc[row - 1, "obs_date"]) + np.timedelta64(80, "D"))


fault("L13 prepaid early and good", "FC-5113", "outcome.y", prepaid, fix="censoring weight")


def rewritten(case: Case) -> None:
    operations(case)
    case.kind = InstitutionType.GUARANTEE_FUND
    frame = case.tables["rep_monthly"]
    frame["reported_at"] = [str(np.datetime64(m) + np.timedelta64(50, "D")) for m in frame["month"]]
    frame.loc[4, "reported_at"] = str(np.datetime64(frame.loc[4, "month"]) + np.timedelta64(300, "D"))


fault("L14 a status rewritten later", "FC-5114", "rep_monthly.reported_at", rewritten, row=5, fix="first reported")
fault(
    "L15 only policies in force",
    "FC-5115",
    "pol",
    several(claims, put("pol.end", "2026-12-31")),
    fix="all that ever were",
)
fault(
    "L15 only contracts still active", "FC-5115", "contract", put("contract.status", "active"), fix="all that ever were"
)


def young(case: Case) -> None:
    row = good_row(case)
    frame = case.tables["outcome"]
    frame.loc[row - 1, "known_at"] = str(np.datetime64(frame.loc[row - 1, "obs_date"]) + np.timedelta64(100, "D"))


fault("L16 a good whose window is open", "FC-5116", "outcome.y", young, fix="reporting lag")


def links(case: Case) -> None:
    people = case.tables["entity"]["entity_tok"]
    case.tables["edge"] = pd.DataFrame(
        {
            "entity_a": people[:60],
            "entity_b": people[60:120].to_numpy(),
            "kind": np.where(np.arange(60) % 2 == 0, "phone", "dealer"),
            "origin": "application",
            "known_at": "2023-02-01",
        }
    )
    case.tables["edge"].loc[17, "origin"] = "investigation"


fault("L17 a link from the investigation", "FC-5117", "edge.origin", links, row=18, fix="before the suspicion")


def withdrawn_late(case: Case) -> None:
    row = int(np.flatnonzero(case.tables["outcome"]["y"] == 1)[0])
    case.tables["entity"].loc[row, "withdrawn"] = 1
    case.tables["entity"]["withdrawn_at"] = ""
    case.tables["entity"].loc[row, "withdrawn_at"] = "2026-05-01"


fault(
    "L18 a withdrawal after the default", "FC-5118", "entity.withdrawn_at", withdrawn_late, also=frozenset({"FC-5047"})
)


def leak(strength: float) -> Callable[[Case], None]:
    def change(case: Case) -> None:
        rng = np.random.default_rng(11)
        bad = case.tables["outcome"]["y"].to_numpy()
        case.tables["contract"]["util_rev"] = np.clip(
            0.3 + strength * bad + 0.1 * rng.standard_normal(ROWS), 0, 2
        ).round(4)

    return change


fault("the canary", "FC-5120", "contract.util_rev", leak(0.6), fix="leave it out")
fault("a feature to sign off", "FC-5121", "contract.util_rev", leak(0.14), fix="--accept FC-5121")


def missing_means_bad(case: Case) -> None:
    bad = case.tables["outcome"]["y"].to_numpy() == 1
    case.tables["contract"]["n_unsec"] = np.where(bad, -3, 2 + np.arange(ROWS) % 5)


fault("the canary in a code for missing", "FC-5120", "contract.n_unsec", missing_means_bad)
assert OOT.isoformat() == "2024-07-01"
assert day(0) == "2022-01-01"
