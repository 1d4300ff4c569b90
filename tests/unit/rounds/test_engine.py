from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
from consortium import CONSORTIUM, COORDINATOR, RUN, Clock, keys_of, plan_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcredit.audit.checkpoint_note import LogCheckpoint, NoteSignature, cosign_checkpoint, verify_cosignature
from fedcredit.audit.log import AuditLog, EventKind, log_origin
from fedcredit.audit.merkle import verify_inclusion
from fedcredit.audit.witness import FIRST_SIGHT
from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.envelope import OpenedRequest, open_request, seal_answer, seal_unreadable, verified_manifest
from fedcredit.errors import LogRolledBackError, QuorumError, RoundRefusedError
from fedcredit.institution.lineage import follow
from fedcredit.messages import (
    SCORE_BINS,
    CloseAnswer,
    CountsAnswer,
    LogProof,
    Manifest,
    Message,
    Purpose,
    Refusal,
    Stage,
    TrainAnswer,
    answer_length,
    to_lanes,
)
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.rounds.engine import Resumed, RoundCall, RoundEngine
from fedcredit.rounds.exchange import RoundResult
from fedcredit.rounds.heads import LedgerHeads
from fedcredit.rounds.shown_log import MOST_SHOWN
from fedcredit.rounds.transcript import AttemptRecord
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.transport import Deadline, Reply, Transport

NAMES = [InstitutionId(name) for name in ("bank-a", "bank-b", "fund-c", "insurer-d")]
KEYS = {name: keys_of(number) for number, name in enumerate(NAMES, start=10)}
ROSTER = Roster(
    tuple(
        Member(institution=name, kind=InstitutionType.BANK, public_identity=keys.public.to_bytes())
        for name, keys in KEYS.items()
    )
)
SIZE = 5
"""Lane 0 holds 2^i of institution i; lane i + 1 is its own."""


def vector(name: InstitutionId) -> np.ndarray:
    lanes = np.zeros(SIZE, dtype=np.int64)
    number = NAMES.index(name)
    lanes[0], lanes[1 + number] = 1 << number, 1
    return lanes


def oracle(names: list[InstitutionId]) -> list[int]:
    return np.sum([vector(name) for name in names], axis=0).tolist() if names else [0] * SIZE


def checkpoint_of(manifest: Manifest) -> LogCheckpoint:
    origin = log_origin(consortium=manifest.consortium, run=manifest.run)
    return LogCheckpoint(origin=origin, size=manifest.log_size, root=manifest.log_root)


def cosigned(name: InstitutionId, checkpoint: LogCheckpoint) -> str:
    return cosign_checkpoint(checkpoint, name=name, keys=KEYS[name], time_s=1).to_line()


class Puppet:
    """An institution that answers with a vector that tells who it is."""

    def __init__(self, name: InstitutionId) -> None:
        self.name = name
        self.asked: list[OpenedRequest] = []
        self.head = hashlib.sha256(name.encode()).digest()

    def open(self, request: bytes) -> OpenedRequest:
        opened = open_request(
            request, consortium=CONSORTIUM, institution=self.name, keys=KEYS[self.name], coordinator=COORDINATOR.public
        )
        self.asked.append(opened)
        return opened

    def handle(self, request: bytes) -> bytes:
        return self.seal(self.open(request), TrainAnswer, to_lanes(vector(self.name)))

    def seal(
        self, opened: OpenedRequest, kind: type[TrainAnswer] | type[CountsAnswer], lanes: bytes, *, line: str = ""
    ) -> bytes:
        return self.send(
            opened,
            kind(
                manifest_digest=opened.manifest_digest,
                ledger_head=self.head,
                cosignature=line or cosigned(self.name, checkpoint_of(opened.manifest)),
                lanes=lanes,
            ),
        )

    def close(self, request: bytes) -> bytes:
        opened = self.open(request)
        line = cosigned(self.name, checkpoint_of(opened.manifest))
        answer = CloseAnswer(
            manifest_digest=opened.manifest_digest,
            ledger_head=self.head,
            cosignature=line,
            vote="none",
            reason="none",
        )
        return self.send(opened, answer)

    def send(self, opened: OpenedRequest, answer: Message, signer: IdentityKeys | None = None) -> bytes:
        return seal_answer(
            answer,
            opened=opened,
            institution=self.name,
            keys=signer or KEYS[self.name],
            coordinator=COORDINATOR.public,
        )

    def refuse(self, request: bytes, code: str = "FC-2301") -> bytes:
        opened = self.open(request)
        return self.send(opened, Refusal(manifest_digest=opened.manifest_digest, ledger_head=self.head, code=code))


