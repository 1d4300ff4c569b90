"""Kill: the coordinator dies between the selection and the shares, a member's node between its upload and the rest.

Each is opened again from its folder, with the files that its disk held at that moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from fedcredit.audit.log import Event, EventKind
from fedcredit.lab.breaks.drop import sum_of
from fedcredit.lab.breaks.scene import Carrier, Delivery, HandlerOf, Heard, Scene, Setting, honest, keep_disk, reply
from fedcredit.lab.breaks.snoop import CHANCE
from fedcredit.lab.breaks.story import COORDINATOR, Story
from fedcredit.messages import Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.run import RoundReport
from fedcredit.secagg.ring import Lanes, lanes_from_bytes, to_ring
from fedcredit.secagg.wire import Reveal
from fedcredit.transport import Reply

IDEA: Final = "kill"
ROUNDS: Final = 2
FIRST, SECOND = 1, 2
"""Attempts of the last round: the coordinator dies in the first one, a node in the second one."""
EVENTS: Final = (EventKind.ROUND_OPENED, EventKind.COHORT_SELECTED, EventKind.SUM_OPENED, EventKind.ROUND_RELEASED)


class Killed(KeyboardInterrupt):
    """The coordinator's process is gone; nothing on the way catches this."""


class Machines(Carrier):
    """Carries honestly, and kills as the story says."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.victim = scene.names[0]
        self.uploads: dict[tuple[int, InstitutionId], tuple[Delivery, Heard]] = {}
        """By attempt of the last round."""
        self.again: tuple[Heard, Heard] | None = None
        """What the killed node had answered, and what it answers to the same request afterwards."""
        self.log_at_the_kill: list[Event] = []

    def carry(self, delivery: Delivery) -> Iterator[Reply]:
        """Carry a message, unless somebody dies first."""
        if delivery.at(Stage.REVEAL, round_number=ROUNDS, attempt=FIRST):
            self.log_at_the_kill = list(self.scene.log.events())
            keep_disk(self.scene.study.coordinator_folder)
            raise Killed
        if delivery.to == self.victim and delivery.at(Stage.ACCEPT, round_number=ROUNDS, attempt=SECOND):
            self._kill_node()
        heard = self.scene.ask(delivery)
        for attempt in (FIRST, SECOND):
            if delivery.at(Stage.UPLOAD, round_number=ROUNDS, attempt=attempt):
                self.uploads[attempt, delivery.to] = (delivery, heard)
        yield reply(delivery.to, heard.payload)

    def _kill_node(self) -> None:
        account = self.scene.account
        account.attack(self.victim, "node-is-killed", round=ROUNDS, attempt=SECOND)
        self.scene.restart_node(self.victim)
        request, first = self.uploads[SECOND, self.victim]
        second = self.scene.ask(request)
        self.again = (first, second)
        if first.payload == second.payload:
            account.answer(self.victim, "gives-same-bytes-from-disk", count=len(second.payload))
        else:
            account.answer(self.victim, "gives-other-bytes", error=second.error)


def tell(folder: Path, setting: Setting, *, handler_of: HandlerOf = honest) -> Story:
    """Play it and return its story; ``handler_of`` weakens members, for tests of the verdict."""
    with Scene.open(folder, setting, rounds=ROUNDS, handler_of=handler_of) as scene:
        machines, account = Machines(scene), scene.account
        run_id = ""
        with contextlib.suppress(Killed), scene.run(machines) as opened:
            run_id = opened.run.run_id
            for report in opened.run.rounds():
                scene.tell_sum(report)
        account.attack(COORDINATOR, "coordinator-is-killed", round=ROUNDS, attempt=FIRST)
        scene.restart_coordinator()
        reports = []
        with scene.run(machines, run_id=run_id) as opened:
            account.answer(COORDINATOR, "goes-on", round=opened.run.state.round)
            for report in opened.run.rounds():
                reports.append(report)
                scene.tell_sum(report)
            opened.run.audit.verify()
        _judge_run(scene, machines, reports)
        judge_members(scene, machines)
        return scene.story(IDEA, *EVENTS)


def _judge_run(scene: Scene, machines: Machines, reports: list[RoundReport]) -> None:
    account = scene.account
    account.check("resumed", [report.round for report in reports] == [ROUNDS], round=ROUNDS)
    kept = [event.digest for event in machines.log_at_the_kill]
    now = [event.digest for event in scene.events(*EventKind)]
    account.check(
        "log-continues", 0 < len(kept) < len(now) and now[: len(kept)] == kept, before=len(kept), after=len(now)
    )
    opened = [e.fields["attempt"] for e in scene.events(EventKind.SUM_OPENED) if e.fields["round"] == ROUNDS]
    shares = [
        delivery
        for delivery, heard in scene.heard
        if isinstance(heard.read.answer, Reveal) and delivery.at(Stage.REVEAL, round_number=ROUNDS, attempt=FIRST)
    ]
    account.check("first-attempt-stays-shut", opened == [SECOND] and not shares, shares=len(shares))
    truth = sum_of(scene, [delivery for (attempt, _), (delivery, _) in machines.uploads.items() if attempt == SECOND])
    exact = bool(reports) and set(reports[-1].result.contributors) == set(scene.names)
    account.check(
        "exact-sum",
        exact and np.array_equal(reports[-1].result.total, truth),
        round=ROUNDS,
        members=len(scene.names),
        lanes=truth.size,
    )


def judge_members(scene: Scene, machines: Machines) -> None:
    """Check what members did: same bytes, no mask and no charge twice."""
    account, again = scene.account, machines.again
    account.check("same-bytes", again is not None and again[0].payload == again[1].payload, institution=machines.victim)
    masks = {key: _mask(scene, *upload) for key, upload in machines.uploads.items()}
    both = [name for name in scene.names if {(FIRST, name), (SECOND, name)} <= set(masks)]
    equal = sum(int(np.count_nonzero(masks[FIRST, name] == masks[SECOND, name])) for name in both)
    lanes = sum(masks[FIRST, name].size for name in both)
    account.check("no-mask-used-twice", set(both) == set(scene.names) and equal <= CHANCE, equal=equal, lanes=lanes)
    epochs = {delivery.manifest.epoch for delivery, _ in machines.uploads.values()}
    account.check("new-epoch", len(epochs) == SECOND, count=len(epochs))
    ids = {name: [charge.release.release_id for charge in scene.charges(name)] for name in scene.names}
    prepared = int(scene.study.plan.privacy.preparation_share > 0)
    once = all(len(charged) == len(set(charged)) == ROUNDS + 1 + prepared for charged in ids.values())
    account.check("one-charge-per-upload", once, charges=sum(map(len, ids.values())))


def _mask(scene: Scene, delivery: Delivery, heard: Heard) -> Lanes:
    """Return what a member added to its numbers, shape (lanes,): its upload less the truth, in the ring."""
    truth, secure = scene.truth(delivery), scene.study.plan.secure
    bits = secure.lane_bits if secure else 32
    size = truth.size * bits // 8
    masked = lanes_from_bytes(heard.read.bulk[:size], count=truth.size, bits=bits, what="upload")
    mask: Lanes = masked - to_ring(truth, bits=bits)
    return mask
