"""The aggregator's side of one round: take uploads, fix a selection, collect shares, open the sum. No I/O.

It learns the sum over the selection and nothing else: every upload carries the mask of a seed of its own, and of the
seeds shared with members outside the selection; the shares that come back open exactly these.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fedcredit.crypto.derivation import commitment
from fedcredit.encoding import Buffer
from fedcredit.errors import MalformedMessageError, ReconstructionError, ReplayError, SmallCohortError
from fedcredit.messages import box_length
from fedcredit.secagg.agreement import selection_digest
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.conflicts import conflicts
from fedcredit.secagg.masking import masked_sum
from fedcredit.secagg.member import NO_SHARE, wanted
from fedcredit.secagg.ring import Lanes, lanes_from_bytes, signed_view
from fedcredit.secagg.shamir import SHARE_LENGTH, Interpolation, reconstruct
from fedcredit.secagg.wire import Selection, Upload, bulk_digest

Secret: TypeAlias = tuple[int, int | None]
"""A dealer's own seed, or the seed that it has in common with somebody outside the selection."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One accepted upload."""

    upload: Upload
    digest: bytes
    signature: bytes
    lanes: Lanes
    boxes: tuple[memoryview, ...]
    """Views of the bulk data, like the lanes."""


@dataclass(frozen=True, kw_only=True)
class OpenedSum:
    """The sum over a selection."""

    values: npt.NDArray[np.int64]
    seeds: Mapping[Secret, bytes]
    """What opened it, by places: whoever has the uploads can add up again with these."""
    wrong: frozenset[str]
    """Members some of whose shares were wrong, by the dealer's fault or their own."""


