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
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.noise_share import draw_noise, streams_for
from fedcredit.privacy.plan import HOLDOUT, TRAIN, PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.families import LocalComputation, ModelFamily, model_family
from fedcredit.training.integer_sum import IntegerSum

LOG: Final = logging.getLogger("fedcredit.institution")
RECORDED_UNREADABLE: Final = 100
"""Requests that did not open and are recorded, per start: they need no key, and must not fill the ledger's disk."""
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is computed once per run: the model, the split, and the local computation over the training part."""

    terms: Terms
    family: ModelFamily
    split: Split
    computation: LocalComputation
    privacy: PrivacyPlan


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
        self._prepared: dict[str, Preparation] = {}
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
        terms = self._admission.admit(opened)
        prepared = self._prepare(manifest.run, terms)
        weights = weights_from_bytes(opened.request.weights, count=prepared.family.layout.size)
        answer = self._answer(opened, prepared, weights)
        sealed = seal_answer(
            answer,
            manifest=manifest,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
            length=answer_length(prepared.family.layout.size),
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

    def _answer(self, opened: OpenedRequest, prepared: Preparation, weights: npt.NDArray[np.float64]) -> Answer:
        if opened.manifest.purpose == Purpose.EVALUATE:
            return CountsAnswer(
                manifest_digest=opened.manifest_digest, lanes=self._counts(opened.manifest, prepared, weights)
            )
        return TrainAnswer(
            manifest_digest=opened.manifest_digest, lanes=self._gradient(opened.manifest, prepared, weights)
        )

    def _gradient(self, manifest: Manifest, prepared: Preparation, weights: npt.NDArray[np.float64]) -> bytes:
        bound = prepared.computation.sensitivity_squared
        if bound is None and prepared.privacy.mechanism is not Mechanism.NONE:
            raise PrivacyPlanError(problem="this training has no bound on what one borrower can change")
        release = prepared.privacy.training_release(
            release_id=_release_id(manifest),
            sensitivity_squared=bound or 0,
            dimension=prepared.computation.dimension,
        )
        noise = self._reserved_noise(release, manifest, prepared.privacy)
        total: IntegerSum = prepared.computation.integer_sum(weights)
        released = total.values.copy()
        released[total.trained] += noise
        return _lanes(released)

    def _counts(self, manifest: Manifest, prepared: Preparation, weights: npt.NDArray[np.float64]) -> bytes:
        # One borrower is one held-out record and falls into exactly one cell.
        release = prepared.privacy.evaluation_release(
            release_id=_release_id(manifest), sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS
        )
        noise = self._reserved_noise(release, manifest, prepared.privacy)
        holdout = prepared.split.holdout
        scores = prepared.family.probabilities(weights, holdout)
        counts = count_scores(scores, holdout.labels, score_edges(prepared.terms.plan.model.base_rate)).to_lanes()
        return _lanes(counts * COUNT_GRID + noise)

    def _reserved_noise(self, release: Release, manifest: Manifest, privacy: PrivacyPlan) -> Integers:
        """Charge the release on disk, then draw its noise; nothing private has been computed for it yet."""
        allowed = {TRAIN: privacy.steps, HOLDOUT: privacy.evaluation_steps}[release.partition]
        if self._ledger.charges(run=manifest.run, partition=release.partition) >= allowed:
            raise PolicyError(reason="the plan's epsilon pays for no further release in this run")
        reservation = self._ledger.reserve(release)
        if reservation.repeated:
            raise ReplayError(
                round=manifest.round, attempt=manifest.attempt, reason="it was charged before and its answer is lost"
            )
        place = f"{self._institution}/{manifest.round}/{manifest.purpose}"
        return draw_noise(reservation, streams_for(release, test_place=place, entropy=self._entropy))

    def _prepare(self, run: str, terms: Terms) -> Preparation:
        known = self._prepared.get(run)
        if known is None or known.terms != terms:
            plan = terms.plan
            split = self._holdings.split(plan)
            family = model_family(plan, model_inputs(self._holdings.contract))
            known = Preparation(
                terms=terms,
                family=family,
                split=split,
                computation=family.computation(plan, self._institution, split.train),
                privacy=privacy_plan(plan),
            )
            self._prepared = {run: known}
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
        refusal = Refusal(manifest_digest=digest, code=error.code)
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
        prepared = self._prepared.get(run)
        return seal_answer(
            refusal,
            manifest=opened.manifest,
            institution=self._institution,
            keys=self._keys,
            coordinator=self._coordinator,
            length=answer_length(prepared.family.layout.size if prepared else len(opened.request.weights) // 8),
        )


def _release_id(manifest: Manifest) -> str:
    return f"{manifest.run}/{manifest.round}/{manifest.attempt}/{manifest.purpose}"


def _lanes(values: Integers) -> bytes:
    try:
        return to_lanes(values)
    except OverflowError as error:
        raise NoiseRangeError(problem="a noised sum exceeds 32-bit lanes") from error