@dataclass
class Scripted:
    """A carrier that does to each institution what a script says."""

    script: Callable[[Mapping[InstitutionId, bytes]], Iterator[Reply]]
    rounds: list[Mapping[InstitutionId, bytes]] = field(default_factory=list)

    def exchange(self, requests: Mapping[InstitutionId, bytes], *, deadline: Deadline) -> Iterator[Reply]:
        self.rounds.append(requests)
        yield from self.script(requests)


@dataclass
class Table:
    """An engine on a table, with everything around it in reach."""

    plan: RunPlan
    transport: Transport
    clock: Clock = field(default_factory=Clock)
    roster: Roster = ROSTER
    heads: LedgerHeads = field(default_factory=lambda: LedgerHeads(None))

    resumed: Resumed = field(default_factory=Resumed)
    audit: AuditLog = field(default_factory=lambda: AuditLog(Journal(Database.in_memory(), "audit")))
    kept: dict[str, bytes] = field(default_factory=dict)
    """What was written beside the log, by name."""

    def __post_init__(self) -> None:
        if not len(self.audit):
            self.audit.record(EventKind.RUN_OPENED, run=RUN)
        self.engine = RoundEngine(
            plan=self.plan,
            lanes={Purpose.PREPARE: SIZE, Purpose.TRAIN: SIZE, Purpose.EVALUATE: 2 * SCORE_BINS},
            roster=self.roster,
            keys=COORDINATOR,
            transport=self.transport,
            audit=self.audit,
            heads=self.heads,
            clock=self.clock,
            keep=self.kept.__setitem__,
            resumed=self.resumed,
        )

    def run(
        self,
        number: int = 1,
        attempt: int = 1,
        purpose: Purpose = Purpose.TRAIN,
        *,
        on_reply: Callable[[RoundResult], None] = lambda _: None,
    ) -> RoundResult:
        weights = np.arange(float(SIZE))
        call = RoundCall(
            run=RUN, round=number, attempt=attempt, purpose=purpose, weights=weights, release=0, contained=None
        )
        return self.engine.run(call, on_reply=on_reply)

    def kinds(self) -> list[str]:
        """The events after the opening of the run."""
        return [str(event.kind) for event in self.audit.events()][1:]


def quorum(number: int) -> RunPlan:
    return plan_of(**{"rounds/quorum": number})


def puppets() -> dict[InstitutionId, Puppet]:
    return {name: Puppet(name) for name in NAMES}


def calm(players: Mapping[InstitutionId, Puppet]) -> Scripted:
    return Scripted(
        lambda requests: (
            Reply(institution=name, payload=players[name].handle(request)) for name, request in requests.items()
        )
    )


def test_a_quiet_round_sums_everybody_once() -> None:
    table = Table(quorum(4), calm(puppets()))
    result = table.run()
    assert result.total.tolist() == [15, 1, 1, 1, 1]
    assert result.contributors == NAMES
    assert table.kinds() == ["round-opened"] + ["answer-accepted"] * 4


def test_the_manifest_says_what_everybody_agrees_on() -> None:
    players = puppets()
    table = Table(quorum(3), calm(players))
    result = table.run(number=2, attempt=3)
    manifests = {player.asked[0].manifest for player in players.values()}
    (manifest,) = manifests
    assert manifest.digest() == result.manifest_digest
    assert (manifest.consortium, manifest.run, manifest.round, manifest.attempt) == (CONSORTIUM, RUN, 2, 3)
    assert (manifest.purpose, manifest.quorum, manifest.cohort) == ("train", 3, tuple(sorted(NAMES)))
    assert manifest.plan_digest == table.plan.digest()
    assert manifest.roster_digest == ROSTER.digest()
    assert manifest.weights_digest == hashlib.sha256(np.arange(5.0).astype("<f8").tobytes()).digest()
    assert manifest.deadline >= table.clock.now + 60


