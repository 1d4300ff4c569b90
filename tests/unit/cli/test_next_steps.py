"""What commands say for the next step: what the coordinator needs of a member, and how an open run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

CAPS = "--epsilon 3 --delta 1e-5 --holdout-epsilon 0.5"
PLAN = "--contract german --epsilon 3 --delta 1e-5 --evaluation-epsilon 0.5 --rounds 2 --aggregation open"


@pytest.fixture
def invitation(type_in) -> str:
    """Return the words that follow ``node join NODE``."""
    type_in("coord init desk --consortium here --port 9443")
    invited = type_in("coord invite desk --format json").data
    return f"{invited['invitation']} --fingerprint {invited['fingerprint']}"


@pytest.mark.parametrize(
    ("held", "entry"),
    [
        ("--contract german --modality application", "bank=COUNT"),
        ("--contract vehicle-loans --modality terms --modality vehicle", "bank=COUNT:terms,vehicle"),
    ],
)
def test_a_member_is_told_what_the_coordinator_needs_for_a_plan(type_in, invitation, held: str, entry: str) -> None:
    type_in(f"node init bank --name bank --type bank --data bank.csv {held} {CAPS}")
    joined = type_in(f"node join bank {invitation}")
    assert joined.code == 0
    assert f"--borrowers {entry}   (" in joined.stderr


def test_a_run_that_is_not_closed_is_listed_with_the_way_to_go_on(type_in, invitation, tmp_path: Path) -> None:
    type_in(f"node init bank --name bank --type bank --data bank.csv --contract german --modality application {CAPS}")
    joined = type_in(f"node join bank {invitation} --format json").data
    type_in(f"coord member approve desk {joined['request']} --fingerprint {joined['fingerprint']}")
    assert "Next:" not in type_in("coord run status desk").stderr
    run = tmp_path / "desk" / "runs" / "a-run"
    run.mkdir()
    assert type_in(f"coord plan new desk {run}/plan.toml {PLAN} --borrowers bank=50").code == 0
    assert "fedcredit coord run resume desk a-run" in type_in("coord run status desk").stderr
    (run / "closing.json").write_text('{"verdict": "released"}')
    assert "Next:" not in type_in("coord run status desk").stderr
