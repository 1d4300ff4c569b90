"""check-data, tokenise and the examples of init, typed as an operator types them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from data_faults import world
from data_faults.faults import FAULTS, Case

from fedcredit.config.node import NodeConfig
from fedcredit.errors import REGISTRY, DataError, DataRefusedError
from fedcredit.institution.node import holdings_of

DOCS = Path(__file__).parents[3] / "docs" / "own-data.md"


VEHICLES = ("veh", "rv_weekly", "tel_daily")


def small() -> Case:
    """Return a faultless world without its vehicles: fewer figures to draw."""
    return Case({name: frame for name, frame in world.tables().items() if name not in VEHICLES})


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """Return a folder with one error and one warning."""
    case = small()
    for name in ("rates in percent", "one amount beyond the range"):
        next(fault for fault in FAULTS if fault.name == name).make(case)
    return world.write(tmp_path / "data", case.tables)


def test_a_faultless_folder_passes_and_the_next_command_is_named(type_in, tmp_path: Path) -> None:
    world.write(tmp_path / "data", small().tables)
    outcome = type_in("node check-data data --format json")
    assert outcome.code == 0
    assert outcome.data["findings"] == []
    assert {table["table"]: table["rows"] for table in outcome.data["tables"]}["rep_monthly"] == 720
    assert "Next: fedcredit node init NODE --name bank-a --type bank" in outcome.stderr
    assert (tmp_path / "data" / "data-report.html").stat().st_mode & 0o777 == 0o600


def test_errors_end_with_3_and_each_is_told_with_its_way_out(type_in, faulty: Path) -> None:
    outcome = type_in("node check-data data")
    assert outcome.code == 3
    for part in (
        ' ✗ FC-5018 Column "apr" of contract.csv looks like %',
        '     Write in the mapping under [tables.contract.columns.apr]: unit = "%"',
        ' ▲ FC-5021 Column "amount" of contract.csv: 1 rows',
        " ✗ FC-5004 The check found 1 errors in contract: FC-5018.",
    ):
        assert part in outcome.stderr
    record = json.loads((faulty / "data-report.json").read_text())
    assert [(item["code"], item["severity"], item["row"]) for item in record["findings"]] == [
        ("FC-5018", "error", None),
        ("FC-5021", "warning", 31),
    ]


def test_a_warning_waits_until_a_person_accepts_it_by_its_code(type_in, tmp_path: Path) -> None:
    case = small()
    next(fault for fault in FAULTS if fault.name == "one amount beyond the range").make(case)
    world.write(tmp_path / "data", case.tables)
    waiting = type_in("node check-data data")
    assert waiting.code == 3
    assert "fedcredit node check-data data --accept FC-5021" in waiting.stderr
    accepted = type_in("node check-data data --accept FC-5021")
    assert accepted.code == 0
    assert "1 warnings accepted" in accepted.stderr


def test_rows_that_are_left_out_are_told(type_in, tmp_path: Path) -> None:
    made = small().tables
    made["entity"] = pd.concat([made["entity"], made["entity"].iloc[[4, 9]]], ignore_index=True)
    world.write(tmp_path / "data", made, mapped={"entity": 'repeated = "left_out"'})
    outcome = type_in("node check-data data --format json")
    assert outcome.code == 0, outcome.stderr
    assert " ▲ entity: 2 rows are left out, because an earlier row has their key" in outcome.stderr
    told = {table["table"]: (table["rows"], table["left_out"]) for table in outcome.data["tables"]}
    assert (told["entity"], told["contract"]) == ((240, 2), (240, 0))


@pytest.mark.parametrize("code", ["FC-5018", "FC-9001", "nonsense"])
def test_an_error_cannot_be_accepted(type_in, faulty: Path, code: str) -> None:
    type_in(f"node check-data data --accept {code}").refuses("FC-1006", 2, code, "FC-5021")


def test_what_can_be_accepted_is_never_a_leak_or_personal_data() -> None:
    acceptable = {c for c, kind in REGISTRY.items() if issubclass(kind, DataError) and kind.acceptable}
    assert not acceptable & {"FC-5019", "FC-5020", "FC-5043", "FC-5044"}
    assert {code for code in acceptable if code.startswith("FC-51")} == {"FC-5121"}


def test_the_check_speaks_chinese_and_the_codes_stay(type_in, faulty: Path) -> None:
    outcome = type_in("--lang zh node check-data data")
    for part in ("表", "覆盖率", "✗ FC-5018 contract.csv 的列", "请修正", "仅留在本机"):
        assert part in outcome.stderr
    assert '<html lang="zh">' in (faulty / "data-report.html").read_text()


def test_the_report_asks_for_nothing_and_quotes_no_cell(type_in, faulty: Path) -> None:
    type_in("node check-data data")
    page = (faulty / "data-report.html").read_text()
    assert "default-src 'none'" in page
    assert re.findall(r"(?:src|href|url|action)\s*=?\s*[(\"']?\s*(?:https?:|//)", page) == []
    assert "<script" not in page
    assert page.count("<svg") >= 6
    cells = world.tables()
    for table, column in (("contract", "contract_id"), ("entity", "entity_tok"), ("contract", "vin_tok")):
        assert not any(cell in page for cell in cells[table][column])
    assert "9876543" not in page.replace(",", "")
    for figure in ("vintages", "powers", "distributions-contract"):
        assert f'id="figure-{figure}"' in page


def test_the_same_data_give_the_same_report(type_in, faulty: Path) -> None:
    pages = []
    for _ in range(2):
        type_in("node check-data data")
        pages.append((faulty / "data-report.html").read_bytes())
    assert pages[0] == pages[1]


def test_examples_are_written_for_a_type_and_nothing_is_overwritten(type_in, tmp_path: Path) -> None:
    outcome = type_in("node init fund --name fund --type guarantee_fund --format json")
    assert outcome.data["files"] == ["mapping.toml", "label_map.toml", "node.example.toml"]
    assert "Next: fedcredit node check-data fund" in outcome.stderr
    assert "ent_monthly" in (tmp_path / "fund" / "mapping.toml").read_text()
    before = {path: path.read_bytes() for path in (tmp_path / "fund").iterdir()}
    type_in("node init fund --name other --type bank").refuses("FC-7004", 1, "fund/mapping.toml")
    assert {path: path.read_bytes() for path in (tmp_path / "fund").iterdir()} == before


def test_an_example_as_it_is_says_which_files_are_not_there(type_in) -> None:
    type_in("node init fund --name fund --type guarantee_fund")
    outcome = type_in("node check-data fund")
    assert outcome.code == 3
    assert outcome.stderr.count("FC-5001") == 6  # five tables, and the closing line


def test_half_of_the_decisions_make_no_node(type_in, tmp_path: Path) -> None:
    outcome = type_in("node init bank --name bank --type bank --data bank.csv")
    outcome.refuses("FC-1006", 2, "--contract", "--epsilon")
    assert not (tmp_path / "bank").exists()


def blocks() -> dict[str, str]:
    return dict(re.findall(r"`([\w.]+)`\n```\w+\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL))


def test_the_example_of_the_documentation_works_as_it_is_written(type_in, tmp_path: Path) -> None:
    for name, text in blocks().items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for member in ("own", "other"):
        assert type_in(f"node tokens contribute {member}.part").code == 0
    assert type_in("node tokens combine token.key own.part other.part").code == 0
    page = DOCS.read_text(encoding="utf-8")
    tokenise = next(line for line in page.splitlines() if line.startswith("fedcredit node tokenise"))
    outcome = type_in(tokenise.removeprefix("fedcredit "))
    assert outcome.code == 0, outcome.stderr
    numbers = re.findall(r"\d{17}[\dX]", (tmp_path / "plain.csv").read_text())
    assert len(numbers) == 8
    assert not any(number in (tmp_path / "loans.csv").read_text() + outcome.stderr for number in numbers)
    command = re.search(r"`(fedcredit node check-data mapping.toml[^`]*)`", page)
    assert command is not None
    assert type_in(command[1].removeprefix("fedcredit ")).code == 0


def test_all_members_read_the_same_fingerprint(type_in) -> None:
    for name in ("a", "b", "c"):
        type_in(f"node tokens contribute {name}.part")
    one = type_in("node tokens combine one.key a.part b.part c.part --format json").data["fingerprint"]
    other = type_in("node tokens combine other.key c.part a.part b.part --format json").data["fingerprint"]
    assert one == other
    type_in("node tokens combine alone.key a.part").refuses("FC-1006", 2, "two members")


@pytest.mark.parametrize(
    ("options", "said"), [("", "No column"), ("--person A --enterprise B", "one name")], ids=["none", "twice"]
)
def test_columns_of_identifiers_must_be_named_and_apart(type_in, tmp_path: Path, options: str, said: str) -> None:
    (tmp_path / "plain.csv").write_text("A,B\n1,2\n")
    type_in(f"node tokenise plain.csv tokens.csv --key token.key {options}").refuses("FC-1006", 2, said)


NODE = "--contract vehicle-loans --modality terms --modality vehicle --epsilon 3 --delta 1e-5 --holdout-epsilon 1"


def test_the_tables_that_pass_are_those_that_a_node_trains_on(type_in, tmp_path: Path) -> None:
    made = world.tables()
    world.write(tmp_path / "data", made)
    first = type_in("node check-data data")
    assert first.code == 0
    command = re.search(r"Next: (fedcredit node init NODE --name bank-a --type bank --data data .*)", first.stderr)
    assert command is not None
    assert "--contract vehicle-loans --modality terms --modality application --modality vehicle" in command[1]
    assert type_in(f"node init node --name bank-a --type bank --data data {NODE}").code == 0
    outcome = type_in("node check-data node --format json")
    assert outcome.code == 0
    late = int((made["observation"]["split"] == "oot").sum())
    assert outcome.data["left_out"] == {"out of time": late}
    assert outcome.data["rows"] == world.ROWS - late
    assert outcome.data["modalities"] == ["terms", "vehicle"]
    assert "not learnt from: out of time" in outcome.stderr
    assert (tmp_path / "node" / "data-report.html").exists()
    assert "时间外样本" in type_in("--lang zh node check-data node").stderr


def test_a_node_keeps_the_warnings_that_a_person_accepted_and_trains_on_no_others(type_in, tmp_path: Path) -> None:
    case = Case(world.tables())
    next(fault for fault in FAULTS if fault.name == "one amount beyond the range").make(case)
    world.write(tmp_path / "data", case.tables)
    assert type_in(f"node init node --name bank-a --type bank --data data {NODE}").code == 0
    type_in("node check-data node").refuses("FC-5005", 3, "fedcredit node check-data node --accept FC-5021")
    assert "accept = []" in (tmp_path / "node" / "node.toml").read_text()
    accepted = type_in("node check-data node --accept FC-5021")
    assert accepted.code == 0
    assert "accepted in node.toml: FC-5021" in accepted.stderr
    assert type_in("node check-data node").code == 0
    before = type_in("node check-data data --accept FC-5021")
    assert "\n      fedcredit node check-data NODE --accept FC-5021" in before.stderr, "the next command repeats it"


def test_a_node_does_not_open_on_tables_with_errors(type_in, tmp_path: Path) -> None:
    case = Case(world.tables())
    next(fault for fault in FAULTS if fault.name == "rates in percent").make(case)
    world.write(tmp_path / "data", case.tables)
    assert type_in(f"node init node --name bank-a --type bank --data data {NODE}").code == 0
    node = tmp_path / "node"
    with pytest.raises(DataRefusedError) as caught:
        holdings_of(node, NodeConfig.read(node))
    assert "FC-5018" in str(caught.value.describe())
    assert "fedcredit node check-data" in str(caught.value.fix())
    assert list((node / "state").iterdir()) == [], "what was spilled is gone"
