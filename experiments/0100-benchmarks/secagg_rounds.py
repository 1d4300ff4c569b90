"""One round of our secure aggregation on the clock: the functions that institutions and the coordinator call.

Members do what ``institution.stages`` does in the stages upload, accept and reveal; the coordinator does what
``rounds.secure`` does. Seals, disks and the network are outside the clock, as transport is for Flower.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcredit.crypto.channels import Channel
from fedcredit.crypto.keys import IdentityKeys
from fedcredit.crypto.sealing import SealContext
from fedcredit.crypto.signatures import _VERIFIED, sign, verify
from fedcredit.crypto.streams import KeyStream, fresh_key
from fedcredit.encoding import Buffer
from fedcredit.envelope import ANSWER_TAG
from fedcredit.messages import NO_HEAD, Signed, frame, padded_length, upload_length
from fedcredit.parties import COORDINATOR
from fedcredit.privacy.noise import noise_law
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import (
    _HELD,
    SELECTION_TAG,
    require_agreement,
    require_selection,
    selection_digest,
)
from fedcredit.secagg.epoch import (
    EpochOffer,
    EpochPending,
    EpochRoots,
    _epoch_id,
    _require_signed,
    require_keys,
)
from fedcredit.secagg.member import MemberRound, _places, protect
from fedcredit.secagg.ring import lanes_to_bytes, to_ring
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import (
    ROOT_BOX_LENGTH,
    Accept,
    EpochBoxes,
    EpochHello,
    EpochKey,
    Reveal,
    RevealBody,
    Selection,
    Upload,
    bulk_digest,
)
from fedcredit.training.integer_sum import on_grid

Result = TypeVar("Result")

BITS = 32
GRID = float(1 << 19)
"""Steps per unit: as fine as Flower's 2^22 steps over its range of 16."""
SIGMA = 256
"""Deviation of the noise, in steps."""
COSIGNATURE = "\N{EM DASH} member " + "A" * 100
"""As long as a real one (``audit.checkpoint_note``); making it belongs to the log."""


def forget_signatures() -> None:
    """Forget what verified in this process: an institution of its own has checked none of it before."""
    for memo in (_VERIFIED, _HELD):
        memo._digests.clear()
    for once in (_require_signed, _epoch_id, _places):
        once.cache_clear()


