"""PROTOCOL.md 9.1, attack 2: whatever a server asks for in whatever order, no member is given away.

Never both kinds of share for one member, never shares for two cohorts of an attempt, never for two of a round that
differ by a few, never for an upload that an honest member did not send. That the judge can see each of these is shown
with members that lack one rule.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks.server_sequences import Table
from simulation.mutants import AgreeableMemory, ForgetfulMemory, TalkativeMemory, UnconcernedMemory

from fedcredit.institution.memory import RunMemory
from fedcredit.secagg import agreement

MANY, ALWAYS, UNTIL_FOUND = 100_000, 600, 300


def played(table: Table, seeds: range) -> Counter[str]:
    """Return how often what happened, once no sequence has gone wrong."""
    counted: Counter[str] = Counter()
    for seed in seeds:
        assert not table.play(seed, counted), f"sequence {seed}"
    return counted


def assert_both_sides_were_met(counted: Counter[str], sequences: int) -> None:
    """Else members that refuse everything would pass."""
    assert counted["gave shares"] > sequences // 4
    assert counted["gave shares of pairs"] > sequences // 8
    assert counted["asked to agree"] - counted["agreed"] > sequences
    assert counted["asked for shares"] - counted["gave shares"] > sequences


def test_no_sequence_of_requests_gives_a_member_away(tmp_path: Path) -> None:
    assert_both_sides_were_met(played(Table.make(tmp_path), range(ALWAYS)), ALWAYS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_no_sequence_of_a_hundred_thousand_gives_a_member_away(tmp_path: Path) -> None:
    assert_both_sides_were_met(played(Table.make(tmp_path), range(ALWAYS, ALWAYS + MANY)), MANY)


@pytest.mark.parametrize(
    ("memory", "sentence"),
    [
        (AgreeableMemory, "agreed to two cohorts of one attempt"),
        (AgreeableMemory, "shares for two cohorts of one attempt"),
        (AgreeableMemory, "shares of both kinds for one member"),
        (ForgetfulMemory, "agreed to two cohorts of one attempt"),
        (TalkativeMemory, "shares of both kinds for one member"),
        (UnconcernedMemory, "shares for two cohorts that differ by a few"),
    ],
    ids=["two agreements", "two openings", "both kinds", "forgets", "talks", "does not compare"],
)
def test_members_without_one_of_the_rules_are_given_away(
    tmp_path: Path, memory: Callable[..., RunMemory], sentence: str
) -> None:
    table = Table.make(tmp_path, memory=memory)
    found = (table.play(seed, Counter()) for seed in range(UNTIL_FOUND))
    assert any(sentence in wrong for wrong in found)


def test_members_that_do_not_ask_who_vouches_for_an_upload_are_given_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = agreement._verify_others

    def not_the_uploads(signed: object, member: object, identities: object, what: str) -> None:
        if what != "upload":
            verify(signed, member, identities, what)  # type: ignore[arg-type]

    monkeypatch.setattr(agreement, "_verify_others", not_the_uploads)
    table = Table.make(tmp_path)
    found = (table.play(seed, Counter()) for seed in range(UNTIL_FOUND))
    assert any("shares for an upload that its member never sent" in wrong for wrong in found)
