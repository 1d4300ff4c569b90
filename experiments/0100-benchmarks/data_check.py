"""What a check of an institution's own tables costs: memory and processor time of ten million monthly rows.

Each check is a process of its own, so that its memory is its own. Contracts and months are made up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedcredit.contract.canonical.manifest import FileEntry, Manifest, digest_of
from fedcredit.lab.figures import Figure, median_of_runs, peak_memory

ROWS, MONTHS, GROUP = 10_000_000, 36, 100_000
SEED = 7


def write_folder(folder: Path, rows: int) -> None:
    """Write one table of monthly rows of five columns, with its manifest."""
    generator = np.random.default_rng(SEED)
    first = np.datetime64("2020-01", "M")
    path = folder / "rep_monthly.parquet"
    schema = pa.schema(
        [
            ("contract_id", pa.string()),
            ("month", pa.date32()),
            ("balance", pa.float64()),
            ("paid", pa.float64()),
            ("dpd_eom", pa.int32()),
        ]
    )
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, GROUP):
            number = np.arange(start, min(start + GROUP, rows))
            columns = [
                pa.array([f"c{contract:08d}" for contract in number // MONTHS]),
                pa.array((first + number % MONTHS).astype("datetime64[D]")),
                pa.array(generator.uniform(1e3, 9e4, len(number)).round(2)),
                pa.array(generator.uniform(1e3, 4e3, len(number)).round(2)),
                pa.array(generator.choice([0, 0, 0, 5, 31], len(number)).astype(np.int32)),
            ]
            writer.write_table(pa.table(columns, schema=schema))
    facts = {
        "schema_version": 1,
        "institution_id": "bench",
        "type": "bank",
        "snapshot_date": "2026-06-30",
        "oot_date": "2025-01-01",
        "currency": "CNY",
        "data_owner": "made up",
        "legal_basis": "synthetic",
        "token_method": "none-synthetic",
    }
    entry = FileEntry(path=path.name, rows=rows, sha256=digest_of(path))
    Manifest.model_validate_json(json.dumps(facts | {"tables": {"rep_monthly": entry.model_dump()}})).write(
        folder / "manifest.toml"
    )


def one(folder: Path) -> None:
    """Check the folder and print what it cost."""
    from fedcredit.checking.check import check_data
    from fedcredit.checking.spec import read_spec

    before = time.process_time()
    report = check_data(read_spec(folder), scratch=folder)
    seconds = time.process_time() - before
    print(json.dumps({"seconds": seconds, "bytes": peak_memory(), "rows": report.profiles["rep_monthly"].rows}))


def figures(*, quick: bool) -> Iterator[Figure]:
    """Yield the memory of a check of ten million rows, and rows a second of processor time."""
    rows = ROWS // 50 if quick else ROWS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_folder(folder, rows)
        runs = []
        for _ in range(1 if quick else 3):
            done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True)
            runs.append(json.loads(done.stdout))
    assert all(run["rows"] == rows for run in runs)
    told = {"seeds": [SEED], "data": "synthetic-benchmark"}
    yield median_of_runs("check.memory.bytes", [run["bytes"] for run in runs], unit="bytes", **told)
    rates = [run["rows"] / run["seconds"] for run in runs]
    yield median_of_runs("check.rows-per-cpu-s", rates, unit="rows per CPU second", **told)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    one(parser.parse_args().folder)