def processor_ms(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return what one call returns and its processor time in milliseconds."""
    begin = time.process_time()
    result = work()
    return result, (time.process_time() - begin) * 1e3


def rounded(vector: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return a vector in steps of the grid."""
    return on_grid(vector, steps=GRID)


class OurEpoch:
    """Members with the roots of one epoch; its set-up runs on the clock, every member as if it were alone."""

    def __init__(self, institutions: int, *, threshold: int) -> None:
        self.threshold = threshold
        self.names = [f"member-{place:04d}" for place in range(institutions)]
        self.keys = {name: IdentityKeys.generate() for name in self.names}
        self.identities = {name: keys.public for name, keys in self.keys.items()}
        self.coordinator = IdentityKeys.generate()
        self.setup_ms = dict.fromkeys(self.names, 0.0)
        self.setup_bytes = dict.fromkeys(self.names, 0)
        self.roots = self._set_up(os.urandom(32))
        self.cohort = self.roots[self.names[0]].cohort

    def _set_up(self, setup: bytes) -> dict[str, EpochRoots]:
        offers: dict[str, EpochOffer] = {}
        received = []
        for name in self.names:
            (offers[name], key), spent = processor_ms(lambda name=name: self._offer(name, setup))
            received.append(key)
            self.setup_ms[name] += spent
            hello = EpochHello(manifest_digest=setup, key=key.to_bytes(), channel=bytes(32))
            self.setup_bytes[name] += len(hello.to_bytes())
        encoded = [key.to_bytes() for key in received]
        pending: dict[str, EpochPending] = {}
        boxes: dict[str, list[bytes]] = {}
        for name in self.names:
            forget_signatures()
            (pending[name], bulk), spent = processor_ms(
                lambda name=name: self._boxes(name, offers[name], encoded, setup=setup)
            )
            boxes[name] = [bulk[at : at + ROOT_BOX_LENGTH] for at in range(0, len(bulk), ROOT_BOX_LENGTH)]
            self.setup_ms[name] += spent
            answer = EpochBoxes(epoch=pending[name].epoch, bulk_digest=hashlib.sha256(bulk).digest())
            self.setup_bytes[name] += len(answer.to_bytes()) + len(bulk)
        roots = {}
        for name, state in pending.items():
            forget_signatures()
            near = state.cohort.neighbours
            mine = [boxes[self.names[other]][near[other].index(state.place)] for other in near[state.place]]
            roots[name], spent = processor_ms(
                lambda state=state, mine=mine: state.complete(mine, identities=self.identities)
            )
            self.setup_ms[name] += spent
        return roots

    def _offer(self, name: str, setup: bytes) -> tuple[EpochOffer, EpochKey]:
        return EpochOffer.make(setup=setup, member=name, keys=self.keys[name], entropy=os.urandom)

    def _boxes(
        self, name: str, offer: EpochOffer, encoded: Sequence[bytes], *, setup: bytes
    ) -> tuple[EpochPending, bytes]:
        received = [EpochKey.from_bytes(key) for key in encoded]
        require_keys(received, setup=setup, identities=self.identities, smallest=self.threshold)
        return EpochPending.make(
            offer, received, member=name, threshold=self.threshold, keys=self.keys[name], entropy=os.urandom
        )


@dataclass(frozen=True, kw_only=True)
class SentUpload:
    """What a member sends in M1, and what it keeps."""

    state: MemberRound
    upload: Upload
    signature: bytes
    bulk: tuple[Buffer, ...]

    @property
    def digest(self) -> bytes:
        """Return what the signature covers."""
        return hashlib.sha256(self.upload.to_bytes()).digest()


def made_upload(epoch: OurEpoch, name: str, values: NDArray[np.int64], *, manifest: bytes) -> SentUpload:
    """Return the signed upload of integers, as ``institution.stages`` makes it."""
    lanes = to_ring(values, bits=BITS)
    protected, state = protect(
        lanes, epoch.roots[name], manifest_digest=manifest, round_number=1, attempt=1, entropy=os.urandom
    )
    bulk = (lanes_to_bytes(lanes), b"".join(protected.boxes))
    upload = Upload(
        manifest_digest=manifest,
        ledger_head=NO_HEAD,
        cosignature=COSIGNATURE,
        commitments=protected.commitments,
        bulk_digest=bulk_digest(*bulk),
    )
    body = upload.to_bytes()
    state = replace(state, upload=hashlib.sha256(body).digest())
    return SentUpload(
        state=state, upload=upload, signature=sign(epoch.keys[name], tag=ANSWER_TAG, body=body), bulk=bulk
    )


def framed_upload(sent: SentUpload, *, lanes: int, neighbours: int) -> tuple[Buffer, ...]:
    """Return the parts of what is sealed."""
    content = Signed(body=sent.upload.to_bytes(), signature=sent.signature).to_bytes()
    return frame(content, bulk=sent.bulk, length=upload_length(lanes * BITS // 8, neighbours=neighbours))


def framed(round_: OurRound) -> tuple[int, int, int]:
    """Return the lengths of a member's three answers in a round that loses nobody, padding included."""
    near = len(round_.epoch.names) - 1
    first = round_.uploads[round_.epoch.names[0]]
    upload = framed_upload(first, lanes=round_.count, neighbours=near)
    return sum(map(len, upload)), padded_length(0), padded_length(SHARE_LENGTH * (near + 1))


def noised_seal(epoch: OurEpoch, vector: NDArray[np.float32]) -> float:
    """Return the milliseconds from a clipped sum to its sealed upload: rounding, noise, masks, shares, seal."""
    channel, law = Channel(os.urandom(32), entropy=os.urandom), noise_law("rounded-gaussian", SIGMA)
    context = SealContext(
        consortium="bench",
        run="bench",
        round_number=1,
        attempt=1,
        message_type="answer/train/upload",
        sender=epoch.names[0],
        recipient=COORDINATOR,
        manifest_digest=bytes(32),
    )

    def work() -> bytes:
        values = rounded(vector)
        values += law.sample(KeyStream(fresh_key(os.urandom)), len(values))
        sent = made_upload(epoch, epoch.names[0], values, manifest=os.urandom(32))
        near = len(epoch.names) - 1
        return channel.seal_up(*framed_upload(sent, lanes=len(values), neighbours=near), context=context)

    return processor_ms(work)[1]


@dataclass(frozen=True, kw_only=True)
class ServerCost:
    """Processor time of the coordinator in one round."""

    take_ms: float
    """Accepting the uploads: sizes, and SHA-256 over everything that was signed."""
    open_ms: float
    """The selection, the seeds from their shares, the sum, the masks."""


class OurRound:
    """One round: every member's upload is made once, on the clock, and can be finished with and without losses."""

    def __init__(self, epoch: OurEpoch, vectors: Sequence[NDArray[np.float32]]) -> None:
        self.epoch, self.count = epoch, len(vectors[0])
        self.values = [rounded(vector) for vector in vectors]
        self.manifest = os.urandom(32)
        self.upload_ms: dict[str, float] = {}
        self.opening_ms = dict.fromkeys(epoch.names, 0.0)
        self.uploads: dict[str, SentUpload] = {}
        for name, vector in zip(epoch.names, vectors, strict=True):
            self.uploads[name], self.upload_ms[name] = processor_ms(
                lambda name=name, vector=vector: made_upload(epoch, name, rounded(vector), manifest=self.manifest)
            )

    @property
    def client_ms(self) -> dict[str, float]:
        """Return the upload of every member together with what the opening took."""
        return {name: spent + self.opening_ms[name] for name, spent in self.upload_ms.items()}

    def server(self, *, lost: int, clock: bool) -> ServerCost:
        """Return what the coordinator computes when ``lost`` members vanish before their upload; its sum is checked.

        With ``clock`` agreement and shares count as the members' work; once a round, however often it finishes.
        """
        epoch, names = self.epoch, self.epoch.names[lost:]
        round_ = AggregatorRound(
            manifest_digest=self.manifest,
            cohort=epoch.cohort,
            count=self.count,
            bits=BITS,
            smallest=epoch.threshold,
            colluders=0,
        )
        # As unsealing leaves them: one vector of bytes each.
        bulks = {name: b"".join(self.uploads[name].bulk) for name in names}
        _, take_ms = processor_ms(lambda: self._take(round_, bulks))
        (selection, boxes), open_ms = processor_ms(lambda: _selected(round_, names))
        states, accepts = {}, {}
        encoded, signature = selection.to_bytes(), sign(epoch.coordinator, tag=SELECTION_TAG, body=selection.to_bytes())
        for name in names:
            forget_signatures()
            (states[name], accepts[name]), spent = processor_ms(
                lambda name=name: self._accept(name, encoded, signature)
            )
            self.opening_ms[name] += spent if clock else 0.0
        shares = {}
        for name in names:
            body = RevealBody(
                selection=hashlib.sha256(encoded).digest(),
                members=tuple(accepts)[: epoch.threshold],
                signatures=tuple(accepts.values())[: epoch.threshold],
                boxes=boxes[name],
            ).to_bytes()
            forget_signatures()
            shares[name], spent = processor_ms(lambda name=name, body=body: self._reveal(name, states[name], body))
            self.opening_ms[name] += spent if clock else 0.0
        values, spent = processor_ms(lambda: _opened(round_, shares))
        assert np.array_equal(values, np.sum(self.values[lost:], axis=0)), "the opened sum is not the sum"
        return ServerCost(take_ms=take_ms, open_ms=open_ms + spent)

    def _take(self, round_: AggregatorRound, bulks: Mapping[str, bytes]) -> None:
        for name, bulk in bulks.items():
            sent = self.uploads[name]
            round_.take_upload(name, sent.upload, digest=sent.digest, signature=sent.signature, bulk=bulk)

    def _accept(self, name: str, encoded: bytes, signature: bytes) -> tuple[MemberRound, bytes]:
        epoch, state = self.epoch, self.uploads[name].state
        verify(
            epoch.coordinator.public,
            tag=SELECTION_TAG,
            body=encoded,
            signature=signature,
            signer=COORDINATOR,
            what="selection",
        )
        selection = Selection.from_bytes(encoded)
        require_selection(
            selection,
            manifest_digest=self.manifest,
            cohort=epoch.names,
            member=name,
            own_upload=state.upload,
            smallest=epoch.threshold,
        )
        agreed = state.agree(selection)
        accept = Accept(manifest_digest=self.manifest, selection=selection_digest(selection))
        return agreed, sign(epoch.keys[name], tag=ANSWER_TAG, body=accept.to_bytes())

    def _reveal(self, name: str, state: MemberRound, encoded: bytes) -> bytes:
        epoch, body = self.epoch, RevealBody.from_bytes(encoded)
        require_agreement(
            Selection.from_bytes(state.selection),
            dict(zip(body.members, body.signatures, strict=True)),
            member=name,
            threshold=epoch.threshold,
            identities=epoch.identities,
        )
        _, shares = state.reveal(body.boxes)
        reveal = Reveal(
            manifest_digest=self.manifest, selection=body.selection, bulk_digest=hashlib.sha256(shares).digest()
        )
        sign(epoch.keys[name], tag=ANSWER_TAG, body=reveal.to_bytes())
        return shares


def _selected(round_: AggregatorRound, names: Sequence[str]) -> tuple[Selection, Mapping[str, tuple[bytes, ...]]]:
    selection = round_.select()
    return selection, {name: round_.boxes_for(name) for name in names}


def _opened(round_: AggregatorRound, shares: Mapping[str, bytes]) -> NDArray[np.int64]:
    for name, bulk in shares.items():
        round_.take_reveal(name, bulk)
    assert round_.can_open()
    return round_.open().values
