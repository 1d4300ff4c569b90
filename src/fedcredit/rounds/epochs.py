"""The coordinator's side of an epoch's set-up: collect fresh keys, hand them round, collect a secret per pair.

It sees public keys and sealed boxes; the secrets that pairs of members make of them are not here.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from fedcredit.audit.log import EventKind
from fedcredit.crypto.channels import Channel
from fedcredit.encoding import Encodable, encode
from fedcredit.envelope import OpenedAnswer
from fedcredit.errors import MalformedMessageError, QuorumError, WrongContextError
from fedcredit.messages import Manifest, Message, Request, Stage, padded_length
from fedcredit.parties import InstitutionId
from fedcredit.rounds.exchange import Exchange, Notes, Question, RoundResult
from fedcredit.rounds.transcript import Keep, SetupRecord, keep_attempt, transcript_name
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import MOST_STEPS, epoch_id, require_boxes, require_keys
from fedcredit.secagg.wire import (
    ROOT_BOX_LENGTH,
    EpochBoxes,
    EpochHello,
    EpochKey,
    KeysBody,
    RootsBody,
    bulk_digest,
)

REJOIN_AFTER: Final = 5
"""Rounds after which an epoch that some members are missing from is set up anew."""


@dataclass(kw_only=True)
class Epoch:
    """A ready epoch, as the coordinator knows it."""

    epoch: bytes
    cohort: Cohort
    boxes: Mapping[InstitutionId, tuple[bytes, ...]]
    """For each member: the boxes from its neighbours, in order."""
    channels: Mapping[InstitutionId, Channel]
    step: int = 0
    """How many manifests have named it."""
    complete: set[InstitutionId] = field(default_factory=set)
    """Members who have answered with its keys, so that they need no boxes again."""
    missing: int = 0
    """How many of the plan's members are not in it."""
    lost: set[InstitutionId] = field(default_factory=set)
    """Members who say that they do not have its keys any more."""

    @property
    def worn(self) -> bool:
        """Return whether a new epoch is due: its steps are used up, or members are missing who may be back by now."""
        return self.step >= MOST_STEPS or (bool(self.missing or self.lost) and self.step >= REJOIN_AFTER)


class Epochs:
    """The epochs of one run, one after the other; ``keep`` takes a record of each before the log says how it ended."""

    def __init__(self, *, exchange: Exchange, notes: Notes, threshold: int, begun: int, keep: Keep) -> None:
        self._exchange = exchange
        self._notes = notes
        self._keep = keep
        self._threshold = threshold
        self._begun = begun
        self._epoch: Epoch | None = None
        self._left_out: set[InstitutionId] = set()
        self.failed: tuple[Manifest, RoundResult] | None = None
        """The last set-up that too few members took part in, and what came of it."""

    def leave_out(self, members: Iterable[InstitutionId]) -> None:
        """Ask these members no more."""
        self._left_out |= set(members)

    def drop(self) -> None:
        """Set up a new epoch before the next round: whoever is back, or has lost its keys, is in it."""
        self._epoch = None

    def ready(
        self,
        manifest_for: Callable[[Sequence[str], int], Manifest],
        sign: Callable[[Manifest], bytes],
        requests_for: Callable[[Manifest, bytes], Callable[[Stage, Message, int], Request]],
        *,
        on_reply: Callable[[RoundResult], None],
    ) -> tuple[Epoch, RoundResult | None]:
        """Return the epoch to use, and what its set-up took if it is a new one.

        A set-up's manifest is in the log before the coordinator signs it.

        Raises:
            QuorumError: too few members answered; ``failed`` says who did what.
        """
        if self._epoch is not None and not self._epoch.worn:
            return self._epoch, None
        everybody = sorted(self._exchange.identities.keys() - self._left_out)
        cohort, traffic = everybody, RoundResult(manifest_digest=bytes(32), total=np.zeros(0, dtype=np.int64))
        while True:
            self._begun += 1
            manifest = manifest_for(cohort, self._begun)
            self._notes.add(EventKind.ROUND_OPENED, manifest, manifest=manifest.digest(), cohort=list(manifest.cohort))
            self._notes.write()
            signature = sign(manifest)
            setup = EpochSetup(
                exchange=self._exchange,
                notes=self._notes,
                manifest=manifest,
                signature=signature,
                request=requests_for(manifest, signature),
                threshold=self._threshold,
                keep=self._keep,
            )
            try:
                epoch = setup.run(on_reply=on_reply)
            except QuorumError:
                self.failed = (manifest, setup.result)
                raise
            finally:
                self._notes.write()
            traffic.add_traffic(setup.result)
            if epoch is not None:
                epoch.missing = len(everybody) - len(epoch.cohort)
                self._epoch = epoch
                return epoch, traffic
            cohort = setup.answered


