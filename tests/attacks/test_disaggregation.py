"""Whose update was it? Ten sums, a known participation matrix, and least squares (QUALITY.md 5.3; ICML 2021).

Seven institutions with unlike borrowers (German credit, cut along the amount) train the scorecard by the real client
path; 80 % take part in each round. The score is the correlation between an institution's estimated and its true mean
update, both as deviations from the consortium's mean: what all have in common is no secret of one. Mean over 8 seeded
runs of 7 institutions. Measured: 0.87 without noise, 0.08 at epsilon 3, 0.18 at epsilon 8 (standard error 0.02 each),
so the limits 0.7 and 0.2 are more than five standard errors away.

Record-level noise hides an *institution* only while its deviation is small against the noise: here 143 borrowers a
piece. It is a regression test, not a claim about large institutions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from attacks.client_path import NO_NOISE, AttackedInstitution, Vector, attacked_plan, summed_answers
from attacks.german import CONTRACT, INPUTS, MODALITY, borrowers

from fedcredit.aggregation.server_step import ServerState, server_step
from fedcredit.data.features import feature_spec
from fedcredit.data.table import CreditTable
from fedcredit.parties import InstitutionId
from fedcredit.training.families import model_family

ROUNDS, RUNS = 10, 8
TAKING_PART = 0.8
QUORUM = 4
NAMES = tuple(InstitutionId(f"bank-{letter}") for letter in "abcdefg")
Participation = npt.NDArray[np.bool_]


def unlike_institutions(generator: np.random.Generator) -> dict[InstitutionId, CreditTable]:
    """Return seven segments from small to large credits, with blurred borders."""
    amount = feature_spec(CONTRACT).modality(MODALITY).dense_names.index("amount")
    key = borrowers().modalities[MODALITY].dense[:, amount] + generator.normal(scale=0.3, size=len(borrowers()))
    return {name: borrowers().take(rows) for name, rows in zip(NAMES, np.array_split(np.argsort(key), 7), strict=True)}


def participation(generator: np.random.Generator) -> Participation:
    """Return who took part in which round, shape (rounds, institutions): a quorum each time, and solvable."""
    while True:
        drawn = generator.random((ROUNDS, len(NAMES))) < TAKING_PART
        if drawn.sum(axis=1).min() >= QUORUM and np.linalg.matrix_rank(drawn) == len(NAMES):
            return drawn


def correlation_after_ten_rounds(*, epsilon: float, seed: int) -> float:
    """Train ten rounds, attack the sums, and return the mean correlation over the institutions."""
    generator = np.random.default_rng(seed)
    tables = unlike_institutions(generator)
    plan = attacked_plan(
        epsilon=epsilon,
        rounds=ROUNDS,
        borrowers={name: len(table) for name, table in tables.items()},
        quorum=QUORUM,
        **{"model/base_rate": 0.3, "training/grid": 64},
    )
    family = model_family(plan, INPUTS)
    step = server_step(plan, family.layout, input_scale=family.input_scale)
    institutions = {
        name: AttackedInstitution.of(family, plan, name, table, seed=f"{seed}/{name}") for name, table in tables.items()
    }
    matrix = participation(generator)
    state = ServerState.initial(family.initial_weights())
    sums, updates = [], []
    for present in matrix:
        contributors = [name for name, is_there in zip(NAMES, present, strict=True) if is_there]
        updates.append([institution.secret_sum(state.weights) for institution in institutions.values()])
        total = summed_answers([institutions[name] for name in contributors], state.weights)
        sums.append(total)
        state = step.apply(state, total, contributors)
    estimated = np.linalg.lstsq(matrix.astype(np.float64), np.array(sums, dtype=np.float64), rcond=None)[0]
    return mean_correlation(deviations(estimated), deviations(np.mean(updates, axis=0)))


def deviations(updates: Vector) -> Vector:
    return updates - updates.mean(axis=0)


def mean_correlation(left: Vector, right: Vector) -> float:
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in zip(left, right, strict=True)]))


def mean_over_runs(*, epsilon: float) -> float:
    return float(np.mean([correlation_after_ten_rounds(epsilon=epsilon, seed=seed) for seed in range(RUNS)]))


def test_ten_sums_without_noise_show_what_each_institution_sent() -> None:
    assert mean_over_runs(epsilon=NO_NOISE) >= 0.7


def test_ten_noised_sums_show_little_of_what_each_institution_sent() -> None:
    assert mean_over_runs(epsilon=3.0) <= 0.2
