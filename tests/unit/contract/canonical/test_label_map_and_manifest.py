from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedcredit.contract.canonical.label_map import LabelMap, LabelRule
from fedcredit.contract.canonical.manifest import FileEntry, Manifest, digest_of, files_at
from fedcredit.errors import (
    ConfigFileMissingError,
    ConfigValueError,
    MissingKeyError,
    SchemaVersionError,
    UnknownKeyError,
)
from fedcredit.parties import InstitutionType

MAP = """
schema_version = 1
[labels.comp]
dpd_equiv = 90
lag_days = 30
known_at = "month_end"
"""
MANIFEST = f"""
schema_version = 1
institution_id = "fund-g"
type = "guarantee_fund"
snapshot_date = 2026-06-30
oot_date = 2025-01-01
currency = "CNY"
data_owner = "risk department"
legal_basis = "contract"
token_method = "hmac-sha256"
lacking = ["rep_monthly"]
[tables.contract]
path = "contract.parquet"
rows = 3
sha256 = "{"0" * 64}"
"""


def test_a_lag_counts_from_the_event_or_from_the_end_of_its_month() -> None:
    by_event = LabelRule(dpd_equiv=90, lag_days=30, known_at="event")
    by_month = LabelRule(dpd_equiv=90, lag_days=30, known_at="month_end")
    events = np.array(["2026-03-10", "2024-02-29", "2023-12-31", "1969-12-30"], dtype="datetime64[D]").astype(float)
    first = by_event.first_known(events).astype("datetime64[D]").astype(str).tolist()
    assert first == ["2026-04-09", "2024-03-30", "2024-01-30", "1970-01-29"]
    first = by_month.first_known(events).astype("datetime64[D]").astype(str).tolist()
    assert first == ["2026-04-30", "2024-03-30", "2024-01-30", "1970-01-30"]
    assert np.isnan(by_month.first_known(np.array([np.nan]))).all()


def test_a_label_map_is_read(tmp_path: Path) -> None:
    path = tmp_path / "label_map.toml"
    path.write_text(MAP)
    assert LabelMap.read(path).labels["comp"].dpd_equiv == 90


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("[labels.comp]", "[labels.compensation]", ConfigValueError),
        ("lag_days = 30", "lag_days = -1", ConfigValueError),
        ("lag_days = 30\n", "", MissingKeyError),
        ("lag_days", "lag_day", UnknownKeyError),
        ('"month_end"', '"sometime"', ConfigValueError),
    ],
)
def test_a_label_map_that_does_not_hold_is_refused(tmp_path: Path, old: str, new: str, error: type[Exception]) -> None:
    path = tmp_path / "label_map.toml"
    path.write_text(MAP.replace(old, new))
    with pytest.raises(error):
        LabelMap.read(path)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(MANIFEST)
    manifest = Manifest.read(path)
    assert manifest.lacking == ("rep_monthly",)
    assert manifest.type is InstitutionType.GUARANTEE_FUND
    assert manifest.tables["contract"] == FileEntry(path="contract.parquet", rows=3, sha256="0" * 64)
    manifest.write(tmp_path / "again.toml")
    assert Manifest.read(tmp_path / "again.toml") == manifest


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ('"hmac-sha256"', '"sha256"', ConfigValueError),
        ('"hmac-sha256"', '"md5"', ConfigValueError),
        ('"hmac-sha256"', '"none-synthetic"', ConfigValueError),
        ("2025-01-01", "2027-01-01", ConfigValueError),
        ('"fund-g"', '"Fund G"', ConfigValueError),
        ("data_owner", "owner", UnknownKeyError),
        ("rows = 3\n", "", MissingKeyError),
        ('["rep_monthly"]', '["telematics"]', ConfigValueError),
        ('["rep_monthly"]', '["outcome"]', ConfigValueError),
        ("schema_version = 1", "schema_version = 99", SchemaVersionError),
    ],
)
def test_a_manifest_that_does_not_hold_is_refused(tmp_path: Path, old: str, new: str, error: type[Exception]) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text(MANIFEST.replace(old, new))
    with pytest.raises(error):
        Manifest.read(path)


def test_a_folder_without_a_manifest_is_an_error_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigFileMissingError, match="manifest"):
        Manifest.read(tmp_path / "manifest.toml")


def test_a_digest_is_that_of_the_file_or_of_the_list_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tel_5min"
    (folder / "b").mkdir(parents=True)
    for name in ("b/x.parquet", "b.parquet", "a.parquet"):
        (folder / name).write_bytes(name.encode())
    (folder / "notes.txt").write_text("not a part")
    one = hashlib.sha256(b"a.parquet").hexdigest()
    assert digest_of(folder / "a.parquet") == one
    names = ("a.parquet", "b.parquet", "b/x.parquet")
    assert files_at(folder) == tuple(folder / name for name in names)
    listed = "".join(f"{hashlib.sha256(name.encode()).hexdigest()}  {name}\n" for name in names)
    assert digest_of(folder) == hashlib.sha256(listed.encode()).hexdigest()
    (folder / "a.parquet").rename(folder / "c.parquet")
    assert digest_of(folder) != hashlib.sha256(listed.encode()).hexdigest()  # names count
    assert files_at(tmp_path / "nothing") == ()
