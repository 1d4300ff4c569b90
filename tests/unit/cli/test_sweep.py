"""``fedcredit lab sweep`` as typed: table, files, and what it refuses."""

import json
from pathlib import Path

import pytest


def test_a_sweep_prints_a_table_and_writes_figure_and_points(type_in, tmp_path: Path) -> None:
    command = "lab sweep --data german --institutions 2 --rounds 1 --epsilon 4,inf --seeds 1 --no-alone --out curve"
    outcome = type_in(command + " --format json")
    assert outcome.code == 0, outcome.stderr
    assert [line["epsilon"] for line in outcome.data["lines"]] == [4.0, "inf"]
    record = json.loads((tmp_path / "curve" / "sweep.json").read_text(encoding="utf-8"))
    assert (record["data"], record["model"], record["noise"]) == ("german", "trees", "local")
    assert len(record["points"]) == 2
    assert sorted(path.name for path in (tmp_path / "curve").iterdir() if path.is_file()) == [
        "sweep.json",
        "sweep.png",
        "sweep.svg",
    ]
    again = type_in(command)
    again.refuses("FC-7004", 1, "sweep.json")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--epsilon 1,two", '"1,two"'),
        ("--epsilon 0", "above 0"),
        ("--epsilon ,", "nothing to sweep"),
        ("--epsilon nan", "above 0"),
    ],
)
def test_a_senseless_list_of_epsilons_is_refused(type_in, options: str, words: str) -> None:
    type_in(f"lab sweep {options}").refuses("FC-1006", 2, words)
