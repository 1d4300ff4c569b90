from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from fedcredit.contract.canonical.label_map import LabelMap, LabelRule
from fedcredit.contract.canonical.manifest import FileEntry, Manifest
from fedcredit.errors import (
    ConfigFileMissingError,
    ConfigValueError,
    MissingKeyError,
    SchemaVersionError,
    UnknownKeyError,
)
from fedcredit.parties import InstitutionType

DAY = datetime.date(2026, 3, 10)
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
    assert by_event.day_known(DAY) == datetime.date(2026, 4, 9)
    assert by_month.day_known(DAY) == datetime.date(2026, 4, 30)


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
