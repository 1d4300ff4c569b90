"""A consortium that has got to a certain moment of a round, and goes on from there to an exact sum."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path

import numpy as np
from consortium import NO_PRIVACY, RUN, SECURE, Consortium, HandLog, HandRound, HandSetup, Question, Site, plan_of

from fedcredit.store.records import Records

TARGET = "bank-a"
"""Who gets the bad message."""
NAMES = ("bank-a", "bank-b", "fund-c", "insurer-d")
OTHERS = NAMES[1:]
POLICY = {"allow_no_privacy": True}
PLAN = {**SECURE, **NO_PRIVACY, "run/rounds": 500, "rounds/retries": 0}
"""Four members, of whom three must agree; no noise, so that what a sum must be is known."""


class Moment(Enum):
    """How far the honest parties have got when the bad message comes; everybody else is a step ahead of its target."""

    SETUP = auto()
    """A set-up is announced; the target has given no key."""
    KEYS = auto()
    """All keys are there; the target has sent no secrets."""
    FIRST = auto()
    """The first round of a new epoch; the target has not uploaded."""
    UPLOAD = auto()
    """A later round; the target has not uploaded."""
    ACCEPT = auto()
    """All have uploaded; the target has agreed to nothing."""
    REVEAL = auto()
    """All have agreed; the target has revealed nothing."""
    RETRY = auto()
    """The target has revealed a sum of three of the four; all have uploaded for a second attempt."""


def kept(site: Site) -> dict[str, bytes]:
    """Return everything that a member remembers of its runs."""
    memory = Records(site.state.database, "run-memory")
    return {key: value for key in memory.keys("") if (value := memory.get(key)) is not None}


def state_of(site: Site) -> tuple[bytes, int, dict[str, bytes]]:
    """Return the ledger's head, how many releases it has charged, and what is remembered."""
    return site.state.ledger.head, site.charged() + site.charged("holdout"), kept(site)


@dataclass(frozen=True, kw_only=True)
class Played:
    """One exchange: what was asked, and what came."""

    asked: Question
    reply: bytes


def play(asked: Question, take: Callable[[Question, bytes], object]) -> Played:
    reply = asked.ask()
    take(asked, reply)
    return Played(asked=asked, reply=reply)


def upload(attempt: HandRound, *names: str) -> Played:
    """Have these members upload; return the last exchange. Plan and roster are known to them."""
    return [play(attempt.upload(name, brief=True), attempt.take_upload) for name in names][-1]


def agree(attempt: HandRound, *names: str) -> Played:
    """Have these members agree to the selection of all uploads."""
    chosen = attempt.sum.select()
    return [play(attempt.accept(name, chosen, brief=True), attempt.take_accept) for name in names][-1]


def reveal(attempt: HandRound, *names: str) -> Played:
    """Have these members reveal their shares."""
    return [play(attempt.reveal(name, brief=True), attempt.take_reveal) for name in names][-1]


