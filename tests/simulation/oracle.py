"""What must hold whatever goes wrong: of the sums that come out, and of everything that ever leaves a member.

The oracle reads the wire with the keys of both sides. It asks no code of ours whether something is allowed: it decodes,
counts and compares.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from consortium import CONSORTIUM, COORDINATOR, RUN
from simulation.members import BITS_LANE, MOST, NAMES, PLACE_LANES, ROUND_LANE, SimulatedMember, keys_for, round_mark

from fedcredit.crypto.sealing import SealContext, open_sealed
from fedcredit.encoding import decode
from fedcredit.envelope import OpenedRequest, open_request
from fedcredit.errors import CannotOpenError, FedcreditError, InternalError
from fedcredit.messages import MAX_MESSAGE_BYTES, Manifest, Message, Refusal, Signed, unpad
from fedcredit.parties import COORDINATOR as COORDINATOR_NAME
from fedcredit.parties import InstitutionId
from fedcredit.privacy.plan import HOLDOUT, TRAIN
from fedcredit.secagg.epoch import EpochPending, EpochRoots, EpochState
from fedcredit.secagg.member import NO_SHARE, MemberRound
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Accept, AcceptBody, Reveal, RevealBody, Selection, Upload

SAFE_DIFFERENCE: Final = 3
"""PROTOCOL.md 4.5; the simulated plans know no colluders."""
_LANE_BYTES: Final = 4


@dataclass(frozen=True)
class Before:
    """What a member held when it was asked, and what it was asked; ``None`` if it cannot read that."""

    opened: OpenedRequest | None
    epoch: EpochState | None
    round: MemberRound | None

    @classmethod
    def of(cls, member: SimulatedMember, request: bytes) -> Before:
        """Look."""
        memory = member.memory
        return cls(opened_by(member, request), memory.epoch(RUN), memory.member_round(RUN))


class Oracle:
    """Everything that was seen, and what is wrong with it."""

    def __init__(self, members: int) -> None:
        self.violations: list[str] = []
        self._identities = {str(NAMES[place]): keys_for(place).public for place in range(members)}
        self._seen: set[tuple[str, bytes]] = set()
        self._manifests: dict[bytes, Manifest] = {}
        self._uploads: dict[tuple[str, bytes], set[bytes]] = defaultdict(set)
        self._accepts: dict[tuple[str, bytes], set[bytes]] = defaultdict(set)
        self._reveals: dict[tuple[str, bytes], set[bytes]] = defaultdict(set)
        self._selections: dict[bytes, frozenset[str]] = {}
        self._opened: dict[tuple[str, int, str], set[frozenset[str]]] = defaultdict(set)
        self._mask_keys: dict[tuple[str, bytes], bytes] = {}
        self._roots: dict[tuple[str, bytes], bytes] = {}
        self._own_seeds: dict[bytes, bytes] = {}
        self._kinds: dict[bytes, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def opened_for(self, round_number: int) -> set[frozenset[str]]:
        """Return the cohorts of a training round for which shares have left."""
        found = [
            some for (_, number, purpose), some in self._opened.items() if (number, purpose) == (round_number, "train")
        ]
        return set().union(*found)

    def wrong(self, what: str) -> None:
        """Record a violation."""
        self.violations.append(what)

    # --- sums --------------------------------------------------------------------------------------------------------

    def sum_came_out(
        self, manifest_digest: bytes, contributors: Sequence[str], total: np.ndarray, *, announced: Sequence[str]
    ) -> None:
        """Check a sum: its bits are the announced contributors, each once, and all of this attempt."""
        manifest = self._manifests.get(manifest_digest)
        if manifest is None:
            self.wrong("a sum of a manifest that no member was asked with")
            return
        places = [NAMES.index(InstitutionId(name)) for name in contributors]
        expected = np.zeros_like(total)
        for place in places:
            expected[BITS_LANE] += 1 << place
            expected[PLACE_LANES + place] += 1
            expected[ROUND_LANE] += round_mark(
                round_number=manifest.round, attempt=manifest.attempt, purpose=manifest.purpose
            )
        if sorted(set(contributors)) != sorted(contributors) or sorted(contributors) != sorted(announced):
            self.wrong(f"announced {sorted(announced)}, counted {sorted(contributors)}")
        if not np.array_equal(total, expected):
            self.wrong(f"the sum of {sorted(contributors)} decodes to {_decoded(total)}")
        if not any(
            self._selections.get(chosen) == frozenset(contributors) for chosen in self._revealed(manifest_digest)
        ):
            self.wrong("a sum came out of a cohort for which nobody revealed a share")

    def _revealed(self, manifest_digest: bytes) -> set[bytes]:
        return {chosen for (_, digest), some in self._reveals.items() if digest == manifest_digest for chosen in some}

    # --- the wire ----------------------------------------------------------------------------------------------------

    def left(self, member: SimulatedMember, reply: bytes, before: Before) -> None:
        """Look at what a member answered; whether it arrives is another matter, the relay has it."""
        key = (member.name, hashlib.sha256(reply).digest())
        if key in self._seen:
            return
        self._seen.add(key)
        opened = before.opened
        plaintext = answer_plaintext(reply, opened, member) if opened else None
        if opened is None or plaintext is None:
            return
        message, bulk, body = _parts(plaintext)
        self._manifests[opened.manifest_digest] = opened.manifest
        if isinstance(message, Refusal) and message.code == InternalError.code:
            self.wrong(f"{member.name} met an error that nobody foresaw, at {opened.stage}")
        if isinstance(message, Upload):
            self._upload(member, opened, message, bulk, hashlib.sha256(body).digest(), before)
        elif isinstance(message, Accept):
            self._accept(member, opened, message)
        elif isinstance(message, Reveal):
            self._reveal(member, opened, message, bulk, before)

    def _upload(
        self,
        member: SimulatedMember,
        opened: OpenedRequest,
        upload: Upload,
        bulk: bytes,
        body: bytes,
        before: Before,
    ) -> None:
        manifest, place = opened.manifest, (member.name, opened.manifest_digest)
        self._uploads[place].add(body)
        own = dict(zip(manifest.cohort, manifest.ledger_heads, strict=True))[member.name]
        if own in member.lost_heads:
            self.wrong(f"{member.name} was set back behind a charge that the coordinator knows, and released again")
        lanes = np.frombuffer(bulk[: len(bulk) // _LANE_BYTES * _LANE_BYTES], dtype="<u4")[: ROUND_LANE + 8]
        if (lanes == 0).sum() > len(lanes) // 2:
            self.wrong(f"{member.name} sent numbers without a mask")
        self._check_seed(member, upload, body)
        if member.set_back:
            return
        if len(self._uploads[place]) > 1:
            self.wrong(f"{member.name} sent two uploads for one manifest")
        partition = HOLDOUT if manifest.purpose == "evaluate" else TRAIN
        released = sum(
            len(bodies)
            for (name, digest), bodies in self._uploads.items()
            if name == member.name and self._manifests[digest].purpose == manifest.purpose
        )
        if member.state.ledger.charges(run=RUN, partition=partition, kind=manifest.purpose) < released:
            self.wrong(f"{member.name} has released {released} times and its ledger knows fewer")
        self._check_masks(member, opened, body, before)

    def _check_seed(self, member: SimulatedMember, upload: Upload, body: bytes) -> None:
        first = self._own_seeds.setdefault(upload.commitments[0], body)
        if first != body:
            self.wrong(f"{member.name} used its own seed twice")

    def _check_masks(self, member: SimulatedMember, opened: OpenedRequest, body: bytes, before: Before) -> None:
        held = before.epoch
        if isinstance(held, EpochPending):
            held = held.complete(opened.round_body().roots, identities=self._identities)
        if not isinstance(held, EpochRoots):
            self.wrong(f"{member.name} uploaded without keys")
            return
        held = held.at(opened.manifest.step)
        for root in held.roots:
            if self._roots.setdefault((member.name, root), body) != body:
                self.wrong(f"{member.name} used the root of a pair twice")
        for key in held.keys(opened.manifest_digest).masks:
            if self._mask_keys.setdefault((member.name, key), body) != body:
                self.wrong(f"{member.name} used a mask twice")

    def _accept(self, member: SimulatedMember, opened: OpenedRequest, accept: Accept) -> None:
        asked = AcceptBody.from_bytes(opened.request.body).selection
        selection = Selection.from_bytes(asked)
        self._selections[hashlib.sha256(asked).digest()] = frozenset(selection.members)
        accepted = self._accepts[member.name, opened.manifest_digest]
        accepted.add(accept.selection)
        if len(accepted) > 1:
            self.wrong(f"{member.name} agreed to two cohorts of one attempt")
        if member.name not in selection.members:
            self.wrong(f"{member.name} agreed to a cohort that it is not in")

    def _reveal(
        self, member: SimulatedMember, opened: OpenedRequest, reveal: Reveal, bulk: bytes, before: Before
    ) -> None:
        manifest = opened.manifest
        self._reveals[member.name, opened.manifest_digest].add(reveal.selection)
        if not self._reveals[member.name, opened.manifest_digest] <= self._accepts[member.name, opened.manifest_digest]:
            self.wrong(f"{member.name} revealed shares for a cohort that it has not agreed to")
        if len(self._revealed(opened.manifest_digest)) > 1:
            self.wrong("shares have left for two cohorts of one attempt")
        members = self._selections.get(reveal.selection, frozenset())
        self._check_difference(member, manifest, members)
        state = before.round
        if state is None:
            self.wrong(f"{member.name} revealed shares without an upload")
            return
        self._check_kinds(member, state, bulk, _shares(state, RevealBody.from_bytes(opened.request.body).boxes))

    def _check_kinds(
        self,
        member: SimulatedMember,
        state: MemberRound,
        bulk: bytes,
        meaning: Mapping[bytes, tuple[int, int | None]],
    ) -> None:
        kinds, names = self._kinds[state.manifest_digest], state.cohort.names
        for start in range(0, len(bulk), SHARE_LENGTH):
            share = bulk[start : start + SHARE_LENGTH]
            if share == NO_SHARE:
                continue
            if share not in meaning:
                self.wrong(f"{member.name} revealed something that is no share of this attempt")
                continue
            dealer, other = meaning[share]
            node, kind = (dealer, "own") if other is None else (other, "pair")
            kinds[names[node]].add(kind)
        for node_name, of_both in kinds.items():
            if len(of_both) > 1:
                self.wrong(f"shares of both kinds have left for {node_name}")

    def _check_difference(self, member: SimulatedMember, manifest: Manifest, members: frozenset[str]) -> None:
        opened = self._opened[member.name, manifest.round, manifest.purpose]
        if not member.set_back:
            for before in opened:
                if 0 < len(before ^ members) < SAFE_DIFFERENCE:
                    self.wrong(f"{member.name} opened {sorted(before)} and {sorted(members)}: the difference is a few")
        opened.add(members)


def _decoded(total: np.ndarray) -> str:
    bits = int(total[BITS_LANE])
    if not 0 <= bits < 1 << MOST:
        return f"{bits}, out of range: masks are left in it"
    counts = [int(value) for value in total[PLACE_LANES : PLACE_LANES + MOST]]
    return f"bits {bits:b}, counts {counts}, mark {int(total[ROUND_LANE])}"


def opened_by(member: SimulatedMember, request: bytes) -> OpenedRequest | None:
    """Return what a member reads in a request, or ``None``."""
    try:
        return open_request(
            request,
            consortium=CONSORTIUM,
            institution=member.name,
            keys=member.keys,
            coordinator=COORDINATOR.public,
            channels=member.memory.channel,
        )
    except FedcreditError:
        return None


def answer_context(opened: OpenedRequest, sender: InstitutionId) -> SealContext:
    """Return the context of an answer, written down a second time."""
    manifest = opened.manifest
    return SealContext(
        consortium=manifest.consortium,
        run=manifest.run,
        round_number=manifest.round,
        attempt=manifest.attempt,
        message_type=f"answer/{manifest.purpose}/{opened.request.stage}",
        sender=sender,
        recipient=COORDINATOR_NAME,
        manifest_digest=opened.manifest_digest,
    )


def answer_plaintext(reply: bytes, opened: OpenedRequest, member: SimulatedMember) -> bytes | None:
    """Return what is inside a sealed answer; ``None`` for the refusal of a request that did not open."""
    context = answer_context(opened, member.name)
    try:
        if opened.channel is not None:
            return bytes(opened.channel.open_up(reply, context=context))
        return open_sealed(reply, keys=COORDINATOR, context=context)
    except CannotOpenError:
        return None


_JUDGED: Final = {kind.TAG: kind for kind in (Upload, Accept, Reveal, Refusal)}


def _parts(plaintext: bytes) -> tuple[Message | None, bytes, bytes]:
    """Return the message if it is one to judge, the bulk beside it and its bytes."""
    content, bulk = unpad(plaintext, what="answer")
    body = Signed.from_bytes(content).body
    value = decode(body, what="answer", limit=MAX_MESSAGE_BYTES)
    kind = _JUDGED.get(str(value["type"])) if isinstance(value, Mapping) else None
    return (kind.from_bytes(body) if kind else None), bytes(bulk), body


def _shares(state: MemberRound, boxes: Sequence[bytes]) -> Mapping[bytes, tuple[int, int | None]]:
    """Return what every share means that a member can know: by value, the dealer, and the other of a pair."""
    meaning: dict[bytes, tuple[int, int | None]] = {}
    near = state.cohort.neighbours[state.place]
    rows = {state.place: state.own_shares}
    for dealer, box, key in zip(near, boxes, state.box_keys, strict=False):
        # The product's own way to open a box: what its bytes are bound to is not this oracle's business.
        rows[dealer] = state._open(dealer, box, key)
    for dealer, row in rows.items():
        for position, other in enumerate((None, *state.cohort.neighbours[dealer])):
            meaning[row[position * SHARE_LENGTH : (position + 1) * SHARE_LENGTH]] = (dealer, other)
    meaning.pop(NO_SHARE, None)
    return meaning
