"""Our own secure aggregation as a ``Target``: the pure sessions under real identity keys, the coordinator as attacker.

All members count alike, because no number of examples leaves an institution.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from attacks.secagg_plus.fedcredit_members import BITS, MANIFEST, Boxes, Member, Sent, pieces
from attacks.secagg_plus.flower import Update
from attacks.secagg_plus.target import Flags, Lost, Residues, Vector
from consortium import COORDINATOR, keys_of, plan_of

from fedcredit.crypto.derivation import commitment
from fedcredit.crypto.signatures import sign
from fedcredit.encoding import decode
from fedcredit.errors import FedcreditError
from fedcredit.institution.admission import Approvals
from fedcredit.messages import AVERAGING_GRID, MAX_MESSAGE_BYTES, box_length
from fedcredit.secagg.aggregator import AggregatorRound
from fedcredit.secagg.agreement import SELECTION_TAG, selection_digest
from fedcredit.secagg.cohort import Cohort
from fedcredit.secagg.epoch import EpochOffer
from fedcredit.secagg.masking import add_masks
from fedcredit.secagg.member import wanted
from fedcredit.secagg.ring import from_ring, lanes_from_bytes
from fedcredit.secagg.shamir import SHARE_LENGTH, reconstruct
from fedcredit.secagg.wire import EpochKey, Selection

Secret = tuple[int, int | None]
"""A dealer's own seed, or the one that it has in common with another member; by places."""
LARGEST_PLAUSIBLE = AVERAGING_GRID
"""Of a coordinate in grid steps: magnitude 1, ten deviations of the private vectors."""
FORGER = keys_of(99)


