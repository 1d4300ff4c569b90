"""Made-up consortia for the privacy audits, and the audits of one build over them.

Nothing here is anybody's data: borrowers are drawn from a public seed, so an audit costs no privacy. Canaries are
borrowers on whom the model errs by three clip bounds; each has bins of its own, so that hundreds fit into one release
and leave the lanes of the others alone. Several institutions share the noise, a single one has its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from fedcredit.config.plan import RunPlan, usual_threshold
from fedcredit.contract import Contract
from fedcredit.data.inputs import model_inputs
from fedcredit.data.splits import holdout_mask
from fedcredit.data.table import CreditTable, ModalityTable
from fedcredit.lab.audited_path import (
    MUTANTS,
    AuditedPath,
    Build,
    ClientPath,
    Entropy,
    Scene,
    pairs,
    steps,
    trainings,
)
from fedcredit.lab.privacy_audit import AUDIT_ERROR, AuditResult, one_run_audit, step_audit, two_round_audit
from fedcredit.lab.settings import aggregation_values
from fedcredit.model.layout import ModalityShape, ModelInputs
from fedcredit.model.scorecard import INTERCEPT, logit
from fedcredit.parties import InstitutionId
from fedcredit.training.families import model_family

AUDIT_CONSORTIUM: Final = "audit"
DELTA: Final = 1e-5
BORROWERS: Final = 30
"""Of each institution, canaries excluded."""
_ROOM: Final = 24
"""The plans expect so many times the borrowers that there are: 8 x 3 lift the bound of updates (``update_bound``) above
everything that these can sum up to. A shortened canary would be the easier to hide."""
HOLDOUT: Final = ("audit", 0.05)
SURE: Final = 0.95
"""The default rate that the scorecard starts from; a good borrower's residual is as much, three clip bounds."""
_ASLEEP: Final = -40.0
"""Log-odds at which a good borrower's residual is below every grid step."""


def scorecard_scene(*, canaries: int, rounds: int, epsilon: float, institutions: int) -> Scene:
    """Return ``canaries`` borrowers with one bin each in all of 16 features; ``epsilon`` is for all ``rounds``."""
    inputs = {"application": ModalityShape(kind="static", bins=(canaries,) * 16, dense=(1,))}
    return _scorecard(
        inputs, canaries=canaries, rounds=rounds, epsilon=epsilon, institutions=institutions, contract=None
    )


def contract_scene(contract: Contract, modality: str, *, rounds: int, epsilon: float, institutions: int) -> Scene:
    """Return a scorecard over one modality of a real contract, as many canaries as its shortest feature has bins."""
    inputs = model_inputs(contract)
    shortest = min(inputs[modality].bins)
    return _scorecard(
        inputs,
        canaries=shortest,
        rounds=rounds,
        epsilon=epsilon,
        institutions=institutions,
        contract=contract,
        modality=modality,
    )


def tree_scene(*, canaries: int, rounds: int, epsilon: float, institutions: int) -> Scene:
    """Return boosted trees, two a round, and canaries with the first or the last bin of every feature, at random.

    Every split tells two such canaries apart with a chance of one half, so few share a leaf; those lose that part of
    their effect.
    """
    inputs = {"application": ModalityShape(kind="static", bins=(16,) * 16, dense=(1,))}
    plan = _plan(
        {"kind": "trees", "depth": 7, "trees_per_round": 2, "structure_seed": 7, "base_rate": 0.75},
        # A residual of 0.75 is three clip bounds, and its curvature still counts.
        {"kind": "dp-boosting", "learning_rate": 0.1, "clip": 0.25, "grid": 2000, "ridge": 60.0, "leaf_limit": 2.0},
        modality="application",
        rounds=rounds,
        epsilon=epsilon,
        institutions=institutions,
        contract=None,
    )
    codes = 15 * np.random.default_rng(2).integers(0, 2, size=(canaries, 16))
    return Scene(
        plan=plan,
        inputs=inputs,
        tables=_tables(plan, inputs),
        canaries=_borrowers(plan, inputs, prefix="canary", codes=codes, labels=np.zeros(canaries)),
        awake=model_family(plan, inputs).initial_weights(),
        asleep=None,
    )


