"""Split: the coordinator shows members different weights, different selections and different logs.

With weights of its choice it could read rows out of a sum; with two selections it could take one sum from the other and
be left with one member. The lab has the coordinator's keys, so every lie is signed as a true message is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from fedcredit.audit.log import EventKind
from fedcredit.errors import (
    AgreementError,
    BadSignatureError,
    LineageError,
    LogForkError,
    ReplayError,
    SmallCohortError,
    WrongContextError,
)
from fedcredit.lab.breaks.drop import sum_of
from fedcredit.lab.breaks.scene import Carrier, Delivery, HandlerOf, Heard, Scene, Setting, honest, reply
from fedcredit.lab.breaks.snoop import Reading, read_numbers
from fedcredit.lab.breaks.story import COORDINATOR, Story
from fedcredit.lab.breaks.tampering import Desk, alone, forged_log, rewritten, selection_for, signed_selection, without
from fedcredit.messages import RoundBody, Stage, weights_to_bytes
from fedcredit.parties import InstitutionId
from fedcredit.rounds.run import RoundReport
from fedcredit.secagg.agreement import selection_digest
from fedcredit.secagg.wire import Reveal, RevealBody, Selection
from fedcredit.transport import Reply

IDEA: Final = "split"
PLANNED: Final = 5
"""Rounds that the plan pays for; the attempt that fails is among them."""
SPLIT, FORK, LAST = 2, 3, 4
"""The rounds: two selections in the first attempt, a log of its own for one member, and the true log again."""
LIES: Final = (
    ("swaps-weights", WrongContextError.code),
    ("signs-other-weights", LineageError.code),
    ("asks-to-agree-again", ReplayError.code),
    ("asks-shares-of-half", AgreementError.code),
    ("asks-shares-with-mixed-signatures", BadSignatureError.code),
    ("asks-shares-of-other-selection", WrongContextError.code),
    ("asks-to-agree-to-itself", SmallCohortError.code),
    ("shows-true-log-again", LogForkError.code),
)
"""Every lie in the order in which it is told, and what it must meet."""


class TwoFacedCoordinator(Carrier):
    """Changes what the coordinator says on its way out."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        names, half = scene.names, len(scene.names) // 2
        self.victim = names[0]
        self.first, self.second = names[:half], names[half:]
        """Who is shown everybody's selection, and who the one without the victim."""
        self.met: list[tuple[str, str]] = []
        """Each lie, and the code of the refusal or nothing."""
        self.charged: list[int] = []
        """The victim's charges before and after it was lied to about weights."""
        self.uploads: dict[tuple[int, int], dict[InstitutionId, Delivery]] = {}
        """By round and attempt: the true request to each member."""
        self.fork_refused = False
        """Whether the coordinator's own checks refuse the upload that a forged log brought."""
        self.fork_read: Reading | None = None
        """The same upload, read as numbers."""
        self._asked: dict[InstitutionId, Delivery] = {}
        self._agreed: dict[InstitutionId, bytes] = {}

    def carry(self, delivery: Delivery) -> Iterator[Reply]:
        """Carry a message, with lies before it or in its place."""
        manifest = delivery.manifest
        if delivery.at(Stage.UPLOAD, round_number=manifest.round, attempt=manifest.attempt):
            self.uploads.setdefault((manifest.round, manifest.attempt), {})[delivery.to] = delivery
        if delivery.to == self.victim and delivery.at(Stage.UPLOAD, round_number=SPLIT):
            self._lie_about_weights(delivery)
        if delivery.to == self.victim and delivery.at(Stage.UPLOAD, round_number=FORK):
            self._fork(delivery)
        if delivery.at(Stage.ACCEPT, round_number=SPLIT):
            yield from self._show_two_selections(delivery)
        elif delivery.to == self.victim and delivery.at(Stage.UPLOAD, round_number=LAST):
            yield reply(delivery.to, self._tell(delivery, "shows-true-log-again").payload)
        else:
            yield from super().carry(delivery)

    def _tell(self, lie: Delivery, act: str) -> Heard:
        account = self.scene.account
        account.attack(COORDINATOR, act, institution=lie.to, round=lie.manifest.round)
        heard = self.scene.ask(lie)
        self.met.append((act, heard.code))
        account.answer(lie.to, "refuses" if heard.code else "answers", error=heard.error)
        return heard

    # --- weights -----------------------------------------------------------------------------------------------------

    def _lie_about_weights(self, delivery: Delivery) -> None:
        other = _with_other_weights(delivery)
        digest = hashlib.sha256(other.weights).digest()
        self.charged.append(len(self.scene.charges(self.victim)))
        self._tell(rewritten(self.scene, delivery, body=other), "swaps-weights")
        signed = rewritten(self.scene, delivery, body=other, manifest={"weights_digest": digest})
        self._tell(signed, "signs-other-weights")
        self.charged.append(len(self.scene.charges(self.victim)))

    def _fork(self, delivery: Delivery) -> None:
        """Forge the newest entry of the log for the victim alone: nothing that it has signed contradicts that yet."""
        account = self.scene.account
        fields, body = forged_log(self.scene.log, delivery.manifest, _with_other_weights(delivery))
        forged = rewritten(self.scene, delivery, body=body, manifest=fields)
        account.attack(COORDINATOR, "forges-newest-entry", institution=self.victim, round=FORK)
        heard = self.scene.ask(forged)
        if heard.code:
            account.answer(self.victim, "refuses", error=heard.error)
            return
        account.answer(self.victim, "answers-forged-log")
        account.attack(COORDINATOR, "adds-forked-upload", institution=self.victim)
        truth = self.scene.truth(forged)
        error = Desk(self.scene, delivery, lanes=truth.size).refusal(delivery, heard.payload)
        self.fork_read = Reading.of(read_numbers(self.scene, forged, heard), truth)
        self.fork_refused = error is not None
        account.answer(COORDINATOR, "cannot-add" if error else "takes-it", error=error)
        self._tell(alone(self.scene, forged, heard), "asks-to-agree-to-itself")

    # --- selections --------------------------------------------------------------------------------------------------

    def _show_two_selections(self, delivery: Delivery) -> Iterator[Reply]:
        """Show each half its selection, and hand on the agreements to the true one."""
        name, account, true = delivery.to, self.scene.account, selection_for(delivery)
        if not self._asked:
            first, second = ", ".join(self.first), ", ".join(self.second)
            account.attack(COORDINATOR, "shows-two-selections", institution=self.victim, first=first, second=second)
        shown = signed_selection(self.scene, delivery, without(true, self.victim)) if name in self.second else delivery
        heard = self.scene.ask(shown)
        self._asked[name] = delivery
        if not heard.code:
            self._agreed[name] = heard.read.signed.signature
        account.answer(name, "refuses" if heard.code else "agrees", error=heard.error)
        if name in self.first:
            yield reply(name, heard.payload)
        if name == true.members[-1]:
            self._ask_for_more(true)

    def _ask_for_more(self, true: Selection) -> None:
        """Use the agreements of the halves: for a second agreement of one member, and for shares."""
        member, divided = self.first[-1], self.second[0]
        other = signed_selection(self.scene, self._asked[member], without(true, self.victim))
        self._tell(other, "asks-to-agree-again")
        self._tell(self._ask_shares(member, true, self.first), "asks-shares-of-half")
        self._tell(self._ask_shares(member, true, self.scene.names), "asks-shares-with-mixed-signatures")
        self._tell(self._ask_shares(divided, true, self.first), "asks-shares-of-other-selection")

    def _ask_shares(self, name: InstitutionId, selection: Selection, signers: Sequence[InstitutionId]) -> Delivery:
        """Return a request for shares in the same attempt, with the agreements that ``signers`` have given."""
        asked, agreed = self._asked[name], [signer for signer in signers if signer in self._agreed]
        body = RevealBody(
            selection=selection_digest(selection),
            members=tuple(agreed),
            signatures=tuple(self._agreed[signer] for signer in agreed),
            boxes=tuple(b"" for member in asked.manifest.cohort if member != name),
        )
        return rewritten(self.scene, asked, body=body, stage=Stage.REVEAL)


