"""From a finished study to its result: every institution alone, federated, and pooled without privacy.

The lab holds all rows of a study, so it may do what no party of a consortium can: score every model on the same
pooled test set, the held-out borrowers of all institutions with every modality of the contract. A model ignores a
modality that it never learned. In a simulated consortium nobody knows the modalities that an institution lacks: there
the shared model sees what the institution holds, and an own model finds the rest empty. Nothing computed here leaves
an institution in production; the figures that would are in ``evaluation.json``, made from noised counts.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from fedcredit import __version__
from fedcredit.audit.log import AuditLog
from fedcredit.checkpoint import CheckpointStore
from fedcredit.data.datasets import Dataset
from fedcredit.data.inputs import model_inputs
from fedcredit.data.table import CreditTable
from fedcredit.errors import EvaluationError
from fedcredit.evaluation import Interval, rows
from fedcredit.institution.node import NodeRecord
from fedcredit.lab.baselines import Baseline, best_own_model
from fedcredit.lab.study import Study
from fedcredit.messages import COUNT_GRID, SCORE_BINS, CloseAnswer, CountsAnswer, Message, Refusal, TrainAnswer
from fedcredit.parties import InstitutionId
from fedcredit.privacy.cost import Cost
from fedcredit.privacy.plan import HOLDOUT, TRAIN, PrivacyPlan
from fedcredit.privacy.run_plan import privacy_plan
from fedcredit.rounds.drive import CLOSING_FILE, EVALUATION_FILE, PREPARATION_FILE, ROUNDS_FILE, read_lines, read_record
from fedcredit.secagg.wire import Accept, EpochBoxes, EpochHello, Reveal, Upload
from fedcredit.store.database import Database
from fedcredit.store.files import write_atomic
from fedcredit.store.journal import Journal
from fedcredit.training.families import ModelFamily, model_family

Scores = npt.NDArray[np.float64]
_ANSWERS: Final[Mapping[str, tuple[type[Message], ...]]] = {
    "open": (TrainAnswer, CountsAnswer, CloseAnswer, Refusal),
    "secure": (EpochHello, EpochBoxes, Upload, Accept, Reveal, CloseAnswer, Refusal),
}
"""What leaves an institution, by the plan's aggregation."""
RESULT_VERSION: Final = "3"
"""Version 1 stated mu and a zCDP figure, and no cost of a message that is read alone."""
RESULT_FILE: Final = "result.json"
METRICS_FILE: Final = "metrics.jsonl"
PROVENANCE_NOTES: Final = {
    "real": "real loans of real lenders",
    "real-segments": "real borrowers; their segments stand in for institutions, the names are ours",
    "simulated": "nobody and nothing in it is real",
}


