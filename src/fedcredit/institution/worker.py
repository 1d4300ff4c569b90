"""The institution's answer to one request: bytes in, bytes out, one guard around everything.

After reading ``handle`` and ``_answer`` you can retell the institution's side of a round: open and verify, repeat a
stored answer, admit or refuse, **reserve the release on disk**, compute, add noise, store the answer, reply.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from fedcredit.audit.log import AuditLog, EventKind
from fedcredit.crypto.keys import IdentityKeys, PublicIdentity
from fedcredit.crypto.streams import KeyStream
from fedcredit.data.inputs import model_inputs
from fedcredit.envelope import OpenedRequest, open_request, seal_answer, seal_unreadable
from fedcredit.errors import (
    FedcreditError,
    InternalError,
    NoiseRangeError,
    PolicyError,
    PrivacyPlanError,
    ReplayError,
)
from fedcredit.evaluation import count_scores, score_edges
from fedcredit.institution.admission import Admission, Terms
from fedcredit.institution.holdings import Holdings, Split
from fedcredit.messages import (
    COUNT_GRID,
    NO_HEAD,
    SCORE_BINS,
    Answer,
    CountsAnswer,
    Manifest,
    Purpose,
    Refusal,
    TrainAnswer,
    answer_length,
    to_lanes,
    weights_from_bytes,
)
from fedcredit.privacy.batches import poisson_batch
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.noise_share import draw_noise, streams_for
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.families import LocalComputation, ModelFamily, model_family
from fedcredit.training.integer_sum import IntegerSum, SumBounds

LOG: Final = logging.getLogger("fedcredit.institution")
RECORDED_UNREADABLE: Final = 100
"""Requests that did not open and are recorded, per start: they need no key, and must not fill the ledger's disk."""
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What is computed once per run: the model, the split, and the local computation over the training part."""

    terms: Terms
    family: ModelFamily
    split: Split
    computation: LocalComputation
    privacy: PrivacyPlan

    @property
    def answer_length(self) -> int:
        """The one length of all answers of the run."""
        return answer_length(max(self.family.lanes, self.family.preparation_lanes))


class InstitutionWorker:
    """Answers the coordinator's requests for one institution."""

    def __init__(
        self,
        *,
        consortium: str,
        holdings: Holdings,
        keys: IdentityKeys,
        coordinator: PublicIdentity,
        admission: Admission,
        ledger: PrivacyLedger,
        audit: AuditLog,
        entropy: Callable[[int], bytes],
    ) -> None:
        self._consortium = consortium
        self._holdings = holdings
        self._institution = holdings.institution
        self._keys = keys
        self._coordinator = coordinator
        self._admission = admission
        self._memory = admission.memory
        self._ledger = ledger
        self._audit = audit
        self._entropy = entropy
        self._contexts: dict[str, RunContext] = {}
        self._one_at_a_time = threading.Lock()
        self._unreadable = 0

    def handle(self, request: bytes) -> bytes:
        """Answer one request; never raises. A failure leaves as a code, its text stays in the institution's log."""
        opened: OpenedRequest | None = None
        # One at a time: the charge, the answer and its log line belong together.
        with self._one_at_a_time:
            try:
                opened = self._open(request)
                return self._reply(opened)
            except FedcreditError as error:
                return self._refuse(error, request, opened)
            except Exception as error:  # noqa: BLE001 - the guard around everything
                # Neither the wire nor the log gets the text of an unforeseen error: it could quote a cell.
                LOG.error("internal error of type %s while answering a request", type(error).__name__)
                return self._refuse(InternalError(kind=type(error).__name__), request, opened)

    def _open(self, request: bytes) -> OpenedRequest:
        return open_request(
            request,
            consortium=self._consortium,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
        )

    def _reply(self, opened: OpenedRequest) -> bytes:
        manifest = opened.manifest
        stored = self._memory.answer_to(opened.manifest_digest, run=manifest.run)
        if stored is not None:
            return stored
        self._check_ledger(manifest)
        terms = self._admission.admit(opened)
        context = self._context_of(manifest.run, terms)
        weights = weights_from_bytes(opened.request.weights, count=context.family.layout.size)
        answer = self._answer(opened, context, weights)
        sealed = seal_answer(
            answer,
            manifest=manifest,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
            length=context.answer_length,
        )
        self._remember(opened, sealed)
        return sealed

    def _remember(self, opened: OpenedRequest, sealed: bytes) -> None:
        """Store the answer and its log line durably and together, before anything is sent."""
        manifest = opened.manifest
        with self._audit.together():
            self._memory.remember_answer(manifest, opened.manifest_digest, sealed)
            self._audit.record(
                EventKind.REQUEST_ANSWERED,
                run=manifest.run,
                round=manifest.round,
                attempt=manifest.attempt,
                purpose=manifest.purpose,
                manifest=opened.manifest_digest,
                answer=hashlib.sha256(sealed).digest(),
            )

    def _answer(self, opened: OpenedRequest, context: RunContext, weights: npt.NDArray[np.float64]) -> Answer:
        answers = {Purpose.PREPARE: self._histogram, Purpose.TRAIN: self._gradient, Purpose.EVALUATE: self._counts}
        purpose = Purpose(opened.manifest.purpose)
        lanes = answers[purpose](opened.manifest, context, weights)
        kind = TrainAnswer if purpose is Purpose.TRAIN else CountsAnswer
        return kind(manifest_digest=opened.manifest_digest, ledger_head=self._ledger.head, lanes=lanes)

    def _histogram(self, manifest: Manifest, context: RunContext, weights: npt.NDArray[np.float64]) -> bytes:
        family, plan = context.family, context.terms.plan
        bounds = family.preparation_bounds(plan, self._institution)
        if not bounds.reached.any():
            # Zeros that anybody can foretell: nothing is released, so nothing is charged.
            return _lanes(np.zeros(bounds.reached.size, dtype=np.int64))
        release = context.privacy.preparation_release(
            release_id=_release_id(manifest),
            sensitivity_squared=bounds.sensitivity_squared or 0,
            dimension=int(bounds.reached.sum()),
        )
        noise = self._reserved_noise(release, manifest, context.privacy)
        total = family.preparation(context.split.train).integer_sum(weights, round_number=0, batch=None)
        return _lanes(_with_noise(total, bounds, noise))

    def _gradient(self, manifest: Manifest, context: RunContext, weights: npt.NDArray[np.float64]) -> bytes:
        bounds = context.family.bounds(context.terms.plan, self._institution)
        if bounds.sensitivity_squared is None and context.privacy.mechanism is not Mechanism.NONE:
            raise PrivacyPlanError(problem="this training has no bound on what one borrower can change")
        release = context.privacy.training_release(
            release_id=_release_id(manifest),
            sensitivity_squared=bounds.sensitivity_squared or 0,
            dimension=int(bounds.reached.sum()),
        )
        noise = self._reserved_noise(release, manifest, context.privacy)
        batch = poisson_batch(
            self._stream(release, manifest, "batch"),
            sampled_per_million=release.sampled_per_million,
            records=len(context.split.train),
        )
        total = context.computation.integer_sum(weights, round_number=manifest.round, batch=batch)
        return _lanes(_with_noise(total, bounds, noise))

    def _counts(self, manifest: Manifest, context: RunContext, weights: npt.NDArray[np.float64]) -> bytes:
        # One borrower is one held-out record and falls into exactly one cell.
        release = context.privacy.evaluation_release(
            release_id=_release_id(manifest), sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
        )
        noise = self._reserved_noise(release, manifest, context.privacy)
        holdout = context.split.holdout
        scores = context.family.probabilities(weights, holdout)
        counts = count_scores(scores, holdout.labels, score_edges(context.terms.plan.model.base_rate)).to_lanes()
        return _lanes(counts * COUNT_GRID + noise)

    def _reserved_noise(self, release: Release, manifest: Manifest, privacy: PrivacyPlan) -> Integers:
        """Charge the release on disk, then draw its noise; nothing private has been computed for it yet."""
        purpose = Purpose(manifest.purpose)
        allowed = {
            Purpose.PREPARE: privacy.preparation_steps,
            Purpose.TRAIN: privacy.steps,
            Purpose.EVALUATE: privacy.evaluation_steps,
        }[purpose]
        if self._ledger.charges(run=manifest.run, partition=release.partition, kind=str(purpose)) >= allowed:
            raise PolicyError(reason="the plan's epsilon pays for no further release in this run")
        reservation = self._ledger.reserve(release, plan_digest=manifest.plan_digest)
        if reservation.repeated:
            raise ReplayError(
                round=manifest.round, attempt=manifest.attempt, reason="it was charged before and its answer is lost"
            )
        return draw_noise(reservation, self._stream(release, manifest, "noise"))

    def _stream(self, release: Release, manifest: Manifest, use: str) -> KeyStream:
        place = f"{self._institution}/{manifest.round}/{manifest.purpose}/{use}"
        return streams_for(release, test_place=place, entropy=self._entropy)

    def _check_ledger(self, manifest: Manifest) -> None:
        """Refuse if the coordinator has seen a head that the ledger lacks: it was set back, and has forgotten charges.

        Raises:
            LedgerRolledBackError: it lacks the head.
        """
        head = dict(zip(manifest.cohort, manifest.ledger_heads, strict=False)).get(self._institution, NO_HEAD)
        if head != NO_HEAD:
            self._ledger.require_head(head)

    def _context_of(self, run: str, terms: Terms) -> RunContext:
        known = self._contexts.get(run)
        if known is None or known.terms != terms:
            plan = terms.plan
            split = self._holdings.split(plan)
            family = model_family(plan, model_inputs(self._holdings.contract))
            known = RunContext(
                terms=terms,
                family=family,
                split=split,
                computation=family.computation(plan, self._institution, split.train),
                privacy=privacy_plan(plan),
            )
            self._contexts = {run: known}
        return known

    def _worth_recording(self, opened: OpenedRequest | None) -> bool:
        """Record every refusal of the coordinator's requests, but only so many of bytes that anybody can send."""
        if opened is not None:
            return True
        self._unreadable += 1
        return self._unreadable <= RECORDED_UNREADABLE

    def _refuse(self, error: FedcreditError, request: bytes, opened: OpenedRequest | None) -> bytes:
        LOG.warning("%s %s", error.code, error)
        digest = opened.manifest_digest if opened else hashlib.sha256(request).digest()
        run = opened.manifest.run if opened else ""
        refusal = Refusal(manifest_digest=digest, ledger_head=self._ledger.head, code=error.code)
        try:
            if self._worth_recording(opened):
                self._audit.record(EventKind.REQUEST_REFUSED, run=run, code=error.code, manifest=digest)
        except FedcreditError as storage_error:
            # The refusal still leaves: nothing was computed, and the coordinator must not wait.
            LOG.error("%s %s", storage_error.code, storage_error)
        except Exception as unforeseen:  # noqa: BLE001 - neither may what nobody foresaw keep the refusal here
            LOG.error("internal error of type %s while logging a refusal", type(unforeseen).__name__)
        if opened is None:
            return seal_unreadable(
                refusal,
                consortium=self._consortium,
                institution=self._institution,
                keys=self._keys,
                coordinator=self._coordinator,
            )
        context = self._contexts.get(run)
        return seal_answer(
            refusal,
            manifest=opened.manifest,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
            length=context.answer_length if context else answer_length(len(opened.request.weights) // 8),
        )


def _release_id(manifest: Manifest) -> str:
    return f"{manifest.run}/{manifest.round}/{manifest.attempt}/{manifest.purpose}"


def _with_noise(total: IntegerSum, bounds: SumBounds, noise: Integers) -> Integers:
    """Return the released numbers: noise on every number that the institution's borrowers can move."""
    if total.values[~bounds.reached].any():
        raise PrivacyPlanError(problem="a sum reaches numbers that carry no noise")
    released = total.values.copy()
    released[bounds.reached] += noise
    return released


def _lanes(values: Integers) -> bytes:
    try:
        return to_lanes(values)
    except OverflowError as error:
        raise NoiseRangeError(problem="a noised sum exceeds 32-bit lanes") from error
