"""What leaves institutions, by fedcredit's own steps: clip → grid → reserve in the ledger → draw noise → lanes.

``InstitutionWorker`` takes the same steps behind seals and admission; here they run alone, so that an attack of many
rounds fits into a second. ``attacked_plan``, ``made_release`` and the ledger of ``AttackedInstitution`` are the only
places that know what plans, releases and ledgers are made of.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from attacks.german import MODALITY
from consortium import plan_of
from numpy.typing import NDArray

from fedcredit.config.plan import MIN_HONEST_SHARES, RunPlan
from fedcredit.data.table import CreditTable
from fedcredit.messages import from_lanes, to_lanes
from fedcredit.parties import InstitutionId
from fedcredit.privacy.ledger import PrivacyLedger
from fedcredit.privacy.noise_share import draw_noise, streams_for
from fedcredit.privacy.release import Release
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.privacy.spending import BudgetCap
from fedcredit.store.database import Database
from fedcredit.store.journal import Journal
from fedcredit.training.families import LocalComputation, ModelFamily
from fedcredit.training.integer_sum import SumBounds

LARGEST_POLICY_EPSILON = 8.0
"""QUALITY.md, section 6: nobody should go above. All of it in one release is the least noise a borrower can get."""
NO_NOISE = float("inf")
"""The epsilon of the control: the same clipping, grid, ledger and lanes, and no noise."""
FINE_GRID = 1 << 14
"""So many integer steps per clip bound that rounding alone hides nothing; the controls prove it."""
Integers = NDArray[np.int64]
Vector = NDArray[np.float64]


def attacked_plan(
    *, epsilon: float, rounds: int, borrowers: Mapping[str, int], quorum: int | None = None, **changes: Any
) -> RunPlan:
    """Return a plan whose ``rounds`` releases share ``epsilon`` (``NO_NOISE`` for none); ``borrowers`` are public.

    Where enough institutions take part they share the noise, and the attacker sees sums only: the least noise that a
    plan allows.
    """
    institutions = {
        f"institutions/{name}": {"kind": "bank", "expected_borrowers": count, "modalities": [MODALITY]}
        for name, count in borrowers.items()
    }
    quorum = quorum or len(borrowers)
    off, shared = math.isinf(epsilon), quorum >= MIN_HONEST_SHARES
    privacy = {
        "privacy/mechanism": "none" if off else "rounded-gaussian",
        "privacy/accountant": "none" if off else "gdp",
        "privacy/noise": "shared" if shared and not off else "local",
        "privacy/colluders": 0,
        "privacy/sampling": "full-batch",
        "privacy/sampling_rate": 1.0,
        "privacy/preparation_share": 0.0,
        "privacy/epsilon": epsilon,
        "privacy/evaluation_epsilon": epsilon,
    }
    terms: dict[str, Any] = {"run/rounds": rounds, "rounds/retries": 0, "rounds/quorum": quorum}
    if privacy["privacy/noise"] == "shared":
        # The attacker gets the sum alone, so a share is never read bare here.
        threshold = max(quorum, len(borrowers) // 2 + 1)
        terms["aggregation"] = {"kind": "secure", "threshold": threshold, "lane_bits": 32, "update_bound": "none"}
    return plan_of((), **{**institutions, **privacy, **terms, **changes})


def made_release(plan: RunPlan, bounds: SumBounds, release_id: str) -> Release:
    """Return the release of one training sum under ``plan``."""
    return privacy_plan(plan).training_release(
        release_id=release_id,
        sensitivity_squared=bounds.sensitivity_squared or 0,
        dimension=int(bounds.reached.sum()),
    )


class AttackedInstitution:
    """One institution with a ledger of its own; ``seed`` stands for its operating system's entropy."""

    def __init__(self, computation: LocalComputation, bounds: SumBounds, plan: RunPlan, *, seed: str) -> None:
        self._computation = computation
        self._bounds = bounds
        self._plan = plan
        self._plan_digest = plan.digest()
        self._seed = seed
        self._rounds = 0
        self._ledger = PrivacyLedger(
            Journal(Database.in_memory(), "privacy"),
            place="attacked ledger",
            owner=InstitutionId("attacked"),
            caps={"train": BudgetCap(epsilon=min(plan.privacy.epsilon, 100.0), delta=plan.privacy.delta)},
            allow_no_privacy=plan.privacy.mechanism == "none",
            allow_fixed_noise=False,
            clock=lambda: 0.0,
            entropy=os.urandom,
        )

    @classmethod
    def of(cls, family: ModelFamily, plan: RunPlan, name: InstitutionId, table: CreditTable, *, seed: str) -> Self:
        """Return the institution ``name`` that holds ``table`` and trains as the plan says."""
        return cls(family.computation(plan, name, table), family.bounds(plan, name), plan, seed=seed)

    def answer(self, weights: Vector) -> Integers:
        """Return the integers that leave in the next round, asked at ``weights``; shape (lanes,)."""
        self._rounds += 1
        release = made_release(self._plan, self._bounds, f"run/{self._rounds}/1/train")
        reservation = self._ledger.reserve(release, plan_digest=self._plan_digest)
        noise = draw_noise(reservation, streams_for(release, test_place="unused", entropy=self._entropy))
        released = self.secret_sum(weights)
        released[self._bounds.reached] += noise
        return from_lanes(to_lanes(released), what="answer", count=released.size)

    def secret_sum(self, weights: Vector) -> Integers:
        """Return what the next answer is before noise, shape (lanes,): for a test to compare with, never to attack."""
        return self._computation.integer_sum(weights, round_number=max(1, self._rounds), batch=None).values.copy()

    def tpr_ceiling(self, false_positive_rate: float) -> float:
        """Return what no membership test may exceed, by what the ledger says was spent."""
        return self._ledger.spent("train").tpr_ceiling(fpr=false_positive_rate)

    def _entropy(self, count: int) -> bytes:
        return hashlib.shake_256(f"{self._seed}/{self._rounds}".encode()).digest(count)


def summed_answers(institutions: Iterable[AttackedInstitution], weights: Vector) -> Integers:
    """Return what the coordinator learns of a round if it sees the sum alone."""
    return np.sum([institution.answer(weights) for institution in institutions], axis=0, dtype=np.int64)
