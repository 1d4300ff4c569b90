"""How an institution reacts to each stage of an epoch's set-up and of a round; what it returns is stored by the worker.

    set-up   keys → roots
    round    answer                       with open aggregation
             upload → accept → reveal     with secure aggregation
    close    close

A reaction computes; only the privacy ledger writes by itself, because a charge comes before what it pays for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from fedcredit.audit.checkpoint_note import cosign_checkpoint
from fedcredit.audit.witness import WitnessState
from fedcredit.crypto.channels import Channel
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.signatures import verify
from fedcredit.encoding import Buffer
from fedcredit.envelope import OpenedRequest, decode_roster
from fedcredit.errors import EpochError, MalformedMessageError, WrongContextError
from fedcredit.institution.admission import Admission
from fedcredit.institution.holdings import Holdings
from fedcredit.institution.lineage import checkpoint_of, follow, require_lineage
from fedcredit.institution.memory import Terms
from fedcredit.institution.releases import Integers, RunContext, Sums
from fedcredit.institution.voting import VotingTable, cast_vote, votes_on_its_own_counts
from fedcredit.messages import (
    NO_VOTE,
    CloseAnswer,
    CountsAnswer,
    Manifest,
    Message,
    Purpose,
    RoundBody,
    Stage,
    TrainAnswer,
    to_lanes,
    weights_from_bytes,
)
from fedcredit.parties import COORDINATOR
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.secagg.agreement import (
    SELECTION_TAG,
    require_agreement,
    require_safe_difference,
    require_selection,
    selection_digest,
)
from fedcredit.secagg.epoch import MOST_STEPS, EpochOffer, EpochPending, EpochRoots, require_keys
from fedcredit.secagg.member import MemberRound, protect
from fedcredit.secagg.ring import lanes_to_bytes, to_ring
from fedcredit.secagg.wire import (
    Accept,
    AcceptBody,
    EpochBoxes,
    EpochHello,
    EpochKey,
    KeysBody,
    Reveal,
    RevealBody,
    RootsBody,
    Selection,
    Upload,
    bulk_digest,
)


@dataclass(frozen=True, kw_only=True)
class Reaction:
    """An answer, and what must be on disk before it leaves."""

    answer: Message
    bulk: tuple[Buffer, ...] = ()
    """What travels beside it, in parts; together they have the digest that the answer names."""
    store: Callable[[], None] = lambda: None


class Stages:
    """The reactions of one institution."""

    def __init__(
        self,
        *,
        holdings: Holdings,
        keys: IdentityKeys,
        coordinator: PublicIdentity,
        admission: Admission,
        ledger: PrivacyLedger,
        sums: Sums,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._holdings = holdings
        self._institution = holdings.institution
        self._keys = keys
        self._coordinator = coordinator
        self._admission = admission
        self._memory = admission.memory
        self._ledger = ledger
        self._entropy = entropy
        self._sums = sums
        self._contexts: dict[str, RunContext] = {}

    def react(self, opened: OpenedRequest) -> Reaction:
        """Return the reaction to a request whose signatures hold.

        Raises:
            FedcreditError: the institution refuses; nothing is stored, and nothing was computed unless it was charged.
        """
        reactions = {
            Stage.KEYS: self._keys_stage,
            Stage.ROOTS: self._roots_stage,
            Stage.ANSWER: self._answer_stage,
            Stage.UPLOAD: self._upload_stage,
            Stage.ACCEPT: self._accept_stage,
            Stage.REVEAL: self._reveal_stage,
            Stage.CLOSE: self._close_stage,
        }
        return reactions[opened.stage](opened)

    # --- set-up of an epoch ------------------------------------------------------------------------------------------

    def _keys_stage(self, opened: OpenedRequest) -> Reaction:
        body = KeysBody.from_bytes(opened.request.body)
        self._admission.admit(opened)
        manifest, mine = opened.manifest, self._entropy(32)
        channel = Channel.secret(
            coordinator=body.channel, member=mine, setup=opened.manifest_digest, name=self._institution
        )
        offer, key = EpochOffer.make(
            setup=opened.manifest_digest, member=self._institution, keys=self._keys, entropy=self._entropy
        )

        def store() -> None:
            self._memory.remember_place(manifest)
            self._memory.keep_epoch(manifest.run, offer)
            self._memory.keep_channel(manifest.run, channel)

        hello = EpochHello(manifest_digest=opened.manifest_digest, key=key.to_bytes(), channel=mine)
        return Reaction(answer=hello, store=store)

    def _roots_stage(self, opened: OpenedRequest) -> Reaction:
        terms, manifest = self._admission.readmit(opened), opened.manifest
        offer = self._memory.epoch(manifest.run)
        if not isinstance(offer, EpochOffer) or offer.setup != opened.manifest_digest:
            raise EpochError(reason="its set-up was not begun here, or is over")
        received = _decode_keys(opened.request.body)
        if not {key.member for key in received} <= set(manifest.cohort):
            raise WrongContextError(what="list of epoch keys", field="cohort")
        require_keys(received, setup=offer.setup, identities=identities_of(terms), smallest=terms.plan.rounds.quorum)
        pending, boxes = EpochPending.make(
            offer,
            received,
            member=self._institution,
            threshold=_threshold(terms),
            keys=self._keys,
            entropy=self._entropy,
        )
        return Reaction(
            answer=EpochBoxes(epoch=pending.epoch, bulk_digest=bulk_digest(boxes)),
            bulk=(boxes,),
            store=lambda: self._memory.keep_epoch(manifest.run, pending),
        )

    # --- a round with open aggregation -------------------------------------------------------------------------------

    def _answer_stage(self, opened: OpenedRequest) -> Reaction:
        terms, body = self._admission.admit(opened), opened.round_body()
        witnessed, values = self._release(opened, terms, body)
        lanes = to_lanes(values)
        kind = TrainAnswer if opened.manifest.purpose == Purpose.TRAIN else CountsAnswer
        answer = kind(
            manifest_digest=opened.manifest_digest,
            ledger_head=self._ledger.head,
            cosignature=self._cosignature(opened.manifest),
            lanes=lanes,
        )

        def store() -> None:
            self._memory.remember_place(opened.manifest)
            self._memory.keep_witnessed(opened.manifest.run, witnessed)
            self._keep_table(opened.manifest, terms, values)

        return Reaction(answer=answer, store=store)

    def _release(self, opened: OpenedRequest, terms: Terms, body: RoundBody) -> tuple[WitnessState, Integers]:
        """Follow the log, check where the weights come from, and only then charge, compute and add noise."""
        manifest = opened.manifest
        witnessed = follow(self._memory.witnessed(manifest.run), manifest, body)
        context = self._context_of(manifest.run, terms)
        require_lineage(
            manifest,
            body,
            prepared=bool(terms.plan.privacy.preparation_share),
            initial=context.initial_digest,
        )
        context.update_bound(manifest, self._institution)  # a radius that no plan can have is refused before a charge
        weights = weights_from_bytes(body.weights, count=context.family.layout.size)
        return witnessed, self._sums.of(manifest, context, weights)

    def _keep_table(self, manifest: Manifest, terms: Terms, values: Integers) -> None:
        """Keep what was released for the evaluation, if the institution votes on it at the end.

        Not with shared noise, which does not protect these numbers alone.
        """
        plan = terms.plan
        if manifest.purpose == Purpose.EVALUATE and plan.vote_floor is not None and plan.privacy.noise == "local":
            self._memory.keep_table(manifest.run, VotingTable.of(manifest, values).to_bytes())

    # --- a round with secure aggregation -----------------------------------------------------------------------------

    def _upload_stage(self, opened: OpenedRequest) -> Reaction:
        terms, body, manifest = self._admission.admit(opened), opened.round_body(), opened.manifest
        secure = terms.plan.secure
        roots = self._roots(manifest, terms, body)
        witnessed, values = self._release(opened, terms, body)
        lanes = to_ring(values, bits=secure.lane_bits if secure else 32)
        protected, state = protect(
            lanes,
            roots,
            manifest_digest=opened.manifest_digest,
            round_number=manifest.round,
            attempt=manifest.attempt,
            entropy=self._entropy,
        )
        bulk = (lanes_to_bytes(lanes), b"".join(protected.boxes))
        upload = Upload(
            manifest_digest=opened.manifest_digest,
            ledger_head=self._ledger.head,
            cosignature=self._cosignature(manifest),
            commitments=protected.commitments,
            bulk_digest=bulk_digest(*bulk),
        )
        state = replace(state, upload=hashlib.sha256(upload.to_bytes()).digest())

        def store() -> None:
            self._memory.remember_place(manifest)
            # The next step's keys replace these before the upload leaves: no crash makes a mask be used twice.
            self._memory.keep_epoch(manifest.run, roots.at(manifest.step + 1))
            self._memory.keep_round(manifest.run, state)
            self._memory.keep_witnessed(manifest.run, witnessed)
            self._keep_table(manifest, terms, values)

        return Reaction(answer=upload, bulk=bulk, store=store)

    def _roots(self, manifest: Manifest, terms: Terms, body: RoundBody) -> EpochRoots:
        """Return the keys of the manifest's step; in the first round of an epoch they are computed."""
        known = self._memory.epoch(manifest.run)
        if not isinstance(known, EpochPending | EpochRoots) or known.epoch != manifest.epoch:
            raise EpochError(reason="it holds the keys of another one, or of none")
        if known.cohort.names != manifest.cohort:
            raise WrongContextError(what="round manifest", field="cohort, which is not the epoch's")
        if isinstance(known, EpochPending):
            known = known.complete(body.roots, identities=identities_of(terms))
        if manifest.step >= MOST_STEPS:
            raise EpochError(reason=f"an epoch ends after {MOST_STEPS} steps")
        return known.at(manifest.step)

    def _accept_stage(self, opened: OpenedRequest) -> Reaction:
        terms, manifest = self._admission.readmit(opened), opened.manifest
        state = self._state_of(opened)
        body = _decode_accept_body(opened.request.body)
        verify(
            self._coordinator,
            tag=SELECTION_TAG,
            body=body.selection,
            signature=body.signature,
            signer=COORDINATOR,
            what="selection",
        )
        selection = decode_selection(body.selection)
        require_selection(
            selection,
            manifest_digest=opened.manifest_digest,
            cohort=manifest.cohort,
            member=self._institution,
            own_upload=state.upload,
            smallest=terms.plan.rounds.quorum,
        )
        for members in self._memory.opened(manifest):
            require_safe_difference(selection.members, members, colluders=terms.plan.privacy.colluders)
        agreed = state.agree(selection)
        return Reaction(
            answer=Accept(manifest_digest=opened.manifest_digest, selection=selection_digest(selection)),
            store=lambda: self._memory.keep_round(manifest.run, agreed),
        )

    def _reveal_stage(self, opened: OpenedRequest) -> Reaction:
        terms, manifest = self._admission.readmit(opened), opened.manifest
        state = self._state_of(opened)
        body = RevealBody.from_bytes(opened.request.body)
        if not state.selection or body.selection != hashlib.sha256(state.selection).digest():
            raise WrongContextError(what="request for shares", field="selection")
        if len(body.members) != len(body.signatures):
            raise WrongContextError(what="request for shares", field="list of agreements")
        selection = decode_selection(state.selection)
        require_agreement(
            selection,
            dict(zip(body.members, body.signatures, strict=True)),
            member=self._institution,
            threshold=_threshold(terms),
            identities=identities_of(terms),
        )
        revealed, shares = state.reveal(body.boxes)

        def store() -> None:
            self._memory.keep_round(manifest.run, revealed)
            self._memory.keep_opened(manifest, selection.members)

        answer = Reveal(
            manifest_digest=opened.manifest_digest,
            selection=body.selection,
            bulk_digest=bulk_digest(shares),
        )
        return Reaction(answer=answer, bulk=(shares,), store=store)

    def _state_of(self, opened: OpenedRequest) -> MemberRound:
        state = self._memory.member_round(opened.manifest.run)
        if state is None or state.manifest_digest != opened.manifest_digest:
            raise WrongContextError(what="request", field="manifest, under which nothing was uploaded last")
        return state

    # --- the end of a run --------------------------------------------------------------------------------------------

    def _close_stage(self, opened: OpenedRequest) -> Reaction:
        terms, body, manifest = self._admission.admit(opened), opened.round_body(), opened.manifest
        witnessed = follow(self._memory.witnessed(manifest.run), manifest, body)
        context = self._context_of(manifest.run, terms)
        require_lineage(manifest, body, prepared=False, initial=context.initial_digest)
        table = self._table(manifest, context, body)
        vote = cast_vote(context, manifest, table)

        def store() -> None:
            self._memory.remember_place(manifest)
            self._memory.keep_witnessed(manifest.run, witnessed)
            if table is not None:
                self._memory.keep_table(manifest.run, table.to_bytes())

        answer = CloseAnswer(
            manifest_digest=opened.manifest_digest,
            ledger_head=self._ledger.head,
            cosignature=self._cosignature(manifest),
            vote=str(vote.choice) if vote else NO_VOTE,
            reason=str(vote.reason) if vote else NO_VOTE,
        )
        return Reaction(answer=answer, store=store)

    def _table(self, manifest: Manifest, context: RunContext, body: RoundBody) -> VotingTable | None:
        """Return the counts to vote on: those that were kept, or where noise is shared new ones, which are charged."""
        kept = self._memory.table(manifest.run)
        table = None if kept is None else VotingTable.from_bytes(kept)
        if table is not None or not votes_on_its_own_counts(context):
            return table
        weights = weights_from_bytes(body.weights, count=context.family.layout.size)
        return VotingTable.of(manifest, self._sums.of(manifest, context, weights))

    # --- shared ------------------------------------------------------------------------------------------------------

    def _cosignature(self, manifest: Manifest) -> str:
        return cosign_checkpoint(
            checkpoint_of(manifest),
            name=self._institution,
            keys=self._keys,
            time_s=int(self._admission.clock()),
        ).to_line()

    def _context_of(self, run: str, terms: Terms) -> RunContext:
        known = self._contexts.get(run)
        if known is None or known.terms != terms:
            known = RunContext.make(terms, self._holdings)
            self._contexts = {run: known}
        return known


