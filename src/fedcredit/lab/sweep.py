"""The privacy-utility curve: the same study at several epsilons and seeds, through the engine that users run.

Every point is a whole run: keys, sealed messages, ledger, discrete noise, nothing released in floating point. The
reference is gradient boosting without privacy on all rows of all institutions, tuned and averaged (``baselines``); a
gap is always taken on the same split. Settings come from ``settings`` and are not tuned per point.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable
from fedcredit.errors import UsageError
from fedcredit.evaluation import rows
from fedcredit.lab.baselines import best_own_model, opacus_per_site, tuned_boosting
from fedcredit.lab.figures import mean_interval
from fedcredit.lab.inprocess import run_in_process
from fedcredit.lab.study import DELTA, Study, StudyOptions, build_study
from fedcredit.messages import LANE_BYTES, Purpose
from fedcredit.training.families import model_family
from fedcredit.training.plan_review import review_plan

Scores = npt.NDArray[np.float64]
MOST_POINTS: Final = 1000
UNUSED_PORT: Final = 1
"""A study names a relay; in one process nobody connects to it."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """What is swept; ``study`` gives everything but epsilon and seed."""

    study: StudyOptions
    epsilons: tuple[float, ...]
    seeds: tuple[int, ...]
    alone: bool
    """Also fit every institution's own model without privacy; the slow part on large data sets."""

    def __post_init__(self) -> None:
        """Refuse an empty or endless sweep."""
        if not self.epsilons or not self.seeds:
            raise UsageError(problem="there is nothing to sweep", hint="Give at least one epsilon and one seed.")
        if any(not epsilon > 0 for epsilon in self.epsilons):
            raise UsageError(problem="an epsilon is not above 0", hint="Give numbers such as 0.5,1,3,8,inf.")
        if len(self.epsilons) * len(self.seeds) > MOST_POINTS:
            raise UsageError(problem="there are more than 1,000 runs", hint="Give fewer epsilons or seeds.")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Models without privacy on one split."""

    pooled_auc: float
    """Tuned gradient boosting on all institutions' training rows."""
    alone_auc: tuple[float, ...]
    """Per institution: the better of its own scorecard and gradient boosting; empty if not asked for."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run."""

    epsilon: float
    epsilon_alone: float
    """If the sum were not protected and one institution's message were read alone."""
    seed: int
    auc: float
    ks: float
    brier: float
    gap: float
    """AUC of the reference minus AUC of the run, on the same split."""
    reference_auc: float
    alone_mean_auc: float | None
    alone_best_auc: float | None
    rounds: int
    numbers_per_round: int
    bytes_per_round: int
    """Sealed content of one institution's answer."""
    cpu_seconds_per_institution: float
    """All CPU time of the run, the coordinator's included, divided by the institutions."""


OnPoint = Callable[[Point], None]


def run_sweep(
    options: SweepOptions, folder: Path, *, on_point: OnPoint, references: dict[int, Reference] | None = None
) -> list[Point]:
    """Run every epsilon at every seed below ``folder`` and return the points; the runs' folders are removed.

    ``references`` keeps the models without privacy by seed, for further sweeps over the same data and division.

    Raises:
        UsageError, PrivacyPlanError, NoiseRangeError: a study cannot be made.
    """
    points = []
    known = {} if references is None else references
    for seed in options.seeds:
        for epsilon in options.epsilons:
            place = folder / f"seed-{seed}-epsilon-{epsilon:g}"
            study = build_study(place, replace(options.study, epsilon=epsilon, seed=seed), relay_port=UNUSED_PORT)
            try:
                train, test = _tables(study)
                if seed not in known:
                    known[seed] = _reference(study, train, test, alone=options.alone)
                point = _run(study, test, known[seed])
            finally:
                shutil.rmtree(place, ignore_errors=True)
            points.append(point)
            on_point(point)
    return points


