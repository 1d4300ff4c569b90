"""The product with one thing wrong in it: each of these the simulation must find, or it could not find that mistake."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from simulation.federation import Product
from simulation.members import OneHotSums, as_shipped, lanes_of
from simulation.two_faced import TwoFaced

from fedcredit.audit.witness import FIRST_SIGHT, WitnessState
from fedcredit.config.plan import SecureAggregation
from fedcredit.crypto.streams import KeyStream
from fedcredit.envelope import OpenedRequest
from fedcredit.errors import FedcreditError
from fedcredit.institution.admission import Admission
from fedcredit.institution.memory import RunMemory, Terms
from fedcredit.institution.node import NodeState, assemble_worker
from fedcredit.institution.releases import Integers, RunContext, Vector
from fedcredit.institution.worker import InstitutionWorker
from fedcredit.messages import Manifest, Stage
from fedcredit.parties import InstitutionId
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.rounds.exchange import Exchange, Question, RoundResult
from fedcredit.rounds.run import FederatedRun
from fedcredit.secagg.aggregator import AggregatorRound, OpenedSum
from fedcredit.secagg.epoch import EpochRoots, EpochState, PairKeys
from fedcredit.secagg.member import MemberRound
from fedcredit.secagg.shamir import SHARE_LENGTH
from fedcredit.secagg.wire import Selection

Memory = Callable[..., RunMemory]


def with_memory(memory: Memory) -> Callable[..., InstitutionWorker]:
    """Return how to build a worker that remembers in another way."""

    def build(state: NodeState, **parts: Any) -> InstitutionWorker:
        other = memory(state.database, entropy=parts["entropy"])
        return as_shipped(replace(state, memory=other), **parts)

    return build


# --- members ---------------------------------------------------------------------------------------------------------


class UnboundRoots(EpochRoots):
    """Keys that neither the step nor the manifest changes."""

    def at(self, step: int) -> EpochRoots:
        return self

    def keys(self, manifest_digest: bytes) -> PairKeys:
        return super().keys(bytes(32))


class StillRoots(EpochRoots):
    """Roots that do not ratchet; the manifest still makes other masks of them."""

    def at(self, step: int) -> EpochRoots:
        return self


class UnboundMemory(RunMemory):
    roots: type[EpochRoots] = UnboundRoots

    def epoch(self, run: str) -> EpochState | None:
        held = super().epoch(run)
        return self.roots(**vars(held)) if isinstance(held, EpochRoots) else held


class StillMemory(UnboundMemory):
    roots = StillRoots


class Agreeable(MemberRound):
    """Agrees to whatever it is asked."""

    def agree(self, selection: Selection) -> MemberRound:
        return replace(self, selection=selection.to_bytes())


class AgreeableMemory(RunMemory):
    def member_round(self, run: str) -> MemberRound | None:
        held = super().member_round(run)
        return held and Agreeable(**vars(held))


class ForgetfulMemory(RunMemory):
    """Answers first and does not store to what it has agreed."""

    def keep_round(self, run: str, state: MemberRound) -> None:
        if not state.selection:
            super().keep_round(run, state)


class Talkative(MemberRound):
    """Gives every share that it has of its own secrets."""

    def reveal(self, boxes: Sequence[bytes]) -> tuple[MemberRound, bytes]:
        state, shares = super().reveal(boxes)
        return state, shares + self.own_shares[SHARE_LENGTH:]


class TalkativeMemory(RunMemory):
    def member_round(self, run: str) -> MemberRound | None:
        held = super().member_round(run)
        return held and Talkative(**vars(held))


class UnconcernedMemory(RunMemory):
    """Does not remember whose sum it has opened before."""

    def opened(self, manifest: Manifest) -> tuple[tuple[str, ...], ...]:
        return ()


class CredulousAdmission(Admission):
    """Needs nobody's agreement before it gives shares."""

    def readmit(self, opened: OpenedRequest) -> Terms:
        terms = super().readmit(opened)
        if opened.stage is not Stage.REVEAL or not isinstance(terms.plan.aggregation, SecureAggregation):
            return terms
        none = terms.plan.aggregation.model_copy(update={"threshold": 0})
        return replace(terms, plan=terms.plan.model_copy(update={"aggregation": none}))


