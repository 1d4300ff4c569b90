"""The institution's own file: Parquet or CSV, header and cells."""

from __future__ import annotations

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from fuzz.harness import chosen, from_file, one_of
from pyarrow import csv
from small_contract import CONTRACT_YAML, MODALITIES, columns

from fedcredit.contract.loading import parse_contract
from fedcredit.data.tables import read_table

TOKENS = tuple(
    b'who outcome amount income use place late_1 late_2 age paid lost , ; "" " \n \r\n \xef\xbb\xbf \xff 1e999 nan inf'
    b" -0 2026-01-01 TRUE PAR1 \x00".split(b" ")
)
_CONTRACT = parse_contract(CONTRACT_YAML, source="small.yaml")


def _read(path: Path) -> None:
    read_table(path, _CONTRACT, modalities=MODALITIES)


TARGET = one_of(from_file("table.csv", _read), from_file("table.parquet", _read))


def seeds() -> dict[str, bytes]:
    """Return one table as CSV, and as Parquet plain, packed and with the types of other writers."""
    table = pa.table(columns())
    text = io.BytesIO()
    csv.write_csv(table, text)
    types = table.set_column(0, "who", table["who"].cast(pa.large_string()))
    types = types.set_column(5, "place", types["place"].dictionary_encode())
    return {
        "csv": chosen(0, text.getvalue()),
        "parquet": chosen(1, _parquet(table, compression="NONE", use_dictionary=False)),
        "parquet-packed": chosen(1, _parquet(table, compression="ZSTD", use_dictionary=True)),
        "parquet-types": chosen(1, _parquet(types, compression="SNAPPY", data_page_version="2.0")),
    }


def _parquet(table: pa.Table, **options: object) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **options)
    return out.getvalue()