def test_plan_and_roster_are_sent_until_an_institution_has_answered() -> None:
    players = puppets()
    silent = NAMES[1]
    first = Scripted(
        lambda requests: (
            Reply(institution=name, payload=players[name].handle(request))
            for name, request in requests.items()
            if name != silent
        )
    )
    table = Table(quorum(3), first)
    table.run()
    first.script = calm(players).script
    table.run(number=2)
    told = {
        name: [bool(opened.request.plan and opened.request.roster) for opened in players[name].asked] for name in NAMES
    }
    assert told == {name: [True] if name == silent else [True, False] for name in NAMES}


def test_an_institution_that_refused_gets_plan_and_roster_again() -> None:
    players = puppets()
    transport = calm(players)
    table = Table(quorum(3), transport)
    table.run()
    transport.script = lambda requests: (
        Reply(
            institution=name,
            payload=players[name].refuse(request) if name == NAMES[0] else players[name].handle(request),
        )
        for name, request in requests.items()
    )
    assert table.run(number=2).refusals == {NAMES[0]: "FC-2301"}
    transport.script = calm(players).script
    table.run(number=3)
    assert [bool(opened.request.plan) for opened in players[NAMES[0]].asked] == [True, False, True]


FAULTS = [
    "none",
    "request lost",
    "reply lost",
    "carrier error",
    "twice",
    "twice, sealed anew",
    "garbage",
    "garbage, then right",
    "cut",
    "flipped",
    "another's answer",
    "another's answer, then right",
    "stale",
    "stale, then right",
    "signed by another",
    "too few lanes",
    "too many lanes",
    "counts instead",
    "another log cosigned",
    "cosigned by another",
    "no cosignature",
    "request reflected",
    "refused",
    "refused, then right",
    "right, then refused",
    "unreadable",
]
COUNTED = {
    "none",
    "twice",
    "twice, sealed anew",
    "garbage, then right",
    "another's answer, then right",
    "stale, then right",
    "right, then refused",
}
REFUSED = {"refused", "refused, then right", "unreadable"}


def refuse_unread(player: Puppet, request: bytes) -> bytes:
    return seal_unreadable(
        Refusal(manifest_digest=hashlib.sha256(request).digest(), ledger_head=player.head, code="FC-3102"),
        consortium=CONSORTIUM,
        institution=player.name,
        keys=KEYS[player.name],
        coordinator=COORDINATOR.public,
    )


def payloads(fault: str, player: Puppet, request: bytes, other: bytes, old: bytes) -> list[bytes | None]:
    """What the carrier brings back for one institution."""
    if fault in ("request lost", "reply lost"):
        if fault == "reply lost":
            player.handle(request)
        return []
    opened = player.open(request)
    right = player.handle(request)
    lanes = to_lanes(vector(player.name))
    flipped = right[:-20] + bytes([right[-20] ^ 4]) + right[-19:]
    neighbour = NAMES[NAMES.index(player.name) - 1]
    there = checkpoint_of(opened.manifest)
    forked = LogCheckpoint(origin=there.origin, size=there.size, root=bytes(32))
    table: dict[str, list[bytes | None]] = {
        "none": [right],
        "carrier error": [None],
        "twice": [right, right],
        "twice, sealed anew": [right, player.handle(request)],
        "garbage": [b"\x01" * 2000, b"", b"x"],
        "garbage, then right": [b"\x01" * 2000, None, right],
        "cut": [right[:-1], right[:1200]],
        "flipped": [flipped],
        "another's answer": [other],
        "another's answer, then right": [other, right],
        "stale": [old],
        "stale, then right": [old, right],
        "signed by another": [
            player.send(
                opened,
                TrainAnswer(
                    manifest_digest=opened.manifest_digest,
                    ledger_head=player.head,
                    cosignature=cosigned(player.name, there),
                    lanes=lanes,
                ),
                KEYS[neighbour],
            )
        ],
        "too few lanes": [player.seal(opened, TrainAnswer, lanes[:-4])],
        "too many lanes": [player.seal(opened, TrainAnswer, lanes + bytes(4))],
        "counts instead": [player.seal(opened, CountsAnswer, lanes)],
        "another log cosigned": [player.seal(opened, TrainAnswer, lanes, line=cosigned(player.name, forked))],
        "cosigned by another": [player.seal(opened, TrainAnswer, lanes, line=cosigned(neighbour, there))],
        "no cosignature": [player.seal(opened, TrainAnswer, lanes, line="nothing")],
        "request reflected": [request],
        "refused": [player.refuse(request)],
        "refused, then right": [player.refuse(request), right],
        "right, then refused": [right, player.refuse(request)],
        "unreadable": [refuse_unread(player, request)],
    }
    return table[fault]