def tell(folder: Path, setting: Setting, *, handler_of: HandlerOf = honest) -> Story:
    """Play it and return its story; ``handler_of`` weakens members, for tests of the verdict."""
    with Scene.open(folder, setting, rounds=PLANNED, retries=0, handler_of=handler_of) as scene:
        coordinator = TwoFacedCoordinator(scene)
        reports = scene.run_until(coordinator, LAST)
        _judge(scene, coordinator, reports)
        kinds = (
            EventKind.COHORT_SELECTED,
            EventKind.ROUND_ABORTED,
            EventKind.INSTITUTION_REFUSED,
            EventKind.SUM_OPENED,
        )
        return scene.story(IDEA, *kinds)


def _judge(scene: Scene, coordinator: TwoFacedCoordinator, reports: dict[int, RoundReport]) -> None:
    account = scene.account
    codes = ", ".join(code or "-" for _, code in coordinator.met)
    account.check("every-lie-refused", tuple(coordinator.met) == LIES, codes=codes)
    before, after = coordinator.charged
    account.check("lies-charge-nothing", before == after, institution=coordinator.victim, before=before, after=after)
    shares = sum(
        isinstance(heard.read.answer, Reveal) and delivery.at(Stage.REVEAL, round_number=SPLIT)
        for delivery, heard in scene.heard
    )
    account.check("no-share-left", shares == 0, shares=shares)
    read = coordinator.fork_read
    shut = coordinator.fork_refused and read is not None and not read.readable
    lanes, equal = (read.lanes, read.equal) if read else (0, 0)
    account.check("fork-stays-shut", shut, institution=coordinator.victim, equal=equal, lanes=lanes)
    others = set(scene.names) - {coordinator.victim}
    for number, attempt, members in ((SPLIT, 2, set(scene.names)), (FORK, 1, others), (LAST, 1, others)):
        asked, report = coordinator.uploads.get((number, attempt), {}), reports.get(number)
        if report is None or set(report.result.contributors) != members or not members <= set(asked):
            account.check("exact-sum", False, round=number, members=len(members), lanes=0)
            continue
        truth = sum_of(scene, [asked[name] for name in sorted(members)])
        exact = np.array_equal(report.result.total, truth)
        account.check("exact-sum", exact, round=number, members=len(members), lanes=truth.size)


def _with_other_weights(delivery: Delivery) -> RoundBody:
    body = delivery.opened.round_body()
    weights = np.frombuffer(body.weights, dtype="<f8").copy()
    weights[0] += 0.5
    return replace(body, weights=weights_to_bytes(weights))
