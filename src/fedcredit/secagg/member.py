"""A member's side of one round: mask and share, agree to one selection, reveal what opens its sum. No I/O.

After reading ``protect`` and ``MemberRound`` you can retell it. The rules that keep an update hidden are here:

* masks and boxes have keys of their own for every manifest, so members of different manifests cannot be added up;
* at most one selection is agreed to per attempt, and shares leave for no other;
* for a member inside the selection its own seed's share leaves, for one outside the shares of the seeds that it has in
  common with those inside: never both for one member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from fedcredit.crypto.boxes import open_box, seal_box
from fedcredit.crypto.derivation import commitment
from fedcredit.encoding import decode, encode
from fedcredit.errors import CannotOpenError, MalformedMessageError, ReplayError, StoreCorruptError, WrongContextError
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochRoots
from fedcredit.secagg.masking import add_masks
from fedcredit.secagg.ring import Lanes
from fedcredit.secagg.shamir import SECRET_LENGTH, SHARE_LENGTH, deal
from fedcredit.secagg.wire import Selection

NO_SHARE: Final = b"\xff" * SHARE_LENGTH
"""Stands for a share that cannot be given because its box did not open; it is above the prime, so it is no share."""

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, kw_only=True)
class Protected:
    """What leaves with an upload besides the masked lanes."""

    commitments: tuple[bytes, ...]
    boxes: tuple[bytes, ...]
    """One per neighbour, in order; all of one length (``messages.box_length``)."""


def protect(
    lanes: Lanes, roots: EpochRoots, *, manifest_digest: bytes, round_number: int, attempt: int, entropy: Entropy
) -> tuple[Protected, MemberRound]:
    """Mask ``lanes`` in place and share the seeds; ``roots`` are at the step of the manifest.

    A member adds the masks that it has in common with later members and subtracts those with earlier ones, so they
    cancel in the sum over all; its own seed's mask stays until enough members reveal it.
    """
    cohort, place = roots.cohort, roots.place
    near, keys = cohort.neighbours[place], roots.keys(manifest_digest)
    own_seed = entropy(SECRET_LENGTH)
    plus = [own_seed, *(key for other, key in zip(near, keys.masks, strict=True) if other > place)]
    minus = [key for other, key in zip(near, keys.masks, strict=True) if other < place]
    add_masks(lanes, plus=plus, minus=minus)
    secrets = (own_seed, *keys.masks)
    holders = cohort.holders[place]
    dealt = deal(secrets, threshold=cohort.share_threshold, holders=len(holders), entropy=entropy)
    rows = {holder: b"".join(shares) for holder, shares in zip(holders, dealt, strict=True)}
    boxes = tuple(
        seal_box(rows[other], key=key, context=_box_context(manifest_digest, place, other), entropy=entropy)
        for other, key in zip(near, keys.boxes_out, strict=True)
    )
    protected = Protected(
        commitments=tuple(commitment(secret, context=manifest_digest) for secret in secrets), boxes=boxes
    )
    state = MemberRound(
        manifest_digest=manifest_digest,
        round_number=round_number,
        attempt=attempt,
        epoch=roots.epoch,
        cohort=cohort,
        place=place,
        box_keys=keys.boxes_in,
        own_shares=rows[place],
        upload=b"",
        selection=b"",
        revealed=False,
    )
    return protected, state


def wanted(cohort: Cohort, selected: frozenset[int], holder: int) -> Iterator[tuple[int, int | None]]:
    """Yield the secrets whose shares ``holder`` reveals: (dealer, ``None``) for the dealer's own seed, and
    (dealer, absent) for the seed that the dealer has in common with a neighbour outside the selection.
    """
    absent = frozenset(range(len(cohort))) - selected
    for dealer in cohort.holders[holder]:
        if dealer in selected:
            yield dealer, None
            if absent:  # else every neighbour of every neighbour would be looked at for nothing
                yield from ((dealer, other) for other in cohort.neighbours[dealer] if other in absent)


@dataclass(frozen=True, kw_only=True)
class MemberRound:
    """What a member keeps of its upload until the sum is open; a value with canonical bytes, for restarts."""

    manifest_digest: bytes
    round_number: int
    attempt: int
    epoch: bytes
    cohort: Cohort
    place: int
    box_keys: tuple[bytes, ...]
    """Keys of the boxes from each neighbour, in order."""
    own_shares: bytes
    """The member's own shares of its own secrets."""
    upload: bytes
    """Digest of the upload message, once it is made."""
    selection: bytes
    """The encoded selection that it has agreed to, or empty."""
    revealed: bool

    def __repr__(self) -> str:
        return f"MemberRound(round={self.round_number}, attempt={self.attempt})"

    def agree(self, selection: Selection) -> MemberRound:
        """Return the state after agreeing; ``selection`` has passed ``require_selection``.

        Raises:
            ReplayError: another selection was agreed to in this attempt.
        """
        encoded = selection.to_bytes()
        if self.selection and self.selection != encoded:
            raise ReplayError(
                round=self.round_number, attempt=self.attempt, reason="it asks to agree to a second cohort"
            )
        return replace(self, selection=encoded)

    def selected(self) -> frozenset[int]:
        """Return the places of the members of the selection that was agreed to.

        Raises:
            WrongContextError: none was.
        """
        if not self.selection:
            raise WrongContextError(what="request for shares", field="selection, to which nobody here has agreed")
        return _places(self.selection, self.cohort)

    def reveal(self, boxes: Sequence[bytes]) -> tuple[MemberRound, bytes]:
        """Return the shares that open the selection's sum, and the state after they have left.

        ``boxes`` came from each neighbour in order, empty for one outside the selection. A box that does not open gives
        ``NO_SHARE``: a dealer who cheats one member must not stop the round, and the sum does not need every share.

        Raises:
            MalformedMessageError: the number of boxes is wrong.
            WrongContextError: no selection was agreed to.
        """
        near, selected = self.cohort.neighbours[self.place], self.selected()
        if len(boxes) != len(near):
            raise MalformedMessageError(what="request for shares", problem="the number of boxes is wrong")
        received = dict(zip(near, zip(boxes, self.box_keys, strict=True), strict=True))
        rows: dict[int, bytes] = {self.place: self.own_shares}
        shares = []
        for dealer, absent in wanted(self.cohort, selected, self.place):
            if dealer not in rows:
                rows[dealer] = self._open(dealer, *received[dealer])
            position = 0 if absent is None else 1 + self.cohort.position(absent, of=dealer)
            shares.append(rows[dealer][position * SHARE_LENGTH : (position + 1) * SHARE_LENGTH])
        return replace(self, revealed=True), b"".join(shares)

    def _open(self, dealer: int, box: bytes, key: bytes) -> bytes:
        count = 1 + len(self.cohort.neighbours[dealer])
        try:
            row = open_box(
                box,
                key=key,
                context=_box_context(self.manifest_digest, dealer, self.place),
                sender=self.cohort.names[dealer],
            )
        except CannotOpenError:
            return NO_SHARE * count
        return row if len(row) == count * SHARE_LENGTH else NO_SHARE * count

    def to_bytes(self) -> bytes:
        """Return the canonical encoding; it holds secrets."""
        return encode(
            [
                self.manifest_digest,
                self.round_number,
                self.attempt,
                self.epoch,
                list(self.cohort.names),
                self.cohort.threshold,
                self.place,
                list(self.box_keys),
                self.own_shares,
                self.upload,
                self.selection,
                self.revealed,
            ]
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> MemberRound:
        """Return what ``to_bytes`` was called on.

        Raises:
            StoreCorruptError: these bytes never came from it, although their parts may have the right types.
            MalformedMessageError, MessageTooLargeError: they are no canonical encoding of anything.
        """
        match decode(data, what="round state", limit=_STATE_LIMIT):
            case [
                bytes(manifest_digest),
                int(round_number),
                int(attempt),
                bytes(epoch),
                list(names),
                int(threshold),
                int(place),
                list(box_keys),
                bytes(own_shares),
                bytes(upload),
                bytes(selection),
                bool(revealed),
            ]:
                state = cls(  # with int(), because True passes for one, and has another encoding
                    manifest_digest=manifest_digest,
                    round_number=int(round_number),
                    attempt=int(attempt),
                    epoch=epoch,
                    cohort=Cohort.of([str(name) for name in names], seed=epoch, threshold=int(threshold)),
                    place=int(place),
                    box_keys=tuple(key for key in box_keys if isinstance(key, bytes)),
                    own_shares=own_shares,
                    upload=upload,
                    selection=selection,
                    revealed=revealed,
                )
                if state.to_bytes() == data:
                    return state
        raise StoreCorruptError(path="run memory", problem="the state of a round does not decode")


@lru_cache(maxsize=8)
def _places(selection: bytes, cohort: Cohort) -> frozenset[int]:
    """Return the places of a selection's members; in one process all members of a round have the same selection."""
    return frozenset(cohort.places[name] for name in Selection.from_bytes(selection).members)


_STATE_LIMIT: Final = 256 * 1024 * 1024


def _box_context(manifest_digest: bytes, dealer: int, holder: int) -> bytes:
    # Fixed lengths, so two places never have the same bytes; there are as many of these as pairs of members.
    return b"fedcredit share box 1" + manifest_digest + dealer.to_bytes(4, "big") + holder.to_bytes(4, "big")