def oracle_round(faults: list[str], order: list[int]) -> None:
    players = puppets()
    transport = calm(players)
    table = Table(quorum(1), transport)
    old: dict[InstitutionId, bytes] = {}

    def first(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        for name, request in requests.items():
            old[name] = players[name].handle(request)
            yield Reply(institution=name, payload=old[name])

    def faulty(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        replies = []
        for name, fault in zip(NAMES, faults, strict=True):
            neighbour = NAMES[NAMES.index(name) - 1]
            other = players[neighbour].handle(requests[neighbour])
            for payload in payloads(fault, players[name], requests[name], other, old[name]):
                replies.append(Reply(institution=name, payload=payload))
        stranger = Reply(institution=InstitutionId("stranger"), payload=b"hello")
        by_name = {name: [reply for reply in replies if reply.institution == name] for name in NAMES}
        yield stranger
        for index in order:
            # Each institution's replies stay in their order; everybody else's come in between.
            yield from by_name[NAMES[index]]
        yield from by_name[NAMES[order[0]]]

    transport.script = first
    table.run(number=1)
    transport.script = faulty
    expected = [name for name, fault in zip(NAMES, faults, strict=True) if fault in COUNTED]
    refused = {name for name, fault in zip(NAMES, faults, strict=True) if fault in REFUSED}
    if not expected:
        with pytest.raises((QuorumError, RoundRefusedError)):
            table.run(number=2)
        assert table.kinds()[-1] == "round-aborted"
        return
    result = table.run(number=2)
    assert sorted(result.contributors) == expected
    assert set(result.refusals) == refused
    assert result.total.tolist() == oracle(expected)


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_leaves_the_sum_exact_over_the_announced_contributors(fault: str) -> None:
    oracle_round([fault, "none", "none", "none"], [0, 1, 2, 3])
    oracle_round(["none", fault, "none", "none"], [3, 1, 0, 2])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(FAULTS), min_size=4, max_size=4), st.permutations(range(4)))
def test_many_faults_leave_the_sum_exact_over_the_announced_contributors(faults: list[str], order: list[int]) -> None:
    oracle_round(faults, list(order))


def test_a_bad_answer_is_recorded_with_its_code() -> None:
    players = puppets()
    transport = Scripted(
        lambda requests: iter(
            [
                Reply(institution=NAMES[0], payload=b"junk"),
                Reply(institution=InstitutionId("stranger"), payload=b"hello"),
                *(Reply(institution=name, payload=players[name].handle(requests[name])) for name in NAMES[1:]),
            ]
        )
    )
    table = Table(quorum(3), transport)
    assert table.run().contributors == NAMES[1:]
    refused = [event.fields for event in table.audit.events() if event.kind is EventKind.ANSWER_REFUSED]
    assert [(fields["institution"], fields["code"]) for fields in refused] == [
        ("bank-a", "FC-3101"),
        ("stranger", "FC-3104"),
    ]