class Fedcredit:
    """A ``Target``: one round over ``updates``, everybody everybody's neighbour.

    ``approvals`` is where all members keep the plan that they have approved; ``kind`` is how they are built.
    """

    def __init__(
        self, updates: Mapping[str, Update], *, threshold: int, approvals: Approvals, kind: type[Member] = Member
    ) -> None:
        self.names = tuple(sorted(updates))
        keys = {name: keys_of(10 + place) for place, name in enumerate(self.names)}
        others = {name: own.public for name, own in keys.items()}
        self._members = {
            name: kind(name, keys[name], updates[name], others=others, yes=approvals) for name in self.names
        }
        self._size = len(next(iter(updates.values())).vector)
        section = {"kind": "bank", "expected_borrowers": 40, "modalities": ["application"]}
        self._approved = plan_of(
            institutions=dict.fromkeys(self.names, section),
            aggregation={"kind": "secure", "threshold": threshold, "lane_bits": BITS, "update_bound": "none"},
            rounds={"quorum": threshold, "retries": 0, "deadline_s": 60.0},
        )
        approvals.approve(self._approved)
        self._threshold = self._approved_threshold = threshold
        self._corrupt: set[str] = set()
        self._swapped: str | None = None
        self._sent: dict[str, Sent] = {}
        self._shares: dict[Secret, dict[int, bytes]] = defaultdict(dict)
        """By holder, for everything that was revealed."""
        self._setups = 0
        self._lost: Mapping[str, Lost] = {}

    def _plan_text(self) -> str:
        """Return what the members have approved, with the threshold that the coordinator states."""
        return self._approved.to_toml().replace(
            f"threshold = {self._approved_threshold}", f"threshold = {self._threshold}"
        )

    # The attacker's moves.

    def corrupt(self, name: str) -> None:
        self._corrupt.add(name)

    def swap_keys(self, victim: str) -> None:
        self._swapped = victim

    def state_threshold(self, threshold: int) -> None:
        self._threshold = threshold

    def uploads(self) -> dict[str, Residues]:
        self._until_uploads()
        return {name: self._lanes(sent).copy() for name, sent in self._sent.items()}

    def ask(self, *, living: Collection[str], dead: Collection[str]) -> None:
        # Shares of both kinds follow from one list of contributors, so the two halves are two such lists.
        self.show(dict.fromkeys(living, frozenset(living)))
        if dead:
            others = frozenset(self.names) - {*dead}
            self.show(dict.fromkeys(others, others))

    def show(self, cohorts: Mapping[str, Collection[str]]) -> None:
        """Ask each member to agree to the cohort given for it, and whoever agreed for its shares.

        Corrupt members agree to every cohort that anybody is shown.

        Raises:
            FedcreditError: nobody reveals anything; the first refusal.
        """
        refusals: list[FedcreditError] = []
        selections = {name: self._selection(cohort) for name, cohort in cohorts.items()}
        agreed: dict[bytes, dict[str, bytes]] = {
            selection_digest(selection): {name: self._members[name].agreement_to(selection) for name in self._corrupt}
            for selection in selections.values()
        }
        for name, selection in selections.items():
            signature = sign(COORDINATOR, tag=SELECTION_TAG, body=selection.to_bytes())
            try:
                agreed[selection_digest(selection)][name] = self._members[name].accept(selection, signature)
            except FedcreditError as error:
                refusals.append(error)
        revealed = 0
        for name, selection in selections.items():
            signatures = agreed[selection_digest(selection)]
            if name not in signatures:
                continue
            try:
                shares = self._members[name].reveal(signatures, self._boxes_for(name, selection.members))
            except FedcreditError as error:
                refusals.append(error)
                continue
            revealed += 1
            self._keep(name, selection, shares)
        if not revealed:
            raise refusals[0]

    def known_masks(self, victim: str) -> Residues:
        place, plus, minus = self._cohort.places[victim], list[bytes](), list[bytes]()
        own = self._secret(place, None)
        if own is not None:
            plus.append(own)
        for other in self._cohort.neighbours[place]:
            seed = self._pair_seed(place, other)
            if seed is not None:
                (plus if other > place else minus).append(seed)
        masks = np.zeros(self._size, np.uint32)
        add_masks(masks, plus=plus, minus=minus)
        return masks

    def plausible(self, residues: Residues) -> Flags:
        return np.abs(from_ring(residues, bits=BITS)) <= LARGEST_PLAUSIBLE

    def decode(self, residues: Residues) -> Vector:
        return from_ring(residues, bits=BITS) / AVERAGING_GRID

    def numbers_in_clear(self, victim: str) -> dict[str, float]:
        fields = decode(self._sent[victim].message.to_bytes(), what="upload", limit=MAX_MESSAGE_BYTES)
        assert isinstance(fields, dict)
        return {f"upload/{name}": number for name, number in fields.items() if isinstance(number, int | float)}

    def finish(self, *, lost: Mapping[str, Lost]) -> Vector:
        """Return the mean over those who came; see the module on weights. Raises the aggregator's own errors."""
        total, count = self.finish_exactly(lost=lost)
        return total / (AVERAGING_GRID * count)

    def finish_exactly(self, *, lost: Mapping[str, Lost]) -> tuple[np.ndarray, int]:
        """Return the sum in grid steps, and of how many."""
        self._lost = lost
        self._until_uploads()
        sum_of = AggregatorRound(
            manifest_digest=MANIFEST,
            cohort=self._cohort,
            count=self._size,
            bits=BITS,
            smallest=self._threshold,
            colluders=0,
        )
        for name, sent in self._sent.items():
            sum_of.take_upload(name, sent.message, digest=sent.digest, signature=sent.signature, bulk=sent.bulk)
        selection = sum_of.select()
        signature = sign(COORDINATOR, tag=SELECTION_TAG, body=selection.to_bytes())
        agreed = {name: self._members[name].accept(selection, signature) for name in selection.members}
        for name in selection.members:
            sum_of.take_reveal(name, self._members[name].reveal(agreed, sum_of.boxes_for(name)))
        return sum_of.open().values, len(selection.members)

    # What only a test may look at.

    def pair_secret(self, one: str, other: str) -> bytes:
        """Return the seed of two honest members' mask: the truth that a search must find."""
        roots = self._members[one].roots
        near = roots.cohort.neighbours[roots.place]
        return roots.keys(MANIFEST).masks[near.index(roots.cohort.places[other])]

    # Carrying, and what the attacker makes of it.

    def _until_uploads(self) -> None:
        if self._sent:
            return
        for member in self._members.values():
            member.take_up(self._plan_text())
        names: Sequence[str] = self.names
        secrets: dict[str, Boxes] = {}
        while set(secrets) != {*names}:
            # Whoever gave a key and then no secrets is left out of the next set-up.
            names = sorted(secrets) or names
            secrets = self._set_up(names)
        first = self._members[names[0]]
        self._cohort: Cohort = first._pending.cohort
        for name in names:
            if self._lost.get(name) != "upload":
                mine = {other: secrets[other][name] for other in self._members[name].neighbours}
                self._sent[name] = self._members[name].upload(mine)

    def _set_up(self, names: Sequence[str]) -> dict[str, Boxes]:
        """Return the secrets that each member sent; those who are lost here sent none."""
        self._setups += 1
        setup = hashlib.sha256(b"set-up %d" % self._setups).digest()
        keys = [self._members[name].hello(setup) for name in names]
        return {
            name: self._members[name].send_secrets([self._passed_on(key, to=name) for key in keys])
            for name in names
            if self._lost.get(name) != "shares"
        }

    def _passed_on(self, key: EpochKey, *, to: str) -> EpochKey:
        if self._swapped is None or (key.member == self._swapped) == (to == self._swapped):
            return key
        _, forged = EpochOffer.make(setup=key.setup, member=key.member, keys=FORGER, entropy=os.urandom)
        return forged

    def _selection(self, cohort: Iterable[str]) -> Selection:
        chosen = sorted(cohort)
        return Selection(
            manifest_digest=MANIFEST,
            members=tuple(chosen),
            uploads=tuple(self._sent[name].digest for name in chosen),
            signatures=tuple(self._sent[name].signature for name in chosen),
        )

    def _lanes(self, sent: Sent) -> Residues:
        lanes = lanes_from_bytes(sent.bulk[: self._size * 4], count=self._size, bits=BITS, what="upload")
        assert lanes.dtype == np.uint32
        return lanes.astype(np.uint32)

    def _boxes_for(self, name: str, selected: Collection[str]) -> list[bytes]:
        place, names = self._cohort.places[name], self._cohort.names
        return [
            self._box(dealer, place) if names[dealer] in selected else b"" for dealer in self._cohort.neighbours[place]
        ]

    def _box(self, dealer: int, holder: int) -> bytes:
        near, bulk = self._cohort.neighbours[dealer], self._sent[self._cohort.names[dealer]].bulk
        return pieces(bulk[self._size * 4 :], box_length(len(near)))[near.index(holder)]

    def _keep(self, name: str, selection: Selection, shares: bytes) -> None:
        selected = frozenset(self._cohort.places[member] for member in selection.members)
        holder = self._cohort.places[name]
        secrets = list(wanted(self._cohort, selected, holder))
        for secret, share in zip(secrets, pieces(shares, SHARE_LENGTH), strict=True):
            self._shares[secret][holder] = share

    def _secret(self, dealer: int, other: int | None) -> bytes | None:
        """Return a seed whose shares have come together, those in the hands of corrupt members included."""
        if self._cohort.names[dealer] not in self._sent:
            return None
        near = self._cohort.neighbours[dealer]
        position = 0 if other is None else 1 + near.index(other)
        shares = {
            self._cohort.places[name]: self._row(dealer, self._cohort.places[name])[position]
            for name in self._corrupt & {*self._sent}
        } | self._shares[dealer, other]
        if len(shares) < self._threshold:
            return None
        holders = self._cohort.holders[dealer]
        expected = self._sent[self._cohort.names[dealer]].message.commitments[position]
        return reconstruct(
            {holders.index(holder): share for holder, share in shares.items()},
            threshold=self._threshold,
            holds=lambda seed: commitment(seed, context=MANIFEST) == expected,
            what="seed",
        ).secret

    def _row(self, dealer: int, holder: int) -> list[bytes]:
        """Return all shares that a corrupt holder has of a dealer's secrets."""
        state = self._members[self._cohort.names[holder]].state
        if dealer == holder:
            return pieces(state.own_shares, SHARE_LENGTH)
        key = state.box_keys[self._cohort.neighbours[holder].index(dealer)]
        return pieces(state._open(dealer, self._box(dealer, holder), key), SHARE_LENGTH)

    def _pair_seed(self, one: int, other: int) -> bytes | None:
        for mine, theirs in ((one, other), (other, one)):
            if self._cohort.names[mine] in self._corrupt:
                return self.pair_secret(self._cohort.names[mine], self._cohort.names[theirs])
            seed = self._secret(mine, theirs)
            if seed is not None:
                return seed
        return None