def network_scene(*, rounds: int, epsilon: float, institutions: int) -> Scene:
    """Return a small network and one canary: gradients of a network have no lanes of their own."""
    inputs = {"application": ModalityShape(kind="static", bins=(4,) * 3, dense=(2,))}
    plan = _plan(
        {"kind": "network", "width": 3, "base_rate": SURE},
        _gradient_training(clip=1.0, grid=1000),
        modality="application",
        rounds=rounds,
        epsilon=epsilon,
        institutions=institutions,
        contract=None,
    )
    return Scene(
        plan=plan,
        inputs=inputs,
        tables=_tables(plan, inputs),
        canaries=_borrowers(plan, inputs, prefix="canary", codes=np.zeros((1, 3)), labels=np.zeros(1)),
        awake=model_family(plan, inputs).initial_weights(),
        asleep=None,
    )


def audit_build(build: Build, *, entropy: Entropy) -> tuple[AuditResult, ...]:
    """Return audits A, C and D of one build over scorecard scenes, five institutions sharing the noise.

    ``entropy`` stands for the institutions' operating systems. Each result's ``error`` is ``AUDIT_ERROR``.
    """
    step = scorecard_scene(canaries=125, rounds=12, epsilon=18.0, institutions=5)
    training = scorecard_scene(canaries=296, rounds=10, epsilon=3.0, institutions=5)
    return (
        audit_steps(ClientPath(step, build, entropy=entropy), runs=2),
        audit_trainings(ClientPath(training, build, entropy=entropy), seeds=5),
        audit_pairs(ClientPath(step, build, entropy=entropy), runs=1),
    )


def audit_mutants(*, entropy: Entropy) -> Mapping[str, tuple[AuditResult, ...]]:
    """Return ``audit_build`` of every mutant, by its name; one is caught if any of its results refutes the claim."""
    return {mutant.name: audit_build(mutant, entropy=entropy) for mutant in MUTANTS}


def audit_steps(path: AuditedPath, *, runs: int) -> AuditResult:
    """Return audit A over ``runs`` runs with and as many without the canaries."""
    return step_audit(
        inside=steps(path, runs=runs, with_canaries=True),
        outside=steps(path, runs=runs, with_canaries=False),
        claimed_mu=path.scene.step_mu,
        error=AUDIT_ERROR,
    )


def audit_trainings(path: AuditedPath, *, seeds: int) -> AuditResult:
    """Return audit C over ``seeds`` trainings."""
    return one_run_audit(trainings(path, seeds=seeds), claimed_mu=path.scene.training_mu, error=AUDIT_ERROR)


def audit_pairs(path: AuditedPath, *, runs: int) -> AuditResult:
    """Return audit D over ``runs`` runs with and as many without the canaries."""
    return two_round_audit(
        inside=pairs(path, runs=runs, with_canaries=True),
        outside=pairs(path, runs=runs, with_canaries=False),
        claimed_mu=path.scene.step_mu,
        error=AUDIT_ERROR,
    )


def _scorecard(
    inputs: ModelInputs,
    *,
    canaries: int,
    rounds: int,
    epsilon: float,
    institutions: int,
    contract: Contract | None,
    modality: str = "application",
) -> Scene:
    plan = _plan(
        {"kind": "scorecard", "base_rate": SURE},
        # Fine, so that what truncation costs (one step a number, update_bound) is little of what a borrower moves.
        _gradient_training(clip=0.3, grid=400),
        modality=modality,
        rounds=rounds,
        epsilon=epsilon,
        institutions=institutions,
        contract=contract,
    )
    family = model_family(plan, inputs)
    asleep = family.initial_weights()
    asleep[family.layout.slices()[INTERCEPT]] *= _ASLEEP / logit(SURE)
    features = len(inputs[modality].bins)
    codes = np.repeat(np.arange(canaries)[:, np.newaxis], features, axis=1)
    return Scene(
        plan=plan,
        inputs=inputs,
        tables=_tables(plan, inputs),
        canaries=_borrowers(plan, inputs, prefix="canary", codes=codes, labels=np.zeros(canaries)),
        awake=family.initial_weights(),
        asleep=asleep,
    )