def test_an_answer_after_the_deadline_does_not_count() -> None:
    players, clock = puppets(), Clock()

    def late(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        for name in NAMES[:2]:
            yield Reply(institution=name, payload=players[name].handle(requests[name]))
        clock.now += 60
        for name in NAMES[2:]:
            yield Reply(institution=name, payload=players[name].handle(requests[name]))

    table = Table(quorum(2), Scripted(late), clock=clock)
    result = table.run()
    assert result.contributors == NAMES[:2]
    assert result.total.tolist() == oracle(NAMES[:2])


def test_too_few_answers_stop_the_round_and_name_who_is_missing() -> None:
    players, clock = puppets(), Clock()

    def half(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        yield Reply(institution=NAMES[0], payload=players[NAMES[0]].handle(requests[NAMES[0]]))
        yield Reply(institution=NAMES[1], payload=players[NAMES[1]].refuse(requests[NAMES[1]], "FC-4101"))
        clock.now += 25

    table = Table(quorum(3), Scripted(half), clock=clock)
    with pytest.raises(QuorumError) as caught:
        table.run()
    assert caught.value.code == "FC-2201"
    assert caught.value.fields == {
        "round": 1,
        "received": 1,
        "needed": 3,
        "seconds": 25.0,  # the carrier gave up before the deadline of 60
        "missing": "fund-c, insurer-d; refused: bank-b (FC-4101)",
    }
    last = list(table.audit.events())[-1]
    assert (last.kind, last.fields["missing"], last.fields["refused"]) == (
        EventKind.ROUND_ABORTED,
        ["fund-c", "insurer-d"],
        ["bank-b"],
    )
    # What was asked is kept before the log says that it failed; answers of an open round are not.
    ((name, data),) = table.kept.items()
    assert (name, last.fields["record"]) == ("00001-train-001-attempt.cbor", hashlib.sha256(data).digest())
    record = AttemptRecord.from_bytes(data)
    opened = next(event for event in table.audit.events() if event.kind is EventKind.ROUND_OPENED)
    assert hashlib.sha256(record.manifest).digest() == opened.fields["manifest"]
    assert verified_manifest(record.manifest, record.manifest_signature, coordinator=COORDINATOR.public).round == 1
    assert not record.uploads


def test_who_is_missing_is_named_with_what_is_known_about_it() -> None:
    players, clock = puppets(), Clock()

    def bad(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        yield Reply(institution=NAMES[0], payload=None, carrier_error="unreachable")
        yield Reply(institution=NAMES[1], payload=b"junk")
        yield Reply(institution=NAMES[2], payload=None, carrier_error="reset")
        yield Reply(institution=NAMES[2], payload=players[NAMES[2]].handle(requests[NAMES[2]]))
        yield Reply(institution=NAMES[2], payload=None, carrier_error="reset")
        clock.now += 61

    table = Table(quorum(2), Scripted(bad), clock=clock)
    with pytest.raises(QuorumError) as caught:
        table.run()
    assert caught.value.fields["received"] == 1
    assert caught.value.fields["seconds"] == 60.0  # never longer than the deadline
    missing = "bank-a (carrier: unreachable), bank-b (answer not accepted: FC-3101), insurer-d"
    assert caught.value.fields["missing"] == missing


def test_refusals_that_leave_no_quorum_stop_the_round_with_their_codes() -> None:
    players = puppets()
    transport = Scripted(
        lambda requests: (Reply(institution=name, payload=players[name].refuse(requests[name])) for name in NAMES[:2])
    )
    with pytest.raises(RoundRefusedError, match=r"bank-a \(FC-2301\), bank-b \(FC-2301\)"):
        Table(quorum(3), transport).run()


def test_the_round_ends_as_soon_as_everybody_has_been_heard() -> None:
    players = puppets()

    def endless(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        for name in NAMES:
            yield Reply(institution=name, payload=players[name].handle(requests[name]))
        raise AssertionError("the engine went on listening")

    assert Table(quorum(4), Scripted(endless)).run().contributors == NAMES


def test_counts_are_asked_for_and_summed_in_their_own_length() -> None:
    players = puppets()
    lanes = np.arange(2 * SCORE_BINS, dtype=np.int64)
    transport = Scripted(
        lambda requests: (
            Reply(
                institution=name,
                payload=players[name].seal(players[name].open(request), CountsAnswer, to_lanes(lanes)),
            )
            for name, request in requests.items()
        )
    )
    result = Table(quorum(4), transport).run(purpose=Purpose.EVALUATE)
    assert result.total.tolist() == (4 * lanes).tolist()


def test_a_training_answer_does_not_stand_for_counts() -> None:
    table = Table(quorum(1), calm(puppets()))
    with pytest.raises(QuorumError):
        table.run(purpose=Purpose.EVALUATE)
    assert table.kinds().count("answer-refused") == 4


def test_members_outside_the_plan_are_not_asked() -> None:
    players = puppets()
    plan = plan_of(("bank-a", "fund-c"))
    transport = calm(players)
    result = Table(plan, transport).run()
    assert result.contributors == [NAMES[0], NAMES[2]]
    assert list(transport.rounds[0]) == [NAMES[0], NAMES[2]]


def test_a_round_is_in_the_log_before_anybody_is_asked_and_its_answers_at_its_end() -> None:
    players = puppets()
    seen: list[list[str]] = []

    def watching(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        for name, request in requests.items():
            seen.append(table.kinds())
            yield Reply(institution=name, payload=players[name].handle(request))

    table = Table(quorum(4), Scripted(watching))
    table.run()
    # A power cut now would leave the open round, so its attempt is never used twice.
    assert seen == [["round-opened"]] * 4
    assert table.kinds() == ["round-opened"] + ["answer-accepted"] * 4
    table.run(number=2)
    assert table.kinds()[5:] == ["round-opened"] + ["answer-accepted"] * 4


def test_what_was_heard_is_logged_even_when_the_carrier_breaks_down() -> None:
    class CarrierBrokeError(Exception):
        pass

    players = puppets()

    def breaking(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        yield Reply(institution=NAMES[0], payload=players[NAMES[0]].handle(requests[NAMES[0]]))
        raise CarrierBrokeError

    table = Table(quorum(1), Scripted(breaking))
    with pytest.raises(CarrierBrokeError):
        table.run()
    assert table.kinds() == ["round-opened", "answer-accepted"]
    # No line of it is written a second time with the next round.
    table.transport.script = calm(players).script  # type: ignore[attr-defined]
    table.run(attempt=2)
    assert table.kinds() == ["round-opened", "answer-accepted", "round-opened"] + ["answer-accepted"] * 4


def test_every_sealed_byte_is_counted_for_the_record() -> None:
    transport = calm(puppets())
    result = Table(quorum(4), transport).run()
    assert result.bytes_sent == {name: len(request) for name, request in transport.rounds[0].items()}
    assert set(result.bytes_received) == set(NAMES)
    assert len(set(result.bytes_received.values())) == 1


# --- who is waited for ----------------------------------------------------------------------------------------------


def test_while_a_round_runs_its_result_says_who_is_waited_for_and_until_when() -> None:
    players, clock = puppets(), Clock()
    seen: list[tuple[str, set[str], float, float]] = []

    def watch(result: RoundResult) -> None:
        seen.append((str(result.stage), set(result.waiting), result.since, result.until))

    def slow(requests: Mapping[InstitutionId, bytes]) -> Iterator[Reply]:
        yield Reply(institution=NAMES[2], payload=players[NAMES[2]].handle(requests[NAMES[2]]))
        clock.now += 10
        yield Reply(institution=NAMES[0], payload=b"junk")
        yield Reply(institution=NAMES[1], payload=players[NAMES[1]].refuse(requests[NAMES[1]]))
        yield Reply(institution=NAMES[0], payload=players[NAMES[0]].handle(requests[NAMES[0]]))

    table = Table(quorum(2), Scripted(slow), clock=clock)
    result = table.run(on_reply=watch)
    begin = 1_000_000.0
    # Once before anybody answers; junk settles nothing, a refusal does.
    assert seen == [
        ("answer", set(NAMES), begin, begin + 60),
        ("answer", {"bank-a", "bank-b", "insurer-d"}, begin, begin + 60),
        ("answer", {"bank-a", "bank-b", "insurer-d"}, begin, begin + 60),
        ("answer", {"bank-a", "insurer-d"}, begin, begin + 60),
        ("answer", {"insurer-d"}, begin, begin + 60),
    ]
    assert result.messages == {NAMES[0]: 1, NAMES[1]: 1, NAMES[2]: 1}


# --- the log --------------------------------------------------------------------------------------------------------


def test_the_manifest_names_the_log_as_it_was_and_the_body_proves_the_release() -> None:
    players = puppets()
    table = Table(quorum(4), calm(players))
    before = table.audit.tree().root()
    result = table.run()
    (opened,) = players[NAMES[0]].asked
    manifest, body = opened.manifest, opened.round_body()
    assert (manifest.log_size, manifest.log_root, manifest.release) == (1, before, 0)
    assert (result.log_size, manifest.epoch, manifest.step) == (1, bytes(32), 0)
    table.run(number=2)
    manifest, body = players[NAMES[0]].asked[1].manifest, players[NAMES[0]].asked[1].round_body()
    # Opened, four answers accepted: the log has grown by five.
    assert manifest.log_size == 6
    verify_inclusion(body.release, index=0, size=6, root=manifest.log_root, proof=body.release_path)
    assert [LogProof.from_bytes(proof).size for proof in body.log_proofs] == [1]


def test_every_accepted_answer_carries_a_cosignature_of_the_log_that_it_saw() -> None:
    table = Table(quorum(4), calm(puppets()))
    table.run()
    table.run(number=2)
    roots = {size: table.audit.tree().root(size) for size in (1, 6)}
    accepted = [event.fields for event in table.audit.events() if event.kind is EventKind.ANSWER_ACCEPTED]
    assert [fields["log_size"] for fields in accepted] == [1] * 4 + [6] * 4
    for fields in accepted:
        size, name = fields["log_size"], fields["institution"]
        checkpoint = LogCheckpoint(origin=log_origin(consortium=CONSORTIUM, run=RUN), size=size, root=roots[size])  # type: ignore[arg-type, index]
        line = NoteSignature.from_line(fields["cosignature"])  # type: ignore[arg-type]
        verify_cosignature(checkpoint, line, name=name, identity=KEYS[InstitutionId(str(name))].public)  # type: ignore[arg-type]


def without(silent: InstitutionId, players: Mapping[InstitutionId, Puppet]) -> Scripted:
    return Scripted(
        lambda requests: (
            Reply(institution=name, payload=players[name].handle(request))
            for name, request in requests.items()
            if name != silent
        )
    )


def test_a_member_that_was_away_gets_a_proof_from_where_it_stands() -> None:
    players, away = puppets(), NAMES[3]
    transport = calm(players)
    table = Table(quorum(3), transport)
    table.run()
    transport.script = without(away, players).script
    for number in (2, 3, 4):
        table.run(number=number)
    transport.script = calm(players).script
    table.run(number=5)
    first, last = players[away].asked
    state = follow(FIRST_SIGHT, first.manifest, first.round_body())
    assert follow(state, last.manifest, last.round_body()).size == last.manifest.log_size
    # Everybody stands at round 5 now: the proofs from before are no longer sent.
    table.run(number=6)
    assert len(players[away].asked[2].round_body().log_proofs) == 1


def test_a_member_that_was_away_for_long_still_gets_a_proof_from_where_it_stands() -> None:
    players, away = puppets(), NAMES[3]
    transport = calm(players)
    table = Table(quorum(3), transport)
    table.run()
    transport.script = without(away, players).script
    for number in range(2, MOST_SHOWN + 3):
        table.run(number=number)
    transport.script = calm(players).script
    table.run(number=MOST_SHOWN + 3)
    first, last = players[away].asked
    assert len(last.round_body().log_proofs) <= MOST_SHOWN + 1
    state = follow(FIRST_SIGHT, first.manifest, first.round_body())
    assert follow(state, last.manifest, last.round_body()).size == last.manifest.log_size


def test_a_resumed_engine_proves_from_every_size_that_was_shown_before() -> None:
    players = puppets()
    table = Table(quorum(4), calm(players))
    table.run()
    table.run(number=2)
    shown = tuple(opened.manifest.log_size for opened in players[NAMES[0]].asked)
    again = Table(quorum(4), calm(players), audit=table.audit, resumed=Resumed(shown=shown))
    again.run(number=3)
    for player in players.values():
        state = FIRST_SIGHT
        for opened in (player.asked[0], player.asked[2]):  # it never got the request of round 2
            state = follow(state, opened.manifest, opened.round_body())
    # An engine that lost its log is found out by whoever has seen it.
    Table(quorum(4), calm(players)).run(number=4)
    last = players[NAMES[0]].asked[3]
    with pytest.raises(LogRolledBackError):
        follow(state, last.manifest, last.round_body())


def test_at_the_end_everybody_cosigns_the_whole_log_and_adds_nothing() -> None:
    players = puppets()
    transport = Scripted(
        lambda requests: (
            Reply(institution=name, payload=players[name].close(request)) for name, request in requests.items()
        )
    )
    table = Table(quorum(4), transport)
    result = table.run(purpose=Purpose.CLOSE)
    assert (result.total.size, result.contributors, result.stage) == (0, NAMES, Stage.CLOSE)
    assert table.kinds() == ["round-opened"] + ["answer-accepted"] * 4
    # A sum does not end a run, and an end is no sum.
    with pytest.raises(QuorumError, match="FC-3101"):
        table.run(number=2)
    transport.script = calm(players).script
    with pytest.raises(QuorumError, match="FC-3101"):
        table.run(number=2, purpose=Purpose.CLOSE)


def test_a_round_asks_for_answers_of_one_length_whatever_it_is_for() -> None:
    players = puppets()
    table = Table(quorum(1), calm(players))
    for number, purpose in enumerate((Purpose.PREPARE, Purpose.TRAIN, Purpose.EVALUATE, Purpose.CLOSE), start=1):
        with contextlib.suppress(QuorumError):
            table.run(number=number, purpose=purpose)
    lengths = {opened.request.answer_length for player in players.values() for opened in player.asked}
    assert lengths == {answer_length(2 * SCORE_BINS)}
