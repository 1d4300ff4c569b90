"""Snoop: relay and coordinator keep everything they see and look for one member's numbers in it.

The same code reads a run with open aggregation, where it must succeed: an attack that never works proves nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from scipy import stats

from fedcredit.audit.log import EventKind
from fedcredit.lab.breaks.scene import Carrier, Delivery, HandlerOf, Heard, Scene, Setting, honest
from fedcredit.lab.breaks.story import COORDINATOR, RELAY, Account, Story
from fedcredit.lab.breaks.tampering import Desk
from fedcredit.lab.breaks.truth import Integers
from fedcredit.messages import Purpose, Stage, TrainAnswer, from_lanes, to_lanes
from fedcredit.secagg.masking import add_masks
from fedcredit.secagg.ring import Lanes, from_ring, lanes_from_bytes

IDEA: Final = "snoop"
ROUNDS: Final = 2
WINDOW: Final = 8
"""Numbers in a row that are looked for; chance does not make eight telling ones."""
FALSE_ALARM: Final = 1e-6
"""How often uniform bytes would be called otherwise."""
CHANCE: Final = 2
"""So many equal numbers may be chance: a lane of a fresh mask hits with probability 2^-32."""
OPEN: Final = "open"
_VARIETY: Final = 6
"""A window with fewer different numbers is padding, or a run of small counts."""
_NIBBLES: Final = 16


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What an attempt to read a member's numbers gave."""

    lanes: int
    equal: int
    """Numbers that were read as they are."""
    correlation: float
    """Between what was read and the truth."""
    chi_square: float
    """Of the half-bytes of what was read, against a uniform law; 15 degrees of freedom."""
    p_value: float

    @classmethod
    def of(cls, read: Integers, truth: Integers) -> Reading:
        """Compare numbers that were read, shape (lanes,), with the true ones."""
        octets = read.astype("<i4").view(np.uint8)
        counts = np.bincount(np.concatenate([octets >> 4, octets & 15]), minlength=_NIBBLES)
        chi_square = float(stats.chisquare(counts).statistic)
        return cls(
            lanes=truth.size,
            equal=int(np.count_nonzero(read == truth)),
            correlation=_correlation(read, truth),
            chi_square=chi_square,
            p_value=float(stats.chi2.sf(chi_square, _NIBBLES - 1)),
        )

    @property
    def readable(self) -> bool:
        """Return whether anything of the numbers was read: chance explains the figures less than once in a million."""
        limit = float(stats.norm.isf(FALSE_ALARM / 2)) / max(1.0, self.lanes) ** 0.5
        return self.equal > CHANCE or abs(self.correlation) > limit

    @property
    def uniform(self) -> bool:
        """Return whether what was read looks like random bytes."""
        return self.p_value > FALSE_ALARM


@dataclass(frozen=True, kw_only=True)
class Loot:
    """What relay and coordinator got out of one run about one member."""

    messages: int
    octets: int
    carried: int
    """Windows of the member's numbers in what the relay carried."""
    opened: int
    """The same in what the coordinator opened."""
    stored: int
    """The same in the coordinator's folder."""
    upload: Reading
    """The member's message, read as numbers."""
    unmasked: Reading | None
    """The same after the mask of its own seed, which the revealed shares give, was taken off."""

    @property
    def found(self) -> int:
        """Return the windows found anywhere."""
        return self.carried + self.opened + self.stored


def tell(folder: Path, setting: Setting, *, handler_of: HandlerOf = honest) -> Story:
    """Play it and return its story; with open aggregation the defence is missing, and the verdict says so."""
    with Scene.open(folder, setting, rounds=ROUNDS, handler_of=handler_of) as scene:
        loot, account = snooped(scene), scene.account
        victim = scene.names[-1]
        account.attack(RELAY, "records-everything", messages=loot.messages, octets=loot.octets)
        account.answer(RELAY, "finds-windows", institution=victim, count=loot.carried)
        account.attack(COORDINATOR, "opens-messages", institution=victim)
        account.answer(COORDINATOR, "finds-windows", institution=victim, count=loot.opened + loot.stored)
        _tell_reading(account, loot.upload)
        if loot.unmasked is not None:
            account.attack(COORDINATOR, "takes-off-own-mask", institution=victim)
            _tell_reading(account, loot.unmasked)
        _check_hidden(account, loot)
        if setting.aggregation != OPEN:
            account.attack(COORDINATOR, "reads-open-run")
            with Scene.open(folder / OPEN, replace(setting, aggregation=OPEN), rounds=ROUNDS) as undefended:
                known = snooped(undefended)
            _tell_reading(account, known.upload)
            alive = known.found > 0 and known.upload.equal == known.upload.lanes and not known.upload.uniform
            account.check("attack-alive", alive, equal=known.upload.equal, lanes=known.upload.lanes)
        return scene.story(IDEA, EventKind.ANSWER_ACCEPTED, EventKind.SUM_OPENED)


