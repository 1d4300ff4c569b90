"""Random sequences of what a malicious server may send to members that have uploaded, and who is given away.

The members are the product's: ``institution.stages`` on its own memory and database. Their uploads of three attempts
are made once; a sequence begins after the first of them and is undone in the end. The server has one member on its
side, which signs whatever it likes and sent a second upload in every attempt. The judge opens every share that leaves
and knows it by its value.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from consortium import COORDINATOR, NAMES, NO_PRIVACY, RUN, Consortium, HandRound, Question, Site, plan_of

from fedcredit.crypto.signatures import sign
from fedcredit.envelope import ANSWER_TAG, OpenedRequest, open_request
from fedcredit.errors import FedcreditError
from fedcredit.institution.memory import RunMemory
from fedcredit.institution.stages import Reaction
from fedcredit.messages import Message
from fedcredit.secagg.agreement import SELECTION_TAG, selection_digest
from fedcredit.secagg.member import MemberRound
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Accept, AcceptBody, Reveal, RevealBody, Selection, Upload

MEMBERS = (*NAMES, "lender-e")
COLLUDER = "lender-e"
HONEST = NAMES
THRESHOLD, COLLUDERS = 4, 1
APART = 3 + COLLUDERS
"""Two sums of one round differ by at least so many members: three of them are honest."""
ATTEMPTS = ((1, 1), (1, 2), (2, 1))
"""Round and attempt."""
MOVES = 12
PLAN = {
    **NO_PRIVACY,
    "aggregation": {"kind": "secure", "threshold": THRESHOLD, "lane_bits": 32, "update_bound": "none"},
    "rounds/quorum": THRESHOLD,
    "privacy/colluders": COLLUDERS,
}
Given = tuple[int, int | None]
"""What a share is of: the dealer's own seed, or the one that it has in common with another; by places."""


T = TypeVar("T")


class UndoneError(Exception):
    """Ends a transaction without a trace."""


@dataclass
class Attempt:
    """One manifest: everybody's uploads, and what the server can make of them."""

    hand: HandRound
    asked: dict[str, OpenedRequest] = field(default_factory=dict)
    """What every member was asked with; the later stages' requests are these with another body."""
    reactions: dict[str, Reaction] = field(default_factory=dict)
    meaning: dict[str, dict[bytes, Given]] = field(default_factory=dict)
    """By holder and value, every share that the member could give."""

    @property
    def digest(self) -> bytes:
        return self.hand.manifest.digest()

    @cached_property
    def second_upload(self) -> tuple[bytes, bytes]:
        """Return digest and signature of the other upload of the member on the server's side."""
        upload = Upload(
            manifest_digest=self.digest,
            ledger_head=bytes(32),
            cosignature="another",
            commitments=(bytes(32),),
            bulk_digest=bytes(32),
        ).to_bytes()
        keys = self.hand.consortium.sites[COLLUDER].keys
        return hashlib.sha256(upload).digest(), sign(keys, tag=ANSWER_TAG, body=upload)

    def selection(self, members: Sequence[str], *, second: bool) -> Selection:
        """Return the selection of these members, ``second`` with the other upload of the server's member."""
        chosen = self.hand.selection(*members)
        return with_upload(chosen, COLLUDER, *self.second_upload) if second and COLLUDER in chosen.members else chosen

    def invented(self, selection: Selection) -> list[str]:
        """Return the honest members who have sent another upload than the one in ``selection``."""
        cohort = self.hand.sum.cohort
        return [
            name
            for name, digest in zip(selection.members, selection.uploads, strict=True)
            if name in HONEST and digest != self.hand.sum.contributions[cohort.places[name]].digest
        ]

    def agreement(self, name: str, selection: bytes) -> bytes:
        body = Accept(manifest_digest=self.digest, selection=selection).to_bytes()
        return sign(self.hand.consortium.sites[name].keys, tag=ANSWER_TAG, body=body)


def with_upload(chosen: Selection, name: str, digest: bytes, signature: bytes) -> Selection:
    """Return the selection with another upload of one of its members."""
    place = chosen.members.index(name)
    return replace(
        chosen,
        uploads=(*chosen.uploads[:place], digest, *chosen.uploads[place + 1 :]),
        signatures=(*chosen.signatures[:place], signature, *chosen.signatures[place + 1 :]),
    )


