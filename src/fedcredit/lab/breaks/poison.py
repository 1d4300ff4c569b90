"""Poison: a member sends what no honest program sends. It is refused by code, or blamed by name, and the others go on.

What no check here can see is a lie inside the ring: masked numbers have no size. That is said in the story, not hidden.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from fedcredit.audit.log import EventKind
from fedcredit.encoding import encode
from fedcredit.errors import CannotOpenError, MalformedMessageError, NoiseRangeError
from fedcredit.lab.breaks.drop import sum_of
from fedcredit.lab.breaks.scene import Carrier, Delivery, HandlerOf, Heard, Scene, Setting, honest, reply
from fedcredit.lab.breaks.story import COORDINATOR, RELAY, Story
from fedcredit.lab.breaks.tampering import Desk, answered, flipped
from fedcredit.lab.breaks.truth import Integers
from fedcredit.messages import Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.run import RoundReport
from fedcredit.secagg.ring import ring_limit, to_ring
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Reveal, Upload
from fedcredit.transport import Reply

IDEA: Final = "poison"
ROUNDS: Final = 3
FLIP, WIDEN, LIE = 1, 2, 3
"""The rounds: a bit flipped after signing, numbers of another width, a false share."""


class PoisonedMember(Carrier):
    """Changes what the first member answers. Being first, its shares are tried before those of the others."""

    def __init__(self, scene: Scene, *, signs_again: bool) -> None:
        super().__init__(scene)
        self.member, self.bystander = scene.names[0], scene.names[1]
        self._signs_again = signs_again
        self.uploads: dict[int, dict[InstitutionId, Delivery]] = {}
        self.unwritten: set[str] = set()
        """What has no bytes, so that nobody can send it."""

    def carry(self, delivery: Delivery) -> Iterator[Reply]:
        """Carry a message, changed if it is the member's turn."""
        manifest = delivery.manifest
        if delivery.at(Stage.UPLOAD, round_number=manifest.round, attempt=manifest.attempt):
            self.uploads.setdefault(manifest.round, {})[delivery.to] = delivery
        heard = self.scene.ask(delivery)
        if delivery.to == self.bystander and delivery.at(Stage.UPLOAD, round_number=FLIP):
            yield self._changed_on_the_way(delivery, heard)
        if delivery.to != self.member or heard.code:
            yield reply(delivery.to, heard.payload)
        elif delivery.at(Stage.UPLOAD, round_number=FLIP):
            yield self._flipped(delivery, heard)
        elif delivery.at(Stage.UPLOAD, round_number=WIDEN):
            yield self._widened(delivery, heard)
        elif delivery.at(Stage.REVEAL, round_number=LIE):
            yield self._lying(delivery, heard)
        else:
            yield reply(delivery.to, heard.payload)

    def _changed_on_the_way(self, delivery: Delivery, heard: Heard) -> Reply:
        self.scene.account.attack(RELAY, "flips-a-sealed-bit", institution=delivery.to, round=FLIP)
        return self._sent(delivery, flipped(heard.payload, at=len(heard.payload) // 2))

    def _flipped(self, delivery: Delivery, heard: Heard) -> Reply:
        upload, bulk = cast(Upload, heard.read.answer), flipped(heard.read.bulk, at=0)
        self.scene.account.attack(self.member, "flips-a-lane", round=FLIP)
        if self._signs_again:
            upload = replace(upload, bulk_digest=hashlib.sha256(bulk).digest())
        return self._sent(delivery, answered(self.scene, delivery, upload, bulk))

    def _widened(self, delivery: Delivery, heard: Heard) -> Reply:
        """Send numbers a thousand times beyond the ring: they need more bytes than the round has."""
        account, truth = self.scene.account, self.scene.truth(delivery)
        secure = self.scene.study.plan.secure
        bits = secure.lane_bits if secure else 32
        beyond = truth * (1000 * ring_limit(bits) // max(1, int(np.abs(truth).max())))
        account.attack(self.member, "multiplies", round=WIDEN)
        self._try_to_write(beyond, bits=bits)
        account.attack(self.member, "sends-wide-lanes", round=WIDEN)
        shares = bytes(heard.read.bulk)[truth.size * bits // 8 :]
        bulk = beyond.astype("<i8").tobytes() + shares
        upload = replace(cast(Upload, heard.read.answer), bulk_digest=hashlib.sha256(bulk).digest())
        delivery = _with_room(delivery, len(bulk))
        return self._sent(delivery, answered(self.scene, delivery, upload, bulk))

    def _try_to_write(self, beyond: Integers, *, bits: int) -> None:
        account = self.scene.account
        try:
            to_ring(beyond, bits=bits)
        except NoiseRangeError as error:
            self.unwritten.add("beyond")
            account.answer(self.member, "cannot-encode", error=error)
        account.attack(self.member, "writes-nan")
        try:
            encode(cast(Any, math.nan))
        except TypeError:
            self.unwritten.add("nan")
            account.answer(self.member, "has-no-nan")

    def _lying(self, delivery: Delivery, heard: Heard) -> Reply:
        """Reveal a false share: the true one of another secret, in the place of each."""
        bulk = bytes(heard.read.bulk)
        shares = [bulk[at : at + SHARE_LENGTH] for at in range(0, len(bulk), SHARE_LENGTH)]
        false = b"".join([*shares[1:], shares[0]])
        revealed = replace(cast(Reveal, heard.read.answer), bulk_digest=hashlib.sha256(false).digest())
        self.scene.account.attack(self.member, "reveals-false-shares", round=LIE, shares=len(shares))
        return reply(delivery.to, answered(self.scene, delivery, revealed, false))

    def _sent(self, delivery: Delivery, payload: bytes) -> Reply:
        """Return the changed upload as a carrier hands it over, and note what the coordinator's checks say of it."""
        desk = Desk(self.scene, delivery, lanes=self.scene.truth(delivery).size)
        error = desk.refusal(delivery, payload)
        self.scene.account.answer(COORDINATOR, "refuses" if error else "takes-it", error=error)
        return reply(delivery.to, payload)


def tell(folder: Path, setting: Setting, *, handler_of: HandlerOf = honest, signs_again: bool = False) -> Story:
    """Play it and return its story.

    ``signs_again`` is for tests of the verdict: the member signs the flipped bit, which is then a lie inside the ring.
    """
    with Scene.open(folder, setting, rounds=ROUNDS, handler_of=handler_of) as scene:
        member, account = PoisonedMember(scene, signs_again=signs_again), scene.account
        reports: dict[int, RoundReport] = {}
        with scene.run(member) as opened:
            for report in opened.run.rounds():
                reports[report.round] = report
                for event in scene.events(EventKind.MEMBER_BLAMED):
                    if event.fields["round"] == report.round:
                        account.answer(COORDINATOR, "blames", institution=str(event.fields["institution"]))
                scene.tell_sum(report)
        account.answer(COORDINATOR, "cannot-see-lies")
        _judge(scene, member, reports)
        return scene.story(
            IDEA, EventKind.ANSWER_REFUSED, EventKind.COHORT_SELECTED, EventKind.MEMBER_BLAMED, EventKind.SUM_OPENED
        )


def _judge(scene: Scene, member: PoisonedMember, reports: dict[int, RoundReport]) -> None:
    account, everybody = scene.account, set(scene.names)
    logged = [
        (str(event.fields["institution"]), str(event.fields["code"]))
        for event in scene.events(EventKind.ANSWER_REFUSED)
    ]
    account.check("cannot-be-written", member.unwritten == {"beyond", "nan"}, count=len(member.unwritten))
    malformed = MalformedMessageError.code
    known = {malformed, CannotOpenError.code}
    own = [code for name, code in logged if name == member.member]
    account.check("poison-refused", own == [malformed] * 2, institution=member.member, codes=", ".join(own))
    way = [code for name, code in logged if name == member.bystander]
    account.check("changed-on-the-way-refused", len(way) == 1 and way[0] in known, codes=", ".join(way))
    for number, members in (
        (FLIP, everybody - {member.member}),
        (WIDEN, everybody - {member.member}),
        (LIE, everybody),
    ):
        report, asked = reports.get(number), member.uploads[number]
        truth = sum_of(scene, [asked[name] for name in sorted(members)])
        exact = (
            report is not None
            and set(report.result.contributors) == members
            and np.array_equal(report.result.total, truth)
        )
        account.check("exact-sum", exact, round=number, members=len(members), lanes=truth.size)
    blamed = [
        (event.fields["round"], str(event.fields["institution"])) for event in scene.events(EventKind.MEMBER_BLAMED)
    ]
    names = ", ".join(name for _, name in blamed)
    account.check("blamed-by-name", blamed == [(LIE, member.member)], institution=member.member, blamed=names)


def _with_room(delivery: Delivery, size: int) -> Delivery:
    """Return the delivery as if it asked for an answer long enough: a cheat pads as it likes."""
    room = replace(delivery.opened.request, answer_length=delivery.opened.request.answer_length + size)
    return replace(delivery, opened=replace(delivery.opened, request=room))
