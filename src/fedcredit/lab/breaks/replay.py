"""Replay: the relay sends again what it has carried before. Relays promise nothing, so nothing may depend on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from fedcredit.audit.log import EventKind
from fedcredit.errors import CannotOpenError, FedcreditError, MalformedMessageError, ReplayError, WrongContextError
from fedcredit.lab.breaks.scene import Carrier, Delivery, HandlerOf, Heard, Scene, Setting, honest, reply
from fedcredit.lab.breaks.story import COORDINATOR, RELAY, Story
from fedcredit.messages import Stage
from fedcredit.transport import Reply

IDEA: Final = "replay"
ROUNDS: Final = 2
EXPECTED: Final = {CannotOpenError.code, ReplayError.code, WrongContextError.code}

UNOPENED: Final = {CannotOpenError.code, MalformedMessageError.code}
"""With which the coordinator may refuse an answer that is sealed to another round."""


class ReplayingRelay(Carrier):
    """Keeps everything, and in the last round sends old messages of one member beside the true ones."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.victim = scene.names[0]
        self.kept: dict[Stage, tuple[Delivery, Heard]] = {}
        """The victim's messages of the first round."""
        self.again: tuple[Heard, Heard] | None = None
        """The victim's answer to the last round's upload request, and its answer to the repetition."""
        self.upload: Delivery | None = None
        self.codes: list[str] = []
        """With which members refused what was sent again."""
        self.charged: list[int] = []
        """The victim's charges before and after each repetition."""

    def carry(self, delivery: Delivery) -> Iterator[Reply]:
        """Carry a message; around those of the victim in the last round, old ones."""
        if delivery.to != self.victim:
            yield from super().carry(delivery)
        elif delivery.at(Stage.UPLOAD, round_number=ROUNDS):
            yield from self._around_upload(delivery)
        elif delivery.at(Stage.REVEAL, round_number=ROUNDS):
            yield from self._around_reveal(delivery)
        else:
            heard = self.scene.ask(delivery)
            if delivery.at(delivery.opened.stage, round_number=1):
                self.kept[delivery.opened.stage] = (delivery, heard)
            yield reply(delivery.to, heard.payload)

    def _around_upload(self, delivery: Delivery) -> Iterator[Reply]:
        account = self.scene.account
        old_request, old_answer = self.kept[Stage.UPLOAD]
        yield self._old_answer(delivery, old_answer, "sends-old-answer")
        self._repeat(old_request, "repeats-old-upload-request")
        first = self.scene.ask(delivery)
        account.answer(self.victim, "answers-upload", round=ROUNDS)
        before = self._charges()
        account.attack(RELAY, "repeats-upload-request", round=ROUNDS)
        second = self.scene.ask(delivery)
        self.charged += [before, self._charges()]
        if first.payload == second.payload:
            account.answer(self.victim, "gives-same-bytes", count=len(second.payload))
        else:
            account.answer(self.victim, "gives-other-bytes")
        self.again, self.upload = (first, second), delivery
        account.attack(RELAY, "delivers-twice", round=ROUNDS)
        yield reply(self.victim, first.payload)
        yield reply(self.victim, second.payload)

    def _around_reveal(self, delivery: Delivery) -> Iterator[Reply]:
        old_request, old_answer = self.kept[Stage.REVEAL]
        self._repeat(old_request, "repeats-old-reveal-request")
        yield self._old_answer(delivery, old_answer, "sends-old-shares")
        yield reply(self.victim, self.scene.ask(delivery).payload)

    def after_the_round(self) -> None:
        """Repeat the upload request of a round that is over."""
        if self.upload is not None:
            self._repeat(self.upload, "repeats-request-of-finished-round")

    def _repeat(self, request: Delivery, act: str) -> None:
        account, before = self.scene.account, self._charges()
        account.attack(RELAY, act, round=request.manifest.round)
        heard = self.scene.ask(request)
        self.charged += [before, self._charges()]
        self.codes.append(heard.code)
        account.answer(self.victim, "refuses" if heard.code else "answers", error=heard.error)

    def _old_answer(self, delivery: Delivery, old: Heard, act: str) -> Reply:
        account = self.scene.account
        account.attack(RELAY, act, institution=self.victim, round=ROUNDS)
        try:
            self.scene.read(delivery, old.payload)
        except FedcreditError as error:
            account.answer(COORDINATOR, "refuses", error=error)
        else:
            account.answer(COORDINATOR, "takes-it")
        return reply(self.victim, old.payload)

    def _charges(self) -> int:
        return len(self.scene.charges(self.victim))


def tell(folder: Path, setting: Setting, *, handler_of: HandlerOf = honest) -> Story:
    """Play it and return its story; ``handler_of`` weakens members, for tests of the verdict."""
    with Scene.open(folder, setting, rounds=ROUNDS, handler_of=handler_of) as scene:
        relay = ReplayingRelay(scene)
        with scene.run(relay) as opened:
            for report in opened.run.rounds():
                total, members = report.result.total, report.result.contributors
            relay.after_the_round()
            released = opened.run.state.round
        _judge(scene, relay, released=released, total=total, members=len(members))
        return scene.story(IDEA, EventKind.ANSWER_REFUSED, EventKind.SUM_OPENED)


def _judge(scene: Scene, relay: ReplayingRelay, *, released: int, total: np.ndarray, members: int) -> None:
    account, again = scene.account, relay.again
    account.check("same-bytes", again is not None and again[0].payload == again[1].payload, institution=relay.victim)
    account.check(
        "members-refuse", len(relay.codes) == 3 and set(relay.codes) <= EXPECTED, codes=", ".join(relay.codes)
    )
    refused = [str(event.fields["code"]) for event in scene.events(EventKind.ANSWER_REFUSED)]
    account.check("coordinator-refuses", len(refused) == 2 and set(refused) <= UNOPENED, codes=", ".join(refused))
    pairs = list(zip(relay.charged[::2], relay.charged[1::2], strict=True))
    account.check(
        "no-charge-for-repetitions",
        bool(pairs) and all(before == after for before, after in pairs),
        before=sum(before for before, _ in pairs),
        after=sum(after for _, after in pairs),
    )
    charges = {name: len(scene.charges(name)) for name in scene.names}
    account.check("charged-per-round", set(charges.values()) == {_releases(scene)}, charges=sum(charges.values()))
    uploads = [d for d, h in scene.heard if d.at(Stage.UPLOAD, round_number=ROUNDS) and not h.code]
    truth = sum(scene.truth(item) for item in {item.to: item for item in uploads}.values())
    exact = released == ROUNDS and members == len(scene.names) and np.array_equal(total, truth)
    account.check("counted-once", bool(exact), members=members)


def _releases(scene: Scene) -> int:
    """Return how many releases a whole run asks each member for: its rounds, and a histogram if the plan has one."""
    prepared = scene.study.plan.privacy.preparation_share > 0
    return ROUNDS + int(prepared)