def snooped(scene: Scene) -> Loot:
    """Carry out a run, and return what relay and coordinator found out about its last member."""
    with scene.run(Carrier(scene)) as opened:
        for _ in opened.run.rounds():
            pass
    victim, secure = scene.names[-1], scene.study.plan.secure is not None
    own = [(delivery, heard) for delivery, heard in scene.heard if delivery.to == victim and _is_release(delivery)]
    truths = [scene.truth(delivery) for delivery, _ in own]
    truth, windows = np.concatenate(truths), _windows(truths)
    sealed = [part for delivery, heard in scene.heard for part in (delivery.sealed, heard.payload)]
    plain = [part for _, heard in scene.heard for part in (heard.read.signed.body, bytes(heard.read.bulk))]
    files = [path.read_bytes() for path in scene.study.coordinator_folder.rglob("*") if path.is_file()]
    return Loot(
        messages=len(sealed),
        octets=sum(map(len, sealed)),
        carried=_count(windows, sealed),
        opened=_count(windows, plain),
        stored=_count(windows, files),
        upload=Reading.of(np.concatenate([read_numbers(scene, *pair) for pair in own]), truth),
        unmasked=Reading.of(np.concatenate([_unmasked(scene, *pair) for pair in own]), truth) if secure else None,
    )


def _check_hidden(account: Account, loot: Loot) -> None:
    account.check("nothing-found", loot.found == 0, count=loot.found, messages=loot.messages)
    for name, reading in (("upload", loot.upload), ("unmasked", loot.unmasked)):
        if reading is not None:
            account.check(f"{name}-unreadable", not reading.readable, equal=reading.equal, lanes=reading.lanes)
            account.check(f"{name}-uniform", reading.uniform, chi_square=reading.chi_square, p=reading.p_value)


def _tell_reading(account: Account, reading: Reading) -> None:
    account.answer(
        COORDINATOR,
        "reads-numbers",
        equal=reading.equal,
        lanes=reading.lanes,
        correlation=reading.correlation,
        chi_square=reading.chi_square,
        p=reading.p_value,
    )


def _is_release(delivery: Delivery) -> bool:
    training = delivery.manifest.purpose == Purpose.TRAIN
    return training and delivery.opened.stage in {Stage.UPLOAD, Stage.ANSWER}


def read_numbers(scene: Scene, delivery: Delivery, heard: Heard) -> Integers:
    """Return what a member's message says if it is read as numbers, shape (lanes,)."""
    answer, secure = heard.read.answer, scene.study.plan.secure
    if isinstance(answer, TrainAnswer):
        return from_lanes(answer.lanes, what="answer", count=scene.truth(delivery).size)
    return from_ring(_masked(scene, delivery, heard), bits=secure.lane_bits if secure else 32)


def _masked(scene: Scene, delivery: Delivery, heard: Heard) -> Lanes:
    size, secure = scene.truth(delivery).size, scene.study.plan.secure
    bits = secure.lane_bits if secure else 32
    return lanes_from_bytes(heard.read.bulk[: size * bits // 8], count=size, bits=bits, what="upload").copy()


def _unmasked(scene: Scene, delivery: Delivery, heard: Heard) -> Integers:
    """Return the same after the best that a coordinator can do alone: it rebuilds every seed that shares open.

    The member's own seed is among them, as its update is in the sum; what stays are the masks that it has in common
    with the other members.
    """
    secure, lanes = scene.study.plan.secure, _masked(scene, delivery, heard)
    desk = Desk(scene, delivery, lanes=lanes.size)
    digest = delivery.opened.manifest_digest
    for stage in (Stage.UPLOAD, Stage.REVEAL):
        for other, answer in scene.heard:
            if other.opened.manifest_digest == digest and other.opened.stage is stage:
                desk.take(other, answer.payload)
        desk.sum.select()
    place = desk.sum.cohort.places[delivery.to]
    add_masks(lanes, plus=(), minus=(desk.sum.open().seeds[place, None],))
    return from_ring(lanes, bits=secure.lane_bits if secure else 32)


def _windows(truths: Sequence[Integers]) -> list[bytes]:
    found = []
    for truth in truths:
        for start in range(truth.size - WINDOW + 1):
            part = truth[start : start + WINDOW]
            if len({*part.tolist()}) >= _VARIETY:
                found.append(to_lanes(part))
    return found


def _count(windows: Sequence[bytes], haystacks: Sequence[bytes]) -> int:
    """Return how many of ``windows`` are anywhere in ``haystacks``."""
    everything = b"\0".join(haystacks)
    return sum(window in everything for window in windows)


def _correlation(read: Integers, truth: Integers) -> float:
    if not read.std() or not truth.std():
        return 0.0
    return float(np.corrcoef(read.astype(np.float64), truth.astype(np.float64))[0, 1])
