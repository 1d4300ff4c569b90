"""What an institution releases in a round, before it is masked: an integer sum over its borrowers, and its noise.

The order is the guarantee: **the charge is on disk**, then noise is drawn, then anything private is computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedcredit.config.plan import RunPlan
from fedcredit.contract import Contract
from fedcredit.crypto.streams import KeyStream
from fedcredit.data.inputs import model_inputs
from fedcredit.errors import NoiseRangeError, PolicyError, PrivacyPlanError, ReplayError, WrongContextError
from fedcredit.evaluation import count_scores, score_edges
from fedcredit.institution.holdings import Holdings, Split
from fedcredit.institution.memory import Terms
from fedcredit.messages import COUNT_GRID, SCORE_BINS, Manifest, Purpose, weights_to_bytes
from fedcredit.parties import InstitutionId
from fedcredit.privacy.batches import poisson_batch
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.noise_share import draw_noise, streams_for
from fedcredit.privacy.plan import PrivacyPlan
from fedcredit.privacy.release import Mechanism, Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.families import LocalComputation, ModelFamily, model_family
from fedcredit.training.integer_sum import IntegerSum, SumBounds
from fedcredit.training.plan_review import lane_limits
from fedcredit.training.update_bound import UpdateBound, charged, clamp, require_alike, update_bounds

Integers = npt.NDArray[np.int64]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """What is computed once per run: the model, the split, and the local computation over the training part."""

    terms: Terms
    family: ModelFamily
    split: Split
    computation: LocalComputation
    privacy: PrivacyPlan
    limits: Mapping[Purpose, float]
    """Largest magnitude that this institution may send: the room that the plan counts on."""
    bounds: SumBounds
    """Of its training sums as they leave, shortened where the plan bounds updates; the noise is made for them."""
    widest: Widest | None
    """What bounds every member's sum in the first round, and never widens; ``None`` where the plan bounds nothing."""

    @classmethod
    def make(cls, terms: Terms, holdings: Holdings) -> RunContext:
        """Return the context of a run of an admitted plan."""
        plan, contract, split = terms.plan, holdings.contract, holdings.split(terms.plan)
        family, name = plan_family(terms, contract), holdings.institution
        own = family.bounds(plan, name)
        return cls(
            terms=terms,
            family=family,
            split=split,
            computation=family.computation(plan, name, split.train),
            privacy=privacy_plan(plan),
            limits=lane_limits(plan, contract, name),
            bounds=charged(plan, own),
            widest=_widest(_Public(plan, contract, terms.plan_digest, contract.digest()))
            if plan.bounds_updates
            else None,
        )

    @cached_property
    def initial_digest(self) -> bytes:
        """Return the digest of the weights that the plan begins with."""
        return hashlib.sha256(weights_to_bytes(self.family.initial_weights())).digest()

    @cached_property
    def training_step(self) -> Release:
        """Return the release of every training round but for its name: the noise is calibrated once."""
        return self.privacy.training_release(
            release_id="any",
            sensitivity_squared=self.bounds.sensitivity_squared or 0,
            dimension=int(self.bounds.reached.sum()),
        )

    def update_bound(self, manifest: Manifest, institution: InstitutionId) -> UpdateBound | None:
        """Return what bounds the institution's sum in a training round; ``None`` where nothing does.

        ``admission`` has counted the radii. Any radius is private for borrowers, but not for the institution: a sum to
        which the others may add nothing is its update. So in the first round all radii follow from the plan, and later
        all are the same part of those.

        Raises:
            WrongContextError: the radii are not such that the plan can have.
        """
        if self.widest is None or manifest.purpose != Purpose.TRAIN:
            return None
        bounds = _bounds_in(manifest.cohort, manifest.radii, self.widest, first_round=manifest.round == 1)
        return bounds[institution]


@dataclass(frozen=True, eq=False)
class Widest:
    """The first round's bounds of every member of one plan."""

    bounds: Mapping[InstitutionId, UpdateBound]


@dataclass(frozen=True)
class _Public:
    """What all members of a run have in common; equal digests mean equal content."""

    plan: RunPlan = field(compare=False)
    contract: Contract = field(compare=False)
    plan_digest: bytes
    contract_digest: bytes


@lru_cache(maxsize=8)
def _widest(public: _Public) -> Widest:
    """Compute the first round's bounds once for all members in a process: they grow with the cohort.

    Members of one size and the same modalities have the same bounds.
    """
    plan, family = public.plan, model_family(public.plan, model_inputs(public.contract))
    known: dict[tuple[int, tuple[str, ...]], SumBounds] = {}
    bounds = {}
    for name, borrowers in plan.expected_borrowers().items():
        alike = borrowers, plan.modalities(name)
        bounds[name] = known.setdefault(alike, known.get(alike) or family.bounds(plan, name))
    return Widest(update_bounds(plan, bounds, bounds=bounds, previous=None))


@lru_cache(maxsize=8)
def _bounds_in(
    cohort: tuple[str, ...], radii: tuple[int, ...], widest: Widest, *, first_round: bool
) -> Mapping[InstitutionId, UpdateBound]:
    """Return every member's bound in a manifest with these radii; in one process all members check the same one.

    Raises:
        WrongContextError: as ``RunContext.update_bound``.
    """
    blocks = widest.bounds[InstitutionId(cohort[0])].blocks
    bounds = {
        InstitutionId(name): UpdateBound(blocks=blocks, radii=radii[place * len(blocks) : (place + 1) * len(blocks)])
        for place, name in enumerate(cohort)
    }
    if first_round and any(bound != widest.bounds[name] for name, bound in bounds.items()):
        raise WrongContextError(what="round manifest", field="radii")
    require_alike(bounds, widest.bounds)
    return MappingProxyType(bounds)


