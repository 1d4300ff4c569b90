"""Members of our own protocol as an attacker meets them: what ``institution.stages`` does, without data and disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from attacks.secagg_plus.flower import Update
from consortium import COORDINATOR

from fedcredit.config.plan import RunPlan
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import sign, verify
from fedcredit.envelope import ANSWER_TAG
from fedcredit.institution.admission import Approvals
from fedcredit.messages import AVERAGING_GRID
from fedcredit.parties import COORDINATOR as COORDINATOR_NAME
from fedcredit.secagg.agreement import SELECTION_TAG, require_agreement, require_selection, selection_digest
from fedcredit.secagg.epoch import EpochOffer, EpochPending, EpochRoots, require_keys
from fedcredit.secagg.member import MemberRound, protect
from fedcredit.secagg.ring import lanes_to_bytes, to_ring
from fedcredit.secagg.wire import ROOT_BOX_LENGTH, Accept, EpochKey, Selection, Upload

BITS = 32
MANIFEST = hashlib.sha256(b"the manifest of the round").digest()
Boxes = Mapping[str, bytes]
"""One sealed secret by the other end of the pair."""


def grid_steps(update: Update) -> np.ndarray:
    """Return the integers that an update is sent as."""
    return np.rint(update.vector * AVERAGING_GRID).astype(np.int64)


@dataclass(frozen=True)
class Sent:
    """An upload as it left its member."""

    message: Upload
    signature: bytes
    bulk: bytes

    @property
    def digest(self) -> bytes:
        return hashlib.sha256(self.message.to_bytes()).digest()


class Member:
    """An honest member; what it refuses, it refuses with the error of the check that sees through it."""

    def __init__(
        self, name: str, keys: IdentityKeys, update: Update, *, others: Mapping[str, PublicIdentity], yes: Approvals
    ) -> None:
        self.name, self.keys, self._update, self._others, self._approvals = name, keys, update, others, yes

    def take_up(self, plan_text: str) -> None:
        plan = RunPlan.from_toml(plan_text, source="the plan received")
        self._approvals.require(plan.digest())
        assert plan.secure is not None
        self.threshold, self.smallest = plan.secure.threshold, plan.rounds.quorum

    def hello(self, setup: bytes) -> EpochKey:
        self._offer, key = EpochOffer.make(setup=setup, member=self.name, keys=self.keys, entropy=os.urandom)
        return key

    def send_secrets(self, keys: Sequence[EpochKey]) -> Boxes:
        require_keys(keys, setup=self._offer.setup, identities=self._others, smallest=self.smallest)
        self._pending, bulk = EpochPending.make(
            self._offer, keys, member=self.name, threshold=self.threshold, keys=self.keys, entropy=os.urandom
        )
        return dict(zip(self.neighbours, pieces(bulk, ROOT_BOX_LENGTH), strict=True))

    @property
    def neighbours(self) -> list[str]:
        cohort = self._pending.cohort
        return [cohort.names[other] for other in cohort.neighbours[cohort.places[self.name]]]

    def upload(self, secrets: Boxes) -> Sent:
        self.roots: EpochRoots = self._pending.complete(
            [secrets[other] for other in self.neighbours], identities=self._others
        )
        lanes = to_ring(grid_steps(self._update), bits=BITS)
        protected, state = protect(
            lanes, self.roots, manifest_digest=MANIFEST, round_number=1, attempt=1, entropy=os.urandom
        )
        bulk = b"".join((lanes_to_bytes(lanes), *protected.boxes))
        message = Upload(
            manifest_digest=MANIFEST,
            ledger_head=bytes(32),
            cosignature="of the log",
            commitments=protected.commitments,
            bulk_digest=hashlib.sha256(bulk).digest(),
        )
        self.sent = Sent(message, sign(self.keys, tag=ANSWER_TAG, body=message.to_bytes()), bulk)
        self.state: MemberRound = replace(state, upload=self.sent.digest)
        return self.sent

    def accept(self, selection: Selection, signature: bytes) -> bytes:
        body = selection.to_bytes()
        verify(
            COORDINATOR.public,
            tag=SELECTION_TAG,
            body=body,
            signature=signature,
            signer=COORDINATOR_NAME,
            what="selection",
        )
        require_selection(
            selection,
            manifest_digest=MANIFEST,
            cohort=self.state.cohort.names,
            member=self.name,
            own_upload=self.state.upload,
            smallest=self.smallest,
        )
        self.state = self.state.agree(selection)
        return self.agreement_to(selection)

    def agreement_to(self, selection: Selection) -> bytes:
        answer = Accept(manifest_digest=MANIFEST, selection=selection_digest(selection))
        return sign(self.keys, tag=ANSWER_TAG, body=answer.to_bytes())

    def reveal(self, agreed: Mapping[str, bytes], boxes: Sequence[bytes]) -> bytes:
        require_agreement(
            Selection.from_bytes(self.state.selection),
            agreed,
            member=self.name,
            threshold=self.threshold,
            identities=self._others,
        )
        self.state, shares = self.state.reveal(boxes)
        return shares


class AgreesAgain(Member):
    """A member without the rule of one selection per attempt: what the attack on it must then do."""

    def accept(self, selection: Selection, signature: bytes) -> bytes:
        self.state = replace(self.state, selection=b"")
        return super().accept(selection, signature)


class TakesAnyPlan(Member):
    """A member that takes its threshold from the coordinator, as Flower's do."""

    def take_up(self, plan_text: str) -> None:
        plan = RunPlan.from_toml(plan_text, source="the plan received")
        assert plan.secure is not None
        self.threshold, self.smallest = plan.secure.threshold, plan.rounds.quorum


def pieces(data: bytes, length: int) -> list[bytes]:
    """Cut ``data`` into pieces of ``length`` bytes."""
    assert len(data) % length == 0
    return [data[start : start + length] for start in range(0, len(data), length)]