@dataclass(kw_only=True)
class AggregatorRound:
    """One attempt of one round."""

    manifest_digest: bytes
    cohort: Cohort
    count: int
    """Lanes of the vector."""
    bits: int
    smallest: int
    """Fewest members of a selection."""
    colluders: int
    contributions: dict[int, Contribution] = field(default_factory=dict)
    """By place."""
    conflicting: frozenset[str] = frozenset()
    """Members left out of the selection because their commitments contradict those of others."""
    _commitments: set[bytes] = field(default_factory=set)
    """Of all contributions."""
    liars: frozenset[str] = frozenset()
    """Those of them who contradict more members than may lie."""
    _selection: Selection | None = None
    _asked: dict[tuple[int, ...], tuple[Secret, ...]] = field(default_factory=dict)
    """The secrets that a member is asked for, by the dealers of whom it holds shares."""
    _reveals: dict[int, dict[Secret, bytes]] = field(default_factory=dict)
    _counts: Counter[Secret] = field(default_factory=Counter)
    """Shares of each secret."""

    # --- M1 ----------------------------------------------------------------------------------------------------------

    def bulk_length(self, place: int) -> int:
        """Return the bytes beside the upload of the member at ``place``: its lanes and its boxes."""
        near = len(self.cohort.neighbours[place])
        return self.count * self.bits // 8 + near * box_length(near)

    def take_upload(self, name: str, upload: Upload, *, digest: bytes, signature: bytes, bulk: Buffer) -> None:
        """Take the upload of a member; its signature was verified. A second one changes nothing.

        Raises:
            MalformedMessageError: its parts do not have the sizes of this round, or repeat somebody's commitment.
            ReplayError: the selection is fixed.
        """
        place = self.cohort.places[name]
        if self._selection is not None:
            raise ReplayError(round=0, attempt=0, reason="the cohort is fixed")
        if place in self.contributions:
            return
        near = len(self.cohort.neighbours[place])
        if len(upload.commitments) != 1 + near or len(bulk) != self.bulk_length(place):
            raise MalformedMessageError(what="upload", problem="a part has another size than this round needs")
        if bulk_digest(bulk) != upload.bulk_digest:
            raise MalformedMessageError(what="upload", problem="its lanes and boxes are not those that were signed")
        if upload.commitments[0] in self._commitments:
            raise MalformedMessageError(what="upload", problem="it repeats a commitment of another member")
        self._commitments.update(upload.commitments)
        view, end, length = memoryview(bulk), self.count * self.bits // 8, box_length(near)
        self.contributions[place] = Contribution(
            upload=upload,
            digest=digest,
            signature=signature,
            lanes=lanes_from_bytes(view[:end], count=self.count, bits=self.bits, what="upload"),
            boxes=tuple(view[end + i * length : end + (i + 1) * length] for i in range(near)),
        )

    def select(self, *, before: Sequence[str] = ()) -> Selection:
        """Fix whose uploads are added up, and return what the coordinator signs.

        ``before`` are the members of an earlier selection for the same round. Nobody who revealed shares for that one
        agrees to another that is almost the same, so members who were not in it are left out if that makes them equal.

        Raises:
            SmallCohortError: too few uploads, or too few whose commitments agree.
        """
        if self._selection is None:
            left_out = self._contradicting()
            self.conflicting = frozenset(self.cohort.names[place] for place in left_out)
            chosen = sorted(self.contributions.keys() - left_out)
            again = {self.cohort.places[name] for name in before if name in self.cohort.places}
            if before and len(again) == len(before) and again < set(chosen):
                chosen = sorted(again)
            if len(chosen) < self.smallest:
                raise SmallCohortError(members=len(chosen), needed=self.smallest)
            self._selection = Selection(
                manifest_digest=self.manifest_digest,
                members=tuple(self.cohort.names[place] for place in chosen),
                uploads=tuple(self.contributions[place].digest for place in chosen),
                signatures=tuple(self.contributions[place].signature for place in chosen),
            )
        return self._selection

    def _contradicting(self) -> frozenset[int]:
        """Return who is left out because its commitments contradict those of others."""
        found = conflicts(
            {place: item.upload.commitments for place, item in self.contributions.items()},
            cohort=self.cohort,
            colluders=self.colluders,
        )
        self.liars = frozenset(self.cohort.names[place] for place in found.liars)
        return found.left_out

    # --- M2, M3 ------------------------------------------------------------------------------------------------------

    @property
    def selection(self) -> Selection:
        """Return the fixed selection."""
        if self._selection is None:
            raise RuntimeError("the selection is not fixed")
        return self._selection

    @property
    def selection_digest(self) -> bytes:
        """Return what members sign."""
        return selection_digest(self.selection)

    @cached_property
    def selected(self) -> frozenset[int]:
        """Return the places of the selection's members."""
        return frozenset(self.cohort.places[name] for name in self.selection.members)

    def boxes_for(self, name: str) -> tuple[bytes, ...]:
        """Return the boxes that the neighbours of a member dealt to it, in order; empty outside the selection."""
        place, selected = self.cohort.places[name], self.selected
        return tuple(
            bytes(self.contributions[dealer].boxes[self.cohort.position(place, of=dealer)])
            if dealer in selected
            else b""
            for dealer in self.cohort.neighbours[place]
        )

    def reveal_length(self, name: str) -> int:
        """Return the bytes of shares that a member's reveal holds."""
        return SHARE_LENGTH * len(self._wanted(self.cohort.places[name]))

    def take_reveal(self, name: str, bulk: bytes) -> None:
        """Take the shares of a member; a second time changes nothing.

        Raises:
            MalformedMessageError: their number is wrong.
        """
        place = self.cohort.places[name]
        if place in self._reveals:
            return
        asked = self._wanted(place)
        if len(bulk) != SHARE_LENGTH * len(asked):
            raise MalformedMessageError(what="reveal", problem="the number of shares is wrong")
        shares = (bulk[start : start + SHARE_LENGTH] for start in range(0, len(bulk), SHARE_LENGTH))
        sent = zip(asked, shares, strict=True)
        self._reveals[place] = {secret: share for secret, share in sent if share != NO_SHARE}
        self._counts.update(self._reveals[place].keys())

    def can_open(self) -> bool:
        """Return whether every secret has as many shares as it needs; some of them may still be wrong."""
        needed = self.cohort.share_threshold
        return all(self._counts[secret] >= needed for secret in self._secrets)

    def open(self) -> OpenedSum:
        """Return the sum over the selection.

        Raises:
            ReconstructionError: a secret has too few shares that fit its commitment; more reveals may help.
        """
        seeds: dict[Secret, bytes] = {}
        wrong: set[str] = set()
        quick = self._seeds_of_the_first_shares()
        for secret in self._secrets:
            if secret in quick:
                seeds[secret] = quick[secret]
            else:
                seeds[secret], bad = self._searched(secret)
                wrong |= {self.cohort.names[place] for place in bad}
        vectors = [self.contributions[place].lanes for place in sorted(self.selected)]
        values = unmasked_sum(vectors, seeds, bits=self.bits)
        return OpenedSum(values=values, seeds=seeds, wrong=frozenset(wrong))

    @cached_property
    def _secrets(self) -> tuple[Secret, ...]:
        """Return every secret that opens the sum; asked for at each reply, so it is found once."""
        selected, found = self.selected, list[Secret]()
        for dealer in sorted(selected):
            found.append((dealer, None))
            found += ((dealer, other) for other in self.cohort.neighbours[dealer] if other not in selected)
        return tuple(found)

    def _wanted(self, place: int) -> Sequence[Secret]:
        # In a complete graph, all members hold shares of the same dealers.
        dealers = self.cohort.holders[place]
        if dealers not in self._asked:
            self._asked[dealers] = tuple(wanted(self.cohort, self.selected, place))
        return self._asked[dealers]

    def _seeds_of_the_first_shares(self) -> dict[Secret, bytes]:
        """Return every seed that the first shares of it give: all of them, unless somebody has sent wrong ones."""
        together: dict[tuple[int, ...], list[Secret]] = defaultdict(list)
        for secret in self._secrets:
            holders = enumerate(self.cohort.holders[secret[0]])
            sent = (position for position, holder in holders if secret in self._reveals.get(holder, ()))
            together[tuple(islice(sent, self.cohort.share_threshold))].append(secret)
        seeds = {}
        for positions, secrets in together.items():
            if len(positions) == self.cohort.share_threshold:
                rows = [
                    [self._reveals[self.cohort.holders[secret[0]][position]][secret] for secret in secrets]
                    for position in positions
                ]
                found = zip(secrets, Interpolation(positions).secrets(rows), strict=True)
                seeds.update({secret: seed for secret, seed in found if seed is not None and self._fits(secret, seed)})
        return seeds

    def _searched(self, secret: Secret) -> tuple[bytes, frozenset[int]]:
        """Return the seed that some of its shares give, and the places of holders whose shares are wrong."""
        dealer, other = secret
        holders = self.cohort.holders[dealer]
        result = reconstruct(
            {
                position: self._reveals[holder][secret]
                for position, holder in enumerate(holders)
                if secret in self._reveals.get(holder, ())
            },
            threshold=self.cohort.share_threshold,
            holds=lambda candidate: self._fits(secret, candidate),
            what=self.cohort.names[dealer] + ("" if other is None else f" and {self.cohort.names[other]}"),
        )
        return result.secret, frozenset(holders[position] for position in result.wrong)

    def _fits(self, secret: Secret, seed: bytes) -> bool:
        """Return whether a seed is what its dealer committed to."""
        dealer, other = secret
        commitments = self.contributions[dealer].upload.commitments
        expected = commitments[0 if other is None else 1 + self.cohort.position(other, of=dealer)]
        return commitment(seed, context=self.manifest_digest) == expected


def unmasked_sum(vectors: Sequence[Lanes], seeds: Mapping[Secret, bytes], *, bits: int) -> npt.NDArray[np.int64]:
    """Return the sum of a selection's uploads, at least one, without the masks of ``seeds``, as signed numbers.

    A dealer added the mask that it has in common with a later member and subtracted that with an earlier one.

    Raises:
        ReconstructionError: a seed comes twice; no honest members share one with others as well.
    """
    own = [seed for (_, other), seed in seeds.items() if other is None]
    added = [seed for (dealer, other), seed in seeds.items() if other is not None and other > dealer]
    subtracted = [seed for (dealer, other), seed in seeds.items() if other is not None and other < dealer]
    if len({*seeds.values()}) != len(seeds):
        raise ReconstructionError(what="seed", problem="two members have the same one")
    values = np.empty(vectors[0].shape, dtype=np.int64)
    for place, part in masked_sum(vectors, plus=subtracted, minus=[*own, *added]):
        values[place] = signed_view(part, bits=bits)
    return values