@dataclass
class Seen:
    """What has left the honest members in one sequence, and what is wrong with it."""

    accepted: dict[tuple[str, bytes], set[bytes]] = field(default_factory=lambda: defaultdict(set))
    opened: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """By manifest: the selections for which anybody gave shares."""
    cohorts: dict[tuple[str, int], set[frozenset[str]]] = field(default_factory=lambda: defaultdict(set))
    kinds: dict[tuple[bytes, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    wrong: set[str] = field(default_factory=set)

    def agreed(self, name: str, manifest: bytes, selection: bytes) -> None:
        self.accepted[name, manifest].add(selection)
        if len(self.accepted[name, manifest]) > 1:
            self.wrong.add("agreed to two cohorts of one attempt")

    def gave(self, name: str, attempt: Attempt, selection: Selection, shares: bytes) -> None:
        digest, number = selection_digest(selection), attempt.hand.manifest.round
        if digest not in self.accepted[name, attempt.digest]:
            self.wrong.add("shares for a cohort that it has not agreed to")
        if attempt.invented(selection):
            self.wrong.add("shares for an upload that its member never sent")
        self.opened[attempt.digest].add(digest)
        if len(self.opened[attempt.digest]) > 1:
            self.wrong.add("shares for two cohorts of one attempt")
        members = frozenset(selection.members)
        if any(0 < len(members ^ before) < APART for before in self.cohorts[name, number]):
            self.wrong.add("shares for two cohorts that differ by a few")
        self.cohorts[name, number].add(members)
        for start in range(0, len(shares), SHARE_LENGTH):
            given = attempt.meaning[name].get(shares[start : start + SHARE_LENGTH])
            if given is not None:
                dealer, other = given
                self.kinds[attempt.digest, dealer if other is None else other].add("own" if other is None else "pair")
        if any(len(kinds) > 1 for kinds in self.kinds.values()):
            self.wrong.add("shares of both kinds for one member")


@dataclass
class Table:
    """The members, their uploads, and one sequence after another."""

    consortium: Consortium
    attempts: list[Attempt]

    @classmethod
    def make(cls, folder: Path, *, memory: Callable[..., RunMemory] = RunMemory) -> Table:
        """Return members after the first upload; ``memory`` is what they remember with."""
        consortium = Consortium.make(folder, plan_of(MEMBERS, **PLAN), policy={"allow_no_privacy": True}, rows=12)
        for site in consortium.sites.values():
            site.state = replace(site.state, memory=memory(site.state.database, entropy=site.entropy))
            site.assemble()
        attempts = []
        for number, again in ATTEMPTS:
            hand = HandRound.of(consortium, round=number, attempt=again)
            attempts.append(Attempt(hand))
            for name in MEMBERS:
                attempts[-1].asked[name] = _opened(hand.upload(name))
                _uploaded(attempts[-1], consortium.sites[name])
            for name in HONEST:
                state = consortium.sites[name].state.memory.member_round(RUN)
                assert state is not None
                attempts[-1].meaning[name] = _meaning(state, attempts[-1])
        table = cls(consortium, attempts)
        for name in HONEST:
            table._advance(name, 0)
        return table

    def play(self, seed: int, counted: Counter[str]) -> set[str]:
        """Send one sequence; return what it made the honest members do that they never may."""
        sequence = Conversation(self, np.random.default_rng(seed), counted)
        sites = [self.consortium.sites[name] for name in HONEST]
        with suppress(UndoneError), ExitStack() as stack:
            for site in sites:
                stack.callback(site.state.memory.forget)
                stack.enter_context(site.state.database.transaction())
            for _ in range(MOVES):
                sequence.step()
            raise UndoneError
        return sequence.seen.wrong

    def _advance(self, name: str, place: int) -> None:
        self.attempts[place].reactions[name].store()

    def ask(self, name: str, attempt: Attempt, body: Message, stage: str) -> Reaction | None:
        """Return what a member does and has stored; ``None`` for a refusal with an error of ours."""
        first = attempt.asked[name]
        asked = replace(first, request=replace(first.request, stage=stage, body=body.to_bytes()))
        try:
            reaction = self.consortium.sites[name].worker._stages.react(asked)
        except FedcreditError:
            return None
        reaction.store()
        return reaction


class Conversation:
    """What the server does in one sequence, and what it has learnt."""

    def __init__(self, table: Table, rng: np.random.Generator, counted: Counter[str]) -> None:
        self._table, self._rng, self._counted = table, rng, counted
        self.seen = Seen()
        self._at = dict.fromkeys(HONEST, 0)
        self._signatures: dict[bytes, dict[str, bytes]] = defaultdict(dict)
        # A few cohorts an attempt, or honest members would hardly ever agree to the same one.
        self._shown = [[self._cohort(attempt) for _ in range(int(rng.integers(1, 4)))] for attempt in table.attempts]

    def step(self) -> None:
        """Ask one member for something, or all of them, mostly for the same cohort."""
        names = HONEST if self._rng.integers(3) else (self._one(HONEST),)
        together = None if self._rng.integers(3) == 0 else int(self._rng.integers(3))
        move = self._one([self._next_attempt, *[self._ask_to_agree] * 4, *[self._ask_for_shares] * 4, self._restart])
        for name in names:
            move(name, together)

    def _shown_to(self, place: int, together: int | None) -> Selection:
        shown = self._shown[place]
        return self._one(shown) if together is None else shown[together % len(shown)]

    def _one(self, some: Sequence[T]) -> T:
        return some[int(self._rng.integers(len(some)))]

    def _seldom(self) -> bool:
        return bool(self._rng.integers(16) == 0)

    def _cohort(self, attempt: Attempt) -> Selection:
        size = 5 if self._rng.integers(3) == 0 else int(self._rng.integers(1, 6)) if self._seldom() else 4
        members = self._rng.choice(MEMBERS, size=size, replace=False).tolist()
        chosen = attempt.selection(members, second=bool(self._rng.integers(2)))
        if self._rng.integers(6):
            return chosen
        # An upload in somebody's name that the member on the server's side has signed.
        return with_upload(chosen, self._one(chosen.members), *attempt.second_upload)

    def _restart(self, name: str, together: int | None) -> None:
        self._table.consortium.sites[name].state.memory.forget()

    def _next_attempt(self, name: str, together: int | None) -> None:
        if self._at[name] + 1 < len(ATTEMPTS):
            self._at[name] += 1
            self._table._advance(name, self._at[name])

    def _place(self, name: str) -> int:
        return int(self._rng.integers(len(ATTEMPTS))) if self._seldom() else self._at[name]

    def _ask_to_agree(self, name: str, together: int | None) -> None:
        place = self._place(name)
        attempt, chosen = self._table.attempts[place], self._shown_to(place, together)
        if self._seldom():
            chosen = self._spoilt(chosen)
        signer = self._table.consortium.sites[COLLUDER].keys if self._seldom() else COORDINATOR
        body = chosen.to_bytes()
        asked = AcceptBody(selection=body, signature=sign(signer, tag=SELECTION_TAG, body=body))
        reaction = self._table.ask(name, attempt, asked, "accept")
        self._counted["asked to agree"] += 1
        if reaction is not None:
            assert isinstance(reaction.answer, Accept)
            self._counted["agreed"] += 1
            self.seen.agreed(name, attempt.digest, reaction.answer.selection)
            digest = selection_digest(chosen)
            self._signatures[digest][name] = attempt.agreement(name, reaction.answer.selection)

    def _spoilt(self, chosen: Selection) -> Selection:
        """Return a selection with one thing in it that is not so."""
        other = self._one([shown for some in self._shown for shown in some])
        return self._one(
            [
                replace(chosen, manifest_digest=other.manifest_digest),
                replace(chosen, members=tuple(reversed(chosen.members))),
                replace(chosen, uploads=chosen.uploads[:-1]),
                replace(chosen, members=other.members),
                replace(chosen, signatures=other.signatures),
                replace(chosen, members=(*chosen.members, chosen.members[0])),
            ]
        )

    def _ask_for_shares(self, name: str, together: int | None) -> None:
        place = self._place(name)
        attempt, chosen = self._table.attempts[place], self._shown_to(place, together)
        digest = selection_digest(chosen)
        signatures = self._agreements(attempt, digest, joins=COLLUDER in chosen.members)
        boxes = self._boxes(attempt, name, chosen)
        body = RevealBody(
            selection=digest, members=tuple(signatures), signatures=tuple(signatures.values()), boxes=boxes
        )
        reaction = self._table.ask(name, attempt, body, "reveal")
        self._counted["asked for shares"] += 1
        if reaction is not None:
            assert isinstance(reaction.answer, Reveal)
            self._counted["gave shares"] += 1
            self._counted["gave shares of pairs"] += len(chosen.members) < len(MEMBERS)
            self.seen.gave(name, attempt, chosen, b"".join(reaction.bulk))

    def _agreements(self, attempt: Attempt, digest: bytes, *, joins: bool) -> dict[str, bytes]:
        """Return the signatures that there are, mostly; else fewer, or others in the place of one that is missing.

        The member on the server's side signs too, if it ``joins`` the cohort, and seldom otherwise.
        """
        signatures = dict(self._signatures[digest])
        if joins != self._seldom():
            signatures[COLLUDER] = attempt.agreement(COLLUDER, digest)
        if self._seldom() and signatures:
            signatures.pop(self._one(list(signatures)))
        if self._seldom():
            borrowed = [signature for some in self._signatures.values() for signature in some.values()]
            signatures[self._one(MEMBERS)] = self._one([*borrowed, bytes(64)])
        return signatures

    def _boxes(self, attempt: Attempt, name: str, chosen: Selection) -> tuple[bytes, ...]:
        boxes = list(_boxes(attempt, name, chosen.members))
        if self._seldom():
            boxes[int(self._rng.integers(len(boxes)))] = self._one([b"", bytes(100), boxes[0]])
        if self._seldom():
            boxes.pop()
        return tuple(boxes)


def _boxes(attempt: Attempt, name: str, members: Sequence[str]) -> list[bytes]:
    """Return the boxes for a member from those of its neighbours who are in ``members``."""
    hand = attempt.hand.sum
    cohort = hand.cohort
    place = cohort.places[name]
    return [
        bytes(hand.contributions[dealer].boxes[cohort.neighbours[dealer].index(place)])
        if cohort.names[dealer] in members
        else b""
        for dealer in cohort.neighbours[place]
    ]


def _opened(asked: Question) -> OpenedRequest:
    return open_request(
        asked.sealed,
        consortium=asked.manifest.consortium,
        institution=asked.site.name,
        keys=asked.site.keys,
        coordinator=COORDINATOR.public,
        channels=asked.site.state.memory.channel,
    )


def _uploaded(attempt: Attempt, site: Site) -> None:
    """Have a member upload, and keep what it does so that it can be done again."""
    reaction = site.worker._stages.react(attempt.asked[site.name])
    reaction.store()
    assert isinstance(reaction.answer, Upload)
    body = reaction.answer.to_bytes()
    attempt.reactions[site.name] = reaction
    attempt.hand.sum.take_upload(
        site.name,
        reaction.answer,
        digest=hashlib.sha256(body).digest(),
        signature=sign(site.keys, tag=ANSWER_TAG, body=body),
        bulk=b"".join(reaction.bulk),
    )


def _meaning(state: MemberRound, attempt: Attempt) -> dict[bytes, Given]:
    """Return what every share means that a member holds of anybody, by value."""
    rows = {state.place: state.own_shares}
    near = state.cohort.neighbours[state.place]
    boxes = _boxes(attempt, state.cohort.names[state.place], MEMBERS)
    for dealer, box, key in zip(near, boxes, state.box_keys, strict=True):
        rows[dealer] = state._open(dealer, box, key)
    return {
        row[place * SHARE_LENGTH : (place + 1) * SHARE_LENGTH]: (dealer, other)
        for dealer, row in rows.items()
        for place, other in enumerate((None, *state.cohort.neighbours[dealer]))
    }