class StudyEvaluation:
    """Scores models of a study on its pooled test set and keeps the curve over rounds."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._inputs = model_inputs(study.dataset.contract)
        self._family: ModelFamily = model_family(study.plan, self._inputs)
        self._train = {name: holdings.split(study.plan).train for name, holdings in study.holdings.items()}
        complete = {name: study.complete_holdings(name).split_all(study.plan, self._inputs) for name in study.holdings}
        self._complete_train = [split.train for split in complete.values()]
        self._test: dict[InstitutionId, CreditTable] = {name: split.holdout for name, split in complete.items()}
        self._labels = np.concatenate([table.labels for table in self._test.values()])
        self._scorers = [
            self._family.scorer(table.with_modalities(study.dataset.parts[name].known_modalities))
            for name, table in self._test.items()
        ]
        self._metrics: list[dict[str, Any]] = []
        self._started = time.monotonic()

    def epsilon_after(self, rounds: int) -> float:
        """Return what ``rounds`` training releases of the plan cost a borrower."""
        return privacy_plan(self._study.plan).epsilon_after(rounds)

    def round_figures(self, number: int, weights: Scores, *, institutions: int) -> dict[str, Any]:
        """Return and keep the figures of the model released after a round."""
        scores = self._scores(weights)
        interval = rows.delong_interval(scores, self._labels)
        line = {
            "round": number,
            "auc": interval.value,
            "auc_low": interval.low,
            "auc_high": interval.high,
            "ks": rows.ks(scores, self._labels),
            "epsilon": self.epsilon_after(number),
            "seconds": round(time.monotonic() - self._started, 3),
            "institutions": institutions,
        }
        self._metrics.append(line)
        return line

    def baselines(self) -> tuple[dict[InstitutionId, Baseline], Baseline]:
        """Return every institution's own best model and the pooled ceiling, scored on the pooled test set."""
        test, seed = list(self._test.values()), self._study.options.seed
        alone = {name: best_own_model([table], test, self._inputs, seed=seed) for name, table in self._train.items()}
        return alone, best_own_model(self._complete_train, test, self._inputs, seed=seed)

    def finish(self, run_folder: Path, *, runtime: str, started: float) -> dict[str, Any]:
        """Compare everything, write ``metrics.jsonl`` and ``result.json``, and return the result."""
        alone, pooled = self.baselines()
        plan = self._study.plan
        weights = _released(run_folder, plan.run.rounds)
        federated = self._scores(weights)
        labels = self._labels
        lines = self._lines(alone, pooled, weights, federated)
        result = {
            "schema_version": RESULT_VERSION,
            "version": __version__,
            "dataset": self._study.dataset.name,
            "title": self._study.dataset.title,
            "provenance": self._study.dataset.provenance,
            "provenance_note": PROVENANCE_NOTES[self._study.dataset.provenance],
            "attribution": self._study.dataset.contract.attribution,
            "model": plan.model.kind,
            "model_settings": {**plan.model.model_dump(exclude_none=True), "trees": plan.trees},
            "runtime": runtime,
            "seed": self._study.options.seed,
            "rounds": plan.run.rounds,
            "protected": privacy_plan(plan).describe().protects,
            "aggregation": plan.aggregation.kind,
            "threshold": plan.secure.threshold if plan.secure else 1,
            "update_bound": plan.aggregation.update_bound,
            "vote_floor": plan.vote_floor,
            "colluders": plan.privacy.colluders,
            **_verdict(run_folder),
            "rows": lines,
            **_overlap(self._study.dataset),
            "left_out": dict(self._study.dataset.left_out),
            "summary": {
                "test_n": len(labels),
                "test_bads": int(labels.sum()),
                "alone_mean_auc": float(np.mean([line["alone_auc"] for line in lines])),
                **_flat("federated_auc", rows.delong_interval(federated, labels)),
                **_flat("pooled_auc", rows.delong_interval(pooled.scores, labels)),
                "pooled_method": pooled.method,
                "federated_brier": rows.brier(federated, labels),
                "federated_observed_expected": rows.observed_expected(federated, labels),
            },
            "calibration": [line._asdict() for line in rows.calibration_deciles(federated, labels)],
            "federated_evaluation": self._federated_evaluation(run_folder),
            "privacy": self._privacy(),
            "traffic": self._traffic(run_folder),
            "audit": _audit_head(run_folder),
            "plan_digest": plan.digest().hex(),
            "run": run_folder.name,
            "wall_s": round(time.monotonic() - started, 2),
            "run_dir": str(self._study.folder),
        }
        folder = self._study.folder
        write_atomic(folder / METRICS_FILE, "".join(_json(line) + "\n" for line in self._metrics).encode())
        write_atomic(folder / RESULT_FILE, _json(result, indent=1).encode())
        return result

    def _scores(self, weights: Scores) -> Scores:
        return np.concatenate([scorer(weights) for scorer in self._scorers])

    def _lines(
        self, alone: Mapping[InstitutionId, Baseline], pooled: Baseline, weights: Scores, federated: Scores
    ) -> list[dict[str, Any]]:
        generator = np.random.default_rng(self._study.options.seed)
        labels = self._labels
        shared = {
            **_figures("federated", federated, labels, generator),
            **_figures("pooled", pooled.scores, labels, generator),
        }
        lines = []
        for name, baseline in alone.items():
            part = self._study.dataset.parts[name]
            gain = rows.delong_difference(federated, baseline.scores, labels)
            lines.append(
                {
                    "institution": name,
                    "kind": str(part.kind),
                    "modalities": list(part.modalities),
                    "n": len(self._train[name]),
                    "alone_method": baseline.method,
                    **_figures("alone", baseline.scores, labels, generator),
                    **shared,
                    **_flat("gain", gain),
                    **self._own_customers(name, baseline, weights),
                }
            )
        return lines

    def _own_customers(self, name: InstitutionId, baseline: Baseline, weights: Scores) -> dict[str, Any]:
        """Return figures on the institution's own held-out customers, seen with the modalities that it holds.

        This is what an institution would ask first, and it can differ from the pooled test in sign. With too few
        customers of one outcome there is no figure: ``None``.
        """
        names = list(self._test)
        start = sum(len(self._test[other]) for other in names[: names.index(name)])
        complete = self._test[name]
        own = complete.with_modalities(self._study.dataset.parts[name].modalities)
        federated = self._family.probabilities(weights, own)
        alone = baseline.scores[start : start + len(own)]
        figures: dict[str, Any] = dict.fromkeys(
            ("own_alone_auc", "own_federated_auc", "own_gain", "own_gain_low", "own_gain_high")
        )
        with contextlib.suppress(EvaluationError):
            figures |= {
                "own_alone_auc": rows.auc(alone, own.labels),
                "own_federated_auc": rows.auc(federated, own.labels),
            }
            figures |= _flat("own_gain", rows.delong_difference(federated, alone, own.labels))
        return {"own_n": len(own), **figures}

    def _privacy(self) -> dict[str, Any]:
        privacy = privacy_plan(self._study.plan)
        facts = asdict(privacy.describe())
        facts["mechanism"] = str(facts["mechanism"])
        facts["noise"] = self._study.plan.privacy.noise
        facts["evaluation_epsilon_alone"] = _evaluation_alone(privacy)
        if facts["noise"] == "local":
            # The claim itself, not the last digits of what the rounding of sigma leaves below it.
            facts["epsilon_alone"] = facts["epsilon"]
            facts["evaluation_epsilon_alone"] = facts["evaluation_epsilon"]
        facts["spent"] = [self._spent(name) for name in self._study.holdings]
        return facts

    def _spent(self, name: InstitutionId) -> dict[str, Any]:
        config = self._study.node_config(name)
        with NodeRecord.read(self._study.node_folder(name), config) as record:
            train, holdout = record.spent(TRAIN), record.spent(HOLDOUT)
        return {
            "institution": name,
            "epsilon": train.epsilon,
            "epsilon_alone": train.epsilon_alone,
            "cap": config.budget.epsilon,
            "holdout_epsilon": holdout.epsilon,
            "holdout_epsilon_alone": holdout.epsilon_alone,
            "releases": train.releases + holdout.releases,
        }

    def _traffic(self, run_folder: Path) -> dict[str, Any]:
        lines = [*read_lines(run_folder / ROUNDS_FILE), _read(run_folder / EVALUATION_FILE)["traffic"]]
        for name in (PREPARATION_FILE, CLOSING_FILE):
            if (run_folder / name).exists():
                lines.append(_read(run_folder / name))
        return {
            "message_types": [kind.TAG for kind in _ANSWERS[self._study.plan.aggregation.kind]],
            "institutions": [
                {
                    "institution": name,
                    "messages": sum(line["messages"].get(name, 0) for line in lines),
                    "bytes_up": sum(line["bytes_up"].get(name, 0) for line in lines),
                    "bytes_down": sum(line["bytes_down"].get(name, 0) for line in lines),
                }
                for name in self._study.holdings
            ],
        }

    def _federated_evaluation(self, run_folder: Path) -> dict[str, Any]:
        record = _read(run_folder / EVALUATION_FILE)
        record.pop("traffic")
        return {**record, "epsilon": self._study.plan.privacy.evaluation_epsilon}