def opacus_per_site_auc(options: StudyOptions, *, epsilon: float) -> list[float]:
    """Return the AUC of every institution that trains alone with Opacus at ``epsilon``, on the pooled test set.

    The same split, division and delta as a study of ``options``; see ``baselines.opacus_per_site`` for the model.
    """
    with tempfile.TemporaryDirectory() as folder:
        study = build_study(Path(folder) / "study", options, relay_port=UNUSED_PORT)
        train = [holdings.split(study.plan).train for holdings in study.holdings.values()]
        _, test = _tables(study)
        inputs = model_inputs(study.dataset.contract)
        scores = opacus_per_site(train, test, inputs, epsilon=epsilon, delta=DELTA, seed=options.seed)
    labels = np.concatenate([table.labels for table in test])
    return [rows.auc(one, labels) for one in scores]


def summary(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return one line per epsilon: means over seeds with 95 % intervals of the means (Student's t)."""
    lines = []
    for epsilon in sorted({point.epsilon for point in points}):
        chosen = [point for point in points if point.epsilon == epsilon]
        line: dict[str, Any] = {"epsilon": epsilon, "seeds": len(chosen), "epsilon_alone": chosen[0].epsilon_alone}
        for name in ("auc", "gap", "ks", "brier"):
            low, mean, high = mean_interval([getattr(point, name) for point in chosen])
            line |= {name: mean, f"{name}_low": low, f"{name}_high": high}
        line["reference_auc"] = float(np.mean([point.reference_auc for point in chosen]))
        lines.append(line)
    return lines


def as_records(points: Sequence[Point]) -> list[dict[str, Any]]:
    """Return the points as plain values."""
    return [asdict(point) for point in points]


def _tables(study: Study) -> tuple[list[CreditTable], list[CreditTable]]:
    """Return training and held-out tables of every institution, with every modality."""
    inputs = model_inputs(study.dataset.contract)
    splits = [study.complete_holdings(name).split_all(study.plan, inputs) for name in study.holdings]
    return [split.train for split in splits], [split.holdout for split in splits]


def _reference(study: Study, train: Sequence[CreditTable], test: Sequence[CreditTable], *, alone: bool) -> Reference:
    inputs, seed = model_inputs(study.dataset.contract), study.options.seed
    labels = np.concatenate([table.labels for table in test])
    own = _own_models(study, test) if alone else ()
    return Reference(pooled_auc=rows.auc(tuned_boosting(train, test, inputs, seed=seed), labels), alone_auc=tuple(own))


def _own_models(study: Study, test: Sequence[CreditTable]) -> Iterator[float]:
    inputs, seed = model_inputs(study.dataset.contract), study.options.seed
    labels = np.concatenate([table.labels for table in test])
    for holdings in study.holdings.values():
        train = holdings.split(study.plan).train
        yield rows.auc(best_own_model([train], test, inputs, seed=seed).scores, labels)


def _run(study: Study, test: Sequence[CreditTable], reference: Reference) -> Point:
    released: list[Scores] = []
    started = time.process_time()
    run_in_process(study, on_round=lambda _number, weights, _institutions: released.append(weights))
    cpu = time.process_time() - started
    plan = study.plan
    family = model_family(plan, model_inputs(study.dataset.contract))
    scores = np.concatenate([family.probabilities(released[-1], table) for table in test])
    labels = np.concatenate([table.labels for table in test])
    review = review_plan(plan, study.dataset.contract).institutions[0]
    training = next(item for item in review.releases if item.purpose is Purpose.TRAIN)
    auc = rows.auc(scores, labels)
    return Point(
        epsilon=study.options.epsilon,
        epsilon_alone=review.epsilon_alone,
        seed=study.options.seed,
        auc=auc,
        ks=rows.ks(scores, labels),
        brier=rows.brier(scores, labels),
        gap=reference.pooled_auc - auc,
        reference_auc=reference.pooled_auc,
        alone_mean_auc=float(np.mean(reference.alone_auc)) if reference.alone_auc else None,
        alone_best_auc=max(reference.alone_auc) if reference.alone_auc else None,
        rounds=plan.run.rounds,
        numbers_per_round=training.lane_bytes // LANE_BYTES,
        bytes_per_round=training.message_bytes,
        cpu_seconds_per_institution=cpu / len(study.holdings),
    )
