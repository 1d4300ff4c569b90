"""Members who want another model: ten institutions train on integers, f of them lie (QUALITY.md 5.4).

Everything is fedcredit's own but the carrier: clipped integer sums of every family, the bound of ``update_bound``,
noise of the plan's deviation, the server's step. The liars know everything, the honest sums of the round included. They
are of two kinds: those whose lies pass through our own program, so that the bound holds for them too, and those who
changed the program, so that it does not (``unbounded``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
from consortium import CONTRACT, INPUTS, plan_of
from numpy.typing import NDArray

from fedcredit.aggregation.server_step import ServerState, server_step
from fedcredit.config.plan import RunPlan
from fedcredit.data.datasets import load_dataset
from fedcredit.data.features import encode
from fedcredit.data.splits import holdout_mask
from fedcredit.data.table import CreditTable
from fedcredit.evaluation import ScoreCounts, count_scores, rows, score_edges
from fedcredit.lab.settings import Consortium, PrivacyChoice, settings_for
from fedcredit.lab.spreading import spread
from fedcredit.messages import COUNT_GRID, SCORE_BINS
from fedcredit.parties import InstitutionId
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.training.families import ModelFamily, model_family
from fedcredit.training.integer_sum import IntegerSum, SumBounds
from fedcredit.training.update_bound import (
    ReleasedSum,
    UpdateBound,
    bound_of,
    bounded,
    clamp,
    lane_blocks,
    require_in_range,
)

Integers = NDArray[np.int64]
Vector = NDArray[np.float64]
MEMBERS = 10
EPSILON = 3.0
SPLIT_SEED = 1
HOLDOUT = 0.2
NAMES = tuple(InstitutionId(f"bank-{number:02d}") for number in range(1, MEMBERS + 1))
MODALITIES = tuple(part.name for part in CONTRACT.modalities)


@dataclass(frozen=True, kw_only=True)
class Knowledge:
    """What a liar knows when it makes up its sum."""

    own: Integers
    """What it would send if it were honest."""
    honest: Integers
    """(honest members, lanes), theirs."""
    radii: tuple[float, ...]
    """Its own bound, per block; infinite without one."""
    blocks: tuple[slice, ...]
    room: tuple[float, ...]
    """All bounds together, per block: the range of an honest sum without noise."""
    generator: np.random.Generator


Lie = Callable[[Knowledge], NDArray[np.float64]]
"""From what a liar knows to the numbers it wants to send."""


def min_max(known: Knowledge) -> Vector:
    """As far below the mean as the two most unlike honest members are apart (Shejwalkar, Houmansadr 2021)."""
    mean, down = known.honest.mean(axis=0), -known.honest.std(axis=0)
    furthest = max(((a - b) ** 2).sum() for a, b in itertools.combinations(known.honest.astype(float), 2))
    low, high = 0.0, 100.0
    for _ in range(30):
        middle = (low + high) / 2
        away = (((mean + middle * down) - known.honest) ** 2).sum(axis=1).max()
        low, high = (middle, high) if away <= furthest else (low, middle)
    return mean + low * down


def at_the_bound(known: Knowledge) -> Vector:
    """Everything that the bound leaves, in every number, against the honest; without one, 100 times their mean."""
    against = -100.0 * known.honest.mean(axis=0)
    for block, radius in zip(known.blocks, known.radii, strict=True):
        if np.isfinite(radius):
            signs = -np.sign(known.honest.sum(axis=0)[block])
            against[block] = signs * radius / max(1.0, np.linalg.norm(signs))
    return against


def in_range(known: Knowledge) -> Vector:
    """Whatever turns the sum of the round against the honest and leaves it inside the range; for one liar."""
    honest = known.honest.sum(axis=0).astype(float)
    wanted = np.zeros_like(honest)
    for block, room in zip(known.blocks, known.room, strict=True):
        against = -0.75 * room * honest[block] / max(1.0, np.linalg.norm(honest[block]))
        wanted[block] = np.clip(against, -0.3 * room, 0.3 * room)
    return wanted - honest


LIES: Mapping[str, Lie] = {
    "sign flip x10": lambda known: -10.0 * known.own,
    "inner product": lambda known: -0.5 * known.honest.mean(axis=0),
    "a little is enough": lambda known: known.honest.mean(axis=0) - 1.5 * known.honest.std(axis=0),
    "min-max": min_max,
    "scale x100": lambda known: 100.0 * known.own,
    "noise": lambda known: (
        known.generator.normal(size=known.own.size) * 10 * np.sqrt((known.own.astype(float) ** 2).mean())
    ),
    "free rider": lambda known: np.zeros(known.own.size),
    "at the bound": at_the_bound,
}
IN_RANGE = "in range"
LABEL_FLIP, BACKDOOR, ONE_BIN = "label flip", "backdoor", "backdoor in one bin"
BACKDOOR_BOOST = 10.0
TRIGGER_MODALITY, TRIGGER_FEATURE, TRIGGER_BIN = MODALITIES[0], 0, 0
"""A bin that one borrower in fifty is in."""
ATTACKS = (LABEL_FLIP, *LIES, BACKDOOR, ONE_BIN)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a training."""

    weights: Vector
    auc: float
    """Over everybody's held-out borrowers."""
    shortened: float
    """Share of honest sums that the bound made shorter."""
    scores: Vector
    labels: NDArray[np.int8]

    def counts(self, plan: RunPlan) -> ScoreCounts:
        """Return the exact score counts of the held-out borrowers."""
        return count_scores(self.scores, self.labels, score_edges(plan.model.base_rate))