class EpochSetup:
    """Sets up one epoch."""

    def __init__(
        self,
        *,
        exchange: Exchange,
        notes: Notes,
        manifest: Manifest,
        signature: bytes,
        request: Callable[[Stage, Message, int], Request],
        threshold: int,
        keep: Keep,
    ) -> None:
        self._exchange = exchange
        self._keep = keep
        self._identities = {str(name): identity for name, identity in exchange.identities.items()}
        self._notes = notes
        self._manifest = manifest
        self._signature = signature
        self._digest = manifest.digest()
        self._request = request
        self._threshold = threshold
        self._keys: dict[InstitutionId, EpochKey] = {}
        self._boxes: dict[InstitutionId, list[bytes]] = {}
        self._channels: dict[InstitutionId, Channel] = {}
        self.result: Final = RoundResult(manifest_digest=self._digest, total=np.zeros(0, dtype=np.int64))

    def run(self, *, on_reply: Callable[[RoundResult], None]) -> Epoch | None:
        """Return the epoch, or ``None`` if some member gave a key and then no boxes: set up another one without it.

        Raises:
            QuorumError: too few members answered.
        """
        self._require_keys(self._collect_keys(on_reply))
        keys = [self._keys[name] for name in sorted(self._keys)]
        epoch = epoch_id(self._digest, keys)
        cohort = Cohort.of([key.member for key in keys], seed=epoch, threshold=self._threshold)
        waited = self._collect_boxes(keys, epoch, cohort, on_reply)
        ready = len(self._boxes) == len(cohort)
        kept: dict[str, Encodable] = {}
        if ready:
            self._keep_record(keys)
        else:
            kept["record"] = self._keep_attempt()
        self._notes.add(
            EventKind.EPOCH_READY if ready else EventKind.EPOCH_FAILED,
            self._manifest,
            manifest=self._digest,
            epoch=epoch,
            cohort=list(cohort.names),
            boxes=hashlib.sha256(encode([self._boxes.get(InstitutionId(name), []) for name in cohort.names])).digest(),
            **kept,
        )
        self._require_quorum(self._boxes, waited)
        if not ready:
            return None
        return Epoch(epoch=epoch, cohort=cohort, boxes=self._by_recipient(cohort), channels=self._channels)

    def _require_keys(self, waited: float) -> None:
        try:
            self._require_quorum(self._keys, waited)
        except QuorumError as error:
            self._notes.add(
                EventKind.ROUND_ABORTED,
                self._manifest,
                stage=str(self.result.stage),
                code=error.code,
                missing=sorted(self.result.waiting),
                refused=sorted(self.result.refusals),
                record=self._keep_attempt(),
            )
            raise

    def _keep_attempt(self) -> bytes:
        return keep_attempt(self._manifest, signature=self._signature, uploads={}, keep=self._keep)

    def _keep_record(self, keys: Sequence[EpochKey]) -> None:
        record = SetupRecord(
            manifest=self._manifest.to_bytes(),
            manifest_signature=self._signature,
            keys=tuple(key.to_bytes() for key in keys),
        )
        name = transcript_name(round_number=0, purpose=self._manifest.purpose, attempt=self._manifest.attempt)
        self._keep(name, record.to_bytes())

    @property
    def answered(self) -> list[InstitutionId]:
        """Return who has answered both stages."""
        return sorted(self._boxes)

    def _collect_keys(self, on_reply: Callable[[RoundResult], None]) -> float:
        def take(name: InstitutionId, opened: OpenedAnswer) -> None:
            hello = opened.answer
            if not isinstance(hello, EpochHello):
                raise MalformedMessageError(what="answer", problem="it answers another question")
            key = EpochKey.from_bytes(hello.key)
            if key.member != name:
                raise WrongContextError(what="epoch key", field="member")
            require_keys([key], setup=self._digest, identities=self._identities, smallest=1)
            self._keys[name] = key
            secret = Channel.secret(coordinator=halves[name], member=hello.channel, setup=self._digest, name=name)
            self._channels[name] = Channel(secret, entropy=os.urandom)

        halves = {InstitutionId(name): os.urandom(32) for name in self._manifest.cohort}
        length = padded_length(6 * 1024)
        return self._exchange.ask(
            Question(
                manifest=self._manifest,
                manifest_digest=self._digest,
                stage=Stage.KEYS,
                requests={
                    name: self._request(Stage.KEYS, KeysBody(channel=half), length) for name, half in halves.items()
                },
                kind=EpochHello,
                take=take,
            ),
            self.result,
            on_reply=on_reply,
        )

    def _collect_boxes(
        self, keys: Sequence[EpochKey], epoch: bytes, cohort: Cohort, on_reply: Callable[[RoundResult], None]
    ) -> float:
        def take(name: InstitutionId, opened: OpenedAnswer) -> None:
            answer, bulk = opened.answer, bytes(opened.bulk)
            if not isinstance(answer, EpochBoxes) or answer.epoch != epoch:
                raise WrongContextError(what="list of root boxes", field="epoch")
            expected = ROOT_BOX_LENGTH * len(cohort.neighbours[cohort.places[name]])
            if bulk_digest(bulk) != answer.bulk_digest or len(bulk) != expected:
                raise MalformedMessageError(what="list of root boxes", problem="its length or digest is wrong")
            boxes = [bulk[i : i + ROOT_BOX_LENGTH] for i in range(0, len(bulk), ROOT_BOX_LENGTH)]
            # Here, not at the recipient: that one could only stay away, and would be punished for the sender's fault.
            require_boxes(boxes, epoch=epoch, cohort=cohort, sender=name, identity=self._identities[name])
            self._boxes[name] = boxes

        body = RootsBody(keys=tuple(key.to_bytes() for key in keys))
        request = self._request(
            Stage.ROOTS, body, padded_length(ROOT_BOX_LENGTH * max(map(len, cohort.neighbours), default=0))
        )
        return self._exchange.ask(
            Question(
                manifest=self._manifest,
                manifest_digest=self._digest,
                stage=Stage.ROOTS,
                requests={InstitutionId(key.member): request for key in keys},
                kind=EpochBoxes,
                take=take,
            ),
            self.result,
            on_reply=on_reply,
        )

    def _by_recipient(self, cohort: Cohort) -> dict[InstitutionId, tuple[bytes, ...]]:
        names = [InstitutionId(name) for name in cohort.names]
        return {
            name: tuple(
                self._boxes[names[other]][cohort.position(place, of=other)] for other in cohort.neighbours[place]
            )
            for place, name in enumerate(names)
        }

    def _require_quorum(self, done: Mapping[InstitutionId, object], waited_s: float) -> None:
        if len(done) >= self._manifest.quorum:
            return
        missing = sorted(set(self._manifest.cohort) - set(done))
        raise QuorumError(
            round=0,
            received=len(done),
            needed=self._manifest.quorum,
            seconds=waited_s,
            missing=", ".join(name_with_reason(InstitutionId(name), self.result) for name in missing),
        )


def name_with_reason(name: InstitutionId, result: RoundResult) -> str:
    """Return the name, with why nothing usable came from it if that is known."""
    reason = result.refusals.get(name) or result.unusable.get(name)
    return f"{name} ({reason})" if reason else name
