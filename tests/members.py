"""Members of an epoch and the aggregator between them, without carrier, disk or privacy: the pure sessions only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from consortium import keys_of

from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import require_agreement, require_selection, selection_digest
from fedcredit.secagg.epoch import EpochOffer, EpochPending, EpochRoots, require_keys
from fedcredit.secagg.member import MemberRound, protect
from fedcredit.secagg.ring import lanes_to_bytes, to_ring
from fedcredit.secagg.wire import ROOT_BOX_LENGTH, Accept, EpochKey, Upload

SETUP = b"s" * 32


@dataclass
class Members:
    """A complete epoch."""

    threshold: int
    keys: dict[str, IdentityKeys]
    offered: list[EpochKey]
    pending: dict[str, EpochPending]
    boxes: dict[str, dict[str, bytes]]
    """By recipient and sender."""
    roots: dict[str, EpochRoots]

    @classmethod
    def make(cls, count: int, threshold: int) -> Members:
        names = [f"m{number:03d}" for number in range(count)]
        keys = {
            name: keys_of(number + 1) if count < 200 else IdentityKeys.generate() for number, name in enumerate(names)
        }
        offers, offered = {}, []
        for name in names:
            offers[name], key = EpochOffer.make(setup=SETUP, member=name, keys=keys[name], entropy=os.urandom)
            offered.append(key)
        identities = {name: key.public for name, key in keys.items()}
        require_keys(offered, setup=SETUP, identities=identities, smallest=count)
        pending: dict[str, EpochPending] = {}
        boxes: dict[str, dict[str, bytes]] = {name: {} for name in names}
        for name in names:
            pending[name], bulk = EpochPending.make(
                offers[name], offered, member=name, threshold=threshold, keys=keys[name], entropy=os.urandom
            )
            cohort = pending[name].cohort
            for position, other in enumerate(cohort.neighbours[cohort.places[name]]):
                start = position * ROOT_BOX_LENGTH
                boxes[cohort.names[other]][name] = bulk[start : start + ROOT_BOX_LENGTH]
        members = cls(threshold, keys, offered, pending, boxes, {})
        members.roots = {name: pending[name].complete(members.boxes_for(name), identities=identities) for name in names}
        return members

    @property
    def names(self) -> list[str]:
        return sorted(self.keys)

    @property
    def identities(self) -> Mapping[str, PublicIdentity]:
        return {name: keys.public for name, keys in self.keys.items()}

    def boxes_for(self, name: str) -> list[bytes]:
        cohort = self.pending[name].cohort
        return [self.boxes[name][cohort.names[other]] for other in cohort.neighbours[cohort.places[name]]]


@dataclass
class Round:
    """One attempt, driven step by step."""

    members: Members
    bits: int = 32
    count: int = 7
    step: int = 0
    colluders: int = 0
    smallest: int = 2
    manifest_digest: bytes = field(default_factory=lambda: os.urandom(32))
    states: dict[str, MemberRound] = field(default_factory=dict)
    uploads: dict[str, tuple[Upload, bytes, bytes, bytes]] = field(default_factory=dict)
    """Message, digest, signature, bulk."""
    accepts: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.cohort = next(iter(self.members.roots.values())).cohort
        self.aggregator = AggregatorRound(
            manifest_digest=self.manifest_digest,
            cohort=self.cohort,
            count=self.count,
            bits=self.bits,
            smallest=self.smallest,
            colluders=self.colluders,
        )

    def vector(self, name: str) -> np.ndarray:
        """Return numbers that tell who they are of, of both signs."""
        place = self.cohort.places[name]
        return (np.arange(self.count, dtype=np.int64) - 3) * (place + 1) + (1 << place % 12)

    def total(self, names: Iterable[str]) -> np.ndarray:
        return np.sum([self.vector(name) for name in names], axis=0)

    def upload(self, name: str) -> tuple[Upload, bytes, bytes, bytes]:
        lanes = to_ring(self.vector(name), bits=self.bits)
        protected, state = protect(
            lanes,
            self.members.roots[name].at(self.step),
            manifest_digest=self.manifest_digest,
            round_number=1,
            attempt=1,
            entropy=os.urandom,
        )
        bulk = b"".join((lanes_to_bytes(lanes), *protected.boxes))
        message = Upload(
            manifest_digest=self.manifest_digest,
            ledger_head=bytes(32),
            cosignature="c",
            commitments=protected.commitments,
            bulk_digest=hashlib.sha256(bulk).digest(),
        )
        self.states[name] = state
        self.uploads[name] = self.signed(name, message, bulk)
        return self.uploads[name]

    def signed(self, name: str, message: Upload, bulk: bytes) -> tuple[Upload, bytes, bytes, bytes]:
        body = message.to_bytes()
        signature = sign(self.members.keys[name], tag=ANSWER_TAG, body=body)
        return message, hashlib.sha256(body).digest(), signature, bulk

    def deliver(self, name: str) -> None:
        message, digest, signature, bulk = self.uploads[name]
        self.aggregator.take_upload(name, message, digest=digest, signature=signature, bulk=bulk)

    def uploads_of(self, names: Iterable[str]) -> None:
        for name in names:
            self.upload(name)
            self.deliver(name)

    def agree(self, names: Iterable[str]) -> None:
        selection = self.aggregator.select()
        body = Accept(manifest_digest=self.manifest_digest, selection=selection_digest(selection)).to_bytes()
        for name in names:
            require_selection(
                selection,
                manifest_digest=self.manifest_digest,
                cohort=self.cohort.names,
                member=name,
                own_upload=self.uploads[name][1],
                smallest=self.smallest,
            )
            self.states[name] = self.states[name].agree(selection)
            self.accepts[name] = sign(self.members.keys[name], tag=ANSWER_TAG, body=body)

    def reveal(self, names: Iterable[str]) -> None:
        for name in names:
            require_agreement(
                self.aggregator.selection,
                self.accepts,
                member=name,
                threshold=self.members.threshold,
                identities=self.members.identities,
            )
            self.states[name], shares = self.states[name].reveal(self.aggregator.boxes_for(name))
            self.aggregator.take_reveal(name, shares)

    def whole(self, names: Iterable[str]) -> np.ndarray:
        everyone = list(names)
        self.uploads_of(everyone)
        self.agree(everyone)
        self.reveal(everyone)
        return self.aggregator.open().values