def _gradient_training(*, clip: float, grid: int) -> dict[str, Any]:
    # Every canary's residual stays above the clip bound for a whole training.
    return {
        "kind": "dp-gradient",
        "learning_rate": 2.0 * _ROOM,  # it is divided by the expected borrowers
        "momentum": 0.0,
        "clip": clip,
        "grid": grid,
        "average_from": 0.5,
    }


def _plan(
    model: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    modality: str,
    rounds: int,
    epsilon: float,
    institutions: int,
    contract: Contract | None,
) -> RunPlan:
    names = [f"institution-{number}" for number in range(institutions)]
    return RunPlan.model_validate(
        {
            "schema_version": 3,
            "run": {
                "name": "audit",
                "consortium": AUDIT_CONSORTIUM,
                "contract": contract.name if contract else "made-up",
                "contract_digest": contract.digest().hex() if contract else "0" * 64,
                "rounds": rounds,
                "holdout_fraction": HOLDOUT[1],
                "holdout_salt": HOLDOUT[0],
            },
            "model": dict(model),
            "training": dict(training),
            "privacy": {
                "mechanism": "rounded-gaussian",
                "accountant": "gdp",
                "noise": "shared" if institutions > 1 else "local",
                "colluders": 0,
                "sampling": "full-batch",
                "sampling_rate": 1.0,
                "preparation_share": 0.0,
                "epsilon": epsilon,
                "delta": DELTA,
                "unit": "borrower",
                "neighbours": "add-or-remove-one",
                "evaluation_epsilon": 1.0,
            },
            "rounds": {"quorum": institutions, "retries": 0, "deadline_s": 60.0},
            "aggregation": aggregation_values(
                "secure" if institutions > 1 else "open", threshold=usual_threshold(institutions)
            ),
            "evaluation": {"vote_floor": "none", "vote_share": 0.0},
            "institutions": {
                name: {
                    "kind": "bank",
                    "identity": hashlib.sha256(name.encode()).hexdigest(),  # nobody's keys: a scene alone sends nothing
                    "expected_borrowers": _ROOM * BORROWERS,
                    "modalities": [modality],
                }
                for name in names
            },
        }
    )


def _tables(plan: RunPlan, inputs: ModelInputs) -> dict[InstitutionId, CreditTable]:
    tables = {}
    for number, name in enumerate(plan.institutions):
        institution = InstitutionId(name)
        generator = np.random.default_rng(number)
        bins = inputs[plan.modalities(institution)[0]].bins
        codes = np.stack([generator.integers(0, count, size=BORROWERS) for count in bins], axis=1)
        labels = generator.integers(0, 2, size=BORROWERS)
        tables[institution] = _borrowers(plan, inputs, prefix=name, codes=codes, labels=labels)
    return tables


def _borrowers(
    plan: RunPlan, inputs: ModelInputs, *, prefix: str, codes: np.typing.NDArray[Any], labels: np.typing.NDArray[Any]
) -> CreditTable:
    """Return borrowers with these bins, named so that the plan's split trains on all of them."""
    modality = plan.modalities(InstitutionId(next(iter(plan.institutions))))[0]
    shape = inputs[modality].dense
    return CreditTable(
        entities=_trained_names(prefix, len(codes)),
        labels=labels.astype(np.int8),
        modalities={
            modality: ModalityTable(
                codes=codes.astype(np.int16), dense=np.zeros((len(codes), *shape), dtype=np.float32)
            )
        },
        dropped=0,
    )


def _trained_names(prefix: str, count: int) -> np.typing.NDArray[np.str_]:
    candidates = np.array([f"{prefix}-{number:05d}" for number in range(2 * count + 20)], dtype=np.str_)
    trained = candidates[~holdout_mask(candidates, salt=HOLDOUT[0], fraction=HOLDOUT[1])]
    return trained[:count]
