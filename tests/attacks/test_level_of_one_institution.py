"""A one-hot level that one institution alone holds is not hidden by a sum (arXiv 2508.04285): only noise hides it.

In the German data each purpose of a loan belongs to one institution, so the sum over all four *is* that institution's
entry, and one integer tells how many good and how many bad borrowers it has. The second half asks for a single
borrower: does anybody have the level at all? Seeds are fixed. Exact pairs by luck: the noise moves an entry over some
ten thousand integers, so "none of 10" fails by chance in below 1 % of runs over fresh seeds. A membership rate above
the ceiling by 3 standard errors is a false alarm in at most 0.14 %, and only for an attack as good as the theorem
allows.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from attacks.client_path import (
    LARGEST_POLICY_EPSILON,
    NO_NOISE,
    AttackedInstitution,
    attacked_plan,
    summed_answers,
)
from attacks.german import CONTRACT, INPUTS, MODALITY, borrowers, parts

from fedcredit.data.features import feature_spec
from fedcredit.model.scorecard import Scorecard
from fedcredit.parties import InstitutionId
from fedcredit.training.families import model_family

BASE_RATE, GRID = 0.3, 4_099
"""A prime grid: no two small pairs of counts give the same integer."""
GOOD, BAD = round(BASE_RATE * GRID), round((BASE_RATE - 1) * GRID)
MOST = 400
"""No institution has more borrowers than this with one purpose."""
SPEC = feature_spec(CONTRACT).modality(MODALITY)
PURPOSE = SPEC.feature_names.index("purpose")
FIRST_PURPOSE = sum(SPEC.bins[:PURPOSE])
BANK = InstitutionId("bank")
FALSE_POSITIVE_RATE, TRIALS = 0.1, 250


def counts_behind(entry: int) -> tuple[int, int] | None:
    """Return the (good, bad) whose residuals add up to ``entry``, if there are any of ordinary size."""
    pairs = ((good, (entry - good * GOOD) / BAD) for good in range(MOST))
    return next(((good, int(bad)) for good, bad in pairs if bad == int(bad) and 0 <= bad < MOST), None)


def purposes_read_exactly(*, epsilon: float) -> float:
    """Return the share of purposes whose (good, bad) the sum over all institutions gives away."""
    tables = parts()
    plan = attacked_plan(
        epsilon=epsilon,
        rounds=1,
        borrowers={name: len(table) for name, table in tables.items()},
        **{"model/base_rate": BASE_RATE, "training/grid": GRID},
    )
    family = model_family(plan, INPUTS)
    institutions = [
        AttackedInstitution.of(family, plan, InstitutionId(name), table, seed=f"level {name}")
        for name, table in tables.items()
    ]
    total = summed_answers(institutions, family.initial_weights())
    bins = total[family.layout.slices()[f"{MODALITY}.bins"]][FIRST_PURPOSE:][: SPEC.bins[PURPOSE]]
    right = 0
    for level, entry in enumerate(bins.tolist()):
        holders = [table for table in tables.values() if (table.modalities[MODALITY].codes[:, PURPOSE] == level).any()]
        assert len(holders) == 1
        labels = holders[0].labels[holders[0].modalities[MODALITY].codes[:, PURPOSE] == level]
        right += counts_behind(entry) == (int((labels == 0).sum()), int((labels == 1).sum()))
    return right / SPEC.bins[PURPOSE]


def evidence(*, epsilon: float, present: bool, trials: int) -> tuple[list[float], float]:
    """Return how much each of many answers looks as if one known borrower were in it, and the ledger's ceiling.

    The attacker knows the borrower's whole record, so it adds up all entries that the borrower is active in. The other
    borrowers are known and subtracted: there are none.
    """
    plan = attacked_plan(
        epsilon=epsilon,
        rounds=1,
        borrowers={BANK: 1},
        **{"model/base_rate": BASE_RATE, "training/grid": GRID},
    )
    family = model_family(plan, INPUTS)
    wanted = borrowers().take(np.flatnonzero(borrowers().labels == 1)[:1])
    held = wanted.take(np.arange(int(present)))
    active = Scorecard(INPUTS).active_parameters({MODALITY: wanted.modalities[MODALITY].codes})[0]
    scores, ceiling = [], 0.0
    for trial in range(trials):
        institution = AttackedInstitution.of(family, plan, BANK, held, seed=f"borrower {present} {trial}")
        scores.append(-float(institution.answer(family.initial_weights())[active].sum()))
        ceiling = institution.tpr_ceiling(FALSE_POSITIVE_RATE)
    return scores, ceiling


def test_a_sum_without_noise_tells_the_good_and_bad_borrowers_of_a_level_that_one_institution_holds() -> None:
    assert purposes_read_exactly(epsilon=NO_NOISE) == 1.0


def test_with_noise_no_level_is_read_exactly() -> None:
    assert purposes_read_exactly(epsilon=LARGEST_POLICY_EPSILON) == 0


def test_without_noise_one_borrower_with_the_level_is_certain() -> None:
    (absent, _), (present, _) = (evidence(epsilon=NO_NOISE, present=side, trials=1) for side in (False, True))
    assert absent == [0.0]
    assert present[0] > 0


def test_with_noise_one_borrower_with_the_level_is_found_no_more_often_than_the_ceiling() -> None:
    absent, ceiling = evidence(epsilon=LARGEST_POLICY_EPSILON, present=False, trials=TRIALS)
    present, _ = evidence(epsilon=LARGEST_POLICY_EPSILON, present=True, trials=TRIALS)
    threshold = float(np.quantile(absent, 1 - FALSE_POSITIVE_RATE))
    rate = float(np.mean(np.array(present) > threshold))
    assert rate <= ceiling + 3 * standard_error_at(ceiling)


def standard_error_at(ceiling: float) -> float:
    """Return the error of a rate at the ceiling: its own, and that of the threshold by the slope of the curve there."""
    normal = NormalDist()
    slope = normal.pdf(normal.inv_cdf(ceiling)) / normal.pdf(normal.inv_cdf(FALSE_POSITIVE_RATE))
    variances = ceiling * (1 - ceiling), slope**2 * FALSE_POSITIVE_RATE * (1 - FALSE_POSITIVE_RATE)
    return math.sqrt(sum(variances) / TRIALS)
