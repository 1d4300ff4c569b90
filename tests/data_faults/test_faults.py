"""Bad data files, made by code: each is told by its own code, with its place and a way out, and no cell value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from data_faults.faults import FAULTS, Case, Fault, mapping
from data_faults.world import tables, write

from fedcredit.checking.check import DataReport, check_data
from fedcredit.checking.spec import read_spec
from fedcredit.errors import REGISTRY, DataError

ELSEWHERE = {
    *("FC-5004", "FC-5005"),  # the command's own ends: unit/cli/test_node_data.py
    "FC-5007",  # unit/contract/canonical/test_canonical_set.py
    "FC-5008",  # unit/checking/test_sources.py
    "FC-5031",  # unit/cli/test_bad_input.py
    "FC-5051",  # unit/checking/test_tokenise.py
    "FC-5056",  # unit/institution/test_own_tables.py
    *("FC-5061", "FC-5062"),  # the simulator's
}
VEHICLES = ("veh", "rv_weekly", "tel_daily")


def checked(folder: Path, fault: Fault | None = None) -> DataReport:
    case = Case(tables())
    if fault is not None:
        fault.make(case)
        if fault.table not in VEHICLES and not fault.name.startswith("L7"):
            for table in VEHICLES:  # less to read, the same fault
                case.tables.pop(table, None)
    write(folder, case.tables, kind=case.kind, raw=case.raw, names=case.names, facts=case.facts, mapped=case.mapped)
    if case.features:
        (folder / "features.toml").write_text(case.features)
    for step in case.after:
        step(folder)
    return check_data(read_spec(folder), scratch=folder)


def test_there_are_as_many_faults_as_promised_and_no_two_are_called_alike() -> None:
    assert len(FAULTS) >= 120
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


def test_every_leakage_trap_is_among_them() -> None:
    codes = {fault.code for fault in FAULTS}
    assert {f"FC-51{number:02d}" for number in (*range(1, 19), 20, 21)} <= codes


def test_every_code_about_data_has_a_fault_or_a_test_elsewhere() -> None:
    about_data = {code for code, kind in REGISTRY.items() if issubclass(kind, DataError)}
    assert about_data - {fault.code for fault in FAULTS} == ELSEWHERE


@pytest.mark.parametrize("change", [None, mapping()], ids=["manifest", "mapping"])
def test_the_faultless_world_has_no_finding(change: Callable[[Case], None] | None, tmp_path: Path) -> None:
    case = Case(tables())
    if change is not None:
        change(case)
    report = check_data(read_spec(write(tmp_path / "data", case.tables, mapped=case.mapped)), scratch=tmp_path)
    assert [(item.error.code, item.table, item.column) for item in report.findings] == []
    assert {name: profile.rows for name, profile in report.profiles.items()}["contract"] == 240


@pytest.mark.parametrize("change", [None, mapping(contract="typed = true")], ids=["manifest", "mapping"])
def test_codes_for_missing_are_counted_by_their_reason(change: Callable[[Case], None] | None, tmp_path: Path) -> None:
    case = Case(tables())
    case.tables["contract"].loc[4:6, "income_m"] = [-1, -3, -3]
    if change is not None:
        change(case)
    report = check_data(read_spec(write(tmp_path / "data", case.tables, mapped=case.mapped)), scratch=tmp_path)
    assert report.findings == ()
    assert report.profiles["contract"].columns["income_m"].typed == {-1: 1, -2: 0, -3: 2, -4: 0}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_bad_file_is_told_with_its_place_and_a_way_out(fault: Fault, tmp_path: Path) -> None:
    report = checked(tmp_path / "data", fault)
    told = {(item.error.code, item.table, item.column): item for item in report.findings}
    found = told.get((fault.code, fault.table, fault.column))
    assert found is not None, sorted(told)
    if fault.row is not None:
        assert found.row == fault.row
        assert f"{fault.row:,}" in found.error.describe("en")
    assert fault.fix in found.error.fix("en")
    if "column" in found.error.field_names():
        assert fault.column in found.error.describe("en") + found.error.fix("en")
    assert {item.error.code for item in report.findings} - fault.also == {fault.code} - fault.also
    everything = " ".join(
        item.error.describe(language) + item.error.fix(language)
        for item in report.findings
        for language in ("en", "zh")
    )
    for secret in fault.secrets:
        assert secret not in everything
