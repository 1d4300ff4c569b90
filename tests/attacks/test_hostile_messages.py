"""R8 (QUALITY.md 3.6): every bad message by its name is refused with its own code, is in the log, and changes nothing.

A bad request meets a worker in the middle of a round; a bad answer meets the engine. The honest members' round then
ends with the exact sum. Keys, seals, ledgers and logs are real; there is no noise, so the sum is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest
from attacks.hostile.answers import BAD_ANSWERS, Meddling
from attacks.hostile.bending import bent
from attacks.hostile.requests import BAD_REQUESTS, HOUR, LISTED
from attacks.hostile.world import NAMES, OTHERS, PLAN, POLICY, TARGET, Moment, World, state_of
from consortium import Consortium, plan_of

from fedcredit.audit.log import AuditLog, EventKind, decode_leaf
from fedcredit.encoding import Encodable
from fedcredit.errors import REGISTRY
from fedcredit.messages import Refusal, Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.run import FederatedRun
from fedcredit.transport import Deadline, Reply


def test_the_tables_are_as_long_as_they_say_and_every_code_is_one() -> None:
    assert len(BAD_REQUESTS) == LISTED >= 60
    assert len(BAD_ANSWERS) >= 60
    codes = {bad.code for bad in BAD_REQUESTS.values()} | {bad.code for bad in BAD_ANSWERS.values()}
    assert codes <= set(REGISTRY)


# --- requests to an institution --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World.make(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_refused_with_its_code_and_changes_nothing(world: World, name: str) -> None:
    bad = BAD_REQUESTS[name]
    scene = world.at(bad.moment)
    sites = world.consortium.sites
    asked = bad.make(scene)
    before = {site: state_of(sites[site]) for site in NAMES}
    lines = {site: len(sites[site].state.audit) for site in NAMES}

    world.consortium.clock.now += bad.ahead
    answer = asked.answer()
    world.consortium.clock.now -= bad.ahead

    assert isinstance(answer, Refusal)
    assert answer.code == bad.code
    assert answer.ledger_head == before[TARGET][0]
    assert {site: state_of(sites[site]) for site in NAMES} == before
    added = {site: len(sites[site].state.audit) - lines[site] for site in NAMES}
    assert added == {TARGET: 1} | dict.fromkeys(OTHERS, 0)
    kind, fields = decode_leaf(sites[TARGET].state.audit.leaf(lines[TARGET]))
    assert (kind, fields["code"]) == (EventKind.REQUEST_REFUSED, bad.code)
    assert fields["manifest"] in {asked.manifest.digest(), answer.manifest_digest}

    total, members = world.finish(scene)
    assert total == world.exact(members)
    assert members == (NAMES[:3] if bad.moment is Moment.RETRY else NAMES)


@pytest.mark.parametrize("moment", [moment for moment in Moment if moment is not Moment.RETRY], ids=str)
def test_a_request_that_is_bent_in_nothing_is_answered(world: World, moment: Moment) -> None:
    """Else the table above would prove nothing: its requests are taken apart and put together by the same code."""
    asked = bent(world.at(moment).genuine(), manifest={}, body={}, fields={})
    assert not isinstance(asked.answer(), Refusal)


@pytest.mark.parametrize("moment", [Moment.SETUP, Moment.KEYS, Moment.ACCEPT, Moment.REVEAL], ids=str)
def test_a_clock_that_was_set_back_an_hour_stops_only_what_is_charged(world: World, moment: Moment) -> None:
    scene = world.at(moment)
    asked = scene.genuine()
    world.consortium.clock.now -= HOUR
    answer = asked.answer()
    world.consortium.clock.now += HOUR
    assert not isinstance(answer, Refusal)


@pytest.mark.parametrize("moment", [Moment.UPLOAD, Moment.ACCEPT, Moment.REVEAL], ids=str)
def test_the_last_request_replayed_gets_the_same_bytes_and_changes_nothing(world: World, moment: Moment) -> None:
    scene = world.at(moment)
    asked = scene.genuine()
    reply = asked.ask()
    before, lines = state_of(scene.site), len(scene.site.state.audit)
    assert [asked.ask() for _ in range(3)] == [reply] * 3
    assert (state_of(scene.site), len(scene.site.state.audit)) == (before, lines)


# --- answers to the engine -------------------------------------------------------------------------------------------


class Table:
    """An engine whose carrier meddles, with honest rounds behind it."""

    def __init__(self, consortium: Consortium, *, number: int) -> None:
        plan = plan_of(**{**PLAN, "run/name": f"plan-{number}"})
        for site in consortium.sites.values():
            site.approvals.approve(plan)
        self.consortium = replace(consortium, plan=plan, folder=consortium.folder / str(number))
        self.heads = LedgerHeads(None)
        self.carrier = Meddling(self.consortium, self.consortium.loopback())
        self.run: FederatedRun = self.consortium.run(self.carrier, run_id=f"run-{number}", heads=self.heads)

    def exact(self, names: tuple[str, ...], weights: np.ndarray, number: int) -> list[int]:
        plan, family = self.consortium.plan, self.consortium.family
        sites = [self.consortium.sites[name] for name in names]
        parts = [family.computation(plan, site.name, site.holdings.split(plan).train) for site in sites]
        totals = [part.integer_sum(weights, round_number=number, batch=None).values for part in parts]
        return [int(number) for number in np.sum(totals, axis=0, dtype=np.int64)]


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    return Consortium.make(tmp_path_factory.mktemp("engine"), plan_of(**PLAN), policy=POLICY, rows=12)


@pytest.fixture(scope="module")
def table(consortium: Consortium) -> Table:
    """Return an engine with an epoch and a round behind it."""
    made = Table(consortium, number=0)
    next(made.run.rounds())
    return made


def lines_of(audit: AuditLog, start: int, *kinds: EventKind) -> list[Mapping[str, Encodable]]:
    return [fields for kind, fields in map(decode_leaf, map(audit.leaf, range(start, len(audit)))) if kind in kinds]


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_is_refused_with_its_code_and_the_round_ends_without_it(
    consortium: Consortium, table: Table, name: str
) -> None:
    bad = BAD_ANSWERS[name]
    setting_up = bad.stage in {Stage.KEYS, Stage.ROOTS}
    played = Table(consortium, number=1 + list(BAD_ANSWERS).index(name)) if setting_up else table
    before, start = played.run.state, len(played.run.audit)
    head = played.heads.of(InstitutionId(TARGET))
    try:
        played.carrier.bad = bad
        result = next(played.run.rounds()).result
    finally:
        played.carrier.bad = None

    refused = lines_of(played.run.audit, start, EventKind.ANSWER_REFUSED)
    assert [(fields["institution"], fields["code"]) for fields in refused] == [(bad.sender, bad.code)]
    assert lines_of(played.run.audit, start, EventKind.MEMBER_BLAMED) == []
    out = bad.by == "member" and bad.stage in {Stage.KEYS, Stage.ROOTS, Stage.UPLOAD}
    members = OTHERS if out else NAMES
    assert tuple(result.contributors) == members
    assert result.total.tolist() == played.exact(members, before.weights, before.round + 1)
    assert played.run.state.round == before.round + 1
    # No head is taken from what was refused: it would put a ledger that was set back in the right.
    assert (played.heads.of(InstitutionId(TARGET)) == head) == out
    assert result.refusals == {}


@dataclass
class Slow:
    """Delivers every answer twice, and those of the target in one round after the deadline of the stage."""

    consortium: Consortium
    late: bool = False

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        for name in sorted(requests, key=lambda name: name == TARGET):
            (reply,) = self.consortium.loopback().exchange({name: requests[name]}, deadline=deadline)
            if self.late and name == TARGET:
                self.consortium.clock.now = deadline.at
            yield from (reply, reply)


def test_an_answer_that_comes_twice_counts_once_and_one_after_the_deadline_does_not(consortium: Consortium) -> None:
    table = Table(consortium, number=1000)
    carrier = Slow(table.consortium)
    run = table.consortium.run(carrier, run_id="slow")
    for late, members in ((False, NAMES), (True, OTHERS)):
        before, start, carrier.late = run.state, len(run.audit), late
        result = next(run.rounds()).result
        assert tuple(result.contributors) == members
        assert result.total.tolist() == table.exact(members, before.weights, before.round + 1)
        accepted = lines_of(run.audit, start, EventKind.ANSWER_ACCEPTED)
        assert sorted(str(fields["institution"]) for fields in accepted) == list(members)
        assert lines_of(run.audit, start, EventKind.ANSWER_REFUSED) == []