def plan_family(terms: Terms, contract: Contract) -> ModelFamily:
    """Return the model family of an admitted plan, which names this contract."""
    return model_family(terms.plan, model_inputs(contract))


class Sums(Protocol):
    """What the stages of a round ask for numbers; masks, agreement and shares do not care what they mean."""

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        """Return the numbers that leave in one round, shape (lanes of the purpose,); what they cost is charged."""
        ...


class MakeSums(Protocol):
    """Makes the ``Sums`` of one institution over its opened ledger."""

    def __call__(self, *, institution: InstitutionId, ledger: PrivacyLedger, entropy: Callable[[int], bytes]) -> Sums:
        """Return them."""
        ...


class NoisedSums:
    """Makes the releases of one institution."""

    def __init__(self, *, institution: InstitutionId, ledger: PrivacyLedger, entropy: Callable[[int], bytes]) -> None:
        self._institution = institution
        self._ledger = ledger
        self._entropy = entropy

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        """Return the noised numbers of one round, shape (lanes of the purpose,); of a closing, counts for the own vote.

        Raises:
            BudgetExhaustedError and others of ``PrivacyLedger.reserve``: nothing was computed.
            PolicyError: the plan pays for no further release of this kind.
            NoiseRangeError: a number exceeds the plan's room; there are far more borrowers than the plan says.
            ReplayError: this release was charged before, and a crash lost its answer.
        """
        purposes = {
            Purpose.PREPARE: self._histogram,
            Purpose.TRAIN: self._gradient,
            Purpose.EVALUATE: self._counts,
            Purpose.CLOSE: self._counts_for_a_vote,
        }
        purpose = Purpose(manifest.purpose)
        values = purposes[purpose](manifest, context, weights)
        # Nobody adds up the counts for a vote, so no lane has to hold them.
        furthest = max(int(values.max(initial=0)), -int(values.min(initial=0)))
        if purpose is not Purpose.CLOSE and furthest > context.limits[purpose]:
            raise NoiseRangeError(problem="a noised sum exceeds what the plan has room for")
        return values

    def _histogram(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        family, plan = context.family, context.terms.plan
        bounds = family.preparation_bounds(plan, self._institution)
        if not bounds.reached.any():
            # Zeros that anybody can foretell: nothing is released, so nothing is charged.
            return np.zeros(bounds.reached.size, dtype=np.int64)
        release = context.privacy.preparation_release(
            release_id=_release_id(manifest),
            sensitivity_squared=bounds.sensitivity_squared or 0,
            dimension=int(bounds.reached.sum()),
        )
        noise = self._reserved_noise(release, manifest, context.privacy)
        total = family.preparation(context.split.train).integer_sum(weights, round_number=0, batch=None)
        return _with_noise(total, bounds, noise)

    def _gradient(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        bounds, limit = context.bounds, context.update_bound(manifest, self._institution)
        if bounds.sensitivity_squared is None and context.privacy.mechanism is not Mechanism.NONE:
            raise PrivacyPlanError(problem="this training has no bound on what one borrower can change")
        release = replace(context.training_step, release_id=_release_id(manifest))
        noise = self._reserved_noise(release, manifest, context.privacy)
        batch = poisson_batch(
            self._stream(release, manifest, "batch"),
            sampled_per_million=release.sampled_per_million,
            records=len(context.split.train),
        )
        total = context.computation.integer_sum(weights, round_number=manifest.round, batch=batch)
        return _with_noise(total if limit is None else clamp(total, limit), bounds, noise)

    def _counts(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        return self._noised_counts(manifest, context, weights, make=context.privacy.evaluation_release)

    def _counts_for_a_vote(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        return self._noised_counts(manifest, context, weights, make=context.privacy.vote_release)

    def _noised_counts(
        self, manifest: Manifest, context: RunContext, weights: Vector, *, make: Callable[..., Release]
    ) -> Integers:
        # One borrower is one held-out record and falls into exactly one cell.
        release = make(release_id=_release_id(manifest), sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS)
        noise = self._reserved_noise(release, manifest, context.privacy)
        holdout = context.split.holdout
        scores = context.family.probabilities(weights, holdout)
        counts = count_scores(scores, holdout.labels, score_edges(context.terms.plan.model.base_rate)).to_lanes()
        released: Integers = counts * COUNT_GRID + noise
        return released

    def _reserved_noise(self, release: Release, manifest: Manifest, privacy: PrivacyPlan) -> Integers:
        """Charge the release on disk, then draw its noise; nothing private has been computed for it yet."""
        purpose = Purpose(manifest.purpose)
        allowed = {
            Purpose.PREPARE: privacy.preparation_steps,
            Purpose.TRAIN: privacy.steps,
            Purpose.EVALUATE: privacy.evaluation_steps,
            Purpose.CLOSE: privacy.evaluation_steps,
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


def _release_id(manifest: Manifest) -> str:
    return f"{manifest.run}/{manifest.round}/{manifest.attempt}/{manifest.purpose}"


def _with_noise(total: IntegerSum, bounds: SumBounds, noise: Integers) -> Integers:
    """Return the released numbers: noise on every number that the institution's borrowers can move."""
    if total.values[~bounds.reached].any():
        raise PrivacyPlanError(problem="a sum reaches numbers that carry no noise")
    if bounds.reached.all():
        return np.add(total.values, noise, out=noise)  # nobody else has it, and a long one is not copied
    released = total.values.copy()
    released[bounds.reached] += noise
    return released
