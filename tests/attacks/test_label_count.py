"""How many defaulted? The gradient of the output bias counts them, because the public start scores everybody alike.

Sixty institutions of 64 real borrowers each; the attacker knows the size and asks for the same weights in all ten
rounds. One default more moves the scorecard's intercept by one residual, and a borrower's 18 active entries share the
sensitivity, so the mean of all answers is a normal number of deviation sqrt(18) / mu around the true count. Seeds are
fixed; a rate above what that law gives by 3 standard errors is a false alarm in about 0.5 % of runs (it is a count of
few). At epsilon 8 the deviation is 2.5 defaults: a count of 64 is an aggregate, and no claim hides aggregates.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from attacks.client_path import NO_NOISE, AttackedInstitution, attacked_plan
from attacks.german import INPUTS, borrowers

from fedcredit.parties import InstitutionId
from fedcredit.training.families import model_family

INSTITUTIONS, SIZE, ROUNDS = 60, 64, 10
BASE_RATE, GRID = 0.3, 128
BANK = InstitutionId("bank")


def exact_counts(*, epsilon: float) -> float:
    """Return the share of institutions whose number of defaults is read off exactly."""
    plan = attacked_plan(
        epsilon=epsilon,
        rounds=ROUNDS,
        borrowers={BANK: SIZE},
        **{"model/base_rate": BASE_RATE, "training/grid": GRID},
    )
    family = model_family(plan, INPUTS)
    weights = family.initial_weights()
    intercept = family.layout.slices()["intercept"].start
    good, bad = (round((BASE_RATE - outcome) * GRID) for outcome in (0, 1))
    exact = 0
    for number in range(INSTITUTIONS):
        rows = np.random.default_rng(number).choice(len(borrowers()), SIZE, replace=False)
        table = borrowers().take(rows)
        institution = AttackedInstitution.of(family, plan, BANK, table, seed=f"count {number}")
        bias = np.mean([institution.answer(weights)[intercept] for _ in range(ROUNDS)])
        exact += round((SIZE * good - float(bias)) / (good - bad)) == int(table.labels.sum())
    return exact / INSTITUTIONS


def test_without_noise_the_output_bias_counts_the_defaults_exactly() -> None:
    assert exact_counts(epsilon=NO_NOISE) == 1.0


def test_with_noise_ten_rounds_together_are_exact_no_more_often_than_by_chance() -> None:
    # mu 0.2681 for epsilon 1 (PRIVACY.md, section 7); intercept, presence and 16 features make 18 active entries.
    law = NormalDist(sigma=math.sqrt(18) / 0.2681)
    chance = law.cdf(0.5) - law.cdf(-0.5)
    assert exact_counts(epsilon=1.0) <= chance + 3 * math.sqrt(chance * (1 - chance) / INSTITUTIONS)