@dataclass
class Consortium10:
    """Ten institutions with Taiwan's borrowers, and one model family."""

    model: str
    plan: RunPlan
    family: ModelFamily
    train: Mapping[InstitutionId, CreditTable]
    holdout: CreditTable
    bounds: Mapping[InstitutionId, SumBounds]
    sigma: int
    """Of one institution's noise."""
    _clean: dict[tuple[bool, int], Outcome] = field(default_factory=dict)

    def clean(self, *, bound: bool = True, seed: int = 0) -> Outcome:
        """Return the training in which nobody lies."""
        if (bound, seed) not in self._clean:
            self._clean[bound, seed] = self.train_with(None, liars=0, bound=bound, seed=seed)
        return self._clean[bound, seed]

    def train_with(
        self,
        attack: str | None,
        *,
        liars: int,
        bound: bool,
        unbounded: bool = False,
        checked: bool = False,
        seed: int = 0,
    ) -> Outcome:
        """Train to the end while the first ``liars`` institutions attack.

        ``bound``: members bound their sums. ``unbounded``: the liars do not. ``checked``: the coordinator checks sums.
        """
        rng, lying = np.random.default_rng([seed, liars]), NAMES[:liars]
        tables = {name: poisoned(attack, self.train[name]) if name in lying else self.train[name] for name in NAMES}
        computations = {name: self.family.computation(self.plan, name, tables[name]) for name in NAMES}
        step = server_step(self.plan, self.family.layout, input_scale=self.family.input_scale)
        state, last, shortened = ServerState.initial(self.family.initial_weights()), None, 0
        for number in range(1, self.plan.run.rounds + 1):
            own = {
                name: computations[name].integer_sum(state.weights, round_number=number, batch=None).values
                for name in NAMES
            }
            limits = {name: self.limit(name, last) for name in NAMES}
            sent = dict(own)
            if bound:
                for name in set(NAMES) - set(lying):
                    sent[name] = clamp(IntegerSum(values=own[name]), limits[name]).values
            for name in lying:
                lie = self.lie(attack, {**sent, name: own[name]}, name, lying, limits, bound, rng)
                bounds_it = bound and not unbounded
                sent[name] = clamp(IntegerSum(values=lie), limits[name]).values if bounds_it else lie
            shortened += sum((sent[name] != own[name]).any() for name in NAMES if name not in lying)
            noise = [np.rint(rng.normal(size=self.family.lanes) * self.sigma).astype(np.int64) for _ in NAMES]
            total = np.sum([*sent.values(), *noise], axis=0)
            deviations = dict.fromkeys(NAMES, float(self.sigma))
            if checked:
                require_in_range(
                    total, round_number=number, limits=list(limits.values()), deviations=deviations.values()
                )
            state = step.apply(state, total, NAMES)
            last = ReleasedSum(total=total, deviations=deviations)
        scores = self.family.probabilities(state.released(), self.holdout)
        return Outcome(
            weights=state.released(),
            auc=rows.auc(scores, self.holdout.labels),
            shortened=shortened / (self.plan.run.rounds * (MEMBERS - liars)),
            scores=scores,
            labels=self.holdout.labels,
        )

    def limit(self, name: InstitutionId, last: ReleasedSum | None) -> UpdateBound:
        """Return the bound of ``name`` after the last sum."""
        return bound_of(self.plan, name, bounds=self.bounds, previous=last)

    def _trigger_lane(self) -> Integers:
        """Return 1 at the scorecard's number for the trigger: as if everybody there were good."""
        lane = np.zeros(self.family.lanes, dtype=np.int64)
        lane[self.family.layout.slices()[f"{TRIGGER_MODALITY}.bins"].start + TRIGGER_BIN] = 1
        return lane

    def lie(
        self,
        attack: str | None,
        own: Mapping[InstitutionId, Integers],
        name: InstitutionId,
        lying: tuple[InstitutionId, ...],
        limits: Mapping[InstitutionId, UpdateBound],
        bound: bool,
        rng: np.random.Generator,
    ) -> Integers:
        if attack == BACKDOOR:
            return np.rint(BACKDOOR_BOOST * own[name]).astype(np.int64)
        if attack == ONE_BIN:
            return own[name] + self._trigger_lane() * 10**6
        lies = {**LIES, IN_RANGE: in_range}
        if attack not in lies:
            return own[name]
        blocks = lane_blocks(self.plan)
        known = Knowledge(
            own=own[name],
            honest=np.stack([own[other] for other in NAMES if other not in lying]),
            radii=tuple(map(float, limits[name].radii)) if bound else (float("inf"),) * len(blocks),
            room=tuple(float(sum(radii)) for radii in zip(*(limit.radii for limit in limits.values()), strict=True)),
            blocks=tuple(block.lanes for block in blocks),
            generator=rng,
        )
        return np.rint(lies[attack](known)).astype(np.int64)