def credulous(state: NodeState, **parts: Any) -> InstitutionWorker:
    worker = as_shipped(state, **parts)
    worker._stages._admission = CredulousAdmission(**vars(worker._stages._admission))
    return worker


class CarelessWorker(InstitutionWorker):
    """Does not compare its ledger with what the coordinator has seen of it."""

    def _check_ledger(self, manifest: Manifest) -> None:
        pass


class BlindMemory(RunMemory):
    """Does not remember the coordinator's log: that, too, tells a member that its disk is an old one."""

    def witnessed(self, run: str) -> WitnessState:
        return FIRST_SIGHT


def careless(state: NodeState, **parts: Any) -> InstitutionWorker:
    worker = with_memory(BlindMemory)(state, **parts)
    worker.__class__ = CarelessWorker
    return worker


class FreeSums:
    """Releases without a charge."""

    def __init__(self, *, institution: InstitutionId, ledger: PrivacyLedger, entropy: Callable[[int], bytes]) -> None:
        self._institution = institution

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        return lanes_of(self._institution, manifest, context.family.lanes)


class DoubleSums(OneHotSums):
    """Counts itself twice."""

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        doubled: Integers = 2 * super().of(manifest, context, weights)
        return doubled


# --- the coordinator -------------------------------------------------------------------------------------------------


class LeavesPairMasks(AggregatorRound):
    """Takes out the members' own masks, and not those that they have in common with who is missing."""

    def open(self) -> OpenedSum:
        opened = super().open()
        values = opened.values.copy()
        for (_, other), seed in opened.seeds.items():
            if other is not None:
                values += KeyStream(seed).bytes(4 * values.size).view("<i4")
        return replace(opened, values=values)


class SilentRun(FederatedRun):
    """Does not name the last of those whose numbers are in the sum."""

    def _attempt(self, *args: Any) -> RoundResult:
        result = super()._attempt(*args)
        result.contributors.pop()
        return result


def _aggregating_with(kind: type[AggregatorRound]) -> type[FederatedRun]:
    class Asking(Exchange):
        def ask(self, question: Question, result: RoundResult, **options: Any) -> float:
            if question.stage is Stage.REVEAL:
                question.settled.__self__._sum.__class__ = kind  # type: ignore[attr-defined]
            return super().ask(question, result, **options)

    class Run(FederatedRun):
        def __init__(self, **parts: Any) -> None:
            super().__init__(**parts)
            self._engine._exchange.__class__ = Asking

    return Run


class HopefulRun(FederatedRun):
    """Goes on with another model after an attempt that has failed."""

    def _attempt(self, *args: Any) -> RoundResult:
        try:
            return super()._attempt(*args)
        except FedcreditError:
            self._state = replace(self._state, weights=self._state.weights + np.float64(0.5))
            raise


def _summing_with(sums: Any) -> Callable[..., InstitutionWorker]:
    def build(state: NodeState, **parts: Any) -> InstitutionWorker:
        return assemble_worker(state=state, make_sums=sums, **parts)

    return build


SHOWS_BOTH = Product(wrap=lambda federation, inner: TwoFaced(federation, inner, apart=False))
SHOWS_ONE_EACH = Product(wrap=lambda federation, inner: TwoFaced(federation, inner, apart=True))

UNBOUND_MASKS = Product(worker=with_memory(UnboundMemory))
NO_RATCHET = Product(worker=with_memory(StillMemory))
PAIR_MASKS_LEFT = Product(run=_aggregating_with(LeavesPairMasks))
ONE_NOT_NAMED = Product(run=SilentRun)
AGREES_TWICE = replace(SHOWS_BOTH, worker=with_memory(AgreeableMemory))
ANSWERS_BEFORE_STORING = replace(SHOWS_BOTH, worker=with_memory(ForgetfulMemory))
NO_AGREEMENT_CHECK = replace(SHOWS_ONE_EACH, worker=credulous)
BOTH_KINDS = Product(worker=with_memory(TalkativeMemory))
ANY_DIFFERENCE = Product(worker=with_memory(UnconcernedMemory))
NO_CHARGE = Product(worker=_summing_with(FreeSums))
COUNTED_TWICE = Product(worker=_summing_with(DoubleSums))
OLD_LEDGER_ACCEPTED = Product(worker=careless)
MODEL_CHANGED_ON_ABORT = Product(run=HopefulRun)