def _threshold(terms: Terms) -> int:
    if terms.plan.secure is None:
        raise WrongContextError(what="request", field="stage, which open aggregation does not have")
    return terms.plan.secure.threshold


def identities_of(terms: Terms) -> Mapping[str, PublicIdentity]:
    """Return the keys of every member of the roster that the run was taken up with."""
    return _identities(terms.roster_text)


@lru_cache(maxsize=8)
def _identities(roster_text: bytes) -> Mapping[str, PublicIdentity]:
    """Decode a roster's keys once; in one process all institutions of a run have the same roster."""
    identities = {
        str(member.institution): PublicIdentity.from_bytes(member.public_identity)
        for member in decode_roster(roster_text)
    }
    if len({identity.signing for identity in identities.values()}) != len(identities):
        # One owner under two names would count twice wherever signatures are counted.
        raise MalformedMessageError(what="roster", problem="two institutions share a signing key")
    return identities


@lru_cache(maxsize=2)
def _decode_keys(body: bytes) -> tuple[EpochKey, ...]:
    """Decode the keys of an epoch; in one process all institutions get the same bytes, five kilobytes a member."""
    return tuple(EpochKey.from_bytes(key) for key in RootsBody.from_bytes(body).keys)


@lru_cache(maxsize=4)
def _decode_accept_body(data: bytes) -> AcceptBody:
    """Decode what is asked for; in one process all institutions of a round get the same bytes."""
    return AcceptBody.from_bytes(data)


@lru_cache(maxsize=8)
def decode_selection(data: bytes) -> Selection:
    """Decode a selection; in one process all institutions of a round get the same bytes."""
    return Selection.from_bytes(data)
