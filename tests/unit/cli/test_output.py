"""What people read on stderr, in a terminal of any width."""

from __future__ import annotations

from fedcredit.cli.output import console, table


def test_a_table_without_room_folds_its_text_and_cuts_neither_text_nor_figures() -> None:
    names = [f"modality-{number}" for number in range(60)]
    assert len(" ".join(names)) > console.width
    with console.capture() as captured:
        table("", ["institution", "modalities", "borrowers"], [["b1", " ".join(names), "1,131"]], left=2)
    told = captured.get()
    assert "…" not in told
    assert {*names, "b1", "1,131"} <= set(told.split())