@dataclass(kw_only=True)
class Scene:
    """One round at one moment."""

    consortium: Consortium
    moment: Moment
    earlier: dict[str, Played]
    """The target's exchanges in the round before, by stage."""
    number: int = 0
    setup: HandSetup | None = None
    attempt: HandRound | None = None

    @property
    def site(self) -> Site:
        return self.consortium.sites[TARGET]

    @property
    def hand(self) -> HandRound:
        assert self.attempt is not None
        return self.attempt

    @property
    def begun(self) -> HandSetup:
        assert self.setup is not None
        return self.setup

    @contextmanager
    def other_log(self) -> Iterator[HandLog]:
        """Show a log that goes on as the members' does, and may get entries that theirs never has."""
        logs, right = self.consortium.logs, self.consortium.log(RUN)
        logs[RUN] = copy.deepcopy(right)
        try:
            yield logs[RUN]
        finally:
            logs[RUN] = right

    def genuine(self, name: str = TARGET) -> Question:
        """Return the request that a member honestly gets at this moment."""
        match self.moment:
            case Moment.SETUP:
                return self.begun.keys(name)
            case Moment.KEYS:
                return self.begun.roots(name)
            case Moment.FIRST | Moment.UPLOAD:
                return self.hand.upload(name)
            case Moment.REVEAL:
                return self.hand.reveal(name)
        return self.hand.accept(name, self.hand.sum.select())

    def finish(self) -> tuple[list[int], tuple[str, ...]]:
        """Go on honestly; return the sum that is opened and whose it is."""
        attempt = self.attempt or self._finish_setup()
        if self.moment is Moment.RETRY:
            attempt = HandRound.of(self.consortium, round=self.number, attempt=3)
            upload(attempt, *NAMES[:3])
        places = attempt.sum.cohort.places
        if self.moment is not Moment.RETRY and places[TARGET] not in attempt.sum.contributions:
            self.earlier["upload"] = upload(attempt, TARGET)
        for name in attempt.sum.select().members:
            if name not in attempt.signatures:
                played = agree(attempt, name)
                self.earlier["accept"] = played if name == TARGET else self.earlier["accept"]
        self.earlier["reveal"] = reveal(attempt, TARGET)
        reveal(attempt, *[name for name in attempt.sum.select().members if name != TARGET])
        return attempt.sum.open().values.tolist(), attempt.sum.select().members

    def _finish_setup(self) -> HandRound:
        setup, bulks = self.begun, dict[str, bytes]()
        if TARGET not in setup.received:
            setup.take_key(TARGET, setup.keys(TARGET).answer())
        for name in NAMES:
            asked = setup.roots(name)
            bulks[name] = bytes(asked.open(asked.ask()).bulk)
        self.consortium.epochs[RUN] = setup.finished(bulks)
        attempt = HandRound.of(self.consortium, round=self.number)
        upload(attempt, *OTHERS)
        return attempt


@dataclass(kw_only=True)
class World:
    """One consortium for many scenes: every bad message meets a round of its own, with many before it."""

    consortium: Consortium
    earlier: dict[str, Played] = field(default_factory=dict)
    rounds: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    unfinished: bool = True
    """The last scene has left an epoch behind that the members may not share."""

    @classmethod
    def make(cls, folder: Path) -> World:
        """Return a world with an epoch and two rounds behind it."""
        world = cls(consortium=Consortium.make(folder, plan_of(**PLAN), policy=POLICY, rows=12))
        for _ in range(2):
            world.finish(world.at(Moment.UPLOAD))
        return world

    def at(self, moment: Moment) -> Scene:
        """Play honestly up to ``moment`` of a new round."""
        if self.unfinished or moment is Moment.FIRST:
            made = HandSetup.of(self.consortium).carried_out()
            assert made is not None
            self.consortium.epochs[RUN] = made
        self.unfinished = True
        scene = Scene(consortium=self.consortium, moment=moment, earlier=self.earlier, number=next(self.rounds))
        if moment in {Moment.SETUP, Moment.KEYS}:
            scene.setup = HandSetup.of(self.consortium)
            for name in NAMES if moment is Moment.KEYS else OTHERS:
                scene.setup.take_key(name, scene.setup.keys(name).answer())
            return scene
        scene.attempt = HandRound.of(self.consortium, round=scene.number)
        if moment is Moment.RETRY:
            upload(scene.attempt, *NAMES[:3])
            agree(scene.attempt, *NAMES[:3])
            reveal(scene.attempt, TARGET)
            scene.attempt = HandRound.of(self.consortium, round=scene.number, attempt=2)
            upload(scene.attempt, *NAMES)
            return scene
        upload(scene.attempt, *OTHERS)
        if moment in {Moment.ACCEPT, Moment.REVEAL}:
            upload(scene.attempt, TARGET)
            agree(scene.attempt, *OTHERS)
        if moment is Moment.REVEAL:
            agree(scene.attempt, TARGET)
        return scene

    def finish(self, scene: Scene) -> tuple[list[int], tuple[str, ...]]:
        """Go on honestly from ``scene``; return the sum that is opened and whose it is."""
        found = scene.finish()
        self.unfinished = False
        return found

    def exact(self, names: Sequence[str]) -> list[int]:
        """Return the sum of these members' numbers, by the computation itself."""
        plan, family = self.consortium.plan, self.consortium.family
        weights = family.initial_weights()
        sites = [self.consortium.sites[name] for name in names]
        parts = [
            family.computation(plan, site.name, site.holdings.split(plan).train).integer_sum(
                weights, round_number=1, batch=None
            )
            for site in sites
        ]
        return [int(number) for number in np.sum([part.values for part in parts], axis=0, dtype=np.int64)]
