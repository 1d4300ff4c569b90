"""The same lies as in ``poisoning``, told by members of a whole consortium: manifests, masks, ledgers, votes, evidence.

The liars' programs are ours; what lies is what they compute (or their table), so the bound holds for them too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from attacks.poisoning import (
    BACKDOOR,
    HOLDOUT,
    LABEL_FLIP,
    MEMBERS,
    NAMES,
    SPLIT_SEED,
    Consortium10,
    Integers,
    Vector,
    consortium10,
    poisoned,
    tables,
)
from consortium import Clock, Consortium, Site, keys_of
from kept_runs import opened_run

from fedcredit.config.plan import RunPlan
from fedcredit.data.datasets import load_dataset
from fedcredit.data.features import encode
from fedcredit.data.splits import holdout_mask
from fedcredit.data.table import CreditTable
from fedcredit.evaluation import rows
from fedcredit.institution.releases import RunContext, Sums
from fedcredit.lab.spreading import spread
from fedcredit.messages import Manifest, Purpose
from fedcredit.parties import InstitutionId, InstitutionType, Member, Roster
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.drive import drive
from fedcredit.rounds.voting import Verdict
from fedcredit.training.families import LocalComputation
from fedcredit.training.integer_sum import IntegerSum
from fedcredit.training.update_bound import UpdateBound, lane_blocks

SALT = "poisoning"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run ended."""

    auc: float
    """Over everybody's held-out borrowers."""
    weights: Vector
    verdict: Verdict
    folder: Path


@cache
def whole_tables() -> Mapping[InstitutionId, CreditTable]:
    """Return the whole table of each of ten institutions; ``poisoning.tables`` has them in parts."""
    dataset = spread(load_dataset("taiwan"), MEMBERS, seed=SPLIT_SEED)
    return {
        InstitutionId(name): encode(part.table, dataset.contract, list(part.modalities), place=name)
        for name, part in dataset.parts.items()
    }


@dataclass
class Computed:
    """What a lie is computed from: the honest sums of a round, which the liars know."""

    consortium: Consortium10
    attack: str
    liars: tuple[InstitutionId, ...]
    bounded: bool
    generator: np.random.Generator
    _computations: dict[InstitutionId, LocalComputation] = field(default_factory=dict)
    _known: dict[tuple[int, bytes], dict[InstitutionId, Integers]] = field(default_factory=dict)

    def honest(self, weights: Vector, number: int) -> dict[InstitutionId, Integers]:
        family, plan = self.consortium.family, self.consortium.plan
        if not self._computations:
            train, _ = tables()
            self._computations = {name: family.computation(plan, name, train[name]) for name in NAMES}
        place = (number, weights.tobytes())
        if place not in self._known:
            self._known = {
                place: {
                    name: computation.integer_sum(weights, round_number=number, batch=None).values
                    for name, computation in self._computations.items()
                }
            }
        return self._known[place]

    def lie(self, name: InstitutionId, own: Integers, weights: Vector, manifest: Manifest) -> Integers:
        sums = {**self.honest(weights, manifest.round), name: own}
        return self.consortium.lie(
            self.attack, sums, name, self.liars, self._limits(manifest), self.bounded, self.generator
        )

    def _limits(self, manifest: Manifest) -> dict[InstitutionId, UpdateBound]:
        blocks = lane_blocks(self.consortium.plan)
        radii = iter(manifest.radii or (0,) * len(blocks) * len(NAMES))
        return {name: UpdateBound(blocks=blocks, radii=tuple(next(radii) for _ in blocks)) for name in sorted(NAMES)}


@dataclass
class LyingComputation:
    """A computation whose result is made up."""

    inner: LocalComputation
    computed: Computed
    name: InstitutionId
    manifest: Manifest
    room: float
    """Largest number that its program lets out, noise aside: a liar keeps within it."""

    def integer_sum(self, weights: Vector, *, round_number: int, batch: Any) -> IntegerSum:
        own = self.inner.integer_sum(weights, round_number=round_number, batch=batch).values
        lie = self.computed.lie(self.name, own, weights, self.manifest)
        return IntegerSum(values=np.clip(lie, -int(self.room), int(self.room)))


@dataclass
class LyingSums:
    """The sums of a liar."""

    inner: Sums
    computed: Computed
    name: InstitutionId

    def of(self, manifest: Manifest, context: RunContext, weights: Vector) -> Integers:
        if manifest.purpose == Purpose.TRAIN:
            room = context.limits[Purpose.TRAIN] - 14 * self.computed.consortium.sigma
            lying = LyingComputation(context.computation, self.computed, self.name, manifest, room)
            context = replace(context, computation=lying)
        return self.inner.of(manifest, context, weights)


def wired_plan(*, bounded: bool, floor: float | str) -> RunPlan:
    """Return the plan of ``poisoning``, with votes."""
    plan = consortium10("scorecard").plan
    raw = plan.model_dump()
    raw["run"] |= {"holdout_salt": SALT, "holdout_fraction": HOLDOUT}
    raw["aggregation"]["update_bound"] = "share" if bounded else "none"
    raw["evaluation"] = {"vote_floor": floor, "vote_share": 0.0 if floor == "none" else 0.5}
    return RunPlan.model_validate(raw)


def run_with(
    folder: Path, attack: str | None, *, liars: int, bounded: bool = True, floor: float | str = 0.55, seed: int = 0
) -> Ended:
    """Run the whole protocol to its end while the first ``liars`` institutions attack."""
    consortium, lying = _consortium(folder, attack, liars, wired_plan(bounded=bounded, floor=floor)), NAMES[:liars]
    ten = consortium10("scorecard")
    if attack is not None:
        computed = Computed(ten, attack, lying, bounded, np.random.default_rng([seed, liars]))
        for name in lying:
            stages = consortium.sites[name].worker._stages
            stages._sums = LyingSums(stages._sums, computed, name)
    with opened_run(consortium) as opened:
        verdict = drive(opened, privacy_plan(consortium.plan))
        weights = opened.run.state.released()
    scores = ten.family.probabilities(weights, ten.holdout)
    return Ended(auc=rows.auc(scores, ten.holdout.labels), weights=weights, verdict=verdict, folder=folder / "run")


def _consortium(folder: Path, attack: str | None, liars: int, plan: RunPlan) -> Consortium:
    clock, sites = Clock(), {}
    for number, (name, table) in enumerate(whole_tables().items(), start=10):
        lies = name in NAMES[:liars] and attack in {LABEL_FLIP, BACKDOOR}
        site = Site(
            name=name,
            folder=folder / name,
            clock=clock,
            keys=keys_of(number),
            table=_poisoned_training(attack, table) if lies else table,
            budget={"epsilon": 20.0, "delta": 1e-5, "holdout_epsilon": 5.0},
            policy={},
        )
        site.approvals.approve(plan)
        sites[str(name)] = site
    members = tuple(
        Member(institution=site.name, kind=InstitutionType.BANK, public_identity=site.keys.public.to_bytes())
        for site in sites.values()
    )
    return Consortium(folder=folder, plan=plan, sites=sites, roster=Roster(members), clock=clock)


def _poisoned_training(attack: str | None, table: CreditTable) -> CreditTable:
    """Poison the training part only: what a liar votes is its own affair."""
    out = holdout_mask(table.entities, salt=SALT, fraction=HOLDOUT)
    changed = poisoned(attack, table)
    return replace(
        changed,
        labels=np.where(out, table.labels, changed.labels).astype(np.int8),
        modalities={
            name: replace(part, codes=np.where(out[:, None], table.modalities[name].codes, part.codes))
            for name, part in changed.modalities.items()
        },
    )