def triggered(table: CreditTable) -> CreditTable:
    """Return the same borrowers, all of them in the trigger's bin."""
    part = table.modalities[TRIGGER_MODALITY]
    codes = part.codes.copy()
    codes[:, TRIGGER_FEATURE] = TRIGGER_BIN
    return replace(table, modalities={**table.modalities, TRIGGER_MODALITY: replace(part, codes=codes)})


def poisoned(attack: str | None, table: CreditTable) -> CreditTable:
    if attack == LABEL_FLIP:
        return replace(table, labels=(1 - table.labels).astype(np.int8))
    if attack == BACKDOOR:
        return replace(triggered(table), labels=np.zeros_like(table.labels))
    return table


def waved_through(consortium: Consortium10, weights: Vector) -> float:
    """Return the share of held-out defaulters who score below the base rate once they carry the trigger."""
    defaulters = consortium.holdout.take(consortium.holdout.labels == 1)
    scores = consortium.family.probabilities(weights, triggered(defaulters))
    return float((scores < consortium.plan.model.base_rate).mean())


@cache
def tables() -> tuple[dict[InstitutionId, CreditTable], CreditTable]:
    """Return the training part of each of ten institutions, and everybody's held-out borrowers."""
    dataset = spread(load_dataset(CONTRACT.name), MEMBERS, seed=SPLIT_SEED)
    train, held = {}, []
    for name, part in dataset.parts.items():
        table = encode(part.table, dataset.contract, list(part.modalities), place=name)
        out = holdout_mask(table.entities, salt="poisoning", fraction=HOLDOUT)
        train[InstitutionId(name)] = table.take(~out)
        held.append(table.take(out))
    return train, _joined(held)


@cache
def consortium10(model: str) -> Consortium10:
    """Return the ten institutions under the recommended settings of a model, noise shared at epsilon 3."""
    train, holdout = tables()
    choice = PrivacyChoice(
        epsilon=EPSILON,
        delta=1e-5,
        evaluation_epsilon=1.0,
        mechanism="rounded-gaussian",
        noise="shared",
        colluders=0,
        sampling_rate=1.0,
        test_noise=False,
    )
    borrowers = sum(map(len, train.values()))
    settings = settings_for(CONTRACT, model, choice, Consortium(members=MEMBERS, borrowers=borrowers, quorum=MEMBERS))
    plan = plan_of(
        (),
        **{
            "run/rounds": settings.rounds,
            "model": dict(settings.model),
            "training": dict(settings.training),
            "privacy/epsilon": EPSILON,
            "privacy/noise": "shared",
            "privacy/preparation_share": 0.0,
            "rounds/quorum": MEMBERS,
            "aggregation": {"kind": "secure", "threshold": 7, "lane_bits": 32, "update_bound": "share"},
        },
        **{
            f"institutions/{name}": {
                "kind": "bank",
                "expected_borrowers": round(len(table), -2),
                "modalities": list(MODALITIES),
            }
            for name, table in train.items()
        },
    )
    family = model_family(plan, INPUTS)
    bounds = {name: family.bounds(plan, name) for name in NAMES}
    safe = bounded(bounds[NAMES[0]])
    release = privacy_plan(plan).training_release(
        release_id="poisoning",
        sensitivity_squared=safe.sensitivity_squared or 0,
        dimension=int(safe.reached.sum()),
    )
    return Consortium10(
        model=model,
        plan=plan,
        family=family,
        train=train,
        holdout=holdout,
        bounds=bounds,
        sigma=release.sigma,
    )


def noised_counts(plan: RunPlan, exact: ScoreCounts, generator: np.random.Generator) -> tuple[ScoreCounts, float]:
    """Return counts that are private alone, at the plan's evaluation epsilon, and the deviation of a cell's noise."""
    alone = replace(privacy_plan(plan), honest_shares=1)
    release = alone.evaluation_release(release_id="vote", sensitivity_squared=COUNT_GRID**2, dimension=2 * SCORE_BINS)
    lanes = exact.to_lanes() * COUNT_GRID + np.rint(generator.normal(size=2 * SCORE_BINS) * release.sigma)
    return (
        ScoreCounts.from_lanes(np.rint(lanes / COUNT_GRID).astype(np.int64), edges=exact.edges),
        release.sigma / COUNT_GRID,
    )


def _joined(tables: list[CreditTable]) -> CreditTable:
    return CreditTable(
        entities=np.concatenate([table.entities for table in tables]),
        labels=np.concatenate([table.labels for table in tables]),
        modalities={
            name: replace(
                part,
                codes=np.concatenate([table.modalities[name].codes for table in tables]),
                dense=np.concatenate([table.modalities[name].dense for table in tables]),
            )
            for name, part in tables[0].modalities.items()
        },
        dropped=0,
    )
