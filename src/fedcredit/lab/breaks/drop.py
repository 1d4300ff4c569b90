"""Drop: members disappear before their upload, after it, and when their shares are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from fedcredit.audit.log import EventKind
from fedcredit.lab.breaks.scene import Carrier, Delivery, HandlerOf, Scene, Setting, honest
from fedcredit.lab.breaks.story import Story
from fedcredit.lab.breaks.truth import Integers
from fedcredit.messages import Purpose, Stage
from fedcredit.parties import InstitutionId
from fedcredit.rounds.run import RoundReport
from fedcredit.transport import Reply

IDEA: Final = "drop"
PLANNED: Final = 6
"""Rounds that the plan pays for; the attempts that fail are among them."""
FAILED: Final = 2
"""Attempts of the last round that end without a sum."""
BEFORE, AFTER, ABORTED = 1, 2, 3
"""The rounds: somebody is lost before its upload, after it, and so many that nothing can be opened."""


class FailingNetwork(Carrier):
    """Loses what the story says, and nothing else."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        names, secure = scene.names, scene.study.plan.secure
        self.lost = names[-1]
        self.too_many: tuple[InstitutionId, ...] = names[-2:]
        """Without so many there is no quorum of uploads."""
        self.holders: tuple[InstitutionId, ...] = names[(secure.threshold if secure else 1) - 1 :]
        """Without so many there are too few shares."""
        self.uploads: dict[tuple[int, int], dict[InstitutionId, Delivery]] = {}
        """By round and attempt: the request to which each member that was reached sent its numbers."""
        self.before = (0, 0.0)
        """Charges and epsilon of the first member before the last round."""
        self._told: set[tuple[int, int, Stage]] = set()

    def carry(self, delivery: Delivery) -> Iterator[Reply]:
        """Carry a message, or lose it."""
        manifest, first = delivery.manifest, self.scene.names[0]
        if delivery.to == first and delivery.at(Stage.UPLOAD, round_number=ABORTED):
            self.before = (len(self.scene.charges(first)), self.scene.epsilon(first))
        if delivery.to in self._silent(delivery):
            self._say_once(delivery)
            return
        if delivery.at(Stage.UPLOAD, round_number=manifest.round, attempt=manifest.attempt):
            self.uploads.setdefault((manifest.round, manifest.attempt), {})[delivery.to] = delivery
        yield from super().carry(delivery)

    def _silent(self, delivery: Delivery) -> tuple[InstitutionId, ...]:
        if delivery.at(Stage.UPLOAD, round_number=BEFORE):
            return (self.lost,)
        if any(delivery.at(stage, round_number=AFTER) for stage in (Stage.ACCEPT, Stage.REVEAL)):
            return (self.lost,)
        if delivery.at(Stage.UPLOAD, round_number=ABORTED):
            return self.too_many
        if delivery.at(Stage.REVEAL, round_number=ABORTED, attempt=2):
            return self.holders
        return ()

    def _say_once(self, delivery: Delivery) -> None:
        manifest, stage = delivery.manifest, delivery.opened.stage
        place = (manifest.round, manifest.attempt, stage)
        if place in self._told or (stage is Stage.REVEAL and manifest.round == AFTER):
            return
        self._told.add(place)
        acts = {Stage.UPLOAD: "is-lost-before-upload", Stage.ACCEPT: "is-lost-after-upload"}
        self.scene.account.attack(
            ", ".join(self._silent(delivery)),
            acts.get(stage, "is-lost-at-reveal"),
            round=manifest.round,
            attempt=manifest.attempt,
        )


def tell(folder: Path, setting: Setting, *, handler_of: HandlerOf = honest) -> Story:
    """Play it and return its story; ``handler_of`` weakens members, for tests of the verdict."""
    with Scene.open(folder, setting, rounds=PLANNED, retries=0, handler_of=handler_of) as scene:
        network = FailingNetwork(scene)
        reports = scene.run_until(network, ABORTED)
        judge_sums(scene, network, reports)
        _judge_aborts(scene, network)
        return scene.story(IDEA, EventKind.ROUND_ABORTED, EventKind.COHORT_SELECTED, EventKind.SUM_OPENED)


def judge_sums(scene: Scene, network: FailingNetwork, reports: dict[int, RoundReport]) -> None:
    """Check that each round's sum is exact, over the members that it should be."""
    everybody = set(scene.names)
    expected = {BEFORE: everybody - {network.lost}, AFTER: everybody, ABORTED: everybody}
    for number, members in expected.items():
        report = reports.get(number)
        attempts = [attempt for place, attempt in network.uploads if place == number]
        asked = network.uploads[number, max(attempts)]
        truth = sum_of(scene, [asked[name] for name in sorted(members) if name in asked])
        exact = (
            report is not None
            and set(report.result.contributors) == members == members & set(asked)
            and np.array_equal(report.result.total, truth)
        )
        scene.account.check("exact-sum", bool(exact), round=number, members=len(members), lanes=truth.size)


def sum_of(scene: Scene, deliveries: list[Delivery]) -> Integers:
    """Return the sum of what members put under their masks, shape (lanes,)."""
    total: Integers = np.sum([scene.truth(delivery) for delivery in deliveries], axis=0)
    return total


def _judge_aborts(scene: Scene, network: FailingNetwork) -> None:
    account = scene.account
    aborted = [event.fields for event in scene.events(EventKind.ROUND_ABORTED)]
    places = [(fields["round"], fields["attempt"], fields["stage"]) for fields in aborted]
    clean = places == [(ABORTED, 1, str(Stage.UPLOAD)), (ABORTED, 2, str(Stage.REVEAL))]
    opened = [event.fields for event in scene.events(EventKind.SUM_OPENED)]
    none_opened = not any((f["round"], f["attempt"]) in {(ABORTED, 1), (ABORTED, 2)} for f in opened)
    account.check("aborted-cleanly", clean and none_opened, count=len(places))
    shown = [e.fields for e in scene.events(EventKind.ROUND_OPENED) if e.fields["round"] == ABORTED]
    weights = [fields["weights"] for fields in shown if fields["purpose"] == Purpose.TRAIN]
    account.check("model-unchanged", len(weights) == FAILED + 1 and len(set(weights)) == 1, attempts=len(weights))
    first, last = scene.names[0], scene.names[-1]
    before, epsilon = network.before
    after, spent = len(scene.charges(first)), scene.epsilon(first)
    account.check(
        "every-attempt-charged",
        after - before == FAILED + 1 and (spent > epsilon or math.isinf(spent)),
        institution=first,
        before=before,
        after=after,
        epsilon_before=epsilon,
        epsilon_after=spent,
    )
    others = [charge for charge in scene.charges(last) if charge.release.release_id.split("/")[1] == str(ABORTED)]
    account.check("absent-not-charged", len(others) == FAILED, institution=last, charges=len(others))
