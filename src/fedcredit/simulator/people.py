"""The shared pool of persons and enterprises from which every institution draws its customers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedcredit.simulator.parameters import Section
from fedcredit.simulator.rows import Rows
from fedcredit.simulator.seeds import tokens

CONSUMER, TRADER, ENTERPRISE = range(3)
"""Codes of ``People.kind``, in the order of a member's mix."""
CREDIT, PRUDENCE, LIQUIDITY, USAGE, DISHONESTY = range(5)
"""Places of the latent traits in a row of ``People.traits``."""


@dataclass(frozen=True, kw_only=True)
class People(Rows):
    """One row per person or enterprise; all arrays have the same length.

    Traits and ``health`` are latent: no institution sees them. The others are what an application form or the bureau
    would show without error.
    """

    token: np.ndarray
    kind: np.ndarray
    region: np.ndarray
    traits: np.ndarray
    """(n, 5), standard normal with the correlations of the world."""
    health: np.ndarray
    """Of the business, unit variance; drawn for consumers too and used nowhere then."""
    bureau: np.ndarray
    """Score on the bureau's own scale, before a member maps it."""
    utilisation: np.ndarray
    enquiries: np.ndarray
    """(n, 3): in one, three and six months."""
    lateness: np.ndarray
    """Months with 30 days or more late, in 24 months."""
    tenure: np.ndarray
    """Months."""
    age: np.ndarray
    income: np.ndarray
    """CNY a month, true."""
    other_debt: np.ndarray
    """Payments on other debts, to income."""
    luck: np.ndarray
    """(n, 2) uniform: decides who is unknown to the bureau, and who withdraws."""


def correlation(numbers: Section) -> np.ndarray:
    """Return the (5, 5) correlation of the traits."""
    traits, matrix = numbers.traits, np.eye(5)
    for one, other, value in (
        (CREDIT, PRUDENCE, traits.credit_prudence),
        (CREDIT, LIQUIDITY, traits.credit_liquidity),
        (PRUDENCE, LIQUIDITY, traits.prudence_liquidity),
        (LIQUIDITY, USAGE, traits.liquidity_usage),
        (CREDIT, DISHONESTY, traits.credit_dishonesty),
        (PRUDENCE, DISHONESTY, traits.prudence_dishonesty),
    ):
        matrix[one, other] = matrix[other, one] = value
    return matrix


def draw_people(rng: np.random.Generator, numbers: Section, kinds: np.ndarray) -> People:
    """Return one person per entry of ``kinds``, in random regions."""
    form, count = numbers.application, kinds.size
    traits = rng.standard_normal((count, 5)) @ np.linalg.cholesky(correlation(numbers)).T
    credit, liquidity = traits[:, CREDIT], traits[:, LIQUIDITY]
    noise = rng.standard_normal((6, count))
    lateness = rng.poisson(np.exp(form.late_mean + form.late_credit * credit))
    half_year = rng.poisson(np.exp(form.enquiry_mean + form.enquiry_credit * credit))
    quarter = rng.binomial(half_year, 0.5)
    business = (kinds != CONSUMER) * form.income_trader + (kinds == ENTERPRISE) * form.income_enterprise
    score = form.bureau_credit * credit + form.bureau_liquidity * liquidity + form.bureau_noise * noise[0]
    return People(
        token=tokens(rng, count),
        kind=kinds.astype(np.int8),
        region=rng.integers(0, len(numbers.regions.codes), count).astype(np.int8),
        traits=traits,
        health=_health(rng, numbers, traits),
        bureau=form.bureau_mean + form.bureau_sd * score,
        utilisation=logistic(form.util_mean + form.util_credit * credit + form.util_noise * noise[1]),
        enquiries=np.column_stack([rng.binomial(quarter, 0.4), quarter, half_year]),
        lateness=np.minimum(lateness, 24),
        tenure=np.exp(form.tenure_mean + form.tenure_liquidity * liquidity + form.tenure_noise * noise[2]),
        age=np.clip(form.age_mean + form.age_liquidity * liquidity + form.age_noise * noise[3], 20, 65),
        income=np.exp(form.income_mean + form.income_liquidity * liquidity + business + form.income_noise * noise[4]),
        other_debt=np.exp(form.other_debt_mean + form.other_debt_credit * credit + form.other_debt_noise * noise[5]),
        luck=rng.random((count, 2)),
    )


def _health(rng: np.random.Generator, numbers: Section, traits: np.ndarray) -> np.ndarray:
    loads = numbers.traits
    weights = np.zeros(5)
    weights[LIQUIDITY], weights[CREDIT] = loads.health_liquidity, loads.health_credit
    spread = float(np.sqrt(weights @ correlation(numbers) @ weights + 1.0))
    health: np.ndarray = (traits @ weights + rng.standard_normal(traits.shape[0])) / spread
    return health


def choose(rng: np.random.Generator, pool: People, wanted: np.ndarray, *, log_weight: np.ndarray) -> np.ndarray:
    """Return rows of the pool: ``wanted[k]`` of each kind, without replacement, by weight, in random order.

    Gumbel noise on log weights and the largest ones is sequential sampling without replacement (Efraimidis and
    Spirakis 2006). A pool too small for a kind raises ``ValueError``: the world's ``pool_ratio`` is wrong then.
    """
    chosen = []
    for kind, count in enumerate(wanted):
        rows = np.flatnonzero(pool.kind == kind)
        if count > rows.size:
            raise ValueError(f"the pool has {rows.size} of kind {kind}, {count} are wanted")
        if count:
            keys = log_weight[rows] + rng.gumbel(size=rows.size)
            chosen.append(rows[np.argpartition(keys, -count)[-count:]])
    return rng.permutation(np.concatenate(chosen))


def logistic(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)); in range for every finite ``x``."""
    result: np.ndarray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return result