def _overlap(dataset: Dataset) -> dict[str, int]:
    """Return how many borrowers are at two institutions or more, and at how many the best known of them is."""
    known: Counter[str] = Counter()
    for part in dataset.parts.values():
        known.update(set(part.table[dataset.contract.entity].to_pylist()))
    return {"shared_borrowers": sum(count > 1 for count in known.values()), "most_institutions": max(known.values())}


def _verdict(run_folder: Path) -> dict[str, Any]:
    """Return what the members said to the model: the outcome, and every vote with its reason."""
    closing = read_record(run_folder / CLOSING_FILE)
    return {"verdict": closing["verdict"], "votes": closing["votes"]}


def _evaluation_alone(privacy: PrivacyPlan) -> float:
    """Return the epsilon of the evaluation if secure aggregation fails and one institution's counts are read alone."""
    sizes = {"sensitivity_squared": COUNT_GRID**2, "dimension": 2 * SCORE_BINS}
    release = privacy.evaluation_release(release_id="evaluation", **sizes).alone()
    if not release.protects:
        return math.inf
    cost = Cost.of(release)
    if privacy.vote_share:
        cost += Cost.of(privacy.vote_release(release_id="vote", **sizes))
    return cost.times(privacy.evaluation_steps).epsilon(privacy.delta)


def _figures(
    name: str, scores: Scores, labels: npt.NDArray[np.int8], generator: np.random.Generator
) -> dict[str, float]:
    return {
        **_flat(f"{name}_auc", rows.delong_interval(scores, labels)),
        **_flat(f"{name}_ks", rows.ks_interval(scores, labels, generator=generator)),
    }


def _flat(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _released(run_folder: Path, rounds: int) -> Scores:
    with Database.open(run_folder / "run.db") as database:
        events = list(AuditLog(Journal(database, "audit")).events())
    digest = next(event.fields["checkpoint"] for event in reversed(events) if "checkpoint" in event.fields)
    checkpoint = CheckpointStore(run_folder / "checkpoints").load(rounds, digest=bytes(digest))  # type: ignore[arg-type]
    return checkpoint.tensors["released"]


def _audit_head(run_folder: Path) -> dict[str, Any]:
    with Database.open(run_folder / "run.db") as database:
        log = AuditLog(Journal(database, "audit"))
        log.verify()
        return {"head": log.head.hex(), "entries": len(log)}


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def _json(value: Any, *, indent: int | None = None) -> str:
    return json.dumps(_finite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "inf" if value > 0 else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
